# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_debuginfod.py: debug info that is downloaded: by Debian's debuginfod server, and by servers that answer as they should not. The first
# answer never waits for one; a later one has the names.

import gzip
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

import pprof_reader
from test_debug_info import build_id, build_id_path, expect_dwarf, expect_nothing, program, share, split_off  # noqa: F401

pytestmark = pytest.mark.skipif(not os.path.exists('/usr/lib/x86_64-linux-gnu/libdebuginfod.so.1'),
                                reason='libdebuginfod is not installed (apt-get install libdebuginfod1)')


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_for(what, condition):
    end = time.monotonic() + 240
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f'waited in vain for {what}')


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()
    except OSError:
        return b''


class Daemon:
    """`profd serve`, and a program that it samples."""

    def __init__(self, profd, agent, program, directory, environment, options):
        self.cache = directory / 'downloads'
        self.program, self.agent, self.socket = program, agent, f'@profd-test-{os.getpid()}-{id(self)}'
        self.environment = {**os.environ, 'DEBUGINFOD_CACHE_PATH': str(self.cache), 'PROFD_CACHE_DIR': str(directory / 'tables'),
                            **environment}
        self.log = open(directory / 'log', 'w+')
        self.process = subprocess.Popen([profd, 'serve', '--http', '127.0.0.1:0', '--socket', self.socket, *options], stderr=self.log,
                                        env=self.environment)
        self.target = None
        try:
            self.url = wait_for('profd serve', self.address)
            self.target = subprocess.Popen([program, '1000000'], env={**os.environ, 'LD_PRELOAD': agent, 'PROFD_SOCKET': self.socket})
            wait_for('the program', lambda: b'"pid"' in get(f'{self.url}/?format=json'))
        except BaseException:
            self.close()
            raise

    def address(self):
        self.log.seek(0)
        found = re.search(r'serving (http://\S+?)/,', self.log.read())
        return found and found[1]

    def profile(self):
        body = get(f'{self.url}/debug/pprof/profile?seconds=1&rate=250')
        assert body
        return pprof_reader.Profile(gzip.decompress(body))

    def notes(self):
        return [comment for comment in self.profile().comments if comment.startswith('debug info of') and '/spin ' in comment]

    def metric(self, name):
        return int(re.search(rf'^{re.escape(name)} (\d+)', get(f'{self.url}/metrics').decode(), re.M)[1])

    def answers(self, result):
        return self.metric(f'profd_debuginfod_answers_total{{result="{result}"}}')

    def close(self):
        for process in filter(None, (self.target, self.process)):
            process.terminate()
            process.wait(timeout=60)
        self.log.close()


@pytest.fixture
def daemon(profd, agent, program, tmp_path):  # noqa: F811
    started = []

    def start(*options, **environment):
        split_off(program, tmp_path / 'served' / 'spin.debug')
        started.append(Daemon(profd, agent, program, tmp_path, environment, options))
        return started[0]
    yield start
    for one in started:
        one.close()


# ---- Debian's server ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """debuginfod with what is in the directory `served`. Its URL."""
    if not shutil.which('debuginfod'):
        pytest.skip('debuginfod is not installed (apt-get install debuginfod)')
    processes = []

    def start():
        port = free_port()
        processes.append(subprocess.Popen(['debuginfod', '-F', '-d', tmp_path / 'index.sqlite', '-p', str(port), '-t', '0',
                                           tmp_path / 'served'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                          env={**os.environ, 'DEBUGINFOD_URLS': ''}))
        return f'http://127.0.0.1:{port}'
    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=60)


def serves(url, name):
    try:
        with urllib.request.urlopen(f'{url}/buildid/{name}/debuginfo', timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.parametrize('how', ['option', 'environment'])
def test_later_answers_have_the_names(daemon, server, program, tmp_path, how):  # noqa: F811
    name = build_id(program)
    (tmp_path / 'served').mkdir()
    url = server()
    profd = daemon(f'--debuginfod={url}') if how == 'option' else daemon(DEBUGINFOD_URLS=url)
    wait_for('debuginfod', lambda: serves(url, name))
    wait_for('the names', lambda: share(profd.profile(), 'mix_inlined') > 0)
    profile = profd.profile()
    expect_dwarf(profile)
    assert not [comment for comment in profile.comments if 'debug info of' in comment and '/spin ' in comment]
    assert profd.answers('downloaded') >= 1
    assert (profd.cache / name / 'debuginfo').exists()


def test_not_there(daemon, server, tmp_path):
    (tmp_path / 'served').mkdir()
    url = server()
    wait_for('debuginfod', lambda: get(f'{url}/metrics'))
    os.rename(tmp_path / 'served', tmp_path / 'index')  # what it is to have is elsewhere
    profd = daemon(f'--debuginfod={url}')
    wait_for('the note', lambda: any('no debuginfod server has it' in note for note in profd.notes()))
    expect_nothing(profd.profile())
    asked = profd.metric('profd_debuginfod_asked_total')
    profd.profile()
    assert profd.metric('profd_debuginfod_asked_total') == asked, 'it is not asked each time'


def test_the_next_run_has_it_at_once(profd, program, server, run, tmp_path):  # noqa: F811
    """`profd run` does not wait at its end, and lets go on what it began."""
    split_off(program, tmp_path / 'served' / 'spin.debug')
    url, name = server(), build_id(program)
    wait_for('debuginfod', lambda: serves(url, name))
    environment = {'DEBUGINFOD_CACHE_PATH': str(tmp_path / 'downloads'), 'DEBUGINFOD_URLS': url}
    run(program, 40, env=environment, rate=250)
    wait_for('the file', lambda: (tmp_path / 'downloads' / name / 'debuginfo').exists())
    expect_dwarf(run(program, env=environment, rate=250).profile)
    expect_nothing(run(program, env=environment, rate=250, options=['--debuginfod=']).profile)


# ---- Servers that do not answer as they should ---------------------------------------------------------------------------------


class BadServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behaviour):
        super().__init__(('127.0.0.1', 0), Handler)
        self.behaviour, self.requests, self.open, self.let_go = behaviour, [], 0, threading.Event()
        self.url = f'http://127.0.0.1:{self.server_address[1]}'
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.open += 1
        try:
            getattr(self, self.server.behaviour)()
        finally:
            self.server.open -= 1

    def hang(self):
        self.server.let_go.wait(120)

    def begin_and_hang(self):
        self.send_response(200)
        self.send_header('Content-Length', '1000000')
        self.end_headers()
        self.wfile.write(b'\x7fELF')
        self.server.let_go.wait(120)

    def body(self, data):
        self.send_response(200)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def garbage(self):
        self.body(b'<html>not what you want</html>' * 1000)

    def another_file(self):
        with open('/bin/true', 'rb') as file:
            self.body(file.read())

    def too_large(self):
        self.send_response(200)
        self.send_header('Content-Length', str(1 << 40))
        self.end_headers()
        self.endless()

    def endless(self):
        """Of no announced size: it ends when nobody listens any more."""
        if self.server.behaviour == 'endless':
            self.send_response(200)
            self.end_headers()
        while not self.server.let_go.is_set():
            self.wfile.write(b'\x7fELF' + bytes(65532))

    def error(self):
        self.send_error(500)


@pytest.fixture
def bad_server():
    servers = []

    def start(behaviour):
        servers.append(BadServer(behaviour))
        return servers[0]
    yield start
    for one in servers:
        one.let_go.set()
        one.shutdown()
        one.server_close()


@pytest.mark.parametrize('behaviour', ['hang', 'begin_and_hang'])
def test_server_that_hangs(daemon, bad_server, behaviour):
    """Answers come while it is asked, and say so. When its time is over, it is left alone."""
    server = bad_server(behaviour)
    profd = daemon(f'--debuginfod={server.url}', DEBUGINFOD_TIMEOUT='6', DEBUGINFOD_MAXTIME='8')
    profile = profd.profile()  # the one that asks: the next one may come too late, on a slow machine
    expect_nothing(profile)
    assert any('is being downloaded' in comment and '/spin ' in comment for comment in profile.comments), profile.comments
    wait_for('the question', lambda: server.requests)
    # libdebuginfod says of a transfer that breaks off, at times, that there is no such file.
    wait_for('the end of it', lambda: profd.answers('failed') + profd.answers('not_there') >= 1)
    assert any('could not be downloaded: the server' in note or 'no debuginfod server has it' in note for note in profd.notes())
    asked = len(server.requests)
    profd.profile()
    assert len(server.requests) == asked


@pytest.mark.parametrize('behaviour, says', [
    ('garbage', 'is no debug info of this build ID'), ('another_file', 'is no debug info of this build ID'),
    ('too_large', 'larger than 1000000 bytes'), ('endless', 'larger than 1000000 bytes')])
def test_server_that_sends_something_else(daemon, bad_server, behaviour, says):
    server = bad_server(behaviour)
    profd = daemon(f'--debuginfod={server.url}', DEBUGINFOD_MAXSIZE='1000000')
    wait_for('the note', lambda: any(says in note for note in profd.notes()))
    expect_nothing(profd.profile())
    assert profd.answers('failed') >= 1 and profd.answers('downloaded') == 0
    # Nothing is left that another client would take for debug info.
    for path in profd.cache.rglob('debuginfo'):
        assert path.stat().st_size == 0, path


def test_server_error(daemon, bad_server):
    """As libdebuginfod has it, that is a server without the file."""
    profd = daemon(f'--debuginfod={bad_server("error").url}')
    wait_for('the note', lambda: any('no debuginfod server has it' in note for note in profd.notes()))
    expect_nothing(profd.profile())


def test_nobody_listens(daemon):
    profd = daemon(f'--debuginfod=http://127.0.0.1:{free_port()}')
    wait_for('the note', lambda: any('could not be downloaded' in note for note in profd.notes()))
    expect_nothing(profd.profile())


def test_off(daemon, bad_server):
    """Nobody is asked unless the user says whom."""
    server = bad_server('error')
    profd = daemon('--debuginfod=', DEBUGINFOD_URLS=server.url)
    assert profd.notes() == [] and profd.metric('profd_debuginfod_asked_total') == 0
    assert server.requests == []


def test_what_is_here_is_not_asked_for(daemon, bad_server, program, tmp_path):  # noqa: F811
    server, name = bad_server('error'), build_id(program)
    path = build_id_path(tmp_path / 'given', program)
    path.parent.mkdir(parents=True)
    subprocess.run(['objcopy', '--only-keep-debug', program, path], check=True)
    profd = daemon(f'--debuginfod={server.url}', '--debug-dir', str(tmp_path / 'given'))
    expect_dwarf(profd.profile())
    assert not [path for path in server.requests if name in path]

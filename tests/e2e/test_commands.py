# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_commands.py: the three ways in, with real targets: `profd run`, `profd serve`, and the collector that an agent brings along.

import collections
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import pprof_reader
from conftest import AGENT, PROFD
from waiting import cpu_seconds, wait_until

# A program of our own: spins in two functions, prints its PID, forks or threads if told.
SPINNER = r'''
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile unsigned long sink;
__attribute__((noinline)) void spin_inner(void) { for (int i = 0; i < 1000000; i++) sink += i; }
__attribute__((noinline)) void spin_outer(double seconds)
{
	clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
	while (clock() < end)
		spin_inner();
}
static void *spin_thread(void *seconds) { spin_outer(*(double *)seconds); return 0; }
int main(int argc, char **argv)
{
	double seconds = atof(argv[1]);
	printf("%d\n", getpid());
	fflush(stdout);
	if (argc > 2 && !strcmp(argv[2], "fork") && fork() == 0) { spin_outer(seconds); _exit(0); }
	if (argc > 2 && !strcmp(argv[2], "thread")) {
		pthread_t thread;
		pthread_create(&thread, 0, spin_thread, &seconds);
		pthread_join(thread, 0);
		return 0;
	}
	if (argc > 2 && !strcmp(argv[2], "crash")) { spin_outer(seconds); *(volatile int *)0 = 1; }
	spin_outer(seconds);
	while (wait(0) > 0)
		;
	return 0;
}
'''


@pytest.fixture(scope='session')
def spinner(tmp_path_factory):
    directory = tmp_path_factory.mktemp('spinner')
    source = directory / 'spinner.c'
    source.write_text(SPINNER)
    program = directory / 'spinner'
    subprocess.run(['gcc', '-g', '-O1', '-pthread', '-o', program, source], check=True)
    return str(program)


def environment(**more):
    result = {key: value for key, value in os.environ.items() if not key.startswith('PROFD_')}
    result.update(more)
    return result


def run(*arguments, **options):
    options.setdefault('env', environment())
    return subprocess.run([PROFD, 'run', *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def folded(text):
    """{stack: count}"""
    lines = [line.rsplit(' ', 1) for line in text.splitlines()]
    return {stack: int(count) for stack, count in lines}


def get(port, path, timeout=300):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=timeout)
    connection.request('GET', path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


class CpuWatch(threading.Thread):
    """A process's CPU time from moment to moment."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.seen, self.ended = pid, [], threading.Event()

    def run(self):
        while True:
            before = time.time_ns()
            self.seen.append((before, cpu_seconds(self.pid), time.time_ns()))
            if self.ended.wait(0.01):
                break

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def within(self, begin_ns, end_ns):
        """What it surely got between the two."""
        seen = [cpu for before, cpu, after in self.seen if begin_ns <= before and after <= end_ns]
        return seen[-1] - seen[0] if seen else 0

    def is_covered(self, profile, rate):
        """Does the profile have what it got within its window? The rest of the request is tables before, and names after it."""
        used = self.within(profile.time_ns, profile.time_ns + profile.duration_ns)
        return sum(sample.values[0] for sample in profile.samples) >= 0.8 * used * rate - 3


def checked_profile(port, path, pid, rate=100):
    """{stack: count}. Asks for it, and checks that it covers the CPU time which pid got meanwhile: on a busy machine far less than the seconds."""
    before = cpu_seconds(pid)
    with CpuWatch(pid) as watch:
        response, body = get(port, f'{path}&rate={rate}')
    used = cpu_seconds(pid) - before
    assert response.status == 200
    profile = pprof_reader.Profile(gzip.decompress(body))
    stacks = collections.Counter()
    for sample in profile.samples:
        stacks[';'.join(sample.stack)] += sample.values[0]
    assert watch.is_covered(profile, rate)
    assert sum(stacks.values()) <= 1.05 * used * rate + 0.02 * rate + 2
    return stacks


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture
def start():
    """Starts processes, and ends those that are left."""
    processes = []

    def popen(*arguments, **options):
        options.setdefault('env', environment())
        process = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   **options)
        processes.append(process)
        return process
    yield popen
    for process in processes:
        process.terminate()  # profd run passes it on; killed, it would leave its command behind
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


# ---- run ---------------------------------------------------------------------------------------------------------------

def test_run_writes_every_format(spinner, tmp_path):
    names = ['p.pb.gz', 'p.folded', 'p.svg', 'p.html', 'p.speedscope.json']
    outputs = [word for name in names for word in ('-o', tmp_path / name)]
    result = run(*outputs, '--', spinner, '1')
    assert result.returncode == 0, result.stderr
    match = re.fullmatch(r'profd: (\d+) samples, ([\d.]+) s of CPU, 1 thread, reached \d+ Hz, ([\d.]+)% of stacks truncated; wrote .*\n', result.stderr)
    assert match, result.stderr
    # Until tables are there, which sampling waits for a fifth of a second, stacks are cut; for no other reason.
    assert float(match[3]) <= 10
    assert any(re.fullmatch(r'truncated stacks: ([\d.]+)%(: no unwind table \1%)?', comment)
               for comment in pprof_reader.read(tmp_path / 'p.pb.gz').comments)
    assert 90 <= int(match[1]) <= 110
    assert 0.9 <= float(match[2]) <= 1.1
    stacks = folded((tmp_path / 'p.folded').read_text())
    assert sum(stacks.values()) == int(match[1])
    ours = sum(count for stack, count in stacks.items() if re.search(r'(^|;)main;spin_outer', stack))
    assert ours >= 0.9 * int(match[1])
    assert gzip.decompress((tmp_path / 'p.pb.gz').read_bytes())
    assert 'spin_inner' in (tmp_path / 'p.svg').read_text()
    assert 'spin_inner' in (tmp_path / 'p.html').read_text()
    json.loads((tmp_path / 'p.speedscope.json').read_text())
    assert sorted(os.listdir(tmp_path)) == sorted(names)


@pytest.mark.parametrize('mode, status', [('crash', 128 + signal.SIGSEGV), ('thread', 0), ('fork', 0)])
def test_run_however_it_ends(spinner, tmp_path, mode, status):
    result = run('-o', tmp_path / 'x.folded', '--', spinner, '0.5', mode)
    assert result.returncode == status, result.stderr
    total = sum(folded((tmp_path / 'x.folded').read_text()).values())
    expected = 100 if mode == 'fork' else 50
    assert 0.85 * expected <= total <= 1.15 * expected, result.stderr


def test_run_default_output(spinner, tmp_path):
    result = run(spinner, '0.2', cwd=tmp_path)
    assert result.returncode == 0
    assert os.listdir(tmp_path) == ['profd-spinner.pb.gz']
    assert result.stderr.rstrip().endswith('wrote profd-spinner.pb.gz')


def test_run_says_the_rate_reached(spinner, tmp_path):
    result = run('--rate', '10000', '--clock', 'cpu', '-o', tmp_path / 'x.folded', '--', spinner, '1')
    stacks = folded((tmp_path / 'x.folded').read_text())
    assert 9000 <= sum(stacks.values()) <= 11000, result.stderr  # those not taken are counted by those that were
    assert re.search(r'asked for 10000 samples a second of CPU, reached \d+ ', result.stderr)


def test_run_nothing_to_sample(tmp_path):
    # The first sample is due at a random moment of the period, and a slow machine's `true` takes a hundredth of it.
    results = (run('--rate', '1', '-o', tmp_path / 'x.folded', '--', 'true') for _ in range(5))
    result = next(result for result in results if result.returncode != 0 or result.stderr.startswith('profd: 0 samples'))
    assert result.returncode == 0
    assert re.search(r'^profd: 0 samples.*the command used only \d\.\d+ s of CPU', result.stderr)


def test_run_static_program(tmp_path):
    source = tmp_path / 'static.c'
    source.write_text('int main(void) { return 5; }')
    subprocess.run(['gcc', '-static', '-o', tmp_path / 'static', source], check=True)
    (tmp_path / 'old.svg').write_text('old')
    result = run('-o', tmp_path / 'old.svg', '--', tmp_path / 'static')
    assert result.returncode == 5
    assert f"profd: cannot profile '{tmp_path}/static': {tmp_path}/static is statically linked" in result.stderr
    assert 'wrote nothing' in result.stderr
    assert (tmp_path / 'old.svg').read_text() == 'old'


@pytest.mark.parametrize('how', ['environment cleared', 'static', 'nothing used'])
def test_run_says_why_there_is_nothing(spinner, tmp_path, how):
    """The command had an agent; what it became had none."""
    static = tmp_path / 'static'
    command = {'environment cleared': ['env', '-i', spinner, '0.3'], 'static': ['sh', '-c', f"exec '{static}' 0.3"],
               'nothing used': ['sleep', '0.1']}[how]
    if how == 'static':
        source = tmp_path / 'static.c'
        source.write_text(SPINNER)
        subprocess.run(['gcc', '-static', '-pthread', '-o', static, source], check=True)
    # The first process may have had one: it works for a twentieth of the period, half of it where that takes ten times as long.
    result = next(result for result in (run('--rate', '20', '-o', tmp_path / 'x.folded', '--', *command) for _ in range(30))
                  if result.stderr.startswith('profd: 0 samples'))
    assert result.returncode == 0
    if how == 'nothing used':
        assert 'the command used only 0.' in result.stderr
    else:
        assert re.search(r'^profd: 0 samples, .*: the command used \d\.\d+ s of CPU where no agent was: in a static, ', result.stderr)


@pytest.mark.parametrize('wait', [False, True])
def test_run_of_what_goes_into_the_background(start, spinner, tmp_path, wait):
    """run ends with its command and says that something is left, or waits for it."""
    os.mkfifo(tmp_path / 'go')
    process = start(PROFD, 'run', *(['--wait'] if wait else []), '-o', tmp_path / 'x.folded', '--', 'sh', '-c',
                    f"'{spinner}' {'1' if wait else '60'} & read line < '{tmp_path}/go'")
    pid = int(process.stdout.readline())
    before = cpu_seconds(pid)  # to come as far as its main
    wait_until(lambda: cpu_seconds(pid) > before + 0.2, what='some of its work')
    (tmp_path / 'go').write_text('go\n')
    assert process.wait(120) == 0
    if not wait:
        os.kill(pid, signal.SIGKILL)  # alive until now, and no zombie: it has standard error open
    said = process.stderr.read()
    total = sum(folded((tmp_path / 'x.folded').read_text()).values())
    if wait:
        assert 'still run' not in said
        assert total >= 90
    else:
        assert said.endswith('profd: 1 process of the command still runs and is no longer profiled; --wait waits for them\n')
        assert total >= 15


def test_run_in_another_network(spinner, tmp_path):
    if subprocess.run(['unshare', '-n', 'true'], capture_output=True).returncode != 0:
        pytest.skip('cannot make a network namespace')
    result = run('-o', tmp_path / 'x.folded', '--', 'unshare', '-n', spinner, '0.1')
    assert result.returncode == 0
    assert 'profd: running unprofiled: cannot reach the collector: it has ended, or is in another network namespace\n' in result.stderr


def test_run_setuid_program(tmp_path):
    if os.geteuid() != 0:
        pytest.skip('only root can make another user\'s setuid program')
    program = tmp_path / 'other-true'
    program.write_bytes(open('/bin/true', 'rb').read())
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    result = run('-o', tmp_path / 'x.svg', '--', program)
    assert result.returncode == 0
    assert 'runs with other privileges' in result.stderr
    assert 'LD_PRELOAD' in result.stderr
    assert not (tmp_path / 'x.svg').exists()


def test_run_port_in_use(tmp_path):
    with socket.socket() as busy:
        busy.bind(('127.0.0.1', 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = run('--http', f'127.0.0.1:{port}', '--', 'touch', tmp_path / 'ran')
    assert result.returncode == 125
    assert result.stderr == f'profd: cannot listen on 127.0.0.1:{port}: Address already in use\n'
    assert not (tmp_path / 'ran').exists()


def start_run(start, spinner, *options, seconds='60'):
    process = start(PROFD, 'run', '--http', ':0', *options, '--', spinner, seconds)
    match = re.match(r'profd: serving http://127\.0\.0\.1:(\d+)/debug/pprof/', process.stderr.readline())
    assert match
    pid = int(process.stdout.readline())
    return process, int(match[1]), pid


def test_run_http(start, spinner):
    process, port, pid = start_run(start, spinner)
    wait_until(lambda: get(port, '/debug/pprof/')[0].status == 200, what='the target')
    response, body = get(port, '/debug/pprof/cmdline')
    assert body == f'{spinner}\x0060'.encode()
    response, body = get(port, '/debug/pprof/profile?seconds=1')
    assert response.getheader('Content-Type') == 'application/octet-stream'
    assert response.getheader('Content-Disposition') == 'attachment; filename="profile"'
    assert b'spin_inner' in gzip.decompress(body)
    stacks = checked_profile(port, f'/{pid}/debug/pprof/profile?seconds=1', pid, rate=200)
    assert all('spin_outer' in stack for stack, count in stacks.items() if count > 5)
    response, body = get(port, '/debug/pprof/nonsense?debug=2')
    assert (response.status, body) == (404, b'Unknown profile\n')
    metrics = get(port, '/metrics')[1].decode()
    delivered = int(re.search(r'^profd_samples_delivered_total (\d+)$', metrics, re.M)[1])
    assert delivered > 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM


def test_run_http_symbol(start, spinner):
    _, port, pid = start_run(start, spinner)
    wait_until(lambda: get(port, '/debug/pprof/')[0].status == 200, what='the target')
    symbols = subprocess.run(['nm', spinner], capture_output=True, text=True).stdout
    offset = int(re.search(r'^(\w+) T spin_inner$', symbols, re.M)[1], 16)
    with open(f'/proc/{pid}/maps') as maps:
        base = int(maps.read().split('-')[0], 16)
    _, body = get(port, f'/debug/pprof/symbol?{base + offset:#x}+0x10')
    assert body.decode() == f'num_symbols: 1\n{base + offset:#x} spin_inner\n'


def test_run_target_ends_before_the_profile(start, spinner):
    process, port, _ = start_run(start, spinner, seconds='2')
    wait_until(lambda: get(port, '/debug/pprof/')[0].status == 200, what='the target')
    response, body = get(port, '/debug/pprof/profile?seconds=3000&format=folded')
    assert response.status == 200
    assert sum(folded(body.decode()).values()) > 0
    assert process.wait(120) == 0


# ---- serve -------------------------------------------------------------------------------------------------------------

def start_serve(start, path):
    process = start(PROFD, 'serve', '--socket', path, '--http', '127.0.0.1:0')
    match = re.match(r'profd: serving http://127\.0\.0\.1:(\d+)/', process.stderr.readline())
    assert match
    return process, int(match[1])


def targets(port):
    return json.loads(get(port, '/?format=json')[1])


def test_serve(start, spinner, tmp_path):
    path = tmp_path / 'profd.sock'
    daemon, port = start_serve(start, path)
    assert targets(port) == []
    preloaded = environment(LD_PRELOAD=AGENT, PROFD_SOCKET=str(path))
    first = start(spinner, '60', env=preloaded)
    second = start(spinner, '60', env=preloaded)
    pids = {int(first.stdout.readline()), int(second.stdout.readline())}
    wait_until(lambda: {target['pid'] for target in targets(port)} == pids, what='two targets')
    assert {target['comm'] for target in targets(port)} == {'spinner'}
    response, body = get(port, '/debug/pprof/profile?seconds=1')
    assert response.status == 404
    assert all(str(pid) in body.decode() for pid in pids)
    checked_profile(port, f'/{first.pid}/debug/pprof/profile?seconds=1', first.pid)
    second.kill()
    wait_until(lambda: {target['pid'] for target in targets(port)} == {first.pid}, what='the second one\'s leaving')
    daemon.terminate()
    assert daemon.wait(120) == 0
    assert not path.exists()
    assert first.poll() is None  # unharmed


def test_serve_agents_come_back(start, spinner, tmp_path):
    path = tmp_path / 'profd.sock'
    daemon, port = start_serve(start, path)
    target = start(spinner, '60', env=environment(LD_PRELOAD=AGENT, PROFD_SOCKET=str(path)))
    wait_until(lambda: targets(port), what='the target')
    daemon.kill()
    daemon.wait()
    _, port = start_serve(start, path)
    wait_until(lambda: [one['pid'] for one in targets(port)] == [target.pid], what='the target\'s return')


def test_serve_twice(start, tmp_path):
    path = tmp_path / 'profd.sock'
    start_serve(start, path)
    second = start(PROFD, 'serve', '--socket', path, '--http', '127.0.0.1:0')
    assert second.wait(120) == 1
    assert str(path) in second.stderr.readline()
    assert path.exists()


# ---- The agent's own collector -----------------------------------------------------------------------------------------

def collectors_of(pid):
    result = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{name}/cmdline', 'rb') as file, open(f'/proc/{name}/comm', encoding='utf-8') as comm:
                words, title = file.read().split(b'\0'), comm.read()
        except OSError:
            continue
        if title != 'profd-names\n' and words[1:2] == [b'private'] and b'--target' in words and words[words.index(b'--target') + 1] == str(pid).encode():
            result.append(int(name))
    return result


def collector_of(pid):
    """The one: that it starts for names has its own name a moment later."""
    return wait_until(lambda: found[0] if len(found := collectors_of(pid)) == 1 else None, what='its collector alone')


def test_private_http(start, spinner):
    port = free_port()
    target = start(spinner, '60', env=environment(LD_PRELOAD=AGENT, PROFD_HTTP=f'127.0.0.1:{port}'))
    assert int(target.stdout.readline()) == target.pid
    collector = collector_of(target.pid)
    checked_profile(port, '/debug/pprof/profile?seconds=1', target.pid)
    assert os.getpgid(collector) != os.getpgid(target.pid)
    assert os.readlink(f'/proc/{collector}/cwd') == '/'
    assert os.readlink(f'/proc/{collector}/fd/1') == '/dev/null'
    assert os.readlink(f'/proc/{collector}/fd/2') == '/dev/null'  # the target's is a pipe, which must end with it
    target.kill()
    wait_until(lambda: collectors_of(target.pid) == [], what='the collector\'s end')


@pytest.mark.parametrize('how', ['exit', 'kill', 'crash'])
def test_private_output(start, spinner, tmp_path, how):
    target = start(spinner, *(['60'] if how == 'kill' else ['1', 'crash'] if how == 'crash' else ['1']),
                   env=environment(LD_PRELOAD=AGENT, PROFD_OUTPUT='all.folded:p-%p.svg'), cwd=tmp_path)
    target.stdout.readline()
    if how == 'kill':
        before = cpu_seconds(target.pid)
        wait_until(lambda: cpu_seconds(target.pid) > before + 0.2, what='some of its work')
        target.kill()
    target.wait(120)
    wait_until(lambda: collectors_of(target.pid) == [], what='the collector\'s end')
    assert sorted(os.listdir(tmp_path)) == ['all.folded', f'p-{target.pid}.svg']
    total = sum(folded((tmp_path / 'all.folded').read_text()).values())
    assert (10 if how == 'kill' else 85) <= total <= 115


# ---- What may go wrong with it ------------------------------------------------------------------------------------------

def private(spinner, *arguments, **settings):
    return [spinner, *arguments], dict(env=environment(LD_PRELOAD=AGENT, **settings), text=True, timeout=120)


@pytest.mark.parametrize('asked', [False, True])
def test_private_started_over_and_over(start, spinner, asked):
    """Each finds the port free, also while the one before still answers a request, or writes."""
    port = free_port()
    for _ in range(5):
        target = start(spinner, '0.3', env=environment(LD_PRELOAD=AGENT, PROFD_HTTP=f':{port}'))
        assert int(target.stdout.readline()) == target.pid
        if asked:
            with socket.create_connection(('127.0.0.1', port)) as client:
                client.sendall(b'GET /debug/pprof/profile?seconds=20 HTTP/1.1\r\nHost: localhost\r\n\r\n')
                assert target.wait(120) == 0
        assert target.wait(120) == 0
        assert target.stderr.read() == ''


def test_private_port_in_use(spinner):
    """By somebody else, for ever: the program runs, unprofiled, after two seconds."""
    with socket.create_server(('127.0.0.1', 0)) as busy:
        command, options = private(spinner, '0.1', PROFD_HTTP=f':{busy.getsockname()[1]}')
        begin = time.monotonic()
        result = subprocess.run(command, capture_output=True, **options)
        assert time.monotonic() - begin < 30
    assert result.returncode == 0 and re.fullmatch(r'\d+\n', result.stdout)
    assert re.fullmatch(r'profd: running unprofiled: .*: cannot listen on 127\.0\.0\.1:\d+: Address already in use\n', result.stderr)


@pytest.fixture
def full_disk(tmp_path):
    """A file system of one page."""
    if os.geteuid() != 0:
        pytest.skip('only root mounts')
    path = tmp_path / 'full'
    path.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4k', 'none', path], capture_output=True).returncode != 0:
        pytest.skip('cannot mount a tmpfs here')
    yield path
    subprocess.run(['umount', '-l', path], check=True)


@pytest.fixture
def system_log():
    """What syslog(3) says, where there is no other log."""
    if os.geteuid() != 0 or os.path.lexists('/dev/log'):
        pytest.skip('there is a system log, or it cannot be made')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind('/dev/log')
        log.settimeout(120)
        yield lambda: log.recv(4096).decode()
    os.unlink('/dev/log')


@pytest.mark.parametrize('stderr', ['file', 'pipe'])
def test_private_full_disk(spinner, full_disk, tmp_path, system_log, stderr):
    """The program ends as ever; an older file stays; somebody is told."""
    out = full_disk / 'x.html'
    out.write_text('old')
    command, options = private(spinner, '0.3', PROFD_OUTPUT=str(out))
    with open(tmp_path / 'stderr', 'w+') as file:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=file if stderr == 'file' else subprocess.PIPE, **options)
        assert result.returncode == 0
        if stderr == 'file':
            said = wait_until(lambda: (tmp_path / 'stderr').read_text(), what='a word on standard error')
        else:
            assert result.stderr == ''
            while str(out) not in (said := system_log()):
                pass  # others have a log, too, now
    assert re.search(r'profd.*' + re.escape(str(out)) + '.*No space left on device', said)
    assert out.read_text() == 'old'
    assert os.listdir(full_disk) == ['x.html']


def test_private_output_cannot_be_made(spinner, tmp_path):
    command, options = private(spinner, '0.1', PROFD_OUTPUT=str(tmp_path / 'nowhere' / 'x.folded'))
    result = subprocess.run(command, capture_output=True, **options)
    assert result.returncode == 0 and re.fullmatch(r'\d+\n', result.stdout)
    assert re.fullmatch(r'profd: running unprofiled: .*nowhere.*: No such file or directory\n', result.stderr)


# ---- A collector that is killed -----------------------------------------------------------------------------------------

def test_sigkill_of_run(start, spinner, tmp_path):
    """The command goes on and ends as it would; an older profile stays."""
    out = tmp_path / 'x.folded'
    out.write_text('old')
    process = start(PROFD, 'run', '-o', out, '--', 'sh', '-c', f"'{spinner}' 1; echo status $?; exec '{spinner}' 0.1")
    pid = int(process.stdout.readline())
    wait_until(lambda: cpu_seconds(pid) > 0.2, what='some of its work')
    process.kill()
    assert process.stdout.readline() == 'status 0\n'  # of a process that lost its collector
    assert re.fullmatch(r'\d+\n', process.stdout.readline())  # and of one that never had it
    assert process.stdout.read() == ''
    assert out.read_text() == 'old'
    assert os.listdir(tmp_path) == ['x.folded']


def test_sigkill_of_private_collector(start, spinner, tmp_path):
    out = tmp_path / 'x.folded'
    out.write_text('old')
    target = start(spinner, '1', 'thread', env=environment(LD_PRELOAD=AGENT, PROFD_OUTPUT=str(out)))
    target.stdout.readline()
    wait_until(lambda: cpu_seconds(target.pid) > 0.2, what='some of its work')
    collector = collector_of(target.pid)
    os.kill(collector, signal.SIGKILL)
    assert target.wait(120) == 0
    assert target.stderr.read() == ''
    assert out.read_text() == 'old'

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_programs.py: programs that nobody here wrote, as Debian builds them, without frame pointers, under their own load: they work,
# and 99.5% of their stacks reach the outermost frame of their thread. Then one in C++ and one in Rust, with names and inlined frames.

import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import pprof_reader
from conftest import BUILD, PRODUCT
from real_programs import child_of, cpu_s, free_port

RATE = 250


def needs(*names):
    missing = [name for name in names if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f'not installed: {" ".join(missing)}')


class Server:
    """A server under `profd run`, until it is told to end."""

    def __init__(self, profd, output, command, **more):
        self.output = output
        self.process = subprocess.Popen([profd, 'run', '--rate', str(RATE), '-o', output, '--', *command],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)

    def wait_for(self, ready, seconds=120):
        deadline = time.monotonic() + seconds
        while not ready():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline, 'the server does not answer'
            time.sleep(0.05)

    def work(self, load, seconds):
        """Calls `load` until the server and its children used that much CPU time: how long that takes is the machine's affair."""
        pid, deadline = child_of(self.process.pid), time.monotonic() + 120
        while cpu_s(pid) < seconds:
            assert time.monotonic() < deadline, f'{cpu_s(pid)} s of CPU'
            load()

    def end(self, signo=signal.SIGTERM):
        self.process.send_signal(signo)
        _, self.stderr = self.process.communicate(timeout=300)
        return pprof_reader.read(self.output)


def answers(address, family=socket.AF_UNIX):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        try:
            client.connect(address)
            return True
        except OSError:
            return False


COMPLETE = 0.995 if PRODUCT == BUILD else 0.99 # of stacks; under sanitizers tables take longer, and the first stacks are walked without


def is_complete(profile, at_least=100):
    count = sum(sample.values[0] for sample in profile.samples)
    print(f'{profile.complete():.2%} of {count} stacks are complete')  # for docs/unwinding.md: pytest -s
    assert count >= at_least, f'only {count} samples'
    assert profile.complete() >= COMPLETE, (profile.complete(), profile.comments)
    return True


def late_tables(profile):
    """In percent: stacks that were cut because a table was not there yet, at the start or after dlopen."""
    found = re.search(r'no unwind table ([\d.]+)%', next(comment for comment in profile.comments if comment.startswith('truncated stacks')))
    return float(found[1]) if found else 0


def with_tables(measure):
    """What measure() profiled; once more where tables came late: on a busy machine sampling does not wait for them. They are cached now."""
    for _ in range(3):
        profile = measure()
        if late_tables(profile) == 0:
            break
    return profile


def complete_profile(measure, at_least=200):
    """The profile of measure(times), with that much more work where the machine is too fast, or too busy, for enough samples."""
    times = 1
    for _ in range(4):
        profile = with_tables(lambda: measure(times))
        count = sum(sample.values[0] for sample in profile.samples)
        if count >= at_least:
            break
        times *= min(8, 1 + at_least // max(1, count))
    assert is_complete(profile, at_least)
    return profile


@needs('redis-server', 'redis-benchmark')
def test_redis(profd, tmp_path):
    path = str(tmp_path / 'redis.sock')

    def measure():
        server = Server(profd, str(tmp_path / 'redis.pb.gz'),
                        ['redis-server', '--port', '0', '--unixsocket', path, '--save', '', '--dir', str(tmp_path)])
        server.wait_for(lambda: answers(path))
        load = subprocess.run(['redis-benchmark', '-s', path, '-n', '60000', '-q', '-t', 'set,get,lpush,lrange_100,zadd,mset'],
                              stdout=subprocess.PIPE, text=True, timeout=600)
        assert load.returncode == 0 and 'GET' in load.stdout
        profile = server.end()
        assert server.process.returncode == 0
        return profile

    profile = with_tables(measure)
    assert is_complete(profile)
    assert profile.share('processCommand') > 0.05
    assert profile.share('aeMain') > 0.9


@needs('nginx', 'wrk')
def test_nginx(profd, tmp_path):
    port = free_port()
    (tmp_path / 'page.html').write_text('<p>' + 'profd ' * 5000)
    os.chmod(tmp_path, 0o755)
    conf = tmp_path / 'nginx.conf'
    conf.write_text(f'''
        daemon off; worker_processes 2; user root; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
        events {{ worker_connections 256; }}
        http {{ access_log off; gzip on; gzip_types *; default_type text/plain;
                client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path}; fastcgi_temp_path {tmp_path};
                uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};
                server {{ listen 127.0.0.1:{port}; root {tmp_path}; }} }}''')

    def measure():
        server = Server(profd, str(tmp_path / 'nginx.pb.gz'), ['nginx', '-c', str(conf), '-e', str(tmp_path / 'error.log')])
        server.wait_for(lambda: answers(('127.0.0.1', port), socket.AF_INET))

        def load():
            done = subprocess.run(['wrk', '-t1', '-c8', '-d1', '--timeout', '60', '-H', 'Accept-Encoding: gzip', f'http://127.0.0.1:{port}/page.html'],
                                  stdout=subprocess.PIPE, text=True, timeout=120)
            assert done.returncode == 0 and 'Non-2xx' not in done.stdout and 'Socket errors' not in done.stdout, done.stdout

        server.work(load, 1.5)
        profile = server.end()
        assert server.process.returncode == 0
        return profile

    profile = with_tables(measure)
    assert is_complete(profile)
    assert len({sample.labels.get('process_id') for sample in profile.samples}) >= 2, 'the workers are targets of their own'


@needs('sqlite3')
def test_sqlite(run):
    def measure(times):
        sql = f'''create table t(a integer primary key, b text, c real);
                 with recursive n(i) as (select 1 union all select i+1 from n where i<{1000000 * times})
                   insert into t select i, hex(i*7919), i*0.5 from n;
                 create index x on t(b); select count(*), sum(a.c) from t a join t b using (b);
                 select substr(b,1,3), count(*) from t group by 1 order by 2 desc, 1 limit 1;'''
        plain = subprocess.run(['sqlite3', ':memory:', sql], stdout=subprocess.PIPE, text=True, timeout=300).stdout
        done = run('sqlite3', ':memory:', sql, rate=RATE)
        assert done.status == 0 and done.stdout == plain
        return done.profile

    complete_profile(measure)


def test_python(run):
    script = '''
import json, re, threading, time
end = time.thread_time() + 2
def work(until):
    total = 0
    while time.thread_time() < until:
        text = json.dumps({"a": list(range(500))})
        total += len(re.findall("[0-9]+", text)) + len(sorted(range(1000), key=lambda x: -x))
    return total
thread = threading.Thread(target=work, args=(1,))
thread.start(); work(end); thread.join(); print("done")
'''

    def measure():
        done = run('/usr/bin/python3', '-c', script, rate=RATE)
        assert done.status == 0 and done.stdout == 'done\n'
        return done.profile

    profile = with_tables(measure)
    assert is_complete(profile)
    assert any('PyEval' in name for sample in profile.samples for name in sample.stack)


@pytest.mark.figures
def test_cpp(run, helper):
    # A quarter of a percent is broken: libgcc overwrites its own frame's registers as it lands. Of a thousand samples that may be too many by chance.

    def measure():
        done = run(helper('target_cpp'), 1500, rate=2000)
        assert done.status == 0, done.stderr
        return done.profile

    profile = with_tables(measure)
    assert is_complete(profile)
    names = {name for sample in profile.samples for name in sample.stack}
    assert any(name.startswith('shop::') for name in names), names
    assert any('std::' in name and '(' in name for name in names), 'C++ names are demangled'
    assert any('_Unwind_' in name for name in names), 'exceptions in flight are sampled'


@needs('rustc')
def test_rust(run, tmp_path):
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'target_rust.rs')
    program = str(tmp_path / 'target_rust')
    subprocess.run(['rustc', '-O', '-g', '-o', program, source], check=True, timeout=120)

    def measure(times):
        done = run(program, 400 * times, rate=RATE)
        assert done.status == 0, done.stderr
        return done.profile

    profile = complete_profile(measure)
    names = {name for sample in profile.samples for name in sample.stack}
    assert any('words::count' in name for name in names), names
    assert not any(name.startswith(('_ZN', '_R')) for name in names), 'Rust names are demangled'

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_snapshot.py: every thread of a live process, from outside: true and complete stacks with and without frame pointers, states, the
# text that readers of Go's dumps take, and a process that notices nothing.

import collections
import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import pprof_reader

STATES = ['epoll', 'poll', 'read', 'sleep', 'sem wait', 'mutex lock', 'cond wait']
OWN = ['park', 'descend', 'alloca_frame', 'descend', 'plain_frame', 'descend', 'large_frame', 'descend', 'large_frame', 'descend',
       'plain_frame', 'descend', 'large_frame', 'descend', 'run']
BUILDS = ['omit', 'keep', 'o0', 'o1']

# As github.com/maruel/panicparse reads them.
HEADER = re.compile(r'^goroutine (\d+) \[([^\]]+)\]:$')
FUNCTION = re.compile(r'^(.+)\((.*)\)$')
FILE = re.compile(r'^\t(.+):(\d+) \+0x[0-9a-f]+$')


@contextlib.contextmanager
def parked(helper, build, threads, env=None):
    with subprocess.Popen([helper(f'target_parked_{build}'), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, **(env or {}))) as process:
        process.pid_said = int(process.stdout.readline().split()[1])
        yield process
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def dump(profd, *arguments):
    return subprocess.run([profd, 'dump', *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def snapshot(profd, pid):
    result = dump(profd, '--json', pid)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def functions(shot, thread):
    stack = shot['stacks'][thread['stack'] - 1]
    assert stack['id'] == thread['stack']
    return [frame['function'] for frame in stack['frames']]


@pytest.mark.parametrize('build', BUILDS)
def test_true_stacks(profd, helper, build):
    """Every function of ours, in order, below whatever libc waits in; and the thread's start."""
    with parked(helper, build, 70) as process:
        shot = snapshot(profd, process.pid)
        assert shot['pid'] == process.pid and len(shot['threads']) == 71
        for thread in shot['threads']:
            names = functions(shot, thread)
            assert 'partial' not in shot['stacks'][thread['stack'] - 1], names
            if thread['name'].startswith('way-'):
                assert names[names.index('park'):-2] == OWN, names
                assert names[-1].strip('_') == 'clone3'
                assert thread['state'] == STATES[int(thread['name'][4:])], thread
            else:
                assert thread['tid'] == process.pid and thread['state'] == 'read' and names[-1] == '_start' and 'main' in names
        assert len(shot['stacks']) == 8, 'the same stack is there once'


def test_running_threads(profd, helper):
    """More threads that run than processors: whole stacks, as the kernel found them."""
    with subprocess.Popen([helper('target_truth'), '4', '60'], stdout=subprocess.DEVNULL) as process:
        try:
            seen = collections.Counter()
            while seen['running'] < 20:
                shot = snapshot(profd, process.pid)
                for thread in shot['threads']:
                    stack = shot['stacks'][thread['stack'] - 1]
                    names = functions(shot, thread)
                    seen[thread['state']] += 1
                    if thread['state'] == 'running' and names:
                        assert 'partial' not in stack and names[-1].strip('_') == 'clone3' and 'thread_main' in names, stack
                        seen['whole'] += 1
                    elif thread['state'] in ('running', 'runnable'):
                        assert stack['partial'], thread
            assert seen['whole'] >= 10, seen
        finally:
            process.kill()


def test_objects_and_owners(profd, helper):
    with parked(helper, 'omit', 7) as process:
        shot = snapshot(profd, process.pid)
        threads = {thread['name']: thread for thread in shot['threads']}
        assert re.fullmatch(r'\(fd \d+; 0 fds\)', threads['way-0']['object'])
        assert re.fullmatch(r'pipe:\(\d+\) \(fd \d+\)', threads['way-1']['object'])
        assert threads['way-2']['object'] == threads['way-1']['object']
        assert threads['way-3']['object'] == 'of 1e+06 s'
        assert threads['way-5']['owner_tid'] == process.pid
        assert re.fullmatch('0x[0-9a-f]+', threads['way-6']['object'])
        text = dump(profd, process.pid, '--thread', 'way-5').stdout
        assert re.match(rf'goroutine \d+ \[mutex lock 0x[0-9a-f]+ held by thread {process.pid} "target_parked_o", "way-5"\]:\n', text), text


def test_text_is_gos(profd, helper):
    """Each thread is a block: header, pairs of function and file, an empty line."""
    with parked(helper, 'keep', 14) as process:
        text = dump(profd, process.pid).stdout
    blocks = text.strip('\n').split('\n\n')
    assert len(blocks) == 15
    for block in blocks:
        header, *lines = block.split('\n')
        assert HEADER.match(header) and len(lines) % 2 == 0
        assert all(FUNCTION.match(line) for line in lines[0::2]) and all(FILE.match(line) for line in lines[1::2]), block


def test_groups(profd, helper, go, tmp_path):
    """Counts first; and what google/pprof reads as a goroutine profile of old."""
    with parked(helper, 'keep', 21) as process:
        text = dump(profd, '--group', process.pid).stdout
    assert text.startswith('goroutine profile: total 22\n')
    assert [int(count) for count in re.findall(r'^(\d+) @', text, re.M)] == [3] * 7 + [1]
    path = tmp_path / 'goroutine.txt'
    path.write_text(text)
    raw = subprocess.run([go, 'tool', 'pprof', '-raw', path], capture_output=True, text=True, timeout=60, check=False)
    assert raw.returncode == 0, raw.stderr
    assert 'goroutine/count' in raw.stdout


@contextlib.contextmanager
def served(profd, *command):
    process = subprocess.Popen([profd, 'run', '--rate', '1', '-o', '/dev/null', '--format', 'folded', '--http', '127.0.0.1:0', '--', *command],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    url = re.search(r'http://[0-9.:]+', line)
    assert url, line
    yield process, url[0] + '/debug/pprof/'
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    process.stderr.close()


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.headers, answer.read()


def test_http(profd, helper, tmp_path):
    with served(profd, helper('target_parked_keep'), '70') as (process, url):
        assert process.stdout.readline().startswith('pid ')
        headers, body = fetch(url + 'goroutine')
        assert headers['Content-Disposition'] == 'attachment; filename="goroutine"'
        (tmp_path / 'threads.pb.gz').write_bytes(body)
        profile = pprof_reader.read(tmp_path / 'threads.pb.gz')
        assert profile.sample_types == ['goroutine']
        assert sum(sample.values[0] for sample in profile.samples) == 71, "the agent's own thread is not the program's"
        assert {sample.labels['state'] for sample in profile.samples} == set(STATES)
        assert profile.complete() == 1
        assert not any('profd' in name for sample in profile.samples for name in sample.stack)
        assert b'\ngoroutine profile: total 71\n' in fetch(url + 'threads?debug=1')[1], 'behind the convoy that there is'
        assert fetch(url + 'goroutine?debug=2')[1].count(b'\ngoroutine ') == 71
        assert len(json.loads(fetch(url + 'goroutine?format=json')[1])['threads']) == 71
        assert b'large_frame;descend' in fetch(url + 'goroutine?format=folded')[1]
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(url + 'goroutine?format=nonsense')
        assert refused.value.code == 400


def test_large_dumps_are_streamed(profd, helper):
    """Made while they are sent; who hangs up in the middle of one disturbs nobody."""
    with served(profd, helper('target_parked_omit'), '700') as (process, url):
        assert process.stdout.readline().startswith('pid ')
        for query in ('?debug=2', '?format=json'):
            for _ in range(5):
                with urllib.request.urlopen(url + 'goroutine' + query, timeout=60) as answer:
                    assert answer.headers['Transfer-Encoding'] == 'chunked'
                    assert answer.read(100)
        assert fetch(url + 'goroutine?debug=2')[1].count(b'\ngoroutine ') == 701
        assert len(json.loads(fetch(url + 'goroutine?format=json')[1])['threads']) == 701


def test_dump_url(profd, helper):
    with served(profd, helper('target_parked_keep'), '70') as (process, url):
        pid = process.stdout.readline().split()[1]
        root = url.removesuffix('/debug/pprof/')
        for address in (root, root + '/', url, url + 'goroutine', url + 'threads', f'{root}/{pid}', f'{root}/{pid}/debug/pprof'):
            text = dump(profd, address)
            assert text.returncode == 0 and text.stdout.count('goroutine ') - text.stdout.count('in goroutine ') == 71, address
        assert 'created by ' in text.stdout, 'the agent knows'
        assert dump(profd, '--group', root).stdout.splitlines()[0].startswith(('goroutine profile: total 71', '# '))
        assert len(json.loads(dump(profd, '--json', root).stdout)['threads']) == 71
        assert [thread['tid'] for thread in json.loads(dump(profd, '--json', '--thread', pid, root).stdout)['threads']] == [int(pid)]
        leaks = subprocess.run([profd, 'leaks', '--seconds', '1', root], capture_output=True, text=True, timeout=60, check=False)
        assert leaks.returncode == 0 and 'leaks: 0' in leaks.stdout
        for address, status, message in [(root + '/1', 1, 'no target has PID 1'), (root + '/x', 2, 'not the address of a profd'),
                                         (url + 'goroutine?debug=2', 2, 'not the address'), (url + 'a/b', 2, 'not the address')]:
            result = dump(profd, address)
            assert result.returncode == status and message in result.stderr and result.stderr.count('\n') == 1, result


@pytest.mark.parametrize('answer, said', [
    (b'HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n', 'status 302'),
    (b'HTTP/1.1 500 x\r\nContent-Length: 12\r\n\r\nno\x1b[1m\nsecond', 'no?[1m'),
    (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ngorou\r\n', ''),
    (b'nonsense\r\n\r\n', ''),
    (b'', ''),
])
def test_dump_url_of_a_strange_server(profd, answer, said):
    with socket.create_server(('127.0.0.1', 0)) as server:
        process = subprocess.Popen([profd, 'dump', f'http://127.0.0.1:{server.getsockname()[1]}'], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(answer)
        connection.close()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and said in errors and errors.count('\n') == 1, errors


def zombies_of(answer):
    stacks = {stack['id']: [frame['function'] for frame in stack['frames']] for stack in answer['stacks']}
    return {tuple(stacks[verdict['stack']]): verdict for verdict in answer['verdicts'] if verdict['kind'] == 'zombies'}


def test_zombies(profd, helper):
    """Threads that nobody woke for a whole window, where nobody was woken; not those of a pool that works."""
    with served(profd, helper('target_zombies'), '12', '6') as (process, url):
        assert process.stdout.readline() == 'ready\n'
        pid = re.search(r'goroutine (\d+) ', fetch(url + 'goroutine?debug=2')[1].decode())[1]
        by_http = json.loads(fetch(url + 'goroutine?format=json&window=2')[1])
        by_url = json.loads(dump(profd, '--json', '--window', '2', url).stdout)
        by_pid = json.loads(dump(profd, '--json', '--window', '2', pid).stdout)
        for answer in (by_http, by_url, by_pid):
            (stack, verdict), = zombies_of(answer).items()
            assert 'wait_for_reply' in stack and 'wait_for_job' not in stack
            assert verdict['count'] == len(verdict['threads']) == 12 and verdict['state'] == 'cond wait'
            assert verdict['window_ns'] >= 1.9e9 and verdict['waiting_ns'] >= verdict['window_ns']
        assert 'creator_stack' in zombies_of(by_http).popitem()[1]
        text = fetch(url + 'goroutine?debug=2&window=1')[1].decode()
        assert text.startswith('# zombies: 12 threads did not run for 1.') and 'wait_for_reply' in text.split('\n\n')[0]
        assert not zombies_of(json.loads(fetch(url + 'goroutine?format=json')[1])), 'without a window nobody is one'
        for query in ('window=1', 'window=0&debug=2', 'window=1&seconds=1', 'window=x&debug=1', 'window=1&debug=1&seconds=1'):
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(url + 'goroutine?' + query)
            assert refused.value.code == 400


def test_waiting_time(profd, helper):
    """At least as long as was seen, and no longer than it can have been."""
    begin = time.monotonic()
    with served(profd, helper('target_parked_omit'), '7') as (process, url):
        assert process.stdout.readline().startswith('pid ')
        first, _ = (json.loads(fetch(url + 'goroutine?format=json')[1]), time.sleep(1.1))
        second = json.loads(fetch(url + 'goroutine?format=json')[1])
        for before, after in zip(first['threads'], second['threads']):
            assert before.get('waiting_ns', 0) + 1e9 <= after['waiting_ns'] or after['waiting_ns'] >= 1.1e9
            assert after['waiting_ns'] / 1e9 <= time.monotonic() - begin and after['cpu_ns'] == before['cpu_ns']


WAITS = set("""epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect nanosleep clock_nanosleep clock_nanosleep-absolute usleep sem_timedwait
    pthread_cond_timedwait futex futex-woken msgrcv msgrcv-blocking semtimedop semop read read-timerfd recv recv-blocking accept sigwait
    sigtimedwait waitpid""".split())


def test_nothing_is_seen(profd, helper):
    """Snapshots while every call that can be cut short is made in a loop: no EINTR, no short sleep. PROFD_UNSEEN: as many of them."""
    wanted = int(os.environ.get('PROFD_UNSEEN', '200'))
    process = subprocess.Popen([helper('target_waits'), 'quiet', '0'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    begin, states = time.monotonic(), set()
    for _ in range(wanted):
        states |= {thread['state'] for thread in snapshot(profd, process.pid)['threads']}
    seconds = time.monotonic() - begin
    said, calls = process.communicate('end\n', timeout=60)
    print(f'{wanted} snapshots in {seconds:.1f} s, in states {sorted(states)}:\n{said}{calls}')
    assert process.returncode == 0, said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert set(lines) - {'io_uring_enter'} == WAITS
    assert all(counts == ['0', '0'] for counts in lines.values()), said
    assert len(states) >= 8, 'the snapshots met hardly any of the calls'


def test_wrong_usage(profd, public):
    for arguments, status, message in [([], 2, 'which process'), (['x'], 2, 'not a number'), (['1', '2'], 2, 'one process'),
                                       (['--nonsense'], 2, 'unknown option'), (['2000000000'], 1, 'there is no process')]:
        result = dump(profd, *arguments)
        assert result.returncode == status and message in result.stderr and result.stderr.count('\n') == 1, result
    if os.getuid() == 0:
        result = subprocess.run(['setpriv', '--reuid', '65534', '--clear-groups', public(profd), 'dump', str(os.getpid())],
                                capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1 and 'no right to look into' in result.stderr and result.stderr.count('\n') == 1, result


def runs_in(url, function):
    try:
        return function in fetch(url + 'goroutine?format=folded')[1]
    except urllib.error.HTTPError as error: # between two images there is no target
        assert error.code in (404, 503), error
        return False


def test_wall_tells_on_cpu(profd, helper, tmp_path):
    """One thread that runs, and the main thread that joins it: half of the time each."""
    with served(profd, 'sh', '-c', 'echo runs; exec "$0" 1 6', helper('target_truth')) as (process, url):
        assert process.stdout.readline() == 'runs\n'
        while not runs_in(url, b'thread_main'):
            time.sleep(0.01)
        (tmp_path / 'wall.pb.gz').write_bytes(fetch(url + 'wall?seconds=2&rate=50')[1])
    profile = pprof_reader.read(tmp_path / 'wall.pb.gz')
    time_by = collections.Counter()
    for sample in profile.samples:
        time_by[sample.labels['cpu'], 'thread_main' in sample.stack] += sample.values[1] / 1e9
    total = sum(time_by.values())
    assert time_by['off', False] / total == pytest.approx(0.5, abs=0.01)
    assert time_by['on', True] / total >= 0.3 and set(time_by) <= {('off', False), ('on', True), ('off', True), ('on', False)}

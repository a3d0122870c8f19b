# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_contention.py: mutex and block profiles of programs that measure their own waiting (target_contention.c): no more than they waited, and at
# least 95% of what they surely did. And libc's locks in their odd corners (target_sync.c), and real programs, with both switched on: they do the
# same as without.

import gzip
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import pprof_reader
from conftest import natural
from test_heap import comment, served  # pylint: disable=unused-import
from test_programs import answers, free_port, needs
from test_signals import BY_SYSCALL_2, interruptions
from waiting import wait_until

CONTENTIONS, DELAY = range(2)
ALL = {'PROFD_MUTEX_FRACTION': '1', 'PROFD_BLOCK_RATE': '1', 'PROFD_BLOCK_IO': '1', 'PROFD_WAKERS': '1'}


def stolen():
    """Nanoseconds that the host has taken from this machine, which no thread has seen pass."""
    with open('/proc/stat', encoding='ascii') as file:
        return int(file.readline().split()[8]) * 1000000000 // os.sysconf('SC_CLK_TCK')


@pytest.fixture
def waits(profd, tmp_path):
    """waits(option, command…): the command under `profd run OPTION`: what it printed, and its mutex or block profile."""

    def do(option, *command, options=(), env=(), timeout=120):
        output, stolen_ns = str(tmp_path / 'waits.pb.gz'), stolen()
        result = subprocess.run([profd, 'run', option, *options, '-o', output, '--', *map(str, command)], text=True, capture_output=True,
                                timeout=timeout, env=dict(os.environ, **dict(env)), check=False)
        assert result.returncode == 0, result.stderr
        result.stolen_ns = stolen() - stolen_ns
        return result, pprof_reader.read(output)

    return do


def truths(text):
    """function → (waits, nanoseconds)"""
    return {words[0]: (int(words[1]), int(words[2])) for words in (line.split() for line in text.splitlines()) if len(words) == 3}


def is_between(delay, truth, name, most):
    """Is it at most what the program says under that name, and no less than 95% of what was waited for sure?"""
    assert 0.95 * truth[f'{name}.least'][1] <= delay <= truth[most][1], (name, delay, truth)
    return True


def sum_of(profile, function, **labels):
    sums = [0, 0]
    for sample in profile.samples:
        if function in sample.stack and all(sample.labels.get(key) == value for key, value in labels.items()):
            sums = [a + b for a, b in zip(sums, sample.values)]
    return sums


# ---- Right -------------------------------------------------------------------------------------------------------------

def test_mutex_blames_the_holders(waits, helper):
    result, profile = waits('--mutex', helper('target_contention'), 'mutex')
    assert profile.sample_types == ['contentions', 'delay']
    truth = truths(result.stdout)
    for function in ('hold_long', 'hold_short'):
        contentions, delay = sum_of(profile, function, lock_name='table_lock', wait='mutex')
        assert is_between(delay, truth, function, f'{function}.held')
        assert contentions == 30, 'one unlock that three wait for is one contention'
    assert sum(sample.values[DELAY] for sample in profile.samples) == pytest.approx(truth['hold_long.held'][1] + truth['hold_short.held'][1], rel=0.1)
    assert pprof_reader.is_whole(max(profile.samples, key=lambda sample: sample.values[DELAY]).stack)
    assert comment(profile, 'mutex: one contention in 1 is kept')


def test_mutex_fraction(waits, helper):
    result, profile = waits('--mutex=5', helper('target_contention'), 'mutex', 600)
    truth = truths(result.stdout)
    # 300 unlocks each, a fifth of them kept: of 4.3 sigmas, chance alone makes more twice in 100,000 tries. One sigma is an eighth when all
    # take the same time, and more where some took long.
    for function in ('hold_long', 'hold_short'):
        each = [truth[name][1] for name in truth if re.fullmatch(function + r'\.\d+', name)]
        assert len(each) == 300
        contentions, delay = sum_of(profile, function)
        assert abs(delay - sum(each)) <= 4.3 * 2 * sum(ns * ns for ns in each) ** 0.5
        assert contentions == pytest.approx(300, rel=0.5) and contentions % 5 == 0


def test_block_blames_the_waiters(waits, helper):
    result, profile = waits('--block=1', helper('target_contention'), 'mutex')
    truth = truths(result.stdout)
    contentions, delay = sum_of(profile, 'wait_for_lock', lock_name='table_lock')
    both = {f'both{suffix}': (0, truth[f'hold_long{suffix}'][1] + truth[f'hold_short{suffix}'][1]) for suffix in ('', '.least')}
    assert is_between(delay, both, 'both', 'both')
    assert contentions == pytest.approx(truth['hold_long'][0] + truth['hold_short'][0], abs=2)


KINDS = {'sem': 'semaphore', 'cond': 'condition', 'barrier': 'barrier', 'read': 'read lock', 'write': 'write lock', 'spin': 'spin lock',
         'c11': 'mutex'}


@pytest.mark.parametrize('name', KINDS)
def test_block_of_each_kind(waits, helper, name):
    result, profile = waits('--block=1', helper('target_contention'), 'pair', name)
    truth = truths(result.stdout)
    contentions, delay = sum_of(profile, f'wait_{name}', wait=KINDS[name])
    assert is_between(delay, truth, 'wait', 'wait')
    assert 60 <= contentions <= truth['wait'][0] + 2


@pytest.mark.parametrize('name,holder', [('read', 'give_rwlock'), ('write', 'give_rwlock'), ('spin', 'give_spin'), ('c11', 'give_c11'),
                                         ('timed', 'give_mutex')])
def test_mutex_of_each_kind(waits, helper, name, holder):
    result, profile = waits('--mutex', helper('target_contention'), 'pair', name)
    assert is_between(sum_of(profile, holder)[DELAY], truths(result.stdout), 'wait', 'wait.held')


def test_block_of_joins(waits, helper):
    result, profile = waits('--block=1', helper('target_contention'), 'join')
    truth = truths(result.stdout)
    contentions, delay = sum_of(profile, 'wait_join', wait='join')
    assert contentions == truth['wait'][0] and is_between(delay, truth, 'wait', 'wait')


def test_readers_beside_a_waiting_writer(waits, helper):
    _, profile = waits('--block=1', helper('target_contention'), 'readers')
    assert sum_of(profile, 'read_beside') == [0, 0]
    assert sum_of(profile, 'wait_write', wait='write lock')[CONTENTIONS] == 1


def test_processes_that_are_left_out_are_said(waits):
    """The stores of the first 256 that end are kept."""
    for option in ('--heap', '--block'):
        result, _ = waits(option, 'sh', '-c', 'for i in $(seq 260); do /bin/true; done')
        assert re.search(r'^profd: (heap|block): \d+ processes more are not in it', result.stderr, re.M), result.stderr


def test_locks_without_number(waits, helper):
    """When half of the store is used, locks are not told apart any more; what comes later is there."""
    result, profile = waits('--block=1', helper('target_contention'), 'many')
    truth = truths(result.stdout)
    assert ': 0 ' in comment(profile, '1 process; dropped: ')
    assert sum_of(profile, 'wait_many')[CONTENTIONS] == pytest.approx(300000, rel=0.01)
    assert len([sample for sample in profile.samples if 'wait_many' in sample.stack and 'lock' in sample.labels]) > 100000
    contentions, delay = sum_of(profile, 'wait_join', wait='join')
    assert contentions == truth['wait'][0] and is_between(delay, truth, 'wait', 'wait')


def test_short_waits_are_sampled_without_bias(waits, helper):
    """One wait is kept for ten times as long as one takes: few are, and stand for the others."""
    period, many = 40000, False
    for _ in range(5):  # how long one takes is the machine's affair, and may be another one the next time
        result, profile = waits(f'--block={period}', helper('target_contention'), 'turns', 100000)
        waited, ns = truths(result.stdout)['wait']
        many = ns > 10000 * period and waited * period > 5 * ns
        if many:
            break
        period = 10 * ns // waited
    assert many, (waited, ns, period)
    contentions, delay = sum_of(profile, 'wait_turn')
    # Chance makes 1% (1 sigma) of 10,000; and the program's clock sees up to 3% more than ours.
    assert delay == pytest.approx(ns, rel=0.08)
    # One whose semaphore was free already is none.
    assert 0.2 * waited < contentions <= 1.05 * waited


# ---- I/O and sleep -------------------------------------------------------------------------------------------------------

IO = '''
import os, select, socket, subprocess, sys, threading, time
spent = {}
def add(name, ns):
    spent[name] = spent.get(name, 0) + ns
def awake():
    with open("/proc/thread-self/schedstat") as file:
        return time.thread_time_ns() + int(file.read().split()[1])
def timed(name, function, *arguments):
    awake_before, began = awake(), time.monotonic_ns()
    result = function(*arguments)
    ended = time.monotonic_ns()
    add(name, ended - began)
    add(name + ".slept", ended - began - (awake() - awake_before))
    return result
def sleep_while_it_waits(name, number):
    """Until the main thread is in that system call, and 5 ms more, which it waits for sure."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/syscall") as file:
            if file.read().split()[0] == number:
                break
        time.sleep(0.0005)
    seen = time.monotonic_ns()
    time.sleep(0.005)
    add(name + ".least", time.monotonic_ns() - seen)
readable, writable = os.pipe()
def writer():
    for i in range(20):
        sleep_while_it_waits("read", "0")
        os.write(writable, b"x")
thread = threading.Thread(target=writer)
thread.start()
for i in range(20):
    timed("read", os.read, readable, 1)
thread.join()
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
def serve():
    time.sleep(0.05)
    peer, _ = listener.accept()
    while data := peer.recv(10):
        sleep_while_it_waits("receive", "45")
        peer.send(data)
thread = threading.Thread(target=serve)
thread.start()
client = socket.create_connection(listener.getsockname())
for i in range(20):
    client.send(b"x")
    timed("receive", client.recv, 10)
client.close()
thread.join()
with open(sys.argv[2], "wb") as file:
    for i in range(20):
        file.write(b"x" * 50000)
        file.flush()
        timed("sync", os.fsync, file.fileno())
poller = select.epoll()
timed("epoll", poller.poll, 0.1)
timed("select", select.select, [], [], [], 0.1)
timed("child", subprocess.run, ["/bin/sleep", "0.3"])
print(*(f"{name} 1 {ns}" for name, ns in spent.items()), f"fd {poller.fileno()} 0", sep="\\n")
'''


def by_label(profile, **labels):
    return sum(sample.values[DELAY] for sample in profile.samples if all(sample.labels.get(key) == value for key, value in labels.items()))


def test_io_by_object(waits, tmp_path):
    port, path = 20000 + os.getpid() % 10000, str(tmp_path / 'written')
    result, profile = waits('--block=1', '/usr/bin/python3', '-c', IO, port, path, options=['--block-io'])
    truth = truths(result.stdout)
    descriptor = truth['fd'][0]
    assert is_between(by_label(profile, wait='read', object='pipe (fd 3)'), truth, 'read', 'read')
    assert is_between(by_label(profile, wait='receive', object=f'tcp to 127.0.0.1:{port}'), truth, 'receive', 'receive')
    assert by_label(profile, wait='receive', object=f'tcp 127.0.0.1:{port} (server)') > 0
    assert 0.9 * truth['sync.slept'][1] - 1e6 - result.stolen_ns <= by_label(profile, wait='sync', object=path) <= truth['sync'][1]
    assert 1e8 <= by_label(profile, wait='epoll', object=f'anon_inode:[eventpoll] (fd {descriptor})') <= truth['epoll'][1]
    assert 1e8 <= by_label(profile, wait='select') <= truth['select'][1]
    assert by_label(profile, wait='sleep') >= 20 * 5e6 * 2
    assert 5e7 < by_label(profile, wait='child') <= truth['child'][1]  # Python may be late to wait for it


def test_io_of_each_kind(waits, helper, tmp_path):
    """Each call that waits is there, under its name, and returns what it does without us."""
    path = str(tmp_path / 'file')
    result, profile = waits('--block=1', helper('target_io'), path, options=['--block-io'])
    calls = [line.split() for line in result.stdout.splitlines()]
    alone = natural(helper('target_io'), path).stdout.splitlines()
    assert [line[:4] for line in calls] == [line.split()[:4] for line in alone] and len(calls) >= 20
    for name, wait, _, known, ns, slept_ns in calls:
        mine = [sample for sample in profile.samples if f'io_{name}' in sample.stack and sample.labels['wait'] == wait.replace('_', ' ')]
        assert len(mine) == 1 and mine[0].values[CONTENTIONS] == 1, name
        assert ('object' in mine[0].labels) == (known == 'named'), name
        # What the kernel does in interrupts is no thread's time, and seems slept: 2 ms, of waits of 30.
        assert 0.9 * int(slept_ns) - 2e6 - result.stolen_ns <= mine[0].values[DELAY] <= int(ns), (name, mine[0].values, ns, slept_ns)


REUSED = '''
import os, socket, sys, time
def use(fd, name):
    for _ in range(3):
        os.write(fd, b"x" * 20000)
        os.fsync(fd)
    print(fd, os.stat(fd).st_ino, name)
    os.close(fd)
for name in "abcdef":
    path = os.path.join(sys.argv[1], name)
    use(os.open(path, os.O_CREAT | os.O_WRONLY), name)
    os.unlink(path)
readable, writable = os.pipe()
if os.fork() == 0:
    while open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[0] != "S":  # it reads
        time.sleep(0.001)
    time.sleep(0.02)
    os.write(writable, b"x")
    os._exit(0)
os.read(readable, 1)
print(readable, 0, "pipe")
os.close(readable)
os.close(writable)
os.wait()
path = os.path.join(sys.argv[1], "g")
fd = os.open(path, os.O_CREAT | os.O_WRONLY)
os.unlink(path)
use(fd, "g (deleted)")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in 50001, 50002:
    udp.connect(("127.0.0.1", port))
    udp.settimeout(None)
    try:
        udp.send(b"x")
        udp.recv(1)
    except OSError:
        pass
print(udp.fileno(), 0, "udp")
'''


def test_a_descriptor_is_what_it_is_now(waits, tmp_path):
    """Each name is its own, though the number comes again, and on many file systems the inode's, too."""
    result, profile = waits('--block=1', '/usr/bin/python3', '-c', REUSED, tmp_path, options=['--block-io'])
    lines = [line.split(None, 2) for line in result.stdout.splitlines()]
    assert len({fd for fd, _, _ in lines}) == 1, lines
    for name in ('a', 'b', 'c', 'd', 'e', 'f', 'g (deleted)'):
        for wait in ('write', 'sync'):
            mine = [sample for sample in profile.samples if (sample.labels['wait'], sample.labels.get('object')) == (wait, f'{tmp_path}/{name}')]
            assert sum(sample.values[CONTENTIONS] for sample in mine) == 3, (wait, name)
    assert by_label(profile, wait='read', object=f'pipe (fd {lines[0][0]})') > 1e7
    assert {sample.labels.get('object') for sample in profile.samples} >= {'udp to 127.0.0.1:50001', 'udp to 127.0.0.1:50002'}


def test_io_only_when_asked_for(waits, tmp_path):
    port, path = 20000 + os.getpid() % 10000, str(tmp_path / 'written')
    _, profile = waits('--block=1', '/usr/bin/python3', '-c', IO, port, path)
    assert not {sample.labels['wait'] for sample in profile.samples} & {'read', 'receive', 'sync', 'epoll', 'select', 'sleep', 'child'}


# ---- Nothing else changes ------------------------------------------------------------------------------------------------

SYNC_CASES = ['mutexes', 'processes', 'rwlocks', 'semaphores', 'barriers', 'c11', 'futex', 'spin', 'cancel', 'longjmp', 'fork', 'old']


@pytest.mark.parametrize('case', SYNC_CASES)
@pytest.mark.parametrize('on', [False, True])
def test_locks_do_the_same(same, helper, case, on):
    same(helper('target_sync'), case, options=('--block=1', '--mutex', '--block-io') if on else ())


def test_no_call_is_interrupted(run, helper):
    result = run(helper('target_waits'), 'quiet', 2, options=('--block=1', '--block-io'))
    assert result.status == 0
    assert all(line.split()[1:] == ['0', '0'] for line in result.stdout.splitlines()
               if line.split()[0] not in BY_SYSCALL_2), result.stdout


def test_interrupted_calls_of_ones_own_are_seen(run, helper):
    """EINTR of the program's own signals."""
    with_us = interruptions(run(helper('target_waits'), 'alarm', 2, options=('--block=1', '--block-io')).stderr)
    assert len(with_us) >= 16
    assert all(interrupted >= 0.95 * calls > 0 for calls, interrupted in with_us.values()), with_us


def test_fork_has_its_own(waits, helper):
    _, profile = waits('--block=1', helper('target_sync'), 'fork')
    processes = {sample.labels['process_id'] for sample in profile.samples if 'run_fork' in sample.stack and sample.labels['wait'] == 'mutex'}
    assert len(processes) == 2


def test_nobody_waits_for_ever(waits, helper):
    """Waits that were left by cancellation and longjmp are not charged to who unlocks later."""
    for case in ('cancel', 'longjmp'):
        _, profile = waits('--mutex', helper('target_sync'), case)
        assert sum(sample.values[DELAY] for sample in profile.samples) < 2e9, case


# ---- Over HTTP -----------------------------------------------------------------------------------------------------------

TEXT_ENTRY = r'^(\d+) (\d+) @((?: 0x[0-9a-f]+)+)\n# labels: (\{.*\})\n((?:#\t0x[0-9a-f]+\t\S+.*\n)+)\n'
SWITCHED = ['-c', '''
import sys, threading, time
locks = [threading.Lock() for i in range(2)]
print("ready", flush=True)
def wait_again_and_again(lock):
    while True:
        lock.acquire()
def let_go():
    while True:
        time.sleep(0.002)
        [lock.release() for lock in locks if lock.locked()]
for lock in locks:
    threading.Thread(target=wait_again_and_again, args=[lock], daemon=True).start()
threading.Thread(target=let_go, daemon=True).start()
sys.stdin.read()
''']


@pytest.mark.parametrize('name,first_lines', [('mutex', '--- mutex:\ncycles/second=1000000000\nsampling period=1\n'),
                                              ('block', '--- contention:\ncycles/second=1000000000\n')])
def test_endpoints(served, helper, name, first_lines):
    target = served('--mutex=1', '--block=1', '--', '/bin/sh', '-c', f'{helper("target_contention")} mutex 20; echo ready; read x')
    truth = sum(ns for _, ns in truths(target.text).values())
    # Of the shell, which is asked for without a PID, and what it started: that has ended, and is not there any more.
    response, body = target.get(f'/debug/pprof/{name}')
    assert response.getheader('Content-Disposition') == f'attachment; filename="{name}"'
    assert pprof_reader.Profile(gzip.decompress(body)).sample_types == ['contentions', 'delay']
    text = target.get(f'/debug/pprof/{name}?debug=1')[1].decode()
    assert text.startswith(first_lines)
    index = target.get('/debug/pprof/')[1].decode()
    assert f'href="{name}?debug=1"' in index
    assert target.get(f'/debug/pprof/{name}?seconds=1&debug=1')[0].status == 400
    assert truth > 0


def python_that_contends(served, *options):
    return served(*options, '--', '/usr/bin/python3', *SWITCHED)


def test_text(served, go, tmp_path):
    target = python_that_contends(served, '--block=1', '--block-io')
    wait_until(lambda: re.findall(TEXT_ENTRY, target.get('/debug/pprof/block?debug=1')[1].decode(), re.M))
    text = target.get('/debug/pprof/block?debug=1')[1].decode()
    entries = re.findall(TEXT_ENTRY, text, re.M)
    delays = [int(entry[0]) for entry in entries]
    assert delays == sorted(delays, reverse=True)
    path = str(tmp_path / 'block.txt')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    raw = subprocess.run([go, 'tool', 'pprof', '-raw', path], capture_output=True, text=True, timeout=120, check=True).stdout
    rows = [[int(word) for word in line.split(':')[0].split()] for line in raw.splitlines() if re.match(r'^ +\d+ +\d+:', line)]
    assert sum(row[1] for row in rows) == pytest.approx(sum(delays), rel=0.01)


def test_go_reads_it(served, go):
    target = python_that_contends(served, '--block=1')
    wait_until(lambda: target.profile('/debug/pprof/block').samples)
    text = subprocess.run([go, 'tool', 'pprof', '-top', f'http://127.0.0.1:{target.port}/debug/pprof/block'], capture_output=True, text=True,
                          timeout=120, check=True).stdout
    assert 'Type: delay' in text and re.search(r'flat%', text)
    html = target.get('/debug/pprof/block?format=html')[1].decode()
    assert '"nanoseconds"' in html or 'nanoseconds' in html
    svg = target.get('/debug/pprof/block?format=svg')[1].decode()
    assert re.search(r'<title>[^<]+\(?\d[\d.,]* m?s', svg), 'hovers are in units of time'


def test_switched_while_it_runs(served):
    target = python_that_contends(served)
    profile = target.profile('/debug/pprof/block')
    assert profile.samples == [] and 'PROFD_BLOCK_RATE=10000' in comment(profile, 'block profiling is off')
    assert b'block_rate 1\n' in target.get('/debug/pprof/config?block_rate=1', 'POST')[1]
    wait_until(lambda: sum(sample.values[DELAY] for sample in target.profile('/debug/pprof/block').samples) > 1e7)
    # Two threads wait at any moment, nearly, and for milliseconds each time: but one wait of each may have begun earlier.
    began_ns = time.monotonic_ns()
    delta = target.profile('/debug/pprof/block?seconds=2')
    longest_ns = time.monotonic_ns() - began_ns
    delay = sum(sample.values[DELAY] for sample in delta.samples)
    assert 0.75 * 2 * 2e9 < delay < 1.05 * 2 * longest_ns, longest_ns
    target.get('/debug/pprof/config?block_rate=0&mutex_fraction=0', 'POST')
    wait_until(lambda: not target.profile('/debug/pprof/block?seconds=1').samples)


def test_config_is_checked(served):
    target = python_that_contends(served)
    for query in ('mutex_fraction=x', 'block_rate=-1', 'block_io=2', 'block_rate=1&mutex_fraction='):
        assert target.get(f'/debug/pprof/config?{query}', 'POST')[0].status == 400, query
    assert target.get('/debug/pprof/config')[1].decode().splitlines()[1:4] == ['mutex_fraction 0', 'block_rate 0', 'block_io 0']


# ---- Real programs, with mutex, block, I/O and wakers at once ----------------------------------------------------------------------

CXX = r'''
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>
#include <atomic>
#include <cstring>
#include <unistd.h>
// Until main waits for what comes next: it says so first, and then sleeps.
static std::atomic<bool> waits;
static void until_main_waits() {
	for (;;) { char text[512] = "", path[64]; std::snprintf(path, sizeof(path), "/proc/%d/stat", (int)getpid());
		FILE *file = std::fopen(path, "r"); if (!std::fgets(text, sizeof(text), file)) std::abort(); std::fclose(file);
		if (waits && std::strrchr(text, ')')[2] == 'S') return;
		usleep(1000); }
}
struct pool {
	std::mutex m; std::condition_variable c; std::deque<std::function<void()>> q; bool ends = false; std::vector<std::thread> t;
	explicit pool(int n) { for (int i = 0; i < n; i++) t.emplace_back([this] { work(); }); }
	void work() { for (;;) { std::function<void()> f; { std::unique_lock<std::mutex> l(m); c.wait(l, [this] { return ends || !q.empty(); });
		if (q.empty()) { until_main_waits(); return; } f = std::move(q.front()); q.pop_front(); } f(); } }
	template <class F> std::future<long> add(F f) { auto p = std::make_shared<std::packaged_task<long()>>(f); auto r = p->get_future();
		{ std::lock_guard<std::mutex> l(m); q.emplace_back([p] { (*p)(); }); } c.notify_one(); return r; }
	~pool() { { std::lock_guard<std::mutex> l(m); ends = true; } c.notify_all(); waits = true; for (auto &x : t) x.join(); }
};
int main() {
	long sum = 0; std::shared_mutex s; std::recursive_timed_mutex r; long shared = 0;
	{ pool p(4); std::vector<std::future<long>> f;
	for (long i = 0; i < 20000; i++) f.push_back(p.add([&, i] { std::unique_lock<std::recursive_timed_mutex> a(r);
		if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
		if (i % 7) { std::shared_lock<std::shared_mutex> l(s); return i + (shared < 0); } std::unique_lock<std::shared_mutex> l(s); shared++; return i; }));
	for (auto &x : f) sum += x.get();
	std::future<long> last = p.add([] { until_main_waits(); return 0l; }); waits = true; sum += last.get(); waits = false; }
	std::printf("%ld %ld\n", sum, shared);
}
'''


def test_cxx_pool(tmp_path, same, waits):
    path = str(tmp_path / 'pool')
    subprocess.run(['g++', '-x', 'c++', '-std=c++17', '-O2', '-g', '-o', path, '-', '-pthread'], input=CXX, text=True, check=True)
    done = same(path, options=('--block=1', '--mutex', '--block-io', '--wakers'))
    assert done.stdout == '199990000 2858\n'
    assert any(name.startswith('pool::') for sample in done.profile.samples for name in sample.stack)
    assert {sample.labels['wait'] for sample in done.profile.samples} >= {'mutex', 'condition', 'futex', 'join'}


def test_python_threads(same):
    script = '''
import queue, threading
q, done, lock, total = queue.Queue(5), queue.Queue(), threading.RLock(), [0]
def work():
    while (item := q.get()) is not None:
        with lock:
            total[0] += item
    done.put(1)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
[q.put(i) for i in range(5000)]
[q.put(None) for _ in threads]
[t.join() for t in threads]
print(total[0], done.qsize())
'''
    done = same('/usr/bin/python3', '-c', script, options=('--block=1', '--mutex', '--block-io', '--wakers'))
    assert done.stdout == '12497500 8\n'


@needs('sqlite3')
def test_sqlite(same, tmp_path):
    sql = '''create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all select i+1 from n where i<20000)
             insert into t select i, hex(i*7919) from n; create index x on t(b); select count(*), max(b), sum(a) from t where b > '5';
             drop table t;'''
    done = same('sqlite3', str(tmp_path / 'db'), sql, options=('--block=1', '--mutex', '--block-io', '--wakers'))
    assert done.status == 0 and done.stdout


class Background:
    """A server with the agent in it, whose profile is read over HTTP."""

    def __init__(self, agent, command, cwd):
        self.port = free_port()
        env = dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{self.port}', **ALL)
        self.process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(self, path):
        def is_there():
            nonlocal done
            done = subprocess.run(['curl', '-sf', f'http://127.0.0.1:{self.port}/debug/pprof/{path}'], capture_output=True, check=False, timeout=60)
            return done.returncode == 0

        done = None
        wait_until(is_there)  # its collector may need longer than it does
        return done.stdout

    def end(self):
        self.process.terminate()
        return self.process.wait(60)


@needs('redis-server', 'redis-benchmark', 'curl')
def test_redis(agent, tmp_path):
    path = str(tmp_path / 'redis.sock')
    server = Background(agent, ['redis-server', '--port', '0', '--unixsocket', path, '--save', '', '--io-threads', '2', '--dir', str(tmp_path)],
                        tmp_path)
    wait_until(lambda: answers(path))
    load = subprocess.run(['redis-benchmark', '-s', path, '-n', '5000', '-q', '-t', 'set,get,lpush,lrange_100', '--threads', '2'],
                          stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    assert load.returncode == 0 and 'GET' in load.stdout
    block = pprof_reader.Profile(gzip.decompress(server.get('block')))
    assert block.samples
    server.get('mutex')
    assert server.end() == 0


@needs('nginx', 'wrk', 'curl')
def test_nginx(agent, tmp_path):
    port = free_port()
    (tmp_path / 'page.html').write_text('<p>' + 'profd ' * 500)
    os.chmod(tmp_path, 0o755)
    conf = tmp_path / 'nginx.conf'
    conf.write_text(f'''
        daemon off; worker_processes 2; user root; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
        events {{ worker_connections 256; }}
        http {{ access_log off; default_type text/plain; aio threads;
                client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path}; fastcgi_temp_path {tmp_path};
                uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};
                server {{ listen 127.0.0.1:{port}; root {tmp_path}; }} }}''')
    server = Background(agent, ['nginx', '-c', str(conf), '-e', str(tmp_path / 'error.log')], tmp_path)
    wait_until(lambda: answers(('127.0.0.1', port), socket.AF_INET))
    load = subprocess.run(['wrk', '-t1', '-c8', '-d2', '--timeout', '60s', f'http://127.0.0.1:{port}/page.html'], stdout=subprocess.PIPE, text=True, timeout=60,
                          check=False)
    assert load.returncode == 0 and 'Non-2xx' not in load.stdout and 'Socket errors' not in load.stdout, load.stdout
    server.get('block')
    assert server.end() == 0


# ---- Seen from outside ---------------------------------------------------------------------------------------------------

WAITING = r"""
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, free_one = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static volatile int sink;
#define WAITER(name, wait) \
    __attribute__((noinline)) static void in_##name(void) { wait; sink = 1; } \
    static void *name(void *unused) { in_##name(); sink = 2; return unused; }
WAITER(lock, pthread_mutex_lock(&held))
WAITER(cond_wait, pthread_mutex_lock(&free_one); pthread_cond_wait(&cond, &free_one))
WAITER(sem, sem_wait(&semaphore))
WAITER(sleeps, sleep(1000))
int main(void)
{
    pthread_t thread;
    char byte;
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&held);
    pthread_create(&thread, 0, lock, 0);
    pthread_create(&thread, 0, cond_wait, 0);
    pthread_create(&thread, 0, sem, 0);
    pthread_create(&thread, 0, sleeps, 0);
    return read(0, &byte, 1) != 0;
}
"""


@pytest.mark.parametrize('flags', ['-fomit-frame-pointer', '-fno-omit-frame-pointer'])
def test_dumps_show_the_programs_own_frames(profd, tmp_path, flags):
    """Between a caller and the function that it called there is nothing, and no caller is missing: the real function was jumped to."""
    (tmp_path / 'waiting.c').write_text(WAITING)
    subprocess.run(['gcc', '-g', '-O2', flags, '-pthread', '-o', tmp_path / 'waiting', tmp_path / 'waiting.c'], check=True)
    wanted = {'lock': '__lll_lock_wait', 'cond_wait': 'pthread_cond_wait', 'sem': 'sem_wait', 'sleeps': 'nanosleep'}
    with subprocess.Popen([profd, 'run', '--mutex', '--block', '--block-io', '--wakers', '--http', '127.0.0.1:0', '--', tmp_path / 'waiting'],
                          stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = re.search(r'http://[0-9.:]+', process.stderr.readline())[0] + '/debug/pprof/goroutine?format=folded'

        def stacks():
            try:
                with urllib.request.urlopen(url, timeout=60) as answer:
                    return answer.read().decode().splitlines()
            except urllib.error.HTTPError: # it has not joined yet
                return []

        wait_until(lambda: all(any(f'start_thread;{name};in_{name};' in line and call in line for line in stacks())
                               for name, call in wanted.items()))
        assert not re.search('profd|watched_|contended_', '\n'.join(stacks()))
        process.stdin.close()
        assert process.wait(timeout=60) == 0

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_process.py: processes that end, multiply and change in every way; profiled or not, they do the same, and what they used the CPU
# for is in the profile.

import mmap
import os
import random
import re
import signal
import struct
import subprocess
import time

import pytest

import pprof_reader
from conftest import AGENT, natural
from waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason='needs root')


@pytest.fixture
def timed(same, tmp_path):
    """As same; with what each process of the second run had used when it ended, in that order, by its own clock."""
    def do(*command, env=None, **more):
        path = tmp_path / 'used'
        path.write_bytes(bytes(4096))
        result = same(*command, env={'TARGET_TIMES': str(path), **(env or {})}, **more)
        count, *seconds = struct.unpack('q511d', path.read_bytes())
        assert 0 < count < 511 and count % 2 == 0
        result.used = seconds[count // 2:count]
        return result

    return do


def near(profile, burnt, used, slack=0.12):
    """The CPU time that the samples stand for is that: at least what the program burnt, at most what its processes used; start-up is more of that
    than one thinks, on a slow machine. Give or take the timers' phases, and a moment at the begin of a forked child."""
    assert burnt - slack <= profile.cpu_seconds() <= sum(used) + slack, (used, profile.comments)
    return True


# A forked child waits for a collector that is busy for 100 ms (CHILD_WAIT_MS), and then goes on: so much of what it does first may be missing.
LATE_S = 0.1


def cpu_in(profile, function):
    return profile.share(function) * profile.cpu_seconds()


def processes(profile):
    return {sample.labels.get('process_id') for sample in profile.samples}


# ---- Ends --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('how', ['segv', 'abort', '_exit', 'exit', 'syscall', 'kill', 'return', 'thread'])
def test_every_end(timed, helper, how):
    done = timed(helper('target_process'), 'die', how, 300)
    profile = done.profile
    assert near(profile, 0.3, done.used)
    assert cpu_in(profile, 'target_burn') >= 0.25


@pytest.mark.parametrize('how', ['segv', '_exit', 'syscall', 'kill'])
def test_every_end_with_busy_threads(same, helper, how):
    profile = same(helper('target_process'), 'die', how, 200, 3).profile
    assert profile.share('burn_for_ever') > 0.1
    assert 'dropped: 0 ' in ' '.join(profile.comments)


def times_in(path, count):
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_READ) as memory:
        return struct.unpack_from(f'{count}d', memory)


def kill_at_random(profd, helper, tmp_path, threads, rate):
    """What the threads had used when SIGKILL came, in seconds of CPU, and what the profile says."""
    out = tmp_path / 'out.pb.gz'
    process = subprocess.Popen([profd, 'run', '--rate', str(rate), '-o', str(out), '--', helper('target_process'), 'record',
                                str(tmp_path / 'times'), str(threads)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'ready\n'
        target, = subprocess.run(['pgrep', '-x', '-P', str(process.pid), 'target_process'], capture_output=True, text=True).stdout.split()
        wait_until(lambda: sum(times_in(tmp_path / 'times', threads)) > 0.15)
        time.sleep(random.random() * 0.5)
        os.kill(int(target), signal.SIGKILL)
        assert process.wait(120) == 128 + signal.SIGKILL
    finally:
        process.kill()
        process.communicate()
    return sum(times_in(tmp_path / 'times', threads)), pprof_reader.read(out).cpu_seconds()


@pytest.mark.parametrize('attempt', range(6))
def test_sigkill_loses_nothing(profd, helper, tmp_path, attempt):
    """Killed at a random moment: what each thread had used by then is in the profile, to a period and a tick; and never more."""
    threads, rate, tick = 3, 200, 0.004
    for _ in range(3):  # on a busy machine, a thread can run between the ticks for long
        recorded, sampled = kill_at_random(profd, helper, tmp_path, threads, rate)
        assert recorded > 0.1
        # main starts some milliseconds before it records, and a period that has begun counts as one.
        assert sampled <= recorded + threads * (1 / rate + tick) + 0.03
        if sampled >= recorded - threads * (1 / rate + 2 * tick):
            return
    assert sampled == recorded


# ---- exec --------------------------------------------------------------------------------------------------------------

def test_exec(timed, helper):
    done = timed(helper('target_process'), 'exec')
    profile = done.profile
    assert near(profile, 0.4, done.used)
    assert cpu_in(profile, 'run_exec') >= 0.15
    assert cpu_in(profile, 'run_die') >= 0.15


@pytest.mark.parametrize('threads, count', [(0, 1200), (2, 300)])
def test_exec_over_and_over(same, helper, threads, count):
    """No SIGPROF of ours ever meets the default action that an image begins with."""
    profile = same(helper('target_process'), 'execloop', count, threads, rate=1000, timeout=600).profile
    assert cpu_in(profile, 'run_execloop') >= count * 0.001 * 0.7


# ---- Children ----------------------------------------------------------------------------------------------------------

def test_fork(timed, helper):
    done = timed(helper('target_process'), 'fork', 2)
    profile = done.profile
    assert len(done.used) == 3 and near(profile, 0.8, done.used)
    assert cpu_in(profile, 'burn_in_child') >= 0.5
    assert len(processes(profile)) == 3 and None not in processes(profile)
    assert any(re.search(r'\b3 processes', comment) for comment in profile.comments)


def test_fork_not_followed(timed, helper):
    done = timed(helper('target_process'), 'fork', 2, env={'PROFD_FOLLOW': '0'})
    profile = done.profile
    assert near(profile, 0.2, done.used[-1:])
    assert cpu_in(profile, 'burn_in_child') == 0


@pytest.mark.figures
def test_fork_among_threads(same, helper):
    profile = same(helper('target_process'), 'forkthreads').profile
    assert cpu_in(profile, 'burn_in_child') >= 0.4 - 2 * LATE_S
    assert cpu_in(profile, 'burn_for_ever') >= 0.1
    assert len(processes(profile)) == 3


@pytest.mark.figures
def test_fork_storm(same, helper):
    result = same(helper('target_process'), 'forkstorm', 10000, timeout=600)
    assert result.stdout == '10000 of 10000\n'


def test_fork_storm_not_followed(same, helper):
    assert same(helper('target_process'), 'forkstorm', 2000, env={'PROFD_FOLLOW': '0'}).stdout == '2000 of 2000\n'


def test_vfork(same, helper):
    result = same(helper('target_process'), 'vfork', 300)
    assert result.stdout == '300 of 300\n'
    assert cpu_in(result.profile, 'run_vfork') >= 0.2


def test_spawn_and_system(same, helper):
    profile = same(helper('target_process'), 'spawn').profile
    assert cpu_in(profile, 'run_spawn') >= 0.15
    assert cpu_in(profile, 'run_die') >= 0.25


@pytest.mark.parametrize('what', ['default', 'ignore', 'block'])
@pytest.mark.parametrize('follow', ['0', '1'])
def test_what_exec_hands_on(helper, profd, tmp_path, what, follow):
    """SIGPROF's mask and disposition as the program set them; seen by a program that has no agent to hide them."""
    def without_agent(text):
        return re.sub(r'^SigCgt.*\n', '', text, flags=re.M)
    command = [helper('target_process'), 'inherit', what]
    alone = natural(*command)
    result = subprocess.run([profd, 'run', '-o', str(tmp_path / 'x.folded'), '--', *command], capture_output=True, text=True,
                            timeout=300, env=dict(os.environ, PROFD_FOLLOW=follow))
    assert result.returncode == alone.returncode == 0
    if follow == '0':  # the agent in grep would show its own
        assert without_agent(result.stdout) == without_agent(alone.stdout)


# ---- Changes -----------------------------------------------------------------------------------------------------------

def test_daemon(profd, helper, tmp_path):
    """Double fork, all descriptors closed: profiled to its end, and nobody waits for more than that."""
    out, done = tmp_path / 'out.pb.gz', tmp_path / 'done'
    env = dict(os.environ, LD_PRELOAD=AGENT, PROFD_OUTPUT=str(out),
               PROFD_RATE='250')
    result = subprocess.run([helper('target_process'), 'daemon', str(done)], capture_output=True, text=True, timeout=300, env=env)
    assert (result.returncode, result.stdout, result.stderr) == (0, 'first: exit 0\n', '')
    wait_until(lambda: done.exists() and out.exists())
    assert done.read_text() == 'done\n'
    from pprof_reader import read
    profile = read(out)
    assert cpu_in(profile, 'burn_in_child') >= 0.4 - LATE_S
    assert cpu_in(profile, 'burn_for_ever') >= 0.1


def test_closing_all_descriptors(timed, helper):
    done = timed(helper('target_process'), 'close')
    profile = done.profile
    assert near(profile, 0.5, done.used)
    assert cpu_in(profile, 'burn_in_child') >= 0.2 - LATE_S


@pytest.mark.parametrize('closed', [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize('way', ['run', 'preload'])
def test_closed_standard_streams(profd, agent, helper, tmp_path, closed, way):
    """Descriptors that are closed stay so; what the program opens gets their numbers, as ever."""
    out = tmp_path / 'out.pb.gz'
    command = f"'{helper('target_process')}' descriptors"
    close = ' '.join(f'{fd}>&-' for fd in closed)
    alone = subprocess.run(['sh', '-c', f'{command} {close}'], capture_output=True, text=True, timeout=300)
    if way == 'run':
        line = f"'{profd}' run -o '{out}' -- {command} {close}"
    else:
        line = f"LD_PRELOAD='{agent}' PROFD_OUTPUT='{out}' {command} {close}"
    result = subprocess.run(['sh', '-c', line], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout) == (alone.returncode, alone.stdout)
    assert [line for line in result.stderr.splitlines() if not line.startswith('profd: ')] == alone.stderr.splitlines()
    wait_until(out.exists)
    from pprof_reader import read
    assert cpu_in(read(out), 'run_descriptors') >= 0.05


@as_root
def test_setuid_away(same, helper):
    profile = same(helper('target_process'), 'setuid').profile
    assert cpu_in(profile, 'run_setuid') >= 0.25
    assert cpu_in(profile, 'burn_in_child') >= 0.2 - LATE_S  # another user's process from its start, but a target's child
    assert cpu_in(profile, 'burn_for_ever') >= 0.1


@as_root
def test_chroot(timed, helper, tmp_path):
    (tmp_path / 'root').mkdir()
    done = timed(helper('target_process'), 'chroot', tmp_path / 'root')
    profile = done.profile
    assert near(profile, 0.5, done.used)
    assert cpu_in(profile, 'burn_in_child') >= 0.2 - LATE_S


@pytest.mark.parametrize('threads', [0, 1])
def test_user_namespace(same, helper, threads):
    """It takes a process with one thread: ours must not be the second."""
    profile = same(helper('target_process'), 'userns', threads).profile
    assert cpu_in(profile, 'burn_in_child') >= 0.35


# ---- Limits ------------------------------------------------------------------------------------------------------------

def limited(resource_name, value):
    import resource

    def apply():
        limit = getattr(resource, resource_name)
        resource.setrlimit(limit, (value, value))
    return apply


def test_small_file_size_limit(profd, helper, tmp_path):
    """The shared memory does not fit: it says so; no SIGXFSZ kills anybody."""
    result = subprocess.run([profd, 'run', '-o', str(tmp_path / 'x.folded'), '--', 'sh', '-c',
                             f"ulimit -f 8; exec '{helper('target_process')}' die exit 100"], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout) == (8, 'die exit\n')
    assert re.search(r'^profd: running unprofiled: cannot make the shared region: File too large$', result.stderr, re.M)


@pytest.mark.parametrize('limit', [4, 5, 6, 8, 16])
def test_few_descriptors(same, helper, limit):
    """Profiled or not, it runs; when not, a line says why."""
    command = ['sh', '-c', f"ulimit -n {limit}; exec '{helper('target_process')}' die exit 200"]
    result = same(*command)
    sampled = cpu_in(result.profile, 'run_die')
    assert sampled >= 0.15 or 'profd: running unprofiled: ' in result.stderr
    if limit >= 8:
        assert sampled >= 0.15
        assert result.profile.complete() >= 0.95


def test_few_pending_signals(same, helper):
    """Timers count against RLIMIT_SIGPENDING: threads that got none are reported."""
    result = same('bash', '-c', f"ulimit -i 2; exec '{helper('target_process')}' die exit 200 6")
    assert any(re.search(r'threads not sampled: [1-9]\d*: ', comment) for comment in result.profile.comments)
    assert re.search(r'[1-9]\d* threads could not be sampled: Resource temporarily unavailable', result.stderr)

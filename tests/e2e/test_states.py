# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_states.py: what each thread of a process waits for, by name, object, address and owner: one thread in each kind of wait
# (target_states.c), also when the process lives in a PID namespace of its own.

import contextlib
import json
import re
import signal
import subprocess
import time

import pytest

# name: state, object, owner. ADDRESS and FD are what the program printed; an owner is a thread's name.
LOCKS = {
    'mutex': ('mutex lock', 'ADDRESS', 'holder'),
    'mutex-timed': ('mutex lock', 'ADDRESS', 'holder'),
    'recursive': ('mutex lock', 'ADDRESS', 'holder'),
    'errorcheck': ('mutex lock', 'ADDRESS', 'holder'),
    'adaptive': ('mutex lock', 'ADDRESS', 'holder'),
    'robust': ('mutex lock', 'ADDRESS', 'holder'),
    'inherit': ('mutex lock', 'ADDRESS', 'holder'),
    'shared': ('mutex lock', 'ADDRESS', None),
    'rdlock': ('rwlock read', 'ADDRESS', 'holder'),
    'wrlock': ('rwlock write', 'ADDRESS', 'holder'),
    'wrlock-2': ('rwlock write', 'ADDRESS', 'holder'),
    'wrlock-read': ('rwlock write', 'ADDRESS', None),
    'wrlock-first': ('rwlock write', 'ADDRESS', None),
    'rdlock-behind': ('rwlock read', 'ADDRESS', None),
    'cond': ('cond wait', 'ADDRESS', None),
    'cond-timed': ('cond wait', 'ADDRESS', None),
    'cond-used': ('cond wait', 'ADDRESS', None),
    'cond-mutex': ('mutex lock', 'ADDRESS', 'target_states'),
    'sem': ('sem wait', 'ADDRESS', None),
    'sem-timed': ('sem wait', 'ADDRESS', None),
    'barrier': ('barrier wait', 'ADDRESS', None),
    'initializer': ('sem wait', 'ADDRESS', None),
    'raw-initializer': ('futex', 'ADDRESS', None),
    'once': ('once', 'ADDRESS', None),
    'join': ('join', '', 'holder'),
    'futex': ('futex', 'ADDRESS', None),
}
OTHERS = {
    'target_states': ('read', r'pipe:\(\d+\) \(fd 0\)'),  # the main thread
    'holder': ('pause', ''),
    'sigwait': ('sigwait', ''),
    'sigtimedwait': ('sigwait', ''),
    'sigsuspend': ('sigsuspend', ''),
    'pause': ('pause', ''),
    'nanosleep': ('sleep', 'of 1500.5 s'),
    'clock_nanosleep': ('sleep', ''),
    'usleep': ('sleep', 'of 2000 s'),
    'poll': ('poll', r'pipe:\(\d+\) \(fd FD\)'),
    'ppoll': ('poll', r'2 fds: pipe:\(\d+\) \(fd FD\)…'),
    'select': ('select', r'pipe:\(\d+\) \(fd FD\)'),
    'pselect': ('select', r'2 fds: pipe:\(\d+\) \(fd FD\)…'),
    'epoll_wait': ('epoll', r'\(fd FD; 2 fds\)'),
    'epoll_pwait2': ('epoll', r'\(fd FD; 2 fds\)'),
    'pipe': ('read', r'pipe:\(\d+\) \(fd FD\)'),
    'eventfd': ('read', r'\(eventfd\) \(fd FD\)'),
    'timerfd': ('read', r'\(timerfd\) \(fd FD\)'),
    'pair': ('read', r'unix socket:\(\d+\) \(fd FD\)'),
    'tcp-recv': ('recv', r'tcp 127\.0\.0\.1:\d+ to 127\.0\.0\.1:\d+ \(fd FD\)'),
    'unix-recv': ('recv', r'unix listener \(fd FD\)'),
    'tcp-accept': ('accept', r'tcp listening at 127\.0\.0\.1:\d+ \(fd FD\)'),
    'unix-accept': ('accept', r'unix listening at listener \(fd FD\)'),
    'abstract-accept': ('accept', r'unix listening at @profd-states-\d+ \(fd FD\)'),
    'send': ('send', r'unix socket:\(\d+\) \(fd FD\)'),
    'connect': ('connect', r'unix socket:\(\d+\) \(fd FD\)'),
    'flock': ('flock', r'/.*/flock \(fd FD\)'),
    'fcntl': ('file lock', r'/.*/fcntl \(fd FD\)'),
    'msgrcv': ('msgrcv', 'id FD'),
    'semop': ('semop', 'id FD'),
    'waitpid': ('wait child', 'FD'),
    'waitid': ('wait child', 'FD'),
    'vfork': ('wait child', 'vfork'),
    'spawn': ('wait child', 'vfork'),
    'io_uring': ('io_uring', r'\(io_uring\) \(fd FD\)'),
    'aio': ('aio', ''),
    'page-fault': ('page fault', ''),
}


@contextlib.contextmanager
def started(directory, *command):
    """The program, and its ways: name to (address, fd), None for what the kernel does not allow."""
    with subprocess.Popen([*command, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        ways = {}
        for line in process.stdout:
            words = line.split()
            if words == ['ready']:
                break
            assert words[0] in ('way', 'skip'), line
            ways[words[1]] = words[2:] if words[0] == 'way' else None
        yield process, ways
        process.stdin.close()
        assert process.wait(timeout=300) == 0


def wrong(shot, ways):
    """The threads that are not what they should be."""
    names = {thread['tid']: thread['name'] for thread in shot['threads']}
    threads = {thread['name']: thread for thread in shot['threads']}
    found = []
    for name, (state, wanted, *owner) in {**LOCKS, **OTHERS}.items():
        way = ways.get(name, ('0x0', '-1'))
        if not way:
            continue
        thread = threads.get(name, {})
        pattern = wanted.replace('ADDRESS', way[0]).replace('FD', way[1])
        if (thread.get('state') != state or not re.fullmatch(pattern, thread.get('object', '')) or
                names.get(thread.get('owner_tid')) != (owner[0] if owner else None)):
            found.append((name, way, thread))
    return found


def take(profd, pid):
    result = subprocess.run([profd, 'dump', '--json', str(pid)], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def wait_until_right(profd, pid, ways):
    """Snapshots until each thread has got to where it waits."""
    end = time.monotonic() + 120
    while True:
        shot = take(profd, pid)
        found = wrong(shot, ways)
        if not found:
            return shot
        assert time.monotonic() < end, found


def test_all_states(profd, helper, tmp_path):
    with started(tmp_path, helper('target_states')) as (process, ways):
        assert set(ways) == set(LOCKS) | set(OTHERS) - {'holder', 'target_states'}
        shot = wait_until_right(profd, process.pid, ways)
    stacks = {stack['id']: stack for stack in shot['stacks']}
    for thread in shot['threads']:
        stack = stacks[thread['stack']]
        names = [frame['function'] for frame in stack['frames']]
        assert 'partial' not in stack, (thread, names)
        if thread['name'] == 'vfork': # keeps its return address in a register
            assert names[1:-2] == ['wait_vfork', 'run'], names
        elif thread['name'] == 'spawn':
            assert names[-4:-2] == ['wait_spawn', 'run'], names


def test_stopped(profd, helper, tmp_path):
    """Each thread of a stopped process is; and when it goes on, all is as it was."""
    with started(tmp_path, helper('target_states')) as (process, ways):
        wait_until_right(profd, process.pid, ways)
        process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + 120
        while {'stopped'} != (states := {thread['state'] for thread in take(profd, process.pid)['threads']}):
            assert time.monotonic() < end, states
        text = subprocess.run([profd, 'dump', str(process.pid)], capture_output=True, text=True, timeout=300, check=True).stdout
        assert re.search(r'^goroutine \d+ \[stopped; "mutex"\]:\n', text, re.M), text
        process.send_signal(signal.SIGCONT)
        while 'mutex lock' not in {thread['state'] for thread in take(profd, process.pid)['threads']}:
            assert time.monotonic() < end


def test_io_uring_workers(profd, helper, tmp_path):
    """Kernel threads in the process, which make no system calls of their own."""
    code = ('import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nparameters = (ctypes.c_uint32 * 30)()\nparameters[2] = 2\n'
            'print(libc.syscall(425, 4, parameters), flush=True)\ninput()')
    with subprocess.Popen(['/usr/bin/python3', '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        allowed = int(process.stdout.readline()) >= 0
        end, threads = time.monotonic() + 60, []
        while allowed and not threads and time.monotonic() < end:  # it names itself when it runs
            threads = [thread for thread in take(profd, process.pid)['threads'] if thread['name'].startswith('iou-')]
        process.communicate('\n')
    if not allowed:
        pytest.skip('no io_uring to be had')
    assert [thread['state'] for thread in threads] == ['io_uring worker'], threads


def test_in_a_pid_namespace(profd, helper, tmp_path):
    """The ids in its locks are its own; ours are others. The child that it waits for has no number that we could say."""
    command = ['unshare', '--user', '--map-root-user', '--pid', '--mount-proc', '--fork', '--kill-child']
    if subprocess.run([*command, 'true'], capture_output=True, check=False).returncode != 0:
        pytest.skip('no PID namespace to be had')
    with started(tmp_path, *command, helper('target_states')) as (process, ways):
        with open(f'/proc/{process.pid}/task/{process.pid}/children', encoding='ascii') as file:
            pid = int(file.read())
        for name in ('waitpid', 'waitid'):
            ways[name][1] = ''
        shot = wait_until_right(profd, pid, ways)
        assert all(thread.get('owner_tid', pid) >= pid for thread in shot['threads'])

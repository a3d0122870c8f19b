# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_name_failures.py: the process that reads a module's debug info dies. That costs the names of this module alone; the answer says so; and
# it is tried again when the debug info is another one, or later.

import contextlib
import ctypes
import glob
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time

import pytest

import pprof_reader
from test_commands import CpuWatch
from test_debug_info import SOURCE, build_id_path, expect_dwarf, expect_function_alone, expect_nothing, share, split_off
from test_debuginfod import Daemon, get, wait_for

# Never called; but of the same unit, so they are read as well, and make more than the process may write: by their names, or by lines alone.
NAMES = ''.join(f'int a_function_that_is_never_called_and_has_a_name_that_is_as_long_as_they_are_in_large_programs_{i}(int x) '
                f'{{ return x * {i}; }}\n' for i in range(6000))
LINES = 'volatile int v;\nvoid of_many_lines(void)\n{\n' + 'v = 1;\n' * 70000 + '}\n'
LIMIT = 512 << 10


def children(pid):
    for path in glob.glob(f'/proc/{pid}/task/*/children'):
        with contextlib.suppress(OSError), open(path) as file:
            yield from (int(word) for word in file.read().split())


def limit_output(daemon):
    """Those who read debug info are children of this one."""
    server, = children(daemon.process.pid)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The program with these other functions: it takes seconds to compile."""
    programs = {}

    def build(others):
        if others not in programs:
            directory = tmp_path_factory.mktemp('built')
            (directory / 'spin.c').write_text(SOURCE + others)
            subprocess.run(['gcc', '-O1', '-g', directory / 'spin.c', '-o', directory / 'spin'], check=True)
            programs[others] = directory / 'spin'
        return programs[others]

    return build


@pytest.fixture
def daemon(request, profd, agent, built, tmp_path):
    """A daemon with a target, whose debug info is in the directory `given`; without a cache, so that nothing else is written."""
    program = tmp_path / 'spin'
    shutil.copy2(built(getattr(request, 'param', NAMES)), program)
    debug_file = build_id_path(tmp_path / 'given', program)
    split_off(program, debug_file)
    one = Daemon(profd, agent, program, tmp_path, {'PROFD_CACHE_DIR': '', 'DEBUGINFOD_URLS': ''}, ['--debug-dir', str(tmp_path / 'given')])
    one.debug_file = debug_file
    yield one
    one.close()


def failures(profile):
    return [comment for comment in profile.comments if comment.startswith('names of') and '/spin are missing' in comment]


def expect_libc(profile):
    assert share(profile, '__libc_start_main_impl') + share(profile, '__libc_start_main') > 0.8, profile.lines


def dump_with_stack(daemon, query):
    """The target runs all the time. On a busy machine it may not come to say where it is, and then no name of its file is needed."""

    def ask():
        text = get(f'{daemon.url}/debug/pprof/goroutine?{query}').decode()
        return text if 'partial' not in text else None
    return wait_for('its stack', ask)


def test_more_than_it_may_write(daemon):
    limit_output(daemon)
    profile = daemon.profile()
    expect_nothing(profile)
    expect_libc(profile)
    assert failures(profile) and 'its debug info cannot be read: File too large' in failures(profile)[0], profile.comments
    assert 'it is read again in' in failures(profile)[0]
    assert daemon.metric('profd_name_failures_total') == 1
    # It is not tried again each time; and each answer says so.
    assert failures(daemon.profile()) and daemon.metric('profd_name_failures_total') == 1
    # Thread dumps say so as well; in text it is a comment.
    text = dump_with_stack(daemon, 'debug=2')
    assert text.startswith('# names of ') and '/spin are missing: ' in text.splitlines()[0], text[:500]
    notes = json.loads(dump_with_stack(daemon, 'format=json'))['notes']
    assert any('/spin are missing: ' in note for note in notes)
    # So does what is made of many dumps.

    def wall_with_stack():
        profile = pprof_reader.Profile(gzip.decompress(get(f'{daemon.url}/debug/pprof/wall?seconds=1')))
        return profile if any(len(sample.stack) > 1 for sample in profile.samples) else None
    wall = wait_for('its stack', wall_with_stack)
    assert failures(wall), wall.comments
    os.utime(daemon.debug_file)
    assert failures(daemon.profile()) and daemon.metric('profd_name_failures_total') == 2


@pytest.mark.parametrize('daemon', [LINES], indirect=True, ids=['lines'])
def test_symbols_stand_in(daemon):
    """Where DWARF is too much, functions still have the names that their symbols have."""
    limit_output(daemon)
    for _ in range(2):
        profile = daemon.profile()
        expect_function_alone(profile)
        assert any(comment.startswith('lines and inlined calls of') and '/spin are missing: ' in comment for comment in profile.comments)
    assert daemon.metric('profd_name_failures_total') == 1


PTRACE_CONT, PTRACE_DETACH, PTRACE_GETEVENTMSG, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 17, 0x4201, 0x4206, 0x4207
PTRACE_O_TRACEFORK, PTRACE_EVENT_FORK, WALL = 2, 1, 0x40000000


def ptrace(request, pid, data=0):
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.argtypes, function.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_long
    if function(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f'ptrace {request}')


class Killer(threading.Thread):
    """Kills each process that another one starts, before it does anything."""

    def __init__(self, parent):
        super().__init__()
        self.parent, self.killed, self.traces, self.ended = parent, [], threading.Event(), False
        self.start()
        assert self.traces.wait(60)

    def end(self):
        self.ended = True
        self.join()

    def take(self, status):
        """Whatever the parent stopped for. Returns the signal that it is to have."""
        if status >> 16 != PTRACE_EVENT_FORK:
            return 0 if status >> 16 else os.WSTOPSIG(status)
        child = ctypes.c_ulong()
        ptrace(PTRACE_GETEVENTMSG, self.parent, ctypes.addressof(child))
        os.kill(child.value, signal.SIGKILL)
        while not os.WIFSIGNALED(os.waitpid(child.value, WALL)[1]):
            pass
        self.killed.append(child.value)
        return 0

    def run(self):
        ptrace(PTRACE_SEIZE, self.parent, PTRACE_O_TRACEFORK)
        self.traces.set()
        while not self.ended:
            pid, status = os.waitpid(self.parent, WALL | os.WNOHANG)
            if pid:
                ptrace(PTRACE_CONT, self.parent, self.take(status))
            else:
                time.sleep(0.001)
        ptrace(PTRACE_INTERRUPT, self.parent)
        ptrace(PTRACE_DETACH, self.parent, self.take(os.waitpid(self.parent, WALL)[1]))


def test_killed(daemon):
    """By the kernel, for want of memory, or by anybody else. The profile is whole but for names."""
    server, = children(daemon.process.pid)
    killer = Killer(server)
    try:
        with CpuWatch(daemon.target.pid) as watch:
            profile = daemon.profile()
    finally:
        killer.end()
    assert killer.killed
    assert failures(profile) and 'died (signal 9, Killed)' in failures(profile)[0], profile.comments
    expect_nothing(profile)
    assert profile.samples and watch.is_covered(profile, 250)
    daemon.log.seek(0)
    assert '/spin are missing: the process that read its debug info died (signal 9, Killed)' in daemon.log.read()
    subprocess.run(['cp', daemon.debug_file, f'{daemon.debug_file}.new'], check=True)
    os.replace(f'{daemon.debug_file}.new', daemon.debug_file)
    profile = daemon.profile()
    expect_dwarf(profile)
    assert not failures(profile)


def test_their_parent_is_killed(daemon):
    """Another one takes its place."""
    before, = children(daemon.process.pid)
    os.kill(before, signal.SIGKILL)
    profile = daemon.profile()
    expect_dwarf(profile)
    assert not failures(profile)
    after, = children(daemon.process.pid)
    assert after != before

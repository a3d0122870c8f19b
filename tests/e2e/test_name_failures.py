# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_name_failures.py: the process that reads a module's debug info dies. That costs the names of this module alone; the answer says so; and
# it is tried again when the debug info is another one, or later.

import glob
import os
import resource
import signal
import subprocess
import threading

import pytest

from test_debug_info import SOURCE, build_id_path, expect_dwarf, expect_nothing, share, split_off
from test_debuginfod import Daemon

# Never called; but of the same unit, so their names are read, and make more than the process may write.
MANY = 6000
LIMIT = 512 << 10


@pytest.fixture
def daemon(profd, agent, tmp_path):
    """A daemon with a target, whose debug info is in the directory `given`; without a cache, so that nothing else is written."""
    others = ''.join(f'int a_function_that_is_never_called_and_has_a_name_that_is_as_long_as_they_are_in_large_programs_{i}(int x) '
                     f'{{ return x * {i}; }}\n' for i in range(MANY))
    (tmp_path / 'spin.c').write_text(SOURCE + others)
    program = tmp_path / 'spin'
    subprocess.run(['gcc', '-O1', '-g', tmp_path / 'spin.c', '-o', program], check=True)
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


def test_more_than_it_may_write(daemon):
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    profile = daemon.profile()
    expect_nothing(profile)
    expect_libc(profile)
    assert failures(profile) and 'its debug info cannot be read: File too large' in failures(profile)[0], profile.comments
    assert 'it is read again in' in failures(profile)[0]
    assert daemon.metric('profd_name_failures_total') == 1
    # It is not tried again each time; and each answer says so.
    assert failures(daemon.profile()) and daemon.metric('profd_name_failures_total') == 1
    os.utime(daemon.debug_file)
    assert failures(daemon.profile()) and daemon.metric('profd_name_failures_total') == 2


class Killer(threading.Thread):
    """Kills each process that another one starts."""

    def __init__(self, parent):
        super().__init__()
        self.parent, self.killed, self.ended = parent, [], False

    def run(self):
        while not self.ended:
            for path in glob.glob(f'/proc/{self.parent}/task/*/children'):
                try:
                    with open(path) as file:
                        children = [int(word) for word in file.read().split()]
                    for child in children:
                        os.kill(child, signal.SIGKILL)
                        self.killed.append(child)
                except OSError:
                    pass


def test_killed(daemon):
    """By the kernel, for want of memory, or by anybody else. The profile is whole but for names."""
    killer = Killer(daemon.process.pid)
    killer.start()
    try:
        profile = daemon.profile()
    finally:
        killer.ended = True
        killer.join()
    assert killer.killed
    assert failures(profile) and 'died (signal 9, Killed)' in failures(profile)[0], profile.comments
    expect_nothing(profile)
    assert sum(sample.values[0] for sample in profile.samples) > 10
    daemon.log.seek(0)
    assert '/spin are missing: the process that read its debug info died (signal 9, Killed)' in daemon.log.read()
    subprocess.run(['cp', daemon.debug_file, f'{daemon.debug_file}.new'], check=True)
    os.replace(f'{daemon.debug_file}.new', daemon.debug_file)
    profile = daemon.profile()
    expect_dwarf(profile)
    assert not failures(profile)

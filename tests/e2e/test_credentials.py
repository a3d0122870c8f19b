# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_credentials.py: programs that change their users, capabilities, namespaces or filters do so as without an agent; no thread of
# ours may more than they; and they are profiled on.

import os
import shutil
import subprocess
import tempfile

import pytest

import pprof_reader
from conftest import AGENT
from test_process import as_root, cpu_in
from waiting import wait_until

pytestmark = as_root


@pytest.mark.parametrize('rate', [100, 2000])  # CPU timers, perf events
@pytest.mark.parametrize('case', ['keepcaps', 'drop'])
def test_rights(same, helper, case, rate):
    result = same(helper('target_credentials'), case, rate=rate)
    assert result.status == 0 and 'same in all threads: no' not in result.stdout
    assert cpu_in(result.profile, f'run_{case}') >= 0.35


@pytest.mark.parametrize('rate', [250, 2000])
@pytest.mark.parametrize('threads, rounds', [(1, 500), (8, 100)])
def test_users_switched_by_threads(same, helper, threads, rounds, rate):
    result = same(helper('target_credentials'), 'toggle', threads, rounds, rate=rate)
    assert result.status == 0
    assert cpu_in(result.profile, 'burn_for_ever') >= 0.15
    assert 'unprofiled' not in result.stderr and 'no longer' not in result.stderr


@pytest.mark.parametrize('how, status', [('prctl', 3), ('syscall', 3), ('strict', 3)])
def test_filter(same, helper, how, status):
    """Nothing of ours meets the filter, which would kill the program for it."""
    result = same(helper('target_credentials'), 'filter', how)
    assert (result.status, result.stdout) == (status, 'filtered\n')
    assert result.stderr.count('profd: no longer profiled: the program installs a seccomp filter') == 1
    assert 0.2 <= cpu_in(result.profile, 'run_filter') <= 0.4


def test_namespaces(same, helper):
    result = same(helper('target_credentials'), 'namespace')
    assert result.stdout == 'one namespace: 0\n'
    assert cpu_in(result.profile, 'run_namespace') >= 0.25


@pytest.mark.parametrize('command', [
    ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'true'],
    ['setpriv', '--no-new-privs', '--bounding-set=-all', 'grep', '-E', '^(Cap|NoNew)', '/proc/self/status'],
    ['capsh', '--drop=all', '--user=nobody', '--', '-c', 'id -u'],
    ['start-stop-daemon', '--start', '--chuid', '65534', '--exec', '/usr/bin/id'],
], ids=lambda command: command[0])
def test_tools(profd, public, tmp_path, command):
    if not shutil.which(command[0]):
        pytest.skip(f'{command[0]} is not installed')
    agent = public(AGENT)
    alone = subprocess.run(command, capture_output=True, text=True, timeout=120)
    result = subprocess.run([profd, 'run', '-o', str(tmp_path / 'x.folded'), '--', *command], capture_output=True, text=True, timeout=120,
                            env=dict(os.environ, PROFD_AGENT=agent))
    assert (result.returncode, result.stdout) == (alone.returncode, alone.stdout)
    assert 'refused' not in result.stderr and 'unprofiled' not in result.stderr


@pytest.mark.parametrize('way', ['run', 'preload'])
def test_exec_as_another_user(profd, public, helper, tmp_path, way):
    """The exec ends one session of the process and begins another, with nobody of root's around it."""
    out = tmp_path / 'out.pb.gz'
    agent = public(AGENT)
    target = public(helper('target_process'))
    command = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', target, 'die', 'exit', '300']
    if way == 'run':
        result = subprocess.run([profd, 'run', '-o', str(out), '--', *command], capture_output=True, text=True, timeout=60,
                                env=dict(os.environ, PROFD_AGENT=agent))
    else:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60,
                                env=dict(os.environ, LD_PRELOAD=agent, PROFD_COLLECTOR=profd, PROFD_OUTPUT=str(out)))
        wait_until(out.exists, what='the profile')
    assert (result.returncode, result.stdout) == (8, 'die exit\n'), result.stderr
    assert 'refused' not in result.stderr
    assert cpu_in(pprof_reader.read(out), 'run_die') >= 0.25


def test_refused_user_is_told(profd, public, helper, tmp_path):
    agent = public(AGENT)
    target = public(helper('target_process'))
    with tempfile.TemporaryDirectory(dir='/tmp') as directory:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, 'socket')
        daemon = subprocess.Popen([profd, 'serve', '--socket', path, '--http', '127.0.0.1:0'], stderr=subprocess.PIPE, text=True)
        try:
            assert 'serving' in daemon.stderr.readline()
            os.chmod(path, 0o666)
            result = subprocess.run([target, 'die', 'exit', '10'], capture_output=True, text=True, timeout=60, user=65534, group=65534,
                                    extra_groups=[], cwd='/', env={'LD_PRELOAD': agent, 'PROFD_SOCKET': path})
        finally:
            daemon.kill()
            daemon.communicate()
    assert result.returncode == 8
    assert result.stderr == 'profd: running unprofiled: the collector turned us away: this process belongs to another user\n'

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_snapshot_many.py: so many threads that the kernel is asked for all of them at once, where profd may ask (collector/task_table.h);
# and without the right to, by their files: the same answers, and no stack from two moments.

import collections
import json
import shutil
import subprocess

import pytest

from test_snapshot import OWN, STATES, functions, parked

THREADS = 700
WAYS = {'polls': 'poll', 'sleeps': 'sleep', 'takes': 'sem wait'}
WITHOUT_BPF = ['setpriv', '--bounding-set', '-bpf,-perfmon,-sys_admin']


@pytest.fixture(params=['all rights', 'no BPF'])
def command(request, profd):
    if request.param == 'all rights':
        return [profd]
    if not shutil.which('setpriv') or subprocess.run([*WITHOUT_BPF, 'true'], capture_output=True, check=False).returncode != 0:
        pytest.skip('setpriv cannot give up rights here')
    return [*WITHOUT_BPF, profd]


def snapshot(command, pid):
    result = subprocess.run([*command, 'dump', '--json', str(pid)], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize('build', ['omit', 'keep'])
def test_parked(command, helper, build):
    with parked(helper, build, THREADS) as process:
        shot = snapshot(command, process.pid)
        assert [thread['tid'] for thread in shot['threads']] == sorted(thread['tid'] for thread in shot['threads'])
        assert len(shot['threads']) == THREADS + 1 and len(shot['stacks']) == 8
        for thread in shot['threads']:
            names = functions(shot, thread)
            assert 'partial' not in shot['stacks'][thread['stack'] - 1], names
            if thread['name'].startswith('way-'):
                assert names[names.index('park'):-2] == OWN and thread['state'] == STATES[int(thread['name'][4:])], thread
            else:
                assert thread['tid'] == process.pid and thread['state'] == 'read' and names[-1] == '_start', thread


def test_same_by_both(profd, helper):
    """What does not change from one dump to the next is the same, whoever said it."""
    if not shutil.which('setpriv') or subprocess.run([*WITHOUT_BPF, 'true'], capture_output=True, check=False).returncode != 0:
        pytest.skip('setpriv cannot give up rights here')
    with parked(helper, 'keep', THREADS) as process:
        by_table, by_files = (snapshot(command, process.pid) for command in ([profd], [*WITHOUT_BPF, profd]))
        for one, other in zip(by_table['threads'], by_files['threads'], strict=True):
            assert functions(by_table, one) == functions(by_files, other)
            assert {key: value for key, value in one.items() if key not in ('stack', 'waiting_ns')} == {
                key: value for key, value in other.items() if key not in ('stack', 'waiting_ns')}
            assert one.get('waiting_ns', 0) <= other.get('waiting_ns', 0)


def test_no_right_but_bpf(profd, helper, public):
    """Who may ask the kernel for tables, but not look into the process, gets none."""
    another = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+bpf,+perfmon', '--ambient-caps=+bpf,+perfmon']
    if not shutil.which('setpriv') or subprocess.run([*another, 'true'], capture_output=True, check=False).returncode != 0:
        pytest.skip('setpriv cannot pass on rights here')
    with parked(helper, 'keep', THREADS) as process:
        result = subprocess.run([*another, public(profd), 'dump', str(process.pid)], capture_output=True, text=True, timeout=300, check=False)
        assert result.returncode == 1 and not result.stdout and 'no right to look into process' in result.stderr, result


def test_moving(command, helper):
    """Threads that wait now here, now there: each stack is of one moment, and fits the call that it waits in."""
    with subprocess.Popen([helper('target_moving'), str(THREADS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith('pid ')
        seen = collections.Counter()
        while min(seen[way] for way in WAYS) < THREADS:
            shot = snapshot(command, process.pid)
            for thread in shot['threads']:
                stack = shot['stacks'][thread['stack'] - 1]
                names = functions(shot, thread)
                if not thread['name'].startswith('moves-') or thread['state'] in ('running', 'runnable'):
                    continue
                ways = [name.split('_')[0] for name in names if name.endswith(('_inner', '_middle', '_outer'))]
                if not ways:
                    continue # between two waits: in malloc's or the loader's lock, or stopped by the kernel
                assert 'partial' not in stack and len(ways) == 3 and len(set(ways)) == 1, (thread, names)
                if thread['state'] != 'page fault':
                    assert thread['state'] == WAYS[ways[0]], (thread, names)
                seen[ways[0]] += 1
        process.stdin.close()
        assert process.wait(timeout=300) == 0

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_tasks.py: coroutines in a process that forks (target_tasks.c): they are in the child's memory as well, and so in its dumps. Dumps of a process
# that does not: test_examples.py.

import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import natural
from test_programs import free_port
from waiting import wait_until

CLIENT = ['profd_task_suspend', 'yield', 'serve', 'start']


def answer(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read().decode()


def is_served(url):
    try:
        return bool(answer(url))
    except urllib.error.HTTPError:
        return False


def tasks_in(shot):
    """name → what it waits for, its labels, and its stack up to where the coroutine begins."""
    stacks = {stack['id']: stack for stack in shot['stacks']}
    found = {}
    for thread in shot['threads']:
        if thread['tid'] >= 1 << 31:
            assert thread['state'] == 'suspended' and 'partial' not in stacks[thread['stack']], thread
            names = [frame['function'] for frame in stacks[thread['stack']]['frames']]
            found[thread['name']] = (thread['object'], thread.get('labels'), names[:names.index('start') + 1])
    return found


@pytest.fixture
def forked(agent, helper):
    """The process, the ids of it and its child, and where its collector answers."""
    port = free_port()
    process = subprocess.Popen([helper('target_tasks')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}'))
    pids = dict(process.stdout.readline().split() for _ in range(2))
    url = f'http://127.0.0.1:{port}'
    wait_until(lambda: is_served(f'{url}/{pids["child"]}/debug/pprof/'))  # a child does not wait for long until it is
    yield process, pids, url
    process.stdin.close()
    process.wait(timeout=60)


@pytest.mark.parametrize('by', ['http', 'dump'])
def test_fork(profd, forked, by):
    process, pids, url = forked

    def tasks_of(pid):
        if by == 'http':
            return tasks_in(json.loads(answer(f'{url}/{pid}/debug/pprof/goroutine?format=json')))
        return tasks_in(json.loads(subprocess.run([profd, 'dump', '--json', pid], check=True, capture_output=True, timeout=60).stdout))

    # As they were at the fork; client 0's parent has served it since. What another thread ran is in nobody's hands.
    clients = {f'client {i}': ('request', {'client': f'client {i}'}, CLIENT) for i in range(3)}
    forker = {'forker': ('end', None, ['profd_task_suspend', 'yield', 'fork_inside', 'start'])}
    assert tasks_of(pids['child']) == clients | forker
    del clients['client 0']
    assert tasks_of(pids['parent']) == clients | forker
    assert process.poll() is None


def test_what_they_work_for(forked):
    """The child's tasks are under what the parent's were queued by."""
    _, pids, url = forked
    lines = answer(f'{url}/{pids["child"]}/debug/pprof/goroutine?format=folded&causal=1').splitlines()
    clients, = [line for line in lines if ';serve;yield;' in line]
    assert 'accept_clients;profd_capture;↳ queued by;' in clients and clients.endswith(' 3'), clients
    forker, = [line for line in lines if ';fork_inside;yield;' in line]
    assert 'accept_clients' not in forker  # the child's own thread ran it last


def test_same_without_agent(helper, forked):
    process, _, _ = forked
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert natural(helper('target_tasks'), stdin=subprocess.DEVNULL).returncode == 0

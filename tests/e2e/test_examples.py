# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_examples.py: the programs of examples/ show what they are there to show, and do the same without profd.

import json
import os
import subprocess
import urllib.request

import pytest

from test_causal import CREATED, QUEUED, in_order
from test_programs import free_port


@pytest.fixture
def example(build_dir):
    def do(name):
        path = os.path.join(build_dir, 'examples', 'example_' + name)
        if not os.path.exists(path):
            pytest.skip(f'{name} was not built: a library is not installed')
        return path
    return do


def test_uv_queue(same, example):
    """One function of the pool's threads, under the two that asked for it."""
    profile = same(example('uv_queue'), rate=250, options=['--causal']).profile
    stacks = [(sample.stack, sample.values[1]) for sample in profile.samples if 'resize_image' in sample.stack]
    by_cause = {}
    for stack, cpu_ns in stacks:
        cause = next(name for name in ('upload_avatar', 'rebuild_gallery') if name in stack)
        assert in_order(stack, 'main', 'uv_run', cause, 'queue_work', QUEUED, 'run_linked', 'resize_image'), stack
        by_cause[cause] = by_cause.get(cause, 0) + cpu_ns
    assert set(by_cause) == {'upload_avatar', 'rebuild_gallery'}


def test_thread_pool(same, example):
    profile = same(example('thread_pool'), rate=250, options=['--causal']).profile
    routes = {}
    for sample in profile.samples:
        if not any(name.startswith('render') for name in sample.stack):
            continue
        handler, = [name for name in sample.stack if name.startswith('handle_')]
        assert sample.stack.index(handler) < sample.stack.index(QUEUED)
        assert CREATED not in sample.stack  # the queue is why it runs, not who made the pool
        routes.setdefault(sample.labels['route'], set()).add(handler.split('(')[0])
    assert routes == {'/checkout': {'handle_checkout'}, '/search': {'handle_search'}}
    grouped = same(example('thread_pool'), rate=250, options=['--group', 'route']).profile
    assert {sample.stack[0] for sample in grouped.samples} >= {'route=/checkout', 'route=/search'}


def is_task(thread):
    return thread['tid'] >= 1 << 31


@pytest.mark.parametrize('by', ['http', 'dump'])
def test_coroutines(profd, agent, example, by):
    """Each suspended one is in the dump, with its own stack; with none of them, nothing is left."""
    port = free_port()
    process = subprocess.Popen([example('coroutines')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}'))
    assert process.stdout.readline() == 'ready\n'
    if by == 'http':
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/debug/pprof/goroutine?format=json', timeout=60) as answer:
            shot = json.loads(answer.read())
    else:
        shot = json.loads(subprocess.run([profd, 'dump', '--json', str(process.pid)], check=True, capture_output=True,
                                         timeout=60).stdout)
    stacks = {stack['id']: stack for stack in shot['stacks']}
    tasks = {thread['name']: thread for thread in shot['threads'] if is_task(thread)}
    assert sorted(tasks) == [f'client {i}' for i in range(5)]
    for i in range(5):
        task = tasks[f'client {i}']
        assert (task['state'], task['object']) == ('suspended', 'request' if i % 2 else 'timer')
        names = [frame['function'] for frame in stacks[task['stack']]['frames']]
        assert names[:5] == ['profd_task_suspend', 'coroutine_yield', 'read_request', 'serve_client', 'start'], names
        assert 'partial' not in stacks[task['stack']], stacks[task['stack']]
    assert len([thread for thread in shot['threads'] if not is_task(thread)]) == 1
    output, _ = process.communicate(timeout=60)
    assert output == 'served 5\n' and process.returncode == 0

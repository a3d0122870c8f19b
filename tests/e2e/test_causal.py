# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_causal.py: stacks under the stacks that caused them: who made a thread, who handed it its work. The incident of docs/causality.md ends
# with the guilty function at the root; causal views have the totals of plain ones.

import collections
import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest

import pprof_reader
from test_programs import free_port

CREATED, QUEUED = '↳ created by', '↳ queued by'


def in_order(stack, *names):
    """Are these frames of the stack, in this order (root first)?"""
    left = iter(stack)
    return all(name in left for name in names)


def folded(text):
    counts = collections.Counter()
    for line in text.splitlines():
        stack, count = line.rsplit(' ', 1)
        counts[tuple(stack.split(';'))] += int(count)
    return counts


INCIDENT = ('handle_session', 'enqueue', QUEUED, 'consumer', 'start_writer', CREATED, 'session_writer')


class Incident:
    def __init__(self, process, url):
        self.process, self.url = process, url

    def get(self, path):
        with urllib.request.urlopen(self.url + '/debug/pprof/' + path, timeout=60) as answer:
            return answer.read().decode()


@pytest.fixture
def incident(request, agent, helper):
    port = free_port()
    process = subprocess.Popen([helper('target_incident'), *getattr(request, 'param', ('threads', '20'))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}'))
    assert process.stdout.readline().startswith('ready')
    yield Incident(process, f'http://127.0.0.1:{port}')
    process.stdin.close()
    process.wait(timeout=60)


def test_incident(incident):
    """One command; and its answer begins with who did it."""
    plain = folded(incident.get('goroutine?format=folded'))
    waiting = {stack: count for stack, count in plain.items() if 'session_writer' in stack}
    assert sum(waiting.values()) == 20 and not any('handle_session' in stack for stack in waiting)
    causal = folded(incident.get('goroutine?format=folded&causal=1'))
    guilty = {stack: count for stack, count in causal.items() if 'session_writer' in stack}
    assert list(guilty.values()) == [20]
    stack, = guilty
    assert in_order(stack, 'main', 'run_server', CREATED, 'serve', *INCIDENT), stack
    assert 'handle_ping' not in stack
    assert sum(causal.values()) == sum(plain.values())


def test_incident_as_text(incident):
    text = incident.get('goroutine?debug=1&causal=1')
    block = next(part for part in text.split('\n\n') if 'session_writer' in part)
    assert block.startswith('20 @ ') or '\n20 @ ' in block
    assert block.index('session_writer') < block.index(CREATED) < block.index('start_writer') < block.index(QUEUED) < \
        block.index('handle_session')
    text = incident.get('goroutine?debug=2&causal=1')
    assert text.count('\n↳ queued by(...)\n') == 20
    shot = json.loads(incident.get('goroutine?format=json'))
    writers = [thread for thread in shot['threads'] if thread.get('cause')
               and any(frame['function'] == 'session_writer' for frame in shot['stacks'][thread['stack'] - 1]['frames'])]
    assert len(writers) == 20
    causes = {cause['id']: cause for cause in shot['causes']}
    kinds, cause = [], causes[writers[0]['cause']]
    while cause:
        kinds.append(cause['kind'])
        cause = causes.get(cause.get('parent'))
    assert kinds == ['created', 'queued', 'created']


@pytest.mark.parametrize('by', ['url', 'pid'])
def test_incident_by_dump(profd, incident, by):
    """From outside, too: who made threads is read out of the agent's memory."""
    target = incident.url if by == 'url' else str(incident.process.pid)
    text = subprocess.run([profd, 'dump', '--group', '--causal', target], check=True, capture_output=True, text=True, timeout=60).stdout
    block = next(part for part in text.split('\n\n') if 'session_writer' in part)
    assert '20 @ ' in block and block.index(CREATED) < block.index('start_writer') < block.index(QUEUED) < block.index('handle_session')


def test_incident_as_wall(incident):
    causal = folded(incident.get('wall?seconds=1&format=folded&causal=1'))
    assert any(in_order(stack, *INCIDENT) for stack in causal)


def test_bad_parameters(incident):
    for query in ('causal=2', 'label=x', 'label==', 'group=', 'sampled_only=yes', 'group=' + 'x' * 100):
        for profile in ('profile', 'wall', 'goroutine'):
            with pytest.raises(urllib.error.HTTPError) as refused:
                incident.get(f'{profile}?seconds=1&{query}')
            assert refused.value.code == 400, query


@pytest.fixture
def both(run):
    """The same program plain and causal: profiles."""
    def do(*command):
        return run(*command, rate=250).profile, run(*command, rate=250, options=['--causal']).profile
    return do


def test_work(both, helper):
    """Samples of a thread that is gone, of a process that is gone: real frames in pprof, of a mapping of their own."""
    plain, causal = both(helper('target_incident'), 'work')
    assert plain.share('handle_session') < 0.1
    for profile in (plain, causal):
        assert profile.share('table_assign') * profile.cpu_seconds() > 0.45 # of 0.5 s by its own clock
    for sample in causal.samples:
        if 'table_assign' in sample.stack:
            assert in_order(sample.stack, '_start', 'main', CREATED, 'serve', *INCIDENT, 'table_assign'), sample.stack
    assert '[causal]' in causal.mapping_files and '[causal]' not in plain.mapping_files
    assert all(CREATED not in sample.stack for sample in plain.samples)


@pytest.mark.parametrize('case, option, function', [('heap', '--heap=65536', 'table_assign'), ('lock', '--block=1', 'table_assign')])
def test_stores(run, helper, case, option, function):
    """Memory and waits, too, are under whoever caused them: the same totals, plain and causal."""
    plain = run(helper('target_incident'), case, options=[option]).profile
    causal = run(helper('target_incident'), case, options=[option, '--causal']).profile
    for profile in (plain, causal):
        assert any(function in sample.stack for sample in profile.samples)
    assert all(CREATED not in sample.stack for sample in plain.samples)
    guilty = [sample.stack for sample in causal.samples if function in sample.stack]
    assert all(in_order(stack, 'main', CREATED, 'serve', *INCIDENT, function) for stack in guilty), guilty


@pytest.mark.parametrize('generations', [1, 3, 8, 12])
def test_generations(run, helper, generations):
    """Up to eight, and the newest of them: what a thread that is deeper has lost are its oldest ancestors."""
    causal = run(helper('target_incident'), 'chain', str(generations), rate=250, options=['--causal']).profile
    spinning = [sample.stack for sample in causal.samples if 'target_burn' in sample.stack]
    assert spinning
    for stack in spinning:
        assert stack.count(CREATED) == min(generations, 8) == stack.count('make_generation')
        assert ('main' in stack) == (generations <= 8)


def test_generations_under_a_lock(run, helper):
    """Who gave a lock over is no generation: all eight are there as well."""
    causal = run(helper('target_incident'), 'locked', '8', rate=250, options=['--causal', '--wakers']).profile
    spinning = [sample.stack for sample in causal.samples if 'target_burn' in sample.stack]
    assert spinning
    for stack in spinning:
        assert stack.count(CREATED) == 8 and stack.count('↳ woken by') == 1 and in_order(stack, 'main', CREATED, 'hold', '↳ woken by'), stack


@pytest.mark.parametrize('incident', [('deep', '300')], indirect=True)
def test_recursion_is_bounded(incident):
    """Hundreds of generations from one stack make no more contexts than are told apart; and all are counted."""
    shot = json.loads(incident.get('goroutine?format=json'))
    assert len(shot['threads']) == 301
    assert len([thread for thread in shot['threads'] if 'cause' in thread]) == 300
    # main's own and seven above it, then the eight newest of each that is deeper, without main.
    assert len(shot['causes']) <= 16
    created = next(line for line in incident.get('threadcreate?debug=1').splitlines())
    assert created == 'threadcreate profile: total 300'


def test_fork(run, helper):
    """A child begins where its parent forked, and so does what it makes."""
    causal = run(helper('target_incident'), 'fork', rate=250, options=['--causal']).profile
    spinning = [sample.stack for sample in causal.samples if 'target_burn' in sample.stack]
    assert spinning
    for stack in spinning:
        assert stack.count(CREATED) == 3
        seams = [index for index, name in enumerate(stack) if name == CREATED]
        parts = [stack[begin:end] for begin, end in zip([0] + seams, seams + [len(stack)])]
        assert [part.count('fork_once') for part in parts] == [1, 2, 2, 0]
        assert 'grandchild' in parts[2] and 'spin_thread' in parts[3]



# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_asleep.py: `profd zombies`: threads that nobody will wake are found, each kind of them, with the evidence; threads that are slow but
# alive are not.

import collections
import json
import os
import re
import subprocess
import time
import urllib.request

import pytest

from test_programs import free_port


class Asleep:
    def __init__(self, process, port):
        self.process, self.url = process, f'http://127.0.0.1:{port}'

    def target(self, by):
        return self.url if by == 'url' else str(self.process.pid)


@pytest.fixture
def asleep(agent, helper):
    """The program under its own collector: (case, its environment)."""
    started = []

    def start(case, **environment):
        port = free_port()
        env = dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}', **environment)
        process = subprocess.Popen([helper('target_asleep'), case], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        started.append(process)
        assert process.stdout.readline() == 'ready\n'
        return Asleep(process, port)

    yield start
    for process in started:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def zombies(profd, *options):
    return subprocess.run([profd, 'zombies', *options], capture_output=True, text=True, timeout=120, check=False)


def zombies_when(profd, enough, *options):
    """They stay; a busy machine may take a while to let them get there."""
    for _ in range(10):
        done = zombies(profd, *options)
        if enough(done.stdout):
            break
    return done


KINDS = {'cond wait': 2, 'sem wait': 2, 'mutex lock': 2, 'rwlock read': 2, 'barrier wait': 2, 'join': 1}


@pytest.mark.parametrize('by, environment', [('url', {'PROFD_TRACE': 'flight'}), ('pid', {'PROFD_TRACE': 'flight'}), ('url', {})])
def test_found(profd, asleep, by, environment):
    target = asleep('zombies', **environment)
    done = zombies_when(profd, lambda out: sum(verdict['count'] for verdict in json.loads(out)['verdicts']) == 11,
                        '--window', '2', '--json', target.target(by))
    assert done.returncode == 1, done.stderr
    dump = json.loads(done.stdout)
    states = {thread['tid']: thread['state'] for thread in dump['threads']}
    found = collections.Counter()
    for verdict in dump['verdicts']:
        assert verdict['kind'] == 'zombies' and verdict['window_ns'] > 0 and len(verdict['threads']) == verdict['count']
        assert verdict['state'].split(' 0x')[0] in KINDS
        found[verdict['state']] += verdict['count']
        assert {states[tid] for tid in verdict['threads']} == {verdict['state']}
        frames = [frame['function'] for frame in dump['stacks'][verdict['creator_stack'] - 1]['frames']]
        assert 'run_zombies' in frames or 'main' in frames or '_start' in frames, frames
        evidence = re.match(r'alive for ([\d.]+) s( and more)?; (never woken in the [\d.]+ s that were traced|woken (\d+) times; .*)$',
                            verdict['evidence'])
        assert evidence and float(evidence[1]) > 0, verdict['evidence']
        assert bool(evidence[2]) != bool(environment), 'its start is in the flight recorder'
        if environment and verdict['state'] == 'cond wait':
            assert int(evidence[4]) >= 3 and re.search(r' ago by thread \d+ that is gone$', verdict['evidence'])
            functions = [frame['function'] for frame in dump['stacks'][verdict['stack'] - 1]['frames']]
            assert 'work_for_ever' in functions or 'take_job' in functions
        else:
            assert 'never woken' in verdict['evidence']
    assert found == KINDS


def test_said(profd, asleep):
    target = asleep('zombies', PROFD_TRACE='flight')
    done = zombies_when(profd, lambda out: '11 zombies' in out, '--window', '2', target.url)
    assert done.returncode == 1, done.stderr
    assert re.search(r'^11 zombies in 6 groups; looked at 12 threads for \d+\.\d s$', done.stdout, re.M), done.stdout
    blocks = done.stdout.split('# zombies: ')[1:]
    assert len(blocks) == 6
    for block in blocks:
        assert '#   alive for ' in block and '#   where they are\n' in block and '#   created by\n' in block


@pytest.mark.parametrize('by', ['url', 'pid'])
def test_slow_threads_are_not(profd, asleep, by):
    """With a past that is long enough: the slowest is let go on every second, and the window is shorter than that."""
    target = asleep('slow', PROFD_TRACE='flight:60')
    time.sleep(4)
    for window in ('1', '3'):
        done = zombies(profd, '--window', window, target.target(by))
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r'^0 zombies in 0 groups; looked at 15 threads', done.stdout, re.M), done.stdout
    assert 'wait for files, sockets, signals or time' in done.stdout


def test_cannot_tell(profd, asleep):
    target = asleep('slow')
    done = zombies(profd, '--window', '1', target.target('pid'))
    assert done.returncode == 2 and 'has no flight recorder' in done.stderr
    done = zombies(profd, '--window', '1', 'http://127.0.0.1:1')
    assert done.returncode == 2
    assert zombies(profd).returncode == 2 and zombies(profd, '--window', '0', '1').returncode == 2
    with urllib.request.urlopen(target.url + '/debug/pprof/', timeout=30) as answer:
        assert 'zombies?window=10' in answer.read().decode()

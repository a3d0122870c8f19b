# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_creators.py: who made a thread, what /debug/pprof/threadcreate counts, and the verdicts of a dump: deadlocks, convoys, threads
# that nobody joined, groups that grow; each where there is one, and none where there is none.

import collections
import concurrent.futures
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import pprof_reader
from test_programs import free_port


class Target:
    def __init__(self, process, url):
        self.process, self.url = process, url

    def act(self, *acts):
        for act in acts:
            self.process.stdin.write(act + '\n')
            self.process.stdin.flush()
            assert self.process.stdout.readline() == 'done\n'

    def get(self, path):
        with urllib.request.urlopen(self.url + '/debug/pprof/' + path, timeout=60) as answer:
            return answer.read()

    def shot(self):
        return json.loads(self.get('goroutine?format=json'))

    def shot_when(self, condition):
        """Threads take a moment to get where they wait."""
        until = time.monotonic() + 120
        while not condition(shot := self.shot()):
            assert time.monotonic() < until, [(thread['state'], thread.get('stack')) for thread in shot['threads']]
        return shot


def names(shot, stack):
    return [frame['function'] for frame in shot['stacks'][stack - 1]['frames']]


def verdicts(shot, kind):
    return [verdict for verdict in shot['verdicts'] if verdict['kind'] == kind]


@pytest.fixture(params=['sampled', 'idle'])
def target(request, profd, agent, helper):
    """Under profd run, which samples; or preloaded, where nothing is sampled and the unwind tables come for the first thread made."""
    program = helper('target_creators')
    port = free_port()
    if request.param == 'sampled':
        command, env = [profd, 'run', '-o', '/dev/null', '--format', 'folded', '--http', f'127.0.0.1:{port}', '--', program], None
    else:
        command, env = [program], dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}')
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        target = Target(process, f'http://127.0.0.1:{port}')
        target.act('nothing')  # it runs, so its collector does
        yield target
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_created_by(target):
    target.act('start', 'start', 'nested')
    shot = target.shot()
    threads = collections.defaultdict(list)
    for thread in shot['threads']:
        threads[thread['name']].append(thread)
    main, = (thread for thread in shot['threads'] if thread['tid'] == shot['pid'])
    assert 'created_by' not in main
    for thread in threads['waits']:
        creator = thread['created_by']
        assert creator['tid'] == main['tid'] and 'partial' not in shot['stacks'][creator['stack'] - 1]
        assert names(shot, creator['stack'])[:8] == ['make_deep'] * 6 + ['start_workers', 'main']
        assert names(shot, creator['stack'])[-1] == '_start'
    assert len({thread['created_by']['stack'] for thread in threads['waits']}) == 1, 'the same stack is there once'
    outer, = threads['outer']
    inner, = threads['inner']
    assert inner['created_by']['tid'] == outer['tid']
    assert names(shot, inner['created_by']['stack'])[:2] == ['make_inner', 'make_another']
    assert names(shot, inner['created_by']['stack'])[-1].strip('_') == 'clone3'
    text = target.get('goroutine?debug=2').decode()
    assert re.search(rf'\ncreated by make_inner in goroutine {outer["tid"]}\n\t.*target_creators.c:\d+ \+0x[0-9a-f]+\n', text), text


def test_dump_of_a_pid(target, profd):
    """It reads the agent's memory: the same threads with the same creators, and no thread of the agent's."""
    target.act('start', 'start', 'nested', 'leave')
    served = target.shot_when(lambda shot: len(shot['threads']) == 5)
    done = subprocess.run([profd, 'dump', '--json', str(served['pid'])], capture_output=True, text=True, timeout=60, check=True)
    read = json.loads(done.stdout)
    creators = [{thread['tid']: (thread['created_by']['tid'], names(shot, thread['created_by']['stack']))
                 for thread in shot['threads'] if 'created_by' in thread} for shot in (served, read)]
    assert creators[0] == creators[1] and len(creators[1]) == 4
    assert len(verdicts(read, 'unjoined')) == 1 and {thread['tid'] for thread in read['threads']} == {thread['tid'] for thread in served['threads']}


def test_threadcreate(target, go, tmp_path):
    target.act('start', 'start', 'start', 'join', 'detached-attr')
    path = tmp_path / 'threadcreate.pb.gz'
    path.write_bytes(target.get('threadcreate'))
    profile = pprof_reader.read(path)
    assert profile.sample_types == ['threadcreate']
    made = collections.Counter()
    for sample in profile.samples:
        for name in ('start_workers', 'join_all', 'make_detached'):
            if name in sample.stack:
                made[name] += sample.values[0]
    assert made == {'start_workers': 3, 'join_all': 4, 'make_detached': 1}
    text = target.get('threadcreate?debug=1').decode()
    assert text.startswith('threadcreate profile: total 8\n3 @ ')
    (tmp_path / 'threadcreate.txt').write_text(text)
    top = subprocess.run([go, 'tool', 'pprof', '-top', tmp_path / 'threadcreate.txt'], capture_output=True, text=True, timeout=60, check=False)
    assert 'Type: threadcreate' in top.stdout, top.stderr


def test_unjoined(target):
    target.act('join', 'detach', 'detached-attr', 'leave', 'leave', 'leave')
    shot = target.shot_when(lambda shot: sum(verdict['count'] for verdict in verdicts(shot, 'unjoined')) == 3
                            and len(shot['threads']) == 1)
    assert {'leave_unjoined'} == {names(shot, verdict['creator_stack'])[1] for verdict in verdicts(shot, 'unjoined')}
    assert '# unjoined: 3 threads ended joinable' in target.get('goroutine?debug=1').decode()


def test_deadlock_and_convoy(target, go, tmp_path):
    target.act('start', 'start')
    assert not target.shot()['verdicts'], 'none without evidence'
    target.act('deadlock', 'convoy')
    shot = target.shot_when(lambda shot: len(verdicts(shot, 'deadlock')) == 2
                            and sum(verdict['count'] for verdict in verdicts(shot, 'convoy')) == 5)
    named = {thread['tid']: thread['name'] for thread in shot['threads']}
    cycles = [sorted(named[tid] for tid in verdict['threads']) for verdict in verdicts(shot, 'deadlock')]
    assert sorted(cycles) == [['alone'], ['first', 'second']]
    convoy, = verdicts(shot, 'convoy')
    assert {thread['owner_tid'] for thread in shot['threads'] if thread['tid'] in convoy['threads']} == {shot['pid']}
    path = tmp_path / 'goroutine.txt'
    path.write_bytes(target.get('goroutine?debug=1'))
    assert path.read_text().startswith('# deadlock: ')
    raw = subprocess.run([go, 'tool', 'pprof', '-raw', path], capture_output=True, text=True, timeout=60, check=False)
    assert 'goroutine/count' in raw.stdout, raw.stderr
    text = target.get('goroutine?debug=2').decode()
    assert text.startswith('# deadlock: ') and re.search(r'\n#   thread \d+ "first": mutex lock 0x[0-9a-f]+ held by thread \d+ "second"\n', text)
    assert re.search(r'\n# convoy: 5 threads: mutex lock 0x[0-9a-f]+ held by thread \d+ ', text)


def test_growth(target):
    target.act('nested')
    shots = []
    for i in range(4):
        target.act('start')
        shots.append(shot := target.shot())
        assert bool(verdicts(shot, 'grows')) == (i == 3), [[(thread['state'], names(one, thread['stack']), names(one, thread['created_by']['stack']))
                                                            for thread in one['threads'] if 'created_by' in thread] for one in shots]
    growing, = verdicts(shot, 'grows')
    assert growing['count'] == 4 and growing['base'] == 1 and growing['dumps'] == 4
    assert 'start_workers' in names(shot, growing['creator_stack']) and names(shot, growing['stack'])[-3:-2] == ['wait_forever']


def test_metrics(target):
    def value(name):
        with urllib.request.urlopen(target.url + '/metrics?threads=1', timeout=60) as answer:
            return sum(int(line.split()[-1]) for line in answer.read().decode().splitlines() if line.startswith(name))

    target.act('start', 'start', 'join', 'convoy')
    target.shot_when(lambda shot: sum(thread['state'] == 'mutex lock' for thread in shot['threads']) == 5)
    assert value('profd_threads_created_total ') == 12 and value('profd_threads ') == 8 and value('profd_threads_ended_total ') == 4
    assert value(f'profd_threads_by_state{{pid="{target.shot()["pid"]}",state="mutex lock"}}') == 5
    assert value('profd_threads_by_state') == 8


def test_delta(target, tmp_path):
    """What came to be while it waited, and nothing else."""
    target.act('nested', 'start')
    path, started = tmp_path / 'delta.pb.gz', 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(target.get, 'goroutine?seconds=1')
        while not answer.done():
            target.act('start')
            started += 1
            concurrent.futures.wait([answer], timeout=0.05)
        path.write_bytes(answer.result())
    profile = pprof_reader.read(path)
    assert {sample.labels['thread_name'] for sample in profile.samples if sample.values[0] > 0} <= {'waits', 'target_creators'}
    waiting = [sample for sample in profile.samples if sample.labels['thread_name'] == 'waits']
    assert 1 <= sum(sample.values[0] for sample in waiting) <= started
    assert all('wait_forever' in sample.stack for sample in waiting)


def test_wall(target, tmp_path):
    """Each thread's whole time is there, waiting or not, and none wakes for it."""
    target.act('start', 'start', 'convoy')
    # All of them wait, main for us.
    target.shot_when(lambda shot: collections.Counter(thread['state'] for thread in shot['threads']) == {'mutex lock': 5, 'sem wait': 2, 'read': 1})
    before = target.shot()
    path = tmp_path / 'wall.pb.gz'
    path.write_bytes(target.get('wall?seconds=1&rate=50'))
    profile = pprof_reader.read(path)
    assert profile.sample_types == ['samples', 'wall']
    by_state = collections.Counter()
    for sample in profile.samples:
        by_state[sample.labels['state']] += sample.values[1] / 1e9
        assert sample.labels['cpu'] == 'off'
    assert 0.9 <= by_state['mutex lock'] / 5 / by_state['read'] <= 1.1 and by_state['sem wait'] / 2 / by_state['read'] <= 1.1
    assert 1 <= by_state['read'] < 3
    after = target.shot()
    ran = {thread['tid']: thread['cpu_ns'] for thread in before['threads']}
    assert all(thread['cpu_ns'] == ran[thread['tid']] for thread in after['threads']), 'no thread has run meanwhile'
    assert not verdicts(after, 'grows')
    assert b'lock_busy' in target.get('wall?seconds=1&rate=10&format=folded')
    with pytest.raises(urllib.error.HTTPError) as refused:
        target.get('wall?rate=101')
    assert refused.value.code == 400

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_trace.py: the event trace: what threads did is in it, in each format, as readers that are not ours see it; strace agrees; a flight
# recorder has the end, however it came; what cannot be kept is counted.

import base64
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import trace_readers
from browser import CHROMIUM, Browser
from test_programs import free_port
from test_readers import VALIDATE
from waiting import LONG_S, wait_for_cpu_time, wait_until

READERS = {'.trace.json': trace_readers.chrome, '.perfetto-trace': trace_readers.perfetto}
MS = 1e6


def run_traced(profd, path, *command, options=(), **more):
    done = subprocess.run([profd, 'run', '--trace', str(path), *options, '--', *map(str, command)], capture_output=True, text=True,
                          timeout=300, check=False, **more)
    return done


def samples_of(trace, name=None):
    return [instant for track in trace.tracks if name in (None, track.name) for instant in track.instants if instant.name == 'on CPU']


def tids_of(stdout):
    return {words[0]: int(words[1]) for words in map(str.split, stdout.splitlines()) if len(words) == 2}


def said(stdout, what):
    """The program's own figures: the line "WHAT ns NUMBER…"."""
    return [int(word) for word in re.search(rf'^{what} ns ([\d ]+)$', stdout, re.M)[1].split()]


@pytest.fixture(scope='module', params=READERS)
def story(request, profd, helper, tmp_path_factory):
    path = tmp_path_factory.mktemp('story') / f'story{request.param}'
    done = run_traced(profd, path, helper('target_trace'), 'story', options=['--rate', '250'])
    assert done.returncode == 0 and 'nothing lost' in done.stderr, done.stderr
    trace = READERS[request.param](path)
    trace.tids, trace.path, trace.summary = tids_of(done.stdout), path, done.stderr
    trace.inner_ns, trace.process_ns = said(done.stdout, 'used')
    return trace


def test_tracks(story):
    """One for each thread, with its name and its life."""
    assert {(track.name, track.tid) for track in story.tracks} == {('target_trace' if name == 'main' else name, tid)
                                                                   for name, tid in story.tids.items() if name != 'main'} | \
        {('main', story.tids['main'])}
    for track in story.tracks:
        assert track.pid == story.tids['main'] and track.process == 'target_trace'
        life, = track.named('alive')
        assert life.depth == 0
        assert all(life.begin <= slice.begin and slice.end <= life.end for slice in track.slices)
    assert story.track('inner').named('alive')[0].end <= story.track('outer').named('alive')[0].end
    assert abs(story.realtime - time.time_ns()) < 3600e9 and story.start <= min(slice.begin for slice in story.track('main').slices)


def test_creators(story):
    made_by = {name: 'main' for name in ('waiter', 'locker', 'reader', 'listener', 'guest', 'outer')} | {'inner': 'outer'}
    for name, creator in made_by.items():
        track = story.track(name)
        life, = track.named('alive')
        assert life.args['thread'] == story.tids[creator]
        assert life.stack[-1].strip('_') in ('start', 'clone3') and life.stack[0] == 'start', life.stack
        assert ('run_story' if creator == 'main' else 'make_inner') in life.stack
        arrow, = (arrow for arrow in story.arrows_to(track) if arrow[2] == life.begin)
        assert arrow[0] is story.track(creator)
        assert any(instant.name == 'create thread' and instant.time == arrow[1] for instant in arrow[0].instants)


# How long each waits is known: main lets them go 5 × 30 ms after the last one began to.
@pytest.mark.parametrize('name, what', [('locker', 'mutex lock'), ('reader', 'rwlock read'), ('listener', 'cond wait'),
                                        ('guest', 'barrier wait')])
def test_waits(story, name, what):
    track = story.track(name)
    wait = max(track.named(what), key=lambda wait: wait.end - wait.begin)
    assert wait.end - wait.begin > 100 * MS and wait.args['object']
    if what != 'barrier wait':  # whoever comes last lets the others go without a call that would tell
        assert wait.args['thread'] == story.tids['main']
        assert any(source is story.track('main') and end == wait.end for source, _, end in story.arrows_to(track))


def test_semaphore(story):
    """Five waits, five wakes, each arrow from main's post to the end of that wait."""
    waits = story.track('waiter').named('sem wait')
    assert len(waits) == 5
    wakes = [instant for instant in story.track('main').instants
             if instant.name == 'wake' and str(instant.args['object']) == str(waits[0].args['object'])]
    assert len(wakes) == 5
    arrows = [arrow for arrow in story.arrows_to(story.track('waiter')) if arrow[2] in [wait.end for wait in waits]]
    assert [arrow[1] for arrow in sorted(arrows, key=lambda arrow: arrow[2])] == [wake.time for wake in wakes]
    for wait, wake in zip(waits, wakes):
        assert wait.begin < wake.time <= wait.end


@pytest.fixture(scope='module', params=READERS)
def linked(request, profd, helper, tmp_path_factory):
    """The same story, with wakers' links."""
    path = tmp_path_factory.mktemp('linked') / f'story{request.param}'
    done = run_traced(profd, path, helper('target_trace'), 'story', options=['--rate', '250', '--wakers'])
    assert done.returncode == 0 and 'nothing lost' in done.stderr, done.stderr
    trace = READERS[request.param](path)
    trace.tids = tids_of(done.stdout)
    return trace


def test_stacks_of_wakers(linked, story):
    """Who woke a thread is at the end of its wait, with its stack: for locks, too. So it is at the wake. Nobody is made up for other waits."""
    for name, what in (('locker', 'mutex lock'), ('reader', 'rwlock read'), ('listener', 'cond wait'), ('guest', 'barrier wait'),
                       ('waiter', 'sem wait')):
        waits = [wait for wait in linked.track(name).named(what) if wait.end - wait.begin > 10 * MS]
        assert len(waits) == (5 if name == 'waiter' else 1)
        for wait in waits:
            assert wait.args['thread'] == linked.tids['main'], name
            assert 'run_story' in wait.end_stack and wait.end_stack[-1] == '_start', (name, wait.end_stack)
            assert any(source is linked.track('main') and end == wait.end for source, _, end in linked.arrows_to(linked.track(name)))
    others = [wait for track in linked.tracks for what in ('join thread', 'sleep') for wait in track.named(what)]
    assert len(others) >= 5 + 6 + 1 and all(wait.end_stack == [] for wait in others)
    wakes = [instant for instant in linked.track('main').instants if instant.name == 'wake']
    assert len(wakes) >= 5 + 4 and all('run_story' in wake.stack for wake in wakes)
    # Without them none has one.
    assert not any(wait.end_stack for track in story.tracks for wait in track.slices)
    assert not any(instant.stack for track in story.tracks for instant in track.instants if instant.name == 'wake')


def test_joins(story):
    """Who is joined lets go on whoever joins, with its end."""
    joins = {join.args['thread']: join for join in story.track('main').named('join thread') if 'thread' in join.args}
    outer = joins[story.tids['outer']]  # the last one to end; the others were gone before they were joined
    assert any(source is story.track('outer') and end == outer.end for source, _, end in story.arrows_to(story.track('main')))
    inner, = story.track('outer').named('join thread')
    assert inner.args['thread'] == story.tids['inner'] and inner.end - inner.begin > 300 * MS


def test_samples(story):
    """They are on the track of the thread that ran, while it ran: 'inner' burns 300 ms of CPU."""
    def on_cpu(samples):
        return sum(instant.args['cpu_ns'] for instant in samples)

    inner, period = samples_of(story, 'inner'), 4 * MS
    assert 200 * MS < on_cpu(inner) < story.inner_ns + 2 * period
    assert sum('target_burn' in instant.stack for instant in inner) > len(inner) * 0.9
    assert all('burn_as_child' in instant.stack and instant.stack[0] != 'clone3' for instant in inner if 'target_burn' in instant.stack)
    # A period that has begun counts as one: of each thread's, and of what main does when it has said what all used.
    assert on_cpu(samples_of(story)) - on_cpu(inner) <= story.process_ns - story.inner_ns + 10 * period


def test_notes(story):
    events = int(re.search(r'(\d+) events, \d+ samples, 8 threads; nothing lost', story.notes)[1])
    assert f'trace: {events} events' in story.summary
    # Each thread's start, end and name; who made and joined it; then the waits and wakes.
    assert events >= 7 * 6


# ---- Judges ---------------------------------------------------------------------------------------------------------------

def test_public_schema(profd, helper, tmp_path_factory, tmp_path):
    """Perfetto's own package of its schema reads what our reader reads."""
    python = os.environ.get('PROFD_PERFETTO_PYTHON')
    if not python:
        venv = tmp_path_factory.mktemp('perfetto')
        subprocess.run([sys.executable, '-m', 'venv', venv], check=False, capture_output=True, timeout=600)
        python = str(venv / 'bin/python')
        installed = os.path.exists(python) and subprocess.run([python, '-m', 'pip', 'install', '-q', 'perfetto', 'protobuf'],
                                                              check=False, capture_output=True, timeout=600).returncode == 0
        if not installed:
            pytest.skip('the package perfetto cannot be installed')
    path = tmp_path / 'x.pftrace'
    run_traced(profd, path, helper('target_trace'), 'story', options=['--rate', '250', '--wakers'])
    script = '''
import collections, json, sys
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema
trace = schema.Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
kinds = collections.Counter(schema.TrackEvent.Type.Name(packet.track_event.type) for packet in trace.packet if packet.HasField('track_event'))
threads = {packet.track_descriptor.thread.thread_name for packet in trace.packet if packet.track_descriptor.HasField('thread')}
names = {name.name for packet in trace.packet for name in packet.interned_data.event_names}
functions = {name.str.decode() for packet in trace.packet for name in packet.interned_data.function_names}
events = [packet.track_event for packet in trace.packet if packet.HasField('track_event')]
ended_by = sum(event.type == schema.TrackEvent.TYPE_SLICE_END and event.callstack_iid > 0 for event in events)
size = trace.ByteSize()
trace.DiscardUnknownFields()
print(json.dumps([trace.IsInitialized(), kinds, sorted(threads), sorted(names), sorted(functions), ended_by, size - trace.ByteSize()]))
'''
    done = subprocess.run([python, '-c', script, path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    initialized, kinds, threads, names, functions, ended_by, unknown = json.loads(done.stdout)
    trace = trace_readers.perfetto(path)
    assert initialized and unknown == 0
    slices = sum(len(track.slices) for track in trace.tracks)
    assert kinds['TYPE_SLICE_BEGIN'] == kinds['TYPE_SLICE_END'] == slices
    assert kinds['TYPE_INSTANT'] == sum(len(track.instants) for track in trace.tracks) + 1  # the notes
    assert ended_by == sum(slice.end_stack != [] for track in trace.tracks for slice in track.slices) >= 9
    assert {track.name for track in trace.tracks} <= set(threads)
    assert {'alive', 'sem wait', 'mutex lock', 'cond wait', 'join thread', 'wake', 'on CPU', 'create thread', 'exit'} <= set(names)
    assert {'target_burn', 'burn_as_child', 'run_story', 'start'} <= set(functions)


@pytest.fixture(scope='module')
def speedscope_file(profd, helper, tmp_path_factory):
    path = tmp_path_factory.mktemp('speedscope') / 'story.speedscope.json'
    assert run_traced(profd, path, helper('target_trace'), 'story', options=['--rate', '250']).returncode == 0
    return path


def test_speedscope_schema(npm_dir, speedscope_file):
    env = dict(os.environ, NODE_PATH=os.path.join(npm_dir, 'node_modules'))
    done = subprocess.run(['node', '-e', VALIDATE, '--', speedscope_file], env=env, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def spent_in(path):
    """Of each thread: stack of functions, without objects → ns on top."""
    data = json.loads(path.read_text())
    frames = [re.sub(' 0x[0-9a-f]+$', '', frame['name']) for frame in data['shared']['frames']]
    found = {}
    for profile in data['profiles']:
        stack, last, spent = [], 0, {}
        for event in profile['events']:
            assert last <= event['at'] <= profile['endValue']
            functions = tuple(frames[frame] for frame in stack)
            spent[functions] = spent.get(functions, 0) + event['at'] - last
            last = event['at']
            if event['type'] == 'O':
                stack.append(event['frame'])
            else:
                assert stack.pop() == event['frame']
        assert not stack
        found[profile['name'].split(' (')[0]] = spent
    return found


def test_speedscope_contents(speedscope_file):
    spent = spent_in(speedscope_file)
    assert set(spent) == {'main', 'waiter', 'locker', 'reader', 'listener', 'guest', 'outer', 'inner'}
    own = {name: {} for name in spent}
    for name, stacks in spent.items():
        for stack, ns in stacks.items():
            if stack:
                own[name][stack[-1]] = own[name].get(stack[-1], 0) + ns
    assert own['locker']['mutex lock'] > 100 * MS and own['listener']['cond wait'] > 100 * MS and own['waiter']['sem wait'] > 20 * MS
    assert sum(ns for function, ns in own['inner'].items() if function != 'alive') > 150 * MS


def test_speedscope_wakers(npm_dir, profd, helper, tmp_path):
    """A wait has who ended it in it."""
    path = tmp_path / 'linked.speedscope.json'
    assert run_traced(profd, path, helper('target_trace'), 'story', options=['--rate', '250', '--wakers']).returncode == 0
    test_speedscope_schema(npm_dir, path)
    spent = spent_in(path)
    for name, wait, least in (('locker', 'mutex lock', 100 * MS), ('listener', 'cond wait', 100 * MS), ('waiter', 'sem wait', 20 * MS)):
        below = {stack[2:]: ns for stack, ns in spent[name].items() if stack[1:2] == (wait,)}
        known = sum(ns for stack, ns in below.items() if stack[:2] == ('↳ woken by', '_start') and 'run_story' in stack)
        assert known > least and known > 0.95 * sum(below.values()), (name, below)
    assert not any('↳ woken by' in stack for stack in spent['inner'])


def test_speedscope_imports(npm_dir, speedscope_file, tmp_path):
    if CHROMIUM is None:
        pytest.skip('chromium is not installed')
    script = tmp_path / 'load.js'
    data = base64.b64encode(speedscope_file.read_bytes()).decode()
    script.write_text(f'speedscope.loadFileFromBase64("story.speedscope.json", "{data}")')
    index = os.path.join(npm_dir, 'node_modules/speedscope/dist/release/index.html')
    with Browser() as browser:
        browser.open(f'{index}#localProfilePath={script}')
        wait_until(lambda: 'target_trace' in browser.evaluate('document.title'), lambda: browser.text('body'))
        assert '(1/8)' in browser.evaluate('document.title') + browser.text('body')
        if os.environ.get('PROFD_SCREENSHOTS'):
            browser.screenshot(os.path.join(os.environ['PROFD_SCREENSHOTS'], 'speedscope-trace.png'))
        browser.key('3')  # the table of functions
        wait_until(lambda: 'alive' in (page := browser.evaluate('document.body.innerText')) and 'join thread' in page,
                 lambda: browser.text('body'))
        assert browser.errors() == []


def futex_calls(path, offset):
    """Of each thread, by strace: from when till when."""
    futexes, begun = {}, {}
    for line in path.read_text().splitlines():
        tid, at, rest = line.split(None, 2)
        if 'unfinished' in rest:
            begun[tid] = float(at)
        elif 'FUTEX_WAIT' in rest or tid in begun:
            took = re.search(r'<([\d.]+)>$', rest)
            begin = begun.pop(tid, None) or float(at)
            if took:
                futexes.setdefault(int(tid), []).append((begin * 1e9 - offset, begin * 1e9 - offset + float(took[1]) * 1e9))
    return futexes


def waits_by_both(profd, helper, tmp_path, ms):
    """Of waits of that length and longer: how much longer each was than the futex calls in it that strace saw, as a share."""
    path, calls = tmp_path / f'{ms}.trace.json', tmp_path / f'{ms}.strace'
    done = run_traced(profd, path, 'strace', '-f', '-ttt', '-T', '-e', 'trace=futex', '-o', calls, helper('target_trace'), 'story', ms)
    if 'Operation not permitted' in done.stderr:
        pytest.skip('ptrace is not allowed')
    assert done.returncode == 0, done.stderr
    trace, tids = trace_readers.chrome(path), tids_of(done.stdout)
    futexes = futex_calls(calls, trace.realtime - trace.start)
    differences = []
    for name, what in (('waiter', 'sem wait'), ('locker', 'mutex lock'), ('reader', 'rwlock read'), ('listener', 'cond wait')):
        waits = [wait for wait in trace.track(name).named(what) if wait.end - wait.begin >= ms * MS]
        assert len(waits) == (5 if name == 'waiter' else 1)
        for wait in waits:
            inside = [(begin, end) for begin, end in futexes[tids[name]] if begin >= wait.begin - 2 * MS and end <= wait.end + 2 * MS]
            slept = sum(end - begin for begin, end in inside)
            assert 0 < slept <= wait.end - wait.begin + 4 * MS, (name, wait, futexes[tids[name]])
            differences.append((wait.end - wait.begin - slept) / (wait.end - wait.begin))
    return differences


def test_strace_agrees(profd, helper, tmp_path):
    """The same run seen by both: each wait is around the futex calls that strace saw in it, and as long as they."""
    if not shutil.which('strace'):
        pytest.skip('strace is not installed')
    for ms in (30, 150, 600):  # on a busy machine strace comes milliseconds late to each call's begin and end
        differences = waits_by_both(profd, helper, tmp_path, ms)
        if abs(statistics.median(differences)) < 0.05:
            return
    assert differences == []


CALLS = '''
import ctypes, os, threading, time
print(ctypes.c_uint.in_dll(ctypes.CDLL(None), '__rseq_size').value, flush=True)
ends = os.pipe()
thread = threading.Thread(target=os.read, args=(ends[0], 1))
thread.start()
seen = 0
while seen < 2: # asleep though nobody has the lock of the interpreter: it reads
    time.sleep(0.05)
    seen = seen + 1 if ') S ' in open(f'/proc/self/task/{thread.native_id}/stat').read() else 0
time.sleep(0.25)
os.write(ends[1], b'x')
thread.join()
for _ in range(5000):
    os.write(ends[1], b'x')
    os.read(ends[0], 1)
'''


@pytest.mark.parametrize('options', [[], ['--flight=60'], ['--wakers']], ids=lambda options: ''.join(options) or 'stream')
def test_calls_that_wait_for_nothing(profd, tmp_path, options):
    """Who stays on his CPU in a call waits for nothing. Where the kernel does not tell, each call may be a wait."""
    found = {}
    for rseq in '10':
        path = tmp_path / f'{rseq}.perfetto-trace'
        done = run_traced(profd, path, sys.executable, '-c', CALLS, options=options, env=dict(os.environ, GLIBC_TUNABLES=f'glibc.pthread.rseq={rseq}'))
        assert done.returncode == 0 and 'nothing lost' in done.stderr, done.stderr
        trace = trace_readers.perfetto(path)
        main, = (track for track in trace.tracks if track.tid == track.pid)
        reader, = (track for track in trace.tracks if track.tid != track.pid and track.named('read'))
        wait, = reader.named('read')
        assert wait.end - wait.begin > 200 * MS
        # What the interpreter reads and writes at its start and end is there, too.
        found[rseq == '1' and done.stdout != '0\n'] = [len(main.named('read')), len(main.named('write'))]
    assert min(found[False]) >= 5000
    kernel = tuple(int(number) for number in re.match(r'(\d+)\.(\d+)', os.uname().release).groups())
    if True not in found or (kernel >= (6, 19) and min(found[True]) >= 5000):
        pytest.skip('the kernel, or libc, does not tell who stayed on his CPU')
    assert max(found[True]) < 2500, found


# ---- Processes ------------------------------------------------------------------------------------------------------------

def test_fork_and_exec(profd, helper, tmp_path):
    path = tmp_path / 'family.trace.json'
    done = run_traced(profd, path, helper('target_trace'), 'family')
    assert done.returncode == 0, done.stderr
    pids = tids_of(done.stdout)
    trace = trace_readers.chrome(path)
    for pid, processes in ((pids['forked'], {'target_trace', 'forked'}), (pids['executed'], {'target_trace', 'exe'})):
        tracks = [track for track in trace.tracks if track.pid == pid]
        assert {track.process for track in tracks} <= processes
        thread, = (track for track in tracks if track.tid != pid)
        assert thread.named('alive')[0].args['thread'] == pid
        if pid == pids['forked']: # the other one's may have ended before anyone waited for it
            assert any(join.args.get('thread') == thread.tid for track in tracks for join in track.named('join thread'))
            assert thread.named('sleep')


def test_many_threads(profd, helper, tmp_path):
    """None of them is missing, nor an event: five for each."""
    path = tmp_path / 'many.perfetto-trace'
    done = run_traced(profd, path, helper('target_trace'), 'many', 5000, options=['--rate', '1'])
    assert done.returncode == 0 and 'nothing lost' in done.stderr, done.stderr
    trace = trace_readers.perfetto(path)
    assert len(trace.tracks) == 5001
    assert sum(instant.name == 'exit' for track in trace.tracks for instant in track.instants) == 5000
    main = trace.track('target_trace', trace.tracks[0].pid) if len({track.name for track in trace.tracks}) > 1 else trace.tracks[0]
    assert sum(instant.name == 'create thread' for instant in main.instants) == len(main.named('join thread')) == 5000


@pytest.mark.parametrize('command', ['target_signals blockall', 'target_signals restart interrupt', 'target_signals profsignalfd',
                                     'target_process forkthreads', 'target_process vfork', 'target_process close', 'target_process spawn',
                                     'target_credentials filter syscall', 'target_credentials toggle'])
def test_programs_are_the_same(same, helper, tmp_path, command):
    """Traced or not: signals, children, descriptors, credentials, and a seccomp filter that kills whoever makes calls it does not know."""
    program, *case = command.split()
    assert same(helper(program), *case, options=('--trace', str(tmp_path / 'x.perfetto-trace'))).status < 98  # that is: no such case


# ---- The flight recorder --------------------------------------------------------------------------------------------------

def test_flight_survives_sigkill(profd, helper, tmp_path):
    """Of 2.5 s and more the last one, up to the end."""
    path = tmp_path / 'flight.trace.json'
    done = run_traced(profd, path, helper('target_trace'), 'ticks', 500, options=['--flight=1', '--rate', '1000'])
    assert done.returncode == 137, done.stderr
    last, = said(done.stdout, 'last')
    trace = trace_readers.chrome(path)
    times = [instant.time for track in trace.tracks for instant in track.instants]
    assert max(times) - min(times) < 1.2e9
    waits = trace.track('worker').named('sem wait')
    assert 3 < len(waits) < 250 and any(wait.begin < last < wait.end + 1e3 for wait in waits)
    assert any(instant.name == 'wake' and instant.time > last - 1e3 for instant in trace.track('main').instants)
    assert any(instant.name == 'on CPU' for instant in trace.track('worker').instants)
    assert 'the last 1.000 s' in trace.notes


def test_buffer(profd, helper, tmp_path):
    """A recorder keeps what it has memory for: a MiB of it has 32,768 events, those of a thread in a quarter of it at the least."""
    joins = {}
    for mib in (1, 16):
        path = tmp_path / f'{mib}.perfetto-trace'
        done = run_traced(profd, path, helper('target_trace'), 'many', 5000, options=['--flight=600', f'--trace-buffer={mib}', '--rate', '1'])
        assert done.returncode == 0, done.stderr
        trace = trace_readers.perfetto(path)
        joins[mib] = sum(len(track.named('join thread')) for track in trace.tracks)
    assert joins[16] == 5000 and 1000 < joins[1] < 4000


def test_flight_is_dumped_on_a_signal(profd, helper, tmp_path):
    path = tmp_path / 'flight.trace.json'
    command = [profd, 'run', '--trace', path, '--flight=600', '--', helper('target_trace'), 'ticks', '0']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        tids = tids_of(process.stdout.readline() + process.stdout.readline())
        wait_for_cpu_time(0.15, tids['main'], tids['worker'])
        assert not path.exists()
        process.send_signal(signal.SIGUSR2)
        wait_until(lambda: path.exists() or process.poll() is not None)
        early = trace_readers.chrome(path)
        process.stdin.close()
        assert process.wait(120) == 0
        assert process.stderr.read().count('wrote ') == 2
    assert samples_of(early, 'worker')
    assert 1 <= len(early.track('worker').named('sem wait')) <= len(trace_readers.chrome(path).track('worker').named('sem wait'))


def get(url, timeout=120):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture
def service(agent, helper):
    """A program with a private collector: (case, environment) → its URL."""
    processes = []

    def start(*case, **environment):
        port = free_port()
        env = dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}', **environment)
        process = subprocess.Popen([helper('target_trace'), *(case or ('ticks', '0'))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env=env)
        processes.append(process)
        assert process.stdout.readline().startswith('main ') and process.stdout.readline().split()[0] in ('worker', 'hung')
        return f'http://127.0.0.1:{port}/debug/pprof/trace'

    yield start
    for process in processes:
        process.stdin.close()
        assert process.wait(120) == 0
        process.stdout.close()


def test_http(service, tmp_path):
    url = service()
    traced, tries = False, 0
    while not traced:  # a busy machine may let nobody run for so long
        begin = time.monotonic_ns()
        status, headers, body = get(url + '?seconds=0.5')
        end = time.monotonic_ns()
        assert status == 200 and headers['Content-Type'] == 'application/octet-stream'
        assert headers['Content-Disposition'] == 'attachment; filename="trace.perfetto-trace"'
        (tmp_path / 'x').write_bytes(body)
        trace = trace_readers.perfetto(tmp_path / 'x')
        assert {track.name for track in trace.tracks} <= {'main', 'worker'}
        traced = any(track.name == 'worker' and len(track.named('sem wait')) > 3 for track in trace.tracks)
        tries += 1
        assert tries < 30
    # Of this time alone: there are 5 ms between two.
    assert len(trace.track('worker').named('sem wait')) <= (end - begin) / 5e6 + 2
    assert all(begin < instant.time < end for track in trace.tracks for instant in track.instants)
    # Who lived before is on its own track by its name, and its wait is seen from the next one on.
    status, headers, body = get(url + '?seconds=3&format=chrome&rate=0')
    assert headers['Content-Type'] == 'application/json'
    (tmp_path / 'y').write_bytes(body)
    trace = trace_readers.chrome(tmp_path / 'y')
    assert len(trace.track('worker').named('sem wait')) > 1
    assert not any(instant.name == 'on CPU' for track in trace.tracks for instant in track.instants)
    assert get(url + '?last=5')[0] == 404
    assert get(url + '?format=gif')[0] == 400


def flight(url, path, query='last=60', read=trace_readers.chrome):
    status, _, body = get(f'{url}?{query}{"&format=chrome" if read is trace_readers.chrome else ""}')
    assert status == 200
    path.write_bytes(body)
    return read(path)


def flight_when(enough, *where, **how):
    """The first one that has enough."""
    trace = flight(*where, **how)
    deadline = time.monotonic() + LONG_S
    while not enough(trace):
        assert time.monotonic() < deadline, trace.notes
        time.sleep(0.1)
        trace = flight(*where, **how)
    return trace


def test_flight_over_http(service, tmp_path):
    url = service(PROFD_TRACE='flight:60')
    # Nobody else samples it.
    trace = flight_when(lambda trace: len(samples_of(trace, 'worker')) >= 10, url, tmp_path / 'x')
    assert trace.track('worker').named('alive')[0].args['thread'] == trace.track('main').tid, 'from the very start'
    found = samples_of(trace, 'worker')
    assert all('work_for_ever' in sample.stack for sample in found if 'target_burn' in sample.stack)
    assert any('target_burn' in sample.stack for sample in found)
    assert len({sample.time for sample in found}) == len(found)
    short = flight(url, tmp_path / 'y', 'last=1')
    assert len(short.track('worker').named('sem wait')) < 250
    # A trace from now on that wants none has none.
    (tmp_path / 'y').write_bytes(get(url + '?seconds=1&rate=0&format=chrome')[2])
    assert samples_of(trace_readers.chrome(tmp_path / 'y')) == []


def test_flight_without_samples(service, tmp_path):
    url = service(PROFD_TRACE='flight:60', PROFD_TRACE_RATE='0')
    trace = flight_when(lambda trace: len(trace.track('worker').named('sem wait')) > 50, url, tmp_path / 'x', read=trace_readers.perfetto)
    assert samples_of(trace) == []


def test_flight_of_a_hung_program(service, tmp_path):
    """Who has waited for longer than is asked for waits all that time: until now, not until the last thing that happened anywhere."""
    url = service('hung', PROFD_TRACE='flight:60')

    def lasted(trace):
        waits = [track.named('mutex lock') for track in trace.tracks if track.name == 'hung']
        return waits[0][0].end - waits[0][0].begin if waits and waits[0] else 0

    trace = flight_when(lambda trace: lasted(trace) >= 900 * MS, url, tmp_path / 'x', 'last=1')
    assert lasted(trace) < 1100 * MS and {track.name for track in trace.tracks} == {'hung', 'main'}


def test_flight_into_a_file(agent, helper, tmp_path):
    """The environment alone: what a program that was killed did last is in a file."""
    env = dict(os.environ, LD_PRELOAD=agent, PROFD_TRACE='flight:1', PROFD_TRACE_OUTPUT=str(tmp_path / 'last-%p.trace.json'))
    with subprocess.Popen([helper('target_trace'), 'ticks', '300'], stdout=subprocess.PIPE, text=True, env=env) as process:
        last, = said(process.stdout.read(), 'last')
        assert process.wait(60) == -signal.SIGKILL
        path = tmp_path / f'last-{process.pid}.trace.json'
        wait_until(path.exists)
    waits = trace_readers.chrome(path).track('worker').named('sem wait')
    assert len(waits) > 3 and any(wait.begin < last < wait.end + 1e3 for wait in waits)


EVENTS = '''
import os, sys, time
events = [os.eventfd(0) for _ in range(20)]
import bz2, ctypes, curses, decimal, hashlib, lzma, multiprocessing, sqlite3, ssl, uuid # each a library whose unwind table comes through a descriptor
print('ready', flush=True)
sys.stdin.readline()
for _ in range(12): # it may not be traced at once
    for event in events:
        os.eventfd_write(event, 1)
    time.sleep(0.2)
'''


def test_helpers_descriptors_are_its_own(profd, tmp_path):
    """What the agent's helper opens and closes has numbers that mean something else to the program: what it has by these numbers still wakes."""
    with subprocess.Popen([profd, 'run', '--http', '127.0.0.1:0', '--', '/usr/bin/python3', '-c', EVENTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'ready\n'
        url = re.search(r'http://[0-9.:]+', process.stderr.readline())[0] + '/debug/pprof/'
        get(url + 'profile?seconds=1')
        with urllib.request.urlopen(url + 'trace?seconds=3&format=chrome', timeout=300) as answer:
            process.stdin.write('go\n')
            process.stdin.close()
            (tmp_path / 'x').write_bytes(answer.read())
        assert process.wait(120) == 0
    main, = (track for track in trace_readers.chrome(tmp_path / 'x').tracks if track.tid == track.pid)
    assert len({instant.args['object'] for instant in main.instants if instant.name == 'wake'}) >= 20


def test_bad_settings(profd, helper, tmp_path):
    done = run_traced(profd, tmp_path / 'x.gif', helper('target_trace'), 'many', 1)
    assert done.returncode == 125 and 'cannot tell the format' in done.stderr
    done = subprocess.run([profd, 'run', '--flight', '--', 'true'], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125 and '--flight needs --trace' in done.stderr
    done = subprocess.run([profd, 'run', '--trace-buffer', '5', '--', 'true'], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125 and '--trace-buffer needs --trace' in done.stderr
    done = run_traced(profd, tmp_path / 'x.pftrace', 'true', options=['--trace-buffer=2000'])
    assert done.returncode == 125 and 'not a number from 1 to 1024' in done.stderr

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_wakers.py: links from who is woken to who woke it, through every way of waking that libc has (target_wakers.c), without a change to the
# program: what the consumer does for red stands under who asked for red.

import pytest

import trace_readers
from test_contention import waits  # pylint: disable=unused-import
from test_heap import served  # pylint: disable=unused-import
from waiting import wait_until

KINDS = ['cond', 'sem', 'large', 'deep', 'eventfd', 'eventfd_t', 'pipe', 'socketpair', 'epoll', 'futex']
COLOURS = ['red', 'blue']


def shares(profile, painter, cause):
    """Of the CPU time in painter, the part below a seam above which cause stands."""
    mine = [sample for sample in profile.samples if painter in sample.stack]
    total = sum(sample.values[1] for sample in mine)
    return total, sum(sample.values[1] for sample in mine if cause in sample.stack and '↳ woken by' in sample.stack) / max(total, 1)


def seams_in(profile):
    return {name for sample in profile.samples for name in sample.stack if name.startswith('↳ ')}


@pytest.mark.parametrize('kind', KINDS)
def test_who_asked_for_it(run, helper, kind):
    done = run(helper('target_wakers'), kind, 60, rate=250, options=('--wakers', '--causal'))
    assert done.stdout == 'ready\ndone\n'
    for colour in COLOURS:
        total, share = shares(done.profile, f'paint_{colour}', f'ask_for_{colour}')
        assert total > 3e8
        assert share >= 0.95, (kind, colour, share)
    other, share = shares(done.profile, 'paint_red', 'ask_for_blue')
    assert share <= 0.05
    # Who asks and gets its answer was not woken to do something else.
    asking = [sample for sample in done.profile.samples if sample.stack[-1] in ('_start', 'main') or 'hand_over' in sample.stack[:4]]
    assert all(sample.stack.count('↳ woken by') <= 1 for sample in done.profile.samples), asking


def test_posts_just_in_time(run, helper):
    """A post that comes between a look at the semaphore and the wait for it is seen by nobody: what its thread works for goes on."""
    done = run(helper('target_posts'), 10000, rate=250, options=('--wakers', '--causal'))
    total, share = shares(done.profile, 'paint', 'ask')
    assert total > 2e8
    assert share >= 0.95


def test_time_is_no_waker(run, helper, tmp_path):
    """A wait that ended because its time was over has no waker, whoever was woken there meanwhile: not in the profile, nor in the trace."""
    path = tmp_path / 't.trace.json'
    done = run(helper('target_wakers'), 'timeouts', rate=250, options=('--wakers', '--causal', '--trace', str(path)))
    total, share = shares(done.profile, 'after_time', 'let_one_go')
    assert total > 5e7 and share == 0
    waits_of = trace_readers.chrome(path).track('patient').named('cond wait')
    assert sum('thread' not in wait.args for wait in waits_of) == int(done.stdout) > 5
    assert all('thread' in wait.args for wait in waits_of if wait.end_stack)


@pytest.mark.parametrize('kind', ['cond', 'epoll'])
def test_off_there_is_none(run, helper, kind):
    done = run(helper('target_wakers'), kind, 20, rate=250, options=('--causal',))
    assert not any('↳ woken by' in sample.stack for sample in done.profile.samples)
    assert any('↳ created by' in sample.stack for sample in done.profile.samples)


def test_environment(agent, profd, helper, run):
    done = run(helper('target_wakers'), 'sem', 30, rate=250, options=('--causal',), env={'PROFD_WAKERS': '1'})
    assert shares(done.profile, 'paint_red', 'ask_for_red')[1] >= 0.95


def test_switched_while_it_runs(served, helper):
    target = served('--', helper('target_wakers'), 'sem', 0)
    wait_until(lambda: b'wakers 0\n' in target.get('/debug/pprof/config')[1])
    assert b'wakers 1\n' in target.get('/debug/pprof/config?wakers=1', 'POST')[1]
    wait_until(lambda: shares(target.profile('/debug/pprof/profile?seconds=1&rate=250&causal=1'), 'paint_red', 'ask_for_red')[1] > 0.9)
    assert b'wakers 0\n' in target.get('/debug/pprof/config?wakers=0', 'POST')[1]
    # Nobody goes on under whoever woke it last; who made the thread, stays.
    wait_until(lambda: '↳ woken by' not in seams_in(target.profile('/debug/pprof/profile?seconds=1&rate=250&causal=1')))
    assert seams_in(target.profile('/debug/pprof/profile?seconds=1&rate=250&causal=1')) == {'↳ created by'}


def test_switched_off_for_who_never_waits_again(served, helper):
    """A thread that was woken, and is told of no other wait."""
    target = served('--', helper('target_wakers'), 'sem', 0, 'stuck')
    target.get('/debug/pprof/config?wakers=1', 'POST')

    def dump():
        return target.get('/debug/pprof/goroutine?format=folded&causal=1')[1].decode().splitlines()

    wait_until(lambda: any('↳ woken by' in line for line in dump()))
    target.process.stdin.write('\n')
    target.process.stdin.flush()
    assert target.process.stdout.readline() == 'stuck\n'
    line, = [line for line in dump() if ';be_stuck;' in line]
    assert ';ask_to_be_stuck;hand_over;' in line and '↳ woken by' in line
    target.get('/debug/pprof/config?wakers=0', 'POST')
    wait_until(lambda: not any('↳ woken by' in line for line in dump()))
    line, = [line for line in dump() if ';be_stuck;' in line]
    assert 'ask_to_be_stuck' not in line and '↳ created by' in line


@pytest.mark.parametrize('case', ['mutexes', 'processes', 'rwlocks', 'semaphores', 'barriers', 'c11', 'futex', 'cancel', 'longjmp', 'fork', 'old'])
def test_locks_do_the_same(same, helper, case):
    same(helper('target_sync'), case, options=('--wakers', '--causal'))


# ---- Locks ----------------------------------------------------------------------------------------------------------------

LOCKS = ['mutex', 'timed', 'recursive', 'adaptive', 'robust', 'inherit', 'c11', 'read', 'write']


def seams(sample):
    """The sample's stack, and those that it stands under: the nearest one first, each as a list of functions."""
    parts, part = [], []
    for name in sample.stack:
        if name.startswith('↳ '):
            parts, part = [part, *parts], []
        else:
            part.append(name)
    return [part, *parts]


def under(profile, function, cause, value=1):
    """Of what is in function, the share whose nearest cause is cause; and the share that has it anywhere."""
    mine = [(sample.values[value], seams(sample)) for sample in profile.samples if function in sample.stack]
    total = sum(weight for weight, _ in mine)
    assert total > 0, function
    return (sum(weight for weight, parts in mine if len(parts) > 1 and cause in parts[1]) / total,
            sum(weight for weight, parts in mine if any(cause in part for part in parts[1:])) / total)


@pytest.mark.parametrize('kind', LOCKS)
def test_who_gave_the_lock_over(run, helper, kind):
    """While a thread has a lock that it had to wait for, it is under who gave it back, and still under what it works for."""
    done = run(helper('target_handover'), kind, 60, rate=250, options=('--wakers', '--causal'))
    assert done.stdout == 'ready\ndone\n'
    for colour, other in (('red', 'blue'), ('blue', 'red')):
        nearest, anywhere = under(done.profile, f'paint_{colour}', f'give_{colour}')
        assert nearest >= 0.95 and nearest == anywhere, (kind, colour, nearest, anywhere)
        assert under(done.profile, f'paint_{colour}', f'give_{other}')[1] <= 0.05
        assert under(done.profile, f'paint_{colour}', 'ask')[1] >= 0.9 # what it works for
    # When it has given it back, no more; nor is it handed on to who is woken meanwhile.
    for function, waker in (('paint_afterwards', 'ask'), ('paint_on_its_behalf', 'work')):
        for colour in COLOURS:
            assert under(done.profile, function, f'give_{colour}')[1] <= 0.05, (function, colour)
        assert under(done.profile, function, waker)[0] >= 0.9, function
        assert under(done.profile, function, 'ask')[1] >= 0.9, function


def test_locks_in_the_plain_view(run, helper):
    done = run(helper('target_handover'), 'mutex', 20, rate=250, options=('--wakers',))
    assert not any(name.startswith('↳ ') or name.startswith('give_') for sample in done.profile.samples
                   if 'paint_red' in sample.stack for name in sample.stack)


@pytest.mark.parametrize('kind', ['mutex', 'read', 'write'])
def test_waits_for_locks_are_under_who_had_them(waits, helper, kind):
    """The block profile, causally: each wait under the stack that ended it."""
    _, profile = waits('--block=1', helper('target_handover'), kind, 20, options=('--wakers', '--causal'))
    locks = [sample for sample in profile.samples if sample.labels['wait'] in ('mutex', 'read lock', 'write lock') and 'work' in sample.stack]
    whole = sum(sample.values[1] for sample in locks)
    under_each = [[sample for sample in locks if f'give_{colour}' in seams(sample)[1]] for colour in COLOURS]
    assert sum(sample.values[1] for samples in under_each for sample in samples) >= 0.95 * whole
    assert min(sum(sample.values[0] for sample in samples) for samples in under_each) >= 8, under_each
    assert sum(sample.values[0] for sample in locks) == 20


def test_locks_while_it_runs(served, helper):
    target = served('--', helper('target_handover'), 'mutex', 0)
    assert b'wakers 1\n' in target.get('/debug/pprof/config?wakers=1', 'POST')[1]

    def is_linked():
        profile = target.profile('/debug/pprof/profile?seconds=1&rate=250&causal=1')
        return any('paint_red' in sample.stack for sample in profile.samples) and under(profile, 'paint_red', 'give_red')[0] > 0.9

    wait_until(is_linked)
    plain = target.profile('/debug/pprof/profile?seconds=1&rate=250')
    assert not any('give_red' in sample.stack for sample in plain.samples if 'paint_red' in sample.stack)

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_wakers.py: links from who is woken to who woke it, through every way of waking that libc has (target_wakers.c), without a change to the
# program: what the consumer does for red stands under who asked for red.


import pytest

from test_heap import served, wait_until  # pylint: disable=unused-import

KINDS = ['cond', 'sem', 'eventfd', 'pipe', 'socketpair', 'epoll', 'futex']
COLOURS = ['red', 'blue']


def shares(profile, painter, cause):
    """Of the CPU time in painter, the part below a seam above which cause stands."""
    mine = [sample for sample in profile.samples if painter in sample.stack]
    total = sum(sample.values[1] for sample in mine)
    return total, sum(sample.values[1] for sample in mine if cause in sample.stack and '↳ woken by' in sample.stack) / max(total, 1)


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
    target.get('/debug/pprof/config?wakers=0', 'POST')


@pytest.mark.parametrize('case', ['mutexes', 'processes', 'rwlocks', 'semaphores', 'barriers', 'c11', 'futex', 'cancel', 'longjmp', 'fork', 'old'])
def test_locks_do_the_same(same, helper, case):
    same(helper('target_sync'), case, options=('--wakers', '--causal'))

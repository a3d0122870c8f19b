# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_mutexes.py: mutex and block profiles of mutexes of every kind (target_mutexes.c): recursive, checking, robust, with inheritance or a ceiling, shared
# by processes, elided.

import re
import subprocess

import pytest

from test_contention import CONTENTIONS, DELAY, is_between, sum_of, truths, waits  # noqa: F401 (a fixture)  # pylint: disable=unused-import

MUTEXES = ['normal', 'adaptive', 'recursive', 'errorcheck', 'robust', 'robust-recursive', 'inherit', 'inherit-recursive', 'inherit-errorcheck', 'protect',
           'protect-recursive', 'shared', 'shared-robust']


def run_mutexes(waits, option, helper, *arguments, **more):
    """Its truths, and the profile; skips where a kind is not to be had."""
    alone = subprocess.run([helper('target_mutexes'), arguments[0], '1'], capture_output=True, text=True, timeout=60, check=False)
    if alone.returncode == 77:
        pytest.skip(f'real-time threads are not allowed: {alone.stderr}')
    result, profile = waits(option, helper('target_mutexes'), *arguments, **more)
    return truths(result.stdout), profile


@pytest.mark.parametrize('kind', MUTEXES)
def test_mutexes_of_all_kinds_blame_who_lets_go(waits, helper, kind):
    """Not who gives back one hold of several, nor who fails to give back another's."""
    truth, profile = run_mutexes(waits, '--mutex', helper, kind)
    contentions, delay = sum_of(profile, 'give_back')
    assert contentions == 40 and is_between(delay, truth, 'held', 'held')
    assert sum_of(profile, 'give_back_the_inner') == sum_of(profile, 'give_back_anothers') == [0, 0]


@pytest.mark.parametrize('kind', MUTEXES)
def test_mutexes_of_all_kinds_are_waited_for(waits, helper, kind):
    truth, profile = run_mutexes(waits, '--block=1', helper, kind)
    contentions, delay = sum_of(profile, 'wait_for_it', wait='mutex')
    assert is_between(delay, truth, 'held', 'waited')
    assert 80 == truth['waited'][0] <= contentions <= truth['waited'][0] + 2


def test_mutexes_of_two_processes(waits, helper):
    """Who waits knows what it waited; nobody of its process is to blame for it."""
    truth, profile = run_mutexes(waits, '--block=1', helper, 'processes')
    assert is_between(sum_of(profile, 'wait_for_it', wait='mutex')[DELAY], truth, 'held', 'waited')
    truth, profile = run_mutexes(waits, '--mutex', helper, 'processes')
    assert sum(sample.values[DELAY] for sample in profile.samples) < 0.05 * truth['held'][1]


def test_mutexes_with_elision(waits, helper, same):
    """Where the CPU has transactions, glibc elides locks if told to: the lock's word then stays free while it is held."""
    with open('/proc/cpuinfo', encoding='ascii') as file:
        if not re.search(r'^flags.*\brtm\b', file.read(), re.M):
            pytest.skip('the CPU has no transactional memory (TSX)')
    env = {'GLIBC_TUNABLES': 'glibc.elision.enable=1'}
    same(helper('target_sync'), 'mutexes', options=('--block=1', '--mutex'), env=env)
    truth, profile = run_mutexes(waits, '--mutex', helper, 'normal', env=env)
    assert is_between(sum_of(profile, 'give_back')[DELAY], truth, 'held', 'held')

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_threads.py: threads of every making: very many, very short, made without pthread_create, made before the agent was there.

import os
import re
import subprocess

import pytest

from test_process import cpu_in, near

# PROFD_THREADS=1000000 for the full measure: a minute on a machine that has nothing else to do, twenty on one that has.
THREADS = int(os.environ.get('PROFD_THREADS', '300000'))


@pytest.mark.figures
def test_many_threads_one_after_the_other(same, helper):
    result = same(helper('target_threads'), 'many', THREADS, timeout=max(400, THREADS // 500))
    assert result.stdout == f'{THREADS} threads\n'
    assert 'threads not sampled' not in ' '.join(result.profile.comments)
    assert result.profile.share('make_and_join') > 0.3


@pytest.mark.figures
def test_many_threads_at_once(same, helper):
    """10,000 alive: each burns 2 ms, and together that is seen."""
    result = same(helper('target_threads'), 'alive', 10000, timeout=200)
    assert cpu_in(result.profile, 'run_alive') >= 0.25
    # What was due when a thread ended is charged to its start routine.
    assert 20 * 0.75 <= result.profile.cpu_seconds() <= 20 * 1.5
    assert len({sample.labels['thread_id'] for sample in result.profile.samples}) > 1000


def peak_kilobytes(*command, **environment):
    with subprocess.Popen([*map(str, command)], env=dict(os.environ, **environment), stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss


@pytest.mark.figures
def test_memory_of_10_000_sampled_threads(agent, helper, tmp_path):
    """All that the agent adds to the program's own memory: at most 64 MB."""
    alone = peak_kilobytes(helper('target_threads'), 'alive', 10000)
    sampled = peak_kilobytes(helper('target_threads'), 'alive', 10000, LD_PRELOAD=agent, PROFD_OUTPUT=str(tmp_path / 'x.folded'),
                             PROFD_RATE='100')
    assert sampled - alone <= 64000


@pytest.mark.figures
def test_short_threads(same, helper, tmp_path):
    """300 threads of 5 ms at 100 Hz: half of them are hit, and what is hit is their own work."""
    profile = same(helper('target_threads'), 'short', 300, tmp_path / 'seconds', rate=100).profile
    real = float((tmp_path / 'seconds').read_text())
    assert real * 0.75 <= cpu_in(profile, 'short_lived') <= real * 1.35
    assert profile.complete() >= 0.95


@pytest.mark.parametrize('count', [1, 3])
def test_raw_clone(same, helper, count):
    profile = same(helper('target_threads'), 'clone', count).profile
    assert cpu_in(profile, 'raw_burn') >= 0.2  # from the helper's next look on


def test_c11_threads(same, helper):
    profile = same(helper('target_threads'), 'c11').profile
    assert cpu_in(profile, 'c11_burn') >= 0.4


def test_threads_from_before_the_agent(same, helper):
    profile = same(helper('target_threads'), 'early', env={'LD_PRELOAD': helper('early.so')}).profile
    assert cpu_in(profile, 'early_burn') >= 0.9


def test_thread_born_with_all_signals_blocked(same, helper):
    profile = same(helper('target_threads'), 'attrmask').profile
    assert cpu_in(profile, 'masked_burn') >= 0.3


def test_ends_of_threads(same, helper):
    """pthread_exit with a destructor that works, and asynchronous cancellation."""
    profile = same(helper('target_threads'), 'ends').profile
    assert cpu_in(profile, 'burn_in_destructor') >= 0.35
    assert cpu_in(profile, 'exit_with_key') >= 0.2


def test_names(same, helper):
    profile = same(helper('target_threads'), 'names').profile
    used = {}
    for sample in profile.samples:
        used[sample.labels['thread_name']] = used.get(sample.labels['thread_name'], 0) + sample.values[1] / 1e9
    assert used['worker-a'] >= 0.25 and used['worker-b'] >= 0.25


# ---- Modules that come and go ------------------------------------------------------------------------------------------

@pytest.mark.figures
def test_dlopen_and_dlclose(same, helper):
    profile = same(helper('target_dl'), helper('plugin.so'), 2000).profile
    assert cpu_in(profile, 'burn_meanwhile') >= 1.0
    assert cpu_in(profile, 'plugin_inner') >= 0.1  # that much was loaded for long enough to be looked at
    assert profile.complete() >= 0.9

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_heap_maps.py: what a program maps itself, in its heap profile (--heap-mmap): programs that know what they map (target_maps.c), with libc's
# allocator and with those that map by libc's functions; and real ones.

import re
import shutil
import subprocess

import pytest

# pylint: disable=unused-import
from test_heap import (ALLOC_OBJECTS, ALLOCATORS, INUSE_OBJECTS, INUSE_SPACE, allocator, assert_exact, comment, heap, served, truths,  # noqa: F401
                       values_of)

FUNCTIONS = {'heap_plain', 'heap_trimmed', 'heap_over', 'heap_reserved', 'heap_used', 'heap_moved', 'heap_left', 'heap_file', 'heap_failing'}
MAPS = ['--heap-mmap']


@pytest.fixture
def maps(heap, helper):  # noqa: F811
    """maps(case…): result and profile of target_maps, at a rate at which next to nothing that is allocated is sampled."""
    return lambda *case, rate=2**30, **more: heap(helper('target_maps'), *case, rate=rate, options=MAPS, **more)


@pytest.mark.parametrize('freed', [0, 1])
def test_known(maps, freed):
    result, profile = maps('known', freed)
    truth = truths(result.stdout)
    assert result.returncode == 0, result.stderr + result.stdout
    assert set(truth) == FUNCTIONS
    assert_exact(profile, truth)
    # Nothing else is: neither what libc and ld.so map, nor the agent.
    mapped = [sample.values for sample in profile.samples if 'mapped' in sample.labels]
    assert [sum(values) for values in zip(*mapped)] == [sum(values[i] for values in truth.values()) for i in (2, 3, 0, 1)]
    assert comment(profile, 'heap: a sample for 1073741824 bytes allocated, on average; and all that the program maps itself (label mapped)')


def test_told_apart(maps):
    """By a label, and by the function that was called."""
    _, profile = maps('known', rate=1)
    by = {'heap_plain': 'mmap', 'heap_trimmed': 'mmap', 'heap_over': 'mmap', 'heap_used': 'mprotect', 'heap_moved': 'mremap', 'heap_left': 'mremap',
          'heap_failing': 'mmap'}
    seen = set()
    for sample in profile.samples:
        assert sample.labels.get('mapped') == (sample.stack[-1] if sample.stack[-1] in ('mmap', 'mremap', 'mprotect') else None)
        if sample.stack[-2] in by:
            assert sample.labels['mapped'] == by[sample.stack[-2]]
            seen.add(sample.stack[-2])
    assert seen == set(by)
    assert any('mapped' not in sample.labels for sample in profile.samples) # stdio's buffer
    assert {sample.labels['bytes'] for sample in profile.samples if 'heap_trimmed' in sample.stack} == {40960}


def test_off(heap, helper):  # noqa: F811
    result, profile = heap(helper('target_maps'), 'known')
    assert result.returncode == 0
    assert not any('mapped' in sample.labels or FUNCTIONS & set(sample.stack) - {'heap_file'} for sample in profile.samples)
    assert not comment(profile, 'heap: a sample for 1 bytes allocated, on average; ')


def test_threads_handlers_and_forks(maps):
    result, profile = maps('busy')
    assert result.returncode == 0, result.stderr + result.stdout
    truth = truths(result.stdout)
    assert truth['heap_handler'][2] > 0
    assert_exact(profile, {name: truth[name] for name in ('heap_handler', 'heap_plain')})
    profile.samples = [sample for sample in profile.samples if 'heap_handler' not in sample.stack] # it interrupts the others
    assert_exact(profile, {'heap_thread': truth['heap_thread']})
    assert all(any(name.startswith('heap_') for name in sample.stack) for sample in profile.samples if 'mapped' in sample.labels)
    # Children have profiles of their own; one that ends before the collector has heard of it is not seen.
    assert values_of(profile, 'heap_child')[ALLOC_OBJECTS] in range(5, 31)
    assert values_of(profile, 'heap_child')[INUSE_OBJECTS] == 0


@pytest.mark.parametrize('library', ALLOCATORS)
def test_allocators(heap, helper, library):  # noqa: F811
    """What the program maps is the same with each. Those that map by libc's functions are seen doing it, and their objects as well."""
    env = {'LD_PRELOAD': allocator(library)} if library else {}
    result, profile = heap(helper('target_maps'), 'known', options=MAPS, rate=2**30, env=env)
    assert result.returncode == 0, result.stderr
    assert_exact(profile, truths(result.stdout))
    result, profile = heap(helper('target_heap'), 'family', 1, int(library != 'jemalloc'), options=MAPS, env=env)
    assert result.returncode == 0, result.stderr
    assert_exact(profile, {name: truth for name, truth in truths(result.stdout).items() if not library})
    objects = [sample for sample in profile.samples if 'heap_family' in sample.stack and 'mapped' not in sample.labels]
    assert sum(sample.values[ALLOC_OBJECTS] for sample in objects) == 10000
    assert sum(sample.values[INUSE_OBJECTS] for sample in objects) == 0


def test_leaks(profd, helper):
    result = subprocess.run([profd, 'run', '--heap', *MAPS, '--leaks=0', '--', helper('target_maps'), 'lost'], capture_output=True, text=True,
                            timeout=60, check=False)
    assert result.returncode == 0
    # In two pieces.
    assert re.search(r'leaks:   5\.00 MiB in 2 objects, .* from\nprofd: leaks:     mmap\nprofd: leaks:     heap_lost  ', result.stderr), result.stderr


def test_over_http(served, helper):  # noqa: F811
    target = served('--heap=524288', '--', helper('target_maps'), 'known', 0, 'wait')
    assert b'heap_mmap 0\n' in target.get('/debug/pprof/config')[1]
    assert target.get('/debug/pprof/config?heap_mmap=2', 'POST')[0].status == 400
    assert b'heap_mmap 1\n' in target.get('/debug/pprof/config?heap_mmap=1', 'POST')[1]
    target = served('--heap=524288', *MAPS, '--', helper('target_maps'), 'known', 0, 'wait')
    truth = truths(target.text)
    text = target.get('/debug/pprof/heap?debug=1')[1].decode()
    entries = re.findall(r'^(\d+): (\d+) \[(\d+): (\d+)\] @(?: 0x[0-9a-f]+)+\n((?:#\t.*\n)+)', text, re.M)
    for function, values in truth.items(): # as they are: nothing was sampled
        assert [sum(int(entry[i]) for entry in entries if f'\t{function}+0x' in entry[4]) for i in range(4)] == values, function
    folded = target.get('/debug/pprof/heap?format=folded')[1].decode()
    assert sum(int(line.rsplit(' ', 1)[1]) for line in folded.splitlines() if ';heap_plain;mmap ' in line) == truth['heap_plain'][1]
    assert 'heap_mmap=0|1' in target.get('/debug/pprof/config', 'POST')[1].decode()


def test_python_maps_its_arenas(heap):  # noqa: F811
    """What pymalloc gives out of the arenas that it maps, nobody sees otherwise."""
    script = 'import os; kept = [str(i) * 3 for i in range(400000)]; print(len(kept), flush=True); os._exit(0)'
    result, profile = heap('/usr/bin/python3', '-c', script, rate=524288, options=MAPS)
    assert result.stdout == '400000\n'
    mapped = sum(sample.values[INUSE_SPACE] for sample in profile.samples if 'mapped' in sample.labels)
    assert 20e6 < mapped < 40e6 # strings of some 60 bytes


def test_node_makes_its_heap_accessible(heap):  # noqa: F811
    """V8 reserves gigabytes, and makes of them accessible what it needs: what it says itself is what is seen."""
    if not shutil.which('node'):
        pytest.skip('node is not installed')
    script = "let kept = []; for (let i = 0; i < 300000; i++) kept.push({i, s: 'x' + i}); console.log(process.memoryUsage().heapTotal); process.reallyExit(0)"
    result, profile = heap('node', '-e', script, rate=2**30, options=MAPS)
    mapped = sum(sample.values[INUSE_SPACE] for sample in profile.samples if sample.labels.get('mapped') == 'mprotect')
    assert mapped == pytest.approx(int(result.stdout), rel=0.1)

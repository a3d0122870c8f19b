# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_paths.py: no stack is taken for another one. target_paths.c goes along random paths, many of them at the same SP, and says of each what its
# stack is; every allocation is a sample, and its size says which path it is of. With wakers, that of whoever woke the thread that allocates.

import subprocess

import pprof_reader
import pytest

MADE_BYTES = 64


def read_truth(text):
    """(address → name of code made at run time), (size → count, names outermost first)"""
    made, paths = {}, {}
    for line in text.splitlines():
        what, *words = line.split()
        if what == 'code':
            made[int(words[1], 16)] = words[0]
        else:
            paths[int(words[0])] = (int(words[1]), words[2:])
    return made, paths


def own_names(stack, made):
    """What the program knows of, of a stack."""
    out = []
    for name in stack:
        if name.startswith('step_'):
            out.append(name)
        elif name.startswith('0x'):
            out += [code for start, code in made.items() if start <= int(name, 16) < start + MADE_BYTES]
    return out


@pytest.mark.parametrize('options, arguments', [((), (3, 2000, 1)), (('--wakers', '--causal'), (1, 500, 1, 'wakes'))], ids=['allocate', 'wake'])
def test_every_stack_is_its_own(profd, helper, tmp_path, options, arguments):
    output = str(tmp_path / 'heap.pb.gz')
    result = subprocess.run([profd, 'run', '--heap=1', *options, '-o', output, '--', helper('target_paths'), *map(str, arguments)], text=True,
                            capture_output=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    made, paths = read_truth(result.stdout)
    counted, wrong = dict.fromkeys(paths, 0), []
    for sample in pprof_reader.read(output).samples:
        size = sample.labels.get('bytes')
        if size in paths:
            counted[size] += sample.values[0]
            wrong += [(paths[size][1], sample.stack)] if own_names(sample.stack, made) != paths[size][1] else []
    assert not wrong, (len(wrong), wrong[0])
    assert counted == {size: count for size, (count, _) in paths.items()}
    assert sum('made_a' in names for _, names in paths.values()) > 50

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench causal

"""[--rounds N]

ns that a call takes its caller, 10, 30 and 100 frames deep, with the agent preloaded and without: pthread_create, and those of
include/profd.h."""

import collections
import os
import statistics
import subprocess
import tempfile

from bench_tools import PROFD, prepare, say_machine


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=5)


def run(options):
    program, = prepare('bench_causal')
    say_machine()
    times = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        profiled = [PROFD, 'run', '-o', os.path.join(directory, 'out.folded'), '--']
        for _ in range(options.rounds):
            for frames in ('10', '30', '100'):
                for variant, before in (('without', []), ('profd', profiled)):
                    text = subprocess.run([*before, program, frames], capture_output=True, text=True, check=True).stdout
                    for name, time_ns in map(str.split, text.splitlines()):
                        times[name, frames, variant].append(float(time_ns))
    print('ns a call takes its caller, without the agent / with it: medians of the rounds\' medians')
    print(f'  {"call":14}{"10 frames":>20}{"30 frames":>20}{"100 frames":>20}')
    for name in dict.fromkeys(key[0] for key in times):
        cells = [' / '.join(f'{statistics.median(times[name, frames, variant]):.0f}' for variant in ('without', 'profd'))
                 for frames in ('10', '30', '100')]
        print(f'  {name:14}' + ''.join(f'{cell:>20}' for cell in cells))

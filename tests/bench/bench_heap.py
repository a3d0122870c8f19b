# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench heap

"""[--rounds N] [--pairs MILLIONS] [--steps N]

what heap profiling costs a program that allocates and frees some 10 million objects a second on two threads: wall time, CPU of
everything and peak memory, as ratios to a run without profiler in the same round: profd preloaded and off, and with a sample
every 512 KiB; heaptrack; gperftools' tcmalloc, plain, sampling, and with its heap profiler. --steps 0: nothing but malloc and free."""

import collections
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from bench_tools import PROFD, fail, prepare, say_load, say_machine, spread

Variant = collections.namedtuple('Variant', 'name rate kind')
NONE = Variant('none', 0, 'none')
TCMALLOC = '/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4'
VARIANTS = [
    Variant('none (control)', 0, 'none'), Variant('profd, off', 0, 'off'), Variant('profd, 512 KiB', 524288, 'on'),
    Variant('heaptrack', 0, 'heaptrack'), Variant('tcmalloc', 0, 'tcmalloc'), Variant('tcmalloc, sampling 512 KiB', 524288, 'tcmalloc-sample'),
    Variant('tcmalloc, HEAPPROFILE', 0, 'tcmalloc-profile')]
Run = collections.namedtuple('Run', 'wall_s tree_cpu_s peak_kib pairs')


def command_of(variant, program, directory):
    environment = dict(os.environ)
    if variant.kind == 'off':
        return [PROFD, 'run', '--http', '127.0.0.1:0', '--', *program], environment
    if variant.kind == 'on':
        return [PROFD, 'run', f'--heap={variant.rate}', '-o', os.path.join(directory, 'heap.pb.gz'), '--', *program], environment
    if variant.kind == 'heaptrack':
        return ['heaptrack', '-o', os.path.join(directory, 'heaptrack'), *program], environment
    if variant.kind.startswith('tcmalloc'):
        environment['LD_PRELOAD'] = TCMALLOC
    if variant.kind == 'tcmalloc-sample':
        environment['TCMALLOC_SAMPLE_PARAMETER'] = str(variant.rate)
    if variant.kind == 'tcmalloc-profile':
        environment['HEAPPROFILE'] = os.path.join(directory, 'heap')
    return program, environment


def run_once(variant, program):
    with tempfile.TemporaryDirectory() as directory:
        command, environment = command_of(variant, program, directory)
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True) as process:
            stdout = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    figures = [re.search(rf'{name} ([\d.]+)', stdout) for name in ('wall', 'peak KiB', 'pairs a second')]
    if process.returncode != 0 or not all(figures):
        fail(f'{" ".join(command)} ended with status {process.returncode}')
    wall, peak, pairs = (float(figure[1]) for figure in figures)
    return Run(wall, usage.ru_utime + usage.ru_stime, peak, pairs)


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--pairs', type=int, default=15, help='millions, of each thread')
    parser.add_argument('--steps', type=int, default=160)


def run(options):
    path, = prepare('bench_heap')
    say_machine()
    program = [path, '2', str(options.pairs), str(options.steps)]
    there = {'heaptrack': shutil.which('heaptrack'), 'tcmalloc': os.path.exists(TCMALLOC)}
    variants = [variant for variant in VARIANTS if there.get(variant.kind.partition('-')[0], True)]
    runs = {variant: [] for variant in [NONE, *variants]}
    run_once(NONE, program)
    for number in range(options.rounds):
        order = [NONE, *variants]
        random.shuffle(order)
        for variant in order:
            runs[variant].append(run_once(variant, program))
        print(f'\rheap: round {number + 1} of {options.rounds}', end='', file=sys.stderr, flush=True)
    print('\r\033[K', end='', file=sys.stderr)
    base = runs[NONE]
    print(f'{statistics.median(run.pairs for run in base):.1f} million pairs of malloc and free a second on two threads, '
          f'{statistics.median(run.wall_s for run in base):.2f} s; {options.rounds} rounds; ratio to the unprofiled run of the same round: median (quartiles)')
    print(f'  {"profiler":28} {"own wall time":22} {"CPU, whole tree":22} {"peak MiB":>8}')
    for variant in variants:
        pairs = list(zip(runs[variant], base))
        print(f'  {variant.name:28} {spread([run.wall_s / other.wall_s for run, other in pairs]):22} '
              f'{spread([run.tree_cpu_s / other.tree_cpu_s for run, other in pairs]):22} '
              f'{statistics.median(run.peak_kib for run in runs[variant]) / 1024:8.1f}')
    say_load()

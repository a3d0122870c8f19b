# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench cpu

"""[--rounds N] [--program deep|sqlite3] [--only REGEX]

what profiling costs: wall time and whole-tree CPU of a program, as ratios to a run without profiler in the same round, for
profd, gperftools (its shared timer, and CPUPROFILE_PER_THREAD_TIMERS=1), perf, and an empty handler on profd's clocks; how
many signals or samples there were, and the KB written for 1,000 of them. The programs: two threads 30 calls deep, and sqlite3
on a CPU-bound script. A second run without profiler in each round shows the machine's own noise."""

import collections
import os
import random
import re
import statistics
import struct
import subprocess
import sys
import tempfile

from bench_tools import BUILD, PROFD, ROOT, fail, prepare, say_machine, spread

GPERFTOOLS = '/usr/lib/x86_64-linux-gnu/libprofiler.so.0'
Run = collections.namedtuple('Run', 'wall_s tree_cpu_s samples written')
Program = collections.namedtuple('Program', 'name command stdin')
Variant = collections.namedtuple('Variant', 'name rate kind')
NONE = Variant('none', 0, 'none')
CPU_VARIANTS = [
    Variant('none (control)', 0, 'none'),
    *(Variant(f'profd {rate} Hz', rate, 'profd') for rate in (100, 250, 1000, 10000)),
    *(Variant(f'empty handler, CPU timer {rate} Hz', rate, 'empty-cpu') for rate in (100, 250)),
    *(Variant(f'empty handler, perf event {rate} Hz', rate, 'empty-perf') for rate in (1000, 10000)),
    *(Variant(f'gperftools {rate} Hz', rate, 'gperftools') for rate in (100, 1000)),
    *(Variant(f'gperftools {rate} Hz per thread', rate, 'per-thread') for rate in (100, 1000)),
    *(Variant(f'perf record --call-graph {how} {rate} Hz', rate, f'perf-{how}') for how in ('fp', 'dwarf') for rate in (100, 1000))]


def command_of(variant, program, output):
    environment = dict(os.environ)
    family, _, how = variant.kind.partition('-')
    if family == 'profd':
        return [PROFD, 'run', '--rate', str(variant.rate), '--max-overhead', '100', '-o', output, '--format', 'pprof', '--',
                *program.command], environment
    if family == 'perf':
        return ['perf', 'record', '-q', '-e', 'cpu-clock', '-F', str(variant.rate), '--call-graph', how, '-o', output, '--',
                *program.command], environment
    if family == 'empty':
        environment.update(LD_PRELOAD=os.path.join(BUILD, 'tests/bench/bench_empty.so'), EMPTY_RATE=str(variant.rate),
                           EMPTY_CLOCK=how, EMPTY_OUTPUT=output)
    elif family in ('gperftools', 'per'):
        environment.update(LD_PRELOAD=GPERFTOOLS, CPUPROFILE=output, CPUPROFILE_FREQUENCY=str(variant.rate))
        if family == 'per':
            environment['CPUPROFILE_PER_THREAD_TIMERS'] = '1'
    return program.command, environment


def gperftools_samples(path):
    """Of its binary format: a header of five words, then (count, depth, PCs…) until depth 1, PC 0."""
    with open(path, 'rb') as file:
        data = file.read()
    words = struct.unpack(f'<{len(data) // 8}Q', data[:len(data) // 8 * 8])
    at, total = 2 + words[1], 0
    while at + 2 < len(words) and not (words[at] == 0 and words[at + 1] == 1 and words[at + 2] == 0):
        total += words[at]
        at += 2 + words[at + 1]
    return total


def perf_samples(path):
    """Its own report's headers say how many there are."""
    report = subprocess.run(['perf', 'report', '-i', path, '--stats'], capture_output=True, text=True, check=False).stdout
    return int(re.search(r'SAMPLE events:\s+(\d+)', report)[1])


def signals_of(variant, output, stderr):
    """How often the program was interrupted for a sample."""
    if variant.kind == 'profd':
        reached = re.search(r', reached (\d+)', stderr)  # said when it is clearly less than asked for
        return int(re.search(r'(\d+) samples', stderr)[1]) * (int(reached[1]) / variant.rate if reached else 1)
    if variant.kind.startswith('perf'):
        return perf_samples(output)
    if variant.kind.startswith('empty'):
        with open(output, encoding='ascii') as file:
            return int(file.read())
    return gperftools_samples(output)


def run_once(variant, program):
    """One run: the program's own wall time, the CPU time of all processes that were started for it, what it left."""
    with tempfile.TemporaryDirectory() as directory:
        output = os.path.join(directory, 'profile')
        command, environment = command_of(variant, program, output)
        with open(program.stdin or os.devnull, encoding='utf-8') as stdin, \
                subprocess.Popen(command, env=environment, stdin=stdin, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True) as process:
            stdout = process.stdout.read()
            stderr = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = re.search(r'wall ([\d.]+)', stdout)
        if process.returncode != 0 or not wall:
            fail(f'{" ".join(command)} ended with status {process.returncode}: {stderr[-1000:]}')
        tree_cpu_s = usage.ru_utime + usage.ru_stime
        if variant.kind == 'none':
            return Run(float(wall[1]), tree_cpu_s, None, None)
        return Run(float(wall[1]), tree_cpu_s, signals_of(variant, output, stderr), os.path.getsize(output))


def print_cpu(variant, runs, base):
    samples = written = ''
    if variant.kind != 'none':
        count = statistics.median(run.samples for run in runs)
        samples = f'{count:.0f}'
        if not variant.kind.startswith('empty') and count:
            written = f'{statistics.median(run.written for run in runs) / count:.1f}'
    pairs = list(zip(runs, base))
    print(f'  {variant.name:38} {spread([run.wall_s / other.wall_s for run, other in pairs]):22} '
          f'{spread([run.tree_cpu_s / other.tree_cpu_s for run, other in pairs]):22} {samples:>8} {written:>10}')


def measure_cpu(program, variants, rounds):
    runs = {variant: [] for variant in variants}
    base = []
    run_once(NONE, program)  # warms the caches
    for number in range(rounds):
        order = [NONE, *variants]
        random.shuffle(order)
        for variant in order:
            (base if variant is NONE else runs[variant]).append(run_once(variant, program))
        print(f'\r{program.name}: round {number + 1} of {rounds}', end='', file=sys.stderr, flush=True)
    print('\r\033[K', end='', file=sys.stderr)
    wall, cpu = (statistics.median(run[i] for run in base) for i in range(2))
    print(f'{program.name}: {wall:.2f} s of wall time, {cpu:.2f} s of CPU without profiler; {rounds} rounds; ratio to the unprofiled '
          f'run of the same round: median (quartiles)')
    print(f'  {"profiler":38} {"own wall time":22} {"CPU, whole tree":22} {"signals":>8} {"KB per 1000":>10}')
    for variant in variants:
        print_cpu(variant, runs[variant], base)
    print()


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=11)
    parser.add_argument('--program', choices=['deep', 'sqlite3'])
    parser.add_argument('--only', default='')


def run(options):
    deep, _ = prepare('bench_deep', 'bench_empty.so')
    if not os.path.exists(GPERFTOOLS):
        fail(f'there is no {GPERFTOOLS}')
    say_machine()
    programs = [Program('deep', [deep], None),
                Program('sqlite3', ['/usr/bin/sqlite3', ':memory:'], os.path.join(ROOT, 'tests/bench/cpu.sql'))]
    for program in programs:
        if options.program in (None, program.name):
            measure_cpu(program, [variant for variant in CPU_VARIANTS if re.search(options.only, variant.name)], options.rounds)

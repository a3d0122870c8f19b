# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench registry

"""[--rounds N] [--seconds N]

reads and joins a second of the agent's thread table at 1 to 64 threads, beside the same table behind a mutex and behind a
read-write lock: medians over the rounds. At the end the README's rows, with the range of the rounds."""

import collections
import statistics
import subprocess
import sys

from bench_tools import prepare, say_load, say_machine


def people(number):
    for unit, suffix in ((1e6, ' M'), (1e3, ' k')):
        if number >= unit:
            return f'{number / unit:.3g}{suffix}'
    return f'{number:.3g}'


def latency(ns):
    return f'{ns / 1e6:.3g} ms' if ns >= 1e6 else f'{ns / 1e3:.0f} µs' if ns >= 10e3 else f'{ns / 1e3:.2g} µs'


def print_registry(title, side, results):
    print(title)
    names = list(dict.fromkeys(key[2] for key in results))
    print('  threads ' + ''.join(f'{name:^33}' for name in names))
    print('          ' + ''.join(f'{"reads/s":>11}{"joins/s":>11}{"p99.9":>11}' for _ in names))
    for threads in sorted({key[1] for key in results}):
        cells = [[statistics.median(column) for column in zip(*results[side, threads, name])] for name in names]
        print(f'  {threads:7} ' + ''.join(f'{people(reads):>11}{people(joins):>11}{latency(p999):>11}'
                                          for reads, joins, p999 in cells))
    print()


def over_rounds(values, show=people):
    """The median, and in which range all rounds were."""
    return f'{show(statistics.median(values))} ({show(min(values))}–{show(max(values))})'


def print_registry_rows(results, rounds):
    """What the README has, who wins or loses: all three tables at 64 threads, both sides, reads and joins."""
    cells = {}
    for side in ('readers', 'joiners'):
        for name in ('profd', 'mutex', 'rwlock'):
            reads, joins, p999 = zip(*results[side, 64, name])
            cells[side, name] = (f'reads {over_rounds(reads)}, joins {over_rounds(joins)}, '
                                 f'p99.9 of a join {over_rounds(p999, latency)}')
    print(f'README (medians of {rounds} rounds, and their range):')
    for side, title in (('readers', '64 readers, one that joins'), ('joiners', '64 that join, one reader')):
        print(f'| table of 1,000 threads, per second: {title} | {cells[side, "profd"]} | behind a mutex: {cells[side, "mutex"]}; '
              f'read-write lock: {cells[side, "rwlock"]} | `scripts/bench registry` |')


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--seconds', type=float, default=0.5)


def run(options):
    registry, = prepare('bench_registry')
    say_machine()
    results = collections.defaultdict(list)
    for number in range(options.rounds):
        print(f'\rround {number + 1} of {options.rounds}', end='', file=sys.stderr, flush=True)
        output = subprocess.run([registry, str(options.seconds)], capture_output=True, text=True, check=True).stdout
        for line in output.splitlines():
            side, threads, name, *values = line.split()
            results[side, int(threads), name].append([float(value) for value in values])
    print('\r\033[K', end='', file=sys.stderr)
    print('A table of 1,000 threads. A read copies all of them, a join is a way in and out again; p99.9 is the time of a join. Medians.')
    print_registry('N readers, one that joins', 'readers', results)
    print_registry('N that join, one reader', 'joiners', results)
    print_registry_rows(results, options.rounds)
    say_load()

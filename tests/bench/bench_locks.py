# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench locks

"""[--rounds N]

ns of uncontended pairs of calls on a mutex, a read-write lock and a semaphore, of mmap and munmap, and of a sem_post that wakes, 12 calls
deep: without the agent (twice: the machine's noise), with it and nothing switched on, with mutex and block profiles, with wakers, with
the heap and what is mapped; and the wall time of two threads that contend for a mutex."""

import collections
import random
import statistics
import subprocess
import sys

from bench_tools import PROFD, prepare, say_load, say_machine

LOCK_VARIANTS = {'plain': None, 'plain (control)': None, 'agent, all off': [], 'mutex and block': ['--mutex=1', '--block=10000'],
                 'wakers': ['--wakers'], 'heap and maps': ['--heap', '--heap-mmap']}


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=11)


def run(options):
    program, = prepare('bench_locks')
    say_machine()
    results = collections.defaultdict(list)
    for number in range(options.rounds):
        print(f'\rround {number + 1} of {options.rounds}', end='', file=sys.stderr, flush=True)
        for name, extra in random.sample(list(LOCK_VARIANTS.items()), len(LOCK_VARIANTS)):
            command = [program] if extra is None else [PROFD, 'run', '--http', '127.0.0.1:0', *extra, '--', program]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for line in output.splitlines():
                what, value = line.split()
                results[name, what].append(float(value))
    print('\r\033[K', end='', file=sys.stderr)
    print(f'ns a call pair (wake: a call; contended: a round of each of two threads); medians of {options.rounds} rounds, lowest in brackets')
    whats = list(dict.fromkeys(what for _, what in results))
    print(f'  {"":18}' + ''.join(f'{what:>18}' for what in whats))
    for name in LOCK_VARIANTS:
        print(f'  {name:18}' + ''.join(f'{statistics.median(results[name, what]):10.1f} ({min(results[name, what]):.1f})'.rjust(18) for what in whats))
    say_load()

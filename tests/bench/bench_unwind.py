# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench unwind

"""[--rounds N]

ns per stack walk, 10, 30 and 100 frames deep, for profd's tables, frame pointers, libunwind and glibc's backtrace(); size of
the tables of real files, and rows compiled per second."""

import collections
import statistics
import subprocess

from bench_tools import prepare, say_machine

UNWIND_FILES = ['/lib/x86_64-linux-gnu/libc.so.6', '/usr/lib/x86_64-linux-gnu/libstdc++.so.6', '/usr/lib/x86_64-linux-gnu/libcrypto.so.3',
                '/usr/lib/x86_64-linux-gnu/libsqlite3.so.0', '/usr/bin/python3', '/usr/bin/redis-server', '/usr/sbin/nginx', '/usr/bin/node']


def print_walks(walks):
    """walks: (walker, state) → for each depth, the frames seen and the times of all rounds."""
    print('ns per walk (frames seen): the median of the rounds. Warm: the same stack again and again; cold: the walker\'s own cache is empty;')
    print('evicted: cold, and 16 MiB of other memory were read before. Every walker but frame pointers has the same stack, without them.')
    print(f'  {"walker":22}{"state":10}{"10 frames":>16}{"30 frames":>16}{"100 frames":>16}')
    for (walker, state), depths in walks.items():
        cells = [f'{statistics.median(times):.0f} ({frames})' for frames, times in depths.items()]
        print(f'  {walker:22}{state:10}' + ''.join(f'{cell:>16}' for cell in cells))
    print()


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=5)


def run(options):
    unwind, = prepare('bench_unwind')
    say_machine()
    walks = collections.defaultdict(lambda: collections.defaultdict(list))
    for _ in range(options.rounds):
        for line in subprocess.run([unwind, 'walks'], capture_output=True, text=True, check=True).stdout.splitlines():
            walker, frames, state, time_ns = line.split()
            walks[walker, state][int(frames)].append(float(time_ns))
    print_walks(walks)
    print(f'  {"file":44}{"table, KiB":>11}{"text, KiB":>11}{"per text":>10}{"rows":>9}{"rules":>7}{"no rule":>9}{"ms":>8}{"M rows/s":>10}')
    tables = subprocess.run([unwind, 'tables', *UNWIND_FILES], capture_output=True, text=True, check=True).stdout
    for line in tables.splitlines():
        path, *values, seconds = line.split()
        size, text, rows, rules, unsupported = map(int, values)
        print(f'  {path:44}{size / 1024:11.0f}{text / 1024:11.0f}{size / text:10.3f}{rows:9}{rules:7}{unsupported:9}'
              f'{float(seconds) * 1000:8.2f}{rows / float(seconds) / 1e6:10.1f}')

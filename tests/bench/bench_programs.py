# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench programs

"""[--rounds N] [--seconds N] [--only REGEX]

throughput of real programs as ratios to the run without profd in the same round: redis-server under redis-benchmark (SET and GET), nginx and
an HTTP server in node (which hashes on libuv's threads) under wrk, PostgreSQL under pgbench (fsync off, so that no disk is measured), sqlite3
on SQL in memory, and CPU-bound files of python3's own test suite. With the agent preloaded and all off, with a CPU profile at 100 Hz, and with
everything at once: that, --heap, --mutex, --block, --block-io and --wakers. A second run without profd in each round shows the machine's noise.
Below each, the program's own CPU time for the same work, which others' load disturbs less; profd's collector is not in it."""

import collections
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import real_programs
from bench_tools import BUILD, PROFD, fail, prepare, say_load, say_machine, spread

NONE = 'none'
VARIANTS = ['none (control)', 'agent, all off', 'CPU profile, 100 Hz', 'everything']
SUITE = ['test_json', 'test_re', 'test_itertools', 'test_long', 'test_set', 'test_unicode', 'test_pickletools', 'test_ctypes', 'test_decimal']
SQL_ROWS = 250000


def prefix_of(variant, profd, directory):
    if variant.startswith(NONE):
        return []
    output = [] if variant == 'agent, all off' else ['--rate', '100', '-o', os.path.join(directory, 'cpu.pb.gz')]
    return [profd, 'run', *output, '--http', '127.0.0.1:0', '--']


def environment_of(variant, agent):
    return {'PROFD_AGENT': agent, **(real_programs.ALL_ON if variant == 'everything' else {})}


Measured = collections.namedtuple('Measured', 'rate cpu_s')  # work a second; for a unit of work


class Postgres(real_programs.Postgres):
    scale, sync = 5, 'off'

    def work(self, seconds):
        self.fill()
        return super().work(seconds)


def measure_server(kind, prefix, environment, directory, seconds):
    with kind(directory, prefix, environment) as server:
        before = real_programs.cpu_s(server.pid)
        count, wall_s = server.work(seconds)
        used_s = real_programs.cpu_s(server.pid) - before
        server.end()
    return Measured(count / wall_s, used_s / count)


def measure_command(command, prefix, environment, directory):
    """Runs a second: by the program's own wall time, from its start to its end."""
    timed = ['bash', '-c', 'TIMEFORMAT="took %R %U %S"; time "$@" >/dev/null 2>&1', '-', *command]
    done = subprocess.run([*prefix, *timed], cwd=directory, env={**os.environ, **environment, 'TMPDIR': directory}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    took = re.search(r'^took ([\d.]+) ([\d.]+) ([\d.]+)$', done.stderr, re.M)
    if done.returncode != 0 or not took:
        fail(f'{" ".join(command[:3])} ended with status {done.returncode}: {done.stderr[-1000:]}')
    return Measured(1 / float(took[1]), float(took[2]) + float(took[3]))


def programs(seconds):
    """name → what is measured"""
    sql = real_programs.SQL.format(rows=SQL_ROWS, step=100)
    servers = {'redis-server, redis-benchmark': real_programs.Redis, 'nginx, wrk': real_programs.Nginx, 'PostgreSQL, pgbench': Postgres,
               'node, wrk': real_programs.Node}
    found = {name: lambda *where, kind=kind: measure_server(kind, *where, seconds) for name, kind in servers.items() if real_programs.installed(kind.needs)}
    if shutil.which('sqlite3'):
        found['sqlite3'] = lambda *where: measure_command(['sqlite3', '-batch', ':memory:', sql], *where)
    if os.path.exists('/usr/lib/python3.11/test/test_re.py'):
        found['python3, its tests'] = lambda *where: measure_command(['/usr/bin/python3.11', '-m', 'test', *SUITE], *where)
    return found


def measure_once(measure, variant, public):
    directory = tempfile.mkdtemp(prefix='profd-bench-', dir='/tmp')
    os.chmod(directory, 0o755)
    try:
        return measure(prefix_of(variant, os.path.join(public, 'profd'), directory), environment_of(variant, os.path.join(public, 'libprofd.so')), directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure_program(name, measure, rounds, public):
    results = collections.defaultdict(list)
    for number in range(rounds):
        print(f'\r\033[K{name}: round {number + 1} of {rounds}', end='', file=sys.stderr, flush=True)
        for variant in random.sample([NONE, *VARIANTS], len(VARIANTS) + 1):
            results[variant].append(measure_once(measure, variant, public))
    print('\r\033[K', end='', file=sys.stderr)
    for title, field, unit in ((name, 'rate', '/s'), ('  its CPU time', 'cpu_s', ' µs')):
        values = {variant: [getattr(result, field) for result in found] for variant, found in results.items()}
        ratios = [spread([value / base for value, base in zip(values[variant], values[NONE])]) for variant in VARIANTS]
        median = statistics.median(values[NONE]) * (1e6 if field == 'cpu_s' else 1)
        print(f'{title:30} {f"{median:.4g}{unit}":>12}  ' + ' '.join(f'{ratio:21}' for ratio in ratios), flush=True)


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=4)
    parser.add_argument('--only', default='')


def run(options):
    prepare()
    say_machine()
    public = tempfile.mkdtemp(prefix='profd-public-', dir='/tmp')  # the checkout may be in /root, and PostgreSQL is another user
    os.chmod(public, 0o755)
    for path in (PROFD, os.path.join(BUILD, 'profd', 'libprofd.so')):
        shutil.copy2(path, public)
    print(f'Throughput as a ratio to the run without profd of the same round, {options.rounds} rounds: median (quartiles)')
    print(f'{"":30} {NONE:>12}  ' + ' '.join(f'{variant:21}' for variant in VARIANTS))
    try:
        for name, measure in programs(options.seconds).items():
            if re.search(options.only, name):
                measure_program(name, measure, options.rounds, public)
    finally:
        shutil.rmtree(public, ignore_errors=True)
    say_load()

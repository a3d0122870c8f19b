# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench trace

"""[--rounds N] [--only REGEX]

what the event trace costs: CPU ns of an event, what is lost at 2,000,000 events a second for 5 s; and a thread pool, redis-server under
redis-benchmark (a request at a time, and 16; after a while under the same load), and 100,000 threads made and joined: wall time and the program's own CPU time, as ratios to a
run without profiler of the same round, for profd with nothing switched on, with wakers' links, with a trace, with both, and with both in a
flight recorder. On a machine that others work on, only the CPU time says much."""

import collections
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bench_tools import BUILD, PROFD, fail, prepare, say_load, say_machine, spread

TRACE = ['--trace', 'x.perfetto-trace']
VARIANTS = {'none': None, 'none (control)': None, 'agent, all off': ['--http', '127.0.0.1:0'], 'wakers': ['--http', '127.0.0.1:0', '--wakers'],
            'trace': TRACE, 'trace and wakers': [*TRACE, '--wakers'], 'flight and wakers': [*TRACE, '--flight', '--wakers']}
Cost = collections.namedtuple('Cost', 'wall_s cpu_s said')


def under(options, command):
    return command if options is None else [PROFD, 'run', *options, '--', *command]


def line_of(stderr):
    """profd's on the trace."""
    said = re.search(r'trace: (.*); wrote', stderr)
    return said[1] if said else ''


def cost_of_pool(options, directory, program):
    """It prints its own seconds."""
    done = subprocess.run(under(options, [program, '600000', '20000', '4']), cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(done.stderr)
    wall, cpu = map(float, done.stdout.split())
    return Cost(wall, cpu, line_of(done.stderr))


def cost_of_threads(options, directory, program):
    """The CPU time is that of profd, too."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(under(options, [program, 'many', '100000']), cwd=directory, capture_output=True, text=True, check=False)
    took, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        fail(done.stderr)
    return Cost(took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, line_of(done.stderr))


def redis_cpu(port):
    """Of the server's process, in its own words."""
    info = subprocess.run(['redis-cli', '-p', port, 'info', 'cpu'], capture_output=True, text=True, check=True).stdout
    return sum(float(re.search(rf'^used_cpu_{part}:([\d.]+)', info, re.M)[1]) for part in ('user', 'sys'))


def cost_of_redis(options, directory, pipeline):
    port = str(random.randint(20000, 30000))
    requests = 200000 if pipeline == 1 else 2000000
    command = under(options, ['redis-server', '--port', port, '--save', ''])
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        for _ in range(200):
            if subprocess.run(['redis-cli', '-p', port, 'ping'], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.05)
        load = ['redis-benchmark', '-p', port, '-t', 'set', '-c', '20', '-P', str(pipeline), '-q', '--csv', '-n']
        subprocess.run([*load, str(requests // 4)], capture_output=True, check=True)  # tables are compiled, names are looked up
        before = redis_cpu(port)
        done = subprocess.run([*load, str(requests)], capture_output=True, text=True, check=True)
        cpu = redis_cpu(port) - before
        subprocess.run(['redis-cli', '-p', port, 'shutdown', 'nosave'], capture_output=True, check=False)
        said = line_of(server.stderr.read())
    return Cost(requests / float(done.stdout.splitlines()[-1].split(',')[1].strip('"')), cpu, said)


def rows(title, rounds, measure, *more):
    costs = collections.defaultdict(list)
    for number in range(rounds):
        print(f'\r{title}: round {number + 1} of {rounds}', end='', file=sys.stderr, flush=True)
        for name, options in random.sample(list(VARIANTS.items()), len(VARIANTS)):
            with tempfile.TemporaryDirectory() as directory:
                costs[name].append(measure(options, directory, *more))
    print('\r\033[K', end='', file=sys.stderr)
    base = costs['none']
    print(f'{title}: {statistics.median(cost.wall_s for cost in base):.2f} s, {statistics.median(cost.cpu_s for cost in base):.2f} s of CPU; '
          f'ratios, median (quartiles) of {rounds}')
    print(f'  {"":18} {"wall time":22} CPU time')
    for name in VARIANTS:
        if name != 'none':
            wall, cpu = ([getattr(cost, part) / getattr(plain, part) for cost, plain in zip(costs[name], base)] for part in ('wall_s', 'cpu_s'))
            print(f'  {name:18} {spread(wall):22} {spread(cpu):22} {costs[name][-1].said}')


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--only', default='')


def run(options):
    events, pool = prepare('bench_events', 'bench_pool')
    target = os.path.join(BUILD, 'tests/e2e/target_trace')
    say_machine()
    if re.search(options.only, 'events'):
        print(subprocess.run([events, 'cost', str(max(options.rounds, 9))], capture_output=True, text=True, check=True).stdout, end='')
        print(subprocess.run([events, 'offered', '2000000', '5'], capture_output=True, text=True, check=True).stdout)
    workloads = [('thread pool, 4 workers, 600,000 jobs', cost_of_pool, pool), ('redis-server, 200,000 SET, one at a time', cost_of_redis, 1),
                 ('redis-server, 2,000,000 SET, 16 at a time', cost_of_redis, 16), ('100,000 threads made and joined', cost_of_threads, target)]
    for title, measure, what in workloads:
        if not re.search(options.only, title):
            continue
        if measure is cost_of_redis and not (shutil.which('redis-server') and shutil.which('redis-benchmark')):
            print(f'{title}: not measured: redis is not installed')
            continue
        rows(title, options.rounds, measure, what)
    say_load()

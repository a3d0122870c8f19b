# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench trace

"""[--rounds N]

what the event trace costs: CPU ns of an event, what is lost at 2,000,000 events a second for 5 s, and the wall time of a
thread pool, of redis-server under redis-benchmark and of 100,000 threads made and joined, as ratios to a run without profiler: profd
without a trace, with one, and with the flight recorder."""

import collections
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from bench_tools import BUILD, PROFD, fail, prepare, say_machine

TRACE_VARIANTS = {'none': None, 'none (control)': None, 'profd run, no trace': [], 'profd run --trace': ['--trace', 'x.perfetto-trace'],
                  'profd run --trace --flight': ['--trace', 'x.perfetto-trace', '--flight']}


def run_traced(options, command, directory):
    """Its output, the seconds it took, and profd's line on the trace."""
    words = command if options is None else [PROFD, 'run', '-o', 'x.folded', *options, '--', *command]
    begin = time.monotonic()
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    took = time.monotonic() - begin
    if done.returncode != 0:
        fail(f'{words}: {done.stderr}')
    said = re.search(r'trace: (.*); wrote', done.stderr)
    return done.stdout, took, said[1] if said else ''


def redis_rate(options, directory):
    """Requests a second of redis-server, and profd's line."""
    port = str(random.randint(20000, 30000))
    command = ['redis-server', '--port', port, '--save', '', '--io-threads', '2', '--daemonize', 'no']
    words = command if options is None else [PROFD, 'run', '-o', 'x.folded', *options, '--', *command]
    with subprocess.Popen(words, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        for _ in range(200):
            if subprocess.run(['redis-cli', '-p', port, 'ping'], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.05)
        done = subprocess.run(['redis-benchmark', '-p', port, '-t', 'set', '-n', '200000', '-c', '20', '-q', '--csv'], capture_output=True,
                              text=True, check=True)
        subprocess.run(['redis-cli', '-p', port, 'shutdown', 'nosave'], capture_output=True, check=False)
        words = server.stderr.read()
    said = re.search(r'trace: (.*); wrote', words)
    return float(done.stdout.splitlines()[-1].split(',')[1].strip('"')), said[1] if said else ''


def trace_rows(title, rounds, measure, inverse=False):
    ratios, lines = collections.defaultdict(list), {}
    for _ in range(rounds):
        values = {}
        for name, options in TRACE_VARIANTS.items():
            with tempfile.TemporaryDirectory() as directory:
                values[name], lines[name] = measure(options, directory)
        for name, value in values.items():
            ratios[name].append(values['none'] / value if inverse else value / values['none'])
    print(f'{title}: wall time')
    for name, found in ratios.items():
        low, high = statistics.quantiles(found, n=4)[::2] if len(found) > 2 else (min(found), max(found))
        if name != 'none':
            print(f'  {name}: {statistics.median(found):.3f} ({low:.3f} to {high:.3f}){"; " + lines[name] if lines[name] else ""}')


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=7)


def run(options):
    events, pool = prepare('bench_events', 'bench_pool')
    target = os.path.join(BUILD, 'tests/e2e/target_trace')
    say_machine()
    print(subprocess.run([events, 'cost', str(max(options.rounds, 9))], capture_output=True, text=True, check=True).stdout, end='')
    print(subprocess.run([events, 'offered', '2000000', '5'], capture_output=True, text=True, check=True).stdout)

    def pool_seconds(more, directory):
        out, _, said = run_traced(more, [pool, '100000', '20000', '4'], directory)
        return float(out), said

    def many_seconds(more, directory):
        _, took, said = run_traced(more, [target, 'many', '100000'], directory)
        return took, said

    trace_rows('thread pool, 4 workers, 100,000 jobs', options.rounds, pool_seconds)
    if shutil.which('redis-server') and shutil.which('redis-benchmark'):
        trace_rows('redis-server, 2 I/O threads, 200,000 SET', options.rounds, redis_rate, inverse=True)
    trace_rows('100,000 threads created and joined', max(2, options.rounds // 2), many_seconds)

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench snapshot

"""[--rounds N] [--threads N]

ms from request to text for all threads of a process whose threads wait some 15 functions deep (with frame pointers): profd over
HTTP, the first time and again while nothing moves, `profd dump`, and where they are installed eu-stack and gdb; the share of
threads whose stack reaches the thread's start, and the collector's memory."""

import os
import re
import shutil
import statistics
import subprocess
import tempfile

from bench_tools import BUILD, PROFD, prepare, say_machine, timed


def complete_share(text, root):
    blocks = [block for block in text.split('\n\n') if block.strip()]
    return sum(bool(re.search(root, block)) for block in blocks) / max(1, len(blocks))


def measure_snapshot(program, threads):
    """(what, ms, share of complete stacks) for each."""
    server = subprocess.Popen([PROFD, 'run', '--rate', '1', '-o', '/dev/null', '--format', 'folded', '--http', '127.0.0.1:0', '--',
                               program, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = re.search(r'http://[0-9.:]+', server.stderr.readline())[0] + '/debug/pprof/goroutine?debug=2'
    pid = server.stdout.readline().split()[1]
    results = []

    own = r'\n_*clone3?\(|\n_start\('
    for what in ('profd over HTTP, first', 'profd over HTTP, again'):
        with tempfile.NamedTemporaryFile('r') as body:
            seconds = subprocess.run(['curl', '-sS', '-o', body.name, '-w', '%{time_total}', url], check=True, capture_output=True,
                                     text=True).stdout
            results.append((what, float(seconds) * 1e3, complete_share(body.read(), own)))
    with open(f'/proc/{server.pid}/status', encoding='ascii') as status:
        rss = int(re.search(r'VmHWM:\s+(\d+)', status.read())[1]) / 1024
    peers = {'profd dump': ([PROFD, 'dump', pid], own), 'eu-stack': (['eu-stack', '-p', pid], r' _*clone3?\b| _start\b'),
             'gdb': (['gdb', '-p', pid, '-batch', '-ex', 'set pagination off', '-ex', 'thread apply all bt'], r' in _*clone3? |main ')}
    for what, (command, root) in peers.items():
        if shutil.which(command[0]) or os.path.exists(command[0]):
            ms, done = timed(lambda: subprocess.run(command, capture_output=True, text=True, errors='replace', check=False))
            text = done.stdout.replace('\nTID ', '\n\nTID ') if what == 'eu-stack' else done.stdout
            results.append((what, ms, complete_share(text, root)))
    server.stdin.close()
    server.wait()
    return results, rss


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int)


def run(options):
    prepare()
    program = os.path.join(BUILD, 'tests', 'e2e', 'target_parked_keep')
    say_machine()
    for threads in [options.threads] if options.threads else [100, 1000, 10000]:
        rounds = [measure_snapshot(program, threads) for _ in range(options.rounds if threads < 5000 else max(2, options.rounds // 2))]
        print(f'\n{threads} threads; the collector had {statistics.median(rss for _, rss in rounds):.0f} MB')
        for row in zip(*(results for results, _ in rounds)):
            print(f'  {row[0][0]:26}{statistics.median(ms for _, ms, _ in row):10.1f} ms   '
                  f'{statistics.median(share for _, _, share in row):6.1%} complete')

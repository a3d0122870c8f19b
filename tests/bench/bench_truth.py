# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench truth

"""[--signals N] [--cpu-seconds N] [--rate HZ]

ten functions with CPU shares 1:2:…:10, on 1 and on 10 threads, run again until so many signals were taken: the largest error
of a share, and samples × period beside getrusage."""

import collections
import os
import subprocess
import tempfile

from bench_tools import PROFD, fail, prepare, say_load, say_machine
import pprof_reader

SHARES = range(1, 11)
Truth = collections.namedtuple('Truth', 'signals samples sampled_s used_s shares clocks')  # shares, clocks: seconds of each function


def truth_once(program, threads, options):
    with tempfile.TemporaryDirectory() as directory:
        output = os.path.join(directory, 'truth.pb.gz')
        run = subprocess.run([PROFD, 'run', '--rate', str(options.rate), '-o', output, '--', program, str(threads),
                              str(options.cpu_seconds)], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            fail(f'truth ended with status {run.returncode}: {run.stderr[-1000:]}')
        profile = pprof_reader.read(output)
    used, *clocks = (float(line.split()[1]) for line in run.stdout.splitlines())
    return Truth(profile.signals(), sum(sample.values[0] for sample in profile.samples), profile.cpu_seconds(), used,
                 [profile.share(f'share_{n}') * profile.cpu_seconds() for n in SHARES], clocks)


def added(first, second):
    return Truth(*([x + y for x, y in zip(a, b)] if isinstance(a, list) else a + b for a, b in zip(first, second)))


def measure_truth(program, threads, options):
    """Prints a row, and returns it: the largest error, difference to getrusage, chance, signals."""
    truth = truth_once(program, threads, options)
    while truth.signals < options.signals:
        truth = added(truth, truth_once(program, threads, options))
    inside = sum(truth.shares)
    errors = [100 * (share / inside - clock / sum(truth.clocks)) for share, clock in zip(truth.shares, truth.clocks)]
    nominal = max(abs(100 * (share / inside - n / 55)) for n, share in zip(SHARES, truth.shares))
    chance = max(100 * (n / 55 * (1 - n / 55) / truth.signals) ** 0.5 for n in SHARES)
    worst, difference = max(map(abs, errors)), 100 * (truth.sampled_s / truth.used_s - 1)
    print(f'  {threads:7} {truth.signals:8} {truth.samples:8} {worst:13.2f} {nominal:11.2f} {chance:18.2f} '
          f'{100 * inside / truth.sampled_s:9.2f} % {truth.sampled_s:11.3f} {truth.used_s:11.3f} {difference:+9.2f} %')
    print('          ' + ' '.join(f'{error:+.2f}' for error in errors), flush=True)
    return worst, difference, chance, truth.signals


def arguments(parser):
    parser.add_argument('--cpu-seconds', type=float, default=24)
    parser.add_argument('--rate', type=int, default=250)
    parser.add_argument('--signals', type=int, default=10500)


def run(options):
    truth, = prepare('bench_truth')
    say_machine()
    print(f'Shares 1:2:…:10 at {options.rate} Hz, until there are {options.signals} signals; errors in percentage points, against what the threads\' own clocks')
    print('say of each function (all ten below), and against n/55')
    print(f'  {"threads":>7} {"signals":>8} {"samples":>8} {"largest error":>13} {"from n/55":>11} {"chance (1 sigma)":>18} {"in a share":>11} '
          f'{"sampled, s":>11} {"getrusage":>11} {"difference":>11}')
    rows = [measure_truth(truth, threads, options) for threads in (1, 10)]
    print(f'\nREADME: | ten functions 1:2:…:10, {options.rate} Hz, 1 and 10 threads, {min(row[3] for row in rows):,} signals and more: largest error, '
          'percentage points; samples × period against getrusage | '
          f'{rows[0][0]:.1f}, {rows[1][0]:.1f}; {rows[0][1]:+.1f}%, {rows[1][1]:+.1f}% | chance alone: {rows[0][2]:.1f}, {rows[1][2]:.1f} '
          '(1 sigma) | `scripts/bench truth` |')
    say_load()

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# bench_tools.py: what all commands of scripts/bench need.

import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, 'build')
PROFD = os.path.join(BUILD, 'collector', 'profd')


def fail(text):
    sys.exit(f'scripts/bench: {text}')


def prepare(*targets):
    """Installs, builds all and the bench programs named; returns their paths."""
    if subprocess.run([os.path.join(ROOT, 'scripts/setup'), 'build', 'bench'], check=False).returncode != 0:
        sys.exit(1)
    if not os.path.exists(os.path.join(BUILD, 'build.ninja')):
        subprocess.run(['meson', 'setup', BUILD, ROOT], check=True, stdout=subprocess.DEVNULL)
    names = [f'tests/bench/{target}' for target in targets]
    built = subprocess.run(['ninja', '-C', BUILD, 'all', *names], check=False, capture_output=True, text=True)
    if built.returncode != 0:
        fail('the build failed:\n' + built.stdout[-3000:])
    return [os.path.join(BUILD, name) for name in names]


def first_line(command):
    answer = subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout
    return answer.splitlines()[0].strip() if answer else '?'


def say_machine():
    model = first_line("sed -n 's/^model name.*: //p' /proc/cpuinfo")
    print(f'{model}, {os.cpu_count()} CPUs, Linux {os.uname().release}, {first_line("date +%F")}, '
          f'profd {first_line(f"git -C {ROOT} describe --always --dirty")}')
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f'The machine is not quiet: its load is {load:.2f}.')
    print()


def say_load():
    """How quiet it was. What was measured is part of it."""
    print(f'\nLoad at the end: {os.getloadavg()[0]:.2f}')


def spread(ratios):
    """Median, and the quartiles around it."""
    low, _, high = statistics.quantiles(ratios, n=4)
    return f'{statistics.median(ratios):.3f} ({low:.3f}–{high:.3f})'


def timed(function):
    started = time.monotonic()
    result = function()
    return (time.monotonic() - started) * 1000, result


DEBUG_DIRS = '/usr/lib/debug'


def debug_path(path):
    notes = subprocess.run(['readelf', '-nW', path], capture_output=True, text=True, check=False).stdout
    build_id = re.search(r'Build ID: (\w+)', notes)
    separate = f'{DEBUG_DIRS}/.build-id/{build_id[1][:2]}/{build_id[1][2:]}.debug' if build_id else ''
    return separate if os.path.exists(separate) else path

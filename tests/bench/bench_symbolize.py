# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench symbolize

"""[--rounds N] [--slow-peers]

names, inlined calls and lines of addresses all over .text: of Debian's ceph-mgr with ceph-mgr-dbg, and of sqlite3 -O2 -g (its
source from the crate libsqlite3-sys, by cargo). profd cold (no cache), warm, and one address cold; beside addr2line and
llvm-symbolizer, and with --slow-peers, once, eu-addr2line and go tool pprof on few addresses and on all, for 100 s at most
('inf'). Wall and CPU seconds; the memory of who read the debug info, beside the sections that it has to read, unpacked."""

import collections
import glob
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from bench_tools import DEBUG_DIRS, debug_path, prepare, say_machine

READ_SECTIONS = {'info', 'abbrev', 'line', 'line_str', 'str', 'ranges', 'rnglists', 'addr', 'str_offsets'}


def text_addresses(path, count):
    sections = subprocess.run(['readelf', '-SW', path], capture_output=True, text=True, check=True, errors='replace').stdout
    start, size = (int(word, 16) for word in re.search(r'\.text +PROGBITS +(\w+) +\w+ +(\w+)', sections).groups())
    return random.Random(1).sample(range(start, start + size), min(count, size))


def unpacked_bytes(path):
    lines = subprocess.run(['readelf', '-tW', path], capture_output=True, text=True, check=True, errors='replace').stdout.splitlines()
    total = 0
    for at, line in enumerate(lines):
        name = re.match(r' +\[ *\d+\] \.debug_(\w+)', line)
        if name and name[1] in READ_SECTIONS:
            packed = next((word for word in lines[at + 1:at + 4] if 'ZLIB' in word), None)
            total += int(packed.split(',')[1], 16) if packed else int(lines[at + 1].split()[3], 16)
    return total


def run_fed(command, addresses, environment=None, limit=None):
    """Wall and CPU seconds of a command that is given the addresses, and its output; None when it takes longer than limit."""
    before, started = os.times(), time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          errors='replace', env=environment, start_new_session=True) as process:
        try:
            output, _ = process.communicate(''.join(f'{address:#x}\n' for address in addresses), timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # go tool's pprof would go on
            return None
    after = os.times()
    return (time.monotonic() - started, after.children_user + after.children_system - before.children_user - before.children_system,
            output)


def profd_names(tool, path, addresses, cache):
    _, _, output = run_fed([tool, path, DEBUG_DIRS], addresses, {**os.environ, 'PROFD_CACHE_DIR': cache})
    return {key: float(value) for key, value in (line.split() for line in output.splitlines())}


def varint(number):
    out = b''
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, value):
    """One field of a protobuf message: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def write_pprof(path, binary, addresses):
    """A profile with one sample at each address of the binary, which was mapped where it says; without names."""
    segments = subprocess.run(['readelf', '-lW', binary], capture_output=True, text=True, check=True, errors='replace').stdout
    offset, start, size = (int(word, 16) for word in re.search(r'LOAD +(\w+) (\w+) \w+ \w+ (\w+) R E', segments).groups())
    profile = field(1, field(1, 1) + field(2, 2))
    profile += field(3, field(1, 1) + field(2, start) + field(3, start + size) + field(4, offset) + field(5, 3))
    for number, address in enumerate(addresses, 1):
        profile += field(2, field(1, varint(number)) + field(2, varint(1)))
        profile += field(4, field(1, number) + field(2, 1) + field(3, address))
    for text in ('', 'samples', 'count', binary):
        profile += field(6, text.encode())
    with open(path, 'wb') as file:
        file.write(profile)


def symbolize_peers(path, slow, directory):
    """Name: what makes the command for some addresses, which are its input, too; and how many it is given (None: all)."""
    debug = debug_path(path)
    peers = {'addr2line -f -i -C': (lambda _: ['addr2line', '-f', '-i', '-C', '-e', debug], (None, 1)),
             'llvm-symbolizer -i': (lambda _: ['llvm-symbolizer', '-i', '-e', path], (None, 1))}
    go = next(iter(sorted(glob.glob('/usr/lib/go-*/bin/go'))), None) or shutil.which('go')

    def pprof(addresses):
        file = os.path.join(directory, 'addresses.pb')
        write_pprof(file, debug, addresses)
        return ['env', f'PPROF_TMPDIR={directory}', go, 'tool', 'pprof', '-symbolize=local', '-raw', file]

    if slow:
        peers['eu-addr2line -f -i -C'] = (lambda _: ['eu-addr2line', '-f', '-i', '-C', '-e', debug], (100, None))
        if go:
            peers['go tool pprof -raw'] = (pprof, (100, 1000, None))
    return {name: peer for name, peer in peers.items() if shutil.which(peer[0]([])[0])}


def symbolize_one(tool, title, path, options):
    addresses = text_addresses(path, 10000)
    rounds, firsts, peers = [], [], collections.defaultdict(list)

    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as other:
            rounds.append([profd_names(tool, path, addresses, cache) for _ in range(2)])
            firsts.append(profd_names(tool, path, addresses[:1], other))
        for name, (make_command, counts) in symbolize_peers(path, options.slow_peers and number == 0, options.directory).items():
            for count in counts:
                measured = run_fed(make_command(addresses[:count]), addresses[:count], limit=100)
                peers[f'{name}, {count or len(addresses)} addresses'].append(measured[:2] if measured else (float('inf'), float('inf')))

    def median(values):
        return statistics.median(values)

    unpacked = unpacked_bytes(debug_path(path)) / 1e6
    cold, warm = zip(*rounds)
    print(f'\n{title}: {len(addresses)} addresses, {cold[0]["frames"]:.0f} frames; sections to read {unpacked:.0f} MB')
    print(f'  {"":44}{"wall, s":>10}{"CPU, s":>10}')
    for name, runs in (('profd, cold', cold), ('profd, warm', warm), ('profd, 1 address, cold', firsts)):
        print(f'  {name:44}{median(run["named_s"] for run in runs):10.3f}{median(run["cpu_s"] + run["worker_cpu_s"] for run in runs):10.3f}')
    for name, values in peers.items():
        print(f'  {name:44}{median(wall for wall, _ in values):10.3f}{median(cpu for _, cpu in values):10.3f}')
    print(f'  profd warm, million frames per CPU second: {median(run["first_frames_per_s"] for run in warm) / 1e6:.1f} the first time, '
          f'{median(run["again_frames_per_s"] for run in warm) / 1e6:.1f} again')
    print(f'  memory of its reader: {median(run["worker_peak_kb"] for run in cold) / 1024:.0f} MiB, gone afterwards '
          f'({median(run["worker_peak_kb"] for run in cold) * 1024 / 1e6 / unpacked:.2f} of the sections)')


def build_sqlite3(directory):
    """sqlite3 -O2 -g as a shared library; None without its source."""
    with open(os.path.join(directory, 'Cargo.toml'), 'w', encoding='ascii') as file:
        file.write('[package]\nname = "x"\nversion = "0.1.0"\nedition = "2021"\n[lib]\npath = "x.rs"\n'
                   '[dependencies]\nlibsqlite3-sys = "0.28"\n')
    with open(os.path.join(directory, 'x.rs'), 'w', encoding='ascii'):
        pass
    if shutil.which('cargo'):
        subprocess.run(['cargo', 'fetch', '-q'], cwd=directory, check=False)
    home = os.environ.get('CARGO_HOME', os.path.expanduser('~/.cargo'))
    for where, _, files in os.walk(os.path.join(home, 'registry', 'src')):
        if where.endswith('/sqlite3') and 'sqlite3.c' in files:
            output = os.path.join(directory, 'sqlite3.so')
            subprocess.run(['gcc', '-O2', '-g', '-fPIC', '-shared', '-o', output, os.path.join(where, 'sqlite3.c')], check=True)
            return output
    return None


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--slow-peers', action='store_true')


def run(options):
    tool, = prepare('bench_symbolize')
    say_machine()
    with tempfile.TemporaryDirectory() as directory:
        options.directory = directory
        if os.path.exists('/usr/bin/ceph-mgr') and debug_path('/usr/bin/ceph-mgr') != '/usr/bin/ceph-mgr':
            symbolize_one(tool, 'ceph-mgr', '/usr/bin/ceph-mgr', options)
        else:
            print('ceph-mgr is not measured: apt-get install ceph-mgr ceph-mgr-dbg')
        sqlite3 = build_sqlite3(directory)
        if sqlite3:
            symbolize_one(tool, 'sqlite3 -O2 -g', sqlite3, options)
        else:
            print('sqlite3 is not measured: its source is not to be had (cargo)')

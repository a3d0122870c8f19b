# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# scripts/bench answer

"""[--rounds N] [--seconds N] [--rate HZ]

ms from the end of a profile's seconds to the last byte of its answer, for large C++ programs that work: Debian's ceph-mgr with
ceph-mgr-dbg, which looks for a monitor that is not there, and clang (100 MB of libraries without debug info) at a file that takes it
minutes. The first profile, without any names in the cache, and the following ones; as pprof and as a flame graph."""

import collections
import gzip
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from bench_tools import PROFD, debug_path, prepare, say_load, say_machine, timed
import pprof_reader

CEPH_CONF = '''[global]
fsid = 11111111-2222-3333-4444-555555555555
mon_host = v2:127.0.0.1:{port}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_client_hunt_interval = 0.001
mon_client_hunt_interval_backoff = 1
mon_client_ping_interval = 0.01
ms_initial_backoff = 0.0001
ms_max_backoff = 0.0001
log_to_stderr = false
log_file = {directory}/log
admin_socket = {directory}/socket
mgr_data = {directory}
'''


def unused_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def answer_ms(url, seconds):
    """How long after the profile's seconds its answer was there, and the answer."""
    ms, body = timed(lambda: subprocess.run(['curl', '-sSf', url], check=True, capture_output=True).stdout)
    return ms - seconds * 1000, body


def measure_answers(url, options):
    results = collections.defaultdict(list)
    for number in range(options.rounds):
        for name in ('pprof', 'html'):
            what = f'{name}, first profile' if number == 0 and name == 'pprof' else f'{name}, later ones'
            ms, body = answer_ms(f'{url}?seconds={options.seconds}&rate={options.rate}&format={name}', options.seconds)
            results[what].append((ms, len(body)))
            if name == 'pprof':
                profile = pprof_reader.Profile(gzip.decompress(body))
                functions = {name for sample in profile.samples for name in sample.stack}
                print(f'  {len(profile.samples)} stacks and threads, {len(functions)} functions: {ms:.0f} ms', flush=True)
    return results


# Many of these keep clang busy for as long as it takes.
CPP_HEADERS = 'algorithm functional map memory regex sstream string unordered_map vector'
CPP_SOURCE = '''namespace n{number} {{
std::vector<std::string> f(const std::string &text)
{{
    std::map<std::string, std::vector<std::function<int(int)>>> map;
    std::regex regex("(a|b)*c+[d-f]{{2,5}}");
    std::vector<std::string> result;
    for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at)
        result.push_back(at->str());
    std::sort(result.begin(), result.end(), [](auto &a, auto &b) {{ return a > b; }});
    return result;
}}
}}
'''


def answer_programs(directory):
    """Title: command, of what works until it is killed."""
    programs = {}
    if os.path.exists('/usr/bin/ceph-mgr') and debug_path('/usr/bin/ceph-mgr') != '/usr/bin/ceph-mgr':
        conf = os.path.join(directory, 'ceph.conf')
        with open(conf, 'w', encoding='ascii') as file:
            file.write(CEPH_CONF.format(port=unused_port(), directory=directory))
        programs['ceph-mgr with its debug info'] = ['ceph-mgr', '-f', '-c', conf, '-i', 'x']
    if shutil.which('clang++'):
        source = os.path.join(directory, 'source.cpp')
        with open(source, 'w', encoding='ascii') as file:
            file.writelines(f'#include <{header}>\n' for header in CPP_HEADERS.split())
            file.writelines(CPP_SOURCE.format(number=number) for number in range(20000))
        programs['clang at a large file'] = ['clang++', '-O2', '-c', '-o', '/dev/null', source]
    return programs


def arguments(parser):
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=30)
    parser.add_argument('--rate', type=int, default=1000)


def run(options):
    prepare()
    say_machine()
    with tempfile.TemporaryDirectory() as directory:
        titles = list(answer_programs(directory))
    for title in titles:
        with tempfile.TemporaryDirectory() as directory:
            os.mkdir(os.path.join(directory, 'cache'), 0o700)
            command = [PROFD, 'run', '--http', '127.0.0.1:0', '--', *answer_programs(directory)[title]]
            print(title)
            with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors='replace',
                                  env={**os.environ, 'PROFD_CACHE_DIR': os.path.join(directory, 'cache')}) as server:
                url = re.search(r'http://[0-9.:]+', server.stderr.readline())[0] + '/debug/pprof/profile'
                time.sleep(3)  # it starts
                try:
                    results = measure_answers(url, options)
                finally:
                    server.terminate()
        print(f'  ms from the end of {options.seconds} s to the last byte:')
        for what, values in sorted(results.items()):
            print(f'  {what:24} median {statistics.median(ms for ms, _ in values):7.0f}   worst {max(ms for ms, _ in values):7.0f}   '
                  f'{values[-1][1] / 1024:.0f} KiB')
    say_load()

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_rates.py: the rate asked for is the rate reached, or the profile says why not; the figures stay true at any rate; the clock that
# passes the kernel's tick does the program no harm.

import ctypes
import os
import re
import struct
import subprocess

import pytest

from test_process import cpu_in

pytestmark = pytest.mark.figures



def perf_is_allowed():
    """Root may; in a container whose seccomp filter refuses perf_event_open nobody may."""
    attributes = struct.pack('<IIQQ', 1, 112, 0, 1000000000).ljust(112, b'\0')  # the software event CPU clock, kernel time too
    fd = ctypes.CDLL(None).syscall(298, attributes, 0, -1, -1, 0)  # perf_event_open on x86-64
    if fd >= 0:
        os.close(fd)
    return fd >= 0


needs_perf = pytest.mark.skipif(not perf_is_allowed(), reason='perf_event_open is refused here')


def comment(profile, pattern):
    found = [match for match in (re.search(pattern, text) for text in profile.comments) if match]
    assert found, (pattern, profile.comments)
    return found[0]


def reached(profile):
    return float(comment(profile, r'([\d.]+) Hz reached')[1])


@needs_perf
@pytest.mark.parametrize('threads, rate', [(1, 1000), (1, 10000), (2, 4000), (10, 1000), (10, 10000)])
def test_rate_asked_is_reached(run, helper, rate, threads):
    for _ in range(6):  # on a busy machine, timers of the host's are late
        done = run(helper('target_truth'), threads, 3, rate=rate, options=['--max-overhead', '100'])
        assert done.status == 0, done.stderr
        if abs(reached(done.profile) - rate) <= 0.03 * rate:
            break
    else:
        assert reached(done.profile) == rate
    real = float(done.stdout.split()[1])
    assert comment(done.profile, 'clock: perf events')
    assert abs(done.profile.cpu_seconds() - real) <= 0.02 * real
    assert done.profile.complete() >= 0.99
    assert 'asked for' not in done.stderr


def test_timers_stay_below_the_tick_and_say_so(run, helper):
    done = run(helper('target_truth'), 2, 3, rate=10000, options=['--clock', 'cpu'])
    real = float(done.stdout.split()[1])
    assert comment(done.profile, 'clock: CPU timers')
    assert reached(done.profile) <= 1100  # no kernel ticks faster
    assert abs(done.profile.cpu_seconds() - real) <= 0.02 * real
    assert re.search(r'asked for 10000 samples a second of CPU, reached \d+ \(the kernel fires CPU timers at its tick', done.stderr)


def test_slow_rates_need_no_perf_event(run, helper):
    assert comment(run(helper('target_truth'), 1, 1, rate=100).profile, 'clock: CPU timers')


@needs_perf
def test_perf_events_at_a_slow_rate_when_asked(run, helper):
    done = run(helper('target_truth'), 2, 4, rate=100, options=['--clock', 'perf'])
    real = float(done.stdout.split()[1])
    assert comment(done.profile, 'clock: perf events')
    assert abs(done.profile.cpu_seconds() - real) <= 0.02 * real


def test_refused_perf_events_are_said(profd, agent, helper, public, tmp_path):
    """Another user's process without rights: kernel.perf_event_paranoid of 2 keeps it from counting kernel time."""
    if os.geteuid() != 0 or int(open('/proc/sys/kernel/perf_event_paranoid', encoding='ascii').read()) < 2:
        pytest.skip('needs root, and kernel.perf_event_paranoid ≥ 2')
    os.chmod(tmp_path, 0o777)
    for part in tmp_path.parents:
        if not os.stat(part).st_mode & 1:
            os.chmod(part, os.stat(part).st_mode | 0o11)
    output = tmp_path / 'out.pb.gz'
    done = subprocess.run(['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', public(profd), 'run', '--rate', '1000', '-o', output,
                           '--', public(helper('target_truth')), '1', '2'], capture_output=True, text=True, timeout=60, check=False,
                          env=dict(os.environ, PROFD_AGENT=public(agent)))
    assert done.returncode == 0, done.stderr
    assert 'perf_event_paranoid' in done.stderr
    assert int(re.search(r'reached (\d+) ', done.stderr)[1]) <= 600


@needs_perf
def test_few_descriptors(run, helper):
    """Events that there are no descriptors for are timers instead: nothing is lost, and it is said."""
    done = run('sh', '-c', f'ulimit -n 24; exec {helper("target_truth")} 40 4', rate=1000)
    assert done.status == 0
    real = float(done.stdout.split()[1])
    assert abs(done.profile.cpu_seconds() - real) <= 0.03 * real
    assert comment(done.profile, 'perf events: Too many open files')


@needs_perf
def test_descriptors_are_the_programs_own(same):
    """No event's descriptor is to be seen in the program, whatever it opens meanwhile."""
    script = 'for i in $(seq 300); do ls /proc/$$/fd | wc -l; : "$(seq 200)"; done | sort -u'
    same('bash', '-c', script, rate=10000)


@needs_perf
def test_exec_under_the_fastest_clock(same, tmp_path):
    """A signal that is pending at exec would kill an image that has no handler for it."""
    chain = tmp_path / 'chain'
    chain.write_text('#!/bin/bash\nn=$1\nfor ((i = 0; i < 3000; i++)); do :; done\n'
                     '((n)) || exec env -u LD_PRELOAD sh -c "exit 7"\nexec "$0" $((n - 1))\n')
    chain.chmod(0o755)
    script = f'for i in $(seq 60); do {chain} 3; echo $?; done | sort | uniq -c'
    assert same('bash', '-c', script, rate=10000).stdout.split() == ['60', '7']


@needs_perf
def test_failed_exec_goes_on_being_sampled(run):
    script = 'import os, time\n' \
             'def burn():\n    end = time.thread_time() + 1\n    while time.thread_time() < end: pass\n' \
             'for i in range(50):\n    try: os.execv("/nonexistent", ["x"])\n    except OSError: pass\n' \
             'burn()\n'
    done = run('/usr/bin/python3', '-c', script, rate=4000)
    assert done.status == 0
    assert reached(done.profile) >= 0.9 * 4000


@needs_perf
def test_short_threads(same, helper, tmp_path):
    """300 threads of 5 ms: their timers are not yet events, or have just become some."""
    profile = same(helper('target_threads'), 'short', 300, tmp_path / 'seconds', rate=4000).profile
    real = float((tmp_path / 'seconds').read_text())
    assert real * 0.95 <= cpu_in(profile, 'short_lived') <= real * 1.1


@needs_perf
def test_no_interrupted_calls_at_the_fastest_rate(run, helper):
    done = run(helper('target_waits'), 'quiet', 4, rate=10000)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.status == 0 and len(lines) >= 27
    by_syscall_2 = ['futex', 'io_uring_enter']  # see test_signals.py
    assert [line for line in lines if line[1:] != ['0', '0'] and line[0] not in by_syscall_2] == []


@needs_perf
def test_governor(run, helper):
    """Stacks 900 frames deep at 10,000 Hz: the rate goes down, the CPU time stays right, both outputs say so."""
    done = run(helper('target_deep'), 2, 900, 900, rate=10000, options=['--max-overhead', '0.5'])
    assert done.status == 0
    assert int(comment(done.profile, r'rate lowered by --max-overhead: (\d+) times')[1]) > 0
    assert reached(done.profile) < 7000
    assert '--max-overhead lowered the rate' in done.stderr
    without = run(helper('target_deep'), 2, 900, 300, rate=10000, options=['--max-overhead', '100'])
    assert not any('--max-overhead' in text for text in without.profile.comments)


@pytest.mark.parametrize('option, value', [('--clock', 'sundial'), ('--max-overhead', '0'), ('--max-overhead', '101'),
                                           ('--max-overhead', 'x'), ('--rate', '10001')])
def test_wrong_values(profd, option, value):
    done = subprocess.run([profd, 'run', option, value, 'true'], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1 and option in done.stderr and value in done.stderr

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_wall.py: `--clock wall`: a whole run by looks at all threads. Their time adds up, whether they run or wait.

import collections
import os
import re
import signal
import subprocess
import time

import pytest

import pprof_reader
from waiting import wait_until


def record(profd, tmp_path, *command, options=(), status=0):
    out = tmp_path / 'wall.pb.gz'
    done = subprocess.run([profd, 'run', '--clock', 'wall', *options, '-o', out, '--', *map(str, command)], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done, pprof_reader.read(out)


def seconds_by(profile, key):
    by = collections.Counter()
    for sample in profile.samples:
        by[key(sample)] += sample.values[1] / 1e9
    return by


@pytest.mark.figures
def test_running_and_waiting(profd, helper, tmp_path):
    """One thread that runs and the main thread that joins it: the same time for each, and the functions' shares are theirs."""
    done, profile = record(profd, tmp_path, helper('target_truth'), 1, 3)
    by = seconds_by(profile, lambda sample: ('join' in sample.labels['state'], 'thread_main' in sample.stack, sample.labels['cpu']))
    elapsed = float(re.search(r'looks in ([\d.]+) s', done.stderr)[1])
    joining, running = by[True, False, 'off'], by[False, True, 'on'] + by[False, True, 'off']
    # The rest is before there is a thread, and after; and whoever gets no CPU while it is looked at, has no stack.
    rest = by[False, False, 'on'] + by[False, False, 'off']
    assert joining + running + rest == pytest.approx(sum(by.values())), by
    assert 0.9 * 3 <= joining <= 1.05 * elapsed, 'it uses 3 s of CPU time'
    assert 0.9 * joining - rest <= running <= 1.1 * joining
    assert by[False, True, 'on'] >= 0.3 * joining and rest <= 0.3 * joining
    assert profile.share('share_9') + profile.share('share_10') > profile.share('share_1') + profile.share('share_2')
    assert any(re.fullmatch(r'looks: \d+ taken, \d+ missed, 0 failed; 1 processes, at most 2 threads at once', text)
               for text in profile.comments), profile.comments


def test_nothing_is_sampled(profd, helper, tmp_path):
    """No timer is armed, no signal comes: the program's own calls are never cut short."""
    for seconds in (2, 8, 32):  # on a busy machine, looks are missed
        process = subprocess.Popen([profd, 'run', '--clock', 'wall', '--rate', '100', '-o', tmp_path / 'w.pb.gz', '--', helper('target_waits'),
                                    'quiet', '0'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        said, errors = process.communicate('end\n', timeout=60)
        assert process.returncode == 0, said
        assert all(line.split()[1:] == ['0', '0'] for line in said.splitlines() if len(line.split()) == 3), said
        profile = pprof_reader.read(tmp_path / 'w.pb.gz')
        if int(re.search(r'looks: (\d+) taken', '\n'.join(profile.comments))[1]) >= 100:
            break
    assert len({sample.labels['state'] for sample in profile.samples}) >= 8, errors


def test_killed(profd, tmp_path):
    """What was seen until then is written. A child that comes along is seen, too."""
    done, profile = record(profd, tmp_path, 'sh', '-c', 'sleep 5 & sleep 1; kill -9 $! $$', status=128 + signal.SIGKILL)
    assert 'looks in' in done.stderr and 'wrote ' in done.stderr
    assert sum(seconds_by(profile, lambda sample: None).values()) >= 1.5
    assert any('3 processes' in text for text in profile.comments), profile.comments


def test_processes_that_end_are_no_failed_looks(profd, tmp_path):
    """A look may find one whose memory is gone already, while it is still there."""
    _, profile = record(profd, tmp_path, 'sh', '-c', 'for i in $(seq 200); do /bin/true; done', options=['--rate', '100'])
    assert any(re.match(r'looks: \d+ taken, \d+ missed, 0 failed; ', text) for text in profile.comments), profile.comments


def test_a_command_that_is_over_at_once(profd, tmp_path):
    old = tmp_path / 'wall.folded'
    old.write_text('old')
    done = subprocess.run([profd, 'run', '--clock', 'wall', '--rate', '1', '-o', old, '--', 'true'], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and 'looks in' in done.stderr
    assert old.read_text() == 'old' or 'wrote nothing' not in done.stderr


def test_preloaded(agent, tmp_path):
    out = tmp_path / 'wall.folded'
    subprocess.run(['sleep', '2'], env=os.environ | {'LD_PRELOAD': agent, 'PROFD_CLOCK': 'wall', 'PROFD_OUTPUT': str(out)}, check=True)
    wait_until(out.exists)
    looks = {'nanosleep' in line: int(line.split()[-1]) for line in out.read_text().splitlines()}
    # The first look may find it on its way there.
    assert looks[True] >= 10 and set(looks.values()) - {looks[True]} <= {1, 2}, looks


def test_wrong_usage(profd):
    for command, status, message in [
            (['run', '--clock', 'wall', '--rate', '1000', '--', 'true'], 125, 'at most 100 looks'),
            (['run', '--clock', 'sun', '--', 'true'], 125, 'not auto, cpu, perf or wall'),
            (['serve', '--clock', 'wall'], 2, 'for a whole run alone')]:
        done = subprocess.run([profd, *command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status and message in done.stderr and done.stderr.count('\n') == 1, done

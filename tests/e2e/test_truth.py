# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_truth.py: the figures agree with the truth: the CPU time of the samples with what the kernel accounted, and ten functions with
# shares 1:2:…:10 of the CPU time with what their threads' own clocks say.

import math

import pytest


@pytest.mark.parametrize('threads, seconds', [(1, 21), (10, 52)])
def test_shares_and_total(run, helper, threads, seconds):
    # Several threads on a processor are sampled at 100 Hz: at the tick's own rate, a tick would stand for several periods.
    done = run(helper('target_truth'), threads, seconds, rate=250 if threads == 1 else 100, timeout=300)
    assert done.status == 0
    profile = done.profile
    real, *shares = (float(line.split()[1]) for line in done.stdout.splitlines())
    counts = [sample.values[0] for sample in profile.samples]
    assert sum(counts) >= 5000
    assert abs(profile.cpu_seconds() - real) <= 0.02 * real
    for number, seconds_of_share in enumerate(shares, 1):
        truth = seconds_of_share / sum(shares)
        # 1.5 points, or what chance does to 5,000 samples once in 16,000 tries (4 sigma): 0.5 points (1 sigma) for the largest.
        allowed = max(0.015, 4 * math.sqrt(truth * (1 - truth) / 5000))
        assert abs(profile.share(f'share_{number}') - truth) <= allowed, number

# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_truth.py: the figures agree with the truth: the CPU time of the samples with what the kernel accounted, and ten functions with
# shares 1:2:…:10 of the CPU time with theirs. 5,000 samples: by chance alone a share is off by 0.5 points (1 sigma).

import pytest


@pytest.mark.parametrize('threads, seconds', [(1, 21), (10, 52)])
def test_shares_and_total(run, helper, threads, seconds):
    # Several threads on a processor are sampled at 100 Hz: at the tick's own rate, a tick would stand for several periods.
    done = run(helper('target_truth'), threads, seconds, rate=250 if threads == 1 else 100, timeout=300)
    assert done.status == 0
    profile = done.profile
    real = float(done.stdout.split()[1])
    assert sum(sample.values[0] for sample in profile.samples) >= 5000
    assert abs(profile.cpu_seconds() - real) <= 0.02 * real
    worst = max(abs(profile.share(f'share_{i}') - i / 55) for i in range(1, 11))
    assert worst <= 0.015, [round(100 * profile.share(f'share_{i}') - 100 * i / 55, 2) for i in range(1, 11)]

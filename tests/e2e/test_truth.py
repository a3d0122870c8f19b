# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_truth.py: the figures agree with the truth: the CPU time of the samples with what the kernel accounted, and ten functions with
# shares 1:2:…:10 of the CPU time with what their threads' own clocks say.

import pytest

pytestmark = pytest.mark.figures

SHARES = range(1, 11)
ALLOWED = 0.015
# 5,000 would do if nothing but errors of ours were to be seen. With twice as many, chance alone (0.38 points, 1 sigma, for the largest
# share) goes beyond ALLOWED once in 16,000 tries. Signals are counted, not periods: one that stands for several tells no more than one.
SIGNALS = 10500


@pytest.mark.parametrize('threads, rate', [(1, 1000), (10, 250)])
def test_shares_and_total(run, helper, threads, rate):
    """By perf events, where they are allowed; and at the rate of the tick, where CPU timers sample."""
    signals, sampled, real = 0, [0] * len(SHARES), [0] * len(SHARES)
    while signals < SIGNALS:
        done = run(helper('target_truth'), threads, 12, rate=rate, timeout=300)
        assert done.status == 0
        profile = done.profile
        used, *shares = (float(line.split()[1]) for line in done.stdout.splitlines())
        assert abs(profile.cpu_seconds() - used) <= 0.02 * used
        if rate == 250:  # else CPU timers must do: then several periods for each are right
            assert profile.signals() >= 0.6 * sum(sample.values[0] for sample in profile.samples)
        signals += profile.signals()
        for i, number in enumerate(SHARES):
            sampled[i] += profile.share(f'share_{number}') * profile.cpu_seconds()
            real[i] += shares[i]
    errors = [part / sum(sampled) - truth / sum(real) for part, truth in zip(sampled, real)]
    assert max(map(abs, errors)) <= ALLOWED, (signals, errors)
    assert all(abs(truth / sum(real) - number / 55) <= 0.005 for number, truth in zip(SHARES, real)), real

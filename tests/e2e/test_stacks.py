# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_stacks.py: stacks that are not what a compiler made them: coroutines', jumped out of, overwritten, lost; hand-written assembly under
# load. The programs do not notice, and no frame is shown that was not there.

import re
import subprocess

import pytest

from test_programs import complete_profile, needs, with_tables
from test_snapshot import dump
from waiting import wait_until

START = ['__libc_start_call_main', '__libc_start_main_impl', '_start']
RATE = 250


def count(profile, wanted=lambda sample: True):
    return sum(sample.values[0] for sample in profile.samples if wanted(sample))


def assert_true_as_far_as_they_go(profile, leaf, callers):
    """Every stack with that leaf is, from there on, what its callers are, or stops short. Where a return address was, CFI says; what is
    there instead may be taken for one, then it is the last, and nobody's."""
    for sample in profile.samples:
        if sample.stack[-1] == leaf:
            outwards = [name for name in sample.stack[-2::-1] if name not in ('main', 'target_main')]  # inlined, or tail calls
            if outwards and outwards[-1].startswith('0x'):
                outwards.pop()
            assert outwards == callers[:len(outwards)], sample.stack


def reasons(profile):
    return next(comment for comment in profile.comments if comment.startswith('truncated stacks'))


def test_coroutines(same, helper):
    """Each ends in its first function: what made it run is not its caller."""
    profile = with_tables(lambda: same(helper('target_stacks'), 'coroutine').profile)
    inside = [sample for sample in profile.samples if 'coroutine_work' in sample.stack]
    assert sum(sample.values[0] for sample in inside) >= 200
    for sample in inside:
        assert 'run_coroutine' not in sample.stack, sample.stack
        assert sample.stack.count('coroutine_work') <= 9
    # What the first function returns to may be shown before it: a piece of libc without a name.
    whole = sum(sample.values[0] for sample in inside if 'coroutine_main' in sample.stack[:2] and sample.stack.count('coroutine_work') == 9)
    print(f'{whole} of {sum(sample.values[0] for sample in inside)} stacks of coroutines are whole; {reasons(profile)}')
    assert whole >= 0.98 * sum(sample.values[0] for sample in inside)
    assert 'truncated stacks: 0' in reasons(profile)


BOOST = '''
#include <boost/context/fiber.hpp>
#include <boost/coroutine2/coroutine.hpp>
#include <ctime>

static double used() { timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec / 1e9; }

extern "C" __attribute__((noinline)) void work(int depth)
{
	if (depth > 0)
		work(depth - 1);
	else
		for (double end = used() + 0.01; used() < end;)
			for (int i = 0; i < 5000; i++)
				asm volatile("");
	asm volatile("");
}

extern "C" __attribute__((noinline)) void in_coroutine() { work(8); asm volatile(""); }

int main()
{
	boost::coroutines2::coroutine<int>::pull_type numbers([](boost::coroutines2::coroutine<int>::push_type &put) {
		for (int i = 0; i < 100; i++) { in_coroutine(); put(i); }
	});
	long sum = 0;
	for (int number : numbers) sum += number;
	boost::context::fiber fiber([](boost::context::fiber &&back) {
		for (int i = 0; i < 100; i++) { in_coroutine(); back = std::move(back).resume(); }
		return std::move(back);
	});
	while (fiber) fiber = std::move(fiber).resume();
	return sum != 4950;
}
'''


def test_boost_coroutines(run, tmp_path):
    source, program = tmp_path / 'boost.cpp', tmp_path / 'boost'
    source.write_text(BOOST)
    built = subprocess.run(['g++', '-O2', '-g', '-o', program, source, '-lboost_context'], stderr=subprocess.PIPE, text=True, timeout=600,
                           check=False)
    if 'No such file' in built.stderr:
        pytest.skip('not installed: libboost-context-dev, libboost-coroutine-dev')
    assert built.returncode == 0, built.stderr

    def measure():
        done = run(program, rate=RATE)
        assert done.status == 0
        return done.profile

    profile = with_tables(measure)
    inside = [sample for sample in profile.samples if 'work' in sample.stack]
    total = sum(sample.values[0] for sample in inside)
    deep = sum(sample.values[0] for sample in inside if sample.stack.count('work') == 9 and 'in_coroutine' in sample.stack)
    roots = {tuple(sample.stack[:3]) for sample in inside}
    print(f'{deep} of {total} whole; {reasons(profile)}; from {roots}')
    assert total >= 300 and deep >= 0.98 * total
    assert not any('main' in sample.stack for sample in inside), 'who resumed it is not its caller'
    assert 'truncated stacks: 0' in reasons(profile)


def test_jumps(same, helper):
    profile = with_tables(lambda: same(helper('target_stacks'), 'jumps').profile)
    print(f'{profile.complete():.2%} complete; {reasons(profile)}')
    assert count(profile) >= 250
    assert profile.complete() >= 0.95, profile.comments
    cut = {sample.stack[-1] for sample in profile.samples if '_start' not in sample.stack[:1]}
    # call_init, where the agent begins: on a busy machine sampling does not wait for the tables any longer.
    assert cut <= {'__longjmp', 'call_init'}, 'only there the frame is neither the old one nor the new one'
    assert_true_as_far_as_they_go(profile, 'run_jumps', START)
    for sample in profile.samples:
        assert sample.stack.count('jump_out') <= 11 and sample.stack.count('run_jumps') <= 1


def test_smashed_stacks(same, helper):
    """Zeroes, letters, noise, pointers to the stack, pointers to themselves; FP likewise."""
    profile = same(helper('target_stacks'), 'smashed').profile
    smashed = count(profile, lambda sample: sample.stack[-1] == 'smash')
    print(f'{smashed} of {count(profile)} in smash; {reasons(profile)}')
    assert smashed >= 200
    assert_true_as_far_as_they_go(profile, 'smash', ['descend'] * 21 + ['run_smashed'] + START)


def test_lost_stack_pointers(same, helper):
    """Nowhere, not aligned, at the last byte that can be read, in the kernel. The signal comes on another stack."""
    profile = same(helper('target_stacks'), 'lost').profile
    lost = count(profile, lambda sample: sample.stack[-1] == 'lose')
    print(f'{lost} of {count(profile)} in lose; {reasons(profile)}')
    assert lost >= 200
    assert_true_as_far_as_they_go(profile, 'lose', ['run_lost'] + START)


def test_frames_smaller_than_their_prologue_says(profd, helper):
    """From outside, where no frame pointer is known: no caller is left out."""
    def callers(pid):
        shown = re.findall(r'^(\w+)\(\.\.\.\)$', dump(profd, pid).stdout, re.M)
        return shown[:shown.index('run_raised') + 1] if 'run_raised' in shown else shown

    with subprocess.Popen([helper('target_stacks'), 'raised'], stdin=subprocess.PIPE) as process:
        wait_until(lambda: callers(process.pid)[-4:-1] == ['wait_for_end', 'raised', 'around'], lambda: callers(process.pid))
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@needs('openssl')
@pytest.mark.parametrize('algorithms', [['aes-256-cbc'], ['-evp', 'aes-256-gcm'], ['-evp', 'chacha20-poly1305'], ['sha256', 'sha512', 'md5'],
                                        ['rsa2048'], ['ecdsap256']], ids=lambda names: names[-1])
def test_assembly_of_openssl(run, algorithms):
    """Some seconds each: 99.5% of the stacks are complete."""

    def measure(times):
        done = run('openssl', 'speed', '-seconds', 2 * times, *(['-bytes', '1024'] if algorithms[-1][:3] not in ('rsa', 'ecd') else []), *algorithms,
                   rate=RATE)
        assert done.status == 0, done.stderr
        return done.profile

    complete_profile(measure)

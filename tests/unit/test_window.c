// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_window.c: windows over a whole collector, and the profiles that come out of them. The target is this program (fake_agent.h),
// which writes samples with its own functions' addresses.

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "collector/trace.h"
#include "collector/window_impl.h"
#include "tests/unit/core_test.h"

static uint32_t gettid_u32(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

__attribute__((noinline)) static int test_leaf_function(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

__attribute__((noinline)) static int test_caller_function(int x)
{
	__asm__ volatile("" : "+r"(x));
	return test_leaf_function(x) * 2;
}

// leaf, exact ← caller, a return address.
static void put_stack(struct fake_agent *agent, uint32_t tid, unsigned n)
{
	const uint64_t pcs[] = {(uintptr_t)test_leaf_function, (uintptr_t)test_caller_function + 1};

	for (unsigned i = 0; i < n; i++)
		fake_agent_put(agent, tid, pcs, 2);
}

static const char *frame_name(const struct profile *profile, const struct profile_sample *sample, uint32_t i)
{
	static char buf[256];

	assert_true(i < sample->nlocations);
	return profile_frame_name(profile, &profile->locations[sample->location_ids[i] - 1], 0, buf, sizeof(buf));
}

static const struct profile_label *find_label(const struct profile_sample *sample, const char *key)
{
	for (uint32_t i = 0; i < sample->nlabels; i++)
		if (strcmp(sample->labels[i].key, key) == 0)
			return &sample->labels[i];
	return NULL;
}

static bool has_comment(const struct profile *profile, const char *text)
{
	for (uint32_t i = 0; i < profile->ncomments; i++)
		if (strstr(profile->comments[i], text))
			return true;
	return false;
}

static void test_profile_of_a_run(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 99);
	struct window_stats stats;
	struct fake_agent agent;
	union fake_message message;
	struct profile *profile;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
	assert_int_equal(agent.rate_hz, 99);
	assert_true(agent.tables >= 2); // this program and libc at least, and before the first sample
	assert_true(fake_agent_receive(&agent, &message, FAKE_PATIENCE_MS) > 0);
	assert_int_equal(message.msg.type, WIRE_MSG_READY);
	put_stack(&agent, gettid_u32(), 50);
	agent.fake.shards[0].generated += 3;
	agent.fake.shards[0].dropped[WIRE_DROP_NO_SCRATCH] += 3;
	window_stop(window);
	window_stats(window, &stats);
	assert_int_equal(stats.records, 50);
	assert_int_equal(stats.samples, 100);
	assert_int_equal(stats.cpu_ns, 500000000);
	assert_int_equal(stats.generated, 53);
	assert_int_equal(stats.dropped[WIRE_DROP_NO_SCRATCH], 3);
	assert_int_equal(stats.threads, 1);
	assert_int_equal(stats.targets, 1);
	assert_int_equal(stats.period_ns, 1000000000 / 99);
	profile = window_profile(window);
	assert_non_null(profile);
	assert_int_equal(profile->nsample_types, 2);
	assert_string_equal(profile->sample_types[0].type, "samples");
	assert_string_equal(profile->sample_types[1].unit, "nanoseconds");
	assert_int_equal(profile->period, 1000000000 / 99);
	assert_int_equal(profile->nsamples, 1);
	assert_int_equal(profile->samples[0].values[0], 100);
	assert_int_equal(profile->samples[0].values[1], 500000000);
	assert_string_equal(frame_name(profile, &profile->samples[0], 0), "test_leaf_function");
	assert_string_equal(frame_name(profile, &profile->samples[0], 1), "test_caller_function");
	assert_non_null(strstr(profile->mappings[0].file, "test_window"));
	assert_true(profile->mappings[0].has_functions);
	assert_int_equal(profile->locations[profile->samples[0].location_ids[1] - 1].address,
			 (uintptr_t)test_caller_function);
	assert_int_equal(find_label(&profile->samples[0], "thread_id")->num, gettid_u32());
	assert_null(find_label(&profile->samples[0], "process_id"));
	assert_true(has_comment(profile, "99 Hz asked, 100.0 Hz reached"));
	assert_true(has_comment(profile, "dropped: 3 (ring full 0, contention 0, no scratch 3"));
	assert_true(has_comment(profile, "truncated stacks: 0.00%"));
	assert_true(has_comment(profile, "command: "));
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// What was seen is named while the window is open; what comes later is in the profile as well.
static void test_names_are_read_early(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	const uint64_t leaf = (uintptr_t)test_leaf_function;
	struct fake_agent agent;
	struct profile *profile;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	window_prepare(window);
	assert_int_equal(window->nprepared, 0);
	put_stack(&agent, 1, 10);
	while (window->nprepared < 2) // the loop drains the ring now and then
		window_prepare(window);
	window_prepare(window);
	assert_int_equal(window->nprepared, 2);
	fake_agent_put(&agent, 2, &leaf, 1);
	window_stop(window);
	profile = window_profile(window);
	assert_non_null(profile);
	assert_int_equal(profile->nsamples, 2);
	for (uint32_t i = 0; i < 2; i++)
		assert_string_equal(frame_name(profile, &profile->samples[i], 0), "test_leaf_function");
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void test_empty_profile_names_its_binary(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;
	struct profile *profile;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	window_stop(window);
	profile = window_profile(window);
	assert_non_null(profile);
	assert_int_equal(profile->nsamples, 0);
	assert_int_equal(profile->nmappings, 1);
	assert_non_null(strstr(profile->mappings[0].file, "test_window"));
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// Two windows share the stream; each has what came while it was open. The rate is the highest that somebody wants. A trace that wants no samples has
// none.
static void test_windows_share_the_stream(void **state)
{
	struct collector *collector = start(false);
	struct window *slow, *fast, *none;
	struct window_stats stats;
	struct fake_agent agent;
	union fake_message message;
	struct trace *trace = trace_create(&(struct trace_options){.passive = true});
	const struct window_options no_samples = {.trace = trace};

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(window_open(collector, &no_samples, &none), 0);
	assert_int_equal(fake_agent_receive(&agent, &message, 50), -EAGAIN); // nobody wants samples: no tables, no rate
	put_stack(&agent, 1, 1000);                                          // before any window: nobody's
	slow = open_window(collector, getpid(), 100);
	while (agent.rate_hz == 0)
		assert_true(fake_agent_receive(&agent, &message, 0) > 0); // it was sent before window_open returned
	assert_int_equal(agent.rate_hz, 100);
	put_stack(&agent, 1, 10);
	fast = open_window(collector, 0, 1000);
	assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
	assert_int_equal(agent.rate_hz, 1000);
	put_stack(&agent, 1, 20);
	window_stop(fast);
	assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
	assert_int_equal(agent.rate_hz, 100);
	put_stack(&agent, 1, 40);
	window_stop(slow);
	assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
	assert_int_equal(agent.rate_hz, 0);
	put_stack(&agent, 1, 80);
	window_stats(slow, &stats);
	assert_int_equal(stats.records, 70);
	assert_int_equal(stats.generated, 70);
	window_stats(fast, &stats);
	assert_int_equal(stats.records, 20);
	window_stop(none);
	assert_int_equal(trace_counting(trace)->samples, 0);
	window_destroy(none);
	trace_destroy(trace);
	window_destroy(slow);
	window_destroy(fast);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void test_refused_windows(void **state)
{
	struct collector *collector = start(false);
	struct window_options options = {.pid = getpid(), .rate_hz = 100};
	struct window *windows[64], *window;

	assert_int_equal(window_open(collector, &options, &window), -ESRCH);
	options.pid = 0;
	options.rate_hz = 0;
	assert_int_equal(window_open(collector, &options, &window), -EINVAL);
	options.rate_hz = WIRE_MAX_RATE_HZ + 1;
	assert_int_equal(window_open(collector, &options, &window), -EINVAL);
	for (int i = 0; i < 64; i++)
		windows[i] = open_window(collector, 0, 100);
	options.rate_hz = 100;
	assert_int_equal(window_open(collector, &options, &window), -EBUSY);
	for (int i = 0; i < 64; i++)
		window_destroy(windows[i]);
	window_destroy(open_window(collector, 0, 100));
	window_destroy(NULL);
	collector_destroy(collector);
	collector_destroy(NULL);
}

static void test_windows_outlive_their_collector(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct pollfd poll_fd = {.fd = window_fd(window), .events = POLLIN};
	struct window_stats stats;
	struct fake_agent agent;
	struct profile *profile;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	put_stack(&agent, 1, 5);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	assert_false(window_ended(window));
	collector_destroy(collector);
	assert_int_equal(poll(&poll_fd, 1, 0), 1);
	assert_true(window_ended(window));
	window_stop(window);
	window_stats(window, &stats);
	assert_int_equal(stats.records, 5);
	profile = window_profile(window);
	assert_string_equal(frame_name(profile, &profile->samples[0], 0), "test_leaf_function");
	profile_destroy(profile);
	window_destroy(window);
	assert_true(fake_agent_await_end(&agent));
	fake_agent_stop(&agent);
}

// ---- Threads and processes -------------------------------------------------------------------------------------------

static void *named_thread(void *argument)
{
	pthread_barrier_t *barrier = argument;

	pthread_setname_np(pthread_self(), "early");
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier); // the first sample is in
	pthread_setname_np(pthread_self(), "late");
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return NULL;
}

static uint32_t other_tid(void)
{
	// The newest thread has the highest tid, but where tids wrap; the test's process has just started.
	uint32_t tid = 0;
	char path[64];

	for (uint32_t i = gettid_u32() + 1; i < gettid_u32() + 2000 && tid == 0; i++) {
		char name[16] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%u/comm", i);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file) && strcmp(name, "early\n") == 0)
			tid = i;
		fclose(file);
	}
	return tid;
}

// A thread's name as of the window's end; one that is gone, by its slot; one that never had any, by its process.
static void test_thread_names(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	pthread_barrier_t barrier;
	struct fake_agent agent;
	struct profile *profile;
	struct wire_slot *slot;
	pthread_t thread;
	uint32_t tid;

	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, named_thread, &barrier), 0);
	pthread_barrier_wait(&barrier);
	tid = other_tid();
	assert_true(tid > 0);
	fake_agent_start(&agent, socket_name);
	slot = &agent.fake.slots[0];
	slot->state_tid = 4194303;
	strcpy(slot->name, "gone");
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	put_stack(&agent, tid, 1);
	put_stack(&agent, 4194303, 1); // not a thread: its name is in slot 0
	put_stack(&agent, 4194302, 1);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	window_stop(window);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	profile = window_profile(window);
	assert_int_equal(profile->nsamples, 3);
	for (uint32_t i = 0; i < 3; i++) {
		int64_t id = find_label(&profile->samples[i], "thread_id")->num;
		const char *name = find_label(&profile->samples[i], "thread_name")->str;

		if (id == tid)
			assert_string_equal(name, "late");
		else if (id == 4194303)
			assert_string_equal(name, "gone");
		else
			assert_string_equal(name, "test_window");
	}
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
	pthread_barrier_destroy(&barrier);
}

// A child that is a target, writes n samples and one that it never commits, and dies or lingers.
static pid_t spawn_target(unsigned n, bool die)
{
	pid_t child = fork();
	struct fake_agent agent;

	if (child != 0)
		return child;
	fake_agent_start(&agent, socket_name);
	if (!fake_agent_await(&agent, WIRE_MSG_READY))
		_exit(1);
	put_stack(&agent, (uint32_t)getpid() & ~1u, n / 2);
	agent.fake.shards[0].generated++;
	agent.fake.rings[0].data[agent.fake.shards[0].head / 8] =
		WIRE_HEAD(agent.fake.shards[0].head, WIRE_REC_RESERVED, 20);
	agent.fake.shards[0].head += 160;
	put_stack(&agent, (uint32_t)getpid() & ~1u, n - n / 2);
	if (die)
		raise(SIGKILL);
	for (;;)
		fake_agent_await_end(&agent);
}

static void test_killed_target_loses_nothing(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct collector *collector = start(false);
		struct window *window = open_window(collector, 0, 100);
		struct collector_counters counters;
		struct window_stats stats;
		struct profile *profile;
		pid_t child = spawn_target(100, true);

		assert_int_equal(waitpid(child, NULL, 0), child);
		window_stop(window); // at once, as `profd run` does
		window_stats(window, &stats);
		assert_int_equal(stats.records, 100);
		assert_int_equal(stats.generated, 101);
		collector_counters(collector, &counters);
		assert_int_equal(counters.bad_records, 1);
		assert_int_equal(counters.targets_now, 0);
		profile = window_profile(window);
		assert_string_equal(frame_name(profile, &profile->samples[0], 1), "test_caller_function");
		profile_destroy(profile);
		window_destroy(window);
		collector_destroy(collector);
	}
}

static void test_window_ends_with_its_target(void **state)
{
	struct collector *collector = start(false);
	pid_t child = spawn_target(0, false);
	struct pollfd poll_fd = {.events = POLLIN};
	struct window *window, *of_all;

	assert_true(targets_become(collector, 1));
	window = open_window(collector, child, 100);
	of_all = open_window(collector, 0, 100);
	poll_fd.fd = window_fd(window);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	kill(child, SIGKILL);
	assert_int_equal(poll(&poll_fd, 1, FAKE_PATIENCE_MS), 1);
	assert_true(window_ended(window));
	assert_false(window_ended(of_all));
	assert_int_equal(waitpid(child, NULL, 0), child);
	window_destroy(window);
	window_destroy(of_all);
	collector_destroy(collector);
}

static void test_two_targets_are_told_apart(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	pid_t child = spawn_target(10, false);
	struct window_stats stats = {0};
	struct fake_agent agent;
	struct profile *profile;
	int64_t seen = 0;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	put_stack(&agent, gettid_u32(), 10);
	for (int i = 0; i < 1000 && stats.records < 15; i++) { // the child's other five are behind its hole
		fake_sleep_ms(10);
		window_stats(window, &stats);
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	window_stop(window);
	window_stats(window, &stats);
	assert_int_equal(stats.targets, 2);
	assert_int_equal(stats.records, 20);
	profile = window_profile(window);
	assert_int_equal(profile->nsamples, 2);
	for (uint32_t i = 0; i < 2; i++)
		seen += find_label(&profile->samples[i], "process_id")->num;
	assert_int_equal(seen, (int64_t)getpid() + child);
	// Forked, they map the same file at the same place: one mapping, shared locations.
	assert_int_equal(profile->nmappings, 1);
	assert_int_equal(profile->nlocations, 2);
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void test_symbol(void **state)
{
	struct collector *collector = start(false);
	struct fake_agent agent;
	char name[64] = "";

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_true(collector_symbol(collector, getpid(), (uintptr_t)test_leaf_function, name, sizeof(name)));
	assert_string_equal(name, "test_leaf_function");
	assert_true(collector_symbol(collector, getpid(), (uintptr_t)test_leaf_function, name, 5));
	assert_string_equal(name, "test");
	assert_false(collector_symbol(collector, getpid(), 16, name, sizeof(name)));
	assert_false(collector_symbol(collector, 1, (uintptr_t)test_leaf_function, name, sizeof(name)));
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profile_of_a_run),
		cmocka_unit_test(test_names_are_read_early),
		cmocka_unit_test(test_empty_profile_names_its_binary),
		cmocka_unit_test(test_windows_share_the_stream),
		cmocka_unit_test(test_refused_windows),
		cmocka_unit_test(test_windows_outlive_their_collector),
		cmocka_unit_test(test_thread_names),
		cmocka_unit_test(test_killed_target_loses_nothing),
		cmocka_unit_test(test_window_ends_with_its_target),
		cmocka_unit_test(test_two_targets_are_told_apart),
		cmocka_unit_test(test_symbol),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

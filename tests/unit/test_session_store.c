// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_session_store.c: what is switched on in a target, and the store that it shows: by whom, when, and for how long it is kept.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "collector/collector.h"
#include "collector/store.h"
#include "collector/store_source.h"
#include "profd/store.h"
#include "tests/unit/fake_agent.h"
#include "tests/unit/own_store.h"

static char socket_name[64];

static struct collector *start_with(uint64_t heap_rate, bool keep_stores)
{
	struct collector_options options = {.socket = socket_name, .keep_stores = keep_stores};
	struct collector *collector;

	snprintf(socket_name, sizeof(socket_name), "@profd-test-store-%d", (int)getpid());
	options.sampling.rates.heap_bytes = heap_rate;
	assert_int_equal(collector_create(&options, &collector), 0);
	return collector;
}

static int open_store(void **state)
{
	(void)state;
	return profd_store_open();
}

static void join(struct fake_agent *agent, const struct wire_rates *wish)
{
	struct wire_hello hello;

	*agent = (struct fake_agent){0};
	fake_region_make(&agent->fake, (uint32_t)getpid(), 1, WIRE_MIN_SHARD_SIZE);
	agent->fd = fake_agent_connect_to(socket_name);
	assert_true(agent->fd >= 0);
	hello = fake_agent_hello(agent);
	hello.rates = *wish;
	assert_int_equal(fake_agent_send(agent->fd, &hello, sizeof(hello), agent->fake.fd), 0);
}

static void show_store(struct fake_agent *agent)
{
	const struct wire_store_msg message = {{WIRE_MSG_STORE, 0}, profd_store.size};

	assert_int_equal(fake_agent_send(agent->fd, &message, sizeof(message), profd_store.fd), 0);
}

static size_t stores_become(struct collector *collector, pid_t pid, size_t wanted)
{
	struct store_sources sources = {0};
	size_t count = SIZE_MAX;

	for (int i = 0; i < 1000 && count != wanted; i++) {
		if (i > 0)
			fake_sleep_ms(5);
		if (collector_stores(collector, pid, &sources) == 0)
			count = sources.count;
		store_sources_finish(&sources);
	}
	return count;
}

// What the target wishes holds, but where the collector has a rate of its own. The tables come first, then the rates, then READY.
static void test_rates_at_hello(void **state)
{
	const struct wire_rates wish = {.heap_bytes = 77, .mutex = 5};
	struct collector *collector = start_with(4096, false);
	struct fake_agent agent;
	struct wire_rates rates;

	(void)state;
	join(&agent, &wish);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(agent.rates.heap_bytes, 4096);
	assert_int_equal(agent.rates.mutex, 5);
	assert_true(agent.tables > 0); // nothing is sampled by time, and yet stacks will be walked
	assert_int_equal(collector_rates(collector, getpid(), &rates), 0);
	assert_memory_equal(&rates, &agent.rates, sizeof(rates));
	fake_agent_stop(&agent);
	collector_destroy(collector);
	collector = start_with(0, false);
	join(&agent, &wish);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(agent.rate_messages, 0); // its wish is in force already
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void test_rates_changed_later(void **state)
{
	const struct collector_rates_change change = {.has_heap = true, .rates.heap_bytes = 1000};
	const struct collector_rates_change off = {.has_heap = true};
	struct collector *collector = start_with(0, false);
	const struct wire_rates none = {0}, mutex = {.mutex = 3};
	struct fake_agent agent;

	(void)state;
	assert_int_equal(collector_change_rates(collector, getpid(), &change), -ESRCH);
	join(&agent, &mutex);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(collector_change_rates(collector, getpid(), &change), 0);
	assert_true(fake_agent_await(&agent, WIRE_MSG_RATES));
	assert_int_equal(agent.rates.heap_bytes, 1000);
	assert_int_equal(agent.rates.mutex, 3);
	assert_int_equal(collector_change_rates(collector, 0, &off), 0);
	assert_true(fake_agent_await(&agent, WIRE_MSG_RATES));
	assert_int_equal(agent.rates.heap_bytes, 0);
	fake_agent_stop(&agent);
	// Those to come, too, whatever their environment says; what was not changed is as they wish.
	join(&agent, &(struct wire_rates){.heap_bytes = 77, .mutex = 3});
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(agent.rates.heap_bytes, 0);
	assert_int_equal(agent.rates.mutex, 3);
	assert_int_equal(agent.rate_messages, 1);
	fake_agent_stop(&agent);
	assert_int_equal(collector_change_rates(collector, 0, &change), 0);
	join(&agent, &none);
	assert_true(fake_agent_await(&agent, WIRE_MSG_RATES));
	assert_int_equal(agent.rates.heap_bytes, 1000);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void assert_lost(struct collector *collector, uint64_t stacks, uint64_t traces)
{
	struct collector_counters counters = {0};

	collector_counters(collector, &counters);
	assert_int_equal(counters.store_lost[WIRE_STORE_LOST_STACKS], stacks);
	assert_int_equal(counters.traces_lost, traces);
}

static void test_store_is_shown(void **state)
{
	const struct wire_rates wish = {.heap_bytes = 1};
	struct collector *collector = start_with(0, false);
	struct store_sources sources;
	struct fake_agent agent;

	(void)state;
	assert_int_equal(collector_stores(collector, getpid(), &sources), -ESRCH);
	join(&agent, &wish);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(stores_become(collector, getpid(), 0), 0);
	show_store(&agent);
	assert_int_equal(stores_become(collector, getpid(), 1), 1);
	assert_int_equal(collector_stores(collector, 0, &sources), 0);
	assert_int_equal(sources.count, 1);
	assert_int_equal(sources.list[0]->pid, getpid());
	assert_int_equal(sources.list[0]->ended_ns, 0);
	assert_non_null(store_source_find(sources.list[0], (uint64_t)(uintptr_t)test_store_is_shown));
	assert_non_null(sources.list[0]->main_mapping);
	profd_store.header->lost[WIRE_STORE_LOST_STACKS] = 3;
	profd_store.header->traces_lost = 7;
	assert_lost(collector, 3, 7);
	fake_agent_stop(&agent);
	// It is not kept, but what has it may use it.
	struct store_sources later;
	for (int i = 0; i < 1000 && collector_stores(collector, getpid(), &later) == 0; i++) {
		store_sources_finish(&later);
		fake_sleep_ms(5);
	}
	assert_int_equal(stores_become(collector, 0, 0), 0);
	assert_lost(collector, 3, 7); // of what is gone, too
	struct store_live live;
	store_read_live(sources.list[0]->store, &live);
	assert_int_equal(live.start_ns, profd_store.header->start_ns);
	store_sources_finish(&sources);
	collector_destroy(collector);
}

static void test_stores_are_kept(void **state)
{
	const struct wire_rates wish = {.heap_bytes = 1};
	struct collector *collector = start_with(1, true);
	struct store_sources sources;
	struct fake_agent agent;

	(void)state;
	for (int i = 0; i < 3; i++) {
		join(&agent, &wish);
		assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
		show_store(&agent);
		assert_int_equal(stores_become(collector, getpid(), 1), 1);
		fake_agent_stop(&agent);
		for (int k = 0; k < 1000 && collector_stores(collector, getpid(), &sources) == 0; k++) {
			store_sources_finish(&sources);
			fake_sleep_ms(5);
		}
	}
	assert_int_equal(collector_stores(collector, 0, &sources), 0);
	assert_int_equal(sources.count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(sources.list[i]->ended_ns > 0);
		assert_true(sources.list[i]->replaced); // the process lives: it was another image's
	}
	store_sources_finish(&sources);
	collector_destroy(collector);
}

static void test_bad_stores_end_the_session(void **state)
{
	const struct wire_rates wish = {.heap_bytes = 1};
	struct collector *collector = start_with(0, false);
	struct wire_store_msg message = {{WIRE_MSG_STORE, 0}, profd_store.size};
	struct fake_agent agent;

	(void)state;
	for (int which = 0; which < 5; which++) {
		join(&agent, &wish);
		assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
		message.size = profd_store.size + (which == 0 ? WIRE_PAGE : 0);
		if (which == 4)
			show_store(&agent); // a second one
		fake_agent_send(agent.fd, &message, sizeof(message) - (which == 1 ? 8 : 0),
				which == 2   ? -1
				: which == 3 ? agent.fake.fd
					     : profd_store.fd);
		assert_true(fake_agent_await_end(&agent));
		fake_agent_stop(&agent);
	}
	collector_destroy(collector);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, open_store, close_store)
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_rates_at_hello),
		WITH_STORE(test_rates_changed_later),
		WITH_STORE(test_store_is_shown),
		WITH_STORE(test_stores_are_kept),
		WITH_STORE(test_bad_stores_end_the_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

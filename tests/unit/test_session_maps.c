// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_session_maps.c: samples find the mappings that they were taken in (session_maps.c): dlopen and dlclose, generated code, short
// lives, nonsense.

#include <dlfcn.h>
#include <semaphore.h>
#include <sys/wait.h>

#include "collector/cfi_table.h"
#include "collector/clock.h"
#include "collector/core.h"
#include "tests/unit/core_test.h"

__attribute__((noinline)) static int some_function(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static bool profile_names(struct window *window, const char *module)
{
	struct profile *profile = window_profile(window);
	bool found = false;

	assert_non_null(profile);
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		const struct profile_location *leaf = &profile->locations[profile->samples[i].location_ids[0] - 1];

		found |= leaf->mapping_id && strstr(profile->mappings[leaf->mapping_id - 1].file, module);
	}
	profile_destroy(profile);
	return found;
}

#define LIBRARY "libresolv.so.2" // of glibc; nothing here is linked with it

static void test_library_comes_and_goes(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;
	unsigned tables;
	uint64_t pc;
	void *library;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	tables = agent.tables;
	library = dlopen(LIBRARY, RTLD_NOW);
	assert_non_null(library);
	pc = (uintptr_t)dlsym(library, "ns_get16");
	fake_agent_send_maps(&agent);
	assert_true(fake_agent_await(&agent, WIRE_MSG_TABLE));
	assert_int_equal(agent.tables, tables + 1);
	assert_true(pc >= agent.table_start && pc < agent.table_end);
	fake_agent_put(&agent, 1, &pc, 1);
	// Unmapped after its sample was taken, and before it is read: the sample is still the library's.
	dlclose(library);
	fake_agent_send_maps(&agent);
	assert_true(fake_agent_await(&agent, WIRE_MSG_FORGET));
	assert_true(agent.forget_start == agent.table_start);
	window_stop(window);
	assert_int_equal(records_of(window), 1);
	assert_true(profile_names(window, LIBRARY));
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// A sample can be read before the message that says why it cannot be understood: it waits for the mappings. So does a window that is
// stopped just then.
static void check_overtaking(bool stop_at_once)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;
	void *library;
	uint64_t pc;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	library = dlopen(LIBRARY, RTLD_NOW);
	assert_non_null(library);
	pc = (uintptr_t)dlsym(library, "ns_get16");
	__atomic_add_fetch(&agent.fake.header->maps_gen, 1, __ATOMIC_SEQ_CST);
	fake_agent_put(&agent, 1, &pc, 1);
	for (int i = 0; i < 1000 && !stop_at_once && records_of(window) == 0; i++)
		fake_sleep_ms(5);
	window_stop(window);
	assert_int_equal(records_of(window), 1);
	assert_true(profile_names(window, LIBRARY));
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
	dlclose(library);
}

static void test_sample_overtakes_its_maps_message(void **state)
{
	check_overtaking(false);
	check_overtaking(true);
}

// The same without even a new generation: code that runs inside of dlopen.
static void test_sample_from_inside_dlopen(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;
	void *library;
	uint64_t pc;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	library = dlopen(LIBRARY, RTLD_NOW);
	assert_non_null(library);
	pc = (uintptr_t)dlsym(library, "ns_get16");
	fake_agent_put(&agent, 1, &pc, 1);
	window_stop(window);
	assert_int_equal(records_of(window), 1);
	assert_true(profile_names(window, LIBRARY));
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
	dlclose(library);
}

// A fork's child goes on sampling by itself. Before anybody could look at its mappings it is another program, or gone.
static void fork_short_life(bool exec)
{
	const uint64_t pcs[] = {(uintptr_t)some_function};
	struct fake_agent agent = {0};
	pid_t child = fork();

	if (child > 0) {
		assert_int_equal(waitpid(child, NULL, 0), child);
		return;
	}
	fake_region_make(&agent.fake, (uint32_t)getpid(), 2, WIRE_MIN_SHARD_SIZE);
	agent.fake.header->period_ns = 10000000;
	fake_agent_connect(&agent, socket_name);
	fake_agent_put(&agent, (uint32_t)getpid(), pcs, 1);
	if (exec)
		execl("/bin/true", "true", NULL);
	_exit(0);
}

static void test_short_life_after_fork(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;
	struct profile *profile;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	for (int i = 0; i < 30; i++)
		fork_short_life(i & 1);
	assert_true(targets_become(collector, 1));
	window_stop(window);
	assert_int_equal(records_of(window), 30);
	profile = window_profile(window);
	assert_int_equal(profile->nlocations, 1);
	assert_int_equal(profile->locations[0].nlines, 1);
	assert_string_equal(profile->functions[0].name, "some_function");
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void *map_code(void)
{
	void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(code, MAP_FAILED);
	return code;
}

// Code made at run time, of which no message tells; its compiler left names for it in /tmp/perf-PID.map.
static void test_generated_code(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct profile *profile;
	struct fake_agent agent;
	char path[64], name[64];
	uint64_t pc;
	FILE *file;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	pc = (uintptr_t)map_code();
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "%llx 100 old_name\nnonsense\n%llx 100 py::jitted\n", (unsigned long long)pc,
		(unsigned long long)pc);
	fclose(file);
	pc += 8;
	fake_agent_put(&agent, 1, &pc, 1);
	for (int i = 0; i < 1000 && records_of(window) == 0; i++)
		fake_sleep_ms(5);
	window_stop(window);
	profile = window_profile(window);
	assert_int_equal(profile->nsamples, 1);
	profile_frame_name(profile, &profile->locations[profile->samples[0].location_ids[0] - 1], 0, name,
			   sizeof(name));
	assert_string_equal(name, "py::jitted");
	assert_true(profile_names(window, "[anonymous]"));
	profile_destroy(profile);
	unlink(path);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
	munmap((void *)(uintptr_t)(pc - 8), 4096);
}

// PCs that are nowhere, and mappings that claim to change all the time, cost some reading; the samples come through.
static void test_nonsense_pcs_come_through(void **state)
{
	const uint64_t pcs[] = {1, 0, UINT64_MAX, UINT64_MAX >> 1};
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	for (int i = 0; i < 100; i++) {
		fake_agent_put(&agent, 1, pcs, 4);
		fake_agent_send_maps(&agent);
	}
	for (int i = 0; i < 1000 && records_of(window) < 100; i++)
		fake_sleep_ms(5);
	window_stop(window);
	assert_int_equal(records_of(window), 100);
	assert_false(profile_names(window, "libc"));
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// Frames of the agent itself are left out; a stack of nothing else keeps one.
static void test_agent_frames_are_left_out(void **state)
{
	char dir[] = "/tmp/profd-test-XXXXXX", path[64], command[256];
	struct collector *collector = start(false);
	struct window *window;
	struct profile *profile;
	struct fake_agent agent;
	void *library;
	uint64_t pcs[3];
	Dl_info info;

	assert_non_null(mkdtemp(dir));
	library = dlopen(LIBRARY, RTLD_NOW);
	assert_true(dladdr(dlsym(library, "ns_get16"), &info));
	snprintf(path, sizeof(path), "%s/libprofd.so", dir);
	snprintf(command, sizeof(command), "cp -L %s %s", info.dli_fname, path);
	assert_int_equal(system(command), 0);
	dlclose(library);
	library = dlopen(path, RTLD_NOW);
	assert_non_null(library);
	window = open_window(collector, 0, 100);
	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	pcs[0] = (uintptr_t)some_function;
	pcs[1] = (uintptr_t)dlsym(library, "ns_get16") + 1;
	pcs[2] = (uintptr_t)start + 1;
	fake_agent_put(&agent, 1, pcs, 3);
	fake_agent_put(&agent, 1, pcs + 1, 1);
	window_stop(window);
	profile = window_profile(window);
	assert_int_equal(profile->nsamples, 2);
	assert_int_equal(profile->samples[0].nlocations, 2);
	assert_int_equal(profile->samples[1].nlocations, 1);
	profile_destroy(profile);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
	dlclose(library);
	unlink(path);
	rmdir(dir);
}

// ---- Tables that take their time -------------------------------------------------------------------------------------

static bool held; // atomic: whoever makes a table waits for a post
static sem_t let_go;

int __real_cfi_table_build(Elf *elf, struct wire_table **ret_table, size_t *ret_size);
int __wrap_cfi_table_build(Elf *elf, struct wire_table **ret_table, size_t *ret_size);

int __wrap_cfi_table_build(Elf *elf, struct wire_table **ret_table, size_t *ret_size)
{
	if (__atomic_load_n(&held, __ATOMIC_ACQUIRE))
		sem_wait(&let_go);
	return __real_cfi_table_build(elf, ret_table, ret_size);
}

static void hold_tables(bool hold)
{
	if (hold)
		sem_init(&let_go, 0, 0);
	__atomic_store_n(&held, hold, __ATOMIC_RELEASE);
	for (int i = 0; !hold && i < 100; i++)
		sem_post(&let_go);
}

// Sampling begins and main runs although no table is there; they come after.
static void test_sampling_does_not_wait_for_tables(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	uint64_t pc = (uintptr_t)some_function;
	struct fake_agent agent;

	hold_tables(true);
	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(agent.rate_hz, 100);
	assert_int_equal(agent.tables, 0);
	fake_agent_put(&agent, 1, &pc, 1);
	hold_tables(false);
	assert_true(fake_agent_await(&agent, WIRE_MSG_TABLE));
	window_stop(window);
	assert_int_equal(records_of(window), 1);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// The same for a target that runs already, each time that a window is opened.
static void test_windows_do_not_wait_for_tables(void **state)
{
	struct collector *collector = start(false);
	struct fake_agent agent;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	hold_tables(true);
	for (uint32_t rate_hz = 50; rate_hz <= 100; rate_hz += 50) {
		int64_t before_ns = clock_now_ns();
		struct window *window = open_window(collector, 0, rate_hz);

		assert_true(clock_now_ns() - before_ns < 1900000000); // 2 s is what tables may take
		assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
		assert_int_equal(agent.rate_hz, rate_hz);
		window_destroy(window);
		assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
		assert_int_equal(agent.rate_hz, 0);
	}
	assert_int_equal(agent.tables, 0);
	hold_tables(false);
	assert_true(fake_agent_await(&agent, WIRE_MSG_TABLE));
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// Those that are there in time come first.
static void test_tables_come_first(void **state)
{
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_SAMPLING));
	assert_true(agent.tables > 3);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_library_comes_and_goes),
		cmocka_unit_test(test_sample_overtakes_its_maps_message),
		cmocka_unit_test(test_sample_from_inside_dlopen),
		cmocka_unit_test(test_short_life_after_fork),
		cmocka_unit_test(test_generated_code),
		cmocka_unit_test(test_nonsense_pcs_come_through),
		cmocka_unit_test(test_agent_frames_are_left_out),
		cmocka_unit_test(test_sampling_does_not_wait_for_tables),
		cmocka_unit_test(test_windows_do_not_wait_for_tables),
		cmocka_unit_test(test_tables_come_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

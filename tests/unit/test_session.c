// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_session.c: how targets come and go (session.c, transport.c, collector.c): who is let in, what hostile ones can do, exec, a
// target that does not read, a socket left behind, a collector that has nothing to do.

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/core_test.h"

static void test_target_is_described(void **state)
{
	struct collector *collector = start(false);
	struct collector_target targets[2];
	struct fake_agent agent;

	fake_agent_start(&agent, socket_name);
	agent.fake.header->threads_live = 3;
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	assert_int_equal(collector_targets(collector, targets, 2), 1);
	assert_int_equal(targets[0].pid, getpid());
	assert_int_equal(targets[0].ppid, getppid());
	assert_int_equal(targets[0].uid, geteuid());
	assert_string_equal(targets[0].comm, "test_session");
	assert_non_null(strstr(targets[0].exe, "/test_session"));
	assert_int_equal(targets[0].threads_live, 3);
	assert_int_equal(targets[0].period_ns, 0);
	assert_true(targets[0].since_ns > 1600000000LL * 1000000000);
	assert_int_equal(collector_targets(collector, NULL, 0), 1);
	fake_agent_stop(&agent);
	assert_true(targets_become(collector, 0)); // it lives on, but its agent is gone
	assert_int_equal(collector_targets(collector, targets, 2), 0);
	assert_int_equal(counters_of(collector).targets_total, 1);
	collector_destroy(collector);
}

// ---- Who is let in ---------------------------------------------------------------------------------------------------

// Sends one first message; true when the collector hangs up on it.
static bool is_refused(const void *data, size_t size, int passed_fd)
{
	struct fake_agent agent = {.fd = fake_agent_connect_to(socket_name)};
	bool ended;

	assert_true(agent.fd >= 0);
	fake_agent_send(agent.fd, data, size, passed_fd);
	ended = fake_agent_await_end(&agent);
	close(agent.fd);
	return ended;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

// The collector hangs up first and closes the rest a moment later.
static bool open_fds_become(unsigned n)
{
	for (int i = 0; i < 1000 && open_fds() != n; i++)
		fake_sleep_ms(5);
	return open_fds() == n;
}

static void test_bad_hellos_are_refused(void **state)
{
	struct collector *collector = start(false);
	struct fake_agent agent = {0};
	struct wire_hello good, bad;
	char garbage[4096];
	unsigned fds;

	fake_region_make(&agent.fake, (uint32_t)getpid(), 1, WIRE_MIN_SHARD_SIZE);
	good = fake_agent_hello(&agent);
	memset(garbage, 0xa5, sizeof(garbage));
	fds = open_fds();
	for (int round = 0; round < 20; round++) {
		assert_true(is_refused(&good, sizeof(good), -1));
		assert_true(is_refused(&good, sizeof(good), STDERR_FILENO));
		assert_true(is_refused(&good, sizeof(good) - 1, agent.fake.fd));
		assert_true(is_refused(garbage, 40, agent.fake.fd));
		assert_true(is_refused(garbage, sizeof(garbage), agent.fake.fd));
		assert_true(is_refused("", 1, -1));
		bad = good;
		bad.magic++;
		assert_true(is_refused(&bad, sizeof(bad), agent.fake.fd));
		bad = good;
		bad.msg.arg++;
		assert_true(is_refused(&bad, sizeof(bad), agent.fake.fd));
		bad = good;
		bad.pid = 1;
		assert_true(is_refused(&bad, sizeof(bad), agent.fake.fd));
		bad = good;
		bad.region_size = UINT64_MAX;
		assert_true(is_refused(&bad, sizeof(bad), agent.fake.fd));
		bad = good;
		bad.msg.type = WIRE_MSG_MAPS;
		assert_true(is_refused(&bad, sizeof(bad), agent.fake.fd));
	}
	assert_int_equal(counters_of(collector).targets_total, 0);
	assert_true(counters_of(collector).targets_refused >= 20 * 8);
	assert_true(open_fds_become(fds)); // nothing that came along stayed open
	fake_agent_connect(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static void test_bad_messages_end_the_session(void **state)
{
	struct collector *collector = start(false);

	for (int which = 0; which < 3; which++) {
		const struct wire_msg unknown = {.type = 99}, maps = {.type = WIRE_MSG_MAPS};
		struct wire_hello hello;
		struct fake_agent agent;

		fake_agent_start(&agent, socket_name);
		assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
		hello = fake_agent_hello(&agent);
		fake_agent_send(agent.fd, &maps, sizeof(maps), agent.fake.fd); // fine, whatever comes with it
		if (which == 0)
			fake_agent_send(agent.fd, &unknown, sizeof(unknown), -1);
		else if (which == 1)
			fake_agent_send(agent.fd, &hello, sizeof(hello), agent.fake.fd);
		else
			fake_agent_send(agent.fd, &maps, 4, -1);
		assert_true(fake_agent_await_end(&agent));
		fake_agent_stop(&agent);
	}
	assert_true(targets_become(collector, 0));
	collector_destroy(collector);
}

// As user 65534: 0 when a session came about, 1 when the collector hung up, 2 for anything else.
static int join_as_nobody(void)
{
	struct fake_agent agent = {0};
	pid_t child = fork();
	int status = -1;

	if (child == 0) {
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(2);
		fake_region_make(&agent.fake, (uint32_t)getpid(), 1, WIRE_MIN_SHARD_SIZE);
		agent.fd = fake_agent_connect_to(socket_name);
		const struct wire_hello hello = fake_agent_hello(&agent);
		fake_agent_send(agent.fd, &hello, sizeof(hello), agent.fake.fd);
		_exit(fake_agent_await(&agent, WIRE_MSG_READY) ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

static void test_other_users(void **state)
{
	struct collector *collector;

	if (geteuid() != 0)
		skip();
	collector = start(false);
	assert_int_equal(join_as_nobody(), 1);
	assert_int_equal(counters_of(collector).targets_total, 0);
	assert_int_equal(counters_of(collector).targets_refused, 1);
	collector_destroy(collector);
	collector = start(true);
	assert_int_equal(join_as_nobody(), 0);
	assert_int_equal(counters_of(collector).targets_total, 1);
	collector_destroy(collector);
}

// Connections that never say hello cannot keep others out.
static void test_silent_connections(void **state)
{
	struct collector *collector = start(false);
	struct fake_agent agent;
	int fds[300];

	for (int i = 0; i < 300; i++) {
		fds[i] = fake_agent_connect_to(socket_name);
		assert_true(fds[i] >= 0);
	}
	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	fake_agent_stop(&agent);
	for (int i = 0; i < 300; i++)
		close(fds[i]);
	collector_destroy(collector);
}

// ---- Sockets ---------------------------------------------------------------------------------------------------------

static void test_socket_paths(void **state)
{
	char dir[] = "/tmp/profd-test-XXXXXX", path[64];
	struct collector_options options = {.socket = path};
	struct collector *collector, *second;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	collector = start_on(path, false);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(collector_create(&options, &second), -EADDRINUSE);
	collector_destroy(collector);
	assert_int_equal(stat(path, &st), -1);
	// Left behind by a collector that was killed: replaced.
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, path, sizeof(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
	collector = start_on(path, true);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	// Taken over by another one: not removed.
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	collector_destroy(collector);
	assert_int_equal(stat(path, &st), 0);
	// Not a socket: left alone.
	assert_int_equal(collector_create(&options, &second), -EADDRINUSE);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
	rmdir(dir);
	memset(path, 'x', sizeof(path) - 1);
	options.socket = "/a/way/that/is/not/there";
	assert_int_equal(collector_create(&options, &second), -ENOENT);
	options.socket = "";
	assert_int_equal(collector_create(&options, &second), -EINVAL);
}

static void test_agent_joins_the_next_collector(void **state)
{
	const uint64_t pcs[] = {(uintptr_t)open_fds};
	struct collector *collector = start(false);
	struct fake_agent agent;
	struct window *window;

	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	window = open_window(collector, 0, 100);
	for (int i = 0; i < 10; i++)
		fake_agent_put(&agent, 1, pcs, 1);
	window_stop(window);
	assert_int_equal(records_of(window), 10);
	window_destroy(window);
	collector_destroy(collector);
	assert_true(fake_agent_await_end(&agent));
	close(agent.fd);
	for (int i = 0; i < 5; i++) // nobody is there to take them; the next one finds them, before any window
		fake_agent_put(&agent, 1, pcs, 1);
	collector = start(false);
	fake_agent_connect(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	window = open_window(collector, 0, 100);
	for (int i = 0; i < 7; i++)
		fake_agent_put(&agent, 1, pcs, 1);
	window_stop(window);
	assert_int_equal(records_of(window), 7);
	assert_int_equal(counters_of(collector).bad_records, 0);
	window_destroy(window);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// ---- What targets do -------------------------------------------------------------------------------------------------

static void test_exec_is_another_session(void **state)
{
	const uint64_t pcs[] = {(uintptr_t)open_fds};
	struct collector *collector = start(false);
	struct window *window = open_window(collector, 0, 100);
	struct fake_agent agent;
	pid_t child = fork();

	if (child == 0) {
		fake_agent_start(&agent, socket_name);
		if (!fake_agent_await(&agent, WIRE_MSG_READY))
			_exit(1);
		for (int i = 0; i < 5; i++)
			fake_agent_put(&agent, (uint32_t)getpid(), pcs, 1);
		execl("/bin/sleep", "sleep", "60", NULL);
		_exit(1);
	}
	for (int i = 0; i < 1000 && counters_of(collector).targets_total == 0; i++)
		fake_sleep_ms(5);
	assert_true(targets_become(collector, 0));
	assert_int_equal(kill(child, SIGKILL), 0); // it was still there
	assert_int_equal(waitpid(child, NULL, 0), child);
	window_stop(window);
	assert_int_equal(records_of(window), 5);
	window_destroy(window);
	collector_destroy(collector);
}

// A target that is stopped, or hostile, and reads nothing: the collector does not wait for it, and lets it go in the end.
static void test_target_that_does_not_read(void **state)
{
	struct collector *collector = start(false);
	struct fake_agent agent, second;

	fake_agent_start(&agent, socket_name);
	assert_true(targets_become(collector, 1));
	for (uint32_t i = 0; i < 2000 && counters_of(collector).targets_now > 0; i++)
		window_destroy(open_window(collector, 0, 1 + i % 1000));
	assert_true(targets_become(collector, 0));
	fake_agent_start(&second, socket_name);
	assert_true(fake_agent_await(&second, WIRE_MSG_READY));
	fake_agent_stop(&second);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

// What did not fit into the socket at once comes when the target reads on.
static void test_target_that_reads_late(void **state)
{
	struct collector *collector = start(false);
	union fake_message message;
	struct fake_agent agent;
	uint32_t last = 0;

	fake_agent_start(&agent, socket_name);
	assert_true(targets_become(collector, 1));
	for (uint32_t i = 0; i < 250; i++)
		window_destroy(open_window(collector, 0, 1 + i));
	assert_int_equal(counters_of(collector).targets_now, 1);
	while (last < 500 && fake_agent_receive(&agent, &message, FAKE_PATIENCE_MS) > 0) {
		if (message.msg.type != WIRE_MSG_SAMPLING)
			continue;
		assert_int_equal(message.msg.arg, last + 1); // none lost, none out of order
		last = message.msg.arg;
	}
	assert_int_equal(last, 500);
	assert_int_equal(agent.rate_hz, 0);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

static unsigned long switches_of_others(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned long sum = 0;
	char path[300], line[256];

	while ((entry = readdir(dir))) {
		FILE *file;

		if (entry->d_name[0] == '.' || strtol(entry->d_name, NULL, 10) == syscall(SYS_gettid))
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
				sum += strtoul(line + 24, NULL, 10);
		if (file)
			fclose(file);
	}
	closedir(dir);
	return sum;
}

static void test_idle_collector_sleeps(void **state)
{
	struct collector *collector = start(false);
	struct fake_agent agent;
	unsigned long before;
	int tries = 0;

#ifdef __SANITIZE_THREAD__
	skip(); // it has a thread of its own
#endif
	fake_agent_start(&agent, socket_name);
	assert_true(fake_agent_await(&agent, WIRE_MSG_READY));
	window_destroy(open_window(collector, 0, 100));
	do { // the last drains after sampling come first, and late on a busy machine
		before = switches_of_others();
		fake_sleep_ms(500);
	} while (switches_of_others() != before && ++tries < 40);
	assert_true(tries < 40);
	fake_agent_stop(&agent);
	collector_destroy(collector);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_target_is_described),
		cmocka_unit_test(test_bad_hellos_are_refused),
		cmocka_unit_test(test_bad_messages_end_the_session),
		cmocka_unit_test(test_other_users),
		cmocka_unit_test(test_silent_connections),
		cmocka_unit_test(test_socket_paths),
		cmocka_unit_test(test_agent_joins_the_next_collector),
		cmocka_unit_test(test_exec_is_another_session),
		cmocka_unit_test(test_target_that_does_not_read),
		cmocka_unit_test(test_target_that_reads_late),
		cmocka_unit_test(test_idle_collector_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

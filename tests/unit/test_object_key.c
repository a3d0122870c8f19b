// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_object_key.c: a descriptor's name is the same bucket for as long as it is the same thing, and another one's when the number, or the inode's,
// comes again.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "profd/object_key.h"
#include "profd/object_name.h"
#include "profd/store.h"

static int open_store(void **state)
{
	(void)state;
	return profd_store_open();
}

static int close_store(void **state)
{
	(void)state;
	profd_object_keys_forget();
	profd_store_close();
	return 0;
}

// The bucket that the name has if nothing is remembered.
static uint32_t key_by_name(int fd)
{
	uint64_t words[PROFD_OBJECT_NAME_WORDS];
	struct profd_store_stack text = {.pcs = words, .npcs = profd_object_name(fd, words), .stop = WIRE_STOP_END};
	const struct wire_bucket *bucket = profd_store_bucket(WIRE_BUCKET_OBJECT, &text, 0, 0);

	assert_non_null(bucket);
	return profd_store_number(bucket) + 1;
}

// Asked twice: the second answer may come out of memory.
static uint32_t key_of(enum wire_wait kind, int fd)
{
	uint32_t key = profd_object_key(kind, fd);

	assert_int_equal(key, key_by_name(fd));
	assert_int_equal(profd_object_key(kind, fd), key);
	return key;
}

// Births are told in ticks, which may come late.
static void wait_for_tick(void)
{
	struct timespec before, now;

	clock_gettime(CLOCK_REALTIME_COARSE, &before);
	do {
		usleep(1000);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
}

static void test_files_with_the_same_numbers(void **state)
{
	char directory[] = "/tmp/profd-key-XXXXXX", path[64];
	uint32_t keys[8];
	int first = -1;

	(void)state;
	assert_non_null(mkdtemp(directory));
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "%s/%d", directory, i);
		int fd = open(path, O_CREAT | O_WRONLY, 0600);

		assert_true(fd >= 0 && (first < 0 || fd == first));
		first = fd;
		keys[i] = key_of(WIRE_WAIT_WRITE, fd);
		for (int j = 0; j < i; j++)
			assert_int_not_equal(keys[i], keys[j]);
		if (i == 7) {
			unlink(path);
			assert_int_not_equal(key_of(WIRE_WAIT_WRITE, fd), keys[i]); // "(deleted)"
		}
		if (i % 2)
			profd_object_key_closed(fd); // as our close(2) does
		else
			wait_for_tick(); // another birth
		close(fd);
		unlink(path);
	}
	rmdir(directory);
}

static void test_anonymous_inodes(void **state)
{
	int epoll = epoll_create1(0), event;
	uint32_t key = key_of(WIRE_WAIT_EPOLL, epoll);

	(void)state;
	close(epoll);
	event = eventfd(0, 0);
	assert_int_equal(event, epoll);
	assert_int_not_equal(key_of(WIRE_WAIT_READ, event), key);
	close(event);
}

static void test_pipes(void **state)
{
	int fds[2];
	uint32_t key;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	key = key_of(WIRE_WAIT_READ, fds[0]);
	assert_int_not_equal(key_of(WIRE_WAIT_WRITE, fds[1]), key);
	close(fds[0]);
	close(fds[1]);
}

// A name that comes with the peer, and goes with it.
static void test_sockets(void **state)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(50001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr *any = (const struct sockaddr *)&address;
	int fd = socket(AF_INET, SOCK_DGRAM, 0), pair[2];
	uint32_t alone = key_of(WIRE_WAIT_RECEIVE, fd), one, other;

	(void)state;
	assert_int_equal(connect(fd, any, sizeof(address)), 0);
	one = key_of(WIRE_WAIT_RECEIVE, fd);
	address.sin_port = htons(50002);
	assert_int_equal(connect(fd, any, sizeof(address)), 0);
	other = key_of(WIRE_WAIT_RECEIVE, fd);
	assert_true(alone != one && one != other);
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_not_equal(key_of(WIRE_WAIT_RECEIVE, pair[0]), other);
	close(pair[0]);
	close(pair[1]);
}

static void test_no_descriptor(void **state)
{
	(void)state;
	key_of(WIRE_WAIT_READ, 1000000);
}

// Buckets of a store that is gone.
static void test_forgotten(void **state)
{
	int fd = open("/dev/null", O_RDONLY);

	key_of(WIRE_WAIT_READ, fd);
	close_store(state);
	assert_int_equal(open_store(state), 0);
	for (uint64_t pc = 1; pc < 100; pc++) { // takes its place
		struct profd_store_stack stack = {.pcs = &pc, .npcs = 1};

		assert_non_null(profd_store_bucket(WIRE_BUCKET_HEAP, &stack, pc, 1));
	}
	key_of(WIRE_WAIT_READ, fd);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files_with_the_same_numbers, open_store, close_store),
		cmocka_unit_test_setup_teardown(test_anonymous_inodes, open_store, close_store),
		cmocka_unit_test_setup_teardown(test_pipes, open_store, close_store),
		cmocka_unit_test_setup_teardown(test_sockets, open_store, close_store),
		cmocka_unit_test_setup_teardown(test_no_descriptor, open_store, close_store),
		cmocka_unit_test_setup_teardown(test_forgotten, open_store, close_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

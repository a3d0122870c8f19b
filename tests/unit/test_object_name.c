// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_object_name.c: what descriptors are called.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "profd/object_name.h"

static const char *name_of(int fd)
{
	static uint64_t words[PROFD_OBJECT_NAME_WORDS];
	uint32_t count = profd_object_name(fd, words);

	assert_in_range(count, 1, PROFD_OBJECT_NAME_WORDS);
	assert_int_equal(count, strlen((const char *)words) / 8 + 1);
	return (const char *)words;
}

static const char *with_fd(const char *text, int fd)
{
	static char buf[64];

	snprintf(buf, sizeof(buf), "%s (fd %d)", text, fd);
	return buf;
}

static void test_files_and_pipes(void **state)
{
	char path[] = "/tmp/profd-name-XXXXXX", deep[400] = "/tmp/profd-name-";
	int fd = mkstemp(path), fds[2];

	(void)state;
	assert_string_equal(name_of(fd), path);
	close(fd);
	unlink(path);
	assert_string_equal(name_of(fd), with_fd("fd", fd)); // there is none
	assert_int_equal(pipe(fds), 0);
	assert_string_equal(name_of(fds[0]), with_fd("pipe", fds[0]));
	close(fds[0]);
	close(fds[1]);
	fd = eventfd(0, 0);
	assert_string_equal(name_of(fd), with_fd("anon_inode:[eventfd]", fd));
	close(fd);
	// Longer than there is room for: cut, and ended.
	memset(deep + strlen(deep), 'x', 200);
	fd = open(deep, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(strlen(name_of(fd)), PROFD_OBJECT_NAME_WORDS * 8 - 1);
	assert_memory_equal(name_of(fd), deep, 100);
	close(fd);
	unlink(deep);
}

static int bound(int family, int type, const void *address, socklen_t size)
{
	int fd = socket(family, type, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, address, size), 0);
	return fd;
}

static void test_internet(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int server, client, served, one = 1;
	char text[64];

	(void)state;
	server = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	for (int port = 20011; port < 20100; port++) {
		address.sin_port = htons((uint16_t)port);
		if (bind(server, (struct sockaddr *)&address, sizeof(address)) == 0)
			break;
	}
	assert_int_equal(listen(server, 1), 0);
	snprintf(text, sizeof(text), "tcp 127.0.0.1:%d", ntohs(address.sin_port));
	assert_string_equal(name_of(server), text);
	client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	served = accept(server, NULL, NULL);
	snprintf(text, sizeof(text), "tcp 127.0.0.1:%d (server)", ntohs(address.sin_port));
	assert_string_equal(name_of(served), text);
	snprintf(text, sizeof(text), "tcp to 127.0.0.1:%d", ntohs(address.sin_port));
	assert_string_equal(name_of(client), text);
	close(served);
	close(client);
	close(server);
}

static void test_unix(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, fds[2];

	(void)state;
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "profd-name-%d", (int)getpid());
	fd = bound(AF_UNIX, SOCK_STREAM, &address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1)));
	assert_memory_equal(name_of(fd), "unix @profd-name-", 17);
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_string_equal(name_of(fds[0]), with_fd("unix", fds[0]));
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_files_and_pipes), cmocka_unit_test(test_internet),
					   cmocka_unit_test(test_unix)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_package_owner.c: which package a file is of (package_owner.c): lists as dpkg writes them, and as nobody should.

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/package_owner.h"

static char root[] = "/tmp/profd_package_XXXXXX";
static int root_fd;

static const char *path_of(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/var/lib/dpkg/info/%s", root, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(path_of(name), "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
	char command[128];

	if (!mkdtemp(root))
		return -1;
	snprintf(command, sizeof(command), "mkdir -p %s/var/lib/dpkg/info", root);
	if (system(command) != 0) // NOLINT(cert-env33-c)
		return -1;
	root_fd = open(root, O_PATH | O_CLOEXEC);
	put("libfoo1:amd64.list", "/.\n/usr\n/usr/lib/libfoo.so.1.2\n/usr/lib/libfoo.so.1\n/usr/share/doc/libfoo1");
	put("old.list", "/lib/libold.so.1\n/lib/libold.so.1.old\n");
	put("foo-bin.md5sums", "/usr/bin/foo\n");
	put("empty.list", "");
	put("Bad Name.list", "/usr/bin/bad\n");
	put(".list", "/usr/bin/bad\n");
	return root_fd < 0;
}

static int tear_down(void **state)
{
	char command[128];

	close(root_fd);
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command); // NOLINT(cert-env33-c)
}

static void test_found(void **state)
{
	static const struct {
		const char *path, *name;
	} wanted[] = {{"/usr/lib/libfoo.so.1", "libfoo1"},
		      {"/usr/lib/libfoo.so.1.2", "libfoo1"},
		      {"/usr/share/doc/libfoo1", "libfoo1"},
		      {"/usr/lib/libfoo.so", ""},
		      {"/usr/lib/libold.so.1", "old"},
		      {"/lib/libold.so.1", "old"},
		      {"/usr/lib/libold.so", ""},
		      {"/usr/bin/foo", ""},
		      {"/usr/bin/bad", ""},
		      {"", ""},
		      {"/usr/lib/libfoo.so.1\n/usr/share", ""}};
	enum { COUNT = sizeof(wanted) / sizeof(wanted[0]) };
	struct package_query queries[COUNT];

	for (size_t i = 0; i < COUNT; i++)
		queries[i] = (struct package_query){.path = wanted[i].path, .name = "what was there"};
	package_owner_find(root_fd, queries, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		assert_string_equal(queries[i].name, wanted[i].name);
}

// Nobody waits for a FIFO, and no link leads out of the root.
static void test_strange_files(void **state)
{
	struct package_query query = {.path = "/usr/bin/elsewhere"};
	char outside[] = "/tmp/profd_outside_XXXXXX";
	int fd = mkstemp(outside);

	assert_int_equal(write(fd, "/usr/bin/elsewhere\n", 19), 19);
	close(fd);
	assert_int_equal(mkfifo(path_of("fifo.list"), 0600), 0);
	assert_int_equal(symlink(outside, path_of("link.list")), 0);
	assert_int_equal(mkdir(path_of("directory.list"), 0700), 0);
	package_owner_find(root_fd, &query, 1);
	assert_string_equal(query.name, "");
	unlink(outside);
}

static void test_no_lists(void **state)
{
	struct package_query query = {.path = "/usr/bin/foo", .name = "what was there"};
	int empty = open("/proc/self/fd", O_PATH | O_CLOEXEC);

	package_owner_find(empty, &query, 1);
	assert_string_equal(query.name, "");
	package_owner_find(root_fd, NULL, 0);
	close(empty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_strange_files),
		cmocka_unit_test(test_no_lists),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

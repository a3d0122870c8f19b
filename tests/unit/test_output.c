// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_output.c: a file is written whole or not at all: the old one stays through every failure, and nothing is left lying about.

#include "collector/output.h"
#include "formats/profile.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/profd-test-output-XXXXXX";
static size_t written_bytes = 100;
static int write_error;

// A format that writes as much as a test wants.
static int filler_write(const struct profile *profile, const struct format_options *options, struct writer *writer)
{
	for (size_t i = 0; i < written_bytes; i++)
		writer_put(writer, "x", 1);
	return write_error;
}

static const struct profile nothing;
static const struct format filler = {"filler", ".fill", "text/plain", filler_write};

static const char *in_directory(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static void put_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void assert_file(const char *path, const char *begin, size_t size)
{
	char text[256] = "";
	struct stat st;
	FILE *file = fopen(path, "re");

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &st), 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(fread(text, 1, strlen(begin), file), strlen(begin));
	assert_string_equal(text, begin);
	fclose(file);
}

static int count_files(void)
{
	int count = 0;
	DIR *dir = opendir(directory);

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count - 2; // "." and ".."
}

static int write_to(const char *path, char *error, size_t size)
{
	struct output output;
	int result = output_open(&output, path, &filler, error, size);

	return result != 0 ? result : output_write(&output, &nothing, "t", error, size);
}

static int setup(void **state)
{
	written_bytes = 100;
	write_error = 0;
	snprintf(directory, sizeof(directory), "/tmp/profd-test-output-XXXXXX");
	return mkdtemp(directory) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	char command[600];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command); // NOLINT(cert-env33-c): our own directory
}

static void test_new_and_replaced(void **state)
{
	char error[256] = "";
	struct stat before;
	struct stat after;
	mode_t mask = umask(027);

	assert_int_equal(write_to(in_directory("a"), error, sizeof(error)), 0);
	umask(mask);
	assert_file(in_directory("a"), "xxx", 100);
	stat(in_directory("a"), &before);
	assert_int_equal(before.st_mode & 0777, 0640); // as any program's new file
	int old = open(in_directory("a"), O_RDONLY | O_CLOEXEC);
	written_bytes = 200000;
	assert_int_equal(write_to(in_directory("a"), error, sizeof(error)), 0);
	stat(in_directory("a"), &after);
	assert_int_not_equal(before.st_ino, after.st_ino); // by rename: who reads the old one goes on reading it
	assert_int_equal(after.st_size, 200000);
	assert_int_equal(lseek(old, 0, SEEK_END), 100);
	close(old);
	assert_int_equal(count_files(), 1);
}

static void test_nothing_before_the_end(void **state)
{
	char error[256] = "";
	struct output output;

	put_file(in_directory("a"), "old");
	assert_int_equal(output_open(&output, in_directory("a"), &filler, error, sizeof(error)), 0);
	assert_file(in_directory("a"), "old", 3);
	assert_int_equal(count_files(), 1); // no file that a SIGKILL would leave
	output_abandon(&output);
	assert_file(in_directory("a"), "old", 3);
	output_abandon(&output); // twice does no harm
	assert_int_equal(count_files(), 1);
}

static void test_relative_and_moved(void **state)
{
	char error[256] = "";
	char was[512];
	struct output output;

	assert_non_null(getcwd(was, sizeof(was)));
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(output_open(&output, "here", &filler, error, sizeof(error)), 0);
	assert_int_equal(chdir("/"), 0); // the file's place was settled when it was opened
	assert_int_equal(output_write(&output, &nothing, "t", error, sizeof(error)), 0);
	assert_int_equal(chdir(was), 0);
	assert_file(in_directory("here"), "xxx", 100);
}

static void test_symbolic_link(void **state)
{
	char error[256] = "";
	char target[512];
	struct stat st;

	snprintf(target, sizeof(target), "%s", in_directory("real"));
	put_file(target, "old");
	assert_int_equal(symlink(target, in_directory("link")), 0);
	assert_int_equal(write_to(in_directory("link"), error, sizeof(error)), 0);
	assert_int_equal(lstat(in_directory("link"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_file(target, "xxx", 100);
}

// The link is to nothing yet: it stays, and what it names is made; through a second link, relative to the first one's directory.
static void test_dangling_link(void **state)
{
	char error[256] = "";
	struct stat st;

	assert_int_equal(symlink("second", in_directory("first")), 0);
	assert_int_equal(symlink("made", in_directory("second")), 0);
	assert_int_equal(write_to(in_directory("first"), error, sizeof(error)), 0);
	assert_int_equal(lstat(in_directory("first"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(lstat(in_directory("made"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(symlink("loop", in_directory("loop")), 0);
	assert_int_equal(write_to(in_directory("loop"), error, sizeof(error)), -ELOOP);
	assert_int_equal(count_files(), 4);
}

static void test_mode_is_kept(void **state)
{
	static const mode_t modes[] = {0600, 0640, 0444, 0666, 0755};
	char error[256] = "";
	struct stat st;

	put_file(in_directory("a"), "old");
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(in_directory("a"), modes[i]), 0);
		assert_int_equal(write_to(in_directory("a"), error, sizeof(error)), 0);
		assert_int_equal(stat(in_directory("a"), &st), 0);
		assert_int_equal(st.st_mode & 07777, modes[i]);
		assert_file(in_directory("a"), "xxx", 100);
	}
}

// What has changed since the output was opened counts as well.
static void test_mode_of_the_last_moment(void **state)
{
	char error[256] = "";
	struct output output;
	struct stat st;

	put_file(in_directory("a"), "old");
	assert_int_equal(output_open(&output, in_directory("a"), &filler, error, sizeof(error)), 0);
	assert_int_equal(chmod(in_directory("a"), 0600), 0);
	assert_int_equal(output_write(&output, &nothing, "t", error, sizeof(error)), 0);
	assert_int_equal(stat(in_directory("a"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_owner_is_kept(void **state)
{
	char error[256] = "";
	struct stat st;

	if (geteuid() != 0)
		skip();
	put_file(in_directory("a"), "old");
	assert_int_equal(chown(in_directory("a"), 65534, 65533), 0);
	assert_int_equal(chmod(in_directory("a"), 0640), 0);
	assert_int_equal(write_to(in_directory("a"), error, sizeof(error)), 0);
	assert_int_equal(stat(in_directory("a"), &st), 0);
	assert_int_equal(st.st_uid, 65534);
	assert_int_equal(st.st_gid, 65533);
	assert_int_equal(st.st_mode & 07777, 0640);
}

// In a directory where everybody may write, somebody replaces root's file: neither owner nor group can be kept, and his own group must
// not come by what root's had.
static void test_owner_that_cannot_be_kept(void **state)
{
	struct stat st;
	int status = 0;

	if (geteuid() != 0)
		skip();
	put_file(in_directory("a"), "old");
	assert_int_equal(chmod(in_directory("a"), 0664), 0);
	assert_int_equal(chmod(directory, 0777), 0);
	pid_t child = fork();
	if (child == 0) {
		char error[256] = "";
		if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
			_exit(9);
		_exit(write_to(in_directory("a"), error, sizeof(error)) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(stat(in_directory("a"), &st), 0);
	assert_int_equal(st.st_uid, 65534);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_format_fails(void **state)
{
	char error[256] = "";

	put_file(in_directory("a"), "old");
	write_error = -ENOMEM;
	assert_int_equal(write_to(in_directory("a"), error, sizeof(error)), -ENOMEM);
	assert_non_null(strstr(error, "Cannot allocate memory"));
	assert_file(in_directory("a"), "old", 3);
	assert_int_equal(count_files(), 1);
}

// A file system that is full looks the same from here: write() fails half-way.
static void test_limit_reached(void **state)
{
	char error[256] = "";
	struct rlimit old;
	struct rlimit limit;

	put_file(in_directory("a"), "old");
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){50000, old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	written_bytes = 100000;
	int result = write_to(in_directory("a"), error, sizeof(error));
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(result, -EFBIG);
	assert_non_null(strstr(error, "/a: File too large"));
	assert_file(in_directory("a"), "old", 3);
	assert_int_equal(count_files(), 1);
}

static void test_full_device(void **state)
{
	char error[256] = "";

	assert_int_equal(write_to("/dev/full", error, sizeof(error)), -ENOSPC);
	assert_string_equal(error, "cannot write /dev/full: No space left on device");
}

static void test_cannot_open(void **state)
{
	char error[256] = "";
	char path[600];

	assert_int_equal(write_to(in_directory("none/a"), error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "none/a: No such file or directory"));
	assert_int_equal(write_to(directory, error, sizeof(error)), -EISDIR);
	snprintf(path, sizeof(path), "%s/", in_directory("new"));
	assert_int_not_equal(write_to(path, error, sizeof(error)), 0);
	put_file(in_directory("file"), "old");
	assert_int_equal(write_to(in_directory("file/a"), error, sizeof(error)), -ENOTDIR);
	assert_int_equal(count_files(), 1);
}

// Root may write everywhere: the child that tries is nobody.
static void test_directory_not_writable(void **state)
{
	int status = 0;

	put_file(in_directory("a"), "old");
	assert_int_equal(chmod(directory, 0555), 0);
	pid_t child = fork();
	if (child == 0) {
		char error[256] = "";
		if (geteuid() == 0 && setuid(65534) != 0)
			_exit(9);
		int result = write_to(in_directory("a"), error, sizeof(error));
		_exit(result == -EACCES && strstr(error, "Permission denied") != NULL ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_file(in_directory("a"), "old", 3);
}

static void test_pipe_and_descriptor(void **state)
{
	char error[256] = "";
	char path[64];
	char got[256];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[1]);
	assert_int_equal(write_to(path, error, sizeof(error)), 0);
	assert_int_equal(read(fds[0], got, sizeof(got)), 100);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	assert_int_equal(write_to(path, error, sizeof(error)), -EBADF); // its reading end
	close(fds[0]);
	close(fds[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[1]);
	assert_int_equal(write_to(path, error, sizeof(error)), -EBADF);
}

// What a shell's redirection opened is written into, not replaced: other things may be written there as well.
static void test_redirected_file(void **state)
{
	char error[256] = "";
	char path[64];
	struct stat before;
	struct stat after;
	int fd = open(in_directory("log"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, "before\n", 7), 7);
	fstat(fd, &before);
	snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	assert_int_equal(write_to(path, error, sizeof(error)), 0);
	close(fd);
	stat(in_directory("log"), &after);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_file(in_directory("log"), "before\nxxx", 107);
}

static void test_binary_to_terminal(void **state)
{
	char error[256] = "";
	struct output output;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
		skip();
	assert_int_equal(output_open(&output, ptsname(master), &format_pprof, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "terminal"));
	assert_int_equal(output_open(&output, ptsname(master), &filler, error, sizeof(error)), 0);
	output_abandon(&output);
	close(master);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_and_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_before_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_relative_and_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symbolic_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dangling_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mode_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mode_of_the_last_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owner_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owner_that_cannot_be_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_format_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_reached, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cannot_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_not_writable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pipe_and_descriptor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_redirected_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_binary_to_terminal, setup, teardown),
	};

	return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}

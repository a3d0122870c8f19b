// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cli.c: the command line's parts that need no target: options, what a program's file tells, starting a command, the lines
// at the end. The commands as a whole are tested end to end.

#include "collector/agent_path.h"
#include "collector/cli.h"
#include "collector/launch.h"
#include "collector/program.h"
#include "profd/wire.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/profd-test-cli-XXXXXX";

static const char *in_directory(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int setup(void **state)
{
	cli_set_quiet(true);
	return mkdtemp(directory) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	char command[600];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command); // NOLINT(cert-env33-c): our own directory
}

// ---- Options -------------------------------------------------------------------------------------------------------

#define MAX_ARGUMENTS 40
static int parse(struct cli_run_options *options, ...)
{
	static char *argv[MAX_ARGUMENTS];
	static char title[] = "profd run";
	int argc = 1;
	va_list args;
	char *word;

	argv[0] = title;
	va_start(args, options);
	while ((word = va_arg(args, char *)) != NULL && argc < MAX_ARGUMENTS - 1)
		argv[argc++] = word;
	va_end(args);
	argv[argc] = NULL;
	optind = 0;
	opterr = 0;
	return cli_run_parse(argc, argv, options);
}

static void test_run_options(void **state)
{
	struct cli_run_options options;

	assert_int_equal(parse(&options, "sleep", "1", NULL), -1);
	assert_int_equal(options.sampling.rate_hz, 100);
	assert_int_equal(options.noutputs, 1);
	assert_string_equal(options.outputs[0], "profd-sleep.pb.gz");
	assert_string_equal(options.command[0], "sleep");
	assert_null(options.http.options.address);

	assert_int_equal(parse(&options, "--rate", "999", "-o", "a.svg", "--output=b.folded", "--http", ":0", "--",
			       "/bin/ls", "-o", "x", "--rate", "1", NULL),
			 -1);
	assert_int_equal(options.sampling.rate_hz, 999);
	assert_int_equal(options.http.options.default_rate_hz, 999);
	assert_int_equal(options.noutputs, 2);
	assert_string_equal(options.outputs[1], "b.folded");
	assert_string_equal(options.http.options.address, ":0");
	assert_string_equal(options.command[1], "-o"); // the command's own options stay its own
	assert_string_equal(options.command[4], "1");

	assert_int_equal(parse(&options, "ls", "--rate", "7", NULL), -1);
	assert_int_equal(options.sampling.rate_hz, 100);
	assert_int_equal(parse(&options, "--http", "0", "ls", NULL), -1);
	assert_int_equal(options.noutputs, 0); // HTTP alone writes nothing
	assert_int_equal(parse(&options, "--format", "svg", "/usr/bin/ls", NULL), -1);
	assert_string_equal(options.outputs[0], "profd-ls.svg");
}

static void test_run_http_options(void **state)
{
	struct cli_run_options options;

	assert_int_equal(parse(&options, "--http=[::1]:0", "--allow-host", "a", "--allow-host", "b,c", "--max-profiles",
			       "3", "--max-seconds", "60", "--max-connections", "9", "ls", NULL),
			 -1);
	assert_string_equal(options.http.options.allowed_hosts, "a,b,c");
	assert_int_equal(options.http.options.max_profiles, 3);
	assert_int_equal(options.http.options.max_seconds, 60);
	assert_int_equal(options.http.options.max_connections, 9);
	assert_int_equal(options.http.options.has_index, 0);
}

static void assert_refused(int status, const char *text)
{
	assert_int_equal(status, 125);
	if (strstr(cli_said(), text) == NULL)
		fail_msg("'%s' is not in '%s'", text, cli_said());
}

static void test_run_wrong_options(void **state)
{
	struct cli_run_options options;

	assert_refused(parse(&options, NULL), "no command");
	assert_refused(parse(&options, "--", NULL), "no command");
	assert_refused(parse(&options, "", NULL), "no command");
	assert_refused(parse(&options, "--rate", "0", "ls", NULL), "--rate '0': not a number from 1 to 10000");
	assert_refused(parse(&options, "--rate", "10001", "ls", NULL), "10000");
	assert_refused(parse(&options, "--rate", "1e3", "ls", NULL), "10000");
	assert_refused(parse(&options, "--rate", "-1", "ls", NULL), "10000");
	assert_refused(parse(&options, "--rate", "", "ls", NULL), "10000");
	assert_refused(parse(&options, "--rate", "4294967396", "ls", NULL), "10000"); // 100 modulo 2^32
	assert_refused(parse(&options, "--rate", NULL), "--rate needs a value");
	assert_refused(parse(&options, "-o", NULL), "-o needs a value");
	assert_refused(parse(&options, "-o", "", "ls", NULL), "empty");
	assert_refused(parse(&options, "--format", "png", "ls", NULL), "'png'");
	assert_refused(parse(&options, "--http", "localhost", "ls", NULL), "--http 'localhost'");
	assert_refused(parse(&options, "--max-seconds", "x", "ls", NULL), "--max-seconds 'x'");
	assert_refused(parse(&options, "--nonsense", "ls", NULL), "unknown option --nonsense");
	assert_refused(parse(&options, "-Z", "ls", NULL), "unknown option -Z");
	assert_refused(parse(&options, "-o", "1.svg", "-o", "2.svg", "-o", "3.svg", "-o", "4.svg", "-o", "5.svg", "-o",
			     "6.svg", "-o", "7.svg", "-o", "8.svg", "-o", "9.svg", "-o", "a.svg", "-o", "b.svg", "-o",
			     "c.svg", "-o", "d.svg", "-o", "e.svg", "-o", "f.svg", "-o", "g.svg", "-o", "h.svg", "ls",
			     NULL),
		       "16 outputs");
}

static void test_output_format(void **state)
{
	assert_ptr_equal(cli_output_format("a.svg", NULL), &format_svg);
	assert_ptr_equal(cli_output_format("a.svg", "folded"), &format_folded);
	assert_ptr_equal(cli_output_format("-", NULL), &format_pprof);
	assert_ptr_equal(cli_output_format("x.speedscope.json", NULL), &format_speedscope);
	assert_null(cli_output_format("profile.xyz", NULL));
	assert_non_null(strstr(cli_said(), "cannot tell the format of 'profile.xyz'"));
}

static void test_commands(void **state)
{
	char *none[] = {"profd", NULL};
	char *wrong[] = {"profd", "rnu", NULL};
	char *serve[] = {"profd", "serve", "--http", "x", NULL};

	cli_set_quiet(true);
	fflush(stderr);
	int stderr_fd = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	dup2(null, STDERR_FILENO);
	int results[] = {cli_main(1, none), cli_main(2, wrong), cli_main(4, serve)};
	dup2(stderr_fd, STDERR_FILENO);
	close(stderr_fd);
	close(null);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(results[i], 2);
}

static void test_url(void **state)
{
	char url[128];

	cli_http_url(&(struct http_options){.address = "[::1]:0"}, 77, url, sizeof(url));
	assert_string_equal(url, "http://[::1]:77");
	cli_http_url(&(struct http_options){.address = ":0"}, 78, url, sizeof(url));
	assert_string_equal(url, "http://127.0.0.1:78");
}

// ---- What a file tells ---------------------------------------------------------------------------------------------

// A small ELF file: its header, and a PT_INTERP when linker is not NULL.
static const char *put_elf(const char *name, unsigned char class, uint16_t machine, const char *linker, mode_t mode)
{
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr phdr[2];
		char linker[64];
	} image = {0};
	const char *path = in_directory(name);

	memcpy(image.ehdr.e_ident, ELFMAG, SELFMAG);
	image.ehdr.e_ident[EI_CLASS] = class;
	image.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	image.ehdr.e_type = ET_EXEC;
	image.ehdr.e_machine = machine;
	image.ehdr.e_phoff = sizeof(image.ehdr);
	image.ehdr.e_phentsize = sizeof(image.phdr[0]);
	image.ehdr.e_phnum = 2;
	image.phdr[0].p_type = PT_LOAD;
	image.phdr[1].p_type = linker != NULL ? PT_INTERP : PT_NOTE;
	image.phdr[1].p_offset = sizeof(image.ehdr) + sizeof(image.phdr);
	if (linker != NULL)
		snprintf(image.linker, sizeof(image.linker), "%s", linker);
	unlink(path);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
	assert_int_equal(write(fd, &image, sizeof(image)), sizeof(image));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static const char *put_script(const char *name, const char *text)
{
	const char *path = in_directory(name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0755);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	return path;
}

static void assert_kind(const char *command, enum program_kind kind, bool preload)
{
	struct program program;

	program_inspect(command, &program);
	assert_int_equal(program.kind, kind);
	assert_int_equal(program.preload, preload);
	assert_int_equal(program_reason(&program) == NULL, kind == PROGRAM_DYNAMIC || kind == PROGRAM_UNKNOWN);
}

static const char glibc[] = "/lib64/ld-linux-x86-64.so.2";

static void test_elf_kinds(void **state)
{
	assert_kind(put_elf("dynamic", ELFCLASS64, EM_X86_64, glibc, 0755), PROGRAM_DYNAMIC, true);
	assert_kind(put_elf("nix", ELFCLASS64, EM_X86_64, "/nix/store/x/ld-linux-x86-64.so.2", 0755), PROGRAM_DYNAMIC,
		    true);
	assert_kind(put_elf("static", ELFCLASS64, EM_X86_64, NULL, 0755), PROGRAM_STATIC, true);
	assert_kind(put_elf("ld-linux-x86-64.so.2", ELFCLASS64, EM_X86_64, NULL, 0755), PROGRAM_DYNAMIC, true);
	assert_kind(put_elf("musl", ELFCLASS64, EM_X86_64, "/lib/ld-musl-x86_64.so.1", 0755), PROGRAM_OTHER_LIBC,
		    false);
	assert_kind(put_elf("old", ELFCLASS32, EM_386, "/lib/ld-linux.so.2", 0755), PROGRAM_32BIT, false);
	assert_kind(put_elf("x32", ELFCLASS32, EM_X86_64, "/libx32/ld-linux-x32.so.2", 0755), PROGRAM_32BIT, false);
	assert_kind(put_elf("arm", ELFCLASS64, EM_AARCH64, "/lib/ld-linux-aarch64.so.1", 0755), PROGRAM_FOREIGN, false);
	assert_kind("/bin/sh", PROGRAM_DYNAMIC, true);
	assert_kind("sh", PROGRAM_DYNAMIC, true); // by PATH
	assert_kind("no-such-command-anywhere", PROGRAM_UNKNOWN, true);
	assert_kind("/", PROGRAM_UNKNOWN, true);
	assert_kind("", PROGRAM_UNKNOWN, true);
}

// The bits count only when they make somebody else of us.
static void test_privileged(void **state)
{
	const char *path = put_elf("setuid", ELFCLASS64, EM_X86_64, glibc, 04755);

	assert_kind(path, PROGRAM_DYNAMIC, true); // our own file
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(path, 65534, 0), 0);
	assert_int_equal(chmod(path, 04755), 0);
	assert_kind(path, PROGRAM_PRIVILEGED, false);
	path = put_elf("setgid", ELFCLASS64, EM_X86_64, glibc, 0755);
	assert_int_equal(chown(path, 0, 65534), 0);
	assert_int_equal(chmod(path, 02755), 0);
	assert_kind(path, PROGRAM_PRIVILEGED, false);
	assert_int_equal(chmod(path, 02745), 0); // without group execution: mandatory locking of old
	assert_kind(path, PROGRAM_DYNAMIC, true);
}

static void test_broken_elf(void **state)
{
	const char *path = put_elf("cut", ELFCLASS64, EM_X86_64, glibc, 0755);

	for (off_t size = 80; size >= 0; size -= 8) {
		assert_int_equal(truncate(path, size), 0);
		assert_kind(path, PROGRAM_UNKNOWN, true);
	}
	path = put_elf("many", ELFCLASS64, EM_X86_64, glibc, 0755);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint16_t many = 0xffff;
	assert_int_equal(pwrite(fd, &many, 2, offsetof(Elf64_Ehdr, e_phnum)), 2);
	close(fd);
	assert_kind(path, PROGRAM_UNKNOWN, true);
}

static void test_scripts(void **state)
{
	char text[600];

	assert_kind(put_script("s1", "#!/bin/sh\nexit\n"), PROGRAM_DYNAMIC, true);
	assert_kind(put_script("s2", "#! \t/bin/sh -e\n"), PROGRAM_DYNAMIC, true);
	assert_kind(put_script("s3", "#!/usr/bin/env sh\n"), PROGRAM_DYNAMIC, true);
	snprintf(text, sizeof(text), "#!%s\n", put_elf("static", ELFCLASS64, EM_X86_64, NULL, 0755));
	assert_kind(put_script("s4", text), PROGRAM_STATIC, true);
	snprintf(text, sizeof(text), "#!/usr/bin/env -S A=1 %s x\n",
		 put_elf("musl2", ELFCLASS64, EM_X86_64, "/lib/ld-musl-x86_64.so.1", 0755));
	assert_kind(put_script("s5", text), PROGRAM_OTHER_LIBC, false);
	snprintf(text, sizeof(text), "#!%s\n", in_directory("s4")); // a script run by a script
	assert_kind(put_script("s6", text), PROGRAM_STATIC, true);
	snprintf(text, sizeof(text), "#!%s\n", in_directory("s7")); // by itself
	assert_kind(put_script("s7", text), PROGRAM_UNKNOWN, true);
	assert_kind(put_script("s8", "#!\n"), PROGRAM_UNKNOWN, true);
	assert_kind(put_script("s9", "#!"), PROGRAM_UNKNOWN, true);
	assert_kind(put_script("s10", "echo no first line\n"), PROGRAM_UNKNOWN, true);
	assert_kind(put_script("s11", "#!/usr/bin/env\n"), PROGRAM_UNKNOWN, true);
	memset(text, 'x', sizeof(text) - 1);
	memcpy(text, "#!", 2);
	text[sizeof(text) - 1] = '\0';
	assert_kind(put_script("s12", text), PROGRAM_UNKNOWN, true);
}

// ---- Starting it ---------------------------------------------------------------------------------------------------

static int launch(char **argv, char **environment, int *ret_exec_failed)
{
	struct launch_signals saved;
	int status = -1;
	pid_t pid;
	int fd = launch_take_signals(&saved);

	assert_true(fd >= 0);
	int error = launch_start(argv, environment, &saved, &pid, ret_exec_failed);
	if (error == 0)
		assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fd);
	sigprocmask(SIG_SETMASK, &saved.mask, NULL);
	sigaction(SIGPIPE, &saved.pipe, NULL);
	sigaction(SIGXFSZ, &saved.file_size, NULL);
	sigaction(SIGCHLD, &saved.child, NULL);
	return error != 0 ? error : status;
}

static void test_launch(void **state)
{
	int exec_failed = 0;
	char *good[] = {"sh", "-c", "exit 7", NULL};
	char *killed[] = {"sh", "-c", "kill -KILL $$", NULL};
	char *missing[] = {"/nonexistent/x", NULL};
	char *plain[] = {"/etc/passwd", NULL};

	int status = launch(good, launch_environment(NULL, NULL), &exec_failed);
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(exec_failed, 0);
	status = launch(killed, launch_environment(NULL, NULL), &exec_failed);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(launch(missing, launch_environment(NULL, NULL), &exec_failed), -ENOENT);
	assert_int_equal(exec_failed, 1);
	assert_int_equal(launch(plain, launch_environment(NULL, NULL), &exec_failed), -EACCES);
	assert_int_equal(exec_failed, 1);
}

// The command gets the signals' state and the descriptors that we were given, and none of ours.
static void test_launch_leaves_no_trace(void **state)
{
	int exec_failed = 0;
	static char check[] = "grep -q '^SigBlk:.0*$' /proc/self/status && grep -q '^SigIgn:.0*$' /proc/self/status && "
			      "test \"$(ls /proc/self/fd | wc -l)\" = \"$1\"";
	char *look[] = {"sh", "-c", check, "sh", NULL, NULL};
	char expected[16];
	int count = 0;

	for (int fd = 0; fd < 1000; fd++)
		count += fcntl(fd, F_GETFD) >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
	snprintf(expected, sizeof(expected), "%d", count + 1); // ls's own
	look[4] = expected;
	assert_int_equal(launch(look, launch_environment(NULL, NULL), &exec_failed), 0);
}

static void assert_environment(const char *agent, const char *check)
{
	int exec_failed = 0;
	char *command[] = {"sh", "-c", (char *)check, NULL};
	char **environment = launch_environment(agent, "@s");

	assert_int_equal(launch(command, environment, &exec_failed), 0);
	launch_environment_destroy(environment);
}

static void test_environment(void **state)
{
	setenv("PROFD_HTTP", ":1", 1);
	setenv("PROFD_SOCKET", "@old", 1);
	setenv("KEPT", "yes", 1);
	assert_environment("libm.so.6", "[ \"$LD_PRELOAD|$PROFD_SOCKET|$PROFD_HTTP|$KEPT\" = 'libm.so.6|@s||yes' ]");
	setenv("LD_PRELOAD", "libc.so.6", 1);
	assert_environment("libm.so.6", "[ \"$LD_PRELOAD\" = 'libm.so.6:libc.so.6' ]");
	unsetenv("LD_PRELOAD");
	// AddressSanitizer's library must not end the program because ours comes first. (These tests may be run under it.)
	unsetenv("ASAN_OPTIONS");
	assert_environment("libm.so.6", "[ \"$ASAN_OPTIONS\" = verify_asan_link_order=0 ]");
	setenv("ASAN_OPTIONS", "a=1", 1);
	assert_environment("libm.so.6", "[ \"$ASAN_OPTIONS\" = a=1:verify_asan_link_order=0 ]");
	unsetenv("ASAN_OPTIONS");
	unsetenv("PROFD_HTTP");
	unsetenv("PROFD_SOCKET");
}

static void test_agent_path(void **state)
{
	char path[4096];
	char error[8192] = "";
	char spaced[512];

	setenv("PROFD_AGENT", "/nonexistent/libprofd.so", 1);
	assert_int_equal(agent_path_find(path, sizeof(path), error, sizeof(error)), -ENOENT);
	assert_string_equal(error, "PROFD_AGENT=/nonexistent/libprofd.so: No such file or directory");
	setenv("PROFD_AGENT", put_script("libprofd.so", "x"), 1);
	assert_int_equal(agent_path_find(path, sizeof(path), error, sizeof(error)), 0);
	assert_string_equal(path, in_directory("libprofd.so"));
	snprintf(spaced, sizeof(spaced), "%s", put_script("a b.so", "x"));
	setenv("PROFD_AGENT", spaced, 1);
	assert_int_equal(agent_path_find(path, sizeof(path), error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "space or a colon"));
	unsetenv("PROFD_AGENT");
}

// ---- The lines at the end ------------------------------------------------------------------------------------------

static void test_summary(void **state)
{
	struct window_stats stats = {
		.samples = 1234, .records = 1000, .cpu_ns = 12340000000, .threads = 4, .targets = 1};
	char line[512];

	stats.stop_ns[WIRE_STOP_END] = 12278300000;
	cli_summary(&stats, line, sizeof(line));
	assert_string_equal(line, "1234 samples, 12.34 s of CPU, 4 threads, reached 81 Hz, 0.5% of stacks truncated");
	stats.dropped[WIRE_DROP_RING_FULL] = 10;
	stats.dropped_aggregate = 2;
	stats.targets = 3;
	stats.threads_unsampled = 7;
	stats.timer_errno = EAGAIN;
	cli_summary(&stats, line, sizeof(line));
	assert_string_equal(
		line, "1234 samples, 12.34 s of CPU, 4 threads, 3 processes, reached 81 Hz, 0.5% of stacks truncated, "
		      "12 dropped (10 ring full, 2 memory limit), 7 threads could not be sampled: "
		      "Resource temporarily unavailable");
	stats = (struct window_stats){0};
	cli_summary(&stats, line, sizeof(line));
	assert_string_equal(line, "0 samples, 0.00 s of CPU, 0 threads");
	char tiny[20];
	cli_summary(&stats, tiny, sizeof(tiny));
	assert_string_equal(tiny, "0 samples, 0.00 s o");
}

static void test_rate_line(void **state)
{
	struct window_stats stats = {.samples = 10000, .records = 2500, .cpu_ns = 10000000000};
	char line[512];

	assert_true(cli_summary_rate(&stats, 1000, line, sizeof(line)));
	assert_non_null(strstr(line, "asked for 1000 samples a second of CPU, reached 250 "));
	assert_non_null(strstr(line, "tick"));
	stats.perf_errno = EACCES;
	assert_true(cli_summary_rate(&stats, 1000, line, sizeof(line)));
	assert_non_null(strstr(line, "perf_event_paranoid"));
	stats.perf_errno = EMFILE;
	assert_true(cli_summary_rate(&stats, 1000, line, sizeof(line)));
	assert_non_null(strstr(line, "Too many open files"));
	stats.perf_errno = 0;
	stats.slowed = 3;
	assert_true(cli_summary_rate(&stats, 1000, line, sizeof(line)));
	assert_non_null(strstr(line, "--max-overhead"));
	stats.records = 9700;
	assert_false(cli_summary_rate(&stats, 1000, line, sizeof(line)));
	stats = (struct window_stats){.samples = 10, .records = 5, .cpu_ns = 10000000}; // too few to say
	assert_false(cli_summary_rate(&stats, 1000, line, sizeof(line)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run_options),
		cmocka_unit_test(test_run_http_options),
		cmocka_unit_test(test_run_wrong_options),
		cmocka_unit_test(test_output_format),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_elf_kinds),
		cmocka_unit_test(test_privileged),
		cmocka_unit_test(test_broken_elf),
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_launch),
		cmocka_unit_test(test_launch_leaves_no_trace),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_agent_path),
		cmocka_unit_test(test_summary),
		cmocka_unit_test(test_rate_line),
	};

	return cmocka_run_group_tests_name("cli", tests, setup, teardown);
}

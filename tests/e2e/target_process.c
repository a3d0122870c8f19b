// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_process.c: a program that ends, multiplies and changes itself in every way that processes do.

#include "target.h"

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;
static const char *self;

static void *burn_for_ever(void *unused)
{
	for (;;)
		target_burn(1);
	return unused;
}

static void start_burners(int count)
{
	pthread_t thread;

	for (int i = 0; i < count; i++)
		TARGET_CHECK(pthread_create(&thread, NULL, burn_for_ever, NULL) == 0);
}

// ---- The truth -----------------------------------------------------------------------------------------------------

// In the file that $TARGET_TIMES names, in memory: no descriptor and no root directory stands between it and a process that is about to end.
struct truth {
	long count; // atomic; of the processes that have ended
	double cpu_s[511];
};

static struct truth *truth;

static void find_truth(void)
{
	const char *path = getenv("TARGET_TIMES");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TARGET_CHECK(truth != MAP_FAILED);
	close(fd);
}

// What this process has used, just before it ends; once.
static void tell_truth(void)
{
	static bool told;

	if (truth && !told)
		truth->cpu_s[__atomic_fetch_add(&truth->count, 1, __ATOMIC_RELAXED) % 511] =
			target_clock_s(CLOCK_PROCESS_CPUTIME_ID);
	told = true;
}

static void print_status(const char *what, int status)
{
	if (WIFEXITED(status))
		printf("%s: exit %d\n", what, WEXITSTATUS(status));
	else
		printf("%s: signal %d\n", what, WTERMSIG(status));
}

// ---- Ends ----------------------------------------------------------------------------------------------------------

// die HOW [MS [THREADS]]: burns, then ends like that.
static int run_die(int argc, char **argv)
{
	const char *how = argv[1];

	start_burners((int)target_number(argc, argv, 3, 0));
	target_burn((double)target_number(argc, argv, 2, 300));
	printf("die %s\n", how);
	fflush(stdout);
	tell_truth();
	if (strcmp(how, "segv") == 0)
		*(volatile int *)0 = 1;
	if (strcmp(how, "abort") == 0)
		abort();
	if (strcmp(how, "_exit") == 0)
		_exit(7);
	if (strcmp(how, "exit") == 0)
		exit(8);
	if (strcmp(how, "syscall") == 0)
		syscall(SYS_exit_group, 9);
	if (strcmp(how, "kill") == 0)
		raise(SIGKILL);
	if (strcmp(how, "thread") == 0)
		pthread_exit(NULL); // of the main thread, the last one
	return 10;
}

// record FILE THREADS: burns for ever; each thread keeps its CPU time in FILE, which outlives any death.
struct record {
	double *cpu_s;
};

static void *record_main(void *pointer)
{
	double *cpu_s = ((struct record *)pointer)->cpu_s;

	for (;;) {
		for (int i = 0; i < 20; i++)
			target_spin();
		*(volatile double *)cpu_s = target_clock_s(CLOCK_THREAD_CPUTIME_ID);
	}
	return NULL;
}

static int run_record(int argc, char **argv)
{
	long count = target_number(argc, argv, 2, 1);
	int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
	static struct record records[64];
	pthread_t thread;
	double *times;

	TARGET_CHECK(fd >= 0 && count <= 64 && ftruncate(fd, 4096) == 0);
	times = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TARGET_CHECK(times != MAP_FAILED);
	for (long i = 0; i < count; i++)
		records[i].cpu_s = &times[i];
	for (long i = 1; i < count; i++)
		TARGET_CHECK(pthread_create(&thread, NULL, record_main, &records[i]) == 0);
	puts("ready");
	fflush(stdout);
	record_main(&records[0]);
	return 0;
}

// ---- exec ----------------------------------------------------------------------------------------------------------

static int run_exec(int argc, char **argv)
{
	target_burn(200);
	execl(self, self, "die", "_exit", "200", NULL);
	return 97;
}

// execloop N [THREADS]: N execs one after the other, sampled all the while.
static int run_execloop(int argc, char **argv)
{
	long left = target_number(argc, argv, 1, 0);
	long threads = target_number(argc, argv, 2, 0);
	char next[32], burners[32];

	if (left == 0) {
		puts("done");
		return 0;
	}
	start_burners((int)threads);
	target_burn(1);
	snprintf(next, sizeof(next), "%ld", left - 1);
	snprintf(burners, sizeof(burners), "%ld", threads);
	execl(self, self, "execloop", next, burners, NULL);
	return 97;
}

// ---- Children ------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void burn_in_child(double ms)
{
	target_burn(ms);
	__asm__ volatile("");
}

static int run_fork(int argc, char **argv)
{
	long count = target_number(argc, argv, 1, 1);

	for (long i = 0; i < count; i++) {
		int status;
		pid_t pid = fork();

		TARGET_CHECK(pid >= 0);
		if (pid == 0) {
			burn_in_child(300);
			tell_truth();
			exit(3);
		}
		target_burn(100);
		TARGET_CHECK(waitpid(pid, &status, 0) == pid);
		print_status("child", status);
		fflush(stdout);
	}
	return 0;
}

// A child of a child, while threads are busy in the parent: they are gone in the child, and only there.
static int run_forkthreads(int argc, char **argv)
{
	int status;
	pid_t pid;

	start_burners(3);
	target_burn(50);
	pid = fork();
	TARGET_CHECK(pid >= 0);
	if (pid == 0) {
		pid = fork();
		if (pid == 0) {
			start_burners(1);
			burn_in_child(300);
			_exit(4);
		}
		burn_in_child(100);
		waitpid(pid, &status, 0);
		_exit(WEXITSTATUS(status) + 1);
	}
	TARGET_CHECK(waitpid(pid, &status, 0) == pid);
	print_status("child", status);
	return 0;
}

static int run_forkstorm(int argc, char **argv)
{
	long count = target_number(argc, argv, 1, 1000);
	long good = 0;

	for (long i = 0; i < count; i++) {
		int status = -1;
		pid_t pid = fork();

		TARGET_CHECK(pid >= 0);
		if (pid == 0)
			_exit((int)(i & 127));
		TARGET_CHECK(waitpid(pid, &status, 0) == pid);
		good += WIFEXITED(status) && WEXITSTATUS(status) == (int)(i & 127);
	}
	printf("%ld of %ld\n", good, count);
	return 0;
}

// The exit status of a child that exits at once, or executes true(1).
TARGET_NOINLINE static int vfork_once(volatile int *shared, bool exits)
{
	int status = -1;
	pid_t pid = vfork();

	if (pid == 0) {
		*shared = 2;
		if (exits)
			_exit(5);
		execl("/bin/true", "true", NULL);
		_exit(6);
	}
	TARGET_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_vfork(int argc, char **argv)
{
	long count = target_number(argc, argv, 1, 100);
	long good = 0;

	start_burners(1);
	for (long i = 0; i < count; i++) {
		volatile int shared = 1;

		good += vfork_once(&shared, i % 2) == (i % 2 ? 5 : 0);
		TARGET_CHECK(shared == 2);
		target_burn(1);
	}
	printf("%ld of %ld\n", good, count);
	return 0;
}

static int run_spawn(int argc, char **argv)
{
	char *const child[] = {(char *)self, "die", "_exit", "300", NULL};
	int status;
	pid_t pid;

	target_burn(200);
	TARGET_CHECK(posix_spawn(&pid, self, NULL, NULL, child, environ) == 0);
	TARGET_CHECK(waitpid(pid, &status, 0) == pid);
	print_status("spawn", status);
	TARGET_CHECK(posix_spawnp(&pid, "true", NULL, NULL, (char *const[]){"true", NULL}, environ) == 0);
	TARGET_CHECK(waitpid(pid, &status, 0) == pid);
	print_status("spawnp", status);
	TARGET_CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, child, environ) == ENOENT);
	print_status("system", system("exit 3"));
	print_status("system", system("kill -TERM $$"));
	return 0;
}

// What a child inherits of SIGPROF's disposition and mask is what the program set, not what we did.
static int run_inherit(int argc, char **argv)
{
	sigset_t set;

	if (argc > 1 && strcmp(argv[1], "ignore") == 0)
		signal(SIGPROF, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "block") == 0) {
		sigfillset(&set);
		pthread_sigmask(SIG_SETMASK, &set, NULL);
	}
	target_burn(50);
	fflush(stdout);
	execlp("grep", "grep", "-E", "^Sig(Blk|Ign|Cgt|Pnd)", "/proc/self/status", NULL);
	return 97;
}

// ---- Changes -------------------------------------------------------------------------------------------------------

static void write_result(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	TARGET_CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

// daemon FILE: as daemons are made; FILE appears when it has done its work.
static int run_daemon(int argc, char **argv)
{
	pid_t pid = fork();
	int status;

	TARGET_CHECK(pid >= 0);
	if (pid > 0) {
		waitpid(pid, &status, 0);
		print_status("first", status);
		return 0;
	}
	setsid();
	if (fork() > 0)
		_exit(0);
	TARGET_CHECK(chdir("/") == 0);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	syscall(SYS_close_range, 3u, ~0u, 0);
	start_burners(1);
	burn_in_child(400);
	write_result(argv[1], "done\n");
	_exit(0);
}

// close: closes all that it did not open, as careful programs do; then opens: the numbers are the lowest ones.
static int run_close(int argc, char **argv)
{
	int status;
	pid_t pid;

	target_burn(100);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	target_burn(100);
	TARGET_CHECK(syscall(SYS_close_range, 3u, ~0u, 0) == 0);
	printf("lowest %d\n", open("/dev/null", O_RDONLY));
	target_burn(100);
	pid = fork();
	if (pid == 0) {
		burn_in_child(200);
		tell_truth();
		_exit(dup(0));
	}
	TARGET_CHECK(waitpid(pid, &status, 0) == pid);
	print_status("child", status);
	return 0;
}

// descriptors: which are open at the start of main.
static int run_descriptors(int argc, char **argv)
{
	for (int fd = 0; fd < 64; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			dprintf(fd == 0 ? 1 : fd, "%s%d is open\n", "", fd);
	}
	target_burn(100);
	return fcntl(0, F_GETFD) >= 0 ? 0 : 20;
}

static int run_setuid(int argc, char **argv)
{
	int status;
	pid_t pid;

	start_burners(1);
	target_burn(100);
	TARGET_CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	target_burn(200);
	pid = fork();
	if (pid == 0) {
		burn_in_child(200);
		_exit(setuid(0) == 0 ? 1 : 2);
	}
	TARGET_CHECK(waitpid(pid, &status, 0) == pid);
	print_status("child", status);
	printf("uid %d\n", (int)getuid());
	return 0;
}

static int run_chroot(int argc, char **argv)
{
	int status;
	pid_t pid;

	target_burn(100);
	TARGET_CHECK(chroot(argv[1]) == 0 && chdir("/") == 0);
	target_burn(200);
	pid = fork();
	if (pid == 0) {
		burn_in_child(200);
		tell_truth();
		_exit(access("/proc/self", F_OK) == 0 ? 1 : 2);
	}
	TARGET_CHECK(waitpid(pid, &status, 0) == pid);
	print_status("child", status);
	return 0;
}

// userns [THREADS]: the kernel allows it to a process with one thread only.
static int run_userns(int argc, char **argv)
{
	int result, error;

	start_burners((int)target_number(argc, argv, 1, 0));
	target_burn(100);
	errno = 0;
	result = unshare(CLONE_NEWUSER);
	error = errno;
	printf("unshare %d, %s\n", result, strerror(error));
	burn_in_child(300);
	errno = 0;
	result = unshare(CLONE_NEWNS);
	printf("unshare %d, %s\n", result, strerror(errno));
	burn_in_child(100);
	return 0;
}

static const struct target_case cases[] = {
	{"die", run_die},
	{"record", run_record},
	{"exec", run_exec},
	{"execloop", run_execloop},
	{"fork", run_fork},
	{"forkthreads", run_forkthreads},
	{"forkstorm", run_forkstorm},
	{"vfork", run_vfork},
	{"spawn", run_spawn},
	{"inherit", run_inherit},
	{"daemon", run_daemon},
	{"close", run_close},
	{"descriptors", run_descriptors},
	{"setuid", run_setuid},
	{"chroot", run_chroot},
	{"userns", run_userns},
};

int main(int argc, char **argv)
{
	int status;

	self = argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);
	find_truth();
	status = target_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	tell_truth();
	return status;
}

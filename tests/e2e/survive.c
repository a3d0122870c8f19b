// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// survive.c: a target that does, by its first argument, one of the things that a profiler must not get in the way of. Each
// prints what it saw; the tests compare that with what it must be. `burn` is the function that uses the CPU.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double thread_cpu(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double process_cpu(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

__attribute__((noinline)) static void burn(double seconds)
{
	double end = thread_cpu() + seconds;
	volatile unsigned x = 0;

	while (thread_cpu() < end)
		for (int i = 0; i < 20000; i++)
			x += (unsigned)i;
}

static void burn_and_report(double seconds)
{
	burn(seconds);
	printf("cpu %.3f\n", process_cpu());
	fflush(stdout);
}

static int do_segv(void)
{
	burn_and_report(0.5);
	raise(SIGSEGV);
	return 0;
}

static int do_abort(void)
{
	burn_and_report(0.5);
	abort();
}

static int do_quick_exit(void)
{
	burn_and_report(0.5);
	_exit(5);
}

// Burns for ever, saying how much, until it is killed.
static int do_forever(void)
{
	for (;;)
		burn_and_report(0.1);
	return 0;
}

// Execs itself n times with little work in between: a pending SIGPROF must not kill the new image.
static int do_exec_loop(const char *self, int left)
{
	char number[16];

	burn(0.003);
	if (left <= 0) {
		puts("all execs done");
		return 7;
	}
	snprintf(number, sizeof(number), "%d", left - 1);
	execl(self, self, "exec_loop", number, NULL);
	return 8;
}

static int do_fork_tree(void)
{
	for (int i = 0; i < 3; i++) {
		if (fork() == 0) {
			burn(0.4);
			exit(i);
		}
	}
	burn(0.4);
	for (int i = 0; i < 3; i++) {
		int status;

		if (wait(&status) < 0 || !WIFEXITED(status))
			return 1;
	}
	printf("no more children: %s\n", wait(NULL) < 0 && errno == ECHILD ? "yes" : "no");
	return 0;
}

static int do_fork_storm(int count)
{
	int bad = 0;

	for (int i = 0; i < count; i++) {
		int status;
		pid_t child = fork();

		if (child == 0)
			_exit(i & 0x3f);
		if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
		    WEXITSTATUS(status) != (i & 0x3f))
			bad++;
	}
	printf("bad %d\n", bad);
	return bad != 0;
}

static int do_vfork_spawn(void)
{
	char *const argv[] = {"true", NULL};
	volatile int bad = 0;

	for (volatile int i = 0; i < 200; i++) {
		int status;
		pid_t child = vfork();

		if (child == 0) {
			execv("/bin/true", argv);
			_exit(99);
		}
		bad += waitpid(child, &status, 0) != child || status != 0;
		bad += posix_spawn(&child, "/bin/true", NULL, NULL, argv, environ) != 0;
		bad += waitpid(child, &status, 0) != child || status != 0;
		bad += system("exit 3") != 3 << 8;
		burn(0.002);
	}
	printf("bad %d\n", bad);
	return bad != 0;
}

// A daemon: two forks, a session, and every descriptor from 3 up closed, twice over.
static int do_daemonize(const char *file)
{
	if (fork() != 0)
		_exit(0);
	setsid();
	if (fork() != 0)
		_exit(0);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	syscall(SYS_close_range, 3, ~0u, 0);
	burn(0.5);
	// The lowest free descriptor is 3: none of ours is in the way.
	int fd = open(file, O_CREAT | O_WRONLY, 0600);

	dprintf(fd, "fd %d\n", fd);
	burn(0.5);
	close(fd);
	return 0;
}

static int do_setuid(void)
{
	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 1;
	burn_and_report(0.6);
	return geteuid() == 65534 ? 0 : 2;
}

static int do_chroot(const char *dir)
{
	if (chroot(dir) < 0 || chdir("/") < 0)
		return 1;
	burn_and_report(0.6);
	return 0;
}

static int do_unshare(void)
{
	int result = unshare(CLONE_NEWUSER);

	printf("unshare %d %d\n", result, result ? errno : 0);
	burn_and_report(0.6);
	return 0;
}

static int do_dlopen(int count)
{
	for (int i = 0; i < count; i++) {
		void *handle = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
		double (*sine)(double) = handle ? (double (*)(double))dlsym(handle, "sin") : NULL;
		void *zlib = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
		unsigned long (*crc)(unsigned long, const char *, unsigned) =
			zlib ? (unsigned long (*)(unsigned long, const char *, unsigned))dlsym(zlib, "crc32") : NULL;
		static char data[65536];
		volatile double x = 0;

		for (int j = 0; sine && j < 2000; j++)
			x += sine(j);
		for (int j = 0; crc && j < 20; j++)
			x += (double)crc(0, data, sizeof(data));
		if (!handle || !zlib || dlclose(zlib) || dlclose(handle))
			return 1;
	}
	puts("done");
	return 0;
}

// ---- Threads -------------------------------------------------------------------------------------------------------

static void *short_thread(void *unused)
{
	return unused;
}

static void *burn_5ms(void *unused)
{
	burn(0.005);
	return unused;
}

static int do_thread_storm(int count)
{
	for (int i = 0; i < count; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, short_thread, NULL) != 0 || pthread_join(thread, NULL) != 0)
			return 1;
	}
	puts("done");
	return 0;
}

static int do_short_threads(int count)
{
	for (int i = 0; i < count; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, burn_5ms, NULL) != 0 || pthread_join(thread, NULL) != 0)
			return 1;
	}
	printf("cpu %.3f\n", process_cpu());
	return 0;
}

static pthread_barrier_t barrier;

static void *burn_together(void *unused)
{
	pthread_barrier_wait(&barrier);
	burn(0.02);
	return unused;
}

static int do_many_threads(int count)
{
	pthread_t *threads = calloc((size_t)count, sizeof(*threads));
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	pthread_barrier_init(&barrier, NULL, (unsigned)count);
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], &attr, burn_together, NULL) != 0)
			return 1;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	printf("cpu %.3f\n", process_cpu());
	free(threads);
	return 0;
}

static int burn_c11(void *unused)
{
	burn(1.0);
	return 0;
}

static int do_c11_thread(void)
{
	thrd_t thread;

	if (thrd_create(&thread, burn_c11, NULL) != thrd_success)
		return 1;
	thrd_join(thread, NULL);
	printf("cpu %.3f\n", process_cpu());
	return 0;
}

static atomic_int raw_done;

static int raw_thread(void *unused)
{
	volatile unsigned x = 0;

	// No libc here: this thread has no TLS of its own.
	for (unsigned i = 0; i < 600000000u; i++)
		x += i;
	atomic_store(&raw_done, 1);
	syscall(SYS_exit, 0);
	return 0;
}

static int do_raw_clone(void)
{
	size_t size = 256 * 1024;
	char *stack = malloc(size);

	if (clone(raw_thread, stack + size,
		  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, NULL) < 0)
		return 1;
	while (!atomic_load(&raw_done))
		usleep(1000);
	printf("cpu %.3f\n", process_cpu());
	return 0;
}

// ---- Signals -------------------------------------------------------------------------------------------------------

static volatile sig_atomic_t ticks;

static void on_prof(int signo)
{
	ticks++;
}

static int do_own_itimer(void)
{
	struct itimerval every = {{0, 20000}, {0, 20000}}, back;
	struct sigaction action, old;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_prof;
	action.sa_flags = SA_RESTART;
	sigaction(SIGPROF, &action, &old);
	printf("before default: %s\n", old.sa_handler == SIG_DFL ? "yes" : "no");
	sigaction(SIGPROF, NULL, &old);
	printf("own handler: %s\n", old.sa_handler == on_prof && (old.sa_flags & SA_RESTART) ? "yes" : "no");
	setitimer(ITIMER_PROF, &every, NULL);
	burn(2.0);
	getitimer(ITIMER_PROF, &back);
	printf("itimer: %s\n", back.it_interval.tv_usec == 20000 ? "yes" : "no");
	memset(&every, 0, sizeof(every));
	setitimer(ITIMER_PROF, &every, NULL);
	printf("ticks %d\n", (int)ticks);
	return 0;
}

static int do_kill_prof(void)
{
	for (int i = 0; i < 50; i++) {
		kill(getpid(), SIGPROF);
		burn(0.01);
	}
	puts("alive");
	return 0;
}

static int do_block_all(void)
{
	sigset_t all, now;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	burn(1.0);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	printf("blocked: %s\n", sigismember(&now, SIGPROF) && sigismember(&now, SIGTERM) ? "yes" : "no");
	printf("cpu %.3f\n", process_cpu());
	return 0;
}

static atomic_int waiter_ready;

static void *wait_for_signals(void *ret_signo)
{
	sigset_t all;
	int signo = 0;

	sigfillset(&all);
	atomic_store(&waiter_ready, 1);
	// Times out and starts again all the time, so that the thread uses CPU inside the call.
	for (;;) {
		struct timespec none = {0, 1000};
		siginfo_t info;

		signo = sigtimedwait(&all, &info, &none);
		if (signo > 0)
			break;
		if (errno == EINTR)
			*(int *)ret_signo += 1000;
		burn(0.0001);
	}
	*(int *)ret_signo += signo;
	return NULL;
}

static int do_sigwait(void)
{
	sigset_t all;
	pthread_t thread;
	int result = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_create(&thread, NULL, wait_for_signals, &result);
	while (!atomic_load(&waiter_ready))
		sched_yield();
	burn(2.0);
	kill(getpid(), SIGUSR1);
	pthread_join(thread, NULL);
	printf("got %d\n", result == SIGUSR1 ? 0 : result);
	return 0;
}

static int do_signalfd(void)
{
	struct signalfd_siginfo info;
	sigset_t all;
	int fd, others = 0;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	fd = signalfd(-1, &all, SFD_NONBLOCK);
	for (int i = 0; i < 1000; i++) {
		burn(0.001);
		while (read(fd, &info, sizeof(info)) == sizeof(info))
			others++;
	}
	printf("others %d\n", others);
	return 0;
}

// Handlers on an alternate stack so small that there is no room for a second frame.
static void on_alt(int signo)
{
	burn(0.002);
	ticks++;
}

static int do_small_altstack(void)
{
	size_t size = (size_t)sysconf(_SC_MINSIGSTKSZ);
	struct sigaction action;
	stack_t stack;

	memset(&stack, 0, sizeof(stack));
	stack.ss_sp = malloc(size + 2048);
	stack.ss_size = size + 2048;
	if (sigaltstack(&stack, NULL) < 0)
		return 1;
	memset(&action, 0, sizeof(action));
	burn(0); // binds its symbols: the dynamic linker would want more stack than there is
	action.sa_handler = on_alt;
	action.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < 400; i++)
		raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &action);
	printf("handled %d, mask has SIGPROF: %s\n", (int)ticks, sigismember(&action.sa_mask, SIGPROF) ? "yes" : "no");
	return 0;
}

__attribute__((noinline)) static double recurse(int depth)
{
	volatile double x = depth;

	if (depth == 0) {
		burn(1.0);
		return x;
	}
	return recurse(depth - 1) + x;
}

static int do_deep(void)
{
	struct rlimit limit = {64u << 20, 64u << 20};

	if (setrlimit(RLIMIT_STACK, &limit) < 0)
		return 1;
	printf("%.0f\n", recurse(100000));
	return 0;
}

// ---- Truth ---------------------------------------------------------------------------------------------------------

#define SHARE(n)                                                     \
	__attribute__((noinline)) static void share_##n(double unit) \
	{                                                            \
		burn(unit *(n));                                     \
	}
SHARE(1)
SHARE(2)
SHARE(3)
SHARE(4)
SHARE(5)
SHARE(6)
SHARE(7)
SHARE(8)
SHARE(9)
SHARE(10)

static void (*const shares[])(double) = {share_1, share_2, share_3, share_4, share_5,
					 share_6, share_7, share_8, share_9, share_10};

static double share_seconds;

static void *all_shares(void *unused)
{
	double unit = 0.0005;

	for (double done = 0; done < share_seconds; done += 55 * unit)
		for (int i = 0; i < 10; i++)
			shares[i](unit);
	return unused;
}

static int do_shares(int threads, double seconds)
{
	pthread_t ids[64];

	share_seconds = seconds;
	for (int i = 1; i < threads && i < 64; i++)
		pthread_create(&ids[i], NULL, all_shares, NULL);
	all_shares(NULL);
	for (int i = 1; i < threads && i < 64; i++)
		pthread_join(ids[i], NULL);
	printf("cpu %.3f\n", process_cpu());
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	const char *text = argc > 2 ? argv[2] : "";
	int number = atoi(text);
	static const struct {
		const char *name;
		int (*run)(void);
	} plain[] = {
		{"segv", do_segv},
		{"abort", do_abort},
		{"quick_exit", do_quick_exit},
		{"forever", do_forever},
		{"fork_tree", do_fork_tree},
		{"vfork_spawn", do_vfork_spawn},
		{"setuid", do_setuid},
		{"unshare", do_unshare},
		{"c11_thread", do_c11_thread},
		{"raw_clone", do_raw_clone},
		{"own_itimer", do_own_itimer},
		{"kill_prof", do_kill_prof},
		{"block_all", do_block_all},
		{"sigwait", do_sigwait},
		{"signalfd", do_signalfd},
		{"altstack", do_small_altstack},
		{"deep", do_deep},
	};
	static const struct {
		const char *name;
		int (*run)(int);
	} counted[] = {
		{"fork_storm", do_fork_storm},     {"dlopen", do_dlopen},
		{"thread_storm", do_thread_storm}, {"short_threads", do_short_threads},
		{"many_threads", do_many_threads},
	};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (strcmp(what, plain[i].name) == 0)
			return plain[i].run();
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		if (strcmp(what, counted[i].name) == 0)
			return counted[i].run(number);
	if (strcmp(what, "burn") == 0) {
		burn_and_report(atof(text));
		return 3;
	}
	if (strcmp(what, "exec_loop") == 0)
		return do_exec_loop(argv[0], number);
	if (strcmp(what, "daemonize") == 0)
		return do_daemonize(text);
	if (strcmp(what, "chroot") == 0)
		return do_chroot(text);
	if (strcmp(what, "shares") == 0)
		return do_shares(number, argc > 3 ? atof(argv[3]) : 5);
	fprintf(stderr, "unknown: %s\n", what);
	return 2;
}

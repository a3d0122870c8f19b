// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_signals.c: a program that uses signals, SIGPROF above all, in every way that programs do.

#include "target.h"
#include "target_settle.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/time.h>

// ---- SIGPROF of its own --------------------------------------------------------------------------------------------

static volatile long ticks;

static void on_tick(int signo, siginfo_t *info, void *context)
{
	ticks += signo == SIGPROF && info && context;
}

static void set_prof_timer(long us)
{
	struct itimerval timer = {{us / 1000000, us % 1000000}, {us / 1000000, us % 1000000}};

	TARGET_CHECK(setitimer(ITIMER_PROF, &timer, NULL) == 0);
}

static void print_action(const char *what)
{
	struct sigaction now;

	TARGET_CHECK(sigaction(SIGPROF, NULL, &now) == 0);
	printf("%s: %s, flags %#x, SIGUSR1 %d, SIGUSR2 %d, SIGPROF %d\n", what,
	       now.sa_sigaction == on_tick ? "own"
	       : now.sa_handler == SIG_DFL ? "default"
	       : now.sa_handler == SIG_IGN ? "ignored"
					   : "strange",
	       (unsigned)now.sa_flags & ~0x04000000u, sigismember(&now.sa_mask, SIGUSR1),
	       sigismember(&now.sa_mask, SIGUSR2), sigismember(&now.sa_mask, SIGPROF));
}

static void take_prof(int flags)
{
	struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | flags};

	sigaddset(&action.sa_mask, SIGUSR1);
	TARGET_CHECK(sigaction(SIGPROF, &action, NULL) == 0);
}

static volatile long virtual_ticks;

static void on_virtual_tick(int signo)
{
	virtual_ticks += signo == SIGVTALRM;
}

// As target_burn, but next to all of it is user time: to read the clock is a call.
TARGET_NOINLINE static void burn_user_time(double ms)
{
	double end = target_clock_s(CLOCK_THREAD_CPUTIME_ID) + ms / 1e3;

	while (target_clock_s(CLOCK_THREAD_CPUTIME_ID) < end)
		for (int i = 0; i < 1000; i++)
			target_spin();
	__asm__ volatile(""); // no tail call
}

// The clock of the process that ITIMER_PROF goes by (CPUCLOCK_PROF of the kernel's posix-timers.h).
#define PROF_CLOCK ((clockid_t)(~0u << 3))

// own FILE MS: ticks each 10 ms of MS. To FILE goes their number; how often their clock has gone on by 10 ms; how many another timer sent that
// counts user time alone, which is next to all; and the CPU time.
static int run_own(int argc, char **argv)
{
	const struct itimerval each_10_ms = {{0, 10000}, {0, 10000}}, never = {0};
	FILE *file = fopen(argv[1], "w");
	double begin;

	TARGET_CHECK(file);
	print_action("before");
	take_prof(SA_RESTART);
	print_action("after");
	TARGET_CHECK(signal(SIGVTALRM, on_virtual_tick) == SIG_DFL);
	begin = target_clock_s(PROF_CLOCK);
	set_prof_timer(10000);
	TARGET_CHECK(setitimer(ITIMER_VIRTUAL, &each_10_ms, NULL) == 0);
	burn_user_time((double)target_number(argc, argv, 2, 2000));
	TARGET_CHECK(setitimer(ITIMER_VIRTUAL, &never, NULL) == 0);
	set_prof_timer(0);
	fprintf(file, "%ld %.1f %ld %f\n", ticks, (target_clock_s(PROF_CLOCK) - begin) * 100, virtual_ticks,
		target_clock_s(CLOCK_PROCESS_CPUTIME_ID));
	TARGET_CHECK(fclose(file) == 0);
	TARGET_CHECK(signal(SIGPROF, SIG_IGN) != SIG_ERR);
	print_action("ignored");
	TARGET_CHECK(signal(SIGPROF, SIG_DFL) == SIG_IGN);
	print_action("default");
	return 0;
}

static volatile long *seen_ticks; // by another process

static void on_seen_tick(int signo, siginfo_t *info, void *context)
{
	on_tick(signo, info, context);
	*seen_ticks = ticks;
}

// The child: a signal while its parent reads, and what it reads when that signal is done with. Not for ever, whatever goes wrong.
static void signal_a_reader(int fd)
{
	long parent = getppid();

	target_settle(&parent, 1);
	kill((pid_t)parent, SIGPROF);
	for (int ms = 0; ms < 60000 && *seen_ticks == 0; ms++)
		usleep(1000);
	_exit(write(fd, "x", 1) != 1);
}

// Its own SIGPROF interrupts its calls, or not, as it said.
static int run_restart(int argc, char **argv)
{
	bool restart = argc > 1 && strcmp(argv[1], "restart") == 0;
	struct itimerval once = {{0, 0}, {0, 50000}};
	struct sigaction action = {.sa_sigaction = on_seen_tick, .sa_flags = SA_SIGINFO | (restart ? SA_RESTART : 0)};
	int fds[2];
	char byte;
	ssize_t n;

	seen_ticks = mmap(NULL, sizeof(*seen_ticks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TARGET_CHECK(seen_ticks != MAP_FAILED && pipe(fds) == 0 && sigaction(SIGPROF, &action, NULL) == 0);
	signal(SIGALRM, SIG_IGN);
	if (fork() == 0)
		signal_a_reader(fds[1]);
	setitimer(ITIMER_REAL, &once, NULL);
	target_burn(20);
	errno = 0;
	n = read(fds[0], &byte, 1);
	printf("read %d %s, ticks %ld\n", (int)n, strerror(errno), ticks);
	return 0;
}

// A SIGPROF that is blocked waits until it is not.
static int run_blocked(int argc, char **argv)
{
	sigset_t prof, pending;

	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	take_prof(0);
	TARGET_CHECK(pthread_sigmask(SIG_BLOCK, &prof, NULL) == 0);
	target_burn(100);
	TARGET_CHECK(ticks == 0 && kill(getpid(), SIGPROF) == 0);
	target_burn(100);
	TARGET_CHECK(ticks == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGPROF));
	TARGET_CHECK(pthread_sigmask(SIG_UNBLOCK, &prof, NULL) == 0);
	printf("ticks %ld\n", ticks);
	return 0;
}

// ---- Blocking everything -------------------------------------------------------------------------------------------

static void print_mask(const char *what)
{
	sigset_t now;

	TARGET_CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
	printf("%s:", what);
	for (int signo = 1; signo < 32; signo++)
		printf("%d", sigismember(&now, signo));
	putchar('\n');
}

TARGET_NOINLINE static void burn_blocked(double ms)
{
	target_burn(ms);
	__asm__ volatile("");
}

static void *blocked_main(void *unused)
{
	print_mask("thread");
	burn_blocked(300);
	return unused;
}

static int run_blockall(int argc, char **argv)
{
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	print_mask("before");
	TARGET_CHECK(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
	print_mask("all");
	burn_blocked(500);
	TARGET_CHECK(pthread_create(&thread, NULL, blocked_main, NULL) == 0);
	TARGET_CHECK(pthread_join(thread, NULL) == 0);
	print_mask("still");
	TARGET_CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
	print_mask("restored");
	return 0;
}

#define SENT 2000

static long taken; // atomic

static void *take_all(void *unused)
{
	long got = 0, strange = 0;
	sigset_t all;
	int signo;

	sigfillset(&all);
	do {
		struct timespec brief = {0, 1000};

		switch (got % 3) {
		case 0:
			TARGET_CHECK(sigwait(&all, &signo) == 0);
			break;
		case 1:
			TARGET_CHECK((signo = sigwaitinfo(&all, NULL)) > 0);
			break;
		default:
			signo = sigtimedwait(&all, NULL, &brief);
			TARGET_CHECK(signo > 0 || errno == EAGAIN);
		}
		if (signo > 0) {
			__atomic_store_n(&taken, ++got, __ATOMIC_RELAXED);
			strange += signo != SIGRTMIN && signo != SIGTERM;
			target_burn(0.2);
		}
	} while (signo != SIGTERM);
	printf("got %ld, strange %ld\n", got, strange);
	return unused;
}

// sigwait: a thread that waits for all there is, and works; it must never be handed a signal of ours.
static int run_sigwait(int argc, char **argv)
{
	union sigval value = {0};
	pthread_t thread;
	sigset_t all;

	sigfillset(&all);
	TARGET_CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
	TARGET_CHECK(pthread_create(&thread, NULL, take_all, NULL) == 0);
	for (int i = 0; i < SENT; i++) {
		while (pthread_sigqueue(thread, SIGRTMIN, value) != 0)
			usleep(1000); // the queue is full
		if (i % 16 == 0)
			target_burn(0.2);
	}
	while (__atomic_load_n(&taken, __ATOMIC_RELAXED) < SENT)
		usleep(1000);
	TARGET_CHECK(pthread_kill(thread, SIGTERM) == 0 && pthread_join(thread, NULL) == 0);
	return 0;
}

// signalfd: the same by file descriptor. Readable only when something was sent.
static int run_signalfd(int argc, char **argv)
{
	struct signalfd_siginfo info;
	long got = 0, strange = 0, readable = 0;
	double end;
	sigset_t all;
	int fd;

	sigfillset(&all);
	TARGET_CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
	fd = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
	TARGET_CHECK(fd >= 0);
	end = target_clock_s(CLOCK_THREAD_CPUTIME_ID) + (double)target_number(argc, argv, 1, 2);
	while (target_clock_s(CLOCK_THREAD_CPUTIME_ID) < end) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};

		for (int i = 0; i < 20; i++) {
			readable += poll(&ready, 1, 0) > 0;
			if (read(fd, &info, sizeof(info)) == sizeof(info))
				strange++;
		}
		if (got < 100) {
			raise(SIGUSR1);
			TARGET_CHECK(read(fd, &info, sizeof(info)) == sizeof(info));
			got += info.ssi_signo == SIGUSR1;
		}
	}
	printf("got %ld, strange %ld, readable %ld\n", got, strange, readable);
	return 0;
}

// profsignalfd: one who takes SIGPROF itself by descriptor gets it.
static int run_profsignalfd(int argc, char **argv)
{
	struct signalfd_siginfo info;
	sigset_t prof;
	int fd;

	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	TARGET_CHECK(sigprocmask(SIG_BLOCK, &prof, NULL) == 0);
	fd = signalfd(-1, &prof, SFD_CLOEXEC);
	set_prof_timer(20000);
	for (int i = 0; i < 20; i++) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};

		while (poll(&ready, 1, 0) == 0)
			target_burn(1);
		TARGET_CHECK(read(fd, &info, sizeof(info)) == sizeof(info));
		TARGET_CHECK(info.ssi_signo == SIGPROF);
		ticks++;
	}
	printf("ticks %ld\n", ticks);
	return 0;
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

static volatile long handled;

static void on_usr1(int signo)
{
	handled++;
	target_burn(0.5);
}

// altstack: a handler on the smallest stack there is, with nothing readable below it, under load.
static int run_altstack(int argc, char **argv)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = ((size_t)sysconf(_SC_MINSIGSTKSZ) + 2048 + page - 1) & ~(page - 1);
	char *base = mmap(NULL, size + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK};
	// Its top is at the mapping's end, so that an overflow hits the page below as early as it can.
	size_t minimum = (size_t)sysconf(_SC_MINSIGSTKSZ) + 1536;
	stack_t stack;

	TARGET_CHECK(base != MAP_FAILED && mprotect(base + page, size, PROT_READ | PROT_WRITE) == 0);
	stack = (stack_t){.ss_sp = base + page, .ss_size = minimum < size ? minimum : size};
	TARGET_CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
	for (int i = 0; i < 2000; i++) {
		raise(SIGUSR1);
		target_spin();
	}
	TARGET_CHECK(sigaction(SIGUSR1, NULL, &action) == 0);
	printf("handled %ld, SIGPROF in the mask %d\n", handled, sigismember(&action.sa_mask, SIGPROF));
	return 0;
}

TARGET_NOINLINE static long recurse(long depth)
{
	volatile long result;

	if (depth == 0) {
		target_burn(400);
		return 0;
	}
	result = recurse(depth - 1);
	return result + 1;
}

static void *recurse_main(void *depth)
{
	printf("depth %ld\n", recurse((long)(intptr_t)depth));
	return NULL;
}

// recursion DEPTH: work at the bottom of so many frames.
static int run_recursion(int argc, char **argv)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	TARGET_CHECK(pthread_attr_setstacksize(&attr, 256u << 20) == 0);
	TARGET_CHECK(pthread_create(&thread, &attr, recurse_main,
				    (void *)(intptr_t)target_number(argc, argv, 1, 100000)) == 0);
	TARGET_CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}

TARGET_NOINLINE static void on_usr2(int signo)
{
	target_burn(1);
	handled++;
}

TARGET_NOINLINE static void raise_often(void)
{
	for (int i = 0; i < 500; i++)
		raise(SIGUSR2);
	__asm__ volatile("");
}

// handler: work in a signal handler, whose stack goes on below the interrupted function.
static int run_handler(int argc, char **argv)
{
	signal(SIGUSR2, on_usr2);
	raise_often();
	printf("handled %ld\n", handled);
	return 0;
}

static const struct target_case cases[] = {
	{"own", run_own},           {"restart", run_restart},     {"blocked", run_blocked},
	{"blockall", run_blockall}, {"sigwait", run_sigwait},     {"signalfd", run_signalfd},
	{"altstack", run_altstack}, {"recursion", run_recursion}, {"profsignalfd", run_profsignalfd},
	{"handler", run_handler},
};
TARGET_MAIN(cases)

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_sync.c: libc's locks and waits in all their odd corners: errors, recursion, robustness, time-outs, signals, cancellation, longjmp, fork, two
// versions of condition variables. What it prints is the same whoever stands in front of libc.
//
// usage: target_sync CASE

#include "target.h"

#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>

static struct timespec after(clockid_t clock, long ms)
{
	struct timespec until;

	clock_gettime(clock, &until);
	until.tv_nsec += ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return until;
}

static void say(const char *what, int result)
{
	printf("%s: %d\n", what, result);
}

// ---- Mutexes ------------------------------------------------------------------------------------------------------------

struct kind {
	const char *name;
	int type, protocol, robust;
	bool shared;
};

static pthread_mutex_t make_mutex(const struct kind *kind)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, kind->type);
	pthread_mutexattr_setprotocol(&attr, kind->protocol);
	pthread_mutexattr_setrobust(&attr, kind->robust);
	if (kind->shared)
		pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	TARGET_CHECK(pthread_mutex_init(&mutex, &attr) == 0);
	return mutex;
}

struct other {
	pthread_mutex_t *mutex;
	sem_t held, may_go;
	long waiter_tid; // who lets it go, and then waits for the mutex
	bool dies;
};

// Takes the mutex, and gives it back, or dies with it, when it is allowed to and somebody waits for it.
static void *hold_for_a_while(void *pointer)
{
	struct other *other = pointer;

	TARGET_CHECK(pthread_mutex_lock(other->mutex) == 0);
	sem_post(&other->held);
	TARGET_CHECK(sem_wait(&other->may_go) == 0);
	target_await_sleep(&other->waiter_tid);
	usleep(1000);
	if (!other->dies)
		TARGET_CHECK(pthread_mutex_unlock(other->mutex) == 0);
	return NULL;
}

static pthread_t start_holder(struct other *other, pthread_mutex_t *mutex, bool dies)
{
	pthread_t thread;

	other->mutex = mutex;
	other->dies = dies;
	other->waiter_tid = syscall(SYS_gettid);
	sem_init(&other->held, 0, 0);
	sem_init(&other->may_go, 0, 0);
	TARGET_CHECK(pthread_create(&thread, NULL, hold_for_a_while, other) == 0);
	TARGET_CHECK(sem_wait(&other->held) == 0);
	return thread;
}

static void try_alone(pthread_mutex_t *mutex, int type)
{
	struct timespec past = after(CLOCK_REALTIME, -1000);

	say("lock", pthread_mutex_lock(mutex));
	if (type == PTHREAD_MUTEX_NORMAL || type == PTHREAD_MUTEX_ADAPTIVE_NP) {
		struct timespec soon = after(CLOCK_REALTIME, 5);

		say("lock again, for a while", pthread_mutex_timedlock(mutex, &soon));
	} else {
		int again = pthread_mutex_lock(mutex);

		say("lock again", again);
		if (again == 0)
			say("unlock", pthread_mutex_unlock(mutex));
	}
	say("timed", pthread_mutex_timedlock(mutex, &past) == 0 ? pthread_mutex_unlock(mutex) : -1);
	say("unlock", pthread_mutex_unlock(mutex));
	if (type != PTHREAD_MUTEX_NORMAL && type != PTHREAD_MUTEX_ADAPTIVE_NP)
		say("unlock again", pthread_mutex_unlock(mutex));
	say("bad clock", pthread_mutex_clocklock(mutex, CLOCK_PROCESS_CPUTIME_ID, &past));
}

static void try_with_another(pthread_mutex_t *mutex, const struct kind *kind)
{
	struct timespec soon;
	struct other other;
	pthread_t thread = start_holder(&other, mutex, false);
	int result;

	soon = after(CLOCK_REALTIME, 2);
	say("too short", pthread_mutex_timedlock(mutex, &soon));
	soon = after(CLOCK_MONOTONIC, 2);
	say("too short", pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &soon));
	say("try", pthread_mutex_trylock(mutex));
	sem_post(&other.may_go);
	say("lock", pthread_mutex_lock(mutex));
	say("unlock", pthread_mutex_unlock(mutex));
	pthread_join(thread, NULL);
	if (kind->robust != PTHREAD_MUTEX_ROBUST)
		return;
	thread = start_holder(&other, mutex, true);
	sem_post(&other.may_go);
	result = pthread_mutex_lock(mutex);
	say("owner died", result);
	say("consistent", pthread_mutex_consistent(mutex));
	say("unlock", pthread_mutex_unlock(mutex));
	pthread_join(thread, NULL);
}

static int run_mutexes(int argc, char **argv)
{
	static const struct kind kinds[] = {
		{"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, false},
		{"shared", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, true},
		{"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, false},
		{"errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, false},
		{"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, false},
		{"robust", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, false},
		{"inherit", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, false},
		{"inherit, recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, false},
		{"inherit, robust", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, false}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		pthread_mutex_t mutex = make_mutex(&kinds[i]);

		printf("-- %s\n", kinds[i].name);
		try_alone(&mutex, kinds[i].type);
		try_with_another(&mutex, &kinds[i]);
		say("destroy", pthread_mutex_destroy(&mutex));
	}
	return 0;
}

// Of other processes.
struct common {
	pthread_mutex_t mutex, robust;
	sem_t semaphore;
};

static int take_and_die(struct common *common)
{
	say("child locks", pthread_mutex_lock(&common->mutex));
	say("child locks", pthread_mutex_lock(&common->robust));
	fflush(stdout);
	sem_post(&common->semaphore);
	usleep(20000);
	pthread_mutex_unlock(&common->mutex);
	usleep(20000);
	_exit(0);
}

static int run_processes(int argc, char **argv)
{
	struct common *common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kind kind = {.type = PTHREAD_MUTEX_NORMAL, .robust = PTHREAD_MUTEX_STALLED, .shared = true};
	pid_t child;

	TARGET_CHECK(common != MAP_FAILED);
	common->mutex = make_mutex(&kind);
	kind.robust = PTHREAD_MUTEX_ROBUST;
	common->robust = make_mutex(&kind);
	sem_init(&common->semaphore, 1, 0);
	for (int i = 0; i < 3; i++) {
		fflush(stdout);
		child = fork();
		if (child == 0)
			return take_and_die(common);
		sem_wait(&common->semaphore);
		say("lock", pthread_mutex_lock(&common->mutex));
		say("unlock", pthread_mutex_unlock(&common->mutex));
		say("owner died", pthread_mutex_lock(&common->robust));
		say("consistent", i < 2 ? pthread_mutex_consistent(&common->robust) : 0);
		say("unlock", pthread_mutex_unlock(&common->robust));
		TARGET_CHECK(waitpid(child, NULL, 0) == child);
	}
	say("not recoverable", pthread_mutex_lock(&common->robust));
	return 0;
}

// ---- Read-write locks, semaphores, barriers, C11, futexes ---------------------------------------------------------------

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static mtx_t c11_mutex;
static cnd_t c11_cond;
static bool c11_done;
static uint32_t futex_word;

static long main_tid; // atomic; 0: it is not about to wait yet

static void *read_for_a_while(void *unused)
{
	TARGET_CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
	pthread_barrier_wait(&barrier);
	target_await_sleep(&main_tid);
	usleep(1000);
	TARGET_CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	return NULL;
}

static int run_rwlocks(int argc, char **argv)
{
	struct timespec until;
	pthread_t thread;

	say("write", pthread_rwlock_wrlock(&rwlock));
	say("write again", pthread_rwlock_wrlock(&rwlock));
	say("read own", pthread_rwlock_rdlock(&rwlock));
	until = after(CLOCK_MONOTONIC, 1);
	say("timed own", pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &until));
	say("unlock", pthread_rwlock_unlock(&rwlock));
	pthread_barrier_init(&barrier, NULL, 2);
	TARGET_CHECK(pthread_create(&thread, NULL, read_for_a_while, NULL) == 0);
	pthread_barrier_wait(&barrier);
	say("read, too", pthread_rwlock_rdlock(&rwlock));
	say("unlock", pthread_rwlock_unlock(&rwlock));
	until = after(CLOCK_REALTIME, 2);
	say("too short", pthread_rwlock_timedwrlock(&rwlock, &until));
	__atomic_store_n(&main_tid, getpid(), __ATOMIC_RELEASE);
	say("write", pthread_rwlock_wrlock(&rwlock));
	say("unlock", pthread_rwlock_unlock(&rwlock));
	say("bad clock", pthread_rwlock_clockrdlock(&rwlock, CLOCK_PROCESS_CPUTIME_ID, &until));
	return pthread_join(thread, NULL);
}

static void on_alarm(int signo)
{
	errno = ENOTTY;
}

static void alarm_in_ms(long ms)
{
	struct itimerspec when = {.it_value = {0, ms * 1000000}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	timer_t timer;

	TARGET_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	TARGET_CHECK(timer_settime(timer, 0, &when, NULL) == 0);
}

// SIGALRM to the main thread when it waits.
static void *alarm_main(void *unused)
{
	target_await_sleep(&main_tid);
	TARGET_CHECK(kill(getpid(), SIGALRM) == 0);
	return unused;
}

static int run_semaphores(int argc, char **argv)
{
	struct timespec until = after(CLOCK_REALTIME, 2), wrong = {0, -1};
	struct sigaction action = {.sa_handler = on_alarm};
	sigset_t alarm_set;
	pthread_t thread;
	sem_t semaphore;

	sem_init(&semaphore, 0, 1);
	say("wait", sem_wait(&semaphore));
	say("timed", sem_timedwait(&semaphore, &until));
	say("errno", errno);
	say("wrong", sem_timedwait(&semaphore, &wrong));
	say("errno", errno);
	say("clock", sem_clockwait(&semaphore, CLOCK_MONOTONIC, &(struct timespec){1, 0}));
	say("errno", errno);
	sigaction(SIGALRM, &action, NULL);
	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_set, NULL); // the other one is not to get it
	TARGET_CHECK(pthread_create(&thread, NULL, alarm_main, NULL) == 0);
	pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
	__atomic_store_n(&main_tid, getpid(), __ATOMIC_RELEASE);
	say("interrupted", sem_wait(&semaphore));
	say("errno", errno);
	pthread_join(thread, NULL);
	say("post", sem_post(&semaphore));
	errno = EXDEV;
	say("wait", sem_wait(&semaphore));
	say("errno stays", errno);
	return 0;
}

static void *come_late(void *unused)
{
	target_await_sleep(&main_tid);
	say("barrier",
	    pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD); // NOLINT(bugprone-posix-return)
	return NULL;
}

static int run_barriers(int argc, char **argv)
{
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 3; i++) {
		main_tid = 0;
		TARGET_CHECK(pthread_create(&thread, NULL, come_late, NULL) == 0);
		__atomic_store_n(&main_tid, getpid(), __ATOMIC_RELEASE);
		TARGET_CHECK(pthread_barrier_wait(&barrier) == 0);
		pthread_join(thread, NULL);
	}
	return 0;
}

static int c11_thread(void *unused)
{
	usleep(10000);
	mtx_lock(&c11_mutex);
	c11_done = true;
	cnd_signal(&c11_cond);
	mtx_unlock(&c11_mutex);
	return 17;
}

static int run_c11(int argc, char **argv)
{
	struct timespec past = after(CLOCK_REALTIME, -1000);
	thrd_t thread;
	int result;

	mtx_init(&c11_mutex, mtx_timed | mtx_recursive);
	cnd_init(&c11_cond);
	TARGET_CHECK(thrd_create(&thread, c11_thread, NULL) == thrd_success);
	say("lock", mtx_lock(&c11_mutex));
	say("again", mtx_lock(&c11_mutex));
	say("unlock", mtx_unlock(&c11_mutex));
	say("timed", cnd_timedwait(&c11_cond, &c11_mutex, &past));
	while (!c11_done)
		TARGET_CHECK(cnd_wait(&c11_cond, &c11_mutex) == thrd_success);
	say("unlock", mtx_unlock(&c11_mutex));
	say("join", thrd_join(thread, &result));
	say("result", result);
	return 0;
}

static void *wake_later(void *unused)
{
	usleep(10000);
	__atomic_store_n(&futex_word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1);
	return NULL;
}

static int run_futex(int argc, char **argv)
{
	struct timespec timeout = {0, 1000000};
	pthread_t thread;

	say("wait", (int)syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 1, NULL));
	say("errno", errno);
	say("timed", (int)syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &timeout));
	say("errno", errno);
	say("odd", (int)syscall(SYS_futex, &futex_word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0));
	say("errno", errno);
	TARGET_CHECK(pthread_create(&thread, NULL, wake_later, NULL) == 0);
	while (!__atomic_load_n(&futex_word, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL);
	return pthread_join(thread, NULL);
}

static void *spin_for_a_while(void *unused)
{
	for (int i = 0; i < 1000; i++) {
		pthread_spin_lock(&spin);
		target_spin();
		futex_word++;
		pthread_spin_unlock(&spin);
	}
	return NULL;
}

static int run_spin(int argc, char **argv)
{
	pthread_t threads[3];

	pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
	for (int i = 0; i < 3; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, spin_for_a_while, NULL) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	say("counted", (int)futex_word);
	return 0;
}

// ---- Cancellation, longjmp, fork ------------------------------------------------------------------------------------------

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t ready;

static void say_cleaned(void *what)
{
	printf("cleaned up: %s\n", (const char *)what);
}

static void unlock_after_cancel(void *unused)
{
	say("the mutex is ours", pthread_mutex_trylock(&mutex) == EBUSY);
	pthread_mutex_unlock(&mutex);
}

static void *wait_for_cond(void *unused)
{
	pthread_cleanup_push(say_cleaned, "cond");
	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(unlock_after_cancel, NULL);
	sem_post(&ready);
	for (;;)
		pthread_cond_wait(&cond, &mutex);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *wait_for_semaphore(void *unused)
{
	sem_t never;

	pthread_cleanup_push(say_cleaned, "semaphore");
	sem_init(&never, 0, 0);
	sem_post(&ready);
	for (;;)
		sem_wait(&never);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *wait_for_thread(void *pointer)
{
	pthread_cleanup_push(say_cleaned, "join");
	sem_post(&ready);
	pthread_join(*(pthread_t *)pointer, NULL);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *wait_for_mutex(void *unused)
{
	pthread_cleanup_push(say_cleaned, "mutex, asynchronously");
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	sem_post(&ready);
	pthread_mutex_lock(&mutex);
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancel_in(void *(*function)(void *), void *argument)
{
	pthread_t thread;
	void *result;

	TARGET_CHECK(pthread_create(&thread, NULL, function, argument) == 0);
	while (sem_wait(&ready) < 0)
		;
	usleep(10000);
	TARGET_CHECK(pthread_cancel(thread) == 0);
	TARGET_CHECK(pthread_join(thread, &result) == 0);
	say("cancelled", result == PTHREAD_CANCELED);
}

static int run_cancel(int argc, char **argv)
{
	pthread_t self = pthread_self();

	sem_init(&ready, 0, 0);
	for (int i = 0; i < 3; i++) {
		cancel_in(wait_for_cond, NULL);
		cancel_in(wait_for_semaphore, NULL);
		cancel_in(wait_for_thread, &self);
		pthread_mutex_lock(&mutex);
		cancel_in(wait_for_mutex, NULL);
		pthread_mutex_unlock(&mutex);
	}
	say("the mutex is free", pthread_mutex_trylock(&mutex));
	return 0;
}

static sigjmp_buf out;

static void jump_out(int signo)
{
	siglongjmp(out, 1);
}

// Out of waits, in many rounds: nothing may be left that counts as waiting, or grows.
static int run_longjmp(int argc, char **argv)
{
	static const struct kind normal = {"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED,
					   false};
	volatile int jumps = 0;
	struct other other;
	sem_t never;
	pthread_t thread;

	sem_init(&never, 0, 0);
	mutex = make_mutex(&normal);
	signal(SIGALRM, jump_out);
	for (volatile int i = 0; i < 20; i++) {
		if (sigsetjmp(out, 1) == 0) {
			alarm_in_ms(3); // nearly always it comes while we wait
			for (;;)
				sem_wait(&never);
		}
		jumps++;
	}
	signal(SIGALRM, SIG_IGN);
	thread = start_holder(&other, &mutex, false);
	sem_post(&other.may_go);
	say("lock", pthread_mutex_lock(&mutex));
	say("unlock", pthread_mutex_unlock(&mutex));
	pthread_join(thread, NULL);
	say("jumps", jumps);
	return 0;
}

static int run_fork(int argc, char **argv)
{
	struct other other;
	int status = 0;
	pid_t child;
	pthread_t thread = start_holder(&other, &mutex, false);

	child = fork();
	if (child == 0) {
		pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
		struct other held;
		pthread_t holder = start_holder(&held, &own, false);

		sem_post(&held.may_go);
		if (pthread_mutex_lock(&own) != 0 || pthread_mutex_unlock(&own) != 0 || pthread_join(holder, NULL) != 0)
			_exit(1);
		_exit(7);
	}
	sem_post(&other.may_go);
	say("lock", pthread_mutex_lock(&mutex));
	say("unlock", pthread_mutex_unlock(&mutex));
	pthread_join(thread, NULL);
	waitpid(child, &status, 0);
	say("child", WEXITSTATUS(status));
	return 0;
}

// ---- Two versions of condition variables ----------------------------------------------------------------------------------

#if defined(__x86_64__)
extern int old_cond_init(void *, const void *);
extern int old_cond_wait(void *, pthread_mutex_t *);
extern int old_cond_signal(void *);
extern int old_cond_timedwait(void *, pthread_mutex_t *, const struct timespec *);
__asm__(".symver old_cond_init, pthread_cond_init@GLIBC_2.2.5\n"
	".symver old_cond_wait, pthread_cond_wait@GLIBC_2.2.5\n"
	".symver old_cond_signal, pthread_cond_signal@GLIBC_2.2.5\n"
	".symver old_cond_timedwait, pthread_cond_timedwait@GLIBC_2.2.5\n");

static void *old_cond; // what a pthread_cond_t was: a pointer to the rest
static bool turned;

static void *signal_later(void *unused)
{
	usleep(10000);
	pthread_mutex_lock(&mutex);
	turned = true;
	say("old signal", old_cond_signal(&old_cond));
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static int run_old_conds(int argc, char **argv)
{
	struct timespec until = after(CLOCK_REALTIME, 1);
	pthread_t thread;

	pthread_mutex_lock(&mutex);
	say("old init", old_cond_init(&old_cond, NULL));
	say("old timed", old_cond_timedwait(&old_cond, &mutex, &until));
	TARGET_CHECK(pthread_create(&thread, NULL, signal_later, NULL) == 0);
	while (!turned)
		TARGET_CHECK(old_cond_wait(&old_cond, &mutex) == 0);
	pthread_mutex_unlock(&mutex);
	say("old and new are two", (void *)old_cond_wait != (void *)pthread_cond_wait);
	return pthread_join(thread, NULL);
}
#endif

static const struct target_case cases[] = {
	{"mutexes", run_mutexes},       {"processes", run_processes}, {"rwlocks", run_rwlocks},
	{"semaphores", run_semaphores}, {"barriers", run_barriers},   {"c11", run_c11},
	{"futex", run_futex},           {"spin", run_spin},           {"cancel", run_cancel},
	{"longjmp", run_longjmp},       {"fork", run_fork},
#if defined(__x86_64__)
	{"old", run_old_conds},
#endif
};

TARGET_MAIN(cases)

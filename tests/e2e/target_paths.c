// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_paths.c: a program that knows its own stack. Several threads go along random paths through functions of many kinds, with frame pointers and
// without, through signal handlers, coroutines and code made at run time, and allocate at the end of each: blocks of a size that no other path has.
//
// usage: target_paths THREADS PATHS SEED [wakes]      wakes: another thread is woken at the end of each, and allocates there. Lines: "code NAME ADDRESS", and "path SIZE COUNT NAME…", outermost first, as far as one can see from there.

#include <alloca.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#include "tests/e2e/target.h"

#define MAX_STEPS 8
#define MADE_BYTES 64 // of one function made at run time
#define COROUTINE_BYTES (64u << 10)
#define FIRST_SIZE 200000u
#define REPEATS 3
#define KEEPS_FP __attribute__((noinline, noclone, optimize("no-omit-frame-pointer")))
#define OMITS_FP __attribute__((noinline, noclone, optimize("omit-frame-pointer")))
#define BARRIER() __asm__ volatile("" ::: "memory")

struct path {
	int steps;
	uint8_t kind[MAX_STEPS], much[MAX_STEPS];
	size_t size;
};
typedef void step_function(const struct path *path, int at);

static uint32_t last_size = FIRST_SIZE; // atomic
static __thread const struct path *coroutine_path, *signal_path;
static __thread int coroutine_at, signal_at;
static __thread uint64_t random_state;
static __thread uint8_t *made; // two functions

static step_function *next_step(const struct path *path, int at);
#define GO_ON(path, at)                            \
	do {                                       \
		next_step(path, at)(path, at + 1); \
		BARRIER();                         \
	} while (0)

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

// ---- Steps ---------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void allocate(size_t size)
{
	void *volatile block = malloc(size);

	free(block);
}

// One thread that goes along paths, another one that it wakes, and a signal whose handler wakes, too, whatever it interrupts.
static bool wakes;
static sem_t asked, answered, unused;
static size_t asked_for;
static long answering_tid; // atomic

static void wait_for(sem_t *semaphore)
{
	while (sem_wait(semaphore) != 0)
		TARGET_CHECK(errno == EINTR);
}

static void *answer(void *argument)
{
	__atomic_store_n(&answering_tid, gettid(), __ATOMIC_RELEASE);
	for (;;) {
		wait_for(&asked);
		if (!asked_for)
			return NULL;
		allocate(asked_for);
		sem_post(&answered);
	}
}

static void on_alarm(int signo)
{
	int error = errno;

	sem_post(&unused);
	sem_trywait(&unused);
	errno = error;
}

KEEPS_FP static void step_end(const struct path *path, int at)
{
	for (int i = 0; i < 2; i++) {
		if (!wakes) {
			allocate(path->size);
			BARRIER();
			continue;
		}
		asked_for = path->size;
		while (!target_sleeps(&answering_tid)) // who need not wait is woken by nobody
			sched_yield();
		sem_post(&asked);
		wait_for(&answered);
	}
}

// Of the same size each, so that what differs is their return addresses alone.
#define PLAIN(name, how)                                             \
	how static void step_##name(const struct path *path, int at) \
	{                                                            \
		volatile char space[40];                             \
                                                                     \
		space[0] = (char)at;                                 \
		GO_ON(path, at);                                     \
		space[1] = space[0];                                 \
	}
PLAIN(plain_a, OMITS_FP)
PLAIN(plain_b, OMITS_FP)
PLAIN(plain_c, OMITS_FP)
PLAIN(record_a, KEEPS_FP)
PLAIN(record_b, KEEPS_FP)

OMITS_FP static void step_alloca(const struct path *path, int at)
{
	volatile char *space = alloca(16u * path->much[at - 1] + 1);

	space[0] = 1;
	GO_ON(path, at);
	space[0] = 2;
}

OMITS_FP static void step_realigned(const struct path *path, int at)
{
	_Alignas(128) volatile char space[128];

	space[0] = 1;
	GO_ON(path, at);
	space[1] = space[0];
}

// The function made at run time calls its third argument with the first two.
static void step_made(const struct path *path, int at, int which)
{
	void (*function)(const struct path *, int, step_function *);
	uint8_t *code = made + which * MADE_BYTES;

	memcpy(&function, &code, sizeof(function));
	function(path, at, which ? step_record_b : step_plain_b);
	BARRIER();
}

OMITS_FP static void step_made_a(const struct path *path, int at)
{
	step_made(path, at, 0);
}

OMITS_FP static void step_made_b(const struct path *path, int at)
{
	step_made(path, at, 1);
}

OMITS_FP static void step_on_signal(int signo)
{
	const struct path *path = signal_path;
	int at = signal_at;

	GO_ON(path, at);
}

OMITS_FP static void step_signal(const struct path *path, int at)
{
	signal_path = path;
	signal_at = at;
	raise(SIGUSR1);
	BARRIER();
}

static void step_coroutine(void)
{
	const struct path *path = coroutine_path;
	int at = coroutine_at;

	GO_ON(path, at);
}

static void switch_to(void *stack, size_t size, const struct path *path, int at)
{
	ucontext_t here, there;

	TARGET_CHECK(getcontext(&there) == 0);
	there.uc_stack.ss_sp = stack;
	there.uc_stack.ss_size = size;
	there.uc_link = &here;
	makecontext(&there, step_coroutine, 0);
	coroutine_path = path;
	coroutine_at = at;
	TARGET_CHECK(swapcontext(&here, &there) == 0);
}

OMITS_FP static void step_away(const struct path *path, int at)
{
	void *stack = mmap(NULL, COROUTINE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TARGET_CHECK(stack != MAP_FAILED);
	switch_to(stack, COROUTINE_BYTES, path, at);
	munmap(stack, COROUTINE_BYTES);
}

// In the thread's own stack, and a guard page right above.
OMITS_FP static void step_inside(const struct path *path, int at)
{
	char *space = alloca(COROUTINE_BYTES + 2u * 4096 + 16u * path->much[at - 1]);
	char *guard = (char *)(((uintptr_t)space + COROUTINE_BYTES + 4095) & ~(uintptr_t)4095);

	TARGET_CHECK(mprotect(guard, 4096, PROT_NONE) == 0);
	switch_to(space, (size_t)(guard - space), path, at);
	TARGET_CHECK(mprotect(guard, 4096, PROT_READ | PROT_WRITE) == 0);
}

static void (*volatile jump)(struct __jmp_buf_tag *, int) = longjmp;

OMITS_FP static void leave(struct __jmp_buf_tag *where, int deep)
{
	volatile char space[72];

	space[0] = (char)deep;
	if (deep)
		leave(where, deep - 1);
	else
		jump(where, 1);
	space[1] = space[0];
}

OMITS_FP static void step_jump(const struct path *path, int at)
{
	jmp_buf where;

	if (setjmp(where) == 0)
		leave(where, 1 + path->much[at - 1]);
	GO_ON(path, at);
}

enum { INSIDE = 11, AWAY = 10, MADE_A = 7, MADE_B = 8, SIGNAL = 9 };
static const struct {
	step_function *function;
	const char *names; // of the frames that it makes
} kinds[] = {
	{step_plain_a, "step_plain_a"},
	{step_plain_b, "step_plain_b"},
	{step_plain_c, "step_plain_c"},
	{step_record_a, "step_record_a"},
	{step_record_b, "step_record_b"},
	{step_alloca, "step_alloca"},
	{step_realigned, "step_realigned"},
	[MADE_A] = {step_made_a, "step_made_a step_made made_a step_plain_b"},
	[MADE_B] = {step_made_b, "step_made_b step_made made_b step_record_b"},
	[SIGNAL] = {step_signal, "step_signal step_on_signal"},
	[AWAY] = {step_away, "step_coroutine"},
	[INSIDE] = {step_inside, "step_coroutine"},
	{step_jump, "step_jump"},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

// The step at `at`, or the end.
TARGET_NOINLINE static step_function *next_step(const struct path *path, int at)
{
	return at == path->steps ? step_end : kinds[path->kind[at]].function;
}

// ---- Paths ---------------------------------------------------------------------------------------------------------

// Room on a stack of its own is enough for all but another one in there.
static void make_path(struct path *path)
{
	bool away = false;

	path->steps = 1 + (int)draw(MAX_STEPS);
	for (int i = 0; i < path->steps; i++) {
		path->kind[i] = (uint8_t)draw(KINDS);
		path->much[i] = (uint8_t)draw(4);
		if (away && (path->kind[i] == INSIDE || path->kind[i] == AWAY))
			path->kind[i] = MADE_A;
		away |= path->kind[i] == INSIDE || path->kind[i] == AWAY;
	}
}

// What was made before, with another step in one place: the same SP, and most of the words.
static void change_path(struct path *path)
{
	uint32_t at = draw((uint32_t)path->steps), kind = draw(5);

	if (path->kind[at] < 5)
		path->kind[at] = (uint8_t)kind;
}

static void say_path(const struct path *path)
{
	char line[1024];
	int used = 0, from = 0;

	for (int i = 0; i < path->steps; i++)
		if (path->kind[i] == AWAY || path->kind[i] == INSIDE)
			from = i;
	used = snprintf(line, sizeof(line), "path %zu %d", path->size, 2 * REPEATS);
	for (int i = from; i < path->steps; i++)
		used += snprintf(line + used, sizeof(line) - (size_t)used, " %s", kinds[path->kind[i]].names);
	printf("%s step_end\n", line);
}

// push %rbp; mov %rsp,%rbp; [sub $16,%rsp;] call *%rdx; leave; ret
static void make_code(void)
{
	static const uint8_t small[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd2, 0xc9, 0xc3};
	static const uint8_t large[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0xff, 0xd2, 0xc9, 0xc3};

	for (int i = 0; i < 2; i++)
		if (draw(2))
			memcpy(made + i * MADE_BYTES, small, sizeof(small));
		else
			memcpy(made + i * MADE_BYTES, large, sizeof(large));
}

struct task {
	pthread_t thread;
	uint64_t seed;
	long paths;
};

static void *run(void *argument)
{
	struct task *task = argument;
	struct path path;

	random_state = task->seed;
	made = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TARGET_CHECK(made != MAP_FAILED);
	made += MADE_BYTES; // the walk looks at the 8 bytes before a return address
	printf("code made_a %p\ncode made_b %p\n", (void *)made, (void *)(made + MADE_BYTES));
	for (long i = 0; i < task->paths; i++) {
		if (i % 8 == 0)
			make_path(&path);
		else
			change_path(&path);
		if (i % 64 == 0)
			make_code();
		path.size = __atomic_add_fetch(&last_size, 1, __ATOMIC_RELAXED);
		say_path(&path);
		for (int k = 0; k < REPEATS; k++)
			GO_ON(&path, 0);
	}
	return NULL;
}

static void run_waking(struct task *task)
{
	const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
	pthread_t answering;

	wakes = true;
	sem_init(&asked, 0, 0);
	sem_init(&answered, 0, 0);
	sem_init(&unused, 0, 0);
	TARGET_CHECK(pthread_create(&answering, NULL, answer, NULL) == 0);
	setitimer(ITIMER_REAL, &often, NULL);
	run(task);
	setitimer(ITIMER_REAL, &never, NULL);
	asked_for = 0;
	sem_post(&asked);
	pthread_join(answering, NULL);
}

int main(int argc, char **argv)
{
	long threads = target_number(argc, argv, 1, 2);
	struct sigaction action = {.sa_handler = step_on_signal, .sa_flags = SA_NODEFER};
	struct sigaction alarm_action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct task tasks[64] = {{0}};

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGALRM, &alarm_action, NULL);
	for (long i = 0; i < threads; i++) {
		tasks[i].paths = target_number(argc, argv, 2, 1000);
		tasks[i].seed = (uint64_t)target_number(argc, argv, 3, 1) * 64 + (uint64_t)i;
		if (i > 0)
			TARGET_CHECK(pthread_create(&tasks[i].thread, NULL, run, &tasks[i]) == 0);
	}
	if (argc > 4)
		run_waking(&tasks[0]);
	else
		run(&tasks[0]);
	for (long i = 1; i < threads; i++)
		pthread_join(tasks[i].thread, NULL);
	return 0;
}

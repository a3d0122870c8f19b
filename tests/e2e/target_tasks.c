// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_tasks.c: coroutines on ucontext(3) in a process that forks. Three clients wait, each with a label, for what accept_clients queued; "elsewhere" is run by another thread,
// which waits in it; "forker" is run by the main thread, and forks. Then it waits as well, in both processes; in the parent, client 0 is
// served. Both processes say so ("child PID", "parent PID"), and at end of input serve who is left.

#include <pthread.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "target.h"

#include "include/profd.h"

#define STACK_BYTES 65536
#define CLIENTS 3

struct coroutine {
	ucontext_t own, resumer;
	void (*function)(void);
	unsigned int task;
	int ended;
	char stack[STACK_BYTES];
};

static struct coroutine clients[CLIENTS], forker, elsewhere;
static __thread struct coroutine *running;
static pthread_barrier_t ready;
static pid_t child;

static void start(void)
{
	running->function();
	running->ended = 1;
	swapcontext(&running->own, &running->resumer);
}

static void create(struct coroutine *coroutine, const char *name, void (*function)(void))
{
	coroutine->function = function;
	getcontext(&coroutine->own);
	coroutine->own.uc_stack.ss_sp = coroutine->stack;
	coroutine->own.uc_stack.ss_size = STACK_BYTES;
	makecontext(&coroutine->own, start, 0);
	coroutine->task = profd_task_register(name, coroutine->stack, STACK_BYTES);
}

TARGET_NOINLINE static void yield(const char *waits_for)
{
	struct coroutine *self = running;

	profd_task_suspend(self->task, waits_for);
	swapcontext(&self->own, &self->resumer);
	profd_task_resume(self->task);
}

static void resume(struct coroutine *coroutine)
{
	running = coroutine;
	swapcontext(&coroutine->resumer, &coroutine->own);
	running = NULL;
}

static void finish(struct coroutine *coroutine)
{
	resume(coroutine);
	TARGET_CHECK(coroutine->ended);
	profd_task_unregister(coroutine->task);
}

TARGET_NOINLINE static void serve(void)
{
	yield("request");
	__asm__ volatile("");
}

TARGET_NOINLINE static void fork_inside(void)
{
	child = fork();
	TARGET_CHECK(child >= 0);
	yield("end");
	__asm__ volatile("");
}

static void wait_for_ever(void)
{
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
}

static void *run_elsewhere(void *unused)
{
	create(&elsewhere, "elsewhere", wait_for_ever);
	resume(&elsewhere);
	return unused;
}

TARGET_NOINLINE static struct profd_link accept_clients(void)
{
	struct profd_link link = profd_capture();

	__asm__ volatile("");
	return link;
}

static void start_all(void)
{
	pthread_t thread;

	pthread_barrier_init(&ready, NULL, 2);
	TARGET_CHECK(pthread_create(&thread, NULL, run_elsewhere, NULL) == 0);
	pthread_barrier_wait(&ready);
	profd_enter(accept_clients());
	for (int i = 0; i < CLIENTS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "client %d", i);
		profd_label_set("client", name);
		create(&clients[i], name, serve);
		resume(&clients[i]);
	}
	profd_leave();
	create(&forker, "forker", fork_inside);
	resume(&forker);
}

int main(void)
{
	char input[16];
	int status = 0;

	start_all();
	if (child)
		finish(&clients[0]);
	printf("%s %d\n", child ? "parent" : "child", (int)getpid());
	fflush(stdout);
	while (read(0, input, sizeof(input)) > 0)
		;
	for (int i = child ? 1 : 0; i < CLIENTS; i++)
		finish(&clients[i]);
	finish(&forker);
	if (child)
		TARGET_CHECK(waitpid(child, &status, 0) == child && status == 0);
	_exit(0);
}

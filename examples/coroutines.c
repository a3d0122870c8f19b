// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// coroutines.c: a small coroutine library on ucontext(3) that tells profd of its coroutines: a thread dump lists those that are suspended,
// with their stacks and what they wait for. The program has some, lets each get where it waits, says "ready", and goes on at end of input:
//
//   build/examples/example_coroutines &  profd dump $!            (with the agent: profd run -- …, or LD_PRELOAD)

#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "include/profd.h"

#define NOINLINE __attribute__((noinline))

// ---- The library: what it does for profd is four lines -----------------------------------------------------------------

#define STACK_BYTES 65536

struct coroutine {
	ucontext_t own, resumer;
	void (*function)(void *);
	void *argument;
	char *stack;
	unsigned int task; // profd's
	int ended;
};

static struct coroutine *running;

static void start(void)
{
	running->function(running->argument);
	running->ended = 1;
	swapcontext(&running->own, &running->resumer);
}

static struct coroutine *coroutine_create(const char *name, void (*function)(void *), void *argument)
{
	struct coroutine *coroutine = calloc(1, sizeof(*coroutine));

	if (!coroutine || !(coroutine->stack = malloc(STACK_BYTES)))
		exit(1);
	coroutine->function = function;
	coroutine->argument = argument;
	getcontext(&coroutine->own);
	coroutine->own.uc_stack.ss_sp = coroutine->stack;
	coroutine->own.uc_stack.ss_size = STACK_BYTES;
	makecontext(&coroutine->own, start, 0);
	coroutine->task = profd_task_register(name, coroutine->stack, STACK_BYTES); // 1
	return coroutine;
}

static void coroutine_resume(struct coroutine *coroutine)
{
	struct coroutine *before = running;

	running = coroutine;
	swapcontext(&coroutine->resumer, &coroutine->own);
	running = before;
}

static NOINLINE void coroutine_yield(const char *waits_for)
{
	struct coroutine *self = running;

	profd_task_suspend(self->task, waits_for); // 2
	swapcontext(&self->own, &self->resumer);
	profd_task_resume(self->task); // 3
}

static void coroutine_destroy(struct coroutine *coroutine)
{
	profd_task_unregister(coroutine->task); // 4
	free(coroutine->stack);
	free(coroutine);
}

// ---- The program ---------------------------------------------------------------------------------------------------

static NOINLINE void read_request(int number)
{
	coroutine_yield(number % 2 ? "request" : "timer");
	__asm__ volatile("# read");
}

static NOINLINE void serve_client(void *number)
{
	for (int i = 0; i < 3; i++)
		read_request(*(int *)number);
	__asm__ volatile("# serve");
}

#define COROUTINES 5

int main(void)
{
	struct coroutine *coroutines[COROUTINES];
	int numbers[COROUTINES], alive = COROUTINES;
	char name[16];

	for (int i = 0; i < COROUTINES; i++) {
		numbers[i] = i;
		snprintf(name, sizeof(name), "client %d", i);
		coroutines[i] = coroutine_create(name, serve_client, &numbers[i]);
		coroutine_resume(coroutines[i]);
	}
	printf("ready\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	while (alive > 0) {
		for (int i = 0; i < COROUTINES; i++) {
			if (!coroutines[i])
				continue;
			coroutine_resume(coroutines[i]);
			if (coroutines[i]->ended) {
				coroutine_destroy(coroutines[i]);
				coroutines[i] = NULL;
				alive--;
			}
		}
	}
	printf("served %d\n", COROUTINES);
	return 0;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_headless.c: a program whose main thread ends and whose others go on. One holds a lock until standard input ends, one waits for the
// lock, one for an epoll descriptor; "spin" as an argument: one works. Says "ready".

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t held;
static volatile unsigned long work;

__attribute__((noinline)) static void hold_lock(void)
{
	char byte;

	pthread_mutex_lock(&lock);
	sem_post(&held);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	exit(0);
}

__attribute__((noinline)) static void want_lock(void)
{
	pthread_mutex_lock(&lock);
	puts("locked");
}

__attribute__((noinline)) static void wait_for_events(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(0), pipes[2];

	if (pipe(pipes) == 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event) == 0)
		epoll_wait(epoll, &event, 1, -1);
	puts("woken");
}

__attribute__((noinline)) static void spin(void)
{
	for (;;)
		work++;
}

static void *run(void *argument)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} ways[] = {{"holds", hold_lock}, {"wants", want_lock}, {"events", wait_for_events}, {"spins", spin}};
	const char *name = argument;

	pthread_setname_np(pthread_self(), name);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i].name, name) == 0)
			ways[i].run();
	return NULL;
}

int main(int argc, char **argv)
{
	static char names[][8] = {"holds", "wants", "events", "spins"};
	int count = argc > 1 && strcmp(argv[1], "spin") == 0 ? 4 : 3;
	pthread_t thread;

	sem_init(&held, 0, 0);
	for (int i = 0; i < count; i++) {
		if (pthread_create(&thread, NULL, run, names[i]) != 0)
			return 1;
		if (i == 0)
			sem_wait(&held);
	}
	puts("ready");
	fflush(stdout);
	pthread_exit(NULL);
}

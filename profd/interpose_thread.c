// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_thread.c: threads made by pthread_create join the table before they run a line of their own, and leave it when
// their last destructor of thread-specific data is due. Any thread of the target.

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/handler.h"
#include "profd/interpose.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/timer.h"

#define MAIN_STACK_MAX (128u << 20) // what the kernel keeps free below the main stack at the least

struct start {
	void *(*function)(void *);
	void *argument;
	uint64_t stack_size;
	bool app_blocks;
};

static pthread_key_t end_key;
static bool end_key_made;
static uint64_t default_stack_size = 8u << 20;
static __thread struct profd_thread_stack own_range; // kept for a fork's child
static __thread uint64_t start_routine;

// Runs when the thread ends, however it ends.
static void thread_end(void *unused)
{
	uint32_t slot = profd_thread_slot;

	if (slot == PROFD_NO_SLOT || !profd_agent_is_on())
		return;
	profd_timer_flush(slot, start_routine);
	profd_thread_slot = PROFD_NO_SLOT;
	profd_threads_leave(slot);
}

void profd_interpose_thread_init(void)
{
	pthread_attr_t attr;
	size_t size;

	if (!end_key_made)
		end_key_made = pthread_key_create(&end_key, thread_end) == 0;
	if (pthread_getattr_default_np(&attr) == 0) {
		if (pthread_attr_getstacksize(&attr, &size) == 0 && size)
			default_stack_size = size;
		pthread_attr_destroy(&attr);
	}
}

// The kernel put the program's name at the very top of the main stack.
static struct profd_thread_stack main_stack(void)
{
	struct profd_thread_stack stack = {0, getauxval(AT_EXECFN)};
	struct rlimit limit;
	uint64_t size = 8u << 20;

	if (getrlimit(RLIMIT_STACK, &limit) == 0)
		size = limit.rlim_cur < MAIN_STACK_MAX ? limit.rlim_cur : MAIN_STACK_MAX;
	if (stack.high)
		stack.low = stack.high - size;
	return stack;
}

// glibc puts the thread's descriptor right above its stack, its own or the caller's.
static struct profd_thread_stack own_stack(uint64_t size)
{
	uint64_t high = (uint64_t)pthread_self();

	return (struct profd_thread_stack){high - size, high};
}

void profd_interpose_thread_join_self(bool is_main)
{
	if (is_main)
		own_range = main_stack();
	profd_thread_slot = profd_threads_join((uint32_t)profd_raw0(SYS_gettid), own_range);
	if (end_key_made)
		pthread_setspecific(end_key, &end_key);
}

static void *thread_start(void *pointer)
{
	struct start start = *(struct start *)pointer;

	free(pointer);
	profd_handler_app_blocks = start.app_blocks;
	start_routine = (uint64_t)(uintptr_t)start.function;
	if (profd_agent_is_on()) {
		own_range = own_stack(start.stack_size);
		profd_thread_slot = profd_threads_join((uint32_t)profd_raw0(SYS_gettid), own_range);
		if (end_key_made)
			pthread_setspecific(end_key, &end_key);
	}
	return start.function(start.argument);
}

PROFD_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*function)(void *),
				void *argument)
{
	struct start *start = NULL;
	size_t size = default_stack_size;
	int error;

	if (profd_agent_is_on())
		start = malloc(sizeof(*start));
	if (!start)
		return PROFD_REAL(pthread_create)(thread, attr, function, argument);
	if (attr)
		pthread_attr_getstacksize(attr, &size);
	*start = (struct start){function, argument, size, profd_handler_app_blocks};
	error = PROFD_REAL(pthread_create)(thread, attr, thread_start, start);
	if (error)
		free(start);
	return error;
}

PROFD_EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
	int result = PROFD_REAL(pthread_setname_np)(thread, name);

	if (result == 0 && pthread_equal(thread, pthread_self()) && profd_agent_is_on())
		profd_threads_set_name((uint32_t)profd_raw0(SYS_gettid), name);
	return result;
}

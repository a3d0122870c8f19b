// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_thread.c: threads made by pthread_create join the table before they run a line of their own, and leave it when
// their last destructors of thread-specific data are due. Any thread of the target.

#include <limits.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/clock.h"
#include "profd/contexts.h"
#include "profd/creators.h"
#include "profd/events.h"
#include "profd/handler.h"
#include "profd/interpose.h"
#include "profd/interpose_heap.h"
#include "profd/links.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/timer.h"
#include "profd/waits.h"

#define MAIN_STACK_MAX (128u << 20) // what the kernel keeps free below the main stack at the least

struct start {
	union {
		void *(*function)(void *);
		thrd_start_t c11_function;
	};
	void *argument;
	uint64_t stack_size;
	char name[16];  // of who makes it, which it is born with
	uint64_t token; // its own address: what CREATE and START say in the event trace
	struct profd_thread_origin origin;
	bool app_blocks;
	bool own_mask; // its attributes say what it blocks
	bool detached; // and that it is never joined
};

// The program's threads, by libc's book-keeping: the main one and those made through here. When the last of them ends,
// libc ends the process; our helper is in the same books and must be gone by then.
static uint32_t app_threads = 1; // atomic
static pthread_key_t end_key;
static pthread_once_t end_key_once = PTHREAD_ONCE_INIT;
static bool end_key_made;
static uint64_t default_stack_size = 8u << 20;
static pthread_t first_thread;                       // of the process, whose stack is not libc's
static __thread struct profd_thread_stack own_range; // kept for a fork's child
static __thread struct profd_thread_origin own_origin;
static __thread uint64_t start_routine;
static __thread int end_rounds;

static void leave(void)
{
	uint32_t slot = profd_thread_slot;

	if (slot == PROFD_NO_SLOT || !profd_agent_is_on())
		return;
	profd_waits_thread_ends();
	profd_timer_flush(slot, start_routine);
	profd_event(WIRE_EVENT_EXIT, .object = (uint64_t)pthread_self());
	profd_thread_slot = PROFD_NO_SLOT;
	profd_threads_leave(slot);
}

// Runs when the thread ends, however it ends; lets the program's destructors of thread-specific data go first.
static void thread_end(void *unused)
{
	if (++end_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
		pthread_setspecific(end_key, &end_key);
		return;
	}
	if (profd_agent_is_on())
		profd_creators_thread_ends(own_origin.creator);
	leave();
	if (__atomic_sub_fetch(&app_threads, 1, __ATOMIC_ACQ_REL) == 0 && profd_agent_is_on())
		profd_channel_stop();
}

static void make_end_key(void)
{
	end_key_made = pthread_key_create(&end_key, thread_end) == 0;
}

static void expect_end(void)
{
	pthread_once(&end_key_once, make_end_key);
	if (end_key_made)
		pthread_setspecific(end_key, &end_key);
}

void profd_interpose_thread_init(void)
{
	pthread_attr_t attr;
	size_t size;

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

// A fork's child.
static void forget_other_threads(void)
{
	__atomic_store_n(&app_threads, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&profd_threads_starting, 0, __ATOMIC_RELAXED);
}

void profd_interpose_thread_join_self(bool is_main)
{
	if (is_main)
		own_range = main_stack();
	else
		forget_other_threads();
	first_thread = pthread_self();
	own_origin = (struct profd_thread_origin){
		.creator = profd_contexts_restore()}; // in the new region; the thread is its parent's
	profd_links_forget(WIRE_WORK(own_origin.creator, 0));
	profd_thread_slot = profd_threads_join((uint32_t)profd_raw0(SYS_gettid), own_range, own_origin);
	profd_event(WIRE_EVENT_START);
	expect_end();
}

// Its maker may have named it before it was in the table.
static void tell_name(const char *born_with)
{
	if (!profd_events_are_on() || profd_thread_slot == PROFD_NO_SLOT)
		return;
	if (strncmp(profd_agent.region.slots[profd_thread_slot].name, born_with, 16) != 0)
		profd_events_put_name(0, profd_agent.region.slots[profd_thread_slot].name);
}

// In the new thread. Takes pointer over.
static struct start begin(void *pointer)
{
	struct start start = *(struct start *)pointer;
	uint64_t begun_ns;

	profd_heap_reals.free(pointer);
	profd_handler_app_blocks = start.app_blocks;
	start_routine = (uint64_t)(uintptr_t)start.function;
	expect_end();
	if (start.detached)
		profd_creators_thread_begins_detached();
	if (profd_agent_is_on()) {
		if (start.own_mask)
			profd_interpose_signal_adopt_mask();
		own_range = own_stack(start.stack_size);
		own_origin = start.origin;
		begun_ns = profd_clock_now_ns(); // before the first sample can be due
		profd_thread_slot = profd_threads_join((uint32_t)profd_raw0(SYS_gettid), own_range, own_origin);
		profd_event(WIRE_EVENT_START, .other = own_origin.tid, .context = own_origin.creator,
			    .object = start.token, .time_ns = begun_ns);
		tell_name(start.name);
	}
	__atomic_sub_fetch(&profd_threads_starting, 1, __ATOMIC_SEQ_CST);
	return start;
}

static void *thread_start(void *pointer)
{
	struct start start = begin(pointer);

	return start.function(start.argument);
}

static int c11_thread_start(void *pointer)
{
	struct start start = begin(pointer);

	return start.c11_function(start.argument);
}

// Not by our own malloc: it is none of the program's allocations. NULL: out of memory; the thread will be found by the scan.
static struct start *prepare(const pthread_attr_t *attr, void *argument, struct profd_caller caller)
{
	struct start *start = profd_heap_reals.malloc(sizeof(*start));
	size_t size = default_stack_size;
	int state = PTHREAD_CREATE_JOINABLE;
	sigset_t mask;

	if (!start)
		return NULL;
	*start = (struct start){
		.argument = argument, .app_blocks = profd_handler_app_blocks, .token = (uint64_t)(uintptr_t)start};
	if (attr) {
		pthread_attr_getstacksize(attr, &size);
		pthread_attr_getdetachstate(attr, &state);
		start->detached = state == PTHREAD_CREATE_DETACHED;
		start->own_mask = pthread_attr_getsigmask_np(attr, &mask) == 0;
		start->app_blocks = start->app_blocks && !start->own_mask;
	}
	start->stack_size = size;
	if (profd_agent_is_on())
		start->origin = (struct profd_thread_origin){.creator = profd_creators_note(caller),
							     .tid = (uint32_t)profd_raw0(SYS_gettid)};
	if (profd_events_are_on() && profd_thread_slot != PROFD_NO_SLOT)
		memcpy(start->name, profd_agent.region.slots[profd_thread_slot].name, sizeof(start->name));
	profd_event(WIRE_EVENT_CREATE, .context = start->origin.creator, .object = start->token);
	__atomic_add_fetch(&app_threads, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&profd_threads_starting, 1, __ATOMIC_SEQ_CST);
	return start;
}

// The call is over; a thread that was made has its start by now, or has freed it.
static void made(struct start *start, uint32_t creator, bool success)
{
	if (success) {
		if (profd_agent_is_on())
			profd_creators_count(creator);
		return;
	}
	__atomic_sub_fetch(&app_threads, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&profd_threads_starting, 1, __ATOMIC_SEQ_CST);
	profd_heap_reals.free(start);
}

PROFD_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*function)(void *),
				void *argument)
{
	struct start *start = prepare(attr, argument, PROFD_CALLER());
	uint32_t creator;
	int error;

	if (!start)
		return PROFD_REAL(pthread_create)(thread, attr, function, argument);
	start->function = function;
	creator = start->origin.creator;
	error = PROFD_REAL(pthread_create)(thread, attr, thread_start, start);
	made(start, creator, error == 0);
	return error;
}

PROFD_EXPORT int thrd_create(thrd_t *thread, thrd_start_t function, void *argument)
{
	struct start *start = prepare(NULL, argument, PROFD_CALLER());
	uint32_t creator;
	int error;

	if (!start)
		return PROFD_REAL(thrd_create)(thread, function, argument);
	start->c11_function = function;
	creator = start->origin.creator;
	error = PROFD_REAL(thrd_create)(thread, c11_thread_start, start);
	made(start, creator, error == thrd_success);
	return error;
}

// ---- Who is joined, or need not be ---------------------------------------------------------------------------------

static int released(pthread_t thread, int error)
{
	if (error == 0 && profd_agent_is_on())
		profd_creators_thread_released(thread);
	return error;
}

// Joining is waiting.
// NOLINTBEGIN(bugprone-macro-parentheses): lists of parameters and of arguments
#define JOIN(name, parameters, arguments)                                                   \
	PROFD_EXPORT int name parameters                                                    \
	{                                                                                   \
		struct profd_wait wait;                                                     \
		int error;                                                                  \
                                                                                            \
		if (!profd_waits_on())                                                      \
			return released(thread, PROFD_REAL(name) arguments);                \
		profd_wait_begins(&wait, WIRE_WAIT_JOIN, (uint64_t)thread, PROFD_CALLER()); \
		error = PROFD_REAL(name) arguments;                                         \
		profd_wait_ends(&wait, error == 0);                                         \
		return released(thread, error);                                             \
	}

JOIN(pthread_join, (pthread_t thread, void **result), (thread, result))
JOIN(pthread_timedjoin_np, (pthread_t thread, void **result, const struct timespec *until), (thread, result, until))
JOIN(pthread_clockjoin_np, (pthread_t thread, void **result, clockid_t clock, const struct timespec *until),
     (thread, result, clock, until))
JOIN(thrd_join, (thrd_t thread, int *result), (thread, result))
// NOLINTEND(bugprone-macro-parentheses)

PROFD_EXPORT int pthread_tryjoin_np(pthread_t thread, void **result)
{
	return released(thread, PROFD_REAL(pthread_tryjoin_np)(thread, result));
}

PROFD_EXPORT int pthread_detach(pthread_t thread)
{
	profd_creators_thread_is_detached(thread);
	return released(thread, PROFD_REAL(pthread_detach)(thread));
}

PROFD_EXPORT int thrd_detach(thrd_t thread)
{
	profd_creators_thread_is_detached(thread);
	return released(thread, PROFD_REAL(thrd_detach)(thread));
}

static void note_name(uint32_t tid, const char *name)
{
	if (!tid)
		return;
	profd_threads_set_name(tid, name);
	if (profd_events_are_on())
		profd_events_put_name(tid, name);
}

// A vfork's child has another name than its parent.
void profd_interpose_thread_named(const char *name)
{
	if (profd_agent_is_on())
		note_name((uint32_t)profd_raw0(SYS_gettid), name);
}

// 0: not known.
static uint32_t tid_of(pthread_t thread)
{
	if (pthread_equal(thread, first_thread))
		return (uint32_t)profd_agent.pid;
	return profd_threads_find((uint64_t)thread); // see own_stack
}

PROFD_EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
	int result = PROFD_REAL(pthread_setname_np)(thread, name);

	if (result == 0 && pthread_equal(thread, pthread_self()))
		profd_interpose_thread_named(name);
	else if (result == 0 && profd_agent_is_on())
		note_name(tid_of(thread), name);
	return result;
}

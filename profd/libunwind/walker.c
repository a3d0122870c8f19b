// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// walker.c: libprofd-libunwind.so, which the agent loads for PROFD_UNWIND=libunwind alone: the contract of profd/unwind.h kept
// by libunwind. To compare with: it is some ten times as slow as the tables. A library by itself, for the agent needs only
// libc. Runs in the handler, but for learn.
//
// The agent loads it with RTLD_DEEPBIND, so that what libunwind calls is found here first:
//  - dl_iterate_phdr goes through a list that the helper made beforehand: the real one waits for a lock that the interrupted
//    thread may hold;
//  - sigprocmask is the system call: the agent's own would change the program's mask, not the kernel's.

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <ucontext.h>

#include "profd/libunwind/walker.h"
#include "profd/raw.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_OBJECTS 1024u
#define LISTS 2u // the one in use, and one being made

static struct object_list {
	uint32_t count;
	struct dl_phdr_info objects[MAX_OBJECTS];
} lists[LISTS];
static uint32_t current; // atomic; index into lists
static uint32_t readers; // atomic; walks that may be reading a list

// ---- What libunwind calls ------------------------------------------------------------------------------------------

EXPORT int dl_iterate_phdr(int (*visit)(struct dl_phdr_info *, size_t, void *), void *data)
{
	struct object_list *list = &lists[__atomic_load_n(&current, __ATOMIC_ACQUIRE)];
	int result = 0;

	for (uint32_t i = 0; i < list->count && result == 0; i++) {
		struct dl_phdr_info object = list->objects[i];

		result = visit(&object, sizeof(object), data);
	}
	return result;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return (int)profd_raw4(SYS_rt_sigprocmask, how, (long)set, (long)old, 8);
}

// ---- What the agent calls ------------------------------------------------------------------------------------------

static int note_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct object_list *list = data;

	if (list->count == MAX_OBJECTS)
		return 1;
	list->objects[list->count++] = *info;
	return 0;
}

EXPORT void profd_libunwind_learn(profd_iterate_phdr *iterate)
{
	uint32_t next = (__atomic_load_n(&current, __ATOMIC_RELAXED) + 1) % LISTS;

	// A walk that began before the last change may still read the other list: the next time, then.
	if (__atomic_load_n(&readers, __ATOMIC_SEQ_CST))
		return;
	lists[next].count = 0;
	iterate(note_object, &lists[next]);
	__atomic_store_n(&current, next, __ATOMIC_SEQ_CST);
}

static uint32_t walk(unw_context_t *context, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	unw_cursor_t cursor;
	unw_word_t pc = 0;
	uint32_t count = 0;
	int more;

	*ret_stop = WIRE_STOP_NO_RULE;
	pcs[count++] = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
	if (unw_init_local2(&cursor, context, UNW_INIT_SIGNAL_FRAME) < 0)
		return count;
	for (;;) {
		bool exact = unw_is_signal_frame(&cursor) > 0 && count > 1;

		more = unw_step(&cursor);
		if (more <= 0 || unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || pc == 0)
			break;
		if (count == max) {
			*ret_stop = WIRE_STOP_DEPTH;
			return count;
		}
		pcs[count++] = pc | (exact ? WIRE_PC_EXACT : 0);
	}
	*ret_stop = more == 0 || pc == 0 ? WIRE_STOP_END : WIRE_STOP_NO_RULE;
	return count;
}

EXPORT uint32_t profd_libunwind_walk(const void *ucontext, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	unw_context_t context;
	uint32_t count;

	memcpy(&context, ucontext, offsetof(unw_context_t, __fpregs_mem)); // the kernel's own has no more
	__atomic_fetch_add(&readers, 1, __ATOMIC_SEQ_CST);
	count = walk(&context, pcs, max, ret_stop);
	__atomic_fetch_sub(&readers, 1, __ATOMIC_SEQ_CST);
	return count;
}

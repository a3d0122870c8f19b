// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_pointer.h: where the calling thread's thread-local memory is. Any context. (clang 14 has no __builtin_thread_pointer for x86.)

#ifndef PROFD_THREAD_POINTER_H
#define PROFD_THREAD_POINTER_H

#include <stdint.h>

// 0: not known on this architecture.
static inline uint64_t profd_thread_pointer(void)
{
	uint64_t thread_pointer = 0;

#if defined(__x86_64__) // the first word behind it is the thread pointer itself
	__asm__("movq %%fs:0, %0" : "=r"(thread_pointer));
#elif defined(__aarch64__)
	__asm__("mrs %0, tpidr_el0" : "=r"(thread_pointer));
#endif
	return thread_pointer;
}

#endif

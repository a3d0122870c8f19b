// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// alloc_fail.h: an allocator that fails on request, and counts. The test is linked with --wrap (tests/meson.build), so
// that it stands before whatever malloc there is, a sanitizer's as well. What shared libraries allocate goes by it.

#ifndef PROFD_TESTS_ALLOC_FAIL_H
#define PROFD_TESTS_ALLOC_FAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_reallocarray(void *block, size_t n, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_reallocarray(void *block, size_t n, size_t size);
void __wrap_free(void *block);

static long alloc_fail_left = -1; // allocations that still succeed; < 0: all do
static bool alloc_fail_once;      // only one fails, those after it succeed
static long alloc_fail_blocks;    // allocated now
static unsigned long alloc_fail_failures;

// From now on n allocations succeed, then one (or all that follow) fails.
static inline void alloc_fail_after(long n, bool once)
{
	alloc_fail_left = n;
	alloc_fail_once = once;
	alloc_fail_failures = 0;
}

// Back to normal; how many failed.
static inline unsigned long alloc_fail_stop(void)
{
	alloc_fail_left = -1;
	return alloc_fail_failures;
}

static bool alloc_fail_now(void)
{
	if (alloc_fail_left < 0 || alloc_fail_left-- > 0)
		return false;
	alloc_fail_left = alloc_fail_once ? -1 : 0;
	alloc_fail_failures++;
	return true;
}

static void *alloc_fail_count(void *block)
{
	alloc_fail_blocks += block != NULL;
	return block;
}

void *__wrap_malloc(size_t size)
{
	return alloc_fail_now() ? NULL : alloc_fail_count(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return alloc_fail_now() ? NULL : alloc_fail_count(__real_calloc(n, size));
}

void *__wrap_realloc(void *block, size_t size)
{
	if (alloc_fail_now())
		return NULL;
	return block ? __real_realloc(block, size) : alloc_fail_count(__real_malloc(size));
}

void *__wrap_reallocarray(void *block, size_t n, size_t size)
{
	if (alloc_fail_now())
		return NULL;
	void *grown = __real_reallocarray(block, n, size);
	return block ? grown : alloc_fail_count(grown);
}

void __wrap_free(void *block)
{
	alloc_fail_blocks -= block != NULL;
	__real_free(block);
}

#endif

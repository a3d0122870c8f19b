// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// stay.c: see stay.h.

#include "profd/stay.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/rseq.h>
#include <time.h>

#include "profd/raw.h"
#include "profd/thread_pointer.h"

#define TRIES 8
#define TRY_NS 20000

// The kernel checks what a descriptor says before it asks where the thread is, and kills a thread whose descriptor is wrong: where to go on must be
// outside of the sequence, with glibc's signature before it. Nobody ever goes there.
#define TEXT(value) TEXT_OF(value)
#define TEXT_OF(value) #value
#if defined(__x86_64__)
#define SIGNATURE ".byte 0x0f, 0xb9, 0x3d\n\t.long " TEXT(RSEQ_SIG) // an instruction that traps
#define TRAP "ud2"
#elif defined(__aarch64__)
#define SIGNATURE ".inst 0xd428bc00" // RSEQ_SIG_CODE
#define TRAP "brk #0"
#endif

#ifdef SIGNATURE
__asm__("\t.pushsection .text\n"
	"\t.hidden profd_stay_nowhere, profd_stay_instead\n"
	"\t" SIGNATURE "\n"
	"profd_stay_instead: " TRAP "\n"
	"profd_stay_nowhere: nop\n"
	"\t.popsection\n");
extern const char profd_stay_nowhere[], profd_stay_instead[];

static const struct rseq_cs nowhere = {
	.start_ip = (uint64_t)(uintptr_t)profd_stay_nowhere,
	.post_commit_offset = 1,
	.abort_ip = (uint64_t)(uintptr_t)profd_stay_instead,
};

static ptrdiff_t found;  // of the calling thread's struct rseq from its thread pointer; 0: there is none
static ptrdiff_t offset; // atomic; the same, once the kernel is known to tell

void profd_stay_init(void)
{
	const unsigned *size = dlsym(RTLD_DEFAULT, "__rseq_size");
	const ptrdiff_t *from_thread_pointer = dlsym(RTLD_DEFAULT, "__rseq_offset");

	// 0: a tunable of glibc's or the kernel was against it.
	if (size && from_thread_pointer && *size > 0)
		found = *from_thread_pointer;
}

static struct rseq *own(ptrdiff_t at)
{
	return (struct rseq *)(uintptr_t)(profd_thread_pointer() + (uint64_t)at);
}

static void name(struct rseq *rseq)
{
	if ((int32_t)__atomic_load_n(&rseq->cpu_id, __ATOMIC_RELAXED) >= 0)
		__atomic_store_n(&rseq->rseq_cs, (uint64_t)(uintptr_t)&nowhere, __ATOMIC_RELAXED);
}

static bool is_named(struct rseq *rseq)
{
	if (__atomic_load_n(&rseq->rseq_cs, __ATOMIC_RELAXED) != (uint64_t)(uintptr_t)&nowhere)
		return false;
	__atomic_store_n(&rseq->rseq_cs, 0, __ATOMIC_RELAXED);
	return true;
}

// An interrupt may clear the word of a kernel that does not tell, too, but not each time.
void profd_stay_try(void)
{
	static const struct timespec time = {0, TRY_NS};
	bool tells = found != 0;

	for (int i = 0; i < TRIES && tells; i++) {
		name(own(found));
		profd_raw4(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&time, 0);
		tells = !is_named(own(found));
	}
	__atomic_store_n(&offset, tells ? found : 0, __ATOMIC_RELAXED);
}

void profd_stay_begin(void)
{
	ptrdiff_t at = __atomic_load_n(&offset, __ATOMIC_RELAXED);

	if (at)
		name(own(at));
}

bool profd_stayed(void)
{
	ptrdiff_t at = __atomic_load_n(&offset, __ATOMIC_RELAXED);

	return at && is_named(own(at));
}
#else
void profd_stay_init(void) {}

void profd_stay_begin(void) {}

bool profd_stayed(void)
{
	return false;
}
#endif

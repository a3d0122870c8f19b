// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind.c: what a stack walk takes, by depth, warm and cold, for each walker; what the tables of real files take. For scripts/bench unwind.
//
// usage: unwind walks          prints: WALKER DEPTH STATE NANOSECONDS
//        unwind tables FILE…   prints: FILE BYTES TEXT-BYTES ROWS RULES UNSUPPORTED SECONDS
//
// The stacks are of 64 different functions, in turn. Warm: the same stack again and again. Cold: each walk at return
// addresses that its cache does not hold; "evicted": and 16 MiB of other memory were read before.

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include "profd/safe_read.h"
#include "profd/wire.h"
#include "tests/unit/unwind_modules.h"

#define MAX_FRAMES 256
#define EVICT_BYTES (16u << 20)

static struct unwind_modules modules;
static struct profd_module_set uncached;
static int (*libc_backtrace)(void **, int);
static uint64_t stack_high;
static uint64_t sink;

// ---- Walkers -------------------------------------------------------------------------------------------------------

struct scene {
	ucontext_t uc;
	struct profd_unwind_context context;
	struct profd_stack_range range;
};

static uint32_t walk_table(struct scene *scene)
{
	uint64_t pcs[MAX_FRAMES];
	uint8_t stop;

	return profd_unwind_table(&modules.set, &scene->context, scene->range, pcs, MAX_FRAMES, &stop);
}

static uint32_t walk_uncached(struct scene *scene)
{
	uint64_t pcs[MAX_FRAMES];
	uint8_t stop;

	return profd_unwind_table(&uncached, &scene->context, scene->range, pcs, MAX_FRAMES, &stop);
}

static uint32_t walk_fp(struct scene *scene)
{
	uint64_t pcs[MAX_FRAMES];
	uint8_t stop;

	return profd_unwind_fp(&modules.set, &scene->context, scene->range, pcs, MAX_FRAMES, &stop);
}

static uint32_t walk_unw_backtrace(struct scene *scene)
{
	void *pcs[MAX_FRAMES];

	return (uint32_t)unw_backtrace(pcs, MAX_FRAMES);
}

static uint32_t walk_unw_step(struct scene *scene)
{
	unw_cursor_t cursor;
	unw_word_t pc;
	uint32_t count = 0;

	unw_init_local2(&cursor, &scene->uc, UNW_INIT_SIGNAL_FRAME);
	do {
		unw_get_reg(&cursor, UNW_REG_IP, &pc);
		sink += pc;
		count++;
	} while (unw_step(&cursor) > 0);
	return count;
}

static uint32_t walk_glibc(struct scene *scene)
{
	void *pcs[MAX_FRAMES];

	return (uint32_t)libc_backtrace(pcs, MAX_FRAMES);
}

static void forget_table(void)
{
	memset(modules.cache, 0, sizeof(modules.cache));
}

static void forget_libunwind(void)
{
	unw_flush_cache(unw_local_addr_space, 0, 0);
}

static void forget_nothing(void) {}

struct walker {
	const char *name;
	uint32_t (*walk)(struct scene *scene);
	void (*forget)(void);
	unsigned warm, cold; // walks of a pass
};

// Frame pointers have a stack of their own: the other one has none.
static const struct walker walkers[] = {
	{"profd", walk_table, forget_table, 20000, 400},
	{"profd-without-cache", walk_uncached, forget_nothing, 5000, 400},
	{"unw_backtrace", walk_unw_backtrace, forget_nothing, 5000, 30}, // its cache of the thread cannot be emptied
	{"unw_step", walk_unw_step, forget_libunwind, 300, 30},
	{"glibc-backtrace", walk_glibc, forget_nothing, 300, 30},
};
static const struct walker fp_walker = {"frame-pointers", walk_fp, forget_nothing, 20000, 400};

// ---- Timing --------------------------------------------------------------------------------------------------------

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare_times(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

// The best of some passes: what disturbs only adds.
static double warm_ns(const struct walker *walker, struct scene *scene)
{
	uint64_t best = UINT64_MAX;

	for (int pass = 0; pass < 9; pass++) {
		uint64_t start = now_ns(), took;

		for (unsigned i = 0; i < walker->warm; i++)
			sink += walker->walk(scene);
		took = now_ns() - start;
		best = took < best ? took : best;
	}
	return (double)best / walker->warm;
}

static void evict(void)
{
	static volatile uint8_t *memory;

	if (!memory)
		memory = calloc(1, EVICT_BYTES);
	for (size_t i = 0; memory && i < EVICT_BYTES; i += 64)
		memory[i]++;
}

// Each walk by itself, the clock's own time taken off; the median.
static double cold_ns(const struct walker *walker, struct scene *scene, bool evicted)
{
	uint64_t times[400];

	for (unsigned i = 0; i < walker->cold; i++) {
		uint64_t before, start, end;

		walker->forget();
		if (evicted)
			evict();
		before = now_ns();
		start = now_ns();
		sink += walker->walk(scene);
		end = now_ns();
		times[i] = end - start > start - before ? end - start - (start - before) : 0;
	}
	qsort(times, walker->cold, sizeof(times[0]), compare_times);
	return (double)times[walker->cold / 2];
}

static void measure(const struct walker *walker, struct scene *scene)
{
	uint32_t depth = walker->walk(scene);

	printf("%s %u warm %.0f\n", walker->name, depth, warm_ns(walker, scene));
	if (walker->forget != forget_nothing)
		printf("%s %u cold %.0f\n", walker->name, depth, cold_ns(walker, scene, false));
	printf("%s %u evicted %.0f\n", walker->name, depth, cold_ns(walker, scene, true));
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

// DWARF's order, from the kernel's.
static void take_scene(struct scene *scene)
{
	static const uint8_t greg[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
				       REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		scene->context.regs[i] = (uint64_t)scene->uc.uc_mcontext.gregs[greg[i]];
	scene->range = (struct profd_stack_range){scene->context.regs[7], stack_high};
}

static void at_bottom(const struct walker *only)
{
	struct scene scene;

	getcontext(&scene.uc);
	take_scene(&scene);
	if (only) {
		measure(only, &scene);
		return;
	}
	for (size_t i = 0; i < sizeof(walkers) / sizeof(walkers[0]); i++)
		measure(&walkers[i], &scene);
}

typedef void (*level)(unsigned depth, const struct walker *only);
static level levels[64], fp_levels[64];

// clang-format off
#define FOUR(m, n) m(n##0) m(n##1) m(n##2) m(n##3)
#define SIXTEEN(m, n) FOUR(m, n##0) FOUR(m, n##1) FOUR(m, n##2) FOUR(m, n##3)
#define ALL(m) SIXTEEN(m, 10) SIXTEEN(m, 11) SIXTEEN(m, 12) SIXTEEN(m, 13)
#define BODY(table, n) { \
		volatile char space[n % 97 + 8]; \
		space[0] = (char)depth; \
		if (depth) \
			table[depth % 64](depth - 1, only); \
		else \
			at_bottom(only); \
		space[1] = space[0]; \
	}
#define LEVEL(n) __attribute__((noinline)) static void level_##n(unsigned depth, const struct walker *only) BODY(levels, n)
#define FP_LEVEL(n) __attribute__((noinline, optimize("no-omit-frame-pointer"))) static void fp_level_##n(unsigned depth, const struct walker *only) BODY(fp_levels, n)
#define NAME(n) level_##n,
#define FP_NAME(n) fp_level_##n,
ALL(LEVEL)
ALL(FP_LEVEL)
static level levels[64] = {ALL(NAME)};
static level fp_levels[64] = {ALL(FP_NAME)};
// clang-format on

static void measure_walks(void)
{
	static const unsigned depths[] = {10, 30, 100};
	struct scene scene;
	unsigned base;

	getcontext(&scene.uc);
	take_scene(&scene);
	base = walk_table(&scene) + 2; // at_bottom, and the level that calls it
	for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
		levels[0](depths[i] - base, NULL);
		fp_levels[0](depths[i] - 1 - 2, &fp_walker); // to where the chain ends, in libc
	}
}

// ---- Tables --------------------------------------------------------------------------------------------------------

static void measure_table(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);
	uint64_t best = UINT64_MAX;
	struct wire_table table;

	for (int pass = 0; elf && pass < 5; pass++) {
		struct wire_table *built;
		uint64_t start = now_ns(), took;
		size_t size;

		if (cfi_table_build(elf, &built, &size))
			break;
		took = now_ns() - start;
		best = took < best ? took : best;
		table = *built;
		free(built);
	}
	if (best != UINT64_MAX)
		printf("%s %llu %llu %u %u %u %.6f\n", path, (unsigned long long)table.size,
		       (unsigned long long)(table.text_end - table.text_start), table.nrows, table.nrules,
		       table.unsupported, (double)best / 1e9);
	if (elf)
		elf_end(elf);
	if (fd >= 0)
		close(fd);
}

static void set_up(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW), *low;
	pthread_attr_t attributes;
	size_t size;

	profd_safe_read_init();
	*(void **)&libc_backtrace = dlsym(libc, "backtrace"); // not libunwind's, which has one as well
	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	stack_high = (uint64_t)(uintptr_t)low + size;
	libc_backtrace(&low, 1); // loads what it needs
	unwind_read_modules(&modules, getpid());
	uncached = modules.set;
	uncached.cache = NULL;
}

int main(int argc, char **argv)
{
	elf_version(EV_CURRENT);
	if (argc > 2 && strcmp(argv[1], "tables") == 0) {
		for (int i = 2; i < argc; i++)
			measure_table(argv[i]);
		return 0;
	}
	if (argc != 2 || strcmp(argv[1], "walks") != 0) {
		fputs("usage: unwind walks | unwind tables FILE...\n", stderr);
		return 2;
	}
	set_up();
	measure_walks();
	return 0;
}

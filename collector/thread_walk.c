// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_walk.c: see thread_walk.h. The walker is the agent's (outside.h); this is the memory it reads.

#include "collector/thread_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "collector/hotspot.h"
#include "collector/mapping.h"
#include "collector/module.h"
#include "collector/outside.h"
#include "collector/process.h"
#include "collector/task_reader.h"
#include "collector/thread_capture.h"

#define FIRST_COPY \
	4096u // bytes of stack at first; then as much as the last ones needed, and ever more when the walk gets there
#define MAX_FIRST_COPY 65536u
#define MAX_COPY (4u << 20) // of one stack
#define PAGE 4096u
#define PAGES 256u // of code; a power of two
#define FRAMES 64u // of a runtime's code that are remembered; a power of two

struct walk_image {
	struct profd_module_set set;
	struct profd_module *modules;
	struct profd_code_range *ranges;
	struct {
		const struct module *module;
		void *table;
		size_t size;
	} * tables;
	size_t ntables;
	bool has_libjvm;
	struct hotspot *hotspot; // NULL: none that we know how to read
};

struct thread_walker {
	pid_t pid, living; // see process.h
	const struct walk_image *image;
	uint64_t stack_start;
	size_t stack_size, stack_capacity;
	size_t first_copy, needed; // bytes of stack, of the next walk and of this one
	uint8_t *stack;
	struct {
		uint64_t start;
		size_t size; // 0: none, or used
	} copies[THREAD_WALK_COPIES];
	uint8_t *copied; // copy_size for each
	size_t copy_size, copied_capacity;
	const struct thread_capture *capture; // whose stack is read; NULL: the process's own memory
	struct {
		uint64_t address; // 1: none
		uint8_t bytes[PAGE];
	} pages[PAGES];
	struct {
		uint64_t pc; // 0: none
		struct profd_runtime_frame frame;
	} frames[FRAMES];
};

// Whose memory outside_safe_read reads: the walk has no place to say it.
static __thread struct thread_walker *current;

// ---- The code ------------------------------------------------------------------------------------------------------

static const struct wire_table *map_table(struct walk_image *image, struct module *module, struct table_cache *tables)
{
	uint64_t size;
	void *table;
	int fd;

	for (size_t i = 0; i < image->ntables; i++)
		if (image->tables[i].module == module)
			return image->tables[i].table;
	if (module_table(module, tables, &fd, &size) < 0)
		return NULL;
	table = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (table == MAP_FAILED)
		return NULL;
	if (outside_table_check(table, size) < 0) {
		munmap(table, size);
		return NULL;
	}
	image->tables[image->ntables].module = module;
	image->tables[image->ntables].table = table;
	image->tables[image->ntables++].size = size;
	return table;
}

static bool is_libjvm(const struct mapping *mapping)
{
	const char *name = strrchr(module_path(mapping->module), '/');

	return name && strcmp(name, "/libjvm.so") == 0;
}

struct walk_image *walk_image_create(pid_t pid, const struct mapping_set *mappings, struct table_cache *tables)
{
	struct walk_image *image = calloc(1, sizeof(*image));
	size_t count = mappings->count ? mappings->count : 1;

	if (!image)
		return NULL;
	image->modules = calloc(count, sizeof(*image->modules));
	image->ranges = calloc(count, sizeof(*image->ranges));
	image->tables = calloc(count, sizeof(*image->tables));
	image->set.cache = calloc(PROFD_UNWIND_CACHE_ENTRIES, sizeof(*image->set.cache));
	if (!image->modules || !image->ranges || !image->tables || !image->set.cache) {
		walk_image_destroy(image);
		return NULL;
	}
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = mappings->entries[i].mapping;
		struct profd_module *module = &image->modules[image->set.count];

		// What no file is behind (a JIT's code) has no table, and is known as such by being in no module.
		if (!mapping->module) {
			image->ranges[image->set.nranges++] = (struct profd_code_range){mapping->start, mapping->end};
			continue;
		}
		*module = (struct profd_module){.start = mapping->start, .end = mapping->end, .bias = mapping->bias};
		module->table = map_table(image, mapping->module, tables);
		if (!image->has_libjvm && is_libjvm(mapping)) {
			image->has_libjvm = true;
			image->hotspot = hotspot_open(pid, mapping->bias);
		}
		image->set.count++;
	}
	image->set.modules = image->modules;
	image->set.ranges = image->ranges;
	return image;
}

void walk_image_destroy(struct walk_image *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->ntables; i++)
		munmap(image->tables[i].table, image->tables[i].size);
	hotspot_close(image->hotspot);
	free(image->tables);
	free(image->ranges);
	free(image->modules);
	free(image->set.cache);
	free(image);
}

// ---- The memory ----------------------------------------------------------------------------------------------------

static size_t read_target(struct thread_walker *walker, uint64_t address, void *data, size_t size)
{
	return process_read_memory(walker->pid, &walker->living, address, data, size);
}

static bool reserve(uint8_t **data, size_t *capacity, size_t wanted)
{
	uint8_t *grown = wanted > *capacity ? realloc(*data, wanted) : *data;

	if (!grown)
		return false;
	*data = grown;
	*capacity = wanted > *capacity ? wanted : *capacity;
	return true;
}

// The kernel goes on until the first place that it cannot read: from the next one on it is asked again.
void thread_walker_copy(struct thread_walker *walker, const uint64_t *sps, unsigned n)
{
	const size_t each = walker->first_copy;
	struct iovec pieces[THREAD_WALK_COPIES];

	walker->copy_size = each;
	for (unsigned i = 0; i < THREAD_WALK_COPIES; i++)
		walker->copies[i].size = 0;
	if (n > THREAD_WALK_COPIES || !reserve(&walker->copied, &walker->copied_capacity, n * each))
		return;
	for (unsigned i = 0; i < n; i++)
		pieces[i] = (struct iovec){(void *)(uintptr_t)sps[i], each};
	for (unsigned i = 0; i < n; i++) {
		size_t left =
			process_read_pieces(walker->pid, &walker->living, pieces + i, n - i, walker->copied + i * each);

		for (;; i++) {
			walker->copies[i].start = sps[i];
			walker->copies[i].size = left < each ? left : each;
			if (left < each || i + 1 == n)
				break;
			left -= each;
		}
	}
}

// What was copied for this walk, as the beginning of its stack.
static void take_copy(struct thread_walker *walker)
{
	for (unsigned i = 0; i < THREAD_WALK_COPIES; i++) {
		size_t size = walker->copies[i].size;

		if (size == 0 || walker->copies[i].start != walker->stack_start)
			continue;
		walker->copies[i].size = 0;
		if (reserve(&walker->stack, &walker->stack_capacity, size)) {
			memcpy(walker->stack, walker->copied + i * walker->copy_size, size);
			walker->stack_size = size;
		}
		return;
	}
}

bool thread_walker_copied(const struct thread_walker *walker, uint64_t address, void *data, size_t size)
{
	uint64_t offset = address - walker->stack_start;

	if (offset > walker->stack_size || size > walker->stack_size - offset)
		return false;
	memcpy(data, walker->stack + offset, size);
	return true;
}

// Copies what lies above the copy, as much again; false: there is no more.
static bool extend_stack(struct thread_walker *walker)
{
	size_t wanted = walker->stack_size ? walker->stack_size * 2 : walker->first_copy, n;

	if (wanted > MAX_COPY)
		return false;
	if (!reserve(&walker->stack, &walker->stack_capacity, wanted))
		return false;
	n = read_target(walker, walker->stack_start + walker->stack_size, walker->stack + walker->stack_size,
			wanted - walker->stack_size);
	walker->stack_size += n;
	return n > 0;
}

static bool read_stack(struct thread_walker *walker, uint64_t address, uint64_t *ret_value)
{
	uint64_t offset = address - walker->stack_start;

	if (offset + 8 > walker->needed)
		walker->needed = offset + 8;
	while (offset + 8 > walker->stack_size)
		if (!extend_stack(walker))
			return false;
	memcpy(ret_value, walker->stack + offset, 8);
	return true;
}

static bool read_page(struct thread_walker *walker, uint64_t address, uint8_t *data, size_t size)
{
	uint64_t start = address & ~(uint64_t)(PAGE - 1);
	unsigned i = (unsigned)(start / PAGE % PAGES);

	if (walker->pages[i].address != start) {
		walker->pages[i].address = 1;
		if (read_target(walker, start, walker->pages[i].bytes, PAGE) != PAGE)
			return false;
		walker->pages[i].address = start;
	}
	memcpy(data, walker->pages[i].bytes + (address - start), size);
	return true;
}

static bool is_code(const struct thread_walker *walker, uint64_t address)
{
	const struct profd_module_set *set = &walker->image->set;
	uint32_t low = 0, high = set->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (address < set->modules[middle].start)
			high = middle;
		else if (address >= set->modules[middle].end)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

// Not sound for addresses of another stack above the thread's own (a coroutine's): those that far away stay partial.
static bool read_captured(const struct thread_capture *capture, uint64_t offset, uint64_t *ret_value)
{
	if (offset + 8 > capture->stack_size)
		return false;
	memcpy(ret_value, capture->stack + offset, 8);
	return true;
}

bool outside_safe_read(uint64_t address, uint64_t *ret_value)
{
	struct thread_walker *walker = current;
	size_t here = PAGE - (size_t)(address % PAGE);
	uint8_t *data = (uint8_t *)ret_value;

	if (walker->capture && address >= walker->stack_start && address - walker->stack_start < MAX_COPY)
		return read_captured(walker->capture, address - walker->stack_start, ret_value);
	if (address >= walker->stack_start && address - walker->stack_start < MAX_COPY &&
	    read_stack(walker, address, ret_value))
		return true;
	// Code stays as it is while a snapshot is taken; anything else (another stack: signal handlers, coroutines) is read anew.
	if (!is_code(walker, address))
		return read_target(walker, address, ret_value, 8) == 8;
	if (here >= 8)
		return read_page(walker, address, data, 8);
	return read_page(walker, address, data, here) && read_page(walker, address + here, data + here, 8 - here);
}

void outside_runtime_find(uint64_t pc, struct profd_runtime_frame *ret_frame)
{
	const struct hotspot *hotspot = current->image->hotspot;
	unsigned i = (unsigned)(pc ^ pc >> 6) % FRAMES;

	if (!hotspot) {
		ret_frame->kind = current->image->has_libjvm ? PROFD_RUNTIME_LOST : PROFD_RUNTIME_NONE;
		return;
	}
	if (current->frames[i].pc != pc) {
		current->frames[i].pc = pc;
		hotspot_find_frame(hotspot, pc, &current->frames[i].frame);
	}
	*ret_frame = current->frames[i].frame;
}

// ---- The walk ------------------------------------------------------------------------------------------------------

struct thread_walker *thread_walker_create(pid_t pid, const struct walk_image *image)
{
	struct thread_walker *walker = calloc(1, sizeof(*walker));

	if (!walker)
		return NULL;
	walker->pid = pid;
	walker->living = process_living_task(pid, 0);
	walker->image = image;
	walker->first_copy = FIRST_COPY;
	for (unsigned i = 0; i < PAGES; i++)
		walker->pages[i].address = 1;
	return walker;
}

void thread_walker_destroy(struct thread_walker *walker)
{
	if (!walker)
		return;
	free(walker->copied);
	free(walker->stack);
	free(walker);
}

// A call for each stack costs more than bytes do: what is needed grows at once, and gets less by and by.
static void expect(struct thread_walker *walker)
{
	size_t needed = (walker->needed + 511) & ~(size_t)511, less = walker->first_copy - walker->first_copy / 16;

	walker->first_copy = needed > less ? needed : less;
	if (walker->first_copy > MAX_FIRST_COPY)
		walker->first_copy = MAX_FIRST_COPY;
}

static uint32_t walk(struct thread_walker *walker, const struct profd_unwind_context *context, uint64_t *pcs,
		     uint8_t *ret_stop)
{
	const struct profd_stack_range nothing = {0, 0};
	uint32_t n;

	walker->stack_start = context->regs[PROFD_ARCH_SP];
	walker->stack_size = walker->needed = 0;
	if (!walker->capture)
		take_copy(walker);
	current = walker;
	n = outside_unwind_table(&walker->image->set, context, nothing, pcs, WIRE_MAX_FRAMES, ret_stop);
	current = NULL;
	expect(walker);
	return n;
}

// The registers, by DWARF number, that still have a system call's arguments. The kernel gives all back as they were, but for its result:
// on aarch64 that is in the first argument's.
#if defined(__x86_64__)
static const uint8_t argument_registers[6] = {5, 4, 1, 10, 8, 9}; // rdi rsi rdx r10 r8 r9
#define FIRST_ARGUMENT 0
#else
static const uint8_t argument_registers[6] = {0, 1, 2, 3, 4, 5};
#define FIRST_ARGUMENT 1
#endif

static void know(struct profd_unwind_context *context, uint8_t reg, uint64_t value)
{
	context->regs[reg] = value;
	context->known |= 1ULL << reg;
}

uint32_t thread_walker_walk(struct thread_walker *walker, const struct task_place *place, uint64_t *pcs,
			    uint8_t *ret_stop)
{
	struct profd_unwind_context context = {0};

	know(&context, PROFD_ARCH_PC, place->pc);
	know(&context, PROFD_ARCH_SP, place->sp);
	for (unsigned i = FIRST_ARGUMENT; place->in_syscall && i < 6; i++)
		know(&context, argument_registers[i], place->args[i]);
	return walk(walker, &context, pcs, ret_stop);
}

uint32_t thread_walker_walk_call(struct thread_walker *walker, uint64_t pc, uint64_t sp, uint64_t fp, uint64_t *pcs,
				 uint8_t *ret_stop)
{
	struct profd_unwind_context context = {0};
	uint32_t n;

	know(&context, PROFD_ARCH_PC, pc - 1); // in the call, whose frame it is
	know(&context, PROFD_ARCH_SP, sp);
	know(&context, PROFD_ARCH_FP, fp);
	n = walk(walker, &context, pcs, ret_stop);
	pcs[0] = pc;
	return n;
}

uint32_t thread_walker_walk_captured(struct thread_walker *walker, const struct thread_capture *capture, uint64_t *pcs,
				     uint8_t *ret_stop)
{
	struct profd_unwind_context context = {.known = UINT64_MAX};
	uint32_t n;

	memcpy(context.regs, capture->regs, sizeof(context.regs));
	walker->capture = capture;
	n = walk(walker, &context, pcs, ret_stop);
	walker->capture = NULL;
	return n;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_hotspot.c: frames of code in a code cache (hotspot.c), by the tables that this program exports as libjvm.so does; also damaged ones.
// Real ones: tests/e2e/test_snapshot_programs.py.

#include <dlfcn.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/hotspot.h"
#include "collector/memory_symbols.h"
#include "collector/wait_memory.h"

#define EXPORTED __attribute__((visibility("default"))) extern
#define SEGMENT 64u

struct entry {
	const char *type, *name, *type_string;
	int is_static;
	uint64_t offset;
	void *address;
};

struct type {
	const char *name, *super;
	int flags[3];
	uint64_t size;
};

struct space {
	uint64_t low_boundary, high_boundary, low;
};

struct heap {
	struct space memory, map;
	int log2;
};

struct blob {
	const char *name;
	int size, frame_complete, frame_size;
	uint64_t code_begin;
};

struct array {
	int length;
	struct heap **data;
};

static uint8_t code[16 * SEGMENT] __attribute__((aligned(64))), map[16];
static struct heap heap;
static struct heap *heaps[] = {&heap};
static struct array array = {1, heaps};
static struct array *code_cache_heaps;

#define FIELD(type, name, of, member)                                \
	{                                                            \
		type, name, "", 0, offsetof(struct of, member), NULL \
	}
static struct entry entries[] = {
	{"CodeCache", "_heaps", "", 1, 0, &code_cache_heaps},
	FIELD("GrowableArrayBase", "_len", array, length),
	FIELD("GrowableArray<int>", "_data", array, data),
	FIELD("CodeHeap", "_memory", heap, memory),
	FIELD("CodeHeap", "_segmap", heap, map),
	FIELD("CodeHeap", "_log2_segment_size", heap, log2),
	FIELD("VirtualSpace", "_low_boundary", space, low_boundary),
	FIELD("VirtualSpace", "_high_boundary", space, high_boundary),
	FIELD("VirtualSpace", "_low", space, low),
	FIELD("CodeBlob", "_name", blob, name),
	FIELD("CodeBlob", "_size", blob, size),
	FIELD("CodeBlob", "_frame_size", blob, frame_size),
	FIELD("CodeBlob", "_frame_complete_offset", blob, frame_complete),
	FIELD("CodeBlob", "_code_begin", blob, code_begin),
	{0},
};
static struct type types[] = {{.name = "oop", .size = 1}, {.name = "HeapBlock", .size = 16}, {0}};

EXPORTED struct entry *gHotSpotVMStructs;
EXPORTED struct type *gHotSpotVMTypes;
EXPORTED uint64_t gHotSpotVMStructEntryArrayStride, gHotSpotVMStructEntryTypeNameOffset,
	gHotSpotVMStructEntryFieldNameOffset, gHotSpotVMStructEntryOffsetOffset, gHotSpotVMStructEntryAddressOffset,
	gHotSpotVMTypeEntryArrayStride, gHotSpotVMTypeEntryTypeNameOffset, gHotSpotVMTypeEntrySizeOffset;
struct entry *gHotSpotVMStructs = entries;
struct type *gHotSpotVMTypes = types;
uint64_t gHotSpotVMStructEntryArrayStride = sizeof(struct entry),
	 gHotSpotVMStructEntryTypeNameOffset = offsetof(struct entry, type),
	 gHotSpotVMStructEntryFieldNameOffset = offsetof(struct entry, name),
	 gHotSpotVMStructEntryOffsetOffset = offsetof(struct entry, offset),
	 gHotSpotVMStructEntryAddressOffset = offsetof(struct entry, address),
	 gHotSpotVMTypeEntryArrayStride = sizeof(struct type),
	 gHotSpotVMTypeEntryTypeNameOffset = offsetof(struct type, name),
	 gHotSpotVMTypeEntrySizeOffset = offsetof(struct type, size);

static int first_object(struct dl_phdr_info *info, size_t size, void *bias)
{
	(void)size;
	*(uint64_t *)bias = info->dlpi_addr;
	return 1;
}

static uint64_t own_bias(void)
{
	uint64_t bias = 0;

	dl_iterate_phdr(first_object, &bias);
	return bias;
}

// A block of so many segments from the given one on; its blob is behind the header.
static struct blob *put(unsigned first, unsigned count, const char *name, int frame_words)
{
	struct blob *blob = (struct blob *)(void *)(code + first * SEGMENT + 16);

	for (unsigned i = 0; i < count; i++)
		map[first + i] = (uint8_t)i;
	*blob = (struct blob){
		.name = name, .size = (int)(count * SEGMENT - 16), .frame_complete = 8, .frame_size = frame_words};
	blob->code_begin = (uint64_t)(uintptr_t)(blob + 1);
	return blob;
}

static int make(void **state)
{
	(void)state;
	memset(map, 0xff, sizeof(map));
	heap = (struct heap){.log2 = 6};
	heap.memory.low_boundary = (uint64_t)(uintptr_t)code;
	heap.memory.high_boundary = (uint64_t)(uintptr_t)(code + sizeof(code));
	heap.map.low = (uint64_t)(uintptr_t)map;
	array.length = 1;
	code_cache_heaps = &array;
	put(0, 4, "Interpreter", 0);
	put(4, 2, "StubRoutines (1)", 0);
	put(6, 3, "nmethod", 12);
	return 0;
}

static struct profd_runtime_frame find(const void *pc)
{
	struct hotspot *hotspot = hotspot_open(getpid(), own_bias());
	struct profd_runtime_frame frame;

	assert_non_null(hotspot);
	hotspot_find_frame(hotspot, (uint64_t)(uintptr_t)pc, &frame);
	hotspot_close(hotspot);
	return frame;
}

static void test_kinds(void **state)
{
	const struct blob *method = (const void *)(code + 6 * SEGMENT + 16);
	struct profd_runtime_frame frame;

	(void)state;
	assert_int_equal(find(code + 4 * SEGMENT - 1).kind, PROFD_RUNTIME_INTERPRETER);
	assert_int_equal(find(code + 5 * SEGMENT).kind, PROFD_RUNTIME_RECORD);
	frame = find(code + 8 * SEGMENT + 5);
	assert_int_equal(frame.kind, PROFD_RUNTIME_SIZED);
	assert_int_equal(frame.size, 96);
	assert_int_equal(frame.complete, method->code_begin + 8);
	assert_int_equal(find((const void *)((uintptr_t)code - 1)).kind, PROFD_RUNTIME_NONE);
	assert_int_equal(find(code + sizeof(code)).kind, PROFD_RUNTIME_NONE);
	put(9, 1, "RuntimeStub", 4)->frame_complete = -1;
	assert_int_equal(find(code + 9 * SEGMENT + 60).complete, UINT64_MAX);
}

static void test_damaged_code(void **state)
{
	struct blob *method = (void *)(code + 6 * SEGMENT + 16);

	(void)state;
	assert_int_equal(find(code + 12 * SEGMENT).kind, PROFD_RUNTIME_LOST); // free
	map[8] = 200;                                                         // back to before the heap
	assert_int_equal(find(code + 8 * SEGMENT).kind, PROFD_RUNTIME_LOST);
	map[8] = 2;
	for (const int *words = (const int[]){-1, 1, INT32_MAX, INT32_MIN, 0}; *words; words++) {
		method->frame_size = *words;
		assert_int_equal(find(code + 8 * SEGMENT).kind, PROFD_RUNTIME_LOST);
	}
	method->frame_size = 12;
	for (const int *size = (const int[]){-1, 16, INT32_MIN, 0}; *size; size++) {
		method->size = *size;
		assert_int_equal(find(code + 8 * SEGMENT).kind, PROFD_RUNTIME_LOST);
	}
	method->frame_size = 0;
	method->size = 3 * SEGMENT;
	method->name = (const char *)1;
	assert_int_equal(find(code + 8 * SEGMENT).kind, PROFD_RUNTIME_RECORD);
}

static void assert_unknown(void)
{
	assert_null(hotspot_open(getpid(), own_bias()));
}

static void test_damaged_tables(void **state)
{
	(void)state;
	code_cache_heaps = NULL; // it has not begun yet
	assert_unknown();
	code_cache_heaps = (struct array *)1;
	assert_unknown();
	code_cache_heaps = &array;
	array.length = 1 << 30;
	assert_unknown();
	array.length = 1;
	heap.log2 = 64;
	assert_unknown();
	heap.log2 = 6;
	gHotSpotVMStructEntryArrayStride = 0;
	assert_unknown();
	gHotSpotVMStructEntryArrayStride = sizeof(struct entry);
	for (struct entry *entry = entries; entry->name; entry++) {
		const char *name = entry->name;

		entry->name = "another";
		assert_unknown();
		entry->name = (const char *)1;
		assert_unknown();
		entry->name = name;
	}
	assert_null(hotspot_open(getpid(), own_bias() + 4096));
	assert_null(hotspot_open(getpid(), 0x1000));
	assert_int_equal(find(code + SEGMENT).kind, PROFD_RUNTIME_INTERPRETER);
}

static void test_symbols(void **state)
{
	struct wait_memory *memory = wait_memory_create(getpid());
	struct memory_symbols symbols;
	struct link_map *libc;
	uint64_t address;
	void *handle = dlopen("libc.so.6", RTLD_NOW);

	(void)state;
	assert_non_null(handle);
	assert_int_equal(dlinfo(handle, RTLD_DI_LINKMAP, &libc), 0);
	assert_true(memory_symbols_open(&symbols, memory, libc->l_addr));
	for (const char *const *name = (const char *const[]){"getpid", "environ", "fopen", NULL}; *name; name++) {
		assert_true(memory_symbols_find(&symbols, *name, &address));
		assert_int_equal(address, (uintptr_t)dlvsym(handle, *name, "GLIBC_2.2.5"));
	}
	assert_false(memory_symbols_find(&symbols, "gHotSpotVMStructs", &address));
	symbols.hash = 8;
	assert_false(memory_symbols_find(&symbols, "getpid", &address));
	wait_memory_destroy(memory);
	dlclose(handle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_kinds, make),
		cmocka_unit_test_setup(test_damaged_code, make),
		cmocka_unit_test_setup(test_damaged_tables, make),
		cmocka_unit_test(test_symbols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

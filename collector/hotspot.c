// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// hotspot.c: see hotspot.h. HotSpot's side: vmStructs.cpp, codeBlob.hpp, heap.cpp (CodeHeap::find_block_for).
//
//   CodeHeap   │ segment │ segment │ …      each 1 << log2 bytes; a block is some of them in a row
//   its map    │    0    │    1    │ 2 …    a byte for each: how far back to go for the block's first one (by steps); 0xff: free
//   block      │ HeapBlock: length, used │ CodeBlob: frame size, … │ code │
//
// A frame's size is in words, counts the return address and the FP that is saved below it, and is 0 where FP says it.

#include "collector/hotspot.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "collector/memory_symbols.h"
#include "collector/wait_memory.h"

#define MAX_ENTRIES 20000u // of a table of HotSpot's
#define MAX_STRIDE 256u
#define MAX_HEAPS 8u
#define MAX_NAME 48u
#define MAX_STEPS 65536u // back through a heap's map
#define MAX_FRAME_WORDS (1u << 20)
#define FREE_SEGMENT 0xff

struct heap {
	uint64_t low, high, map;
	uint32_t log2;
};

struct hotspot {
	pid_t pid;
	struct heap heaps[MAX_HEAPS];
	uint32_t nheaps;
	uint64_t block_header;
	uint64_t name, size, frame_size, frame_complete, code_begin; // offsets in a CodeBlob
};

// ---- What HotSpot exports --------------------------------------------------------------------------------------------

enum field {
	HEAPS,
	ARRAY_LENGTH,
	ARRAY_DATA,
	HEAP_MEMORY,
	HEAP_MAP,
	HEAP_LOG2,
	SPACE_LOW,
	SPACE_HIGH,
	SPACE_BEGIN,
	BLOB_NAME,
	BLOB_SIZE,
	BLOB_FRAME_SIZE,
	BLOB_FRAME_COMPLETE,
	BLOB_CODE_BEGIN,
	FIELDS
};

static const struct {
	const char *type, *name;
} wanted[FIELDS] = {
	[HEAPS] = {"CodeCache", "_heaps"}, // the only one that is static: its address counts, of all others the offset
	[ARRAY_LENGTH] = {"GrowableArrayBase", "_len"},
	[ARRAY_DATA] = {"GrowableArray<int>", "_data"},
	[HEAP_MEMORY] = {"CodeHeap", "_memory"},
	[HEAP_MAP] = {"CodeHeap", "_segmap"},
	[HEAP_LOG2] = {"CodeHeap", "_log2_segment_size"},
	[SPACE_LOW] = {"VirtualSpace", "_low_boundary"},
	[SPACE_HIGH] = {"VirtualSpace", "_high_boundary"},
	[SPACE_BEGIN] = {"VirtualSpace", "_low"},
	[BLOB_NAME] = {"CodeBlob", "_name"},
	[BLOB_SIZE] = {"CodeBlob", "_size"},
	[BLOB_FRAME_SIZE] = {"CodeBlob", "_frame_size"},
	[BLOB_FRAME_COMPLETE] = {"CodeBlob", "_frame_complete_offset"},
	[BLOB_CODE_BEGIN] = {"CodeBlob", "_code_begin"},
};

struct fields {
	bool found[FIELDS];
	uint64_t values[FIELDS];
};

// A table of HotSpot's: an array whose layout says itself where its members are.
struct exported {
	struct wait_memory *memory;
	uint64_t entries, stride;
};

static bool read_word(struct wait_memory *memory, uint64_t address, uint64_t *ret_value)
{
	return wait_memory_read(memory, address, ret_value, sizeof(*ret_value));
}

static bool read_symbol(const struct memory_symbols *symbols, const char *name, uint64_t *ret_value)
{
	uint64_t address;

	return memory_symbols_find(symbols, name, &address) && read_word(symbols->memory, address, ret_value);
}

static void read_name(struct wait_memory *memory, uint64_t address, char name[MAX_NAME])
{
	size_t n = 0;

	while (n + 1 < MAX_NAME && wait_memory_read(memory, address + n, &name[n], 1) && name[n])
		n++;
	name[n] = '\0';
}

static bool is_type(const char *type, enum field field)
{
	// GrowableArrayBase; up to Java 15, GenericGrowableArray
	if (field == ARRAY_LENGTH)
		return strcmp(type, "GrowableArrayBase") == 0 || strcmp(type, "GenericGrowableArray") == 0;
	return strcmp(type, wanted[field].type) == 0;
}

static bool open_table(const struct memory_symbols *symbols, const char *table, const char *stride,
		       struct exported *ret_exported)
{
	ret_exported->memory = symbols->memory;
	return read_symbol(symbols, table, &ret_exported->entries) &&
	       read_symbol(symbols, stride, &ret_exported->stride) && ret_exported->stride > 0 &&
	       ret_exported->stride <= MAX_STRIDE;
}

static bool read_fields(const struct memory_symbols *symbols, struct fields *ret_fields)
{
	struct exported table;
	uint64_t type_at, name_at, offset_at, address_at, pointer, at;

	if (!open_table(symbols, "gHotSpotVMStructs", "gHotSpotVMStructEntryArrayStride", &table) ||
	    !read_symbol(symbols, "gHotSpotVMStructEntryTypeNameOffset", &type_at) ||
	    !read_symbol(symbols, "gHotSpotVMStructEntryFieldNameOffset", &name_at) ||
	    !read_symbol(symbols, "gHotSpotVMStructEntryOffsetOffset", &offset_at) ||
	    !read_symbol(symbols, "gHotSpotVMStructEntryAddressOffset", &address_at))
		return false;
	at = table.entries;
	for (uint32_t i = 0; i < MAX_ENTRIES; i++, at += table.stride) {
		char type[MAX_NAME], name[MAX_NAME];

		if (!read_word(table.memory, at + type_at, &pointer) || pointer == 0)
			break;
		read_name(table.memory, pointer, type);
		if (!read_word(table.memory, at + name_at, &pointer))
			break;
		read_name(table.memory, pointer, name);
		for (enum field field = 0; field < FIELDS; field++)
			if (strcmp(name, wanted[field].name) == 0 && is_type(type, field))
				ret_fields->found[field] =
					read_word(table.memory, at + (field == HEAPS ? address_at : offset_at),
						  &ret_fields->values[field]);
	}
	return true;
}

static bool read_block_header(const struct memory_symbols *symbols, uint64_t *ret_size)
{
	struct exported table;
	uint64_t name_at, size_at, pointer, at;

	if (!open_table(symbols, "gHotSpotVMTypes", "gHotSpotVMTypeEntryArrayStride", &table) ||
	    !read_symbol(symbols, "gHotSpotVMTypeEntryTypeNameOffset", &name_at) ||
	    !read_symbol(symbols, "gHotSpotVMTypeEntrySizeOffset", &size_at))
		return false;
	at = table.entries;
	for (uint32_t i = 0; i < MAX_ENTRIES; i++, at += table.stride) {
		char name[MAX_NAME];

		if (!read_word(table.memory, at + name_at, &pointer) || pointer == 0)
			return false;
		read_name(table.memory, pointer, name);
		if (strcmp(name, "HeapBlock") == 0)
			return read_word(table.memory, at + size_at, ret_size);
	}
	return false;
}

static bool read_heap(struct wait_memory *memory, uint64_t address, const struct fields *fields, struct heap *ret_heap)
{
	const uint64_t *at = fields->values;
	uint64_t space = address + at[HEAP_MEMORY];

	return read_word(memory, space + at[SPACE_LOW], &ret_heap->low) &&
	       read_word(memory, space + at[SPACE_HIGH], &ret_heap->high) &&
	       read_word(memory, address + at[HEAP_MAP] + at[SPACE_BEGIN], &ret_heap->map) &&
	       wait_memory_read(memory, address + at[HEAP_LOG2], &ret_heap->log2, sizeof(ret_heap->log2)) &&
	       ret_heap->low < ret_heap->high && ret_heap->log2 < 32;
}

static bool read_heaps(struct wait_memory *memory, const struct fields *fields, struct hotspot *hotspot)
{
	uint64_t array, data, heap;
	uint32_t count;

	if (!read_word(memory, fields->values[HEAPS], &array) || array == 0 ||
	    !wait_memory_read(memory, array + fields->values[ARRAY_LENGTH], &count, sizeof(count)) ||
	    !read_word(memory, array + fields->values[ARRAY_DATA], &data) || count == 0 || count > MAX_HEAPS)
		return false;
	for (; hotspot->nheaps < count; hotspot->nheaps++)
		if (!read_word(memory, data + 8 * (uint64_t)hotspot->nheaps, &heap) ||
		    !read_heap(memory, heap, fields, &hotspot->heaps[hotspot->nheaps]))
			return false;
	return true;
}

static bool read_all(struct hotspot *hotspot, struct wait_memory *memory, uint64_t libjvm_bias)
{
	struct memory_symbols symbols;
	struct fields fields = {0};

	if (!memory_symbols_open(&symbols, memory, libjvm_bias) || !read_fields(&symbols, &fields) ||
	    !read_block_header(&symbols, &hotspot->block_header))
		return false;
	for (enum field field = 0; field < FIELDS; field++)
		if (!fields.found[field])
			return false;
	hotspot->name = fields.values[BLOB_NAME];
	hotspot->size = fields.values[BLOB_SIZE];
	hotspot->frame_size = fields.values[BLOB_FRAME_SIZE];
	hotspot->frame_complete = fields.values[BLOB_FRAME_COMPLETE];
	hotspot->code_begin = fields.values[BLOB_CODE_BEGIN];
	return read_heaps(memory, &fields, hotspot);
}

struct hotspot *hotspot_open(pid_t pid, uint64_t libjvm_bias)
{
	struct hotspot *hotspot = calloc(1, sizeof(*hotspot));
	struct wait_memory *memory = wait_memory_create(pid);

	if (hotspot)
		hotspot->pid = pid;
	if (!hotspot || !memory || !read_all(hotspot, memory, libjvm_bias)) {
		hotspot_close(hotspot);
		hotspot = NULL;
	}
	wait_memory_destroy(memory);
	return hotspot;
}

void hotspot_close(struct hotspot *hotspot)
{
	free(hotspot);
}

// ---- A piece of code -------------------------------------------------------------------------------------------------

static bool read_now(const struct hotspot *hotspot, uint64_t address, void *data, size_t size)
{
	struct iovec local = {data, size}, remote = {(void *)(uintptr_t)address, size};

	return process_vm_readv(hotspot->pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static bool find_blob(const struct hotspot *hotspot, const struct heap *heap, uint64_t pc, uint64_t *ret_blob)
{
	uint64_t segment = (pc - heap->low) >> heap->log2;
	uint8_t back;

	for (uint32_t n = 0; n < MAX_STEPS; n++) {
		if (!read_now(hotspot, heap->map + segment, &back, 1) || back == FREE_SEGMENT || back > segment)
			return false;
		if (back == 0) {
			*ret_blob = heap->low + (segment << heap->log2) + hotspot->block_header;
			return true;
		}
		segment -= back;
	}
	return false;
}

static bool is_interpreter(const struct hotspot *hotspot, uint64_t blob)
{
	static const char interpreter[] = "Interpreter";
	char name[sizeof(interpreter)];
	uint64_t address;

	return read_now(hotspot, blob + hotspot->name, &address, 8) && read_now(hotspot, address, name, sizeof(name)) &&
	       memcmp(name, interpreter, sizeof(name)) == 0;
}

static bool read_blob(const struct hotspot *hotspot, uint64_t blob, uint64_t pc, struct profd_runtime_frame *ret_frame)
{
	int32_t size, words, complete;
	uint64_t begin;

	if (!read_now(hotspot, blob + hotspot->size, &size, 4) || size <= 0 || pc < blob ||
	    pc - blob >= (uint64_t)size || !read_now(hotspot, blob + hotspot->frame_size, &words, 4) || words < 0 ||
	    words == 1 || (uint32_t)words > MAX_FRAME_WORDS)
		return false;
	if (words == 0) {
		ret_frame->kind = is_interpreter(hotspot, blob) ? PROFD_RUNTIME_INTERPRETER : PROFD_RUNTIME_RECORD;
		return true;
	}
	if (!read_now(hotspot, blob + hotspot->frame_complete, &complete, 4) ||
	    !read_now(hotspot, blob + hotspot->code_begin, &begin, 8))
		return false;
	ret_frame->kind = PROFD_RUNTIME_SIZED;
	ret_frame->size = 8 * (uint64_t)words;
	ret_frame->complete = complete < 0 ? UINT64_MAX : begin + (uint32_t)complete;
	return true;
}

void hotspot_find_frame(const struct hotspot *hotspot, uint64_t pc, struct profd_runtime_frame *ret_frame)
{
	uint64_t blob;

	*ret_frame = (struct profd_runtime_frame){.kind = PROFD_RUNTIME_NONE};
	for (uint32_t i = 0; i < hotspot->nheaps; i++) {
		const struct heap *heap = &hotspot->heaps[i];

		if (pc < heap->low || pc >= heap->high)
			continue;
		if (!find_blob(hotspot, heap, pc, &blob) || !read_blob(hotspot, blob, pc, ret_frame))
			ret_frame->kind = PROFD_RUNTIME_LOST;
		return;
	}
}

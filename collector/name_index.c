// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_index.c: see name_index.h.

#include "collector/name_index.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

#include "collector/dwarf_ranges.h"

#define MAX_RANGES (1u << 22)
#define FEW_PAGES 32u // so many are always all compiled
#define MAX_WANTED (1u << 24)

// ---- Ranges --------------------------------------------------------------------------------------------------------

bool name_index_span(const struct elf_file *file, struct dwarf_span *ret_span)
{
	struct dwarf_span span = {UINT64_MAX, 0};
	size_t count;

	if (elf_getphdrnum(file->elf, &count) < 0)
		return false;
	for (size_t i = 0; i < count && i < UINT16_MAX; i++) {
		GElf_Phdr segment;

		if (!gelf_getphdr(file->elf, (int)i, &segment) || segment.p_type != PT_LOAD ||
		    !(segment.p_flags & PF_X) || segment.p_memsz > UINT64_MAX - segment.p_vaddr)
			continue;
		if (segment.p_vaddr < span.start)
			span.start = segment.p_vaddr;
		if (segment.p_vaddr + segment.p_memsz > span.end)
			span.end = segment.p_vaddr + segment.p_memsz;
	}
	*ret_span = span;
	return span.start < span.end && span.end - span.start < UINT32_MAX;
}

struct range_sink {
	struct name_index *index;
	uint32_t unit;
};

// Code that the linker dropped is said to be at 0, or where none is.
static bool add_range(void *context, uint64_t start, uint64_t end)
{
	const struct range_sink *sink = context;
	struct name_index *index = sink->index;
	const struct dwarf_span *span = &index->span;

	if (start == 0 || start < span->start || start >= span->end)
		return true;
	if (index->nranges == index->ranges_capacity) {
		size_t capacity = index->ranges_capacity ? index->ranges_capacity * 2 : 256;
		struct name_range *grown =
			capacity <= MAX_RANGES ? reallocarray(index->ranges, capacity, sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		index->ranges = grown;
		index->ranges_capacity = capacity;
	}
	index->ranges[index->nranges++] =
		(struct name_range){(uint32_t)(start - span->start),
				    (uint32_t)((end < span->end ? end : span->end) - span->start), sink->unit};
	return true;
}

// Lookups take the last range first. Of a function that many units have a copy of, they all say that the one that was linked is theirs:
// it is the first unit's.
static int by_start(const void *a, const void *b)
{
	const struct name_range *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->unit < y->unit) - (x->unit > y->unit);
}

// What is beyond the limit is left out.
static void find_ranges(struct name_index *index)
{
	uint64_t budget = MAX_RANGES;

	for (size_t i = 0; index->dwarf && i < index->dwarf->count; i++) {
		const struct dwarf_cu *cu = &index->dwarf->units[i];
		struct range_sink sink = {index, (uint32_t)i};

		if ((cu->tag == DW_TAG_compile_unit || cu->tag == DW_TAG_skeleton_unit) &&
		    !dwarf_ranges_of_unit(cu, &budget, add_range, &sink))
			break;
	}
	if (index->nranges)
		qsort(index->ranges, index->nranges, sizeof(*index->ranges), by_start);
}

static int find_pages(struct name_index *index)
{
	const struct interval_edge *edges;
	size_t count = index->symbols ? symbol_table_edges(index->symbols, &edges) : 0;
	size_t first = 0;

	index->npages = (count + NAME_PAGE_EDGES - 1) / NAME_PAGE_EDGES;
	index->pages = calloc(index->npages + 1, sizeof(*index->pages));
	if (!index->pages)
		return -ENOMEM;
	for (size_t i = 0; i < index->npages; i++, first += NAME_PAGE_EDGES) {
		uint64_t start = edges[first].start;

		if (start < index->span.start)
			start = index->span.start;
		index->pages[i] = start < index->span.end ? (uint32_t)(start - index->span.start) : UINT32_MAX;
	}
	return 0;
}

// ---- What is wanted ------------------------------------------------------------------------------------------------

// An address in a unit.
struct want {
	uint32_t unit;
	uint64_t address;
};

static int by_unit(const void *a, const void *b)
{
	const struct want *x = a, *y = b;

	if (x->unit != y->unit)
		return x->unit < y->unit ? -1 : 1;
	return (x->address > y->address) - (x->address < y->address);
}

static int make_jobs(struct name_index *index, const struct want *wants, size_t count)
{
	index->jobs = calloc(count + 1, sizeof(*index->jobs));
	index->wanted = calloc(count + 1, sizeof(*index->wanted));
	if (!index->jobs || !index->wanted)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct name_job *job = index->njobs ? &index->jobs[index->njobs - 1] : NULL;

		if (!job || job->unit != wants[i].unit) {
			job = &index->jobs[index->njobs++];
			*job = (struct name_job){wants[i].unit, (uint32_t)index->nwanted, 0};
		}
		if (wants[i].address == 0) // the unit as a whole
			continue;
		index->wanted[index->nwanted++] = wants[i].address;
		job->count++;
	}
	return 0;
}

// As it will be in the block, so that units are found by the same rule.
static void view(const struct name_index *index, struct name_header *header, struct name_block *block)
{
	*header = (struct name_header){.base = index->span.start,
				       .nranges = (uint32_t)index->nranges,
				       .npages = (uint32_t)index->npages,
				       .ndwarf = index->dwarf ? (uint32_t)index->dwarf->count : 0};
	*block = (struct name_block){.header = header, .ranges = index->ranges, .pages = index->pages};
}

static size_t count_all(const struct name_index *index, bool all)
{
	size_t dwarf = index->dwarf ? index->dwarf->count : 0;

	return (all ? dwarf : 0) + (all || index->npages <= FEW_PAGES ? index->npages : 0);
}

static size_t want_all(const struct name_index *index, bool all, struct want *wants)
{
	size_t count = 0, dwarf = index->dwarf ? index->dwarf->count : 0;

	for (size_t i = 0; all && i < dwarf; i++)
		wants[count++] = (struct want){(uint32_t)i, 0};
	for (size_t i = 0; (all || index->npages <= FEW_PAGES) && i < index->npages; i++)
		wants[count++] = (struct want){(uint32_t)(dwarf + i), 0};
	return count;
}

// The first unit of DWARF's that may have the address, or each of them; and the page of symbols.
static size_t want_address(const struct name_block *block, uint64_t address, bool each, struct want *wants)
{
	uint32_t units[NAME_MAX_OVERLAP + 1];
	size_t found = name_block_units_at(block, address, units), n = 0;

	for (size_t i = 0; i < found; i++)
		if (each || i == 0 || units[i] >= block->header->ndwarf)
			wants[n++] = (struct want){units[i], address};
	return n;
}

static int find_wanted(struct name_index *index, const uint64_t *addresses, size_t count, enum name_extent extent)
{
	bool all = extent == NAME_EVERYTHING, each = extent == NAME_EACH_UNIT;
	size_t capacity = count_all(index, all) + count * (each ? NAME_MAX_OVERLAP + 1 : 2) + 1, n;
	struct want *wants = count <= MAX_WANTED ? calloc(capacity, sizeof(*wants)) : NULL;
	struct name_header header;
	struct name_block block;
	int error;

	if (!wants)
		return -ENOMEM;
	view(index, &header, &block);
	n = want_all(index, all, wants);
	for (size_t i = 0; i < count; i++)
		n += want_address(&block, addresses[i], each, wants + n);
	qsort(wants, n, sizeof(*wants), by_unit);
	error = make_jobs(index, wants, n);
	free(wants);
	return error;
}

int name_index_init(struct name_index *index, const uint64_t *addresses, size_t count, enum name_extent extent)
{
	int error;

	find_ranges(index);
	error = find_pages(index);
	return error ? error : find_wanted(index, addresses, count, extent);
}

void name_index_finish(struct name_index *index)
{
	free(index->ranges);
	free(index->pages);
	free(index->jobs);
	free(index->wanted);
	*index = (struct name_index){0};
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_table.c: see cfi_table.h. Three passes: every FDE's rows become spans; spans are sorted and overlaps resolved (.eh_frame
// goes before .debug_frame, and both before what is known of a PLT; in one section, the span that starts first keeps its ground); the rest, holes included, is
// written page by page as wire.h lays it out.
// Any thread; everything is local.

#include "collector/cfi_table.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "collector/cfi_file.h"
#include "collector/cfi_padding.h"
#include "collector/cfi_plt.h"
#include "collector/cfi_section.h"
#include "collector/cfi_span.h"
#include "profd/wire.h"

#define RULE_BUCKETS (1u << 17) // of the hash, twice WIRE_MAX_RULES at the least

struct builder {
	uint64_t text_start, text_end; // executable segments
	struct cfi_span *spans;
	size_t nspans, capacity;
	struct wire_rule *rules;
	uint32_t nrules, rule_capacity;
	uint32_t *buckets; // rule index + 1
	uint32_t unsupported;
	int error;
};

// ---- Rules ---------------------------------------------------------------------------------------------------------

static uint32_t rule_hash(const struct wire_rule *rule)
{
	uint64_t words[3] = {0, 0, 0}, hash = 0;

	_Static_assert(sizeof(*rule) <= sizeof(words), "all of it is hashed");
	memcpy(words, rule, sizeof(*rule));
	for (int i = 0; i < 3; i++)
		hash = (hash ^ hash >> 29 ^ words[i]) * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(hash >> 40);
}

static bool rule_grow(struct builder *builder)
{
	uint32_t capacity = builder->rule_capacity ? builder->rule_capacity * 2 : 256;
	struct wire_rule *rules = realloc(builder->rules, capacity * sizeof(*rules));

	if (!rules) {
		builder->error = -ENOMEM;
		return false;
	}
	builder->rules = rules;
	builder->rule_capacity = capacity;
	return true;
}

// The rule's index; 0 when there is no room for more (as if it could not be expressed).
static uint32_t rule_intern(struct builder *builder, const struct wire_rule *rule)
{
	uint32_t bucket = rule_hash(rule) % RULE_BUCKETS;

	while (builder->buckets[bucket]) {
		uint32_t index = builder->buckets[bucket] - 1;

		if (memcmp(&builder->rules[index], rule, sizeof(*rule)) == 0)
			return index;
		bucket = (bucket + 1) % RULE_BUCKETS;
	}
	if (builder->nrules == WIRE_MAX_RULES)
		return 0;
	if (builder->nrules == builder->rule_capacity && !rule_grow(builder))
		return 0;
	builder->rules[builder->nrules] = *rule;
	builder->buckets[bucket] = ++builder->nrules;
	return builder->nrules - 1;
}

// ---- Spans ---------------------------------------------------------------------------------------------------------

static bool add_span(void *context, uint64_t start, uint64_t end, const struct wire_rule *rule)
{
	struct builder *builder = context;
	struct cfi_span *spans = builder->spans;

	if (builder->nspans == builder->capacity) {
		size_t capacity = builder->capacity ? builder->capacity * 2 : 4096;

		spans = builder->nspans < UINT32_MAX / 4 ? realloc(spans, capacity * sizeof(*spans)) : NULL;
		if (!spans) {
			builder->error = -ENOMEM;
			return false;
		}
		builder->spans = spans;
		builder->capacity = capacity;
	}
	spans[builder->nspans] = (struct cfi_span){start, end, rule_intern(builder, rule), (uint32_t)builder->nspans};
	builder->nspans++;
	return builder->error == 0;
}

static bool visit_fde(void *context, const struct cfi_fde *fde)
{
	struct builder *builder = context;

	// FDEs of code that the linker threw away have ranges outside the text, mostly at 0.
	if (fde->start >= builder->text_start && fde->end <= builder->text_end)
		cfi_program_run(fde, add_span, builder);
	return builder->error == 0;
}

// Of sorted spans: cuts overlaps off, joins neighbours with the same rule.
static void merge_spans(struct builder *builder)
{
	size_t out = 0;

	for (size_t i = 0; i < builder->nspans; i++) {
		struct cfi_span span = builder->spans[i];
		struct cfi_span *last = out ? &builder->spans[out - 1] : NULL;

		if (last && span.start < last->end)
			span.start = last->end;
		if (span.start >= span.end)
			continue;
		if (last && last->end == span.start && last->rule == span.rule)
			last->end = span.end;
		else
			builder->spans[out++] = span;
	}
	builder->nspans = out;
}

// Afterwards spans are sorted, do not overlap, and neighbours differ in their rule.
static void resolve_spans(struct builder *builder)
{
	int error = cfi_span_sort(builder->spans, builder->nspans, builder->text_start);

	if (error)
		builder->error = error;
	else
		merge_spans(builder);
}

// Adds what of [start, end) no span of the sorted, disjoint `held` covers. *from: where to look first, as start only grows.
static void add_uncovered(struct builder *builder, const struct cfi_span *held, size_t nheld, size_t *from,
			  const struct cfi_span *span)
{
	const struct wire_rule rule = builder->rules[span->rule];
	uint64_t at = span->start;
	size_t i = *from;

	while (i < nheld && held[i].end <= at)
		i++;
	*from = i;
	for (; i < nheld && held[i].start < span->end; i++) {
		if (held[i].start > at)
			add_span(builder, at, held[i].start, &rule);
		at = held[i].end;
	}
	if (at < span->end)
		add_span(builder, at, span->end, &rule);
}

// The spans of `held` (sorted, disjoint; taken over) and, between them, those that the builder has now.
static void join_spans(struct builder *builder, struct cfi_span *held, size_t nheld)
{
	struct cfi_span *below = builder->spans;
	size_t nbelow = builder->nspans, from = 0;

	builder->spans = held;
	builder->nspans = builder->capacity = nheld;
	if (!nbelow) {
		free(below);
		return;
	}
	held = malloc((nheld + 1) * sizeof(*held)); // add_uncovered moves the builder's
	if (!held)
		builder->error = -ENOMEM;
	else if (nheld)
		memcpy(held, builder->spans, nheld * sizeof(*held));
	for (size_t i = 0; i < nbelow && !builder->error; i++)
		add_uncovered(builder, held, nheld, &from, &below[i]);
	free(held);
	free(below);
	resolve_spans(builder);
}

// The program's entry has no caller. Where its code has no CFI, say that (ld.so's, below which constructors run, has none):
// the hole that the entry point is in, at most ENTRY_BYTES of it.
#define ENTRY_BYTES 256

static void mark_entry(struct builder *builder, uint64_t entry)
{
	struct wire_rule outermost = {.cfa = WIRE_CFA_SP, .ra = WIRE_SAVED_UNDEF};
	uint64_t end = entry + ENTRY_BYTES < builder->text_end ? entry + ENTRY_BYTES : builder->text_end;
	size_t at = 0, behind;
	struct cfi_span span;

	if (entry < builder->text_start || entry >= builder->text_end)
		return;
	while (at < builder->nspans && builder->spans[at].end <= entry)
		at++;
	if (at < builder->nspans && builder->spans[at].start <= entry)
		return;
	if (at < builder->nspans && builder->spans[at].start < end)
		end = builder->spans[at].start;
	behind = builder->nspans - at;
	if (!add_span(builder, entry, end, &outermost))
		return;
	span = builder->spans[builder->nspans - 1];
	memmove(&builder->spans[at + 1], &builder->spans[at], behind * sizeof(span));
	builder->spans[at] = span;
}

// Padding between functions needs no row to say that it has no rule: nothing ever runs there. It becomes a part of the function
// behind it. Anything else without CFI stays a hole.
#define MAX_PADDING 128

static void close_padding(struct builder *builder, Elf *elf)
{
	struct cfi_section code = {0};

	for (size_t i = 1; i < builder->nspans; i++) {
		struct cfi_span *span = &builder->spans[i];
		uint64_t start = builder->spans[i - 1].end, size = span->start - start;

		if (!size || size > MAX_PADDING)
			continue;
		if (!code.data || start < code.vaddr || start - code.vaddr >= code.size)
			if (!cfi_file_code(elf, start, &code))
				continue;
		if (size <= code.size - (start - code.vaddr) &&
		    cfi_is_padding(code.arch, code.data + (start - code.vaddr), size))
			span->start = start;
	}
	merge_spans(builder);
}

// ---- Writing -------------------------------------------------------------------------------------------------------

struct row_writer {
	uint32_t *uses;          // by the builder's numbers of rules: how many rows have it
	const uint32_t *numbers; // from the builder's to the table's; NULL: only count
	struct wire_row *rows;
	struct wire_rare *rares;
	uint16_t *blocks;
	uint32_t *pages;
	uint32_t nrares;
	uint64_t base; // vaddr of page 0
	uint32_t nblocks, nrows;
	uint32_t block;    // blocks [0, block) have begun
	uint32_t page_row; // first row of the last one's page
};

static void put_row(struct row_writer *writer, uint64_t vaddr, uint32_t rule)
{
	uint32_t number;

	writer->uses[rule]++;
	if (writer->numbers) {
		number = writer->numbers[rule];
		writer->rows[writer->nrows] = (struct wire_row){
			.offset = (uint8_t)vaddr, .number = (uint8_t)(number < WIRE_RARE ? number : WIRE_RARE)};
		if (number >= WIRE_RARE)
			writer->rares[writer->nrares++] = (struct wire_rare){writer->nrows, number};
	}
	writer->nrows++;
}

// Begins blocks [.., end), where `rule` holds: pages begin with a row that says so.
static void begin_blocks(struct row_writer *writer, uint32_t end, uint32_t rule)
{
	for (; writer->block < end; writer->block++) {
		bool is_page = writer->block % WIRE_PAGE_BLOCKS == 0;

		if (is_page)
			writer->page_row = writer->nrows;
		if (writer->numbers && is_page)
			writer->pages[writer->block / WIRE_PAGE_BLOCKS] = writer->nrows;
		if (writer->numbers)
			writer->blocks[writer->block] = (uint16_t)(writer->nrows - writer->page_row);
		if (is_page)
			put_row(writer, 0, rule);
	}
}

// From vaddr on, until told otherwise, `rule` holds. vaddr only grows.
static void put_change(struct row_writer *writer, uint64_t vaddr, uint32_t rule, uint32_t rule_before)
{
	uint64_t block = (vaddr - writer->base) >> WIRE_TABLE_BLOCK_BITS;

	if (block >= writer->nblocks) {
		begin_blocks(writer, writer->nblocks, rule_before);
		return;
	}
	begin_blocks(writer, (uint32_t)block, rule_before);
	if ((vaddr & ((1u << WIRE_TABLE_PAGE_BITS) - 1)) == 0) {
		begin_blocks(writer, (uint32_t)block + 1, rule);
	} else {
		begin_blocks(writer, (uint32_t)block + 1, rule_before);
		put_row(writer, vaddr, rule);
	}
}

static void write_rows(struct row_writer *writer, const struct builder *builder)
{
	uint64_t end = writer->base;
	uint32_t rule = 0;

	for (size_t i = 0; i < builder->nspans; i++) {
		const struct cfi_span *span = &builder->spans[i];

		if (span->start != end && rule != 0) {
			put_change(writer, end, 0, rule);
			rule = 0;
		}
		if (span->rule != rule)
			put_change(writer, span->start, span->rule, rule);
		rule = span->rule;
		end = span->end;
	}
	if (rule != 0)
		put_change(writer, end, 0, rule);
	begin_blocks(writer, writer->nblocks, 0);
}

static void set_build_id(struct wire_table *table, Elf *elf)
{
	const void *id;
	ssize_t size = dwelf_elf_gnu_build_id(elf, &id);

	if (size > 0)
		memcpy(table->build_id, id,
		       (size_t)size < sizeof(table->build_id) ? (size_t)size : sizeof(table->build_id));
}

struct rule_use {
	uint32_t rule, uses;
};

static int by_uses(const void *a, const void *b)
{
	const struct rule_use *x = a, *y = b;

	if (x->uses != y->uses)
		return x->uses > y->uses ? -1 : 1;
	return (x->rule > y->rule) - (x->rule < y->rule);
}

// The rules' numbers in the table: 0 stays, and then by use. How many rows have rare ones; −ENOMEM.
static int64_t number_rules(const uint32_t *uses, uint32_t nrules, uint32_t *numbers)
{
	struct rule_use *order = calloc(nrules, sizeof(*order));
	int64_t rares = 0;

	if (!order)
		return -ENOMEM;
	for (uint32_t i = 0; i < nrules; i++)
		order[i] = (struct rule_use){i, uses[i]};
	qsort(order + 1, nrules - 1, sizeof(*order), by_uses);
	for (uint32_t i = 0; i < nrules; i++) {
		numbers[order[i].rule] = i;
		rares += i >= WIRE_RARE ? order[i].uses : 0;
	}
	free(order);
	return rares;
}

static void fill_table(const struct builder *builder, const uint32_t *numbers, uint32_t *uses, struct wire_table *table)
{
	struct row_writer writer = {.uses = uses,
				    .numbers = numbers,
				    .rows = (struct wire_row *)wire_table_rows(table),
				    .blocks = (uint16_t *)wire_table_blocks(table),
				    .rares = (struct wire_rare *)wire_table_rares(table),
				    .pages = (uint32_t *)wire_table_pages(table),
				    .base = table->text_start,
				    .nblocks = table->npages * WIRE_PAGE_BLOCKS};
	struct wire_rule *rules = (struct wire_rule *)wire_table_rules(table);

	for (uint32_t i = 0; i < builder->nrules; i++)
		rules[numbers[i]] = builder->rules[i];
	write_rows(&writer, builder);
	writer.pages[table->npages] = writer.nrows;
}

static int write_table(const struct builder *builder, Elf *elf, struct wire_table **ret_table, size_t *ret_size)
{
	uint64_t base = builder->text_start & ~0xffffULL;
	uint32_t npages = (uint32_t)((builder->text_end - base + 0xffff) >> WIRE_TABLE_PAGE_BITS);
	uint32_t *uses = calloc(builder->nrules, 2 * sizeof(*uses)), *numbers = uses + builder->nrules;
	struct row_writer counter = {.uses = uses, .base = base, .nblocks = npages * WIRE_PAGE_BLOCKS};
	struct wire_table *table = NULL;
	int64_t nrares = -ENOMEM;
	GElf_Ehdr header;
	size_t size;

	if (uses && gelf_getehdr(elf, &header)) {
		write_rows(&counter, builder);
		nrares = number_rules(uses, builder->nrules, numbers);
	} else if (uses) {
		nrares = -EINVAL;
	}
	if (nrares >= 0) {
		size = wire_table_bytes(builder->nrules, npages, (uint64_t)nrares, counter.nrows);
		table = calloc(1, size);
	}
	if (!table) {
		free(uses);
		return nrares < 0 ? (int)nrares : -ENOMEM;
	}
	*table = (struct wire_table){.magic = WIRE_TABLE_MAGIC,
				     .version = WIRE_TABLE_VERSION,
				     .machine = header.e_machine, // EM_*, as enum wire_machine
				     .size = size,
				     .text_start = base,
				     .text_end = builder->text_end,
				     .npages = npages,
				     .nrows = counter.nrows,
				     .nrules = builder->nrules,
				     .nrares = (uint32_t)nrares,
				     .unsupported = builder->unsupported};
	set_build_id(table, elf);
	fill_table(builder, numbers, uses, table);
	free(uses);
	*ret_table = table;
	*ret_size = size;
	return 0;
}

// ---- All of it -----------------------------------------------------------------------------------------------------

static void visit_plt(const struct cfi_section *section, struct builder *builder)
{
	if (section->vaddr >= builder->text_start && section->vaddr <= builder->text_end &&
	    section->size <= builder->text_end - section->vaddr)
		cfi_plt_each(section, add_span, builder);
}

static void visit_frames(const struct cfi_section *section, struct builder *builder)
{
	cfi_section_each(section, visit_fde, builder);
}

// What `visit` finds in a section fills the holes between the spans there are.
static void fill_holes(struct builder *builder, const struct cfi_section *section,
		       void (*visit)(const struct cfi_section *section, struct builder *builder))
{
	struct cfi_span *held = builder->spans;
	size_t nheld = builder->nspans;

	builder->spans = NULL;
	builder->nspans = builder->capacity = 0;
	visit(section, builder);
	resolve_spans(builder);
	join_spans(builder, held, nheld);
}

static void read_cfi(Elf *elf, struct builder *builder)
{
	struct cfi_section section;

	if (cfi_file_eh_frame(elf, &section))
		visit_frames(&section, builder);
	resolve_spans(builder);
	if (!builder->error && cfi_file_debug_frame(elf, &section))
		fill_holes(builder, &section, visit_frames);
	if (!builder->error && cfi_file_plt(elf, &section))
		fill_holes(builder, &section, visit_plt);
}

static int build(Elf *elf, struct builder *builder, struct wire_table **ret_table, size_t *ret_size)
{
	struct wire_rule none;
	uint64_t entry;

	builder->buckets = calloc(RULE_BUCKETS, sizeof(*builder->buckets));
	if (!builder->buckets)
		return -ENOMEM;
	memset(&none, 0, sizeof(none));
	rule_intern(builder, &none);
	if (!builder->error)
		read_cfi(elf, builder);
	if (builder->error)
		return builder->error;
	if (!builder->nspans)
		return -ENODATA;
	if (cfi_file_entry(elf, &entry))
		mark_entry(builder, entry);
	close_padding(builder, elf);
	for (size_t i = 0; i < builder->nspans; i++)
		builder->unsupported += builder->spans[i].rule == 0;
	return builder->error ? builder->error : write_table(builder, elf, ret_table, ret_size);
}

int cfi_table_build(Elf *elf, struct wire_table **ret_table, size_t *ret_size)
{
	struct builder builder = {0};
	int error = cfi_file_text(elf, &builder.text_start, &builder.text_end);

	if (!error)
		error = build(elf, &builder, ret_table, ret_size);
	free(builder.buckets);
	free(builder.rules);
	free(builder.spans);
	return error;
}

// ---- Checking ------------------------------------------------------------------------------------------------------

// Beyond what the agent asks for (profd_table_check), rows go up, as we make them.
int cfi_table_check(const struct wire_table *table, size_t size)
{
	const struct wire_row *rows;
	const uint16_t *blocks;

	if (size < sizeof(*table) || table->magic != WIRE_TABLE_MAGIC || table->version != WIRE_TABLE_VERSION ||
	    !wire_table_has_its_size(table, size) || !wire_table_has_its_pages(table) ||
	    !wire_table_has_good_indices(table))
		return -EINVAL;
	rows = wire_table_rows(table);
	blocks = wire_table_blocks(table);
	// Most blocks of a file that claims much text have no rows.
	for (uint32_t block = 0; block < table->npages * WIRE_PAGE_BLOCKS; block++) {
		if ((block + 1) % WIRE_PAGE_BLOCKS && blocks[block] == blocks[block + 1])
			continue;
		for (uint32_t row = wire_table_block_start(table, block) + 1; row < wire_table_block_end(table, block);
		     row++)
			if (rows[row].offset <= rows[row - 1].offset)
				return -EINVAL;
	}
	return 0;
}

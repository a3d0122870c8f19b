// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wire_table.h: unwind tables, compiled by the collector from CFI, walked by the agent's handler. A part of wire.h, which includes it.
//
// One file (sealed memfd, or the cache's file) for each build ID, read-only, position-independent:
//
//   struct wire_table                       header
//   struct wire_rule [nrules]               distinct rules; rule 0 is always WIRE_CFA_NONE, the others by how many rows have them
//   uint32_t         [npages + 1]           first row of each 64 KiB page of [text_start, text_end); last: nrows
//   struct wire_rare [nrares]               rows whose rule is number WIRE_RARE or more, ascending
//   uint16_t         [npages × 256]         first row of each 256-byte block, counted from its page's
//   struct wire_row  [nrows]                the rows, ascending
//
// Page i covers vaddrs text_start + i×65536 …; text_start is a multiple of 65536. The row for vaddr V is the last one at or before V;
// every page begins with a row at its start (the builder splits rows at page borders), so a lookup never leaves its page. It reads
// two lines of the cache: one of the blocks, one (seldom two) of the rows. A hole between functions is a row with rule 0.

#ifndef PROFD_WIRE_TABLE_H
#define PROFD_WIRE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define WIRE_TABLE_MAGIC 0x62617464666f7270ULL // "profdtab"
#define WIRE_TABLE_VERSION 6u
#define WIRE_TABLE_PAGE_BITS 16
#define WIRE_TABLE_BLOCK_BITS 8
#define WIRE_PAGE_BLOCKS (1u << (WIRE_TABLE_PAGE_BITS - WIRE_TABLE_BLOCK_BITS))
#define WIRE_MAX_RULES 65535u

enum wire_machine { WIRE_MACHINE_X86_64 = 62, WIRE_MACHINE_AARCH64 = 183 }; // EM_*

// How a frame's CFA is found. `reg` is a DWARF register number.
enum wire_cfa {
	WIRE_CFA_NONE,     // no rule: hole, or CFI that we cannot express
	WIRE_CFA_SP,       // SP + off
	WIRE_CFA_FP,       // FP + off
	WIRE_CFA_REG,      // reg + off; for the leaf, whose registers are all known (so are those that a signal
			   // interrupted); for others only if reg is WIRE_BX
	WIRE_CFA_FP_DEREF, // *(FP + off) + off2 (stack realignment: gcc's DRAP)
	WIRE_CFA_SP_DEREF, // *(SP + off) + off2
	WIRE_CFA_PLT,      // SP + 8 + (((PC & 15) >= off) ? 8 : 0)
	WIRE_CFA_INDEXED,  // *(SP + 8 × reg + off) + off2; for the leaf, as WIRE_CFA_REG (OpenSSL's bn_mul_mont)
	WIRE_CFA_SIGNAL,   // the kernel's signal frame: PC, SP and FP are in the ucontext at SP + off
};

enum wire_saved {
	WIRE_SAVED_SAME,  // not changed by this frame; aarch64: the return address is in x30, only for the leaf
	WIRE_SAVED_AT,    // at CFA + the offset
	WIRE_SAVED_UNDEF, // undefined; as the return address: this is the outermost frame
	WIRE_SAVED_REG,   // (return address only) in register `reg`; only for the leaf
	WIRE_SAVED_AT_FP, // (FP only) at FP + the offset (stack realignment: gcc's DRAP)
};

// aarch64: saved return addresses may be signed; the tables do not say where, and whoever reads one takes the signature out.

// x86-64: one register more, for one function that every process runs: glibc's _dl_runtime_resolve keeps its CFA in it and calls.
#define WIRE_BX 3 // rbx

struct wire_rule {
	uint8_t cfa;    // enum wire_cfa
	uint8_t reg;    // for WIRE_CFA_REG, WIRE_CFA_INDEXED or WIRE_SAVED_REG; no rule has two
	uint8_t fp;     // enum wire_saved: where the caller's FP is
	uint8_t ra;     // enum wire_saved: where the return address is
	int32_t off;    // bytes
	int32_t off2;   // bytes; but for those CFAs that add it: fp_off and ra_off count from CFA + off2
	int16_t fp_off; // bytes from the CFA (WIRE_SAVED_AT_FP: from FP)
	int16_t ra_off; // bytes from the CFA; x86-64: −8
	int16_t bx_off; // bytes from the CFA
	uint8_t bx;     // enum wire_saved: where the caller's WIRE_BX is
	uint8_t lands; // nonzero: code that saved what a landing pad gets its arguments in, and may go there instead of returning:
		// libgcc's unwinder, which overwrites its own return address first
};

#define WIRE_RARE 255u
struct wire_rare {
	uint32_t row, rule;
};

struct wire_row {
	uint8_t offset; // in its block, bytes
	uint8_t number; // of its rule; WIRE_RARE: see there
};

struct wire_table {
	uint64_t magic;
	uint32_t version;
	uint32_t machine;              // enum wire_machine
	uint64_t size;                 // bytes of the whole table
	uint64_t text_start, text_end; // vaddrs covered
	uint32_t npages, nrows, nrules;
	uint32_t unsupported; // rows whose CFI could not be expressed (they have rule 0)
	uint8_t build_id[20]; // zero-padded; all zero: none
	uint32_t nrares;
};

static inline const struct wire_rule *wire_table_rules(const struct wire_table *table)
{
	return (const struct wire_rule *)(table + 1);
}

static inline const uint32_t *wire_table_pages(const struct wire_table *table)
{
	return (const uint32_t *)(wire_table_rules(table) + table->nrules);
}

static inline const struct wire_rare *wire_table_rares(const struct wire_table *table)
{
	return (const struct wire_rare *)(wire_table_pages(table) + table->npages + 1);
}

static inline const uint16_t *wire_table_blocks(const struct wire_table *table)
{
	return (const uint16_t *)(wire_table_rares(table) + table->nrares);
}

static inline const struct wire_row *wire_table_rows(const struct wire_table *table)
{
	return (const struct wire_row *)(wire_table_blocks(table) + (uint64_t)table->npages * WIRE_PAGE_BLOCKS);
}

// Of a table with these counts. They have 32 bits at the most, so there is no overflow.
static inline uint64_t wire_table_bytes(uint64_t nrules, uint64_t npages, uint64_t nrares, uint64_t nrows)
{
	return sizeof(struct wire_table) + nrules * sizeof(struct wire_rule) + (npages + 1) * sizeof(uint32_t) +
	       nrares * sizeof(struct wire_rare) + npages * WIRE_PAGE_BLOCKS * sizeof(uint16_t) +
	       nrows * sizeof(struct wire_row);
}

// The first row of a block, and of the one behind it; of a table that was checked.
static inline uint32_t wire_table_block_start(const struct wire_table *table, uint32_t block)
{
	return wire_table_pages(table)[block / WIRE_PAGE_BLOCKS] + wire_table_blocks(table)[block];
}

static inline uint32_t wire_table_block_end(const struct wire_table *table, uint32_t block)
{
	return (block + 1) % WIRE_PAGE_BLOCKS ? wire_table_block_start(table, block + 1)
					      : wire_table_pages(table)[(block + 1) / WIRE_PAGE_BLOCKS];
}

// The row for vaddr, of a table that was checked. False: it is outside.
static inline bool wire_table_find_row(const struct wire_table *table, uint64_t vaddr, uint32_t *ret_row)
{
	const struct wire_row *rows = wire_table_rows(table);
	uint32_t block, low, high;

	if (vaddr < table->text_start || vaddr >= table->text_end)
		return false;
	block = (uint32_t)((vaddr - table->text_start) >> WIRE_TABLE_BLOCK_BITS);
	low = wire_table_block_start(table, block);
	high = wire_table_block_end(table, block);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (rows[middle].offset <= (uint8_t)vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_row =
		low -
		1; // in the block; or the last one before it, and there is one: each page's first block begins with a row
	return true;
}

// The rule of row number `row`, of a table that was checked.
static inline const struct wire_rule *wire_table_row_rule(const struct wire_table *table, uint32_t row)
{
	const struct wire_rare *rares = wire_table_rares(table);
	uint32_t number = wire_table_rows(table)[row].number, low = 0, high = table->nrares;

	if (number != WIRE_RARE)
		return &wire_table_rules(table)[number];
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (rares[middle].row <= row)
			low = middle;
		else
			high = middle;
	}
	return &wire_table_rules(table)[low < high ? rares[low].rule : 0];
}

// Does a table of that many bytes have what its header counts? The header itself is there, and its magic, version and machine are right.
static inline bool wire_table_has_its_size(const struct wire_table *table, uint64_t size)
{
	return table->size == size && table->nrules > 0 && table->nrules <= WIRE_MAX_RULES &&
	       size == wire_table_bytes(table->nrules, table->npages, table->nrares, table->nrows);
}

static inline bool wire_table_has_good_blocks(const struct wire_table *table)
{
	const uint32_t *pages = wire_table_pages(table);
	const uint16_t *blocks = wire_table_blocks(table);

	if (pages[0] != 0 || pages[table->npages] != table->nrows)
		return false;
	for (uint32_t i = 0; i < table->npages; i++, blocks += WIRE_PAGE_BLOCKS) {
		if (pages[i] >= table->nrows || pages[i] >= pages[i + 1] ||
		    wire_table_rows(table)[pages[i]].offset != 0 || blocks[0] != 0 || blocks[1] == 0 ||
		    blocks[WIRE_PAGE_BLOCKS - 1] > pages[i + 1] - pages[i])
			return false;
		for (uint32_t block = 1; block < WIRE_PAGE_BLOCKS; block++)
			if (blocks[block] < blocks[block - 1])
				return false;
	}
	return true;
}

// Are all indices inside of it? Whoever checked that, and its size and pages, may look up whatever address he likes.
static inline bool wire_table_has_good_indices(const struct wire_table *table)
{
	const struct wire_row *rows = wire_table_rows(table);
	const struct wire_rare *rares = wire_table_rares(table);
	uint32_t nrares = 0;

	if (wire_table_rules(table)->cfa != WIRE_CFA_NONE || !wire_table_has_good_blocks(table))
		return false;
	for (uint32_t row = 0; row < table->nrows; row++) {
		uint32_t number = rows[row].number;

		if (number != WIRE_RARE ? number >= table->nrules
					: nrares >= table->nrares || rares[nrares].row != row ||
						  rares[nrares].rule >= table->nrules)
			return false;
		nrares += number == WIRE_RARE;
	}
	return nrares == table->nrares;
}

// Are there as many pages as the covered addresses need? At least one; and then a page's number, found from an address, is one of them.
static inline bool wire_table_has_its_pages(const struct wire_table *table)
{
	return table->text_end > table->text_start && !(table->text_start & ((1u << WIRE_TABLE_PAGE_BITS) - 1)) &&
	       (table->text_end - table->text_start - 1) >> WIRE_TABLE_PAGE_BITS == (uint64_t)table->npages - 1;
}

#define WIRE_TABLE_ASSERT(what) _Static_assert(what, #what)
WIRE_TABLE_ASSERT(sizeof(struct wire_rule) == 20);
WIRE_TABLE_ASSERT(sizeof(struct wire_rare) == 8);
WIRE_TABLE_ASSERT(sizeof(struct wire_table) == 80);
#undef WIRE_TABLE_ASSERT

#endif

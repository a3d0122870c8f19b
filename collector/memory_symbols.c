// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// memory_symbols.c: see memory_symbols.h. By DT_GNU_HASH, as the dynamic linker does.

#include "collector/memory_symbols.h"

#include <elf.h>
#include <string.h>

#include "collector/wait_memory.h"

#define MAX_SEGMENTS 64u
#define MAX_DYNAMIC 512u
#define MAX_CHAIN 4096u // symbols of one bucket
#define MAX_NAME 128u

struct gnu_hash {
	uint32_t nbuckets, first, nwords, shift;
};

static bool find_dynamic(const struct memory_symbols *symbols, uint64_t *ret_address)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	if (!wait_memory_read(symbols->memory, symbols->bias, &header, sizeof(header)) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_phentsize != sizeof(segment))
		return false;
	for (uint32_t i = 0; i < header.e_phnum && i < MAX_SEGMENTS; i++) {
		uint64_t at = symbols->bias + header.e_phoff + i * sizeof(segment);

		if (!wait_memory_read(symbols->memory, at, &segment, sizeof(segment)))
			return false;
		if (segment.p_type == PT_DYNAMIC) {
			*ret_address = symbols->bias + segment.p_vaddr;
			return true;
		}
	}
	return false;
}

bool memory_symbols_open(struct memory_symbols *symbols, struct wait_memory *memory, uint64_t bias)
{
	uint64_t dynamic;
	Elf64_Dyn entry;

	*symbols = (struct memory_symbols){.memory = memory, .bias = bias};
	if (!find_dynamic(symbols, &dynamic))
		return false;
	for (uint32_t i = 0; i < MAX_DYNAMIC; i++) {
		uint64_t address;

		if (!wait_memory_read(memory, dynamic + i * sizeof(entry), &entry, sizeof(entry)) ||
		    entry.d_tag == DT_NULL)
			break;
		// glibc has made addresses of them in place; musl leaves them as they are in the file.
		address = entry.d_un.d_ptr < bias ? entry.d_un.d_ptr + bias : entry.d_un.d_ptr;
		if (entry.d_tag == DT_SYMTAB)
			symbols->symbols = address;
		else if (entry.d_tag == DT_STRTAB)
			symbols->strings = address;
		else if (entry.d_tag == DT_GNU_HASH)
			symbols->hash = address;
	}
	return symbols->symbols && symbols->strings && symbols->hash;
}

static uint32_t hash_name(const char *name)
{
	uint32_t hash = 5381;

	for (; *name; name++)
		hash = hash * 33 + (uint8_t)*name;
	return hash;
}

static bool has_name(const struct memory_symbols *symbols, const Elf64_Sym *symbol, const char *name)
{
	char text[MAX_NAME];
	size_t size = strlen(name) + 1;

	return size <= sizeof(text) &&
	       wait_memory_read(symbols->memory, symbols->strings + symbol->st_name, text, size) &&
	       memcmp(text, name, size) == 0;
}

bool memory_symbols_find(const struct memory_symbols *symbols, const char *name, uint64_t *ret_address)
{
	uint32_t hash = hash_name(name), index, of_chain;
	struct gnu_hash header;
	uint64_t buckets, chains;
	Elf64_Sym symbol;

	if (!wait_memory_read(symbols->memory, symbols->hash, &header, sizeof(header)) || header.nbuckets == 0)
		return false;
	buckets = symbols->hash + sizeof(header) + 8 * (uint64_t)header.nwords;
	chains = buckets + 4 * (uint64_t)header.nbuckets;
	if (!wait_memory_read(symbols->memory, buckets + 4 * (uint64_t)(hash % header.nbuckets), &index,
			      sizeof(index)) ||
	    index < header.first)
		return false;
	for (uint32_t n = 0; n < MAX_CHAIN; n++, index++) {
		if (!wait_memory_read(symbols->memory, chains + 4 * (uint64_t)(index - header.first), &of_chain,
				      sizeof(of_chain)))
			return false;
		if ((of_chain | 1) == (hash | 1) &&
		    wait_memory_read(symbols->memory, symbols->symbols + sizeof(symbol) * (uint64_t)index, &symbol,
				     sizeof(symbol)) &&
		    symbol.st_shndx != SHN_UNDEF && has_name(symbols, &symbol, name)) {
			*ret_address = symbols->bias + symbol.st_value;
			return true;
		}
		if (of_chain & 1)
			return false;
	}
	return false;
}

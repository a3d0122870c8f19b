// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// plt_names.c: see plt_names.h. An entry jumps through a slot of the GOT; the relocation of that slot names the function. Which form an
// entry has (lazy or not, endbr64, bnd, BTI, signed addresses) need not be known: the jump's operand is looked for. An entry of a lazy
// PLT with endbr64 jumps to the linker alone: it pushes the number of its relocation.

#include "collector/plt_names.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SLOTS (1u << 20)
#define MAX_TEXT (64u << 20)
#define MAX_NAME 4096u
#define X86_ENTRY 16u

// A slot of the GOT, and the symbol whose address the linker puts there.
struct slot {
	uint64_t address;
	const char *name; // the file's
};

struct slots {
	struct slot *items;
	size_t count, capacity;
	size_t first_lazy, nlazy; // those of .rela.plt, in its order, before sorting
	struct slot *lazy;        // a copy of them
};

// ---- Relocations ---------------------------------------------------------------------------------------------------

static bool is_slot(uint16_t machine, const GElf_Rela *rela, bool *ret_indirect)
{
	uint32_t type = (uint32_t)GELF_R_TYPE(rela->r_info);

	*ret_indirect = machine == EM_X86_64 ? type == R_X86_64_IRELATIVE : type == R_AARCH64_IRELATIVE;
	if (machine == EM_X86_64)
		return type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || *ret_indirect;
	return type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT || *ret_indirect;
}

static bool add_slot(struct slots *slots, uint64_t address, const char *name)
{
	if (slots->count == slots->capacity) {
		size_t capacity = slots->capacity ? slots->capacity * 2 : 256;
		struct slot *grown =
			capacity <= MAX_SLOTS ? reallocarray(slots->items, capacity, sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		slots->items = grown;
		slots->capacity = capacity;
	}
	slots->items[slots->count++] = (struct slot){address, name};
	return true;
}

// The function whose resolver is at that address, in the table of exported symbols. NULL: not exported.
static const char *resolver_name(Elf *elf, Elf_Data *symbols, uint32_t strings, uint64_t address)
{
	GElf_Sym symbol;

	for (int i = 1; gelf_getsym(symbols, i, &symbol); i++)
		if (symbol.st_value == address && GELF_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC)
			return elf_strptr(elf, strings, symbol.st_name);
	return NULL;
}

static const char *name_of(Elf *elf, Elf_Data *symbols, uint32_t strings, const GElf_Rela *rela, bool indirect)
{
	GElf_Sym symbol;

	if (indirect)
		return resolver_name(elf, symbols, strings, (uint64_t)rela->r_addend);
	if (!gelf_getsym(symbols, (int)GELF_R_SYM(rela->r_info), &symbol))
		return NULL;
	return elf_strptr(elf, strings, symbol.st_name);
}

// all: those without a name, too, for entries push their numbers.
static void read_relocations(Elf *elf, uint16_t machine, Elf_Scn *scn, const GElf_Shdr *header, bool all,
			     struct slots *slots)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	Elf_Scn *linked = elf_getscn(elf, header->sh_link);
	Elf_Data *symbols = linked ? elf_getdata(linked, NULL) : NULL;
	GElf_Shdr symbols_header;
	GElf_Rela rela;
	bool indirect;

	if (!data || !symbols || !gelf_getshdr(linked, &symbols_header) || symbols_header.sh_type != SHT_DYNSYM)
		return;
	for (int i = 0; gelf_getrela(data, i, &rela); i++) {
		const char *name = is_slot(machine, &rela, &indirect)
					   ? name_of(elf, symbols, symbols_header.sh_link, &rela, indirect)
					   : NULL;

		if ((name || all) && !add_slot(slots, rela.r_offset, name))
			return;
	}
}

static int by_address(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static void read_slots(const struct elf_file *file, uint16_t machine, struct slots *slots)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t names;

	if (elf_getshdrstrndx(file->elf, &names) < 0)
		return;
	while ((scn = elf_nextscn(file->elf, scn))) {
		const char *name = gelf_getshdr(scn, &header) && header.sh_type == SHT_RELA
					   ? elf_strptr(file->elf, names, header.sh_name)
					   : NULL;
		bool lazy = name && strcmp(name, ".rela.plt") == 0;
		size_t before = slots->count;

		if (!name)
			continue;
		read_relocations(file->elf, machine, scn, &header, lazy, slots);
		if (lazy) {
			slots->first_lazy = before;
			slots->nlazy = slots->count - before;
		}
	}
	slots->lazy = slots->nlazy ? malloc(slots->nlazy * sizeof(*slots->lazy)) : NULL;
	if (slots->lazy)
		memcpy(slots->lazy, slots->items + slots->first_lazy, slots->nlazy * sizeof(*slots->lazy));
	if (slots->count)
		qsort(slots->items, slots->count, sizeof(*slots->items), by_address);
}

static const char *name_at(const struct slots *slots, uint64_t address)
{
	const struct slot key = {.address = address};
	const struct slot *found =
		slots->count ? bsearch(&key, slots->items, slots->count, sizeof(key), by_address) : NULL;

	return found ? found->name : NULL;
}

// ---- Entries -------------------------------------------------------------------------------------------------------

static int add_name(struct plt_names *names, uint64_t start, uint64_t end, const char *name)
{
	size_t length = strnlen(name, MAX_NAME);

	if (names->count == names->capacity) {
		size_t capacity = names->capacity ? names->capacity * 2 : 256;
		struct plt_name *grown = reallocarray(names->items, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		names->items = grown;
		names->capacity = capacity;
	}
	if (names->text_capacity - names->text_size < length + sizeof("@plt")) {
		size_t capacity = 2 * names->text_capacity + MAX_NAME + sizeof("@plt");
		char *grown = capacity <= MAX_TEXT ? realloc(names->text, capacity) : NULL;

		if (!grown)
			return -ENOMEM;
		names->text = grown;
		names->text_capacity = capacity;
	}
	names->items[names->count++] = (struct plt_name){start, end, (uint32_t)names->text_size};
	memcpy(names->text + names->text_size, name, length);
	memcpy(names->text + names->text_size + length, "@plt", sizeof("@plt"));
	names->text_size += length + sizeof("@plt");
	return 0;
}

// What an entry of size bytes at address leads to; NULL: nobody knows.
static const char *x86_target(const struct slots *slots, const uint8_t *code, size_t size, uint64_t address)
{
	static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa};
	size_t at = size >= sizeof(endbr) && memcmp(code, endbr, sizeof(endbr)) == 0 ? sizeof(endbr) : 0;
	uint32_t number;
	int32_t offset;

	if (size >= at + 5 && code[at] == 0x68) { // push
		memcpy(&number, code + at + 1, sizeof(number));
		return slots->lazy && number < slots->nlazy ? slots->lazy[number].name : NULL;
	}
	if (at < size && code[at] == 0xf2) // bnd
		at++;
	if (size < at + 6 || code[at] != 0xff || code[at + 1] != 0x25) // jmp *offset(%rip)
		return NULL;
	memcpy(&offset, code + at + 2, sizeof(offset));
	return name_at(slots, address + at + 6 + (uint64_t)(int64_t)offset);
}

static int read_x86(const struct slots *slots, const uint8_t *code, size_t size, const GElf_Shdr *header,
		    struct plt_names *names)
{
	size_t entry = header->sh_entsize >= 8 && header->sh_entsize <= 64 ? header->sh_entsize : X86_ENTRY;

	for (size_t at = 0; size - at >= entry; at += entry) {
		uint64_t address = header->sh_addr + at;
		const char *name = x86_target(slots, code + at, entry, address);

		if (name && *name && add_name(names, address, address + entry, name) < 0)
			return -ENOMEM;
	}
	return 0;
}

// adrp x16, page; ldr x17, [x16, #offset]; add x16, …; br x17, or a form of it that authenticates; before it, perhaps, bti c.
// Arm ARM (DDI 0487), C6.2.
static int read_aarch64(const struct slots *slots, const uint8_t *code, size_t size, const GElf_Shdr *header,
			struct plt_names *names)
{
	uint64_t page = 0, start = header->sh_addr;
	const char *name = NULL;

	for (size_t at = 0; size - at >= 4; at += 4) {
		uint64_t address = header->sh_addr + at;
		uint32_t word;

		memcpy(&word, code + at, sizeof(word));
		if ((word & 0x9f00001f) == 0x90000010) {
			int64_t pages =
				(int64_t)((uint64_t)((word >> 5 & 0x7ffff) << 2 | (word >> 29 & 3)) << 43) >> 43;

			page = (address & ~0xfffULL) + ((uint64_t)pages << 12);
		} else if ((word & 0xffc003ff) == 0xf9400211) {
			name = name_at(slots, page + (word >> 10 & 0xfff) * 8);
		} else if ((word & 0xfffffc1f) == 0xd61f0000 || (word & 0xfffff81f) == 0xd61f081f ||
			   (word & 0xfffff800) == 0xd71f0800) {
			if (name && *name && add_name(names, start, address + 4, name) < 0)
				return -ENOMEM;
			name = NULL;
			start = address + 4;
		} else if (word == 0xd503201f) { // nop, between entries
			start = name ? start : address + 4;
		}
	}
	return 0;
}

static bool is_plt(const char *name)
{
	return name && (strcmp(name, ".plt") == 0 || strcmp(name, ".plt.sec") == 0 || strcmp(name, ".plt.got") == 0 ||
			strcmp(name, ".iplt") == 0);
}

static int read_entries(const struct elf_file *file, uint16_t machine, const struct slots *slots,
			struct plt_names *names)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t strings;
	int error = 0;

	if (elf_getshdrstrndx(file->elf, &strings) < 0)
		return 0;
	while (!error && (scn = elf_nextscn(file->elf, scn))) {
		Elf_Data *data;

		if (!gelf_getshdr(scn, &header) || header.sh_type != SHT_PROGBITS ||
		    !(header.sh_flags & SHF_EXECINSTR) || !is_plt(elf_strptr(file->elf, strings, header.sh_name)))
			continue;
		data = elf_rawdata(scn, NULL);
		if (data && data->d_buf)
			error = (machine == EM_X86_64 ? read_x86 : read_aarch64)(slots, data->d_buf, data->d_size,
										 &header, names);
	}
	return error;
}

int plt_names_read(const struct elf_file *file, struct plt_names *ret_names)
{
	struct slots slots = {0};
	GElf_Ehdr header;
	int error = 0;

	*ret_names = (struct plt_names){0};
	if (!gelf_getehdr(file->elf, &header) || (header.e_machine != EM_X86_64 && header.e_machine != EM_AARCH64))
		return 0;
	read_slots(file, header.e_machine, &slots);
	if (slots.count)
		error = read_entries(file, header.e_machine, &slots, ret_names);
	free(slots.items);
	free(slots.lazy);
	return error;
}

void plt_names_finish(struct plt_names *names)
{
	free(names->items);
	free(names->text);
	*names = (struct plt_names){0};
}

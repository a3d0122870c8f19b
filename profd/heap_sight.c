// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_sight.c: does what the program allocates come by us at all? See profd_heap_unseen. At the constructor.
//
// An allocator that is linked into the executable is either exported, and then all take it instead of ours; or it is not, and then the
// executable alone takes it, which shows in that it imports no malloc. Whether such an executable has an allocator inside, or simply
// allocates nothing itself, cannot be told from here.

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "profd/heap.h"
#include "profd/interpose.h"

struct symbols {
	const ElfW(Sym) * table;
	const char *strings;
	const uint32_t *gnu_hash, *hash;
};

static void read_dynamic(const struct dl_phdr_info *info, const ElfW(Dyn) * entry, struct symbols *symbols)
{
	for (; entry->d_tag != DT_NULL; entry++) {
		// ld.so has made them addresses; not for every object of every machine.
		uint64_t at =
			entry->d_un.d_ptr < info->dlpi_addr ? info->dlpi_addr + entry->d_un.d_ptr : entry->d_un.d_ptr;
		const void *pointer = (const void *)(uintptr_t)at; // NOLINT(performance-no-int-to-ptr)

		if (entry->d_tag == DT_SYMTAB)
			symbols->table = pointer;
		else if (entry->d_tag == DT_STRTAB)
			symbols->strings = pointer;
		else if (entry->d_tag == DT_GNU_HASH)
			symbols->gnu_hash = pointer;
		else if (entry->d_tag == DT_HASH)
			symbols->hash = pointer;
	}
}

// Undefined symbols are before those that DT_GNU_HASH finds; DT_HASH's second word is the number of all.
static uint32_t imports_end(const struct symbols *symbols)
{
	return symbols->gnu_hash ? symbols->gnu_hash[1] : symbols->hash ? symbols->hash[1] : 0;
}

// What makes it likely that the executable's own allocations come by here.
static bool is_allocation(const char *name)
{
	static const char *const names[] = {"malloc", "calloc", "realloc", "_Znwm", "_Znam", "posix_memalign"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

// The first object is the executable. Returns 1 if it imports an allocation, or that cannot be told; else 2.
static int look_at_executable(struct dl_phdr_info *info, size_t size, void *context)
{
	struct symbols symbols = {0};

	for (uint32_t i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			// NOLINTNEXTLINE(performance-no-int-to-ptr)
			read_dynamic(info, (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr), &symbols);
	if (!symbols.table || !symbols.strings)
		return 1;
	for (uint32_t i = 1; i < imports_end(&symbols); i++)
		if (symbols.table[i].st_shndx == SHN_UNDEF && is_allocation(symbols.strings + symbols.table[i].st_name))
			return 1;
	return 2;
}

static const void *home_of(const void *function)
{
	Dl_info info;

	return function && dladdr(function, &info) ? info.dli_fbase : NULL;
}

// What the whole program finds under a name. Not by RTLD_DEFAULT: for a library linked with -Bsymbolic, as ours is, that begins with itself.
static const void *found_by_all(void *program, const char *name)
{
	return program ? dlsym(program, name) : NULL;
}

uint32_t profd_heap_unseen(void)
{
	void *program = PROFD_REAL(dlopen)(NULL, RTLD_LAZY);
	const void *taken = found_by_all(program, "malloc");
	uint32_t unseen = 0;

	if (taken && home_of(taken) != home_of((const void *)(uintptr_t)profd_heap_unseen))
		unseen |= WIRE_UNSEEN_ALL;
	if (!unseen && dl_iterate_phdr(look_at_executable, NULL) == 2)
		unseen |= WIRE_UNSEEN_EXECUTABLE;
	return unseen;
}

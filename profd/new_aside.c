// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// new_aside.c: where a program has no operators new and delete, ours must not be there either. At the constructor.
//
// A program in C may load plugins in C++, each for itself alone, with a runtime of its own, and operators of its own as well. Their calls are looked
// for among the program's libraries first, and there they would find ours, where without us they go on to the plugin. We cannot know which plugin
// calls. So then the dynamic linker is not to find ours: what has no value in the table of symbols is passed over.

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#include "profd/interpose_new.h"
#include "profd/raw.h"
#include "profd/wire.h"

#define X(name) profd_new_fn name;
PROFD_NEWS(X)
#undef X
#define X(name) profd_delete_fn name;
PROFD_DELETES(X)
#undef X

static const void *const functions[] = {
#define X(name) (const void *)(name),
	PROFD_NEWS(X) PROFD_DELETES(X)
#undef X
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

// In our own table of symbols. NULL: not found.
static ElfW(Sym) * symbol_of(const void *function, const void **ret_base)
{
	const ElfW(Sym) *symbol = NULL;
	Dl_info info;

	if (!dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) || info.dli_saddr != function)
		return NULL;
	*ret_base = info.dli_fbase;
	return (ElfW(Sym) *)(uintptr_t)symbol; // NOLINT(performance-no-int-to-ptr)
}

// Of a segment that may be read, and nothing else: it can be given back as it was.
static bool is_plain(const void *base, uintptr_t at)
{
	const ElfW(Ehdr) *header = base;
	const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)((const char *)base + header->e_phoff);
	uintptr_t offset = at - (uintptr_t)base;

	for (uint32_t i = 0; i < header->e_phnum; i++)
		if (phdr[i].p_type == PT_LOAD && offset >= phdr[i].p_vaddr &&
		    offset - phdr[i].p_vaddr < phdr[i].p_memsz)
			return phdr[i].p_flags == PF_R;
	return false;
}

void profd_new_stand_aside(void)
{
	ElfW(Sym) * symbols[FUNCTIONS];
	uintptr_t low = UINTPTR_MAX, high = 0;
	const void *base = NULL;

	if (dlsym(RTLD_NEXT, "_Znwm"))
		return;
	for (size_t i = 0; i < FUNCTIONS; i++) {
		symbols[i] = symbol_of(functions[i], &base);
		if (!symbols[i] || !is_plain(base, (uintptr_t)symbols[i]))
			return;
		low = (uintptr_t)symbols[i] < low ? (uintptr_t)symbols[i] : low;
		high = (uintptr_t)(symbols[i] + 1) > high ? (uintptr_t)(symbols[i] + 1) : high;
	}
	low &= ~(uintptr_t)(WIRE_PAGE - 1);
	if (profd_raw3(SYS_mprotect, (long)low, (long)(high - low), PROT_READ | PROT_WRITE) != 0)
		return;
	for (size_t i = 0; i < FUNCTIONS; i++)
		symbols[i]->st_value = 0;
	profd_raw3(SYS_mprotect, (long)low, (long)(high - low), PROT_READ);
}

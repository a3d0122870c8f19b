// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_dl.c: notes that the set of loaded modules is about to change. dlopen and dlclose look at their return address
// (whose RUNPATH and namespace count?), so ours must not appear as the caller: they note, then jump.

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/interpose.h"

__attribute__((used, visibility("hidden"))) void *profd_interpose_dl_note(enum profd_real_index index);

void *profd_interpose_dl_note(enum profd_real_index index)
{
	if (profd_agent_is_on())
		profd_channel_maps_changed();
	return profd_reals[index] ? profd_reals[index] : profd_real_find(index);
}

#define STRING2(x) #x
#define STRING(x) STRING2(x)
// Keeps the three argument registers, aligns the stack, asks for the real function, jumps to it.
#define NOTE_AND_JUMP(name, index)                                            \
	__asm__(".text\n"                                                     \
		".globl " #name "\n"                                          \
		".type " #name ", @function\n" #name ":\n"                    \
		".cfi_startproc\n"                                            \
		"push %rdi\n.cfi_adjust_cfa_offset 8\n"                       \
		"push %rsi\n.cfi_adjust_cfa_offset 8\n"                       \
		"push %rdx\n.cfi_adjust_cfa_offset 8\n"                       \
		"mov $" STRING(index) ", %edi\n"                              \
				      "call profd_interpose_dl_note\n"        \
				      "pop %rdx\n.cfi_adjust_cfa_offset -8\n" \
				      "pop %rsi\n.cfi_adjust_cfa_offset -8\n" \
				      "pop %rdi\n.cfi_adjust_cfa_offset -8\n" \
				      "jmp *%rax\n"                           \
				      ".cfi_endproc\n"                        \
				      ".size " #name ", . - " #name "\n")

#define INDEX_DLOPEN 21
#define INDEX_DLMOPEN 22
#define INDEX_DLCLOSE 23
_Static_assert(INDEX_DLOPEN == PROFD_REAL_dlopen, "index");
_Static_assert(INDEX_DLMOPEN == PROFD_REAL_dlmopen, "index");
_Static_assert(INDEX_DLCLOSE == PROFD_REAL_dlclose, "index");

NOTE_AND_JUMP(dlopen, INDEX_DLOPEN);
NOTE_AND_JUMP(dlmopen, INDEX_DLMOPEN);
NOTE_AND_JUMP(dlclose, INDEX_DLCLOSE);

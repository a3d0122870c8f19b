// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_plt.c: see cfi_plt.h. Any thread; works on the caller's data only. Encodings: Arm ARM (DDI 0487), C6.2.

#include "collector/cfi_plt.h"

#include <string.h>

#define INSTRUCTION 4u
#define PUSHED 16 // bytes

// stp Xt, Xu, [sp, #-16]!
static bool is_push(uint32_t code)
{
	return (code & 0xffff83e0) == 0xa9bf03e0;
}

// br Xn, and the forms that authenticate: braaz, brabz; braa, brab
static bool is_jump(uint32_t code)
{
	return (code & 0xfffffc1f) == 0xd61f0000 || (code & 0xfffff81f) == 0xd61f081f ||
	       (code & 0xfffff800) == 0xd71f0800;
}

void cfi_plt_each(const struct cfi_section *section, cfi_row row, void *context)
{
	struct wire_rule rule = {.cfa = WIRE_CFA_SP, .ra = WIRE_SAVED_SAME};
	size_t start = 0;

	for (size_t at = 0; section->size - at >= INSTRUCTION; at += INSTRUCTION) {
		int32_t off = rule.off;
		uint32_t code;

		memcpy(&code, section->data + at, sizeof(code));
		if (is_push(code))
			off = PUSHED;
		else if (is_jump(code))
			off = 0;
		if (off == rule.off)
			continue;
		if (!row(context, section->vaddr + start, section->vaddr + at + INSTRUCTION, &rule))
			return;
		rule.off = off;
		start = at + INSTRUCTION;
	}
	if (start < section->size)
		row(context, section->vaddr + start, section->vaddr + section->size, &rule);
}

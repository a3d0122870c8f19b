// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_padding.c: see cfi_padding.h.

#include "collector/cfi_padding.h"

#include <string.h>

// x86: nop r/m (0f 1f /0) by its ModRM byte, with SIB byte and displacement; 0: it is another one's, or cut.
static size_t long_nop(const uint8_t *code, size_t size)
{
	size_t length = 3;
	uint8_t modrm;

	if (size < length || code[0] != 0x0f || code[1] != 0x1f)
		return 0;
	modrm = code[2];
	if ((modrm & 0x38) != 0 || modrm >> 6 == 3)
		return 0;
	length += (modrm & 7) == 4;
	length += modrm >> 6 == 1 ? 1 : modrm >> 6 == 2 ? 4 : 0;
	return length <= size ? length : 0;
}

// The instruction's length; 0: it does something.
static size_t x86_nop(const uint8_t *code, size_t size)
{
	size_t prefixes = 0, nop;

	if (code[0] == 0xcc || code[0] == 0x00)
		return 1;
	while (prefixes < size && (code[prefixes] == 0x66 || code[prefixes] == 0x2e))
		prefixes++;
	if (prefixes == size)
		return 0;
	nop = code[prefixes] == 0x90 ? 1 : long_nop(code + prefixes, size - prefixes);
	return nop ? prefixes + nop : 0;
}

static size_t aarch64_nop(const uint8_t *code, size_t size)
{
	static const uint32_t idle[] = {0xd503201f /* nop */, 0 /* udf #0 */, 0xd4200000 /* brk #0 */};
	uint32_t word;

	if (size < sizeof(word))
		return 0;
	memcpy(&word, code, sizeof(word));
	for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++)
		if (word == idle[i])
			return sizeof(word);
	return 0;
}

bool cfi_is_padding(enum cfi_arch arch, const uint8_t *code, size_t size)
{
	while (size > 0) {
		size_t length = arch == CFI_ARCH_AARCH64 ? aarch64_nop(code, size) : x86_nop(code, size);

		if (!length)
			return false;
		code += length;
		size -= length;
	}
	return true;
}

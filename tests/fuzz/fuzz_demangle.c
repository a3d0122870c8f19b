// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_demangle.c: any text as a symbol. What it reads as is bounded; libFuzzer's own timeout tells of names that take long.

#include <string.h>

#include "collector/demangle.h"
#include "tests/fuzz/fuzz.h"

#define MAX_SHOWN (16384u + 3)

uint64_t fuzz_got_through;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *name = malloc(size + 1), *text;

	FUZZ_CHECK(name);
	memcpy(name, data, size);
	name[size] = '\0';
	text = demangle_function(name);
	if (text) {
		fuzz_got_through++;
		FUZZ_CHECK(strlen(text) <= MAX_SHOWN);
	}
	free(text);
	free(name);
	return 0;
}

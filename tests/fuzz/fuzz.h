// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz.h: what the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput, for libFuzzer (scripts/fuzz) and for
// replay.c, which feeds it the corpus in the unit tests. A finding is a crash: a sanitizer's, or FUZZ_CHECK's.

#ifndef PROFD_TESTS_FUZZ_H
#define PROFD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// How many inputs got past the checks of the code under test, to what lies behind. replay.c wants some: a corpus of an older version of a
// format would test nothing.
extern uint64_t fuzz_got_through;

#define FUZZ_CHECK(condition)                                                                    \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
			abort();                                                                 \
		}                                                                                \
	} while (0)

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_jit.h: what the fuzz targets for files with names of generated code share: a list small enough to get full, sealed and looked up.

#ifndef PROFD_TESTS_FUZZ_JIT_H
#define PROFD_TESTS_FUZZ_JIT_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector/jit_names.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_JIT_MAX_BYTES ((size_t)32 << 10) // of names: inputs are no larger than 64 KiB
#define FUZZ_JIT_CODE 0x10000ULL              // where the corpus has its code
#define FUZZ_JIT_ADDRESSES 64

static inline int fuzz_jit_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("jit", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	return fd;
}

// Takes names.
static inline void fuzz_jit_check(struct jit_names *names, uint64_t *got_through)
{
	struct jit_found found;

	FUZZ_CHECK(jit_names_seal(names) == 0);
	for (uint64_t i = 0; i < FUZZ_JIT_ADDRESSES; i++)
		if (jit_names_find(names, FUZZ_JIT_CODE + i * 0x40, &found)) {
			FUZZ_CHECK(strlen(found.name) <= JIT_NAMES_MAX_STRING);
			FUZZ_CHECK(strlen(found.file) <= JIT_NAMES_MAX_STRING);
			(*got_through)++;
		}
	FUZZ_CHECK(!jit_names_find(names, UINT64_MAX, &found)); // no code ends behind it
	jit_names_destroy(names);
}

#endif

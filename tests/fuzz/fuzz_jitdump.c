// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_jitdump.c: any bytes as a jitdump file.

#include "collector/jitdump.h"
#include "tests/fuzz/fuzz_jit.h"

uint64_t fuzz_got_through;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jit_names *names = jit_names_create(FUZZ_JIT_MAX_BYTES);
	int fd = fuzz_jit_file(data, size);

	FUZZ_CHECK(names);
	jitdump_read(fd, names);
	close(fd);
	fuzz_jit_check(names, &fuzz_got_through);
	return 0;
}

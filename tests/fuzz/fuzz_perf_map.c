// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_perf_map.c: any bytes as a /tmp/perf-PID.map.

#include "collector/perf_map.h"
#include "tests/fuzz/fuzz_jit.h"

uint64_t fuzz_got_through;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jit_names *names = jit_names_create(FUZZ_JIT_MAX_BYTES);

	FUZZ_CHECK(names);
	perf_map_read(fuzz_jit_file(data, size), names);
	fuzz_jit_check(names, &fuzz_got_through);
	return 0;
}

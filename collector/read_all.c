// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// read_all.c: see read_all.h. Any thread that may wait for files.

#include "collector/read_all.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "formats/writer.h"

#define READ_BYTES 65536

int read_all(int fd, size_t max, struct writer_memory *memory)
{
	memory->max = max + READ_BYTES;
	while (memory->size <= max) {
		char buf[READ_BYTES];
		ssize_t n = read(fd, buf, sizeof(buf));
		int r = n > 0 ? writer_memory_sink(memory, buf, (size_t)n) : 0;

		if (n == 0 || r < 0)
			return r;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// kinship.c: see kinship.h.

#include "collector/kinship.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KINSHIP_GENERATIONS 64

struct kinship_stat {
	pid_t parent;
	uint64_t start_ticks;
};

// proc(5): fields 4 and 22 of /proc/PID/stat. false: gone, or not to be seen from here.
static bool kinship_read(pid_t pid, struct kinship_stat *ret_stat)
{
	char path[32], text[1024];
	const char *after;
	ssize_t n = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	after = strrchr(text, ')'); // the name may hold anything
	// NOLINTNEXTLINE(cert-err34-c): the kernel wrote it
	return after &&
	       sscanf(after, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
		      &ret_stat->parent, &ret_stat->start_ticks) == 2;
}

void kinship_add(struct kinship *kinship, pid_t pid)
{
	struct kinship_stat stat;

	if (kinship_read(pid, &stat))
		kinship->members[(uint32_t)pid % KINSHIP_SIZE] = (struct kinship_member){pid, stat.start_ticks};
}

bool kinship_includes(const struct kinship *kinship, pid_t pid)
{
	struct kinship_stat stat;

	for (int i = 0; i < KINSHIP_GENERATIONS && pid > 1 && kinship_read(pid, &stat); i++) {
		const struct kinship_member *member = &kinship->members[(uint32_t)pid % KINSHIP_SIZE];

		if (member->pid == pid && member->start_ticks == stat.start_ticks)
			return true;
		pid = stat.parent;
	}
	return false;
}

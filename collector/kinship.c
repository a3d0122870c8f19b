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
#define KINSHIP_WAYS 8 // places that a PID may have

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
	if (!after)
		return false;
	// NOLINTBEGIN(cert-err34-c): the kernel wrote it
	return sscanf(after, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
		      &ret_stat->parent, &ret_stat->start_ticks) == 2;
	// NOLINTEND(cert-err34-c)
}

static bool kinship_lives(const struct kinship_member *member)
{
	struct kinship_stat stat;

	return member->pid && kinship_read(member->pid, &stat) && stat.start_ticks == member->start_ticks;
}

void kinship_add(struct kinship *kinship, pid_t pid)
{
	struct kinship_member *home = NULL;
	struct kinship_stat stat;

	if (!kinship_read(pid, &stat))
		return;
	for (uint32_t i = 0; i < KINSHIP_WAYS; i++) {
		struct kinship_member *member = &kinship->members[((uint32_t)pid + i) % KINSHIP_SIZE];

		if (member->pid == pid || (!home && !kinship_lives(member)))
			home = member;
		if (member->pid == pid || !member->pid)
			break;
	}
	if (!home)
		home = &kinship->members[(uint32_t)pid % KINSHIP_SIZE];
	*home = (struct kinship_member){pid, stat.start_ticks};
}

static bool kinship_has(const struct kinship *kinship, pid_t pid, uint64_t start_ticks)
{
	for (uint32_t i = 0; i < KINSHIP_WAYS; i++) {
		const struct kinship_member *member = &kinship->members[((uint32_t)pid + i) % KINSHIP_SIZE];

		if (member->pid == pid && member->start_ticks == start_ticks)
			return true;
	}
	return false;
}

bool kinship_includes(const struct kinship *kinship, pid_t pid)
{
	struct kinship_stat stat;

	for (int i = 0; i < KINSHIP_GENERATIONS && pid > 1 && kinship_read(pid, &stat); i++) {
		if (kinship_has(kinship, pid, stat.start_ticks))
			return true;
		pid = stat.parent;
	}
	return false;
}

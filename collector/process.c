// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// process.c: see process.h.

#include "collector/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "collector/task_reader.h"

static bool has_ended(const struct task_reader *reader, uint32_t tid)
{
	char state = task_reader_state(reader, tid);

	return state == 'Z' || state == 'X' || state == '\0';
}

pid_t process_living_task(pid_t pid, uint32_t except)
{
	struct task_reader reader;
	pid_t found = pid;
	uint32_t *tids;
	size_t count;

	if (task_reader_open(pid, &reader) < 0)
		return pid;
	if (has_ended(&reader, (uint32_t)pid) && task_reader_list(&reader, &tids, &count) == 0) {
		for (size_t i = 0; i < count && found == pid; i++)
			if (tids[i] != except && !has_ended(&reader, tids[i]))
				found = (pid_t)tids[i];
		free(tids);
	}
	task_reader_close(&reader);
	return found;
}

bool process_has_ended(pid_t pid)
{
	pid_t living = process_living_task(pid, 0);
	struct task_reader reader;
	bool ended;

	if (task_reader_open(pid, &reader) < 0)
		return true;
	ended = has_ended(&reader, (uint32_t)living);
	task_reader_close(&reader);
	return ended;
}

size_t process_read_pieces(pid_t pid, pid_t *living, const struct iovec *pieces, unsigned n, void *data)
{
	struct iovec local = {.iov_base = data};
	ssize_t size;

	for (unsigned i = 0; i < n; i++)
		local.iov_len += pieces[i].iov_len;
	size = process_vm_readv(*living, &local, 1, pieces, n, 0);
	if (size < 0 && errno == ESRCH) {
		pid_t other = process_living_task(pid, 0);

		if (other != *living) {
			*living = other;
			size = process_vm_readv(other, &local, 1, pieces, n, 0);
		}
	}
	return size > 0 ? (size_t)size : 0;
}

size_t process_read_memory(pid_t pid, pid_t *living, uint64_t address, void *data, size_t size)
{
	const struct iovec piece = {(void *)(uintptr_t)address, size};

	return process_read_pieces(pid, living, &piece, 1, data);
}

char *process_command(pid_t pid)
{
	char path[64], text[PROCESS_COMMAND_MAX] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)process_living_task(pid, 0));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (fd >= 0)
		close(fd);
	while (n > 0 && text[n - 1] == '\0')
		n--;
	if (n <= 0)
		return NULL;
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] == '\0')
			text[i] = ' ';
		else if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '_';
	}
	text[n] = '\0';
	return strdup(text);
}

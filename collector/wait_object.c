// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_object.c: see wait_object.h.

#include "collector/wait_object.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/intern.h"

#define MAX_BYTES ((size_t)16 << 20) // of all that is remembered
#define MAX_LINES 200000u            // of a table of sockets
#define UNIX_LISTENS 0x10000u        // __SO_ACCEPTCON of linux/net.h

struct object {
	uint32_t fd;
	uint32_t epoll; // asked for as one
	char text[WAIT_OBJECT_SIZE];
};

struct socket {
	uint64_t inode;
	char text[WAIT_OBJECT_SIZE - 16];
};

struct wait_objects {
	pid_t pid;
	struct intern_budget budget;
	struct intern objects, sockets;
	bool sockets_read;
	struct object last; // what there was no memory for
};

struct wait_objects *wait_objects_create(pid_t pid)
{
	struct wait_objects *objects = calloc(1, sizeof(*objects));

	if (!objects)
		return NULL;
	objects->pid = pid;
	objects->budget.max = MAX_BYTES;
	intern_init(&objects->objects, sizeof(struct object), 8, &objects->budget);
	intern_init(&objects->sockets, sizeof(struct socket), 8, &objects->budget);
	return objects;
}

void wait_objects_destroy(struct wait_objects *objects)
{
	if (!objects)
		return;
	intern_finish(&objects->objects);
	intern_finish(&objects->sockets);
	free(objects);
}

// ---- Sockets -------------------------------------------------------------------------------------------------------

// Hexadecimal, in 32-bit words of this machine's byte order, then ':' and the port, as /proc/net/tcp has it.
static bool parse_address(const char *text, int family, char *buf, size_t size)
{
	uint32_t words[4];
	size_t n = family == AF_INET6 ? 4 : 1;
	char host[INET6_ADDRSTRLEN];

	if (strspn(text, "0123456789ABCDEFabcdef") != n * 8 || text[n * 8] != ':')
		return false;
	for (size_t i = 0; i < n; i++) {
		char word[9] = "";

		memcpy(word, text + i * 8, 8);
		words[i] = (uint32_t)strtoul(word, NULL, 16);
	}
	if (!inet_ntop(family, words, host, sizeof(host)))
		return false;
	snprintf(buf, size, family == AF_INET6 ? "[%s]:%lu" : "%s:%lu", host, strtoul(text + n * 8 + 1, NULL, 16));
	return true;
}

static void add_socket(struct wait_objects *objects, char *line, const char *protocol, int family)
{
	enum { LOCAL = 1, REMOTE = 2, STATE = 3, INODE = 9, FIELDS };
	const char *fields[FIELDS];
	char *rest = line, from[64], to[64];
	struct socket *socket;
	uint64_t inode;
	uint32_t index;

	for (int i = 0; i < FIELDS; i++) {
		fields[i] = strtok_r(rest, " \n", &rest);
		if (!fields[i])
			return;
	}
	inode = strtoull(fields[INODE], NULL, 10);
	if (!inode || !parse_address(fields[LOCAL], family, from, sizeof(from)) ||
	    !parse_address(fields[REMOTE], family, to, sizeof(to)))
		return;
	index = intern_add(&objects->sockets, &inode, NULL);
	if (index == INTERN_NONE)
		return;
	socket = intern_item(&objects->sockets, index);
	if (strtoul(fields[STATE], NULL, 16) == 10) // TCP_LISTEN
		snprintf(socket->text, sizeof(socket->text), "%s listening at %.48s", protocol, from);
	else
		snprintf(socket->text, sizeof(socket->text), "%s %.48s to %.48s", protocol, from, to);
}

// Its path is the rest of the line, as the process bound it, with any bytes in it; '@' in front: an abstract one. One without a name says
// its inode. Whom it is connected to is not there.
static void add_unix_socket(struct wait_objects *objects, char *line, const char *protocol, int family)
{
	enum { FLAGS = 3, INODE = 6, FIELDS };
	const char *fields[FIELDS];
	char *rest = line;
	struct socket *socket;
	uint64_t inode;
	uint32_t index;

	(void)family;
	for (int i = 0; i < FIELDS; i++) {
		fields[i] = strtok_r(rest, " \n", &rest);
		if (!fields[i])
			return;
	}
	inode = strtoull(fields[INODE], NULL, 10);
	index = inode ? intern_add(&objects->sockets, &inode, NULL) : INTERN_NONE;
	if (index == INTERN_NONE)
		return;
	if (rest)
		rest[strcspn(rest, "\n")] = '\0';
	socket = intern_item(&objects->sockets, index);
	if (!rest || !*rest)
		snprintf(socket->text, sizeof(socket->text), "%s socket:[%" PRIu64 "]", protocol, inode);
	else if (strtoul(fields[FLAGS], NULL, 16) & UNIX_LISTENS)
		snprintf(socket->text, sizeof(socket->text), "%s listening at %s", protocol, rest);
	else
		snprintf(socket->text, sizeof(socket->text), "%s %s", protocol, rest);
}

static void read_sockets(struct wait_objects *objects)
{
	static const struct {
		const char *name, *protocol;
		int family;
		void (*add)(struct wait_objects *objects, char *line, const char *protocol, int family);
	} tables[] = {{"tcp", "tcp", AF_INET, add_socket},
		      {"tcp6", "tcp", AF_INET6, add_socket},
		      {"udp", "udp", AF_INET, add_socket},
		      {"udp6", "udp", AF_INET6, add_socket},
		      {"unix", "unix", AF_UNIX, add_unix_socket}};

	objects->sockets_read = true;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		char path[64], line[512];
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)objects->pid, tables[i].name);
		file = fopen(path, "re");
		for (unsigned n = 0; file && n < MAX_LINES && fgets(line, sizeof(line), file); n++)
			tables[i].add(objects, line, tables[i].protocol, tables[i].family);
		if (file)
			(void)fclose(file);
	}
}

static const char *find_socket(struct wait_objects *objects, const char *link)
{
	uint64_t inode = strtoull(link + strlen("socket:["), NULL, 10);
	uint32_t index;

	if (!objects->sockets_read)
		read_sockets(objects);
	index = intern_find(&objects->sockets, &inode);
	return index == INTERN_NONE ? NULL : ((const struct socket *)intern_item(&objects->sockets, index))->text;
}

// ---- Descriptors ---------------------------------------------------------------------------------------------------

static void describe_fd(struct wait_objects *objects, uint32_t fd, char *text)
{
	char path[64], link[256];
	const char *name = link;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%" PRIu32, (int)objects->pid, fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0) {
		snprintf(text, WAIT_OBJECT_SIZE, "fd %" PRIu32, fd);
		return;
	}
	link[n] = '\0';
	if (strncmp(link, "socket:[", 8) == 0)
		name = find_socket(objects, link);
	else if (strncmp(link, "anon_inode:", 11) == 0)
		name = link + 11;
	snprintf(text, WAIT_OBJECT_SIZE, "%.100s (fd %" PRIu32 ")", name ? name : link, fd);
}

static void describe_epoll(struct wait_objects *objects, uint32_t fd, char *text)
{
	char path[64], line[256];
	unsigned count = 0, lines = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%" PRIu32, (int)objects->pid, fd);
	file = fopen(path, "re");
	if (!file) {
		snprintf(text, WAIT_OBJECT_SIZE, "(fd %" PRIu32 ")", fd);
		return;
	}
	while (lines++ < MAX_LINES && fgets(line, sizeof(line), file))
		count += strncmp(line, "tfd:", 4) == 0;
	(void)fclose(file);
	snprintf(text, WAIT_OBJECT_SIZE, "(fd %" PRIu32 "; %u fds)", fd, count);
}

static const char *find(struct wait_objects *objects, int fd, uint32_t epoll)
{
	struct object key = {.fd = (uint32_t)fd, .epoll = epoll};
	uint32_t index = intern_add(&objects->objects, &key, NULL);
	struct object *object = index == INTERN_NONE ? &objects->last : intern_item(&objects->objects, index);

	if (index != INTERN_NONE && object->text[0])
		return object->text;
	if (epoll)
		describe_epoll(objects, (uint32_t)fd, key.text);
	else
		describe_fd(objects, (uint32_t)fd, key.text);
	memcpy(object->text, key.text, sizeof(key.text));
	return object->text;
}

const char *wait_objects_fd(struct wait_objects *objects, int fd)
{
	return find(objects, fd, 0);
}

const char *wait_objects_epoll(struct wait_objects *objects, int fd)
{
	return find(objects, fd, 1);
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jitdump.c: see jitdump.h. Everything is as the target wrote it. The file is never mapped: cut short, it would kill us.

#include "collector/jitdump.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/intern.h"
#include "collector/jit_names.h"
#include "collector/mapping.h"
#include "collector/process.h"
#include "formats/utf8.h"

#define MAGIC 0x4A695444u // in the byte order of whoever wrote it: another one than ours is not of this machine
#define BUFFER_BYTES 65536u
#define MAX_BYTES (1ull << 30)              // that are read; most of a file is code, which is passed over
#define MAX_PENDING_BYTES ((size_t)8 << 20) // for what moves and lines refer to
// V8 adds the size of an ELF header to addresses of lines, because perf puts that much before the code.
#define ELF_HEADER_BYTES 0x40u

enum record_id { CODE_LOAD, CODE_MOVE, CODE_DEBUG_INFO };

struct file_header {
	uint32_t magic, version, total_size, elf_mach, pad, pid;
	uint64_t timestamp, flags;
};

struct record_header {
	uint32_t id, total_size;
	uint64_t timestamp;
};

struct load {
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index; // then the name, then the code
};

struct move {
	uint32_t pid, tid;
	uint64_t vma, old_code_addr, new_code_addr, code_size, code_index;
};

struct debug_info {
	uint64_t code_addr, nentries; // then so many entries
};

struct debug_entry {
	uint64_t code_addr;
	uint32_t line, column; // then the file's name
};

_Static_assert(sizeof(struct file_header) == 40 && sizeof(struct record_header) == 16, "sections III and IV");
_Static_assert(sizeof(struct load) == 40 && sizeof(struct move) == 48, "sections V and VI");
_Static_assert(sizeof(struct debug_info) == 16 && sizeof(struct debug_entry) == 16, "section VII");

// Lines of code that has not been loaded yet; they come first.
struct pending {
	uint64_t code_addr;
	uint32_t first_line, nlines;
	uint32_t last_offset;
	uint32_t unused;
};

struct loaded {
	uint64_t code_index;
	struct jit_code code;
};

struct reader {
	int fd;
	uint64_t at;           // in the file: the next byte
	uint64_t end;          // of the record
	uint64_t budget;       // bytes that may still be read
	uint64_t buffer_start; // in the file
	size_t buffer_size;
	struct jit_names *names;
	struct intern_budget memory;
	struct intern pending; // struct pending
	struct intern loaded;  // struct loaded
	char buffer[BUFFER_BYTES];
};

// ---- Bytes ----------------------------------------------------------------------------------------------------------

// How many bytes from reader->at on are in the buffer; 0: the file has no more, or it is too much.
static size_t fill(struct reader *reader)
{
	ssize_t n;

	if (reader->at >= reader->buffer_start && reader->at - reader->buffer_start < reader->buffer_size)
		return reader->buffer_size - (size_t)(reader->at - reader->buffer_start);
	if (reader->at > INT64_MAX || reader->budget < sizeof(reader->buffer)) {
		jit_names_set_full(reader->names);
		return 0;
	}
	do
		n = pread(reader->fd, reader->buffer, sizeof(reader->buffer), (off_t)reader->at);
	while (n < 0 && errno == EINTR);
	reader->buffer_start = reader->at;
	reader->buffer_size = n > 0 ? (size_t)n : 0;
	reader->budget -= reader->buffer_size;
	return reader->buffer_size;
}

static const char *here(const struct reader *reader)
{
	return reader->buffer + (reader->at - reader->buffer_start);
}

// The next bytes of the record, or of the file when there is none yet.
static bool take(struct reader *reader, void *to, size_t size)
{
	if (size > reader->end - reader->at)
		return false;
	while (size > 0) {
		size_t n = fill(reader);

		if (n == 0)
			return false;
		n = n < size ? n : size;
		memcpy(to, here(reader), n);
		to = (char *)to + n;
		reader->at += n;
		size -= n;
	}
	return true;
}

// A string that ends in the record; what is beyond JIT_NAMES_MAX_STRING of it is passed over.
static bool take_string(struct reader *reader, char to[JIT_NAMES_MAX_STRING + 1], size_t *ret_length)
{
	size_t length = 0;

	while (reader->at < reader->end) {
		size_t n = fill(reader);
		const char *nul;

		if (n == 0)
			return false;
		if (n > reader->end - reader->at)
			n = (size_t)(reader->end - reader->at);
		nul = memchr(here(reader), '\0', n);
		if (nul)
			n = (size_t)(nul - here(reader));
		if (length < JIT_NAMES_MAX_STRING) {
			size_t kept = n < JIT_NAMES_MAX_STRING - length ? n : JIT_NAMES_MAX_STRING - length;

			memcpy(to + length, here(reader), kept);
			length += kept;
		}
		reader->at += n + (nul != NULL);
		if (nul) {
			to[length] = '\0';
			*ret_length = length;
			return true;
		}
	}
	return false;
}

// ---- Records --------------------------------------------------------------------------------------------------------

// From now on it can be moved. Without memory, it cannot.
static void remember(struct reader *reader, uint64_t code_index, const struct jit_code *code)
{
	uint32_t index = intern_add(&reader->loaded, &code_index, NULL);

	if (index != INTERN_NONE)
		((struct loaded *)intern_item(&reader->loaded, index))->code = *code;
}

static void give_lines(struct reader *reader, uint64_t code_addr, struct jit_code *code)
{
	uint32_t index = intern_find(&reader->pending, &code_addr);
	struct pending *pending = index == INTERN_NONE ? NULL : intern_item(&reader->pending, index);

	if (!pending)
		return;
	if (pending->nlines > 0 && pending->last_offset <= code->end - code->start) {
		code->first_line = pending->first_line;
		code->nlines = pending->nlines;
	}
	pending->nlines = 0;
}

static void take_load(struct reader *reader)
{
	char name[JIT_NAMES_MAX_STRING + 1];
	struct jit_code code = {0};
	struct load load;
	size_t length;

	if (!take(reader, &load, sizeof(load)) || !take_string(reader, name, &length) ||
	    load.code_size > UINT64_MAX - load.vma)
		return;
	code.start = load.vma;
	code.end = load.vma + load.code_size;
	give_lines(reader, load.code_addr, &code);
	if (length == 0 || code.start >= code.end)
		return;
	code.name = jit_names_string(reader->names, name, length);
	if (code.name == JIT_NAMES_NONE || jit_names_add(reader->names, &code) < 0)
		return;
	remember(reader, load.code_index, &code);
}

// What was sampled where it was before still is.
static void take_move(struct reader *reader)
{
	struct move move;
	struct loaded *loaded;
	uint32_t index;

	if (!take(reader, &move, sizeof(move)) || move.code_size > UINT64_MAX - move.vma)
		return;
	index = intern_find(&reader->loaded, &move.code_index);
	if (index == INTERN_NONE)
		return;
	loaded = intern_item(&reader->loaded, index);
	loaded->code.start = move.vma;
	loaded->code.end = move.vma + move.code_size;
	jit_names_add(reader->names, &loaded->code);
}

static int by_offset(const void *a, const void *b)
{
	const struct jit_line *x = a, *y = b;

	return (x->offset > y->offset) - (x->offset < y->offset);
}

// A function's first instruction belongs to a line. Where none does for as long as an ELF header, it is V8's addresses that we have.
static void settle(struct jit_line *lines, uint32_t n)
{
	bool sorted = true;

	for (uint32_t i = 1; i < n && sorted; i++)
		sorted = lines[i - 1].offset <= lines[i].offset;
	if (!sorted)
		qsort(lines, n, sizeof(*lines), by_offset);
	if (lines[0].offset < ELF_HEADER_BYTES)
		return;
	for (uint32_t i = 0; i < n; i++)
		lines[i].offset -= ELF_HEADER_BYTES;
}

// node 20 writes memory that was freed for the names of some scripts, of another length than announced: such a record is no good at all.
static bool is_text(const char *name)
{
	for (size_t i = 0; name[i]; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return name[0] && utf8_is_valid(name);
}

// One entry. *file is the one before's: runtimes write 0xff instead of the same name again.
static bool take_line(struct reader *reader, uint64_t code_addr, uint32_t *file, struct jit_line *ret_line)
{
	char name[JIT_NAMES_MAX_STRING + 1];
	struct debug_entry entry;
	size_t length;

	if (!take(reader, &entry, sizeof(entry)) || !take_string(reader, name, &length))
		return false;
	if (*file == JIT_NAMES_NONE || strcmp(name, "\xff") != 0)
		*file = is_text(name) ? jit_names_file(reader->names, name, length) : JIT_NAMES_NONE;
	ret_line->line = entry.line;
	ret_line->file = *file;
	ret_line->offset = (uint32_t)(entry.code_addr - code_addr);
	return *file != JIT_NAMES_NONE && entry.code_addr - code_addr <= UINT32_MAX;
}

// The number of lines, all those that the record should have; 0: not so.
static uint32_t take_lines(struct reader *reader, const struct debug_info *info, uint32_t *ret_first)
{
	uint32_t file = JIT_NAMES_NONE, first = 0, n = 0;
	struct jit_line line;

	while (n < info->nentries && take_line(reader, info->code_addr, &file, &line)) {
		uint32_t number = jit_names_add_line(reader->names, &line);

		if (number == JIT_NAMES_NONE)
			break;
		if (n++ == 0)
			first = number;
	}
	if (n > 0 && n < info->nentries) {
		jit_names_drop_lines(reader->names, first);
		n = 0;
	}
	*ret_first = first;
	return n;
}

static void take_debug_info(struct reader *reader)
{
	struct pending pending = {0};
	struct debug_info info;
	struct jit_line *lines;
	uint32_t index;

	if (!take(reader, &info, sizeof(info)))
		return;
	pending.nlines = take_lines(reader, &info, &pending.first_line);
	index = pending.nlines > 0 ? intern_add(&reader->pending, &info.code_addr, NULL) : INTERN_NONE;
	if (index == INTERN_NONE)
		return;
	lines = jit_names_lines(reader->names, pending.first_line);
	settle(lines, pending.nlines);
	pending.code_addr = info.code_addr;
	pending.last_offset = lines[pending.nlines - 1].offset;
	*(struct pending *)intern_item(&reader->pending, index) = pending;
}

static bool take_record(struct reader *reader)
{
	struct record_header header;
	uint64_t start = reader->at;

	reader->end = UINT64_MAX;
	if (!take(reader, &header, sizeof(header)) || header.total_size < sizeof(header))
		return false;
	reader->end = start + header.total_size;
	if (header.id == CODE_LOAD)
		take_load(reader);
	else if (header.id == CODE_MOVE)
		take_move(reader);
	else if (header.id == CODE_DEBUG_INFO)
		take_debug_info(reader);
	reader->at = reader->end;
	return !jit_names_full(reader->names);
}

static bool take_header(struct reader *reader)
{
	struct file_header header;

	reader->end = UINT64_MAX;
	if (!take(reader, &header, sizeof(header)) || header.magic != MAGIC || header.total_size < sizeof(header))
		return false;
	reader->at = header.total_size;
	return true;
}

void jitdump_read(int fd, struct jit_names *names)
{
	struct reader *reader = malloc(sizeof(*reader));

	if (!reader) {
		jit_names_set_full(names);
		return;
	}
	reader->fd = fd;
	reader->at = reader->buffer_start = 0;
	reader->buffer_size = 0;
	reader->budget = MAX_BYTES;
	reader->names = names;
	reader->memory = (struct intern_budget){.max = MAX_PENDING_BYTES};
	intern_init(&reader->pending, sizeof(struct pending), sizeof(uint64_t), &reader->memory);
	intern_init(&reader->loaded, sizeof(struct loaded), sizeof(uint64_t), &reader->memory);
	if (take_header(reader)) {
		while (take_record(reader))
			continue;
	}
	intern_finish(&reader->pending);
	intern_finish(&reader->loaded);
	free(reader);
}

// ---- The file -------------------------------------------------------------------------------------------------------

static bool is_jitdump(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : "";
	size_t digits = strncmp(name, "jit-", 4) == 0 ? strspn(name + 4, "0123456789") : 0;

	return digits > 0 && strcmp(name + 4 + digits, ".dump") == 0;
}

// The kernel's link to the very file, deleted or not; wants rights.
static int open_mapped(pid_t pid, uid_t uid, const struct mapping *mapping)
{
	char path[64];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)process_living_task(pid, 0),
		 mapping->start, mapping->end);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == uid)
		return fd;
	close(fd);
	return -EACCES;
}

int jitdump_open(pid_t pid, uid_t uid, const struct mapping_set *set)
{
	char path[PATH_MAX + 32];

	for (size_t i = 0; i < set->count; i++) {
		const struct mapping *mapping = set->entries[i].mapping;
		int fd;

		if (!is_jitdump(mapping->path))
			continue;
		fd = open_mapped(pid, uid, mapping);
		if (fd >= 0)
			return fd;
		snprintf(path, sizeof(path), "/proc/%d/root%s", (int)process_living_task(pid, 0), mapping->path);
		fd = jit_names_open(path, uid);
		if (fd >= 0)
			return fd;
	}
	return -ENOENT;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jit_names.c: see jit_names.h.

#include "collector/jit_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "collector/intern.h"
#include "collector/jitdump.h"
#include "collector/perf_map.h"

struct array {
	void *items;
	uint32_t count, capacity;
};

struct edge {
	uint64_t start; // up to the next edge's
	uint32_t code;  // JIT_NAMES_NONE: nothing there
};

struct file_name {
	uint64_t hash[2]; // of the text; whoever makes two alike mixes up names of his own
	uint32_t text;
	uint32_t unused;
};

struct jit_names {
	struct intern_budget budget;
	struct intern files; // struct file_name
	struct array text;   // of char: strings, each with its NUL
	struct array lines;  // of struct jit_line
	struct array codes;  // of struct jit_code, oldest first
	struct edge *edges;  // once sealed
	uint32_t nedges;
	bool full;
};

// What sealing takes for each code: two borders, each with its owner and its successor; less than that is left when it is done.
#define SEAL_BYTES (2 * (sizeof(uint64_t) + 2 * sizeof(uint32_t)))

// ---- Filling --------------------------------------------------------------------------------------------------------

struct jit_names *jit_names_create(size_t max_bytes)
{
	struct jit_names *names = calloc(1, sizeof(*names));

	if (!names)
		return NULL;
	names->budget.max = max_bytes;
	intern_init(&names->files, sizeof(struct file_name), sizeof(((struct file_name *)0)->hash), &names->budget);
	return names;
}

void jit_names_destroy(struct jit_names *names)
{
	if (!names)
		return;
	intern_finish(&names->files);
	free(names->text.items);
	free(names->lines.items);
	free(names->codes.items);
	free(names->edges);
	free(names);
}

void jit_names_set_full(struct jit_names *names)
{
	names->full = true;
}

bool jit_names_full(const struct jit_names *names)
{
	return names->full;
}

size_t jit_names_bytes(const struct jit_names *names)
{
	return names ? names->budget.used : 0;
}

// Room for n more items that cost so many bytes each, of which `size` are stored. The array grows by a half, or to what is left.
static void *extend(struct jit_names *names, struct array *array, uint32_t n, size_t size, size_t cost)
{
	size_t left = (names->budget.max - names->budget.used) / cost;
	size_t more = array->capacity / 2 + 4096;
	void *grown;

	if (n <= array->capacity - array->count)
		return (char *)array->items + size * array->count;
	if (more < n)
		more = n;
	if (more > left)
		more = left;
	if (more < n || more > JIT_NAMES_NONE - 1 - array->capacity)
		goto full;
	grown = realloc(array->items, (array->capacity + more) * size);
	if (!grown)
		goto full;
	names->budget.used += more * cost;
	array->items = grown;
	array->capacity += (uint32_t)more;
	return (char *)array->items + size * array->count;
full:
	names->full = true;
	return NULL;
}

uint32_t jit_names_string(struct jit_names *names, const char *text, size_t length)
{
	uint32_t size = length < JIT_NAMES_MAX_STRING ? (uint32_t)length : JIT_NAMES_MAX_STRING;
	char *to = extend(names, &names->text, size + 1, 1, 1);
	uint32_t at = names->text.count;

	if (!to)
		return JIT_NAMES_NONE;
	memcpy(to, text, size);
	to[size] = '\0';
	names->text.count += size + 1;
	return at;
}

uint32_t jit_names_file(struct jit_names *names, const char *text, size_t length)
{
	XXH128_hash_t hash = XXH3_128bits(text, length);
	const uint64_t key[2] = {hash.low64, hash.high64};
	bool new;
	uint32_t index = intern_add(&names->files, key, &new);
	struct file_name *item;

	if (index == INTERN_NONE) {
		names->full = true;
		return JIT_NAMES_NONE;
	}
	item = intern_item(&names->files, index);
	if (new)
		item->text = jit_names_string(names, text, length);
	return item->text;
}

uint32_t jit_names_add_line(struct jit_names *names, const struct jit_line *line)
{
	struct jit_line *to = extend(names, &names->lines, 1, sizeof(*to), sizeof(*to));

	if (!to)
		return JIT_NAMES_NONE;
	*to = *line;
	return names->lines.count++;
}

struct jit_line *jit_names_lines(struct jit_names *names, uint32_t first)
{
	return (struct jit_line *)names->lines.items + first;
}

void jit_names_drop_lines(struct jit_names *names, uint32_t first)
{
	if (first < names->lines.count)
		names->lines.count = first;
}

int jit_names_add(struct jit_names *names, const struct jit_code *code)
{
	struct jit_code *to;

	if (code->start >= code->end)
		return 0;
	to = extend(names, &names->codes, 1, sizeof(*to), sizeof(*to) + SEAL_BYTES);
	if (!to)
		return -ENOMEM;
	*to = *code;
	names->codes.count++;
	return 0;
}

// ---- Sealing --------------------------------------------------------------------------------------------------------

// All addresses where something begins or ends, and who owns what is between one and the next.
struct canvas {
	uint64_t *borders;
	uint32_t *owner;
	uint32_t *next; // the first at or after this one without an owner, by way of others
	uint32_t count;
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool stretch(struct canvas *canvas, const struct jit_code *codes, uint32_t ncodes)
{
	size_t count = 0;

	canvas->borders = malloc(2 * (size_t)ncodes * sizeof(*canvas->borders));
	canvas->owner = malloc(2 * (size_t)ncodes * sizeof(*canvas->owner));
	canvas->next = malloc(2 * (size_t)ncodes * sizeof(*canvas->next));
	if (!canvas->borders || !canvas->owner || !canvas->next)
		return false;
	for (uint32_t i = 0; i < ncodes; i++) {
		canvas->borders[count++] = codes[i].start;
		canvas->borders[count++] = codes[i].end;
	}
	qsort(canvas->borders, count, sizeof(*canvas->borders), compare);
	canvas->count = 0;
	for (size_t i = 0; i < count; i++)
		if (i == 0 || canvas->borders[i] != canvas->borders[i - 1])
			canvas->borders[canvas->count++] = canvas->borders[i];
	for (uint32_t i = 0; i < canvas->count; i++) {
		canvas->owner[i] = JIT_NAMES_NONE;
		canvas->next[i] = i;
	}
	return true;
}

static uint32_t find_border(const struct canvas *canvas, uint64_t address)
{
	uint32_t low = 0, high = canvas->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (canvas->borders[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint32_t first_free(struct canvas *canvas, uint32_t at)
{
	while (at < canvas->count && canvas->next[at] != at) {
		canvas->next[at] = canvas->next[canvas->next[at]];
		at = canvas->next[at];
	}
	return at;
}

// Newest first, so that each piece is given away once. The last border begins nothing: it is never owned, and ends each search.
static void paint(struct canvas *canvas, const struct jit_code *codes, uint32_t ncodes)
{
	for (uint32_t i = ncodes; i-- > 0;) {
		uint32_t at = first_free(canvas, find_border(canvas, codes[i].start));

		while (at < canvas->count && canvas->borders[at] < codes[i].end) {
			canvas->owner[at] = i;
			canvas->next[at] = at + 1;
			at = first_free(canvas, at + 1);
		}
	}
}

static bool take_edges(struct jit_names *names, const struct canvas *canvas)
{
	names->edges = malloc(canvas->count * sizeof(*names->edges));
	if (!names->edges)
		return false;
	for (uint32_t i = 0; i < canvas->count; i++)
		if (i == 0 || canvas->owner[i] != canvas->owner[i - 1])
			names->edges[names->nedges++] = (struct edge){canvas->borders[i], canvas->owner[i]};
	return true;
}

int jit_names_seal(struct jit_names *names)
{
	struct canvas canvas = {0};
	bool sealed = names->codes.count == 0;

	if (!sealed && stretch(&canvas, names->codes.items, names->codes.count)) {
		paint(&canvas, names->codes.items, names->codes.count);
		free(canvas.next);
		canvas.next = NULL;
		sealed = take_edges(names, &canvas);
	}
	free(canvas.borders);
	free(canvas.owner);
	free(canvas.next);
	return sealed ? 0 : -ENOMEM;
}

// ---- Looking up -----------------------------------------------------------------------------------------------------

static const struct jit_code *find_code(const struct jit_names *names, uint64_t address)
{
	uint32_t low = 0, high = names->nedges;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (names->edges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || names->edges[low - 1].code == JIT_NAMES_NONE)
		return NULL;
	return (const struct jit_code *)names->codes.items + names->edges[low - 1].code;
}

// What comes before the first line's code is the function's prologue, and taken for part of it.
static const struct jit_line *find_line(const struct jit_names *names, const struct jit_code *code, uint64_t offset)
{
	const struct jit_line *lines = (const struct jit_line *)names->lines.items + code->first_line;
	uint32_t low = 0, high = code->nlines;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (lines[middle].offset <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return &lines[low > 0 ? low - 1 : 0];
}

bool jit_names_find(const struct jit_names *names, uint64_t address, struct jit_found *ret_found)
{
	const struct jit_code *code = find_code(names, address);
	const char *text = names->text.items;

	if (!code)
		return false;
	*ret_found = (struct jit_found){.name = text + code->name, .file = ""};
	if (code->nlines > 0) {
		const struct jit_line *line = find_line(names, code, address - code->start);

		ret_found->file = text + line->file;
		ret_found->line = line->line;
	}
	return true;
}

// ---- All of a process -----------------------------------------------------------------------------------------------

int jit_names_open(const char *path, uid_t uid)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == uid)
		return fd;
	close(fd);
	return -EACCES;
}

struct jit_names *jit_names_load(pid_t pid, uid_t uid, int jitdump_fd)
{
	struct jit_names *names = jit_names_create(JIT_NAMES_MAX_BYTES);

	if (!names)
		return NULL;
	perf_map_load(pid, uid, names);
	if (jitdump_fd >= 0)
		jitdump_read(jitdump_fd, names);
	if (names->codes.count > 0 && jit_names_seal(names) == 0)
		return names;
	jit_names_destroy(names);
	return NULL;
}

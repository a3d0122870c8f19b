// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debug_file.c: see debug_file.h. The search order is gdb's: build ID first, then debuglink beside the file, in its .debug
// directory, and below each debug directory. The process's root comes before ours; what debuginfod's client has comes last.

#include "collector/debug_file.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "collector/target_root.h"

#define MAX_MINI (256u << 20) // bytes, unpacked
#define MAX_LZMA_MEMORY (256u << 20)

bool debug_file_has_dwarf(const struct elf_file *file)
{
	GElf_Shdr header;
	Elf_Scn *scn = elf_file_section(file, ".debug_info", &header);

	if (!scn)
		scn = elf_file_section(file, ".zdebug_info", &header);
	return scn && header.sh_type != SHT_NOBITS && header.sh_size > 0;
}

static int open_elf(int root, const char *path, struct elf_file *ret_file)
{
	int fd = elf_file_open_at(root, path);

	return fd < 0 ? fd : elf_file_open(fd, ret_file);
}

static bool same_build_id(const struct elf_file *file, const char *build_id)
{
	char hex[ELF_BUILD_ID_HEX];

	elf_file_build_id(file, hex);
	return *build_id && strcmp(hex, build_id) == 0;
}

// Calls try for each directory of a colon-separated list until one returns 0.
typedef int (*try_dir)(const char *dir, void *context);

static int each_dir(const char *dirs, try_dir try, void *context)
{
	char dir[PATH_MAX];

	while (*dirs) {
		size_t length = strcspn(dirs, ":");

		if (length && length < sizeof(dir)) {
			memcpy(dir, dirs, length);
			dir[length] = 0;
			if (try(dir, context) == 0)
				return 0;
		}
		dirs += length + (dirs[length] == ':');
	}
	return -ENOENT;
}

struct search {
	const struct target_root *target;
	int root; // where we are looking: target's, or −1: ours
	const char *build_id, *path, *link;
	uint32_t crc;
	struct elf_file *ret_file;
	int fd; // of a package
};

// Looks in the process's root, if it has one of its own, then in ours.
static int in_each_root(struct search *search, const char *dirs, int (*look)(struct search *search, const char *dirs))
{
	const char *path = search->path;

	if (search->target) {
		search->root = target_root_fd(search->target);
		search->path = target_root_inside(search->target, path);
		if (look(search, dirs) == 0)
			return 0;
	}
	search->root = -1;
	search->path = path;
	return look(search, dirs);
}

static int take_build_id(struct search *search, const char *path)
{
	struct elf_file file = {.fd = -1};

	if (open_elf(search->root, path, &file) < 0)
		return -ENOENT;
	if (!same_build_id(&file, search->build_id) || !debug_file_has_dwarf(&file)) {
		elf_file_close(&file);
		return -EINVAL;
	}
	*search->ret_file = file;
	return 0;
}

static int try_build_id(const char *dir, void *context)
{
	struct search *search = context;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/.build-id/%.2s/%s.debug", dir, search->build_id, search->build_id + 2) >=
	    (int)sizeof(path))
		return -ENOENT;
	return take_build_id(search, path);
}

static int find_by_build_id(struct search *search, const char *dirs)
{
	return each_dir(dirs, try_build_id, search);
}

static bool crc_matches(int fd, uint32_t wanted)
{
	unsigned char buffer[65536];
	uLong crc = crc32(0, NULL, 0);
	off_t offset = 0;
	ssize_t n;

	while ((n = pread(fd, buffer, sizeof(buffer), offset)) > 0) {
		crc = crc32(crc, buffer, (uInt)n);
		offset += n;
	}
	return n == 0 && (uint32_t)crc == wanted;
}

// Two build IDs that differ settle it without reading all of the file.
static bool is_linked(const struct elf_file *file, const struct search *search)
{
	char hex[ELF_BUILD_ID_HEX];

	elf_file_build_id(file, hex);
	if (hex[0] && search->build_id[0])
		return strcmp(hex, search->build_id) == 0;
	return crc_matches(file->fd, search->crc);
}

static int try_link_path(struct search *search, const char *path)
{
	struct elf_file file = {.fd = -1};

	if (strcmp(path, search->path) == 0 || open_elf(search->root, path, &file) < 0)
		return -ENOENT;
	if (!debug_file_has_dwarf(&file) || !is_linked(&file, search)) {
		elf_file_close(&file);
		return -ENOENT;
	}
	*search->ret_file = file;
	return 0;
}

// The directory of the file, without the slash.
static int dir_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (int)(slash - path) : 0;
}

static int try_link(const char *dir, void *context)
{
	struct search *search = context;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s%.*s/%s", dir, dir_length(search->path), search->path, search->link) >=
	    (int)sizeof(path))
		return -ENOENT;
	return try_link_path(search, path);
}

static int find_by_link(struct search *search, const char *dirs)
{
	static const char *const places[] = {"", "/.debug"};

	// The name is a file's, nothing else: it comes from the file.
	if (strchr(search->link, '/'))
		return -ENOENT;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char path[PATH_MAX];

		if (snprintf(path, sizeof(path), "%.*s%s/%s", dir_length(search->path), search->path, places[i],
			     search->link) < (int)sizeof(path) &&
		    try_link_path(search, path) == 0)
			return 0;
	}
	return each_dir(dirs, try_link, search);
}

int debug_file_find(const struct elf_file *main, const char *path, const char *build_id,
		    const struct debug_places *places, struct elf_file *ret_file)
{
	struct search search = {.target = places->root, .build_id = build_id, .path = path, .ret_file = ret_file};
	GElf_Word crc = 0;

	if (strlen(build_id) > 2 && in_each_root(&search, places->dirs, find_by_build_id) == 0)
		return 0;
	search.link = dwelf_elf_gnu_debuglink(main->elf, &crc);
	search.crc = crc;
	if (search.link && in_each_root(&search, places->dirs, find_by_link) == 0)
		return 0;
	return places->downloads && debug_file_downloaded(build_id, places->downloads, ret_file) == 0 ? 0 : -ENOENT;
}

int debug_file_downloaded(const char *build_id, const char *downloads, struct elf_file *ret_file)
{
	struct search search = {.root = -1, .build_id = build_id, .ret_file = ret_file};
	char path[PATH_MAX];

	if (!*build_id || snprintf(path, sizeof(path), "%s/%s/debuginfo", downloads, build_id) >= (int)sizeof(path))
		return -ENOENT;
	return take_build_id(&search, path);
}

static int take_package(struct search *search, const char *dir)
{
	char path[PATH_MAX];

	if (search->path[0] != '/' || snprintf(path, sizeof(path), "%s%s.dwp", dir, search->path) >= (int)sizeof(path))
		return -ENOENT;
	search->fd = elf_file_open_at(search->root, path);
	return search->fd < 0 ? -ENOENT : 0;
}

static int try_package(const char *dir, void *context)
{
	return take_package(context, dir);
}

static int find_package(struct search *search, const char *dirs)
{
	return take_package(search, "") == 0 ? 0 : each_dir(dirs, try_package, search);
}

int debug_file_package(const char *path, const struct debug_places *places)
{
	struct search search = {.target = places->root, .path = path, .fd = -1};

	return in_each_root(&search, places->dirs, find_package) == 0 ? search.fd : -ENOENT;
}

// ---- MiniDebugInfo -------------------------------------------------------------------------------------------------

static int unpack(const uint8_t *data, size_t size, uint8_t **ret_out, size_t *ret_size)
{
	size_t capacity = size * 4 + 65536;

	for (; capacity <= MAX_MINI; capacity *= 2) {
		uint64_t memory = MAX_LZMA_MEMORY;
		size_t in = 0, used = 0;
		uint8_t *out = malloc(capacity);
		lzma_ret result;

		if (!out)
			return -ENOMEM;
		result = lzma_stream_buffer_decode(&memory, 0, NULL, data, &in, size, out, &used, capacity);
		if (result == LZMA_OK) {
			*ret_out = out;
			*ret_size = used;
			return 0;
		}
		free(out);
		if (result != LZMA_BUF_ERROR)
			return -EINVAL;
	}
	return -EINVAL;
}

int debug_file_mini(const struct elf_file *main, struct elf_file *ret_file)
{
	GElf_Shdr header;
	Elf_Scn *scn = elf_file_section(main, ".gnu_debugdata", &header);
	Elf_Data *data = scn ? elf_rawdata(scn, NULL) : NULL;
	uint8_t *out;
	size_t size;
	int error;

	if (!data || !data->d_buf)
		return -ENOENT;
	error = unpack(data->d_buf, data->d_size, &out, &size);
	return error ? error : elf_file_open_memory(out, size, ret_file);
}

// ---- dwz -----------------------------------------------------------------------------------------------------------

struct alt_search {
	int root;
	const char *name;
	char id_hex[ELF_BUILD_ID_HEX];
	struct elf_file *ret_file;
};

static int try_alt_path(struct alt_search *search, const char *path)
{
	struct elf_file file = {.fd = -1};

	if (open_elf(search->root, path, &file) < 0)
		return -ENOENT;
	if (!same_build_id(&file, search->id_hex)) {
		elf_file_close(&file);
		return -ENOENT;
	}
	*search->ret_file = file;
	return 0;
}

static int try_alt_dir(const char *dir, void *context)
{
	struct alt_search *search = context;
	const char *slash = strrchr(search->name, '/');
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/.build-id/%.2s/%s.debug", dir, search->id_hex, search->id_hex + 2) <
		    (int)sizeof(path) &&
	    try_alt_path(search, path) == 0)
		return 0;
	if (snprintf(path, sizeof(path), "%s/.dwz/%s", dir, slash ? slash + 1 : search->name) >= (int)sizeof(path))
		return -ENOENT;
	return try_alt_path(search, path);
}

// The section: a name, NUL, the build ID.
static bool read_alt_link(const struct elf_file *file, struct alt_search *search)
{
	GElf_Shdr header;
	Elf_Scn *scn = elf_file_section(file, ".gnu_debugaltlink", &header);
	Elf_Data *data = scn ? elf_rawdata(scn, NULL) : NULL;
	const uint8_t *nul = data && data->d_buf ? memchr(data->d_buf, 0, data->d_size) : NULL;
	size_t size = nul ? data->d_size - (size_t)(nul + 1 - (const uint8_t *)data->d_buf) : 0;

	if (size <= 2 || size > (ELF_BUILD_ID_HEX - 1) / 2)
		return false;
	search->name = data->d_buf;
	for (size_t i = 0; i < size; i++)
		snprintf(search->id_hex + 2 * i, 3, "%02x", nul[1 + i]);
	return true;
}

static int find_alt(struct alt_search *search, const char *dirs)
{
	if (each_dir(dirs, try_alt_dir, search) == 0)
		return 0;
	return search->name[0] == '/' ? try_alt_path(search, search->name) : -ENOENT;
}

int debug_file_alt(const struct elf_file *file, const struct debug_places *places, struct elf_file *ret_file)
{
	struct alt_search search = {.ret_file = ret_file};

	if (!read_alt_link(file, &search))
		return -ENOENT;
	search.root = target_root_fd(places->root);
	if (places->root && find_alt(&search, places->dirs) == 0)
		return 0;
	search.root = -1;
	return find_alt(&search, places->dirs);
}

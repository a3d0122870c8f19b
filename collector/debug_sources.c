// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debug_sources.c: see debug_sources.h.

#include "collector/debug_sources.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static void open_package(struct debug_sources *sources, const char *path, const struct debug_places *places)
{
	int fd = debug_file_package(path, places);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) < 0 || (st.st_uid != 0 && st.st_uid != geteuid()))
		close(fd);
	else
		(void)elf_file_open(fd, &sources->package);
}

// A file, as long as nobody writes to it.
static void add_identity(XXH3_state_t *state, const struct elf_file *file)
{
	struct stat st = {0};
	uint64_t fields[5] = {0};

	if (file->elf && file->fd >= 0 && fstat(file->fd, &st) == 0) {
		fields[0] = (uint64_t)st.st_dev;
		fields[1] = (uint64_t)st.st_ino;
		fields[2] = (uint64_t)st.st_size;
		fields[3] = (uint64_t)st.st_mtim.tv_sec;
		fields[4] = (uint64_t)st.st_mtim.tv_nsec;
	}
	XXH3_128bits_update(state, fields, sizeof(fields));
}

// The program itself is known by its build ID and size, wherever it lies; other files are known by where they lie.
static void identify(const struct debug_sources *sources, uint64_t file_size, uint64_t ret_identity[2])
{
	XXH3_state_t *state = XXH3_createState();
	XXH128_hash_t hash;

	if (!state)
		return;
	XXH3_128bits_reset(state);
	XXH3_128bits_update(state, &file_size, sizeof(file_size));
	add_identity(state, &sources->debug);
	add_identity(state, &sources->alt);
	add_identity(state, &sources->package);
	hash = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	ret_identity[0] = hash.low64;
	ret_identity[1] = hash.high64;
}

void debug_sources_open(struct debug_sources *ret_sources, const struct elf_file *file, const char *path,
			const char *build_id, const struct debug_places *places)
{
	struct debug_sources *sources = ret_sources;
	bool own = debug_file_has_dwarf(file);
	struct stat st = {0};

	*sources = (struct debug_sources){.debug.fd = -1, .alt.fd = -1, .package.fd = -1};
	if (!own)
		(void)debug_file_find(file, path, build_id, places, &sources->debug);
	sources->has_dwarf = own || sources->debug.elf;
	if (sources->has_dwarf)
		(void)debug_file_alt(own ? file : &sources->debug, places, &sources->alt);
	open_package(sources, path, places);
	if (file->fd < 0 || fstat(file->fd, &st) < 0)
		st.st_size = 0;
	sources->file_size = (uint64_t)st.st_size;
	identify(sources, sources->file_size, sources->identity);
}

void debug_sources_close(struct debug_sources *sources)
{
	elf_file_close(&sources->debug);
	elf_file_close(&sources->alt);
	elf_file_close(&sources->package);
}

static bool is_gone(const struct elf_file *file)
{
	struct stat st;

	return file->elf && file->fd >= 0 && fstat(file->fd, &st) == 0 && st.st_nlink == 0;
}

bool debug_sources_written(const struct debug_sources *sources)
{
	uint64_t identity[2] = {0};

	identify(sources, sources->file_size, identity);
	return memcmp(identity, sources->identity, sizeof(identity)) != 0;
}

bool debug_sources_changed(const struct debug_sources *sources)
{
	return is_gone(&sources->debug) || is_gone(&sources->alt) || is_gone(&sources->package) ||
	       debug_sources_written(sources);
}

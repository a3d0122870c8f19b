// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbolizer.c: see symbolizer.h.
//
// Strings that were returned stay: what was mapped stays mapped, also when a later block has all that earlier ones had, or names come from
// another file by now.
//
// What was looked for in vain is looked for again, but not each time: debug info may be installed or downloaded, a file that was too much
// for the process that reads it may be replaced, and what killed it once (memory that others had) may not again.

#include "collector/symbolizer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/debug_sources.h"
#include "collector/name_set.h"
#include "collector/name_worker.h"
#include "collector/readable_names.h"
#include "collector/table_cache.h"

#define MAX_MAPS 256     // so often units are added in a symbolizer's life
#define LOOK_AGAIN_S 30  // for debug info that was not there, or too much to read
#define FIRST_RETRY_S 30 // to read it once more; doubled each time, six times at the most

struct symbolizer {
	struct elf_file file; // the caller's, borrowed, as what places points to
	struct debug_places places;
	char *path;
	struct debug_sources sources;
	struct table_cache *tables;
	char build_id[ELF_BUILD_ID_HEX];
	bool loaded; // from the cache
	struct name_set names;
	struct table_cache_names maps[MAX_MAPS];
	size_t nmaps;
	struct readable_names readable;
	int64_t looked_s;        // when debug info was last looked for
	bool failed, error_told; // until retry_s no more is compiled
	bool makeshift;          // names are those of symbols alone: DWARF could not be read. They are not kept
	int64_t retry_s;
	uint32_t failures; // in a row
	char error[NAME_WORKER_REASON];
};

struct symbolizer *symbolizer_create(const struct elf_file *file, const char *path, const char *build_id,
				     const struct debug_places *places, struct table_cache *tables)
{
	struct symbolizer *symbolizer = calloc(1, sizeof(*symbolizer));

	if (!symbolizer)
		return NULL;
	symbolizer->path = strdup(path);
	if (!symbolizer->path) {
		free(symbolizer);
		return NULL;
	}
	symbolizer->file = *file;
	symbolizer->places = *places;
	symbolizer->tables = tables;
	snprintf(symbolizer->build_id, sizeof(symbolizer->build_id), "%s", build_id);
	debug_sources_open(&symbolizer->sources, file, path, build_id, places);
	symbolizer->looked_s = clock_now_s();
	return symbolizer;
}

void symbolizer_destroy(struct symbolizer *symbolizer)
{
	if (!symbolizer)
		return;
	name_set_finish(&symbolizer->names);
	for (size_t i = 0; i < symbolizer->nmaps; i++)
		table_cache_unmap_names(&symbolizer->maps[i]);
	readable_names_finish(&symbolizer->readable);
	debug_sources_close(&symbolizer->sources);
	free(symbolizer->path);
	free(symbolizer);
}

// ---- Sources -------------------------------------------------------------------------------------------------------

// All names that are known so far are those of other files.
static void forget_names(struct symbolizer *symbolizer)
{
	name_set_finish(&symbolizer->names);
	symbolizer->loaded = false;
	symbolizer->failed = symbolizer->error_told = symbolizer->makeshift = false;
	symbolizer->failures = 0;
}

// Debug info that is open stays, though it was removed, until there is other.
static void look_for_sources(struct symbolizer *symbolizer)
{
	struct debug_sources found, *old = &symbolizer->sources;
	bool same, keep;

	symbolizer->looked_s = clock_now_s();
	debug_sources_open(&found, &symbolizer->file, symbolizer->path, symbolizer->build_id, &symbolizer->places);
	same = memcmp(found.identity, old->identity, sizeof(found.identity)) == 0;
	keep = old->has_dwarf && !found.has_dwarf && !debug_sources_written(old);
	if (same || keep) {
		debug_sources_close(&found);
		return;
	}
	debug_sources_close(old);
	*old = found;
	forget_names(symbolizer);
}

void symbolizer_look_again(struct symbolizer *symbolizer, bool at_once)
{
	int64_t now = clock_now_s();
	bool lacks = symbolizer->failed || !symbolizer->sources.has_dwarf;

	if (at_once || debug_sources_changed(&symbolizer->sources) ||
	    (lacks && now - symbolizer->looked_s >= LOOK_AGAIN_S))
		look_for_sources(symbolizer);
	if (symbolizer->failed && now >= symbolizer->retry_s) {
		symbolizer->failed = symbolizer->error_told = false;
		if (symbolizer->makeshift)
			name_set_finish(&symbolizer->names);
		symbolizer->makeshift = false;
	}
}

bool symbolizer_has_dwarf(const struct symbolizer *symbolizer)
{
	return symbolizer->sources.has_dwarf;
}

// ---- The table -----------------------------------------------------------------------------------------------------

static bool make_key(const struct symbolizer *symbolizer, struct table_cache_key *ret_key)
{
	GElf_Ehdr header;

	if (!symbolizer->tables || !gelf_getehdr(symbolizer->file.elf, &header))
		return false;
	*ret_key = (struct table_cache_key){symbolizer->build_id, symbolizer->sources.identity[0], header.e_machine};
	return true;
}

// Adds what is mapped to the set, block for block. False: not sound.
static bool add_blocks(const struct symbolizer *symbolizer, const struct table_cache_names *map, struct name_set *set)
{
	const uint8_t *at = map->data;
	size_t left = map->size;

	while (left > 0) {
		struct name_block block;

		if (name_block_open(at, left, &block) < 0 ||
		    memcmp(block.header->identity, symbolizer->sources.identity,
			   sizeof(symbolizer->sources.identity)) != 0 ||
		    name_set_add(set, &block) < 0)
			return false;
		at += block.header->size;
		left -= block.header->size;
	}
	return set->count > 0;
}

static void load(struct symbolizer *symbolizer)
{
	struct table_cache_names map;
	struct table_cache_key key;

	symbolizer->loaded = true;
	if (!make_key(symbolizer, &key) || table_cache_get_names(symbolizer->tables, &key, &map) < 0)
		return;
	if (add_blocks(symbolizer, &map, &symbolizer->names)) {
		symbolizer->maps[symbolizer->nmaps++] = map;
		return;
	}
	name_set_finish(&symbolizer->names);
	table_cache_unmap_names(&map);
	table_cache_discard_names(symbolizer->tables, &key);
}

// Others may have added to the file since; what they did is kept, unless there is no more room beside it.
static void store(const struct symbolizer *symbolizer, const struct table_cache_names *block)
{
	const struct table_cache_bytes none = {"", 0}, added = {block->data, block->size};
	struct table_cache_names there = {0};
	struct name_set set = {0};
	struct table_cache_key key;

	if (!make_key(symbolizer, &key))
		return;
	if (table_cache_get_names(symbolizer->tables, &key, &there) == 0 && add_blocks(symbolizer, &there, &set) &&
	    set.count < NAME_SET_MAX) {
		const struct table_cache_bytes before = {there.data, there.size};

		table_cache_put_names(symbolizer->tables, &key, &before, &added);
	} else {
		table_cache_put_names(symbolizer->tables, &key, &added, &none);
	}
	name_set_finish(&set);
	table_cache_unmap_names(&there);
	table_cache_count_names_built(symbolizer->tables);
}

static int map_block(int fd, struct table_cache_names *ret_map)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0)
		return -errno;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret_map = (struct table_cache_names){map, (size_t)st.st_size, map, (size_t)st.st_size};
	return 0;
}

static int take_block(struct symbolizer *symbolizer, int fd, bool whole)
{
	struct table_cache_names map;
	struct name_set only = {0};
	int error = map_block(fd, &map);

	close(fd);
	if (error)
		return error;
	if (!add_blocks(symbolizer, &map, whole ? &only : &symbolizer->names)) {
		name_set_finish(&only);
		table_cache_unmap_names(&map);
		return -EINVAL;
	}
	if (whole) {
		name_set_finish(&symbolizer->names);
		symbolizer->names = only;
	}
	symbolizer->maps[symbolizer->nmaps++] = map;
	if (!symbolizer->makeshift)
		store(symbolizer, &map);
	return 0;
}

static const struct elf_file *if_open(const struct elf_file *file)
{
	return file->elf ? file : NULL;
}

static int run_worker(struct symbolizer *symbolizer, const struct name_request *request, bool whole,
		      char reason[NAME_WORKER_REASON])
{
	int fd, error = -ENOSPC;

	snprintf(reason, NAME_WORKER_REASON, "too many units were added one by one");
	if (symbolizer->nmaps < MAX_MAPS)
		error = name_worker_run(request, &fd, reason);
	if (error)
		return error;
	error = take_block(symbolizer, fd, whole);
	if (error)
		snprintf(reason, NAME_WORKER_REASON, "the process that read its debug info made nothing of use");
	return error;
}

static void note_failure(struct symbolizer *symbolizer)
{
	symbolizer->failed = true;
	symbolizer->retry_s = clock_now_s() + (FIRST_RETRY_S << (symbolizer->failures < 6 ? symbolizer->failures : 6));
	symbolizer->failures++;
	if (symbolizer->tables)
		table_cache_count_names_failed(symbolizer->tables);
}

static void compile(struct symbolizer *symbolizer, const uint64_t *vaddrs, size_t count, bool each_unit, bool whole)
{
	struct name_request request = {
		.sources = {.file = &symbolizer->file,
			    .debug = if_open(&symbolizer->sources.debug),
			    .alt = if_open(&symbolizer->sources.alt),
			    .package = if_open(&symbolizer->sources.package),
			    .root = symbolizer->places.root},
		.addresses = vaddrs,
		.count = count,
		.each_unit = each_unit,
		.symbols_alone = symbolizer->makeshift,
		.identity = {symbolizer->sources.identity[0], symbolizer->sources.identity[1]},
	};
	bool first = symbolizer->names.count == 0;
	char reason[NAME_WORKER_REASON];

	if (symbolizer->makeshift) {
		(void)run_worker(symbolizer, &request, whole, reason); // what DWARF was too much stays the reason
		return;
	}
	if (run_worker(symbolizer, &request, whole, symbolizer->error) == 0) {
		symbolizer->failures = 0;
		return;
	}
	note_failure(symbolizer);
	if (!first || !symbolizer->sources.has_dwarf)
		return;
	request.symbols_alone = symbolizer->makeshift = true;
	if (run_worker(symbolizer, &request, whole, reason) < 0)
		symbolizer->makeshift = false;
}

// All that there is, and these, in one block: when there are as many blocks as there may be.
static void compile_whole(struct symbolizer *symbolizer, const uint64_t *vaddrs, size_t count)
{
	size_t max = count + symbolizer->names.blocks[0].header->nunits, n;
	uint64_t *all = calloc(max + 1, sizeof(*all));

	if (!all)
		return;
	memcpy(all, vaddrs, count * sizeof(*all));
	n = count + name_set_covered(&symbolizer->names, all + count, max - count);
	compile(symbolizer, all, n, true, true);
	free(all);
}

static void ensure_loaded(struct symbolizer *symbolizer)
{
	if (!symbolizer->loaded)
		load(symbolizer);
}

// False: nothing was missing, or nothing can be done about it.
static bool compile_missing(struct symbolizer *symbolizer, const uint64_t *vaddrs, size_t count, bool each_unit)
{
	uint64_t *missing = symbolizer->failed && !symbolizer->makeshift ? NULL : calloc(count + 1, sizeof(*missing));
	bool first = symbolizer->names.count == 0;
	size_t n = 0;

	if (!missing)
		return false;
	for (size_t i = 0; i < count; i++)
		if (name_set_misses(&symbolizer->names, vaddrs[i]))
			missing[n++] = vaddrs[i];
	if (n > 0 && symbolizer->names.count == NAME_SET_MAX)
		compile_whole(symbolizer, missing, n);
	else if (n > 0 || first)
		compile(symbolizer, missing, n, each_unit, first);
	free(missing);
	return n > 0;
}

void symbolizer_prepare(struct symbolizer *symbolizer, const uint64_t *vaddrs, size_t count)
{
	ensure_loaded(symbolizer);
	if (compile_missing(symbolizer, vaddrs, count, false))
		(void)compile_missing(symbolizer, vaddrs, count, true);
}

enum module_symbols symbolizer_source(struct symbolizer *symbolizer)
{
	symbolizer_prepare(symbolizer, NULL, 0);
	if (symbolizer->names.count == 0 || symbolizer->names.blocks[0].header->source > MODULE_SYMBOLS_NONE)
		return MODULE_SYMBOLS_NONE;
	return (enum module_symbols)symbolizer->names.blocks[0].header->source;
}

const char *symbolizer_take_error(struct symbolizer *symbolizer)
{
	if (!symbolizer->failed || symbolizer->error_told)
		return NULL;
	symbolizer->error_told = true;
	return symbolizer->error;
}

bool symbolizer_has_symbols_alone(const struct symbolizer *symbolizer)
{
	return symbolizer->makeshift;
}

const char *symbolizer_error(const struct symbolizer *symbolizer, int64_t *ret_retry_s)
{
	int64_t left = symbolizer->retry_s - clock_now_s();

	if (!symbolizer->failed)
		return NULL;
	*ret_retry_s = left > 0 ? left : 0;
	return symbolizer->error;
}

// ---- Looking up ----------------------------------------------------------------------------------------------------

static void set_frame(struct symbolizer *symbolizer, const struct name_frame *found, struct module_frame *frame)
{
	const char *name = found->name ? found->name : "??";

	frame->system_name = found->system_name ? found->system_name : name;
	frame->name = found->to_demangle && found->system_name
			      ? readable_names_get(&symbolizer->readable, found->system_name, name)
			      : name;
	frame->file = found->file;
	frame->line = found->line;
	frame->start_line = found->start_line;
}

size_t symbolizer_find(struct symbolizer *symbolizer, uint64_t vaddr, struct module_frame *frames, size_t max)
{
	struct name_frame found[MODULE_MAX_INLINE];
	bool missing;
	size_t count;

	if (max > MODULE_MAX_INLINE)
		max = MODULE_MAX_INLINE;
	ensure_loaded(symbolizer);
	count = name_set_find(&symbolizer->names, vaddr, found, max, &missing);
	if (count == 0 && (missing || symbolizer->names.count == 0) && (!symbolizer->failed || symbolizer->makeshift)) {
		symbolizer_prepare(symbolizer, &vaddr, 1);
		count = name_set_find(&symbolizer->names, vaddr, found, max, &missing);
	}
	for (size_t i = 0; i < count; i++)
		set_frame(symbolizer, &found[i], &frames[i]);
	return count;
}

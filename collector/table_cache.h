// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// table_cache.h: tables on disk, so that a program's next run finds them made: for each build ID a file with its unwind table, and
// one with its names. An unwind table from here is a copy, checked. No target ever maps the file itself: whoever can cut it short would kill the target with a SIGBUS, in its
// signal handler. What they all map, read-only, is one sealed memfd with that copy in it (module.c).
//
// Any thread. Nothing in the directory is trusted: a file that is not what was written is removed, counted, and made anew.

#ifndef PROFD_COLLECTOR_TABLE_CACHE_H
#define PROFD_COLLECTOR_TABLE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_cache;
struct wire_table;

// What a table is made from. Only of files whose owner we trust: the build ID is whatever the file says.
struct table_cache_key {
	const char *build_id; // lowercase hex
	uint64_t file_size;
	uint32_t machine; // EM_*
};

// Names (name_table.h) are not copied: who reads them is ours. The file is never written to again, only replaced.
struct table_cache_names {
	const void *data; // aligned to 8
	size_t size;
	void *map; // what to unmap
	size_t map_size;
};

struct table_cache_counters {
	uint64_t built, found;             // unwind tables made from CFI; taken from the cache
	uint64_t names_failed;             // processes that were to make names, and did not
	uint64_t names_built, names_found; // blocks of names made from debug info; files of them taken from the cache
	uint64_t damaged;                  // files that were not what was written; removed
	uint64_t unwritten;                // tables that could not be stored
};

// directory: made when it is not there (its parent must be); it must be ours and nobody else's to write. NULL, or one that will not do
// (*ret_error says why: −errno, −EPERM not safe): a cache that never has anything, and counts. NULL only when out of memory.
// max_bytes: of all files; the least recently used go.
struct table_cache *table_cache_create(const char *directory, uint64_t max_bytes, int *ret_error);
// As the environment says: $PROFD_CACHE_DIR, $PROFD_CACHE_SIZE. What is wrong there is logged.
struct table_cache *table_cache_open(bool on_disk);
void table_cache_destroy(struct table_cache *cache); // accepts NULL

// The table, malloc'ed, the caller's. −ENOENT: not there, or not fit to be used.
int table_cache_get(struct table_cache *cache, const struct table_cache_key *key, struct wire_table **ret_table,
		    size_t *ret_size);
// Stores it, or not.
void table_cache_put(struct table_cache *cache, const struct table_cache_key *key, const struct wire_table *table,
		     size_t size);
void table_cache_count_built(struct table_cache *cache);

// The same for names. key->file_size: a hash of what they were made from. They are as they were stored, which does not make them sound.
int table_cache_get_names(struct table_cache *cache, const struct table_cache_key *key,
			  struct table_cache_names *ret_names);
void table_cache_unmap_names(struct table_cache_names *names); // accepts a zeroed one
// Stores first and then second, in one file; either may be empty.
struct table_cache_bytes {
	const void *data;
	size_t size;
};
void table_cache_put_names(struct table_cache *cache, const struct table_cache_key *key,
			   const struct table_cache_bytes *first, const struct table_cache_bytes *second);
// What was found is not sound: it is removed, and counted.
void table_cache_discard_names(struct table_cache *cache, const struct table_cache_key *key);
void table_cache_count_names_built(struct table_cache *cache);
void table_cache_count_names_failed(struct table_cache *cache);
void table_cache_counters(const struct table_cache *cache, struct table_cache_counters *ret_counters);

// Where the cache is: $PROFD_CACHE_DIR ("": nowhere), root's /var/cache/profd, $XDG_CACHE_HOME/profd, $HOME/.cache/profd. NULL: nowhere;
// else buf.
const char *table_cache_directory(char *buf, size_t size);

#endif

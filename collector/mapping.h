// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// mapping.h: executable mappings of a target, as long as some window still has samples in them, and sets of them: all
// as they were at one value of wire_header.maps_gen.
//
// A mapping lives from the first set that has it to the last reference to it, and is immutable. The same mapping in two sets
// of a session is one object; a fork's child shares its parent's.

#ifndef PROFD_COLLECTOR_MAPPING_H
#define PROFD_COLLECTOR_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct module;
struct module_cache;

// Where the agent's unwind table for a mapping is.
enum mapping_table { MAPPING_TABLE_NONE, MAPPING_TABLE_BUILDING, MAPPING_TABLE_SENT, MAPPING_TABLE_FAILED };

struct mapping {
	uint32_t refs; // atomic
	uint32_t id;   // unique in this process; never 0
	uint64_t start, end, file_offset;
	uint64_t bias; // of module
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	bool agent;            // libprofd.so's own code: its frames are not shown
	struct module *module; // a reference; NULL: not an ELF file that could be opened
	char path[];
};

struct mapping_entry {
	struct mapping *mapping;  // a reference
	enum mapping_table table; // guarded by the collector's lock
};

struct mapping_set {
	uint32_t maps_gen;
	size_t count;
	struct mapping_entry entries[]; // sorted by start
};

struct mapping *mapping_create(uint64_t start, uint64_t end, uint64_t file_offset, const char *path); // NULL: no memory
struct mapping *mapping_ref(struct mapping *mapping);
void mapping_unref(struct mapping *mapping); // accepts NULL

// Reads pid's mappings; takes what did not change from previous (may be NULL), opens the rest. Reads /proc and files: may wait for
// them, so not on the loop. 0 or −errno.
int mapping_set_read(pid_t pid, uint32_t maps_gen, const struct mapping_set *previous, struct module_cache *modules,
		     struct mapping_set **ret_set);
void mapping_set_destroy(struct mapping_set *set); // accepts NULL
// The same mappings, for another agent: none of their tables is sent. NULL: no memory.
struct mapping_set *mapping_set_copy(const struct mapping_set *set, uint32_t maps_gen);
struct mapping *mapping_set_find(const struct mapping_set *set, uint64_t address); // NULL: none
// The entry with just this mapping. NULL: none.
struct mapping_entry *mapping_set_entry(struct mapping_set *set, const struct mapping *mapping);

#endif

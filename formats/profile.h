// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// profile.h: a symbolized profile in memory, the one input of every format. It knows no pid, no ELF file, no socket.
//
//   profile ─┬─ sample_types[]   what the values of a sample mean, e.g. samples/count, cpu/nanoseconds
//            ├─ mappings[]       id = index+1; mappings[0] is the main binary
//            ├─ functions[]      id = index+1; interned by (name, system_name, file)
//            ├─ locations[]      id = index+1; interned by (mapping, address); each has lines[], innermost inline first
//            ├─ samples[]        stack of location ids, leaf first; values[]; labels[]
//            └─ comments[]
//
// Invariants: every id is 1..n in order of creation (Parca checks it); 0 means none. Strings are interned and owned by
// the profile; a struct's `const char *` stays valid until profile_destroy. Two samples with the same stack and labels
// are merged by profile_add_sample. Not thread-safe; one owner at a time.

#ifndef PROFD_FORMATS_PROFILE_H
#define PROFD_FORMATS_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROFILE_MAX_VALUES 4

struct profile_value_type {
	const char *type; // "samples", "cpu", "alloc_space"…
	const char *unit; // "count", "nanoseconds", "bytes"
};

struct profile_mapping {
	uint64_t start, limit; // address range in the target
	uint64_t file_offset;  // bytes
	const char *file;      // path, or "[vdso]"
	const char *build_id;  // hex, "" when none
	bool has_functions, has_filenames, has_line_numbers, has_inline_frames;
	const char *names_from; // what its names come from: "DWARF", ".dynsym"…; "" not known
	const char *advice;     // what would name code of it that has no name, or why nothing will; "" nothing to say
};

struct profile_function {
	const char *name;        // as shown: demangled
	const char *system_name; // as in the symbol table
	const char *file;        // "" when not known
	int64_t start_line;      // 0: not known
};

struct profile_line {
	uint32_t function_id;
	int64_t line; // 0: not known
};

struct profile_location {
	uint32_t mapping_id; // 0: in no mapping
	uint64_t address;    // in the target's address space
	uint32_t nlines;
	const struct profile_line *lines; // innermost inline first; at least one unless nothing at all is known
};

// A label: text when str is not NULL, a number otherwise.
struct profile_label {
	const char *key;
	const char *str;
	int64_t num;
	const char *num_unit; // "" or e.g. "bytes"
};

struct profile_sample {
	uint32_t nlocations;
	const uint32_t *location_ids; // leaf first
	uint32_t nlabels;
	const struct profile_label *labels; // sorted by key, one value a key
	int64_t values[PROFILE_MAX_VALUES]; // nsample_types of them
};

struct profile {
	uint32_t nsample_types;
	struct profile_value_type sample_types[PROFILE_MAX_VALUES];
	const char *default_sample_type; // "" or one of the types
	struct profile_value_type period_type;
	int64_t period;
	int64_t time_ns; // start, ns since the epoch
	int64_t duration_ns;

	uint32_t nmappings, nfunctions, nlocations, nsamples, ncomments;
	struct profile_mapping *mappings;
	struct profile_function *functions;
	struct profile_location *locations;
	struct profile_sample *samples;
	const char **comments;

	struct profile_index *index; // interning; profile.c's own
};

// NULL when out of memory. destroy accepts NULL and half-built profiles.
struct profile *profile_create(void);
void profile_destroy(struct profile *profile);

// Interns a copy of s (NULL reads as ""). Never returns NULL: out of memory is remembered, profile_failed() tells, and
// "" is returned, so that a builder may go on and check once at its end.
const char *profile_string(struct profile *profile, const char *s);
bool profile_failed(const struct profile *profile);

// Each returns an id ≥ 1, or 0 when out of memory. Text is copied. A location that names a mapping or a function that does
// not exist is refused with 0 as well; profile_failed does not tell of that.
uint32_t profile_add_mapping(struct profile *profile, const struct profile_mapping *mapping);
void profile_explain_mapping(struct profile *profile, uint32_t mapping_id, const char *names_from, const char *advice);
uint32_t profile_add_function(struct profile *profile, const struct profile_function *function); // interned
// Interned by (mapping_id, address): a second call with these returns the first id and ignores the lines.
uint32_t profile_add_location(struct profile *profile, const struct profile_location *location);
// 0 when (mapping_id, address) has no location yet.
uint32_t profile_find_location(const struct profile *profile, uint32_t mapping_id, uint64_t address);

// More than PROFILE_MAX_VALUES make profile_failed true.
void profile_add_sample_type(struct profile *profile, const char *type, const char *unit);
void profile_set_period(struct profile *profile, const char *type, const char *unit, int64_t period);
void profile_add_comment(struct profile *profile, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Adds values to the sample with this stack and these labels (made if new). Labels may come in any order; a repeated
// key keeps its last value. There is one value for each sample type so far; sums stop at the ends of int64_t.
// 0 or −ENOMEM, −EINVAL (an id that does not exist, a label without a key).
int profile_add_sample(struct profile *profile, const uint32_t *location_ids, uint32_t nlocations,
		       const struct profile_label *labels, uint32_t nlabels, const int64_t *values);

// The sample type that is shown where there is room for one: the index of default_sample_type, or 0.
uint32_t profile_default_value(const struct profile *profile);

// The text shown for a location's line i; falls back to "module+0xoffset" (the offset in the module's file) or "0xaddress"
// when there is no such line or it has no name. Writes to buf (always NUL-terminated, cut between characters), returns buf.
const char *profile_frame_name(const struct profile *profile, const struct profile_location *location, uint32_t i,
			       char *buf, size_t size);

#endif

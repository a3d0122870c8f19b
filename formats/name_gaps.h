// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_gaps.h: which modules samples are in, and where their frames lack names: per module its share of the samples, what its names come
// from, and what would give names to the frames that have none. As lines of text, one for each module with such frames:
//
//   nameless: /usr/lib/libfoo.so.1: 12.34% of samples (self 3.21%); names from .dynsym; install libfoo1-dbgsym
//
// They are comments of a profile, so that whoever is given the file can be told as well (name_gaps_read).

#ifndef PROFD_FORMATS_NAME_GAPS_H
#define PROFD_FORMATS_NAME_GAPS_H

#include <stdint.h>

#include "formats/profile.h"

struct writer;

#define NAME_GAPS_LINES 20 // so many modules have one; then a line says how many more there are

struct name_gaps_module {
	const char *file;     // "" no mapping
	const char *build_id; // "" none
	const char *names_from, *advice;
	int64_t self, total;                   // of samples that end in it; that go through it
	int64_t nameless_self, nameless_total; // the same, of those that have no name there
	uint32_t seen, seen_nameless;          // the last stack that counted
};

// Strings are the profile's, which must outlive it and keep its tables.
struct name_gaps {
	const struct profile *profile;
	const char *noun; // of what is counted: "samples" unless set after init
	int64_t total;
	uint32_t nmodules, nstacks;
	struct name_gaps_module *modules; // of one file each
	uint32_t *of_mapping;             // by mapping id; [0] is what is in no mapping
};

// The sample type that a profile is read by, unless somebody says otherwise: where its samples have none of that (of a heap nothing is in use
// any more), one that they have.
uint32_t name_gaps_value(const struct profile *profile);

// 0 or −ENOMEM; finish in either case. Then a call for each stack, leaf first.
int name_gaps_init(struct name_gaps *gaps, const struct profile *profile);
void name_gaps_add(struct name_gaps *gaps, const uint32_t *location_ids, uint32_t nlocations, int64_t value);
void name_gaps_add_samples(struct name_gaps *gaps, uint32_t value_index); // all of the profile's
void name_gaps_sort(struct name_gaps *gaps); // by nameless_total, then total; after the last add
void name_gaps_finish(struct name_gaps *gaps);

// The lines of a sorted one, each with prefix before it and a newline.
void name_gaps_put(const struct name_gaps *gaps, const char *prefix, struct writer *writer);
// Adds them to a profile's comments; once, when it has all its samples. 0 or −ENOMEM.
int name_gaps_comment(struct profile *profile);
// For a profile that was read from somewhere: gives its mappings what these comments say of them, and takes the comments away.
void name_gaps_read(struct profile *profile);

#endif

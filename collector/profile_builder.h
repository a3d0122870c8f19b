// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// profile_builder.h: puts frames, as PCs in mappings, into a profile's tables, with their names. Without locks; may take long.

#ifndef PROFD_COLLECTOR_PROFILE_BUILDER_H
#define PROFD_COLLECTOR_PROFILE_BUILDER_H

#include <stdint.h>

#include "collector/intern.h"

struct jit_names;
struct mapping;
struct profile;

struct profile_builder {
	struct profile *profile;     // not owned
	struct intern_budget budget; // without a limit: what is put in is bounded
	struct intern mappings;
	struct intern modules; // that have a location, each once
	// The names of source's generated code; called when that of address is wanted. NULL: it has none.
	const struct jit_names *(*jit_names)(void *context, uint32_t source, uint64_t address);
	void *context;
};

void profile_builder_init(struct profile_builder *builder, struct profile *profile);
void profile_builder_finish(struct profile_builder *builder);

// Ids in the profile; 0: no memory. pc: as in aggregate_frame. mapping: NULL for none.
uint32_t profile_builder_mapping(struct profile_builder *builder, const struct mapping *mapping);
// The mapping must outlive the builder.
uint32_t profile_builder_location(struct profile_builder *builder, uint32_t source, const struct mapping *mapping,
				  uint64_t pc);
// After the last location: why names are missing, module by module, as comments of the profile.
void profile_builder_add_notes(struct profile_builder *builder);
// Says in the profile what each mapping's names come from, and what would help where names are missing (profile_explain_mapping). Once,
// after the last location; may read the lists of packages.
void profile_builder_explain(struct profile_builder *builder);

#endif

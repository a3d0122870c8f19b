// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pseudo_frame.c: see pseudo_frame.h. Their addresses are those of no program's: in the half that the kernel keeps for itself.

#include "formats/pseudo_frame.h"

#include <stdio.h>
#include <string.h>

#include "formats/label_text.h"
#include "formats/profile.h"

#define FIRST_ADDRESS 0xffffe00000000000ull
#define MAPPING_BYTES 0x100000000ull // each; a frame is as far in as its function's id says

static uint32_t find_mapping(struct profile *profile, const char *file)
{
	struct profile_mapping mapping = {.start = FIRST_ADDRESS, .file = file, .build_id = "", .has_functions = true};

	for (uint32_t i = 0; i < profile->nmappings; i++) {
		if (strcmp(profile->mappings[i].file, file) == 0 && profile->mappings[i].start >= FIRST_ADDRESS)
			return i + 1;
		if (profile->mappings[i].start >= FIRST_ADDRESS)
			mapping.start += MAPPING_BYTES;
	}
	mapping.limit = mapping.start + MAPPING_BYTES;
	return profile_add_mapping(profile, &mapping);
}

uint32_t pseudo_frame(struct profile *profile, const char *mapping, const char *name)
{
	const struct profile_function function = {.name = name, .system_name = name, .file = ""};
	struct profile_line line = {.function_id = profile_add_function(profile, &function)};
	struct profile_location location = {.mapping_id = find_mapping(profile, mapping), .nlines = 1, .lines = &line};

	if (!line.function_id || !location.mapping_id)
		return 0;
	location.address = profile->mappings[location.mapping_id - 1].start + line.function_id;
	return profile_add_location(profile, &location);
}

uint32_t pseudo_frame_seam(struct profile *profile, const char *kind)
{
	char name[64];

	snprintf(name, sizeof(name), "↳ %.32s by", kind);
	return pseudo_frame(profile, PSEUDO_CAUSAL, name);
}

uint32_t pseudo_frame_group(struct profile *profile, const char *key, const char *labels)
{
	char name[256], value[160] = "";

	label_text_find(labels, key, value, sizeof(value));
	snprintf(name, sizeof(name), "%.64s=%s", key, value);
	return pseudo_frame(profile, PSEUDO_LABEL, name);
}

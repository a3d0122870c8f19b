// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// profile_builder.c: see profile_builder.h.

#include "collector/profile_builder.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

#include "collector/jit_names.h"
#include "collector/mapping.h"
#include "collector/module.h"
#include "collector/name_advice.h"
#include "formats/profile.h"
#include "profd/wire.h"

#define MAX_NOTE (PATH_MAX + 512)

// Mappings of several processes that are alike in all of this are one in the profile. The strings are interned by the profile.
struct mapping_id {
	uint64_t start, limit, file_offset;
	const char *file, *build_id;
	uint64_t id;
	// Of locations in it, the last one's; NULL, false: there was none yet.
	const struct mapping *mapping;
	bool nameless, has_jit_names;
};
#define MAPPING_KEY_SIZE offsetof(struct mapping_id, id)

void profile_builder_init(struct profile_builder *builder, struct profile *profile)
{
	*builder = (struct profile_builder){.profile = profile, .budget.max = SIZE_MAX};
	intern_init(&builder->mappings, sizeof(struct mapping_id), MAPPING_KEY_SIZE, &builder->budget);
	intern_init(&builder->modules, sizeof(struct module *), sizeof(struct module *), &builder->budget);
}

void profile_builder_finish(struct profile_builder *builder)
{
	intern_finish(&builder->mappings);
	intern_finish(&builder->modules);
}

static struct mapping_id *intern_mapping(struct profile_builder *builder, const struct mapping *mapping)
{
	struct profile *profile = builder->profile;
	const struct mapping_id key = {
		.start = mapping->start,
		.limit = mapping->end,
		.file_offset = mapping->file_offset,
		.file = profile_string(profile, mapping->path[0] ? mapping->path : "[anonymous]"),
		.build_id = profile_string(profile, mapping->module ? module_build_id(mapping->module) : ""),
	};
	const struct profile_mapping added = {
		.start = key.start,
		.limit = key.limit,
		.file_offset = key.file_offset,
		.file = key.file,
		.build_id = key.build_id,
	};
	uint32_t index = intern_add(&builder->mappings, &key, NULL);
	struct mapping_id *item;

	if (index == INTERN_NONE)
		return NULL;
	item = intern_item(&builder->mappings, index);
	if (item->id == 0)
		item->id = profile_add_mapping(profile, &added);
	return item->id ? item : NULL;
}

uint32_t profile_builder_mapping(struct profile_builder *builder, const struct mapping *mapping)
{
	const struct mapping_id *item = intern_mapping(builder, mapping);

	return item ? (uint32_t)item->id : 0;
}

static void note_found(struct profile_builder *builder, const struct mapping_id *item,
		       const struct module_frame *frames, size_t n, bool dwarf)
{
	struct profile_mapping *shown = &builder->profile->mappings[item->id - 1];

	shown->has_functions = true;
	for (size_t i = 0; i < n; i++) {
		shown->has_filenames |= frames[i].file && frames[i].file[0];
		shown->has_line_numbers |= frames[i].line > 0;
	}
	// With DWARF at hand inlined calls were looked for, whether there were any or not.
	shown->has_inline_frames |= dwarf && shown->has_line_numbers;
}

static size_t add_lines(struct profile_builder *builder, const struct module_frame *frames, size_t n,
			struct profile_line *lines)
{
	for (size_t i = 0; i < n; i++) {
		const struct profile_function function = {
			.name = frames[i].name,
			.system_name = frames[i].system_name,
			.file = frames[i].file ? frames[i].file : "",
			.start_line = frames[i].start_line,
		};

		lines[i].function_id = profile_add_function(builder->profile, &function);
		lines[i].line = frames[i].line;
		if (lines[i].function_id == 0)
			return 0;
	}
	return n;
}

// Code that no file is behind: what a JIT compiler says of it.
static size_t name_generated(struct profile_builder *builder, uint32_t source, uint64_t address,
			     struct module_frame *frame, bool *ret_has_names)
{
	const struct jit_names *names =
		builder->jit_names ? builder->jit_names(builder->context, source, address) : NULL;
	struct jit_found found;

	*ret_has_names = names != NULL;
	if (!names || !jit_names_find(names, address, &found))
		return 0;
	*frame = (struct module_frame){
		.name = found.name, .system_name = found.name, .file = found.file, .line = found.line};
	return 1;
}

static uint32_t add_location(struct profile_builder *builder, uint32_t source, const struct mapping *mapping,
			     struct mapping_id *item, const struct profile_location *bare)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	struct profile_line lines[MODULE_MAX_INLINE];
	struct profile_location location = *bare;
	bool dwarf = false, has_jit_names = false;
	size_t n = 0;

	if (mapping && mapping->module) {
		(void)intern_add(&builder->modules, &mapping->module, NULL);
		n = module_symbolize(mapping->module, location.address - mapping->bias, frames, MODULE_MAX_INLINE);
		dwarf = n > 0 && module_symbols(mapping->module) == MODULE_SYMBOLS_DWARF;
	} else {
		n = name_generated(builder, source, location.address, &frames[0], &has_jit_names);
	}
	if (item) {
		item->mapping = mapping;
		item->nameless |= n == 0;
		item->has_jit_names |= has_jit_names;
	}
	if (n > 0 && item)
		note_found(builder, item, frames, n, dwarf);
	location.nlines = (uint32_t)add_lines(builder, frames, n, lines);
	location.lines = lines;
	return profile_add_location(builder->profile, &location);
}

// A return address is shown, and looked up, as the last byte of its call.
uint32_t profile_builder_location(struct profile_builder *builder, uint32_t source, const struct mapping *mapping,
				  uint64_t pc)
{
	struct profile_location location = {.address = pc & ~WIRE_PC_EXACT};
	struct mapping_id *item = mapping ? intern_mapping(builder, mapping) : NULL;
	uint32_t id;

	if (!(pc & WIRE_PC_EXACT) && location.address > 0)
		location.address--;
	location.mapping_id = item ? (uint32_t)item->id : 0;
	id = profile_find_location(builder->profile, location.mapping_id, location.address);
	return id ? id : add_location(builder, source, mapping, item, &location);
}

// ---- Where names are missing -----------------------------------------------------------------------------------------

static void prepare_advice(struct profile_builder *builder)
{
	const struct mapping **nameless = calloc((size_t)builder->mappings.count + 1, sizeof(*nameless));
	size_t n = 0;

	for (uint32_t i = 0; nameless && i < builder->mappings.count; i++) {
		const struct mapping_id *item = intern_item(&builder->mappings, i);

		if (item->nameless)
			nameless[n++] = item->mapping;
	}
	if (n > 0)
		name_advice_prepare(nameless, n);
	free(nameless);
}

void profile_builder_explain(struct profile_builder *builder)
{
	char advice[256];

	prepare_advice(builder);
	for (uint32_t i = 0; i < builder->mappings.count; i++) {
		const struct mapping_id *item = intern_item(&builder->mappings, i);

		advice[0] = '\0';
		if (!item->mapping)
			continue;
		if (item->nameless)
			name_advice(item->mapping, item->has_jit_names, advice, sizeof(advice));
		profile_explain_mapping(builder->profile, (uint32_t)item->id,
					name_advice_source(item->mapping, item->has_jit_names), advice);
	}
}

void profile_builder_add_notes(struct profile_builder *builder)
{
	char note[MAX_NOTE];

	for (uint32_t i = 0; i < builder->modules.count; i++) {
		struct module *const *module = intern_item(&builder->modules, i);

		if (module_note(*module, note, sizeof(note)))
			profile_add_comment(builder->profile, "%s", note);
	}
}

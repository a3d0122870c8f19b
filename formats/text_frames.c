// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// text_frames.c: see text_frames.h.

#include "formats/text_frames.h"

#include <inttypes.h>

#include "formats/utf8.h"

void text_put_part(struct writer *writer, const char *text, size_t size)
{
	const char *end = text + size;

	for (const char *from = text; from < end;) {
		const char *at = from;
		int step = 1;

		while (at < end && (step = utf8_step(at)) > 0 && (unsigned char)*at >= ' ' && *at != 0x7f)
			at += step;
		writer_put(writer, from, (size_t)(at - from));
		if (at >= end)
			return;
		writer_puts(writer, step > 0 ? "_" : UTF8_REPLACEMENT);
		from = at + (step > 0 ? step : -step);
	}
}

void text_put_clean(struct writer *writer, const char *text)
{
	text_put_part(writer, text, utf8_prefix(text, TEXT_NAME_MAX));
}

uint64_t text_module_offset(const struct profile *profile, const struct profile_location *location)
{
	const struct profile_mapping *mapping =
		location->mapping_id ? &profile->mappings[location->mapping_id - 1] : NULL;

	return mapping ? location->address - mapping->start + mapping->file_offset : location->address;
}

int64_t text_line_number(const struct profile_location *location, uint32_t i)
{
	return location->lines[i].line > 0 ? location->lines[i].line : 0;
}

const char *text_line_file(const struct profile *profile, const struct profile_location *location, uint32_t i)
{
	uint32_t id = i < location->nlines ? location->lines[i].function_id : 0;

	return id ? profile->functions[id - 1].file : "";
}

void text_put_location(struct writer *writer, const struct profile *profile, const struct profile_location *location)
{
	char name[TEXT_NAME_MAX];

	for (uint32_t i = 0; i < (location->nlines ? location->nlines : 1); i++) {
		const char *file = text_line_file(profile, location, i);

		writer_printf(writer, "#\t0x%" PRIx64 "\t", location->address);
		text_put_clean(writer, profile_frame_name(profile, location, i, name, sizeof(name)));
		// A name without a symbol has its offset already.
		if (i < location->nlines)
			writer_printf(writer, "+0x%" PRIx64, text_module_offset(profile, location));
		writer_puts(writer, "\t");
		text_put_clean(writer, file[0] ? file : "??");
		writer_printf(writer, ":%" PRId64 "\n", file[0] ? text_line_number(location, i) : 0);
	}
}

void text_put_comments(struct writer *writer, const struct profile *profile)
{
	for (uint32_t i = 0; i < profile->ncomments; i++) {
		writer_puts(writer, "# ");
		text_put_clean(writer, profile->comments[i]);
		writer_puts(writer, "\n");
	}
}

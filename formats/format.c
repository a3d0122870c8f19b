// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// format.c: which formats there are, by name and by a file's extension. See writer.h.

#include "formats/writer.h"

#include <stdbool.h>
#include <string.h>

static const struct format *const formats[] = {&format_pprof, &format_folded, &format_svg, &format_html,
					       &format_speedscope};
#define NFORMATS (sizeof(formats) / sizeof(formats[0]))

// Besides each format's own.
static const struct {
	const char *extension;
	const struct format *format;
} more_extensions[] = {{".pprof", &format_pprof}, {".pb", &format_pprof}, {".txt", &format_folded}};

const struct format *format_by_name(const char *name)
{
	for (size_t i = 0; name && i < NFORMATS; i++) {
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	}
	return NULL;
}

// The extension's length, when the path ends in it.
static size_t match_extension(const char *path, const char *extension)
{
	size_t path_length = strlen(path), length = strlen(extension);
	return path_length >= length && strcmp(path + path_length - length, extension) == 0 ? length : 0;
}

const struct format *format_by_path(const char *path)
{
	const struct format *best = NULL;
	size_t best_length = 0;

	for (size_t i = 0; path && i < NFORMATS + sizeof(more_extensions) / sizeof(more_extensions[0]); i++) {
		bool own = i < NFORMATS;
		size_t length =
			match_extension(path, own ? formats[i]->extension : more_extensions[i - NFORMATS].extension);
		if (length > best_length) {
			best_length = length;
			best = own ? formats[i] : more_extensions[i - NFORMATS].format;
		}
	}
	return best;
}

const char *format_names(void)
{
	return "pprof, folded, svg, html, speedscope";
}

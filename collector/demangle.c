// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// demangle.c: see demangle.h. Thread-safe.

#include "collector/demangle.h"

#include <stdlib.h>
#include <string.h>

#include <libiberty/demangle.h>

#define MAX_MANGLED 8192    // bytes
#define MAX_DEMANGLED 16384 // bytes shown; what is longer is cut and marked

// Substitutions can make a short name exponentially long: the demangler is fed through its callback, which stops at a limit.
struct output {
	char *text;
	size_t used;
	int overflow;
};

static void collect(const char *piece, size_t size, void *opaque)
{
	struct output *output = opaque;

	if (output->overflow || output->used + size > MAX_DEMANGLED) {
		output->overflow = 1;
		return;
	}
	memcpy(output->text + output->used, piece, size);
	output->used += size;
}

static int run(const char *name, struct output *output)
{
	const int options = DMGL_PARAMS | DMGL_ANSI | DMGL_TYPES;

	if (strncmp(name, "_R", 2) == 0 || strncmp(name, "_ZN", 3) == 0) {
		if (rust_demangle_callback(name, DMGL_PARAMS, collect, output))
			return 1;
		output->used = 0;
		output->overflow = 0;
	}
	return cplus_demangle_v3_callback(name, options & ~DMGL_TYPES, collect, output);
}

char *demangle(const char *name)
{
	struct output output = {0};
	char *fitted;

	// What a compiler mangles starts with _Z, _R, or (clang's blocks, Mach-O style) ___Z.
	if ((strncmp(name, "_Z", 2) != 0 && strncmp(name, "_R", 2) != 0 && strncmp(name, "___Z", 4) != 0) ||
	    strnlen(name, MAX_MANGLED) == MAX_MANGLED)
		return NULL;
	output.text = malloc(MAX_DEMANGLED + 4);
	if (!output.text)
		return NULL;
	if (!run(name, &output) || output.used == 0) {
		free(output.text);
		return NULL;
	}
	if (output.overflow) {
		memcpy(output.text + output.used, "...", 3);
		output.used += 3;
	}
	output.text[output.used] = 0;
	fitted = realloc(output.text, output.used + 1);
	return fitted ? fitted : output.text;
}

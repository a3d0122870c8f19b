// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// demangle.c: see demangle.h. Thread-safe.

#include "collector/demangle.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <libiberty/demangle.h>

#define MAX_MANGLED 8192 // bytes
#define PLT_SUFFIX "@plt"
#define MAX_DEMANGLED 16384 // bytes shown; what is longer is cut and marked

// Substitutions can make a short name exponentially long, and time with it: the demangler is fed through its callback, which
// leaves it at the limit. That is safe: libiberty's callback interface keeps its state on the stack (but for one buffer of an
// identifier in punycode, which is lost then).
struct output {
	char *text;
	size_t used;
	jmp_buf full;
};

static void collect(const char *piece, size_t size, void *opaque)
{
	struct output *output = opaque;

	if (size > MAX_DEMANGLED - output->used)
		longjmp(output->full, 1);
	if (size > 0)
		memcpy(output->text + output->used, piece, size);
	output->used += size;
}

static int run_rust(const char *name, struct output *output)
{
	if (strncmp(name, "_R", 2) != 0 && strncmp(name, "_ZN", 3) != 0)
		return 0;
	if (rust_demangle_callback(name, DMGL_PARAMS, collect, output))
		return 1;
	output->used = 0;
	return 0;
}

static int run(const char *name, struct output *output)
{
	if (setjmp(output->full)) {
		memcpy(output->text + output->used, "...", 3);
		output->used += 3;
		return 1;
	}
	return run_rust(name, output) || cplus_demangle_v3_callback(name, DMGL_PARAMS | DMGL_ANSI, collect, output);
}

bool demangle_is_mangled(const char *name)
{
	// What a compiler mangles starts with _Z, _R, or (clang's blocks, Mach-O style) ___Z.
	return strncmp(name, "_Z", 2) == 0 || strncmp(name, "_R", 2) == 0 || strncmp(name, "___Z", 4) == 0;
}

char *demangle(const char *name)
{
	struct output output = {0};
	char *fitted;

	if (!demangle_is_mangled(name) || strnlen(name, MAX_MANGLED) == MAX_MANGLED)
		return NULL;
	output.text = malloc(MAX_DEMANGLED + 4);
	if (!output.text)
		return NULL;
	if (!run(name, &output) || output.used == 0) {
		free(output.text);
		return NULL;
	}
	output.text[output.used] = 0;
	fitted = realloc(output.text, output.used + 1);
	return fitted ? fitted : output.text;
}

// Of a PLT's entry, whose name is that of the function that it jumps to, and PLT_SUFFIX.
static char *demangle_entry(const char *name, size_t length)
{
	char *function = strndup(name, length), *text = function ? demangle(function) : NULL;
	char *grown = text ? realloc(text, strlen(text) + sizeof(PLT_SUFFIX)) : NULL;

	free(function);
	if (grown)
		strcat(grown, PLT_SUFFIX); // NOLINT(clang-analyzer-security.insecureAPI.strcpy): there is room
	else
		free(text);
	return grown;
}

char *demangle_function(const char *name)
{
	size_t length = strlen(name), suffix = strlen(PLT_SUFFIX);
	char *text, *clone;

	if (length > suffix && strcmp(name + length - suffix, PLT_SUFFIX) == 0)
		return demangle_entry(name, length - suffix);
	text = demangle(name);
	clone = text ? strstr(text, " [clone ") : NULL;
	if (clone)
		*clone = '\0';
	return text;
}

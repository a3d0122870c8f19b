// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_advice.c: see name_advice.h.

#include "collector/name_advice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/mapping.h"
#include "collector/module.h"
#include "collector/package_owner.h"
#include "collector/target_root.h"

// Would debug info that is installed beside the file help?
static bool lacks_debug_info(struct module *module)
{
	return module_symbols(module) > MODULE_SYMBOLS_SYMTAB && !module_failure(module);
}

static bool is_file(const struct mapping *mapping)
{
	return mapping->module && mapping->path[0] == '/';
}

// Of the first module and those with the same root directory. Returns how many are left, which are moved to the beginning.
static size_t find_packages(struct module **modules, size_t count, struct package_query *queries)
{
	const struct target_root *root = module_root(modules[0]);
	size_t same = 0, left = 0;

	for (size_t i = 0; i < count; i++) {
		struct module *module = modules[i];

		if (module_root(module) == root)
			queries[same++] = (struct package_query){.path = target_root_inside(root, module_path(module)),
								 .of = module};
		else
			modules[left++] = module;
	}
	package_owner_find(target_root_fd(root), queries, same);
	for (size_t i = 0; i < same; i++)
		module_set_package(queries[i].of, queries[i].name);
	return left;
}

void name_advice_prepare(const struct mapping *const *mappings, size_t count)
{
	struct module **modules = calloc(count ? count : 1, sizeof(struct module *));
	struct package_query *queries = calloc(count ? count : 1, sizeof(*queries));
	size_t left = 0;

	for (size_t i = 0; modules && queries && i < count; i++)
		if (is_file(mappings[i]) && !module_package(mappings[i]->module) &&
		    lacks_debug_info(mappings[i]->module))
			modules[left++] = mappings[i]->module;
	while (left > 0)
		left = find_packages(modules, left, queries);
	free(modules);
	free(queries);
}

const char *name_advice_source(const struct mapping *mapping, bool has_jit_names)
{
	static const char *const sources[] = {
		[MODULE_SYMBOLS_DWARF] = "DWARF",    [MODULE_SYMBOLS_LINES] = "DWARF with lines only",
		[MODULE_SYMBOLS_SYMTAB] = ".symtab", [MODULE_SYMBOLS_MINIDEBUG] = ".gnu_debugdata",
		[MODULE_SYMBOLS_DYNSYM] = ".dynsym", [MODULE_SYMBOLS_NONE] = "nothing",
	};

	if (mapping->module)
		return sources[module_symbols(mapping->module)];
	return has_jit_names ? "the program's perf map or jitdump" : "nothing";
}

static void advise_missing(struct module *module, char *buf, size_t size)
{
	const char *package = module_package(module);
	char debug_package[PACKAGE_NAME_MAX + 16];

	snprintf(buf, size, "build it with -g, and do not strip it");
	if (!package || !package[0])
		return;
	package_owner_debug_name(package, debug_package, sizeof(debug_package));
	snprintf(buf, size, "install %s%s", debug_package,
		 module_build_id(module)[0] ? ", or set DEBUGINFOD_URLS" : "");
}

static void advise_module(const struct mapping *mapping, char *buf, size_t size)
{
	const char *failure = module_failure(mapping->module);

	if (failure)
		snprintf(buf, size, "%s", failure);
	else if (!is_file(mapping))
		snprintf(buf, size, "the kernel names no more of it");
	else if (lacks_debug_info(mapping->module))
		advise_missing(mapping->module, buf, size);
	else
		snprintf(buf, size, "nothing there has a name: assembler, or code that the linker made");
}

void name_advice(const struct mapping *mapping, bool has_jit_names, char *buf, size_t size)
{
	if (mapping->module)
		advise_module(mapping, buf, size);
	else if (mapping->path[0] == '/' && strncmp(mapping->path, "/memfd:", 7) != 0)
		snprintf(buf, size, "the file is gone, was replaced, may not be read, or is no ELF file");
	else if (has_jit_names)
		snprintf(buf, size, "generated code that its runtime did not name");
	else
		snprintf(buf, size,
			 "generated code: have its runtime write /tmp/perf-PID.map or a jitdump (node: "
			 "--perf-basic-prof)");
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module_names.c: the names of a module: where its symbolizer finds debug info, what is downloaded for it, and why names are missing. Any
// thread; the module's lock is held while files are read.

#include "collector/module_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "collector/data_symbol.h"
#include "collector/debug_file.h"
#include "collector/log.h"
#include "collector/symbolizer.h"

// A target in a container has its debug files there, if anywhere; ours are as good when the build ID is the same.
static struct debug_places debug_places(const struct module *module)
{
	return (struct debug_places){.dirs = module->debug_dirs, .root = module->root, .downloads = module->downloads};
}

static struct symbolizer *ensure_symbolizer(struct module *module)
{
	const struct debug_places places = debug_places(module);
	uint32_t machine;

	if (!module->symbolizer)
		module->symbolizer = symbolizer_create(&module->file, module->path, module->build_id, &places,
						       module_may_cache(module, &machine) ? module->tables : NULL);
	return module->symbolizer;
}

// The vDSO (fd −1) is not: its build ID is the kernel's.
static bool may_download(const struct module *module)
{
	return module->debuginfod && module->fd >= 0 && module->build_id[0] &&
	       !symbolizer_has_dwarf(module->symbolizer);
}

// Asks debuginfod for what is not there. True: it has come since.
static bool want_download(struct module *module)
{
	enum debuginfod_state before = module->download;

	if (!may_download(module))
		return false;
	module->download = debuginfod_want(module->debuginfod, module->build_id, module->download_reason);
	return module->download == DEBUGINFOD_HERE && before != DEBUGINFOD_HERE;
}

static const char *what_is_missing(const struct module *module)
{
	return symbolizer_has_symbols_alone(module->symbolizer) ? "lines and inlined calls" : "names";
}

static void say_error(const struct module *module)
{
	const char *error = symbolizer_take_error(module->symbolizer);

	if (error)
		log_line("%s of %s are missing: %s", what_is_missing(module), module->path, error);
}

enum module_symbols module_symbols(struct module *module)
{
	struct symbolizer *symbolizer;
	enum module_symbols source = MODULE_SYMBOLS_NONE;

	pthread_mutex_lock(&module->lock);
	symbolizer = ensure_symbolizer(module);
	if (symbolizer) {
		source = symbolizer_source(symbolizer);
		say_error(module);
	}
	pthread_mutex_unlock(&module->lock);
	return source;
}

const char *module_failure(struct module *module)
{
	const char *failure = NULL;
	int64_t retry_s;

	pthread_mutex_lock(&module->lock);
	if (module->symbolizer)
		failure = symbolizer_error(module->symbolizer, &retry_s);
	pthread_mutex_unlock(&module->lock);
	return failure;
}

const char *module_package(struct module *module)
{
	const char *package;

	pthread_mutex_lock(&module->lock);
	package = module->package;
	pthread_mutex_unlock(&module->lock);
	return package;
}

void module_set_package(struct module *module, const char *package)
{
	pthread_mutex_lock(&module->lock);
	if (!module->package)
		module->package = strdup(package);
	pthread_mutex_unlock(&module->lock);
}

void module_prepare(struct module *module, const uint64_t *vaddrs, size_t count)
{
	pthread_mutex_lock(&module->lock);
	if (count && ensure_symbolizer(module)) {
		symbolizer_look_again(module->symbolizer, want_download(module));
		symbolizer_prepare(module->symbolizer, vaddrs, count);
		say_error(module);
	}
	pthread_mutex_unlock(&module->lock);
}

void module_seek(struct module *module)
{
	if (__atomic_exchange_n(&module->sought, true, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&module->lock);
	if (ensure_symbolizer(module))
		(void)want_download(module);
	pthread_mutex_unlock(&module->lock);
}

// What went wrong comes before what is not there.
static bool describe(const struct module *module, char *buf, size_t size)
{
	int64_t retry_s = 0;
	const char *error = symbolizer_error(module->symbolizer, &retry_s);
	bool asked = may_download(module);

	if (error)
		snprintf(buf, size,
			 "%s of %s are missing: %s; it is read again in %" PRId64 " s, or when its debug info changes",
			 what_is_missing(module), module->path, error, retry_s);
	else if (asked && module->download == DEBUGINFOD_WANTED)
		snprintf(buf, size, "debug info of %s is being downloaded: later profiles have its names",
			 module->path);
	else if (asked && module->download == DEBUGINFOD_NONE)
		snprintf(buf, size, "debug info of %s is not here, and no debuginfod server has it", module->path);
	else if (asked && module->download == DEBUGINFOD_FAILED)
		snprintf(buf, size, "debug info of %s could not be downloaded: %s", module->path,
			 module->download_reason);
	else
		return false;
	return true;
}

bool module_note(struct module *module, char *buf, size_t size)
{
	bool said;

	pthread_mutex_lock(&module->lock);
	said = module->symbolizer && describe(module, buf, size);
	pthread_mutex_unlock(&module->lock);
	return said;
}

size_t module_symbolize(struct module *module, uint64_t vaddr, struct module_frame *frames, size_t max)
{
	struct symbolizer *symbolizer;
	size_t count = 0;

	pthread_mutex_lock(&module->lock);
	symbolizer = ensure_symbolizer(module);
	if (symbolizer && max) {
		count = symbolizer_find(symbolizer, vaddr, frames, max);
		say_error(module);
	}
	pthread_mutex_unlock(&module->lock);
	return count;
}

static bool is_writable(const struct module *module, uint64_t vaddr)
{
	for (size_t i = 0; i < module->nsegments; i++) {
		const struct segment *segment = &module->segments[i];

		if (segment->writable && vaddr >= segment->vaddr && vaddr - segment->vaddr < segment->memory_size)
			return true;
	}
	return false;
}

bool module_variable(struct module *module, uint64_t vaddr, char *buf, size_t size)
{
	struct elf_file debug = {0};
	const struct debug_places places = debug_places(module);
	bool found;

	if (!is_writable(module, vaddr))
		return false;
	pthread_mutex_lock(&module->lock);
	found = data_symbol_find(&module->file, vaddr, buf, size);
	if (!found) {
		if (debug_file_find(&module->file, module->path, module->build_id, &places, &debug) == 0)
			found = data_symbol_find(&debug, vaddr, buf, size);
		elf_file_close(&debug);
	}
	pthread_mutex_unlock(&module->lock);
	return found;
}

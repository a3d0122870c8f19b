// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_elf.c: any bytes as the ELF file behind a mapping: opened as a module, with its bias and unwind table; its build ID, sections,
// symbols, MiniDebugInfo and what `profd check` says of it. All of that runs in the collector itself, not in the worker that reads DWARF.

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "collector/debug_file.h"
#include "collector/elf_check.h"
#include "collector/elf_file.h"
#include "collector/interval_map.h"
#include "collector/maps.h"
#include "collector/module.h"
#include "collector/symbol_table.h"
#include "collector/table_cache.h"
#include "tests/fuzz/fuzz.h"

uint64_t fuzz_got_through;

static int make_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	return fd;
}

static void check_symbols(const struct elf_file *file, uint32_t type)
{
	const struct symbol_source source = {file, type};
	struct symbol_table *table = symbol_table_create(&source, 1);
	const struct interval_edge *edges;
	size_t count = table ? symbol_table_edges(table, &edges) : 0;

	for (size_t i = 0; i < count; i++) {
		const struct symbol *symbol = symbol_table_get(table, edges[i].value);

		FUZZ_CHECK(i == 0 || edges[i - 1].start < edges[i].start);
		FUZZ_CHECK(!symbol || (symbol->name[0] && symbol->start <= symbol->end));
		FUZZ_CHECK(symbol_table_find(table, edges[i].start) == symbol);
	}
	symbol_table_destroy(table);
}

static void check_file(int fd)
{
	char build_id[ELF_BUILD_ID_HEX];
	struct elf_file file = {.fd = -1}, mini = {.fd = -1};

	if (elf_file_open(dup(fd), &file) < 0)
		return;
	elf_file_build_id(&file, build_id);
	FUZZ_CHECK(strlen(build_id) < sizeof(build_id) && strlen(build_id) % 2 == 0);
	debug_file_has_dwarf(&file);
	check_symbols(&file, SHT_SYMTAB);
	check_symbols(&file, SHT_DYNSYM);
	if (debug_file_mini(&file, &mini) == 0) {
		check_symbols(&mini, SHT_SYMTAB);
		elf_file_close(&mini);
	}
	elf_file_close(&file);
}

static void check_module(int fd)
{
	static struct table_cache *tables; // keeps nothing
	struct module_cache *cache = module_cache_create(NULL, NULL);
	struct maps_entry entry = {.start = 0x7f0000000000, .end = 0x7f0000010000, .perms = "r-xp"};
	struct module *module;
	struct stat st;
	char path[32];
	int error;

	if (!tables)
		tables = table_cache_create(NULL, 0, &error);
	FUZZ_CHECK(tables && cache && fstat(fd, &st) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	entry.path = path;
	entry.inode = st.st_ino;
	entry.dev_major = major(st.st_dev);
	entry.dev_minor = minor(st.st_dev);
	if (module_cache_get(cache, getpid(), &entry, &module) == 0) {
		uint64_t bias, table_size;
		int table_fd;

		fuzz_got_through++;
		for (entry.file_offset = 0; entry.file_offset < 0x10000; entry.file_offset += 0x1000)
			(void)module_bias(module, &entry, &bias);
		if (module_table(module, tables, &table_fd, &table_size) == 0)
			FUZZ_CHECK(table_fd >= 0 && table_size > 0);
		module_unref(module);
	}
	module_cache_destroy(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = make_file(data, size);
	const struct debug_places places = {.dirs = "/nonexistent"};
	struct check_report report;

	check_file(fd);
	check_module(fd);
	if (elf_check(dup(fd), "/nowhere/file", &places, &report) == 0)
		FUZZ_CHECK(report.count <= CHECK_MAX_FINDINGS);
	close(fd);
	return 0;
}

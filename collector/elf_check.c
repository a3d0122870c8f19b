// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// elf_check.c: see elf_check.h. Nothing in the file is trusted: what is read of it is bounded, names are printed clean by who prints.

#include "collector/elf_check.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/cfi_table.h"
#include "profd/wire.h"

#define DEBUG_DIRS "/usr/lib/debug"
#define FUNCTIONS_LOOKED_AT 2000u
#define START_BYTES 48u
#define UNITS_LOOKED_AT 10000u
#define COVERED_WELL 99.0      // percent
#define START_FILES_BYTES 512u // of code without call frame information, which the C library's start files bring along
#define COVERED_MOSTLY 90.0

struct checked {
	struct elf_file file;
	GElf_Ehdr header;
	struct stat status;
	struct check_report *report;
	const struct debug_places *places;
	bool has_interpreter, has_dynamic, has_soname, is_pie, has_relr;
};

void check_report_add(struct check_report *report, enum check_level level, const char *topic, const char *advice,
		      const char *fmt, ...)
{
	struct check_finding *finding = &report->findings[report->count];
	va_list args;

	if (report->count == CHECK_MAX_FINDINGS)
		return;
	report->count++;
	finding->level = level;
	finding->topic = topic;
	snprintf(finding->advice, sizeof(finding->advice), "%s", advice);
	va_start(args, fmt);
	vsnprintf(finding->text, sizeof(finding->text), fmt, args);
	va_end(args);
}

enum check_level check_report_level(const struct check_report *report)
{
	enum check_level worst = CHECK_GOOD;

	for (size_t i = 0; i < report->count; i++)
		if (report->findings[i].level > worst)
			worst = report->findings[i].level;
	return worst;
}

const char *check_level_name(enum check_level level)
{
	static const char *const names[] = {"good", "note", "poor", "bad"};

	return names[level];
}

// ---- What it is ------------------------------------------------------------------------------------------------------

static void read_dynamic(struct checked *checked, const GElf_Phdr *segment)
{
	Elf_Data *data =
		elf_getdata_rawchunk(checked->file.elf, (int64_t)segment->p_offset, segment->p_filesz, ELF_T_DYN);
	size_t count = data ? data->d_size / sizeof(Elf64_Dyn) : 0;

	checked->has_dynamic = true;
	for (size_t i = 0; i < count && i < 10000; i++) {
		GElf_Dyn entry;

		if (!gelf_getdyn(data, (int)i, &entry) || entry.d_tag == DT_NULL)
			return;
		checked->has_soname |= entry.d_tag == DT_SONAME;
		checked->is_pie |= entry.d_tag == DT_FLAGS_1 && (entry.d_un.d_val & DF_1_PIE);
		checked->has_relr |= entry.d_tag == DT_RELR;
	}
}

static void read_segments(struct checked *checked)
{
	size_t count = 0;

	elf_getphdrnum(checked->file.elf, &count);
	for (size_t i = 0; i < count && i < 10000; i++) {
		GElf_Phdr segment;

		if (!gelf_getphdr(checked->file.elf, (int)i, &segment))
			continue;
		checked->has_interpreter |= segment.p_type == PT_INTERP;
		if (segment.p_type == PT_DYNAMIC)
			read_dynamic(checked, &segment);
	}
}

// ---- Can its stacks be unwound? ------------------------------------------------------------------------------------

static uint64_t code_bytes(const struct checked *checked)
{
	Elf_Scn *section = NULL;
	uint64_t bytes = 0;

	while ((section = elf_nextscn(checked->file.elf, section))) {
		GElf_Shdr header;

		if (gelf_getshdr(section, &header) && (header.sh_flags & SHF_EXECINSTR) &&
		    header.sh_type == SHT_PROGBITS && header.sh_size <= (uint64_t)checked->status.st_size)
			bytes += header.sh_size;
	}
	return bytes;
}

// Bytes of code that the table has a rule for.
static uint64_t covered_bytes(const struct wire_table *table)
{
	const struct wire_row *rows = wire_table_rows(table);
	uint64_t bytes = 0, since = 0;
	bool covered = false;

	for (uint32_t block = 0; block < table->npages * WIRE_PAGE_BLOCKS; block++) {
		for (uint32_t i = wire_table_block_start(table, block); i < wire_table_block_end(table, block); i++) {
			uint64_t at = table->text_start + ((uint64_t)block << WIRE_TABLE_BLOCK_BITS) + rows[i].offset;

			bytes += covered ? at - since : 0;
			covered = rows[i].number != 0;
			since = at;
		}
	}
	return bytes + (covered ? table->text_end - since : 0);
}

// Percent of its code; −1: there is no call frame information, or none that can be used.
static double cfi_share(const struct checked *checked)
{
	uint64_t all = code_bytes(checked), covered;
	struct wire_table *table;
	size_t size;

	if (cfi_table_build(checked->file.elf, &table, &size) < 0)
		return -1;
	covered = cfi_table_check(table, size) == 0 ? covered_bytes(table) : 0;
	free(table);
	if (covered == 0)
		return -1;
	if (covered + START_FILES_BYTES >= all)
		return 100;
	return 100.0 * (double)covered / (double)all;
}

// push %rbp; mov %rsp,%rbp, near its start: what needs no frame may come before.
static bool has_frame(const uint8_t *code, size_t size)
{
	static const uint8_t frame[] = {0x55, 0x48, 0x89, 0xe5};

	return memmem(code, size, frame, sizeof(frame)) != NULL;
}

// The function's first bytes; NULL: not in this file.
static const uint8_t *code_at(const struct checked *checked, const GElf_Sym *symbol, size_t *ret_size)
{
	Elf_Scn *section = elf_getscn(checked->file.elf, symbol->st_shndx);
	Elf_Data *data = section ? elf_rawdata(section, NULL) : NULL;
	GElf_Shdr header;

	if (!data || !data->d_buf || !gelf_getshdr(section, &header) || !(header.sh_flags & SHF_EXECINSTR) ||
	    symbol->st_value < header.sh_addr || symbol->st_value - header.sh_addr > data->d_size)
		return NULL;
	*ret_size = data->d_size - (symbol->st_value - header.sh_addr);
	if (*ret_size > symbol->st_size)
		*ret_size = symbol->st_size;
	if (*ret_size > START_BYTES)
		*ret_size = START_BYTES;
	return (const uint8_t *)data->d_buf + (symbol->st_value - header.sh_addr);
}

// Percent of the functions that begin as with -fno-omit-frame-pointer; −1: not known.
static double frame_pointer_share(const struct checked *checked)
{
	GElf_Shdr header;
	Elf_Scn *section = elf_file_section(&checked->file, ".symtab", &header);
	Elf_Data *data;
	unsigned seen = 0, with = 0;

	if (!section)
		section = elf_file_section(&checked->file, ".dynsym", &header);
	// A section that has no bytes in the file may say that it has any number.
	data = section && header.sh_type != SHT_NOBITS ? elf_getdata(section, NULL) : NULL;
	for (size_t i = 0; data && data->d_buf && i < data->d_size / sizeof(Elf64_Sym) && seen < FUNCTIONS_LOOKED_AT;
	     i++) {
		const uint8_t *code;
		GElf_Sym symbol;
		size_t size;

		if (!gelf_getsym(data, (int)i, &symbol) || GELF_ST_TYPE(symbol.st_info) != STT_FUNC ||
		    symbol.st_size < 16)
			continue;
		code = code_at(checked, &symbol, &size);
		if (!code)
			continue;
		seen++;
		with += has_frame(code, size);
	}
	return seen >= 10 ? 100.0 * with / seen : -1;
}

static void check_unwinding(struct checked *checked)
{
	static const char advice[] =
		"build it with -fasynchronous-unwind-tables (the default) and do not strip .eh_frame; "
		"or with -fno-omit-frame-pointer";
	double cfi = cfi_share(checked), fp = frame_pointer_share(checked);
	enum check_level level = cfi >= COVERED_WELL                             ? CHECK_GOOD
				 : cfi >= COVERED_MOSTLY || fp >= COVERED_MOSTLY ? CHECK_NOTE
										 : CHECK_POOR;
	char frames[64] = "";

	if (fp >= 0)
		snprintf(frames, sizeof(frames), "; %.0f%% of its functions keep a frame pointer", fp);
	if (cfi < 0)
		check_report_add(checked->report, level, "unwinding", advice, "no call frame information%s", frames);
	else
		check_report_add(checked->report, level, "unwinding", level == CHECK_POOR ? advice : "",
				 "call frame information for %.1f%% of its code%s", cfi, frames);
}

// ---- Will its frames have names? -----------------------------------------------------------------------------------

static void check_build_id(struct checked *checked)
{
	elf_file_build_id(&checked->file, checked->report->build_id);
	if (checked->report->build_id[0])
		check_report_add(checked->report, CHECK_GOOD, "build ID", "", "%s", checked->report->build_id);
	else
		check_report_add(checked->report, CHECK_NOTE, "build ID", "link it with -Wl,--build-id",
				 "none: separate debug info is not found by it, and what is made of the file is not "
				 "kept for the next time");
}

// Units whose DWARF is in .dwo files; the others.
static void count_units(const struct elf_file *file, unsigned *ret_split, unsigned *ret_whole)
{
	Dwarf *dwarf = dwarf_begin_elf(file->elf, DWARF_C_READ, NULL);
	Dwarf_CU *unit = NULL;
	Dwarf_Die die;
	uint8_t type;

	*ret_split = *ret_whole = 0;
	for (unsigned i = 0; dwarf && i < UNITS_LOOKED_AT; i++) {
		if (dwarf_get_units(dwarf, unit, &unit, NULL, &type, &die, NULL) != 0)
			break;
		if (type == DW_UT_skeleton)
			(*ret_split)++;
		else
			(*ret_whole)++;
	}
	dwarf_end(dwarf);
}

static void check_dwarf(struct checked *checked, const struct elf_file *file, const char *where)
{
	unsigned split, whole;
	struct elf_file alt;
	GElf_Shdr header;

	if (!elf_file_section(file, ".debug_line", &header)) {
		check_report_add(checked->report, CHECK_NOTE, "names", "build it with -g",
				 "debug info %s has functions, but no lines", where);
		return;
	}
	count_units(file, &split, &whole);
	if (split > whole)
		check_report_add(checked->report, CHECK_NOTE, "names",
				 "keep the .dwo files where they were built, or a .dwp file beside the program",
				 "debug info %s is split: %u of %u units are in .dwo files", where, split,
				 split + whole);
	else if (elf_file_section(file, ".gnu_debugaltlink", &header) &&
		 debug_file_alt(file, checked->places, &alt) < 0)
		check_report_add(checked->report, CHECK_NOTE, "names", "install the package of that debug info again",
				 "debug info %s lacks the part that it shares with other files (.gnu_debugaltlink)",
				 where);
	else
		check_report_add(checked->report, CHECK_GOOD, "names", "", "functions, inlined functions and lines, %s",
				 where);
	if (elf_file_section(file, ".gnu_debugaltlink", &header) && debug_file_alt(file, checked->places, &alt) == 0)
		elf_file_close(&alt);
}

static void check_tables(struct checked *checked)
{
	char advice[256] = "do not strip it, or keep its debug info";
	struct elf_file mini = {.fd = -1};
	GElf_Shdr header;

	checked->report->lacks_debug_info = true;
	if (checked->report->build_id[0])
		snprintf(advice, sizeof(advice),
			 "install its debug info (Debian: package NAME-dbgsym) as " DEBUG_DIRS
			 "/.build-id/%.2s/%s.debug, or build it with -g",
			 checked->report->build_id, checked->report->build_id + 2);
	if (elf_file_section(&checked->file, ".symtab", &header)) {
		check_report_add(checked->report, CHECK_NOTE, "names", advice,
				 "functions (.symtab); no lines and no inlined functions");
	} else if (debug_file_mini(&checked->file, &mini) == 0) {
		check_report_add(checked->report, CHECK_NOTE, "names", advice,
				 "functions (.gnu_debugdata); no lines and no inlined functions");
		elf_file_close(&mini);
	} else if (elf_file_section(&checked->file, ".dynsym", &header)) {
		check_report_add(checked->report, checked->report->is_library ? CHECK_NOTE : CHECK_POOR, "names",
				 advice, "only exported functions (.dynsym): others show as %s+0x1234",
				 strrchr(checked->report->path, '/') ? strrchr(checked->report->path, '/') + 1
								     : checked->report->path);
	} else {
		check_report_add(checked->report, CHECK_POOR, "names", advice,
				 "none: frames show as offsets in the file");
	}
}

static void check_names(struct checked *checked)
{
	const char *path = checked->report->path;
	struct elf_file separate = {.fd = -1};
	size_t sections = 0;

	elf_getshdrnum(checked->file.elf, &sections);
	if (sections == 0) {
		check_report_add(checked->report, CHECK_POOR, "names", "profile the file before it was packed",
				 "it has no sections (packed, or stripped of them): no names");
	} else if (debug_file_has_dwarf(&checked->file)) {
		check_dwarf(checked, &checked->file, "in the file itself");
	} else if (debug_file_find(&checked->file, path, checked->report->build_id, checked->places, &separate) == 0) {
		if (debug_file_has_dwarf(&separate))
			check_dwarf(checked, &separate, "in a separate file");
		else
			check_report_add(checked->report, CHECK_NOTE, "names", "build it with -g",
					 "functions, in a separate file; no lines and no inlined functions");
		elf_file_close(&separate);
	} else {
		check_tables(checked);
	}
}

// ---- All of it -----------------------------------------------------------------------------------------------------

int elf_check(int fd, const char *path, const struct debug_places *places, struct check_report *ret_report)
{
	struct checked checked = {.report = ret_report, .places = places};
	int r;

	*ret_report = (struct check_report){0};
	snprintf(ret_report->path, sizeof(ret_report->path), "%s", path);
	if (fstat(fd, &checked.status) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	r = elf_file_open(fd, &checked.file);
	if (r < 0)
		return r;
	if (!gelf_getehdr(checked.file.elf, &checked.header) ||
	    (checked.header.e_type != ET_EXEC && checked.header.e_type != ET_DYN)) {
		elf_file_close(&checked.file);
		return -ENOEXEC;
	}
	read_segments(&checked);
	ret_report->is_library = checked.header.e_type == ET_DYN && checked.has_dynamic && !checked.is_pie &&
				 (checked.has_soname || !checked.has_interpreter);
	if (checked.has_relr)
		check_report_add(ret_report, CHECK_GOOD, "relocations", "", "packed (DT_RELR), which does no harm");
	check_build_id(&checked);
	check_unwinding(&checked);
	check_names(&checked);
	elf_file_close(&checked.file);
	return 0;
}

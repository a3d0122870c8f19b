// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_sections.c: see dwarf_sections.h. Any thread; threads of its own touch the file's bytes and their own part, never libelf.

#include "collector/dwarf_sections.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif
#ifdef HAVE_LIBZSTD
#include <zstd.h>
#endif

#define MAX_UNPACKED (4ULL << 30)
#define MAX_RATIO_DEFLATE 1040 // it cannot do better than 1032:1
#define MAX_RATIO_ZSTD 43700   // nor this than a block of 128 KiB from 3 bytes
#define COMPRESSED_ZSTD 2      // ELFCOMPRESS_ZSTD, which Debian 12's elf.h does not have
#define MAX_THREADS 4
#define THREADS_FROM (1u << 20) // bytes unpacked; below, one does it

static const char *const names[DWARF_SECTIONS] = {
	[DWARF_INFO] = "info",         [DWARF_ABBREV] = "abbrev", [DWARF_LINE] = "line",
	[DWARF_LINE_STR] = "line_str", [DWARF_STR] = "str",       [DWARF_RANGES] = "ranges",
	[DWARF_RNGLISTS] = "rnglists", [DWARF_ADDR] = "addr",     [DWARF_STR_OFFSETS] = "str_offsets",
	[DWARF_CU_INDEX] = "cu_index",
};

struct part {
	enum dwarf_section section;
	const uint8_t *packed;
	uint64_t packed_size, size;
	uint64_t place; // in what is unpacked
	bool zstd, failed;
};

struct work {
	const uint8_t *file;
	uint64_t file_size;
	struct dwarf_sections *sections;
	struct part parts[DWARF_SECTIONS]; // the packed ones
	uint32_t count;
	uint32_t next; // atomic: the part to do next
};

// ---- What there is -------------------------------------------------------------------------------------------------

// Takes the header off a compressed section's data. False: not one that we can read.
static bool open_packed(const uint8_t *data, uint64_t size, bool gnu, struct part *part)
{
	union {
		Elf64_Chdr elf;
		struct {
			char magic[4];
			uint64_t size; // big-endian
		} __attribute__((packed)) gnu;
	} start;
	size_t length = gnu ? sizeof(start.gnu) : sizeof(start.elf);

	if (size < length)
		return false;
	memcpy(&start, data, length);
	part->zstd = !gnu && start.elf.ch_type == COMPRESSED_ZSTD;
	if (gnu ? memcmp(start.gnu.magic, "ZLIB", 4) != 0 : !part->zstd && start.elf.ch_type != ELFCOMPRESS_ZLIB)
		return false;
	part->size = gnu ? be64toh(start.gnu.size) : start.elf.ch_size;
	part->packed = data + length;
	part->packed_size = size - length;
	return part->size > 0 && part->size / (part->zstd ? MAX_RATIO_ZSTD : MAX_RATIO_DEFLATE) <= part->packed_size;
}

// DWARF_SECTIONS: none of ours.
static enum dwarf_section find_wanted(const char *name, bool split, bool *ret_gnu)
{
	size_t length = strlen(name), dwo = length > 4 && strcmp(name + length - 4, ".dwo") == 0 ? 4 : 0;
	enum dwarf_section found = DWARF_INFO;

	*ret_gnu = strncmp(name, ".zdebug_", 8) == 0;
	if (!*ret_gnu && strncmp(name, ".debug_", 7) != 0)
		return DWARF_SECTIONS;
	name += *ret_gnu ? 8 : 7;
	length = strlen(name) - dwo;
	while (found < DWARF_SECTIONS && (strlen(names[found]) != length || strncmp(names[found], name, length) != 0))
		found++;
	// The index of a .dwp file is not itself split.
	return split == (dwo > 0) || (split && found == DWARF_CU_INDEX) ? found : DWARF_SECTIONS;
}

static bool is_taken(const struct work *work, enum dwarf_section section)
{
	for (uint32_t i = 0; i < work->count; i++)
		if (work->parts[i].section == section)
			return true;
	return work->sections->parts[section].data != NULL;
}

static void add_part(struct work *work, const GElf_Shdr *header, const char *name, bool split)
{
	bool gnu;
	enum dwarf_section section = find_wanted(name, split, &gnu);
	struct part part = {.section = section};

	if (section == DWARF_SECTIONS || is_taken(work, section) || header->sh_type == SHT_NOBITS ||
	    header->sh_size == 0 || header->sh_offset > work->file_size ||
	    header->sh_size > work->file_size - header->sh_offset)
		return;
	if (!gnu && !(header->sh_flags & SHF_COMPRESSED))
		work->sections->parts[section] =
			(struct dwarf_bytes){work->file + header->sh_offset, (size_t)header->sh_size};
	else if (open_packed(work->file + header->sh_offset, header->sh_size, gnu, &part))
		work->parts[work->count++] = part;
}

static int find_parts(const struct elf_file *file, bool split, struct work *work)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t strings;

	if (elf_getshdrstrndx(file->elf, &strings) < 0)
		return -ENOENT;
	while ((scn = elf_nextscn(file->elf, scn))) {
		const char *name = gelf_getshdr(scn, &header) ? elf_strptr(file->elf, strings, header.sh_name) : NULL;

		if (name)
			add_part(work, &header, name, split);
	}
	return is_taken(work, DWARF_INFO) ? 0 : -ENOENT;
}

// ---- Unpacking -----------------------------------------------------------------------------------------------------

static bool unpack_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
#ifdef HAVE_LIBZSTD
	static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}; // no form older than the one that is specified

	return in_size > sizeof(magic) && memcmp(in, magic, sizeof(magic)) == 0 &&
	       ZSTD_decompress(out, out_size, in, in_size) == out_size;
#else
	return false;
#endif
}

static bool unpack_deflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
#ifdef HAVE_LIBDEFLATE
	struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();
	bool ok = decompressor &&
		  libdeflate_zlib_decompress(decompressor, in, in_size, out, out_size, NULL) == LIBDEFLATE_SUCCESS;

	libdeflate_free_decompressor(decompressor);
	return ok;
#else
	uLongf size = out_size;

	return uncompress(out, &size, in, in_size) == Z_OK && size == out_size;
#endif
}

static void *fill_parts(void *context)
{
	struct work *work = context;
	uint32_t i;

	while ((i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->count) {
		struct part *part = &work->parts[i];

		uint8_t *out = (uint8_t *)work->sections->unpacked + part->place;

		part->failed = part->zstd ? !unpack_zstd(part->packed, part->packed_size, out, part->size)
					  : !unpack_deflate(part->packed, part->packed_size, out, part->size);
	}
	return NULL;
}

static void fill(struct work *work)
{
	pthread_t threads[MAX_THREADS];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int started = 0;

	if (work->sections->unpacked_size >= THREADS_FROM)
		while (started < MAX_THREADS - 1 && started + 1 < cpus && started + 1 < (int)work->count &&
		       pthread_create(&threads[started], NULL, fill_parts, work) == 0)
			started++;
	fill_parts(work);
	while (started > 0)
		pthread_join(threads[--started], NULL);
}

static int by_size(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	return (x->size < y->size) - (x->size > y->size);
}

static int place_parts(struct work *work)
{
	struct dwarf_sections *sections = work->sections;
	uint64_t at = 0;

	if (work->count == 0)
		return 0;
	// The largest first: the threads end at about the same time.
	qsort(work->parts, work->count, sizeof(work->parts[0]), by_size);
	for (uint32_t i = 0; i < work->count; i++) {
		work->parts[i].place = at;
		if (work->parts[i].size > MAX_UNPACKED - at)
			return -EFBIG;
		at = (at + work->parts[i].size + 7) & ~7ULL;
	}
	sections->unpacked = mmap(NULL, at, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sections->unpacked == MAP_FAILED) {
		sections->unpacked = NULL;
		return -ENOMEM;
	}
	sections->unpacked_size = at;
	return 0;
}

static int take_parts(struct work *work)
{
	struct dwarf_sections *sections = work->sections;

	for (uint32_t i = 0; i < work->count; i++)
		if (!work->parts[i].failed)
			sections->parts[work->parts[i].section] = (struct dwarf_bytes){
				(uint8_t *)sections->unpacked + work->parts[i].place, work->parts[i].size};
	// What was read of the packed file is not needed any more.
	if (sections->map && work->count)
		(void)madvise(sections->map, sections->map_size, MADV_DONTNEED);
	return sections->parts[DWARF_INFO].data && sections->parts[DWARF_ABBREV].data ? 0 : -EINVAL;
}

// ---- Opening -------------------------------------------------------------------------------------------------------

static int map_file(const struct elf_file *file, struct work *work)
{
	struct dwarf_sections *sections = work->sections;
	size_t size = 0;
	struct stat st;

	if (file->memory) {
		work->file = (const uint8_t *)elf_rawfile(file->elf, &size);
		work->file_size = size;
		return work->file ? 0 : -ENOENT;
	}
	if (fstat(file->fd, &st) < 0 || st.st_size <= 0)
		return -ENOENT;
	sections->map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file->fd, 0);
	if (sections->map == MAP_FAILED) {
		sections->map = NULL;
		return -ENOMEM;
	}
	sections->map_size = (size_t)st.st_size;
	work->file = sections->map;
	work->file_size = sections->map_size;
	return 0;
}

int dwarf_sections_open(const struct elf_file *file, bool split, struct dwarf_sections *ret_sections)
{
	struct dwarf_sections sections = {0};
	struct work work = {.sections = &sections};
	int error = map_file(file, &work);

	if (!error)
		error = find_parts(file, split, &work);
	if (!error)
		error = place_parts(&work);
	if (!error) {
		fill(&work);
		error = take_parts(&work);
	}
	if (error)
		dwarf_sections_close(&sections);
	else
		*ret_sections = sections;
	return error;
}

void dwarf_sections_close(struct dwarf_sections *sections)
{
	if (sections->map)
		munmap(sections->map, sections->map_size);
	if (sections->unpacked)
		munmap(sections->unpacked, sections->unpacked_size);
	*sections = (struct dwarf_sections){0};
}

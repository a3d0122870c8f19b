// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_image.c: see dwarf_image.h. The image:
//
//   Elf64_Ehdr │ section 1 … section n, each aligned to 8 │ section names │ Elf64_Shdr [1 + n + 1]
//
// Any thread; threads of its own touch the file's bytes and their own part of the image, never libelf.

#include "collector/dwarf_image.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

#define MAX_IMAGE (4ULL << 30)
#define MAX_RATIO 1040 // deflate cannot do better than 1032:1
#define MAX_THREADS 4
#define THREADS_FROM (4u << 20) // bytes of the image; below, one does it

static const char *const wanted[] = {".debug_info",     ".debug_types",      ".debug_abbrev", ".debug_line",
				     ".debug_line_str", ".debug_str",        ".debug_ranges", ".debug_rnglists",
				     ".debug_addr",     ".debug_str_offsets"};
#define WANTED (sizeof(wanted) / sizeof(wanted[0]))
#define NAMES_SIZE 256 // enough for all of wanted[]

struct part {
	const char *name;
	uint64_t offset, packed_size; // in the file
	uint64_t size;                // unpacked
	uint64_t place;               // in the image
	bool packed, failed;
};

struct work {
	const uint8_t *memory; // of the file; NULL: read from fd
	uint64_t memory_size;
	int fd;
	uint8_t *image;
	uint64_t size;
	struct part parts[WANTED];
	uint32_t count;
	uint32_t next; // atomic: the part to do next
};

// ---- What there is -------------------------------------------------------------------------------------------------

static bool read_at(const struct work *work, uint64_t offset, void *buf, size_t size)
{
	size_t done = 0;

	if (work->memory) {
		if (offset > work->memory_size || size > work->memory_size - offset)
			return false;
		memcpy(buf, work->memory + offset, size);
		return true;
	}
	while (done < size) {
		ssize_t n = pread(work->fd, (char *)buf + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

// Takes the header off a compressed section's data. False: not one that we can read.
static bool open_packed(const struct work *work, const GElf_Shdr *header, bool gnu, struct part *part)
{
	union {
		Elf64_Chdr elf;
		struct {
			char magic[4];
			uint64_t size; // big-endian
		} __attribute__((packed)) gnu;
	} start;
	size_t length = gnu ? sizeof(start.gnu) : sizeof(start.elf);

	if (part->packed_size < length || !read_at(work, part->offset, &start, length))
		return false;
	if (gnu ? memcmp(start.gnu.magic, "ZLIB", 4) != 0 : start.elf.ch_type != ELFCOMPRESS_ZLIB)
		return false;
	part->size = gnu ? be64toh(start.gnu.size) : start.elf.ch_size;
	part->offset += length;
	part->packed_size -= length;
	part->packed = true;
	return part->size / MAX_RATIO <= part->packed_size;
}

static const char *find_wanted(const char *name, bool *ret_gnu)
{
	*ret_gnu = strncmp(name, ".zdebug_", 8) == 0;
	for (size_t i = 0; i < WANTED; i++)
		if (strcmp(name, wanted[i]) == 0 || (*ret_gnu && strcmp(name + 2, wanted[i] + 1) == 0))
			return wanted[i];
	return NULL;
}

static bool has_part(const struct work *work, const char *name)
{
	for (uint32_t i = 0; i < work->count; i++)
		if (work->parts[i].name == name)
			return true;
	return false;
}

static void add_part(struct work *work, const GElf_Shdr *header, const char *section_name)
{
	bool gnu;
	const char *name = find_wanted(section_name, &gnu);
	struct part part = {name, header->sh_offset, header->sh_size, header->sh_size, 0, false, false};

	if (!name || has_part(work, name) || header->sh_type == SHT_NOBITS || header->sh_size == 0)
		return;
	if ((gnu || (header->sh_flags & SHF_COMPRESSED)) && !open_packed(work, header, gnu, &part))
		return;
	work->parts[work->count++] = part;
}

static int find_parts(const struct elf_file *file, struct work *work)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t names;

	if (elf_getshdrstrndx(file->elf, &names) < 0)
		return -ENOENT;
	while ((scn = elf_nextscn(file->elf, scn)) && work->count < WANTED) {
		const char *name = gelf_getshdr(scn, &header) ? elf_strptr(file->elf, names, header.sh_name) : NULL;

		if (name)
			add_part(work, &header, name);
	}
	return has_part(work, wanted[0]) ? 0 : -ENOENT;
}

// ---- Filling it ----------------------------------------------------------------------------------------------------

static bool unpack(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
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

static bool fill_part(const struct work *work, const struct part *part)
{
	uint8_t *packed;
	bool ok;

	if (!part->packed)
		return read_at(work, part->offset, work->image + part->place, part->size);
	packed = malloc(part->packed_size);
	ok = packed && read_at(work, part->offset, packed, part->packed_size) &&
	     unpack(packed, part->packed_size, work->image + part->place, part->size);
	free(packed);
	return ok;
}

static void *fill_parts(void *context)
{
	struct work *work = context;
	uint32_t i;

	while ((i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->count)
		work->parts[i].failed = !fill_part(work, &work->parts[i]);
	return NULL;
}

static void fill_image(struct work *work)
{
	pthread_t threads[MAX_THREADS];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int started = 0;

	if (work->size >= THREADS_FROM)
		while (started < MAX_THREADS - 1 && started + 1 < cpus && started + 1 < (int)work->count &&
		       pthread_create(&threads[started], NULL, fill_parts, work) == 0)
			started++;
	fill_parts(work);
	while (started > 0)
		pthread_join(threads[--started], NULL);
}

// ---- The image -----------------------------------------------------------------------------------------------------

static int by_size(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	return (x->size < y->size) - (x->size > y->size);
}

static int place_parts(struct work *work)
{
	uint64_t at = sizeof(Elf64_Ehdr);

	// The largest first: the threads end at about the same time.
	qsort(work->parts, work->count, sizeof(work->parts[0]), by_size);
	for (uint32_t i = 0; i < work->count; i++) {
		work->parts[i].place = at;
		if (work->parts[i].size > MAX_IMAGE - at)
			return -EFBIG;
		at = (at + work->parts[i].size + 7) & ~7ULL;
	}
	work->size = at + NAMES_SIZE + (work->count + 2) * sizeof(Elf64_Shdr);
	return 0;
}

static void write_headers(const struct work *work, uint16_t machine)
{
	uint64_t names_at = work->size - NAMES_SIZE - (work->count + 2) * sizeof(Elf64_Shdr);
	char *names = (char *)work->image + names_at;
	Elf64_Shdr *headers = (Elf64_Shdr *)(names + NAMES_SIZE);
	Elf64_Ehdr *file = (Elf64_Ehdr *)work->image;
	size_t used = 1;

	*file = (Elf64_Ehdr){.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			     .e_type = ET_EXEC,
			     .e_machine = machine,
			     .e_version = EV_CURRENT,
			     .e_shoff = names_at + NAMES_SIZE,
			     .e_ehsize = sizeof(Elf64_Ehdr),
			     .e_shentsize = sizeof(Elf64_Shdr),
			     .e_shnum = (uint16_t)(work->count + 2),
			     .e_shstrndx = (uint16_t)(work->count + 1)};
	memset(names, 0, NAMES_SIZE);
	memset(headers, 0, (work->count + 2) * sizeof(*headers));
	for (uint32_t i = 0; i < work->count; i++) {
		const struct part *part = &work->parts[i];

		headers[i + 1] = (Elf64_Shdr){.sh_name = (uint32_t)used,
					      .sh_type = SHT_PROGBITS,
					      .sh_offset = part->place,
					      .sh_size = part->failed ? 0 : part->size,
					      .sh_addralign = 1};
		memcpy(names + used, part->name, strlen(part->name));
		used += strlen(part->name) + 1;
	}
	headers[work->count + 1] =
		(Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = names_at, .sh_size = NAMES_SIZE, .sh_addralign = 1};
}

static bool info_failed(const struct work *work)
{
	for (uint32_t i = 0; i < work->count; i++)
		if (work->parts[i].failed && (work->parts[i].name == wanted[0] || work->parts[i].name == wanted[2]))
			return true;
	return false;
}

int dwarf_image_open(const struct elf_file *file, struct elf_file *ret_image)
{
	struct work work = {.fd = file->fd};
	GElf_Ehdr header;
	size_t memory_size = 0;
	int r;

	if (file->memory)
		work.memory = (const uint8_t *)elf_rawfile(file->elf, &memory_size);
	work.memory_size = memory_size;
	r = find_parts(file, &work);
	if (r == 0)
		r = place_parts(&work);
	if (r < 0)
		return r;
	work.image = malloc(work.size);
	if (!work.image)
		return -ENOMEM;
	fill_image(&work);
	if (info_failed(&work)) {
		free(work.image);
		return -EINVAL;
	}
	write_headers(&work, gelf_getehdr(file->elf, &header) ? header.e_machine : EM_NONE);
	return elf_file_open_memory(work.image, work.size, ret_image);
}

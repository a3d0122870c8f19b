// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module_open.c: see module_open.h. In order: /proc/PID/map_files/START-END (is the file, even when deleted or replaced; wants
// rights), /proc/PID/root/PATH, PATH. The latter two count only with the mapping's device and inode, or – file systems like
// overlayfs show another device – with the build ID that the process has in memory.

#include "collector/module_open.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_VDSO (1u << 20)
#define MAX_NOTES 65536

static int open_memory_of(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int open_vdso(pid_t pid, const struct maps_entry *entry, struct elf_file *ret_file)
{
	size_t size = entry->end - entry->start;
	int fd = size <= MAX_VDSO ? open_memory_of(pid) : -1;
	char *memory;
	ssize_t n;

	if (fd < 0)
		return -EACCES;
	memory = malloc(size);
	n = memory ? pread(fd, memory, size, (off_t)entry->start) : -1;
	close(fd);
	if (n != (ssize_t)size) {
		free(memory);
		return -EACCES;
	}
	return elf_file_open_memory(memory, size, ret_file);
}

// ---- The build ID in memory ----------------------------------------------------------------------------------------

// Where the mapping of the file's first byte starts; 0: not mapped.
static uint64_t find_image(pid_t pid, const struct maps_entry *entry)
{
	char path[32], *line = NULL;
	size_t capacity = 0;
	uint64_t found = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	file = fopen(path, "re");
	while (file && !found && getline(&line, &capacity, file) > 0) {
		uint64_t start, offset, inode;

		// NOLINTNEXTLINE(cert-err34-c): the kernel wrote them
		if (sscanf(line, "%" SCNx64 "-%*x %*s %" SCNx64 " %*x:%*x %" SCNu64, &start, &offset, &inode) == 3 &&
		    offset == 0 && inode == entry->inode && start <= entry->start)
			found = start;
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static bool find_note(const uint8_t *notes, size_t size, char hex[ELF_BUILD_ID_HEX])
{
	size_t at = 0;

	while (size - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name, desc;

		memcpy(&note, notes + at, sizeof(note));
		name = at + sizeof(note);
		desc = name + (((size_t)note.n_namesz + 3) & ~(size_t)3);
		if (desc > size || note.n_descsz > size - desc)
			return false;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + name, "GNU", 4) == 0 &&
		    note.n_descsz <= (ELF_BUILD_ID_HEX - 1) / 2) {
			for (size_t i = 0; i < note.n_descsz; i++)
				snprintf(hex + 2 * i, 3, "%02x", notes[desc + i]);
			return note.n_descsz > 0;
		}
		at = desc + (((size_t)note.n_descsz + 3) & ~(size_t)3);
		if (at > size)
			return false;
	}
	return false;
}

static bool read_notes(int fd, uint64_t image, char hex[ELF_BUILD_ID_HEX])
{
	Elf64_Phdr segments[64];
	Elf64_Ehdr header;
	uint64_t bias = 0;
	bool found = false;

	if (pread(fd, &header, sizeof(header), (off_t)image) != sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phnum > 64 ||
	    header.e_phentsize != sizeof(segments[0]) ||
	    pread(fd, segments, header.e_phnum * sizeof(segments[0]), (off_t)(image + header.e_phoff)) !=
		    (ssize_t)(header.e_phnum * sizeof(segments[0])))
		return false;
	for (int i = header.e_phnum - 1; i >= 0; i--)
		if (segments[i].p_type == PT_LOAD)
			bias = image - (segments[i].p_vaddr - segments[i].p_offset);
	for (int i = 0; i < header.e_phnum && !found; i++) {
		uint8_t *notes;

		if (segments[i].p_type != PT_NOTE || segments[i].p_filesz > MAX_NOTES)
			continue;
		notes = malloc(segments[i].p_filesz + 1);
		found = notes &&
			pread(fd, notes, segments[i].p_filesz, (off_t)(bias + segments[i].p_vaddr)) ==
				(ssize_t)segments[i].p_filesz &&
			find_note(notes, segments[i].p_filesz, hex);
		free(notes);
	}
	return found;
}

bool module_open_matches(pid_t pid, const struct maps_entry *entry, const char *build_id)
{
	char mapped[ELF_BUILD_ID_HEX];
	uint64_t image = find_image(pid, entry);
	int fd = image ? open_memory_of(pid) : -1;
	bool found;

	if (fd < 0)
		return false;
	found = read_notes(fd, image, mapped);
	close(fd);
	return found && strcmp(mapped, build_id) == 0;
}

// ---- The file ------------------------------------------------------------------------------------------------------

static bool is_mapped_inode(const struct stat *st, const struct maps_entry *entry)
{
	return st->st_ino == entry->inode && major(st->st_dev) == entry->dev_major &&
	       minor(st->st_dev) == entry->dev_minor;
}

static int open_path(pid_t pid, const struct maps_entry *entry, const char *path, bool is_the_file,
		     struct elf_file *ret_file, enum module_open_by *ret_by)
{
	char build_id[ELF_BUILD_ID_HEX];
	int fd = elf_file_open_path(path);
	struct elf_file file = {.fd = -1};
	struct stat st;
	int error;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		close(fd);
		return -ENOENT;
	}
	error = elf_file_open(fd, &file);
	if (error)
		return error;
	elf_file_build_id(&file, build_id);
	is_the_file |= is_mapped_inode(&st, entry);
	if (!is_the_file && !module_open_matches(pid, entry, build_id)) {
		elf_file_close(&file);
		return -ENOENT;
	}
	*ret_by = is_the_file ? MODULE_OPEN_INODE : MODULE_OPEN_BUILD_ID;
	*ret_file = file;
	return 0;
}

int module_open(pid_t pid, const struct maps_entry *entry, struct elf_file *ret_file, enum module_open_by *ret_by)
{
	char path[PATH_MAX + 32];
	int error;

	if (strcmp(entry->path, "[vdso]") == 0) {
		*ret_by = MODULE_OPEN_INODE;
		return open_vdso(pid, entry, ret_file);
	}
	if (entry->path[0] != '/' || !entry->inode)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, entry->start, entry->end);
	error = open_path(pid, entry, path, true, ret_file, ret_by);
	if (error == 0 || error == -ENOEXEC)
		return error;
	snprintf(path, sizeof(path), "/proc/%d/root%s", pid, entry->path);
	error = open_path(pid, entry, path, false, ret_file, ret_by);
	if (error == 0 || error == -ENOEXEC)
		return error;
	return open_path(pid, entry, entry->path, false, ret_file, ret_by);
}

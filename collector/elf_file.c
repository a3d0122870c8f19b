// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// elf_file.c: see elf_file.h.

#include "collector/elf_file.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int check(struct elf_file *file)
{
	GElf_Ehdr header;

	if (!file->elf)
		return -ENOMEM;
	if (elf_kind(file->elf) != ELF_K_ELF || !gelf_getehdr(file->elf, &header))
		return -ENOEXEC;
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
		return -ENOTSUP;
	return 0;
}

static int finish_open(struct elf_file *file, struct elf_file *ret_file)
{
	int error = check(file);

	if (error)
		elf_file_close(file);
	else
		*ret_file = *file;
	return error;
}

// Kernels before 5.6, and old filters of containers, know no openat2: links are followed as they are there.
static int open_place(int root, const char *path)
{
	const struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int place;

	if (root < 0)
		return open(path, O_PATH | O_CLOEXEC);
	place = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (place < 0 && (errno == ENOSYS || errno == EPERM))
		place = openat(root, path + strspn(path, "/"), O_PATH | O_CLOEXEC);
	return place;
}

// What has this type alone.
static int open_type_at(int root, const char *path, mode_t type)
{
	int place = open_place(root, path), fd = -1, error;
	char same[32];
	struct stat st;

	if (place < 0)
		return -errno;
	errno = ENOENT;
	if (fstat(place, &st) == 0 && (st.st_mode & S_IFMT) == type) {
		// Through the descriptor: what the path means may have changed meanwhile.
		snprintf(same, sizeof(same), "/proc/self/fd/%d", place);
		fd = open(same, O_RDONLY | O_CLOEXEC);
	}
	error = errno;
	close(place);
	return fd >= 0 ? fd : -error;
}

int elf_file_open_at(int root, const char *path)
{
	return open_type_at(root, path, S_IFREG);
}

int elf_file_open_directory_at(int root, const char *path)
{
	return open_type_at(root, path, S_IFDIR);
}

int elf_file_open_path(const char *path)
{
	return elf_file_open_at(-1, path);
}

int elf_file_open(int fd, struct elf_file *ret_file)
{
	struct elf_file file = {.fd = fd};

	elf_version(EV_CURRENT);
	file.elf = elf_begin(fd, ELF_C_READ, NULL);
	return finish_open(&file, ret_file);
}

int elf_file_open_memory(void *memory, size_t size, struct elf_file *ret_file)
{
	struct elf_file file = {.fd = -1, .memory = memory};

	elf_version(EV_CURRENT);
	file.elf = elf_memory(memory, size);
	return finish_open(&file, ret_file);
}

void elf_file_close(struct elf_file *file)
{
	if (!file->elf && !file->memory && file->fd <= 0)
		return;
	elf_end(file->elf);
	if (file->fd >= 0)
		close(file->fd);
	free(file->memory);
	*file = (struct elf_file){.fd = -1};
}

Elf_Scn *elf_file_section(const struct elf_file *file, const char *name, GElf_Shdr *ret_header)
{
	Elf_Scn *scn = NULL;
	size_t names;

	if (elf_getshdrstrndx(file->elf, &names) < 0)
		return NULL;
	while ((scn = elf_nextscn(file->elf, scn))) {
		const char *found;

		if (!gelf_getshdr(scn, ret_header) || !(found = elf_strptr(file->elf, names, ret_header->sh_name)))
			continue;
		if (strcmp(found, name) == 0)
			return scn;
	}
	return NULL;
}

void elf_file_build_id(const struct elf_file *file, char hex[ELF_BUILD_ID_HEX])
{
	static const char digits[] = "0123456789abcdef";
	const void *bits = NULL;
	ssize_t size = dwelf_elf_gnu_build_id(file->elf, &bits);
	const uint8_t *bytes = bits;

	if (size < 0 || size > (ELF_BUILD_ID_HEX - 1) / 2)
		size = 0;
	for (ssize_t i = 0; i < size; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[2 * size] = 0;
}

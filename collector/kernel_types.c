// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// kernel_types.c: see kernel_types.h.

#include "collector/kernel_types.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH "/sys/kernel/btf/vmlinux"
#define MAX_SIZE ((off_t)256 << 20)

// What stands behind a type, in bytes. 0 for a kind that we do not know: nothing behind it can be found.
static bool rest_size(const struct btf_type *type, size_t *ret_size)
{
	static const struct {
		uint8_t fixed, each;
	} sizes[] = {
		[BTF_KIND_INT] = {4, 0},        [BTF_KIND_PTR] = {0, 0},      [BTF_KIND_ARRAY] = {12, 0},
		[BTF_KIND_STRUCT] = {0, 12},    [BTF_KIND_UNION] = {0, 12},   [BTF_KIND_ENUM] = {0, 8},
		[BTF_KIND_FWD] = {0, 0},        [BTF_KIND_TYPEDEF] = {0, 0},  [BTF_KIND_VOLATILE] = {0, 0},
		[BTF_KIND_CONST] = {0, 0},      [BTF_KIND_RESTRICT] = {0, 0}, [BTF_KIND_FUNC] = {0, 0},
		[BTF_KIND_FUNC_PROTO] = {0, 8}, [BTF_KIND_VAR] = {4, 0},      [BTF_KIND_DATASEC] = {0, 12},
		[BTF_KIND_FLOAT] = {0, 0},      [BTF_KIND_DECL_TAG] = {4, 0}, [BTF_KIND_TYPE_TAG] = {0, 0},
		[BTF_KIND_ENUM64] = {0, 12},
	};
	unsigned kind = BTF_INFO_KIND(type->info);

	if (kind == BTF_KIND_UNKN || kind >= sizeof(sizes) / sizeof(sizes[0]))
		return false;
	*ret_size = sizes[kind].fixed + (size_t)sizes[kind].each * BTF_INFO_VLEN(type->info);
	return true;
}

static bool has_name(const struct kernel_types *types, uint32_t offset, const char *name)
{
	size_t length = strlen(name) + 1;

	return offset < types->strings_size && length <= types->strings_size - offset &&
	       memcmp(types->strings + offset, name, length) == 0;
}

// The first of a kind with that name, and its number. NULL: there is none.
static const struct btf_type *find(const struct kernel_types *types, unsigned kind, const char *name,
				   uint32_t *ret_number)
{
	size_t at = 0, rest;
	uint32_t number = 1;

	for (; types->types_size - at >= sizeof(struct btf_type); number++) {
		const struct btf_type *type = (const void *)(types->types + at);

		at += sizeof(*type);
		if (!rest_size(type, &rest) || rest > types->types_size - at)
			return NULL;
		if (BTF_INFO_KIND(type->info) == kind && has_name(types, type->name_off, name)) {
			*ret_number = number;
			return type;
		}
		at += rest;
	}
	return NULL;
}

int kernel_types_parse(void *data, size_t size, struct kernel_types *ret_types)
{
	const struct btf_header *header = data;
	struct kernel_types types = {.data = data, .size = size};
	size_t body;

	if (size < sizeof(*header) || header->magic != BTF_MAGIC || header->hdr_len > size || header->hdr_len % 4)
		return -EINVAL;
	body = size - header->hdr_len;
	if (header->type_off > body || header->type_len > body - header->type_off || header->type_off % 4 ||
	    header->str_off > body || header->str_len > body - header->str_off)
		return -EINVAL;
	types.types = (const char *)data + header->hdr_len + header->type_off;
	types.types_size = header->type_len;
	types.strings = (const char *)data + header->hdr_len + header->str_off;
	types.strings_size = header->str_len;
	*ret_types = types;
	return 0;
}

static int read_all(int fd, char *data, size_t size)
{
	for (size_t used = 0; used < size;) {
		ssize_t n = read(fd, data + used, size - used);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		used += (size_t)n;
	}
	return 0;
}

// Since Linux 6.16 it can be mapped.
static int load(int fd, size_t size, struct kernel_types *ret_types)
{
	void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	bool mapped = data != MAP_FAILED;
	int r = 0;

	if (!mapped) {
		data = malloc(size);
		r = data ? read_all(fd, data, size) : -ENOMEM;
	}
	if (r == 0)
		r = kernel_types_parse(data, size, ret_types);
	if (r < 0 && mapped)
		munmap(data, size);
	else if (r < 0)
		free(data);
	else
		ret_types->mapped = mapped ? size : 0;
	return r;
}

int kernel_types_open(struct kernel_types *ret_types)
{
	int fd = open(PATH, O_RDONLY | O_CLOEXEC), r;
	struct stat status;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) < 0)
		r = -errno;
	else
		r = status.st_size > 0 && status.st_size <= MAX_SIZE ? load(fd, (size_t)status.st_size, ret_types)
								     : -EINVAL;
	close(fd);
	return r;
}

void kernel_types_close(struct kernel_types *types)
{
	if (types->mapped)
		munmap(types->data, types->mapped);
	else
		free(types->data);
	*types = (struct kernel_types){0};
}

uint32_t kernel_types_function(const struct kernel_types *types, const char *name)
{
	uint32_t number = 0;

	return find(types, BTF_KIND_FUNC, name, &number) ? number : 0;
}

static int member_offset(const struct kernel_types *types, const struct btf_type *type, const char *name,
			 int16_t *ret_offset)
{
	const struct btf_member *members = (const void *)(type + 1);

	for (uint32_t i = 0; i < BTF_INFO_VLEN(type->info); i++) {
		bool has_widths = BTF_INFO_KFLAG(type->info); // beside the offsets; one of 0 is no bit field
		uint32_t bits = has_widths ? BTF_MEMBER_BIT_OFFSET(members[i].offset) : members[i].offset;

		if (!has_name(types, members[i].name_off, name))
			continue;
		if (bits % 8 || bits / 8 > INT16_MAX || (has_widths && BTF_MEMBER_BITFIELD_SIZE(members[i].offset)))
			return -ERANGE;
		*ret_offset = (int16_t)(bits / 8);
		return 0;
	}
	return -ENOENT;
}

int kernel_types_members(const struct kernel_types *types, const char *structure, const char *const *names,
			 int16_t *ret_offsets, unsigned n)
{
	uint32_t number;
	const struct btf_type *type = find(types, BTF_KIND_STRUCT, structure, &number);
	int r = type ? 0 : -ENOENT;

	for (unsigned i = 0; i < n && r == 0; i++)
		r = member_offset(types, type, names[i], &ret_offsets[i]);
	return r;
}

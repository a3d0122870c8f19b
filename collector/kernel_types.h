// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// kernel_types.h: where the running kernel's structures have their members, as it says itself (/sys/kernel/btf/vmlinux; format:
// Documentation/bpf/btf.rst). Any thread.

#ifndef PROFD_COLLECTOR_KERNEL_TYPES_H
#define PROFD_COLLECTOR_KERNEL_TYPES_H

#include <stddef.h>
#include <stdint.h>

struct kernel_types {
	void *data;
	size_t size, mapped; // 0: data was read
	const char *types, *strings;
	uint32_t types_size, strings_size;
};

// 0 or −errno.
int kernel_types_open(struct kernel_types *ret_types);
// Of BTF that is in memory already, which stays the caller's.
int kernel_types_parse(void *data, size_t size, struct kernel_types *ret_types);
void kernel_types_close(struct kernel_types *types);
// The number of a function. 0: there is none.
uint32_t kernel_types_function(const struct kernel_types *types, const char *name);
// The offsets of n members of a structure, in bytes. −ENOENT: it has none of one of the names, but maybe in something anonymous within;
// −ERANGE: too far for an instruction, or a bit field.
int kernel_types_members(const struct kernel_types *types, const char *structure, const char *const *names,
			 int16_t *ret_offsets, unsigned n);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// safe_read.c: see safe_read.h. Handler. process_vm_readv(2) on one's own pid needs no right and never faults: what is not
// mapped comes back as EFAULT.

#include "profd/safe_read.h"

#include "profd/raw.h"

struct io_vector {
	uint64_t base, length;
};

static long own_pid;

void profd_safe_read_init(void)
{
	own_pid = profd_raw0(SYS_getpid);
}

bool profd_safe_read(uint64_t address, uint64_t *ret_value)
{
	uint64_t value = 0;
	struct io_vector local = {(uint64_t)(uintptr_t)&value, sizeof(value)};
	struct io_vector remote = {address, sizeof(value)};

	if (profd_raw6(SYS_process_vm_readv, own_pid, (long)&local, 1, (long)&remote, 1, 0) != sizeof(value))
		return false;
	*ret_value = value;
	return true;
}

bool profd_safe_read_bytes(uint64_t address, void *data, uint32_t size)
{
	struct io_vector local = {(uint64_t)(uintptr_t)data, size};
	struct io_vector remote = {address, size};

	return profd_raw6(SYS_process_vm_readv, own_pid, (long)&local, 1, (long)&remote, 1, 0) == (long)size;
}

uint32_t profd_safe_read_around(const uint64_t *addresses, uint32_t count, uint64_t (*ret_words)[2])
{
	struct io_vector local = {(uint64_t)(uintptr_t)ret_words, (uint64_t)count * sizeof(*ret_words)};
	struct io_vector remote[PROFD_SAFE_READ_MAX];
	long bytes;

	for (uint32_t i = 0; i < count; i++)
		remote[i] = (struct io_vector){addresses[i] - sizeof(uint64_t), sizeof(*ret_words)};
	bytes = profd_raw6(SYS_process_vm_readv, own_pid, (long)&local, 1, (long)remote, count, 0);
	return bytes > 0 ? (uint32_t)((uint64_t)bytes / sizeof(*ret_words)) : 0;
}

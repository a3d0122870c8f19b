// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_sandbox.c: see name_sandbox.h. Under the sanitizers only descriptors and rights to files are taken: they need the rest.

#include "collector/name_sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector/close_fds.h"

#define CPU_SECONDS 60
#define MORE_MEMORY \
	(12ULL << 30) // beyond what is mapped when it begins: sections are mapped whole, of which little is touched
#define MAX_OUTPUT (2ULL << 30)

#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
	__has_feature(thread_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

// ---- Descriptors and limits ----------------------------------------------------------------------------------------

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void close_others(const int *keep, int count)
{
	int sorted[32], next = SANITIZED ? 3 : 0;

	for (int i = 0; i < count; i++)
		sorted[i] = keep[i];
	qsort(sorted, (size_t)count, sizeof(int), by_number);
	for (int i = 0; i < count; i++) {
		if (sorted[i] > next)
			close_fds((unsigned)next, (unsigned)sorted[i] - 1);
		if (sorted[i] >= next)
			next = sorted[i] + 1;
	}
	close_fds((unsigned)next, ~0u);
}

static uint64_t mapped_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long long pages = 0;

	// NOLINTNEXTLINE(cert-err34-c): the kernel wrote it
	if (!file || fscanf(file, "%llu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int limit(__rlimit_resource_t resource, uint64_t value, uint64_t most)
{
	struct rlimit now, wanted = {value, most};

	if (getrlimit(resource, &now) < 0)
		return -errno;
	if (now.rlim_max < wanted.rlim_max)
		wanted.rlim_max = now.rlim_max;
	if (wanted.rlim_max < wanted.rlim_cur)
		wanted.rlim_cur = wanted.rlim_max;
	return setrlimit(resource, &wanted) < 0 ? -errno : 0;
}

static int set_limits(uint64_t mapped)
{
	// At its hard limit a process is killed without a word; before, SIGXCPU says what for.
	int error = limit(RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 1);

	if (!error)
		error = limit(RLIMIT_FSIZE, MAX_OUTPUT, MAX_OUTPUT);
	if (!error)
		error = limit(RLIMIT_CORE, 0, 0);
	if (!error && !SANITIZED)
		error = limit(RLIMIT_AS, mapped + MORE_MEMORY, mapped + MORE_MEMORY);
	return error;
}

// ---- Files ---------------------------------------------------------------------------------------------------------

// Every right to files that the kernel knows of, given to none. Kernels without landlock: seccomp forbids the calls as well.
static void drop_files(void)
{
	struct landlock_ruleset_attr rules = {
		.handled_access_fs =
			LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
			LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
			LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
			LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
			LANDLOCK_ACCESS_FS_MAKE_SYM};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);

	if (fd < 0)
		return;
	(void)syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
}

// ---- System calls --------------------------------------------------------------------------------------------------

#define ALLOW(number) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ARGUMENT(n) (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n))
// If the argument has none of these bits (the lower 32), or has one.
#define ALLOW_WITHOUT(number, n, bits)                                                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##number, 0, 4), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(n)), \
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),   \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define ALLOW_WITH(number, n, bits)                                                                               \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##number, 0, 4), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(n)), \
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),   \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

// Threads yes, processes no. clone3 keeps its flags where a filter cannot see them: libc takes clone when there is none.
static const struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(read),
	ALLOW(pread64),
	ALLOW(write),
	ALLOW(lseek),
	ALLOW(fstat),
	ALLOW(newfstatat),
	ALLOW(close),
	ALLOW(sendto),
	ALLOW(recvmsg),
	ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(madvise),
	ALLOW(brk),
	ALLOW(futex),
	ALLOW(rt_sigprocmask),
	ALLOW(rt_sigreturn),
	ALLOW(restart_syscall),
	ALLOW(set_robust_list),
	ALLOW(rseq),
	ALLOW(sched_yield),
	ALLOW(sched_getaffinity),
	ALLOW(getrandom),
	ALLOW(clock_gettime),
	ALLOW(sysinfo),
	ALLOW(gettid),
	ALLOW(getpid),
	ALLOW(exit),
	ALLOW(exit_group),
	ALLOW_WITHOUT(mmap, 2, PROT_EXEC),
	ALLOW_WITHOUT(mprotect, 2, PROT_EXEC),
	ALLOW_WITH(clone, 0, CLONE_THREAD),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

static int drop_calls(void)
{
	const struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]),
					   .filter = (struct sock_filter *)(uintptr_t)filter};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

int name_sandbox_enter(const int *keep, int count)
{
	uint64_t mapped = mapped_bytes();
	int error;

	close_others(keep, count);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	(void)prctl(PR_SET_DUMPABLE, 0);
	error = set_limits(mapped);
	if (error)
		return error;
	drop_files();
	return SANITIZED ? 0 : drop_calls();
}

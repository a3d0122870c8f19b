// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_jit.c: makes code at run time, and says what it is called. `fork`: a forked child goes on with other code than its parent's at the same address, as
// each one's /tmp/perf-PID.map has it. `late`: the jitdump file is there only when some code has run. Prints whose code is whose.

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CODE_BYTES 4096

typedef void code(long rounds);

#ifdef __x86_64__
static const uint8_t loop[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3};
#define MACHINE 62
#else
static const uint32_t loop[] = {0xf1000400, 0x54ffffe1, 0xd65f03c0};
#define MACHINE 183
#endif

static void *make_code(void)
{
	void *page = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		_exit(77);
	memcpy(page, loop, sizeof(loop));
	__builtin___clear_cache(page, (char *)page + sizeof(loop));
	return page;
}

static void run_code(void *page, int ms)
{
	clock_t end = clock() + (clock_t)ms * (CLOCKS_PER_SEC / 1000);

	while (clock() < end)
		((code *)(uintptr_t)page)(100000);
}

static void write_map(const void *page, const char *name)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	file = fopen(path, "w");
	if (!file)
		_exit(1);
	fprintf(file, "%lx %x %s\n", (unsigned long)(uintptr_t)page, CODE_BYTES, name);
	fclose(file);
	printf("%s %d\n", name, (int)getpid());
	fflush(stdout);
}

static int forked(void)
{
	void *page = make_code();
	pid_t child;

	run_code(page, 150); // so that it is known where the child begins
	child = fork();
	write_map(page, child ? "parent_code" : "child_code");
	run_code(page, 400);
	return child && (waitpid(child, NULL, 0) != child);
}

static void put_load(FILE *file, const void *page, uint64_t index, const char *name)
{
	const uint32_t record[2] = {0, (uint32_t)(16 + 40 + strlen(name) + 1 + sizeof(loop))};
	const uint32_t ids[2] = {(uint32_t)getpid(), (uint32_t)getpid()};
	const uint64_t time = index, address = (uintptr_t)page;
	const uint64_t load[4] = {address, address, sizeof(loop), index};

	fwrite(record, sizeof(record), 1, file);
	fwrite(&time, sizeof(time), 1, file);
	fwrite(ids, sizeof(ids), 1, file);
	fwrite(load, sizeof(load), 1, file);
	fwrite(name, strlen(name) + 1, 1, file);
	fwrite(loop, sizeof(loop), 1, file);
}

static int late(void)
{
	const uint32_t header[6] = {0x4A695444, 1, 40, MACHINE, 0, (uint32_t)getpid()};
	const uint64_t time_and_flags[2] = {1, 0};
	void *early = make_code(), *second;
	char path[64];
	FILE *file;

	run_code(early, 200);
	snprintf(path, sizeof(path), "jit-%d.dump", (int)getpid());
	file = fopen(path, "w+");
	if (!file)
		return 1;
	fwrite(header, sizeof(header), 1, file);
	fwrite(time_and_flags, sizeof(time_and_flags), 1, file);
	put_load(file, early, 0, "early_code");
	fflush(file);
	if (mmap(NULL, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0) == MAP_FAILED)
		return 77;
	second = make_code();
	put_load(file, second, 1, "late_code");
	fflush(file);
	run_code(second, 300);
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "fork") == 0 ? forked() : late();
}

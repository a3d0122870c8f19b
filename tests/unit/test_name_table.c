// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_name_table.c: the flat table of names: what a reader makes of damaged ones, how several processes share one on disk, and the
// process that compiles it (name_table.c, name_set.c, symbolizer.c, name_worker.c, name_sandbox.c). The file that is read is this test.

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/demangle.h"
#include "collector/name_sandbox.h"
#include "collector/name_set.h"
#include "collector/name_worker.h"
#include "collector/symbolizer.h"
#include "collector/table_cache.h"

#define LARGE (1ULL << 30)
#ifndef __has_feature
#define __has_feature(name) 0
#endif

static char directory[] = "/tmp/profd_names_XXXXXX";
static uint64_t bias;
static struct elf_file self;
static char self_path[] = "/proc/self/exe", build_id[ELF_BUILD_ID_HEX];

static int note_bias(struct dl_phdr_info *info, size_t size, void *context)
{
	bias = info->dlpi_addr;
	return 1; // the first is the program
}

static int set_up(void **state)
{
	dl_iterate_phdr(note_bias, NULL);
	if (!mkdtemp(directory) || elf_file_open(open(self_path, O_RDONLY | O_CLOEXEC), &self) < 0)
		return -1;
	elf_file_build_id(&self, build_id);
	return 0;
}

static int tear_down(void **state)
{
	char command[64];

	elf_file_close(&self);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command); // NOLINT(cert-env33-c): the command is this file's
}

static uint64_t vaddr_of(const void *function)
{
	return (uint64_t)(uintptr_t)function - bias;
}

#define VADDR(function) vaddr_of((const void *)(uintptr_t)(function))

// ---- Blocks --------------------------------------------------------------------------------------------------------

static uint8_t *make_block(const uint64_t *addresses, size_t count, size_t *ret_size)
{
	const struct name_request request = {.sources = {.file = &self}, .addresses = addresses, .count = count};
	char reason[NAME_WORKER_REASON];
	struct stat st;
	uint8_t *bytes;
	int fd;

	assert_int_equal(name_worker_run(&request, &fd, reason), 0);
	assert_int_equal(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size);
	assert_non_null(bytes);
	assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	*ret_size = (size_t)st.st_size;
	return bytes;
}

static size_t look_up(const struct name_block *block, uint64_t vaddr, struct name_frame *frames)
{
	uint32_t units[NAME_MAX_OVERLAP + 1];
	size_t count = name_block_units_at(block, vaddr, units), found = 0;

	for (size_t i = 0; i < count && found == 0; i++)
		if (name_block_has(block, units[i]))
			found = name_block_find(block, units[i], vaddr, frames, MODULE_MAX_INLINE);
	return found;
}

static void test_block(void **state)
{
	uint64_t vaddr = VADDR(demangle);
	struct name_frame frames[MODULE_MAX_INLINE];
	struct name_block block;
	size_t size, count;
	uint8_t *bytes = make_block(&vaddr, 1, &size);

	assert_int_equal(name_block_open(bytes, size, &block), 0);
	assert_int_equal(block.header->source, MODULE_SYMBOLS_DWARF);
	count = look_up(&block, vaddr, frames);
	assert_true(count > 0);
	assert_string_equal(frames[count - 1].name, "demangle");
	assert_non_null(strstr(frames[count - 1].file, "demangle.c"));
	assert_true(frames[count - 1].start_line > 0 && frames[count - 1].line >= frames[count - 1].start_line);
	assert_int_equal(look_up(&block, UINT64_MAX, frames), 0);
	free(bytes);
}

// Cut short, it is none; with bytes changed, it is none or says something, from inside its own bytes.
static void test_damaged_block(void **state)
{
	uint64_t vaddr = VADDR(demangle), seed = 88172645463325252ULL;
	struct name_frame frames[MODULE_MAX_INLINE];
	struct name_block block;
	size_t size, still = 0;
	uint8_t *good = make_block(&vaddr, 1, &size), *bad = malloc(size);

	assert_non_null(bad);
	for (size_t cut = 0; cut < size; cut += cut < 200 ? 1 : size / 50)
		assert_int_equal(name_block_open(good, cut, &block), -EINVAL);
	for (int round = 0; round < 2000; round++) {
		memcpy(bad, good, size);
		for (int i = 0; i < 8; i++) {
			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			bad[seed % (round % 2 ? size : 4096)] = (uint8_t)(seed >> 32);
		}
		if (name_block_open(bad, size, &block) < 0)
			continue;
		still++;
		for (int i = 0; i < 50; i++) {
			size_t count = look_up(&block, vaddr + (uint64_t)i * 8, frames);

			for (size_t k = 0; k < count; k++)
				assert_true(!frames[k].name || strlen(frames[k].name) < size);
		}
	}
	assert_true(still > 100);
	free(good);
	free(bad);
}

static void test_set(void **state)
{
	uint64_t vaddrs[] = {VADDR(demangle), VADDR(table_cache_directory)};
	struct name_frame frames[MODULE_MAX_INLINE];
	struct name_block blocks[2];
	struct name_set set = {0};
	uint8_t *bytes[2];
	size_t size;
	bool missing;

	for (int i = 0; i < 2; i++) {
		bytes[i] = make_block(&vaddrs[i], 1, &size);
		assert_int_equal(name_block_open(bytes[i], size, &blocks[i]), 0);
	}
	assert_true(name_set_misses(&set, vaddrs[0]));
	assert_int_equal(name_set_add(&set, &blocks[0]), 0);
	assert_false(name_set_misses(&set, vaddrs[0]));
	assert_int_equal(name_set_find(&set, vaddrs[1], frames, MODULE_MAX_INLINE, &missing), 0);
	assert_true(missing);
	assert_int_equal(name_set_add(&set, &blocks[1]), 0);
	for (int i = 0; i < 2; i++)
		assert_true(name_set_find(&set, vaddrs[i], frames, MODULE_MAX_INLINE, &missing) > 0);
	((struct name_header *)bytes[1])->identity[0]++; // of other files
	assert_int_equal(name_set_add(&set, &blocks[1]), -EINVAL);
	((struct name_header *)bytes[1])->identity[0]--;
	while (set.count < NAME_SET_MAX)
		assert_int_equal(name_set_add(&set, &blocks[1]), 0);
	assert_int_equal(name_set_add(&set, &blocks[1]), -ENOSPC);
	name_set_finish(&set);
	free(bytes[0]);
	free(bytes[1]);
}

// ---- On disk -------------------------------------------------------------------------------------------------------

static struct table_cache *open_cache(void)
{
	int error;
	struct table_cache *cache = table_cache_create(directory, LARGE, &error);

	assert_non_null(cache);
	assert_int_equal(error, 0);
	return cache;
}

static void expect_name(struct symbolizer *symbolizer, uint64_t vaddr, const char *name)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	size_t count = symbolizer_find(symbolizer, vaddr, frames, MODULE_MAX_INLINE);

	assert_true(count > 0);
	assert_string_equal(frames[count - 1].name, name);
}

static void expect_built(struct table_cache *cache, uint64_t built, uint64_t damaged)
{
	struct table_cache_counters counters;

	table_cache_counters(cache, &counters);
	assert_int_equal(counters.names_built, built);
	assert_int_equal(counters.damaged, damaged);
}

// Two at once add what the other lacks; the third finds it all made.
static void test_shared_on_disk(void **state)
{
	struct table_cache *cache = open_cache();
	struct symbolizer *symbolizers[3];

	for (int i = 0; i < 2; i++)
		symbolizers[i] =
			symbolizer_create(&self, self_path, build_id, &(struct debug_places){.dirs = ""}, cache);
	expect_name(symbolizers[0], VADDR(demangle), "demangle");
	expect_built(cache, 1, 0);
	expect_name(symbolizers[1], VADDR(demangle), "demangle"); // found: it looked when it was first asked
	expect_built(cache, 1, 0);
	expect_name(symbolizers[1], VADDR(table_cache_directory), "table_cache_directory");
	expect_name(symbolizers[0], VADDR(elf_file_close), "elf_file_close");
	expect_built(cache, 3, 0);
	symbolizers[2] = symbolizer_create(&self, self_path, build_id, &(struct debug_places){.dirs = ""}, cache);
	expect_name(symbolizers[2], VADDR(demangle), "demangle");
	expect_name(symbolizers[2], VADDR(elf_file_close), "elf_file_close");
	expect_name(symbolizers[2], VADDR(table_cache_directory), "table_cache_directory");
	expect_built(cache, 3, 0);
	for (int i = 0; i < 3; i++)
		symbolizer_destroy(symbolizers[i]);
	table_cache_destroy(cache);
}

// Asked one by one for more units than there may be blocks: what was there before stays.
static void test_many_blocks(void **state)
{
	uint64_t base = VADDR(demangle) & ~0xfffULL;
	struct symbolizer *symbolizer =
		symbolizer_create(&self, self_path, build_id, &(struct debug_places){.dirs = ""}, NULL);
	struct module_frame frames[MODULE_MAX_INLINE];

	for (uint64_t i = 0; i < 60; i++)
		(void)symbolizer_find(symbolizer, base + i * 0x1000, frames, MODULE_MAX_INLINE);
	expect_name(symbolizer, VADDR(demangle), "demangle");
	assert_null(symbolizer_take_error(symbolizer));
	symbolizer_destroy(symbolizer);
}

static void test_damaged_on_disk(void **state)
{
	struct table_cache *cache = open_cache();
	struct symbolizer *symbolizer;
	char command[256];

	// NOLINTNEXTLINE(cert-env33-c): the command is this file's
	snprintf(command, sizeof(command),
		 "for f in %s/*.names; do printf x | dd of=$f bs=1 seek=300 conv=notrunc 2>/dev/null; done", directory);
	assert_int_equal(system(command), 0);
	symbolizer = symbolizer_create(&self, self_path, build_id, &(struct debug_places){.dirs = ""}, cache);
	expect_name(symbolizer, VADDR(demangle), "demangle");
	expect_built(cache, 1, 1);
	symbolizer_destroy(symbolizer);
	table_cache_destroy(cache);
}

// ---- The process ---------------------------------------------------------------------------------------------------

static void test_what_is_no_elf_file(void **state)
{
	struct elf_file text = {.elf = self.elf, .fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC)};
	const struct name_request request = {.sources = {.file = &text}};
	char reason[NAME_WORKER_REASON];
	int fd = -1;

	assert_int_equal(name_worker_run(&request, &fd, reason), -ENOEXEC);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(reason, "its debug info cannot be read"));
	close(text.fd);
}

static void test_image_in_memory(void **state)
{
	struct elf_file image;
	char reason[NAME_WORKER_REASON];
	struct stat st;
	char *bytes;
	int fd = -1;

	assert_int_equal(fstat(self.fd, &st), 0);
	bytes = malloc((size_t)st.st_size);
	assert_non_null(bytes);
	assert_int_equal(pread(self.fd, bytes, (size_t)st.st_size, 0), st.st_size);
	assert_int_equal(elf_file_open_memory(bytes, (size_t)st.st_size, &image), 0);
	assert_int_equal(name_worker_run(&(struct name_request){.sources = {.file = &image}}, &fd, reason), 0);
	close(fd);
	elf_file_close(&image);
}

// Our only child.
static pid_t server_pid(void)
{
	char path[64];
	int pid = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &pid), 1); // NOLINT(cert-err34-c): the kernel wrote it
	fclose(file);
	return pid;
}

static void test_server_dies(void **state)
{
	uint64_t vaddr = VADDR(demangle);
	size_t size;

	free(make_block(&vaddr, 1, &size));
	assert_int_equal(kill(server_pid(), SIGKILL), 0);
	free(make_block(&vaddr, 1, &size));
}

static void *do_nothing(void *context)
{
	return context;
}

// What the process inside may not. 0, or the number of the step that went wrong.
static int try_everything(int output)
{
	pthread_t thread;

	if (name_sandbox_enter(&output, 1) != 0)
		return 1;
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ||
	    open("/tmp/profd_escaped", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0)
		return 2;
	if (fcntl(2, F_GETFD) >= 0)
		return 3;
	if (socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0)
		return 4;
	if (fork() >= 0)
		return 5;
	if (kill(getppid(), 0) == 0)
		return 6;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		return 7;
	if (mmap(NULL, 1ULL << 45, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
		return 8;
	if (execl("/bin/true", "true", NULL) == 0)
		return 9;
	if (pthread_create(&thread, NULL, do_nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
		return 10;
	return write(output, "x", 1) == 1 ? 0 : 11;
}

static void test_sandbox(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer)
	const bool sanitized = true; // they need more than the sandbox allows
#else
	const bool sanitized = false;
#endif
	int output, status;
	pid_t child;

	if (sanitized)
		skip();
	output = memfd_create("output", MFD_CLOEXEC);
	child = fork();
	if (child == 0)
		_exit(try_everything(output));
	assert_int_equal(waitpid(child, &status, 0), child);
	close(output);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block),
		cmocka_unit_test(test_damaged_block),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_shared_on_disk),
		cmocka_unit_test(test_damaged_on_disk),
		cmocka_unit_test(test_many_blocks),
		cmocka_unit_test(test_what_is_no_elf_file),
		cmocka_unit_test(test_image_in_memory),
		cmocka_unit_test(test_server_dies),
		cmocka_unit_test(test_sandbox),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

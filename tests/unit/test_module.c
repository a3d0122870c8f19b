// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_module.c: modules of this very process: the program, libc, the vDSO, and libraries whose file is deleted or replaced
// while it is mapped (module.c, module_open.c).

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/cfi_table.h"
#include "collector/maps.h"
#include "collector/module.h"
#include "collector/table_cache.h"
#include "profd/wire.h"

static char directory[] = "/tmp/profd_module_XXXXXX";
static struct module_cache *cache;
static struct table_cache *tables;

// Two libraries that differ in what is at an address, and in their build IDs.
static int set_up(void **state)
{
	static const char command[] =
		"printf 'int pad_a(void) { return 1; }\\nint known_a(int x) { return x * 3 + 1; }\\n' > a.c && "
		"printf 'int known_b(int x) { return x / 7; }\\nint other_b(int x) { return x - known_b(x) * 5; }\\n' "
		"> b.c && "
		"gcc -g -O1 -shared -fPIC a.c -o a.so && gcc -g -O1 -shared -fPIC b.c -o b.so && "
		"sed 's/int known_a/int pad(void) { return 4; } int renamed_a/' a.c > c.c && "
		"echo 'extern __typeof(renamed_a) known_a __attribute__((alias(\"renamed_a\")));' >> c.c && "
		"gcc -g -O1 -shared -fPIC c.c -o a_renamed.so && "
		"gcc -g -O1 -shared -fPIC -Wl,--build-id=none a.c -o a_noid.so && "
		"gcc -g -O1 -shared -fPIC -Wl,-z,noseparate-code -Wl,-z,max-page-size=65536 a.c -o a_packed.so && "
		"gcc -g -O1 -shared -fPIC -Wl,-Ttext-segment=0x7f000 a.c -o a_linked_high.so";

	int error;

	if (!mkdtemp(directory) || chdir(directory) < 0)
		return -1;
	cache = module_cache_create(NULL, NULL);
	tables = table_cache_create(NULL, 0, &error);
	return !cache || !tables || system(command) ? -1 : 0; // NOLINT(cert-env33-c): the command is this file's
}

static int tear_down(void **state)
{
	char command[64];

	module_cache_destroy(cache);
	table_cache_destroy(tables);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return chdir("/") < 0 || system(command) ? -1 : 0; // NOLINT(cert-env33-c)
}

static struct module *module_at(const void *address, const struct maps *maps, uint64_t *ret_vaddr)
{
	const struct maps_entry *entry = maps_find(maps, (uint64_t)(uintptr_t)address);
	struct module *module = NULL;
	uint64_t bias;

	assert_non_null(entry);
	assert_int_equal(module_cache_get(cache, getpid(), entry, &module), 0);
	assert_int_equal(module_bias(module, entry, &bias), 0);
	*ret_vaddr = (uint64_t)(uintptr_t)address - bias;
	return module;
}

// The outermost function at an address of ours, as a frame in *ret_frame; its names live as long as the cache.
static bool name_at(const void *address, struct module_frame *ret_frame)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	struct module *module = NULL;
	struct maps maps;
	uint64_t vaddr;
	size_t count;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	module = module_at(address, &maps, &vaddr);
	count = module_symbolize(module, vaddr, frames, MODULE_MAX_INLINE);
	module_unref(module);
	maps_finish(&maps);
	if (count)
		*ret_frame = frames[count - 1];
	return count > 0;
}

static bool name_if_module(const void *address, struct module_frame *ret_frame)
{
	const struct maps_entry *entry;
	struct module *module = NULL;
	struct maps maps;
	bool named = false;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry = maps_find(&maps, (uint64_t)(uintptr_t)address);
	assert_non_null(entry);
	if (module_cache_get(cache, getpid(), entry, &module) == 0) {
		module_unref(module);
		named = name_at(address, ret_frame);
	}
	maps_finish(&maps);
	return named;
}

static void expect_name(const void *address, const char *name)
{
	struct module_frame frame = {0};

	assert_true(name_at(address, &frame));
	assert_string_equal(frame.name, name);
}

static int copy(const char *from, const char *to)
{
	char command[256];

	snprintf(command, sizeof(command), "cp %s %s.new && mv %s.new %s", from, to, to, to);
	return system(command); // NOLINT(cert-env33-c): the command is this file's
}

static void *load(const char *name, void **ret_handle)
{
	char path[128];
	void *known;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	*ret_handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!*ret_handle)
		fail_msg("%s", dlerror());
	known = dlsym(*ret_handle, "known_a");
	assert_non_null(known);
	return known;
}

// ---- What is mapped ------------------------------------------------------------------------------------------------

static void test_program(void **state)
{
	struct module_frame frame = {0};

	assert_true(name_at((const char *)test_program + 4, &frame));
	assert_string_equal(frame.name, "test_program");
	assert_string_equal(frame.system_name, "test_program");
	assert_true(frame.file && strstr(frame.file, "test_module.c"));
	assert_true(frame.line >= frame.start_line && frame.start_line > 0);
}

static void test_libc(void **state)
{
	struct module_frame frame = {0};
	void *function = dlsym(RTLD_DEFAULT, "qsort_r");

	assert_non_null(function);
	assert_true(name_at((char *)function + 1, &frame));
	assert_true(frame.name && strstr(frame.name, "qsort_r"));
}

static void test_vdso(void **state)
{
	const char *image = (const char *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	struct module_frame frame = {0};
	struct module *module = NULL;
	struct maps maps;
	uint64_t vaddr;
	bool found = false;

	if (!image)
		skip();
	assert_int_equal(maps_read(getpid(), &maps), 0);
	module = module_at(image, &maps, &vaddr);
	assert_non_null(module);
	assert_string_equal(module_path(module), "[vdso]");
	assert_true(strlen(module_build_id(module)) >= 16);
	for (uint64_t at = 0; at < 8192 && !found; at += 16)
		found = module_symbolize(module, vaddr + at, &frame, 1) && strstr(frame.name, "clock_gettime");
	assert_true(found);
	module_unref(module);
	maps_finish(&maps);
}

// Segments at odd offsets: the linker's layouts differ, the bias must not care.
static void test_bias(void **state)
{
	static const char *const names[] = {"a.so", "a_noid.so", "a_packed.so", "a_linked_high.so"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *handle, *known = load(names[i], &handle);

		expect_name(known, "known_a");
		dlclose(handle);
	}
}

static void test_bias_of_strangers(void **state)
{
	struct module *module = NULL;
	struct maps maps;
	uint64_t vaddr, bias = 77;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	module = module_at((const void *)(uintptr_t)test_bias_of_strangers, &maps, &vaddr);
	struct maps_entry beyond = {.start = 0x1000, .end = 0x2000, .file_offset = 1ull << 40, .path = (char *)"/x"};

	assert_int_equal(module_bias(module, &beyond, &bias), -EINVAL);
	assert_int_equal(bias, 77);
	module_unref(module);
	maps_finish(&maps);
}

// ---- The cache -----------------------------------------------------------------------------------------------------

static void test_shared(void **state)
{
	struct module *first = NULL, *second = NULL;
	struct maps maps;
	uint64_t vaddr;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	first = module_at((const void *)(uintptr_t)test_shared, &maps, &vaddr);
	second = module_at((const void *)(uintptr_t)test_shared, &maps, &vaddr);
	assert_ptr_equal(first, second);
	assert_ptr_equal(module_ref(first), first);
	module_unref(first);
	module_unref(first);
	module_unref(second);
	module_unref(NULL);
	maps_finish(&maps);
}

static void test_what_is_no_module(void **state)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("text", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct module *module = NULL;
	struct maps maps;
	void *text;

	assert_true(fd >= 0 && memory != MAP_FAILED);
	assert_int_equal(write(fd, "not ELF at all\n", 15), 15);
	text = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	assert_true(text != MAP_FAILED);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	assert_int_equal(module_cache_get(cache, getpid(), maps_find(&maps, (uintptr_t)text), &module), -ENOEXEC);
	assert_int_equal(module_cache_get(cache, getpid(), maps_find(&maps, (uintptr_t)memory), &module), -ENOENT);
	assert_null(module);
	maps_finish(&maps);
	munmap(memory, 4096);
	munmap(text, 4096);
	close(fd);
}

// ---- Files that go away --------------------------------------------------------------------------------------------

// Rightly or not at all: never by another file.
static void expect_known_a_or_nothing(const void *known)
{
	const struct maps_entry *entry;
	struct module *module = NULL;
	struct maps maps;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry = maps_find(&maps, (uint64_t)(uintptr_t)known);
	assert_non_null(entry);
	if (module_cache_get(cache, getpid(), entry, &module) == 0) {
		module_unref(module);
		expect_name(known, "known_a");
	} else {
		// /proc/PID/map_files is for those who may.
		assert_int_not_equal(geteuid(), 0);
	}
	maps_finish(&maps);
}

static void test_deleted(void **state)
{
	void *handle, *known;

	assert_int_equal(copy("a.so", "gone.so"), 0);
	known = load("gone.so", &handle);
	assert_int_equal(unlink("gone.so"), 0);
	expect_known_a_or_nothing(known);
	dlclose(handle);
}

static void replace(const char *first, const char *second)
{
	void *handle, *known;

	assert_int_equal(copy(first, "replaced.so"), 0);
	known = load("replaced.so", &handle);
	assert_int_equal(copy(second, "replaced.so"), 0);
	expect_known_a_or_nothing(known);
	dlclose(handle);
	assert_int_equal(unlink("replaced.so"), 0);
}

static void test_replaced(void **state)
{
	replace("a.so", "b.so");
	replace("a_noid.so", "b.so");
	replace("a.so", "a_noid.so");
	replace("a.so", "a.c");
}

// A package update: the same build, another inode.
static void test_replaced_by_same(void **state)
{
	replace("a.so", "a.so");
}

// The mapping says one device and inode, and its file is not to be had: without map_files only the build ID in memory counts.
static void check_path_only(const char *first, const char *second, int expected)
{
	struct module_cache *fresh = module_cache_create(NULL, NULL); // nothing found before is to be found again
	struct maps_entry entry;
	struct module *module = NULL;
	void *handle, *known;
	struct maps maps;
	char path[128];
	int error;

	assert_int_equal(copy(first, "strange.so"), 0);
	known = load("strange.so", &handle);
	assert_int_equal(copy(second, "strange.so"), 0);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry = *maps_find(&maps, (uint64_t)(uintptr_t)known);
	snprintf(path, sizeof(path), "%s/strange.so", directory);
	entry.path = path;
	entry.end += 4096; // no such entry in map_files
	error = module_cache_get(fresh, getpid(), &entry, &module);
	assert_int_equal(error, expected);
	if (!error)
		module_unref(module);
	module_cache_destroy(fresh);
	maps_finish(&maps);
	dlclose(handle);
	assert_int_equal(unlink("strange.so"), 0);
}

// Such a module's inode is not held: the same number, later, may be any file's.
static void test_inode_reused(void **state)
{
	struct module *module = NULL;
	struct maps_entry entry;
	struct maps maps;
	void *a, *b, *known;
	char path[128], build_id[129];
	int error;

	assert_int_equal(copy("a.so", "reused.so"), 0);
	known = load("reused.so", &a);
	assert_int_equal(copy("a.so", "reused.so"), 0);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry = *maps_find(&maps, (uint64_t)(uintptr_t)known);
	snprintf(path, sizeof(path), "%s/reused.so", directory);
	entry.path = path;
	entry.end += 4096;
	assert_int_equal(module_cache_get(cache, getpid(), &entry, &module), 0);
	snprintf(build_id, sizeof(build_id), "%s", module_build_id(module));
	module_unref(module);
	dlclose(a);
	maps_finish(&maps);
	// Another program under the same key, as a reused inode would have it.
	assert_int_equal(copy("a_renamed.so", "reused.so"), 0);
	known = load("reused.so", &b);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry.start = maps_find(&maps, (uint64_t)(uintptr_t)known)->start;
	entry.end = maps_find(&maps, (uint64_t)(uintptr_t)known)->end + 4096;
	error = module_cache_get(cache, getpid(), &entry, &module);
	if (error == 0) {
		assert_string_not_equal(module_build_id(module), build_id);
		module_unref(module);
	}
	dlclose(b);
	maps_finish(&maps);
	assert_int_equal(unlink("reused.so"), 0);
}

static void test_path_only(void **state)
{
	check_path_only("a.so", "a.so", 0);
	check_path_only("a.so", "b.so", -ENOENT);
	check_path_only("a.so", "a_noid.so", -ENOENT);
	check_path_only("a_noid.so", "a_noid.so", -ENOENT);
	check_path_only("a_noid.so", "b.so", -ENOENT);
}

// Cut while it is mapped and known: the file that we have open fails to read, and nothing faults. In a child, as the library's
// own pages are gone, and exit would look at them.
static void test_cut(void **state)
{
	struct module_frame frame = {0};
	void *handle, *known;
	int status;
	pid_t child;

	assert_int_equal(copy("a.so", "over.so"), 0);
	child = fork();
	if (child == 0) {
		known = load("over.so", &handle);
		status = !name_if_module((char *)known + 1, &frame) || truncate("over.so", 100) < 0 ? 2 : 0;
		if (name_if_module(known, &frame) && strcmp(frame.name, "known_a") != 0)
			status = 1;
		_exit(status);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(unlink("over.so"), 0);
}

// Written over in place between two targets: the second has the new contents, under the same device, inode and path.
static void test_overwritten(void **state)
{
	void *handle, *known;
	int error;

	assert_int_equal(copy("a.so", "written.so"), 0);
	known = load("written.so", &handle);
	expect_name(known, "known_a");
	dlclose(handle);
	error = system("cat a_renamed.so > written.so"); // NOLINT(cert-env33-c)
	assert_int_equal(error, 0);
	known = load("written.so", &handle);
	expect_name(known, "renamed_a");
	dlclose(handle);
	assert_int_equal(unlink("written.so"), 0);
}

// ---- The unwind table ----------------------------------------------------------------------------------------------

static void test_table(void **state)
{
	struct module *module = NULL;
	uint64_t vaddr, size = 0, again_size = 0;
	int fd = -1, again = -1;
	struct maps maps;
	struct stat st;
	void *table;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	module = module_at((const void *)(uintptr_t)test_table, &maps, &vaddr);
	assert_int_equal(module_table(module, tables, &fd, &size), 0);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, size);
	table = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(table != MAP_FAILED);
	assert_int_equal(cfi_table_check(table, size), 0);
	munmap(table, size);
	assert_int_equal(module_table(module, tables, &again, &again_size), 0);
	assert_int_equal(again, fd);
	assert_int_equal(again_size, size);
	module_unref(module);
	maps_finish(&maps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_libc),
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_bias),
		cmocka_unit_test(test_bias_of_strangers),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_what_is_no_module),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_replaced_by_same),
		cmocka_unit_test(test_path_only),
		cmocka_unit_test(test_inode_reused),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_overwritten),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_symbolizer_again.c: when debug info that was not there, or could not be read, is looked for again (symbolizer.c), by a clock of
// the test's own.

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/symbolizer.h"
#include "collector/table_cache.h"
#include "tests/unit/shell.h"

static char directory[] = "/tmp/profd_again_XXXXXX";
static char dirs[128];
static time_t later_s;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	int r = __real_clock_gettime(clock, ret_time);

	ret_time->tv_sec += later_s;
	return r;
}

static int set_up(void **state)
{
	if (!mkdtemp(directory) || chdir(directory) < 0)
		return -1;
	snprintf(dirs, sizeof(dirs), "%s/debug", directory);
	return try_run("echo 'int main(int argc, char **argv) { return argc; }' > p.c && gcc -O1 -g p.c -o whole && "
		       "strip -o p whole && nm whole | awk '$3 == \"main\" { print $1 }' > address && "
		       "id=$(readelf -n p | sed -n 's/.*Build ID: //p') && mkdir -p debug/.build-id/${id%%${id#??}} && "
		       "echo debug/.build-id/${id%%${id#??}}/${id#??}.debug > place") == 0
		       ? 0
		       : -1;
}

static int tear_down(void **state)
{
	return chdir("/") < 0 || try_run("rm -r %s", directory) ? -1 : 0;
}

static uint64_t address_of_main(void)
{
	char line[64] = "";
	FILE *file = fopen("address", "re");

	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	fclose(file);
	return strtoull(line, NULL, 16);
}

struct subject {
	struct elf_file file;
	struct symbolizer *symbolizer;
	struct table_cache *tables;
};

static struct subject open_subject(void)
{
	const struct debug_places places = {.dirs = dirs};
	char build_id[ELF_BUILD_ID_HEX];
	struct subject subject;
	int error;

	subject.tables = table_cache_create(NULL, 1 << 20, &error);
	assert_int_equal(elf_file_open(elf_file_open_path("p"), &subject.file), 0);
	elf_file_build_id(&subject.file, build_id);
	subject.symbolizer = symbolizer_create(&subject.file, "/p", build_id, &places, subject.tables);
	assert_non_null(subject.symbolizer);
	return subject;
}

static void close_subject(struct subject *subject)
{
	symbolizer_destroy(subject->symbolizer);
	elf_file_close(&subject->file);
	table_cache_destroy(subject->tables);
}

// As an answer does it.
static bool has_name(const struct subject *subject, bool at_once)
{
	struct module_frame frame;

	symbolizer_look_again(subject->symbolizer, at_once);
	return symbolizer_find(subject->symbolizer, address_of_main(), &frame, 1) == 1 &&
	       strcmp(frame.name, "main") == 0;
}

static void test_debug_info_comes(void **state)
{
	struct subject subject = open_subject();

	assert_false(has_name(&subject, false));
	run("cp whole $(cat place)");
	assert_false(has_name(&subject, false)); // it is not looked for each time
	assert_true(has_name(&subject, true));
	close_subject(&subject);
	run("rm $(cat place)");
	subject = open_subject();
	assert_false(has_name(&subject, false));
	run("cp whole $(cat place)");
	later_s += 60;
	assert_true(has_name(&subject, false));
	assert_true(symbolizer_has_dwarf(subject.symbolizer));
	close_subject(&subject);
}

// What is open stays; what is written to, or replaced by a file that is no longer of this program, does not.
static void test_debug_info_goes(void **state)
{
	struct subject subject = open_subject();

	assert_true(has_name(&subject, false));
	run("cp $(cat place) kept && rm $(cat place)");
	later_s += 60;
	assert_true(has_name(&subject, false));
	run("cp kept $(cat place)");
	assert_true(has_name(&subject, false));
	run("printf x >> $(cat place) && objcopy --remove-section=.note.gnu.build-id $(cat place)");
	assert_false(has_name(&subject, false) && symbolizer_has_dwarf(subject.symbolizer));
	run("cp kept $(cat place)");
	close_subject(&subject);
}

static uint64_t count_failures(const struct subject *subject)
{
	struct table_cache_counters counters;

	table_cache_counters(subject->tables, &counters);
	return counters.names_failed;
}

// Thirty seconds, a minute, two…; and at once when the file is another one. Last: the limit cannot be raised again.
static void test_failures(void **state)
{
	const struct rlimit none = {8, 8};
	struct subject subject = open_subject();
	uint64_t failures = 1;
	int64_t retry_s;

	run("cp whole $(cat place) && cp whole new");
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_false(has_name(&subject, true));
	assert_int_equal(count_failures(&subject), 1);
	for (time_t wait_s = 30; wait_s <= 240; wait_s *= 2, failures++) {
		assert_non_null(symbolizer_error(subject.symbolizer, &retry_s));
		assert_in_range(retry_s, wait_s - 2, wait_s);
		later_s += wait_s - 5;
		assert_false(has_name(&subject, false));
		assert_int_equal(count_failures(&subject), failures);
		later_s += 6;
		assert_false(has_name(&subject, false));
		assert_int_equal(count_failures(&subject), failures + 1);
	}
	run("mv new $(cat place)");
	assert_false(has_name(&subject, false));
	assert_int_equal(count_failures(&subject), failures + 1);
	assert_non_null(symbolizer_error(subject.symbolizer, &retry_s));
	assert_in_range(retry_s, 28, 30);
	close_subject(&subject);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_debug_info_comes),
		cmocka_unit_test(test_debug_info_goes),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

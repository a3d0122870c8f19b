// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbolize.c: names the addresses of one ELF file as the collector does, from the cache or by compiling, and says what it took; for
// scripts/bench symbolize, and with --print for comparisons. The cache is where PROFD_CACHE_DIR says.
//
// usage: symbolize [--print] FILE DEBUG_DIRS < ADDRESSES      (hex, one a line)
//
// --print: for each address its own line, then for each frame, innermost first, "system name<TAB>name<TAB>file<TAB>line", as
// addr2line -a -i would.

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "collector/elf_file.h"
#include "collector/symbolizer.h"
#include "collector/table_cache.h"

#define MAX_ADDRESSES (4u << 20)
#define WARM_S 0.5

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static long peak_kb(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_maxrss;
}

static size_t read_addresses(uint64_t *addresses)
{
	char line[64], *end;
	size_t count = 0;

	while (count < MAX_ADDRESSES && fgets(line, sizeof(line), stdin)) {
		addresses[count] = strtoull(line, &end, 16);
		count += end != line;
	}
	return count;
}

static void print_all(struct symbolizer *symbolizer, const uint64_t *addresses, size_t count)
{
	struct module_frame frames[MODULE_MAX_INLINE];

	for (size_t i = 0; i < count; i++) {
		size_t n = symbolizer_find(symbolizer, addresses[i], frames, MODULE_MAX_INLINE);

		printf("0x%" PRIx64 "\n", addresses[i]);
		for (size_t k = 0; k < n; k++)
			printf("%s\t%s\t%s\t%" PRId64 "\n", frames[k].system_name, frames[k].name, frames[k].file,
			       frames[k].line);
	}
}

static size_t find_all(struct symbolizer *symbolizer, const uint64_t *addresses, size_t count)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += symbolizer_find(symbolizer, addresses[i], frames, MODULE_MAX_INLINE);
	return total;
}

// "ready": until the names are known, with what is read for that. Lookups, the first of each and again: by CPU time, for they wait for
// nothing.
static void measure(struct symbolizer *symbolizer, const uint64_t *addresses, size_t count, double start)
{
	double ready, named, before, first, again;
	size_t frames, total = 0;

	symbolizer_prepare(symbolizer, addresses, count);
	ready = now();
	before = cpu(RUSAGE_SELF);
	frames = find_all(symbolizer, addresses, count);
	first = cpu(RUSAGE_SELF);
	named = now();
	do
		total += find_all(symbolizer, addresses, count);
	while ((again = cpu(RUSAGE_SELF)) < first + WARM_S);
	printf("addresses %zu\nframes %zu\nready_s %.4f\nnamed_s %.4f\nfirst_frames_per_s %.0f\nagain_frames_per_s "
	       "%.0f\n"
	       "cpu_s %.4f\nworker_cpu_s %.4f\npeak_kb %ld\nworker_peak_kb %ld\n",
	       count, frames, ready - start, named - start, (double)frames / (first - before),
	       (double)total / (again - first), first, cpu(RUSAGE_CHILDREN), peak_kb(RUSAGE_SELF),
	       peak_kb(RUSAGE_CHILDREN));
}

int main(int argc, char **argv)
{
	bool print = argc == 4 && strcmp(argv[1], "--print") == 0;
	uint64_t *addresses = calloc(MAX_ADDRESSES, sizeof(*addresses));
	char build_id[ELF_BUILD_ID_HEX];
	struct symbolizer *symbolizer;
	struct table_cache *tables;
	double start;
	struct elf_file file;
	const char *path;
	size_t count;
	int fd;

	if ((argc != 3 && !print) || !addresses) {
		fprintf(stderr, "usage: symbolize [--print] FILE DEBUG_DIRS < ADDRESSES\n");
		return 2;
	}
	path = argv[argc - 2];
	count = read_addresses(addresses);
	start = now();
	tables = table_cache_open(true);
	fd = elf_file_open_path(path);
	if (!tables || fd < 0 || elf_file_open(fd, &file) < 0) {
		fprintf(stderr, "symbolize: cannot open %s\n", path);
		return 1;
	}
	elf_file_build_id(&file, build_id);
	symbolizer = symbolizer_create(&file, path, build_id, &(struct debug_places){.dirs = argv[argc - 1]}, tables);
	if (!symbolizer)
		return 1;
	if (print) {
		symbolizer_prepare(symbolizer, addresses, count);
		print_all(symbolizer, addresses, count);
	} else {
		measure(symbolizer, addresses, count, start);
	}
	symbolizer_destroy(symbolizer);
	elf_file_close(&file);
	table_cache_destroy(tables);
	free(addresses);
	return 0;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_cache.c: any bytes as a file of the cache of tables. It is taken only if it is sound; else it is gone afterwards. Bits of the
// first byte say whether the header's identity and the checksums are put right, without which no change would get past them.

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "collector/cfi_table.h"
#include "collector/table_cache.h"
#include "profd/wire.h"
#include "tests/fuzz/fuzz.h"

#define HEADER_SIZE 64u // table_cache.c's: identity, table size, ELF file size, the table's hash, its own
#define IDENTITY_SIZE 24u
#define FILE_SIZE 123456u

uint64_t fuzz_got_through;
static struct table_cache *cache;
static char directory[] = "/tmp/profd_fuzz_XXXXXX", path[512];
static uint8_t identity[IDENTITY_SIZE];
static const uint8_t build_id[20] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
				     0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11, 0x22, 0x33};

static void clean_up(void)
{
	(void)unlink(path);
	(void)rmdir(directory);
	table_cache_destroy(cache);
}

// The name that the cache gives a file of this build ID: by storing one.
static void set_up(const struct table_cache_key *key)
{
	struct wire_table table = {.magic = WIRE_TABLE_MAGIC};
	struct dirent *entry;
	int error, fd;
	DIR *dir;

	FUZZ_CHECK(mkdtemp(directory));
	atexit(clean_up);
	cache = table_cache_create(directory, 1u << 30, &error);
	FUZZ_CHECK(cache && !error);
	table_cache_put(cache, key, &table, sizeof(table));
	dir = opendir(directory);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(path, sizeof(path), "%s/%.256s", directory, entry->d_name);
	closedir(dir);
	FUZZ_CHECK(path[0]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	FUZZ_CHECK(fd >= 0 && read(fd, identity, sizeof(identity)) == (ssize_t)sizeof(identity));
	close(fd);
}

static void put_header_right(uint8_t *file, size_t size)
{
	XXH128_hash_t hash;
	uint64_t own, sizes[2] = {size - HEADER_SIZE, FILE_SIZE};

	if (size >= HEADER_SIZE + sizeof(struct wire_table)) // the checksum comes after this
		memcpy(file + HEADER_SIZE + offsetof(struct wire_table, build_id), build_id, sizeof(build_id));
	hash = XXH3_128bits(file + HEADER_SIZE, size - HEADER_SIZE);
	memcpy(file, identity, sizeof(identity));
	memcpy(file + IDENTITY_SIZE, sizes, sizeof(sizes));

	memcpy(file + HEADER_SIZE - 24, &hash.low64, 8);
	memcpy(file + HEADER_SIZE - 16, &hash.high64, 8);
	own = XXH3_64bits(file, HEADER_SIZE - 8);
	memcpy(file + HEADER_SIZE - 8, &own, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct table_cache_key key = {
		.build_id = "00112233445566778899aabbccddeeff00112233", .file_size = FILE_SIZE, .machine = EM_X86_64};
	struct wire_table *table;
	size_t table_size;
	uint8_t *file;
	int fd;

	if (size < 1 + HEADER_SIZE)
		return 0;
	if (!cache)
		set_up(&key);
	file = malloc(size - 1);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_CHECK(file && fd >= 0);
	memcpy(file, data + 1, size - 1);
	if (data[0] & 1)
		put_header_right(file, size - 1);
	FUZZ_CHECK(write(fd, file, size - 1) == (ssize_t)(size - 1));
	close(fd);
	free(file);
	if (table_cache_get(cache, &key, &table, &table_size) == 0) {
		fuzz_got_through++;
		FUZZ_CHECK(cfi_table_check(table, table_size) == 0);
		free(table);
	} else {
		FUZZ_CHECK(access(path, F_OK) < 0);
	}
	return 0;
}

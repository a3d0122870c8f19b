// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// table_cache.c: see table_cache.h. A file is a header, whose checksum covers itself, and the table, whose checksum is in the header.
// It is written under a name of its own and then renamed: readers see all of it or nothing, and writers do not disturb each other.
// Its modification time is when it was last used, to the hour.
//
// Another version of profd may make another table of the same file. So that nobody has to think of raising a number, a table is
// known by the sources of what made it: TABLE_COMPILER and NAME_COMPILER, hashes of them (meson.build says which).

#include "collector/table_cache.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "collector/cfi_table.h"
#include "collector/log.h"
#include "collector/name_table.h"
#include "collector/name_table_compiler.h" // made by sources_hash.py, as the next one
#include "collector/table_compiler.h"
#include "formats/writer.h"
#include "profd/wire.h"

#define DEFAULT_CACHE_MIB 256u // on disk
#define MAX_CACHE_MIB 65536u
#define MAGIC 0x6863616364666f72ULL // "rofdcach"
#define MAX_TABLE (256u << 20)
#define MAX_ENTRIES 65536u // of the directory, that are looked at
#define TRIM_WRITES 32u    // the directory's size is looked at once in so many writes, and at the first
#define TRIM_SHARE 16u     // or before this share of max_bytes was written since; so much is kept free
#define STALE_SECONDS 3600 // a temporary file that old was left by a crash
#define TOUCH_SECONDS 3600 // a file used again within this time keeps its time
#define KEEP_PERCENT 80    // of max_bytes, once it was exceeded
#define MAX_NAME 192

// The kinds of files. share: of the whole cache, what one file may take at most: 1/share.
static const struct kind {
	const char *suffix;
	uint64_t compiler;
	uint32_t version, share;
	uint64_t least, most; // bytes of a table
} unwind = {".unwind", TABLE_COMPILER, WIRE_TABLE_VERSION, 4, sizeof(struct wire_table), MAX_TABLE},
  names = {".names", NAME_TABLE_COMPILER, NAME_VERSION, 2, sizeof(struct name_header), NAME_MAX_SIZE};

struct file_header {
	uint64_t magic;
	uint64_t compiler;
	uint32_t table_version, machine;
	uint64_t table_size, file_size; // file_size: of the ELF file
	uint64_t table_hash[2];         // XXH3, 128 bits
	uint64_t header_hash;           // XXH3 of all that is before
};

struct table_cache {
	int fd; // of the directory; −1: none
	uint64_t max_bytes;
	pthread_mutex_t lock; // guards what follows, and writes
	bool looked;
	uint32_t writes; // since the directory was last looked at
	uint64_t written;
	struct table_cache_counters counters; // atomics
};

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

// ---- The directory -------------------------------------------------------------------------------------------------

static const char *join(char *buf, size_t size, const char *first, const char *second)
{
	int needed = snprintf(buf, size, "%s%s", first, second);

	return needed > 0 && (size_t)needed < size ? buf : NULL;
}

const char *table_cache_directory(char *buf, size_t size)
{
	const char *own = getenv("PROFD_CACHE_DIR");
	const char *caches = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (own)
		return own[0] ? join(buf, size, own, "") : NULL;
	if (geteuid() == 0)
		return join(buf, size, "/var/cache/profd", "");
	if (caches && caches[0] == '/')
		return join(buf, size, caches, "/profd");
	if (!home || home[0] != '/' || !join(buf, size, home, "/.cache"))
		return NULL;
	(void)mkdir(buf, 0700);
	return join(buf, size, home, "/.cache/profd");
}

// Who may write to it may give us tables, so nobody but us may.
static int open_directory(const char *path)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 022))
		return fd;
	close(fd);
	return -EPERM;
}

struct table_cache *table_cache_create(const char *directory, uint64_t max_bytes, int *ret_error)
{
	struct table_cache *cache = calloc(1, sizeof(*cache));

	*ret_error = 0;
	if (!cache)
		return NULL;
	pthread_mutex_init(&cache->lock, NULL);
	cache->max_bytes = max_bytes;
	cache->fd = -1;
	if (directory) {
		cache->fd = open_directory(directory);
		*ret_error = cache->fd < 0 ? cache->fd : 0;
	}
	return cache;
}

// In MiB, by $PROFD_CACHE_SIZE.
static uint64_t cache_bytes(void)
{
	const char *text = getenv("PROFD_CACHE_SIZE");
	uint64_t mebibytes = DEFAULT_CACHE_MIB;
	char *end;

	if (!text || !text[0])
		return mebibytes << 20;
	mebibytes = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end || mebibytes > MAX_CACHE_MIB) {
		log_line("PROFD_CACHE_SIZE '%s': not a number up to %u", text, MAX_CACHE_MIB);
		mebibytes = DEFAULT_CACHE_MIB;
	}
	return mebibytes << 20;
}

struct table_cache *table_cache_open(bool on_disk)
{
	char buf[PATH_MAX];
	const char *directory = on_disk ? table_cache_directory(buf, sizeof(buf)) : NULL;
	int error = 0;
	struct table_cache *tables = table_cache_create(directory, cache_bytes(), &error);

	// Not there to be made, or to be written, is no fault: a read-only system, a user without a home.
	if (error == -EPERM)
		log_line("tables are not cached: %s is not ours alone to write", directory);
	return tables;
}

void table_cache_destroy(struct table_cache *cache)
{
	if (!cache)
		return;
	if (cache->fd >= 0)
		close(cache->fd);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

// A build ID is hex already; false: none, or one that makes no name.
static bool make_name(const struct kind *kind, const struct table_cache_key *key, char name[MAX_NAME])
{
	size_t length = strlen(key->build_id);

	return length >= 8 && length <= 128 && strspn(key->build_id, "0123456789abcdef") == length &&
	       snprintf(name, MAX_NAME, "%s-%016llx%s", key->build_id, (unsigned long long)kind->compiler,
			kind->suffix) < MAX_NAME;
}

// ---- Reading -------------------------------------------------------------------------------------------------------

static bool read_all(int fd, void *data, size_t size)
{
	char *at = data;

	while (size > 0) {
		ssize_t n = read(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static void hash_table(const void *table, size_t size, uint64_t ret_hash[2])
{
	XXH128_hash_t hash = XXH3_128bits(table, size);

	ret_hash[0] = hash.low64;
	ret_hash[1] = hash.high64;
}

static uint64_t hash_header(const struct file_header *header)
{
	return XXH3_64bits(header, offsetof(struct file_header, header_hash));
}

static bool is_header(const struct kind *kind, const struct file_header *header, const struct table_cache_key *key,
		      uint64_t size)
{
	return header->magic == MAGIC && header->compiler == kind->compiler && header->table_version == kind->version &&
	       header->header_hash == hash_header(header) && header->table_size == size - sizeof(*header) &&
	       header->file_size == key->file_size && header->machine == key->machine;
}

// The file's build ID, or the start of a longer one.
static bool is_of(const struct wire_table *table, const struct table_cache_key *key)
{
	size_t bytes = strlen(key->build_id) / 2;
	char hex[2 * sizeof(table->build_id) + 1];

	for (size_t i = 0; i < sizeof(table->build_id); i++)
		snprintf(hex + 2 * i, 3, "%02x", table->build_id[i]);
	return table->machine == key->machine &&
	       strncmp(hex, key->build_id, 2 * (bytes < sizeof(table->build_id) ? bytes : sizeof(table->build_id))) ==
		       0;
}

// NULL: damaged, or of another version of the file.
static struct wire_table *read_table(int fd, const struct table_cache_key *key, uint64_t size)
{
	struct file_header header;
	struct wire_table *table;
	uint64_t hash[2];
	size_t table_size;

	if (!read_all(fd, &header, sizeof(header)) || !is_header(&unwind, &header, key, size))
		return NULL;
	table_size = (size_t)header.table_size;
	table = malloc(table_size);
	if (table && read_all(fd, table, table_size)) {
		hash_table(table, table_size, hash);
		if (memcmp(hash, header.table_hash, sizeof(hash)) == 0 && cfi_table_check(table, table_size) == 0 &&
		    is_of(table, key))
			return table;
	}
	free(table);
	return NULL;
}

static void touch(int fd, const struct stat *st)
{
	if (time(NULL) - st->st_mtime > TOUCH_SECONDS)
		(void)futimens(fd, NULL);
}

static bool is_plausible(const struct kind *kind, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size - sizeof(struct file_header);

	return S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
	       (uint64_t)st->st_size > sizeof(struct file_header) + kind->least && size <= kind->most;
}

static void discard(struct table_cache *cache, const char *name)
{
	count(&cache->counters.damaged);
	(void)unlinkat(cache->fd, name, 0);
}

// What there is by that name, if it can be a table; −ENOENT. What cannot is removed.
static int open_file(struct table_cache *cache, const struct kind *kind, const char *name, struct stat *ret_st)
{
	int fd = openat(cache->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd >= 0 && fstat(fd, ret_st) == 0 && is_plausible(kind, ret_st))
		return fd;
	if (fd >= 0)
		close(fd);
	discard(cache, name);
	return -ENOENT;
}

int table_cache_get(struct table_cache *cache, const struct table_cache_key *key, struct wire_table **ret_table,
		    size_t *ret_size)
{
	struct wire_table *table;
	char name[MAX_NAME];
	struct stat st;
	int fd;

	if (cache->fd < 0 || !make_name(&unwind, key, name))
		return -ENOENT;
	fd = open_file(cache, &unwind, name, &st);
	if (fd < 0)
		return -ENOENT;
	table = read_table(fd, key, (uint64_t)st.st_size);
	if (table) {
		touch(fd, &st);
		count(&cache->counters.found);
		*ret_table = table;
		*ret_size = (size_t)st.st_size - sizeof(struct file_header);
	} else {
		discard(cache, name);
	}
	close(fd);
	return table ? 0 : -ENOENT;
}

static bool map_names(int fd, const struct table_cache_key *key, uint64_t size, struct table_cache_names *names_map)
{
	const struct file_header *header;
	uint64_t hash[2];

	names_map->map_size = (size_t)size;
	names_map->map = mmap(NULL, names_map->map_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (names_map->map == MAP_FAILED) {
		names_map->map = NULL;
		return false;
	}
	header = names_map->map;
	names_map->data = header + 1;
	names_map->size = (size_t)size - sizeof(*header);
	if (!is_header(&names, header, key, size))
		return false;
	hash_table(names_map->data, names_map->size, hash);
	return memcmp(hash, header->table_hash, sizeof(hash)) == 0;
}

int table_cache_get_names(struct table_cache *cache, const struct table_cache_key *key,
			  struct table_cache_names *ret_names)
{
	struct table_cache_names found = {0};
	char name[MAX_NAME];
	struct stat st;
	bool sound;
	int fd;

	if (cache->fd < 0 || !make_name(&names, key, name))
		return -ENOENT;
	fd = open_file(cache, &names, name, &st);
	if (fd < 0)
		return -ENOENT;
	sound = map_names(fd, key, (uint64_t)st.st_size, &found);
	if (sound) {
		touch(fd, &st);
		count(&cache->counters.names_found);
		*ret_names = found;
	} else {
		table_cache_unmap_names(&found);
		discard(cache, name);
	}
	close(fd);
	return sound ? 0 : -ENOENT;
}

void table_cache_unmap_names(struct table_cache_names *names_map)
{
	if (names_map->map)
		munmap(names_map->map, names_map->map_size);
	*names_map = (struct table_cache_names){0};
}

void table_cache_discard_names(struct table_cache *cache, const struct table_cache_key *key)
{
	char name[MAX_NAME];

	if (cache->fd >= 0 && make_name(&names, key, name))
		discard(cache, name);
}

// ---- Trimming ------------------------------------------------------------------------------------------------------

struct entry {
	char name[MAX_NAME];
	time_t used;
	uint64_t size;
};

static int by_use(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

static bool has_suffix(const char *name, const struct kind *kind)
{
	size_t length = strlen(name), suffix = strlen(kind->suffix);

	return length > suffix && length < MAX_NAME && strcmp(name + length - suffix, kind->suffix) == 0;
}

// Fills entries with our files; removes what a crash left.
static size_t list(int fd, struct entry *entries)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); // a position of its own
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *item;
	size_t n = 0;

	if (!directory) {
		if (copy >= 0)
			close(copy);
		return 0;
	}
	for (uint32_t seen = 0; seen < MAX_ENTRIES && (item = readdir(directory)); seen++) {
		struct stat st;

		if (fstatat(fd, item->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (strncmp(item->d_name, "tmp-", 4) == 0 && time(NULL) - st.st_mtime > STALE_SECONDS)
			(void)unlinkat(fd, item->d_name, 0);
		if (!has_suffix(item->d_name, &unwind) && !has_suffix(item->d_name, &names))
			continue;
		entries[n].used = st.st_mtime;
		entries[n].size = (uint64_t)st.st_size;
		memcpy(entries[n++].name, item->d_name, strlen(item->d_name) + 1);
	}
	closedir(directory);
	return n;
}

// Makes room for `size` bytes more.
static void trim(const struct table_cache *cache, uint64_t size)
{
	struct entry *entries = calloc(MAX_ENTRIES, sizeof(*entries)); // pages that are not used are not there
	uint64_t total = size;
	size_t n;

	if (!entries)
		return;
	n = list(cache->fd, entries);
	for (size_t i = 0; i < n; i++)
		total += entries[i].size;
	if (total > cache->max_bytes - cache->max_bytes / TRIM_SHARE) {
		qsort(entries, n, sizeof(*entries), by_use);
		for (size_t i = 0; i < n && total > cache->max_bytes / 100 * KEEP_PERCENT; i++) {
			(void)unlinkat(cache->fd, entries[i].name, 0);
			total -= entries[i].size;
		}
	}
	free(entries);
}

// Under the lock, before `size` bytes are written.
static void make_room(struct table_cache *cache, uint64_t size)
{
	if (!cache->looked || cache->writes >= TRIM_WRITES || cache->written + size > cache->max_bytes / TRIM_SHARE) {
		trim(cache, size);
		cache->looked = true;
		cache->writes = 0;
		cache->written = 0;
	}
	cache->writes++;
	cache->written += size;
}

// ---- Writing -------------------------------------------------------------------------------------------------------

static bool store(int directory, const char *name, const struct file_header *header,
		  const struct table_cache_bytes pieces[2])
{
	char temporary[64];
	uint64_t random = 0;
	bool stored;
	int fd;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = (uint64_t)(uintptr_t)&random ^ (uint64_t)time(NULL);
	snprintf(temporary, sizeof(temporary), "tmp-%d-%016llx", (int)getpid(), (unsigned long long)random);
	fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	stored = writer_fd_sink(&fd, header, sizeof(*header)) == 0 &&
		 writer_fd_sink(&fd, pieces[0].data, pieces[0].size) == 0 &&
		 writer_fd_sink(&fd, pieces[1].data, pieces[1].size) == 0;
	stored = close(fd) == 0 && stored && renameat(directory, temporary, directory, name) == 0;
	if (!stored)
		(void)unlinkat(directory, temporary, 0);
	return stored;
}

static void hash_pieces(const struct table_cache_bytes pieces[2], uint64_t ret_hash[2])
{
	XXH3_state_t *state = XXH3_createState();
	XXH128_hash_t hash = {0};

	if (state) {
		XXH3_128bits_reset(state);
		XXH3_128bits_update(state, pieces[0].data, pieces[0].size);
		XXH3_128bits_update(state, pieces[1].data, pieces[1].size);
		hash = XXH3_128bits_digest(state);
	}
	XXH3_freeState(state);
	ret_hash[0] = hash.low64;
	ret_hash[1] = hash.high64;
}

static void put(struct table_cache *cache, const struct kind *kind, const struct table_cache_key *key,
		const struct table_cache_bytes pieces[2])
{
	uint64_t size = pieces[0].size + pieces[1].size;
	struct file_header header = {.magic = MAGIC,
				     .compiler = kind->compiler,
				     .table_version = kind->version,
				     .machine = key->machine,
				     .table_size = size,
				     .file_size = key->file_size};
	char name[MAX_NAME];

	if (cache->fd < 0 || size > kind->most - sizeof(header) || size > cache->max_bytes / kind->share ||
	    !make_name(kind, key, name))
		return;
	hash_pieces(pieces, header.table_hash);
	header.header_hash = hash_header(&header);
	pthread_mutex_lock(&cache->lock);
	make_room(cache, size + sizeof(header));
	if (!store(cache->fd, name, &header, pieces))
		count(&cache->counters.unwritten);
	pthread_mutex_unlock(&cache->lock);
}

void table_cache_put(struct table_cache *cache, const struct table_cache_key *key, const struct wire_table *table,
		     size_t size)
{
	const struct table_cache_bytes pieces[2] = {{table, size}, {"", 0}};

	put(cache, &unwind, key, pieces);
}

void table_cache_put_names(struct table_cache *cache, const struct table_cache_key *key,
			   const struct table_cache_bytes *first, const struct table_cache_bytes *second)
{
	const struct table_cache_bytes pieces[2] = {*first, *second};

	put(cache, &names, key, pieces);
}

void table_cache_count_names_built(struct table_cache *cache)
{
	count(&cache->counters.names_built);
}

void table_cache_count_names_failed(struct table_cache *cache)
{
	count(&cache->counters.names_failed);
}

void table_cache_count_built(struct table_cache *cache)
{
	count(&cache->counters.built);
}

void table_cache_counters(const struct table_cache *cache, struct table_cache_counters *ret_counters)
{
	const struct table_cache_counters *counters = &cache->counters;

	*ret_counters = (struct table_cache_counters){
		.built = __atomic_load_n(&counters->built, __ATOMIC_RELAXED),
		.found = __atomic_load_n(&counters->found, __ATOMIC_RELAXED),
		.names_failed = __atomic_load_n(&counters->names_failed, __ATOMIC_RELAXED),
		.names_built = __atomic_load_n(&counters->names_built, __ATOMIC_RELAXED),
		.names_found = __atomic_load_n(&counters->names_found, __ATOMIC_RELAXED),
		.damaged = __atomic_load_n(&counters->damaged, __ATOMIC_RELAXED),
		.unwritten = __atomic_load_n(&counters->unwritten, __ATOMIC_RELAXED),
	};
}

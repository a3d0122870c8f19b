// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module.c: see module.h. A module is found again by (device, inode, path): its open fd keeps the inode from being reused. Where
// it does not (a file taken for its build ID), that is compared anew; and a file that was written to since is another module.
// The vDSO is the kernel's: one for all.

#include "collector/module_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/cfi_table.h"
#include "collector/log.h"
#include "collector/maps.h"
#include "collector/name_server.h"
#include "collector/symbolizer.h"
#include "collector/table_cache.h"
#include "collector/target_root.h"
#include "formats/writer.h"
#include "profd/wire.h"

#define CACHE_KEEP 1024  // modules kept although no target uses them
#define MAX_SEGMENTS 256 // PT_LOADs looked at

struct module_cache {
	pthread_mutex_t lock;
	struct module *modules;
	size_t count;
	char *debug_dirs;
	char downloads[PATH_MAX]; // debuginfod's directory; "": none
	struct debuginfod *debuginfod;
	struct target_root *last_root; // guarded by lock
	struct table_cache *tables;
};

// ---- The cache -----------------------------------------------------------------------------------------------------

static char *join_dirs(const struct module_debug *debug)
{
	bool more = debug && debug->dirs && debug->dirs[0];
	char *dirs;

	return asprintf(&dirs, "%s%s" MODULE_DEBUG_DIRS, more ? debug->dirs : "", more ? ":" : "") < 0 ? NULL : dirs;
}

// Without debuginfod all else works.
static void start_debuginfod(struct module_cache *cache, const struct module_debug *debug)
{
	if (!debug || !debug->debuginfod_urls || !debug->debuginfod_urls[0])
		return;
	if (debuginfod_directory(cache->downloads, sizeof(cache->downloads)))
		cache->debuginfod = debuginfod_create(&(struct debuginfod_options){
			.urls = debug->debuginfod_urls, .leave_running = debug->leave_downloads});
	if (!cache->debuginfod)
		log_line("debuginfod servers are not asked: %s",
			 cache->downloads[0] ? "out of memory" : "neither DEBUGINFOD_CACHE_PATH nor HOME is set");
}

struct module_cache *module_cache_create(const struct module_debug *debug, struct table_cache *tables)
{
	struct module_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->debug_dirs = join_dirs(debug);
	if (!cache->debug_dirs) {
		free(cache);
		return NULL;
	}
	cache->tables = tables;
	pthread_mutex_init(&cache->lock, NULL);
	(void)name_server_start(); // before there are threads, mostly; else when it is needed
	start_debuginfod(cache, debug);
	return cache;
}

static void module_free(struct module *module)
{
	symbolizer_destroy(module->symbolizer);
	elf_file_close(&module->file);
	if (module->table_fd >= 0)
		close(module->table_fd);
	pthread_mutex_destroy(&module->lock);
	free(module->segments);
	target_root_unref(module->root);
	free(module->package);
	free(module->path);
	free(module->debug_dirs);
	free(module->downloads);
	free(module);
}

void module_cache_destroy(struct module_cache *cache)
{
	if (!cache)
		return;
	while (cache->modules) {
		struct module *module = cache->modules;

		cache->modules = module->next;
		module_unref(module);
	}
	debuginfod_destroy(cache->debuginfod);
	target_root_unref(cache->last_root);
	pthread_mutex_destroy(&cache->lock);
	free(cache->debug_dirs);
	free(cache);
}

struct module *module_ref(struct module *module)
{
	__atomic_fetch_add(&module->refs, 1, __ATOMIC_RELAXED);
	return module;
}

void module_unref(struct module *module)
{
	if (module && __atomic_sub_fetch(&module->refs, 1, __ATOMIC_ACQ_REL) == 0)
		module_free(module);
}

static bool is_vdso(const struct maps_entry *entry)
{
	return strcmp(entry->path, "[vdso]") == 0;
}

static bool is_unchanged(const struct module *module)
{
	struct stat st;

	return module->fd < 0 ||
	       (fstat(module->fd, &st) == 0 && st.st_size == module->file_size &&
		st.st_mtim.tv_sec == module->written.tv_sec && st.st_mtim.tv_nsec == module->written.tv_nsec);
}

// Under the lock. The newest wins, so that a changed file's old module is not looked at again.
static struct module *cache_find(struct module_cache *cache, const struct maps_entry *entry)
{
	struct module *module = cache->modules;

	while (module && !(module->inode == entry->inode && module->dev_major == entry->dev_major &&
			   module->dev_minor == entry->dev_minor && strcmp(module->path, entry->path) == 0))
		module = module->next;
	return module ? module_ref(module) : NULL;
}

// Is what the cache has under this inode still what the process has mapped?
static bool is_still(const struct module *module, pid_t pid, const struct maps_entry *entry)
{
	return is_unchanged(module) &&
	       (module->by == MODULE_OPEN_INODE || module_open_matches(pid, entry, module->build_id));
}

// The oldest modules that nobody but the cache holds go first.
static void cache_trim(struct module_cache *cache)
{
	struct module **oldest = NULL;

	if (cache->count <= CACHE_KEEP)
		return;
	for (struct module **link = &cache->modules; *link; link = &(*link)->next)
		if (__atomic_load_n(&(*link)->refs, __ATOMIC_ACQUIRE) == 1)
			oldest = link;
	if (oldest) {
		struct module *module = *oldest;

		*oldest = module->next;
		cache->count--;
		module_unref(module);
	}
}

// ---- Making one ----------------------------------------------------------------------------------------------------

static int read_segments(struct module *module)
{
	size_t count;

	if (elf_getphdrnum(module->file.elf, &count) < 0)
		return -ENOEXEC;
	if (count > MAX_SEGMENTS)
		count = MAX_SEGMENTS;
	module->segments = calloc(count + 1, sizeof(*module->segments));
	if (!module->segments)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr segment;

		if (gelf_getphdr(module->file.elf, (int)i, &segment) && segment.p_type == PT_LOAD)
			module->segments[module->nsegments++] =
				(struct segment){.vaddr = segment.p_vaddr,
						 .offset = segment.p_offset,
						 .size = segment.p_filesz,
						 .memory_size = segment.p_memsz,
						 .executable = (segment.p_flags & PF_X) != 0,
						 .writable = (segment.p_flags & PF_W) != 0};
	}
	return module->nsegments ? 0 : -ENOEXEC;
}

static int note_state(struct module *module)
{
	struct stat st;

	module->fd = module->file.fd;
	if (module->fd < 0)
		return 0;
	if (fstat(module->fd, &st) < 0)
		return -errno;
	module->written = st.st_mtim;
	module->file_size = st.st_size;
	return 0;
}

// Modules of one process share its root.
static struct target_root *root_of(struct module_cache *cache, pid_t pid)
{
	struct target_root *root, *before;

	pthread_mutex_lock(&cache->lock);
	before = cache->last_root ? target_root_ref(cache->last_root) : NULL;
	pthread_mutex_unlock(&cache->lock);
	root = target_root_open(pid, before);
	target_root_unref(before);
	if (root && root != before) {
		pthread_mutex_lock(&cache->lock);
		before = cache->last_root;
		cache->last_root = target_root_ref(root);
		pthread_mutex_unlock(&cache->lock);
		target_root_unref(before);
	}
	return root;
}

static int module_create(struct module_cache *cache, pid_t pid, const struct maps_entry *entry,
			 struct module **ret_module)
{
	struct module *module = calloc(1, sizeof(*module));
	int error = -ENOMEM;

	if (!module)
		return -ENOMEM;
	pthread_mutex_init(&module->lock, NULL);
	module->refs = 1;
	module->table_fd = -1;
	module->file.fd = -1;
	module->root = root_of(cache, pid);
	module->inode = entry->inode;
	module->dev_major = entry->dev_major;
	module->dev_minor = entry->dev_minor;
	module->path = strdup(entry->path);
	module->tables = cache->tables;
	module->debuginfod = cache->debuginfod;
	module->debug_dirs = strdup(cache->debug_dirs);
	module->downloads = cache->debuginfod ? strdup(cache->downloads) : NULL;
	if (module->path && module->debug_dirs)
		error = module_open(pid, entry, &module->file, &module->by);
	if (!error)
		error = note_state(module);
	if (!error)
		error = read_segments(module);
	if (error) {
		module_free(module);
		return error;
	}
	elf_file_build_id(&module->file, module->build_id);
	*ret_module = module;
	return 0;
}

int module_cache_get(struct module_cache *cache, pid_t pid, const struct maps_entry *entry, struct module **ret_module)
{
	struct module *module;
	int error;

	pthread_mutex_lock(&cache->lock);
	module = cache_find(cache, entry);
	pthread_mutex_unlock(&cache->lock);
	if (module && is_still(module, pid, entry)) {
		*ret_module = module;
		return 0;
	}
	module_unref(module);
	error = module_create(cache, pid, entry, &module);
	if (error)
		return error;
	pthread_mutex_lock(&cache->lock);
	module->next = cache->modules;
	cache->modules = module_ref(module);
	cache->count++;
	cache_trim(cache);
	pthread_mutex_unlock(&cache->lock);
	*ret_module = module;
	return 0;
}

// ---- What it knows -------------------------------------------------------------------------------------------------

const char *module_path(const struct module *module)
{
	return module->path;
}

const char *module_build_id(const struct module *module)
{
	return module->build_id;
}

const struct target_root *module_root(const struct module *module)
{
	return module->root;
}

// The segment that a mapping from file_offset on shows. A page of the file may belong to two segments (lld and gold put them
// end to end) and is then mapped twice, with two biases: our mappings are the executable ones.
static const struct segment *find_segment(const struct module *module, uint64_t file_offset)
{
	const struct segment *found = NULL;

	for (size_t i = 0; i < module->nsegments; i++) {
		const struct segment *segment = &module->segments[i];
		uint64_t first = segment->offset & ~(uint64_t)(WIRE_PAGE - 1);

		if (file_offset < first || file_offset >= segment->offset + segment->size)
			continue;
		if (segment->executable)
			return segment;
		if (!found)
			found = segment;
	}
	return found;
}

int module_bias(const struct module *module, const struct maps_entry *entry, uint64_t *ret_bias)
{
	const struct segment *segment;

	// The vDSO is mapped whole, from its first byte; the kernel gives it no file offset.
	if (is_vdso(entry)) {
		*ret_bias = entry->start + module->segments[0].offset - module->segments[0].vaddr;
		return 0;
	}
	segment = find_segment(module, entry->file_offset);
	if (!segment)
		return -EINVAL;
	*ret_bias = entry->start - entry->file_offset + segment->offset - segment->vaddr;
	return 0;
}

bool module_may_cache(const struct module *module, uint32_t *ret_machine)
{
	GElf_Ehdr header;
	struct stat st;

	if (!module->build_id[0] || module->fd < 0 || fstat(module->fd, &st) < 0 || (st.st_mode & S_IWOTH) ||
	    (st.st_uid != 0 && st.st_uid != geteuid()) || !gelf_getehdr(module->file.elf, &header))
		return false;
	*ret_machine = header.e_machine;
	return true;
}

static int seal_table(const void *table, size_t size)
{
	int fd = memfd_create("profd-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (writer_fd_sink(&fd, table, size) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	close(fd);
	return -EIO;
}

static int find_table(struct module *module, struct table_cache *tables, struct wire_table **ret_table,
		      size_t *ret_size)
{
	struct table_cache_key key = {.build_id = module->build_id, .file_size = (uint64_t)module->file_size};
	bool cached = module_may_cache(module, &key.machine);
	int error;

	if (cached && table_cache_get(tables, &key, ret_table, ret_size) == 0)
		return 0;
	error = cfi_table_build(module->file.elf, ret_table, ret_size);
	if (error)
		return error;
	table_cache_count_built(tables);
	if (cached)
		table_cache_put(tables, &key, *ret_table, *ret_size);
	return 0;
}

static void make_table(struct module *module, struct table_cache *tables)
{
	struct wire_table *table;
	size_t size;

	module->table_tried = true;
	module->table_error = find_table(module, tables, &table, &size);
	if (module->table_error)
		return;
	module->table_fd = seal_table(table, size);
	module->table_size = size;
	if (module->table_fd < 0)
		module->table_error = module->table_fd;
	free(table);
}

int module_table(struct module *module, struct table_cache *tables, int *ret_fd, uint64_t *ret_size)
{
	int error;

	pthread_mutex_lock(&module->lock);
	if (!module->table_tried)
		make_table(module, tables);
	error = module->table_error;
	if (!error) {
		*ret_fd = module->table_fd;
		*ret_size = module->table_size;
	}
	pthread_mutex_unlock(&module->lock);
	return error;
}

void module_cache_downloads(struct module_cache *cache, struct debuginfod_counters *ret_counters)
{
	*ret_counters = (struct debuginfod_counters){0};
	if (cache->debuginfod)
		debuginfod_counters(cache->debuginfod, ret_counters);
}

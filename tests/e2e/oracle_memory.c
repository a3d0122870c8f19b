// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// oracle_memory.c: the traced process's memory, for all three walkers: what is in a file and cannot be written is read from the file,
// the rest from the process, a page at a time, once for each stop. So the walkers see the program without its breakpoints.

#include "tests/e2e/oracle.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "profd/safe_read.h"

#define PAGE 4096u
#define PAGES 64u // a power of two

pid_t oracle_pid, oracle_tid;
struct user_regs_struct oracle_regs;
struct unwind_modules oracle_modules;

static struct {
	uint64_t address; // 1: none
	uint8_t bytes[PAGE];
} pages[PAGES];

static struct oracle_file files[UNWIND_MAX_MODULES]; // as oracle_modules.files
static size_t nfiles;

// ---- The process's pages -------------------------------------------------------------------------------------------

void oracle_memory_forget(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		pages[i].address = 1;
}

static const uint8_t *page_at(uint64_t address)
{
	unsigned i = (unsigned)(address / PAGE % PAGES);
	struct iovec local = {pages[i].bytes, PAGE}, remote = {(void *)(uintptr_t)address, PAGE};

	if (pages[i].address != address) {
		pages[i].address = 1;
		if (process_vm_readv(oracle_pid, &local, 1, &remote, 1, 0) != (ssize_t)PAGE)
			return NULL;
		pages[i].address = address;
	}
	return pages[i].bytes;
}

static bool read_pages(uint64_t address, uint8_t *data, size_t size)
{
	while (size) {
		size_t at = address % PAGE, part = PAGE - at < size ? PAGE - at : size;
		const uint8_t *page = page_at(address - at);

		if (!page)
			return false;
		memcpy(data, page + at, part);
		address += part;
		data += part;
		size -= part;
	}
	return true;
}

// ---- Files ---------------------------------------------------------------------------------------------------------

static const uint8_t *map_file(const char *path, size_t *ret_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *image = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
		image = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		close(fd);
	if (image == MAP_FAILED)
		return NULL;
	*ret_size = (size_t)status.st_size;
	return image;
}

static uint64_t header_table(const struct unwind_file *file)
{
	for (size_t i = 0; i < file->phnum; i++)
		if (file->phdrs[i].p_type == PT_GNU_EH_FRAME)
			return file->phdrs[i].p_vaddr;
	return 0;
}

static void open_file(struct oracle_file *mine, const struct unwind_file *file, const struct profd_module *module)
{
	char *vdso = NULL;

	*mine = (struct oracle_file){.file = file, .table = header_table(file)};
	if (strcmp(file->path, "[vdso]") == 0) {
		elf_end(unwind_open_vdso(oracle_pid, module->start, module->end, &vdso));
		mine->image = (const uint8_t *)vdso;
		mine->size = vdso ? module->end - module->start : 0;
	} else {
		mine->image = map_file(file->path, &mine->size);
	}
	if (mine->image)
		mine->elf = elf_memory((char *)(uintptr_t)mine->image, mine->size);
	if (mine->elf)
		mine->cfi = dwarf_getcfi_elf(mine->elf);
}

static struct oracle_file *file_of(uint32_t module)
{
	size_t i = (size_t)(oracle_modules.owners[module] - oracle_modules.files);

	if (!files[i].file)
		open_file(&files[i], oracle_modules.owners[module], &oracle_modules.modules[module]);
	nfiles = i >= nfiles ? i + 1 : nfiles;
	return &files[i];
}

void oracle_modules_renew(void)
{
	static struct profd_module before[UNWIND_MAX_MODULES];
	uint32_t count = oracle_modules.set.count;

	memcpy(before, oracle_modules.modules, count * sizeof(before[0]));
	oracle_memory_forget();
	unwind_read_modules(&oracle_modules, oracle_pid);
	if (count == oracle_modules.set.count && memcmp(before, oracle_modules.modules, count * sizeof(before[0])) == 0)
		return;
	for (uint32_t i = 0; i < oracle_modules.set.count; i++)
		file_of(i);
	oracle_walk_forget();
}

// The first module that ends beyond the address.
static uint32_t module_index(uint64_t address)
{
	uint32_t low = 0, high = oracle_modules.set.count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (oracle_modules.modules[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct profd_module *oracle_module_at(uint64_t address, struct oracle_file **ret_file)
{
	uint32_t i = module_index(address);

	if (i == oracle_modules.set.count || address < oracle_modules.modules[i].start)
		return NULL;
	if (ret_file)
		*ret_file = file_of(i);
	return &oracle_modules.modules[i];
}

// Where in the file a vaddr is that no one can write to.
static bool image_offset(const struct oracle_file *file, uint64_t vaddr, size_t size, uint64_t *ret_offset)
{
	for (size_t i = 0; file->image && i < file->file->phnum; i++) {
		const GElf_Phdr *segment = &file->file->phdrs[i];
		uint64_t offset = segment->p_offset + (vaddr - segment->p_vaddr);

		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) || vaddr < segment->p_vaddr ||
		    vaddr - segment->p_vaddr + size > segment->p_filesz || offset + size > file->size)
			continue;
		*ret_offset = offset;
		return true;
	}
	return false;
}

const struct oracle_file *oracle_file_at(uint64_t address, uint64_t *ret_vaddr)
{
	uint32_t at = module_index(address);
	uint64_t offset;

	// Read-only data lies before or behind the text: it is this module's, or the one's before.
	for (uint32_t i = at ? at - 1 : 0; i <= at && i < oracle_modules.set.count; i++) {
		const struct oracle_file *file = file_of(i);
		uint64_t vaddr = address - oracle_modules.modules[i].bias;

		if (image_offset(file, vaddr, 1, &offset)) {
			*ret_vaddr = vaddr;
			return file;
		}
	}
	return NULL;
}

bool oracle_read(uint64_t address, void *data, size_t size)
{
	uint64_t vaddr, offset;
	const struct oracle_file *file;

	// The stack is asked for most, and near the top it is no file's.
	if (address - (oracle_regs.rsp & ~(PAGE - 1ULL)) < (1u << 17))
		return read_pages(address, data, size);
	file = oracle_file_at(address, &vaddr);
	if (file && image_offset(file, vaddr, size, &offset)) {
		memcpy(data, file->image + offset, size);
		return true;
	}
	return read_pages(address, data, size);
}

// In place of safe_read.c: what our walker reads is the traced process's.
void profd_safe_read_init(void) {}

bool profd_safe_read(uint64_t address, uint64_t *ret_value)
{
	return oracle_read(address, ret_value, 8);
}

uint32_t profd_safe_read_around(const uint64_t *addresses, uint32_t count, uint64_t (*ret_words)[2])
{
	uint32_t done = 0;

	while (done < count && profd_safe_read(addresses[done] - 8, &ret_words[done][0]) &&
	       profd_safe_read(addresses[done], &ret_words[done][1]))
		done++;
	return done;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module.h: one ELF file that some target maps as code: its open fd (so that a deleted or replaced file is still the one
// that runs), build ID, segments. Shared by all targets that map the same file; the cache owns a reference each.
// What is derived from it (symbols, unwind table) is made on first use and cached by the module.
//
// Thread safety: the cache and reference counts are locked; module_symbolize and module_table lock the module.
// Nothing in an ELF file is trusted: counts, offsets and sizes are checked against the file's size.

#ifndef PROFD_COLLECTOR_MODULE_H
#define PROFD_COLLECTOR_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct maps_entry;
struct module_cache;
struct module;
struct table_cache;

#define MODULE_DEBUG_DIRS "/usr/lib/debug"
// Where debug info is looked for beyond the files themselves and MODULE_DEBUG_DIRS.
struct module_debug {
	const char *dirs; // colon-separated, each built as /usr/lib/debug is, looked at before it; NULL: none
	const char *debuginfod_urls; // servers, separated by spaces; NULL: nobody is asked
	bool leave_downloads;        // at the end they go on: for a command that is done
};

// debug: NULL: nowhere. tables: where names are kept on disk; NULL: nowhere. It must outlive the modules' use.
struct module_cache *module_cache_create(const struct module_debug *debug, struct table_cache *tables);
void module_cache_destroy(struct module_cache *cache);

// The module behind a mapping of pid. Opens it through /proc/PID/map_files (needs rights), else /proc/PID/root/PATH, else
// PATH, and takes the file only when device and inode are those of the mapping (a file by that name which is another one
// is used only if it has the same build ID as the mapped memory, else not at all). "[vdso]" is read from /proc/PID/mem.
// 0 with a reference in *ret_module (module_unref), or −errno: −ENOEXEC not ELF, −ENOENT gone, −EACCES.
int module_cache_get(struct module_cache *cache, pid_t pid, const struct maps_entry *entry, struct module **ret_module);
struct module *module_ref(struct module *module);
void module_unref(struct module *module);

const char *module_path(const struct module *module);     // as mapped; "[vdso]"
const char *module_build_id(const struct module *module); // lowercase hex, "" when none
struct target_root;
const struct target_root *module_root(const struct module *module); // where its path is; NULL: our own root directory
// address − bias = vaddr in the ELF file, for an address inside the entry. −EINVAL when no PT_LOAD fits.
int module_bias(const struct module *module, const struct maps_entry *entry, uint64_t *ret_bias);

// One source-level frame at a PC.
struct module_frame {
	const char *name;        // demangled; owned by the module, valid as long as it
	const char *system_name; // as in the symbol table or DWARF linkage name
	const char *file;        // "" not known
	int64_t line;            // 0 not known
	int64_t start_line;      // of the function; 0 not known
};
#define MODULE_MAX_INLINE 64

// Which debug info names come from, best first.
enum module_symbols {
	MODULE_SYMBOLS_DWARF, // functions, inlined calls, lines
	MODULE_SYMBOLS_LINES, // DWARF with lines only; functions are those of the symbol table, if it has one
	MODULE_SYMBOLS_SYMTAB,
	MODULE_SYMBOLS_MINIDEBUG,
	MODULE_SYMBOLS_DYNSYM,
	MODULE_SYMBOLS_NONE
};
enum module_symbols module_symbols(struct module *module);
// Why there are names missing that should not be: the process that read the debug info failed. NULL: none are. Valid as long as the module.
const char *module_failure(struct module *module);
// The package that the file is of, as it was set; NULL: nobody has looked yet; "": none is known.
const char *module_package(struct module *module);
void module_set_package(struct module *module, const char *package); // once; later ones are ignored

// Frames at vaddr, innermost inline first, into frames[0..max). Returns how many (≥1), or 0 when the file names nothing
// there. The caller subtracts 1 from return addresses before.
size_t module_symbolize(struct module *module, uint64_t vaddr, struct module_frame *frames, size_t max);

// Somebody will want names of it, later: looks for its debug info now, while the process is there that maps it, and has it downloaded if
// there is none. May wait for files. The first time only; later calls cost nothing.
void module_seek(struct module *module);

// Why names of it are missing, or not as good as they could be: one line. False: there is nothing to say.
bool module_note(struct module *module, char *buf, size_t size);

struct debuginfod_counters;
void module_cache_downloads(struct module_cache *cache, struct debuginfod_counters *ret_counters);

// The variable at vaddr, as data_symbol_find, in this file or its separate debug file. false: vaddr is in none of its writable segments, or
// nothing is known there.
bool module_variable(struct module *module, uint64_t vaddr, char *buf, size_t size);

// Makes ready for module_symbolize of these, all at once: what names of them are not known yet is read by one process that is started
// for it, which for a large file takes as long for one address as for thousands. count 0 does nothing.
void module_prepare(struct module *module, const uint64_t *vaddrs, size_t count);

// The module's unwind table (wire.h) as a sealed memfd that the module owns, and its size; on first use taken from the cache on
// disk, or made and put there. 0 or −errno (−ENODATA: no CFI in the file).
int module_table(struct module *module, struct table_cache *tables, int *ret_fd, uint64_t *ret_size);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbolizer.c: see symbolizer.h.

#include "collector/symbolizer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "collector/debug_file.h"
#include "collector/demangle.h"
#include "collector/dwarf_image.h"
#include "collector/dwarf_index.h"
#include "collector/symbol_table.h"

#define CACHE_MAX (1u << 20) // answers remembered; past that they are worked out anew

// An answer: frames[first, first + count) of the pool; count 0: no name.
struct answer {
	uint64_t vaddr;
	uint32_t first;
	uint16_t count;
	uint16_t used; // 0: an empty place of the hash
};

// A mangled name and what it reads as.
struct readable {
	const char *mangled;
	char *text; // NULL: as it is
};

struct symbolizer {
	enum module_symbols source;
	struct elf_file debug, mini;      // separate files; zeroed: none
	struct elf_file image, alt_image; // what dwarf and alt read
	Dwarf *dwarf, *alt;
	struct dwarf_index *index;
	struct symbol_table *symtab, *minitab, *dynsym;
	struct answer *answers; // open addressing; answer_capacity is a power of two
	size_t answer_count, answer_capacity;
	struct module_frame *pool;
	size_t pool_count, pool_capacity;
	struct readable *readables; // open addressing
	size_t readable_count, readable_capacity;
};

// ---- Readable names ------------------------------------------------------------------------------------------------

static struct readable *readable_place(struct readable *places, size_t capacity, const char *mangled)
{
	size_t i = XXH3_64bits(mangled, strlen(mangled)) & (capacity - 1);

	while (places[i].mangled && strcmp(places[i].mangled, mangled) != 0)
		i = (i + 1) & (capacity - 1);
	return &places[i];
}

static bool readable_grow(struct symbolizer *symbolizer)
{
	size_t capacity = symbolizer->readable_capacity ? symbolizer->readable_capacity * 2 : 256;
	struct readable *places = calloc(capacity, sizeof(*places));

	if (!places)
		return false;
	for (size_t i = 0; i < symbolizer->readable_capacity; i++)
		if (symbolizer->readables[i].mangled)
			*readable_place(places, capacity, symbolizer->readables[i].mangled) = symbolizer->readables[i];
	free(symbolizer->readables);
	symbolizer->readables = places;
	symbolizer->readable_capacity = capacity;
	return true;
}

// A part that GCC made of a function (.cold, .isra.0) reads as the function: DWARF has it so, and a profile has one row for it.
static char *demangle_whole(const char *name)
{
	char *text = demangle(name);
	char *clone = text ? strstr(text, " [clone ") : NULL;

	if (clone)
		*clone = '\0';
	return text;
}

// name lives as long as the symbolizer (it is libdw's or a symbol table's).
static const char *readable_name(struct symbolizer *symbolizer, const char *name)
{
	struct readable *place;

	if (symbolizer->readable_count * 2 >= symbolizer->readable_capacity && !readable_grow(symbolizer))
		return name;
	place = readable_place(symbolizer->readables, symbolizer->readable_capacity, name);
	if (!place->mangled) {
		*place = (struct readable){name, demangle_whole(name)};
		symbolizer->readable_count++;
	}
	return place->text ? place->text : name;
}

// ---- Sources -------------------------------------------------------------------------------------------------------

static void open_alt(struct symbolizer *symbolizer, const struct elf_file *from, const char *debug_dirs,
		     const char *root)
{
	struct elf_file file = {.fd = -1};

	if (debug_file_alt(from, debug_dirs, root, &file) < 0)
		return;
	if (dwarf_image_open(&file, &symbolizer->alt_image) == 0)
		symbolizer->alt = dwarf_begin_elf(symbolizer->alt_image.elf, DWARF_C_READ, NULL);
	if (symbolizer->alt)
		dwarf_setalt(symbolizer->dwarf, symbolizer->alt);
	elf_file_close(&file);
}

static void open_dwarf(struct symbolizer *symbolizer, const struct elf_file *file, const char *path,
		       const char *build_id, const char *debug_dirs, const char *root)
{
	const struct elf_file *from = file;

	if (!debug_file_has_dwarf(file)) {
		if (debug_file_find(file, path, build_id, debug_dirs, root, &symbolizer->debug) < 0)
			return;
		from = &symbolizer->debug;
	}
	if (dwarf_image_open(from, &symbolizer->image) < 0)
		return;
	symbolizer->dwarf = dwarf_begin_elf(symbolizer->image.elf, DWARF_C_READ, NULL);
	if (!symbolizer->dwarf)
		return;
	open_alt(symbolizer, from, debug_dirs, root);
	symbolizer->index = dwarf_index_create(symbolizer->dwarf);
}

static void open_tables(struct symbolizer *symbolizer, const struct elf_file *file)
{
	symbolizer->symtab = symbol_table_create(file, SHT_SYMTAB);
	if (!symbolizer->symtab && symbolizer->debug.elf)
		symbolizer->symtab = symbol_table_create(&symbolizer->debug, SHT_SYMTAB);
	if (!symbolizer->symtab && debug_file_mini(file, &symbolizer->mini) == 0)
		symbolizer->minitab = symbol_table_create(&symbolizer->mini, SHT_SYMTAB);
	symbolizer->dynsym = symbol_table_create(file, SHT_DYNSYM);
}

static enum module_symbols best_source(const struct symbolizer *symbolizer)
{
	if (symbolizer->index)
		return MODULE_SYMBOLS_DWARF;
	if (symbolizer->symtab)
		return MODULE_SYMBOLS_SYMTAB;
	if (symbolizer->minitab)
		return MODULE_SYMBOLS_MINIDEBUG;
	return symbolizer->dynsym ? MODULE_SYMBOLS_DYNSYM : MODULE_SYMBOLS_NONE;
}

struct symbolizer *symbolizer_create(const struct elf_file *file, const char *path, const char *build_id,
				     const char *debug_dirs, const char *root)
{
	struct symbolizer *symbolizer = calloc(1, sizeof(*symbolizer));

	if (!symbolizer)
		return NULL;
	symbolizer->debug.fd = -1;
	symbolizer->mini.fd = -1;
	open_dwarf(symbolizer, file, path, build_id, debug_dirs, root);
	open_tables(symbolizer, file);
	symbolizer->source = best_source(symbolizer);
	return symbolizer;
}

void symbolizer_destroy(struct symbolizer *symbolizer)
{
	if (!symbolizer)
		return;
	dwarf_index_destroy(symbolizer->index);
	dwarf_end(symbolizer->dwarf);
	dwarf_end(symbolizer->alt);
	elf_file_close(&symbolizer->alt_image);
	symbol_table_destroy(symbolizer->symtab);
	symbol_table_destroy(symbolizer->minitab);
	symbol_table_destroy(symbolizer->dynsym);
	elf_file_close(&symbolizer->image);
	elf_file_close(&symbolizer->debug);
	elf_file_close(&symbolizer->mini);
	for (size_t i = 0; i < symbolizer->readable_capacity; i++)
		free(symbolizer->readables[i].text);
	free(symbolizer->readables);
	free(symbolizer->answers);
	free(symbolizer->pool);
	free(symbolizer);
}

enum module_symbols symbolizer_source(const struct symbolizer *symbolizer)
{
	return symbolizer->source;
}

// ---- Looking up ----------------------------------------------------------------------------------------------------

static const struct symbol *find_symbol(const struct symbolizer *symbolizer, uint64_t vaddr)
{
	const struct symbol_table *tables[] = {symbolizer->symtab, symbolizer->minitab, symbolizer->dynsym};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		const struct symbol *symbol = tables[i] ? symbol_table_find(tables[i], vaddr) : NULL;

		if (symbol)
			return symbol;
	}
	return NULL;
}

static void set_name(struct symbolizer *symbolizer, const char *system_name, const char *name,
		     struct module_frame *frame)
{
	frame->system_name = system_name ? system_name : name;
	frame->name = system_name ? readable_name(symbolizer, system_name) : name;
	// An extern "C" function, or one of C: the short name is the linker's.
	if (frame->name == system_name && name)
		frame->name = name;
}

// GCC gives no linkage name to what is local to a unit; the symbol table has it, with the parameters and the scopes around.
// Not where the linker folded equal functions and the symbol is another one's: DWARF's identifier must be in it.
static bool is_linkage_name(const struct symbol *symbol, const char *name)
{
	size_t length = strcspn(name, "<");
	bool mangled = strncmp(symbol->name, "_Z", 2) == 0 || strncmp(symbol->name, "_R", 2) == 0;

	return mangled &&
	       (strncmp(name, "operator", 8) == 0 || memmem(symbol->name, strlen(symbol->name), name, length));
}

// The outermost function may have no name in DWARF (assembler), or only a short one: the symbol table has.
static bool add_symbol_name(const struct symbolizer *symbolizer, uint64_t vaddr, struct dwarf_frame *outermost)
{
	const struct symbol *symbol = find_symbol(symbolizer, vaddr);

	if (symbol && (!outermost->name || is_linkage_name(symbol, outermost->name)))
		outermost->linkage_name = symbol->name;
	return outermost->name || outermost->linkage_name;
}

static size_t work_out(struct symbolizer *symbolizer, uint64_t vaddr, struct module_frame *frames, size_t max)
{
	struct dwarf_frame found[MODULE_MAX_INLINE];
	size_t count = 0;

	if (max > MODULE_MAX_INLINE)
		max = MODULE_MAX_INLINE;
	if (symbolizer->index)
		count = dwarf_index_find(symbolizer->index, vaddr, found, max);
	if (count == 0)
		memset(&found[count++], 0, sizeof(found[0]));
	if (!found[count - 1].linkage_name && !add_symbol_name(symbolizer, vaddr, &found[count - 1]) && count == 1)
		return 0;
	for (size_t i = 0; i < count; i++) {
		const char *name = found[i].name ? found[i].name : found[i].linkage_name ? NULL : "??";

		set_name(symbolizer, found[i].linkage_name, name, &frames[i]);
		frames[i].file = found[i].file ? found[i].file : "";
		frames[i].line = found[i].line;
		frames[i].start_line = found[i].start_line;
	}
	return count;
}

static struct answer *answer_place(struct answer *places, size_t capacity, uint64_t vaddr)
{
	size_t i = (vaddr * 0x9e3779b97f4a7c15ULL >> 20) & (capacity - 1);

	while (places[i].used && places[i].vaddr != vaddr)
		i = (i + 1) & (capacity - 1);
	return &places[i];
}

static bool answers_grow(struct symbolizer *symbolizer)
{
	size_t capacity = symbolizer->answer_capacity ? symbolizer->answer_capacity * 2 : 1024;
	struct answer *places = capacity <= CACHE_MAX * 2 ? calloc(capacity, sizeof(*places)) : NULL;

	if (!places)
		return false;
	for (size_t i = 0; i < symbolizer->answer_capacity; i++)
		if (symbolizer->answers[i].used)
			*answer_place(places, capacity, symbolizer->answers[i].vaddr) = symbolizer->answers[i];
	free(symbolizer->answers);
	symbolizer->answers = places;
	symbolizer->answer_capacity = capacity;
	return true;
}

static void remember(struct symbolizer *symbolizer, uint64_t vaddr, const struct module_frame *frames, size_t count)
{
	if (symbolizer->answer_count * 2 >= symbolizer->answer_capacity && !answers_grow(symbolizer))
		return;
	if (symbolizer->pool_count + count > symbolizer->pool_capacity) {
		size_t capacity = (symbolizer->pool_capacity + count) * 2;
		struct module_frame *grown =
			capacity < UINT32_MAX ? realloc(symbolizer->pool, capacity * sizeof(*grown)) : NULL;

		if (!grown)
			return;
		symbolizer->pool = grown;
		symbolizer->pool_capacity = capacity;
	}
	if (count)
		memcpy(symbolizer->pool + symbolizer->pool_count, frames, count * sizeof(*frames));
	*answer_place(symbolizer->answers, symbolizer->answer_capacity, vaddr) =
		(struct answer){vaddr, (uint32_t)symbolizer->pool_count, (uint16_t)count, 1};
	symbolizer->answer_count++;
	symbolizer->pool_count += count;
}

size_t symbolizer_find(struct symbolizer *symbolizer, uint64_t vaddr, struct module_frame *frames, size_t max)
{
	struct module_frame found[MODULE_MAX_INLINE];
	size_t count;

	if (symbolizer->answer_capacity) {
		struct answer *answer = answer_place(symbolizer->answers, symbolizer->answer_capacity, vaddr);

		if (answer->used) {
			count = answer->count < max ? answer->count : max;
			if (count)
				memcpy(frames, symbolizer->pool + answer->first, count * sizeof(*frames));
			return count;
		}
	}
	count = work_out(symbolizer, vaddr, found, MODULE_MAX_INLINE);
	remember(symbolizer, vaddr, found, count);
	if (count > max)
		count = max;
	if (count)
		memcpy(frames, found, count * sizeof(*frames));
	return count;
}

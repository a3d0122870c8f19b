// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_writer.c: see name_writer.h.

#include "collector/name_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <xxhash.h>

#include "collector/demangle.h"
#include "collector/interval_map.h"
#include "formats/writer.h"

#define RECENT (1u << 16)

// ---- A unit in words -----------------------------------------------------------------------------------------------

static bool start_words(struct name_words *words, uint64_t count)
{
	uint32_t *grown;

	words->count = 0;
	if (count > NAME_MAX_SIZE / 4)
		return false;
	if (count <= words->capacity)
		return true;
	grown = reallocarray(NULL, count + count / 4, 4);
	if (!grown)
		return false;
	free(words->words);
	words->words = grown;
	words->capacity = count + count / 4;
	return true;
}

static uint64_t count_words(const struct name_unit *unit)
{
	return 2ULL * unit->nedges + 2ULL * unit->nrows + 3ULL * unit->nscopes + 3ULL * unit->nfunctions + unit->nfiles;
}

static void put(struct name_words *words, uint32_t word)
{
	words->words[words->count++] = word;
}

static void put_edges(struct name_words *words, const struct interval_edge *edges, size_t count, uint64_t base)
{
	for (size_t i = 0; i < count; i++)
		put(words, (uint32_t)(edges[i].start - base));
	for (size_t i = 0; i < count; i++)
		put(words, edges[i].value);
}

// So many bits of a place are the line's that all lines of the unit fit; the file has the rest. A line beyond is not known.
static uint32_t bits_for_lines(const struct dwarf_unit *unit)
{
	uint32_t bits = 1, all = 0;

	for (size_t i = 0; i < unit->lines.nrows; i++)
		all |= unit->lines.rows[i].line <= INT32_MAX ? unit->lines.rows[i].line : 0;
	for (size_t i = 0; i < unit->nscopes; i++)
		all |= unit->scopes[i].call.line;
	while (bits < 31 && all >> bits)
		bits++;
	while (bits > 1 && unit->nfiles >> (32 - bits))
		bits--;
	return bits;
}

static uint32_t place_word(uint32_t bits, uint32_t file, uint32_t line)
{
	if (line >> bits)
		line = 0;
	return file >> (32 - bits) ? 0 : file << bits | line;
}

static void put_rows(struct name_words *words, const struct dwarf_unit *unit, uint64_t base)
{
	const struct dwarf_row *rows = unit->lines.rows;

	for (size_t i = 0; i < unit->lines.nrows; i++)
		put(words, (uint32_t)(rows[i].address - base));
	for (size_t i = 0; i < unit->lines.nrows; i++)
		put(words, place_word(words->unit.line_bits, rows[i].file, rows[i].file ? rows[i].line : 0));
}

static void put_scopes(struct name_words *words, const struct dwarf_unit *unit)
{
	for (size_t i = 0; i < unit->nscopes; i++) {
		const struct dwarf_scope *scope = &unit->scopes[i];

		put(words, scope->parent);
		put(words, scope->function);
		put(words, place_word(words->unit.line_bits, scope->call.file, scope->call.line));
	}
}

int name_words_of_dwarf(struct name_words *words, const struct dwarf_unit *unit, const struct name_label *labels,
			uint64_t base)
{
	const struct interval_map *places = &unit->places;

	words->unit = (struct name_unit){
		.nedges = places->edges ? (uint32_t)places->count : 0,
		.nrows = (uint32_t)unit->lines.nrows,
		.nscopes = (uint32_t)unit->nscopes,
		.nfunctions = (uint32_t)unit->nfunctions,
		.nfiles = (uint32_t)unit->nfiles,
		.line_bits = bits_for_lines(unit),
	};
	words->labels = labels;
	words->files = unit->files;
	if (!start_words(words, count_words(&words->unit)))
		return -ENOMEM;
	put_edges(words, places->edges, words->unit.nedges, base);
	put_rows(words, unit, base);
	put_scopes(words, unit);
	return 0;
}

int name_words_of_symbols(struct name_words *words, const struct interval_edge *edges, size_t nedges,
			  const struct name_label *labels, size_t nlabels, uint64_t base)
{
	words->unit = (struct name_unit){
		.nedges = (uint32_t)nedges,
		.nscopes = (uint32_t)nlabels,
		.nfunctions = (uint32_t)nlabels,
		.line_bits = 31,
	};
	words->labels = labels;
	words->files = NULL;
	if (!start_words(words, count_words(&words->unit)))
		return -ENOMEM;
	put_edges(words, edges, nedges, base);
	for (uint32_t i = 0; i < nlabels; i++) {
		put(words, NAME_NONE);
		put(words, i);
		put(words, 0);
	}
	return 0;
}

void name_words_finish(struct name_words *words)
{
	free(words->words);
	*words = (struct name_words){0};
}

// ---- Strings -------------------------------------------------------------------------------------------------------

static uint32_t *place_of(const struct name_writer *writer, const char *string, size_t length)
{
	size_t i = XXH3_64bits(string, length) & (writer->places_capacity - 1);

	while (writer->places[i] && (strncmp(writer->strings + writer->places[i], string, length) != 0 ||
				     writer->strings[writer->places[i] + length] != '\0'))
		i = (i + 1) & (writer->places_capacity - 1);
	return &writer->places[i];
}

static bool grow_places(struct name_writer *writer)
{
	uint32_t *old = writer->places;
	size_t old_capacity = writer->places_capacity, capacity = old_capacity ? old_capacity * 2 : 1u << 14;
	uint32_t *places = calloc(capacity, sizeof(*places));

	if (!places)
		return false;
	writer->places = places;
	writer->places_capacity = capacity;
	for (size_t i = 0; i < old_capacity; i++)
		if (old[i])
			*place_of(writer, writer->strings + old[i], strlen(writer->strings + old[i])) = old[i];
	free(old);
	return true;
}

static bool reserve_string(struct name_writer *writer, size_t size)
{
	size_t capacity = writer->strings_capacity ? writer->strings_capacity : 1u << 16;
	char *grown;

	if (writer->strings_size + size > NAME_MAX_SIZE / 2)
		return false;
	if (writer->strings_size + size <= writer->strings_capacity)
		return true;
	while (capacity < writer->strings_size + size)
		capacity *= 2;
	grown = realloc(writer->strings, capacity);
	if (!grown)
		return false;
	writer->strings = grown;
	writer->strings_capacity = capacity;
	return true;
}

static int64_t add_string(struct name_writer *writer, const char *string)
{
	size_t length = strlen(string);
	uint32_t *place;

	if (writer->nplaces * 2 >= writer->places_capacity && !grow_places(writer))
		return -ENOMEM;
	place = place_of(writer, string, length);
	if (*place)
		return *place;
	if (!reserve_string(writer, length + 1))
		return -ENOMEM;
	memcpy(writer->strings + writer->strings_size, string, length + 1);
	*place = (uint32_t)writer->strings_size;
	writer->strings_size += length + 1;
	writer->nplaces++;
	return *place;
}

static int64_t string_offset(struct name_writer *writer, const char *string)
{
	size_t i = ((uintptr_t)string * 0x9e3779b97f4a7c15ULL >> 40) & (RECENT - 1);
	int64_t offset;

	if (!string || !string[0])
		return 0;
	// The address alone does not tell: what was there may have been freed, and something else be there now.
	if (writer->recent[i].string == string && strcmp(writer->strings + writer->recent[i].offset, string) == 0)
		return writer->recent[i].offset;
	offset = add_string(writer, string);
	if (offset > 0) {
		writer->recent[i].string = string;
		writer->recent[i].offset = (uint32_t)offset;
	}
	return offset;
}

// ---- The block -----------------------------------------------------------------------------------------------------

static uint64_t round_up(uint64_t size)
{
	return (size + 7) & ~7ULL;
}

static uint64_t words_at(const struct name_header *header)
{
	return round_up(header->units_at + (uint64_t)header->nunits * sizeof(struct name_unit));
}

int name_writer_init(struct name_writer *writer)
{
	struct name_header *header = &writer->header;

	header->magic = NAME_MAGIC;
	header->version = NAME_VERSION;
	header->ranges_at = sizeof(*header);
	header->pages_at = header->ranges_at + header->nranges * (uint32_t)sizeof(struct name_range);
	header->units_at = header->pages_at + header->npages * (uint32_t)sizeof(uint32_t);
	writer->units = calloc(header->nunits + 1, sizeof(*writer->units));
	writer->recent = calloc(RECENT, sizeof(*writer->recent));
	if (!writer->units || !writer->recent || !reserve_string(writer, 1))
		return -ENOMEM;
	writer->strings[writer->strings_size++] = '\0';
	return 0;
}

void name_writer_finish(struct name_writer *writer)
{
	free(writer->units);
	free(writer->words);
	free(writer->strings);
	free(writer->places);
	free(writer->readable);
	free(writer->recent);
	*writer = (struct name_writer){0};
}

static int reserve_words(struct name_writer *writer, size_t count)
{
	size_t capacity = writer->words_capacity ? writer->words_capacity : 1u << 16;
	uint32_t *grown;

	if (words_at(&writer->header) + 4 * (uint64_t)(writer->nwords + count) > NAME_MAX_SIZE / 2)
		return -EFBIG;
	if (writer->nwords + count <= writer->words_capacity)
		return 0;
	while (capacity < writer->nwords + count)
		capacity *= 2;
	grown = reallocarray(writer->words, capacity, 4);
	if (!grown)
		return -ENOMEM;
	writer->words = grown;
	writer->words_capacity = capacity;
	return 0;
}

static uint32_t *readable_place(const struct name_writer *writer, uint32_t offset)
{
	size_t i = (offset * 0x9e3779b97f4a7c15ULL >> 40) & (writer->readable_capacity - 1);

	while (writer->readable[2 * i] && writer->readable[2 * i] != offset)
		i = (i + 1) & (writer->readable_capacity - 1);
	return &writer->readable[2 * i];
}

static bool grow_readable(struct name_writer *writer)
{
	struct name_writer old = *writer;
	size_t capacity = old.readable_capacity ? old.readable_capacity * 2 : 1024;

	writer->readable = calloc(capacity, 2 * sizeof(uint32_t));
	if (!writer->readable) {
		writer->readable = old.readable;
		return false;
	}
	writer->readable_capacity = capacity;
	for (size_t i = 0; i < old.readable_capacity; i++)
		if (old.readable[2 * i])
			memcpy(readable_place(writer, old.readable[2 * i]), &old.readable[2 * i], 2 * sizeof(uint32_t));
	free(old.readable);
	return true;
}

// What a mangled name reads as; otherwise: what to show when it cannot be read. Each name is demangled once.
static int64_t readable_offset(struct name_writer *writer, const char *mangled, uint32_t offset, uint32_t otherwise)
{
	int64_t found = otherwise;
	uint32_t *place;
	char *text;

	if (writer->nreadable * 2 >= writer->readable_capacity && !grow_readable(writer))
		return -ENOMEM;
	place = readable_place(writer, offset);
	if (place[0])
		return place[1] ? place[1] : otherwise;
	text = demangle_function(mangled);
	if (text)
		found = add_string(writer, text);
	free(text);
	if (found < 0)
		return found;
	place[0] = offset;
	place[1] = found == otherwise ? 0 : (uint32_t)found;
	writer->nreadable++;
	return found;
}

static int add_function(struct name_writer *writer, const struct name_label *label, struct name_function *at)
{
	int64_t name = string_offset(writer, label->name), system = string_offset(writer, label->system_name);

	if (name < 0 || system < 0)
		return -ENOMEM;
	*at = (struct name_function){(uint32_t)name, (uint32_t)system, label->start_line};
	if (!label->demangle_now || !(label->start_line & NAME_TO_DEMANGLE))
		return 0;
	name = readable_offset(writer, label->system_name, (uint32_t)system, (uint32_t)name);
	if (name < 0)
		return -ENOMEM;
	*at = (struct name_function){(uint32_t)name, (uint32_t)system, label->start_line & ~NAME_TO_DEMANGLE};
	return 0;
}

static int add_functions(struct name_writer *writer, const struct name_words *words, uint32_t *at)
{
	for (uint32_t i = 0; i < words->unit.nfunctions; i++, at += sizeof(struct name_function) / sizeof(*at))
		if (add_function(writer, &words->labels[i], (struct name_function *)at) < 0)
			return -ENOMEM;
	return 0;
}

static int add_files(struct name_writer *writer, const struct name_words *words, uint32_t *at)
{
	for (uint32_t i = 0; i < words->unit.nfiles; i++) {
		int64_t name = string_offset(writer, words->files[i]);

		if (name < 0)
			return -ENOMEM;
		*at++ = (uint32_t)name;
	}
	return 0;
}

int name_writer_add(struct name_writer *writer, uint32_t number, const struct name_words *words)
{
	uint64_t count = count_words(&words->unit);
	struct name_unit unit = words->unit;
	int error = reserve_words(writer, count);
	uint32_t *at;

	if (error)
		return error;
	unit.at = (uint32_t)(words_at(&writer->header) + 4 * writer->nwords);
	at = writer->words + writer->nwords;
	if (words->count)
		memcpy(at, words->words, words->count * 4);
	at += words->count;
	error = add_functions(writer, words, at);
	if (!error)
		error = add_files(writer, words, at + 3 * (size_t)unit.nfunctions);
	if (error)
		return error;
	writer->nwords += count;
	writer->units[number] = unit;
	return 0;
}

int name_writer_add_empty(struct name_writer *writer, uint32_t number)
{
	const struct name_words none = {.unit.line_bits = 31};

	return name_writer_add(writer, number, &none);
}

int name_writer_write(struct name_writer *writer, int fd)
{
	static const char zeros[8];
	struct name_header *header = &writer->header;
	uint64_t units_end = header->units_at + (uint64_t)header->nunits * sizeof(struct name_unit);
	uint64_t strings_end;
	int error;

	header->strings_at = (uint32_t)(words_at(header) + 4 * (uint64_t)writer->nwords);
	header->strings_size = (uint32_t)writer->strings_size;
	strings_end = (uint64_t)header->strings_at + header->strings_size;
	header->size = round_up(strings_end);
	error = writer_fd_sink(&fd, header, sizeof(*header));
	if (!error)
		error = writer_fd_sink(&fd, writer->ranges, header->nranges * sizeof(*writer->ranges));
	if (!error)
		error = writer_fd_sink(&fd, writer->pages, header->npages * sizeof(*writer->pages));
	if (!error)
		error = writer_fd_sink(&fd, writer->units, header->nunits * sizeof(*writer->units));
	if (!error)
		error = writer_fd_sink(&fd, zeros, words_at(header) - units_end);
	if (!error)
		error = writer_fd_sink(&fd, writer->words, writer->nwords * 4);
	if (!error)
		error = writer_fd_sink(&fd, writer->strings, writer->strings_size);
	return error ? error : writer_fd_sink(&fd, zeros, header->size - strings_end);
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_compiler.c: see name_compiler.h.

#include "collector/name_compiler.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/debug_file.h"
#include "collector/demangle.h"
#include "collector/module.h"
#include "collector/name_index.h"
#include "collector/name_split.h"
#include "collector/name_writer.h"

#define MAX_THREADS 4
#define ALL_BELOW (1u << 16) // bytes of .debug_info; what has less is compiled whole

struct compiler {
	const struct name_request *request;
	enum module_symbols source;
	struct dwarf_file dwarf, alt;
	struct name_package *package;
	struct elf_file mini;
	struct symbol_table *symbols;
	struct name_index index;
	pthread_mutex_t lock; // guards what follows; and open_split
	struct name_writer writer;
	size_t next; // job
	int error;
};

// What one thread works with.
struct hand {
	struct compiler *compiler;
	struct dwarf_unit unit;
	struct name_split split;
	struct name_words words;
	struct name_label *labels;
	size_t labels_capacity;
};

// ---- Labels --------------------------------------------------------------------------------------------------------

// GCC gives no linkage name to what is local to a unit; the symbol table has it, with the parameters and the scopes around.
// Not where the linker folded equal functions and the symbol is another one's: DWARF's identifier must be in it.
static bool is_linkage_name(const struct symbol *symbol, const char *name)
{
	const char *identifier = name + (name[0] == '~'); // a destructor's class
	size_t length = strcspn(identifier, "<");
	bool mangled = strncmp(symbol->name, "_Z", 2) == 0 || strncmp(symbol->name, "_R", 2) == 0;

	return mangled &&
	       (strncmp(name, "operator", 8) == 0 || memmem(symbol->name, strlen(symbol->name), identifier, length));
}

static const char *find_linkage_name(const struct compiler *compiler, const struct dwarf_function *function)
{
	const struct symbol *symbol;

	if (function->linkage_name || !function->entry || !compiler->symbols)
		return function->linkage_name;
	symbol = symbol_table_find(compiler->symbols, function->entry);
	return symbol && (!function->name || is_linkage_name(symbol, function->name)) ? symbol->name : NULL;
}

static struct name_label make_label(const char *name, const char *linkage_name, uint32_t start_line, bool wanted)
{
	struct name_label label = {
		.name = name,
		.system_name = linkage_name ? linkage_name : name,
		.start_line = start_line,
		.demangle_now = wanted,
	};

	if (!linkage_name)
		return label;
	if (!name)
		label.name = linkage_name;
	if (demangle_is_mangled(linkage_name))
		label.start_line |= NAME_TO_DEMANGLE;
	return label;
}

static bool reserve_labels(struct hand *hand, size_t count)
{
	struct name_label *grown;

	if (count <= hand->labels_capacity)
		return true;
	grown = reallocarray(hand->labels, count, sizeof(*grown));
	if (!grown)
		return false;
	hand->labels = grown;
	hand->labels_capacity = count;
	return true;
}

// ---- Units ---------------------------------------------------------------------------------------------------------

static int put_dwarf(struct hand *hand, const struct name_job *job)
{
	struct compiler *compiler = hand->compiler;
	const struct dwarf_cu *skeleton = &compiler->dwarf.units[job->unit];
	const struct dwarf_cu *cu = name_split_find(&hand->split, &compiler->request->sources, compiler->package,
						    &compiler->lock, skeleton);
	int error = dwarf_unit_read(&hand->unit, cu, compiler->index.wanted + job->first, job->count);

	if (error)
		return error;
	if (!reserve_labels(hand, hand->unit.nfunctions))
		return -ENOMEM;
	for (size_t i = 0; i < hand->unit.nfunctions; i++) {
		const struct dwarf_function *function = &hand->unit.functions[i];

		hand->labels[i] = make_label(function->name, find_linkage_name(compiler, function),
					     function->start_line, function->wanted);
	}
	return name_words_of_dwarf(&hand->words, &hand->unit, hand->labels, compiler->index.span.start);
}

// A page of symbols. Its edges are given numbers of labels in place of symbols'.
struct page {
	struct interval_edge edges[NAME_PAGE_EDGES];
	size_t nedges, nlabels;
};

static bool is_wanted(const struct compiler *compiler, const struct name_job *job, const struct symbol *symbol)
{
	for (uint32_t i = 0; i < job->count; i++) {
		uint64_t address = compiler->index.wanted[job->first + i];

		if (address >= symbol->start && address < symbol->end)
			return true;
	}
	return false;
}

static void fill_page(struct hand *hand, const struct name_job *job, struct page *page)
{
	const struct compiler *compiler = hand->compiler;
	const struct interval_edge *edges;
	size_t count = symbol_table_edges(compiler->symbols, &edges);
	size_t first = (job->unit - compiler->dwarf.count) * (size_t)NAME_PAGE_EDGES;

	for (size_t i = first; i < count && i < first + NAME_PAGE_EDGES; i++) {
		const struct symbol *symbol = symbol_table_get(compiler->symbols, edges[i].value);
		struct interval_edge *edge = &page->edges[page->nedges++];

		*edge = (struct interval_edge){edges[i].start, NAME_NONE};
		if (!symbol)
			continue;
		edge->value = (uint32_t)page->nlabels;
		hand->labels[page->nlabels++] = make_label(NULL, symbol->name, 0, is_wanted(compiler, job, symbol));
	}
}

static int put_symbols(struct hand *hand, const struct name_job *job)
{
	struct page page;

	page.nedges = page.nlabels = 0;
	if (!reserve_labels(hand, NAME_PAGE_EDGES))
		return -ENOMEM;
	fill_page(hand, job, &page);
	return name_words_of_symbols(&hand->words, page.edges, page.nedges, hand->labels, page.nlabels,
				     hand->compiler->index.span.start);
}

static int put_unit(struct hand *hand, const struct name_job *job)
{
	return job->unit < hand->compiler->dwarf.count ? put_dwarf(hand, job) : put_symbols(hand, job);
}

// A unit that makes no sense is known to be empty, and not tried again.
static void add_unit(struct hand *hand, const struct name_job *job, int error)
{
	struct compiler *compiler = hand->compiler;

	pthread_mutex_lock(&compiler->lock);
	if (error == -EINVAL)
		error = name_writer_add_empty(&compiler->writer, job->unit);
	else if (!error)
		error = name_writer_add(&compiler->writer, job->unit, &hand->words);
	if (error && !compiler->error)
		compiler->error = error;
	pthread_mutex_unlock(&compiler->lock);
}

static const struct name_job *next_job(struct compiler *compiler)
{
	const struct name_job *job = NULL;

	pthread_mutex_lock(&compiler->lock);
	if (!compiler->error && compiler->next < compiler->index.njobs)
		job = &compiler->index.jobs[compiler->next++];
	pthread_mutex_unlock(&compiler->lock);
	return job;
}

static void *work(void *context)
{
	struct compiler *compiler = context;
	struct hand *hand = calloc(1, sizeof(*hand));
	const struct name_job *job;

	if (!hand)
		return NULL;
	hand->compiler = compiler;
	hand->unit.span = compiler->index.span;
	while ((job = next_job(compiler)))
		add_unit(hand, job, put_unit(hand, job));
	dwarf_unit_finish(&hand->unit);
	name_split_finish(&hand->split);
	name_words_finish(&hand->words);
	free(hand->labels);
	free(hand);
	return NULL;
}

// The calling thread is one of them.
static void run(struct compiler *compiler)
{
	pthread_t threads[MAX_THREADS];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int started = 0;

	while (started < MAX_THREADS - 1 && started + 1 < cpus && started + 2 < (int)compiler->index.njobs / 4 &&
	       pthread_create(&threads[started], NULL, work, compiler) == 0)
		started++;
	work(compiler);
	while (started > 0)
		pthread_join(threads[--started], NULL);
	if (!compiler->error && compiler->next < compiler->index.njobs)
		compiler->error = -ENOMEM;
}

// ---- Sources -------------------------------------------------------------------------------------------------------

static void open_dwarf(const struct elf_file *file, struct dwarf_file *ret_dwarf)
{
	struct dwarf_sections sections;

	if (file && dwarf_sections_open(file, false, &sections) == 0)
		dwarf_file_init(ret_dwarf, &sections);
}

// Names of the PLT's entries come with any of them; where there are none but those, the file's own functions have no names.
static bool try_symbols(struct compiler *compiler, struct symbol_source *found, size_t count,
			enum module_symbols source)
{
	symbol_table_destroy(compiler->symbols);
	found[count++] = (struct symbol_source){compiler->request->sources.file, SYMBOL_SOURCE_PLT};
	compiler->symbols = symbol_table_create(found, count);
	compiler->source = source;
	if (compiler->symbols && !symbol_table_has_plt_alone(compiler->symbols))
		return true;
	compiler->source = MODULE_SYMBOLS_NONE;
	return false;
}

static void open_symbols(struct compiler *compiler)
{
	const struct name_sources *sources = &compiler->request->sources;
	struct symbol_source found[4];
	enum module_symbols source = MODULE_SYMBOLS_DYNSYM;
	size_t count = 0;

	found[count++] = (struct symbol_source){sources->file, SHT_SYMTAB};
	if (sources->debug)
		found[count++] = (struct symbol_source){sources->debug, SHT_SYMTAB};
	if (try_symbols(compiler, found, count, MODULE_SYMBOLS_SYMTAB))
		return;
	count = 0;
	if (debug_file_mini(sources->file, &compiler->mini) == 0) {
		found[count++] = (struct symbol_source){&compiler->mini, SHT_SYMTAB};
		source = MODULE_SYMBOLS_MINIDEBUG;
	}
	found[count++] = (struct symbol_source){sources->file, SHT_DYNSYM};
	(void)try_symbols(compiler, found, count, source);
}

static int open_sources(struct compiler *compiler)
{
	const struct name_sources *sources = &compiler->request->sources;

	if (!name_index_span(sources->file, &compiler->index.span))
		return -EINVAL;
	open_symbols(compiler);
	compiler->index.symbols = compiler->symbols;
	compiler->index.dwarf = &compiler->dwarf;
	if (compiler->request->symbols_alone)
		return 0;
	open_dwarf(sources->debug ? sources->debug : sources->file, &compiler->dwarf);
	open_dwarf(sources->alt, &compiler->alt);
	if (sources->alt)
		compiler->dwarf.alt = &compiler->alt;
	compiler->package = name_package_open(sources->package);
	return 0;
}

static int start_writer(struct compiler *compiler)
{
	struct name_writer *writer = &compiler->writer;
	const struct name_index *index = &compiler->index;

	if (index->nranges)
		compiler->source =
			dwarf_file_has_functions(&compiler->dwarf) ? MODULE_SYMBOLS_DWARF : MODULE_SYMBOLS_LINES;
	writer->ranges = index->ranges;
	writer->pages = index->pages;
	writer->header = (struct name_header){
		.source = compiler->source,
		.base = index->span.start,
		.identity = {compiler->request->identity[0], compiler->request->identity[1]},
		.nranges = (uint32_t)index->nranges,
		.npages = (uint32_t)index->npages,
		.ndwarf = (uint32_t)compiler->dwarf.count,
		.nunits = (uint32_t)(compiler->dwarf.count + index->npages),
	};
	return name_writer_init(writer);
}

static void finish(struct compiler *compiler)
{
	name_writer_finish(&compiler->writer);
	name_index_finish(&compiler->index);
	symbol_table_destroy(compiler->symbols);
	name_package_close(compiler->package);
	dwarf_file_close(&compiler->dwarf);
	dwarf_file_close(&compiler->alt);
	elf_file_close(&compiler->mini);
	pthread_mutex_destroy(&compiler->lock);
}

int name_compile(const struct name_request *request, int fd)
{
	struct compiler compiler = {.request = request, .mini.fd = -1};
	enum name_extent extent = request->each_unit ? NAME_EACH_UNIT : NAME_FIRST_UNIT;
	int error;

	pthread_mutex_init(&compiler.lock, NULL);
	error = open_sources(&compiler);
	if (!request->symbols_alone && compiler.dwarf.sections.parts[DWARF_INFO].size < ALL_BELOW)
		extent = NAME_EVERYTHING;
	if (!error)
		error = name_index_init(&compiler.index, request->addresses, request->count, extent);
	if (!error)
		error = start_writer(&compiler);
	if (!error) {
		run(&compiler);
		error = compiler.error;
	}
	if (!error)
		error = name_writer_write(&compiler.writer, fd);
	finish(&compiler);
	return error;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flamegraph_html.c: the flame graph as one page that needs nothing else: style, script and data are in it, and its
// Content-Security-Policy forbids it to load anything. The data is JSON in a <script type="application/json">, where
// every '<' is written \u003c so that no name can end the element. The page does all sums itself, so that one
// file serves every value and every thread. Arrays are flat:
//
//   strings  each text once
//   modules  string                                  heaviest first
//   reasons  a text per module: why code of it has no name, or what would help
//   frames   name, module, file, start line, label   strings by index; modules by index; the label is what boxes show, −1:
//                                                    the name, which is none but module and offset
//   sites    frame, first line, last line        a frame and the lines seen at work in it; 0: not known
//   nodes    preorder, without the root: site + 1; a number below zero goes up that many levels first
//   threads  name as a string's index, id as a number or a text
//   leaves   node − node of the leaf before, thread, values…
//
// Beyond HTML_MAX_NODES the lightest frames are folded into their callers and the page says so. Runs wherever a format
// is written; no state of its own.

#include "flamegraph_colors_js.h"
#include "flamegraph_css.h"
#include "flamegraph_js.h"
#include "flamegraph_model_js.h"
#include "flamegraph_page_html.h"
#include "formats/flame_tree.h"
#include "formats/profile.h"
#include "formats/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HTML_MAX_NODES 2000000u
#define HTML_MAX_NAME 4096 // bytes of a text; a longer one is cut

static const char head_start[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
	"style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";

// ---- Texts by number -----------------------------------------------------------------------------------------------

// Each text gets the number of its first use. Open addressing, at most half full.
struct strings {
	const char **list;
	uint32_t *slots; // number + 1, 0: free
	uint32_t count, mask;
};

static int strings_init(struct strings *strings, size_t max)
{
	uint32_t slots = 16;
	if (max > UINT32_MAX / 4)
		return -EOVERFLOW;
	while (slots < 2 * max)
		slots *= 2;
	strings->mask = slots - 1;
	strings->list = calloc(max, sizeof(*strings->list));
	strings->slots = calloc(slots, sizeof(*strings->slots));
	return strings->list && strings->slots ? 0 : -ENOMEM;
}

static void strings_finish(struct strings *strings)
{
	free(strings->list);
	free(strings->slots);
}

static uint32_t strings_number(struct strings *strings, const char *text)
{
	uint32_t hash = 2166136261u; // FNV-1a
	for (const char *p = text; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	for (uint32_t slot = hash & strings->mask;; slot = (slot + 1) & strings->mask) {
		uint32_t number = strings->slots[slot];
		if (number && strcmp(strings->list[number - 1], text) == 0)
			return number - 1;
		if (!number) {
			strings->list[strings->count] = text;
			strings->slots[slot] = ++strings->count;
			return strings->count - 1;
		}
	}
}

// ---- The page ------------------------------------------------------------------------------------------------------

struct site {
	uint32_t frame, line_min, line_max;
};

// Node i's place, by number. Open addressing, at most half full.
struct sites {
	struct site *list;
	uint32_t *slots; // number + 1, 0: free
	uint32_t *of_node;
	uint32_t count, mask;
};

struct page {
	const struct profile *profile;
	struct flame_tree *tree;
	struct writer *out; // the page
	struct writer json; // the data; its sink escapes '<' on the way to out
	uint32_t value;
	bool full_names;
	struct strings strings;
	struct sites sites;
	uint32_t *frame_number; // per frame of the tree: its number in the page
};

// In JSON '<' stands in strings alone, where \u003c reads the same.
static int escape_sink(void *context, const void *data, size_t size)
{
	struct writer *out = context;
	const char *at = data, *end = at + size;
	while (at < end) {
		const char *less = memchr(at, '<', (size_t)(end - at));
		writer_put(out, at, (size_t)((less ? less : end) - at));
		if (!less)
			break;
		writer_puts(out, "\\u003c");
		at = less + 1;
	}
	return out->error;
}

// ---- Numbering -----------------------------------------------------------------------------------------------------

static int sites_init(struct sites *sites, uint32_t nnodes)
{
	uint32_t slots = 16;
	while (slots < 2 * nnodes) // at most HTML_MAX_NODES
		slots *= 2;
	sites->mask = slots - 1;
	sites->list = calloc((size_t)nnodes + 1, sizeof(*sites->list));
	sites->slots = calloc(slots, sizeof(*sites->slots));
	sites->of_node = calloc((size_t)nnodes + 1, sizeof(*sites->of_node));
	return sites->list && sites->slots && sites->of_node ? 0 : -ENOMEM;
}

static void sites_finish(struct sites *sites)
{
	free(sites->list);
	free(sites->slots);
	free(sites->of_node);
}

static bool site_equal(const struct site *a, const struct site *b)
{
	return a->frame == b->frame && a->line_min == b->line_min && a->line_max == b->line_max;
}

static uint32_t sites_number(struct sites *sites, const struct site *site)
{
	uint64_t hash = (site->frame * 0x9e3779b97f4a7c15ULL) ^ (site->line_min * 0xc2b2ae3d27d4eb4fULL) ^
			(site->line_max * 0x165667b19e3779f9ULL);
	for (uint32_t slot = (uint32_t)(hash >> 32) & sites->mask;; slot = (slot + 1) & sites->mask) {
		uint32_t number = sites->slots[slot];
		if (number && site_equal(&sites->list[number - 1], site))
			return number - 1;
		if (!number) {
			sites->list[sites->count] = *site;
			sites->slots[slot] = ++sites->count;
			return sites->count - 1;
		}
	}
}

// The page holds the frames that the tree has nodes for, in the tree's order.
static int number_frames(struct page *page)
{
	const struct flame_tree *tree = page->tree;
	uint32_t count = 0;
	page->frame_number = calloc((size_t)tree->nframes + 1, sizeof(*page->frame_number));
	if (!page->frame_number)
		return -ENOMEM;
	for (uint32_t i = 1; i < tree->nnodes; i++)
		page->frame_number[tree->nodes[i].frame] = 1;
	for (uint32_t i = 0; i < tree->nframes; i++)
		page->frame_number[i] = page->frame_number[i] ? count++ : FLAME_NO_FRAME;
	return 0;
}

static int number_all(struct page *page)
{
	const struct flame_tree *tree = page->tree;
	int err = number_frames(page);
	if (!err)
		err = sites_init(&page->sites, tree->nnodes);
	if (!err)
		err = strings_init(&page->strings, 3 * (size_t)tree->nframes + tree->nmodules + tree->nthreads + 1);
	if (err)
		return err;
	for (uint32_t i = 1; i < tree->nnodes; i++) {
		const struct flame_node *node = &tree->nodes[i];
		struct site site = {page->frame_number[node->frame], node->line_min, node->line_max};
		page->sites.of_node[i] = sites_number(&page->sites, &site);
	}
	return 0;
}

// ---- The data ------------------------------------------------------------------------------------------------------

static void put_text(struct page *page, const char *text)
{
	char cut[HTML_MAX_NAME + 1];
	size_t size = strnlen(text, sizeof(cut));
	writer_puts(&page->json, "\"");
	if (size < sizeof(cut)) {
		writer_json(&page->json, text);
	} else {
		size = HTML_MAX_NAME;
		while (size > HTML_MAX_NAME - 4 && ((unsigned char)text[size] & 0xc0) == 0x80)
			size--; // back to where a character begins
		memcpy(cut, text, size);
		cut[size] = '\0';
		writer_json(&page->json, cut);
		writer_puts(&page->json, "…");
	}
	writer_puts(&page->json, "\"");
}

static const char *comma(uint32_t i)
{
	return i ? "," : "";
}

static void put_type(struct page *page, const struct profile_value_type *type)
{
	writer_puts(&page->json, "[");
	put_text(page, type->type ? type->type : "");
	writer_puts(&page->json, ",");
	put_text(page, type->unit ? type->unit : "");
	writer_puts(&page->json, "]");
}

static void put_facts(struct page *page, const char *title)
{
	const struct profile *profile = page->profile;
	writer_puts(&page->json, "{\"title\":");
	put_text(page, title);
	writer_puts(&page->json, ",\"version\":\"" PROFD_VERSION "\",\"types\":[");
	for (uint32_t i = 0; i < profile->nsample_types; i++) {
		writer_puts(&page->json, comma(i));
		put_type(page, &profile->sample_types[i]);
	}
	writer_printf(&page->json, "],\"type\":%" PRIu32 ",\"time\":%" PRId64 ",\"duration\":%" PRId64, page->value,
		      profile->time_ns, profile->duration_ns);
	writer_printf(&page->json, ",\"period\":%" PRId64 ",\"periodType\":", profile->period);
	put_type(page, &profile->period_type);
	writer_printf(&page->json, ",\"limited\":%" PRIu64 ",\"negative\":%" PRIu64 ",\n\"comments\":[",
		      page->tree->limited, page->tree->negative);
	for (uint32_t i = 0; i < profile->ncomments; i++) {
		writer_puts(&page->json, comma(i));
		put_text(page, profile->comments[i]);
	}
	writer_puts(&page->json, "]");
}

static void put_modules(struct page *page)
{
	writer_puts(&page->json, ",\n\"modules\":[");
	for (uint32_t i = 0; i < page->tree->nmodules; i++)
		writer_printf(&page->json, "%s%" PRIu32, comma(i),
			      strings_number(&page->strings, page->tree->modules[i].path));
	writer_puts(&page->json, "]");
}

static void put_reasons(struct page *page)
{
	writer_puts(&page->json, ",\n\"reasons\":[");
	for (uint32_t i = 0; i < page->tree->nmodules; i++) {
		const struct flame_module *module = &page->tree->modules[i];
		writer_puts(&page->json, comma(i));
		put_text(page, module->advice);
	}
	writer_puts(&page->json, "]");
}

static int64_t label_number(struct page *page, const struct flame_frame *frame)
{
	if (frame->nameless)
		return -1;
	return strings_number(&page->strings, page->full_names ? frame->name : frame->label);
}

static void put_frames(struct page *page)
{
	writer_puts(&page->json, ",\n\"frames\":[");
	for (uint32_t i = 0; i < page->tree->nframes; i++) {
		const struct flame_frame *frame = &page->tree->frames[i];
		if (page->frame_number[i] == FLAME_NO_FRAME)
			continue;
		writer_printf(&page->json, "%s%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRId64 ",%" PRId64,
			      comma(page->frame_number[i]), strings_number(&page->strings, frame->name), frame->module,
			      strings_number(&page->strings, frame->file),
			      frame->start_line > 0 ? frame->start_line : 0, label_number(page, frame));
	}
	writer_puts(&page->json, "]");
}

static void put_nodes(struct page *page)
{
	const struct flame_node *nodes = page->tree->nodes;
	writer_puts(&page->json, ",\n\"sites\":[");
	for (uint32_t i = 0; i < page->sites.count; i++) {
		const struct site *site = &page->sites.list[i];
		writer_printf(&page->json, "%s%" PRIu32 ",%" PRIu32 ",%" PRIu32, comma(i), site->frame, site->line_min,
			      site->line_max);
	}
	writer_puts(&page->json, "],\n\"nodes\":[");
	for (uint32_t i = 1; i < page->tree->nnodes; i++) {
		if (nodes[i].depth <= nodes[i - 1].depth)
			writer_printf(&page->json, ",-%" PRIu32, nodes[i - 1].depth - nodes[i].depth + 1);
		writer_printf(&page->json, "%s%" PRIu32, comma(i - 1), page->sites.of_node[i] + 1);
	}
	writer_puts(&page->json, "]");
}

static void put_threads(struct page *page)
{
	writer_puts(&page->json, ",\n\"threads\":[");
	for (uint32_t i = 0; i < page->tree->nthreads; i++) {
		const struct flame_thread *thread = &page->tree->threads[i];
		writer_printf(&page->json, "%s%" PRIu32 ",", comma(i), strings_number(&page->strings, thread->name));
		if (thread->text[0])
			put_text(page, thread->text);
		else
			writer_printf(&page->json, "%" PRId64, thread->id);
	}
	writer_puts(&page->json, "]");
}

static void put_leaves(struct page *page)
{
	uint32_t before = 0;
	writer_puts(&page->json, ",\n\"leaves\":[");
	for (uint32_t i = 0; i < page->tree->nleaves; i++) {
		const struct flame_leaf *leaf = &page->tree->leaves[i];
		writer_printf(&page->json, "%s%" PRIu32 ",%" PRIu32, comma(i), leaf->node - before, leaf->thread);
		for (uint32_t v = 0; v < page->tree->nvalues; v++)
			writer_printf(&page->json, ",%" PRId64, leaf->values[v]);
		before = leaf->node;
	}
	writer_puts(&page->json, "]");
}

// Last: all that is numbered has been by now.
static void put_strings(struct page *page)
{
	writer_puts(&page->json, ",\n\"strings\":[");
	for (uint32_t i = 0; i < page->strings.count; i++) {
		writer_puts(&page->json, comma(i));
		put_text(page, page->strings.list[i]);
	}
	writer_puts(&page->json, "]}\n");
}

static int put_data(struct page *page, const char *title)
{
	writer_init(&page->json, escape_sink, page->out);
	put_facts(page, title);
	put_modules(page);
	put_reasons(page);
	put_frames(page);
	put_nodes(page);
	put_threads(page);
	put_leaves(page);
	put_strings(page);
	return writer_flush(&page->json);
}

// ---- The page ------------------------------------------------------------------------------------------------------

static int put_page(struct page *page, const char *title)
{
	struct writer *out = page->out;
	writer_puts(out, head_start);
	writer_puts(out, "<title>");
	writer_xml(out, title);
	writer_puts(out, "</title>\n<style>\n");
	writer_puts(out, flamegraph_css);
	writer_puts(out, "</style>\n</head>\n<body>\n");
	writer_puts(out, flamegraph_page_html);
	writer_puts(out, "<script type=\"application/json\" id=\"profile\">\n");
	int err = put_data(page, title);
	if (err)
		return err;
	writer_puts(out, "</script>\n<script>\n");
	writer_puts(out, flamegraph_model_js);
	writer_puts(out, flamegraph_colors_js);
	writer_puts(out, flamegraph_js);
	writer_puts(out, "</script>\n</body>\n</html>\n");
	return writer_flush(out);
}

static int write_html(const struct profile *profile, const struct format_options *options, struct writer *writer)
{
	struct page page = {.profile = profile,
			    .out = writer,
			    .value = options ? options->value_index : 0,
			    .full_names = options && options->full_names};
	int err = flame_tree_create(profile, page.value, &page.tree);
	if (!err)
		err = flame_tree_limit(page.tree, HTML_MAX_NODES);
	if (!err)
		err = number_all(&page);
	if (!err)
		err = put_page(&page, options && options->title ? options->title : "profd");
	strings_finish(&page.strings);
	sites_finish(&page.sites);
	free(page.frame_number);
	flame_tree_destroy(page.tree);
	return err;
}

const struct format format_html = {"html", ".html", "text/html; charset=utf-8", write_html};

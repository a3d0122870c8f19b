// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flamegraph_svg.c: the flame graph as one SVG file. The picture stands by itself (in a README, a ticket, an <img>): names
// are cut to their boxes here, every box has its figures as a <title>. Opened in a browser, the embedded script adds zoom
// and search. Frames too narrow to see are left out, and the picture says how many.
//
//   title, what was measured, legend of modules
//   ┌ all ────────────────────────┐   root on top, callees below
//   │ main ────────────┬ start ───┤
//   footer: what was left out
//
// Runs wherever a format is written; no state of its own. No floating point is printed, so no locale changes a byte.

#include "flamegraph_svg_js.h"
#include "formats/flame_tree.h"
#include "formats/flame_units.h"
#include "formats/profile.h"
#include "formats/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SVG_WIDTH 1200
#define SVG_MARGIN 12
#define SVG_TOP 84 // where the root's box begins
#define SVG_ROW 18
#define SVG_FOOTER 34
#define SVG_MAX_NODES 30000u
#define SVG_MAX_NAME 400 // characters of a name in a <title>
#define SVG_LEGEND 6

// Hundredths of a pixel: the unit of all x and widths.
#define SVG_INNER ((int64_t)(SVG_WIDTH - 2 * SVG_MARGIN) * 100)
#define SVG_CELL 723 // hundredths of a pixel: one character of the 12 px monospace font
#define SVG_PAD 3

struct svg {
	const struct profile *profile;
	const struct flame_tree *tree;
	struct writer *writer;
	uint32_t value;
	bool full_names;
	int64_t all;    // the root's total
	int64_t *start; // per node, in units of the value
	bool *drawn;
	uint32_t depth;    // of the deepest frame drawn
	uint64_t left_out; // frames not drawn
};

// Base colours of the modules, the heaviest module first; the last is for all others. flamegraph.js has the same.
static const uint8_t palette[][3] = {
	{0xf2, 0xa6, 0x5a}, {0x86, 0xb6, 0xe8}, {0x93, 0xd0, 0x8d}, {0xbd, 0xa6, 0xe6}, {0x74, 0xcd, 0xc5},
	{0xee, 0x9d, 0xb7}, {0xe6, 0xcc, 0x66}, {0xd2, 0xae, 0x90}, {0xc3, 0xc7, 0xcc},
};
#define NPALETTE (sizeof(palette) / sizeof(palette[0]))

static uint32_t hash_name(const char *name)
{
	uint32_t hash = 2166136261u; // FNV-1a
	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 16777619u;
	return hash;
}

// The module's colour, up to a quarter nearer to white by the name, so that neighbours can be told apart.
static void put_color(struct writer *writer, uint32_t module, uint32_t hash)
{
	const uint8_t *base = palette[module < NPALETTE ? module : NPALETTE - 1];
	unsigned toward_white = (hash ^ (hash >> 16)) % 64;
	unsigned rgb[3];
	for (int i = 0; i < 3; i++)
		rgb[i] = base[i] + (255u - base[i]) * toward_white / 256;
	writer_printf(writer, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

// Hundredths of a pixel, as pixels.
static void put_px(struct writer *writer, const char *attribute, int64_t hundredths)
{
	writer_printf(writer, " %s=\"%" PRId64 ".%02d\"", attribute, hundredths / 100, (int)(hundredths % 100));
}

static int64_t scale_x(const struct svg *svg, int64_t value)
{
	return svg->all > 0 ? (int64_t)((__int128)value * SVG_INNER / svg->all) : 0;
}

// ---- Text cut to size ----------------------------------------------------------------------------------------------

static size_t character_bytes(const char *s)
{
	size_t size = 1;
	while (((unsigned char)s[size] & 0xc0) == 0x80 && size < 4)
		size++;
	return size;
}

// Characters from U+1100 on may be twice as wide.
static unsigned character_cells(const char *s)
{
	unsigned char c = (unsigned char)*s;
	return c > 0xe1 || (c == 0xe1 && (unsigned char)s[1] >= 0x84) ? 2 : 1;
}

// Puts as much of s as fits in cells, ending in an ellipsis when that is not all. Without room for three, nothing.
static void put_cut(struct writer *writer, const char *s, unsigned cells)
{
	char cut[1024];
	size_t used = 0, fits = 0; // fits: bytes that leave a cell for the ellipsis
	unsigned width = 0;
	if (cells < 3)
		return;
	while (s[used] && used + 8 < sizeof(cut)) {
		width += character_cells(s + used);
		if (width > cells)
			break;
		used += character_bytes(s + used);
		if (width < cells)
			fits = used;
	}
	if (!s[used]) {
		writer_xml(writer, s);
		return;
	}
	memcpy(cut, s, fits);
	cut[fits] = '\0';
	writer_xml(writer, cut);
	writer_puts(writer, "…");
}

// ---- Which frames are drawn, and where -----------------------------------------------------------------------------

static int64_t total_of(const struct svg *svg, uint32_t node)
{
	return svg->tree->total[(size_t)node * svg->tree->nvalues + svg->value];
}

// A tenth of a percent of the whole is the least that is drawn.
static bool wide_enough(const struct svg *svg, uint32_t node)
{
	int64_t total = total_of(svg, node);
	return total > 0 && (__int128)total * 1000 >= svg->all;
}

static int place_frames(struct svg *svg)
{
	const struct flame_tree *tree = svg->tree;
	svg->start = calloc(tree->nnodes, sizeof(*svg->start));
	svg->drawn = calloc(tree->nnodes, sizeof(*svg->drawn));
	int64_t *next = calloc(tree->nnodes, sizeof(*next)); // where the node's next child begins
	if (!svg->start || !svg->drawn || !next) {
		free(next);
		return -ENOMEM;
	}
	svg->drawn[0] = true;
	svg->left_out = tree->limited;
	for (uint32_t i = 1; i < tree->nnodes; i++) {
		uint32_t parent = tree->nodes[i].parent;
		svg->start[i] = next[i] = next[parent];
		next[parent] = flame_add(next[parent], total_of(svg, i));
		svg->drawn[i] = svg->drawn[parent] && wide_enough(svg, i);
		svg->left_out += !svg->drawn[i] && total_of(svg, i) > 0;
		if (svg->drawn[i] && tree->nodes[i].depth > svg->depth)
			svg->depth = tree->nodes[i].depth;
	}
	free(next);
	return 0;
}

// ---- The frames ----------------------------------------------------------------------------------------------------

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash && slash[1] ? slash + 1 : path;
}

static const char *module_name(const struct flame_module *module)
{
	return module->path[0] ? base_name(module->path) : "[no module]";
}

static void put_place(struct svg *svg, const struct flame_node *node, const struct flame_frame *frame)
{
	writer_puts(svg->writer, "\n");
	writer_xml(svg->writer, module_name(&svg->tree->modules[frame->module]));
	if (frame->nameless && svg->tree->modules[frame->module].advice[0]) {
		writer_puts(svg->writer, "\nno name: ");
		writer_xml(svg->writer, svg->tree->modules[frame->module].advice);
	}
	if (!frame->file[0])
		return;
	writer_puts(svg->writer, " · ");
	writer_xml(svg->writer, frame->file);
	if (node->line_min)
		writer_printf(svg->writer, ":%" PRIu32, node->line_min);
	else if (frame->start_line > 0)
		writer_printf(svg->writer, ":%" PRId64, frame->start_line);
	if (node->line_max > node->line_min)
		writer_printf(svg->writer, "–%" PRIu32, node->line_max);
}

static void put_figures(struct svg *svg, uint32_t node)
{
	const struct profile_value_type *type = &svg->profile->sample_types[svg->value];
	int64_t self = svg->tree->self[(size_t)node * svg->tree->nvalues + svg->value];
	char text[128], percent[32];
	writer_puts(svg->writer, "\n");
	writer_xml(svg->writer, flame_units_format(text, sizeof(text), total_of(svg, node), type));
	writer_printf(svg->writer, ", %s",
		      flame_units_percent(percent, sizeof(percent), total_of(svg, node), svg->all));
	writer_puts(svg->writer, " (self ");
	writer_xml(svg->writer, flame_units_format(text, sizeof(text), self, type));
	writer_printf(svg->writer, ", %s)", flame_units_percent(percent, sizeof(percent), self, svg->all));
}

static void put_frame(struct svg *svg, uint32_t i)
{
	const struct flame_node *node = &svg->tree->nodes[i];
	const struct flame_frame *frame = node->frame == FLAME_NO_FRAME ? NULL : &svg->tree->frames[node->frame];
	const char *name = frame ? frame->name : "all";
	const char *label = frame && !svg->full_names ? frame->label : name;
	int64_t x = scale_x(svg, svg->start[i]);
	int64_t width = i ? scale_x(svg, flame_add(svg->start[i], total_of(svg, i))) - x : SVG_INNER;
	int y = SVG_TOP + (int)node->depth * SVG_ROW;
	writer_printf(svg->writer, "<g data-n=\"%" PRId64 "\" data-d=\"%" PRIu32 "\"", total_of(svg, i), node->depth);
	if (label != name) {
		writer_puts(svg->writer, " data-l=\"");
		put_cut(svg->writer, label, SVG_MAX_NAME);
		writer_puts(svg->writer, "\"");
	}
	writer_puts(svg->writer, "><title>");
	put_cut(svg->writer, name, SVG_MAX_NAME);
	if (frame)
		put_place(svg, node, frame);
	put_figures(svg, i);
	writer_puts(svg->writer, "</title><rect");
	put_px(svg->writer, "x", x + SVG_MARGIN * 100);
	put_px(svg->writer, "width", width);
	writer_printf(svg->writer, " y=\"%d\" height=\"17\" rx=\"2\" fill=\"", y);
	put_color(svg->writer, frame ? frame->module : NPALETTE, hash_name(name));
	writer_puts(svg->writer, "\"/><text");
	put_px(svg->writer, "x", x + (SVG_MARGIN + SVG_PAD) * 100);
	writer_printf(svg->writer, " y=\"%d\">", y + 13);
	put_cut(svg->writer, label, width > 2 * SVG_PAD * 100 ? (unsigned)((width - 2 * SVG_PAD * 100) / SVG_CELL) : 0);
	writer_puts(svg->writer, "</text></g>\n");
}

// ---- What stands around them ---------------------------------------------------------------------------------------

static const char style[] =
	"<style>\n"
	".g{fill:#fff}\n"
	"text{font-family:ui-monospace,\"DejaVu Sans Mono\",\"Liberation Mono\",Menlo,Consolas,monospace;"
	"font-size:12px;fill:#1b1f24;white-space:pre}\n"
	".h,.s,.b text{font-family:system-ui,\"DejaVu Sans\",\"Liberation Sans\",Helvetica,Arial,sans-serif}\n"
	".h{font-size:18px;font-weight:600}.s{fill:#57606a}\n"
	"#frames text{pointer-events:none}#frames rect{stroke:#fff;stroke-width:.5}\n"
	".above rect,.miss rect{opacity:.4}#frames .hit rect{fill:#a3157f;opacity:1}#frames .hit text{fill:#fff}\n"
	"#frames g:hover rect{stroke:#1b1f24;stroke-width:1}\n"
	"@media(prefers-color-scheme:dark){.g{fill:#16191d}.h,.k{fill:#e6e8eb}.s{fill:#9aa4af}#frames "
	"rect{stroke:#16191d}"
	"#frames g:hover rect{stroke:#fff}}\n"
	"</style>\n";

static void put_summary(struct svg *svg)
{
	const struct profile_value_type *type = &svg->profile->sample_types[svg->value];
	char text[128];
	writer_printf(svg->writer, "<text class=\"s\" x=\"%d\" y=\"46\">", SVG_MARGIN);
	writer_xml(svg->writer, type->type ? type->type : "");
	writer_puts(svg->writer, ": ");
	writer_xml(svg->writer, flame_units_format(text, sizeof(text), svg->all, type));
	if (svg->profile->duration_ns > 0) {
		static const struct profile_value_type time = {"", "nanoseconds"};
		writer_printf(svg->writer, " in %s",
			      flame_units_format(text, sizeof(text), svg->profile->duration_ns, &time));
	}
	if (svg->all == 0)
		writer_puts(svg->writer, " — the profile holds no samples");
	writer_puts(svg->writer, "</text>\n");
}

static void put_legend(struct svg *svg)
{
	int x = SVG_MARGIN;
	for (uint32_t i = 0; i < svg->tree->nmodules && i < SVG_LEGEND; i++) {
		const char *name = module_name(&svg->tree->modules[i]);
		writer_printf(svg->writer, "<rect x=\"%d\" y=\"57\" width=\"12\" height=\"12\" rx=\"2\" fill=\"", x);
		put_color(svg->writer, i, 0);
		writer_printf(svg->writer, "\"/><text class=\"k\" x=\"%d\" y=\"67\">", x + 17);
		put_cut(svg->writer, name, 20);
		writer_puts(svg->writer, "</text>\n");
		size_t length = strlen(name);
		x += 17 + (int)(length < 20 ? length : 20) * SVG_CELL / 100 + 18;
	}
}

static void put_footer(struct svg *svg, int height)
{
	writer_printf(svg->writer, "<text class=\"s\" id=\"footer\" x=\"%d\" y=\"%d\">", SVG_MARGIN, height - 12);
	if (svg->left_out) {
		double share = svg->tree->limited_share > 0.001 ? svg->tree->limited_share : 0.001;
		int tenths = (int)(share * 1000 + 0.999);
		const struct profile_value_type frames = {svg->left_out == 1 ? "frame" : "frames", "count"};
		char text[64];
		writer_printf(svg->writer, "%s of at most %d.%d%% left out",
			      flame_units_format(text, sizeof(text), (int64_t)svg->left_out, &frames), tenths / 10,
			      tenths % 10);
	}
	if (svg->tree->negative)
		writer_printf(svg->writer, "%s%" PRIu64 " values below zero have no width", svg->left_out ? "; " : "",
			      svg->tree->negative);
	writer_puts(svg->writer, "</text>\n");
}

static void put_head(struct svg *svg, const char *title, int height)
{
	writer_puts(svg->writer, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
	writer_printf(svg->writer,
		      "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" height=\"%d\" "
		      "viewBox=\"0 0 %d %d\" role=\"img\">\n<title>",
		      SVG_WIDTH, height, SVG_WIDTH, height);
	writer_xml(svg->writer, title);
	writer_puts(svg->writer, "</title>\n<desc>");
	for (uint32_t i = 0; i < svg->profile->ncomments; i++) {
		writer_xml(svg->writer, svg->profile->comments[i]);
		writer_puts(svg->writer, "\n");
	}
	writer_puts(svg->writer, "</desc>\n");
	writer_puts(svg->writer, style);
	writer_puts(svg->writer, "<rect class=\"g\" width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
	writer_printf(svg->writer, "<text class=\"h\" x=\"%d\" y=\"27\">", SVG_MARGIN);
	put_cut(svg->writer, title, 80);
	writer_puts(svg->writer, "</text>\n");
}

static void put_svg(struct svg *svg, const char *title)
{
	int height = SVG_TOP + (int)(svg->depth + 1) * SVG_ROW + SVG_FOOTER;
	put_head(svg, title, height);
	put_summary(svg);
	put_legend(svg);
	writer_puts(svg->writer, "<g id=\"frames\">\n");
	for (uint32_t i = 0; i < svg->tree->nnodes; i++) {
		if (svg->drawn[i])
			put_frame(svg, i);
	}
	writer_puts(svg->writer, "</g>\n");
	put_footer(svg, height);
	writer_puts(svg->writer, "<script>//<![CDATA[\n");
	writer_puts(svg->writer, flamegraph_svg_js);
	writer_puts(svg->writer, "//]]></script>\n</svg>\n");
}

static int write_svg(const struct profile *profile, const struct format_options *options, struct writer *writer)
{
	struct flame_tree *tree = NULL;
	struct svg svg = {.profile = profile,
			  .writer = writer,
			  .value = options ? options->value_index : 0,
			  .full_names = options && options->full_names};
	int err = flame_tree_create(profile, svg.value, &tree);
	if (err)
		return err;
	err = flame_tree_limit(tree, SVG_MAX_NODES);
	if (!err) {
		svg.tree = tree;
		svg.all = tree->total[svg.value];
		err = place_frames(&svg);
	}
	if (!err) {
		put_svg(&svg, options && options->title ? options->title : "profd");
		err = writer_flush(writer);
	}
	free(svg.start);
	free(svg.drawn);
	flame_tree_destroy(tree);
	return err;
}

const struct format format_svg = {"svg", ".svg", "image/svg+xml", write_svg};

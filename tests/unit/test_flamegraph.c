// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of our own flame graphs: the call tree, and the bytes of the SVG and HTML made from it. What a browser makes
// of them is tests/e2e/test_flamegraph_page.py's.

#include "formats/flame_tree.h"
#include "formats/flame_units.h"
#include "formats/profile.h"
#include "formats/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOSTILE "</script><img src=x onerror=\"alert('1')\">]]>--><!-- \xe2\x80\xa8 \xff\xfe & \x01 \xe2\x82"

// ---- Building profiles ---------------------------------------------------------------------------------------------

static struct profile *new_profile(void)
{
	struct profile *profile = profile_create();
	assert_non_null(profile);
	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	profile_set_period(profile, "cpu", "nanoseconds", 10000000);
	return profile;
}

static uint32_t add_mapping(struct profile *profile, const char *file)
{
	struct profile_mapping mapping = {.start = 0x1000, .limit = 0x2000, .file = file, .build_id = ""};
	uint32_t id = profile_add_mapping(profile, &mapping);
	assert_int_not_equal(id, 0);
	return id;
}

static uint32_t add_location(struct profile *profile, uint32_t mapping, uint64_t address, const char *name,
			     const char *file, int64_t line)
{
	struct profile_function function = {.name = name, .system_name = name, .file = file, .start_line = 10};
	struct profile_line at = {profile_add_function(profile, &function), line};
	struct profile_location location = {mapping, address, 1, &at};
	uint32_t id = profile_add_location(profile, &location);
	assert_int_not_equal(id, 0);
	return id;
}

static void add_sample(struct profile *profile, const uint32_t *ids, uint32_t count, int64_t samples,
		       const char *thread)
{
	int64_t values[2] = {samples, samples * 10000000};
	struct profile_label label = {"thread_name", thread, 0, ""};
	assert_int_equal(profile_add_sample(profile, ids, count, &label, thread ? 1 : 0, values), 0);
}

// all ─ main ─┬ alpha (3, of these 1 in libz's inflate)
//             └ beta (2)
static struct profile *small_profile(bool backwards)
{
	struct profile *profile = new_profile();
	uint32_t exe = add_mapping(profile, "/usr/bin/app"), lib = add_mapping(profile, "/usr/lib/libz.so.1");
	uint32_t main_id = add_location(profile, exe, 0x1000, "main", "app.c", 20);
	uint32_t main_2 = add_location(profile, exe, 0x1008, "main", "app.c", 24);
	uint32_t alpha = add_location(profile, exe, 0x1100, "alpha", "app.c", 40);
	uint32_t beta = add_location(profile, exe, 0x1200, "beta", "app.c", 50);
	uint32_t inflate = add_location(profile, lib, 0x1000, "inflate", "", 0);
	uint32_t a[] = {alpha, main_id}, b[] = {beta, main_2}, c[] = {inflate, alpha, main_id};
	for (int i = 0; i < 3; i++) {
		int k = backwards ? 2 - i : i;
		if (k == 0)
			add_sample(profile, a, 2, 2, "t1");
		if (k == 1)
			add_sample(profile, b, 2, 2, "t2");
		if (k == 2)
			add_sample(profile, c, 3, 1, "t1");
	}
	return profile;
}

static struct flame_tree *make_tree(const struct profile *profile)
{
	struct flame_tree *tree = NULL;
	assert_int_equal(flame_tree_create(profile, 0, &tree), 0);
	return tree;
}

static const char *node_name(const struct flame_tree *tree, uint32_t node)
{
	return tree->nodes[node].frame == FLAME_NO_FRAME ? "all" : tree->frames[tree->nodes[node].frame].name;
}

static char *render(const struct format *format, const struct profile *profile, const struct format_options *options,
		    size_t *ret_size)
{
	struct writer_memory memory = {0};
	struct writer writer;
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(format->write(profile, options, &writer), 0);
	assert_int_equal(writer_flush(&writer), 0);
	char *text = realloc(memory.data, memory.size + 1);
	assert_non_null(text);
	text[memory.size] = '\0';
	assert_int_equal(strlen(text), memory.size);
	if (ret_size)
		*ret_size = memory.size;
	return text;
}

// ---- The tree ------------------------------------------------------------------------------------------------------

static void test_tree_totals(void **state)
{
	(void)state;
	struct profile *profile = small_profile(false);
	struct flame_tree *tree = make_tree(profile);
	const char *names[] = {"all", "main", "alpha", "inflate", "beta"};
	const int64_t totals[] = {5, 5, 3, 1, 2}, selfs[] = {0, 0, 2, 1, 2};
	const uint32_t ends[] = {5, 5, 4, 4, 5}, parents[] = {0, 0, 1, 2, 1};
	assert_int_equal(tree->nnodes, 5);
	assert_int_equal(tree->max_depth, 3);
	for (uint32_t i = 0; i < 5; i++) {
		assert_string_equal(node_name(tree, i), names[i]);
		assert_int_equal(tree->total[2 * i], totals[i]);
		assert_int_equal(tree->total[2 * i + 1], totals[i] * 10000000);
		assert_int_equal(tree->self[2 * i], selfs[i]);
		assert_int_equal(tree->nodes[i].end, ends[i]);
		assert_int_equal(tree->nodes[i].parent, parents[i]);
	}
	assert_int_equal(tree->nodes[1].line_min, 20);
	assert_int_equal(tree->nodes[1].line_max, 24);
	assert_int_equal(tree->nthreads, 2);
	assert_string_equal(tree->threads[1].name, "t2");
	assert_string_equal(tree->modules[0].path, "/usr/bin/app"); // heavier than libz
	assert_int_equal(tree->modules[0].self, 4);
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

static void test_tree_expands_inlines(void **state)
{
	(void)state;
	struct profile *profile = new_profile();
	struct profile_function f[3] = {
		{"inner", "inner", "i.h", 1}, {"middle", "middle", "i.h", 5}, {"outer", "outer", "o.c", 9}};
	struct profile_line lines[3];
	for (int i = 0; i < 3; i++)
		lines[i] = (struct profile_line){profile_add_function(profile, &f[i]), 100 + i};
	struct profile_location location = {add_mapping(profile, "/bin/x"), 0x1234, 3, lines};
	uint32_t id = profile_add_location(profile, &location);
	add_sample(profile, &id, 1, 7, NULL);
	struct flame_tree *tree = make_tree(profile);
	assert_int_equal(tree->nnodes, 4);
	assert_string_equal(node_name(tree, 1), "outer");
	assert_string_equal(node_name(tree, 2), "middle");
	assert_string_equal(node_name(tree, 3), "inner");
	assert_int_equal(tree->nodes[3].line_min, 100);
	assert_int_equal(tree->self[2 * 3], 7);
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

// Without a symbol, each address is a frame of its own, named by profile_frame_name.
static void test_tree_names_unknown_code(void **state)
{
	(void)state;
	struct profile *profile = new_profile();
	uint32_t mapping = add_mapping(profile, "/lib/libx.so");
	struct profile_location first = {mapping, 0x1010, 0, NULL}, second = {mapping, 0x1020, 0, NULL};
	uint32_t ids[2] = {profile_add_location(profile, &first), profile_add_location(profile, &second)};
	add_sample(profile, &ids[0], 1, 1, NULL);
	add_sample(profile, &ids[1], 1, 1, NULL);
	struct flame_tree *tree = make_tree(profile);
	char name[128];
	assert_int_equal(tree->nnodes, 3);
	assert_string_equal(node_name(tree, 1),
			    profile_frame_name(profile, &profile->locations[0], 0, name, sizeof(name)));
	assert_non_null(strstr(node_name(tree, 2), "libx.so"));
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

static void test_tree_deep_stack(void **state)
{
	(void)state;
	enum { DEPTH = 1024 };
	struct profile *profile = new_profile();
	uint32_t mapping = add_mapping(profile, "/bin/deep"), ids[DEPTH];
	for (uint32_t i = 0; i < DEPTH; i++)
		ids[i] = add_location(profile, mapping, 0x1000 + i, "recurse", "deep.c", 5);
	add_sample(profile, ids, DEPTH, 1, NULL);
	add_sample(profile, ids + 1, DEPTH - 1, 1, NULL);
	struct flame_tree *tree = make_tree(profile);
	assert_int_equal(tree->nnodes, DEPTH + 1);
	assert_int_equal(tree->max_depth, DEPTH);
	assert_int_equal(tree->nodes[DEPTH].depth, DEPTH);
	assert_int_equal(tree->total[2 * 1], 2);
	assert_int_equal(tree->total[2 * DEPTH], 1);
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

static void test_tree_odd_values(void **state)
{
	(void)state;
	struct profile *profile = new_profile();
	uint32_t mapping = add_mapping(profile, "/bin/x");
	uint32_t a = add_location(profile, mapping, 1, "a", "", 0), b = add_location(profile, mapping, 2, "b", "", 0);
	uint32_t c = add_location(profile, mapping, 3, "c", "", 0), d = add_location(profile, mapping, 4, "d", "", 0);
	const int64_t huge[2] = {INT64_MAX, 1}, below[2] = {-5, 3}, none[2] = {0, 0};
	assert_int_equal(profile_add_sample(profile, &a, 1, NULL, 0, huge), 0);
	assert_int_equal(profile_add_sample(profile, &b, 1, NULL, 0, huge), 0);
	assert_int_equal(profile_add_sample(profile, &c, 1, NULL, 0, below), 0);
	assert_int_equal(profile_add_sample(profile, &d, 1, NULL, 0, none), 0);
	struct flame_tree *tree = make_tree(profile);
	assert_int_equal(tree->nnodes, 4); // d has no width
	assert_true(tree->total[0] == INT64_MAX);
	assert_int_equal(tree->total[1], 5);
	assert_int_equal(tree->total[2 * 3], 0);
	assert_int_equal(tree->negative, 1);
	free(render(&format_svg, profile, NULL, NULL));
	free(render(&format_html, profile, NULL, NULL));
	struct flame_tree *untouched = NULL;
	assert_int_equal(flame_tree_create(profile, 2, &untouched), -EINVAL);
	assert_null(untouched);
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

static uint64_t random_state;

static uint32_t next_random(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(random_state >> 33) % below;
}

// nstacks stacks of names f0 … f(nnames-1), some more than once.
static struct profile *random_profile(uint32_t nstacks, uint32_t depth, uint32_t nnames)
{
	struct profile *profile = new_profile();
	uint32_t mapping = add_mapping(profile, "/bin/random"), *ids = calloc(nnames, sizeof(*ids));
	assert_non_null(ids);
	random_state = 42;
	for (uint32_t i = 0; i < nnames; i++) {
		char name[32];
		snprintf(name, sizeof(name), "f%" PRIu32, i);
		ids[i] = add_location(profile, mapping, 0x1000 + i, name, "r.c", i + 1);
	}
	for (uint32_t i = 0; i < nstacks; i++) {
		uint32_t stack[64];
		for (uint32_t d = 0; d < depth; d++)
			stack[d] = ids[next_random(nnames)];
		add_sample(profile, stack, 1 + next_random(depth), 1 + next_random(9), i % 3 ? "one" : "two");
	}
	free(ids);
	return profile;
}

static void check_invariants(const struct flame_tree *tree)
{
	for (uint32_t i = 1; i < tree->nnodes; i++) {
		const struct flame_node *node = &tree->nodes[i], *parent = &tree->nodes[node->parent];
		assert_true(node->parent < i && node->end > i && node->end <= parent->end);
		assert_int_equal(node->depth, parent->depth + 1);
		if (node->end < parent->end) // the next sibling
			assert_true(tree->nodes[node->end].frame > node->frame);
	}
	for (uint32_t i = 0; i < tree->nnodes; i++) {
		int64_t sum = tree->self[2 * i];
		for (uint32_t child = i + 1; child < tree->nodes[i].end; child = tree->nodes[child].end)
			sum += tree->total[2 * child];
		assert_int_equal(sum, tree->total[2 * i]);
	}
}

static void test_tree_invariants(void **state)
{
	(void)state;
	struct profile *profile = random_profile(3000, 12, 6);
	struct flame_tree *tree = make_tree(profile);
	int64_t sum = 0;
	for (uint32_t i = 0; i < profile->nsamples; i++)
		sum += profile->samples[i].values[0];
	assert_int_equal(tree->total[0], sum);
	check_invariants(tree);
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

static void test_tree_limit(void **state)
{
	(void)state;
	struct profile *profile = random_profile(3000, 12, 6);
	struct flame_tree *tree = make_tree(profile);
	uint32_t before = tree->nnodes;
	int64_t all = tree->total[0], lightest = INT64_MAX;
	assert_int_equal(flame_tree_limit(tree, before), 0);
	assert_int_equal(tree->nnodes, before);
	assert_int_equal(flame_tree_limit(tree, 500), 0);
	assert_int_equal(tree->nnodes, 500);
	assert_int_equal(tree->limited, before - 500);
	assert_int_equal(tree->total[0], all);
	check_invariants(tree);
	for (uint32_t i = 1; i < tree->nnodes; i++)
		lightest = tree->total[2 * i] < lightest ? tree->total[2 * i] : lightest;
	assert_true((double)lightest / (double)all >= tree->limited_share);
	assert_int_equal(flame_tree_limit(tree, 0), 0);
	assert_int_equal(tree->nnodes, 1);
	assert_int_equal(tree->self[0], all);
	assert_int_equal(tree->nleaves, 2); // one a thread
	flame_tree_destroy(tree);
	profile_destroy(profile);
}

// ---- A scan for well-formed XML ------------------------------------------------------------------------------------

static const char *skip_attributes(const char *at)
{
	while (*at && *at != '>' && !(at[0] == '/' && at[1] == '>')) {
		assert_int_not_equal(*at, '<');
		if (*at++ != '"')
			continue;
		at = strchr(at, '"');
		assert_non_null(at);
		at++;
	}
	assert_int_not_equal(*at, '\0');
	return at;
}

static void check_entity(const char *at)
{
	static const char *const entities[] = {"&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#39;", "&#34;"};
	for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++) {
		if (strncmp(at, entities[i], strlen(entities[i])) == 0)
			return;
	}
	fail_msg("a bare ampersand: %.20s", at);
}

// Every element is closed by its own name; no markup but elements, the declaration and CDATA; no control characters.
static void check_xml(const char *text)
{
	char open[64][32];
	size_t depth = 0;
	assert_int_equal(strncmp(text, "<?xml ", 6), 0);
	for (const char *at = strstr(text, "?>") + 2; *at; at++) {
		assert_true((unsigned char)*at >= ' ' || *at == '\n' || *at == '\t');
		if (*at == '&')
			check_entity(at);
		if (*at != '<')
			continue;
		if (strncmp(at, "<![CDATA[", 9) == 0) {
			at = strstr(at, "]]>");
			assert_non_null(at);
			at += 2;
			continue;
		}
		bool closing = at[1] == '/';
		const char *name = at + 1 + closing;
		size_t length = strcspn(name, " \n/>");
		assert_true(length > 0 && length < sizeof(open[0]));
		at = skip_attributes(name + length);
		if (closing) {
			assert_true(depth > 0 && strlen(open[depth - 1]) == length);
			assert_memory_equal(open[--depth], name, length);
		} else if (*at != '/') {
			assert_true(depth < 64);
			memcpy(open[depth], name, length);
			open[depth++][length] = '\0';
		} else {
			at++;
		}
	}
	assert_int_equal(depth, 0);
}

static bool is_utf8(const char *text)
{
	for (const unsigned char *at = (const unsigned char *)text; *at;) {
		int more = *at < 0x80 ? 0 : *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : *at >= 0xc2 ? 1 : -1;
		if (more < 0)
			return false;
		for (at++; more; more--, at++) {
			if ((*at & 0xc0) != 0x80)
				return false;
		}
	}
	return true;
}

// ---- The pictures --------------------------------------------------------------------------------------------------

static void test_svg_plain(void **state)
{
	(void)state;
	struct profile *profile = small_profile(false);
	profile_add_comment(profile, "rate asked %d", 100);
	struct format_options options = {.title = "A & B", .value_index = 1};
	char *svg = render(&format_svg, profile, &options, NULL);
	check_xml(svg);
	assert_non_null(strstr(svg, "A &amp; B"));
	assert_non_null(strstr(svg, "cpu: 50.00 ms"));
	assert_non_null(strstr(svg, "<title>alpha\napp · app.c:40\n30.00 ms, 60.00% (self 20.00 ms, 40.00%)</title>"));
	assert_non_null(strstr(svg, "<title>main\napp · app.c:20–24\n"));
	assert_non_null(strstr(svg, "rate asked 100"));
	assert_null(strstr(svg, "left out"));
	free(svg);
	profile_destroy(profile);
}

static void test_svg_prunes(void **state)
{
	(void)state;
	struct profile *profile = new_profile();
	uint32_t mapping = add_mapping(profile, "/bin/x");
	uint32_t wide = add_location(profile, mapping, 1, "wide", "", 0),
		 edge = add_location(profile, mapping, 2, "edge", "", 0);
	uint32_t thin = add_location(profile, mapping, 3, "thin", "", 0),
		 leaf = add_location(profile, mapping, 4, "leaf", "", 0);
	uint32_t thin_stack[] = {leaf, thin};
	add_sample(profile, &wide, 1, 9981, NULL);
	add_sample(profile, &edge, 1, 10, NULL); // exactly 0.1%
	add_sample(profile, thin_stack, 2, 9, NULL);
	char *svg = render(&format_svg, profile, NULL, NULL);
	check_xml(svg);
	assert_non_null(strstr(svg, "<title>edge\n"));
	assert_null(strstr(svg, "<title>thin\n"));
	assert_null(strstr(svg, "<title>leaf\n"));
	assert_non_null(strstr(svg, "2 frames of at most 0.1% left out"));
	free(svg);
	profile_destroy(profile);
}

static void test_hostile_names(void **state)
{
	(void)state;
	struct profile *profile = new_profile();
	uint32_t mapping = add_mapping(profile, "/bin/" HOSTILE);
	uint32_t id = add_location(profile, mapping, 1, HOSTILE, HOSTILE, 3);
	add_sample(profile, &id, 1, 5, HOSTILE);
	add_sample(profile, &id, 1, 5, "other");
	profile_add_comment(profile, "%s", HOSTILE);
	struct format_options options = {.title = HOSTILE};
	char *svg = render(&format_svg, profile, &options, NULL), *html = render(&format_html, profile, &options, NULL);
	check_xml(svg);
	assert_true(is_utf8(svg) && is_utf8(html));
	assert_null(strstr(html, "<img"));
	assert_null(strstr(svg, "<img"));
	const char *data = strstr(html, "<script type=\"application/json\" id=\"profile\">");
	assert_non_null(data);
	const char *next = strchr(data + 1, '<');
	assert_memory_equal(next, "</script>\n<script>", strlen("</script>\n<script>"));
	assert_non_null(strstr(data, "\\u003c/script>\\u003cimg"));
	free(svg);
	free(html);
	profile_destroy(profile);
}

static void test_html_is_one_file(void **state)
{
	(void)state;
	struct profile *profile = small_profile(false);
	char *html = render(&format_html, profile, NULL, NULL);
	assert_null(strstr(html, "http://"));
	assert_null(strstr(html, "https://"));
	assert_null(strstr(html, "src="));
	assert_non_null(strstr(html, "default-src 'none'"));
	unsigned scripts = 0, ends = 0;
	for (const char *at = html; (at = strstr(at, "<script")); at++)
		scripts++;
	for (const char *at = html; (at = strstr(at, "</script")); at++)
		ends++;
	assert_int_equal(scripts, 2);
	assert_int_equal(ends, 2);
	free(html);
	profile_destroy(profile);
}

static void test_html_data(void **state)
{
	(void)state;
	struct profile *profile = small_profile(false);
	char *html = render(&format_html, profile, NULL, NULL);
	// main, alpha, inflate; up two levels, beta.
	assert_non_null(strstr(html, "\"nodes\":[1,2,3,-2,4]"));
	assert_non_null(strstr(html, "\"sites\":[3,20,24,0,40,40,2,0,0,1,50,50]"));
	assert_non_null(strstr(html, "\"leaves\":[2,0,2,20000000,1,0,1,10000000,1,1,2,20000000]"));
	assert_non_null(strstr(html, "\"types\":[[\"samples\",\"count\"],[\"cpu\",\"nanoseconds\"]]"));
	free(html);
	profile_destroy(profile);
}

static void test_deterministic(void **state)
{
	(void)state;
	struct profile *one = small_profile(false), *two = small_profile(true);
	const struct format *formats[] = {&format_svg, &format_html};
	for (int i = 0; i < 2; i++) {
		size_t size_one, size_two;
		char *a = render(formats[i], one, NULL, &size_one), *b = render(formats[i], two, NULL, &size_two);
		assert_int_equal(size_one, size_two);
		assert_memory_equal(a, b, size_one);
		free(a);
		free(b);
	}
	profile_destroy(one);
	profile_destroy(two);
}

static void test_empty_profile(void **state)
{
	(void)state;
	struct profile *profile = new_profile();
	char *svg = render(&format_svg, profile, NULL, NULL), *html = render(&format_html, profile, NULL, NULL);
	check_xml(svg);
	assert_non_null(strstr(svg, "the profile holds no samples"));
	assert_non_null(strstr(html, "\"nodes\":[]"));
	free(svg);
	free(html);
	profile_destroy(profile);
}

static int failing_sink(void *context, const void *data, size_t size)
{
	size_t *left = context;
	if (*left < size)
		return -ENOSPC;
	*left -= size;
	return data ? 0 : -EINVAL;
}

static void test_errors_reach_the_caller(void **state)
{
	(void)state;
	struct profile *profile = random_profile(2000, 10, 20);
	const struct format *formats[] = {&format_svg, &format_html};
	for (int i = 0; i < 2; i++) {
		for (size_t left = 0; left < 64000; left += 21000) {
			size_t room = left;
			struct writer writer;
			writer_init(&writer, failing_sink, &room);
			assert_int_equal(formats[i]->write(profile, NULL, &writer), -ENOSPC);
		}
		struct format_options options = {.value_index = 9};
		struct writer writer;
		size_t room = 1 << 20;
		writer_init(&writer, failing_sink, &room);
		assert_int_equal(formats[i]->write(profile, &options, &writer), -EINVAL);
	}
	profile_destroy(profile);
}

// ---- Numbers -------------------------------------------------------------------------------------------------------

static void check_units(int64_t value, const char *type, const char *unit, const char *expected)
{
	char text[64];
	struct profile_value_type value_type = {type, unit};
	assert_string_equal(flame_units_format(text, sizeof(text), value, &value_type), expected);
}

static void test_units(void **state)
{
	(void)state;
	check_units(0, "samples", "count", "0 samples");
	check_units(999, "samples", "count", "999 samples");
	check_units(1234567, "samples", "count", "1,234,567 samples");
	check_units(999, "cpu", "nanoseconds", "999 ns");
	check_units(1500, "cpu", "nanoseconds", "1.50 µs");
	check_units(12340000, "cpu", "nanoseconds", "12.34 ms");
	check_units(3661000000000, "cpu", "nanoseconds", "3,661.00 s");
	check_units(1536, "space", "bytes", "1.50 KiB");
	check_units(512, "space", "bytes", "512 B");
	check_units(5LL << 20, "space", "bytes", "5.00 MiB");
	check_units(INT64_MAX, "x", "parsecs", "9,223,372,036,854,775,807 parsecs");
	char percent[32];
	assert_string_equal(flame_units_percent(percent, sizeof(percent), 1, 3), "33.33%");
	assert_string_equal(flame_units_percent(percent, sizeof(percent), 2, 3), "66.67%");
	assert_string_equal(flame_units_percent(percent, sizeof(percent), 0, 0), "0.00%");
	assert_string_equal(flame_units_percent(percent, sizeof(percent), INT64_MAX, INT64_MAX), "100.00%");
}

// ---- Names made short ----------------------------------------------------------------------------------------------

static struct profile *long_names(void)
{
	struct profile *profile = new_profile();
	struct profile_function function = {
		.name = "void f<int>(std::pair<int, int>)", .system_name = "_Z1f", .file = "f.cpp"};
	struct profile_line line = {profile_add_function(profile, &function), 1};
	uint32_t location = profile_add_location(
		profile, &(struct profile_location){add_mapping(profile, "/bin/app"), 0x1100, 1, &line});

	add_sample(profile, &location, 1, 5, NULL);
	return profile;
}

static char *written(const struct format *format, int full_names)
{
	const struct format_options options = {.full_names = full_names};
	struct profile *profile = long_names();
	struct writer_memory memory = {0};
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(format->write(profile, &options, &writer), 0);
	assert_int_equal(writer_memory_sink(&memory, "", 1), 0);
	profile_destroy(profile);
	return memory.data;
}

// Short in the box, whole where the pointer is; whole in both when asked for.
static void test_short_names(void **state)
{
	for (int full = 0; full < 2; full++) {
		char *svg = written(&format_svg, full), *html = written(&format_html, full);

		assert_non_null(strstr(svg, "<title>void f&lt;int&gt;(std::pair&lt;int, int&gt;)\n"));
		assert_non_null(strstr(svg, full ? ">void f&lt;int&gt;(std::pair&lt;int, int&gt;)</text>"
						 : ">f&lt;…&gt;(…)</text>"));
		assert_true((strstr(svg, "data-l=\"f&lt;…&gt;(…)\"") != NULL) == !full);
		assert_non_null(strstr(html, "\"void f\\u003cint>(std::pair\\u003cint, int>)\""));
		assert_true((strstr(html, "\"f\\u003c…>(…)\"") != NULL) == !full);
		free(svg);
		free(html);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_names),
		cmocka_unit_test(test_tree_totals),
		cmocka_unit_test(test_tree_expands_inlines),
		cmocka_unit_test(test_tree_names_unknown_code),
		cmocka_unit_test(test_tree_deep_stack),
		cmocka_unit_test(test_tree_odd_values),
		cmocka_unit_test(test_tree_invariants),
		cmocka_unit_test(test_tree_limit),
		cmocka_unit_test(test_svg_plain),
		cmocka_unit_test(test_svg_prunes),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_html_is_one_file),
		cmocka_unit_test(test_html_data),
		cmocka_unit_test(test_deterministic),
		cmocka_unit_test(test_empty_profile),
		cmocka_unit_test(test_errors_reach_the_caller),
		cmocka_unit_test(test_units),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

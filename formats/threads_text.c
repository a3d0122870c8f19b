// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// threads_text.c: a thread dump as text, in the grammars of Go's goroutine profile, so that what reads those reads ours.
//
//   debug=2   goroutine TID [STATE; "NAME"; partial: REASON, N minutes]:
//             FUNCTION(...)                                  minutes: from the first on. Name and reason are parts of the state, for
//             \tFILE:LINE +0xOFFSET                          readers take nothing else before the minutes, and little behind them.
//             ...additional frames elided...                 a stack that does not reach the thread's start
//             created by FUNCTION in goroutine TID
//             \tFILE:LINE +0xOFFSET                          "??:0" where no file is known; the offset is that in the module
//   debug=1   NAME profile: total N
//             COUNT @ 0xPC 0xPC…
//             # labels: {"state":"…", "KEY":"VALUE"…}       the program's labels, but not its trace: that would be a group for each request;
//                                                            nor one called "state": a key is there once
//             #\t0xPC\tFUNCTION+0xOFFSET\tFILE:LINE
//
// Names come from files that nobody vouches for: what would break a line, or end a reader's parse, is replaced. Readers checked:
// google/pprof (debug=1; a line of 64 KB is too long for it), panicparse and gostackparse (debug=2). Of files, panicparse takes .c, .go,
// .s and ?? only, and ends at the first other one: those can be left out.

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/label_text.h"
#include "formats/name_gaps.h"
#include "formats/text_frames.h"
#include "formats/thread_dump.h"
#include "formats/thread_stream.h"
#include "formats/writer.h"

#define NAME_MAX_BYTES TEXT_NAME_MAX
#define LABELS_MAX_BYTES 2048 // of a thread
#define STATE_KEY "state"
#define DIVISION_SLASH "\xe2\x88\x95"    // U+2215
#define FULLWIDTH_PERCENT "\xef\xbc\x85" // U+FF05
#define FULLWIDTH_OPEN "\xef\xbc\x88"    // U+FF08
#define FULLWIDTH_CLOSE "\xef\xbc\x89"   // U+FF09
#define RATIO "\xe2\x88\xb6"             // U+2236

// As deep as a name's parentheses are at most; INT_MAX when one has no other.
static int count_nesting(const char *name)
{
	int depth = 0, deepest = 0;

	for (; *name; name++) {
		depth += (*name == '(') - (*name == ')');
		if (depth < 0)
			return INT_MAX;
		deepest = depth > deepest ? depth : deepest;
	}
	return depth == 0 ? deepest : INT_MAX;
}

static const char *go_character(char special, int depth)
{
	switch (special) {
	case '%':
		return FULLWIDTH_PERCENT;
	case '/':
		return DIVISION_SLASH;
	case '(':
		return depth > 1 ? FULLWIDTH_OPEN : "(";
	default:
		return depth > 1 ? FULLWIDTH_CLOSE : ")";
	}
}

// In debug=2 a function's name is a Go name to who reads it: a path with escapes. A '%' or a '/' without a '.' somewhere behind it
// would end panicparse's parse ("operator%", "operator/"), parentheses within others gostackparse's ("call(int (*)(int))"): so these
// become characters that look alike.
static void put_go_name(struct writer *writer, const char *name)
{
	const char *slash = strrchr(name, '/');
	bool path = slash && strchr(slash, '.');
	int nesting = count_nesting(name), depth = nesting == INT_MAX ? 2 : 0;

	for (;;) {
		size_t length = strcspn(name, path ? "%()" : "%/()");

		text_put_part(writer, name, length);
		name += length;
		if (!*name)
			return;
		if (nesting != INT_MAX && *name == '(')
			depth++;
		writer_puts(writer, go_character(*name, depth));
		if (nesting != INT_MAX && *name == ')')
			depth--;
		name++;
	}
}

static bool has_go_suffix(const char *file)
{
	const char *dot = strrchr(file, '.');

	return dot && (strcmp(dot, ".c") == 0 || strcmp(dot, ".go") == 0 || strcmp(dot, ".s") == 0);
}

// A ':' with a digit behind it is what the line's number is known by.
static void put_go_file(struct writer *writer, const char *file)
{
	size_t length;

	for (; (length = strcspn(file, ":")), file[length]; file += length + 1) {
		bool digit = file[length + 1] >= '0' && file[length + 1] <= '9';

		text_put_part(writer, file, length);
		writer_puts(writer, digit ? RATIO : ":");
	}
	text_put_clean(writer, file);
}

// NULL: there is no frame to show.
static const struct thread_dump_stack *stack_of(const struct thread_dump *dump, const struct thread_dump_thread *thread)
{
	const struct thread_dump_stack *stack = thread->stack ? &dump->stacks[thread->stack - 1] : NULL;

	return stack && stack->nlocations > 0 ? stack : NULL;
}

// ---- debug=2 -------------------------------------------------------------------------------------------------------

// What the frames of a dump are written to, and how.
struct text {
	struct writer *writer;
	const struct thread_dump *dump;
	bool go_files; // other files are not named
};

static void put_call(const struct text *text, const struct profile_location *location, uint32_t i, const char *before,
		     const char *after)
{
	const struct profile *profile = text->dump->profile;
	struct writer *writer = text->writer;
	char name[NAME_MAX_BYTES];
	const char *file = text_line_file(profile, location, i);
	bool named = file[0] && (!text->go_files || has_go_suffix(file));

	writer_puts(writer, before);
	put_go_name(writer, profile_frame_name(profile, location, i, name, sizeof(name)));
	writer_puts(writer, after);
	writer_puts(writer, "\n\t");
	put_go_file(writer, named ? file : "??");
	writer_printf(writer, ":%" PRId64 " +0x%" PRIx64 "\n", named ? text_line_number(location, i) : 0,
		      text_module_offset(profile, location));
}

static void put_stack(const struct text *text, const struct thread_dump_stack *stack)
{
	const struct profile *profile = text->dump->profile;

	for (uint32_t i = 0; i < stack->nlocations; i++) {
		const struct profile_location *location = &profile->locations[stack->location_ids[i] - 1];

		for (uint32_t k = 0; k < (location->nlines ? location->nlines : 1); k++)
			put_call(text, location, k, "", "(...)");
	}
	if (stack->partial[0])
		writer_puts(text->writer, "...additional frames elided...\n");
}

static void put_creator(const struct text *text, const struct thread_dump_thread *thread)
{
	const struct thread_dump *dump = text->dump;
	const struct thread_dump_stack *stack = thread->creator_stack ? &dump->stacks[thread->creator_stack - 1] : NULL;
	char after[48] = "";

	if (!stack || stack->nlocations == 0)
		return;
	if (thread->creator_tid)
		snprintf(after, sizeof(after), " in goroutine %" PRIu32, thread->creator_tid);
	put_call(text, &dump->profile->locations[stack->location_ids[0] - 1], 0, "created by ", after);
}

static void put_header(struct writer *writer, const struct thread_dump *dump, const struct thread_dump_thread *thread)
{
	const struct thread_dump_stack *stack = thread->stack ? &dump->stacks[thread->stack - 1] : NULL;
	struct thread_dump_thread named = {.state = thread->name, .object = ""};
	int64_t minutes = thread->waiting_ns / 60000000000LL;
	char text[256];

	writer_printf(writer, "goroutine %" PRIu32 " [%s", thread->tid,
		      thread_dump_state(dump, thread, text, sizeof(text)));
	if (thread->name[0])
		writer_printf(writer, "; \"%s\"", thread_dump_state(dump, &named, text, sizeof(text)));
	if (stack && stack->partial[0]) {
		named.state = stack->partial;
		writer_printf(writer, "; partial: %s", thread_dump_state(dump, &named, text, sizeof(text)));
	}
	if (minutes > 0)
		writer_printf(writer, ", %" PRId64 " minutes", minutes);
	writer_puts(writer, "]:\n");
}

static int make_text(const struct text *text, const struct thread_dump_stack *stack, struct writer_memory *ret_memory)
{
	struct writer *writer = malloc(sizeof(*writer));
	struct text made = {writer, text->dump, text->go_files};
	int r;

	if (!writer)
		return -ENOMEM;
	writer_init(writer, writer_memory_sink, ret_memory);
	put_stack(&made, stack);
	r = writer_flush(writer);
	free(writer);
	return r;
}

// Of a stack that several threads have, as long as there is room for its text.
static int put_shared_stack(const struct text *text, const struct thread_dump_stack *stack,
			    struct thread_dump_stream *stream)
{
	struct thread_stack_text *made = &stream->texts[stack - text->dump->stacks];
	int r = 0;

	if (!made->text.data && (made->uses < 2 || stream->text_bytes >= THREAD_STREAM_MAX_TEXTS)) {
		put_stack(text, stack);
		return 0;
	}
	if (!made->text.data) {
		r = make_text(text, stack, &made->text);
		stream->text_bytes += made->text.capacity;
	}
	writer_put(text->writer, made->text.data, made->text.size);
	return r;
}

static int put_thread(const struct text *text, const struct thread_dump_thread *thread,
		      struct thread_dump_stream *stream)
{
	const struct thread_dump_stack *stack = stack_of(text->dump, thread);
	int r = 0;

	put_header(text->writer, text->dump, thread);
	if (!stack) {
		// Go's own line for it ("goroutine running on other thread; stack unavailable") is none to gostackparse.
		writer_puts(text->writer, "stack unavailable(...)\n\t\?\?:0 +0x0\n...additional frames elided...\n");
	} else {
		r = put_shared_stack(text, stack, stream);
	}
	put_creator(text, thread);
	writer_puts(text->writer, "\n");
	return r;
}

int thread_stream_text(struct thread_dump_stream *stream, struct writer *writer)
{
	const struct thread_dump *dump = stream->dump;
	const struct text text = {writer, dump, stream->go_files};
	int r = 0;

	if (stream->next == 0)
		thread_dump_put_verdicts(dump, writer);
	else if (stream->next <= dump->nthreads && !dump->threads[stream->next - 1].hidden)
		r = put_thread(&text, &dump->threads[stream->next - 1], stream);
	return r < 0 ? r : stream->next < dump->nthreads;
}

// ---- debug=1 -------------------------------------------------------------------------------------------------------

struct group {
	uint32_t stack;
	const char *state, *labels; // interned
	int64_t count;
	uint32_t first;
};

static int compare_groups(const void *a, const void *b)
{
	const struct group *left = a, *right = b;

	if (left->stack != right->stack)
		return left->stack < right->stack ? -1 : 1;
	if (left->state != right->state)
		return strcmp(left->state, right->state);
	if (left->labels != right->labels)
		return strcmp(left->labels, right->labels);
	return (left->first > right->first) - (left->first < right->first);
}

static int compare_counts(const void *a, const void *b)
{
	const struct group *left = a, *right = b;

	if (left->count != right->count)
		return left->count > right->count ? -1 : 1;
	return (left->first > right->first) - (left->first < right->first);
}

// Those that a group is told apart by.
static const char *labels_of_group(struct profile *profile, const char *labels)
{
	char key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_BYTES], text[LABELS_MAX_BYTES] = "";

	while (labels && label_text_next(&labels, key, value)) {
		if (strcmp(key, STATE_KEY) != 0 && strcmp(key, LABEL_TRACE_ID) != 0 &&
		    strcmp(key, LABEL_SPAN_ID) != 0 && strcmp(key, LABEL_TRACE_SAMPLED) != 0)
			label_text_add(text, sizeof(text), key, value);
	}
	return profile_string(profile, text);
}

static uint32_t make_groups(const struct thread_dump *dump, struct group *groups, int64_t *ret_count)
{
	uint32_t n = 0, threads = 0;

	*ret_count = 0;

	for (uint32_t i = 0; i < dump->nthreads; i++) {
		const struct thread_dump_thread *thread = &dump->threads[i];

		if (thread->hidden)
			continue;
		groups[threads++] = (struct group){.stack = thread->stack,
						   .state = thread->state,
						   .labels = labels_of_group(dump->profile, thread->labels),
						   .count = thread_dump_count(thread),
						   .first = i};
		*ret_count += thread_dump_count(thread);
	}
	if (threads > 0)
		qsort(groups, threads, sizeof(*groups), compare_groups);
	for (uint32_t i = 0; i < threads; i++) {
		if (n > 0 && groups[n - 1].stack == groups[i].stack && groups[n - 1].state == groups[i].state &&
		    groups[n - 1].labels == groups[i].labels)
			groups[n - 1].count += groups[i].count;
		else
			groups[n++] = groups[i];
	}
	if (n > 0)
		qsort(groups, n, sizeof(*groups), compare_counts);
	return n;
}

static void put_group(struct writer *writer, const struct thread_dump *dump, const struct group *group)
{
	const struct thread_dump_stack *stack = group->stack ? &dump->stacks[group->stack - 1] : NULL;
	const struct profile *profile = dump->profile;
	char key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_BYTES];

	writer_printf(writer, "%" PRId64 " @", group->count);
	// A return address is shown as the last byte of its call; who reads this takes one off again, but from the leaf.
	for (uint32_t i = 0; stack && i < stack->nlocations; i++)
		writer_printf(writer, " 0x%" PRIx64, profile->locations[stack->location_ids[i] - 1].address + (i > 0));
	// Without any address the line would not be one to google/pprof, nor the file a profile: 0x1 is its address 0.
	if (!stack || stack->nlocations == 0)
		writer_puts(writer, " 0x1");
	writer_puts(writer, "\n# labels: {\"" STATE_KEY "\":\"");
	writer_json(writer, group->state);
	for (const char *at = group->labels; label_text_next(&at, key, value);) {
		writer_puts(writer, "\", \"");
		writer_json(writer, key);
		writer_puts(writer, "\":\"");
		writer_json(writer, value);
	}
	writer_puts(writer, "\"}\n");
	for (uint32_t i = 0; stack && i < stack->nlocations; i++)
		text_put_location(writer, profile, &profile->locations[stack->location_ids[i] - 1]);
	writer_puts(writer, "\n");
}

// At the end, as comments to who reads this: which modules lack names, and what would help.
static int put_name_gaps(const struct thread_dump *dump, const struct group *groups, uint32_t ngroups,
			 struct writer *writer)
{
	struct name_gaps gaps;
	int error = name_gaps_init(&gaps, dump->profile);

	gaps.noun = "threads";
	for (uint32_t i = 0; i < ngroups && !error; i++) {
		const struct thread_dump_stack *stack = groups[i].stack ? &dump->stacks[groups[i].stack - 1] : NULL;

		name_gaps_add(&gaps, stack ? stack->location_ids : NULL, stack ? stack->nlocations : 0,
			      groups[i].count);
	}
	if (!error) {
		name_gaps_sort(&gaps);
		name_gaps_put(&gaps, "# ", writer);
	}
	name_gaps_finish(&gaps);
	return error;
}

int thread_dump_write_grouped(const struct thread_dump *dump, const char *name, struct writer *writer)
{
	struct group *groups = calloc((size_t)dump->nthreads + 1, sizeof(*groups));
	int64_t count;
	uint32_t n;
	int error;

	if (!groups)
		return -ENOMEM;
	n = make_groups(dump, groups, &count);
	thread_dump_put_verdicts(dump, writer);
	writer_printf(writer, "%s profile: total %" PRId64 "\n", name, count);
	for (uint32_t i = 0; i < n && !writer->error; i++)
		put_group(writer, dump, &groups[i]);
	error = profile_failed(dump->profile) ? -ENOMEM : put_name_gaps(dump, groups, n, writer);
	free(groups);
	return error ? error : writer_flush(writer);
}

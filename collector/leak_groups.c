// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// leak_groups.c: see leak_groups.h. All threads of both dumps are sorted by kind, so that those of one are neighbours.

#include "collector/leak_groups.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "collector/dump_file.h"

#define NO_NAME "[no name]"
#define NO_STACK "no stack"

// ---- Whose frame it is --------------------------------------------------------------------------------------------------

// Beginnings of a module's file name: what every thread has frames in.
static const char *const runtime_modules[] = {"libc.so", "libc-2",       "libpthread",  "ld-linux",
					      "ld-2",    "libstdc++.so", "libgcc_s.so", "[vdso]"};
// profd's own, and test runners' (docs/leaks.md lists them).
static const char *const runner_modules[] = {"libprofd.so", "libgtest", "libgmock", "libCatch2", "libcmocka"};
// Runners linked into the program are known by their functions' names.
static const char *const runner_functions[] = {"testing::", "Catch::", "cmocka_", "_cmocka_"};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static bool begins_with_one(const char *text, const char *const *beginnings, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strncmp(text, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	}
	return false;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_runtime(const struct dump_file_frame *frame)
{
	return begins_with_one(base_name(frame->module), runtime_modules, COUNT(runtime_modules));
}

static bool is_runner(const struct dump_file_frame *frame)
{
	return begins_with_one(base_name(frame->module), runner_modules, COUNT(runner_modules)) ||
	       begins_with_one(frame->function, runner_functions, COUNT(runner_functions));
}

// A thread of profd or of a test runner. The creator does not matter: main made those as well. What is cut may go on in anybody's
// code, and what is only libc's may be anybody's.
static bool is_runners_thread(const struct dump_file_stack *stack)
{
	bool found = false;

	for (uint32_t i = 0; i < stack->nframes; i++) {
		if (is_runner(&stack->frames[i]))
			found = true;
		else if (!is_runtime(&stack->frames[i]))
			return false;
	}
	return found && !stack->partial;
}

const char *leak_groups_function(const struct dump_file_frame *frame)
{
	// Code that was made at run time, and is elsewhere in every process.
	return strncmp(frame->function, "0x", 2) == 0 ? NO_NAME : frame->function;
}

const char *leak_groups_file(const struct dump_file_frame *frame)
{
	return frame->file[0] ? frame->file : frame->module;
}

const char *leak_groups_title(const struct leak_group *group)
{
	const struct dump_file_stack *stack = group->stack;

	for (uint32_t i = 0; i < stack->nframes; i++) {
		if (!is_runtime(&stack->frames[i]))
			return leak_groups_function(&stack->frames[i]);
	}
	return stack->nframes ? leak_groups_function(&stack->frames[0]) : NO_STACK;
}

// ---- Kinds --------------------------------------------------------------------------------------------------------------

static int compare_stacks(const struct dump_file_stack *a, const struct dump_file_stack *b)
{
	int order = 0;

	if (a == b)
		return 0;
	if (a->nframes != b->nframes)
		return a->nframes < b->nframes ? -1 : 1;
	for (uint32_t i = 0; i < a->nframes && order == 0; i++) {
		order = strcmp(leak_groups_function(&a->frames[i]), leak_groups_function(&b->frames[i]));
		if (order == 0)
			order = strcmp(leak_groups_file(&a->frames[i]), leak_groups_file(&b->frames[i]));
	}
	return order;
}

static int compare_kinds(const struct leak_group *a, const struct leak_group *b)
{
	int order;

	// Nearly always decides; the rest is for hashes made to collide.
	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	order = compare_stacks(a->stack, b->stack);
	if (order == 0)
		order = compare_stacks(a->creator, b->creator);
	return order ? order : strcmp(a->state, b->state);
}

static int compare_kinds_of(const void *a, const void *b)
{
	return compare_kinds(a, b);
}

// Only what is compared goes in, each text with its NUL, so that no two kinds give the same bytes.
static uint64_t hash_text(const char *text, uint64_t seed)
{
	return XXH64(text, strlen(text) + 1, seed);
}

static uint64_t hash_stack(const struct dump_file_stack *stack)
{
	uint64_t hash = stack->nframes;

	for (uint32_t i = 0; i < stack->nframes; i++) {
		hash = hash_text(leak_groups_function(&stack->frames[i]), hash);
		hash = hash_text(leak_groups_file(&stack->frames[i]), hash);
	}
	return hash;
}

// The kernel's Z and X (wait_state.c).
static bool has_ended(const struct dump_file_thread *thread)
{
	return strcmp(thread->state, "zombie") == 0;
}

bool leak_groups_has_ended(const struct dump_file *dump)
{
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		if (!has_ended(&dump->threads[i]))
			return false;
	}
	return true;
}

// One group a thread that lives: before and after are 0 and 1. hashes: of dump's stacks. Returns how many.
static uint32_t add_threads(const struct dump_file *dump, const uint64_t *hashes, bool after, struct leak_group *list)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < dump->nthreads; i++) {
		const struct dump_file_thread *thread = &dump->threads[i];

		if (has_ended(thread))
			continue;
		const uint64_t both[2] = {hashes[thread->stack], hashes[thread->creator_stack]};

		list[count++] = (struct leak_group){.stack = &dump->stacks[thread->stack],
						    .creator = &dump->stacks[thread->creator_stack],
						    .state = thread->state,
						    .before = !after,
						    .after = after,
						    .id = hash_text(thread->state, XXH64(both, sizeof(both), 0))};
	}
	return count;
}

static int add_dump(const struct dump_file *dump, bool after, struct leak_groups *groups)
{
	uint64_t *hashes = calloc(dump->nstacks, sizeof(*hashes));

	if (!hashes)
		return -ENOMEM;
	// A stack is in many threads: each is hashed once.
	for (uint32_t i = 0; i < dump->nstacks; i++)
		hashes[i] = hash_stack(&dump->stacks[i]);
	groups->count += add_threads(dump, hashes, after, groups->list + groups->count);
	free(hashes);
	return 0;
}

// Neighbours of one kind become one. Returns how many are left.
static uint32_t merge(struct leak_group *list, uint32_t count)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (kept > 0 && compare_kinds(&list[kept - 1], &list[i]) == 0) {
			list[kept - 1].before += list[i].before;
			list[kept - 1].after += list[i].after;
		} else {
			list[kept++] = list[i];
		}
	}
	return kept;
}

// ---- Judging ------------------------------------------------------------------------------------------------------------

static bool stack_matches(const struct dump_file_stack *stack, const regex_t *pattern)
{
	for (uint32_t i = 0; i < stack->nframes; i++) {
		if (regexec(pattern, leak_groups_function(&stack->frames[i]), 0, NULL, 0) == 0)
			return true;
	}
	return false;
}

static bool matches(const struct leak_group *group, const regex_t *pattern)
{
	return stack_matches(group->stack, pattern) || stack_matches(group->creator, pattern);
}

static bool is_ignored(const struct leak_group *group, const struct leak_rules *rules)
{
	for (uint32_t i = 0; i < rules->nignored; i++) {
		if (matches(group, &rules->ignored[i]))
			return true;
	}
	return is_runners_thread(group->stack);
}

static uint32_t grown(const struct leak_group *group)
{
	return group->after > group->before ? group->after - group->before : 0;
}

static bool is_leak(const struct leak_group *group, const struct leak_rules *rules)
{
	if (grown(group) > rules->max_new)
		return true;
	return rules->fail_pattern && grown(group) >= rules->fail_new && matches(group, rules->fail_pattern);
}

static int compare_for_show(const void *a, const void *b)
{
	const struct leak_group *one = a, *other = b;

	if (one->leak != other->leak)
		return one->leak ? -1 : 1;
	if (grown(one) != grown(other))
		return grown(one) > grown(other) ? -1 : 1;
	return compare_kinds(one, other);
}

static void judge(struct leak_groups *groups, const struct leak_rules *rules)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < groups->count; i++) {
		struct leak_group *group = &groups->list[i];

		if (is_ignored(group, rules))
			continue;
		group->leak = is_leak(group, rules);
		groups->nleaks += group->leak;
		groups->list[kept++] = *group;
	}
	groups->count = kept;
}

int leak_groups_compare(const struct dump_file *before, const struct dump_file *after, const struct leak_rules *rules,
			struct leak_groups *ret_groups)
{
	// Both are below 2^31 (dump_file.c).
	uint32_t nthreads = before->nthreads + after->nthreads;
	struct leak_groups groups = {.list = calloc((size_t)nthreads + 1, sizeof(*groups.list))};

	if (!groups.list || add_dump(before, false, &groups) < 0 || add_dump(after, true, &groups) < 0) {
		leak_groups_finish(&groups);
		return -ENOMEM;
	}
	qsort(groups.list, groups.count, sizeof(*groups.list), compare_kinds_of);
	groups.count = merge(groups.list, groups.count);
	judge(&groups, rules);
	qsort(groups.list, groups.count, sizeof(*groups.list), compare_for_show);
	*ret_groups = groups;
	return 0;
}

void leak_groups_finish(struct leak_groups *groups)
{
	free(groups->list);
	*groups = (struct leak_groups){0};
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of label_text.c, pseudo_frame.c and causal.c: labels as text, frames that are no code, stacks under their causes.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "formats/causal.h"
#include "formats/label_text.h"
#include "formats/profile.h"
#include "formats/pseudo_frame.h"

static void test_text(void **state)
{
	char text[64] = "", key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_BYTES];
	const char *at = text;

	assert_true(label_text_add(text, sizeof(text), "a", "one"));
	assert_true(label_text_add(text, sizeof(text), "bad\x1f", "t\tw\xff\x1e\xc3\xbc"));
	assert_true(label_text_next(&at, key, value));
	assert_string_equal(key, "a");
	assert_string_equal(value, "one");
	assert_true(label_text_next(&at, key, value));
	assert_string_equal(key, "bad_");
	assert_string_equal(value, "t_w__\xc3\xbc");
	assert_false(label_text_next(&at, key, value));
	assert_true(label_text_find(text, "a", value, sizeof(value)));
	assert_string_equal(value, "one");
	assert_false(label_text_find(text, "b", value, sizeof(value)));
	assert_false(label_text_find(text, "a", value, 3));
	assert_false(label_text_find(NULL, "a", value, sizeof(value)));
}

// What does not fit is not there in part.
static void test_no_room(void **state)
{
	for (size_t size = 1; size < 12; size++) {
		char text[16] = "";
		char value[16];

		assert_int_equal(label_text_add(text, size, "key", "value"), size > 10);
		assert_int_equal(label_text_find(text, "key", value, sizeof(value)), size > 10);
		assert_true(size > 10 || text[0] == '\0');
	}
}

static void test_choice(void **state)
{
	struct label_choice choice = {.sampled_only = false};
	char text[64] = "", long_value[128];

	assert_true(label_choice_wants(&choice, NULL));
	assert_true(label_choice_parse("url=/a=b", &choice));
	assert_false(label_choice_wants(&choice, NULL));
	label_text_add(text, sizeof(text), "url", "/a");
	assert_false(label_choice_wants(&choice, text));
	text[0] = '\0';
	label_text_add(text, sizeof(text), "url", "/a=b");
	assert_true(label_choice_wants(&choice, text));
	choice.sampled_only = true;
	assert_false(label_choice_wants(&choice, text));
	label_text_add(text, sizeof(text), LABEL_TRACE_SAMPLED, "1");
	assert_true(label_choice_wants(&choice, text));
	// What a program set, it finds: cut and clean as it is kept.
	choice = (struct label_choice){.sampled_only = false};
	memset(long_value, 'x', 100);
	memcpy(long_value, "k=", 2);
	memcpy(long_value + 2 + LABEL_TEXT_VALUE_KEPT - 1, "\xc3\xa4", 2); // would be cut in two
	long_value[100] = '\0';
	assert_true(label_choice_parse(long_value, &choice));
	assert_int_equal(strlen(choice.value), LABEL_TEXT_VALUE_KEPT - 1);
	assert_true(label_choice_parse("k=a\tb\xff", &choice));
	text[0] = '\0';
	label_text_add(text, sizeof(text), "k", "a\tb\xff");
	assert_true(label_choice_wants(&choice, text));
	assert_true(label_choice_parse("k=", &choice));
	assert_false(label_choice_wants(&choice, text));
	assert_false(label_choice_parse("no value", &choice));
	assert_false(label_choice_parse("=value", &choice));
}

static const char *name_of(const struct profile *profile, uint32_t id)
{
	return profile->functions[profile->locations[id - 1].lines[0].function_id - 1].name;
}

static void test_pseudo_frames(void **state)
{
	struct profile *profile = profile_create();
	uint32_t created = pseudo_frame_seam(profile, "created"), queued = pseudo_frame_seam(profile, "queued");
	uint32_t group = pseudo_frame_group(profile, "url", NULL);

	assert_true(created && queued && group && created != queued);
	assert_int_equal(pseudo_frame_seam(profile, "created"), created);
	assert_string_equal(name_of(profile, created), "↳ created by");
	assert_string_equal(name_of(profile, group), "url=");
	assert_int_equal(profile->nmappings, 2);
	assert_string_equal(profile->mappings[0].file, PSEUDO_CAUSAL);
	assert_string_equal(profile->mappings[1].file, PSEUDO_LABEL);
	assert_true(profile->mappings[0].limit <= profile->mappings[1].start);
	for (uint32_t i = 0; i < profile->nlocations; i++) {
		const struct profile_mapping *mapping = &profile->mappings[profile->locations[i].mapping_id - 1];

		assert_in_range(profile->locations[i].address, mapping->start, mapping->limit - 1);
	}
	profile_destroy(profile);
}

// Cause i has one frame, location i, and was caused by i + 1. Cause 100 is not known, for 200 there is no memory.
static int find_next(void *context, uint32_t cause, struct causal_link *ret_link)
{
	if (cause == 100 || cause == 200)
		return cause == 100 ? -ENOENT : -ENOMEM;
	ret_link->kind = cause % 2 ? "created" : "queued";
	ret_link->next = cause + 1;
	ret_link->nids = 1;
	ret_link->ids[0] = cause;
	return 0;
}

static void test_causes(void **state)
{
	struct profile *profile = profile_create();
	uint32_t ids[CAUSAL_MAX_ADDED + 1] = {77}, n = causal_append(profile, find_next, NULL, 1, ids, 1);

	assert_int_equal(n, 1 + 2 * CAUSAL_MAX_CAUSES);
	assert_int_equal(ids[0], 77);
	for (uint32_t i = 0; i < CAUSAL_MAX_CAUSES; i++) {
		assert_string_equal(name_of(profile, ids[1 + 2 * i]), i % 2 ? "↳ queued by" : "↳ created by");
		assert_int_equal(ids[2 + 2 * i], i + 1);
	}
	assert_int_equal(causal_append(profile, find_next, NULL, 0, ids, 1), 1);
	assert_int_equal(causal_append(profile, find_next, NULL, 99, ids, 1), 3);
	assert_int_equal(causal_append(profile, find_next, NULL, 199, ids, 1), 0);
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),          cmocka_unit_test(test_no_room), cmocka_unit_test(test_choice),
		cmocka_unit_test(test_pseudo_frames), cmocka_unit_test(test_causes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// label_text.h: a set of labels as one string, so that it can be interned and compared: "key\x1fvalue\x1e…", by key in order. A key or a value
// has no control characters.

#ifndef PROFD_FORMATS_LABEL_TEXT_H
#define PROFD_FORMATS_LABEL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct profile;
struct profile_label;

// Adds a label to text; control characters in it, and what is not UTF-8, are replaced. false: it does not fit, text is as it was.
bool label_text_add(char *text, size_t size, const char *key, const char *value);
// The next label of a text, *at being where (first: the text). false: there are no more. What is too long is cut.
#define LABEL_TEXT_KEY_BYTES 64
#define LABEL_TEXT_VALUE_BYTES 128
bool label_text_next(const char **at, char key[LABEL_TEXT_KEY_BYTES], char value[LABEL_TEXT_VALUE_BYTES]);
// The value of a key into value. false: text (NULL: none) has no such key, or it does not fit.
bool label_text_find(const char *text, const char *key, char *value, size_t size);
// Makes labels of text (NULL: none), with strings of the profile. Returns how many, max at the most.
uint32_t label_text_labels(const char *text, struct profile *profile, struct profile_label *labels, uint32_t max);

// Which samples are wanted, and what they are put under.
struct label_choice {
	char key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_BYTES]; // only those with this label; "": all
	char group[LABEL_TEXT_KEY_BYTES]; // a frame "KEY=value" at the root of each; "": none
	bool sampled_only;                // only those with a trace that is recorded
};
// "key=value" into choice, the value as it is kept: what is longer is cut, as programs' labels are. false: it is none, or the key is too long.
#define LABEL_TEXT_VALUE_KEPT 63u
bool label_choice_parse(const char *text, struct label_choice *choice);
bool label_choice_wants(const struct label_choice *choice, const char *text);

// Labels that have a meaning to profd itself.
#define LABEL_TRACE_SAMPLED "trace_sampled" // "1": the trace is recorded
#define LABEL_TRACE_ID "trace_id"
#define LABEL_SPAN_ID "span_id"

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_label.c: see thread_label.h. Pure functions.

#include "formats/thread_label.h"

#include "formats/profile.h"
#include "formats/utf8.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ID_SIZE 32 // a longer thread_id that is text is cut

static const struct profile_label *find_label(const struct profile_sample *sample, const char *key)
{
	for (uint32_t i = 0; i < sample->nlabels; i++) {
		if (strcmp(sample->labels[i].key, key) == 0)
			return &sample->labels[i];
	}
	return NULL;
}

struct thread_label thread_label_of(const struct profile_sample *sample)
{
	return (struct thread_label){
		.process = find_label(sample, "process_id"),
		.id = find_label(sample, "thread_id"),
		.name = find_label(sample, "thread_name"),
	};
}

bool thread_label_is_empty(const struct thread_label *thread)
{
	return !thread->process && !thread->id && !thread->name;
}

// None before numbers before texts.
static int compare_label(const struct profile_label *a, const struct profile_label *b)
{
	if (!a || !b)
		return (a != NULL) - (b != NULL);
	if (!a->str || !b->str)
		return a->str || b->str ? (a->str != NULL) - (b->str != NULL) : (a->num > b->num) - (a->num < b->num);
	return strcmp(a->str, b->str);
}

int thread_label_compare(const struct thread_label *a, const struct thread_label *b)
{
	int order = compare_label(a->process, b->process);
	if (!order)
		order = compare_label(a->id, b->id);
	return order ? order : compare_label(a->name, b->name);
}

// "" for none.
static const char *label_text(const struct profile_label *label, char *buf, size_t size)
{
	if (!label)
		return "";
	if (!label->str) {
		snprintf(buf, size, "%" PRId64, label->num);
		return buf;
	}
	size_t length = utf8_prefix(label->str, size - 1);
	memcpy(buf, label->str, length);
	buf[length] = '\0';
	return buf;
}

char *thread_label_name(const struct thread_label *thread, char *buf, size_t size)
{
	char id[ID_SIZE];
	label_text(thread->name, buf, size);
	if (thread->name && buf[0])
		return buf;
	const char *text = label_text(thread->id, id, sizeof(id));
	if (text[0])
		snprintf(buf, size, "[thread %s]", text);
	else
		snprintf(buf, size, "[no thread]");
	return buf;
}

char *thread_label_title(const struct thread_label *thread, char *buf, size_t size)
{
	char process[ID_SIZE], id[ID_SIZE];
	const char *process_text = label_text(thread->process, process, sizeof(process));
	const char *id_text = label_text(thread->id, id, sizeof(id));
	const char *name = label_text(thread->name, buf, size);
	size_t length = strlen(name);
	bool ids = process_text[0] || id_text[0];
	if (length == 0)
		length = (size_t)snprintf(buf, size, "%s", ids ? "thread" : "[no thread]");
	// Where the name leaves no room for the ids, its end gives way.
	if (length > size - 2 * ID_SIZE - 8)
		length = utf8_prefix(buf, size - 2 * ID_SIZE - 8);
	if (ids)
		snprintf(buf + length, size - length, " (%s%s%s)", process_text,
			 process_text[0] && id_text[0] ? ":" : "", id_text);
	return buf;
}

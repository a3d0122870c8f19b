// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dump_file.c: see dump_file.h. jansson checks that it is JSON, in UTF-8, without NULs, duplicate keys, deep nesting or integers past
// 64 bits; everything else is checked here.

#include "collector/dump_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/read_all.h"
#include "formats/writer.h"

#define FORMAT_VERSION 1

// What is being read, and where complaints go. `where` and `index` say which item: "thread 17".
struct reading {
	struct dump_file *dump;
	const char *where; // NULL: the top
	size_t index;      // counted from 0
	char *error;
	size_t error_size;
	uint32_t nframes; // taken of dump->frames
};

// Says what is wrong, once; always −EINVAL. Parts of the file may be in it: no control characters get out.
static int __attribute__((format(printf, 2, 3))) refuse(struct reading *reading, const char *fmt, ...)
{
	size_t used = 0;
	va_list args;

	if (reading->where) {
		int n = snprintf(reading->error, reading->error_size, "%s %zu: ", reading->where, reading->index + 1);
		used = n > 0 && (size_t)n < reading->error_size ? (size_t)n : 0;
	}
	va_start(args, fmt);
	vsnprintf(reading->error + used, reading->error_size - used, fmt, args);
	va_end(args);
	for (char *at = reading->error; *at; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	}
	return -EINVAL;
}

// ---- Fields -------------------------------------------------------------------------------------------------------------

// An optional one that is not there leaves *ret_text "".
static int get_text(struct reading *reading, const json_t *object, const char *key, bool needed, const char **ret_text)
{
	const json_t *value = json_object_get(object, key);

	if (!value && !needed) {
		*ret_text = "";
		return 0;
	}
	if (!json_is_string(value))
		return refuse(reading, value ? "\"%s\" is not a string" : "it has no \"%s\"", key);
	*ret_text = json_string_value(value);
	return 0;
}

// In [min, max]. An optional one that is not there leaves *ret_number 0.
static int get_number(struct reading *reading, const json_t *object, const char *key, bool needed, uint32_t min,
		      uint32_t max, uint32_t *ret_number)
{
	const json_t *value = json_object_get(object, key);
	json_int_t number;

	if (!value && !needed) {
		*ret_number = 0;
		return 0;
	}
	if (!json_is_integer(value))
		return refuse(reading, value ? "\"%s\" is not an integer" : "it has no \"%s\"", key);
	number = json_integer_value(value);
	if (number < (json_int_t)min || number > (json_int_t)max)
		return refuse(reading, "\"%s\" is %" JSON_INTEGER_FORMAT ", not from %" PRIu32 " to %" PRIu32, key,
			      number, min, max);
	*ret_number = (uint32_t)number;
	return 0;
}

static int get_array(struct reading *reading, const json_t *object, const char *key, const json_t **ret_array)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_array(value))
		return refuse(reading, value ? "\"%s\" is not an array" : "it has no \"%s\"", key);
	// Ids are 32 bits.
	if (json_array_size(value) >= INT32_MAX)
		return refuse(reading, "\"%s\" has too many items", key);
	*ret_array = value;
	return 0;
}

// A number of a stack that is there, or 0 when the object does not name one.
static int get_stack(struct reading *reading, const json_t *object, bool needed, uint32_t *ret_stack)
{
	uint32_t id = 0;
	int r = get_number(reading, object, "stack", needed, 1, UINT32_MAX, &id);

	if (r == 0 && id >= reading->dump->nstacks)
		r = refuse(reading, "there is no stack %" PRIu32, id);
	if (r == 0)
		*ret_stack = id;
	return r;
}

// ---- Stacks -------------------------------------------------------------------------------------------------------------

static int read_frame(struct reading *reading, const json_t *value, struct dump_file_frame *frame)
{
	int r;

	if (!json_is_object(value))
		return refuse(reading, "a frame is not an object");
	r = get_text(reading, value, "function", true, &frame->function);
	if (r == 0)
		r = get_text(reading, value, "file", false, &frame->file);
	return r < 0 ? r : get_text(reading, value, "module", false, &frame->module);
}

static int read_stack(struct reading *reading, const json_t *value, struct dump_file_stack *stack)
{
	struct dump_file_frame *frames = reading->dump->frames + reading->nframes;
	const json_t *array = json_object_get(value, "frames");
	size_t count = json_array_size(array);
	const char *partial = "";
	uint32_t id;
	int r;

	// The id is the place: so the format has it, and so none is there twice.
	r = get_number(reading, value, "id", true, 1, UINT32_MAX, &id);
	if (r == 0 && id != reading->index + 1)
		r = refuse(reading, "\"id\" is %" PRIu32, id);
	if (r == 0)
		r = get_text(reading, value, "partial", false, &partial);
	for (size_t i = 0; i < count && r == 0; i++)
		r = read_frame(reading, json_array_get(array, i), &frames[i]);
	if (r < 0)
		return r;
	*stack = (struct dump_file_stack){(uint32_t)count, frames, partial[0] != '\0'};
	reading->nframes += (uint32_t)count;
	return 0;
}

// All of them together, so that one block holds them.
static int count_frames(struct reading *reading, const json_t *stacks, size_t *ret_count)
{
	const json_t *frames = NULL;
	size_t count = 0;

	reading->where = "stack";
	for (reading->index = 0; reading->index < json_array_size(stacks); reading->index++) {
		const json_t *stack = json_array_get(stacks, reading->index);
		int r = json_is_object(stack) ? get_array(reading, stack, "frames", &frames)
					      : refuse(reading, "it is not an object");
		if (r < 0)
			return r;
		count += json_array_size(frames);
		if (count > INT32_MAX)
			return refuse(reading, "too many frames");
	}
	*ret_count = count;
	return 0;
}

static int read_stacks(struct reading *reading, const json_t *stacks)
{
	struct dump_file *dump = reading->dump;
	size_t nframes = 0;
	int r = count_frames(reading, stacks, &nframes);

	if (r < 0)
		return r;
	dump->nstacks = (uint32_t)json_array_size(stacks) + 1;
	dump->stacks = calloc(dump->nstacks, sizeof(*dump->stacks));
	dump->frames = calloc(nframes + 1, sizeof(*dump->frames));
	if (!dump->stacks || !dump->frames)
		return -ENOMEM;
	for (reading->index = 0; reading->index + 1 < dump->nstacks && r == 0; reading->index++)
		r = read_stack(reading, json_array_get(stacks, reading->index), &dump->stacks[reading->index + 1]);
	return r;
}

// ---- Threads ------------------------------------------------------------------------------------------------------------

static int read_creator(struct reading *reading, const json_t *thread, uint32_t *ret_stack)
{
	const json_t *creator = json_object_get(thread, "created_by");
	uint32_t tid;
	int r;

	if (!creator)
		return 0;
	if (!json_is_object(creator))
		return refuse(reading, "\"created_by\" is not an object");
	r = get_number(reading, creator, "tid", false, 0, UINT32_MAX, &tid);
	return r < 0 ? r : get_stack(reading, creator, true, ret_stack);
}

static int read_thread(struct reading *reading, const json_t *value, struct dump_file_thread *thread)
{
	int r;

	if (!json_is_object(value))
		return refuse(reading, "it is not an object");
	r = get_number(reading, value, "tid", true, 1, UINT32_MAX, &thread->tid);
	if (r == 0)
		r = get_text(reading, value, "name", false, &thread->name);
	if (r == 0)
		r = get_text(reading, value, "state", true, &thread->state);
	if (r == 0)
		r = get_stack(reading, value, false, &thread->stack);
	return r < 0 ? r : read_creator(reading, value, &thread->creator_stack);
}

static int read_threads(struct reading *reading, const json_t *threads)
{
	struct dump_file *dump = reading->dump;
	int r = 0;

	reading->where = "thread";
	dump->threads = calloc(json_array_size(threads) + 1, sizeof(*dump->threads));
	if (!dump->threads)
		return -ENOMEM;
	dump->nthreads = (uint32_t)json_array_size(threads);
	for (reading->index = 0; reading->index < dump->nthreads && r == 0; reading->index++)
		r = read_thread(reading, json_array_get(threads, reading->index), &dump->threads[reading->index]);
	return r;
}

// ---- The whole ----------------------------------------------------------------------------------------------------------

static int read_top(struct reading *reading, const json_t *top)
{
	const json_t *stacks = NULL, *threads = NULL;
	uint32_t version;
	int r;

	if (!json_is_object(top))
		return refuse(reading, "not a snapshot: profd dump --json writes one");
	r = get_number(reading, top, "version", true, FORMAT_VERSION, FORMAT_VERSION, &version);
	if (r == 0)
		r = get_array(reading, top, "stacks", &stacks);
	if (r == 0)
		r = get_array(reading, top, "threads", &threads);
	if (r == 0)
		r = read_stacks(reading, stacks);
	return r < 0 ? r : read_threads(reading, threads);
}

int dump_file_parse(const char *data, size_t size, struct dump_file **ret_dump, char *error, size_t error_size)
{
	struct dump_file *dump = calloc(1, sizeof(*dump));
	struct reading reading = {.dump = dump, .error = error, .error_size = error_size};
	json_error_t json_error = {.text = ""};
	int r = -ENOMEM;

	error[0] = '\0';
	if (!dump || size > DUMP_FILE_MAX_BYTES)
		goto fail;
	dump->json = json_loadb(data, size, JSON_REJECT_DUPLICATES, &json_error);
	if (!dump->json && json_error_code(&json_error) == json_error_out_of_memory)
		goto fail;
	r = dump->json ? read_top(&reading, dump->json)
		       : refuse(&reading, "not JSON: line %d: %s", json_error.line, json_error.text);
	if (r < 0)
		goto fail;
	*ret_dump = dump;
	return 0;
fail:
	if (r == -ENOMEM)
		snprintf(error, error_size, size > DUMP_FILE_MAX_BYTES ? "more than a GiB" : "out of memory");
	dump_file_destroy(dump);
	return r;
}

int dump_file_read(const char *path, struct dump_file **ret_dump, char *error, size_t error_size)
{
	struct writer_memory memory = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : read_all(fd, DUMP_FILE_MAX_BYTES, &memory);

	if (r < 0)
		snprintf(error, error_size, "%s", strerror(-r));
	else
		r = dump_file_parse(memory.data ? memory.data : "", memory.size, ret_dump, error, error_size);
	if (fd >= 0)
		close(fd);
	free(memory.data);
	return r;
}

void dump_file_destroy(struct dump_file *dump)
{
	if (!dump)
		return;
	json_decref(dump->json);
	free(dump->threads);
	free(dump->stacks);
	free(dump->frames);
	free(dump);
}

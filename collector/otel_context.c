// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// otel_context.c: see otel_context.h. OTEP 4719, "Reading Protocol": the header is read before and after the payload, and a time of
// publication that stayed the same says that nobody wrote meanwhile.

#include "collector/otel_context.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/process.h"

#define SIGNATURE "OTEL_CTX"
#define VERSION 2u
#define MAX_PAYLOAD 65536u
#define MAX_LINES 1000000u
#define TRIES 3

// OTEP 4719, "Header Structure".
struct header {
	char signature[8];
	uint32_t version, payload_size;
	uint64_t published_at_ns;
	uint64_t payload; // address
};

// ---- Protobuf ------------------------------------------------------------------------------------------------------

// Field numbers of ProcessContext, Resource, KeyValue and AnyValue.
enum { CONTEXT_RESOURCE = 1, RESOURCE_ATTRIBUTES = 1, KEY_VALUE_KEY = 1, KEY_VALUE_VALUE = 2, ANY_STRING = 1 };
enum { WIRE_TYPE_VARINT = 0, WIRE_TYPE_64 = 1, WIRE_TYPE_BYTES = 2, WIRE_TYPE_32 = 5 };

struct bytes {
	const uint8_t *at, *end;
};

static bool take_varint(struct bytes *bytes, uint64_t *ret_value)
{
	*ret_value = 0;
	for (unsigned shift = 0; shift < 64 && bytes->at < bytes->end; shift += 7) {
		uint8_t byte = *bytes->at++;

		*ret_value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

// The next field that is bytes; others are skipped. false: there is none, or what follows makes no sense.
static bool take_bytes(struct bytes *bytes, uint64_t *ret_field, struct bytes *ret_value)
{
	uint64_t tag, n;

	while (take_varint(bytes, &tag)) {
		switch (tag & 7) {
		case WIRE_TYPE_VARINT:
			if (!take_varint(bytes, &n))
				return false;
			continue;
		case WIRE_TYPE_64:
		case WIRE_TYPE_32:
			n = (tag & 7) == WIRE_TYPE_64 ? 8 : 4;
			break;
		case WIRE_TYPE_BYTES:
			if (!take_varint(bytes, &n))
				return false;
			break;
		default:
			return false;
		}
		if (n > (uint64_t)(bytes->end - bytes->at))
			return false;
		*ret_field = tag >> 3;
		*ret_value = (struct bytes){bytes->at, bytes->at + n};
		bytes->at += n;
		if ((tag & 7) == WIRE_TYPE_BYTES)
			return true;
	}
	return false;
}

// The last field of that number, as protobuf has it.
static bool find_bytes(struct bytes message, uint64_t number, struct bytes *ret_value)
{
	struct bytes value;
	uint64_t field;
	bool found = false;

	while (take_bytes(&message, &field, &value)) {
		if (field == number)
			*ret_value = value;
		found |= field == number;
	}
	return found;
}

static bool is_key(struct bytes attribute, const char *wanted)
{
	struct bytes key;

	return find_bytes(attribute, KEY_VALUE_KEY, &key) && (size_t)(key.end - key.at) == strlen(wanted) &&
	       memcmp(key.at, wanted, strlen(wanted)) == 0;
}

static bool find_attribute(struct bytes resource, const char *key, char name[OTEL_NAME_BYTES])
{
	struct bytes attribute, value, text;
	uint64_t field;

	while (take_bytes(&resource, &field, &attribute)) {
		size_t length;

		if (field != RESOURCE_ATTRIBUTES || !is_key(attribute, key) ||
		    !find_bytes(attribute, KEY_VALUE_VALUE, &value) || !find_bytes(value, ANY_STRING, &text))
			continue;
		length = (size_t)(text.end - text.at);
		if (length == 0 || length >= OTEL_NAME_BYTES || memchr(text.at, '\0', length))
			return false;
		memcpy(name, text.at, length);
		name[length] = '\0';
		return true;
	}
	return false;
}

bool otel_context_parse(const void *payload, size_t size, char name[OTEL_NAME_BYTES])
{
	struct bytes context = {payload, (const uint8_t *)payload + size}, resource;

	return find_bytes(context, CONTEXT_RESOURCE, &resource) && find_attribute(resource, "service.name", name);
}

// ---- The process ---------------------------------------------------------------------------------------------------

static bool is_context_name(const char *name)
{
	return strncmp(name, "/memfd:" SIGNATURE, 7 + 8) == 0 || strncmp(name, "[anon_shmem:" SIGNATURE, 12 + 8) == 0 ||
	       strncmp(name, "[anon:" SIGNATURE, 6 + 8) == 0;
}

// 0: it has none.
static uint64_t find_mapping(pid_t tid)
{
	char path[64], line[512];
	uint64_t start = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
	file = fopen(path, "re");
	for (unsigned n = 0; file && n < MAX_LINES && !start && fgets(line, sizeof(line), file); n++) {
		const char *name = strpbrk(line, "/[");

		if (!name || !is_context_name(name))
			continue;
		start = strtoull(line, NULL, 16);
	}
	if (file)
		(void)fclose(file);
	return start;
}

static bool read_header(pid_t pid, pid_t *living, uint64_t address, struct header *ret_header)
{
	return process_read_memory(pid, living, address, ret_header, sizeof(*ret_header)) == sizeof(*ret_header) &&
	       memcmp(ret_header->signature, SIGNATURE, sizeof(ret_header->signature)) == 0 &&
	       ret_header->version == VERSION && ret_header->published_at_ns != 0;
}

// Once. *ret_name is only set when all of it was read at one time.
static bool read_once(pid_t pid, pid_t *living, uint64_t address, char *payload, char name[OTEL_NAME_BYTES])
{
	struct header before, after;
	char found[OTEL_NAME_BYTES];

	if (!read_header(pid, living, address, &before) || before.payload_size > MAX_PAYLOAD ||
	    process_read_memory(pid, living, before.payload, payload, before.payload_size) != before.payload_size ||
	    !read_header(pid, living, address, &after) || after.published_at_ns != before.published_at_ns ||
	    !otel_context_parse(payload, before.payload_size, found))
		return false;
	memcpy(name, found, sizeof(found));
	return true;
}

bool otel_context_service_name(pid_t pid, char name[OTEL_NAME_BYTES])
{
	pid_t living = process_living_task(pid, 0);
	uint64_t address = find_mapping(living);
	char *payload = address ? malloc(MAX_PAYLOAD) : NULL;
	bool found = false;

	for (int i = 0; payload && i < TRIES && !found; i++)
		found = read_once(pid, &living, address, payload, name);
	free(payload);
	return found;
}

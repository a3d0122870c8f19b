// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// protobuf.h: a few lines that encode protobuf messages (protobuf.dev/programming-guides/encoding) without a copy of their contents as
// structures. A nested message is made in a buffer of its own and then put into the outer one.

#ifndef PROFD_FORMATS_PROTOBUF_H
#define PROFD_FORMATS_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct protobuf {
	uint8_t *data; // owned
	size_t size, capacity;
	int failed; // no memory
};

enum { PROTOBUF_VARINT = 0, PROTOBUF_FIXED64 = 1, PROTOBUF_BYTES = 2 };

static inline int protobuf_reserve(struct protobuf *message, size_t more)
{
	size_t capacity = message->capacity ? message->capacity : 256;
	uint8_t *data;

	if (message->failed)
		return 0;
	if (message->capacity - message->size >= more)
		return 1;
	while (capacity - message->size < more)
		capacity *= 2;
	data = realloc(message->data, capacity);
	if (!data) {
		message->failed = 1;
		return 0;
	}
	message->data = data;
	message->capacity = capacity;
	return 1;
}

static inline void protobuf_put_varint(struct protobuf *message, uint64_t value)
{
	if (!protobuf_reserve(message, 10))
		return;
	for (; value >= 0x80; value >>= 7)
		message->data[message->size++] = (uint8_t)(value | 0x80);
	message->data[message->size++] = (uint8_t)value;
}

static inline void protobuf_varint(struct protobuf *message, uint32_t field, uint64_t value)
{
	protobuf_put_varint(message, (uint64_t)field << 3 | PROTOBUF_VARINT);
	protobuf_put_varint(message, value);
}

static inline void protobuf_fixed64(struct protobuf *message, uint32_t field, uint64_t value)
{
	protobuf_put_varint(message, (uint64_t)field << 3 | PROTOBUF_FIXED64);
	if (!protobuf_reserve(message, 8))
		return;
	for (int i = 0; i < 8; i++)
		message->data[message->size++] = (uint8_t)(value >> 8 * i);
}

static inline void protobuf_bytes(struct protobuf *message, uint32_t field, const void *data, size_t size)
{
	protobuf_put_varint(message, (uint64_t)field << 3 | PROTOBUF_BYTES);
	protobuf_put_varint(message, size);
	if (size == 0 || !protobuf_reserve(message, size))
		return;
	memcpy(message->data + message->size, data, size);
	message->size += size;
}

static inline void protobuf_string(struct protobuf *message, uint32_t field, const char *text)
{
	protobuf_bytes(message, field, text, strlen(text));
}

static inline void protobuf_message(struct protobuf *message, uint32_t field, const struct protobuf *nested)
{
	message->failed |= nested->failed;
	protobuf_bytes(message, field, nested->data, nested->size);
}

// Empty again; the memory stays.
static inline void protobuf_clear(struct protobuf *message)
{
	message->size = 0;
}

static inline void protobuf_finish(struct protobuf *message)
{
	free(message->data);
	memset(message, 0, sizeof(*message));
}

#endif

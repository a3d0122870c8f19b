// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// writer.c: buffered output with an error that sticks, and escaping. See writer.h.

#include "formats/writer.h"

#include "formats/utf8.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void writer_init(struct writer *writer, writer_sink sink, void *context)
{
	writer->sink = sink;
	writer->context = context;
	writer->error = 0;
	writer->written = 0;
	writer->used = 0;
}

static void give(struct writer *writer, const void *data, size_t size)
{
	if (writer->error || size == 0)
		return;
	writer->error = writer->sink(writer->context, data, size);
	if (!writer->error)
		writer->written += size;
}

int writer_flush(struct writer *writer)
{
	give(writer, writer->buf, writer->used);
	writer->used = 0;
	return writer->error;
}

void writer_put(struct writer *writer, const void *data, size_t size)
{
	if (size > sizeof(writer->buf) - writer->used)
		writer_flush(writer);
	if (size > sizeof(writer->buf)) {
		give(writer, data, size);
	} else if (!writer->error && size) {
		memcpy(writer->buf + writer->used, data, size);
		writer->used += size;
	}
}

void writer_puts(struct writer *writer, const char *s)
{
	writer_put(writer, s, strlen(s));
}

// For text that is longer than the buffer.
static void print_long(struct writer *writer, size_t length, const char *fmt, va_list args)
{
	char *text = malloc(length + 1);
	if (!text) {
		writer->error = -ENOMEM;
		return;
	}
	vsnprintf(text, length + 1, fmt, args);
	give(writer, text, length);
	free(text);
}

void writer_printf(struct writer *writer, const char *fmt, ...)
{
	if (writer->error)
		return;
	size_t room = sizeof(writer->buf) - writer->used;
	va_list args;
	va_start(args, fmt);
	int length = vsnprintf(writer->buf + writer->used, room, fmt, args);
	va_end(args);
	if (length < 0) {
		writer->error = -EINVAL;
	} else if ((size_t)length < room) {
		writer->used += (size_t)length;
	} else if (writer_flush(writer) == 0) {
		va_start(args, fmt);
		if ((size_t)length < sizeof(writer->buf))
			writer->used = (size_t)vsnprintf(writer->buf, sizeof(writer->buf), fmt, args);
		else
			print_long(writer, (size_t)length, fmt, args);
		va_end(args);
	}
}

// ---- Escaping ------------------------------------------------------------------------------------------------------

// What stands for the character that `size` bytes of s make, or NULL: itself. buf is for what must be made.
static const char *escape_json(const char *s, int size, char buf[8])
{
	unsigned char c = (unsigned char)*s;

	if (size < 0)
		return UTF8_REPLACEMENT;
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		if (c >= ' ' && c != 0x7f)
			return NULL;
		snprintf(buf, 8, "\\u%04x", c);
		return buf;
	}
}

// XML 1.0 §2.2 "Characters": of the controls only tab, newline and carriage return exist, and no U+FFFE or U+FFFF. A
// carriage return would be read back as a newline (§2.11), so it goes the way of the other controls.
static bool is_xml_character(const char *s, int size)
{
	unsigned char c = (unsigned char)*s;

	if (size < 0 || c == 0x7f)
		return false;
	if (size == 1)
		return c >= ' ' || c == '\n' || c == '\t';
	return size != 3 || (memcmp(s, "\xef\xbf\xbe", 3) != 0 && memcmp(s, "\xef\xbf\xbf", 3) != 0);
}

static const char *escape_xml(const char *s, int size, char buf[8])
{
	if (!is_xml_character(s, size))
		return UTF8_REPLACEMENT;
	switch (*s) {
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '&':
		return "&amp;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

static void put_escaped(struct writer *writer, const char *s, const char *(*escape)(const char *, int, char[8]))
{
	const char *plain = s; // begin of what needs no escape and is not written yet
	char buf[8];

	while (*s) {
		int size = utf8_step(s);
		const char *escaped = escape(s, size, buf);
		if (escaped) {
			writer_put(writer, plain, (size_t)(s - plain));
			writer_puts(writer, escaped);
		}
		s += size < 0 ? -size : size;
		if (escaped)
			plain = s;
	}
	writer_put(writer, plain, (size_t)(s - plain));
}

void writer_json(struct writer *writer, const char *s)
{
	put_escaped(writer, s, escape_json);
}

void writer_xml(struct writer *writer, const char *s)
{
	put_escaped(writer, s, escape_xml);
}

// C0, DEL; C1, two bytes of UTF-8.
static bool is_control(const char *s, int step)
{
	return step == 1 ? (unsigned char)*s < ' ' || *s == 0x7f
			 : step == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0;
}

void writer_plain(struct writer *writer, const char *s)
{
	while (*s) {
		int step = utf8_step(s);

		if (step < 0)
			writer_puts(writer, UTF8_REPLACEMENT);
		else if (is_control(s, step))
			writer_puts(writer, "?");
		else
			writer_put(writer, s, (size_t)step);
		s += step < 0 ? -step : step;
	}
}

// ---- Sinks ---------------------------------------------------------------------------------------------------------

static int memory_grow(struct writer_memory *memory, size_t needed)
{
	size_t capacity = memory->capacity ? memory->capacity : 4096;

	while (capacity < needed)
		capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
	if (memory->max && capacity > memory->max)
		capacity = memory->max;
	char *data = realloc(memory->data, capacity);
	if (!data)
		return -ENOMEM;
	memory->data = data;
	memory->capacity = capacity;
	return 0;
}

int writer_memory_sink(void *context, const void *data, size_t size)
{
	struct writer_memory *memory = context;

	if (size > SIZE_MAX - memory->size || (memory->max && size > memory->max - memory->size))
		return -ENOMEM;
	if (size > memory->capacity - memory->size && memory_grow(memory, memory->size + size))
		return -ENOMEM;
	if (size)
		memcpy(memory->data + memory->size, data, size);
	memory->size += size;
	return 0;
}

// 0 when writing may be tried again.
static int wait_writable(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	if (errno == EINTR)
		return 0;
	if (errno != EAGAIN) // the descriptor may have been made non-blocking by others who share it
		return -errno;
	return poll(&poll_fd, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

int writer_fd_sink(void *context, const void *data, size_t size)
{
	const char *at = data;
	int fd = *(const int *)context;

	while (size) {
		ssize_t count = write(fd, at, size);
		int error = count < 0 ? wait_writable(fd) : count == 0 ? -EIO : 0;
		if (error)
			return error;
		if (count > 0) {
			at += count;
			size -= (size_t)count;
		}
	}
	return 0;
}

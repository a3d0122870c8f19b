// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_message.c: query parameters, and the few kinds of answers that every endpoint gives. Any connection thread.

#include "collector/http_message.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int http_message_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// One character of a query component; moves *at past it.
static char http_message_decode(const char **at, const char *end)
{
	const char *s = *at;

	if (s[0] == '%' && end - s >= 3) {
		int high = http_message_hex(s[1]);
		int low = http_message_hex(s[2]);
		if (high >= 0 && low >= 0) {
			*at = s + 3;
			return (char)(high * 16 + low);
		}
	}
	*at = s + 1;
	return *s == '+' ? ' ' : *s;
}

static bool http_message_key_is(const char *s, const char *end, const char *name)
{
	while (s < end && *name != '\0') {
		if (http_message_decode(&s, end) != *name++)
			return false;
	}
	return s == end && *name == '\0';
}

bool http_request_param(const struct http_request *request, const char *name, char *buf, size_t size)
{
	const char *s = request->query;

	while (*s != '\0') {
		const char *end = s + strcspn(s, "&");
		const char *equals = memchr(s, '=', (size_t)(end - s));
		if (http_message_key_is(s, equals != NULL ? equals : end, name)) {
			const char *value = equals != NULL ? equals + 1 : end;
			size_t used = 0;
			while (value < end && used + 1 < size)
				buf[used++] = http_message_decode(&value, end);
			buf[used] = '\0';
			return true;
		}
		s = *end == '&' ? end + 1 : end;
	}
	return false;
}

enum http_method http_method_by_name(const char *name)
{
	if (strcmp(name, "GET") == 0)
		return HTTP_GET;
	if (strcmp(name, "HEAD") == 0)
		return HTTP_HEAD;
	return strcmp(name, "POST") == 0 ? HTTP_POST : HTTP_OTHER;
}

void http_reply_finish(struct http_reply *reply)
{
	free(reply->body);
	reply->body = NULL;
	reply->size = 0;
	if (reply->stream.next)
		reply->stream.destroy(reply->stream.context);
	reply->stream = (struct http_stream){0};
}

void http_reply_error(struct http_reply *reply, unsigned status, const char *fmt, ...)
{
	char *line = NULL;
	va_list args;

	va_start(args, fmt);
	int length = vasprintf(&line, fmt, args);
	va_end(args);
	http_reply_finish(reply);
	reply->status = status;
	reply->content_type = "text/plain; charset=utf-8";
	reply->disposition = NULL;
	reply->policy = NULL;
	reply->error = true;
	if (length < 0)
		return;      // out of memory: the status alone must do
	line[length] = '\n'; // in place of the terminator: the body is counted
	reply->body = line;
	reply->size = (size_t)length + 1;
}

void http_reply_redirect(struct http_reply *reply, unsigned status, const char *location)
{
	http_reply_finish(reply);
	reply->status = status;
	reply->content_type = "text/plain; charset=utf-8";
	snprintf(reply->location, sizeof(reply->location), "%s", location);
}

void http_page_init(struct http_page *page, size_t max)
{
	page->memory = (struct writer_memory){.max = max};
	writer_init(&page->writer, writer_memory_sink, &page->memory);
}

void http_page_end(struct http_page *page, struct http_reply *reply, const char *content_type)
{
	int error = writer_flush(&page->writer);

	if (error != 0) {
		free(page->memory.data);
		page->memory = (struct writer_memory){0};
		http_reply_error(reply, 500, "could not write the answer: %s", strerror(-error));
		return;
	}
	http_reply_finish(reply);
	reply->status = 200;
	reply->content_type = content_type;
	reply->body = page->memory.data;
	reply->size = page->memory.size;
	page->memory = (struct writer_memory){0};
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_response.c: see http_response.h.

#include "collector/http_response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/http_message.h"
#include "formats/writer.h"

#define STREAM_BYTES (64u << 10) // made at once

static void http_header(struct MHD_Response *response, const char *name, const char *value)
{
	if (value != NULL && *value != '\0')
		MHD_add_response_header(response, name, value);
}

static ssize_t http_no_body(void *context, uint64_t pos, char *buf, size_t max)
{
	return MHD_CONTENT_READER_END_OF_STREAM;
}

// A stream that libmicrohttpd takes from.
struct http_reader {
	struct http_stream stream;
	struct writer writer;
	struct writer_memory piece;
	size_t taken; // of piece
	int more;     // as http_stream.next
};

// The next pieces, until there are size bytes. Less, even 0: that was the end. −errno.
static ssize_t http_reader_fill(struct http_reader *reader, size_t size)
{
	reader->taken = reader->piece.size = 0;
	while (reader->more > 0 && reader->piece.size + reader->writer.used < size)
		reader->more = reader->stream.next(reader->stream.context, &reader->writer);
	if (reader->more >= 0 && writer_flush(&reader->writer) < 0)
		reader->more = reader->writer.error;
	return reader->more < 0 ? reader->more : (ssize_t)reader->piece.size;
}

// An error cuts the body short: the client sees that its end is missing.
static ssize_t http_reader_take(void *context, uint64_t pos, char *buf, size_t max)
{
	struct http_reader *reader = context;

	if (reader->taken == reader->piece.size) {
		ssize_t size = http_reader_fill(reader, STREAM_BYTES);
		if (size <= 0)
			return size < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (max > reader->piece.size - reader->taken)
		max = reader->piece.size - reader->taken;
	memcpy(buf, reader->piece.data + reader->taken, max);
	reader->taken += max;
	return (ssize_t)max;
}

static void http_reader_free(void *context)
{
	struct http_reader *reader = context;

	reader->stream.destroy(reader->stream.context);
	free(reader->piece.data);
	free(reader);
}

// Takes the stream over, but when there is no memory.
static struct MHD_Response *http_stream_response(struct http_stream *stream)
{
	struct http_reader *reader = calloc(1, sizeof(*reader));
	struct MHD_Response *response = NULL;

	if (reader == NULL)
		return NULL;
	reader->more = 1;
	writer_init(&reader->writer, writer_memory_sink, &reader->piece);
	reader->stream = *stream;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BYTES, http_reader_take, reader,
						     http_reader_free);
	if (response == NULL)
		free(reader);
	else
		*stream = (struct http_stream){0};
	return response;
}

struct MHD_Response *http_response_create(struct http_reply *reply)
{
	struct MHD_Response *response;
	char retry_after[16];

	if (reply->no_body) {
		response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1024, http_no_body, NULL, NULL);
		if (response != NULL) // else libmicrohttpd ends even a HEAD's answer with an empty chunk
			MHD_set_response_options(response, MHD_RF_HTTP_VERSION_1_0_ONLY, MHD_RO_END);
	} else if (reply->stream.next != NULL) {
		response = http_stream_response(&reply->stream);
	} else {
		response = MHD_create_response_from_buffer(reply->size, reply->body, MHD_RESPMEM_MUST_FREE);
		if (response != NULL)
			reply->body = NULL; // the response owns it now
	}
	if (response == NULL)
		return NULL;
	http_header(response, "X-Content-Type-Options", "nosniff");
	http_header(response, "Cache-Control", "no-store");
	http_header(response, "Content-Type", reply->content_type);
	http_header(response, "Content-Disposition", reply->disposition);
	http_header(response, "Content-Security-Policy", reply->policy);
	http_header(response, "Allow", reply->allow);
	http_header(response, "Location", reply->location);
	if (reply->error)
		http_header(response, "X-Go-Pprof", "1");
	if (reply->retry_after_s != 0) {
		snprintf(retry_after, sizeof(retry_after), "%u", reply->retry_after_s);
		http_header(response, "Retry-After", retry_after);
		http_header(response, "Connection", "close");
	}
	return response;
}

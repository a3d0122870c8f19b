// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_stream.c: thread dumps written a thread at a time; at once, or as fast as somebody takes them.

#include "formats/thread_stream.h"

#include <errno.h>
#include <stdlib.h>

static void count_uses(const struct thread_dump *dump, struct thread_stack_text *texts)
{
	for (uint32_t i = 0; i < dump->nthreads; i++)
		if (dump->threads[i].stack)
			texts[dump->threads[i].stack - 1].uses++;
}

static struct thread_dump_stream *create(const struct thread_dump *dump, thread_stream_piece *piece, bool texts)
{
	struct thread_dump_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->dump = dump;
	stream->piece = piece;
	if (texts) {
		stream->texts = calloc((size_t)dump->nstacks + 1, sizeof(*stream->texts));
		if (!stream->texts) {
			free(stream);
			return NULL;
		}
		count_uses(dump, stream->texts);
	}
	return stream;
}

struct thread_dump_stream *thread_dump_stream_threads(const struct thread_dump *dump, bool go_files)
{
	struct thread_dump_stream *stream = create(dump, thread_stream_text, true);

	if (stream)
		stream->go_files = go_files;
	return stream;
}

struct thread_dump_stream *thread_dump_stream_json(const struct thread_dump *dump)
{
	return create(dump, thread_stream_json, false);
}

int thread_dump_stream_next(struct thread_dump_stream *stream, struct writer *writer)
{
	int r = stream->piece(stream, writer);

	stream->next++;
	return r > 0 && writer->error ? writer->error : r;
}

void thread_dump_stream_destroy(struct thread_dump_stream *stream)
{
	if (!stream)
		return;
	for (uint32_t i = 0; stream->texts && i < stream->dump->nstacks; i++)
		free(stream->texts[i].text.data);
	free(stream->texts);
	free(stream);
}

static int write_all(struct thread_dump_stream *stream, struct writer *writer)
{
	int r;

	if (!stream)
		return -ENOMEM;
	while ((r = thread_dump_stream_next(stream, writer)) > 0)
		;
	thread_dump_stream_destroy(stream);
	return r < 0 ? r : writer_flush(writer);
}

int thread_dump_write_threads(const struct thread_dump *dump, struct writer *writer)
{
	return write_all(thread_dump_stream_threads(dump, false), writer);
}

int thread_dump_write_json(const struct thread_dump *dump, struct writer *writer)
{
	return write_all(thread_dump_stream_json(dump), writer);
}

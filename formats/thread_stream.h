// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_stream.h: what a thread dump's formats share to write it piece by piece; for threads_text.c, threads_json.c and thread_stream.c.

#ifndef PROFD_FORMATS_THREAD_STREAM_H
#define PROFD_FORMATS_THREAD_STREAM_H

#include "formats/thread_dump.h"
#include "formats/writer.h"

// A stack that several threads have is made into text once, while there is room.
#define THREAD_STREAM_MAX_TEXTS ((size_t)4 << 20)
struct thread_stack_text {
	uint32_t uses;
	struct writer_memory text;
};

// Writes the piece whose number is stream->next. 1: there are more; 0: that was the last; −errno.
typedef int thread_stream_piece(struct thread_dump_stream *stream, struct writer *writer);

struct thread_dump_stream {
	const struct thread_dump *dump;
	thread_stream_piece *piece;
	uint64_t next;
	bool any_thread;                 // was written
	bool go_files;                   // see thread_dump_stream_threads
	struct thread_stack_text *texts; // of each stack; NULL: not needed
	size_t text_bytes;               // of them
};

thread_stream_piece thread_stream_text, thread_stream_json;

#endif

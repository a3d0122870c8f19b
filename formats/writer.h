// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// writer.h: where a format puts its bytes (memory, a file, a socket), and the formats themselves.
// Errors stick: after the first failure writes do nothing, and writer_error tells which −errno it was.

#ifndef PROFD_FORMATS_WRITER_H
#define PROFD_FORMATS_WRITER_H

#include <stddef.h>
#include <stdint.h>

struct profile;

// Takes size bytes; returns 0 or −errno. Called from the thread that formats.
typedef int (*writer_sink)(void *context, const void *data, size_t size);

struct writer {
	writer_sink sink;
	void *context;
	int error;        // 0 or the first −errno
	uint64_t written; // bytes handed to the sink
	size_t used;      // of buf
	char buf[8192];
};

void writer_init(struct writer *writer, writer_sink sink, void *context);
void writer_put(struct writer *writer, const void *data, size_t size);
void writer_puts(struct writer *writer, const char *s);
void writer_printf(struct writer *writer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// s as the inside of a JSON string, an XML/HTML text or attribute. Invalid UTF-8 becomes U+FFFD; control characters are
// escaped (JSON) or replaced (XML).
void writer_json(struct writer *writer, const char *s);
void writer_xml(struct writer *writer, const char *s);
// s as a part of a line on a terminal, which must not obey it: control characters become '?', invalid UTF-8 U+FFFD.
void writer_plain(struct writer *writer, const char *s);
// Hands what is buffered to the sink; returns writer_error.
int writer_flush(struct writer *writer);

// A sink that collects in memory. Zero-initialize; data belongs to the caller, who frees it. −ENOMEM past max (0: none).
struct writer_memory {
	char *data;
	size_t size, capacity, max;
};
int writer_memory_sink(void *context, const void *data, size_t size);
// A sink over a file descriptor (`context` points to an int); handles short writes and EINTR, and waits when the descriptor
// is non-blocking and full.
int writer_fd_sink(void *context, const void *data, size_t size);

// ---- The formats ---------------------------------------------------------------------------------------------------

struct format_options {
	const char *title;    // for pictures; NULL: "profd"
	uint32_t value_index; // which sample type pictures and folded stacks use; default 0
	int per_thread;       // folded: the root frame is the thread's name
	int full_names; // flame graphs: in the boxes; else they are short there, and whole where the pointer is (short_name.h)
};

struct format {
	const char *name;         // as in format=NAME: "pprof", "folded", "svg", "html", "speedscope"
	const char *extension;    // ".pb.gz", ".folded", ".svg", ".html", ".speedscope.json"
	const char *content_type; // for HTTP
	// Writes the profile and flushes; 0 or −errno (−EINVAL: no sample type value_index). options may be NULL. After an
	// error the output is not whole.
	int (*write)(const struct profile *profile, const struct format_options *options, struct writer *writer);
};

extern const struct format format_pprof, format_folded, format_svg, format_html, format_speedscope;

// NULL when there is none. By path: the longest extension that fits; also ".pprof", ".pb" (gzip as well) and ".txt" (folded).
const struct format *format_by_name(const char *name);
const struct format *format_by_path(const char *path);
// "pprof, folded, svg, html, speedscope": for messages.
const char *format_names(void);

#endif

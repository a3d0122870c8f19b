// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_threads.c: /debug/pprof/goroutine, also under the name threads: all threads of the target, now; and /debug/pprof/threadcreate:
// the stacks that made them. On the connection's thread.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/thread_watch.h"
#include "formats/profile.h"
#include "formats/thread_dump.h"

#define THREADS_MAX_BYTES (256u << 20)

struct threads_kind {
	const char *name; // of the profile
	const char *disposition, *delta_disposition;
	int (*take)(struct collector *collector, pid_t pid, struct thread_dump **ret_dump);
	bool has_window;
	bool has_blocks; // of each thread: debug=2, JSON. Otherwise debug=2 is as debug=1, as Go's
};

struct threads_ask {
	const struct threads_kind *kind;
	int debug;
	long seconds; // 0: not the change over so long, but what there is
	long window;  // 0: not who did not run for so long
	bool json, go_files;
	const struct format *format; // of debug=0
	enum name_form names;
	struct profile_view view;
	char thread[64]; // pattern; "": all
};

// What does not go together: seconds are for delta profiles, as Go's; a window is for texts with verdicts. false: reply says so.
static bool threads_check(const struct threads_ask *ask, bool format, struct http_reply *reply)
{
	bool text = ask->json || ask->debug > 0;

	if (ask->seconds > 0 && ask->debug != 0)
		http_reply_error(reply, 400, "seconds and debug params are incompatible");
	else if (ask->seconds > 0 && format && (ask->json || ask->format != &format_pprof))
		http_reply_error(reply, 400, "seconds gives format=pprof alone");
	else if (ask->json && !ask->kind->has_blocks)
		http_reply_error(reply, 400, "format=json is for goroutine");
	else if (ask->window > 0 && (!text || ask->seconds > 0 || !ask->kind->has_window))
		http_reply_error(reply, 400, "window is for debug=1, debug=2 and format=json of goroutine");
	else
		return true;
	return false;
}

static bool threads_parse(const struct endpoints *endpoints, const struct http_request *request,
			  struct threads_ask *ask, struct http_reply *reply)
{
	char text[32];
	bool format;

	if (http_request_param(request, "debug", text, sizeof(text)))
		ask->debug = (int)strtol(text, NULL, 10); // as Go: what is no number is 0
	if (http_request_param(request, "thread", ask->thread, sizeof(ask->thread)) &&
	    strlen(ask->thread) + 1 == sizeof(ask->thread)) {
		http_reply_error(reply, 400, "invalid value for \"thread\" - a pattern of at most %zu bytes",
				 sizeof(ask->thread) - 2);
		return false;
	}
	if (http_request_param(request, "seconds", text, sizeof(text)) &&
	    !endpoints_parse_seconds(endpoints, "seconds", text, &ask->seconds, reply))
		return false;
	if (http_request_param(request, "window", text, sizeof(text)) &&
	    !endpoints_parse_seconds(endpoints, "window", text, &ask->window, reply))
		return false;
	ask->go_files = http_request_param(request, "files", text, sizeof(text));
	if (ask->go_files && (strcmp(text, "go") != 0 || ask->debug < 2)) {
		http_reply_error(reply, 400, "files=go is for debug=2, and all that \"files\" can be");
		return false;
	}
	format = http_request_param(request, "format", text, sizeof(text));
	ask->json = format && strcmp(text, "json") == 0;
	if (format && !ask->json)
		ask->format = format_by_name(text);
	if (ask->format == NULL) {
		http_reply_error(reply, 400, "format must be one of: %s, json", format_names());
		return false;
	}
	return threads_check(ask, format, reply) && endpoint_names_parse(request, &ask->names, reply) &&
	       endpoint_view_parse(request, &ask->view, reply);
}

static const char *threads_type(const struct threads_ask *ask)
{
	if (ask->json)
		return "application/json";
	return ask->debug > 0 ? "text/plain; charset=utf-8" : ask->format->content_type;
}

static int threads_write(const struct threads_ask *ask, struct thread_dump *dump, const char *title,
			 struct writer *writer)
{
	struct format_options options = {.title = title};
	int r = name_form_prepare(ask->names, ask->debug > 0 ? NULL : ask->format, dump->profile, &options);

	if (r == 0 && ask->debug > 0)
		return thread_dump_write_grouped(dump, ask->kind->name, writer);
	if (r == 0)
		r = thread_dump_to_profile(dump, ask->kind->name, true);
	return r < 0 ? r : ask->format->write(dump->profile, &options, writer);
}

void endpoint_threads_refuse(int error, const struct collector_target *target, struct http_reply *reply)
{
	int pid = (int)target->pid;

	if (error == -ESRCH)
		http_reply_error(reply, 404, "target %d is gone", pid);
	else if (error == -EPERM || error == -EACCES)
		http_reply_error(
			reply, 500,
			"no right to look into process %d: its threads are read as a debugger would (ptrace(2), "
			"kernel.yama.ptrace_scope)",
			pid);
	else
		http_reply_error(reply, 500, "cannot read the threads of %d: %s", pid, strerror(-error));
}

static void threads_set_headers(const struct threads_ask *ask, struct http_reply *reply)
{
	reply->status = 200;
	reply->content_type = threads_type(ask);
	if (ask->json || ask->debug > 0)
		return;
	if (ask->format == &format_pprof)
		reply->disposition = ask->seconds ? ask->kind->delta_disposition : ask->kind->disposition; // as Go
	else if (ask->format == &format_html || ask->format == &format_svg)
		reply->policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
				"img-src data: blob:";
}

struct waiting {
	struct http_client *client;
	int64_t deadline_ns;
};

static int take(const struct endpoints *endpoints, const struct collector_target *target, const struct threads_ask *ask,
		struct thread_dump **ret_dump)
{
	int r = ask->kind->take(endpoints->collector, target->pid, ret_dump);

	return r == 0 ? thread_dump_apply_view(*ret_dump, &ask->view) : r;
}

static int wait_for_client(const struct endpoints *endpoints, const struct waiting *waiting)
{
	return endpoints_wait(endpoints, -1, waiting->client, waiting->deadline_ns) ? 0 : -EPIPE;
}

// Two dumps, and what changed in between.
static int take_delta(struct endpoints *endpoints, const struct collector_target *target, const struct threads_ask *ask,
		      const struct waiting *waiting, struct thread_dump **ret_dump)
{
	struct thread_dump *before = NULL, *after = NULL;
	int r = take(endpoints, target, ask, &before);

	if (r == 0)
		r = wait_for_client(endpoints, waiting);
	if (r == 0)
		r = take(endpoints, target, ask, &after);
	if (r == 0)
		r = thread_dump_delta(after, before);
	thread_dump_destroy(before);
	if (r < 0)
		thread_dump_destroy(after);
	else
		*ret_dump = after;
	return r;
}

// A dump, and who did not run for the whole window before it.
static int take_window(struct endpoints *endpoints, const struct collector_target *target,
		       const struct threads_ask *ask, const struct waiting *waiting, struct thread_dump **ret_dump)
{
	struct thread_watch *watch = NULL;
	int r = collector_watch_threads(endpoints->collector, target->pid, &watch);

	if (r == 0)
		r = wait_for_client(endpoints, waiting);
	if (r == 0)
		r = collector_snapshot_watched(endpoints->collector, target->pid, watch, ret_dump);
	if (r == 0)
		r = thread_dump_apply_view(*ret_dump, &ask->view);
	thread_watch_destroy(watch);
	return r;
}

// What takes its seconds. 0, −errno; reply is set when a client hung up, or may not now.
static int take_slowly(struct endpoints *endpoints, const struct http_request *request,
		       const struct collector_target *target, const struct threads_ask *ask, struct http_reply *reply,
		       struct thread_dump **ret_dump)
{
	long seconds = ask->seconds ? ask->seconds : ask->window;
	struct waiting waiting = {.client = request->client, .deadline_ns = clock_now_ns() + seconds * 1000000000LL};
	int place = endpoints_enter(endpoints, waiting.deadline_ns, reply);
	int r;

	if (place < 0)
		return -EBUSY;
	r = ask->seconds ? take_delta(endpoints, target, ask, &waiting, ret_dump)
			 : take_window(endpoints, target, ask, &waiting, ret_dump);
	reply->hung_up = r == -EPIPE;
	endpoints_leave(endpoints, place);
	return r;
}

// What grows with the number of threads: made as fast as the client takes it.
struct threads_stream {
	struct thread_dump *dump;
	struct thread_dump_stream *stream;
};

static int threads_stream_next(void *context, struct writer *writer)
{
	return thread_dump_stream_next(((struct threads_stream *)context)->stream, writer);
}

static void threads_stream_destroy(void *context)
{
	struct threads_stream *stream = context;

	thread_dump_stream_destroy(stream->stream);
	thread_dump_destroy(stream->dump);
	free(stream);
}

// Takes the dump over.
static void threads_reply_stream(const struct threads_ask *ask, struct thread_dump *dump, struct http_reply *reply)
{
	struct threads_stream *stream = calloc(1, sizeof(*stream));
	bool shortened = ask->names != NAME_FORM_SHORT || short_names_in(dump->profile) == 0;

	if (stream && shortened) {
		stream->dump = dump;
		stream->stream =
			ask->json ? thread_dump_stream_json(dump) : thread_dump_stream_threads(dump, ask->go_files);
	} else {
		thread_dump_destroy(dump);
	}
	if (!stream || !stream->stream) {
		if (stream)
			threads_stream_destroy(stream);
		http_reply_error(reply, 500, "out of memory");
		return;
	}
	reply->stream = (struct http_stream){threads_stream_next, threads_stream_destroy, stream};
	threads_set_headers(ask, reply);
}

// Takes the dump over.
static void threads_reply_page(const struct threads_ask *ask, const struct collector_target *target,
			       struct thread_dump *dump, struct http_reply *reply)
{
	struct http_page page;
	char title[96];
	int r;

	snprintf(title, sizeof(title), "threads of %.15s (%d)", target->comm, (int)target->pid);
	http_page_init(&page, THREADS_MAX_BYTES);
	r = threads_write(ask, dump, title, &page.writer);
	if (r != 0 && page.writer.error == 0)
		page.writer.error = r;
	thread_dump_destroy(dump);
	http_page_end(&page, reply, threads_type(ask));
	if (reply->status == 200)
		threads_set_headers(ask, reply);
}

static void serve(struct endpoints *endpoints, const struct http_request *request,
		  const struct collector_target *target, const struct threads_kind *kind, struct http_reply *reply)
{
	struct threads_ask ask = {.kind = kind, .format = &format_pprof};
	struct thread_dump *dump = NULL;
	int r;

	if (!threads_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		threads_set_headers(&ask, reply);
		reply->no_body = true;
		return;
	}
	r = ask.seconds || ask.window ? take_slowly(endpoints, request, target, &ask, reply, &dump)
				      : take(endpoints, target, &ask, &dump);
	if (r < 0 || !dump) {
		thread_dump_destroy(dump);
		if (!reply->hung_up && reply->status == 0)
			endpoint_threads_refuse(r, target, reply);
		return;
	}
	if (ask.thread[0])
		thread_dump_show_only(dump, ask.thread);
	if (ask.json || (ask.debug >= 2 && kind->has_blocks))
		threads_reply_stream(&ask, dump, reply);
	else
		threads_reply_page(&ask, target, dump, reply);
}

void endpoint_threads(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, struct http_reply *reply)
{
	static const struct threads_kind kind = {"goroutine",
						 "attachment; filename=\"goroutine\"",
						 "attachment; filename=\"goroutine-delta\"",
						 collector_snapshot,
						 true,
						 true};

	serve(endpoints, request, target, &kind, reply);
}

void endpoint_threadcreate(struct endpoints *endpoints, const struct http_request *request,
			   const struct collector_target *target, struct http_reply *reply)
{
	static const struct threads_kind kind = {"threadcreate",
						 "attachment; filename=\"threadcreate\"",
						 "attachment; filename=\"threadcreate-delta\"",
						 collector_thread_creators,
						 false,
						 false};

	serve(endpoints, request, target, &kind, reply);
}

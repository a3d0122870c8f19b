// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_threads.c: /debug/pprof/goroutine, also under the name threads: all threads of the target, now; and /debug/pprof/threadcreate:
// the stacks that made them. On the connection's thread.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/endpoints.h"
#include "formats/profile.h"
#include "formats/thread_dump.h"

#define THREADS_MAX_BYTES (256u << 20)

struct threads_kind {
	const char *name; // of the profile
	const char *disposition;
	int (*take)(struct collector *collector, pid_t pid, struct thread_dump **ret_dump);
};

struct threads_ask {
	const struct threads_kind *kind;
	int debug;
	bool json;
	const struct format *format; // of debug=0
};

static bool threads_parse(const struct http_request *request, struct threads_ask *ask, struct http_reply *reply)
{
	char text[32];

	if (http_request_param(request, "debug", text, sizeof(text)))
		ask->debug = (int)strtol(text, NULL, 10); // as Go: what is no number is 0
	if (http_request_param(request, "seconds", text, sizeof(text)) && strcmp(text, "0") != 0) {
		http_reply_error(reply, 400, "seconds is not supported for this profile");
		return false;
	}
	if (!http_request_param(request, "format", text, sizeof(text)))
		return true;
	ask->json = strcmp(text, "json") == 0;
	if (!ask->json && (ask->format = format_by_name(text)) == NULL) {
		http_reply_error(reply, 400, "format must be one of: %s, json", format_names());
		return false;
	}
	return true;
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
	const struct format_options options = {.title = title};
	int r;

	if (ask->json)
		return thread_dump_write_json(dump, writer);
	if (ask->debug >= 2)
		return thread_dump_write_threads(dump, writer);
	if (ask->debug == 1)
		return thread_dump_write_grouped(dump, ask->kind->name, writer);
	r = thread_dump_to_profile(dump, ask->kind->name, true);
	return r < 0 ? r : ask->format->write(dump->profile, &options, writer);
}

static void threads_refuse(int error, const struct collector_target *target, struct http_reply *reply)
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
		reply->disposition = ask->kind->disposition; // as Go
	else if (ask->format == &format_html || ask->format == &format_svg)
		reply->policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
				"img-src data: blob:";
}

static void serve(struct endpoints *endpoints, const struct http_request *request,
		  const struct collector_target *target, const struct threads_kind *kind, struct http_reply *reply)
{
	struct threads_ask ask = {.kind = kind, .format = &format_pprof};
	struct thread_dump *dump = NULL;
	struct http_page page;
	char title[96];
	int r;

	if (!threads_parse(request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		threads_set_headers(&ask, reply);
		reply->no_body = true;
		return;
	}
	r = kind->take(endpoints->collector, target->pid, &dump);
	if (r < 0) {
		threads_refuse(r, target, reply);
		return;
	}
	snprintf(title, sizeof(title), "threads of %.15s (%d)", target->comm, (int)target->pid);
	http_page_init(&page, THREADS_MAX_BYTES);
	r = threads_write(&ask, dump, title, &page.writer);
	if (r != 0 && page.writer.error == 0)
		page.writer.error = r;
	thread_dump_destroy(dump);
	http_page_end(&page, reply, threads_type(&ask));
	if (reply->status == 200)
		threads_set_headers(&ask, reply);
}

void endpoint_threads(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, struct http_reply *reply)
{
	static const struct threads_kind kind = {"goroutine", "attachment; filename=\"goroutine\"", collector_snapshot};

	serve(endpoints, request, target, &kind, reply);
}

void endpoint_threadcreate(struct endpoints *endpoints, const struct http_request *request,
			   const struct collector_target *target, struct http_reply *reply)
{
	static const struct threads_kind kind = {"threadcreate", "attachment; filename=\"threadcreate\"",
						 collector_thread_creators};

	serve(endpoints, request, target, &kind, reply);
}

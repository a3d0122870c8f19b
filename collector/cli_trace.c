// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_trace.c: `run --trace FILE`: writes the event trace of a whole run while it runs, on a thread of its own; or, as a flight recorder, the
// last seconds of it at the end and when it is told to.

#include "collector/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/trace.h"
#include "collector/trace_feed.h"
#include "formats/trace.h"

#define LOOK_MS 20

// One file, from its window to its last byte.
struct recording {
	struct trace *trace;
	struct window *window;
	struct trace_feed *feed;
	struct output output;
	struct writer writer;
};

struct cli_trace {
	struct cli_trace_options options;
	struct collector *collector;
	const struct trace_format *format;
	struct recording recording;
	pthread_t thread;
	bool started;
	uint32_t stopping; // atomic
	int error;         // of the thread's writing
};

static void recording_finish(struct recording *recording)
{
	trace_feed_destroy(recording->feed);
	window_destroy(recording->window);
	trace_destroy(recording->trace);
	output_abandon(&recording->output);
	*recording = (struct recording){.output = {.fd = -1, .directory_fd = -1}};
}

// false: said why.
static bool recording_begin(struct cli_trace *recorder, struct recording *recording, bool passive)
{
	const struct cli_trace_options *options = &recorder->options;
	const struct trace_options trace = {
		.keep_ns = (uint64_t)options->flight_s * 1000000000u, .passive = passive, .mib = options->mib};
	struct window_options window = {.rate_hz = passive ? 0 : options->rate_hz};
	char error[512];
	int r;

	if (output_open(&recording->output, options->path, NULL, error, sizeof(error)) != 0) {
		cli_say("%s", error);
		return false;
	}
	writer_init(&recording->writer, writer_fd_sink, &recording->output.fd);
	window.trace = recording->trace = trace_create(&trace);
	r = recording->trace ? window_open(recorder->collector, &window, &recording->window) : -ENOMEM;
	if (r == 0) {
		recording->feed =
			trace_feed_create(recording->window, recording->trace, recorder->format, options->title);
		r = recording->feed ? 0 : -ENOMEM;
	}
	if (r < 0)
		cli_say("cannot trace: %s", strerror(-r));
	return r == 0;
}

// The window has been stopped.
static bool recording_end(struct recording *recording, int so_far, char *summary, size_t size)
{
	struct trace_feed_stats stats;
	char error[512], losses[256];
	int r = so_far < 0 ? so_far : trace_feed_end(recording->feed, &recording->writer);
	int flushed = writer_flush(&recording->writer);

	r = output_end(&recording->output, r < 0 ? r : flushed, error, sizeof(error));
	if (r < 0) {
		cli_say("%s", error);
		return false;
	}
	trace_feed_stats(recording->feed, &stats);
	snprintf(summary, size, "%" PRIu64 " events, %" PRIu64 " samples, %" PRIu64 " threads, %" PRIu64 " arrows; %s",
		 stats.events, stats.samples, stats.threads, stats.arrows,
		 trace_feed_losses(recording->feed, losses, sizeof(losses)));
	return true;
}

static void *write_along(void *argument)
{
	const struct timespec moment = {.tv_nsec = LOOK_MS * 1000000L};
	struct cli_trace *recorder = argument;
	struct recording *recording = &recorder->recording;

	while (!__atomic_load_n(&recorder->stopping, __ATOMIC_ACQUIRE) && recorder->error == 0) {
		int r;

		while ((r = trace_feed_some(recording->feed, &recording->writer)) > 0)
			;
		recorder->error = r < 0 ? r : 0;
		nanosleep(&moment, NULL);
	}
	return NULL;
}

int cli_trace_start(struct collector *collector, const struct cli_trace_options *options,
		    struct cli_trace **ret_recorder)
{
	struct cli_trace *recorder = calloc(1, sizeof(*recorder));
	int r = 0;

	if (!recorder)
		return -ENOMEM;
	recorder->options = *options;
	recorder->collector = collector;
	recorder->format = trace_format_by_path(options->path);
	recorder->recording.output = (struct output){.fd = -1, .directory_fd = -1};
	if (!recorder->format) {
		cli_say("--trace: cannot tell the format of '%s' by its name: .perfetto-trace, .pftrace, .trace.json "
			"or "
			".speedscope.json",
			options->path);
		r = -EINVAL;
	}
	if (r == 0 && !recording_begin(recorder, &recorder->recording, false))
		r = -EIO;
	if (r == 0 && options->flight_s == 0) {
		r = -pthread_create(&recorder->thread, NULL, write_along, recorder);
		recorder->started = r == 0;
	}
	if (r == 0)
		*ret_recorder = recorder;
	else
		cli_trace_destroy(recorder);
	return r;
}

static void stop_thread(struct cli_trace *recorder)
{
	__atomic_store_n(&recorder->stopping, 1, __ATOMIC_RELEASE);
	if (recorder->started)
		pthread_join(recorder->thread, NULL);
	recorder->started = false;
}

bool cli_trace_stop(struct cli_trace *recorder)
{
	char summary[512];
	bool written;

	window_stop(recorder->recording.window);
	stop_thread(recorder);
	written = recording_end(&recorder->recording, recorder->error, summary, sizeof(summary));
	if (written)
		cli_say("trace: %s; wrote %s", summary, recorder->options.path);
	return written;
}

void cli_trace_dump(struct cli_trace *recorder)
{
	struct recording now = {.output = {.fd = -1, .directory_fd = -1}};
	char summary[512];

	if (recorder->options.flight_s == 0) {
		cli_say("the trace is being written all the time: only --flight has a recorder to be dumped");
		return;
	}
	if (recording_begin(recorder, &now, true)) {
		window_stop(now.window);
		if (recording_end(&now, 0, summary, sizeof(summary)))
			cli_say("trace of the last %" PRIu32 " s: %s; wrote %s", recorder->options.flight_s, summary,
				recorder->options.path);
	}
	recording_finish(&now);
}

void cli_trace_destroy(struct cli_trace *recorder)
{
	if (!recorder)
		return;
	stop_thread(recorder);
	recording_finish(&recorder->recording);
	free(recorder);
}

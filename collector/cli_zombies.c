// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_zombies.c: `profd zombies PID|URL`: which threads live and will not be woken again. Of a URL its collector judges; of a process with a
// flight recorder in it (PROFD_TRACE=flight) this command does, by snapshots and by the recorder's memory. Main thread.

#include "collector/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/event_process.h"
#include "collector/fetch.h"
#include "collector/trace.h"
#include "collector/wake_history.h"
#include "collector/zombies.h"
#include "formats/thread_dump.h"
#include "formats/writer.h"

#define DEFAULT_WINDOW_S 10
#define MAX_WINDOW_S 86400
#define FOUND_SOME 1
#define CANNOT_TELL 2

struct zombies_options {
	const char *url; // NULL: of the process pid
	pid_t pid;
	uint32_t window_s;
	bool json;
};

static const char zombies_help[] =
	"usage: profd zombies [OPTION]... PID|URL\n"
	"\n"
	"Finds threads that live and will not be woken again: snapshots (same PC, same SP, no CPU time) and the event\n"
	"trace (alive, waiting, and nobody wakes them) must agree. Says who made them, where they wait, how long they\n"
	"have lived, who used to wake them and when that stopped. What waits for time, files, sockets or signals is\n"
	"never called one.\n"
	"\n"
	"The more of the past the trace has, the surer: start the program with PROFD_TRACE=flight. With the URL of a\n"
	"profd that serves HTTP (http://HOST:PORT, or http://HOST:PORT/PID), it traces for the window at least; of a\n"
	"PID, the program must have its flight recorder on.\n"
	"\n"
	"      --window N   looks for N seconds (default 10). Longer than the slowest thread that is not forgotten\n"
	"      --json       JSON, as the verdicts of a dump\n"
	"      --help       this text\n"
	"\n"
	"Exit status: 0 none found, 1 some found, 2 it could not be told.\n";

// 0: options are taken; else the exit status + 1.
static int parse(int argc, char **argv, struct zombies_options *options)
{
	static const struct option long_options[] = {{"window", required_argument, NULL, 'w'},
						     {"json", no_argument, NULL, 'j'},
						     {"help", no_argument, NULL, 'h'},
						     {NULL, 0, NULL, 0}};
	uint32_t pid;
	int option;

	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) >= 0) {
		switch (option) {
		case 'w':
			if (!cli_number("--window", optarg, 1, MAX_WINDOW_S, &options->window_s))
				return CLI_USAGE + 1;
			break;
		case 'j':
			options->json = true;
			break;
		case 'h':
			fputs(zombies_help, stdout);
			return 1;
		default:
			cli_bad_option(argv, option);
			return CLI_USAGE + 1;
		}
	}
	if (optind + 1 != argc) {
		cli_say("one process: 'profd zombies PID' or 'profd zombies URL'");
		return CLI_USAGE + 1;
	}
	if (fetch_is_url(argv[optind])) {
		options->url = argv[optind];
		return 0;
	}
	if (!cli_number("PID", argv[optind], 1, INT32_MAX, &pid))
		return CLI_USAGE + 1;
	options->pid = (pid_t)pid;
	return 0;
}

// ---- Of a URL -------------------------------------------------------------------------------------------------------

static int of_url(const struct zombies_options *options)
{
	char url[FETCH_URL_MAX], query[64], error[256];
	struct writer_memory answer = {.max = 64u << 20};
	int status = CANNOT_TELL;

	snprintf(query, sizeof(query), "window=%" PRIu32 "%s", options->window_s, options->json ? "&format=json" : "");
	if (!fetch_profile_url(options->url, "zombies", query, url)) {
		cli_say("'%s' is not the address of a profd: http://HOST:PORT or http://HOST:PORT/PID", options->url);
		return CLI_USAGE;
	}
	if (fetch_get(url, options->window_s, writer_memory_sink, &answer, error, sizeof(error)) < 0 ||
	    writer_memory_sink(&answer, "", 1) < 0) {
		cli_say("%s: %s", options->url, error);
	} else {
		fputs(answer.data, stdout);
		status = strstr(answer.data, options->json ? "\"kind\":\"zombies\"" : "# zombies: ") ? FOUND_SOME : 0;
	}
	free(answer.data);
	return status;
}

// ---- Of a process ---------------------------------------------------------------------------------------------------

struct look_back {
	struct trace *trace;
	struct wake_history *history;
	struct event_reader reader;
	struct event_counts counts;
};

static void take_event(void *context, const struct event *event)
{
	struct look_back *back = context;
	struct trace_item item = {.time_ns = event->time_ns,
				  .source = 1,
				  .tid = event->tid,
				  .object = event->object,
				  .other = event->other,
				  .kind = event->type,
				  .reason = event->reason};

	if (event->type != WIRE_EVENT_NAME)
		trace_add(back->trace, &item);
}

// What the recorder has since the last time, in order. 0 or −errno.
static int read_recorder(struct look_back *back, pid_t pid, bool first)
{
	struct event_file file = {0};
	struct trace_item items[64];
	size_t n;
	int r = event_process_copy(pid, &file);

	if (r == 0 && file.flight_s == 0)
		r = -ENODATA;
	if (r == 0) {
		if (first)
			event_reader_init(&back->reader, &file, true);
		event_reader_drain(&back->reader, &file, EVENT_READER_LIVE, take_event, back, &back->counts);
		trace_flush(back->trace, 1, UINT64_MAX);
		while ((n = trace_take(back->trace, items, sizeof(items) / sizeof(items[0]))) > 0)
			for (size_t i = 0; i < n; i++)
				wake_history_add(back->history, &items[i]);
	}
	event_process_free(&file);
	return r;
}

// 0 or −errno, and said why.
static int look(const struct zombies_options *options, struct look_back *back, struct zombies_window *window,
		struct thread_dump **ret_dump)
{
	struct cli_debug environment = {0};
	const struct module_debug debug = cli_debug_finish(&environment);
	struct trace_counts counts;
	int r = back->trace && back->history ? read_recorder(back, options->pid, true) : -ENOMEM;

	back->counts = (struct event_counts){0};
	window->begin_ns = (uint64_t)clock_now_ns();
	if (r == 0) {
		r = cli_snapshot_strictly(options->pid, options->window_s, &debug, ret_dump);
		if (r < 0)
			return r;
		window->end_ns = (uint64_t)clock_now_ns();
		r = read_recorder(back, options->pid, false);
		trace_read_counts(back->trace, &counts);
		window->lost =
			back->counts.lost + back->counts.bad + counts.dropped + wake_history_forgotten(back->history);
	}
	if (r == -ENODATA)
		cli_say("process %d has no flight recorder: start it with PROFD_TRACE=flight, or ask its collector: "
			"profd "
			"zombies http://HOST:PORT",
			(int)options->pid);
	else if (r < 0)
		cli_say("cannot read the trace of process %d: %s", (int)options->pid, strerror(-r));
	return r;
}

static int of_process(const struct zombies_options *options)
{
	struct look_back back = {.trace = trace_create(&(struct trace_options){0}), .history = wake_history_create()};
	struct thread_dump *dump = NULL;
	struct zombies_window window = {0};
	struct zombies_counts counts = {0};
	struct writer writer;
	int fd = STDOUT_FILENO;
	int r = look(options, &back, &window, &dump);

	if (r == 0)
		r = zombies_judge(dump, back.history, &window, &counts);
	writer_init(&writer, writer_fd_sink, &fd);
	if (r == 0)
		r = options->json ? thread_dump_write_json(dump, &writer)
				  : zombies_write(dump, &window, &counts, &writer);
	thread_dump_destroy(dump);
	wake_history_destroy(back.history);
	trace_destroy(back.trace);
	return r < 0 ? CANNOT_TELL : counts.groups > 0 ? FOUND_SOME : 0;
}

static int zombies_run(int argc, char **argv)
{
	struct zombies_options options = {.window_s = DEFAULT_WINDOW_S};
	int r = parse(argc, argv, &options);

	if (r != 0)
		return r - 1;
	return options.url ? of_url(&options) : of_process(&options);
}

const struct cli_command cli_command_zombies = {
	.name = "zombies",
	.run = zombies_run,
	.summary = "find threads that live and will not be woken again",
	.help = zombies_help,
};

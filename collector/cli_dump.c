// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_dump.c: `profd dump PID|URL`: all threads of a process, with an agent in it or without; or those that a profd somewhere sees.

#include "collector/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/fetch.h"
#include "formats/thread_dump.h"

#define MAX_WINDOW_SECONDS 86400

struct dump_options {
	const char *url; // NULL: of the process pid
	pid_t pid;
	bool json, group, causal;
	uint32_t window_s;  // 0: none
	const char *thread; // pattern, or NULL
	struct cli_debug debug;
};

static const char dump_help[] =
	"usage: profd dump [OPTION]... PID|URL\n"
	"\n"
	"Prints every thread of a process: its stack, what it waits for and for how long, in the form of Go's "
	"goroutine dumps.\n"
	"The process is read from outside, whether it runs under profd or not, and notices nothing: no thread is "
	"stopped or woken.\n"
	"It must be one's own process, or one must be root. With the URL of a profd that serves HTTP\n"
	"(http://HOST:PORT, or http://HOST:PORT/PID where it has several targets), it is asked; it knows more:\n"
	"what it saw before. Who made a thread is known where the agent is in the process.\n"
	"\n"
	"      --group            threads with the same stack and state once, with their number, the most first\n"
	"      --json             JSON\n"
	"      --causal           stacks under the stacks that made their threads, or queued their work\n"
	"      --thread PATTERN   only threads whose name or number fits the pattern ('worker*', '4711')\n"
	"      --window N         looks twice, N seconds apart, and says which threads did not run in between,\n"
	"                         where nobody was woken: idle, or forgotten\n" CLI_DEBUG_HELP
	"      --help             this text\n";

// 0: options are taken; else the exit status + 1.
static int parse(int argc, char **argv, struct dump_options *options)
{
	static const struct option long_options[] = {
		{"group", no_argument, NULL, 'g'},
		{"json", no_argument, NULL, 'j'},
		{"causal", no_argument, NULL, 'c'},
		{"thread", required_argument, NULL, 't'},
		{"window", required_argument, NULL, 'w'},
		{"help", no_argument, NULL, 'h'},
		CLI_DEBUG_OPTIONS,
		{NULL, 0, NULL, 0},
	};
	uint32_t pid;
	int option;

	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) >= 0) {
		switch (option) {
		case 'g':
			options->group = true;
			break;
		case 'j':
			options->json = true;
			break;
		case 'c':
			options->causal = true;
			break;
		case 't':
			options->thread = optarg;
			break;
		case 'w':
			if (!cli_number("--window", optarg, 1, MAX_WINDOW_SECONDS, &options->window_s))
				return CLI_USAGE + 1;
			break;
		case 'h':
			fputs(dump_help, stdout);
			return 1;
		default:
			if (cli_debug_option(&options->debug, option, optarg) > 0)
				break;
			if (option == '?' || option == ':')
				cli_bad_option(argv, option);
			return CLI_USAGE + 1;
		}
	}
	if (options->json && options->group) {
		cli_say("--json or --group: one of them");
		return CLI_USAGE + 1;
	}
	if (optind + 1 != argc) {
		cli_say(optind == argc ? "which process? 'profd dump PID'" : "one process at a time: 'profd dump PID'");
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

static int print(const struct dump_options *options, const struct thread_dump *dump)
{
	struct writer writer;
	int fd = STDOUT_FILENO;

	writer_init(&writer, writer_fd_sink, &fd);
	if (options->json)
		return thread_dump_write_json(dump, &writer);
	return options->group ? thread_dump_write_grouped(dump, "goroutine", &writer)
			      : thread_dump_write_threads(dump, &writer);
}

static int dump_url(const struct dump_options *options)
{
	char url[FETCH_URL_MAX], query[1024], pattern[512] = "", window[32] = "", error[256];
	int fd = STDOUT_FILENO;

	if (options->thread && !fetch_encode(options->thread, pattern, sizeof(pattern))) {
		cli_say("--thread: the pattern is too long");
		return CLI_USAGE;
	}
	if (options->window_s)
		snprintf(window, sizeof(window), "&window=%" PRIu32, options->window_s);
	snprintf(query, sizeof(query), "%s%s%s%s%s",
		 options->json    ? "format=json"
		 : options->group ? "debug=1"
				  : "debug=2",
		 options->thread ? "&thread=" : "", pattern, window, options->causal ? "&causal=1" : "");
	if (!fetch_profile_url(options->url, "goroutine", query, url)) {
		cli_say("'%s' is not the address of a profd: http://HOST:PORT or http://HOST:PORT/PID", options->url);
		return CLI_USAGE;
	}
	if (fetch_get(url, 0, writer_fd_sink, &fd, error, sizeof(error)) < 0) {
		cli_say("%s: %s", options->url, error);
		return 1;
	}
	return 0;
}

static int dump_run(int argc, char **argv)
{
	struct dump_options options = {0};
	struct thread_dump *dump = NULL;
	struct module_debug debug;
	int r = parse(argc, argv, &options);

	if (r != 0)
		return r - 1;
	if (options.url)
		return dump_url(&options);
	debug = cli_debug_finish(&options.debug);
	r = cli_snapshot(options.pid, options.window_s, &debug, &dump);
	if (r < 0)
		return 1;
	if (options.thread)
		thread_dump_show_only(dump, options.thread);
	r = thread_dump_apply_view(dump, &(struct profile_view){.causal = options.causal});
	if (r == 0)
		r = print(&options, dump);
	if (r < 0)
		cli_say("cannot write: %s", strerror(-r));
	thread_dump_destroy(dump);
	return r < 0 ? 1 : 0;
}

const struct cli_command cli_command_dump = {
	.name = "dump",
	.run = dump_run,
	.summary = "print every thread of a process: stack, state, how long it waits",
	.help = dump_help,
};

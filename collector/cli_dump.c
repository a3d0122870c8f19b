// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_dump.c: `profd dump PID`: all threads of a process, with an agent in it or without.

#include "collector/cli.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/thread_dump.h"

struct dump_options {
	pid_t pid;
	bool json, group;
	const char *thread; // pattern, or NULL
};

static const char dump_help[] =
	"usage: profd dump [OPTION]... PID\n"
	"\n"
	"Prints every thread of a process: its stack, what it waits for and for how long, in the form of Go's "
	"goroutine dumps.\n"
	"The process is read from outside, whether it runs under profd or not, and notices nothing: no thread is "
	"stopped or woken.\n"
	"It must be one's own process, or one must be root.\n"
	"\n"
	"      --group            threads with the same stack and state once, with their number, the most first\n"
	"      --json             JSON\n"
	"      --thread PATTERN   only threads whose name or number fits the pattern ('worker*', '4711')\n"
	"      --help             this text\n";

// 0: options are taken; else the exit status + 1.
static int parse(int argc, char **argv, struct dump_options *options)
{
	static const struct option long_options[] = {
		{"group", no_argument, NULL, 'g'},
		{"json", no_argument, NULL, 'j'},
		{"thread", required_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
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
		case 't':
			options->thread = optarg;
			break;
		case 'h':
			fputs(dump_help, stdout);
			return 1;
		default:
			cli_bad_option(argv, option);
			return CLI_USAGE + 1;
		}
	}
	if (optind + 1 != argc) {
		cli_say(optind == argc ? "which process? 'profd dump PID'" : "one process at a time: 'profd dump PID'");
		return CLI_USAGE + 1;
	}
	if (!cli_number("PID", argv[optind], 1, INT32_MAX, &pid))
		return CLI_USAGE + 1;
	options->pid = (pid_t)pid;
	return 0;
}

static void hide_others(struct thread_dump *dump, const char *pattern)
{
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%u", dump->threads[i].tid);
		dump->threads[i].hidden =
			fnmatch(pattern, dump->threads[i].name, 0) != 0 && fnmatch(pattern, number, 0) != 0;
	}
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

static int dump_run(int argc, char **argv)
{
	struct dump_options options = {0};
	struct thread_dump *dump = NULL;
	int r = parse(argc, argv, &options);

	if (r != 0)
		return r - 1;
	r = cli_snapshot(options.pid, &dump);
	if (r < 0)
		return 1;
	if (options.thread)
		hide_others(dump, options.thread);
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

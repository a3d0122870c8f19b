// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_leaks.c: `profd leaks`: compares two snapshots and fails when threads of one kind became more. The gate of a CI run.

#include "collector/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/dump_file.h"
#include "collector/fetch.h"
#include "collector/leak_groups.h"
#include "formats/junit.h"
#include "formats/thread_dump.h"
#include "formats/writer.h"

#define LEAKS_FOUND 1 // exit status
#define MAX_IGNORED 64
#define DEFAULT_SECONDS 10
#define MAX_SECONDS 86400

struct leaks_options {
	const char *before, *after; // both, or neither and a process
	const char *process;        // as given
	const char *url;            // of the process; NULL: it is pid
	pid_t pid;
	uint32_t seconds; // 0: not given
	const char *fail_pattern_text;
	const char *junit; // NULL: none
	struct leak_rules rules;
	regex_t fail_pattern;
	regex_t ignored[MAX_IGNORED];
};

static const char leaks_help[] =
	"usage: profd leaks [OPTION]... --before FILE --after FILE\n"
	"       profd leaks [OPTION]... [--seconds N] PID|URL\n"
	"\n"
	"Compares two snapshots, files that 'profd dump --json' wrote or two of a live process, and fails when threads "
	"leaked.\n"
	"URL: of a profd that serves HTTP, as for 'profd dump'.\n"
	"Threads with the same stack (functions and files), creator's stack and state are a group; one that grew is a "
	"leak.\n"
	"Exit status: 0 no leak, 1 leaks, 2 wrong usage or no snapshot.\n"
	"\n"
	"      --before FILE      the earlier snapshot\n"
	"      --after FILE       the later one\n"
	"      --seconds N        of a live process: the time between its two snapshots (default 10)\n"
	"      --max-new N        a group may grow by so many threads (default 0)\n"
	"      --fail-pattern RE  groups with a function that matches (POSIX extended) are leaks earlier:\n"
	"      --fail-new N       from so many new threads on (default 1)\n"
	"      --ignore RE        leaves out groups with a function that matches; may be given up to 64 times\n"
	"      --junit FILE       writes JUnit XML as well: a test case for each group\n"
	"      --help             this text\n"
	"\n"
	"Threads of profd itself, GoogleTest, Catch2 and cmocka are left out. docs/leaks.md has more.\n";

// ---- Options ------------------------------------------------------------------------------------------------------------

enum leaks_option {
	OPT_BEFORE = CLI_OPT_FIRST_OWN,
	OPT_AFTER,
	OPT_SECONDS,
	OPT_MAX_NEW,
	OPT_FAIL_PATTERN,
	OPT_FAIL_NEW,
	OPT_IGNORE,
	OPT_JUNIT,
};

static bool compile(const char *option, const char *text, regex_t *ret_pattern)
{
	char error[128];
	int code = regcomp(ret_pattern, text, REG_EXTENDED | REG_NOSUB);

	if (code == 0)
		return true;
	regerror(code, NULL, error, sizeof(error));
	cli_say("%s '%s': %s", option, text, error);
	return false;
}

static bool add_ignored(struct leaks_options *options, const char *text)
{
	if (options->rules.nignored == MAX_IGNORED) {
		cli_say("--ignore: more than %d", MAX_IGNORED);
		return false;
	}
	if (!compile("--ignore", text, &options->ignored[options->rules.nignored]))
		return false;
	options->rules.nignored++;
	return true;
}

static bool take_option(struct leaks_options *options, int option, char *value)
{
	switch (option) {
	case OPT_BEFORE:
		options->before = value;
		return true;
	case OPT_AFTER:
		options->after = value;
		return true;
	case OPT_SECONDS:
		return cli_number("--seconds", value, 1, MAX_SECONDS, &options->seconds);
	case OPT_MAX_NEW:
		return cli_number("--max-new", value, 0, INT32_MAX, &options->rules.max_new);
	case OPT_FAIL_NEW:
		return cli_number("--fail-new", value, 1, INT32_MAX, &options->rules.fail_new);
	case OPT_FAIL_PATTERN:
		options->fail_pattern_text = value;
		return true;
	case OPT_IGNORE:
		return add_ignored(options, value);
	default:
		options->junit = value;
		return true;
	}
}

// What may not go together, and what is left on the command line.
static bool finish_options(struct leaks_options *options, char **words, int nwords)
{
	bool files = options->before || options->after;
	uint32_t pid;

	if (options->rules.fail_new && !options->fail_pattern_text) {
		cli_say("--fail-new needs --fail-pattern");
		return false;
	}
	if (files ? nwords != 0 || options->seconds : nwords > 1) {
		cli_say("either --before and --after, or one process");
		return false;
	}
	if (files ? !options->before || !options->after : nwords == 0) {
		cli_say("which snapshots? 'profd leaks --before FILE --after FILE' or 'profd leaks PID'");
		return false;
	}
	if (!files)
		options->process = words[0];
	if (!files && fetch_is_url(words[0])) {
		options->url = words[0];
	} else if (!files) {
		if (!cli_number("PID", words[0], 1, INT32_MAX, &pid))
			return false;
		options->pid = (pid_t)pid;
	}
	if (options->fail_pattern_text) {
		if (!compile("--fail-pattern", options->fail_pattern_text, &options->fail_pattern))
			return false;
		options->rules.fail_pattern = &options->fail_pattern;
	}
	options->rules.fail_new = options->rules.fail_new ? options->rules.fail_new : 1;
	options->seconds = options->seconds ? options->seconds : DEFAULT_SECONDS;
	return true;
}

// 0: options are taken; else the exit status + 1.
static int parse(int argc, char **argv, struct leaks_options *options)
{
	static const struct option long_options[] = {
		{"before", required_argument, NULL, OPT_BEFORE},
		{"after", required_argument, NULL, OPT_AFTER},
		{"seconds", required_argument, NULL, OPT_SECONDS},
		{"max-new", required_argument, NULL, OPT_MAX_NEW},
		{"fail-pattern", required_argument, NULL, OPT_FAIL_PATTERN},
		{"fail-new", required_argument, NULL, OPT_FAIL_NEW},
		{"ignore", required_argument, NULL, OPT_IGNORE},
		{"junit", required_argument, NULL, OPT_JUNIT},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	options->rules.ignored = options->ignored;
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) >= 0) {
		if (option == 'h') {
			fputs(leaks_help, stdout);
			return 1;
		}
		if (option == '?' || option == ':') {
			cli_bad_option(argv, option);
			return CLI_USAGE + 1;
		}
		if (!take_option(options, option, optarg))
			return CLI_USAGE + 1;
	}
	return finish_options(options, argv + optind, argc - optind) ? 0 : CLI_USAGE + 1;
}

static void options_finish(struct leaks_options *options)
{
	for (uint32_t i = 0; i < options->rules.nignored; i++)
		regfree(&options->ignored[i]);
	if (options->rules.fail_pattern)
		regfree(&options->fail_pattern);
}

// ---- Snapshots ----------------------------------------------------------------------------------------------------------

static bool read_file(const char *path, struct dump_file **ret_dump)
{
	char error[256];

	if (dump_file_read(path, ret_dump, error, sizeof(error)) == 0)
		return true;
	cli_say("cannot read %s: %s", path, error);
	return false;
}

// By way of JSON, so that a process and its file cannot be judged differently.
static bool read_process(pid_t pid, struct dump_file **ret_dump)
{
	struct writer_memory memory = {.max = DUMP_FILE_MAX_BYTES};
	struct thread_dump *dump = NULL;
	struct writer writer;
	char error[256];
	struct cli_debug environment = {0};
	const struct module_debug debug = cli_debug_finish(&environment);
	int r = cli_snapshot(pid, 0, &debug, &dump);

	if (r < 0)
		return false;
	writer_init(&writer, writer_memory_sink, &memory);
	r = thread_dump_write_json(dump, &writer);
	thread_dump_destroy(dump);
	if (r < 0)
		snprintf(error, sizeof(error), "%s", strerror(-r));
	else
		r = dump_file_parse(memory.data, memory.size, ret_dump, error, sizeof(error));
	free(memory.data);
	if (r < 0)
		cli_say("cannot compare the threads of %d: %s", (int)pid, error);
	return r == 0;
}

static bool read_url(const char *address, struct dump_file **ret_dump)
{
	struct writer_memory memory = {.max = DUMP_FILE_MAX_BYTES};
	char url[FETCH_URL_MAX],
		error[256] = "that is not the address of a profd: http://HOST:PORT or http://HOST:PORT/PID";
	bool taken = fetch_profile_url(address, "goroutine", "format=json", url) &&
		     fetch_get(url, 0, writer_memory_sink, &memory, error, sizeof(error)) == 0 &&
		     dump_file_parse(memory.data, memory.size, ret_dump, error, sizeof(error)) == 0;

	free(memory.data);
	if (!taken)
		cli_say("%s: %s", address, error);
	return taken;
}

static void wait_seconds(uint32_t seconds)
{
	struct timespec left = {.tv_sec = seconds};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

// A process that is gone passes no gate: not before its parent has waited for it, either.
static bool is_alive(const struct leaks_options *options, const struct dump_file *dump, const char *path)
{
	bool ended = leak_groups_has_ended(dump);

	if (ended && path)
		cli_say("%s: no thread lives in it", path);
	else if (ended)
		cli_say("process %s has ended", options->process);
	return !ended;
}

static bool read_one(const struct leaks_options *options, const char *path, struct dump_file **ret_dump)
{
	bool taken = path           ? read_file(path, ret_dump)
		     : options->url ? read_url(options->url, ret_dump)
				    : read_process(options->pid, ret_dump);

	return taken && is_alive(options, *ret_dump, path);
}

static bool read_both(const struct leaks_options *options, struct dump_file **ret_before, struct dump_file **ret_after)
{
	if (!read_one(options, options->before, ret_before))
		return false;
	if (!options->before)
		wait_seconds(options->seconds);
	return read_one(options, options->after, ret_after);
}

// ---- Output -------------------------------------------------------------------------------------------------------------

static void put_stack(struct writer *writer, const char *indent, const struct dump_file_stack *stack)
{
	for (uint32_t i = 0; i < stack->nframes; i++) {
		const char *file = leak_groups_file(&stack->frames[i]);

		writer_puts(writer, indent);
		writer_plain(writer, leak_groups_function(&stack->frames[i]));
		writer_puts(writer, file[0] ? "  " : "");
		writer_plain(writer, file);
		writer_puts(writer, "\n");
	}
}

static void put_stacks(struct writer *writer, const char *indent, const struct leak_group *group)
{
	if (group->stack->nframes == 0)
		writer_printf(writer, "%sno stack could be read\n", indent);
	put_stack(writer, indent, group->stack);
	if (group->creator->nframes > 0) {
		writer_printf(writer, "%screated by\n", indent);
		put_stack(writer, indent, group->creator);
	}
}

static int print(const struct leak_groups *groups)
{
	struct writer writer;
	uint32_t grew = 0;
	int fd = STDOUT_FILENO;

	writer_init(&writer, writer_fd_sink, &fd);
	for (uint32_t i = 0; i < groups->count; i++) {
		const struct leak_group *group = &groups->list[i];

		if (group->after <= group->before)
			continue;
		if (grew++ == 0)
			writer_puts(&writer, "BEFORE   AFTER     NEW        STATE\n");
		writer_printf(&writer, "%6" PRIu32 "  %6" PRIu32 "  %6" PRIu32 "  %s  ", group->before, group->after,
			      group->after - group->before, group->leak ? "LEAK" : "    ");
		writer_plain(&writer, group->state);
		writer_puts(&writer, "\n");
		put_stacks(&writer, "\t", group);
		writer_puts(&writer, "\n");
	}
	writer_printf(&writer, "groups of threads: %" PRIu32 ", grown: %" PRIu32 ", leaks: %" PRIu32 "\n",
		      groups->count, grew, groups->nleaks);
	return writer_flush(&writer);
}

static int put_case(struct writer *writer, const struct leak_group *group)
{
	struct writer_memory memory = {0};
	struct writer text;
	char name[512], failure[128];
	int r;

	// The id keeps groups apart that differ further down, and is the same in the next run.
	snprintf(name, sizeof(name), "%.400s [%.64s] %08" PRIx32, leak_groups_title(group), group->state,
		 (uint32_t)group->id);
	snprintf(failure, sizeof(failure), "%" PRIu32 " threads more: %" PRIu32 " before, %" PRIu32 " after",
		 group->after - group->before, group->before, group->after);
	writer_init(&text, writer_memory_sink, &memory);
	if (group->leak)
		put_stacks(&text, "", group);
	writer_put(&text, "", 1);
	r = writer_flush(&text);
	if (r == 0)
		junit_case(writer, &(struct junit_case){.class_name = "profd.leaks",
							.name = name,
							.failure = group->leak ? failure : NULL,
							.text = memory.data});
	free(memory.data);
	return r;
}

static int write_junit(const struct leak_groups *groups, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	struct writer writer;
	int r = 0;

	if (fd < 0)
		return -errno;
	writer_init(&writer, writer_fd_sink, &fd);
	junit_begin(&writer, "profd leaks", groups->count, groups->nleaks);
	for (uint32_t i = 0; i < groups->count && r == 0; i++)
		r = put_case(&writer, &groups->list[i]);
	if (r == 0)
		r = junit_end(&writer);
	if (close(fd) != 0 && r == 0)
		r = -errno;
	return r;
}

// The exit status.
static int report(const struct leaks_options *options, const struct leak_groups *groups)
{
	int r = print(groups), status = groups->nleaks ? LEAKS_FOUND : 0;

	if (r < 0) {
		cli_say("cannot write: %s", strerror(-r));
		status = CLI_USAGE;
	}
	r = options->junit ? write_junit(groups, options->junit) : 0;
	if (r < 0) {
		cli_say("cannot write %s: %s", options->junit, strerror(-r));
		status = CLI_USAGE;
	}
	return status;
}

static int leaks_run(int argc, char **argv)
{
	struct leaks_options options = {0};
	struct dump_file *before = NULL, *after = NULL;
	struct leak_groups groups = {0};
	int status = parse(argc, argv, &options) - 1;

	if (status < 0) {
		status = CLI_USAGE;
		if (read_both(&options, &before, &after)) {
			if (leak_groups_compare(before, after, &options.rules, &groups) == 0)
				status = report(&options, &groups);
			else
				cli_say("out of memory");
		}
	}
	leak_groups_finish(&groups);
	dump_file_destroy(before);
	dump_file_destroy(after);
	options_finish(&options);
	return status;
}

const struct cli_command cli_command_leaks = {
	.name = "leaks",
	.run = leaks_run,
	.summary = "compare two snapshots, and fail when threads leaked",
	.help = leaks_help,
};

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_report.c: `profd report FILE|PID|URL`: where the samples of a profile are, and where names are missing and what would help. The profile
// is a file, or is taken now: by the profd at an address, or by looking at a process from outside.

#include "collector/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/fetch.h"
#include "collector/read_all.h"
#include "formats/name_gaps.h"
#include "formats/pprof_read.h"
#include "formats/profile.h"
#include "formats/report.h"
#include "formats/short_name.h"
#include "formats/thread_dump.h"

#define DEFAULT_SECONDS 10
#define MAX_SECONDS 3600
#define DEFAULT_TOP 20
#define MAX_TOP 1000000

struct options {
	const char *what;
	uint32_t seconds;
	bool has_seconds, json, full_names;
	struct report_options report;
};

static const char report_help[] =
	"usage: profd report [OPTION]... FILE|PID|URL\n"
	"\n"
	"Prints which functions and modules the samples of a profile are in, and where frames lack names: what there "
	"is of "
	"debug info,\n"
	"and what to install or to set. FILE is one that profd, or another tool, wrote in pprof's form (.pb.gz); '-' "
	"is "
	"standard input.\n"
	"Of a process, its threads are looked at from outside for some seconds, waiting ones as well: a wall-clock "
	"profile. With the\n"
	"URL of a profd that serves HTTP (http://HOST:PORT, or http://HOST:PORT/PID), it is asked for a CPU profile; "
	"one "
	"that ends in\n"
	"/debug/pprof/NAME, for that one. A file whose name is a number: './4711'.\n"
	"\n"
	"      --seconds N    how long a live process is profiled (default 10)\n"
	"      --top N        so many functions; 0: all (default 20)\n"
	"      --total        sorted by what functions took with all that they called; else by themselves\n"
	"      --value NAME   of several values the one that is meant: 'samples', 'cpu', 'wall', …\n"
	"      --full-names   with template arguments and parameters\n"
	"      --json         JSON\n"
	"      --help         this text\n";

// 0: go on; else the exit status + 1.
static int parse(int argc, char **argv, struct options *options)
{
	static const struct option long_options[] = {
		{"seconds", required_argument, NULL, 's'}, {"top", required_argument, NULL, 'n'},
		{"total", no_argument, NULL, 't'},         {"value", required_argument, NULL, 'v'},
		{"full-names", no_argument, NULL, 'f'},    {"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
	};
	bool sound = true;
	int option;

	while (sound && (option = getopt_long(argc, argv, ":h", long_options, NULL)) >= 0) {
		if (option == 's')
			sound = options->has_seconds =
				cli_number("--seconds", optarg, 1, MAX_SECONDS, &options->seconds);
		else if (option == 'n')
			sound = cli_number("--top", optarg, 0, MAX_TOP, &options->report.top);
		else if (option == 't')
			options->report.by_total = true;
		else if (option == 'v')
			options->report.value = optarg;
		else if (option == 'f')
			options->full_names = true;
		else if (option == 'j')
			options->json = true;
		else if (option == 'h')
			return fputs(report_help, stdout) < 0 ? 2 : 1;
		else
			sound = (cli_bad_option(argv, option), false);
	}
	if (sound && optind + 1 != argc)
		sound = (cli_say(optind == argc ? "which profile? 'profd report FILE|PID|URL'"
						: "one profile at a time"),
			 false);
	options->what = sound ? argv[optind] : NULL;
	return sound ? 0 : CLI_USAGE + 1;
}

// ---- The profile ---------------------------------------------------------------------------------------------------

static struct profile *parse_profile(const char *what, const struct writer_memory *memory)
{
	struct profile *profile = NULL;
	int error = pprof_read(memory->data ? memory->data : "", memory->size, &profile);

	if (error == -EINVAL)
		cli_say("%s: not a profile in pprof's form", what);
	else if (error == -EFBIG || error == -E2BIG)
		cli_say(error == -EFBIG ? "%s: the profile is too large"
					: "%s: the profile has too many kinds of values",
			what);
	else if (error)
		cli_say("%s: %s", what, strerror(-error));
	return profile;
}

static struct profile *read_file(const char *path)
{
	struct writer_memory memory = {0};
	struct profile *profile = NULL;
	int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : read_all(fd, PPROF_READ_MAX_BYTES, &memory);

	if (error)
		cli_say("cannot read %s: %s", path, strerror(-error));
	else
		profile = parse_profile(path, &memory);
	if (fd >= 0)
		close(fd);
	free(memory.data);
	return profile;
}

// The name behind /debug/pprof/; else the CPU profile is meant.
static const char *profile_name(const char *url)
{
	static const char prefix[] = "/debug/pprof/";
	const char *found = strstr(url, prefix);

	return found && found[strlen(prefix)] ? found + strlen(prefix) : "profile";
}

static struct profile *fetch(const struct options *options)
{
	const char *name = profile_name(options->what);
	bool takes_time = strcmp(name, "profile") == 0 || strcmp(name, "wall") == 0 || options->has_seconds;
	struct writer_memory memory = {.max = PPROF_READ_MAX_BYTES};
	char url[FETCH_URL_MAX], query[32] = "", error[256];
	struct profile *profile = NULL;

	if (takes_time)
		snprintf(query, sizeof(query), "seconds=%u", options->seconds);
	if (!fetch_profile_url(options->what, name, query, url))
		cli_say("'%s' is not the address of a profd: http://HOST:PORT or http://HOST:PORT/PID", options->what);
	else if (fetch_get(url, takes_time ? options->seconds : 0, writer_memory_sink, &memory, error, sizeof(error)) <
		 0)
		cli_say("%s: %s", options->what, error);
	else
		profile = parse_profile(options->what, &memory);
	free(memory.data);
	return profile;
}

// ---- The report ----------------------------------------------------------------------------------------------------

static int print(const struct options *options, struct profile *profile, const char *title)
{
	int fd = STDOUT_FILENO, error = 0;
	struct report report = {0};
	struct writer writer;

	if (!options->full_names && !options->json)
		error = short_names_in(profile);
	if (!error)
		error = report_init(&report, profile, &options->report);
	if (!error) {
		writer_init(&writer, writer_fd_sink, &fd);
		error = options->json ? report_write_json(&report, title, &options->report, &writer)
				      : report_write_text(&report, title, &options->report, &writer);
	}
	report_finish(&report);
	if (error == -EINVAL) {
		cli_say("%s: there is no value '%s' in it", title, options->report.value ? options->report.value : "");
		for (uint32_t i = 0; i < profile->nsample_types; i++)
			cli_say("  --value %s", profile->sample_types[i].type);
	} else if (error) {
		cli_say("cannot write: %s", strerror(-error));
	}
	return error ? 1 : 0;
}

static int report_process(const struct options *options)
{
	struct cli_debug environment = {0};
	const struct module_debug debug = cli_debug_finish(&environment);
	struct thread_dump *dump = NULL;
	uint32_t pid;
	char title[64];
	int status = 1;

	if (!cli_number("PID", options->what, 1, INT32_MAX, &pid))
		return CLI_USAGE;
	snprintf(title, sizeof(title), "process %u, looked at from outside", pid);
	if (cli_snapshot_wall((pid_t)pid, options->seconds, &debug, &dump) == 0) {
		name_gaps_read(dump->profile); // the report says it its own way
		status = print(options, dump->profile, title);
	}
	thread_dump_destroy(dump);
	return status;
}

static int report_run(int argc, char **argv)
{
	struct options options = {.seconds = DEFAULT_SECONDS, .report.top = DEFAULT_TOP};
	int status = parse(argc, argv, &options);
	struct profile *profile;

	if (status != 0)
		return status - 1;
	if (strspn(options.what, "0123456789") == strlen(options.what))
		return report_process(&options);
	profile = fetch_is_url(options.what) ? fetch(&options) : read_file(options.what);
	status = profile ? print(&options, profile, options.what) : 1;
	profile_destroy(profile);
	return status;
}

const struct cli_command cli_command_report = {
	.name = "report",
	.run = report_run,
	.summary = "print where a profile's samples are, and what would name the frames without names",
	.help = report_help,
};

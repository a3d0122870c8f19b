// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli.c: finds the command; the helpers that commands share.

#include "collector/cli.h"
#include "collector/heap_comments.h"
#include "collector/http_address.h"
#include "collector/wait_profile.h"
#include "collector/wall.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>

static const struct cli_command *const cli_commands[] = {
	&cli_command_run,     &cli_command_serve, &cli_command_dump,    &cli_command_leaks,      &cli_command_report,
	&cli_command_zombies, &cli_command_check, &cli_command_private, &cli_command_fetch_debug};
#define CLI_NCOMMANDS (sizeof(cli_commands) / sizeof(cli_commands[0]))

static const char cli_usage[] = "usage: profd COMMAND [OPTION]…\n"
				"'profd --help' lists the commands, 'profd help COMMAND' explains one.\n";

const char cli_http_help[] =
	"  --http ADDR            serve HTTP on HOST:PORT; ':6060' and '6060' are 127.0.0.1:6060, '[::1]:0' takes any\n"
	"                         free port of ::1 (the one taken is printed)\n"
	"  --allow-host NAME[,…]  further names that a request's Host header may carry; loopback names, ADDR's own\n"
	"                         and the address that a connection comes in on always may\n"
	"  --max-connections N    open at once (default 64); more are answered 503\n"
	"  --max-profiles N       running at once (default 8); more are answered 503\n"
	"  --max-seconds N        the longest profile (default 3600)\n";

static char cli_last_line[2048];
static bool cli_is_quiet;
static bool cli_has_syslog;

void cli_say(const char *fmt, ...)
{
	char line[sizeof(cli_last_line)]; // an argument may be cli_said()
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	memcpy(cli_last_line, line, sizeof(line));
	if (cli_has_syslog)
		syslog(LOG_ERR, "%s", line);
	else if (!cli_is_quiet)
		fprintf(stderr, "profd: %s\n", line); // one write, so that the target's own lines do not get in between
}

void cli_use_syslog(void)
{
	openlog("profd", LOG_PID, LOG_DAEMON);
	cli_has_syslog = true;
}

void cli_set_quiet(bool quiet)
{
	cli_is_quiet = quiet;
}

const char *cli_said(void)
{
	return cli_last_line;
}

bool cli_number(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *ret_number)
{
	size_t length = strlen(text);
	unsigned long long value = 0;

	if (length >= 1 && length <= 10 && strspn(text, "0123456789") == length)
		value = strtoull(text, NULL, 10);
	else
		length = 0;
	if (length == 0 || value < min || value > max) {
		cli_say("%s '%s': not a number from %u to %u", option, text, min, max);
		return false;
	}
	*ret_number = (uint32_t)value;
	return true;
}

void cli_bad_option(char **argv, int result)
{
	const char *word = argv[optind - 1];
	char letter[3] = {'-', (char)optopt, '\0'};

	if (strncmp(word, "--", 2) != 0 && optopt > 0 && optopt < 256)
		word = letter;
	cli_say(result == ':' ? "%s needs a value; '%.5s help %s' lists the options"
			      : "unknown option %s; '%.5s help %s' lists the options",
		word, argv[0], argv[0] + strlen("profd "));
}

// "5" or "0.5": percent, in permille.
static bool cli_overhead(const char *option, const char *text, uint32_t *ret_permille)
{
	char *end = NULL;
	double percent = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : 0;

	if (end == NULL || *end != '\0' || !(percent >= 0.1 && percent <= 100)) {
		cli_say("%s '%s': not a percentage from 0.1 to 100", option, text);
		return false;
	}
	*ret_permille = (uint32_t)(percent * 10 + 0.5);
	return true;
}

static bool cli_heap_rate(struct cli_sampling *sampling, const char *value)
{
	uint32_t rate = HEAP_DEFAULT_RATE;

	if (value != NULL &&
	    !cli_number(sampling->by_agent ? "PROFD_HEAP_RATE" : "--heap", value, 1, UINT32_MAX, &rate))
		return false;
	sampling->heap = true;
	sampling->how.rates.heap_bytes = rate;
	return true;
}

static bool cli_wait_rate(struct cli_sampling *sampling, int option, const char *value)
{
	bool mutex = option == CLI_OPT_MUTEX;
	uint32_t rate = mutex ? WAIT_DEFAULT_MUTEX : WAIT_DEFAULT_BLOCK;
	const char *name = mutex                ? sampling->by_agent ? "PROFD_MUTEX_FRACTION" : "--mutex"
			   : sampling->by_agent ? "PROFD_BLOCK_RATE"
						: "--block";

	if (value != NULL && !cli_number(name, value, 1, UINT32_MAX, &rate))
		return false;
	*(mutex ? &sampling->mutex : &sampling->block) = true;
	*(mutex ? &sampling->how.rates.mutex : &sampling->how.rates.block) = rate;
	return true;
}

enum wire_bucket_kind cli_sampling_store(const struct cli_sampling *sampling)
{
	if (sampling->heap)
		return WIRE_BUCKET_HEAP;
	return sampling->block ? WIRE_BUCKET_BLOCK : sampling->mutex ? WIRE_BUCKET_MUTEX : WIRE_BUCKET_NONE;
}

int cli_sampling_option(struct cli_sampling *sampling, int option, const char *value)
{
	static const char *const clocks[WIRE_CLOCK_COUNT] = {"auto", "cpu", "perf"};

	bool by_agent = sampling->by_agent;

	switch (option) {
	case 'r':
		sampling->has_rate = true;
		return cli_number(by_agent ? "PROFD_RATE" : "--rate", value, 1, WIRE_MAX_RATE_HZ, &sampling->rate_hz)
			       ? 1
			       : -1;
	case CLI_OPT_MAX_OVERHEAD:
		return cli_overhead(by_agent ? "PROFD_MAX_OVERHEAD" : "--max-overhead", value,
				    &sampling->how.max_overhead_permille)
			       ? 1
			       : -1;
	case CLI_OPT_CLOCK:
		sampling->wall = strcmp(value, "wall") == 0;
		for (uint32_t i = 0; i < WIRE_CLOCK_COUNT; i++) {
			if (strcmp(value, clocks[i]) == 0)
				sampling->how.clock = i;
			if (sampling->wall || strcmp(value, clocks[i]) == 0)
				return 1;
		}
		cli_say("%s '%s': not auto, cpu, perf or wall", by_agent ? "PROFD_CLOCK" : "--clock", value);
		return -1;
	case CLI_OPT_HEAP:
		return cli_heap_rate(sampling, value) ? 1 : -1;
	case CLI_OPT_MUTEX:
	case CLI_OPT_BLOCK:
		return cli_wait_rate(sampling, option, value) ? 1 : -1;
	case CLI_OPT_WAKERS:
		sampling->how.rates.wakers = 1;
		return 1;
	case CLI_OPT_BLOCK_IO:
		sampling->how.rates.block_io = 1;
		return 1;
	case CLI_OPT_HEAP_MMAP:
		sampling->how.rates.heap_mmap = 1;
		return 1;
	default:
		return 0;
	}
}

bool cli_sampling_finish(struct cli_sampling *sampling, bool may_wall)
{
	const char *rate = sampling->by_agent ? "PROFD_RATE" : "--rate";

	if (!sampling->wall)
		return true;
	if (sampling->by_agent)
		sampling->heap = sampling->mutex = sampling->block = false; // they are there for who asks over HTTP
	if (cli_sampling_store(sampling) != WIRE_BUCKET_NONE) {
		cli_say("a whole run is profiled by --clock wall or by its %s, not by both",
			sampling->heap ? "heap" : "locks");
		return false;
	}
	if (!may_wall) {
		cli_say("%s wall: for a whole run alone; ask for /debug/pprof/wall",
			sampling->by_agent ? "PROFD_CLOCK" : "--clock");
		return false;
	}
	if (!sampling->has_rate)
		sampling->rate_hz = WALL_DEFAULT_RATE_HZ;
	if (sampling->rate_hz <= WALL_MAX_RATE_HZ)
		return true;
	cli_say("%s %u: at most %d looks a second at the threads", rate, sampling->rate_hz, WALL_MAX_RATE_HZ);
	return false;
}

static int cli_allow_host(struct cli_http *http, const char *value)
{
	size_t used = strlen(http->allowed_hosts);
	int needed = snprintf(http->allowed_hosts + used, sizeof(http->allowed_hosts) - used, "%s%s",
			      used > 0 ? "," : "", value);

	if (needed < 0 || (size_t)needed >= sizeof(http->allowed_hosts) - used) {
		cli_say("--allow-host: too many names");
		return -1;
	}
	http->options.allowed_hosts = http->allowed_hosts;
	return 1;
}

int cli_http_option(struct cli_http *http, int option, const char *value)
{
	struct http_address address;

	switch (option) {
	case CLI_OPT_HTTP:
		if (http_address_parse(value, &address) != 0) {
			cli_say("--http '%s': not HOST:PORT, :PORT or [IPV6]:PORT", value);
			return -1;
		}
		http->options.address = value;
		return 1;
	case CLI_OPT_ALLOW_HOST:
		return cli_allow_host(http, value);
	case CLI_OPT_MAX_CONNECTIONS:
		return cli_number("--max-connections", value, 1, 4096, &http->options.max_connections) ? 1 : -1;
	case CLI_OPT_MAX_PROFILES:
		return cli_number("--max-profiles", value, 1, 256, &http->options.max_profiles) ? 1 : -1;
	case CLI_OPT_MAX_SECONDS:
		return cli_number("--max-seconds", value, 1, 31536000, &http->options.max_seconds) ? 1 : -1;
	default:
		return 0;
	}
}

void cli_http_url(const struct http_options *options, uint16_t port, char *buf, size_t size)
{
	struct http_address address = {.host = "127.0.0.1"};

	if (http_address_parse(options->address, &address) != 0)
		address.host[0] = '\0'; // cannot be: the server listens on it
	const char *format = strchr(address.host, ':') != NULL ? "http://[%s]:%u" : "http://%s:%u";
	snprintf(buf, size, format, address.host, (unsigned)port);
}

const struct format *cli_output_format(const char *path, const char *format_name)
{
	const struct format *format;

	if (format_name != NULL) {
		format = format_by_name(format_name);
		if (format == NULL)
			cli_say("unknown format '%s'; there are: %s", format_name, format_names());
		return format;
	}
	format = format_by_path(path);
	if (format == NULL && strcmp(path, "-") == 0)
		format = &format_pprof;
	if (format == NULL)
		cli_say("cannot tell the format of '%s' from its name; name one with --format: %s", path,
			format_names());
	return format;
}

bool cli_outputs_open(struct cli_outputs *outputs, char *const *paths, size_t count, const char *format_name)
{
	char error[512];

	outputs->count = 0;
	for (size_t i = 0; i < count; i++) {
		const struct format *format = cli_output_format(paths[i], format_name);
		if (format == NULL)
			goto fail;
		if (output_open(&outputs->list[i], paths[i], format, error, sizeof(error)) != 0) {
			cli_say("%s", error);
			goto fail;
		}
		outputs->count++;
	}
	return true;
fail:
	cli_outputs_abandon(outputs);
	return false;
}

bool cli_outputs_write(struct cli_outputs *outputs, const struct profile *profile, const char *title, char *names,
		       size_t size)
{
	char error[512];
	bool all = true;
	size_t used = 0;

	names[0] = '\0';
	for (size_t i = 0; i < outputs->count; i++) {
		char name[256];
		snprintf(name, sizeof(name), "%s", outputs->list[i].path);
		if (output_write(&outputs->list[i], profile, title, error, sizeof(error)) != 0) {
			cli_say("%s", error);
			all = false;
			continue;
		}
		if (used < size)
			used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "",
						 strcmp(name, "-") == 0 ? "standard output" : name);
	}
	outputs->count = 0;
	return all;
}

void cli_outputs_abandon(struct cli_outputs *outputs)
{
	for (size_t i = 0; i < outputs->count; i++)
		output_abandon(&outputs->list[i]);
	outputs->count = 0;
}

static const struct cli_command *cli_find(const char *name)
{
	for (size_t i = 0; i < CLI_NCOMMANDS; i++) {
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	}
	return NULL;
}

static void cli_print_help(void)
{
	printf("profd: a sampling profiler for native programs. Shows where any dynamically linked program spends its "
	       "CPU\n"
	       "time, without a rebuild.\n\nusage: profd COMMAND [OPTION]…\n\nCommands:\n");
	for (size_t i = 0; i < CLI_NCOMMANDS; i++) {
		if (cli_commands[i]->summary != NULL)
			printf("  %-10s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	}
	printf("  %-10s %s\n", "help", "explain a command: profd help run");
	printf("\nOptions:\n  --help     this text\n  --version  the version\n\n"
	       "Without a command, the agent alone brings its own collector, which serves HTTP or writes files and "
	       "ends with\n"
	       "the program:\n"
	       "  LD_PRELOAD=libprofd.so PROFD_HTTP=127.0.0.1:6060 COMMAND\n"
	       "  LD_PRELOAD=libprofd.so PROFD_OUTPUT=cpu.svg:cpu.pb.gz COMMAND\n\n"
	       "Environment:\n  PROFD_AGENT  path of libprofd.so, when it is neither beside profd nor in " PROFD_LIBDIR
	       "\n\n"
	       "Examples:\n"
	       "  profd run -o cpu.html -- ./server --port 80\n"
	       "  profd run --http :6060 -- ./server\n"
	       "  go tool pprof -http=:8080 'http://localhost:6060/debug/pprof/profile?seconds=30'\n");
}

static int cli_help(const char *name)
{
	const struct cli_command *command = name != NULL ? cli_find(name) : NULL;

	if (name == NULL) {
		cli_print_help();
		return 0;
	}
	if (command == NULL) {
		cli_say("there is no command '%s'", name);
		fputs(cli_usage, stderr);
		return CLI_USAGE;
	}
	fputs(command->help, stdout);
	return 0;
}

int cli_main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	char title[32];

	if (name == NULL) {
		fputs(cli_usage, stderr);
		return CLI_USAGE;
	}
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
		puts("profd " PROFD_VERSION);
		return 0;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		return cli_help(NULL);
	if (strcmp(name, "help") == 0)
		return cli_help(argc > 2 ? argv[2] : NULL);
	const struct cli_command *command = cli_find(name);
	if (command == NULL) {
		fprintf(stderr, "profd: there is no command '%s'\n%s", name, cli_usage);
		return CLI_USAGE;
	}
	snprintf(title, sizeof(title), "profd %s", command->name);
	argv[1] = title;
	optind = 0; // starts getopt_long afresh
	opterr = 0; // we say what is wrong ourselves
	return command->run(argc - 1, argv + 1);
}

void cli_raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit); // as before when refused
	}
}

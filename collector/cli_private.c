// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_private.c: `profd private`: the collector that an agent starts for its own program (PROFD_HTTP, PROFD_OUTPUT) and that ends
// with it. Internal: the agent, which has already forked twice and called setsid, is its only caller. It is nobody's child and holds
// nothing of the target's: no descriptors, no directory, no terminal. Runs on the main thread.
//
// It tells the agent over --ready-fd, in one line: "ok PORT" (0 without HTTP) or "error: why". From then on it writes only
// to a stderr that is a terminal or a file; with another, which must end with the target, errors go to syslog(3).

#include "collector/cli.h"
#include "collector/cli_heap.h"
#include "collector/cli_waits.h"
#include "collector/close_fds.h"
#include "collector/collector.h"
#include "formats/profile.h"
#include "profd/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// After the target's death its children may still be joining, and its ring may still be read.
#define PRIVATE_POLL_MS 50
#define PRIVATE_QUIET_POLLS 4 // in a row without a target, before it counts as the end
// A service that is started again finds its predecessor's collector still at the port.
#define PRIVATE_LISTEN_MS 2000
#define PRIVATE_LISTEN_POLL_MS 10

enum private_option {
	PRIVATE_SOCKET = CLI_OPT_FIRST_OWN,
	PRIVATE_TARGET,
	PRIVATE_READY_FD,
	PRIVATE_OUTPUT,
	PRIVATE_TRACE,
	PRIVATE_TRACE_RATE,
	PRIVATE_FLIGHT
};

static const struct option private_long_options[] = {
	{"socket", required_argument, NULL, PRIVATE_SOCKET},
	{"target", required_argument, NULL, PRIVATE_TARGET},
	{"ready-fd", required_argument, NULL, PRIVATE_READY_FD},
	{"output", required_argument, NULL, PRIVATE_OUTPUT},
	{"trace", required_argument, NULL, PRIVATE_TRACE},
	{"trace-rate", required_argument, NULL, PRIVATE_TRACE_RATE},
	{"flight", required_argument, NULL, PRIVATE_FLIGHT},
	{"format", required_argument, NULL, 'f'},
	{"help", no_argument, NULL, 'h'},
	CLI_SAMPLING_OPTIONS,
	CLI_HTTP_OPTIONS,
	{0},
};

struct private
{
	struct cli_http http_options;
	const char *socket, *output, *trace, *format;
	uint32_t target, trace_rate_hz, flight_s;
	struct cli_sampling sampling;
	struct cli_debug debug;     // the environment's
	struct module_debug places; // what it comes to
	int ready_fd;               // −1: said all
	int pid_fd, signal_fd;

	struct cli_outputs outputs;
	struct collector *collector;
	struct http_server *http;
	struct cli_trace *recorder;
	char trace_path[4096], trace_title[32];
	struct cli_wall *wall; // instead of a window: PROFD_CLOCK=wall
	struct window *window; // NULL without outputs
};

// The agent reads one line, and the other end of the pipe tells it that this is all.
static void __attribute__((format(printf, 2, 3))) private_report(struct private *own, const char *fmt, ...)
{
	va_list args;

	if (own->ready_fd < 0)
		return;
	va_start(args, fmt);
	vdprintf(own->ready_fd, fmt, args);
	va_end(args);
	close(own->ready_fd);
	own->ready_fd = -1;
}

// ---- The command line ----------------------------------------------------------------------------------------------

static bool private_take_option(struct private *own, int option, char **argv)
{
	uint32_t fd;

	switch (option) {
	case PRIVATE_SOCKET:
		own->socket = optarg;
		return true;
	case PRIVATE_OUTPUT:
		own->output = optarg;
		return true;
	case PRIVATE_TRACE:
		own->trace = optarg;
		return true;
	case PRIVATE_TRACE_RATE:
		return cli_number("--trace-rate", optarg, 0, WIRE_MAX_RATE_HZ, &own->trace_rate_hz);
	case PRIVATE_FLIGHT:
		return cli_number("--flight", optarg, 1, 86400, &own->flight_s);
	case 'f':
		own->format = optarg;
		return true;
	case PRIVATE_TARGET:
		return cli_number("--target", optarg, 1, INT32_MAX, &own->target);
	case PRIVATE_READY_FD:
		if (!cli_number("--ready-fd", optarg, 0, INT32_MAX, &fd))
			return false;
		own->ready_fd = (int)fd;
		return true;
	default:
		break;
	}
	int taken = cli_sampling_option(&own->sampling, option, optarg);
	if (taken == 0)
		taken = cli_http_option(&own->http_options, option, optarg);
	if (taken == 0)
		cli_bad_option(argv, option);
	return taken > 0;
}

// −1: go on; else the exit status.
static int private_parse(int argc, char **argv, struct private *own)
{
	int option;
	bool fine = true;

	while ((option = getopt_long(argc, argv, "+:h", private_long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(cli_command_private.help, stdout);
			return 0;
		}
		fine = private_take_option(own, option, argv) && fine; // --ready-fd may come after a bad one
	}
	if (fine && (own->socket == NULL || own->target == 0 || optind < argc)) {
		cli_say("private needs --socket and --target, and takes no argument");
		fine = false;
	}
	own->http_options.options.default_rate_hz = own->sampling.rate_hz;
	fine = fine && cli_sampling_finish(&own->sampling, true);
	return fine ? -1 : CLI_USAGE;
}

// ---- Surroundings --------------------------------------------------------------------------------------------------

// Nothing of the target's stays open: a pipe would not end, a port not be free, a file system not be unmounted.
static void private_leave_target(struct private *own)
{
	struct stat st;
	unsigned keep = (unsigned)(own->ready_fd < 0 ? STDERR_FILENO : own->ready_fd);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		if (!isatty(STDERR_FILENO) && (fstat(STDERR_FILENO, &st) != 0 || !S_ISREG(st.st_mode))) {
			dup2(null, STDERR_FILENO);
			cli_use_syslog();
		}
	}
	if (keep > STDERR_FILENO) {
		close_fds(STDERR_FILENO + 1, keep - 1);
		fcntl(own->ready_fd, F_SETFD, FD_CLOEXEC);
	}
	close_fds(keep + 1, ~0U);
	if (chdir("/") != 0)
		cli_say("cannot leave the directory: %s", strerror(errno));
}

// The target's signals are not ours, even when they are sent to everything around it. SIGTERM ends us when it comes twice: the first
// may be a service manager's to the whole group, and the target may take its time to end.
static void private_take_signals(struct private *own)
{
	static const int ignored[] = {SIGINT,  SIGQUIT, SIGHUP,  SIGPIPE, SIGTSTP, SIGTTIN,
				      SIGTTOU, SIGUSR1, SIGALRM, SIGXFSZ, SIGPROF};
	sigset_t term;

	sigemptyset(&term);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	sigprocmask(SIG_SETMASK, &term, NULL); // the target's mask is not ours either
	sigaddset(&term, SIGTERM);
	sigaddset(&term, SIGUSR2); // for a flight recorder (PROFD_TRACE_OUTPUT)
	sigprocmask(SIG_BLOCK, &term, NULL);
	own->signal_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
}

// ---- Outputs -------------------------------------------------------------------------------------------------------

// %p is the target's PID; %% is %.
static bool private_expand(const char *name, size_t length, uint32_t pid, char *buf, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < length; i++) {
		char piece[16] = {name[i], '\0'};
		if (name[i] == '%' && i + 1 < length && (name[i + 1] == 'p' || name[i + 1] == '%')) {
			if (name[++i] == 'p')
				snprintf(piece, sizeof(piece), "%u", pid);
		}
		size_t piece_length = strlen(piece);
		if (used + piece_length >= size)
			return false;
		memcpy(buf + used, piece, piece_length + 1);
		used += piece_length;
	}
	buf[used] = '\0';
	return used > 0;
}

static int private_open_output(struct private *own, const char *path, char *error, size_t size)
{
	const struct format *format = own->format != NULL ? format_by_name(own->format) : format_by_path(path);

	if (format == NULL) {
		snprintf(error, size, "cannot tell the format of '%.256s'; there are: %s", path, format_names());
		return -EINVAL;
	}
	int result = output_open(&own->outputs.list[own->outputs.count], path, format, error, size);
	if (result == 0)
		own->outputs.count++;
	return result;
}

static int private_open_outputs(struct private *own, char *error, size_t size)
{
	char path[4096];
	const char *at = own->output;

	while (at != NULL && *at != '\0') {
		size_t length = strcspn(at, ":");
		if (length > 0) {
			if (own->outputs.count == CLI_MAX_OUTPUTS ||
			    !private_expand(at, length, own->target, path, sizeof(path))) {
				snprintf(error, size, "too many outputs, or a name that is too long");
				return -EINVAL;
			}
			int result = private_open_output(own, path, error, size);
			if (result != 0)
				return result;
		}
		at += length + (at[length] == ':');
	}
	return 0;
}

// ---- Life ----------------------------------------------------------------------------------------------------------

static int private_listen(struct private *own, char *error, size_t size)
{
	const struct timespec moment = {.tv_nsec = PRIVATE_LISTEN_POLL_MS * 1000000L};
	int result = -EADDRINUSE;

	if (own->http_options.options.address == NULL)
		return 0;
	for (int i = 0; i < PRIVATE_LISTEN_MS / PRIVATE_LISTEN_POLL_MS && result == -EADDRINUSE; i++) {
		if (i > 0)
			nanosleep(&moment, NULL);
		result = http_server_create(own->collector, &own->http_options.options, &own->http, error, size);
	}
	return result;
}

static int private_start_trace(struct private *own, char *error, size_t size)
{
	const struct cli_trace_options options = {.path = own->trace_path,
						  .title = own->trace_title,
						  .rate_hz = own->trace_rate_hz,
						  .flight_s = own->flight_s};
	int result = -EINVAL;

	snprintf(own->trace_title, sizeof(own->trace_title), "process %u", own->target);
	cli_set_quiet(true);
	if (private_expand(own->trace, strlen(own->trace), own->target, own->trace_path, sizeof(own->trace_path)))
		result = cli_trace_start(own->collector, &options, &own->recorder);
	cli_set_quiet(false);
	if (result != 0)
		snprintf(error, size, "%s", cli_said());
	return result;
}

static int private_start(struct private *own, char *error, size_t size)
{
	struct collector_options collector = {.socket = own->socket,
					      .sampling = own->sampling.how,
					      .cache_tables = true,
					      .keep_stores = cli_sampling_store(&own->sampling) != WIRE_BUCKET_NONE &&
							     own->output != NULL,
					      .family = (pid_t)own->target,
					      .debug = own->places};
	struct window_options window = {.rate_hz = own->sampling.rate_hz};
	int result = private_open_outputs(own, error, size);

	if (result != 0)
		return result;
	cli_raise_descriptor_limit();
	result = collector_create(&collector, &own->collector);
	if (result != 0) {
		snprintf(error, size, "cannot start the collector: %s", strerror(-result));
		return result;
	}
	result = private_listen(own, error, size);
	if (result == 0 && own->trace != NULL)
		result = private_start_trace(own, error, size);
	if (result != 0 || own->outputs.count == 0 || cli_sampling_store(&own->sampling) != WIRE_BUCKET_NONE)
		return result;
	result = own->sampling.wall ? cli_wall_start(own->collector, own->sampling.rate_hz, &window.view, &own->wall)
				    : window_open(own->collector, &window, &own->window);
	if (result != 0)
		snprintf(error, size, "cannot start sampling: %s", strerror(-result));
	return result;
}

static bool private_told_to_end(struct private *own, int *terms)
{
	struct signalfd_siginfo info;

	while (own->signal_fd >= 0 && read(own->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo == SIGTERM)
			(*terms)++;
		else if (own->recorder != NULL)
			cli_trace_dump(own->recorder);
	return *terms >= 2;
}

// The port is free for a successor as soon as there is no target, before outputs are written. A child that joins late has it back.
static void private_hold_port(struct private *own, bool hold)
{
	char error[512];

	if (hold == (own->http != NULL))
		return;
	if (hold) {
		(void)private_listen(own, error, sizeof(error)); // a successor may have it
		return;
	}
	http_server_destroy(own->http);
	own->http = NULL;
}

// Until the target and all that it brought along are gone, or two SIGTERMs.
static void private_wait(struct private *own)
{
	struct pollfd fds[] = {{.fd = own->pid_fd, .events = POLLIN}, {.fd = own->signal_fd, .events = POLLIN}};
	struct collector_counters counters;
	int quiet = 0;
	int terms = 0;

	while (quiet < PRIVATE_QUIET_POLLS) {
		bool target_lives = fds[0].fd >= 0;
		poll(fds, 2, target_lives ? -1 : PRIVATE_POLL_MS);
		if (private_told_to_end(own, &terms))
			break;
		if (target_lives) {
			if (fds[0].revents != 0)
				fds[0].fd = -1; // poll passes over it
			continue;
		}
		collector_counters(own->collector, &counters);
		quiet = counters.targets_now == 0 ? quiet + 1 : 0;
		private_hold_port(own, quiet == 0);
	}
	private_hold_port(own, false);
}

static void private_write(struct private *own)
{
	struct collector_counters counters = {0};
	struct window_stats stats;
	char title[32];
	char line[768];
	char written[2048];

	window_stop(own->window);
	collector_counters(own->collector, &counters);
	if (counters.targets_total == 0)
		return; // nothing ever joined: an old file is worth more than an empty one
	struct profile *profile = window_profile(own->window);
	if (profile == NULL) {
		cli_say("out of memory while the profile was made");
		return;
	}
	snprintf(title, sizeof(title), "process %u", own->target);
	cli_outputs_write(&own->outputs, profile, title, written, sizeof(written));
	profile_destroy(profile);
	window_stats(own->window, &stats);
	cli_summary(&stats, line, sizeof(line));
	if (isatty(STDERR_FILENO) && written[0] != '\0')
		cli_say("%s; wrote %s", line, written);
}

static void private_write_wall(struct private *own)
{
	struct profile *profile = cli_wall_stop(own->wall, NULL);
	char title[32], written[2048];

	snprintf(title, sizeof(title), "process %u", own->target);
	if (profile != NULL)
		cli_outputs_write(&own->outputs, profile, title, written, sizeof(written));
}

static void private_write_store(struct private *own)
{
	enum wire_bucket_kind kind = cli_sampling_store(&own->sampling);
	char title[32];
	const struct cli_heap_options heap = {.command = title, .quiet = !isatty(STDERR_FILENO)};

	snprintf(title, sizeof(title), "process %u", own->target);
	if (kind == WIRE_BUCKET_HEAP)
		cli_heap_end(own->collector, &own->outputs, &heap);
	else
		cli_waits_end(own->collector, &own->outputs, kind, &heap.view, title, heap.quiet);
}

static int cli_private(int argc, char **argv)
{
	struct private own = {.sampling = CLI_SAMPLING_DEFAULT,
			      .trace_rate_hz = CLI_DEFAULT_RATE_HZ,
			      .ready_fd = -1,
			      .pid_fd = -1,
			      .signal_fd = -1};
	char error[512];
	const char *hosts = getenv("PROFD_ALLOW_HOST");

	own.sampling.by_agent = true;

	if (hosts != NULL && *hosts != '\0')
		own.http_options.options.allowed_hosts = hosts;
	cli_set_quiet(true); // the agent says it
	int status = private_parse(argc, argv, &own);
	cli_set_quiet(false);
	if (status >= 0) {
		if (own.ready_fd < 0 && status != 0)
			cli_say("%s", cli_said());
		private_report(&own, "error: %s\n", cli_said());
		return status;
	}
	own.places = cli_debug_finish(&own.debug);
	own.places.leave_downloads = true;
	private_leave_target(&own);
	private_take_signals(&own);
	own.pid_fd = (int)syscall(SYS_pidfd_open, (pid_t)own.target, 0); // −1: gone already
	status = private_start(&own, error, sizeof(error)) != 0;
	if (status != 0) {
		private_report(&own, "error: %s\n", error);
	} else {
		private_report(&own, "ok %u\n", own.http != NULL ? (unsigned)http_server_port(own.http) : 0);
		private_wait(&own);
		if (own.window != NULL)
			private_write(&own);
		else if (own.wall != NULL)
			private_write_wall(&own);
		else if (own.outputs.count > 0)
			private_write_store(&own);
	}
	http_server_destroy(own.http);
	if (own.recorder != NULL) {
		cli_set_quiet(!isatty(STDERR_FILENO));
		cli_trace_stop(own.recorder);
		cli_set_quiet(false);
	}
	cli_trace_destroy(own.recorder);
	window_destroy(own.window);
	cli_wall_destroy(own.wall);
	collector_destroy(own.collector);
	cli_outputs_abandon(&own.outputs);
	return status;
}

const struct cli_command cli_command_private = {
	.name = "private",
	.run = cli_private,
	.help = "usage: profd private --socket @NAME --target PID [OPTION]…\n\n"
		"Internal: what the agent starts for PROFD_HTTP and PROFD_OUTPUT; it ends with the process PID.\n\n"
		"Options:\n"
		"  --ready-fd N              one line is written here: 'ok PORT' or 'error: WHY'\n"
		"  --output FILE[:FILE]…     profile the whole run into these; %p in a name is PID, %% is %\n"
		"  --trace FILE              write the event trace there, while it happens; %p as above\n"
		"  --trace-rate HZ           with so many samples for each second of CPU time (default 100); 0: none\n"
		"  --flight S                of the trace the last S seconds, at the end and at SIGUSR2\n"
		"  --format NAME             their format, when not by name\n"
		"  --rate HZ                 samples for each second of CPU time (default 100)\n"
		"  --http, --allow-host, --max-connections, --max-profiles, --max-seconds: see 'profd help serve'\n\n"
		"Environment:\n  PROFD_ALLOW_HOST          as --allow-host, which the agent does not pass\n",
};

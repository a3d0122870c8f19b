// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_run.c: `profd run`: starts a command under the agent, waits for it, writes its profile. To the command, its parent and the
// terminal it is as if profd were not there: streams, exit status, Ctrl-C, job control. Runs on the main thread.
//
// Signals. All that matter are blocked and read from a signalfd. What the terminal sends reaches the command by itself, being in our
// process group: profd only outlives it. What another process sent to profd alone is passed on. When the command is stopped by the
// terminal, profd stops as well, so that the shell sees a stopped job.

#include "collector/agent_path.h"
#include "collector/cli.h"
#include "collector/cli_heap.h"
#include "collector/cli_waits.h"
#include "collector/clock.h"
#include "collector/collector.h"
#include "collector/launch.h"
#include "collector/program.h"
#include "formats/profile.h"
#include "profd/wire.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct run {
	struct cli_run_options *options;
	struct cli_outputs outputs;
	struct collector *collector;
	struct http_server *http;
	struct cli_wall *wall; // instead of a window: --clock wall
	struct cli_trace *trace;
	struct window *window; // NULL when nothing is to be written
	struct launch_signals signals;
	int signal_fd;
	bool profiled;   // the agent is preloaded
	const char *why; // why the command itself cannot be profiled; NULL
	pid_t child;
	bool ended;
	int status;    // of waitpid
	bool saw_tstp; // the terminal's stop came since the command last went on
	bool progress; // stderr is a terminal
	bool progress_shown;
	time_t start_s;
	struct rusage usage; // of the command, when it has ended
};

// ---- Progress ------------------------------------------------------------------------------------------------------

static void run_erase_progress(struct run *run)
{
	if (run->progress_shown)
		fputs("\r\033[K", stderr);
	run->progress_shown = false;
}

// Not while another job, or a program that draws its own screen, has the terminal.
static bool run_may_draw(const struct run *run)
{
	struct termios mode;

	return run->progress && tcgetpgrp(STDERR_FILENO) == getpgrp() && tcgetattr(STDERR_FILENO, &mode) == 0 &&
	       (mode.c_lflag & ICANON) != 0;
}

static void run_draw_progress(struct run *run)
{
	struct window_stats stats;
	char line[128];

	if (!run_may_draw(run))
		return;
	window_stats(run->window, &stats);
	cli_summary_progress(&stats, clock_now_s() - run->start_s, line, sizeof(line));
	fprintf(stderr, "\rprofd: %s\033[K", line);
	run->progress_shown = true;
}

// ---- While the command runs ----------------------------------------------------------------------------------------

// As the terminal would have stopped us, had we not blocked its signal.
static void run_stop_self(struct run *run)
{
	sigset_t stop;

	run_erase_progress(run);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	raise(SIGTSTP);
	sigprocmask(SIG_UNBLOCK, &stop, NULL); // stops here
	sigprocmask(SIG_BLOCK, &stop, NULL);
	run->saw_tstp = false;
}

static void run_on_signal(struct run *run, const struct signalfd_siginfo *info)
{
	int number = (int)info->ssi_signo;
	bool from_user = info->ssi_code <= 0; // SI_USER, SI_QUEUE, SI_TKILL; the terminal's is SI_KERNEL
	bool from_command = from_user && (pid_t)info->ssi_pid == run->child;

	if (number == SIGTSTP && (!from_user || from_command))
		run->saw_tstp = true; // it went to the whole group
	if (number == SIGCHLD || !from_user || from_command)
		return;
	if (number == SIGUSR2 && run->options->flight_s > 0 && run->trace != NULL) {
		cli_trace_dump(run->trace);
		return;
	}
	kill(run->child, number); // not reaped yet, so the number is still its own
}

static void run_on_child(struct run *run, pid_t pid, int status, const struct rusage *usage)
{
	if (pid != run->child)
		return; // an orphan that we, as a container's first process, inherited
	if (WIFSTOPPED(status)) {
		int number = WSTOPSIG(status);
		if (number == SIGTSTP || number == SIGTTIN || number == SIGTTOU || (number == SIGSTOP && run->saw_tstp))
			run_stop_self(run);
	} else if (WIFEXITED(status) || WIFSIGNALED(status)) {
		run->ended = true;
		run->status = status;
		run->usage = *usage;
	}
}

// Processes of ours that read debug info, or download it, are waited for by who started them. A container's first process has orphans to
// bury, too.
static void run_reap(struct run *run)
{
	const pid_t whom = getpid() == 1 ? -1 : run->child;
	struct rusage usage;
	int status;
	pid_t pid;

	while (!run->ended && (pid = wait4(whom, &status, WNOHANG | WUNTRACED | WCONTINUED, &usage)) > 0)
		run_on_child(run, pid, status, &usage);
}

static void run_wait(struct run *run)
{
	// A thread that somebody preloaded into us may take our signals, and SIGCHLD with them; the pidfd tells in any case.
	struct pollfd fds[] = {{.fd = run->signal_fd, .events = POLLIN},
			       {.fd = (int)syscall(SYS_pidfd_open, run->child, 0), .events = POLLIN}};
	bool draws = run->progress && run->window != NULL;
	struct signalfd_siginfo info;

	run_reap(run);
	while (!run->ended) {
		int ready = poll(fds, 2, draws || fds[1].fd < 0 ? 1000 : -1);
		while (!run->ended && read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
			run_on_signal(run, &info);
		run_reap(run);
		if (ready == 0 && draws)
			run_draw_progress(run);
	}
	if (fds[1].fd >= 0)
		close(fds[1].fd);
	run_erase_progress(run);
}

// ---- Before and after ----------------------------------------------------------------------------------------------

static int run_start_collector(struct run *run, char *name, size_t size)
{
	struct cli_run_options *options = run->options;
	struct window_options window = {.rate_hz = options->sampling.rate_hz, .view = options->view};
	struct collector_options collector = {
		.socket = name, .sampling = options->sampling.how, .cache_tables = true, .family = getpid()};
	bool by_store = cli_sampling_store(&options->sampling) != WIRE_BUCKET_NONE;
	uint64_t random;

	collector.debug = cli_debug_finish(&options->debug);
	collector.debug.leave_downloads = true;
	collector.keep_stores = by_store && (run->outputs.count > 0 || options->leaks);
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -errno;
	snprintf(name, size, "@profd-%d-%016" PRIx64, (int)getpid(), random);
	int error = collector_create(&collector, &run->collector);
	if (error == 0 && run->outputs.count > 0 && options->sampling.wall)
		error = cli_wall_start(run->collector, options->sampling.rate_hz, &options->view, &run->wall);
	else if (error == 0 && run->outputs.count > 0 && !by_store)
		error = window_open(run->collector, &window, &run->window);
	return error;
}

static bool run_start_http(struct run *run)
{
	const struct http_options *options = &run->options->http.options;
	char text[512];

	if (options->address == NULL)
		return true;
	if (http_server_create(run->collector, options, &run->http, text, sizeof(text)) != 0) {
		cli_say("%s", text);
		return false;
	}
	cli_http_url(options, http_server_port(run->http), text, sizeof(text));
	cli_say("serving %s/debug/pprof/", text);
	return true;
}

// All that can fail before the command exists. false: said why.
static bool run_prepare(struct run *run, char ***ret_environment)
{
	const struct cli_run_options *options = run->options;
	struct program program;
	char agent[PATH_MAX];
	char socket[64];
	char error[PATH_MAX + 256];

	program_inspect(options->command[0], &program);
	run->why = program_reason(&program);
	run->profiled = program.preload;
	if (run->why != NULL)
		cli_say("cannot profile '%s': %s %s", options->command[0], program.path, run->why);
	*ret_environment = launch_environment(NULL, NULL);
	if (!run->profiled)
		return true;
	if (agent_path_find(agent, sizeof(agent), error, sizeof(error)) != 0) {
		cli_say("%s", error);
		return false;
	}
	if (!cli_outputs_open(&run->outputs, options->outputs, options->noutputs, options->format))
		return false;
	for (size_t i = 0; i < run->outputs.count; i++)
		run->outputs.list[i].full_names = options->full_names;
	int result = run_start_collector(run, socket, sizeof(socket));
	if (result != 0) {
		cli_say("cannot start the collector: %s", strerror(-result));
		return false;
	}
	const struct cli_trace_options trace = {.path = options->trace,
						.title = options->command[0],
						.rate_hz = options->sampling.rate_hz,
						.flight_s = options->flight_s,
						.mib = options->trace_mib};
	if (options->trace != NULL && cli_trace_start(run->collector, &trace, &run->trace) != 0)
		return false;
	if (!run_start_http(run))
		return false;
	*ret_environment = launch_environment(agent, socket);
	if (*ret_environment == NULL)
		cli_say("out of memory");
	return *ret_environment != NULL;
}

static int run_launch_failed(const struct run *run, int error, int exec_failed)
{
	if (!exec_failed) {
		cli_say("cannot start '%s': %s", run->options->command[0], strerror(-error));
		return CLI_OWN_FAILURE;
	}
	cli_say("cannot run '%s': %s", run->options->command[0], strerror(-error));
	return error == -ENOENT ? CLI_NOT_FOUND : CLI_NOT_EXECUTABLE;
}

static double run_cpu_s(const struct rusage *usage)
{
	return (double)usage->ru_utime.tv_sec + (double)usage->ru_stime.tv_sec +
	       (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

// false: something that was to be written was not.
static bool run_write(struct run *run)
{
	struct collector_counters counters = {0};
	struct window_stats stats;
	char written[2048] = "";
	bool all = true;

	window_stop(run->window);
	collector_counters(run->collector, &counters);
	if (counters.targets_total > 0) { // else an empty profile would take the place of a good one
		struct profile *profile = window_profile(run->window);
		if (profile != NULL)
			all = cli_outputs_write(&run->outputs, profile, run->options->command[0], written,
						sizeof(written));
		else
			cli_say("out of memory while the profile was made");
		all = all && profile != NULL;
		profile_destroy(profile);
	}
	window_stats(run->window, &stats);
	const struct cli_run_end end = {.collector = run->collector,
					.options = run->options,
					.why = run->why,
					.status = run->status,
					.cpu_s = run_cpu_s(&run->usage)};
	cli_run_say_end(&end, &stats, written);
	return all;
}

static bool run_write_wall(struct run *run)
{
	struct profile *profile = cli_wall_stop(run->wall, run->options->command[0]);
	char line[768], written[2048] = "";
	bool all = true;

	if (profile != NULL)
		all = cli_outputs_write(&run->outputs, profile, run->options->command[0], written, sizeof(written));
	cli_wall_summary(run->wall, line, sizeof(line));
	cli_say("%s%s%s%s", line, profile == NULL ? ": no process with the agent in it was seen" : "",
		written[0] != '\0' ? "; wrote " : "; wrote nothing", written);
	return all;
}

static bool run_write_store(struct run *run)
{
	enum wire_bucket_kind kind = cli_sampling_store(&run->options->sampling);
	const struct cli_heap_options heap = {.command = run->options->command[0],
					      .view = run->options->view,
					      .leaks = run->options->leaks,
					      .window_s = run->options->leaks_window_s};

	if (kind != WIRE_BUCKET_HEAP)
		return cli_waits_end(run->collector, &run->outputs, kind, &heap.view, heap.command, false);
	return cli_heap_end(run->collector, &run->outputs, &heap);
}

static void run_say_served(const struct run *run)
{
	struct collector_counters counters = {0};

	collector_counters(run->collector, &counters);
	cli_say("%" PRIu64 " samples for requests over HTTP; wrote nothing (no --output)", counters.delivered);
}

static void run_finish(struct run *run)
{
	http_server_destroy(run->http);
	window_destroy(run->window);
	cli_wall_destroy(run->wall);
	cli_trace_destroy(run->trace);
	collector_destroy(run->collector);
	cli_outputs_abandon(&run->outputs);
	close(run->signal_fd);
}

static int run_exit_status(const struct run *run, bool written)
{
	int status = WIFSIGNALED(run->status) ? 128 + WTERMSIG(run->status) : WEXITSTATUS(run->status);

	return status == 0 && !written ? CLI_OWN_FAILURE : status;
}

static int cli_run(int argc, char **argv)
{
	struct cli_run_options options;
	struct run run = {.options = &options};
	char **environment = NULL;
	int exec_failed = 0;
	int status = cli_run_parse(argc, argv, &options);

	if (status >= 0)
		return status;
	run.signal_fd = launch_take_signals(&run.signals);
	if (run.signal_fd < 0) {
		cli_say("cannot take signals: %s", strerror(-run.signal_fd));
		return CLI_OWN_FAILURE;
	}
	status = CLI_OWN_FAILURE;
	if (!run_prepare(&run, &environment))
		goto out;
	run.progress = isatty(STDERR_FILENO) && run.window != NULL;
	run.start_s = clock_now_s();
	int error = launch_start(options.command, environment, &run.signals, &run.child, &exec_failed);
	if (error != 0) {
		status = run_launch_failed(&run, error, exec_failed);
		goto out;
	}
	run_wait(&run);
	if (options.wait_for_all && run.collector != NULL)
		cli_run_wait_for_survivors(run.collector, run.signal_fd);
	bool written = true;
	if (run.window != NULL)
		written = run_write(&run);
	else if (run.wall != NULL)
		written = run_write_wall(&run);
	else if (run.collector != NULL && cli_sampling_store(&options.sampling) != WIRE_BUCKET_NONE &&
		 (run.outputs.count > 0 || options.leaks))
		written = run_write_store(&run);
	else if (run.http != NULL && run.trace == NULL)
		run_say_served(&run);
	if (run.trace != NULL)
		written = cli_trace_stop(run.trace) && written;
	if (run.collector != NULL)
		cli_run_say_survivors(run.collector);
	status = run_exit_status(&run, written);
out:
	launch_environment_destroy(environment);
	run_finish(&run);
	return status;
}

const struct cli_command cli_command_run = {
	.name = "run",
	.run = cli_run,
	.summary = "start a program, profile it while it runs, write the profile at its end",
	.help = "usage: profd run [OPTION]… [--] COMMAND [ARGUMENT]…\n\n"
		"Starts COMMAND with profd's agent preloaded, samples where it and the programs it starts spend CPU "
		"time, and\n"
		"writes the profile when COMMAND ends, however it ends. COMMAND keeps its standard streams, its "
		"terminal, its\n"
		"signals and its exit status.\n\n"
		"Options:\n"
		"  -o, --output FILE      write the profile to FILE ('-': standard output); may be given several "
		"times.\n"
		"                         Without -o and --http: ./profd-COMMAND.pb.gz. FILE is replaced at the end, "
		"in\n"
		"                         one step; when that fails, an old FILE stays as it was\n"
		"      --format NAME      pprof, folded, svg, html or speedscope, for every FILE; without it the name "
		"tells:\n"
		"                         .pb.gz .folded .svg .html .speedscope.json ('-' is pprof)\n"
		"  -r, --rate HZ          samples for each second of CPU time, 1 to 10000 (default "
		"100)\n" CLI_SAMPLING_HELP CLI_DEBUG_HELP
		"      --leaks[=SECONDS]  at the end say what is still in use, by stack, "
		"that was allocated more than SECONDS\n"
		"                         before it (default: a tenth of the run); a FILE holds just that. Implies "
		"--heap\n"
		"      --full-names       flame graphs show template arguments and parameters in the boxes, too\n"
		"      --trace FILE       write what threads did on a time axis, as it "
		"happens: created, waiting for what, "
		"woken by\n"
		"                         whom, ended, and the samples between; the name tells for which viewer: "
		".perfetto-trace\n"
		"                         or .pftrace, .trace.json (Chrome, Perfetto), .speedscope.json\n"
		"      --flight[=S]       of the trace only the last S seconds (default 10): written at the end, "
		"however it "
		"comes,\n"
		"                         and when profd gets SIGUSR2, which then does not reach COMMAND\n"
		"      --trace-buffer N   MiB of shared memory for the events of each process, 32 bytes each "
		"(default 16)\n"
		"      --wait             until the processes that COMMAND left running have ended, too\n"
		"      --causal           stacks under the stacks that made their threads, or queued their work\n"
		"      --label KEY=VALUE  only samples with this label of the program's; --group KEY puts each under "
		"its\n"
		"                         label's frame; --sampled-only: only those with a trace that is recorded\n"
		"  -h, --help             this text\n\n"
		"HTTP, while COMMAND runs:\n"
		"  --http ADDR            serve HTTP on HOST:PORT; ':6060' and '6060' are 127.0.0.1:6060, '[::1]:0' "
		"takes\n"
		"                         any free port of ::1 (the one taken is printed)\n"
		"  --allow-host NAME[,…]  further names that a request's Host header may carry; loopback names, ADDR's "
		"own\n"
		"                         and the address that a connection comes in on always may\n"
		"  --max-connections N    open at once (default 64); more are answered 503\n"
		"  --max-profiles N       running at once (default 8); more are answered 503\n"
		"  --max-seconds N        the longest profile (default 3600)\n\n"
		"Exit status: COMMAND's own; 128+N when signal N killed it; 125 when profd failed (also when COMMAND\n"
		"succeeded and a FILE could not be written), 126 when COMMAND cannot be executed, 127 when it is not "
		"found.\n\n"
		"Static, setuid, setgid and 32-bit programs cannot be preloaded into: profd says so and runs them as "
		"they are.\n",
};

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_run_end.c: `profd run` when its command has ended: what it left running, the totals, and why they are nothing. Main thread.

#include "collector/cli.h"
#include "collector/collector.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SURVIVORS_POLL_MS 50
#define SURVIVORS_QUIET_POLLS 4 // in a row without one, for a child may still be joining

// Why there is not one sample, as far as can be told. buf may stay empty.
static void run_explain_nothing(const struct cli_run_end *end, char *buf, size_t size)
{
	struct collector_counters counters = {0};

	collector_counters(end->collector, &counters);
	if (counters.targets_total == 0 && counters.targets_refused > 0)
		snprintf(buf, size, ": its agent was refused (another user's process, or another version of profd)");
	else if (counters.targets_total == 0 && end->why != NULL)
		snprintf(buf, size, ": the command cannot be profiled, and it started nothing that can");
	else if (counters.targets_total == 0)
		snprintf(buf, size, ": no process loaded the agent");
	else if (collector_survivors(end->collector) > 0)
		snprintf(buf, size, ": the command ended before what it started was at work");
	else if (end->cpu_s * end->options->sampling.rate_hz < 3)
		snprintf(buf, size, ": the command used only %.3f s of CPU", end->cpu_s);
	else
		snprintf(buf, size,
			 ": the command used %.2f s of CPU where no agent was: in a static, setuid or 32-bit program, "
			 "or in "
			 "one started without LD_PRELOAD and PROFD_SOCKET in its environment",
			 end->cpu_s);
}

void cli_run_say_end(const struct cli_run_end *end, const struct window_stats *stats, const char *written)
{
	char line[768];
	char reason[256] = "";
	char ending[96] = "";

	cli_summary(stats, line, sizeof(line));
	if (stats->samples == 0)
		run_explain_nothing(end, reason, sizeof(reason));
	if (WIFSIGNALED(end->status))
		snprintf(ending, sizeof(ending), "; the command died of signal %d (%s)", WTERMSIG(end->status),
			 strsignal(WTERMSIG(end->status)));
	cli_say("%s%s%s%s%s", line, reason, ending, written[0] != '\0' ? "; wrote " : "; wrote nothing", written);
	if (cli_summary_rate(stats, end->options->sampling.rate_hz, line, sizeof(line)))
		cli_say("%s", line);
}

void cli_run_say_survivors(struct collector *collector)
{
	size_t n = collector_survivors(collector);

	if (n > 0)
		cli_say("%zu process%s of the command still run%s and %s no longer profiled; --wait waits for them", n,
			n == 1 ? "" : "es", n == 1 ? "s" : "", n == 1 ? "is" : "are");
}

static bool run_told_to_end(int signal_fd)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		int number = (int)info.ssi_signo;

		if (number == SIGCHLD)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				; // orphans that a container's first process inherits
		if (number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT)
			return true;
	}
	return false;
}

void cli_run_wait_for_survivors(struct collector *collector, int signal_fd)
{
	int quiet = 0;

	while (quiet < SURVIVORS_QUIET_POLLS && !run_told_to_end(signal_fd)) {
		struct pollfd fd = {.fd = signal_fd, .events = POLLIN};

		quiet = collector_survivors(collector) == 0 ? quiet + 1 : 0;
		poll(&fd, 1, SURVIVORS_POLL_MS);
	}
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli.h: the command line: the commands, and what they share. Everything here runs on the main thread.

#ifndef PROFD_COLLECTOR_CLI_H
#define PROFD_COLLECTOR_CLI_H

#include "collector/collector.h"
#include "collector/http.h"
#include "collector/output.h"
#include "collector/window.h"
#include "profd/wire.h"
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct thread_dump;

#define CLI_USAGE 2         // exit status for a wrong command line
#define CLI_OWN_FAILURE 125 // of `run`: profd itself failed, as env(1) and nohup(1) say it
#define CLI_NOT_EXECUTABLE 126
#define CLI_NOT_FOUND 127
#define CLI_DEFAULT_RATE_HZ 100
#define CLI_DEFAULT_OVERHEAD 50 // permille
#define CLI_MAX_OUTPUTS 16

struct cli_command {
	const char *name;
	int (*run)(int argc, char **argv); // argv[0] is "profd NAME"; returns the exit status
	const char *summary;               // one line; NULL: not listed in profd's help
	const char *help;                  // all of it
};

extern const struct cli_command cli_command_run, cli_command_serve, cli_command_dump, cli_command_leaks,
	cli_command_zombies, cli_command_check, cli_command_report, cli_command_private, cli_command_fetch_debug;

int cli_main(int argc, char **argv);

// "profd: …" and a newline on stderr.
void cli_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Quiet: cli_say prints nothing; cli_said has its last line in either case.
void cli_set_quiet(bool quiet);
const char *cli_said(void);
// From now on cli_say tells syslog(3), for there is no standard error.
void cli_use_syslog(void);

// An option's value: a number in [min, max]. false, and says so, when it is none.
bool cli_number(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *ret_number);

// What getopt_long returned is '?' or ':': says which option it was about.
void cli_bad_option(char **argv, int result);

// How to sample: options that the commands share. cli_sampling_option: as cli_http_option.
#define CLI_SAMPLING_OPTIONS                                                                                          \
	{"rate", required_argument, NULL, 'r'}, {"clock", required_argument, NULL, CLI_OPT_CLOCK},                    \
		{"heap", optional_argument, NULL, CLI_OPT_HEAP}, {"mutex", optional_argument, NULL, CLI_OPT_MUTEX},   \
		{"block", optional_argument, NULL, CLI_OPT_BLOCK}, {"block-io", no_argument, NULL, CLI_OPT_BLOCK_IO}, \
		{"heap-mmap", no_argument, NULL, CLI_OPT_HEAP_MMAP}, {"wakers", no_argument, NULL, CLI_OPT_WAKERS},   \
	{                                                                                                             \
		"max-overhead", required_argument, NULL, CLI_OPT_MAX_OVERHEAD                                         \
	}
struct cli_sampling {
	bool by_agent;     // the agent passes on what the environment says: complaints name its variables
	bool wall;         // no samples: looks at all threads (cli_wall.c)
	bool heap;         // of a whole run, the heap is what is written (cli_heap.c)
	bool mutex, block; // or one of these (cli_waits.c): see cli_sampling_store
	bool has_rate;     // was given
	uint32_t rate_hz;
	struct collector_sampling how;
};
#define CLI_SAMPLING_DEFAULT                                            \
	{                                                               \
		.rate_hz = CLI_DEFAULT_RATE_HZ,                         \
		.how = {.clock = WIRE_CLOCK_AUTO,                       \
			.max_overhead_permille = CLI_DEFAULT_OVERHEAD } \
	}
#define CLI_SAMPLING_HELP                                                                                              \
	"      --clock NAME       cpu: timers, which fire at the kernel's tick at most; perf: perf events; auto "      \
	"(default):\n"                                                                                                 \
	"                         perf above the tick's rate, where the kernel allows it; wall (run alone): looks\n"   \
	"                         at all threads, running or not, by --rate (default 20, at most 100)\n"               \
	"      --max-overhead P   lower a thread's rate when the handler takes more than P percent of its CPU time\n"  \
	"                         (default 5)\n"                                                                       \
	"      --heap[=BYTES]     profile the heap, with a sample for BYTES allocated (default 524288); what run "     \
	"writes\n"                                                                                                     \
	"                         is then the heap\n"                                                                  \
	"      --block[=NS]       profile waiting, one wait kept for NS nanoseconds waited (default 10000); what run " \
	"writes\n"                                                                                                     \
	"                         is then where threads waited\n"                                                      \
	"      --block-io         with --block: waits for files, sockets and time, too\n"                              \
	"      --heap-mmap        with --heap: memory that the program maps itself, too\n"                             \
	"      --mutex[=N]        profile locks, one contention in N kept (default 1); what run writes is then who "   \
	"kept\n"                                                                                                       \
	"                         others waiting for locks\n"                                                          \
	"      --wakers           link threads that are woken to who woke them, for --causal\n"
int cli_sampling_option(struct cli_sampling *sampling, int option, const char *value);
// What of the targets' stores is written of a whole run, as an enum wire_bucket_kind; NONE: the profile is of time.
enum wire_bucket_kind cli_sampling_store(const struct cli_sampling *sampling);
// After the last option: what goes together. may_wall: the command knows --clock wall. false: said why not.
bool cli_sampling_finish(struct cli_sampling *sampling, bool may_wall);

// The options of the HTTP server that several commands have. cli_http_option: 1 taken, 0 not one of these, −1 bad value (said).
#define CLI_HTTP_OPTIONS                                                                                              \
	{"http", required_argument, NULL, CLI_OPT_HTTP}, {"allow-host", required_argument, NULL, CLI_OPT_ALLOW_HOST}, \
		{"max-connections", required_argument, NULL, CLI_OPT_MAX_CONNECTIONS},                                \
		{"max-profiles", required_argument, NULL, CLI_OPT_MAX_PROFILES},                                      \
	{                                                                                                             \
		"max-seconds", required_argument, NULL, CLI_OPT_MAX_SECONDS                                           \
	}
enum cli_option {
	CLI_OPT_HTTP = 256,
	CLI_OPT_ALLOW_HOST,
	CLI_OPT_MAX_CONNECTIONS,
	CLI_OPT_MAX_PROFILES,
	CLI_OPT_MAX_SECONDS,
	CLI_OPT_CLOCK,
	CLI_OPT_MAX_OVERHEAD,
	CLI_OPT_DEBUG_DIR,
	CLI_OPT_DEBUGINFOD,
	CLI_OPT_HEAP,
	CLI_OPT_MUTEX,
	CLI_OPT_BLOCK,
	CLI_OPT_BLOCK_IO,
	CLI_OPT_HEAP_MMAP,
	CLI_OPT_WAKERS,
	CLI_OPT_FIRST_OWN, // each command's own come after
};
struct cli_http {
	struct http_options options; // address NULL: no server
	char allowed_hosts[1024];
};
int cli_http_option(struct cli_http *http, int option, const char *value);
extern const char cli_http_help[];
// "http://127.0.0.1:6060"
void cli_http_url(const struct http_options *options, uint16_t port, char *buf, size_t size);

// ---- cli_debug.c: where debug info comes from --------------------------------------------------------------------------

#define CLI_DEBUG_OPTIONS                                                 \
	{"debug-dir", required_argument, NULL, CLI_OPT_DEBUG_DIR},        \
	{                                                                 \
		"debuginfod", optional_argument, NULL, CLI_OPT_DEBUGINFOD \
	}
#define CLI_DEBUG_HELP                                                                                               \
	"      --debug-dir DIR    looks for separate debug info below DIR, built as /usr/lib/debug is, before "      \
	"there;\n"                                                                                                   \
	"                         may be given several times ($PROFD_DEBUG_DIR: DIR:DIR…)\n"                       \
	"      --debuginfod[=URLS]\n"                                                                                \
	"                         asks debuginfod servers for what is not here, without waiting for them; without\n" \
	"                         the option: those of $DEBUGINFOD_URLS, if it is set; '--debuginfod=': nobody\n"
struct cli_debug {
	char dirs[4096]; // colon-separated
	bool has_urls;   // was given
	const char *urls;
};
int cli_debug_option(struct cli_debug *debug, int option, const char *value); // as cli_http_option
// With what the environment says. debug must stay.
struct module_debug cli_debug_finish(struct cli_debug *debug);

// A target costs descriptors: takes as many as the hard limit allows. Not in `run`, whose command would inherit it.
void cli_raise_descriptor_limit(void);

// The files that a command writes at its end.
struct cli_outputs {
	size_t count;
	struct output list[CLI_MAX_OUTPUTS];
};
// The format by name, else by path's extension. NULL, and says so, when there is none.
const struct format *cli_output_format(const char *path, const char *format_name);
// false: said why; all are closed.
bool cli_outputs_open(struct cli_outputs *outputs, char *const *paths, size_t count, const char *format_name);
// Writes all that can be written, says which could not; names gets those written, joined by ", ". false: one or more failed.
bool cli_outputs_write(struct cli_outputs *outputs, const struct profile *profile, const char *title, char *names,
		       size_t size);
void cli_outputs_abandon(struct cli_outputs *outputs);

// ---- cli_summary.c: the lines at the end ------------------------------------------------------------------------------

// "1234 samples, 12.3 s of CPU, 4 threads, …" without the files.
void cli_summary(const struct window_stats *stats, char *buf, size_t size);
// A line about the rate when clearly less than asked was reached, and why; false: there is nothing to say.
bool cli_summary_rate(const struct window_stats *stats, uint32_t rate_hz, char *buf, size_t size);
// "12 s, 1234 samples, 3 threads": the progress line.
void cli_summary_progress(const struct window_stats *stats, int64_t elapsed_s, char *buf, size_t size);

// ---- cli_snapshot.c --------------------------------------------------------------------------------------------------

// All threads of a process, now, or after window_s seconds, with who did not run meanwhile; says why not. 0 or −errno; the caller destroys
// the dump.
int cli_snapshot(pid_t pid, uint32_t window_s, const struct module_debug *debug, struct thread_dump **ret_dump);
// As cli_snapshot, for zombies.h.
int cli_snapshot_strictly(pid_t pid, uint32_t window_s, const struct module_debug *debug,
			  struct thread_dump **ret_dump);
// Looks at all threads of a process for some seconds: the dump's profile is a wall-clock profile. The same otherwise.
int cli_snapshot_wall(pid_t pid, uint32_t seconds, const struct module_debug *debug, struct thread_dump **ret_dump);

// ---- cli_wall.c ------------------------------------------------------------------------------------------------------

struct cli_wall;
struct profile;
// A wall-clock profile of all targets, from now on. 0 or −errno.
int cli_wall_start(struct collector *collector, uint32_t rate_hz, const struct profile_view *view,
		   struct cli_wall **ret_recorder);
// Ends it; once. The profile is the recorder's; NULL: nothing was seen, or no memory.
struct profile *cli_wall_stop(struct cli_wall *recorder, const char *command);
// "120 looks in 6.00 s, …"; after cli_wall_stop.
void cli_wall_summary(const struct cli_wall *recorder, char *buf, size_t size);
void cli_wall_destroy(struct cli_wall *recorder); // accepts NULL; before the collector

// ---- cli_trace.c -----------------------------------------------------------------------------------------------------

struct cli_trace;
struct cli_trace_options {
	const char *path;  // its name tells the format
	const char *title; // of the trace
	uint32_t rate_hz;  // of samples
	uint32_t flight_s; // only the last so many seconds, at the end or when told to; 0: all, as it happens
	uint32_t mib;      // of each target's ring; 0: the usual
};
// Traces all targets from now on. 0 or −errno, and said why. The strings must outlive it.
int cli_trace_start(struct collector *collector, const struct cli_trace_options *options,
		    struct cli_trace **ret_recorder);
// Ends it, writes the rest, and says what was written; once. false: said why not.
bool cli_trace_stop(struct cli_trace *recorder);
// A flight recorder's file, now; it goes on recording.
void cli_trace_dump(struct cli_trace *recorder);
void cli_trace_destroy(struct cli_trace *recorder); // accepts NULL; before the collector

// ---- cli_run.c -----------------------------------------------------------------------------------------------------

struct cli_run_options {
	struct cli_sampling sampling;
	struct cli_debug debug;
	char *outputs[CLI_MAX_OUTPUTS];
	size_t noutputs;
	const char *format; // NULL: by extension
	bool full_names;    // in flame graphs
	struct cli_http http;
	const char *trace; // NULL: none
	uint32_t flight_s; // 0: the whole run
	uint32_t trace_mib;
	bool wait_for_all; // what the command leaves running, too
	struct profile_view view;
	bool leaks;
	double leaks_window_s; // <0: not given
	char **command;        // NULL-terminated
	char default_output[300];
};
// −1: go on; else the exit status (help was printed, or a complaint).
int cli_run_parse(int argc, char **argv, struct cli_run_options *ret_options);

// ---- cli_run_end.c: a command that has ended -------------------------------------------------------------------------

struct cli_run_end {
	struct collector *collector;
	const struct cli_run_options *options;
	const char *why; // the command itself could not be profiled; NULL: it could
	int status;      // of waitpid
	double cpu_s;    // that it and the children it waited for used
};
// Says the totals. written: the files' names.
void cli_run_say_end(const struct cli_run_end *end, const struct window_stats *stats, const char *written);
// Says how many processes of the command still run, if any do.
void cli_run_say_survivors(struct collector *collector);
// Waits until none does, or for a signal to end.
void cli_run_wait_for_survivors(struct collector *collector, int signal_fd);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_serve.c: `profd serve`: the host's daemon. Agents join by its socket, people come by HTTP. Runs on the main thread, which
// only waits to be told to end.

#include "collector/cli.h"
#include "collector/collector.h"
#include "profd/wire.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVE_HTTP "127.0.0.1:6060"
#define SERVE_ROOT_SOCKET "/run/profd.sock"

enum serve_option { SERVE_SOCKET = CLI_OPT_FIRST_OWN, SERVE_ANY_USER };

static const struct option serve_long_options[] = {
	{"socket", required_argument, NULL, SERVE_SOCKET},
	{"allow-any-user", no_argument, NULL, SERVE_ANY_USER},
	{"help", no_argument, NULL, 'h'},
	CLI_SAMPLING_OPTIONS,
	CLI_DEBUG_OPTIONS,
	CLI_HTTP_OPTIONS,
	{0},
};

struct serve {
	struct cli_http http;
	struct cli_sampling sampling;
	struct cli_debug debug;
	struct collector_options collector;
	char socket[256];
};

static bool serve_take_option(struct serve *serve, int option, char **argv)
{
	if (option == SERVE_SOCKET) {
		serve->collector.socket = optarg;
		return true;
	}
	if (option == SERVE_ANY_USER) {
		serve->collector.any_uid = true;
		return true;
	}
	int taken = cli_sampling_option(&serve->sampling, option, optarg);
	if (taken == 0)
		taken = cli_debug_option(&serve->debug, option, optarg);
	if (taken == 0)
		taken = cli_http_option(&serve->http, option, optarg);
	if (taken == 0)
		cli_bad_option(argv, option);
	return taken > 0;
}

static bool serve_default_socket(struct serve *serve)
{
	const char *directory = getenv("XDG_RUNTIME_DIR");

	if (serve->collector.socket != NULL)
		return true;
	serve->collector.socket = serve->socket;
	if (geteuid() == 0) {
		snprintf(serve->socket, sizeof(serve->socket), "%s", SERVE_ROOT_SOCKET);
		return true;
	}
	if (directory == NULL || directory[0] != '/') {
		cli_say("XDG_RUNTIME_DIR is not set; name the agents' socket with --socket PATH");
		return false;
	}
	int needed = snprintf(serve->socket, sizeof(serve->socket), "%s/profd.sock", directory);
	if ((size_t)needed < sizeof(serve->socket))
		return true;
	cli_say("XDG_RUNTIME_DIR is too long; name the agents' socket with --socket PATH");
	return false;
}

// −1: go on; else the exit status.
static int serve_parse(int argc, char **argv, struct serve *serve)
{
	int option;

	serve->http.options.address = SERVE_HTTP;
	serve->http.options.has_index = 1;
	while ((option = getopt_long(argc, argv, "+:r:h", serve_long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(cli_command_serve.help, stdout);
			return 0;
		}
		if (!serve_take_option(serve, option, argv))
			return CLI_USAGE;
	}
	if (optind < argc) {
		cli_say("serve takes no argument '%s'", argv[optind]);
		return CLI_USAGE;
	}
	if (!cli_sampling_finish(&serve->sampling, false))
		return CLI_USAGE;
	if (serve->collector.any_uid && geteuid() != 0) {
		cli_say("--allow-any-user is for root's daemon: another user's cannot read other users' programs");
		return CLI_USAGE;
	}
	serve->http.options.default_rate_hz = serve->sampling.rate_hz;
	serve->collector.sampling = serve->sampling.how;
	serve->collector.cache_tables = true;
	serve->collector.debug = cli_debug_finish(&serve->debug);
	return serve_default_socket(serve) ? -1 : CLI_USAGE;
}

static void serve_until_told(const sigset_t *ends, const char *url, const char *socket)
{
	int number = 0;

	cli_say("serving %s/, agents join at %s", url, socket);
	while (sigwait(ends, &number) != 0)
		;
	cli_say("ending: %s", strsignal(number));
}

static int cli_serve(int argc, char **argv)
{
	struct serve serve = {.sampling = CLI_SAMPLING_DEFAULT};
	struct collector *collector = NULL;
	struct http_server *http = NULL;
	sigset_t ends;
	char text[512];
	int status = serve_parse(argc, argv, &serve);

	if (status >= 0)
		return status;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL); // before any thread is made
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	cli_raise_descriptor_limit();
	int error = collector_create(&serve.collector, &collector);
	if (error != 0) {
		cli_say("cannot listen on %s: %s%s", serve.collector.socket, strerror(-error),
			error == -EADDRINUSE ? " (another profd serves there)" : "");
		return 1;
	}
	status = 1;
	if (http_server_create(collector, &serve.http.options, &http, text, sizeof(text)) != 0) {
		cli_say("%s", text);
	} else {
		cli_http_url(&serve.http.options, http_server_port(http), text, sizeof(text));
		serve_until_told(&ends, text, serve.collector.socket);
		status = 0;
	}
	http_server_destroy(http);
	collector_destroy(collector);
	return status;
}

const struct cli_command cli_command_serve = {
	.name = "serve",
	.run = cli_serve,
	.summary = "the host's daemon: programs with the agent join it, people ask it over HTTP",
	.help = "usage: profd serve [OPTION]…\n\n"
		"Waits for programs that run with LD_PRELOAD=libprofd.so. '/' lists them, /PID/debug/pprof/ is each "
		"one's page,\n"
		"/debug/pprof/ is the only one's, or that of the process that started all the others. Samples are "
		"taken only\n"
		"while somebody asks for a profile. Ends at SIGTERM and SIGINT.\n\n"
		"Options:\n"
		"      --socket PATH      where agents join (default: /run/profd.sock for root, else\n"
		"                         $XDG_RUNTIME_DIR/profd.sock); '@NAME' is an abstract socket\n"
		"      --allow-any-user   accept other users' programs too; root's daemon only\n"
		"  -r, --rate HZ          rate of a profile that asks for none, 1 to 10000 (default "
		"100)\n" CLI_SAMPLING_HELP CLI_DEBUG_HELP "  -h, --help             this text\n\n"
		"HTTP:\n"
		"  --http ADDR            serve HTTP on HOST:PORT (default 127.0.0.1:6060); ':6060' and '6060' are\n"
		"                         127.0.0.1:6060, '[::1]:0' takes any free port of ::1 (the one taken is "
		"printed)\n"
		"  --allow-host NAME[,…]  further names that a request's Host header may carry; loopback names, ADDR's "
		"own\n"
		"                         and the address that a connection comes in on always may\n"
		"  --max-connections N    open at once (default 64); more are answered 503\n"
		"  --max-profiles N       running at once (default 8); more are answered 503\n"
		"  --max-seconds N        the longest profile (default 3600)\n",
};

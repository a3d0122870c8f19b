// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_run_options.c: the command line of `profd run`. Main thread.

#include "collector/cli.h"
#include "formats/writer.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_FLIGHT_S 10
#define RUN_MAX_FLIGHT_S 86400

enum run_option {
	RUN_WAIT = CLI_OPT_FIRST_OWN,
	RUN_FULL_NAMES,
	RUN_LEAKS,
	RUN_TRACE,
	RUN_FLIGHT,
	RUN_TRACE_BUFFER,
	RUN_CAUSAL,
	RUN_LABEL,
	RUN_GROUP,
	RUN_SAMPLED_ONLY
};

static const struct option run_long_options[] = {
	{"wait", no_argument, NULL, RUN_WAIT},
	{"trace", required_argument, NULL, RUN_TRACE},
	{"flight", optional_argument, NULL, RUN_FLIGHT},
	{"trace-buffer", required_argument, NULL, RUN_TRACE_BUFFER},
	{"full-names", no_argument, NULL, RUN_FULL_NAMES},
	{"leaks", optional_argument, NULL, RUN_LEAKS},
	{"causal", no_argument, NULL, RUN_CAUSAL},
	{"label", required_argument, NULL, RUN_LABEL},
	{"group", required_argument, NULL, RUN_GROUP},
	{"sampled-only", no_argument, NULL, RUN_SAMPLED_ONLY},
	{"output", required_argument, NULL, 'o'},
	{"format", required_argument, NULL, 'f'},
	{"help", no_argument, NULL, 'h'},
	CLI_SAMPLING_OPTIONS,
	CLI_DEBUG_OPTIONS,
	CLI_HTTP_OPTIONS,
	{0},
};

// ---- The command line ----------------------------------------------------------------------------------------------

static bool run_add_output(struct cli_run_options *options, char *path)
{
	if (options->noutputs == CLI_MAX_OUTPUTS) {
		cli_say("more than %d outputs", CLI_MAX_OUTPUTS);
		return false;
	}
	if (path[0] == '\0') {
		cli_say("-o: the name is empty");
		return false;
	}
	options->outputs[options->noutputs++] = path;
	return true;
}

static bool run_take_view(struct profile_view *view, int option, const char *value)
{
	struct label_choice *labels = &view->labels;

	view->causal |= option == RUN_CAUSAL;
	labels->sampled_only |= option == RUN_SAMPLED_ONLY;
	if (option == RUN_LABEL && !label_choice_parse(value, labels)) {
		cli_say("--label '%s': not KEY=VALUE", value);
		return false;
	}
	if (option == RUN_GROUP && (value[0] == '\0' || strlen(value) >= sizeof(labels->group))) {
		cli_say("--group '%s': not the key of a label", value);
		return false;
	}
	if (option == RUN_GROUP)
		memcpy(labels->group, value, strlen(value) + 1);
	return true;
}

// Implies --heap, at its default rate if none is given.
static bool run_take_leaks(struct cli_run_options *options, const char *window)
{
	char *end = NULL;

	options->leaks = true;
	options->leaks_window_s = -1;
	if (window == NULL)
		return true;
	options->leaks_window_s = window[0] >= '0' && window[0] <= '9' ? strtod(window, &end) : -1;
	if (end != NULL && *end == '\0' && options->leaks_window_s < 1e9)
		return true;
	cli_say("--leaks '%s': not a number of seconds", window);
	return false;
}

static bool run_take_option(struct cli_run_options *options, int option, char **argv)
{
	switch (option) {
	case RUN_WAIT:
		options->wait_for_all = true;
		return true;
	case RUN_TRACE:
		options->trace = optarg;
		return true;
	case RUN_FLIGHT:
		options->flight_s = RUN_FLIGHT_S;
		return optarg == NULL || cli_number("--flight", optarg, 1, RUN_MAX_FLIGHT_S, &options->flight_s);
	case RUN_TRACE_BUFFER:
		return cli_number("--trace-buffer", optarg, 1, WIRE_EVENTS_MAX_MIB, &options->trace_mib);
	case RUN_CAUSAL:
	case RUN_LABEL:
	case RUN_GROUP:
	case RUN_SAMPLED_ONLY:
		return run_take_view(&options->view, option, optarg);
	case RUN_FULL_NAMES:
		options->full_names = true;
		return true;
	case RUN_LEAKS:
		return run_take_leaks(options, optarg);
	case 'o':
		return run_add_output(options, optarg);
	case 'f':
		options->format = optarg;
		if (format_by_name(optarg) != NULL)
			return true;
		cli_say("unknown format '%s'; there are: %s", optarg, format_names());
		return false;
	default:
		break;
	}
	int taken = cli_sampling_option(&options->sampling, option, optarg);
	if (taken == 0)
		taken = cli_debug_option(&options->debug, option, optarg);
	if (taken == 0)
		taken = cli_http_option(&options->http, option, optarg);
	if (taken == 0)
		cli_bad_option(argv, option);
	return taken > 0;
}

// Where the profile goes when neither a file nor HTTP was asked for.
static void run_default_output(struct cli_run_options *options)
{
	const char *slash = strrchr(options->command[0], '/');
	const char *base = slash != NULL ? slash + 1 : options->command[0];
	const struct format *format = options->format != NULL ? format_by_name(options->format) : &format_pprof;

	if (options->noutputs > 0 || options->leaks || options->http.options.address != NULL || options->trace != NULL)
		return;
	snprintf(options->default_output, sizeof(options->default_output), "profd-%.200s%s", base, format->extension);
	options->outputs[options->noutputs++] = options->default_output;
}

int cli_run_parse(int argc, char **argv, struct cli_run_options *ret_options)
{
	int option;

	*ret_options = (struct cli_run_options){.sampling = CLI_SAMPLING_DEFAULT};
	while ((option = getopt_long(argc, argv, "+:r:o:h", run_long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(cli_command_run.help, stdout);
			return 0;
		}
		if (!run_take_option(ret_options, option, argv))
			return CLI_OWN_FAILURE;
	}
	if (optind >= argc || argv[optind][0] == '\0') {
		cli_say("no command to run; usage: profd run [OPTION]… [--] COMMAND…");
		return CLI_OWN_FAILURE;
	}
	if (ret_options->flight_s > 0 && ret_options->trace == NULL) {
		cli_say("--flight needs --trace FILE");
		return CLI_OWN_FAILURE;
	}
	if (ret_options->trace_mib > 0 && ret_options->trace == NULL) {
		cli_say("--trace-buffer needs --trace FILE");
		return CLI_OWN_FAILURE;
	}
	ret_options->command = argv + optind;
	ret_options->http.options.default_rate_hz = ret_options->sampling.rate_hz;
	if (ret_options->leaks && !ret_options->sampling.heap)
		cli_sampling_option(&ret_options->sampling, CLI_OPT_HEAP, NULL);
	if (!cli_sampling_finish(&ret_options->sampling, true))
		return CLI_OWN_FAILURE;
	run_default_output(ret_options);
	return -1;
}

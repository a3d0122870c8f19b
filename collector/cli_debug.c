// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_debug.c: --debug-dir, --debuginfod and what the environment says in their place; and the process that downloads (debuginfod_helper.h).

#include "collector/cli.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/debuginfod_helper.h"

#define USUAL_SERVER "https://debuginfod.elfutils.org/" // it asks those of the distributions

static bool append(struct cli_debug *debug, const char *directory)
{
	size_t used = strlen(debug->dirs), left = sizeof(debug->dirs) - used;
	int needed = snprintf(debug->dirs + used, left, "%s%s", used > 0 ? ":" : "", directory);

	if (needed >= 0 && (size_t)needed < left)
		return true;
	debug->dirs[used] = '\0';
	return false;
}

// Absolute: a collector may change its directory.
static int add_directory(struct cli_debug *debug, const char *value)
{
	char *real = realpath(value, NULL);
	struct stat st;
	bool fine = real && stat(real, &st) == 0 && S_ISDIR(st.st_mode);

	if (!fine)
		cli_say("--debug-dir '%s': there is no such directory", value);
	else if (strchr(real, ':') || !append(debug, real))
		cli_say("--debug-dir '%s': too long, or with a colon in it", value), fine = false;
	free(real);
	return fine ? 1 : -1;
}

int cli_debug_option(struct cli_debug *debug, int option, const char *value)
{
	const char *servers = getenv("DEBUGINFOD_URLS");

	switch (option) {
	case CLI_OPT_DEBUG_DIR:
		return add_directory(debug, value);
	case CLI_OPT_DEBUGINFOD:
		debug->has_urls = true;
		debug->urls = value ? value : servers && servers[0] ? servers : USUAL_SERVER;
		return 1;
	default:
		return 0;
	}
}

// What is not there is no mistake: one environment is for many programs.
static void add_environment(struct cli_debug *debug)
{
	const char *at = getenv("PROFD_DEBUG_DIR");
	char part[PATH_MAX];

	while (at && *at) {
		size_t length = strcspn(at, ":");
		char *real = NULL;

		if (length > 0 && length < sizeof(part)) {
			snprintf(part, sizeof(part), "%.*s", (int)length, at);
			real = realpath(part, NULL);
		}
		if (real && !strchr(real, ':'))
			(void)append(debug, real);
		free(real);
		at += length + (at[length] == ':');
	}
}

struct module_debug cli_debug_finish(struct cli_debug *debug)
{
	add_environment(debug);
	return (struct module_debug){.dirs = debug->dirs,
				     .debuginfod_urls = debug->has_urls ? debug->urls : getenv("DEBUGINFOD_URLS")};
}

const struct cli_command cli_command_fetch_debug = {
	.name = "fetch-debug",
	.run = debuginfod_helper_main,
	.help = "usage: profd fetch-debug BUILD-ID…\n\n"
		"Internal: what the collector starts to ask debuginfod servers ($DEBUGINFOD_URLS).\n",
};

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debuginfod_helper.h: `profd fetch-debug BUILD-ID…`: the process that speaks to debuginfod servers through libdebuginfod, which is loaded there
// alone. It is killed when it takes too long, and cannot write a larger file than it may, whatever the server does. It ends by itself
// when it is left alone.
//
// Limits are debuginfod's own variables: DEBUGINFOD_TIMEOUT (seconds in which 100 KB must come; 20), DEBUGINFOD_MAXTIME (seconds for
// one file; 300), DEBUGINFOD_MAXSIZE (bytes; 1 GiB).

#ifndef PROFD_COLLECTOR_DEBUGINFOD_HELPER_H
#define PROFD_COLLECTOR_DEBUGINFOD_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "collector/debuginfod.h"

enum debuginfod_result_kind {
	DEBUGINFOD_RESULT_HERE,
	DEBUGINFOD_RESULT_NONE,  // no server has it
	DEBUGINFOD_RESULT_UNFIT, // it is too large, or no debug info
	DEBUGINFOD_RESULT_NO_ANSWER,
};

struct debuginfod_result {
	enum debuginfod_result_kind kind;
	char reason[DEBUGINFOD_REASON];
};

// One that runs.
struct debuginfod_helper {
	pid_t pid;
	int fd; // what it says
};

// 0 or −errno.
int debuginfod_helper_start(const char *program, const char *urls, const char *const *build_ids, size_t count,
			    struct debuginfod_helper *ret_helper);
// What became of the (one) file. False: stop_fd became readable first.
bool debuginfod_helper_wait(const struct debuginfod_helper *helper, int stop_fd, struct debuginfod_result *ret_result);
// kill: ends it, if it has not ended. Else it is left to end by itself.
void debuginfod_helper_end(struct debuginfod_helper *helper, bool kill);

// The process itself, in its main(). The exit status.
int debuginfod_helper_main(int argc, char **argv);

#endif

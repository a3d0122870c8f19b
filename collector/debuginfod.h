// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debuginfod.h: asks debuginfod servers for debug info that is nowhere on this machine. Whoever wants it never waits: a thread has a process of
// its own (debuginfod_helper.h) download it, one build ID after the other; what has come is found in debuginfod_directory() next time.
//
// A server that does not answer, or not as it should, is left alone for a minute; what no server has, or is too large, for longer. Any
// thread.

#ifndef PROFD_COLLECTOR_DEBUGINFOD_H
#define PROFD_COLLECTOR_DEBUGINFOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct debuginfod;

struct debuginfod_options {
	const char *urls;   // separated by spaces, as $DEBUGINFOD_URLS
	const char *helper; // a program that knows `fetch-debug`; NULL: this one
	bool leave_running; // at the end: a command that is done does not wait, and what it wanted is there next time
};

enum debuginfod_state {
	DEBUGINFOD_WANTED, // asked for, or about to be
	DEBUGINFOD_HERE,   // downloaded; whether it is any good shows when it is opened
	DEBUGINFOD_NONE,   // no server has it
	DEBUGINFOD_FAILED,
};

#define DEBUGINFOD_REASON 160

struct debuginfod_counters {
	uint64_t asked, downloaded, not_there, failed;
};

// NULL: no memory, or no thread.
struct debuginfod *debuginfod_create(const struct debuginfod_options *options);
void debuginfod_destroy(struct debuginfod *debuginfod); // accepts NULL

// How it stands with the debug info of this build ID, which is asked for if it is time to. reason: of DEBUGINFOD_FAILED; else "".
enum debuginfod_state debuginfod_want(struct debuginfod *debuginfod, const char *build_id,
				      char reason[DEBUGINFOD_REASON]);
void debuginfod_counters(struct debuginfod *debuginfod, struct debuginfod_counters *ret_counters);

// Where debuginfod's clients keep what they download: $DEBUGINFOD_CACHE_PATH, $XDG_CACHE_HOME/debuginfod_client,
// $HOME/.cache/debuginfod_client. NULL: nowhere; else buf.
const char *debuginfod_directory(char *buf, size_t size);

#endif

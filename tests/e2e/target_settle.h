// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_settle.h: until threads are where they wait, for a program that says that it is ready. A counter that they raise before they wait says
// less: on a busy machine one may lose its CPU just behind it, or wait for a lock of another that did.

#ifndef PROFD_TESTS_E2E_TARGET_SETTLE_H
#define PROFD_TESTS_E2E_TARGET_SETTLE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_MAX_S 60 // then the test will see what is wrong

// How often a thread, of whatever process, has been switched; −1: it does not sleep.
static inline long settle_switches(long tid)
{
	char path[64], line[256];
	bool sleeps = false;
	long switches = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/status", tid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "State:\tS", 8) == 0)
			sleeps = true;
		if (strstr(line, "voluntary_ctxt_switches:"))
			switches += strtol(strchr(line, ':') + 1, NULL, 10);
	}
	if (file)
		(void)fclose(file);
	return sleeps ? switches : -1;
}

// All of them sleep, and none has run since an earlier look at it: so there was a moment at which all slept, and nobody was left to wake another.
// An id that is still 0 is nobody's.
static inline void target_settle(const long *tids, size_t count)
{
	long *before = calloc(count, sizeof(*before)); // who sleeps has been switched
	time_t end = time(NULL) + SETTLE_MAX_S;
	bool moved = true;

	while (before && moved && time(NULL) < end) {
		moved = false;
		for (size_t i = 0; i < count; i++) {
			long now = settle_switches(__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE));

			moved |= now < 0 || now != before[i];
			before[i] = now;
			if (now < 0)
				break;
		}
		if (moved)
			usleep(1000);
	}
	free(before);
}

#endif

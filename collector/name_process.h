// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_process.h: a worker's own process, and what it and profd say to each other: a memfd with the request, and messages on a socket.

#ifndef PROFD_COLLECTOR_NAME_PROCESS_H
#define PROFD_COLLECTOR_NAME_PROCESS_H

#include <limits.h>
#include <stdint.h>

enum name_source { NAME_SOURCE_FILE, NAME_SOURCE_DEBUG, NAME_SOURCE_ALT, NAME_SOURCE_PACKAGE, NAME_SOURCES };

// At the start of the request's memfd; count addresses follow.
struct name_order {
	uint32_t sources; // bits of enum name_source: which descriptors come, in this order
	uint8_t each_unit, symbols_alone, padding[2];
	uint64_t identity[2];
	uint64_t count;
};

enum name_message_kind { NAME_MESSAGE_SPLIT, NAME_MESSAGE_RESULT };

// From the worker. A NAME_MESSAGE_SPLIT is answered by one byte, with a descriptor or without.
struct name_message {
	uint32_t kind;
	int32_t error;
	char dir[PATH_MAX], name[PATH_MAX]; // of a .dwo file; with their NULs
};

// In the child after the fork. All descriptors but these are closed.
_Noreturn void name_process_run(int socket, int output, int request, const int *files, int nfiles);

#endif

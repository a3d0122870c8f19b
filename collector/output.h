// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// output.h: a file to be written whole or not at all. It is opened before the work starts, so that what cannot be written fails
// early; the bytes go to a file without a name in the same directory, which takes the old one's place at the very end. A full
// disk or a crash leaves the old file as it was. The new one has the old one's mode and owner, and a symbolic link stays one. What is no regular file (a pipe, /dev/stdout) is written directly.

#ifndef PROFD_COLLECTOR_OUTPUT_H
#define PROFD_COLLECTOR_OUTPUT_H

#include "formats/writer.h"
#include <stdbool.h>
#include <stddef.h>

#define OUTPUT_TEMPORARY_SIZE 48

struct output {
	const struct format *format;
	bool full_names; // in flame graphs; set after it is opened
	char *path;      // as asked for, for messages
	char *name;      // the final name in directory_fd; NULL: fd is written directly
	int fd;          // −1: closed
	int directory_fd;
	char temporary[OUTPUT_TEMPORARY_SIZE]; // the name that fd has now; "": none
};

// path "-" is stdout; format: NULL for who writes himself. 0 or −errno, with one line in error; output is then closed, and output_abandon harmless.
int output_open(struct output *output, const char *path, const struct format *format, char *error, size_t error_size);
// Writes the profile and puts it in place. 0 or −errno with one line in error. Closes the output in either case.
int output_write(struct output *output, const struct profile *profile, const char *title, char *error,
		 size_t error_size);
// The same for who wrote to output->fd himself. result: 0 or −errno of that.
int output_end(struct output *output, int result, char *error, size_t error_size);
// Closes the output and leaves nothing behind. Accepts a closed one.
void output_abandon(struct output *output);

#endif

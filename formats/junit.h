// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// junit.h: test results as JUnit XML, the form that CI systems read. Knows nothing of what is tested.
//
// One suite a file: junit_begin, junit_case for each case, junit_end. Texts may hold any bytes: what XML cannot hold becomes U+FFFD
// (writer_xml). Errors stick in the writer.

#ifndef PROFD_FORMATS_JUNIT_H
#define PROFD_FORMATS_JUNIT_H

#include <stdint.h>

struct writer;

struct junit_case {
	const char *class_name, *name; // together they should be unique, and the same in every run
	const char *failure;           // one line; NULL: the case passed
	const char *text;              // details of the failure, any number of lines; NULL: none
};

// The numbers stand before the cases: the caller counts first.
void junit_begin(struct writer *writer, const char *suite, uint32_t ncases, uint32_t nfailures);
void junit_case(struct writer *writer, const struct junit_case *one);
// Flushes; 0 or the writer's −errno.
int junit_end(struct writer *writer);

#endif

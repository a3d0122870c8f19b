// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_label.h: which thread a sample is of, by its labels process_id, thread_id and thread_name (numbers or text).

#ifndef PROFD_FORMATS_THREAD_LABEL_H
#define PROFD_FORMATS_THREAD_LABEL_H

#include <stdbool.h>
#include <stddef.h>

struct profile_label;
struct profile_sample;

// Each NULL when the sample has no such label. The labels are the sample's.
struct thread_label {
	const struct profile_label *process, *id, *name;
};

struct thread_label thread_label_of(const struct profile_sample *sample);
// No label at all?
bool thread_label_is_empty(const struct thread_label *thread);
// Which order two threads have: by process, thread, name; 0: the same.
int thread_label_compare(const struct thread_label *a, const struct thread_label *b);

// The name alone, "[thread 12]" for one without, "[no thread]". Always NUL-terminated; returns buf.
char *thread_label_name(const struct thread_label *thread, char *buf, size_t size);
// All that is known, for a list of threads: "worker (12)", "worker (7:12)" when the process is known. Likewise.
char *thread_label_title(const struct thread_label *thread, char *buf, size_t size);

#endif

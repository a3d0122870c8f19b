// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jvm_options.h: what a Java VM was told about its frame pointers. What HotSpot's compilers make pushes FP and then uses it for something
// else, unless -XX:+PreserveFramePointer is given: a walk by frame pointers passes over such functions' callers, and nothing tells.

#ifndef PROFD_COLLECTOR_JVM_OPTIONS_H
#define PROFD_COLLECTOR_JVM_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

struct mapping_set;

bool jvm_is_in(const struct mapping_set *mappings);
// By the arguments and the environment that the process began with; files of options are not read. Any thread.
bool jvm_keeps_frame_pointers(pid_t pid);

#endif

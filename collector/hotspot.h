// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// hotspot.h: where the frames of HotSpot's code are. What its compilers make pushes FP, but does not set it: with frame pointers alone, such a
// function's callers are skipped, and nothing tells. HotSpot itself knows how large each piece of code's frame is, and exports for
// debuggers (gHotSpotVMStructs) where that is written. Read from the process's memory, of which nothing is trusted.

#ifndef PROFD_COLLECTOR_HOTSPOT_H
#define PROFD_COLLECTOR_HOTSPOT_H

#include <stdint.h>
#include <sys/types.h>

#include "collector/outside.h"

struct hotspot;

// libjvm_bias: of libjvm.so's mapping. NULL: no HotSpot that we know, or not begun yet.
struct hotspot *hotspot_open(pid_t pid, uint64_t libjvm_bias);
void hotspot_close(struct hotspot *hotspot); // accepts NULL
// Any thread.
void hotspot_find_frame(const struct hotspot *hotspot, uint64_t pc, struct profd_runtime_frame *ret_frame);

#endif

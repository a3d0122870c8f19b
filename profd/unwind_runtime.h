// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_runtime.h: what a language's runtime knows of the frames of code that it made. Walks from outside alone (PROFD_UNWIND_OUTSIDE):
// whoever builds the walker so says what its frames are.

#ifndef PROFD_UNWIND_RUNTIME_H
#define PROFD_UNWIND_RUNTIME_H

#include <stdint.h>

enum profd_runtime_kind {
	PROFD_RUNTIME_NONE,        // not code of a runtime that we know
	PROFD_RUNTIME_RECORD,      // of one, and it has a frame record at FP
	PROFD_RUNTIME_INTERPRETER, // the same, and the caller's SP is right below the record
	PROFD_RUNTIME_SIZED,       // its last words are the caller's FP and the return address, `size` bytes above SP
	PROFD_RUNTIME_LOST,        // of one that should know, but does not say
};

struct profd_runtime_frame {
	enum profd_runtime_kind kind;
	uint64_t size;
	uint64_t complete; // PROFD_RUNTIME_SIZED: before this address it has no frame yet
};

// The frame of the code at pc. In the thread that walks, as profd_safe_read.
void profd_runtime_find(uint64_t pc, struct profd_runtime_frame *ret_frame);

#endif

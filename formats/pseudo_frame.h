// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pseudo_frame.h: frames that are no code: the seams between a stack and the one that caused it, what samples are grouped under, and the function
// that a program maps memory by. They lie in a mapping of their own, "[causal]", "[label]" or "[mapped]", and look like any other frame to
// whoever reads a profile.

#ifndef PROFD_FORMATS_PSEUDO_FRAME_H
#define PROFD_FORMATS_PSEUDO_FRAME_H

#include <stdint.h>

struct profile;

#define PSEUDO_CAUSAL "[causal]"
#define PSEUDO_LABEL "[label]"
#define PSEUDO_MAPPED "[mapped]"

// The location of the frame with that name. 0: no memory.
uint32_t pseudo_frame(struct profile *profile, const char *mapping, const char *name);
// "↳ KIND by", KIND being created, woken or queued.
uint32_t pseudo_frame_seam(struct profile *profile, const char *kind);
// "KEY=value"; the text of label_text.h has no such key: "KEY=".
uint32_t pseudo_frame_group(struct profile *profile, const char *key, const char *labels);

#endif

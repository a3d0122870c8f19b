// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_text.h: a heap profile in the grammar of Go's heap?debug=1, which google/pprof reads.

#ifndef PROFD_FORMATS_HEAP_TEXT_H
#define PROFD_FORMATS_HEAP_TEXT_H

#include "formats/profile.h"
#include "formats/writer.h"

// profile: values alloc_objects, alloc_space, inuse_objects, inuse_space; each sample with a label "bytes", the size of its objects, and "mapped" if
// it is not scaled. Writes and flushes; 0, −EINVAL (another kind of profile), −ENOMEM.
int heap_text_write(const struct profile *profile, struct writer *writer);

#endif

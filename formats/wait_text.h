// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_text.h: a mutex or block profile in the grammar of Go's mutex?debug=1 and block?debug=1, which google/pprof reads.

#ifndef PROFD_FORMATS_WAIT_TEXT_H
#define PROFD_FORMATS_WAIT_TEXT_H

#include <stdbool.h>

#include "formats/profile.h"
#include "formats/writer.h"

// profile: values contentions, delay in nanoseconds. Writes and flushes; 0, −EINVAL (another kind of profile), −ENOMEM.
int wait_text_write(const struct profile *profile, bool is_mutex, struct writer *writer);

#endif

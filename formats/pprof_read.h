// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pprof_read.h: a profile in pprof's form (gzipped or not) read back. By profd or by others; the bytes are anybody's, and what breaks the
// form is refused.

#ifndef PROFD_FORMATS_PPROF_READ_H
#define PROFD_FORMATS_PPROF_READ_H

#include <stddef.h>

struct profile;

#define PPROF_READ_MAX_BYTES ((size_t)256 << 20) // unpacked, as profd writes at the most

// 0 with a profile to destroy; −EINVAL no such profile; −EFBIG unpacked, it is too large, or makes too much of what it says; −E2BIG more
// than PROFILE_MAX_VALUES kinds of values; −ENOMEM. What profd's comments say of mappings is in the mappings (name_gaps_read).
int pprof_read(const void *data, size_t size, struct profile **ret_profile);

#endif

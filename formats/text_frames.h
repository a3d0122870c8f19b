// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// text_frames.h: frames as the texts of Go's profiles (debug=1) have them. Names come from files that nobody vouches for: what would break a
// line is replaced.

#ifndef PROFD_FORMATS_TEXT_FRAMES_H
#define PROFD_FORMATS_TEXT_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "formats/profile.h"
#include "formats/writer.h"

#define TEXT_NAME_MAX 4096

// Writes the text's first size bytes; all of it, up to TEXT_NAME_MAX: without control characters, and valid UTF-8.
void text_put_part(struct writer *writer, const char *text, size_t size);
void text_put_clean(struct writer *writer, const char *text);
// Of the address in its module's file.
uint64_t text_module_offset(const struct profile *profile, const struct profile_location *location);
// Of line i; "" and 0: not known.
const char *text_line_file(const struct profile *profile, const struct profile_location *location, uint32_t i);
int64_t text_line_number(const struct profile_location *location, uint32_t i);
// "# " and each comment, on a line.
void text_put_comments(struct writer *writer, const struct profile *profile);
// "#\t0xPC\tFUNCTION+0xOFFSET\tFILE:LINE" for each of its lines.
void text_put_location(struct writer *writer, const struct profile *profile, const struct profile_location *location);

#endif

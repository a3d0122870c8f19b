// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_advice.h: what the names of a mapping's code come from, and why some of it has none: what to install or to set. In words, for
// profile_explain_mapping. Any thread that may wait for files.

#ifndef PROFD_COLLECTOR_NAME_ADVICE_H
#define PROFD_COLLECTOR_NAME_ADVICE_H

#include <stdbool.h>
#include <stddef.h>

struct mapping;

// Finds the packages of the modules that advice needs them for, all at once.
void name_advice_prepare(const struct mapping *const *mappings, size_t count);
// names_from: "DWARF", ".dynsym"…
const char *name_advice_source(const struct mapping *mapping, bool has_jit_names);
// For code of it that has no name.
void name_advice(const struct mapping *mapping, bool has_jit_names, char *buf, size_t size);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// demangle.h: readable names of C++ and Rust symbols, by libiberty. Bounded: names come from files that nobody vouches for.

#ifndef PROFD_COLLECTOR_DEMANGLE_H
#define PROFD_COLLECTOR_DEMANGLE_H

#include <stdbool.h>

// A malloc'ed readable name, or NULL when name is not mangled (or too long, or too deep): show it as it is.
char *demangle(const char *name);
// The same, of a function: a part that GCC made of one (.cold, .isra.0) reads as the function. DWARF has it so, and a profile has one
// row for it.
char *demangle_function(const char *name);
// Does it look like a mangled name at all?
bool demangle_is_mangled(const char *name);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// demangle.h: readable names of C++ and Rust symbols, by libiberty. Bounded: names come from files that nobody vouches for.

#ifndef PROFD_COLLECTOR_DEMANGLE_H
#define PROFD_COLLECTOR_DEMANGLE_H

// A malloc'ed readable name, or NULL when name is not mangled (or too long, or too deep): show it as it is.
char *demangle(const char *name);

#endif

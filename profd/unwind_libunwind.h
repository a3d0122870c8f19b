// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_libunwind.h: PROFD_UNWIND=libunwind: the tests' oracle as the handler's walker.

#ifndef PROFD_UNWIND_LIBUNWIND_H
#define PROFD_UNWIND_LIBUNWIND_H

// Loads it when the configuration asks for it; says so when it cannot. Not in the handler.
void profd_unwind_libunwind_init(void);
// The objects that are loaded now. Does nothing when it is not loaded. Not in the handler.
void profd_unwind_libunwind_learn(void);

#endif

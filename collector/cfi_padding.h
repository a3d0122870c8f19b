// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_padding.h: what compilers and linkers put between functions: it does nothing, and is never called. Any thread.

#ifndef PROFD_COLLECTOR_CFI_PADDING_H
#define PROFD_COLLECTOR_CFI_PADDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/cfi_program.h"

// Are these size bytes nothing but instructions that do nothing or trap, and zeros?
bool cfi_is_padding(enum cfi_arch arch, const uint8_t *code, size_t size);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// data_symbol.h: the variable at an address of an ELF file: what a static lock is called. A pass over the symbol table for each question.

#ifndef PROFD_COLLECTOR_DATA_SYMBOL_H
#define PROFD_COLLECTOR_DATA_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;

// "lock", or "table+0x28" of a place inside a variable; C++ names readable. false: no variable is known to be there; buf is as it was.
bool data_symbol_find(const struct elf_file *file, uint64_t vaddr, char *buf, size_t size);

#endif

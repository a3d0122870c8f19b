// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// short_name.h: names of C++ and Rust functions as short as people say them:
//
//   void std::vector<int, std::allocator<int> >::push_back(int const&)   std::vector<…>::push_back(…)
//   (anonymous namespace)::run(int)::{lambda(auto:1)#1}::operator()(int) const
//                                         (anonymous namespace)::run(…)::{lambda(…)#1}::operator()(…)
//   <alloc::vec::Vec<T> as core::iter::Extend<T>>::extend::<I>           <alloc::vec::Vec<…> as core::iter::Extend<…>>::extend::<…>
//
// Template arguments and parameters are folded, the result's type and what follows the parameters are left out. Pure functions; time is
// linear in the name's length, whatever is in it: a name that makes no sense is left as it is.

#ifndef PROFD_FORMATS_SHORT_NAME_H
#define PROFD_FORMATS_SHORT_NAME_H

#include <stdbool.h>
#include <stddef.h>

struct format;
struct format_options;
struct profile;

// Writes name, a demangled one, to buf: NUL-terminated, cut between characters. Returns buf.
char *short_name(const char *name, char *buf, size_t size);
// Of a profile's function; names of other languages ("LazyCompile:~<anonymous> a.js:3", "main.(*T).Run") stay as they are.
struct profile_function;
char *short_name_of_function(const struct profile_function *function, char *buf, size_t size);
// Makes all functions' names short, for good. Once, when nothing more is added to the profile. 0 or −ENOMEM.
int short_names_in(struct profile *profile);

// Which names somebody asks for. Usual: whole, but short in the boxes of flame graphs, where the pointer shows them whole.
enum name_form { NAME_FORM_USUAL, NAME_FORM_FULL, NAME_FORM_SHORT };
bool name_form_by_name(const char *text, enum name_form *ret_form); // "full", "short"; false: neither
// Makes profile and options fit for writing in that format. 0 or −ENOMEM.
int name_form_prepare(enum name_form form, const struct format *format, struct profile *profile,
		      struct format_options *options);

#endif

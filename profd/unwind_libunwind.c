// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_libunwind.c: loads libprofd-libunwind.so, which lies where the agent does, for PROFD_UNWIND=libunwind. The starting
// thread; then the helper.

#include "profd/unwind_libunwind.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "profd/agent.h"
#include "profd/handler.h"
#include "profd/interpose.h"

#define WALKER "libprofd-libunwind.so"

typedef void learn_function(int (*)(int (*)(struct dl_phdr_info *, size_t, void *), void *));
static learn_function *learn;

// A libunwind that is there already calls libc's functions, not the walker's own.
static const char *load(void)
{
	void *(*open)(const char *, int) = PROFD_REAL(dlopen);
	const char *slash;
	char path[PATH_MAX];
	void *library;
	Dl_info own;

	if (open("libunwind.so.8", RTLD_NOW | RTLD_NOLOAD))
		return "the program uses libunwind itself";
	if (!dladdr(&learn, &own) || !own.dli_fname || !(slash = strrchr(own.dli_fname, '/')))
		return "cannot tell where libprofd.so is";
	snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - own.dli_fname), own.dli_fname, WALKER);
	library = open(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (!library)
		return dlerror();
	*(void **)&learn = dlsym(library, "profd_libunwind_learn");
	*(void **)&profd_handler_libunwind = dlsym(library, "profd_libunwind_walk");
	return learn && profd_handler_libunwind ? NULL : "it is of another version";
}

void profd_unwind_libunwind_init(void)
{
	const char *problem;

	if (profd_agent.config.unwinder != PROFD_UNWIND_LIBUNWIND || learn)
		return;
	problem = load();
	if (problem) {
		profd_message("PROFD_UNWIND=libunwind: %s; stacks are walked by tables", problem);
		learn = NULL;
		profd_handler_libunwind = NULL;
	}
	profd_unwind_libunwind_learn();
}

void profd_unwind_libunwind_learn(void)
{
	if (learn)
		learn(dl_iterate_phdr);
}

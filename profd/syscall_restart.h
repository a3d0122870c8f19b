// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// syscall_restart.h: makes the target not see an EINTR that our signal caused. Handler.
//
// A CPU timer fires while its thread runs; when it runs in the kernel, on its way into epoll_wait, nanosleep and the like,
// the call returns EINTR at once, for these are never restarted once a handler has run (signal(7)). The interrupted context
// then stands right behind the `syscall` instruction with rax = −EINTR: going back to that instruction with the call's
// number in rax restarts it with the same arguments. The thread was running, so nothing of a timeout had passed.

#ifndef PROFD_SYSCALL_RESTART_H
#define PROFD_SYSCALL_RESTART_H

#include <stdbool.h>
#include <ucontext.h>

// True when the context was set back to restart its system call.
bool profd_syscall_restart(ucontext_t *uc);

#endif

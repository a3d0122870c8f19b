// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// stay.h: did the calling thread stay on its CPU all through a call? If it did, it waited for nothing. The kernel tells, without a system call.
//
// By restartable sequences (rseq; registered for each thread by glibc since 2.35): when a thread was scheduled out, moved to another CPU or is given a signal, the kernel
// looks on the way back what sequence the thread says it is in (rseq_cs), and clears that word if the thread is in none. Here the word is made to name a sequence where no
// thread ever is: as long as it stands, nothing of that happened. Source: Linux, kernel/rseq.c (rseq_ip_fixup), include/uapi/linux/rseq.h. Linux does so from 4.18 to 6.18;
// 6.19 leaves the word alone for some registrations where the thread was in a system call (rseq_update_usr), so it is tried out.
//
// A program's own use of rseq is not disturbed: there is no call of a function within a sequence, and the word means nothing outside of them. Any thread, also in signal handlers; a wait in
// a handler makes what it interrupted count as left. Of threads that share another's thread-local memory (raw clone), one may be said to have stayed that did not.

#ifndef PROFD_STAY_H
#define PROFD_STAY_H

#include <stdbool.h>
#include <stdint.h>

// The agent's constructor: finds it.
void profd_stay_init(void);
// The helper, some 0.6 ms: does the kernel tell? Until that is known, and where it does not, every thread is said to have left.
void profd_stay_try(void);

// From here on: nothing between this and the call, nor between the call and profd_stayed.
void profd_stay_begin(void);
// true: it has not left the CPU since profd_stay_begin. false: it has, or a signal came, or it is not known.
bool profd_stayed(void);

#endif

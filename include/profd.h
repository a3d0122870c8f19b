/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The profd authors
 *
 * profd.h: what a program can ask the profd agent. libprofd(3).
 *
 * Nothing has to be linked: the functions find the agent when libprofd.so is preloaded, and say that it is absent when it is
 * not. Any thread may call them at any time, signal handlers too. They neither allocate nor block, and leave errno alone.
 */

#ifndef PROFD_H
#define PROFD_H

#ifdef __cplusplus
extern "C" {
#endif

/* The agent's side. Weak: without the agent their addresses are null; call profd_active and profd_version instead. */
extern int profd_agent_active(void) __attribute__((weak));
extern const char *profd_agent_version(void) __attribute__((weak));

/*
 * The address of a function that may not exist, found at run time. The plain `&function` of a program linked with -no-pie is
 * settled to null by the linker, even if an agent will be there; an entry of the global offset table never is.
 */
#if defined(__x86_64__) && !defined(__ILP32__)
#define PROFD_FIND_(function, ret_pointer) \
	__asm__(".weak " #function "\n\tmovq " #function "@GOTPCREL(%%rip), %0" : "=r"(ret_pointer))
#else
#define PROFD_FIND_(function, ret_pointer) ((ret_pointer) = &(function))
#endif

/* 1 when the agent is in this process and has a collector (samples are taken when someone asks for them); else 0. */
static __inline__ int profd_active(void)
{
	int (*active)(void);

	PROFD_FIND_(profd_agent_active, active);
	return active ? active() : 0;
}

/* The agent's version, such as "0.1.0"; "" when there is no agent. Valid for the life of the process. */
static __inline__ const char *profd_version(void)
{
	const char *(*version)(void);

	PROFD_FIND_(profd_agent_version, version);
	return version ? version() : "";
}

#undef PROFD_FIND_

#ifdef __cplusplus
}
#endif

#endif

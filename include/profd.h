/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The profd authors
 *
 * profd.h: what a program can ask the profd agent, and tell it. libprofd(3).
 *
 * Nothing has to be linked: the functions find the agent when libprofd.so is preloaded, and do nothing when it is not. Any
 * thread may call them at any time, signal handlers too. They neither allocate nor block, and leave errno alone.
 */

#ifndef PROFD_H
#define PROFD_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Where work was handed over: a plain value of the program's, to be copied and kept as it likes, in a queue's entry for instance. It
 * is never freed and never goes stale; one of all zeroes is that of nothing.
 */
struct profd_link {
	unsigned int profd_private[12];
};

/* The agent's side. Weak: without the agent their addresses are null; call the functions below instead. */
extern int profd_agent_active(void) __attribute__((weak));
extern const char *profd_agent_version(void) __attribute__((weak));
extern void profd_agent_capture(struct profd_link *ret_link) __attribute__((weak));
extern void profd_agent_enter(const struct profd_link *link) __attribute__((weak));
extern void profd_agent_leave(void) __attribute__((weak));
extern int profd_agent_label_set(const char *key, const char *value) __attribute__((weak));
extern void profd_agent_label_clear(const char *key) __attribute__((weak));
extern void profd_agent_trace_set(const unsigned char *trace_id, const unsigned char *span_id, int sampled)
	__attribute__((weak));
extern unsigned int profd_agent_task_register(const char *name, const void *stack, unsigned long size)
	__attribute__((weak));
extern void profd_agent_task_unregister(unsigned int task) __attribute__((weak));
extern void profd_agent_task_suspend(unsigned int task, const char *state) __attribute__((weak));
extern void profd_agent_task_resume(unsigned int task) __attribute__((weak));

/*
 * The address of a function that may not exist, found at run time. The plain `&function` of a program linked with -no-pie is
 * settled to null by the linker, even if an agent will be there; an entry of the global offset table never is.
 * In both of the assembler's dialects.
 */
#if defined(__x86_64__) && !defined(__ILP32__)
#define PROFD_FIND_(function, ret_pointer)                                                                 \
	__asm__(".weak " #function "\n\tmov{q " #function "@GOTPCREL(%%rip), %0| %0, QWORD PTR " #function \
		"@GOTPCREL[rip]}"                                                                          \
		: "=r"(ret_pointer))
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

/* ---- Work that is handed over -------------------------------------------------------------------------------------- */

/* The caller's stack, why it runs, its labels and its trace. Whoever puts something into a queue keeps this with it. */
static __inline__ struct profd_link profd_capture(void)
{
	struct profd_link link = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
	void (*capture)(struct profd_link *);

	PROFD_FIND_(profd_agent_capture, capture);
	if (capture)
		capture(&link);
	return link;
}

/*
 * From here to the matching profd_leave, the calling thread works for whoever captured the link: causal views show its stacks under the
 * captured one ("queued by"), its labels and trace are those of the link, and threads made meanwhile are made on its behalf. These
 * nest, 16 deep; what is deeper has no effect, but for being counted.
 */
static __inline__ void profd_enter(struct profd_link link)
{
	void (*enter)(const struct profd_link *);

	PROFD_FIND_(profd_agent_enter, enter);
	if (enter)
		enter(&link);
}

/* As profd_enter, without a change: the matching profd_leave takes back the labels and the trace that were set in between. */
static __inline__ void profd_enter_scope(void)
{
	static const struct profd_link *none; /* null, in words that no compiler warns of in either language */
	void (*enter)(const struct profd_link *);

	PROFD_FIND_(profd_agent_enter, enter);
	if (enter)
		enter(none);
}

/* Ends the innermost profd_enter or profd_enter_scope of the calling thread. */
static __inline__ void profd_leave(void)
{
	void (*leave)(void);

	PROFD_FIND_(profd_agent_leave, leave);
	if (leave)
		leave();
}

/* ---- Labels -------------------------------------------------------------------------------------------------------- */

/*
 * Puts a label on the calling thread's samples, replacing one with the same key: at most 8 of them, keys of up to 31 bytes, values of up to 63
 * (what is longer is cut). Copied. For what has few distinct values: an endpoint, a tenant's class, a phase. 0; -1: not set, the key is
 * bad or there is no room: then its value is "(no room)". "trace_id" (32 hexadecimal digits), "span_id" (16) and "trace_sampled" are as profd_trace_set's.
 */
static __inline__ int profd_label_set(const char *key, const char *value)
{
	int (*set)(const char *, const char *);

	PROFD_FIND_(profd_agent_label_set, set);
	return set ? set(key, value) : 0;
}

static __inline__ void profd_label_clear(const char *key)
{
	void (*clear)(const char *);

	PROFD_FIND_(profd_agent_label_clear, clear);
	if (clear)
		clear(key);
}

/*
 * The span that the calling thread works on: 16 and 8 bytes, as in W3C's Trace Context; sampled: the trace is recorded. A null
 * trace_id: none. Any number of distinct ones may be set: they are not kept.
 */
static __inline__ void profd_trace_set(const unsigned char *trace_id, const unsigned char *span_id, int sampled)
{
	void (*set)(const unsigned char *, const unsigned char *, int);

	PROFD_FIND_(profd_agent_trace_set, set);
	if (set)
		set(trace_id, span_id, sampled);
}

/* ---- Coroutines, fibers -------------------------------------------------------------------------------------------- */

/*
 * A task: something with a stack of its own that is no thread. While it is suspended, thread dumps list it with its stack. The name is
 * copied (31 bytes). Returns the task; 0: there is no agent, or no room. The task goes with profd_task_unregister, before its stack does.
 * After a fork both processes have it.
 */
static __inline__ unsigned int profd_task_register(const char *name, const void *stack, unsigned long size)
{
	unsigned int (*make)(const char *, const void *, unsigned long);

	PROFD_FIND_(profd_agent_task_register, make);
	return make ? make(name, stack, size) : 0;
}

static __inline__ void profd_task_unregister(unsigned int task)
{
	void (*unregister)(unsigned int);

	PROFD_FIND_(profd_agent_task_unregister, unregister);
	if (unregister)
		unregister(task);
}

/*
 * In the task itself, on its own stack, right before it switches away: from here until profd_task_resume it is suspended, and its stack is
 * that of the caller, who does not return meanwhile. state: what it waits for, in a word or two (15 bytes); copied.
 */
static __inline__ void profd_task_suspend(unsigned int task, const char *state)
{
	void (*suspend)(unsigned int, const char *);

	PROFD_FIND_(profd_agent_task_suspend, suspend);
	if (suspend)
		suspend(task, state);
}

/* In the task again, right after the switch back to it. */
static __inline__ void profd_task_resume(unsigned int task)
{
	void (*resume)(unsigned int);

	PROFD_FIND_(profd_agent_task_resume, resume);
	if (resume)
		resume(task);
}

#undef PROFD_FIND_

#ifdef __cplusplus
}

namespace profd
{

/* Works for whoever captured the link until the end of the block. */
class scope
{
      public:
	explicit scope(const profd_link &link)
	{
		profd_enter(link);
	}
	~scope()
	{
		profd_leave();
	}

      private:
	scope(const scope &);
	scope &operator=(const scope &);
};

/* A label until the end of the block. */
class label
{
      public:
	label(const char *key, const char *value)
	{
		profd_enter_scope();
		profd_label_set(key, value);
	}
	~label()
	{
		profd_leave();
	}

      private:
	label(const label &);
	label &operator=(const label &);
};

} /* namespace profd */
#endif

#endif

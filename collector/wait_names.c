// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_names.c: see wait_names.h.
//
// A name is libc's when it is one of the public ones but for what glibc puts before and after it in its own files: the program's
// poll_loop() and sem_acquire() are not poll() and sem_wait().

#include "collector/wait_names.h"

#include <string.h>
#include <sys/syscall.h>

#define NAMES_LOOKED_AT 8

struct name {
	const char *function;
	enum wait_kind kind;
};

static const struct name names[] = {
	{"lll_lock_wait", WAIT_LOCK},
	{"lll_lock_wait_private", WAIT_LOCK},
	{"pthread_mutex_lock", WAIT_MUTEX},
	{"pthread_mutex_cond_lock", WAIT_MUTEX}, // of a condition variable's mutex, after the wait
	{"pthread_mutex_timedlock", WAIT_MUTEX},
	{"pthread_mutex_clocklock", WAIT_MUTEX},
	{"mtx_lock", WAIT_MUTEX},
	{"mtx_timedlock", WAIT_MUTEX},
	{"pthread_rwlock_rdlock", WAIT_READ_LOCK},
	{"pthread_rwlock_clockrdlock", WAIT_READ_LOCK},
	{"pthread_rwlock_timedrdlock", WAIT_READ_LOCK},
	{"pthread_rwlock_wrlock", WAIT_WRITE_LOCK},
	{"pthread_rwlock_clockwrlock", WAIT_WRITE_LOCK},
	{"pthread_rwlock_timedwrlock", WAIT_WRITE_LOCK},
	{"pthread_cond_wait", WAIT_CONDITION},
	{"pthread_cond_timedwait", WAIT_CONDITION},
	{"pthread_cond_clockwait", WAIT_CONDITION},
	{"cnd_wait", WAIT_CONDITION},
	{"cnd_timedwait", WAIT_CONDITION},
	{"sem_wait", WAIT_SEMAPHORE},
	{"sem_timedwait", WAIT_SEMAPHORE},
	{"sem_clockwait", WAIT_SEMAPHORE},
	{"new_sem_wait", WAIT_SEMAPHORE},
	{"pthread_barrier_wait", WAIT_BARRIER},
	{"pthread_once", WAIT_ONCE},
	{"call_once", WAIT_ONCE},
	{"pthread_join", WAIT_JOIN},
	{"pthread_clockjoin", WAIT_JOIN},
	{"pthread_timedjoin", WAIT_JOIN},
	{"thrd_join", WAIT_JOIN},
	{"clock_nanosleep", WAIT_SLEEP},
	{"nanosleep", WAIT_SLEEP},
	{"poll", WAIT_POLL},
};

static const char *const states[WAIT_KINDS] = {
	[WAIT_LOCK] = "lock",
	[WAIT_MUTEX] = "mutex lock",
	[WAIT_READ_LOCK] = "rwlock read",
	[WAIT_WRITE_LOCK] = "rwlock write",
	[WAIT_CONDITION] = "cond wait",
	[WAIT_SEMAPHORE] = "sem wait",
	[WAIT_BARRIER] = "barrier wait",
	[WAIT_ONCE] = "once",
	[WAIT_JOIN] = "join",
	[WAIT_SLEEP] = "sleep",
	[WAIT_POLL] = "poll",
};

const char *wait_names_state(enum wait_kind kind)
{
	return states[kind];
}

// Without what glibc puts before the names of its own versions.
static const char *plain_name(const char *name)
{
	while (*name == '_' || strncmp(name, "GI_", 3) == 0)
		name += *name == '_' ? 1 : 3;
	return name;
}

// What glibc and the compiler put behind: __new_sem_wait_slow64.constprop.0, pthread_join@@GLIBC_2.34.
static bool is_suffix(const char *rest)
{
	static const char *const parts[] = {"64", "_slow", "_full", "_common", "_ex", "_np"};
	size_t i = 0;

	while (i < sizeof(parts) / sizeof(parts[0])) {
		size_t length = strlen(parts[i]);
		bool is_part = strncmp(rest, parts[i], length) == 0;

		rest += is_part ? length : 0;
		i = is_part ? 0 : i + 1;
	}
	return *rest == '\0' || *rest == '.' || *rest == '@';
}

static enum wait_kind kind_of(const char *name, int64_t nr)
{
	enum wait_kind end = nr == SYS_futex ? WAIT_SLEEP : WAIT_KINDS;

	name = plain_name(name);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t length = strlen(names[i].function);

		if (names[i].kind < end && strncmp(name, names[i].function, length) == 0 && is_suffix(name + length))
			return names[i].kind;
	}
	return WAIT_UNKNOWN;
}

// glibc's own callers of the system call, and what has no name in a file without a symbol table ("libc.so.6+0x8dff1").
static bool is_below_once(const char *name)
{
	return strncmp(plain_name(name), "futex_", strlen("futex_")) == 0 || strstr(name, "+0x");
}

enum wait_kind wait_names_find(const struct wait_state_input *input)
{
	enum wait_kind lock = WAIT_UNKNOWN; // unless a function that called it says which
	bool may_be_once = true; // pthread_once() calls functions of the program's, which wait for what they like

	for (size_t i = 0; i < input->nnames && i < NAMES_LOOKED_AT; i++) {
		enum wait_kind kind = kind_of(input->names[i], input->nr);

		if (kind == WAIT_LOCK)
			lock = kind;
		else if (kind != WAIT_UNKNOWN && (kind != WAIT_ONCE || may_be_once))
			return kind;
		may_be_once = may_be_once && is_below_once(input->names[i]);
	}
	return lock;
}

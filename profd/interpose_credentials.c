// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_credentials.c: calls that change what a thread may do. Credentials are each thread's own: libc makes set*id one call of
// all threads, and aborts when it does not succeed in all alike; capabilities, no_new_privs, Landlock and namespaces change the
// caller alone. So our helper ends before each of these, and is born again from the thread that made it: it never fails where the
// program does not, and never may more than the program. A seccomp filter ends profiling. Any thread of the target.
//
// prctl and syscall are also called often, for other things: there a jump is all that is added, and no frame. (prctl that names a thread is told of.)

#include <errno.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/interpose.h"
#include "profd/waits.h"

#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif

#define WITHOUT_HELPER(call)                               \
	({                                                 \
		struct profd_recall recall_;               \
		bool away_ = profd_agent_recall(&recall_); \
		__typeof__(call) result_ = (call);         \
		if (away_)                                 \
			profd_agent_resume(&recall_);      \
		result_;                                   \
	})

PROFD_EXPORT int setuid(uid_t uid)
{
	return WITHOUT_HELPER(PROFD_REAL(setuid)(uid));
}

PROFD_EXPORT int setgid(gid_t gid)
{
	return WITHOUT_HELPER(PROFD_REAL(setgid)(gid));
}

PROFD_EXPORT int seteuid(uid_t uid)
{
	return WITHOUT_HELPER(PROFD_REAL(seteuid)(uid));
}

PROFD_EXPORT int setegid(gid_t gid)
{
	return WITHOUT_HELPER(PROFD_REAL(setegid)(gid));
}

PROFD_EXPORT int setreuid(uid_t real, uid_t effective)
{
	return WITHOUT_HELPER(PROFD_REAL(setreuid)(real, effective));
}

PROFD_EXPORT int setregid(gid_t real, gid_t effective)
{
	return WITHOUT_HELPER(PROFD_REAL(setregid)(real, effective));
}

PROFD_EXPORT int setresuid(uid_t real, uid_t effective, uid_t saved)
{
	return WITHOUT_HELPER(PROFD_REAL(setresuid)(real, effective, saved));
}

PROFD_EXPORT int setresgid(gid_t real, gid_t effective, gid_t saved)
{
	return WITHOUT_HELPER(PROFD_REAL(setresgid)(real, effective, saved));
}

PROFD_EXPORT int setgroups(size_t count, const gid_t *list)
{
	return WITHOUT_HELPER(PROFD_REAL(setgroups)(count, list));
}

// Its own look at the user database is libc's; it calls setgroups past us.
PROFD_EXPORT int initgroups(const char *user, gid_t group)
{
	return WITHOUT_HELPER(PROFD_REAL(initgroups)(user, group));
}

// No header of libc's declares it.
PROFD_EXPORT int capset(void *header, const void *data);
PROFD_EXPORT int capset(void *header, const void *data)
{
	return WITHOUT_HELPER(PROFD_REAL(capset)(header, data));
}

// ---- Namespaces ----------------------------------------------------------------------------------------------------

// The descriptor that waits for the next helper must be in the table where we look for it.
PROFD_EXPORT int unshare(int flags)
{
	if (flags & CLONE_FILES)
		return PROFD_REAL(unshare)(flags);
	return WITHOUT_HELPER(PROFD_REAL(unshare)(flags));
}

PROFD_EXPORT int setns(int fd, int type)
{
	return WITHOUT_HELPER(PROFD_REAL(setns)(fd, type));
}

// ---- prctl and syscall ---------------------------------------------------------------------------------------------

static bool prctl_changes_rights(int option)
{
	switch (option) {
	case PR_SET_NO_NEW_PRIVS:
	case PR_SET_SECUREBITS:
	case PR_CAPBSET_DROP:
	case PR_CAP_AMBIENT:
	case PR_SET_SECCOMP:
		return true;
	default:
		return false;
	}
}

// Not a question with a null pointer, by which programs find out what the kernel knows.
static bool prctl_filters(int option, unsigned long mode, unsigned long filter)
{
	return option == PR_SET_SECCOMP && (mode == SECCOMP_MODE_STRICT || filter);
}

static int rare_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	if (prctl_filters(option, a, b))
		profd_agent_seal();
	if (option == PR_SET_SECCOMP)
		return PROFD_REAL(prctl)(option, a, b, c, d);
	return WITHOUT_HELPER(PROFD_REAL(prctl)(option, a, b, c, d));
}

static int naming_prctl(int option, unsigned long name)
{
	int result = PROFD_REAL(prctl)(option, name, 0, 0, 0);

	if (result == 0)
		profd_interpose_thread_named((const char *)name); // NOLINT(performance-no-int-to-ptr)
	return result;
}

static bool syscall_changes_rights(long number)
{
	switch (number) {
	case SYS_setuid:
	case SYS_setgid:
	case SYS_setreuid:
	case SYS_setregid:
	case SYS_setresuid:
	case SYS_setresgid:
	case SYS_setgroups:
	case SYS_capset:
	case SYS_prctl:
	case SYS_unshare:
	case SYS_setns:
	case SYS_seccomp:
	case SYS_landlock_restrict_self:
		return true;
	default:
		return false;
	}
}

static bool syscall_filters(long number, long a, long b, long c)
{
	if (number == SYS_prctl)
		return prctl_filters((int)a, (unsigned long)b, (unsigned long)c);
	return number == SYS_seccomp && (a == SECCOMP_SET_MODE_STRICT || (a == SECCOMP_SET_MODE_FILTER && c));
}

static bool leaves_rights(long number, long a)
{
	if (number == SYS_prctl)
		return !prctl_changes_rights((int)a) || a == PR_SET_SECCOMP;
	return number == SYS_seccomp || (number == SYS_unshare && (a & CLONE_FILES));
}

static long rare_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (syscall_filters(number, a, b, c))
		profd_agent_seal();
	if (leaves_rights(number, a))
		return PROFD_REAL(syscall)(number, a, b, c, d, e, f);
	return WITHOUT_HELPER(PROFD_REAL(syscall)(number, a, b, c, d, e, f));
}

// Where to jump to.
__attribute__((used, visibility("hidden"))) void *profd_choose_prctl(int option);
void *profd_choose_prctl(int option)
{
	if (option == PR_SET_NAME)
		return (void *)naming_prctl;
	return prctl_changes_rights(option) ? (void *)rare_prctl : (void *)PROFD_REAL(prctl);
}

__attribute__((used, visibility("hidden"))) void *profd_choose_syscall(long number);
void *profd_choose_syscall(long number)
{
	if (number == SYS_futex && profd_waits_on())
		return (void *)profd_interpose_futex;
	return syscall_changes_rights(number) ? (void *)rare_syscall : (void *)PROFD_REAL(syscall);
}

#define PUSH(reg) "push %" #reg "\n.cfi_adjust_cfa_offset 8\n"
#define POP(reg) "pop %" #reg "\n.cfi_adjust_cfa_offset -8\n"
// Keeps the argument registers and aligns the stack; a seventh argument stays where it is.
#define CHOOSE_AND_JUMP(name)                                                                                       \
	__asm__(".text\n"                                                                                           \
		".globl " #name "\n"                                                                                \
		".type " #name ", @function\n" #name ":\n"                                                          \
		".cfi_startproc\n" PUSH(rdi) PUSH(rsi) PUSH(rdx) PUSH(rcx) PUSH(r8) PUSH(r9)                        \
			PUSH(r9) "call profd_choose_" #name "\n" POP(r9) POP(r9) POP(r8) POP(rcx) POP(rdx) POP(rsi) \
				POP(rdi) "jmp *%rax\n"                                                              \
					 ".cfi_endproc\n"                                                           \
					 ".size " #name ", . - " #name "\n")

CHOOSE_AND_JUMP(prctl);
CHOOSE_AND_JUMP(syscall);

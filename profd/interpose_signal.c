// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_signal.c: SIGPROF as the program sees it. While the agent is on, the kernel's disposition is always our handler,
// so that no default action can kill the program; what the program asks for is kept in profd_handler_app_action, reported
// back, and obeyed by the handler for signals that are not ours.
//
// Masks: as long as the program has no SIGPROF handler of its own, blocking SIGPROF (mostly as part of "block all") is only
// remembered for the thread, so that it can be sampled. Once it has one, masks are real.
//
// Any thread of the target; sigaction, pthread_sigmask and signal may be called in its signal handlers.

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "profd/agent.h"
#include "profd/handler.h"
#include "profd/interpose.h"
#include "profd/perf_event.h"
#include "profd/raw.h"
#include "profd/timer.h"

#define PROF_BIT (1ULL << (SIGPROF - 1))
#define ACTIONS 64 // immutable records, reused in turn: a reader in a handler has long gone by then

static struct profd_app_action actions[ACTIONS];
static uint32_t next_action;
static uint8_t prof_added[_NSIG]; // SIGPROF was added to this signal's sa_mask by us

static bool on(void)
{
	return __atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE);
}

static uint64_t *low_word(sigset_t *set)
{
	return (uint64_t *)(void *)set;
}

static bool is_function(void (*handler)(int, siginfo_t *, void *))
{
	return handler != (void *)SIG_DFL && handler != (void *)SIG_IGN;
}

// ---- The disposition -----------------------------------------------------------------------------------------------

static int install(const struct profd_app_action *app)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = profd_handler;
	*low_word(&action.sa_mask) = ~0ULL; // libc's own two as well: a thread must not be cancelled in our handler
	action.sa_flags = SA_SIGINFO;
	// The program's own signals interrupt system calls, or not, as it asked; ours are restarted by the handler.
	if (!is_function(app->handler) || (app->flags & SA_RESTART))
		action.sa_flags |= SA_RESTART;
	if (is_function(app->handler) && (app->flags & SA_ONSTACK))
		action.sa_flags |= SA_ONSTACK;
	return PROFD_REAL(sigaction)(SIGPROF, &action, NULL);
}

static void remember(const struct sigaction *action)
{
	struct profd_app_action *app = &actions[__atomic_fetch_add(&next_action, 1, __ATOMIC_RELAXED) % ACTIONS];

	app->handler = action->sa_sigaction;
	app->mask = *(const uint64_t *)(const void *)&action->sa_mask;
	app->flags = action->sa_flags;
	__atomic_store_n(&profd_handler_app_action, app, __ATOMIC_RELEASE);
}

static void report(struct sigaction *ret_action)
{
	const struct profd_app_action *app = __atomic_load_n(&profd_handler_app_action, __ATOMIC_ACQUIRE);

	memset(ret_action, 0, sizeof(*ret_action));
	ret_action->sa_sigaction = app->handler;
	*low_word(&ret_action->sa_mask) = app->mask;
	ret_action->sa_flags = app->flags;
}

void profd_interpose_signal_adopt_mask(void)
{
	uint64_t prof = PROF_BIT;
	uint64_t mask = 0;

	profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	if (!(mask & PROF_BIT) || is_function(profd_handler_app_action->handler))
		return;
	profd_handler_app_blocks = true;
	profd_raw4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&prof, 0, sizeof(prof));
}

int profd_interpose_handler_install(void)
{
	struct sigaction old;

	if (PROFD_REAL(sigaction)(SIGPROF, NULL, &old) < 0)
		return -errno;
	if (old.sa_sigaction != profd_handler)
		remember(&old);
	if (install(profd_handler_app_action) < 0)
		return -errno;
	profd_interpose_signal_adopt_mask(); // inherited through exec
	return 0;
}

void profd_interpose_handler_remove(void)
{
	struct sigaction action;

	report(&action);
	PROFD_REAL(sigaction)(SIGPROF, &action, NULL);
}

bool profd_interpose_handler_installed(void)
{
	struct sigaction now;

	return PROFD_REAL(sigaction)(SIGPROF, NULL, &now) == 0 && now.sa_sigaction == profd_handler;
}

static int sigaction_prof(const struct sigaction *action, struct sigaction *old)
{
	struct sigaction wanted;

	if (action)
		wanted = *action; // old may be the same object
	if (old)
		report(old);
	if (!action)
		return 0;
	remember(&wanted);
	return install(profd_handler_app_action);
}

// A handler on an alternate stack may have no room for our frame below its own: keep SIGPROF out while it runs.
static int sigaction_other(int signo, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction changed;
	bool add = false;
	int result;

	if (action && (action->sa_flags & SA_ONSTACK) && is_function(action->sa_sigaction) &&
	    !sigismember(&action->sa_mask, SIGPROF)) {
		changed = *action;
		sigaddset(&changed.sa_mask, SIGPROF);
		action = &changed;
		add = true;
	}
	result = PROFD_REAL(sigaction)(signo, action, old);
	if (result < 0)
		return result;
	if (old && prof_added[signo])
		sigdelset(&old->sa_mask, SIGPROF);
	if (action)
		prof_added[signo] = add;
	return 0;
}

PROFD_EXPORT int sigaction(int signo, const struct sigaction *action, struct sigaction *old)
{
	if (!on() || signo <= 0 || signo >= _NSIG)
		return PROFD_REAL(sigaction)(signo, action, old);
	if (signo == SIGPROF)
		return sigaction_prof(action, old);
	return sigaction_other(signo, action, old);
}

static sighandler_t set_prof(sighandler_t handler, int flags)
{
	struct sigaction action, old;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	action.sa_flags = flags;
	if (flags & SA_RESTART) // signal(2), the BSD way: blocks itself
		sigaddset(&action.sa_mask, SIGPROF);
	if (sigaction_prof(&action, &old) < 0)
		return SIG_ERR;
	return old.sa_handler;
}

PROFD_EXPORT sighandler_t signal(int signo, sighandler_t handler)
{
	if (!on() || signo != SIGPROF)
		return PROFD_REAL(signal)(signo, handler);
	return set_prof(handler, SA_RESTART);
}

PROFD_EXPORT sighandler_t bsd_signal(int signo, sighandler_t handler);
PROFD_EXPORT sighandler_t bsd_signal(int signo, sighandler_t handler)
{
	return signal(signo, handler);
}

PROFD_EXPORT sighandler_t ssignal(int signo, sighandler_t handler)
{
	return signal(signo, handler);
}

PROFD_EXPORT sighandler_t sysv_signal(int signo, sighandler_t handler)
{
	if (!on() || signo != SIGPROF)
		return PROFD_REAL(sysv_signal)(signo, handler);
	return set_prof(handler, SA_RESETHAND | SA_NODEFER);
}

PROFD_EXPORT sighandler_t __sysv_signal(int signo, sighandler_t handler)
{
	return sysv_signal(signo, handler);
}

PROFD_EXPORT int sigignore(int signo)
{
	if (!on() || signo != SIGPROF)
		return PROFD_REAL(sigignore)(signo);
	return set_prof(SIG_IGN, 0) == SIG_ERR ? -1 : 0;
}

PROFD_EXPORT sighandler_t sigset(int signo, sighandler_t handler)
{
	sigset_t prof, old;
	sighandler_t before;

	if (!on() || signo != SIGPROF)
		return PROFD_REAL(sigset)(signo, handler);
	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	if (handler == SIG_HOLD) {
		struct sigaction current;

		report(&current);
		before = current.sa_handler;
		pthread_sigmask(SIG_BLOCK, &prof, &old);
	} else {
		before = set_prof(handler, 0);
		pthread_sigmask(SIG_UNBLOCK, &prof, &old);
	}
	return sigismember(&old, SIGPROF) ? SIG_HOLD : before;
}

PROFD_EXPORT int siginterrupt(int signo, int interrupt)
{
	struct sigaction action;

	if (!on() || signo != SIGPROF)
		return PROFD_REAL(siginterrupt)(signo, interrupt);
	report(&action);
	action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
	return sigaction_prof(&action, NULL);
}

// ---- The mask ------------------------------------------------------------------------------------------------------

typedef int mask_function(int, const sigset_t *, sigset_t *);

static bool blocked_after(int how, bool before, const sigset_t *set)
{
	bool named = sigismember(set, SIGPROF);

	if (how == SIG_BLOCK)
		return before || named;
	if (how == SIG_UNBLOCK)
		return before && !named;
	return named;
}

static int change_mask(mask_function *real, int how, const sigset_t *set, sigset_t *old)
{
	bool before = profd_handler_app_blocks;
	bool after = before;
	sigset_t real_set;
	int result;

	if (is_function(profd_handler_app_action->handler)) {
		uint64_t prof = PROF_BIT;

		if (before)
			profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&prof, 0, sizeof(prof));
		profd_handler_app_blocks = false;
		return real(how, set, old);
	}
	if (set) {
		real_set = *set;
		after = blocked_after(how, before, set);
		if (how != SIG_UNBLOCK)
			sigdelset(&real_set, SIGPROF);
	}
	result = real(how, set ? &real_set : NULL, old);
	if (result == 0) {
		profd_handler_app_blocks = after;
		if (old && before)
			sigaddset(old, SIGPROF);
	}
	return result;
}

PROFD_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return on() ? change_mask(PROFD_REAL(pthread_sigmask), how, set, old)
		    : PROFD_REAL(pthread_sigmask)(how, set, old);
}

PROFD_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return on() ? change_mask(PROFD_REAL(sigprocmask), how, set, old) : PROFD_REAL(sigprocmask)(how, set, old);
}

// ---- Waiting for signals -------------------------------------------------------------------------------------------

static void subtract_elapsed(struct timespec *left, const struct timespec *since)
{
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (int64_t)left->tv_sec * 1000000000 + left->tv_nsec - ((now.tv_sec - since->tv_sec) * 1000000000LL) -
	     (now.tv_nsec - since->tv_nsec);
	if (ns < 0)
		ns = 0;
	left->tv_sec = (time_t)(ns / 1000000000);
	left->tv_nsec = (long)(ns % 1000000000);
}

static bool is_ours(const siginfo_t *info)
{
	return profd_handler_is_ours(info, profd_agent.cookie) ||
	       profd_perf_slot(info, (uint32_t)profd_raw0(SYS_gettid));
}

static int wait_for(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	struct timespec left, start;
	siginfo_t own;
	int signo;

	if (timeout)
		left = *timeout;
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		signo = PROFD_REAL(sigtimedwait)(set, &own, timeout ? &left : NULL);
		if (signo != SIGPROF || !is_ours(&own))
			break;
		if (timeout)
			subtract_elapsed(&left, &start);
	}
	if (signo > 0 && info)
		*info = own;
	return signo;
}

PROFD_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	if (!on() || !sigismember(set, SIGPROF))
		return PROFD_REAL(sigtimedwait)(set, info, timeout);
	return wait_for(set, info, timeout);
}

PROFD_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	if (!on() || !sigismember(set, SIGPROF))
		return PROFD_REAL(sigwaitinfo)(set, info);
	return wait_for(set, info, NULL);
}

PROFD_EXPORT int sigwait(const sigset_t *set, int *ret_signo)
{
	int signo;

	if (!on() || !sigismember(set, SIGPROF))
		return PROFD_REAL(sigwait)(set, ret_signo);
	do
		signo = wait_for(set, NULL, NULL);
	while (signo < 0 && errno == EINTR);
	if (signo < 0)
		return errno;
	*ret_signo = signo;
	return 0;
}

// A CPU timer's signal is made where the kernel returns to the program, and met by our handler at once. A perf event's may
// come in the middle of the very read that takes it from such a descriptor.
PROFD_EXPORT int signalfd(int fd, const sigset_t *mask, int flags)
{
	if (on() && sigismember(mask, SIGPROF) == 1)
		profd_timer_forbid_perf();
	return PROFD_REAL(signalfd)(fd, mask, flags);
}

// ---- Handing it on to another image --------------------------------------------------------------------------------

void profd_interpose_signal_expose(struct profd_signal_state *state)
{
	uint64_t prof = PROF_BIT;

	memset(state, 0, sizeof(*state));
	if (!on())
		return;
	if (profd_handler_app_blocks) {
		profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&prof, 0, sizeof(prof));
		state->mask_changed = true;
	}
	if (profd_handler_app_action->handler == (void *)SIG_IGN) {
		struct sigaction ignore;

		memset(&ignore, 0, sizeof(ignore));
		ignore.sa_handler = SIG_IGN;
		PROFD_REAL(sigaction)(SIGPROF, &ignore, NULL);
		state->disposition_changed = true;
	}
}

void profd_interpose_signal_undo(const struct profd_signal_state *state)
{
	int error = errno;
	uint64_t prof = PROF_BIT;

	if (state->disposition_changed)
		install(profd_handler_app_action);
	if (state->mask_changed)
		profd_raw4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&prof, 0, sizeof(prof));
	errno = error;
}

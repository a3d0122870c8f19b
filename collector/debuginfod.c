// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debuginfod.c: see debuginfod.h.

#include "collector/debuginfod.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/debuginfod_helper.h"
#include "collector/elf_file.h"
#include "collector/intern.h"

#define MAX_BYTES (4u << 20) // of all build IDs that were ever wanted
#define MAX_LEFT 64          // that are fetched on after our end
#define NONE_RETRY_S 600
#define FAILED_RETRY_S 600
#define PAUSE_S 60 // after a server did not answer

struct entry {
	char build_id[ELF_BUILD_ID_HEX];
	bool started; // by the helper that runs now
	enum debuginfod_state state;
	int64_t retry_s;
	char reason[DEBUGINFOD_REASON];
};

struct debuginfod {
	struct debuginfod_options options;
	char *urls, *helper;
	pthread_t thread;
	int stop_fd; // an eventfd: readable from the end on
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	// Under lock.
	bool stopping;
	struct intern_budget budget;
	struct intern entries;
	int64_t pause_until_s;
	char pause_reason[DEBUGINFOD_REASON];
	struct debuginfod_counters counters;
};

const char *debuginfod_directory(char *buf, size_t size)
{
	const char *own = getenv("DEBUGINFOD_CACHE_PATH");
	const char *caches = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int needed;

	if (own && own[0])
		needed = snprintf(buf, size, "%s", own);
	else if (caches && caches[0] == '/')
		needed = snprintf(buf, size, "%s/debuginfod_client", caches);
	else if (home && home[0] == '/')
		needed = snprintf(buf, size, "%s/.cache/debuginfod_client", home);
	else
		return NULL;
	return needed > 0 && (size_t)needed < size ? buf : NULL;
}

// ---- The thread ----------------------------------------------------------------------------------------------------

// Under the lock. NULL: none is wanted.
static struct entry *next_wanted(struct debuginfod *debuginfod)
{
	for (uint32_t i = 0; i < debuginfod->entries.count; i++) {
		struct entry *entry = intern_item(&debuginfod->entries, i);

		if (entry->state == DEBUGINFOD_WANTED)
			return entry;
	}
	return NULL;
}

// Under the lock.
static void take_result(struct debuginfod *debuginfod, struct entry *entry, const struct debuginfod_result *result)
{
	int64_t now = clock_now_s();

	entry->started = false;
	snprintf(entry->reason, sizeof(entry->reason), "%s", result->reason);
	switch (result->kind) {
	case DEBUGINFOD_RESULT_HERE:
		entry->state = DEBUGINFOD_HERE;
		debuginfod->counters.downloaded++;
		break;
	case DEBUGINFOD_RESULT_NONE:
		entry->state = DEBUGINFOD_NONE;
		entry->retry_s = now + NONE_RETRY_S;
		debuginfod->counters.not_there++;
		break;
	case DEBUGINFOD_RESULT_UNFIT:
		entry->state = DEBUGINFOD_FAILED;
		entry->retry_s = now + FAILED_RETRY_S;
		debuginfod->counters.failed++;
		break;
	case DEBUGINFOD_RESULT_NO_ANSWER:
		entry->state = DEBUGINFOD_FAILED;
		entry->retry_s = debuginfod->pause_until_s = now + PAUSE_S;
		memcpy(debuginfod->pause_reason, entry->reason, sizeof(entry->reason));
		debuginfod->counters.failed++;
		break;
	}
}

// Without the lock. False: we are to end, and the helper was left or killed.
static bool ask(struct debuginfod *debuginfod, const char *build_id, struct debuginfod_result *ret_result)
{
	const char *ids[] = {build_id};
	struct debuginfod_helper helper;
	int error = debuginfod_helper_start(debuginfod->helper, debuginfod->urls, ids, 1, &helper);

	*ret_result = (struct debuginfod_result){.kind = DEBUGINFOD_RESULT_NO_ANSWER};
	if (error) {
		snprintf(ret_result->reason, sizeof(ret_result->reason), "no process to download it: %s",
			 strerror(-error));
		return true;
	}
	if (debuginfod_helper_wait(&helper, debuginfod->stop_fd, ret_result)) {
		debuginfod_helper_end(&helper, true);
		return true;
	}
	debuginfod_helper_end(&helper, !debuginfod->options.leave_running);
	return false;
}

static void *work(void *context)
{
	struct debuginfod *debuginfod = context;

	pthread_mutex_lock(&debuginfod->lock);
	while (!debuginfod->stopping) {
		struct entry *entry = next_wanted(debuginfod);
		char build_id[ELF_BUILD_ID_HEX];
		struct debuginfod_result result;
		bool done;

		if (!entry) {
			pthread_cond_wait(&debuginfod->wanted, &debuginfod->lock);
			continue;
		}
		if (clock_now_s() < debuginfod->pause_until_s) {
			entry->state = DEBUGINFOD_FAILED;
			entry->retry_s = debuginfod->pause_until_s;
			memcpy(entry->reason, debuginfod->pause_reason, sizeof(entry->reason));
			continue;
		}
		entry->started = true;
		debuginfod->counters.asked++;
		memcpy(build_id, entry->build_id, sizeof(build_id));
		pthread_mutex_unlock(&debuginfod->lock);
		done = ask(debuginfod, build_id, &result);
		pthread_mutex_lock(&debuginfod->lock);
		entry = intern_item(&debuginfod->entries,
				    intern_find(&debuginfod->entries, build_id)); // may have moved
		if (done)
			take_result(debuginfod, entry, &result);
	}
	pthread_mutex_unlock(&debuginfod->lock);
	return NULL;
}

// ---- From outside --------------------------------------------------------------------------------------------------

static bool copy_options(struct debuginfod *debuginfod, const struct debuginfod_options *options)
{
	debuginfod->options = *options;
	debuginfod->urls = strdup(options->urls);
	debuginfod->helper = strdup(options->helper ? options->helper : "/proc/self/exe");
	return debuginfod->urls && debuginfod->helper;
}

static bool start(struct debuginfod *debuginfod)
{
	sigset_t all, before;
	int error;

	debuginfod->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (debuginfod->stop_fd < 0)
		return false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); // signals are the main thread's business
	error = pthread_create(&debuginfod->thread, NULL, work, debuginfod);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error == 0;
}

static void release(struct debuginfod *debuginfod)
{
	if (debuginfod->stop_fd >= 0)
		close(debuginfod->stop_fd);
	intern_finish(&debuginfod->entries);
	pthread_cond_destroy(&debuginfod->wanted);
	pthread_mutex_destroy(&debuginfod->lock);
	free(debuginfod->urls);
	free(debuginfod->helper);
	free(debuginfod);
}

struct debuginfod *debuginfod_create(const struct debuginfod_options *options)
{
	struct debuginfod *debuginfod = calloc(1, sizeof(*debuginfod));

	if (!debuginfod)
		return NULL;
	debuginfod->stop_fd = -1;
	debuginfod->budget.max = MAX_BYTES;
	intern_init(&debuginfod->entries, sizeof(struct entry), ELF_BUILD_ID_HEX, &debuginfod->budget);
	pthread_mutex_init(&debuginfod->lock, NULL);
	pthread_cond_init(&debuginfod->wanted, NULL);
	if (copy_options(debuginfod, options) && start(debuginfod))
		return debuginfod;
	release(debuginfod);
	return NULL;
}

// What was wanted and not begun: one helper has the rest, and nobody waits for it.
static void leave_rest(struct debuginfod *debuginfod)
{
	const char *ids[MAX_LEFT];
	struct debuginfod_helper helper;
	size_t count = 0;

	for (uint32_t i = 0; i < debuginfod->entries.count && count < MAX_LEFT; i++) {
		const struct entry *entry = intern_item(&debuginfod->entries, i);

		if (entry->state == DEBUGINFOD_WANTED && !entry->started)
			ids[count++] = entry->build_id;
	}
	if (count > 0 && debuginfod_helper_start(debuginfod->helper, debuginfod->urls, ids, count, &helper) == 0)
		debuginfod_helper_end(&helper, false);
}

void debuginfod_destroy(struct debuginfod *debuginfod)
{
	const uint64_t one = 1;

	if (!debuginfod)
		return;
	pthread_mutex_lock(&debuginfod->lock);
	debuginfod->stopping = true;
	pthread_cond_signal(&debuginfod->wanted);
	pthread_mutex_unlock(&debuginfod->lock);
	(void)!write(debuginfod->stop_fd, &one, sizeof(one));
	pthread_join(debuginfod->thread, NULL);
	if (debuginfod->options.leave_running)
		leave_rest(debuginfod);
	release(debuginfod);
}

enum debuginfod_state debuginfod_want(struct debuginfod *debuginfod, const char *build_id,
				      char reason[DEBUGINFOD_REASON])
{
	char key[ELF_BUILD_ID_HEX] = "";
	enum debuginfod_state state = DEBUGINFOD_FAILED;
	struct entry *entry;
	uint32_t index;
	bool new;

	snprintf(key, sizeof(key), "%s", build_id);
	snprintf(reason, DEBUGINFOD_REASON, "too many files");
	pthread_mutex_lock(&debuginfod->lock);
	index = intern_add(&debuginfod->entries, key, &new);
	if (index != INTERN_NONE) {
		entry = intern_item(&debuginfod->entries, index);
		if (!new && (entry->state == DEBUGINFOD_NONE || entry->state == DEBUGINFOD_FAILED) &&
		    clock_now_s() >= entry->retry_s)
			entry->state = DEBUGINFOD_WANTED;
		state = entry->state;
		memcpy(reason, state == DEBUGINFOD_FAILED ? entry->reason : "",
		       state == DEBUGINFOD_FAILED ? DEBUGINFOD_REASON : 1);
		if (state == DEBUGINFOD_WANTED)
			pthread_cond_signal(&debuginfod->wanted);
	}
	pthread_mutex_unlock(&debuginfod->lock);
	return state;
}

void debuginfod_counters(struct debuginfod *debuginfod, struct debuginfod_counters *ret_counters)
{
	pthread_mutex_lock(&debuginfod->lock);
	*ret_counters = debuginfod->counters;
	pthread_mutex_unlock(&debuginfod->lock);
}

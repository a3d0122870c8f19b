// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// api.c: the agent's side of the public header. Any thread of the target, in any context. Nothing is done while the agent is off, and
// errno stays: what is called uses raw system calls, if any.

#include "include/profd.h"

#include <string.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/interpose.h"
#include "profd/labels.h"
#include "profd/links.h"
#include "profd/tasks.h"

PROFD_EXPORT int profd_agent_active(void)
{
	return profd_agent_is_on();
}

PROFD_EXPORT const char *profd_agent_version(void)
{
	return PROFD_VERSION;
}

PROFD_EXPORT void profd_agent_capture(struct profd_link *ret_link)
{
	if (profd_agent_is_on())
		profd_links_capture(PROFD_CALLER(), ret_link);
}

PROFD_EXPORT void profd_agent_enter(const struct profd_link *link)
{
	if (profd_agent_is_on())
		profd_links_enter(link);
}

PROFD_EXPORT void profd_agent_leave(void)
{
	if (profd_agent_is_on())
		profd_links_leave();
}

PROFD_EXPORT int profd_agent_label_set(const char *key, const char *value)
{
	return profd_agent_is_on() ? profd_labels_set(key, value) : 0;
}

PROFD_EXPORT void profd_agent_label_clear(const char *key)
{
	if (profd_agent_is_on())
		profd_labels_clear(key);
}

PROFD_EXPORT void profd_agent_trace_set(const unsigned char *trace_id, const unsigned char *span_id, int sampled)
{
	struct wire_trace trace = {.flags = sampled ? WIRE_TRACE_SAMPLED : 0};

	if (!profd_agent_is_on())
		return;
	if (trace_id)
		memcpy(trace.trace_id, trace_id, sizeof(trace.trace_id));
	if (span_id)
		memcpy(trace.span_id, span_id, sizeof(trace.span_id));
	profd_labels_set_trace(trace_id != NULL, &trace);
}

PROFD_EXPORT unsigned int profd_agent_task_register(const char *name, const void *stack, unsigned long size)
{
	return profd_agent_is_on() ? profd_tasks_add(name, (uint64_t)(uintptr_t)stack, size) : 0;
}

PROFD_EXPORT void profd_agent_task_unregister(unsigned int task)
{
	if (profd_agent_is_on())
		profd_tasks_remove(task);
}

PROFD_EXPORT void profd_agent_task_suspend(unsigned int task, const char *state)
{
	if (profd_agent_is_on())
		profd_tasks_suspend(task, state, PROFD_CALLER());
}

PROFD_EXPORT void profd_agent_task_resume(unsigned int task)
{
	if (profd_agent_is_on())
		profd_tasks_resume(task);
}

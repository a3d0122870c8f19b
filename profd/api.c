// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// api.c: the agent's side of the public header. Any thread of the target, in any context.

#include "include/profd.h"

#include "profd/agent.h"
#include "profd/interpose.h"

PROFD_EXPORT int profd_agent_active(void)
{
	return profd_agent_is_on();
}

PROFD_EXPORT const char *profd_agent_version(void)
{
	return PROFD_VERSION;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// plugin.c: the library that target_dl.c loads and unloads.

#include "target.h"

long plugin_work(double ms);

TARGET_NOINLINE static void plugin_inner(double ms)
{
	target_burn(ms);
	__asm__ volatile("");
}

long plugin_work(double ms)
{
	plugin_inner(ms);
	return 42;
}

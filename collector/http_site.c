// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_site.c: see http_site.h.

#include "collector/http_site.h"
#include <string.h>

static bool http_site_is_index(const char *path)
{
	static const char *const pages[] = {"", "/", "/debug/pprof", "/debug/pprof/"};
	size_t digits = path[0] == '/' ? strspn(path + 1, "0123456789") : 0;

	if (digits > 0)
		path += 1 + digits; // the target's PID
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (strcmp(path, pages[i]) == 0)
			return true;
	return false;
}

static bool http_site_is(const char *value, const char *word)
{
	return value != NULL && strcmp(value, word) == 0;
}

bool http_site_may_ask(const struct http_site *from, enum http_method method, const char *path)
{
	if (from->site == NULL || http_site_is(from->site, "same-origin") || http_site_is(from->site, "none"))
		return true;
	return method == HTTP_GET && http_site_is(from->mode, "navigate") &&
	       http_site_is(from->destination, "document") && http_site_is_index(path);
}

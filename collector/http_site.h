// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_site.h: whether a page of another site may have a browser ask us (Fetch Metadata, W3C). Any thread.

#ifndef PROFD_COLLECTOR_HTTP_SITE_H
#define PROFD_COLLECTOR_HTTP_SITE_H

#include "collector/http_message.h"
#include <stdbool.h>

// The headers Sec-Fetch-Site, -Mode and -Dest; NULL: absent.
struct http_site {
	const char *site, *mode, *destination;
};

// Our own pages, addresses that a person typed, and what is no browser (it sends none of these headers) may ask anything. Another site, and
// another port of this host, may only send a person's window to an index page: a link does that. It cannot be seen from a request
// whether somebody clicked, so a link to what takes the target's time is refused, too.
bool http_site_may_ask(const struct http_site *from, enum http_method method, const char *path);

#endif

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fetch.h: asks another profd over HTTP. libcurl is loaded when it is needed first: linked, it would bring some thirty libraries into every
// collector. One thread at a time.

#ifndef PROFD_COLLECTOR_FETCH_H
#define PROFD_COLLECTOR_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/writer.h"

#define FETCH_URL_MAX 2048

// "http://…" or "https://…"
bool fetch_is_url(const char *text);
// The address of a profile of the target that text means: http://HOST:PORT, http://HOST:PORT/PID, either with /debug/pprof and maybe the
// name of a profile behind it. query: "" or "key=value&…". False when it is no such address, or has a query of its own.
bool fetch_profile_url(const char *text, const char *profile, const char *query, char url[FETCH_URL_MAX]);
// The value of a query's parameter, encoded; false when it is too long.
bool fetch_encode(const char *value, char *buf, size_t size);
// Gives the body of a 200 answer to sink. Follows nothing to other places; a server that says nothing for a minute longer than wait_s, in
// which it makes what was asked for, is given up. 0, or −1 with a line that says why: the server's own if it sent one.
int fetch_get(const char *url, uint32_t wait_s, writer_sink sink, void *context, char *error, size_t error_size);

#endif

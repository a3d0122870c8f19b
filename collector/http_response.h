// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_response.h: an endpoint's reply as libmicrohttpd wants it: a body that is there, or a stream that is made while it is sent.

#ifndef PROFD_COLLECTOR_HTTP_RESPONSE_H
#define PROFD_COLLECTOR_HTTP_RESPONSE_H

#include <microhttpd.h>

struct http_reply;

// Takes over the reply's body or stream. NULL when out of memory: they are still the reply's, then. On the connection's thread.
struct MHD_Response *http_response_create(struct http_reply *reply);

#endif

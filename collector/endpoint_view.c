// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_view.c: how a request wants its samples shown (formats/profile_view.h): causal=1, label=KEY=VALUE, group=KEY, sampled_only=1. The
// same for every kind of profile. On the connection's thread.

#include <string.h>

#include "collector/endpoints.h"
#include "formats/profile_view.h"

// false: reply says why not.
static bool parse_flag(const struct http_request *request, const char *name, bool *ret_flag, struct http_reply *reply)
{
	char text[8];

	*ret_flag = false;
	if (!http_request_param(request, name, text, sizeof(text)) || strcmp(text, "0") == 0)
		return true;
	*ret_flag = strcmp(text, "1") == 0;
	if (!*ret_flag)
		http_reply_error(reply, 400, "%s must be 0 or 1", name);
	return *ret_flag;
}

bool endpoint_view_parse(const struct http_request *request, struct profile_view *ret_view, struct http_reply *reply)
{
	struct profile_view view = {.causal = false};
	char text[256];

	if (!parse_flag(request, "causal", &view.causal, reply) ||
	    !parse_flag(request, "sampled_only", &view.labels.sampled_only, reply))
		return false;
	if (http_request_param(request, "label", text, sizeof(text)) && !label_choice_parse(text, &view.labels)) {
		http_reply_error(reply, 400, "label must be KEY=VALUE");
		return false;
	}
	if (http_request_param(request, "group", view.labels.group, sizeof(view.labels.group)) &&
	    (view.labels.group[0] == '\0' || strlen(view.labels.group) + 1 == sizeof(view.labels.group))) {
		http_reply_error(reply, 400, "group must be the key of a label, of at most %zu bytes",
				 sizeof(view.labels.group) - 2);
		return false;
	}
	*ret_view = view;
	return true;
}

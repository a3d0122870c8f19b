// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fetch.c: see fetch.h. What a server sends is anybody's: what is said of it is one line without control characters.

#include "collector/fetch.h"

#include <ctype.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_SECONDS 10L
#define SILENT_SECONDS 60L
#define PREFIX "/debug/pprof"

struct curl_library {
	CURL *(*easy_init)(void);
	CURLcode (*easy_setopt)(CURL *curl, CURLoption option, ...);
	CURLcode (*easy_perform)(CURL *curl);
	CURLcode (*easy_getinfo)(CURL *curl, CURLINFO info, ...);
	void (*easy_cleanup)(CURL *curl);
	const char *(*easy_strerror)(CURLcode code);
};

struct transfer {
	const struct curl_library *library;
	CURL *curl;
	writer_sink sink;
	void *context;
	long status;
	size_t said; // of error
	char *error;
	size_t error_size;
};

bool fetch_is_url(const char *text)
{
	return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

bool fetch_encode(const char *value, char *buf, size_t size)
{
	size_t used = 0;

	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;

		if (used + 4 > size)
			return false;
		if (isalnum(c) || c == '-' || c == '.' || c == '_')
			buf[used++] = (char)c;
		else
			used += (size_t)snprintf(buf + used, size - used, "%%%02X", c);
	}
	buf[used] = '\0';
	return true;
}

bool fetch_profile_url(const char *text, const char *profile, const char *query, char url[FETCH_URL_MAX])
{
	const char *host = strstr(text, "://") + 3;
	const char *path = host + strcspn(host, "/");
	size_t length = strlen(text);
	const char *prefix = strstr(path, PREFIX);
	int n;

	if (path == host || strpbrk(text, "?#\\ ") || length >= FETCH_URL_MAX)
		return false;
	if (prefix && strchr(prefix + strlen(PREFIX) + (prefix[strlen(PREFIX)] == '/'), '/'))
		return false;
	if (prefix && prefix[strlen(PREFIX)] != '/' && prefix[strlen(PREFIX)] != '\0')
		return false;
	if (prefix)
		length = (size_t)(prefix - text);
	while (length > (size_t)(path - text) && text[length - 1] == '/')
		length--;
	// Between the host and the prefix there is a PID, or nothing.
	if (length > (size_t)(path - text) &&
	    (path[0] != '/' || strspn(path + 1, "0123456789") != length - (size_t)(path - text) - 1))
		return false;
	n = snprintf(url, FETCH_URL_MAX, "%.*s" PREFIX "/%s%s%s", (int)length, text, profile, query[0] ? "?" : "",
		     query);
	return n > 0 && n < FETCH_URL_MAX;
}

static const struct curl_library *load(char *error, size_t error_size)
{
	static struct curl_library library;
	void *handle;

	if (library.easy_strerror)
		return &library;
	handle = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		snprintf(error, error_size, "libcurl.so.4 cannot be loaded; install libcurl4");
		return NULL;
	}
	*(void **)&library.easy_init = dlsym(handle, "curl_easy_init");
	*(void **)&library.easy_setopt = dlsym(handle, "curl_easy_setopt");
	*(void **)&library.easy_perform = dlsym(handle, "curl_easy_perform");
	*(void **)&library.easy_getinfo = dlsym(handle, "curl_easy_getinfo");
	*(void **)&library.easy_cleanup = dlsym(handle, "curl_easy_cleanup");
	if (library.easy_init && library.easy_setopt && library.easy_perform && library.easy_getinfo &&
	    library.easy_cleanup)
		*(void **)&library.easy_strerror = dlsym(handle, "curl_easy_strerror");
	if (library.easy_strerror)
		return &library;
	snprintf(error, error_size, "libcurl.so.4 is not the libcurl that we know");
	return NULL;
}

// A refusal's first line.
static void keep_error(struct transfer *transfer, const char *data, size_t size)
{
	for (size_t i = 0; i < size && transfer->said + 1 < transfer->error_size; i++) {
		if (data[i] == '\n')
			transfer->error_size = transfer->said + 1; // no more
		else
			transfer->error[transfer->said++] =
				(unsigned char)data[i] < ' ' || data[i] == 0x7f ? '?' : data[i];
	}
	transfer->error[transfer->said] = '\0';
}

static size_t take(char *data, size_t one, size_t size, void *context)
{
	struct transfer *transfer = context;

	if (transfer->status == 0)
		transfer->library->easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &transfer->status);
	if (transfer->status != 200) {
		keep_error(transfer, data, size);
		return size;
	}
	return transfer->sink(transfer->context, data, size) == 0 ? size : 0;
}

static void set_options(struct transfer *transfer, const char *url, uint32_t wait_s)
{
	CURLcode (*set)(CURL * curl, CURLoption option, ...) = transfer->library->easy_setopt;

	set(transfer->curl, CURLOPT_URL, url);
	set(transfer->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	set(transfer->curl, CURLOPT_FOLLOWLOCATION, 0L);
	set(transfer->curl, CURLOPT_NOSIGNAL, 1L);
	set(transfer->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	set(transfer->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	set(transfer->curl, CURLOPT_LOW_SPEED_TIME, SILENT_SECONDS + (long)wait_s);
	set(transfer->curl, CURLOPT_USERAGENT, "profd/" PROFD_VERSION);
	set(transfer->curl, CURLOPT_WRITEFUNCTION, take);
	set(transfer->curl, CURLOPT_WRITEDATA, transfer);
	// A proxy is for other hosts.
	if (strstr(url, "://127.") || strstr(url, "://localhost") || strstr(url, "://[::1]"))
		set(transfer->curl, CURLOPT_NOPROXY, "*");
}

int fetch_get(const char *url, uint32_t wait_s, writer_sink sink, void *context, char *error, size_t error_size)
{
	struct transfer transfer = {.library = load(error, error_size),
				    .sink = sink,
				    .context = context,
				    .error = error,
				    .error_size = error_size};
	CURLcode code;

	if (!transfer.library)
		return -1;
	error[0] = '\0';
	transfer.curl = transfer.library->easy_init();
	if (!transfer.curl) {
		snprintf(error, error_size, "out of memory");
		return -1;
	}
	set_options(&transfer, url, wait_s);
	code = transfer.library->easy_perform(transfer.curl);
	if (transfer.status == 0)
		transfer.library->easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &transfer.status);
	transfer.library->easy_cleanup(transfer.curl);
	if (code == CURLE_OK && transfer.status == 200)
		return 0;
	if (code == CURLE_WRITE_ERROR)
		snprintf(error, error_size, "what it sent cannot be written");
	else if (code != CURLE_OK)
		snprintf(error, error_size, "%s", transfer.library->easy_strerror(code));
	else if (!error[0])
		snprintf(error, error_size, "it answered with status %ld", transfer.status);
	return -1;
}

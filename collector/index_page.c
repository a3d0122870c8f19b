// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// index_page.c: the pages for people: the list of targets, and what one target offers. Plain HTML that needs no network and no
// script. Names come from the targets and are escaped. Any connection thread.

#include "collector/endpoints.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define INDEX_MAX_PAGE (64u << 20)
#define INDEX_POLICY "default-src 'none'; style-src 'unsafe-inline'"
#define NS_PER_S 1000000000LL

static const char index_style[] =
	"body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color:#222;"
	"background:#fff}"
	"h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.6em}"
	"table{border-collapse:collapse}th,td{text-align:left;padding:.2em 1.2em .2em 0;vertical-align:top}"
	"th{border-bottom:1px solid #999}.n{text-align:right;font-variant-numeric:tabular-nums}"
	"code,pre{font:13px/1.5 ui-monospace,monospace}.dim{color:#666}a{color:#0645ad}"
	"@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}a{color:#8ab4f8}.dim{color:#999}}";

static void index_head(struct writer *writer, const char *title)
{
	writer_puts(writer, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
			    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>");
	writer_xml(writer, title);
	writer_printf(writer, "</title>\n<style>%s</style>\n</head>\n<body>\n<h1>", index_style);
	writer_xml(writer, title);
	writer_puts(writer, "</h1>\n");
}

static void index_end(struct http_page *page, struct http_reply *reply)
{
	writer_puts(&page->writer, "<p class=\"dim\">profd " PROFD_VERSION "</p>\n</body>\n</html>\n");
	http_page_end(page, reply, "text/html; charset=utf-8");
	if (reply->status == 200)
		reply->policy = INDEX_POLICY;
}

static void index_time(int64_t epoch_ns, char *buf, size_t size)
{
	time_t seconds = (time_t)(epoch_ns / NS_PER_S);
	struct tm utc;

	if (gmtime_r(&seconds, &utc) == NULL || strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		snprintf(buf, size, "-");
}

static uint32_t index_rate_hz(const struct collector_target *target)
{
	return target->period_ns != 0 ? (uint32_t)((NS_PER_S + target->period_ns / 2) / target->period_ns) : 0;
}

static void index_target_row(struct writer *writer, const struct collector_target *target)
{
	char since[32];

	index_time(target->since_ns, since, sizeof(since));
	writer_printf(writer, "<tr><td class=\"n\"><a href=\"/%d/debug/pprof/\">%d</a></td><td class=\"n\">%d</td><td>",
		      (int)target->pid, (int)target->pid, (int)target->ppid);
	writer_xml(writer, target->comm);
	writer_printf(writer,
		      "</td><td class=\"n\">%u</td><td class=\"n\">%u</td><td class=\"n\">%u</td><td>%s</td><td>",
		      (unsigned)target->uid, target->threads_live, index_rate_hz(target), since);
	writer_xml(writer, target->exe);
	writer_puts(writer, "</td></tr>\n");
}

static void index_targets_html(const struct collector_target *targets, size_t count, struct writer *writer)
{
	index_head(writer, "profd: targets");
	if (count == 0)
		writer_puts(writer, "<p>No process is registered now. Start one with <code>LD_PRELOAD=libprofd.so "
				    "COMMAND</code>.</p>\n");
	writer_puts(writer, "<table>\n<tr><th class=\"n\">PID</th><th class=\"n\">parent</th><th>name</th>"
			    "<th class=\"n\">user</th><th class=\"n\">threads</th><th class=\"n\">sampled at Hz</th>"
			    "<th>since</th><th>program</th></tr>\n");
	for (size_t i = 0; i < count; i++)
		index_target_row(writer, &targets[i]);
	writer_puts(writer,
		    "</table>\n<p><a href=\"/metrics\">metrics</a> · the same list as <a href=\"/?format=text\">"
		    "text</a> or <a href=\"/?format=json\">JSON</a></p>\n");
}

static void index_targets_text(const struct collector_target *targets, size_t count, struct writer *writer)
{
	for (size_t i = 0; i < count; i++) {
		const struct collector_target *target = &targets[i];
		char comm[sizeof(target->comm)];
		char since[32];
		snprintf(comm, sizeof(comm), "%s", target->comm);
		for (char *c = comm; *c != '\0'; c++) {
			if ((unsigned char)*c <= ' ' || *c == 0x7f)
				*c = '_'; // one line a target, whatever it calls itself
		}
		index_time(target->since_ns, since, sizeof(since));
		writer_printf(writer, "%d\t%d\t%u\t%s\t%u\t%u\t%s\n", (int)target->pid, (int)target->ppid,
			      (unsigned)target->uid, comm, target->threads_live, index_rate_hz(target), since);
	}
}

static void index_targets_json(const struct collector_target *targets, size_t count, struct writer *writer)
{
	writer_puts(writer, "[");
	for (size_t i = 0; i < count; i++) {
		const struct collector_target *target = &targets[i];
		char since[32];
		index_time(target->since_ns, since, sizeof(since));
		writer_printf(writer, "%s\n{\"pid\":%d,\"ppid\":%d,\"uid\":%u,\"comm\":\"", i > 0 ? "," : "",
			      (int)target->pid, (int)target->ppid, (unsigned)target->uid);
		writer_json(writer, target->comm);
		writer_puts(writer, "\",\"exe\":\"");
		writer_json(writer, target->exe);
		writer_printf(writer,
			      "\",\"since\":\"%s\",\"threads\":%u,\"rate_hz\":%u,\"path\":\"/%d/debug/pprof/\"}", since,
			      target->threads_live, index_rate_hz(target), (int)target->pid);
	}
	writer_puts(writer, "\n]\n");
}

void index_page_targets(const struct collector_target *targets, size_t count, const char *format,
			struct http_reply *reply)
{
	struct http_page page;

	http_page_init(&page, INDEX_MAX_PAGE);
	if (strcmp(format, "json") == 0) {
		index_targets_json(targets, count, &page.writer);
		http_page_end(&page, reply, "application/json");
	} else if (strcmp(format, "text") == 0) {
		index_targets_text(targets, count, &page.writer);
		http_page_end(&page, reply, "text/plain; charset=utf-8");
	} else {
		index_targets_html(targets, count, &page.writer);
		index_end(&page, reply);
	}
}

// Sorted by name, as Go's. A count of what is there now; href is relative, so that it holds under /PID/ as well.
static const struct index_entry {
	const char *name, *href, *description;
} index_entries[] = {
	{"allocs", "allocs?debug=1",
	 "What was allocated since heap profiling was switched on, freed or not: a sample of it. As heap, otherwise."},
	{"block", "block?debug=1",
	 "How long threads waited for locks, condition variables, semaphores, joins, and with block_io=1 for files, "
	 "sockets "
	 "and time: by the "
	 "stacks that waited. As heap, otherwise. Off until it is switched on: PROFD_BLOCK_RATE=10000, or POST "
	 "config?block_rate=10000."},
	{"cmdline", "cmdline", "The command line, its arguments separated by NUL."},
	{"goroutine", "goroutine?debug=1",
	 "All threads now, with stacks and what they wait for: grouped (debug=1), one by one (debug=2), as pprof "
	 "(debug=0), or in "
	 "a format: json, folded, svg, html, speedscope. Also under the name threads. No thread is stopped or woken."},
	{"heap", "heap?debug=1",
	 "Allocations that are in use now: a sample of them, scaled. As pprof (debug=0), text (debug=1), or in a "
	 "format: folded, "
	 "svg, html, speedscope; with seconds=N what changed over so long. It is off until it is switched on: "
	 "PROFD_HEAP_RATE=524288 in the program's environment, or POST config?heap_rate=524288."},
	{"mutex", "mutex?debug=1",
	 "How long threads waited for locks, by the stacks that gave them back: whose fault it was. As heap, "
	 "otherwise. Off "
	 "until it is switched on: PROFD_MUTEX_FRACTION=10, or POST config?mutex_fraction=10."},
	{"profile", "profile",
	 "CPU profile. You can give the duration in seconds, the rate in samples a second (rate=1000), and the format: "
	 "pprof (default), folded, svg, html, speedscope. It samples only while such a request runs."},
	{"symbol", "symbol",
	 "Function names of addresses: symbol?0xADDRESS+0xADDRESS, or the same as the body of a POST."},
	{"threadcreate", "threadcreate?debug=1",
	 "Stacks that made threads, with the number each made since the start."},
	{"trace", "trace?seconds=5",
	 "What threads do, on a time axis: created by whom, waiting for what, woken by whom, ended, with samples "
	 "between. "
	 "For ui.perfetto.dev; format=chrome and speedscope for these. With last=N what a flight recorder "
	 "(PROFD_TRACE=flight) has of the last N seconds."},
	{"wall", "wall?seconds=5",
	 "Wall-clock profile: where threads spend their time, on a CPU or waiting, with the same parameters as "
	 "profile; rate=100 at "
	 "most. No thread is stopped or woken."},
	{"zombies", "zombies?window=10",
	 "Threads that live and will not be woken again, as far as snapshots and the event trace agree: looks for "
	 "window "
	 "seconds. It knows more where PROFD_TRACE=flight is in the program's environment."},
};
#define INDEX_ENTRIES (sizeof(index_entries) / sizeof(index_entries[0]))

static void index_profiles(struct endpoints *endpoints, const struct collector_target *target, struct writer *writer)
{
	writer_puts(writer, "<h2>Profiles</h2>\n<table>\n<tr><th class=\"n\">Count</th><th>Profile</th></tr>\n");
	for (size_t i = 0; i < INDEX_ENTRIES; i++) {
		const struct index_entry *entry = &index_entries[i];
		uint32_t count = strcmp(entry->name, "profile") == 0     ? endpoints_running(endpoints)
				 : strcmp(entry->name, "goroutine") == 0 ? target->threads_live
									 : 0;
		writer_printf(writer, "<tr><td class=\"n\">%u</td><td><a href=\"%s\">%s</a></td></tr>\n", count,
			      entry->href, entry->name);
	}
	writer_puts(writer,
		    "</table>\n<p><a href=\"goroutine?debug=2\">full dump of all threads</a></p>\n<p>10 "
		    "seconds of CPU as: <a href=\"profile?seconds=10&amp;format=html\">flame graph"
		    "</a> · <a href=\"profile?seconds=10&amp;format=svg\">SVG</a> · "
		    "<a href=\"profile?seconds=10&amp;format=folded\">folded stacks</a> · "
		    "<a href=\"profile?seconds=10&amp;format=speedscope\">speedscope</a> · "
		    "<a href=\"profile?seconds=10\">pprof</a></p>\n<p>Heap in use as: "
		    "<a href=\"heap?format=html\">flame graph</a> · <a href=\"heap?format=folded\">folded stacks</a>"
		    "</p>\n<h2>Profile descriptions</h2>\n<ul>\n");
	for (size_t i = 0; i < INDEX_ENTRIES; i++)
		writer_printf(writer, "<li><b>%s</b>: %s</li>\n", index_entries[i].name, index_entries[i].description);
	writer_puts(writer, "</ul>\n");
}

void index_page_target(struct endpoints *endpoints, const struct collector_target *target, struct http_reply *reply)
{
	struct http_page page;
	char title[64];

	http_page_init(&page, INDEX_MAX_PAGE);
	snprintf(title, sizeof(title), "%.15s (%d)", target->comm, (int)target->pid);
	index_head(&page.writer, title);
	writer_puts(&page.writer, "<p><code>");
	writer_xml(&page.writer, target->exe);
	writer_printf(&page.writer, "</code><br>%u threads, user %u, %s</p>\n", target->threads_live,
		      (unsigned)target->uid, target->period_ns != 0 ? "being sampled" : "not being sampled");
	index_profiles(endpoints, target, &page.writer);
	writer_printf(&page.writer, "<p><a href=\"/metrics\">metrics</a>%s</p>\n",
		      endpoints->has_index ? " · <a href=\"/\">all targets</a>" : "");
	index_end(&page, reply);
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_http.c: what every path answers, in which headers, and with which errors.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http_fake.h"

// ---- The short answers ---------------------------------------------------------------------------------------------

static void test_index(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_fetch(server, "/debug/pprof/", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/html; charset=utf-8");
	assert_header(&answer, "X-Content-Type-Options", "nosniff");
	assert_null(http_client_header(&answer, "X-Go-Pprof"));
	const char *cmdline = strstr(answer.body, "<a href=\"cmdline\">");
	const char *profile = strstr(answer.body, "<a href=\"profile\">");
	const char *symbol = strstr(answer.body, "<a href=\"symbol\">");
	assert_true(cmdline != NULL && cmdline < profile && profile < symbol);
	assert_null(strstr(answer.body, "self<b>"));
	assert_non_null(strstr(answer.body, "self&lt;b&gt;"));
	assert_null(strstr(answer.body, "http://")); // works offline
	free(answer.body);
	http_server_destroy(server);
}

static void test_redirects(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	static const char *const moves[][3] = {{"/", "302", "/debug/pprof/"},
					       {"/debug/pprof", "301", "/debug/pprof/"},
					       {"/77", "301", "/77/debug/pprof/"},
					       {"/77/", "301", "/77/debug/pprof/"},
					       {"/77/debug/pprof", "301", "/77/debug/pprof/"}};

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		struct answer answer;
		http_client_fetch(server, moves[i][0], &answer);
		assert_int_equal(answer.status, strtol(moves[i][1], NULL, 10));
		assert_header(&answer, "Location", moves[i][2]);
		free(answer.body);
	}
	http_server_destroy(server);
}

static void test_trace(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_fetch(server, "/debug/pprof/trace?seconds=0.1", &answer);
	assert_non_null(strstr(answer.body, "perfetto: 0\n")); // in chunks
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"trace.perfetto-trace\"");
	free(answer.body);
	assert_int_equal((int)fake.last_rate, 100);
	http_client_fetch(server, "/debug/pprof/trace?seconds=0.1&format=chrome&rate=0", &answer);
	assert_non_null(strstr(answer.body, "chrome: 0\n"));
	assert_header(&answer, "Content-Type", "application/json");
	free(answer.body);
	assert_int_equal((int)fake.last_rate, 0);
	http_client_fetch(server, "/debug/pprof/trace?last=5&format=speedscope", &answer);
	assert_non_null(strstr(answer.body, "speedscope: 5\n"));
	free(answer.body);
	fake.no_recorder = true;
	assert_fetch_error(server, "/debug/pprof/trace?last=5", 404,
			   "nothing is recorded: last=N needs a flight recorder: PROFD_TRACE=flight in the program's "
			   "environment, or profd run --trace FILE --flight\n");
	fake.no_recorder = false;
	assert_fetch_error(server, "/debug/pprof/trace?format=svg", 400,
			   "format must be one of: perfetto, chrome, speedscope\n");
	assert_fetch_error(server, "/debug/pprof/trace?rate=x", 400, "rate must be a number from 0 to 10000\n");
	assert_fetch_error(server, "/debug/pprof/trace?rate=10001", 400, "rate must be a number from 0 to 10000\n");
	assert_fetch_error(server, "/debug/pprof/trace?last=0", 400,
			   "invalid value for \"last\" - must be a positive integer\n");
	assert_fetch_error(server, "/debug/pprof/trace?seconds=1e9", 400,
			   "seconds=1000000000 is over the limit of 3600 seconds\n");
	fake.open_error = -EBUSY;
	assert_fetch_error(server, "/debug/pprof/trace?seconds=0.1", 503, "too many profiles are running\n");
	fake.open_error = 0;
}

static void test_mutex_and_block(void **state)
{
	static const char *const names[][2] = {{"mutex", "--- mutex:\n"}, {"block", "--- contention:\n"}};
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;
	char path[64];

	(void)state;
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/debug/pprof/%s?debug=1", names[i][0]);
		http_client_fetch(server, path, &answer);
		assert_int_equal(answer.status, 200);
		assert_memory_equal(answer.body, names[i][1], strlen(names[i][1]));
		assert_non_null(strstr(answer.body, "\n5000000 2 @ 0x1234\n"));
		free(answer.body);
		snprintf(path, sizeof(path), "/debug/pprof/%s?format=folded", names[i][0]);
		http_client_fetch(server, path, &answer);
		assert_string_equal(answer.body, "main 5000000\n");
		free(answer.body);
		snprintf(path, sizeof(path), "/debug/pprof/%s?format=nonsense", names[i][0]);
		http_client_fetch(server, path, &answer);
		assert_int_equal(answer.status, 400);
		free(answer.body);
	}
	http_server_destroy(server);
}

static void test_unknown(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	static const char *const names[] = {"blocks", "Heap", "nonsense"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64];
		struct answer answer;
		snprintf(path, sizeof(path), "/debug/pprof/%s", names[i]);
		http_client_fetch(server, path, &answer);
		assert_error(&answer, 404, "Unknown profile");
		assert_string_equal(answer.body, "Unknown profile\n");
		free(answer.body);
	}
	assert_fetch_error(server, "/favicon.ico", 404, "404 page not found");
	assert_fetch_error(server, "/77x/debug/pprof/profile", 404, "404 page not found");
	assert_fetch_error(server, "/99999999999999999999/debug/pprof/", 404, "404 page not found");
	assert_fetch_error(server, "/debug/pprofx/", 404, "404 page not found");
	assert_fetch_error(server, "/debug/pprof/../../etc/passwd", 404, "Unknown profile");
	http_server_destroy(server);
}

static void test_threads(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_fetch(server, "/debug/pprof/goroutine?debug=2", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/plain; charset=utf-8");
	assert_null(http_client_header(&answer, "Content-Disposition"));
	assert_non_null(strstr(answer.body, " [sleep; \"fake\"]:\n"));
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/threads", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"goroutine\"");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/goroutine?format=json", &answer);
	assert_header(&answer, "Content-Type", "application/json");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/threadcreate", &answer);
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"threadcreate\"");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/threadcreate?debug=1", &answer);
	assert_non_null(strstr(answer.body, "threadcreate profile: total 7\n7 @"));
	free(answer.body);
	assert_fetch_error(server, "/debug/pprof/goroutine?format=x", 400, "format must be one of");
	assert_fetch_error(server, "/debug/pprof/goroutine?seconds=0", 400,
			   "invalid value for \"seconds\" - must be a positive integer"); // as Go, and the next two
	assert_fetch_error(server, "/debug/pprof/goroutine?seconds=x", 400,
			   "invalid value for \"seconds\" - must be a positive integer");
	// As Go's: it has no blocks.
	http_client_fetch(server, "/debug/pprof/threadcreate?debug=2", &answer);
	assert_non_null(strstr(answer.body, "threadcreate profile: total 7\n7 @"));
	free(answer.body);
	assert_fetch_error(server, "/debug/pprof/threadcreate?format=json", 400, "format=json is for goroutine\n");
	assert_fetch_error(server, "/debug/pprof/threadcreate?seconds=1&debug=1", 400,
			   "seconds and debug params are incompatible");
	assert_fetch_error(server, "/debug/pprof/goroutine?seconds=1&format=json", 400,
			   "seconds gives format=pprof alone");
	http_client_fetch(server, "/debug/pprof/goroutine?seconds=1", &answer);
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"goroutine-delta\"");
	free(answer.body);
	http_server_destroy(server);
}

static void test_cmdline(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;
	char own[8192];
	FILE *file = fopen("/proc/self/cmdline", "re");
	size_t size = fread(own, 1, sizeof(own), file);

	fclose(file);
	http_client_fetch(server, "/debug/pprof/cmdline", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/plain; charset=utf-8");
	assert_int_equal(answer.size, size - 1); // joined by NUL, none at the end
	assert_memory_equal(answer.body, own, size - 1);
	free(answer.body);
	http_server_destroy(server);
}

static void test_symbol(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_fetch(server, "/debug/pprof/symbol", &answer);
	assert_int_equal(answer.status, 200);
	assert_string_equal(answer.body, "num_symbols: 1\n");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/symbol?0x1234+0x99+junk++0xabcd+4660+0x1234zz+-1", &answer);
	assert_header(&answer, "Content-Type", "text/plain; charset=utf-8");
	assert_string_equal(answer.body, "num_symbols: 1\n0x1234 main\n0xabcd ns::f(int)\n0x1234 main\n");
	free(answer.body);
	http_client_read(http_client_ask(server, "POST", "/debug/pprof/symbol", HOST "Content-Length: 14\r\n",
					 "0xabcd+0x1234\n"),
			 &answer);
	assert_string_equal(answer.body, "num_symbols: 1\n0xabcd ns::f(int)\n0x1234 main\n");
	free(answer.body);
	http_server_destroy(server);
}

static void test_metrics(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;
	static const char *const lines[] = {
		"\nprofd_samples_generated_total 1000\n",
		"\nprofd_samples_delivered_total 990\n",
		"\nprofd_samples_dropped_total{reason=\"ring_full\"} 7\n",
		"\nprofd_samples_dropped_total{reason=\"contention\"} 2\n",
		"\nprofd_samples_dropped_total{reason=\"no_scratch\"} 1\n",
		"\nprofd_targets 1\n",
		"\nprofd_http_requests_total{path=\"/debug/pprof/\",status=\"200\"} 2\n",
		"\nprofd_http_requests_total{path=\"other\",status=\"404\"} 1\n",
		"\nprofd_profiles_running 0\n",
		"\nprocess_cpu_seconds_total ",
		"\nprocess_resident_memory_bytes ",
		"\nprofd_build_info{version=\"",
	};

	for (int i = 0; i < 2; i++) {
		http_client_fetch(server, "/debug/pprof/", &answer);
		free(answer.body);
	}
	assert_fetch_error(server, "/x", 404, "404");
	http_client_fetch(server, "/metrics", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_non_null(strstr(answer.body, lines[i]));
	const char *rss = strstr(answer.body, "\nprocess_resident_memory_bytes ");
	assert_true(strtoull(rss + strlen("\nprocess_resident_memory_bytes "), NULL, 10) > 100000);
	free(answer.body);
	http_server_destroy(server);
}

static void test_targets(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.has_index = 1});
	struct answer answer;

	fake.count = 0;
	http_fake_add_target(10, 1, "a\n\"b");
	http_fake_add_target(20, 1, "<script>");
	http_client_fetch(server, "/", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/html; charset=utf-8");
	assert_non_null(strstr(answer.body, "href=\"/20/debug/pprof/\""));
	assert_null(strstr(answer.body, "<script>"));
	free(answer.body);
	http_client_fetch(server, "/?format=json", &answer);
	assert_header(&answer, "Content-Type", "application/json");
	assert_non_null(strstr(answer.body, "{\"pid\":10,\"ppid\":1,\"uid\":1000,\"comm\":\"a\\n\\\"b\""));
	assert_non_null(strstr(answer.body, "\"since\":\"2023-11-14T22:13:20Z\""));
	free(answer.body);
	http_client_fetch(server, "/?format=text", &answer);
	assert_non_null(strstr(answer.body, "10\t1\t1000\ta_\"b\t3\t0\t2023-11-14T22:13:20Z\n"));
	free(answer.body);
	http_server_destroy(server);
}

static void test_which_target(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.max_seconds = 5, .has_index = 1});
	struct answer answer;

	fake.ended = true;
	fake.count = 0;
	assert_fetch_error(server, "/debug/pprof/profile", 404, "no target is registered");
	http_fake_add_target(10, 1, "a");
	http_fake_add_target(20, 1, "b");
	assert_fetch_error(server, "/debug/pprof/profile?seconds=1", 404, "with one of: 10 20\n");
	assert_fetch_error(server, "/30/debug/pprof/profile?seconds=1", 404,
			   "no target has PID 30; the targets are: 10 20\n");
	http_client_fetch(server, "/20/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(fake.last_pid, 20);
	free(answer.body);
	fake.targets[0].ppid = 20; // one tree: its root answers for it
	http_client_fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(fake.last_pid, 20);
	free(answer.body);
	while (fake.count < 300)
		http_fake_add_target((pid_t)(1000 + fake.count), 1, "many");
	assert_fetch_error(server, "/debug/pprof/profile?seconds=1", 404, " …\n");
	http_server_destroy(server);
}

// A private collector's targets are one program's: without a PID all of them are profiled, related or not.
static void test_whole_program(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.max_seconds = 5});
	struct answer answer;

	fake.ended = true;
	fake.count = 0;
	http_fake_add_target(10, 1, "a");
	http_fake_add_target(20, 1, "b");
	http_client_fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(fake.last_pid, 0);
	free(answer.body);
	http_client_fetch(server, "/20/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(fake.last_pid, 20);
	free(answer.body);
	http_server_destroy(server);
}

// ---- Profiles ------------------------------------------------------------------------------------------------------

static void test_profile_formats(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	fake.ended = true;
	http_client_fetch(server, "/debug/pprof/profile?seconds=2", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"profile\"");
	assert_header(&answer, "X-Content-Type-Options", "nosniff");
	assert_null(http_client_header(&answer, "X-Go-Pprof"));
	assert_memory_equal(answer.body, "\x1f\x8b", 2);
	assert_int_equal(fake.last_rate, 100);
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/profile?seconds=2&rate=997&format=folded", &answer);
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.body, "work 42\n"));
	assert_null(http_client_header(&answer, "Content-Disposition"));
	assert_int_equal(fake.last_rate, 997);
	free(answer.body);
	static const char *const kinds[][2] = {{"svg", "<svg"}, {"html", "<html"}, {"speedscope", "{"}};
	for (size_t i = 0; i < 3; i++) {
		char path[96];
		snprintf(path, sizeof(path), "/debug/pprof/profile?format=%s", kinds[i][0]);
		http_client_fetch(server, path, &answer);
		assert_int_equal(answer.status, 200);
		assert_non_null(strstr(answer.body, kinds[i][1]));
		free(answer.body);
	}
	assert_int_equal(http_fake_live(), 0);
	http_server_destroy(server);
}

static void test_profile_parameters(void **state)
{
	struct http_server *server =
		http_client_serve(&(struct http_options){.max_seconds = 40, .default_rate_hz = 250});
	static const char *const thirty[] = {"",          "seconds=",    "seconds=0",   "seconds=-5",
					     "seconds=x", "seconds=5s",  "seconds=1.5", "seconds=99999999999999999999",
					     "second=41", "seconds=%20", "seconds=0x10"};

	fake.ended = true;
	for (size_t i = 0; i < sizeof(thirty) / sizeof(thirty[0]); i++) {
		char path[96];
		struct answer answer;
		snprintf(path, sizeof(path), "/debug/pprof/profile?%s", thirty[i]);
		http_client_fetch(server, path, &answer);
		assert_int_equal(answer.status, 200);
		free(answer.body);
	}
	assert_int_equal(fake.last_rate, 250);
	assert_fetch_error(server, "/debug/pprof/profile?seconds=41", 400, "the limit of 40 seconds");
	assert_fetch_error(server, "/debug/pprof/profile?s%65conds=4%31", 400, "the limit of 40 seconds");
	assert_fetch_error(server, "/debug/pprof/profile?rate=0", 400, "1 to 10000");
	assert_fetch_error(server, "/debug/pprof/profile?rate=10001", 400, "1 to 10000");
	assert_fetch_error(server, "/debug/pprof/profile?rate=ten", 400, "1 to 10000");
	assert_fetch_error(server, "/debug/pprof/profile?format=png", 400, "speedscope");
	assert_int_equal(fake.opened, sizeof(thirty) / sizeof(thirty[0]));
	http_server_destroy(server);
	server = http_client_serve(&(struct http_options){.max_seconds = 10}); // 30, the default, is over this limit
	assert_fetch_error(server, "/debug/pprof/profile", 400, "the limit of 10 seconds");
	http_server_destroy(server);
}

static void test_profile_errors(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	fake.open_error = -ESRCH;
	assert_fetch_error(server, "/debug/pprof/profile?seconds=1", 404, "is gone");
	fake.open_error = -EIO;
	assert_fetch_error(server, "/debug/pprof/profile?seconds=1", 500,
			   "Could not enable CPU profiling: Input/output error");
	fake.open_error = -EBUSY;
	http_client_fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_error(&answer, 503, "too many profiles");
	assert_non_null(http_client_header(&answer, "Retry-After"));
	free(answer.body);
	fake.open_error = 0;
	fake.ended = fake.no_memory = true;
	assert_fetch_error(server, "/debug/pprof/profile?seconds=1", 500, "out of memory");
	assert_int_equal(http_fake_live(), 0);
	http_server_destroy(server);
}

static void test_profile_takes_its_time(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;
	double start = http_client_now_s();

	http_client_fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	double took = http_client_now_s() - start;
	assert_int_equal(answer.status, 200);
	assert_true(took >= 1.0 && took < 20.0); // 30 without it
	free(answer.body);
	http_server_destroy(server);
}

static void test_heap(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_fetch(server, "/debug/pprof/heap?gc=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"heap\"");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/allocs", &answer);
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"allocs\"");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/heap?debug=1", &answer);
	assert_header(&answer, "Content-Type", "text/plain; charset=utf-8");
	assert_null(http_client_header(&answer, "Content-Disposition"));
	assert_non_null(strstr(answer.body, "heap profile: 3: 3000 [8: 8000] @ heap/2\n3: 3000 [8: 8000] @ 0x1234\n"));
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/heap?format=folded", &answer);
	assert_string_equal(answer.body, "main 3000\n");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/allocs?format=folded", &answer);
	assert_string_equal(answer.body, "main 8000\n");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/heap?seconds=1", &answer);
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"heap-delta\"");
	free(answer.body);
	assert_fetch_error(server, "/debug/pprof/heap?seconds=x", 400, "invalid value for \"seconds\"");
	assert_fetch_error(server, "/debug/pprof/heap?seconds=1&debug=1", 400, "incompatible");
	assert_fetch_error(server, "/debug/pprof/heap?format=x", 400, "format must be one of");
	fake.open_error = -ESRCH;
	assert_fetch_error(server, "/debug/pprof/heap", 404, "is gone");
	http_server_destroy(server);
}

static void test_config(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_fetch(server, "/debug/pprof/config", &answer);
	assert_non_null(strstr(answer.body, "heap_rate 0\n"));
	free(answer.body);
	http_client_read(
		http_client_ask(server, "POST", "/debug/pprof/config?heap_rate=4096", HOST "Content-Length: 0\r\n", ""),
		&answer);
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.body, "heap_rate 4096\n"));
	assert_int_equal(fake.rates.heap_bytes, 4096);
	free(answer.body);
	http_client_read(
		http_client_ask(server, "POST", "/debug/pprof/config?heap_rate=4k", HOST "Content-Length: 0\r\n", ""),
		&answer);
	assert_error(&answer, 400, "heap_rate must be a number");
	free(answer.body);
	http_client_read(http_client_ask(server, "POST", "/debug/pprof/config", HOST "Content-Length: 0\r\n", ""),
			 &answer);
	assert_error(&answer, 400, "nothing to change");
	free(answer.body);
	http_client_fetch(server, "/debug/pprof/config?heap_rate=1", &answer); // a GET changes nothing
	assert_non_null(strstr(answer.body, "heap_rate 4096\n"));
	free(answer.body);
	// Another site's page may not have the browser ask.
	http_client_read(http_client_ask(server, "POST", "/debug/pprof/config?heap_rate=1",
					 HOST "Sec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n", ""),
			 &answer);
	assert_int_equal(answer.status, 403);
	free(answer.body);
	assert_int_equal(fake.rates.heap_bytes, 4096);
	http_server_destroy(server);
}

static void test_head(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;
	double start = http_client_now_s();

	http_client_read(http_client_ask(server, "HEAD", "/debug/pprof/profile", HOST, ""), &answer);
	assert_true(http_client_now_s() - start < 20); // makes no profile, which takes 30
	assert_int_equal(fake.opened, 0);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.size, 0);
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"profile\"");
	assert_null(http_client_header(&answer, "Content-Length"));
	free(answer.body);
	http_client_read(http_client_ask(server, "HEAD", "/debug/pprof/", HOST, ""), &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.size, 0);
	assert_non_null(http_client_header(&answer, "Content-Length"));
	free(answer.body);
	http_client_read(http_client_ask(server, "HEAD", "/debug/pprof/nonsense", HOST, ""), &answer);
	assert_int_equal(answer.status, 404);
	free(answer.body);
	http_server_destroy(server);
}

static void test_methods(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	static const char *const methods[] = {"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"};
	struct answer answer;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		http_client_read(
			http_client_ask(server, methods[i], "/debug/pprof/profile", HOST "Content-Length: 0\r\n", ""),
			&answer);
		assert_error(&answer, 405, "method not allowed");
		assert_header(&answer, "Allow", "GET, HEAD");
		free(answer.body);
	}
	http_client_read(http_client_ask(server, "POST", "/debug/pprof/profile", HOST "Content-Length: 2\r\n", "ab"),
			 &answer);
	assert_error(&answer, 405, "method not allowed");
	free(answer.body);
	assert_int_equal(fake.opened, 0);
	http_server_destroy(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_index, http_fake_reset),
		cmocka_unit_test_setup(test_redirects, http_fake_reset),
		cmocka_unit_test_setup(test_trace, http_fake_reset),
		cmocka_unit_test_setup(test_mutex_and_block, http_fake_reset),
		cmocka_unit_test_setup(test_unknown, http_fake_reset),
		cmocka_unit_test_setup(test_threads, http_fake_reset),
		cmocka_unit_test_setup(test_cmdline, http_fake_reset),
		cmocka_unit_test_setup(test_symbol, http_fake_reset),
		cmocka_unit_test_setup(test_metrics, http_fake_reset),
		cmocka_unit_test_setup(test_targets, http_fake_reset),
		cmocka_unit_test_setup(test_which_target, http_fake_reset),
		cmocka_unit_test_setup(test_whole_program, http_fake_reset),
		cmocka_unit_test_setup(test_profile_formats, http_fake_reset),
		cmocka_unit_test_setup(test_profile_parameters, http_fake_reset),
		cmocka_unit_test_setup(test_profile_errors, http_fake_reset),
		cmocka_unit_test_setup(test_profile_takes_its_time, http_fake_reset),
		cmocka_unit_test_setup(test_heap, http_fake_reset),
		cmocka_unit_test_setup(test_config, http_fake_reset),
		cmocka_unit_test_setup(test_head, http_fake_reset),
		cmocka_unit_test_setup(test_methods, http_fake_reset),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}

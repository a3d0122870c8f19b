// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the writer: buffering, the error that sticks, escaping, and the two sinks.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "formats/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char *finish(struct writer *writer, struct writer_memory *memory)
{
	assert_int_equal(writer_flush(writer), 0);
	assert_int_equal(writer->written, memory->size);
	char *text = realloc(memory->data, memory->size + 1);
	assert_non_null(text);
	text[memory->size] = '\0';
	assert_int_equal(strlen(text), memory->size);
	return text;
}

static void test_put(void **state)
{
	struct writer_memory memory = {0};
	static struct writer writer;
	writer_init(&writer, writer_memory_sink, &memory);
	size_t total = 0;
	char piece[20000];
	for (size_t size = 0; size < sizeof(piece); size += 997) {
		for (size_t i = 0; i < size; i++)
			piece[i] = (char)('a' + (total + i) % 26);
		writer_put(&writer, piece, size);
		total += size;
	}
	char *text = finish(&writer, &memory);
	assert_int_equal(strlen(text), total);
	for (size_t i = 0; i < total; i++)
		assert_int_equal(text[i], (char)('a' + i % 26));
	free(text);
}

// Lengths around what is left in the buffer and around the buffer's own size.
static void test_printf(void **state)
{
	for (int before = 8180; before <= 8192; before++) {
		for (int width = 0; width < 16400; width += width < 20 || (width > 8180 && width < 8200) ? 1 : 1000) {
			struct writer_memory memory = {0};
			static struct writer writer;
			writer_init(&writer, writer_memory_sink, &memory);
			writer_printf(&writer, "%*s", before, "");
			writer_printf(&writer, "%0*d", width, 7);
			writer_puts(&writer, "!");
			char *text = finish(&writer, &memory);
			int length = width > 0 ? width : 1;
			assert_int_equal(strlen(text), before + length + 1);
			assert_int_equal(strspn(text, " "), before);
			assert_int_equal(text[before + length - 1], '7');
			assert_int_equal(text[before + length], '!');
			free(text);
		}
	}
}

struct failing_sink {
	int calls;
	int good; // calls that succeed
};

static int failing_sink(void *context, const void *data, size_t size)
{
	struct failing_sink *sink = context;
	return sink->calls++ < sink->good ? 0 : -ENOSPC;
}

static void test_error_sticks(void **state)
{
	static struct writer writer;
	struct failing_sink sink = {.good = 1};
	writer_init(&writer, failing_sink, &sink);
	char large[10000] = {0};
	writer_put(&writer, large, sizeof(large));
	assert_int_equal(writer.error, 0);
	assert_int_equal(writer.written, sizeof(large));
	writer_put(&writer, large, sizeof(large));
	assert_int_equal(writer.error, -ENOSPC);
	sink.good = 100;
	for (int i = 0; i < 100; i++) {
		writer_put(&writer, large, sizeof(large));
		writer_puts(&writer, "x");
		writer_printf(&writer, "%10000d", 1);
		writer_json(&writer, "\"");
		writer_xml(&writer, "<");
	}
	assert_int_equal(writer_flush(&writer), -ENOSPC);
	assert_int_equal(sink.calls, 2);
	assert_int_equal(writer.written, sizeof(large));
}

static void test_no_memory(void **state)
{
	static struct writer writer;
	struct failing_sink sink = {.good = 1000};
	writer_init(&writer, failing_sink, &sink);
	alloc_fail_after(0, true);
	writer_printf(&writer, "%10000d", 1);
	assert_int_equal(alloc_fail_stop(), 1);
	assert_int_equal(writer_flush(&writer), -ENOMEM);
	struct writer_memory memory = {0};
	alloc_fail_after(0, true);
	assert_int_equal(writer_memory_sink(&memory, "x", 1), -ENOMEM);
	assert_int_equal(alloc_fail_stop(), 1);
	assert_int_equal(writer_memory_sink(&memory, "x", 1), 0);
	free(memory.data);
}

// ---- Escaping ------------------------------------------------------------------------------------------------------

static void check_escape(void (*escape)(struct writer *, const char *), const char *s, const char *expected)
{
	struct writer_memory memory = {0};
	static struct writer writer;
	writer_init(&writer, writer_memory_sink, &memory);
	escape(&writer, s);
	char *text = finish(&writer, &memory);
	assert_string_equal(text, expected);
	free(text);
}

#define R "\xef\xbf\xbd"

static void test_json(void **state)
{
	check_escape(writer_json, "", "");
	check_escape(writer_json, "plain /text", "plain /text");
	check_escape(writer_json, "\"\\\n\r\t\b\f\x01\x1f\x7f", "\\\"\\\\\\n\\r\\t\\u0008\\u000c\\u0001\\u001f\\u007f");
	check_escape(writer_json, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
	check_escape(writer_json,
		     "a\xff\xe2\x82"
		     "b\xed\xa0\x80\xc0\xaf",
		     "a" R R "b" R R R R R);
	check_escape(writer_json, "\xef\xbf\xbe<script>", "\xef\xbf\xbe<script>");
}

static void test_xml(void **state)
{
	check_escape(writer_xml, "", "");
	check_escape(writer_xml, "<a href=\"x\" b='y'>&amp;", "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;");
	check_escape(writer_xml, "]]>", "]]&gt;");
	check_escape(writer_xml, "a\nb\tc", "a\nb\tc");
	check_escape(writer_xml, "a\rb\x01\x1f\x7f", "a" R "b" R R R);
	check_escape(writer_xml, "\xef\xbf\xbe\xef\xbf\xbf\xef\xbf\xbd", R R R); // U+FFFE, U+FFFF, U+FFFD itself
	check_escape(writer_xml, "\xf0\x9f\x98\x80\xff\xe2\x82<", "\xf0\x9f\x98\x80" R R "&lt;");
}

static void test_escape_across_buffers(void **state)
{
	struct writer_memory memory = {0};
	static struct writer writer;
	static char s[50001];
	for (size_t i = 0; i < sizeof(s) - 1; i++)
		s[i] = i % 7 ? 'x' : '"';
	writer_init(&writer, writer_memory_sink, &memory);
	writer_json(&writer, s);
	char *text = finish(&writer, &memory);
	const char *at = text;
	for (size_t i = 0; i < sizeof(s) - 1; i++) {
		if (i % 7 == 0)
			assert_int_equal(*at++, '\\');
		assert_int_equal(*at++, s[i]);
	}
	assert_int_equal(*at, '\0');
	free(text);
}

// ---- Sinks ---------------------------------------------------------------------------------------------------------

static void test_memory_max(void **state)
{
	struct writer_memory memory = {.max = 10000};
	char data[6000] = {0};
	assert_int_equal(writer_memory_sink(&memory, data, 6000), 0);
	assert_int_equal(writer_memory_sink(&memory, data, 4001), -ENOMEM);
	assert_int_equal(memory.size, 6000);
	assert_int_equal(writer_memory_sink(&memory, data, 4000), 0);
	assert_true(memory.capacity <= memory.max);
	assert_int_equal(writer_memory_sink(&memory, data, 1), -ENOMEM);
	assert_int_equal(writer_memory_sink(&memory, data, SIZE_MAX), -ENOMEM);
	assert_int_equal(writer_memory_sink(&memory, data, 0), 0);
	free(memory.data);
}

// Reads until the end, slowly at first; exits with 0 when the bytes are the expected ones.
static void read_all(int fd, size_t expected)
{
	unsigned char buf[3000];
	size_t total = 0;
	for (ssize_t count; (count = read(fd, buf, sizeof(buf))) > 0;) {
		for (ssize_t i = 0; i < count; i++) {
			if (buf[i] != (unsigned char)((total + (size_t)i) % 251))
				_exit(1);
		}
		total += (size_t)count;
		if (total < 60000)
			usleep(1000);
	}
	_exit(total == expected ? 0 : 2);
}

// Short writes, and a descriptor that somebody made non-blocking.
static void test_fd(void **state)
{
	enum { SIZE = 1000000 };
	static unsigned char data[SIZE];
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i % 251);
	for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
		int fds[2], status, size = 4096;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
		pid_t child = fork();
		if (child == 0) {
			close(fds[0]);
			read_all(fds[1], SIZE);
		}
		close(fds[1]);
		if (nonblocking)
			assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
		assert_int_equal(writer_fd_sink(&fds[0], data, SIZE), 0);
		close(fds[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

static void test_fd_errors(void **state)
{
	static struct writer writer;
	int bad = -1, full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(full >= 0);
	assert_int_equal(writer_fd_sink(&bad, "x", 1), -EBADF);
	assert_int_equal(writer_fd_sink(&bad, "x", 0), 0);
	assert_int_equal(writer_fd_sink(&full, "x", 1), -ENOSPC);
	writer_init(&writer, writer_fd_sink, &full);
	writer_puts(&writer, "x");
	assert_int_equal(writer.error, 0);
	assert_int_equal(writer_flush(&writer), -ENOSPC);
	assert_int_equal(writer.written, 0);
	close(full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_printf),
		cmocka_unit_test(test_error_sticks),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_xml),
		cmocka_unit_test(test_escape_across_buffers),
		cmocka_unit_test(test_memory_max),
		cmocka_unit_test(test_fd),
		cmocka_unit_test(test_fd_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

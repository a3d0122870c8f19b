// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of otel_context.c: the service's name in OpenTelemetry's process context, whole, cut, and wrong; and in a process, this one.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/otel_context.h"

// resource { attributes { key: "a" value { int_value: 1 } } attributes { key: "service.name" value { string_value: "shop" } }
// dropped_attributes_count: 3 } extra_attributes { key: "service.name" value { string_value: "no" } }
static const char payload[] = "\x0a\x23"
			      "\x0a\x07\x0a\x01"
			      "a\x12\x02\x18\x01"
			      "\x0a\x16\x0a\x0cservice.name\x12\x06\x0a\x04shop"
			      "\x10\x03"
			      "\x12\x14\x0a\x0cservice.name\x12\x04\x0a\x02no";
#define PAYLOAD_BYTES (sizeof(payload) - 1)

static void test_whole(void **state)
{
	char name[OTEL_NAME_BYTES];

	assert_true(otel_context_parse(payload, PAYLOAD_BYTES, name));
	assert_string_equal(name, "shop");
}

// Cut anywhere, or with any byte another: a name or none, and no byte beyond is read (each copy ends where its memory does).
static void test_damaged(void **state)
{
	char name[OTEL_NAME_BYTES];

	for (size_t size = 0; size <= PAYLOAD_BYTES; size++) {
		char *copy = malloc(size ? size : 1);

		assert_non_null(copy);
		memcpy(copy, payload, size);
		assert_int_equal(otel_context_parse(copy, size, name), size >= 37);
		for (size_t i = 0; i < size; i++) {
			for (int byte = 0; byte < 256; byte += 5) {
				copy[i] = (char)byte;
				otel_context_parse(copy, size, name);
			}
			copy[i] = payload[i];
		}
		free(copy);
	}
}

static void test_long_name(void **state)
{
	char long_payload[400] = "\x0a\xa9\x01\x0a\xa6\x01\x0a\x0cservice.name\x12\x95\x01\x0a\x92\x01";
	char name[OTEL_NAME_BYTES] = "before";
	size_t used = 3 + 3 + 14 + 3 + 3;

	memset(long_payload + used, 'x', 146);
	assert_false(otel_context_parse(long_payload, used + 146, name));
	assert_string_equal(name, "before");
}

struct header {
	char signature[8];
	uint32_t version, payload_size;
	uint64_t published_at_ns, payload;
};

static void test_process(void **state)
{
	int fd = memfd_create("OTEL_CTX", MFD_CLOEXEC);
	char name[OTEL_NAME_BYTES];
	struct header *header;

	assert_false(otel_context_service_name(getpid(), name));
	assert_true(fd >= 0 && ftruncate(fd, 4096) == 0);
	header = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_true(header != MAP_FAILED);
	close(fd);
	*header = (struct header){"OTEL_CTX", 2, PAYLOAD_BYTES, 1, (uint64_t)(uintptr_t)payload};
	assert_true(otel_context_service_name(getpid(), name));
	assert_string_equal(name, "shop");
	header->published_at_ns = 0; // being changed
	assert_false(otel_context_service_name(getpid(), name));
	header->published_at_ns = 2;
	header->version = 3;
	assert_false(otel_context_service_name(getpid(), name));
	header->version = 2;
	header->payload = 8;
	assert_false(otel_context_service_name(getpid(), name));
	header->payload = (uint64_t)(uintptr_t)payload;
	header->payload_size = UINT32_MAX;
	assert_false(otel_context_service_name(getpid(), name));
	munmap(header, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

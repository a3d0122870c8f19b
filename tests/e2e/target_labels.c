// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_labels.c: work that carries labels and traces, set by include/profd.h or published as an OpenTelemetry SDK does. Each case prints
// the same with and without the agent.
//
// usage: target_labels CASE
//   nested     burns 300 ms each with no label, endpoint=a, endpoint=b within that, endpoint=a again, and none again
//   links      labels and trace go to another thread with a link, and are gone after profd_leave
//   deep       enters far deeper than is kept, and is balanced again
//   many       distinct traces, 100,000 of them, and then a label; 300 ms
//   flood      100,000 distinct sets of labels; 300 ms with the last, and 300 ms with one from before; with another word: until end of input
//   limits     what cannot be set says so; then 300 ms with what could
//   otel       OTEP 4947: 300 ms without a record, with one, with one that is not valid, with a pointer to nowhere, with a sampled one; the
//              process's service.name (OTEP 4719)
//   wait       a thread with labels and a trace that waits; "ready", until end of input
//   memory     what is allocated, and what waits for a lock, with traces; "ready", until end of input
//   handler    a signal handler enters, labels and leaves while the main program sets labels; 300 ms

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "include/profd.h"
#include "target.h"

#define BURN_MS 300

TARGET_NOINLINE static void without_label(void)
{
	target_burn(BURN_MS);
	__asm__ volatile("# without_label"); // else the compiler makes one of all these
}

TARGET_NOINLINE static void with_a(void)
{
	target_burn(BURN_MS);
	__asm__ volatile("# with_a"); // else the compiler makes one of all these
}

TARGET_NOINLINE static void with_b(void)
{
	target_burn(BURN_MS);
	__asm__ volatile("# with_b"); // else the compiler makes one of all these
}

static int nested(int argc, char **argv)
{
	without_label();
	profd_enter_scope();
	TARGET_CHECK(profd_label_set("endpoint", "a") == 0);
	with_a();
	profd_enter_scope();
	profd_label_set("endpoint", "b");
	profd_label_set("tenant", "big");
	with_b();
	profd_leave();
	with_a();
	profd_leave();
	without_label();
	profd_label_set("endpoint", "a");
	with_a();
	profd_label_clear("endpoint");
	without_label();
	return 0;
}

static const unsigned char trace_id[16] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
					   0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
static const unsigned char span_id[8] = {0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};

static void *follow(void *link)
{
	without_label();
	profd_enter(*(const struct profd_link *)link);
	with_a();
	profd_leave();
	without_label();
	return NULL;
}

static int links(int argc, char **argv)
{
	struct profd_link link;
	pthread_t thread;

	profd_label_set("endpoint", "a");
	profd_trace_set(trace_id, span_id, 1);
	link = profd_capture();
	profd_label_clear("endpoint");
	profd_trace_set(NULL, NULL, 0);
	TARGET_CHECK(pthread_create(&thread, NULL, follow, &link) == 0);
	pthread_join(thread, NULL);
	return 0;
}

static int deep(int argc, char **argv)
{
	struct profd_link link;

	profd_label_set("endpoint", "a");
	link = profd_capture();
	profd_label_clear("endpoint");
	profd_leave(); // of nothing
	for (int i = 0; i < 1000; i++)
		profd_enter(link);
	with_a();
	for (int i = 0; i < 1000; i++)
		profd_leave();
	without_label();
	profd_leave();
	profd_enter(link);
	with_a();
	profd_leave();
	return 0;
}

static int many(int argc, char **argv)
{
	for (uint32_t i = 0; i < 100000; i++) {
		unsigned char id[16] = {1};

		memcpy(id + 4, &i, sizeof(i));
		profd_trace_set(id, span_id, 0);
	}
	profd_trace_set(NULL, NULL, 0);
	profd_label_set("endpoint", "a");
	with_a();
	return 0;
}

// Far more distinct sets than there is room for; what there was before is still there.
static int flood(int argc, char **argv)
{
	char value[16];

	profd_label_set("endpoint", "a");
	profd_enter_scope();
	for (int i = 0; i < 100000; i++) {
		snprintf(value, sizeof(value), "%d", i);
		profd_label_set("request", value);
	}
	with_b();
	profd_leave();
	with_a();
	if (argc > 1) {
		puts("ready");
		fflush(stdout);
		getchar();
	}
	return 0;
}

// Without the agent each is 0; with it what is wrong is −1.
static int limits(int argc, char **argv)
{
	int wrong = profd_active() ? -1 : 0;
	char key[16];

	TARGET_CHECK(profd_label_set("", "x") == wrong);
	TARGET_CHECK(profd_label_set("a key of thirty-two bytes or more", "x") == wrong);
	TARGET_CHECK(profd_label_set("trace_id", "not hexadecimal") == wrong);
	for (int i = 0; i < 8; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		TARGET_CHECK(profd_label_set(key, "value") == 0);
	}
	TARGET_CHECK(profd_label_set("endpoint", "a") == wrong);
	TARGET_CHECK(profd_label_set(
			     "key7",
			     "a value with\ta \"quote\", and of more bytes than the sixty-three that are kept ü") == 0);
	TARGET_CHECK(profd_label_set("trace_id", "4BF92F3577B34DA6A3CE929D0E0E4736") == 0);
	TARGET_CHECK(profd_label_set("span_id", "00f067aa0ba902b7") == 0);
	with_a();
	return 0;
}

// ---- OpenTelemetry -------------------------------------------------------------------------------------------------

struct record {
	uint8_t trace_id[16], span_id[8], valid, trace_flags;
	uint16_t attrs_data_size;
};
__thread struct record *volatile otel_thread_ctx_v1 __attribute__((visibility("default")));

// A ProcessContext: resource { attributes { key: "service.name" value { string_value: "shop" } } }
static const char payload[] = "\x0a\x18\x0a\x16\x0a\x0cservice.name\x12\x06\x0a\x04shop";

static void publish_service(void)
{
	struct {
		char signature[8];
		uint32_t version, payload_size;
		uint64_t published_at_ns, payload;
	} * header;
	int fd = memfd_create("OTEL_CTX", MFD_CLOEXEC);

	TARGET_CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	header = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	TARGET_CHECK(header != MAP_FAILED);
	close(fd);
	header->version = 2;
	header->payload_size = sizeof(payload) - 1;
	header->published_at_ns = 1;
	header->payload = (uint64_t)(uintptr_t)payload;
	memcpy(header->signature, "OTEL_CTX", 8);
}

TARGET_NOINLINE static void with_trace(void)
{
	target_burn(BURN_MS);
	__asm__ volatile("# with_trace"); // else the compiler makes one of all these
}

static int otel(int argc, char **argv)
{
	static struct record record;

	publish_service();
	without_label();
	memcpy(record.trace_id, trace_id, sizeof(record.trace_id));
	memcpy(record.span_id, span_id, sizeof(record.span_id));
	record.valid = 1;
	otel_thread_ctx_v1 = &record;
	with_trace();
	record.valid = 0;
	without_label();
	otel_thread_ctx_v1 = (struct record *)8;
	without_label();
	record.valid = 1;
	record.trace_flags = 3; // sampled, random
	otel_thread_ctx_v1 = &record;
	with_a();
	otel_thread_ctx_v1 = NULL;
	without_label();
	return 0;
}

// ---- Others --------------------------------------------------------------------------------------------------------

static long labelled_tid; // atomic; 0: it does not wait yet

static void *wait_with_labels(void *unused)
{
	pthread_setname_np(pthread_self(), "labelled");
	profd_label_set("endpoint", "a");
	profd_trace_set(trace_id, span_id, 1);
	__atomic_store_n(&labelled_tid, gettid(), __ATOMIC_RELEASE);
	for (;;)
		pause();
	return unused;
}

static int wait_case(int argc, char **argv)
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, wait_with_labels, NULL) == 0);
	target_await_sleep(&labelled_tid);
	printf("ready\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	_exit(0);
}

static const unsigned char other_id[16] = {0x2a, 0x2a, 0x2a, 0x2a, 0x2a, 0x2a, 0x2a, 0x2a,
					   0x2a, 0x2a, 0x2a, 0x2a, 0x2a, 0x2a, 0x2a, 0x2a};
static void *volatile kept[32];
static unsigned nkept;

TARGET_NOINLINE static void keep_blocks(int n)
{
	for (int i = 0; i < n; i++)
		kept[nkept++] = malloc(1000);
	__asm__ volatile("# keep_blocks");
}

TARGET_NOINLINE static void drop_blocks(int n)
{
	for (int i = 0; i < n; i++) {
		kept[31] = malloc(300);
		free(kept[31]);
	}
	__asm__ volatile("# drop_blocks");
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long waiter_tid;

TARGET_NOINLINE static void give_lock(void)
{
	while (!target_sleeps(&waiter_tid))
		usleep(1000);
	usleep(10000);
	pthread_mutex_unlock(&lock);
	__asm__ volatile("# give_lock");
}

static void *wait_for_lock(void *unused)
{
	profd_trace_set(other_id, other_id, 0);
	__atomic_store_n(&waiter_tid, gettid(), __ATOMIC_RELEASE);
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	return unused;
}

static int memory(int argc, char **argv)
{
	static const struct {
		const unsigned char *trace_id, *span_id;
		int sampled, n;
	} rounds[] = {{NULL, NULL, 0, 4}, {other_id, other_id, 0, 3}, {trace_id, span_id, 1, 10}};
	pthread_t thread;

	for (int i = 0; i < 3; i++) {
		profd_trace_set(rounds[i].trace_id, rounds[i].span_id, rounds[i].sampled);
		keep_blocks(rounds[i].n);
		__asm__ volatile("" : "+r"(i)); // one call, and so one stack
	}
	drop_blocks(5);
	pthread_mutex_lock(&lock);
	TARGET_CHECK(pthread_create(&thread, NULL, wait_for_lock, NULL) == 0);
	give_lock();
	pthread_join(thread, NULL);
	profd_trace_set(NULL, NULL, 0);
	printf("ready\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}

static struct profd_link handlers_link;
static unsigned char handlers_id[16];

static void on_alarm(int signo)
{
	int saved = errno;

	profd_enter(handlers_link);
	profd_label_set("in", "handler");
	profd_trace_set(handlers_id, handlers_id, 0);
	profd_leave();
	if (errno != saved)
		_exit(77);
}

static int handler(int argc, char **argv)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
	double end = target_clock_s(CLOCK_THREAD_CPUTIME_ID) + BURN_MS / 1e3;

	memset(handlers_id, 0x2a, sizeof(handlers_id));
	handlers_link = profd_capture();
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	while (target_clock_s(CLOCK_THREAD_CPUTIME_ID) < end) {
		profd_enter_scope();
		profd_label_set("endpoint", "a");
		profd_label_set("endpoint", "b");
		profd_trace_set(trace_id, span_id, 1);
		profd_leave();
	}
	setitimer(ITIMER_REAL, &never, NULL);
	without_label();
	return 0;
}

static const struct target_case cases[] = {
	{"nested", nested}, {"links", links}, {"deep", deep},      {"many", many},       {"flood", flood},
	{"limits", limits}, {"otel", otel},   {"wait", wait_case}, {"handler", handler}, {"memory", memory},
};

TARGET_MAIN(cases)

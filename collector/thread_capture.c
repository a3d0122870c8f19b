// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_capture.c: see thread_capture.h.

#include "collector/thread_capture.h"

#include <asm/perf_regs.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/outside.h"

#define PERIOD_NS 10000u  // the kernel's least
#define STACK_BYTES 64512 // its most is 65,528; a record's size must fit 16 bits with all the rest
#define RING_BYTES (128u << 10)
#define MAX_WAITED 64

_Static_assert(PROFD_UNWIND_REGS <= THREAD_CAPTURE_REGS, "registers");

// The kernel's numbers of the registers, by DWARF's.
#if defined(__x86_64__)
static const uint8_t perf_regs[PROFD_UNWIND_REGS] = {
	PERF_REG_X86_AX,  PERF_REG_X86_DX,  PERF_REG_X86_CX,  PERF_REG_X86_BX,  PERF_REG_X86_SI,  PERF_REG_X86_DI,
	PERF_REG_X86_BP,  PERF_REG_X86_SP,  PERF_REG_X86_R8,  PERF_REG_X86_R9,  PERF_REG_X86_R10, PERF_REG_X86_R11,
	PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14, PERF_REG_X86_R15, PERF_REG_X86_IP,
};
#define PERF_REG(i) perf_regs[i]
#elif defined(__aarch64__)
#define PERF_REG(i) (i) // x0–x30, SP, PC: the same
#endif

static uint64_t register_mask(void)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < PROFD_UNWIND_REGS; i++)
		mask |= 1ULL << PERF_REG(i);
	return mask;
}

static int open_event(uint32_t tid, bool in_kernel)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = PERIOD_NS,
		.sample_type = PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
		.sample_regs_user = register_mask(),
		.sample_stack_user = STACK_BYTES,
		.wakeup_events = 1,
		.disabled = 1,
		.exclude_kernel = !in_kernel,
		.exclude_hv = 1,
	};
	long fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

int thread_capture_begin(struct thread_capture *capture, uint32_t tid)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = open_event(tid, true);

	*capture = (struct thread_capture){.fd = -1};
	// Who may not look into the kernel sees it when it comes back from there.
	if (fd == -EACCES || fd == -EPERM)
		fd = open_event(tid, false);
	if (fd < 0)
		return fd;
	capture->fd = fd;
	capture->ring_size = RING_BYTES + page;
	capture->ring = mmap(NULL, capture->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (capture->ring == MAP_FAILED) {
		capture->ring = NULL;
		return -errno;
	}
	// Fires once, then disables itself.
	return ioctl(fd, PERF_EVENT_IOC_REFRESH, 1) < 0 ? -errno : 0;
}

// The first record; it begins where the ring does, and is far smaller: nothing wraps.
//   header, u64 abi, u64 regs[by bit of the mask], u64 size, stack[size], u64 of it that is filled
static void take_record(struct thread_capture *capture)
{
	struct perf_event_mmap_page *page = capture->ring;
	const uint8_t *data = (const uint8_t *)capture->ring + (capture->ring_size - RING_BYTES);
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), mask = register_mask(), size, filled;
	const struct perf_event_header *header = (const struct perf_event_header *)data;
	const uint64_t *words = (const uint64_t *)(header + 1);
	const size_t fixed = sizeof(*header) + (1 + PROFD_UNWIND_REGS + 1) * 8;

	if (head < fixed || header->type != PERF_RECORD_SAMPLE || header->size < fixed || header->size > head ||
	    words[0] != PERF_SAMPLE_REGS_ABI_64)
		return;
	size = words[1 + PROFD_UNWIND_REGS];
	if (size > STACK_BYTES || fixed + size + 8 > header->size)
		return;
	for (unsigned i = 0; i < PROFD_UNWIND_REGS; i++)
		capture->regs[i] = words[1 + __builtin_popcountll(mask & ((1ULL << PERF_REG(i)) - 1))];
	capture->stack = data + fixed;
	memcpy(&filled, capture->stack + size, 8);
	capture->stack_size = filled < size ? filled : size;
	capture->taken = true;
}

// poll(2)'s view of those that have not fired.
static size_t list_waited(struct thread_capture *captures, size_t count, struct pollfd *polled, size_t *indexes)
{
	size_t n = 0;

	for (size_t i = 0; i < count && n < MAX_WAITED; i++) {
		if (captures[i].taken || !captures[i].ring)
			continue;
		polled[n] = (struct pollfd){.fd = captures[i].fd, .events = POLLIN};
		indexes[n++] = i;
	}
	return n;
}

void thread_capture_wait(struct thread_capture *captures, size_t count, int64_t timeout_ns)
{
	int64_t end_ns = clock_now_ns() + timeout_ns;
	struct pollfd polled[MAX_WAITED];
	size_t indexes[MAX_WAITED], n;

	while ((n = list_waited(captures, count, polled, indexes)) > 0) {
		int64_t left_ns = end_ns - clock_now_ns();
		struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};

		if (left_ns <= 0 || ppoll(polled, n, &left, NULL) < 0)
			break;
		for (size_t i = 0; i < n; i++) {
			struct thread_capture *capture = &captures[indexes[i]];

			if (!polled[i].revents)
				continue;
			take_record(capture);
			if (!capture->taken)
				thread_capture_end(capture); // it ended, or is no 64-bit process: nothing will come
		}
	}
}

void thread_capture_end(struct thread_capture *capture)
{
	if (capture->ring)
		munmap(capture->ring, capture->ring_size);
	if (capture->fd >= 0)
		close(capture->fd);
	*capture = (struct thread_capture){.fd = -1};
}

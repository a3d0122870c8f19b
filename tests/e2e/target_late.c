// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_late.c: how late one comes back from short sleeps: absolute ones with clock_nanosleep, and epoll_wait's timeout, in turns. Says
// "ready"; answers each line of its standard input with the median and the 90th percentile since the last one, in µs, and how many
// sleeps that were.

#include "target.h"

#include <poll.h>
#include <sys/epoll.h>

#define MOST 100000
#define NAP_NS 1000000

static double late_us[MOST];
static int count;

static double nap(int epoll)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	double end = target_clock_s(CLOCK_MONOTONIC) + NAP_NS / 1e9;
	struct epoll_event event;

	if (count % 2)
		epoll_wait(epoll, &event, 1, NAP_NS / 1000000);
	else
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	return (target_clock_s(CLOCK_MONOTONIC) - end) * 1e6;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static void tell(void)
{
	qsort(late_us, (size_t)count, sizeof(*late_us), compare);
	printf("%.1f %.1f %d\n", late_us[count / 2], late_us[count * 9 / 10], count);
	fflush(stdout);
	count = 0;
}

int main(void)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	int epoll = epoll_create1(0);
	char data[16];

	puts("ready");
	fflush(stdout);
	for (;;) {
		if (poll(&in, 1, 0) > 0) {
			if (read(STDIN_FILENO, data, sizeof(data)) <= 0)
				return 0;
			tell();
		}
		late_us[count] = nap(epoll);
		count += count < MOST - 1;
	}
}

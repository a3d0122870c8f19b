// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// uv_queue.c: work for libuv's thread pool that remembers who asked for it. Two places queue the same work; in a plain profile both are one
// stack of a pool thread, in a causal one each has its own root:
//
//   profd run --causal -o cpu.html -- build/examples/example_uv_queue
//
// What a program needs for it is queue_work below: a link beside the request.

#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "include/profd.h"

#define NOINLINE __attribute__((noinline))

// ---- For any program: uv_queue_work with a link ---------------------------------------------------------------------

struct linked_work {
	uv_work_t request;
	struct profd_link link;
	uv_work_cb work;
	uv_after_work_cb done;
};

static void run_linked(uv_work_t *request)
{
	struct linked_work *work = request->data;

	profd_enter(work->link);
	work->work(request);
	profd_leave();
}

static void end_linked(uv_work_t *request, int status)
{
	struct linked_work *work = request->data;

	if (work->done)
		work->done(request, status);
	free(work);
}

static int queue_work(uv_loop_t *loop, uv_work_cb work, uv_after_work_cb done)
{
	struct linked_work *linked = calloc(1, sizeof(*linked));

	if (!linked)
		return UV_ENOMEM;
	linked->link = profd_capture();
	linked->work = work;
	linked->done = done;
	linked->request.data = linked;
	return uv_queue_work(loop, &linked->request, run_linked, end_linked);
}

// ---- The program ---------------------------------------------------------------------------------------------------

static NOINLINE void resize_image(uv_work_t *request)
{
	clock_t end = clock() + CLOCKS_PER_SEC / 4;
	volatile uint64_t pixels = 0;

	(void)request;
	while (clock() < end)
		pixels++;
}

static NOINLINE void upload_avatar(uv_timer_t *timer)
{
	queue_work(timer->loop, resize_image, NULL);
	__asm__ volatile("# upload");
}

static NOINLINE void rebuild_gallery(uv_timer_t *timer)
{
	for (int i = 0; i < 3; i++)
		queue_work(timer->loop, resize_image, NULL);
	__asm__ volatile("# rebuild");
}

int main(void)
{
	uv_timer_t upload, rebuild;

	uv_timer_init(uv_default_loop(), &upload);
	uv_timer_init(uv_default_loop(), &rebuild);
	uv_timer_start(&upload, upload_avatar, 1, 0);
	uv_timer_start(&rebuild, rebuild_gallery, 1, 0);
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	return 0;
}

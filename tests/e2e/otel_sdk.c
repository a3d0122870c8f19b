// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// otel_sdk.c: a library that publishes the active span as OTEP 4947 has it, by a thread-local variable of the model that compilers choose for
// libraries. target_otel is linked with it.

#include <stdint.h>

struct otel_record;

__attribute__((visibility("default"))) __thread struct otel_record *volatile otel_thread_ctx_v1;

void otel_sdk_publish(struct otel_record *record);

void otel_sdk_publish(struct otel_record *record)
{
	otel_thread_ctx_v1 = record;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// otel_context.h: the process context that OpenTelemetry's SDKs publish in a mapping of their own (OTEP 4719). Nothing in it is trusted.
// Reads /proc and the process's memory: not on the loop.

#ifndef PROFD_COLLECTOR_OTEL_CONTEXT_H
#define PROFD_COLLECTOR_OTEL_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OTEL_NAME_BYTES 128

// The process's service.name. false: it publishes none, or no whole one just now.
bool otel_context_service_name(pid_t pid, char name[OTEL_NAME_BYTES]);
// The same from the payload, an opentelemetry.proto.common.v1.ProcessContext.
bool otel_context_parse(const void *payload, size_t size, char name[OTEL_NAME_BYTES]);

#endif

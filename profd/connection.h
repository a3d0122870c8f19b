// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// connection.h: the socket to the collector, one message at a time. Helper thread.

#ifndef PROFD_CONNECTION_H
#define PROFD_CONNECTION_H

#include <stdint.h>
#include <sys/types.h>

#include "profd/wire.h"

union profd_message_in {
	struct wire_msg msg;
	struct wire_table_msg table;
	struct wire_sampling sampling;
	struct wire_trace_msg trace;
	struct wire_rates_msg rates;
};

// Connects to the collector at that name, ours or root's. The fd or −errno; EINTR where a signal came.
int profd_connection_open(const char *name);
// The same, again where a signal came, until *stopping (atomic) is not 0.
int profd_connection_open_patiently(const char *name, const uint32_t *stopping);
// Says hello, with the region, and then shows the store, if there is one. 0 or −errno.
int profd_connection_hello(int fd);
// Shows the store alone, once there is one. 0 or −errno.
int profd_connection_store(int fd);
// Shows the event trace, or (file: −1) says why there is none. 0 or −errno.
int profd_connection_events(int fd, uint64_t size, int error, int file);
// Never waits. Returns the size, 0 at the end of the connection, or −errno. *ret_fd is −1 or ours to close.
ssize_t profd_connection_receive(int fd, union profd_message_in *message, int *ret_fd);
// Why a collector that hung up does not want us (enum wire_refusal), as far as it said.
uint32_t profd_connection_refusal(int fd);
const char *profd_connection_refusal_text(uint32_t refusal);

#endif

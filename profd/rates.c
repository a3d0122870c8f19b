// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// rates.c: see rates.h.

#include "profd/rates.h"

#include <string.h>

#include "profd/agent.h"
#include "profd/heap.h"
#include "profd/mappings.h"
#include "profd/store.h"
#include "profd/waits.h"

struct wire_rates profd_rates;

static bool is_any(const struct wire_rates *rates)
{
	return rates->heap_bytes || rates->mutex || rates->block;
}

bool profd_rates_any(void)
{
	return (profd_store.header && is_any(&profd_rates)) || profd_rates.wakers;
}

// There is a store.
static void set_mappings(bool on)
{
	int error = profd_mappings_set(on);

	if (error)
		profd_store.header->heap_unseen |= WIRE_UNSEEN_MAPPINGS;
	__atomic_store_n(&profd_store.header->heap_mmap, on && !error, __ATOMIC_RELAXED);
}

int profd_rates_set(const struct wire_rates *rates)
{
	profd_waits_set_wakers(rates->wakers != 0); // they need no store
	profd_rates.wakers = rates->wakers;
	if (!profd_store.header) {
		int error = is_any(rates) ? profd_store_open() : 0;

		if (error) {
			__atomic_store_n(&profd_agent.region.header->store_errno, (uint32_t)-error, __ATOMIC_RELEASE);
			memset(&profd_rates, 0, sizeof(profd_rates));
			return error;
		}
		if (!profd_store.header)
			return 0;
		profd_store.header->heap_unseen = profd_agent.heap_unseen;
	}
	profd_rates = *rates;
	if (rates->heap_bytes != profd_store.header->heap_rate)
		profd_heap_set_rate(rates->heap_bytes);
	set_mappings(rates->heap_bytes && rates->heap_mmap);
	__atomic_store_n(&profd_store.header->mutex_rate, rates->mutex, __ATOMIC_RELAXED);
	__atomic_store_n(&profd_store.header->block_rate, rates->block, __ATOMIC_RELAXED);
	profd_waits_set_rates(rates->mutex, rates->block, rates->block_io != 0);
	return 0;
}

void profd_rates_say_error(void)
{
	uint32_t error = __atomic_load_n(&profd_agent.region.header->store_errno, __ATOMIC_ACQUIRE);

	if (error)
		profd_message("heap and locks are not profiled: cannot make the shared memory for it: %s",
			      strerror((int)error));
}

void profd_rates_stop(void)
{
	profd_heap_stop();
	profd_mappings_stop();
	profd_waits_set_rates(0, 0, false);
	profd_waits_set_wakers(false);
}

void profd_rates_forget(void)
{
	profd_rates_stop();
	profd_waits_forget();
	profd_mappings_forget();
	profd_store_close();
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_pprof.c: any bytes as a profile in pprof's form, not packed. It is refused, or makes a sound report; and what is read can be written
// and read again.

#include "formats/pprof_read.h"
#include "formats/profile.h"
#include "formats/report.h"
#include "formats/short_name.h"
#include "formats/writer.h"
#include "tests/fuzz/fuzz.h"

uint64_t fuzz_got_through;

static void check_report(const struct profile *profile)
{
	const struct report_options options = {0};
	struct writer_memory memory = {0};
	struct writer writer;
	struct report report;

	writer_init(&writer, writer_memory_sink, &memory);
	FUZZ_CHECK(report_init(&report, profile, &options) == 0);
	FUZZ_CHECK(report_write_text(&report, "", &options, &writer) == 0);
	FUZZ_CHECK(report_write_json(&report, "", &options, &writer) == 0);
	report_finish(&report);
	free(memory.data);
}

static void check_again(const struct profile *profile)
{
	struct writer_memory memory = {0};
	struct profile *again;
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &memory);
	FUZZ_CHECK(format_pprof.write(profile, NULL, &writer) == 0);
	FUZZ_CHECK(pprof_read(memory.data, memory.size, &again) == 0);
	FUZZ_CHECK(again->nsamples == profile->nsamples && again->nfunctions <= profile->nfunctions);
	profile_destroy(again);
	free(memory.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct profile *profile;

	if (pprof_read(data, size, &profile) < 0)
		return 0;
	fuzz_got_through++;
	check_report(profile);
	check_again(profile);
	FUZZ_CHECK(short_names_in(profile) == 0);
	check_report(profile);
	profile_destroy(profile);
	return 0;
}

// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// report.c: counts what a report shows. See report.h; the texts are report_text.c's. No state of its own.

#include "formats/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/profile.h"
#include "formats/saturate.h"

static int find_value(const struct profile *profile, const char *name, uint32_t *ret_value)
{
	if (!name) {
		*ret_value = name_gaps_value(profile);
		return profile->nsample_types ? 0 : -EINVAL;
	}
	for (uint32_t i = 0; i < profile->nsample_types; i++)
		if (strcmp(profile->sample_types[i].type, name) == 0) {
			*ret_value = i;
			return 0;
		}
	return -EINVAL;
}

static int count_functions(struct report *report)
{
	const struct profile *profile = report->profile;

	for (uint32_t i = 0; i < profile->nsamples; i++) {
		const struct profile_sample *sample = &profile->samples[i];
		int64_t value = sample->values[report->value];
		uint32_t count, *stack = frames_expand(&report->frames, sample, 0, &count);

		if (!stack)
			return -ENOMEM;
		for (uint32_t k = 0; k < count; k++) {
			struct report_function *function = &report->functions[stack[k]];

			if (function->seen != i + 1)
				function->total = saturate_add(function->total, value);
			function->seen = i + 1;
			if (k + 1 == count)
				function->self = saturate_add(function->self, value);
		}
	}
	return 0;
}

static int compare(int64_t a, int64_t b)
{
	return (a < b) - (a > b);
}

static int compare_names(const struct report_function *a, const struct report_function *b)
{
	int order = strcmp(a->name, b->name);

	return order ? order : strcmp(a->file, b->file);
}

static int compare_self(const void *left, const void *right)
{
	const struct report_function *a = left, *b = right;
	int order = compare(a->self, b->self);

	if (order == 0)
		order = compare(a->total, b->total);
	return order ? order : compare_names(a, b);
}

static int compare_total(const void *left, const void *right)
{
	const struct report_function *a = left, *b = right;
	int order = compare(a->total, b->total);

	if (order == 0)
		order = compare(a->self, b->self);
	return order ? order : compare_names(a, b);
}

int report_init(struct report *report, const struct profile *profile, const struct report_options *options)
{
	int error;

	*report = (struct report){.profile = profile};
	error = find_value(profile, options->value, &report->value);
	if (!error)
		error = frames_init(&report->frames, profile);
	if (!error)
		error = name_gaps_init(&report->gaps, profile);
	if (error)
		return error;
	report->nfunctions = report->frames.count;
	report->functions = calloc((size_t)report->nfunctions + 1, sizeof(*report->functions));
	if (!report->functions)
		return -ENOMEM;
	for (uint32_t i = 0; i < report->nfunctions; i++) {
		report->functions[i].name = report->frames.items[i].name;
		report->functions[i].file = report->frames.items[i].file;
	}
	error = count_functions(report);
	if (error)
		return error;
	if (report->nfunctions)
		qsort(report->functions, report->nfunctions, sizeof(*report->functions),
		      options->by_total ? compare_total : compare_self);
	name_gaps_add_samples(&report->gaps, report->value);
	name_gaps_sort(&report->gaps);
	return 0;
}

void report_finish(struct report *report)
{
	frames_finish(&report->frames);
	name_gaps_finish(&report->gaps);
	free(report->functions);
	*report = (struct report){0};
}

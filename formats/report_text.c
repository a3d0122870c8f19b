// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// report_text.c: a report's text and JSON. See report.h; docs/profd.1 has the fields. No state of its own.

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/flame_units.h"
#include "formats/profile.h"
#include "formats/report.h"
#include "formats/writer.h"

#define MODULES_SHOWN 15u // in the text, besides those that lack names

static uint32_t functions_shown(const struct report *report, const struct report_options *options)
{
	return options->top && options->top < report->nfunctions ? options->top : report->nfunctions;
}

// What a foreign profile's mapping says of itself.
static const char *names_from(const struct report *report, const struct name_gaps_module *module)
{
	bool lines = false, functions = false;

	if (module->names_from[0])
		return module->names_from;
	for (uint32_t i = 0; i < report->profile->nmappings; i++) {
		const struct profile_mapping *mapping = &report->profile->mappings[i];

		if (mapping->file != module->file)
			continue;
		lines |= mapping->has_line_numbers;
		functions |= mapping->has_functions;
	}
	return lines ? "debug info" : functions ? "symbols" : "";
}

static const char *module_name(const struct name_gaps_module *module)
{
	return module->file[0] ? module->file : "[no module]";
}

// ---- Text ----------------------------------------------------------------------------------------------------------

// "  1.23 s  12.34%": right-aligned, whatever bytes a unit has.
static void put_value(const struct report *report, int64_t value, struct writer *writer)
{
	char text[64], percent[16];
	size_t characters = 0;

	flame_units_format(text, sizeof(text), value, &report->profile->sample_types[report->value]);
	flame_units_percent(percent, sizeof(percent), value, report->gaps.total);
	for (const char *c = text; *c; c++)
		characters += ((unsigned char)*c & 0xc0) != 0x80;
	writer_printf(writer, "%*s%s %7s", characters < 12 ? (int)(12 - characters) : 0, "", text, percent);
}

static void put_top(const struct report *report, const char *title, struct writer *writer)
{
	const struct profile *profile = report->profile;
	char total[64], seconds[64];

	writer_plain(writer, title);
	flame_units_format(total, sizeof(total), report->gaps.total, &profile->sample_types[report->value]);
	writer_puts(writer, "\n");
	writer_plain(writer, profile->sample_types[report->value].type);
	writer_printf(writer, ": %s", total);
	if (profile->duration_ns > 0) {
		flame_units_format(seconds, sizeof(seconds), profile->duration_ns,
				   &(struct profile_value_type){"", "nanoseconds"});
		writer_printf(writer, " in %s", seconds);
	}
	writer_puts(writer, "\n");
	for (uint32_t i = 0; i < profile->ncomments; i++) {
		writer_puts(writer, "# ");
		writer_plain(writer, profile->comments[i]);
		writer_puts(writer, "\n");
	}
}

static void put_functions(const struct report *report, const struct report_options *options, struct writer *writer)
{
	uint32_t shown = functions_shown(report, options);

	writer_puts(writer, "\n        self                total          function\n");
	for (uint32_t i = 0; i < shown; i++) {
		put_value(report, report->functions[i].self, writer);
		put_value(report, report->functions[i].total, writer);
		writer_puts(writer, "  ");
		writer_plain(writer, report->functions[i].name);
		writer_puts(writer, "\n");
	}
	if (shown < report->nfunctions)
		writer_printf(writer, "%42s%" PRIu32 " more; --top 0 shows all\n", "", report->nfunctions - shown);
}

static void put_modules(const struct report *report, struct writer *writer)
{
	uint32_t others = 0;

	writer_puts(writer, "\n        self                total       without a name  module (names from)\n");
	for (uint32_t i = 0; i < report->gaps.nmodules; i++) {
		const struct name_gaps_module *module = &report->gaps.modules[i];
		const char *from = names_from(report, module);
		char percent[16];

		if (module->total == 0 || (module->nameless_total == 0 && others++ >= MODULES_SHOWN))
			continue;
		put_value(report, module->self, writer);
		put_value(report, module->total, writer);
		flame_units_percent(percent, sizeof(percent), module->nameless_total, report->gaps.total);
		writer_printf(writer, "  %14s  ", module->nameless_total ? percent : "");
		writer_plain(writer, module_name(module));
		if (from[0]) {
			writer_puts(writer, " (");
			writer_plain(writer, from);
			writer_puts(writer, ")");
		}
		writer_puts(writer, "\n");
		if (module->nameless_total == 0 || !module->advice[0])
			continue;
		writer_printf(writer, "%58s-> ", "");
		writer_plain(writer, module->advice);
		writer_puts(writer, "\n");
	}
	if (others > MODULES_SHOWN)
		writer_printf(writer, "%58s%" PRIu32 " more\n", "", others - MODULES_SHOWN);
}

int report_write_text(const struct report *report, const char *title, const struct report_options *options,
		      struct writer *writer)
{
	put_top(report, title, writer);
	put_functions(report, options, writer);
	put_modules(report, writer);
	return writer_flush(writer);
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static void put_text(struct writer *writer, const char *key, const char *text)
{
	writer_printf(writer, "\"%s\":\"", key);
	writer_json(writer, text);
	writer_puts(writer, "\"");
}

static void put_number(struct writer *writer, const char *key, int64_t number)
{
	writer_printf(writer, ",\"%s\":%" PRId64, key, number);
}

static void put_json_functions(const struct report *report, const struct report_options *options, struct writer *writer)
{
	uint32_t shown = functions_shown(report, options);

	writer_puts(writer, ",\n\"functions\":[");
	for (uint32_t i = 0; i < shown; i++) {
		writer_puts(writer, i ? ",\n{" : "\n{");
		put_text(writer, "name", report->functions[i].name);
		writer_puts(writer, ",");
		put_text(writer, "file", report->functions[i].file);
		put_number(writer, "self", report->functions[i].self);
		put_number(writer, "total", report->functions[i].total);
		writer_puts(writer, "}");
	}
	writer_puts(writer, "]");
}

static void put_json_modules(const struct report *report, struct writer *writer)
{
	const char *comma = "";

	writer_puts(writer, ",\n\"modules\":[");
	for (uint32_t i = 0; i < report->gaps.nmodules; i++) {
		const struct name_gaps_module *module = &report->gaps.modules[i];

		if (module->total == 0)
			continue;
		writer_printf(writer, "%s\n{", comma);
		put_text(writer, "file", module->file);
		writer_puts(writer, ",");
		put_text(writer, "build_id", module->build_id);
		writer_puts(writer, ",");
		put_text(writer, "names_from", names_from(report, module));
		writer_puts(writer, ",");
		put_text(writer, "advice", module->advice);
		put_number(writer, "self", module->self);
		put_number(writer, "total", module->total);
		put_number(writer, "nameless_self", module->nameless_self);
		put_number(writer, "nameless_total", module->nameless_total);
		writer_puts(writer, "}");
		comma = ",";
	}
	writer_puts(writer, "]");
}

int report_write_json(const struct report *report, const char *title, const struct report_options *options,
		      struct writer *writer)
{
	const struct profile *profile = report->profile;

	writer_puts(writer, "{\"version\":1,");
	put_text(writer, "title", title);
	writer_puts(writer, ",");
	put_text(writer, "type", profile->sample_types[report->value].type);
	writer_puts(writer, ",");
	put_text(writer, "unit", profile->sample_types[report->value].unit);
	put_number(writer, "total", report->gaps.total);
	put_number(writer, "time_ns", profile->time_ns);
	put_number(writer, "duration_ns", profile->duration_ns);
	writer_puts(writer, ",\n\"comments\":[");
	for (uint32_t i = 0; i < profile->ncomments; i++) {
		writer_puts(writer, i ? ",\"" : "\"");
		writer_json(writer, profile->comments[i]);
		writer_puts(writer, "\"");
	}
	writer_puts(writer, "]");
	put_json_functions(report, options, writer);
	put_json_modules(report, writer);
	writer_puts(writer, "}\n");
	return writer_flush(writer);
}

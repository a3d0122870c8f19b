// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// junit.c: see junit.h. The elements are those of Jenkins' junit-10.xsd, which GitLab and GitHub's reporters read as well.

#include "formats/junit.h"

#include <inttypes.h>
#include <stddef.h>

#include "formats/writer.h"

static void put_attribute(struct writer *writer, const char *name, const char *value)
{
	writer_printf(writer, " %s=\"", name);
	writer_xml(writer, value);
	writer_puts(writer, "\"");
}

void junit_begin(struct writer *writer, const char *suite, uint32_t ncases, uint32_t nfailures)
{
	writer_puts(writer, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite");
	put_attribute(writer, "name", suite);
	writer_printf(writer, " tests=\"%" PRIu32 "\" failures=\"%" PRIu32 "\" errors=\"0\" skipped=\"0\">\n", ncases,
		      nfailures);
}

void junit_case(struct writer *writer, const struct junit_case *one)
{
	writer_puts(writer, "<testcase");
	put_attribute(writer, "classname", one->class_name);
	put_attribute(writer, "name", one->name);
	if (!one->failure) {
		writer_puts(writer, "/>\n");
		return;
	}
	writer_puts(writer, "><failure");
	put_attribute(writer, "message", one->failure);
	writer_puts(writer, ">");
	writer_xml(writer, one->text ? one->text : "");
	writer_puts(writer, "</failure></testcase>\n");
}

int junit_end(struct writer *writer)
{
	writer_puts(writer, "</testsuite>\n</testsuites>\n");
	return writer_flush(writer);
}

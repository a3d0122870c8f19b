// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_check.c: `profd check BINARY|PID`: will it profile well, and if not, why, and what to change. For people, and for a build that is to
// fail when it will not.

#include "collector/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/elf_check.h"
#include "collector/maps.h"
#include "collector/module_open.h"
#include "collector/package_owner.h"
#include "collector/process.h"
#include "collector/program.h"
#include "collector/target_root.h"
#include "formats/writer.h"

#define CHECK_MAX_MODULES 4096u

struct checks {
	struct debug_places places;
	struct target_root *root; // of the process
	size_t count;             // the program first, then its libraries
	struct check_report *reports;
};

static const char check_help[] =
	"usage: profd check [OPTION]... BINARY|PID\n"
	"\n"
	"Tells whether a program will profile well: can the agent be preloaded, can its stacks be unwound, will its "
	"frames\n"
	"have names; and if not, what to change. Nothing is run. Of a process, the libraries that it has mapped are "
	"checked,\n"
	"too. A file whose name is a number: './4711'.\n"
	"\n"
	"      --json           JSON\n"
	"      --debug-dir DIR  separate debug info is looked for there, too, as below /usr/lib/debug\n"
	"      --help           this text\n"
	"\n"
	"Exit status: 0 it will (notes aside), 1 it will not, or not well, 2 wrong usage or nothing to check.\n";

// NULL: too many, or no memory.
static struct check_report *new_report(struct checks *checks)
{
	struct check_report *more;

	if (checks->count == CHECK_MAX_MODULES)
		return NULL;
	more = realloc(checks->reports, (checks->count + 1) * sizeof(*more));
	if (!more)
		return NULL;
	checks->reports = more;
	more[checks->count] = (struct check_report){0};
	return &more[checks->count++];
}

static void add_linkage(struct check_report *report, const struct program *program)
{
	const char *reason = program_reason(program);
	struct stat status;

	if (reason) {
		check_report_add(report, CHECK_BAD, "agent", "'profd dump PID' shows its threads as it is", "%s",
				 reason);
		return;
	}
	check_report_add(report, CHECK_GOOD, "agent", "", "dynamically linked with glibc: the agent can be preloaded");
	if (stat(program->path, &status) == 0 && (status.st_mode & (S_ISUID | S_ISGID)))
		check_report_add(report, CHECK_NOTE, "agent", "",
				 "setuid or setgid: preloaded only where that changes nothing, as for its owner");
}

// 0, or says why not and returns −1.
static int check_binary(const char *name, struct checks *checks)
{
	struct check_report *report = new_report(checks);
	struct program program;
	int fd, r;

	program_inspect(name, &program);
	if (!program.path[0])
		snprintf(program.path, sizeof(program.path), "%s", name);
	fd = elf_file_open_path(program.path);
	r = !report ? -ENOMEM : fd < 0 ? fd : elf_check(fd, program.path, &checks->places, report);
	if (r == -ENOENT)
		cli_say("%s: there is no such file", name);
	else if (r == -ENOEXEC)
		cli_say("%s: neither a program nor a library", program.path);
	else if (r < 0 && r != -ENOTSUP)
		cli_say("%s: %s", program.path, strerror(-r));
	if (r < 0 && r != -ENOTSUP)
		return -1;
	if (!report->is_library)
		add_linkage(report, &program);
	return 0;
}

// ---- A process -----------------------------------------------------------------------------------------------------

static bool is_known(const struct checks *checks, const char *path)
{
	for (size_t i = 0; i < checks->count; i++)
		if (strncmp(checks->reports[i].path, path, sizeof(checks->reports[i].path) - 1) == 0)
			return true;
	return false;
}

static void check_mapping(pid_t pid, const struct maps_entry *entry, struct checks *checks)
{
	struct check_report *report;
	enum module_open_by by;
	struct elf_file file;
	int r;

	if (entry->path[0] != '/' || is_known(checks, entry->path) || !(report = new_report(checks)))
		return;
	snprintf(report->path, sizeof(report->path), "%s", entry->path);
	r = module_open(pid, entry, &file, &by);
	if (r == 0) {
		int fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 0);

		elf_file_close(&file);
		r = fd < 0 ? -errno : elf_check(fd, entry->path, &checks->places, report);
	}
	if (r < 0)
		check_report_add(report, CHECK_POOR, "file", "", "cannot be read (%s): no names, no unwinding",
				 strerror(-r));
}

static void add_jit(pid_t pid, unsigned areas, struct check_report *program)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/root/tmp/perf-%d.map", (int)process_living_task(pid, 0), (int)pid);
	if (areas == 0)
		return;
	if (access(path, R_OK) == 0)
		check_report_add(program, CHECK_GOOD, "JIT", "",
				 "code without a file behind it, and a perf map that names it");
	else
		check_report_add(
			program, CHECK_NOTE, "JIT",
			"have the runtime write /tmp/perf-PID.map or a jitdump (node: --perf-basic-prof; java: "
			"-XX:+DumpPerfMapAtExit, or perf-map-agent)",
			"code without a file behind it (%u areas), and no perf map: its frames have no names", areas);
}

static int check_process(pid_t pid, struct checks *checks)
{
	bool agent = false, deleted = false;
	struct program program;
	unsigned anonymous = 0;
	char exe[32], path[PATH_MAX] = "";
	struct maps maps;
	const pid_t living = process_living_task(pid, 0);
	int r = maps_read(living, &maps);

	checks->places.root = checks->root = target_root_open(living, NULL);
	snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)living);
	if (r == 0 && readlink(exe, path, sizeof(path) - 1) < 0)
		r = -errno;
	if (r < 0) {
		cli_say(r == -ESRCH || r == -ENOENT ? "there is no process %d" : "no right to look into process %d",
			(int)pid);
		return -1;
	}
	for (int first = 1; first >= 0; first--) {
		for (size_t i = 0; i < maps.count; i++) {
			const char *base = strrchr(maps.entries[i].path, '/');

			if ((strcmp(maps.entries[i].path, path) == 0) == first)
				check_mapping(living, &maps.entries[i], checks);
			agent |= base && strncmp(base, "/libprofd.so", 12) == 0;
			deleted |= maps.entries[i].deleted != 0;
			anonymous += maps.entries[i].path[0] == '\0' && first;
		}
	}
	maps_finish(&maps);
	if (checks->count == 0) {
		cli_say("process %d maps no program", (int)pid);
		return -1;
	}
	program_inspect(exe, &program);
	if (agent)
		check_report_add(&checks->reports[0], CHECK_GOOD, "agent", "", "the agent is in it");
	else
		add_linkage(&checks->reports[0], &program);
	if (deleted)
		check_report_add(
			&checks->reports[0], CHECK_NOTE, "file", "",
			"files that it runs were deleted or replaced: they are read as they were, through /proc");
	add_jit(pid, anonymous, &checks->reports[0]);
	return 0;
}

// ---- What it says --------------------------------------------------------------------------------------------------

static enum check_level worst_of(const struct checks *checks)
{
	enum check_level worst = CHECK_GOOD;

	for (size_t i = 0; i < checks->count; i++)
		if (check_report_level(&checks->reports[i]) > worst)
			worst = check_report_level(&checks->reports[i]);
	return worst;
}

// Names come from files: no control character reaches a terminal.
static void print_clean(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void print_report(const struct check_report *report, bool all)
{
	print_clean(report->path);
	putchar('\n');
	for (size_t i = 0; i < report->count; i++) {
		const struct check_finding *finding = &report->findings[i];

		if (!all && finding->level == CHECK_GOOD)
			continue;
		printf("  %-5s %-11s ", check_level_name(finding->level), finding->topic);
		print_clean(finding->text);
		putchar('\n');
		if (finding->advice[0] && finding->level != CHECK_GOOD) {
			printf("%20s-> ", "");
			print_clean(finding->advice);
			putchar('\n');
		}
	}
}

static void print_all(const struct checks *checks)
{
	static const char *const verdicts[] = {"will profile well", "will profile well; see the notes",
					       "will profile poorly", "cannot be profiled"};
	size_t good = 0;

	for (size_t i = 0; i < checks->count; i++) {
		if (i > 0 && check_report_level(&checks->reports[i]) == CHECK_GOOD)
			good++;
		else
			print_report(&checks->reports[i], i == 0);
	}
	if (good > 0)
		printf("%zu more libraries: good\n", good);
	puts(verdicts[worst_of(checks)]);
}

static void json_member(struct writer *writer, const char *before, const char *key, const char *text)
{
	writer_printf(writer, "%s\"%s\":\"", before, key);
	writer_json(writer, text);
	writer_puts(writer, "\"");
}

static void json_report(struct writer *writer, const struct check_report *report)
{
	json_member(writer, "{", "path", report->path);
	json_member(writer, ",", "level", check_level_name(check_report_level(report)));
	json_member(writer, ",", "build_id", report->build_id);
	writer_puts(writer, ",\"findings\":[");
	for (size_t i = 0; i < report->count; i++) {
		const struct check_finding *finding = &report->findings[i];

		json_member(writer, i > 0 ? ",\n  {" : "\n  {", "level", check_level_name(finding->level));
		json_member(writer, ",", "topic", finding->topic);
		json_member(writer, ",", "text", finding->text);
		json_member(writer, ",", "advice", finding->advice);
		writer_puts(writer, "}");
	}
	writer_puts(writer, "]}");
}

static int print_json(const struct checks *checks)
{
	struct writer writer;
	int fd = STDOUT_FILENO;

	writer_init(&writer, writer_fd_sink, &fd);
	json_member(&writer, "{", "level", check_level_name(worst_of(checks)));
	writer_puts(&writer, ",\"modules\":[\n ");
	for (size_t i = 0; i < checks->count; i++) {
		writer_puts(&writer, i > 0 ? ",\n " : "");
		json_report(&writer, &checks->reports[i]);
	}
	writer_puts(&writer, "]}\n");
	return writer_flush(&writer);
}

// ---- The command ---------------------------------------------------------------------------------------------------

// −1: go on; else the exit status.
static int parse(int argc, char **argv, bool *ret_json, struct cli_debug *debug)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"help", no_argument, NULL, 'h'},
						{"debug-dir", required_argument, NULL, CLI_OPT_DEBUG_DIR},
						{NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, ":h", options, NULL)) >= 0) {
		switch (option) {
		case 'j':
			*ret_json = true;
			break;
		case 'h':
			fputs(check_help, stdout);
			return 0;
		default:
			if (cli_debug_option(debug, option, optarg) > 0)
				break;
			if (option == '?' || option == ':')
				cli_bad_option(argv, option);
			return CLI_USAGE;
		}
	}
	if (optind + 1 == argc)
		return -1;
	cli_say(optind == argc ? "which program? 'profd check BINARY' or 'profd check PID'"
			       : "one at a time: 'profd check BINARY|PID'");
	return CLI_USAGE;
}

// What to install, by the name of the package that the file is of.
static void name_package(struct check_report *report, const char *package)
{
	char debug_package[PACKAGE_NAME_MAX + 16], file[256] = "";

	package_owner_debug_name(package, debug_package, sizeof(debug_package));
	if (report->build_id[0])
		snprintf(file, sizeof(file), " (" MODULE_DEBUG_DIRS "/.build-id/%.2s/%s.debug)", report->build_id,
			 report->build_id + 2);
	for (size_t i = 0; i < report->count; i++)
		if (strcmp(report->findings[i].topic, "names") == 0)
			snprintf(report->findings[i].advice, sizeof(report->findings[i].advice),
				 "install %s%s, or build it with -g", debug_package, file);
}

static void name_packages(struct checks *checks)
{
	struct package_query *queries = calloc(checks->count + 1, sizeof(*queries));
	size_t n = 0;

	for (size_t i = 0; queries && i < checks->count; i++)
		if (checks->reports[i].lacks_debug_info)
			queries[n++] = (struct package_query){
				.path = target_root_inside(checks->root, checks->reports[i].path),
				.of = &checks->reports[i]};
	if (n > 0)
		package_owner_find(target_root_fd(checks->root), queries, n);
	for (size_t i = 0; i < n; i++)
		if (queries[i].name[0])
			name_package(queries[i].of, queries[i].name);
	free(queries);
}

static int check_run(int argc, char **argv)
{
	struct checks checks = {0};
	struct cli_debug debug = {0};
	char dirs[sizeof(debug.dirs) + sizeof(MODULE_DEBUG_DIRS)];
	bool json = false;
	uint32_t pid;
	int r = parse(argc, argv, &json, &debug);

	if (r >= 0)
		return r;
	(void)cli_debug_finish(&debug);
	snprintf(dirs, sizeof(dirs), "%s%s" MODULE_DEBUG_DIRS, debug.dirs, debug.dirs[0] ? ":" : "");
	checks.places.dirs = dirs;
	if (strspn(argv[optind], "0123456789") == strlen(argv[optind]) && argv[optind][0])
		r = cli_number("PID", argv[optind], 1, INT32_MAX, &pid) ? check_process((pid_t)pid, &checks) : -1;
	else
		r = check_binary(argv[optind], &checks);
	if (r == 0)
		name_packages(&checks);
	if (r == 0 && json)
		r = print_json(&checks);
	else if (r == 0)
		print_all(&checks);
	r = r < 0 ? CLI_USAGE : worst_of(&checks) >= CHECK_POOR;
	free(checks.reports);
	target_root_unref(checks.root);
	return r;
}

const struct cli_command cli_command_check = {
	.name = "check",
	.run = check_run,
	.summary = "will a program or a process profile well, and if not, why",
	.help = check_help,
};

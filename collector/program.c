// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// program.c: see program.h. Reads a few hundred bytes of the file; trusts none of them. The main thread's.

#include "collector/program.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PROGRAM_HEAD 256 // as much of a script's first line as the kernel reads
#define PROGRAM_MAX_SCRIPTS 5
#define PROGRAM_MAX_HEADERS 128

#if defined(__x86_64__)
#define PROGRAM_MACHINE EM_X86_64
#define PROGRAM_LINKER "ld-linux-x86-64.so"
#elif defined(__aarch64__)
#define PROGRAM_MACHINE EM_AARCH64
#define PROGRAM_LINKER "ld-linux-aarch64.so"
#else
#error "the agent is not ported to this machine"
#endif

static bool program_is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

// As execvp searches.
static bool program_find(const char *command, char *buf, size_t size)
{
	const char *path = getenv("PATH");

	if (strchr(command, '/') != NULL) {
		size_t length = strlen(command);
		if (length < size)
			memcpy(buf, command, length + 1);
		return length < size;
	}
	for (const char *at = path != NULL ? path : "/bin:/usr/bin"; *command != '\0'; at++) {
		size_t length = strcspn(at, ":");
		int needed = snprintf(buf, size, "%.*s%s%s", (int)length, at, length > 0 ? "/" : "", command);
		if (needed > 0 && (size_t)needed < size && program_is_executable(buf))
			return true;
		at += length;
		if (*at == '\0')
			break;
	}
	buf[0] = '\0';
	return false;
}

static const char *program_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

// The next word of a script's first line; NULL at its end.
static char *program_word(char **at)
{
	char *word = *at + strspn(*at, " \t");
	char *end = word + strcspn(word, " \t");

	if (word == end)
		return NULL;
	*at = *end != '\0' ? end + 1 : end;
	*end = '\0';
	return word;
}

// "#!/usr/bin/env -S A=1 python3 -u": env is dynamic itself, but what it starts is what will be profiled.
static bool program_interpreter(char *line, char *buf, size_t size)
{
	line[strcspn(line, "\n")] = '\0';
	char *at = line + 2;
	char *word = program_word(&at);
	if (word == NULL)
		return false;
	if (strcmp(program_base(word), "env") != 0)
		return program_find(word, buf, size);
	do
		word = program_word(&at);
	while (word != NULL && (*word == '-' || strchr(word, '=') != NULL));
	return word != NULL && program_find(word, buf, size);
}

// LD_PRELOAD is ignored when exec changes who the process is, or raises what it may do (AT_SECURE).
static bool program_is_privileged(int fd)
{
	struct statvfs fs;
	struct stat st;

	if (fstat(fd, &st) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_NOSUID) != 0)
		return false;
	if ((st.st_mode & S_ISUID) != 0 && (st.st_uid != getuid() || st.st_uid != geteuid()))
		return true;
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
	    (st.st_gid != getgid() || st.st_gid != getegid()))
		return true;
	return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

// By the name of the dynamic linker it asks for. The linker run by hand asks for none, and is not static either.
static enum program_kind program_by_linker(const char *path, const char *linker)
{
	if (linker[0] == '\0')
		linker = path;
	else if (strncmp(program_base(linker), PROGRAM_LINKER, strlen(PROGRAM_LINKER)) != 0)
		return PROGRAM_OTHER_LIBC;
	return strncmp(program_base(linker), PROGRAM_LINKER, strlen(PROGRAM_LINKER)) == 0 ? PROGRAM_DYNAMIC
											  : PROGRAM_STATIC;
}

static enum program_kind program_by_headers(int fd, const char *path, const Elf64_Ehdr *ehdr)
{
	char linker[PATH_MAX] = "";

	if (ehdr->e_phentsize != sizeof(Elf64_Phdr) || ehdr->e_phnum > PROGRAM_MAX_HEADERS)
		return PROGRAM_UNKNOWN;
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		Elf64_Phdr phdr;
		off_t at = (off_t)(ehdr->e_phoff + i * sizeof(phdr));
		if (pread(fd, &phdr, sizeof(phdr), at) != (ssize_t)sizeof(phdr))
			return PROGRAM_UNKNOWN;
		if (phdr.p_type != PT_INTERP)
			continue;
		ssize_t got = pread(fd, linker, sizeof(linker) - 1, (off_t)phdr.p_offset);
		if (got <= 0)
			return PROGRAM_UNKNOWN;
		linker[got] = '\0';
		break;
	}
	return program_by_linker(path, linker);
}

static enum program_kind program_by_elf(int fd, const char *path, const char *head, size_t size)
{
	Elf64_Ehdr ehdr;

	if (size < sizeof(ehdr))
		return PROGRAM_UNKNOWN;
	memcpy(&ehdr, head, sizeof(ehdr));
	if (ehdr.e_ident[EI_CLASS] == ELFCLASS32)
		return PROGRAM_32BIT;
	if (ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_ident[EI_DATA] != ELFDATA2LSB ||
	    ehdr.e_machine != PROGRAM_MACHINE)
		return PROGRAM_FOREIGN;
	return program_is_privileged(fd) ? PROGRAM_PRIVILEGED : program_by_headers(fd, path, &ehdr);
}

// One file: its kind, or, for a script, the path of what runs it (*ret_script).
static enum program_kind program_by_file(const char *path, char *interpreter, size_t size, bool *ret_script)
{
	char head[PROGRAM_HEAD + 1];
	enum program_kind kind = PROGRAM_UNKNOWN;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hold us

	*ret_script = false;
	if (fd < 0)
		return PROGRAM_UNKNOWN;
	ssize_t got = pread(fd, head, PROGRAM_HEAD, 0);
	if (got > 2) {
		head[got] = '\0';
		if (memcmp(head, "#!", 2) == 0)
			*ret_script = program_interpreter(head, interpreter, size);
		else if (got > SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0)
			kind = program_by_elf(fd, path, head, (size_t)got);
	}
	close(fd);
	return kind;
}

void program_inspect(const char *command, struct program *ret_program)
{
	char interpreter[PATH_MAX];
	bool script = true;

	*ret_program = (struct program){.preload = true};
	if (!program_find(command, ret_program->path, sizeof(ret_program->path)))
		return;
	for (int i = 0; i < PROGRAM_MAX_SCRIPTS && script; i++) {
		ret_program->kind = program_by_file(ret_program->path, interpreter, sizeof(interpreter), &script);
		if (script)
			memcpy(ret_program->path, interpreter, sizeof(interpreter));
	}
	ret_program->preload = ret_program->kind == PROGRAM_UNKNOWN || ret_program->kind == PROGRAM_DYNAMIC ||
			       ret_program->kind == PROGRAM_STATIC;
}

const char *program_reason(const struct program *program)
{
	switch (program->kind) {
	case PROGRAM_STATIC:
		return "is statically linked: nothing can be preloaded into it (programs that it starts may be "
		       "profiled)";
	case PROGRAM_PRIVILEGED:
		return "runs with other privileges (setuid, setgid or file capabilities): the dynamic linker then "
		       "ignores "
		       "LD_PRELOAD";
	case PROGRAM_32BIT:
		return "is a 32-bit program, and the agent is a 64-bit library";
	case PROGRAM_FOREIGN:
		return "is built for another machine";
	case PROGRAM_OTHER_LIBC:
		return "uses another C library than glibc, which the agent is built for";
	case PROGRAM_UNKNOWN:
	case PROGRAM_DYNAMIC:
		break;
	}
	return NULL;
}

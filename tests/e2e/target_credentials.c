// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_credentials.c: programs that change what they may do, by every way there is. What they print is the same with an agent.

#include <dirent.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/e2e/target.h"

#define OTHER 65534

static void print_field(const char *path, const char *name)
{
	char line[256];
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			fputs(line, stdout);
	if (file)
		(void)fclose(file);
}

static bool same_in_all(const char *name)
{
	char command[256];

	// Of a process's own threads: a thread that has more would be the way around what the program gave up.
	snprintf(command, sizeof(command), "test $(grep -h '^%s' /proc/%d/task/*/status | sort -u | wc -l) = 1", name,
		 (int)getpid());
	return system(command) == 0;
}

static void print_rights(void)
{
	static const char *const names[] = {"Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		print_field("/proc/self/status", names[i]);
		printf("%s same in all threads: %s\n", names[i], same_in_all(names[i]) ? "yes" : "no");
	}
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

// Capabilities survive setresuid in this thread alone; setresgid must succeed in all, or libc aborts.
static int run_keepcaps(int argc, char **argv)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	target_burn(100);
	TARGET_CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setresuid(OTHER, OTHER, OTHER) == 0);
	TARGET_CHECK(syscall(SYS_capget, &header, data) == 0);
	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted;
	TARGET_CHECK(syscall(SYS_capset, &header, data) == 0);
	TARGET_CHECK(setresgid(OTHER, OTHER, OTHER) == 0 && setgroups(0, NULL) == 0);
	print_rights();
	target_burn(300);
	return 0;
}

static int run_drop(int argc, char **argv)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {0};

	target_burn(100);
	TARGET_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	TARGET_CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0) == 0);
	TARGET_CHECK(syscall(SYS_capset, &header, none) == 0);
	print_rights();
	target_burn(300);
	return 0;
}

static void *toggle(void *rounds)
{
	for (int i = *(int *)rounds; i > 0; i--) {
		TARGET_CHECK(seteuid(OTHER) == 0 || i < 0);
		TARGET_CHECK(seteuid(0) == 0);
		if (i % 16 == 0)
			target_burn(1);
	}
	return NULL;
}

static void *burn_for_ever(void *unused)
{
	for (;;)
		target_burn(100);
	return NULL;
}

// Of another thread, however little the machine has for it.
static void wait_for_cpu(pthread_t thread, double seconds)
{
	clockid_t clock;

	TARGET_CHECK(pthread_getcpuclockid(thread, &clock) == 0);
	while (target_clock_s(clock) < seconds)
		usleep(1000);
}

// toggle THREADS ROUNDS: several at once. libc does them one after the other.
static int run_toggle(int argc, char **argv)
{
	int threads = (int)target_number(argc, argv, 1, 1);
	int rounds = (int)target_number(argc, argv, 2, 100);
	int fds = count_fds();
	pthread_t thread[64], burner;

	pthread_create(&burner, NULL, burn_for_ever, NULL);
	for (int i = 0; i < threads; i++)
		TARGET_CHECK(pthread_create(&thread[i], NULL, toggle, &rounds) == 0);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	target_burn(200);
	wait_for_cpu(burner, 0.25);
	printf("uid %d, euid %d, as many descriptors: %d\n", (int)getuid(), (int)geteuid(), count_fds() == fds);
	return 0;
}

#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void say(const char *text)
{
	(void)!write(1, text, strlen(text));
}

// filter prctl|syscall|strict: from then on next to nothing is allowed, and what is not kills the process.
static int run_filter(int argc, char **argv)
{
	struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
				     ALLOW(SYS_write),
				     ALLOW(SYS_exit_group),
				     ALLOW(SYS_rt_sigreturn),
				     ALLOW(SYS_exit),
				     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
	const char *how = argv[1];

	target_burn(300);
	TARGET_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1); // a question
	TARGET_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (strcmp(how, "prctl") == 0)
		TARGET_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	else if (strcmp(how, "syscall") == 0)
		TARGET_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
	else
		TARGET_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
	for (volatile unsigned long i = 0; i < 300000000; i++)
		;
	say("filtered\n");
	syscall(SYS_exit, 3);
	return 0;
}

// namespace: our thread must not stay behind in another one.
static int run_namespace(int argc, char **argv)
{
	target_burn(100);
	TARGET_CHECK(unshare(CLONE_NEWNET) == 0);
	TARGET_CHECK(unshare(CLONE_NEWNS) == 0);
	for (int i = 0; i < 3; i++)
		TARGET_CHECK(seteuid(OTHER) == 0 && seteuid(0) == 0);
	target_burn(200);
	printf("one namespace: %d\n", system("test $(readlink /proc/$PPID/task/*/ns/net | sort -u | wc -l) = 1"));
	return 0;
}

static const struct target_case cases[] = {
	{"keepcaps", run_keepcaps}, {"drop", run_drop},           {"toggle", run_toggle},
	{"filter", run_filter},     {"namespace", run_namespace},
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	return target_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}

// SPDX-License-Identifier: GPL-2.0
/* Tasks for stack traces: those that spin, those in the module, and the kernel's own trace of each that sleeps. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "load.h"

#define STACK_TEXT	800
#define PF_KTHREAD	0x00200000

/* Of the kernel threads only those that sleep in the module are known to sleep on. */
struct trace {
	char text[STACK_TEXT];
	size_t used;
	bool in_module;
};

/* /proc/PID/stack is the kernel's own backtrace of a sleeping task: lines of "[<0>] function+0x1/0x2 [module]". */
static bool read_trace(const char *path, struct trace *trace)
{
	char line[256], function[200];
	FILE *f = fopen(path, "r");

	memset(trace, 0, sizeof(*trace));
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "[<%*x>] %199s", function) != 1)
			continue;
		if (trace->used + strlen(function) + 4 > sizeof(trace->text)) {
			errno = 0;
			die("%s is too long", path);
		}
		trace->used += (size_t)sprintf(trace->text + trace->used, "%s\"%s\"", trace->used ? "," : "", function);
		trace->in_module |= strstr(line, "[kdump_lab]") != NULL;
	}
	fclose(f);
	return true;
}

/* A name can hold anything but a NUL: what follows begins behind the last bracket. */
static bool read_state(const char *path, char *state, unsigned int *flags)
{
	char text[1024], *end;
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	end = strrchr(text, ')');
	return end && sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", state, flags) == 2;
}

static void note_stack(const char *pid, const char *tid)
{
	char path[600], state;
	unsigned int flags;
	struct trace trace;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", pid, tid);
	if (!read_state(path, &state, &flags) || state == 'R')
		return;
	snprintf(path, sizeof(path), "/proc/%s/task/%s/stack", pid, tid);
	if (read_trace(path, &trace) && (trace.in_module || !(flags & PF_KTHREAD)))
		note("{\"r\":\"stack\",\"pid\":%s,\"frames\":[%s]}", tid, trace.text);
}

static void note_process(const char *pid)
{
	char path[300];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			note_stack(pid, entry->d_name);
	closedir(dir);
}

static void run_stacks(int argc, char **argv)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	(void)argc;
	(void)argv;
	if (!dir)
		die("/proc");
	while ((entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != getpid())
			note_process(entry->d_name);
	closedir(dir);
}

static void run_do(int argc, char **argv)
{
	module_do(argv[1], argc > 2 ? number(argv[2]) : 0);
}

static bool become_task(const char *comm, int cpu)
{
	if (fork())
		return false;
	prctl(PR_SET_NAME, comm);
	if (cpu >= 0)
		stay_on_cpu(cpu);
	return true;
}

static void run_task(int argc, char **argv)
{
	if (become_task(argv[1], number(argv[2]))) {
		module_do(argv[3], argc > 4 ? number(argv[4]) : 0);
		_exit(1);
	}
	pause_ms(50);
}

static void spin(void)
{
	for (;;)
		__builtin_ia32_pause();
}

static void run_user_spin(int argc, char **argv)
{
	(void)argc;
	if (become_task(argv[1], number(argv[2])))
		spin();
}

/* Real-time tasks may take all of the CPU: no part of it is kept for the others. */
static void no_share_for_others(const char *cpu)
{
	char path[80];

	write_file("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	/* The "fair server", since 6.12. */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	snprintf(path, sizeof(path), "/sys/kernel/debug/sched/fair_server/cpu%s/runtime", cpu);
	if (access(path, F_OK) == 0)
		write_file(path, "0");
	errno = 0;
}

/* The real-time parent keeps the CPU for itself, so the child is stuck where tasks begin. */
static void run_unborn(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = 50 };

	(void)argc;
	no_share_for_others(argv[2]);
	if (!become_task(argv[1], number(argv[2])))
		return;
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param))
		die("SCHED_FIFO");
	fork();
	spin();
}

static void run_odd_sleepers(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (const struct sleeper *sleeper = odd_sleepers; sleeper->comm; sleeper++)
		if (become_task(sleeper->comm, -1)) {
			sleeper->run();
			_exit(1);
		}
	pause_ms(300);
}

const struct word stack_words[] = {
	{ "do", 1, run_do },			/* do ACTION [VALUE]: the loader itself runs one of the module's actions */
	{ "task", 3, run_task },		/* task COMM CPU ACTION [VALUE]: a task does; on any CPU where that is -1 */
	{ "user-spin", 2, run_user_spin },	/* user-spin COMM CPU: a task that spins in user space */
	{ "unborn", 2, run_unborn },		/* unborn COMM CPU: takes all of a CPU, with a child that never gets to run */
	{ "odd-sleepers", 0, run_odd_sleepers }, /* one task for each of the places of odd.c */
	{ "stacks", 0, run_stacks },		/* publish the kernel's traces of all programs that sleep now */
	{ 0 },
};

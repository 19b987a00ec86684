// SPDX-License-Identifier: GPL-2.0
/*
 * The loader: reads a scenario, one command of plain words per line, and runs it.  It makes the traffic, hands the
 * sockets to the module, has everything published and crashes the machine.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define MAX_ARGS 32

static int lab_fd = -1, kmsg_fd = -1;

/* One line into the kernel log, where the console shows it.  (dprintf() would seek first, which /dev/kmsg refuses.) */
__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	char text[400];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, args);
	va_end(args);
	if (n > (int)sizeof(text) - 2)
		n = sizeof(text) - 2;
	/* Without it the kernel waits for the rest of the line. */
	text[n++] = '\n';
	if (write(kmsg_fd, text, (size_t)n) != n)
		exit(2);
}

/* Says what failed, and why where errno tells it: then the lab shows it. */
_Noreturn void die(const char *fmt, ...)
{
	char text[256];
	int saved = errno;
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	say("lab: failed: %s%s%s", text, saved ? ": " : "", saved ? strerror(saved) : "");
	exit(1);
}

/* One record, a JSON object, that is published as it is. */
void note(const char *fmt, ...)
{
	struct lab_note arg = { 0 };
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(arg.text, sizeof(arg.text), fmt, args);
	va_end(args);
	if (n >= (int)sizeof(arg.text) || ioctl(lab_fd, LAB_NOTE, &arg))
		die("note of %d bytes", n);
}

int number(const char *word)
{
	char *end;
	long value = strtol(word, &end, 0);

	if (end == word || *end) {
		errno = 0;
		die("not a number: %s", word);
	}
	return (int)value;
}

void pause_ms(int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static struct lab_sock named(int fd, const char *name, const char *part)
{
	struct lab_sock arg = { .fd = fd };

	snprintf(arg.label, sizeof(arg.label), "%s%s%s", name, *part ? "." : "", part);
	return arg;
}

/* Publishes the socket as "name.part", or as "name" where part is empty. */
void publish_fd(int fd, const char *name, const char *part)
{
	struct lab_sock arg = named(fd, name, part);

	if (ioctl(lab_fd, LAB_SOCK, &arg))
		die("publishing socket %s", arg.label);
}

/* From here on the socket counts as in use: no timer touches it and its input goes to the backlog. */
void hold_fd(const char *name, const char *part)
{
	struct lab_sock arg = named(-1, name, part);

	if (ioctl(lab_fd, LAB_HOLD, &arg))
		die("holding socket %s", arg.label);
}

void plant(struct lab_damage *damage)
{
	if (ioctl(lab_fd, LAB_DAMAGE, damage))
		die("damage %s on %s", damage->kind, damage->label);
}

void prepare_fault(struct lab_damage *damage)
{
	if (ioctl(lab_fd, LAB_FAULT, damage))
		die("fault %s on %s", damage->kind, damage->label);
}

void plant_faults(void)
{
	if (ioctl(lab_fd, LAB_PLANT))
		die("planting faults");
}

/* Most actions do not come back. */
void module_do(const char *action, int value)
{
	struct lab_do arg = { .value = value };

	snprintf(arg.action, sizeof(arg.action), "%s", action);
	if (ioctl(lab_fd, LAB_DO, &arg))
		die("module action %s %d", action, value);
}

static void move_to_cpu(int pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(pid, sizeof(set), &set))
		die("moving %d to cpu %d", pid, cpu);
}

void stay_on_cpu(int cpu)
{
	move_to_cpu(0, cpu);
}

void write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die("%s", path);
	close(fd);
}

static void step(const char *name)
{
	say("lab: step %s", name);
}

static void note_text_address(void)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	unsigned long address;
	char name[256];

	if (!f)
		die("/proc/kallsyms");
	while (fscanf(f, "%lx %*c %255[^\n]", &address, name) == 2)
		if (!strcmp(name, "_text")) {
			note("{\"r\":\"kernel_text\",\"address\":\"0x%016lx\"}", address);
			fclose(f);
			return;
		}
	die("no _text in /proc/kallsyms");
}

static void note_module_address(void)
{
	FILE *f = fopen("/sys/module/kdump_lab/sections/.text", "r");
	unsigned long address;

	if (!f || fscanf(f, "%lx", &address) != 1)
		die("the module's .text address");
	fclose(f);
	note("{\"r\":\"module\",\"name\":\"kdump_lab\",\"text\":\"0x%016lx\"}", address);
}

static void note_kernel(void)
{
	struct utsname name;

	uname(&name);
	note("{\"r\":\"kernel\",\"release\":\"%s\"}", name.release);
	note_text_address();
	note_module_address();
}

/* With PREEMPT_RT, threads print: "pr/ttyS0". */
static void move_printers(int cpu)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		char path[300], comm[16] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f) && !strncmp(comm, "pr/", 3))
			move_to_cpu(number(entry->d_name), cpu);
		fclose(f);
	}
	if (proc)
		closedir(proc);
}

static void run_cpu(int argc, char **argv)
{
	(void)argc;
	stay_on_cpu(number(argv[1]));
	move_printers(number(argv[1]));
}

static void run_settle(int argc, char **argv)
{
	(void)argc;
	pause_ms(number(argv[1]));
}

static void run_publish(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	step("publish");
	if (ioctl(lab_fd, LAB_PUBLISH))
		die("publishing");
	step("crash");
}

static void run_sysrq(int argc, char **argv)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY);

	(void)argc;
	if (fd < 0 || write(fd, argv[1], 1) != 1)
		die("sysrq");
}

static void run_sysctl(int argc, char **argv)
{
	char path[128];

	(void)argc;
	snprintf(path, sizeof(path), "/proc/sys/%s", argv[1]);
	write_file(path, argv[2]);
}

static const struct word own_words[] = {
	{ "cpu", 1, run_cpu },		/* cpu N: the loader and the console, and with them the crash, stay on this CPU */
	{ "settle", 1, run_settle },	/* settle MS: let the timers back off */
	{ "publish", 0, run_publish },	/* the last thing before the crash */
	{ "sysrq", 1, run_sysrq },	/* sysrq KEY */
	{ "sysctl", 2, run_sysctl },	/* sysctl PATH VALUE: a file below /proc/sys */
	{ 0 },
};

static void run_line(int argc, char **argv)
{
	const struct word *const tables[] = {
		own_words, inet_words, tcp_words, other_words, task_words, stack_words, plant_words,
		net_words, unusual_words, rogue_words, netns_words, traced_words,
	};

	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		for (const struct word *word = tables[i]; word->name; word++)
			if (!strcmp(word->name, argv[0])) {
				errno = 0;
				if (argc - 1 < word->min_args)
					die("too few words after %s", argv[0]);
				word->run(argc, argv);
				return;
			}
	errno = 0;
	die("unknown word %s", argv[0]);
}

int main(int argc, char **argv)
{
	char line[1024], *args[MAX_ARGS];
	FILE *f;
	int n;

	kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	lab_fd = open("/dev/kdump_lab", O_RDWR | O_CLOEXEC);
	if (kmsg_fd < 0 || lab_fd < 0 || argc != 2)
		die("start");
	f = fopen(argv[1], "re");
	if (!f)
		die("%s", argv[1]);
	step("traffic");
	note_kernel();
	while (fgets(line, sizeof(line), f)) {
		n = 0;
		for (char *word = strtok(line, " \n"); word && n < MAX_ARGS; word = strtok(NULL, " \n"))
			args[n++] = word;
		if (n)
			run_line(n, args);
	}
	errno = 0;
	die("the scenario ended and the kernel still runs");
}

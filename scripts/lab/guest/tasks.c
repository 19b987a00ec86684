// SPDX-License-Identifier: GPL-2.0
/* Programs that sleep in known places, with the kernel's own stack trace of each. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

#define STACK_TEXT	600

static void sleep_read(void)
{
	int fds[2];
	char byte;

	if (!pipe(fds))
		(void)!read(fds[0], &byte, 1);
}

static void sleep_poll(void)
{
	poll(NULL, 0, -1);
}

static void sleep_epoll(void)
{
	struct epoll_event event;

	epoll_wait(epoll_create1(0), &event, 1, -1);
}

static void sleep_nanosleep(void)
{
	sleep(100000);
}

static void sleep_wait(void)
{
	if (fork() == 0) {
		prctl(PR_SET_NAME, "lab-waited-for");
		pause();
	}
	wait(NULL);
}

static void sleep_sigsuspend(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigsuspend(&none);
}

static void sleep_accept(void)
{
	int fd = inet_socket(AF_INET, SOCK_STREAM, next_port());

	listen(fd, 1);
	accept(fd, NULL, NULL);
}

static void sleep_udp_recv(void)
{
	char byte;

	recv(inet_socket(AF_INET, SOCK_DGRAM, next_port()), &byte, 1, 0);
}

static void sleep_unix_recv(void)
{
	int fds[2];
	char byte;

	if (!socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		recv(fds[0], &byte, 1, 0);
}

static void *in_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	pause();
	return NULL;
}

static void sleep_threads(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, in_thread, "lab-thread-1");
	pthread_create(&thread, NULL, in_thread, "lab-thread-2");
	/* Waits on a futex. */
	pthread_join(thread, NULL);
}

static void sleep_vfork(void)
{
	/* The parent waits in the kernel, uninterruptible but for fatal signals, while the child lives. */
	if (vfork() == 0) {
		prctl(PR_SET_NAME, "lab-vforked");
		pause();
		_exit(0);
	}
}

static void sleep_stopped(void)
{
	raise(SIGSTOP);
}

static void sleep_zombie(void)
{
	_exit(0);
}

static const struct {
	const char *comm;
	void (*run)(void);
} sleepers[] = {
	{ "lab-read", sleep_read },
	{ "lab-poll", sleep_poll },
	{ "lab-epoll", sleep_epoll },
	{ "lab-nanosleep", sleep_nanosleep },
	{ "lab-wait", sleep_wait },
	{ "lab-sigsuspend", sleep_sigsuspend },
	{ "lab-accept", sleep_accept },
	{ "lab-udp-recv", sleep_udp_recv },
	{ "lab-unix-recv", sleep_unix_recv },
	{ "lab-threads", sleep_threads },
	{ "lab-vfork", sleep_vfork },
	{ "lab-stopped", sleep_stopped },
	{ "lab-zombie", sleep_zombie },
	{ "lab <&>\"\\ \x01\xff", sleep_poll },	/* a name that is bad XML, bad JSON and bad UTF-8 */
};

/* /proc/PID/stack is the kernel's own backtrace of a sleeping task: lines of "[<0>] function+0x1/0x2". */
static void note_stack(int pid)
{
	char path[64], line[256], function[200], text[STACK_TEXT] = "";
	size_t used = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	f = fopen(path, "r");
	if (!f)
		die("%s", path);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "[<%*x>] %199s", function) == 1 && used + strlen(function) + 4 < sizeof(text))
			used += (size_t)sprintf(text + used, "%s\"%s\"", used ? "," : "", function);
	fclose(f);
	note("{\"r\":\"stack\",\"pid\":%d,\"frames\":[%s]}", pid, text);
}

static void run_sleepers(int argc, char **argv)
{
	enum { COUNT = sizeof(sleepers) / sizeof(*sleepers) };
	int pids[COUNT];

	(void)argc;
	(void)argv;
	for (int i = 0; i < COUNT; i++) {
		/* A child must not get the port of the next one. */
		next_port();
		pids[i] = fork();
		if (pids[i] == 0) {
			prctl(PR_SET_NAME, sleepers[i].comm);
			sleepers[i].run();
			_exit(1);
		}
	}
	pause_ms(300);
	for (int i = 0; i < COUNT; i++)
		note_stack(pids[i]);
}

const struct word task_words[] = {
	{ "sleepers", 0, run_sleepers },	/* one task for each of the places above */
	{ 0 },
};

// SPDX-License-Identifier: GPL-2.0
/* Programs that sleep in known places, with the kernel's own stack trace of each. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

static void sleep_read(void)
{
	int fds[2];
	char byte;

	if (!pipe(fds))
		(void)!read(fds[0], &byte, 1);
}

void sleep_poll(void)
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

static const struct sleeper sleepers[] = {
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

static void run_sleepers(int argc, char **argv)
{
	enum { COUNT = sizeof(sleepers) / sizeof(*sleepers) };
	int total = (argc > 1 ? number(argv[1]) : 1) * COUNT;

	for (int i = 0; i < total; i++) {
		/* A child must not get the port of the next one. */
		next_port();
		if (fork() == 0) {
			prctl(PR_SET_NAME, sleepers[i % COUNT].comm);
			sleepers[i % COUNT].run();
			_exit(1);
		}
	}
	pause_ms(300);
}

const struct word task_words[] = {
	{ "sleepers", 0, run_sleepers },	/* sleepers [N]: N tasks for each of the places above */
	{ 0 },
};

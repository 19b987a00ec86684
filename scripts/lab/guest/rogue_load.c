// SPDX-License-Identifier: GPL-2.0
/* Words that tell the module rogue to go wrong, and the traffic that it then goes wrong on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define MANY	400
#define CLOSED	9	/* a port that nobody has */

static void tell(const char *fault, int fd)
{
	char text[64];

	if (fd < 0)
		snprintf(text, sizeof(text), "%s", fault);
	else
		snprintf(text, sizeof(text), "%s %d", fault, fd);
	write_file("/sys/module/rogue_drv/parameters/fault", text);
}

static void run_rogue(int argc, char **argv)
{
	(void)argc;
	tell(argv[1], -1);
}

/* A pair of UDP sockets with three datagrams on the way, empty ones for what counts bytes; the fault, its trigger. */
static void run_rogue_udp(int argc, char **argv)
{
	int port = next_port(), rx = inet_socket(AF_INET, SOCK_DGRAM, port), tx = inet_socket(AF_INET, SOCK_DGRAM, 0);
	char buf[600];

	(void)argc;
	inet_connect(tx, AF_INET, port);
	payload(buf, sizeof(buf), 0);
	for (int i = 0; i < 3; i++)
		if (send(tx, buf, strcmp(argv[1], "queue-cycle") ? sizeof(buf) - 100 * (size_t)i : 0, 0) < 0)
			die("rogue-udp");
	tell(argv[1], rx);
	if (!strcmp(argv[1], "gone-callback") && syscall(SYS_delete_module, "rogue_drv", O_NONBLOCK))
		die("rogue does not go");
	if (!strcmp(argv[1], "queue-cycle")) {
		int offset = 1;

		setsockopt(rx, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset));
		recv(rx, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
	}
	if (send(tx, buf, sizeof(buf), 0) < 0)
		die("rogue-udp");
	recv(rx, buf, sizeof(buf), MSG_DONTWAIT);
	close(rx);
	close(tx);
}

/* A TCP connection whose other end does not answer: all is in flight when the fault comes. */
static void run_rogue_tcp(int argc, char **argv)
{
	int port = next_port(), listener = inet_socket(AF_INET, SOCK_STREAM, port);
	int tx = inet_socket(AF_INET, SOCK_STREAM, 0), rx;
	char buf[3000];

	(void)argc;
	if (listen(listener, 1))
		die("listen");
	inet_connect(tx, AF_INET, port);
	rx = accept(listener, NULL, NULL);
	if (rx < 0)
		die("accept");
	publish_fd(rx, "rogue-rx", "");
	hold_fd("rogue-rx", "");	/* nothing is acknowledged from here on */
	payload(buf, sizeof(buf), 0);
	for (int i = 0; i < 2; i++)	/* less than the congestion window: nothing waits to be sent */
		if (send(tx, buf, sizeof(buf), 0) < 0)
			die("rogue-tcp");
	tell(argv[1], tx);
}

/* A connection that is read from after the fault. */
static void run_rogue_read(int argc, char **argv)
{
	int port = next_port(), listener = inet_socket(AF_INET, SOCK_STREAM, port);
	int tx = inet_socket(AF_INET, SOCK_STREAM, 0), rx, on = 1;
	char buf[3000];

	(void)argc;
	if (listen(listener, 1))
		die("listen");
	inet_connect(tx, AF_INET, port);
	rx = accept(listener, NULL, NULL);
	if (rx < 0 || setsockopt(tx, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("accept");
	payload(buf, sizeof(buf), 0);
	for (int i = 0; i < 3; i++) {
		if (send(tx, buf, sizeof(buf), MSG_EOR) < 0)
			die("rogue-read");
		pause_ms(50);
	}
	tell(argv[1], rx);
	recv(rx, buf, sizeof(buf), MSG_DONTWAIT);
}

/* A socket in the middle of many loses its struct sock under its file; the others are closed, and others take the memory. */
static void run_rogue_reused(int argc, char **argv)
{
	int fds[MANY], victim;

	(void)argc;
	(void)argv;
	for (int i = 0; i < MANY; i++)
		fds[i] = inet_socket(AF_INET, SOCK_DGRAM, next_port());
	victim = fds[MANY / 2];
	tell("sock-reused", victim);
	for (int i = 0; i < MANY; i++)
		if (fds[i] != victim)
			close(fds[i]);
	pause_ms(500);	/* they are freed by RCU */
	tell("sock-taken", -1);
	inet_connect(victim, AF_INET, CLOSED);
	send(victim, "x", 1, 0);
}

static void run_rogue_unload(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (syscall(SYS_delete_module, "rogue_drv", O_NONBLOCK))
		die("rogue does not go");
}

const struct word rogue_words[] = {
	{ "rogue-read", 1, run_rogue_read },	/* rogue-read FAULT: on a TCP socket that has received */
	{ "rogue-reused", 0, run_rogue_reused },
	{ "rogue-unload", 0, run_rogue_unload },
	{ "rogue", 1, run_rogue },		/* rogue FAULT */
	{ "rogue-udp", 1, run_rogue_udp },	/* rogue-udp FAULT: on a socket that has datagrams */
	{ "rogue-tcp", 1, run_rogue_tcp },	/* rogue-tcp FAULT: on a socket that has sent */
	{ 0 },
};

// SPDX-License-Identifier: GPL-2.0
/* Words that tell the module rogue to go wrong, and the traffic that it then goes wrong on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

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

const struct word rogue_words[] = {
	{ "rogue", 1, run_rogue },		/* rogue FAULT */
	{ "rogue-udp", 1, run_rogue_udp },	/* rogue-udp FAULT: on a socket that has datagrams */
	{ "rogue-tcp", 1, run_rogue_tcp },	/* rogue-tcp FAULT: on a socket that has sent */
	{ 0 },
};

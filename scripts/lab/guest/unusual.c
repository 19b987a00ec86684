// SPDX-License-Identifier: GPL-2.0
/* What healthy systems do, but not every day: zerocopy, segmentation of UDP, descriptors in flight, large netlink. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP	262
#endif

#define FILE_SIZE	(1 << 20)
#define SMALL_WINDOW	8192

struct pair {
	int client, server;
};

static struct pair stream_pair(int protocol, const char *name, int rcvbuf)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, protocol);
	struct pair pair = { .client = socket(AF_INET, SOCK_STREAM, protocol) };

	address.sin_port = htons((uint16_t)next_port());
	if (rcvbuf && setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)))
		die("SO_RCVBUF");
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1))
		die("listen for %s", name);
	if (connect(pair.client, (struct sockaddr *)&address, sizeof(address)))
		die("connect for %s", name);
	pair.server = accept(listener, NULL, NULL);
	if (pair.server < 0)
		die("accept for %s", name);
	close(listener);
	publish_fd(pair.client, name, "client");
	publish_fd(pair.server, name, "server");
	return pair;
}

static void set(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		die("socket option %d", option);
}

static char *memory(size_t size)
{
	char *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (found == MAP_FAILED)
		die("mmap");
	return found;
}

/* Pages of user space in the sk_buffs, untouched ones (the zero page) among them, and completions that nobody reads. */
static void run_zerocopy(int argc, char **argv)
{
	struct pair pair = stream_pair(0, argv[1], 0);
	char *pages = memory(FILE_SIZE);

	(void)argc;
	memset(pages + FILE_SIZE / 2, 'z', FILE_SIZE / 2);
	set(pair.client, SOL_SOCKET, SO_ZEROCOPY, 1);
	for (int i = 0; i < 6; i++) {
		if (send(pair.client, pages + i * FILE_SIZE / 8, 50000, MSG_ZEROCOPY | MSG_DONTWAIT) < 0)
			break;
		if (i < 3)
			(void)!recv(pair.server, pages, 30000, MSG_DONTWAIT);
	}
}

static void run_sendfile(int argc, char **argv)
{
	struct pair pair = stream_pair(0, argv[1], 0);
	int file = open("/load", O_RDONLY);
	off_t at = 5000;

	(void)argc;
	if (file < 0 || sendfile(pair.client, file, &at, 200000) <= 0)
		die("sendfile");
}

/* A reader that takes little by little: long segments are acknowledged in part. */
static void run_tcp_slow(int argc, char **argv)
{
	struct pair pair = stream_pair(0, argv[1], SMALL_WINDOW);
	char *buf = memory(FILE_SIZE);

	(void)argc;
	for (int i = 0; i < 12; i++) {
		(void)!send(pair.client, buf, 120000, MSG_DONTWAIT);
		pause_ms(20);
		(void)!recv(pair.server, buf, 3001, MSG_DONTWAIT);
	}
}

/* Nothing where the kernel was built without it, as Debian's 5.10. */
static void run_mptcp(int argc, char **argv)
{
	char buf[30000] = "";
	struct pair pair;
	int probe = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);

	(void)argc;
	if (probe < 0 && errno == EPROTONOSUPPORT)
		return;
	close(probe);
	pair = stream_pair(IPPROTO_MPTCP, argv[1], 0);
	for (int i = 0; i < 4; i++)
		if (send(pair.client, buf, sizeof(buf), 0) < 0)
			die("mptcp send");
}

/* One long datagram that the device may cut, to a socket that takes it whole or in its segments. */
static void udp_segments(const char *name, int gro)
{
	int port = next_port();
	int rx = inet_socket(AF_INET, SOCK_DGRAM, port), tx = inet_socket(AF_INET, SOCK_DGRAM, 0);
	char buf[20000] = "";

	inet_connect(tx, AF_INET, port);
	publish_fd(rx, name, gro ? "whole" : "cut");
	publish_fd(tx, name, gro ? "tx0" : "tx1");
	set(rx, IPPROTO_UDP, UDP_GRO, gro);
	set(tx, IPPROTO_UDP, UDP_SEGMENT, 1000);
	set(tx, SOL_SOCKET, SO_ZEROCOPY, 1);
	if (send(tx, buf, sizeof(buf), 0) < 0 || send(tx, buf, 3500, MSG_ZEROCOPY) < 0)
		die("UDP segments");
}

static void run_udp_gso(int argc, char **argv)
{
	(void)argc;
	udp_segments(argv[1], 1);
	udp_segments(argv[1], 0);
}

/* Timestamps of what was sent come back on the error queue. */
static void run_timestamps(int argc, char **argv)
{
	int port = next_port(), rx = inet_socket(AF_INET, SOCK_DGRAM, port), tx = inet_socket(AF_INET, SOCK_DGRAM, 0);
	char buf[500] = "";

	(void)argc;
	inet_connect(tx, AF_INET, port);
	publish_fd(rx, argv[1], "rx");
	publish_fd(tx, argv[1], "tx");
	set(tx, SOL_SOCKET, SO_TIMESTAMPING,
	    SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_SOFTWARE);
	for (int i = 0; i < 3; i++)
		if (send(tx, buf, sizeof(buf), 0) < 0)
			die("timestamps");
}

static void run_unix_fds(int argc, char **argv)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int)) } };
	char text[100] = "descriptors";
	struct iovec data = { text, sizeof(text) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fds[2], *passed = (int *)CMSG_DATA(&control.header);

	(void)argc;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		die("socketpair");
	publish_fd(fds[0], argv[1], "tx");
	publish_fd(fds[1], argv[1], "rx");
	/* One of them is the receiver itself: a cycle for the kernel's garbage collector. */
	passed[0] = fds[1];
	passed[1] = 0;
	for (int i = 0; i < 3; i++)
		if (sendmsg(fds[0], &message, 0) < 0)
			die("SCM_RIGHTS");
	/* AF_UNIX has it since 5.15. */
	if (send(fds[0], "o", 1, MSG_OOB) < 0 && errno != EOPNOTSUPP)
		die("out of band");
	if (recv(fds[1], text, 1, MSG_PEEK) != 1)
		die("peek");
}

/* A message so large that its buffer comes from vmalloc. */
static void run_netlink_large(int argc, char **argv)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	socklen_t len = sizeof(address);
	int rx = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK), tx = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
	size_t size = 150000;
	char *buf = calloc(1, size);

	(void)argc;
	set(rx, SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20);
	set(tx, SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20);
	if (!buf || bind(rx, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(rx, (struct sockaddr *)&address, &len))
		die("netlink");
	publish_fd(rx, argv[1], "rx");
	if (sendto(tx, buf, size, 0, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("netlink send of %zu bytes", size);
	free(buf);
}

const struct word unusual_words[] = {
	{ "zerocopy", 1, run_zerocopy },	/* each takes a NAME */
	{ "sendfile", 1, run_sendfile },
	{ "tcp-slow", 1, run_tcp_slow },
	{ "mptcp", 1, run_mptcp },
	{ "udp-gso", 1, run_udp_gso },
	{ "timestamps", 1, run_timestamps },
	{ "unix-fds", 1, run_unix_fds },
	{ "netlink-large", 1, run_netlink_large },
	{ 0 },
};

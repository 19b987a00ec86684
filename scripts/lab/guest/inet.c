// SPDX-License-Identifier: GPL-2.0
/* UDP traffic over the loopback device, and the helpers that TCP uses too. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define CLOSED_PORT	9
#define TOO_LONG	65500	/* with what is pending already, longer than a UDP datagram can be */
#define FLOOD_BYTES	(1 << 29)	/* doubled by the kernel, it is still an int */
#define AHEAD		4096	/* more than any linear skb buffer here has room for */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t loopback(union address *address, int family, int port)
{
	memset(address, 0, sizeof(*address));
	address->any.sa_family = (sa_family_t)family;
	if (family == AF_INET6) {
		address->v6.sin6_addr = in6addr_loopback;
		address->v6.sin6_port = htons((uint16_t)port);
		return sizeof(address->v6);
	}
	address->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address->v4.sin_port = htons((uint16_t)port);
	return sizeof(address->v4);
}

int family_of(const char *word)
{
	return strcmp(word, "inet6") ? AF_INET : AF_INET6;
}

int next_port(void)
{
	static int port = 20000;

	return port++;
}

/* A socket bound to a port of the loopback address, or to none when port is 0. */
int inet_socket(int family, int type, int port)
{
	union address address;
	socklen_t len = loopback(&address, family, port);
	int fd = socket(family, type, 0);

	if (fd < 0)
		die("socket");
	if (port && bind(fd, &address.any, len))
		die("bind to port %d", port);
	return fd;
}

void inet_connect(int fd, int family, int port)
{
	union address address;
	socklen_t len = loopback(&address, family, port);

	if (connect(fd, &address.any, len))
		die("connect to port %d", port);
}

static void send_payload(int fd, size_t len, size_t position, int flags)
{
	char *buf = malloc(len);

	if (!buf)
		die("malloc");
	payload(buf, len, position);
	if (send(fd, buf, len, flags) != (ssize_t)len)
		die("send of %zu bytes", len);
	free(buf);
}

struct pair {
	int rx, tx;
};

static struct pair udp_pair(int family, const char *name)
{
	int port = next_port();
	struct pair pair = {
		.rx = inet_socket(family, SOCK_DGRAM, port),
		.tx = inet_socket(family, SOCK_DGRAM, 0),
	};

	inet_connect(pair.tx, family, port);
	publish_fd(pair.rx, name, "rx");
	publish_fd(pair.tx, name, "tx");
	return pair;
}

static void run_udp(int argc, char **argv)
{
	struct pair pair = udp_pair(family_of(argv[2]), argv[1]);

	for (int i = 3; i < argc; i++)
		send_payload(pair.tx, (size_t)number(argv[i]), 0, 0);
}

/* One socket with more datagrams than a real one ever has: what limits it is set aside first. */
static void run_udp_flood(int argc, char **argv)
{
	struct pair pair;
	int rcvbuf = FLOOD_BYTES, count = number(argv[3]);

	(void)argc;
	write_file("/proc/sys/net/core/netdev_max_backlog", "1000000");
	write_file("/proc/sys/net/ipv4/udp_mem", "1000000 1000000 1000000");
	pair = udp_pair(family_of(argv[2]), argv[1]);
	if (setsockopt(pair.rx, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)))
		die("SO_RCVBUFFORCE");
	for (int i = 0; i < count; i++)
		send_payload(pair.tx, (size_t)number(argv[4]), 0, 0);
}

static void run_udp_reader(int argc, char **argv)
{
	struct pair pair = udp_pair(family_of(argv[2]), argv[1]);
	char byte;

	for (int i = 3; i < argc; i++)
		send_payload(pair.tx, (size_t)number(argv[i]), 0, 0);
	/* The first read moves all that has come onto the reader queue; what comes now waits on the receive queue. */
	if (recv(pair.rx, &byte, 1, 0) != 1)
		die("recv");
	for (int i = 3; i < argc; i++)
		send_payload(pair.tx, (size_t)number(argv[i]), 0, 0);
}

static void run_udp_error(int argc, char **argv)
{
	int family = family_of(argv[2]);
	int fd = inet_socket(family, SOCK_DGRAM, 0), on = 1;

	(void)argc;
	if (setsockopt(fd, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, family == AF_INET6 ? IPV6_RECVERR : IP_RECVERR,
		       &on, sizeof(on)))
		die("RECVERR");
	inet_connect(fd, family, CLOSED_PORT);
	publish_fd(fd, argv[1], "");
	send_payload(fd, 100, 0, 0);
}

/* The one corked socket, for the words that go on with it. */
static int cork_fd = -1;
static size_t corked;

static void run_udp_cork(int argc, char **argv)
{
	struct pair pair = udp_pair(family_of(argv[2]), argv[1]);

	cork_fd = pair.tx;
	corked = 0;
	for (int i = 3; i < argc; i++) {
		size_t len = (size_t)number(argv[i]);

		send_payload(pair.tx, len, corked, MSG_MORE);
		corked += len;
	}
}

/* Copies the payload on over the end of the last pending skb, as a copy with a wrong length would have done. */
static void run_cork_overrun(int argc, char **argv)
{
	char *ahead = malloc(AHEAD);
	struct lab_damage damage = {
		.kind = "overrun",
		.queue = "write",
		.index = -1,
		.bytes = (unsigned int)number(argv[2]),
		.data = (unsigned long)ahead,
		.data_len = AHEAD,
	};

	(void)argc;
	if (!ahead)
		die("malloc");
	snprintf(damage.label, sizeof(damage.label), "%s.tx", argv[1]);
	payload(ahead, AHEAD, corked);
	plant(&damage);
	free(ahead);
}

/* A send that is too long makes udp_sendmsg() throw away what is pending: the damaged skb is freed. */
static void run_cork_flush(int argc, char **argv)
{
	char *buf = calloc(1, TOO_LONG);

	(void)argc;
	(void)argv;
	if (!buf)
		die("calloc");
	if (send(cork_fd, buf, TOO_LONG, 0) != -1 || errno != EMSGSIZE)
		die("the send should have failed with EMSGSIZE");
	free(buf);
}

const struct word inet_words[] = {
	{ "udp", 2, run_udp },			/* udp NAME inet|inet6 LEN...: datagrams that nobody reads */
	{ "udp-flood", 4, run_udp_flood },	/* udp-flood NAME inet|inet6 COUNT LEN: so many datagrams of that length */
	{ "udp-reader", 3, run_udp_reader },	/* the same twice, with one read between */
	{ "udp-error", 2, run_udp_error },	/* udp-error NAME inet|inet6: one message on the error queue */
	{ "udp-cork", 3, run_udp_cork },	/* udp-cork NAME inet|inet6 LEN...: one datagram, pending, in parts */
	{ "cork-overrun", 2, run_cork_overrun }, /* cork-overrun NAME BYTES: write past the last pending skb's end */
	{ "cork-flush", 0, run_cork_flush },	/* the failing send on the last udp-cork socket */
	{ 0 },
};

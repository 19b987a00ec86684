// SPDX-License-Identifier: GPL-2.0
/* Sockets of other families. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

static void fill_unix(int type, int argc, char **argv)
{
	int fds[2];

	if (socketpair(AF_UNIX, type, 0, fds))
		die("socketpair");
	publish_fd(fds[0], argv[1], "tx");
	publish_fd(fds[1], argv[1], "rx");
	for (int i = 2; i < argc; i++) {
		size_t len = (size_t)number(argv[i]);
		char *buf = calloc(1, len);

		if (!buf || send(fds[0], buf, len, MSG_DONTWAIT) != (ssize_t)len)
			die("unix send of %zu bytes", len);
		free(buf);
	}
}

static void run_unix_dgram(int argc, char **argv)
{
	fill_unix(SOCK_DGRAM, argc, argv);
}

static void run_unix_stream(int argc, char **argv)
{
	fill_unix(SOCK_STREAM, argc, argv);
}

static void run_netlink(int argc, char **argv)
{
	struct {
		struct nlmsghdr header;
		struct rtgenmsg message;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = RTM_GETLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	(void)argc;
	if (fd < 0)
		die("netlink socket");
	publish_fd(fd, argv[1], "");
	if (send(fd, &request, sizeof(request), 0) < 0)
		die("netlink send");
}

static int packet_fd = -1;

static void run_packet(int argc, char **argv)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex("lo"),
	};

	(void)argc;
	packet_fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (packet_fd < 0 || bind(packet_fd, (struct sockaddr *)&address, sizeof(address)))
		die("packet socket");
	publish_fd(packet_fd, argv[1], "");
}

static void run_packet_stop(int argc, char **argv)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET };

	(void)argc;
	(void)argv;
	/* Bound to protocol 0 it keeps what it has and hears nothing more. */
	if (bind(packet_fd, (struct sockaddr *)&address, sizeof(address)))
		die("packet socket stop");
}

const struct word other_words[] = {
	{ "unix-dgram", 2, run_unix_dgram },	/* unix-dgram NAME LEN... */
	{ "unix-stream", 2, run_unix_stream },	/* unix-stream NAME LEN... */
	{ "netlink", 1, run_netlink },		/* netlink NAME: an answer that nobody reads */
	{ "packet", 1, run_packet },		/* packet NAME: sees all that passes the loopback device ... */
	{ "packet-stop", 0, run_packet_stop },	/* ... until here */
	{ 0 },
};

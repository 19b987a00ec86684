// SPDX-License-Identifier: GPL-2.0
/* Packets that stay on their way: in the module's network devices, and fragments whose rest never comes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define DISCARD		9	/* the port that packets go to */
#define PART		800	/* bytes of a fragment, a multiple of 8 */

static void run_net_up(int argc, char **argv)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	(void)argc;
	snprintf(request.ifr_name, IFNAMSIZ, "%s", argv[1]);
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = inet_addr(argv[2]);
	if (ioctl(fd, SIOCSIFADDR, &request))
		die("address of %s", argv[1]);
	address->sin_addr.s_addr = inet_addr("255.255.255.0");
	if (ioctl(fd, SIOCSIFNETMASK, &request))
		die("netmask of %s", argv[1]);
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		die("flags of %s", argv[1]);
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		die("%s up", argv[1]);
	close(fd);
}

static void run_net_send(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr(argv[1]) };
	int count = number(argv[2]), priority = 6, fd = -1;
	char *buf = NULL;

	for (int i = 0; i < count; i++) {
		size_t len = (size_t)number(argv[3 + i % (argc - 3)]);

		/* Each pair of packets is a flow of its own. */
		if (i % 2 == 0) {
			fd = socket(AF_INET, SOCK_DGRAM, 0);
			if (i % 3 == 0)
				setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority));
		}
		buf = realloc(buf, len);
		if (!buf)
			die("realloc");
		payload(buf, len, 0);
		to.sin_port = htons((uint16_t)(DISCARD + i / 2));
		if (sendto(fd, buf, len, 0, (struct sockaddr *)&to, sizeof(to)) != (ssize_t)len)
			die("sendto %s", argv[1]);
	}
	free(buf);
}

static void send_fragments4(uint16_t id, const int *parts, int count)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	char packet[sizeof(struct iphdr) + PART];
	struct iphdr *ip = (struct iphdr *)packet;

	for (int i = 0; i < count; i++) {
		memset(packet, 0, sizeof(packet));
		*ip = (struct iphdr){
			.version = 4, .ihl = 5, .tot_len = htons(sizeof(packet)), .id = htons(id), .ttl = 64, .protocol = IPPROTO_UDP,
			.frag_off = htons((uint16_t)(IP_MF | parts[i] * PART / 8)), .saddr = to.sin_addr.s_addr,
			.daddr = to.sin_addr.s_addr,
		};
		if (sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) != sizeof(packet))
			die("IPv4 fragment");
	}
	close(fd);
}

static void send_fragments6(uint32_t id, const int *parts, int count)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_FRAGMENT);
	char packet[sizeof(struct ip6_frag) + PART];
	struct ip6_frag *header = (struct ip6_frag *)packet;

	for (int i = 0; i < count; i++) {
		memset(packet, 0, sizeof(packet));
		header->ip6f_nxt = IPPROTO_UDP;
		header->ip6f_offlg = htons((uint16_t)(parts[i] * PART)) | IP6F_MORE_FRAG;
		header->ip6f_ident = htonl(id);
		if (sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) != sizeof(packet))
			die("IPv6 fragment");
	}
	close(fd);
}

static void run_fragments(int argc, char **argv)
{
	/* Runs of neighbours with gaps between them. */
	static const int parts[] = { 0, 2, 3, 4, 7, 9, 10 };
	int count = sizeof(parts) / sizeof(*parts);

	(void)argc;
	for (int id = 1; id <= number(argv[1]); id++) {
		send_fragments4((uint16_t)id, parts, count);
		send_fragments6((uint32_t)id, parts, count);
	}
}

static void run_insmod(int argc, char **argv)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/modules/%s.ko", argv[1]);
	/* What this kernel has built in is not there. */
	if (access(path, F_OK))
		return;
	fd = open(path, O_RDONLY);
	if (fd < 0 || syscall(SYS_finit_module, fd, argc > 2 ? argv[2] : "", 0))
		die("%s", path);
	close(fd);
}

/* A token bucket with one packet in a blue moon, and in it the fifo that the kernel gives it. */
static void run_tbf(int argc, char **argv)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg tc;
		struct rtattr kind;
		char name[4];
		struct rtattr options, parameters;
		struct tc_tbf_qopt bucket;
	} message = {
		.header = {
			.nlmsg_len = sizeof(message), .nlmsg_type = RTM_NEWQDISC,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK,
		},
		.tc = { .tcm_parent = TC_H_ROOT, .tcm_handle = 0x10000, .tcm_ifindex = (int)if_nametoindex(argv[1]) },
		.kind = { .rta_type = TCA_KIND, .rta_len = RTA_LENGTH(sizeof(message.name)) },
		.name = "tbf",
		.options = { .rta_type = TCA_OPTIONS, .rta_len = RTA_LENGTH(RTA_LENGTH(sizeof(message.bucket))) },
		.parameters = { .rta_type = TCA_TBF_PARMS, .rta_len = RTA_LENGTH(sizeof(message.bucket)) },
		.bucket = {
			.rate = { .rate = 1000, .linklayer = TC_LINKLAYER_ETHERNET }, .limit = 100000, .buffer = 1000000000,
		},
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	(void)argc;
	if (send(fd, &message, sizeof(message), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		die("tbf on %s", argv[1]);
	errno = -answer.error.error;
	if (errno)
		die("tbf on %s", argv[1]);
	close(fd);
}

const struct word net_words[] = {
	/* insmod NAME [PARAMETER]: one of GUEST_MODULES in initramfs.py, or what it depends on. */
	{ "insmod", 1, run_insmod },
	{ "net-up", 2, run_net_up },		/* net-up DEVICE ADDRESS */
	{ "net-send", 3, run_net_send },	/* net-send ADDRESS COUNT LEN...: datagrams, two of each flow */
	{ "tbf", 1, run_tbf },			/* tbf DEVICE: its root qdisc, which has another in it */
	{ "fragments", 1, run_fragments },	/* fragments N: so many IPv4 and IPv6 packets without their ends */
	{ 0 },
};

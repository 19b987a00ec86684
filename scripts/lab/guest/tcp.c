// SPDX-License-Identifier: GPL-2.0
/* TCP pairs over the loopback device, with every queue filled. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "load.h"

#define CHUNK		700
#define LOST_MARK	'D'

struct pair {
	int client, server;
};

static struct pair tcp_pair(int family, const char *name)
{
	int port = next_port(), on = 1;
	int listener = inet_socket(family, SOCK_STREAM, port);
	struct pair pair = { .client = inet_socket(family, SOCK_STREAM, 0) };

	if (listen(listener, 1))
		die("listen");
	inet_connect(pair.client, family, port);
	pair.server = accept(listener, NULL, NULL);
	if (pair.server < 0)
		die("accept");
	close(listener);
	if (setsockopt(pair.client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("TCP_NODELAY");
	publish_fd(pair.client, name, "client");
	publish_fd(pair.server, name, "server");
	return pair;
}

static void send_chunk(int fd, char mark)
{
	char buf[CHUNK];

	memset(buf, mark, sizeof(buf));
	if (send(fd, buf, sizeof(buf), 0) != sizeof(buf))
		die("send");
}

static void send_chunks(int fd, char mark, int count)
{
	while (count-- > 0) {
		send_chunk(fd, mark);
		/* With a new TCP timestamp the receiver keeps the segments apart where it could have merged them. */
		pause_ms(5);
	}
}

static void attach(int fd, struct sock_filter *code, unsigned short len)
{
	struct sock_fprog program = { .len = len, .filter = code };

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		die("SO_ATTACH_FILTER");
}

/* From here on the socket hears nothing, so its peer gets no acknowledgement. */
static void lose_everything(int fd)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, 0) };

	attach(fd, code, 1);
}

/* Loses the segments whose payload begins with the mark, each time they are sent again. */
static void lose_marked(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 12),		/* the TCP header's length, in its upper half ... */
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 2),		/* ... in bytes */
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LOST_MARK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	};

	attach(fd, code, sizeof(code) / sizeof(*code));
}

static void send_until_full(int fd)
{
	char buf[CHUNK];

	memset(buf, 'w', sizeof(buf));
	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	if (errno != EAGAIN)
		die("send until full");
}

static void set_send_buffer(int fd, int bytes)
{
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		die("SO_SNDBUFFORCE");
}

static void run_tcp(int argc, char **argv)
{
	struct pair pair = tcp_pair(family_of(argv[2]), argv[1]);

	(void)argc;
	set_send_buffer(pair.client, number(argv[4]));
	send_chunks(pair.client, 'r', number(argv[3]));
	lose_everything(pair.server);
	send_until_full(pair.client);
}

static void run_tcp_window(int argc, char **argv)
{
	struct pair pair = tcp_pair(family_of(argv[2]), argv[1]);

	(void)argc;
	set_send_buffer(pair.client, number(argv[3]));
	send_until_full(pair.client);
	/* The receiver's acknowledgements let more leave, until its window is shut. */
	pause_ms(200);
	send_until_full(pair.client);
}

/*
 * Whether tcp_recovery has no meaning for SACKs any more.
 * 1c120191dcec (v6.17) tcp: remove obsolete and unused RFC3517/RFC6675 loss recovery code
 */
static int always_rack(void)
{
	int major, minor;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%d.%d", &major, &minor) != 2)
		die("uname");
	return major > 6 || (major == 6 && minor >= 17);
}

static void run_tcp_ofo(int argc, char **argv)
{
	struct pair pair;

	(void)argc;
	/* Or the sender would notice the first loss at once and send no more. */
	write_file("/proc/sys/net/ipv4/tcp_recovery", "0");
	write_file("/proc/sys/net/ipv4/tcp_reordering", "300");
	if (always_rack())
		write_file("/proc/sys/net/ipv4/tcp_sack", "0");
	pair = tcp_pair(family_of(argv[2]), argv[1]);
	write_file("/proc/sys/net/ipv4/tcp_sack", "1");
	lose_marked(pair.server);
	/* Each behind a lost one: neighbours on the queue would be merged. */
	for (int i = number(argv[3]); i > 0; i--) {
		send_chunk(pair.client, LOST_MARK);
		send_chunk(pair.client, 'o');
	}
}

static void run_tcp_backlog(int argc, char **argv)
{
	struct pair pair = tcp_pair(family_of(argv[2]), argv[1]);

	(void)argc;
	hold_fd(argv[1], "server");
	send_chunks(pair.client, 'b', number(argv[3]));
	/* The sender would go on retransmitting into the backlog. */
	hold_fd(argv[1], "client");
}

static void run_tcp_listen(int argc, char **argv)
{
	int family = family_of(argv[2]), port = next_port();
	int listener = inet_socket(family, SOCK_STREAM, port);

	(void)argc;
	if (listen(listener, 16))
		die("listen");
	publish_fd(listener, argv[1], "");
	for (int i = number(argv[3]); i > 0; i--)
		inet_connect(inet_socket(family, SOCK_STREAM, 0), family, port);
}

const struct word tcp_words[] = {
	{ "tcp", 4, run_tcp },			/* tcp NAME inet|inet6 READY SNDBUF: unread input, full rtx and write queue */
	{ "tcp-window", 3, run_tcp_window },	/* tcp-window NAME inet|inet6 SNDBUF: stopped by a shut window */
	{ "tcp-ofo", 3, run_tcp_ofo },		/* tcp-ofo NAME inet|inet6 N: N segments, each behind a lost one */
	{ "tcp-backlog", 3, run_tcp_backlog },	/* tcp-backlog NAME inet|inet6 N: N segments for a socket in use */
	{ "tcp-listen", 3, run_tcp_listen },	/* tcp-listen NAME inet|inet6 N: N connections not accepted */
	{ 0 },
};

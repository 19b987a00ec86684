// SPDX-License-Identifier: GPL-2.0
/* Network namespaces, programs on devices, and what the kernel's own files say of devices. */
#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#ifndef BPF_TCX_INGRESS
#define BPF_TCX_INGRESS	46	/* include/uapi/linux/bpf.h, since 6.6 */
#endif

/* A task in a network namespace of its own, where it runs one of the module's actions, and stays. */
static void run_netns(int argc, char **argv)
{
	struct stat namespace;

	if (!fork()) {
		prctl(PR_SET_NAME, argv[1]);
		if (unshare(CLONE_NEWNET) || stat("/proc/self/ns/net", &namespace))
			die("a network namespace");
		note("{\"r\":\"netns\",\"comm\":\"%s\",\"inum\":%lu}", argv[1], (unsigned long)namespace.st_ino);
		module_do(argv[2], argc > 3 ? number(argv[3]) : 0);
		sleep_poll();
	}
	pause_ms(200);
}

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A program that returns `verdict` and does nothing else. */
static int load_program(enum bpf_prog_type type, const char *name, int verdict)
{
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = { 0 };

	attr.prog_type = type;
	attr.insns = (unsigned long)code;
	attr.insn_cnt = sizeof(code) / sizeof(*code);
	attr.license = (unsigned long)"GPL";
	snprintf(attr.prog_name, sizeof(attr.prog_name), "%s", name);
	return bpf(BPF_PROG_LOAD, &attr);
}

static int attach(int program, int type, const char *device)
{
	union bpf_attr attr = { 0 };

	attr.link_create.prog_fd = (unsigned int)program;
	attr.link_create.target_ifindex = if_nametoindex(device);
	attr.link_create.attach_type = (unsigned int)type;
	return bpf(BPF_LINK_CREATE, &attr);
}

/* The descriptors stay open, and the programs where they are, until the loader ends. */
static void run_programs(int argc, char **argv)
{
	int xdp = load_program(BPF_PROG_TYPE_XDP, "lab_xdp", 2), tcx;

	(void)argc;
	if (xdp < 0 || attach(xdp, BPF_XDP, argv[1]) < 0)
		die("an XDP program on %s", argv[1]);
	note("{\"r\":\"program\",\"kind\":\"xdp\",\"name\":\"lab_xdp\",\"device\":\"%s\"}", argv[1]);
	tcx = load_program(BPF_PROG_TYPE_SCHED_CLS, "lab_tcx", -1);
	/* Kernels before 6.6 have none. */
	if (attach(tcx, BPF_TCX_INGRESS, argv[1]) >= 0)
		note("{\"r\":\"program\",\"kind\":\"tcx\",\"name\":\"lab_tcx\",\"device\":\"%s\"}", argv[1]);
	errno = 0;
}

/* What the kernel is asked about traffic control, with a kind and no options. */
static void ask_tc(uint16_t type, const char *device, const char *kind, const struct tcmsg *tc)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg tc;
		struct rtattr kind;
		char name[12];
		struct rtattr options;
	} message = {
		.header = {
			.nlmsg_len = sizeof(message), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK,
		},
		.tc = *tc,
		.kind = { .rta_type = TCA_KIND, .rta_len = RTA_LENGTH(sizeof(message.name)) },
		.options = { .rta_type = TCA_OPTIONS, .rta_len = RTA_LENGTH(0) },
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	strcpy(message.name, kind);
	message.tc.tcm_ifindex = (int)if_nametoindex(device);
	if (send(fd, &message, sizeof(message), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		die("%s on %s", kind, device);
	errno = -answer.error.error;
	if (errno)
		die("%s on %s", kind, device);
	close(fd);
}

/* A filter that takes all that comes in, and one for what goes out. */
static void run_filters(int argc, char **argv)
{
	struct tcmsg tc = { .tcm_parent = TC_H_CLSACT, .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0) };

	(void)argc;
	ask_tc(RTM_NEWQDISC, argv[1], "clsact", &tc);
	tc = (struct tcmsg){ .tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) };
	tc.tcm_info = TC_H_MAKE(7 << 16, htons(ETH_P_ALL));
	ask_tc(RTM_NEWTFILTER, argv[1], "matchall", &tc);
	tc.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
	tc.tcm_info = TC_H_MAKE(9 << 16, htons(ETH_P_ALL));
	ask_tc(RTM_NEWTFILTER, argv[1], "matchall", &tc);
	note("{\"r\":\"filter\",\"device\":\"%s\",\"where\":\"ingress matchall\",\"priority\":7}", argv[1]);
	note("{\"r\":\"filter\",\"device\":\"%s\",\"where\":\"egress matchall\",\"priority\":9}", argv[1]);
}

/* Their lines as they are; what JSON would not take is a space. */
static void run_lines(int argc, char **argv)
{
	char line[400];

	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "r");

		if (!f)
			die("%s", argv[i]);
		while (fgets(line, sizeof(line), f)) {
			for (char *at = line; *at; at++)
				if (*at < ' ' || *at == '"' || *at == '\\')
					*at = ' ';
			note("{\"r\":\"line\",\"file\":\"%s\",\"text\":\"%s\"}", argv[i], line);
		}
		fclose(f);
	}
}

const struct word netns_words[] = {
	{ "netns", 2, run_netns },		/* netns COMM ACTION [VALUE]: a task of its own network namespace does that */
	{ "programs", 1, run_programs },	/* programs DEVICE: an XDP program, and where the kernel has that a tcx one */
	{ "filters", 1, run_filters },		/* filters DEVICE: at its ingress and egress */
	{ "lines", 1, run_lines },		/* lines FILE...: publish what the kernel's files say */
	{ 0 },
};

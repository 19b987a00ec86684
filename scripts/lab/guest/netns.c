// SPDX-License-Identifier: GPL-2.0
/* Network namespaces, programs on devices, and what the kernel's own files say of devices. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
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
	{ "lines", 1, run_lines },		/* lines FILE...: publish what the kernel's files say */
	{ 0 },
};

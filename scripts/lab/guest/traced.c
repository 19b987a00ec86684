// SPDX-License-Identifier: GPL-2.0
/* Tracing that leaves its marks on stacks: kretprobes, function_graph, BPF trampolines, CPUs inside BPF programs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define TRACING		"/sys/kernel/tracing/"
#define KPROBE_TYPE	"/sys/bus/event_source/devices/kprobe/type"
#define TURNS		15000	/* of a BPF program: the verifier follows each */
#define DIVISIONS	16	/* in each: what takes long when it runs and not when it is verified */

static void append_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, value, strlen(value)) != (ssize_t)strlen(value))
		die("%s > %s", value, path);
	close(fd);
}

static void run_tracing(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (mount("tracefs", TRACING, "tracefs", 0, NULL))
		die("tracefs");
}

static void run_kretprobe(int argc, char **argv)
{
	char text[200];

	(void)argc;
	snprintf(text, sizeof(text), "r:lab/%s %s", argv[1], argv[1]);
	append_file(TRACING "kprobe_events", text);
	snprintf(text, sizeof(text), TRACING "events/lab/%s/enable", argv[1]);
	write_file(text, "1");
}

static void run_graph(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		append_file(TRACING "set_ftrace_filter", argv[i]);
	write_file(TRACING "current_tracer", "function_graph");
}

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static uint64_t pointer(const void *to)
{
	return (uint64_t)(uintptr_t)to;
}

/* How many bytes follow the struct btf_type. */
static size_t btf_rest(const struct btf_type *type)
{
	size_t n = BTF_INFO_VLEN(type->info);

	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(uint32_t);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return n * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return n * 3 * sizeof(uint32_t);
	case BTF_KIND_FUNC_PROTO:
		return n * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return n * sizeof(struct btf_var_secinfo);
	}
	return 0;
}

static uint32_t btf_id_of(const char *function)
{
	const char *path = "/sys/kernel/btf/vmlinux";
	const struct btf_header *header;
	struct stat status;
	uint32_t id = 1;
	char *data, *at;
	size_t used = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &status) || !(data = malloc((size_t)status.st_size)))
		die("%s", path);
	while ((n = read(fd, data + used, (size_t)status.st_size - used)) > 0)
		used += (size_t)n;
	close(fd);
	header = (const void *)data;
	at = data + header->hdr_len + header->type_off;
	for (char *end = at + header->type_len; at < end; id++) {
		const struct btf_type *type = (const void *)at;
		const char *name = data + header->hdr_len + header->str_off + type->name_off;

		if (BTF_INFO_KIND(type->info) == BTF_KIND_FUNC && !strcmp(name, function)) {
			free(data);
			return id;
		}
		at += sizeof(*type) + btf_rest(type);
	}
	errno = 0;
	die("no BTF of %s", function);
}

/* r0 = 0; r2 = -1; then `turns` times r2 /= 3, again and again, and r0 += 1; and exit with 0. */
static int load_program(const char *name, int type, int turns, const char *fexit_of)
{
	struct bpf_insn code[DIVISIONS + 6], *next = code;
	union bpf_attr attr = {
		.prog_type = (uint32_t)type,
		.insns = pointer(code),
		.license = pointer("GPL"),
	};
	long fd;

	*next++ = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 };
	*next++ = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = -1 };
	for (int i = 0; i < DIVISIONS; i++)
		*next++ = (struct bpf_insn){ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 2, .imm = 3 };
	*next++ = (struct bpf_insn){ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 0, .imm = 1 };
	*next++ = (struct bpf_insn){ .code = BPF_JMP | BPF_JLT | BPF_K, .off = -DIVISIONS - 2, .imm = turns };
	*next++ = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 };
	*next++ = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	attr.insn_cnt = (uint32_t)(next - code);
	snprintf(attr.prog_name, sizeof(attr.prog_name), "%s", name);
	if (fexit_of) {
		attr.expected_attach_type = BPF_TRACE_FEXIT;
		attr.attach_btf_id = btf_id_of(fexit_of);
	}
	fd = bpf(BPF_PROG_LOAD, &attr);
	if (fd < 0)
		die("load of %s", name);
	return (int)fd;
}

static void run_fexit(int argc, char **argv)
{
	union bpf_attr attr = { 0 };

	(void)argc;
	attr.raw_tracepoint.prog_fd = (uint32_t)load_program("lab_fexit", BPF_PROG_TYPE_TRACING, 1, argv[1]);
	if (bpf(BPF_RAW_TRACEPOINT_OPEN, &attr) < 0)
		die("fexit of %s", argv[1]);
}

/* A child for ever in a BPF program, between two runs of which there is next to nothing. */
static void run_bpf_spin(int argc, char **argv)
{
	static char packet[64];
	union bpf_attr attr = { 0 };

	(void)argc;
	attr.test.prog_fd = (uint32_t)load_program("lab_spin", BPF_PROG_TYPE_SOCKET_FILTER, TURNS, NULL);
	if (fork()) {
		pause_ms(500);
		return;
	}
	prctl(PR_SET_NAME, "lab-bpf");
	stay_on_cpu(number(argv[1]));
	attr.test.data_in = pointer(packet);
	attr.test.data_size_in = sizeof(packet);
	attr.test.repeat = 1000000000;
	if (bpf(BPF_PROG_TEST_RUN, &attr))
		die("test run");
	_exit(1);
}

/* The same in a probe of getppid(), which an ftrace trampoline leads to. */
static void run_probe_spin(int argc, char **argv)
{
	struct perf_event_attr attr = { .size = sizeof(attr), .sample_period = 1, .wakeup_events = 1 };
	char text[16] = "";
	int type, fd, program = load_program("lab_probe", BPF_PROG_TYPE_KPROBE, TURNS, NULL);

	(void)argc;
	if (fork()) {
		pause_ms(500);
		return;
	}
	prctl(PR_SET_NAME, "lab-probe");
	stay_on_cpu(number(argv[1]));
	type = open(KPROBE_TYPE, O_RDONLY);
	if (type < 0 || read(type, text, sizeof(text) - 1) <= 0)
		die(KPROBE_TYPE);
	attr.type = (uint32_t)atoi(text);
	attr.config1 = pointer("__x64_sys_getppid");
	fd = (int)syscall(SYS_perf_event_open, &attr, -1, number(argv[1]), -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0 || ioctl(fd, PERF_EVENT_IOC_SET_BPF, program) ||
	    ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
		die("probe");
	for (;;)
		syscall(SYS_getppid);
}

const struct word traced_words[] = {
	{ "tracing", 0, run_tracing },		/* mounts tracefs: before the words that follow */
	{ "kretprobe", 1, run_kretprobe },	/* kretprobe FUNCTION */
	{ "graph", 1, run_graph },		/* graph FUNCTION...: the function_graph tracer on these */
	{ "fexit", 1, run_fexit },		/* fexit FUNCTION: a BPF program after it */
	{ "bpf-spin", 1, run_bpf_spin },	/* bpf-spin CPU: a task that spins in a BPF program */
	{ "probe-spin", 1, run_probe_spin },	/* probe-spin CPU: a task that spins in a BPF program of a probe */
	{ 0 },
};

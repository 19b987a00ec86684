// SPDX-License-Identifier: GPL-2.0
/* Programs that sleep in odd places: below a page fault, behind other entries to the kernel, under hostile names. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

#define PAGE		4096
#define NR_PAUSE_32	29	/* pause() of the 32-bit system calls */

/* A page that comes when the descriptor's reader says so, which nobody does. */
static char *missing_page(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	range.range.start = (unsigned long)page;
	range.range.len = PAGE;
	if (fd < 0 || page == MAP_FAILED || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range))
		die("userfaultfd");
	return page;
}

static void sleep_user_fault(void)
{
	*(volatile char *)missing_page() = 1;
}

/* The kernel's copy from user space faults: an exception in the middle of a system call. */
static void sleep_kernel_fault(void)
{
	int fds[2];

	if (!pipe(fds))
		(void)!write(fds[1], missing_page(), 1);
}

static void sleep_int80(void)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret) : "0"(NR_PAUSE_32) : "memory", "r8", "r9", "r10", "r11");
}

static void sleep_io_uring(void)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 1 };

	/* With a kernel thread that is a thread of this process. */
	if (syscall(SYS_io_uring_setup, 4, &params) < 0)
		die("io_uring_setup");
	pause();
}

static void sleep_traced(void)
{
	if (fork() == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGUSR1);
		_exit(0);
	}
	pause();
}

static void sleep_signal_handler(int number)
{
	(void)number;
	pause();
}

static void sleep_in_handler(void)
{
	signal(SIGUSR1, sleep_signal_handler);
	raise(SIGUSR1);
}

static void sleep_flock(void)
{
	if (flock(open("/tmp/lab-lock", O_RDWR | O_CREAT, 0600), LOCK_EX) == 0)
		pause();
}

static void sleep_msgrcv(void)
{
	struct msgbuf message;

	msgrcv(msgget(IPC_PRIVATE, 0600), &message, 0, 0, 0);
}

static void sleep_select(void)
{
	int fd = eventfd(0, 0);
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	select(fd + 1, &set, NULL, NULL, NULL);
}

static void sleep_eventfd(void)
{
	eventfd_t value;

	eventfd_read(eventfd(0, 0), &value);
}

static void sleep_unix_send(void)
{
	char buf[PAGE] = "";
	int fds[2];

	if (!socketpair(AF_UNIX, SOCK_DGRAM, 0, fds))
		while (send(fds[0], buf, sizeof(buf), 0) > 0)
			;
}

static void sleep_tcp_recv(void)
{
	int port = 19000, listener = inet_socket(AF_INET, SOCK_STREAM, port), fd = inet_socket(AF_INET, SOCK_STREAM, 0);
	char byte;

	listen(listener, 1);
	inet_connect(fd, AF_INET, port);
	recv(fd, &byte, 1, 0);
}

static void sleep_sigwait(void)
{
	sigset_t all;

	sigfillset(&all);
	sigwaitinfo(&all, NULL);
}

const struct sleeper odd_sleepers[] = {
	{ "lab-user-fault", sleep_user_fault },
	{ "lab-kern-fault", sleep_kernel_fault },
	{ "lab-int80", sleep_int80 },
	{ "lab-io-uring", sleep_io_uring },
	{ "lab-tracer", sleep_traced },
	{ "lab-handler", sleep_in_handler },
	{ "lab-flock", sleep_flock },
	{ "lab-flock", sleep_flock },
	{ "lab-msgrcv", sleep_msgrcv },
	{ "lab-select", sleep_select },
	{ "lab-eventfd", sleep_eventfd },
	{ "lab-unix-send", sleep_unix_send },
	{ "lab-tcp-recv", sleep_tcp_recv },
	{ "lab-sigwait", sleep_sigwait },
	/* Names that break what does not quote: terminals, XML, JSON, formats, /proc/PID/stat, UTF-8. */
	{ "", sleep_poll },
	{ "</name>&amp;<!--", sleep_poll },
	{ "\x1b[31m\x1b]0;t\x07", sleep_poll },
	{ "a\nb\r\t\x7f", sleep_poll },
	{ "x) R 1 (y", sleep_poll },
	{ "%s%n%d", sleep_poll },
	{ "'\"\\u0000`$(id)", sleep_poll },
	{ "\xff\xfe\xc0\x80\xed\xa0\x80", sleep_poll },
	{ "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac x", sleep_poll },	/* its last letter is cut off */
	{ "12345678901234\xc3\xa9", sleep_poll },		/* and this one's in the middle */
	{ 0 },
};

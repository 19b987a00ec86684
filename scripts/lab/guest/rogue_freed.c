// SPDX-License-Identifier: GPL-2.0
/* What a driver does with memory that it has given back. */
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/skbuff.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include "rogue.h"

#define LOG	1000	/* bytes of the log that takes a freed buffer's place: kmalloc-1k, as the buffer */
#define ROUTE	64
#define TABLES	50000	/* pages until one is that which was given back, at most */
#define LOGS	1024
#define WINDOW	(16 * PAGE_SIZE)

struct rogue_port {
	int users;
	struct rogue_port *peer;
	struct hlist_node node;
};

struct rogue_route {
	u32 address, mask;
	char device[16];
	u8 rest[ROUTE - 24];
};

static struct sk_buff *rogue_pending;
static char *rogue_log;
static struct timer_list rogue_timer, *rogue_orphan;
static struct work_struct rogue_work;
static struct rogue_port *rogue_port;
static u8 *rogue_window;
static struct kmem_cache *rogue_socks;
static struct sock *rogue_gone;

static rogue_frame unsigned int rogue_unmap(struct sk_buff *skb)
{
	unsigned int i, taken = 0;

	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		put_page(skb_frag_page(&skb_shinfo(skb)->frags[i]));
		taken++;
	}
	return taken;
}

/* The completion of a frame that has long been freed: its fragments are given back. */
static rogue_frame void rogue_complete(struct timer_list *timer)
{
	unsigned int taken = rogue_unmap(rogue_pending);

	pr_info("rogue: %u fragments\n", taken);
}

/* The same, which counts for the device of the frame. */
static rogue_frame void rogue_count(struct timer_list *timer)
{
	rogue_pending->dev->stats.tx_packets++;
	rogue_pending = NULL;
}

/* After a frame was freed: the driver keeps its address for the completion, and writes a log where the buffer was. */
void rogue_sent(struct sk_buff *skb)
{
	static const char line[] = "rogue0: link is up at 1000 Mbps, full duplex\n";
	bool reused = rogue_now("skb-reused");
	unsigned int i;

	if (!reused && !rogue_now("poison-skb") && !rogue_now("skb-recycled"))
		return;
	rogue_pending = skb;
	for (i = 0; reused && i < LOGS && rogue_log != (char *)skb->head; i++)
		rogue_log = kmalloc(LOG, GFP_ATOMIC);
	for (i = 0; rogue_log && i < LOG; i++)
		rogue_log[i] = line[i % (sizeof(line) - 1)];
	timer_setup(&rogue_timer, reused ? rogue_complete : rogue_count, 0);
	mod_timer(&rogue_timer, jiffies + 2);
}

static rogue_frame void rogue_touch(struct rogue_port *port)
{
	WRITE_ONCE(port->peer->users, 0);
	port->users--;
}

static rogue_frame void rogue_housekeeping(struct work_struct *work)
{
	rogue_touch(rogue_port);
	pr_info("rogue: %d users\n", rogue_port->users);
}

static rogue_frame void rogue_down(struct rogue_port *port)
{
	WRITE_ONCE(port->users, 0);
	kfree(port);
	barrier();
}

/* A port is freed while its work item waits; under slub_debug its memory is poisoned then. */
static rogue_frame int rogue_poison(void)
{
	rogue_port = kzalloc(sizeof(*rogue_port), GFP_KERNEL);
	if (!rogue_port)
		return -ENOMEM;
	rogue_port->peer = rogue_port;
	INIT_WORK(&rogue_work, rogue_housekeeping);
	rogue_down(rogue_port);
	schedule_work(&rogue_work);
	return 0;
}

/* Taken out of its hash table twice; no check of the kernel is in the way. */
static rogue_frame int rogue_unhash(void)
{
	static struct hlist_head table;
	struct rogue_port *port = kzalloc(sizeof(*port), GFP_KERNEL);

	if (!port)
		return -ENOMEM;
	hlist_add_head(&port->node, &table);
	hlist_del(&port->node);
	hlist_del(&port->node);
	return port->users;
}

/* A window of vmalloc that is read after vfree(). */
static rogue_frame void rogue_poll_window(struct timer_list *timer)
{
	pr_info("rogue: %u\n", READ_ONCE(rogue_window[5 * PAGE_SIZE + 16]));
}

static int rogue_vfree(void)
{
	rogue_window = vmalloc(WINDOW);
	if (!rogue_window)
		return -ENOMEM;
	rogue_window[0] = 1;
	vfree(rogue_window);
	timer_setup(&rogue_timer, rogue_poll_window, 0);
	mod_timer(&rogue_timer, jiffies + 10);
	return 0;
}

/* A timer that nobody stops when the module goes; its memory stays. */
static rogue_frame void rogue_late(struct timer_list *timer)
{
	mod_timer(timer, jiffies + 10);
	rogue_fd = -1;
}

static int rogue_start_late(void)
{
	rogue_orphan = kzalloc(sizeof(*rogue_orphan), GFP_KERNEL);
	if (!rogue_orphan)
		return -ENOMEM;
	timer_setup(rogue_orphan, rogue_late, 0);
	mod_timer(rogue_orphan, jiffies + HZ / 2);
	return 0;
}

/* The struct sock under an open file is released, as if the file had been closed. */
void rogue_release(struct sock *sk)
{
	struct socket *socket = sk->sk_socket;

	rogue_gone = sk;
	rogue_socks = sk->sk_prot_creator->slab;
	sk_common_release(sk);
	socket->sk = sk;	/* as before 6.12, which leaves none behind */
}

/* When all others of its slab are gone, too, the page goes to a table of routes. */
static rogue_frame int rogue_reuse(void)
{
	struct rogue_route *table = NULL;
	unsigned int i, j;

	rcu_barrier();
	kmem_cache_shrink(rogue_socks);
	for (i = 0; i < TABLES && ((unsigned long)rogue_gone & PAGE_MASK) != (unsigned long)table; i++) {
		table = kmalloc(PAGE_SIZE, GFP_KERNEL | __GFP_NORETRY);
		if (!table)
			return -ENOMEM;
	}
	if (i == TABLES)
		return -EAGAIN;
	for (j = 0; j < PAGE_SIZE / ROUTE; j++) {
		memset(&table[j], 0x5c, sizeof(table[j]));
		table[j].address = htonl(0x0a000000 + (j << 8));
		table[j].mask = htonl(0xffffff00);
		strscpy(table[j].device, "rogue0", sizeof(table[j].device));
	}
	return 0;
}

int rogue_start_freed(void)
{
	if (rogue_now("poison-work"))
		return rogue_poison();
	if (rogue_now("unhash-twice"))
		return rogue_unhash();
	if (rogue_now("vfree-read"))
		return rogue_vfree();
	if (rogue_now("gone-timer"))
		return rogue_start_late();
	if (rogue_now("sock-taken"))
		return rogue_reuse();
	return 0;
}

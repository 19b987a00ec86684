// SPDX-License-Identifier: GPL-2.0
/* A driver that does not come back: loops, locks, recursion; and two CPUs at one queue. */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mutex.h>
#include <linux/netfilter_ipv4.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <net/ip.h>

#include "rogue.h"

#define BURST	8

static int rogue_done;
static DEFINE_SPINLOCK(rogue_stats_lock);
static unsigned long rogue_stats;
static DEFINE_MUTEX(rogue_mutex);
static struct timer_list rogue_timer;
static struct sk_buff_head rogue_queue;

/* Waits for a device that never gets ready. */
static rogue_frame int rogue_wait_ready(void)
{
	while (!READ_ONCE(rogue_done))
		cpu_relax();
	return rogue_done;
}

static rogue_frame int rogue_reset_device(void)
{
	int ready;

	preempt_disable();
	ready = rogue_wait_ready();
	preempt_enable();
	return ready - 1;
}

/* A timer that takes the lock which the task that it interrupts has. */
static rogue_frame void rogue_tick(struct timer_list *timer)
{
	spin_lock(&rogue_stats_lock);
	rogue_stats++;
	spin_unlock(&rogue_stats_lock);
	rogue_done++;
}

static rogue_frame int rogue_read_stats(void)
{
	timer_setup(&rogue_timer, rogue_tick, TIMER_PINNED);
	mod_timer(&rogue_timer, jiffies + 2);
	spin_lock(&rogue_stats_lock);	/* and not spin_lock_bh() */
	mdelay(100);
	rogue_stats = 0;
	spin_unlock(&rogue_stats_lock);
	return 0;
}

static rogue_frame void rogue_flush(void)
{
	mutex_lock(&rogue_mutex);
	while (!READ_ONCE(rogue_done))
		schedule_timeout_idle(HZ);
	mutex_unlock(&rogue_mutex);
}

static int rogue_flusher(void *unused)
{
	rogue_flush();
	return rogue_done;
}

static rogue_frame int rogue_configure(void)
{
	int done;

	mutex_lock(&rogue_mutex);
	done = rogue_done;
	mutex_unlock(&rogue_mutex);
	return done;
}

static int rogue_hang(void)
{
	kthread_run(rogue_flusher, NULL, "rogue-flush");
	msleep(200);
	return rogue_configure();
}

/* Looks at the first frame, and takes it: without the lock that those who bring some have. */
static rogue_frame unsigned int rogue_reap(struct sk_buff_head *list)
{
	struct sk_buff *skb = skb_peek(list);
	unsigned int len = 0;

	if (skb) {
		len = skb->len;
		udelay(5);
		__skb_unlink(skb, list);
		kfree_skb(skb);
	}
	return len;
}

static rogue_frame void rogue_feed(struct sk_buff_head *list)
{
	unsigned int i;

	for (i = 0; i < BURST; i++) {
		struct sk_buff *skb = alloc_skb(200, GFP_KERNEL);

		if (!skb)
			return;
		skb_put_zero(skb, 64 + i);
		skb_queue_tail(list, skb);
	}
}

static int rogue_reaper(void *unused)
{
	for (;;) {
		if (skb_queue_empty_lockless(&rogue_queue))
			rogue_feed(&rogue_queue);
		while (rogue_reap(&rogue_queue))
			;
		cond_resched();
	}
	return 0;
}

static int rogue_race(void)
{
	int cpu;

	skb_queue_head_init(&rogue_queue);
	for_each_online_cpu(cpu) {
		struct task_struct *task = kthread_create(rogue_reaper, NULL, "rogue-reap/%d", cpu);

		if (IS_ERR(task))
			return PTR_ERR(task);
		kthread_bind(task, cpu);
		wake_up_process(task);
	}
	return 0;
}

/* A hook that answers each packet with a copy, which it then sees, too. */
static rogue_frame unsigned int rogue_local_out(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct sk_buff *copy;

	if (!rogue_is("hook-recursion") || ip_hdr(skb)->protocol != IPPROTO_UDP)
		return NF_ACCEPT;
	copy = skb_copy(skb, GFP_ATOMIC);
	if (copy)
		ip_local_out(state->net, skb->sk, copy);
	return NF_ACCEPT;
}

const struct nf_hook_ops rogue_out_hook = {
	.hook = rogue_local_out,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_LOCAL_OUT,
	.priority = NF_IP_PRI_FILTER,
};

int rogue_start_stuck(void)
{
	if (rogue_now("lockup-loop") || rogue_now("rcu-stall"))
		return rogue_reset_device();
	if (rogue_now("lockup-lock"))
		return rogue_read_stats();
	if (rogue_now("hung-task"))
		return rogue_hang();
	if (rogue_now("race"))
		return rogue_race();
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/* Damage to queues that are no socket's. */
#include <linux/ptr_ring.h>
#include <net/sch_generic.h>

#include "faults.h"

static struct qdisc_skb_head *qdisc_head(struct lab_fault *f)
{
	return (struct qdisc_skb_head *)f->head;
}

static int qlen_more(struct lab_fault *f)
{
	lab_object(f, f->head);
	SET(f, qdisc_head(f), qlen, qdisc_head(f)->qlen + 2);
	return 0;
}

static int tail_wrong(struct lab_fault *f)
{
	lab_object(f, f->head);
	SET(f, qdisc_head(f), tail, qdisc_head(f)->head);
	return 0;
}

static int qdisc_next_wild(struct lab_fault *f)
{
	lab_also(f, "*", f->head);
	SET(f, f->skb, next, LAB_WILD);
	return 0;
}

static int qdisc_cycle(struct lab_fault *f)
{
	lab_also(f, "*", f->head);
	SET(f, f->skb, next, qdisc_head(f)->head);
	return 0;
}

/* The chain of a flow, or of a run of fragments. */
static int flow_next_wild(struct lab_fault *f)
{
	SET(f, f->skb, next, LAB_WILD);
	return 0;
}

static int list_qlen(struct lab_fault *f)
{
	struct sk_buff_head *list = (struct sk_buff_head *)f->head;

	lab_object(f, f->head);
	SET(f, list, qlen, list->qlen + 1);
	return 0;
}

/* Freed, and the queue does not know. */
static int queued_freed(struct lab_fault *f)
{
	lab_also(f, "*", f->skb);
	lab_also(f, "queue.link", f->head);
	lab_also(f, "sock.accounting", f->skb->sk);
	kfree_skb(f->skb);
	return 0;
}

/* A ring's pointer leads to what the first device's fifo holds. */
static int ring_other(struct lab_fault *f)
{
	struct ptr_ring *ring = (struct ptr_ring *)f->head;
	int i;

	for (i = 0; i < ring->size; i++)
		if (ring->queue[i] == f->skb) {
			lab_object(f, f->other);
			lab_write(f, "queue", &ring->queue[i], &f->other, sizeof(f->other));
			return 0;
		}
	return -ENOENT;
}

static int find_other(struct lab_fault *f)
{
	const void *head;

	f->other = lab_find_net_skb("lab0", "q", 8, &head);
	return f->other ? 0 : -ENOENT;
}

const struct lab_kind lab_net_kinds[] = {
	{ "qdisc-qlen", "queue.qlen", NULL, qlen_more },
	{ "qdisc-tail", "queue.link", NULL, tail_wrong },
	{ "qdisc-next-wild", "queue.link", NULL, qdisc_next_wild },
	{ "qdisc-cycle", "queue.cycle", NULL, qdisc_cycle },
	{ "flow-next-wild", "queue.link", NULL, flow_next_wild },
	{ "queued-freed", "skb.freed skb.users", NULL, queued_freed },
	{ "ring-other", "queue.link", NULL, ring_other, find_other },
	{ "list-qlen", "queue.qlen", NULL, list_qlen },
	{ }
};

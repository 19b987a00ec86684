// SPDX-License-Identifier: GPL-2.0
/* Damage to queues that are no socket's. */
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

const struct lab_kind lab_net_kinds[] = {
	{ "qdisc-qlen", "queue.qlen", NULL, qlen_more },
	{ "qdisc-tail", "queue.link", NULL, tail_wrong },
	{ "qdisc-next-wild", "queue.link", NULL, qdisc_next_wild },
	{ "qdisc-cycle", "queue.cycle", NULL, qdisc_cycle },
	{ "flow-next-wild", "queue.link", NULL, flow_next_wild },
	{ "queued-freed", "skb.freed skb.users", NULL, queued_freed },
	{ "list-qlen", "queue.qlen", NULL, list_qlen },
	{ }
};

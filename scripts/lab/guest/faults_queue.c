// SPDX-License-Identifier: GPL-2.0
/* Damage to queues of all shapes, and to what a socket counts about them. */
#include <linux/tcp.h>
#include <net/inet_sock.h>

#include "faults.h"

static int qlen(struct lab_fault *f)
{
	lab_object(f, f->list);
	SET(f, f->list, qlen, f->list->qlen + 3);
	return 0;
}

static int prev_wrong(struct lab_fault *f)
{
	SET(f, f->skb, prev, f->skb->prev->prev);
	return 0;
}

/* The queue's own prev is the first where it must be the last. */
static int tail_wrong(struct lab_fault *f)
{
	lab_object(f, f->list);
	SET(f, f->list, prev, f->list->next);
	return 0;
}

static int next_wild(struct lab_fault *f)
{
	SET(f, f->skb, next, LAB_WILD);
	return 0;
}

static int next_null(struct lab_fault *f)
{
	SET(f, f->skb, next, NULL);
	return 0;
}

/* Unlinked, but its neighbours do not know. */
static int unlinked(struct lab_fault *f)
{
	lab_also(f, "queue.link", f->skb->next);
	SET(f, f->skb, next, NULL);
	SET(f, f->skb, prev, NULL);
	return 0;
}

/* The queue runs past one that still holds on to both neighbours. */
static int skipped(struct lab_fault *f)
{
	lab_object(f, f->skb->next);
	lab_object(f, f->skb->prev);
	lab_also(f, "queue.qlen", f->list);
	lab_also(f, "sock.accounting", f->sk);
	lab_also(f, "*", f->skb);
	SET(f, f->skb->prev, next, f->skb->next);
	return 0;
}

/* Memory, but no sk_buff. */
static int next_other(struct lab_fault *f)
{
	lab_object(f, f->skb);
	lab_object(f, f->sk);
	lab_also(f, "*", f->sk);
	SET(f, f->skb, next, f->sk);
	return 0;
}

/* An sk_buff, but not its beginning. */
static int next_inside(struct lab_fault *f)
{
	u8 *inside = (u8 *)f->skb->next + 64;

	lab_object(f, f->skb);
	lab_object(f, inside);
	lab_also(f, "*", inside);
	SET(f, f->skb, next, inside);
	return 0;
}

static int cycle(struct lab_fault *f)
{
	struct sk_buff *first = skb_peek(f->list), *last = skb_peek_tail(f->list);

	if (first == last)
		return -EINVAL;
	lab_object(f, last);
	lab_also(f, "queue.link", first);
	SET(f, last, next, first);
	return 0;
}

static int cycle_self(struct lab_fault *f)
{
	lab_also(f, "queue.link", f->skb);
	SET(f, f->skb, next, f->skb);
	return 0;
}

/*
 * Put on a second queue, whole and sound, without leaving the first: that of the socket "NAME.tx" where this is
 * "NAME.rx".  Who walks the first comes to the head of the second.
 */
static int two_queues(struct lab_fault *f)
{
	char label[LAB_NAME_LEN];
	struct sk_buff_head *second;
	struct lab_entry *entry;
	struct sk_buff *last;

	strscpy(label, f->label, sizeof(label));
	if (strlen(label) < 2)
		return -EINVAL;
	strcpy(label + strlen(label) - 2, "tx");
	entry = lab_find_entry(label);
	if (!entry)
		return -ENOENT;
	second = &entry->socket->sk->sk_receive_queue;
	last = second->prev;
	lab_object(f, f->skb);
	lab_object(f, second);
	lab_also(f, "*", second);
	lab_also(f, "queue.link", f->skb->next);
	lab_also(f, "queue.link queue.cycle queue.qlen skb.sk", f->skb);
	lab_also(f, "sock.accounting", f->sk);
	lab_also(f, "sock.accounting", entry->socket->sk);
	SET(f, f->skb, next, second);
	SET(f, f->skb, prev, last);
	SET(f, last, next, f->skb);
	SET(f, second, prev, f->skb);
	SET(f, second, qlen, second->qlen + 1);
	return 0;
}

/* Goes on with the queue of the first socket that was published, and ends at that one's head. */
static int cross_linked(struct lab_fault *f)
{
	struct sk_buff_head *other = &lab_entries[0].socket->sk->sk_receive_queue;

	if (skb_queue_empty(other))
		return -EINVAL;
	lab_object(f, f->skb);
	lab_object(f, skb_peek(other));
	lab_also(f, "*", other);
	lab_also(f, "sock.accounting", f->sk);
	SET(f, f->skb, next, skb_peek(other));
	return 0;
}

static struct rb_root *find_tree(const struct lab_fault *f)
{
	return strcmp(f->queue, "ofo") ? &f->sk->tcp_rtx_queue : &tcp_sk(f->sk)->out_of_order_queue;
}

/* The first of a tree of at least three, which has nothing to its left; the root is behind it. */
static struct rb_node *find_first(struct lab_fault *f)
{
	struct rb_root *tree = find_tree(f);
	struct rb_node *first = rb_first(tree);

	if (!first || first == tree->rb_node || rb_last(tree) == tree->rb_node)
		return NULL;
	f->skb = rb_to_skb(first);
	return first;
}

static int rb_parent_wrong(struct lab_fault *f)
{
	struct rb_node *first = find_first(f), *last = rb_last(find_tree(f));

	if (!first)
		return -EINVAL;
	SET(f, first, __rb_parent_color, (unsigned long)last | (first->__rb_parent_color & 3));
	return 0;
}

static int rb_root_red(struct lab_fault *f)
{
	struct rb_node *root = find_tree(f)->rb_node;

	if (!root)
		return -EINVAL;
	f->skb = rb_to_skb(root);
	SET(f, root, __rb_parent_color, root->__rb_parent_color & ~1UL);
	return 0;
}

static int rb_child_wild(struct lab_fault *f)
{
	struct rb_node *first = find_first(f);

	if (!first)
		return -EINVAL;
	SET(f, first, rb_left, LAB_WILD);
	return 0;
}

static int rb_cycle(struct lab_fault *f)
{
	struct rb_node *first = find_first(f), *root = find_tree(f)->rb_node;

	if (!first)
		return -EINVAL;
	lab_object(f, f->skb);
	lab_object(f, rb_to_skb(root));
	SET(f, first, rb_left, root);
	return 0;
}

static int backlog_cycle(struct lab_fault *f)
{
	struct sk_buff *first = f->sk->sk_backlog.head, *last = f->sk->sk_backlog.tail;

	if (!first || first == last)
		return -EINVAL;
	f->skb = last;
	SET(f, last, next, first);
	return 0;
}

/* The tail is not the last one. */
static int backlog_tail(struct lab_fault *f)
{
	if (!f->sk->sk_backlog.head || f->sk->sk_backlog.head == f->sk->sk_backlog.tail)
		return -EINVAL;
	lab_object(f, &f->sk->sk_backlog);
	lab_object(f, f->sk);
	lab_object(f, f->sk->sk_backlog.tail);
	lab_object(f, f->sk->sk_backlog.head);
	SET(f, &f->sk->sk_backlog, tail, f->sk->sk_backlog.head);
	return 0;
}

static int backlog_len(struct lab_fault *f)
{
	lab_object(f, f->sk);
	lab_object(f, &f->sk->sk_backlog);
	SET(f, &f->sk->sk_backlog, len, f->sk->sk_backlog.len + 100000);
	return 0;
}

static int wmem_queued(struct lab_fault *f)
{
	lab_object(f, f->sk);
	SET(f, f->sk, sk_wmem_queued, f->sk->sk_wmem_queued + 4096);
	return 0;
}

/* As if nothing were charged; more than what is queued would prove nothing, as packets are on their way. */
static int wmem_alloc(struct lab_fault *f)
{
	u32 value = 1;

	lab_object(f, f->sk);
	lab_write(f, "sk_wmem_alloc", &f->sk->sk_wmem_alloc, &value, sizeof(value));
	return 0;
}

static int rmem_alloc(struct lab_fault *f)
{
	u32 value = atomic_read(&f->sk->sk_rmem_alloc) + 5000;

	lab_object(f, f->sk);
	lab_write(f, "sk_rmem_alloc", &f->sk->sk_rmem_alloc, &value, sizeof(value));
	return 0;
}

/* Not even counted in what is queued. */
static int rmem_zero(struct lab_fault *f)
{
	u32 value = 0;

	lab_object(f, f->sk);
	lab_write(f, "sk_rmem_alloc", &f->sk->sk_rmem_alloc, &value, sizeof(value));
	return 0;
}

static int forward_alloc(struct lab_fault *f)
{
	lab_object(f, f->sk);
	SET(f, f->sk, sk_forward_alloc, -1000000);
	return 0;
}

static int cork_length(struct lab_fault *f)
{
	struct inet_cork *cork = &inet_sk(f->sk)->cork.base;

	lab_object(f, f->sk);
	SET(f, cork, length, cork->length + 1000);
	return 0;
}

const struct lab_kind lab_queue_kinds[] = {
	{ "qlen", "queue.qlen", NULL, qlen },
	{ "prev-wrong", "queue.link", NULL, prev_wrong },
	{ "tail-wrong", "queue.link", NULL, tail_wrong },
	{ "next-wild", "queue.link", NULL, next_wild },
	{ "next-null", "queue.link", NULL, next_null },
	{ "next-other", "queue.link skb.address", NULL, next_other },
	{ "next-inside", "queue.link skb.address", NULL, next_inside },
	{ "unlinked", "queue.link", NULL, unlinked },
	{ "skipped", "queue.link", NULL, skipped },
	{ "cycle", "queue.cycle", NULL, cycle },
	{ "cycle-self", "queue.cycle", NULL, cycle_self },
	{ "two-queues", "queue.link queue.cycle", NULL, two_queues },
	{ "cross-linked", "queue.link queue.cycle", NULL, cross_linked },
	{ "rb-parent", "queue.link", NULL, rb_parent_wrong },
	{ "rb-root-red", "queue.link", NULL, rb_root_red },
	{ "rb-child-wild", "queue.link", NULL, rb_child_wild },
	{ "rb-cycle", "queue.cycle queue.link", "queue.link", rb_cycle },
	{ "backlog-cycle", "queue.cycle", NULL, backlog_cycle },
	{ "backlog-tail", "queue.link", NULL, backlog_tail },
	{ "backlog-len", "sock.accounting queue.qlen", NULL, backlog_len },
	{ "wmem-queued", "sock.accounting", NULL, wmem_queued },
	{ "wmem-alloc", "sock.accounting", NULL, wmem_alloc },
	{ "rmem-alloc", "sock.accounting", NULL, rmem_alloc },
	{ "rmem-zero", "sock.accounting", NULL, rmem_zero },
	{ "forward-alloc", "sock.accounting", NULL, forward_alloc },
	{ "cork-length", "sock.accounting", NULL, cork_length },
	{ }
};

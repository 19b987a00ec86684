// SPDX-License-Identifier: GPL-2.0
/*
 * One JSON record per line, each behind the prefix "KDLAB ".  "begin" opens a publication and "end" closes
 * it with the number of lines between.  Everything is collected first and printed then; what was printed
 * is collected once more and, where the two differ, printed anew: the last publication is what the dump holds.
 */
#include <linux/console.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/smp.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <net/inet_sock.h>

#include "module.h"

#define TEXT_SIZE	(4UL << 20)
#define NOTES_SIZE	(1UL << 20)
#define MAX_PER_QUEUE	200
#define MAX_FRAG_LIST	64
#define MAX_TRIES	8
#define P(pointer)	((unsigned long)(pointer))

/* 2f064f3485cd (v5.14) sched: Change task_struct::state */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
#define __state	state
#endif

/* 6a5bcd84e886 (v5.14) page_pool: Allow drivers to hint on SKB recycling */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
#define PP_RECYCLE(skb)	(-1)
#else
#define PP_RECYCLE(skb)	((skb)->pp_recycle)
#endif

/* 06b4feb37e64 (v5.12) net: group skb_shinfo zerocopy related bits together. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 12, 0)
#define SHINFO_FLAGS(shinfo)	(-1)
#else
#define SHINFO_FLAGS(shinfo)	((shinfo)->flags)
#endif

static struct lab_text notes;

void lab_put(struct lab_text *text, const char *fmt, ...)
{
	size_t room = text->size - text->used;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text->buf + text->used, room, fmt, args);
	va_end(args);
	if (n >= room)
		text->overflow = true;
	else
		text->used += n;
}

static int text_alloc(struct lab_text *text, size_t size)
{
	memset(text, 0, sizeof(*text));
	text->buf = vzalloc(size);
	text->size = size;
	return text->buf ? 0 : -ENOMEM;
}

int lab_add_note(const char *line)
{
	if (!notes.buf && text_alloc(&notes, NOTES_SIZE))
		return -ENOMEM;
	lab_put(&notes, "%s\n", line);
	return notes.overflow ? -ENOSPC : 0;
}

static void put_frags(struct lab_text *text, const struct sk_buff *skb)
{
	const struct skb_shared_info *shinfo = skb_shinfo(skb);
	int i;

	if (!shinfo->nr_frags || shinfo->nr_frags > MAX_SKB_FRAGS)
		return;
	lab_put(text, "{\"r\":\"frags\",\"skb\":\"0x%016lx\",\"frags\":[", P(skb));
	for (i = 0; i < shinfo->nr_frags; i++)
		lab_put(text, "%s[\"0x%016lx\",%u,%u]", i ? "," : "", P(skb_frag_page(&shinfo->frags[i])),
			skb_frag_off(&shinfo->frags[i]), skb_frag_size(&shinfo->frags[i]));
	lab_put(text, "]}\n");
}

/* place: the queue's head, or the skb whose frag_list this skb is on. */
static void put_one_skb(struct lab_text *text, const struct sk_buff *skb, const void *place, int index)
{
	const struct skb_shared_info *shinfo = skb_shinfo(skb);

	lab_put(text, "{\"r\":\"skb\",\"skb\":\"0x%016lx\",\"place\":\"0x%016lx\",\"index\":%d,", P(skb), P(place), index);
	lab_put(text, "\"sk\":\"0x%016lx\",\"next\":\"0x%016lx\",\"prev\":\"0x%016lx\",", P(skb->sk), P(skb->next),
		P(skb->prev));
	lab_put(text, "\"len\":%u,\"data_len\":%u,\"truesize\":%u,\"users\":%u,", skb->len, skb->data_len, skb->truesize,
		refcount_read(&skb->users));
	lab_put(text, "\"head\":\"0x%016lx\",\"data\":\"0x%016lx\",\"tail\":\"0x%016lx\",\"end\":\"0x%016lx\",", P(skb->head),
		P(skb->data), P(skb_tail_pointer(skb)), P(skb_end_pointer(skb)));
	lab_put(text, "\"cloned\":%u,\"nohdr\":%u,\"fclone\":%u,\"head_frag\":%u,\"pp_recycle\":%d,\"pfmemalloc\":%u,",
		skb->cloned, skb->nohdr, skb->fclone, skb->head_frag, PP_RECYCLE(skb), skb->pfmemalloc);
	lab_put(text, "\"protocol\":%u,\"mac_header\":%u,\"network_header\":%u,\"transport_header\":%u,",
		ntohs(skb->protocol), skb->mac_header, skb->network_header, skb->transport_header);
	lab_put(text, "\"shinfo\":\"0x%016lx\",\"nr_frags\":%u,\"dataref\":%d,\"flags\":%d,\"tx_flags\":%u,", P(shinfo),
		shinfo->nr_frags, atomic_read(&shinfo->dataref), SHINFO_FLAGS(shinfo), shinfo->tx_flags);
	lab_put(text, "\"gso_size\":%u,\"gso_segs\":%u,\"gso_type\":%u,\"frag_list\":\"0x%016lx\"}\n", shinfo->gso_size,
		shinfo->gso_segs, shinfo->gso_type, P(shinfo->frag_list));
	put_frags(text, skb);
}

void lab_put_skb(struct lab_text *text, const struct sk_buff *skb, const void *place, int index)
{
	const struct sk_buff *part;
	int n = 0;

	put_one_skb(text, skb, place, index);
	/* A damaged frag_list is published above but not followed. */
	for (part = skb_shinfo(skb)->frag_list; part && virt_addr_valid(part) && n < MAX_FRAG_LIST; part = part->next)
		put_one_skb(text, part, skb, n++);
}

/* kind tells where "head" points: a struct sk_buff_head, a struct rb_root, or sk_backlog. */
static void put_queue(struct lab_text *text, const struct sock *sk, const char *queue, const char *kind,
		      const void *head, long qlen, int members)
{
	lab_put(text, "{\"r\":\"queue\",\"sock\":\"0x%016lx\",\"queue\":\"%s\",\"kind\":\"%s\",\"head\":\"0x%016lx\",", P(sk),
		queue, kind, P(head));
	lab_put(text, "\"qlen\":%ld,\"members\":%d}\n", qlen, members);
}

static void put_list(struct lab_text *text, const struct sock *sk, const char *queue, struct sk_buff_head *list)
{
	const struct sk_buff *skb;
	unsigned long flags;
	int n = 0;

	spin_lock_irqsave(&list->lock, flags);
	skb_queue_walk(list, skb) {
		if (n < MAX_PER_QUEUE)
			lab_put_skb(text, skb, list, n);
		n++;
	}
	put_queue(text, sk, queue, "list", list, list->qlen, n);
	spin_unlock_irqrestore(&list->lock, flags);
}

static void put_tree(struct lab_text *text, const struct sock *sk, const char *queue, const struct rb_root *root)
{
	struct rb_node *node;
	int n = 0;

	for (node = rb_first(root); node; node = rb_next(node)) {
		if (n < MAX_PER_QUEUE)
			lab_put_skb(text, rb_to_skb(node), root, n);
		n++;
	}
	put_queue(text, sk, queue, "rbtree", root, n, n);
}

static void put_backlog(struct lab_text *text, const struct sock *sk)
{
	const struct sk_buff *skb;
	int n = 0;

	for (skb = sk->sk_backlog.head; skb; skb = skb->next) {
		if (n < MAX_PER_QUEUE)
			lab_put_skb(text, skb, &sk->sk_backlog, n);
		n++;
	}
	put_queue(text, sk, "backlog", "backlog", &sk->sk_backlog, sk->sk_backlog.len, n);
}

static bool is_inet(const struct sock *sk)
{
	return sk->sk_family == AF_INET || sk->sk_family == AF_INET6;
}

static void put_sock(struct lab_text *text, const struct lab_entry *entry)
{
	struct sock *sk = entry->socket->sk;

	/*
	 * The spinlock half of lock_sock(): it also works for a socket that the lab itself owns, and with it
	 * held no timer and no softirq changes the queues.
	 */
	spin_lock_bh(&sk->sk_lock.slock);
	if (sk->sk_lock.owned && !entry->held)
		text->busy = true;
	lab_put(text, "{\"r\":\"sock\",\"label\":\"%s\",\"sock\":\"0x%016lx\",\"socket\":\"0x%016lx\",\"file\":\"0x%016lx\",",
		entry->label, P(sk), P(entry->socket), P(entry->socket->file));
	lab_put(text, "\"family\":%u,\"type\":%u,\"protocol\":%u,\"state\":%u,\"prot\":\"%s\",\"refcnt\":%u,\"owned\":%d,",
		sk->sk_family, sk->sk_type, sk->sk_protocol, sk->sk_state, sk->sk_prot->name,
		refcount_read(&sk->sk_refcnt), sk->sk_lock.owned);
	lab_put(text, "\"wmem_alloc\":%u,\"wmem_queued\":%d,\"rmem_alloc\":%d,\"forward_alloc\":%d,",
		refcount_read(&sk->sk_wmem_alloc), sk->sk_wmem_queued, atomic_read(&sk->sk_rmem_alloc),
		sk->sk_forward_alloc);
	lab_put(text, "\"sndbuf\":%d,\"rcvbuf\":%d,\"sport\":%u,\"dport\":%u}\n", sk->sk_sndbuf, sk->sk_rcvbuf,
		is_inet(sk) ? ntohs(inet_sk(sk)->inet_sport) : 0, is_inet(sk) ? ntohs(sk->sk_dport) : 0);
	put_list(text, sk, "write", &sk->sk_write_queue);
	put_list(text, sk, "receive", &sk->sk_receive_queue);
	put_list(text, sk, "error", &sk->sk_error_queue);
	put_backlog(text, sk);
	if (is_inet(sk) && sk->sk_protocol == IPPROTO_TCP && sk->sk_state != TCP_LISTEN) {
		put_tree(text, sk, "rtx", &sk->tcp_rtx_queue);
		put_tree(text, sk, "ofo", &tcp_sk(sk)->out_of_order_queue);
	}
	if (is_inet(sk) && sk->sk_protocol == IPPROTO_UDP)
		put_list(text, sk, "reader", &udp_sk(sk)->reader_queue);
	spin_unlock_bh(&sk->sk_lock.slock);
}

/* A name that a program chose may hold anything. */
static void put_comm(struct lab_text *text, const char *comm)
{
	lab_put(text, "\"comm\":\"");
	for (; *comm; comm++) {
		if (*comm < 0x20 || *comm > 0x7e || *comm == '"' || *comm == '\\')
			lab_put(text, "\\u%04x", (u8)*comm);
		else
			lab_put(text, "%c", *comm);
	}
	lab_put(text, "\"");
}

static void put_task(struct lab_text *text, struct task_struct *task)
{
	char comm[TASK_COMM_LEN];

	get_task_comm(comm, task);
	lab_put(text, "{\"r\":\"task\",\"task\":\"0x%016lx\",\"pid\":%d,\"tgid\":%d,", P(task), task->pid, task->tgid);
	put_comm(text, comm);
	lab_put(text, ",\"kernel\":%d", !!(task->flags & PF_KTHREAD));
	/* Other kernel threads come and go while this is printed; those of the lab are known to stay as they are. */
	if (!(task->flags & PF_KTHREAD) || !strncmp(comm, "lab-", 4))
		lab_put(text, ",\"state\":%ld,\"exit_state\":%d,\"cpu\":%u", (long)READ_ONCE(task->__state),
			task->exit_state, task_cpu(task));
	lab_put(text, ",\"stack\":\"0x%016lx\"}\n", P(task->stack));
}

static void put_tasks(struct lab_text *text)
{
	struct task_struct *process, *task;

	put_task(text, &init_task);
	rcu_read_lock();
	for_each_process_thread(process, task)
		put_task(text, task);
	rcu_read_unlock();
}

static int collect(struct lab_text *text)
{
	int i;

	text->used = 0;
	text->overflow = false;
	text->busy = false;
	if (notes.buf)
		lab_put(text, "%s", notes.buf);
	put_tasks(text);
	for (i = 0; i < lab_nr_entries; i++)
		put_sock(text, &lab_entries[i]);
	lab_put_net_queues(text);
	lab_put_locks(text);
	lab_put_hooks(text);
	return text->overflow ? -ENOSPC : 0;
}

static void read_current(void *info)
{
	*(struct task_struct **)info = current;
}

/* What each CPU runs is true for the moment of asking only, so it is no part of the comparison. */
static int print_currents(void)
{
	struct task_struct *task;
	int cpu, n = 0;

	for_each_online_cpu(cpu) {
		smp_call_function_single(cpu, read_current, &task, 1);
		pr_info("KDLAB {\"r\":\"cpu\",\"cpu\":%d,\"task\":\"0x%016lx\",\"pid\":%d}\n", cpu, P(task), task->pid);
		n++;
	}
	return n;
}

static int print_lines(struct lab_text *text)
{
	char *line = text->buf, *end;
	int n = 0;

	while ((end = strchr(line, '\n'))) {
		pr_info("KDLAB %.*s\n", (int)(end - line), line);
		line = end + 1;
		n++;
		/* Let the console keep up, so that no line is overwritten before it is out. */
		console_lock();
		console_unlock();
		cond_resched();
	}
	return n;
}

static bool same(const struct lab_text *a, const struct lab_text *b)
{
	return a->used == b->used && !memcmp(a->buf, b->buf, a->used);
}

int lab_publish(void)
{
	struct lab_text now = {}, then = {};
	int try, lines, err;

	err = text_alloc(&now, TEXT_SIZE) ?: text_alloc(&then, TEXT_SIZE);
	for (try = 0; !err && try < MAX_TRIES; try++) {
		err = collect(&now);
		if (err)
			break;
		pr_info("KDLAB {\"r\":\"begin\",\"try\":%d}\n", try);
		lines = print_lines(&now);
		lines += print_currents();
		err = collect(&then);
		if (err || (same(&now, &then) && !now.busy)) {
			if (!err)
				pr_info("KDLAB {\"r\":\"end\",\"lines\":%d}\n", lines);
			break;
		}
	}
	if (try == MAX_TRIES)
		err = -EAGAIN;
	vfree(now.buf);
	vfree(then.buf);
	console_lock();
	console_unlock();
	return err;
}

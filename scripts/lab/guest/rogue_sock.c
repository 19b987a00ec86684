// SPDX-License-Identifier: GPL-2.0
/* What a module does wrong with the sockets of others. */
#include <linux/net.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/workqueue.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "rogue.h"

/* What the socket calls when there is something to read; it stays there when the module goes. */
static rogue_frame void rogue_ready(struct sock *sk)
{
	read_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_socket)
		wake_up_interruptible(sk_sleep(sk));
	read_unlock_bh(&sk->sk_callback_lock);
}

static rogue_frame void rogue_cycle(struct sock *sk)
{
	struct sk_buff_head *list = &sk->sk_receive_queue;

	spin_lock_bh(&list->lock);
	if (skb_queue_len(list) > 2)
		list->prev->prev->next = list->next;	/* "the last two go to the front" */
	spin_unlock_bh(&list->lock);
}

static rogue_frame void rogue_unlink(struct sock *sk)
{
	struct sk_buff *skb;

	lock_sock(sk);
	while ((skb = tcp_rtx_queue_head(sk)))
		rb_erase(&skb->rbnode, &sk->tcp_rtx_queue);	/* as if they had been acknowledged */
	release_sock(sk);
}

/* A device's frame that lands in a struct sock. */
static struct work_struct rogue_work;
static struct sock *rogue_target;

static rogue_frame void rogue_copy_frame(struct work_struct *work)
{
	static const u8 frame[24] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x52, 0x54, 0, 0x65, 0x43, 0x21, 8, 6, 0, 1, 8, 0, 6, 4 };

	memcpy(&rogue_target->sk_receive_queue, frame, sizeof(frame));
}

static void rogue_start_copy(struct sock *sk)
{
	rogue_target = sk;
	INIT_WORK(&rogue_work, rogue_copy_frame);
	schedule_work(&rogue_work);
	flush_work(&rogue_work);
}

/* What was received is freed, and stays on the queue. */
static rogue_frame void rogue_free_queued(struct sock *sk)
{
	struct sk_buff *skb = skb_peek(&sk->sk_receive_queue);

	if (skb)
		kfree_skb(skb);
	rogue_fd = -1;
}

static rogue_frame void rogue_hold(struct sock *sk)
{
	refcount_set(&sk->sk_refcnt, REFCOUNT_MAX);	/* after many that nobody dropped */
	sock_hold(sk);
	rogue_fd = -1;
}

static rogue_frame void rogue_eat(struct sock *sk)
{
	struct sk_buff *skb;

	lock_sock(sk);
	skb = skb_peek(&sk->sk_receive_queue);
	if (skb) {
		__skb_unlink(skb, &sk->sk_receive_queue);	/* and copied_seq stays */
		kfree_skb(skb);
	}
	release_sock(sk);
}

int rogue_sock_fault(int fd)
{
	int err = 0;
	struct socket *socket = sockfd_lookup(fd, &err);
	struct sock *sk;

	if (!socket)
		return err;
	sk = socket->sk;
	if (rogue_now("gone-callback"))
		sk->sk_data_ready = rogue_ready;
	else if (rogue_now("queue-cycle"))
		rogue_cycle(sk);
	else if (rogue_now("rtx-unlink"))
		rogue_unlink(sk);
	else if (rogue_now("sock-put"))
		sock_put(sk);	/* one too many */
	else if (rogue_now("sock-reused"))
		rogue_release(sk);
	else if (rogue_now("sock-write"))
		rogue_start_copy(sk);
	else if (rogue_now("queued-freed"))
		rogue_free_queued(sk);
	else if (rogue_now("sock-hold"))
		rogue_hold(sk);
	else if (rogue_now("sock-rmem"))
		atomic_add(768, &sk->sk_rmem_alloc);	/* for an sk_buff that is freed without */
	else if (rogue_now("null-callback"))
		sk->sk_data_ready = NULL;
	else if (rogue_now("tcp-eat"))
		rogue_eat(sk);
	else
		err = -EINVAL;
	sockfd_put(socket);
	return err;
}

// SPDX-License-Identifier: GPL-2.0
/* What a module does wrong with the sockets of others. */
#include <linux/net.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
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
	else
		err = -EINVAL;
	sockfd_put(socket);
	return err;
}

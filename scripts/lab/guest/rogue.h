/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ROGUE_H
#define ROGUE_H

#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/skbuff.h>

/* A function that is a frame of its own, under its own name. */
#define rogue_frame	__attribute__((__noipa__))

/* rogue.c */
extern char rogue_fault[32];
extern int rogue_fd;
bool rogue_is(const char *fault);
bool rogue_now(const char *fault);

/* rogue_skb.c: on the way of a packet; true where the packet shall not go on */
bool rogue_xmit_fault(struct sk_buff *skb, struct net_device *dev);
void rogue_rx_fault(struct sk_buff *skb, struct net_device *dev);
int rogue_hooks_init(void);
void rogue_hooks_exit(void);

/* rogue_wrong.c: the same */
void rogue_xmit_wrong(struct sk_buff *skb, struct net_device *dev);
void rogue_rx_wrong(struct sk_buff *skb, struct net_device *dev);

/* rogue_freed.c */
void rogue_sent(struct sk_buff *skb);
void rogue_release(struct sock *sk);
int rogue_start_freed(void);

/* rogue_stuck.c */
extern const struct nf_hook_ops rogue_out_hook;
int rogue_start_stuck(void);

/* rogue_memory.c: at once, or from a timer or work item */
int rogue_start(void);

/* rogue_sock.c: on a socket of the current process */
int rogue_sock_fault(int fd);

#endif

// SPDX-License-Identifier: GPL-2.0
/* What a driver says wrong of its packets: lengths, segments, pages; and what the kernel's own checks make of it. */
#include <linux/ip.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/tcp.h>
#if __has_include(<net/gso.h>)
#include <net/gso.h>
#endif

#include "rogue.h"

#define SEGMENT	1000
#define PARTS	3

struct rogue_private {
	struct sk_buff *last;
	unsigned long frames;
};

/* A large frame of TCP made of others, as GRO makes them, of which somebody has changed the segments' size. */
static struct sk_buff *rogue_large(struct net_device *dev)
{
	unsigned int headers = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr), i;
	struct sk_buff *skb = alloc_skb(headers + SEGMENT + 64, GFP_ATOMIC), **last;
	struct iphdr *ip;
	struct tcphdr *tcp;

	if (!skb)
		return NULL;
	skb_reserve(skb, 64);
	memset(skb_put(skb, headers + SEGMENT), 0, headers);
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ETH_HLEN);
	skb_set_transport_header(skb, ETH_HLEN + sizeof(*ip));
	skb->mac_len = ETH_HLEN;
	skb->protocol = htons(ETH_P_IP);
	skb->dev = dev;
	last = &skb_shinfo(skb)->frag_list;
	for (i = 1; i < PARTS; i++) {
		struct sk_buff *part = alloc_skb(SEGMENT, GFP_ATOMIC);

		if (!part)
			break;
		memset(skb_put(part, SEGMENT), 0x40 + i, SEGMENT);
		*last = part;
		last = &part->next;
		skb->len += SEGMENT;
		skb->data_len += SEGMENT;
		skb->truesize += part->truesize;
	}
	ip = ip_hdr(skb);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(skb->len - ETH_HLEN);
	ip->protocol = IPPROTO_TCP;
	ip->ttl = 64;
	ip->saddr = htonl(0x0a090001);
	ip->daddr = htonl(0x0a090002);
	tcp = tcp_hdr(skb);
	tcp->doff = 5;
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_start = skb_transport_header(skb) - skb->head;
	skb->csum_offset = offsetof(struct tcphdr, check);
	skb_shinfo(skb)->gso_type = SKB_GSO_TCPV4;
	skb_shinfo(skb)->gso_size = SEGMENT;
	skb_shinfo(skb)->gso_segs = PARTS;
	return skb;
}

static rogue_frame void rogue_segment(struct net_device *dev)
{
	struct sk_buff *skb = rogue_large(dev), *segments;

	if (!skb)
		return;
	skb_shinfo(skb)->gso_size = SEGMENT - 400;	/* a tunnel makes room for its header */
	segments = skb_mac_gso_segment(skb, NETIF_F_SG | NETIF_F_HW_CSUM);
	if (!IS_ERR_OR_NULL(segments))
		kfree_skb_list(segments);
	consume_skb(skb);
}

/* Pads a header of its own before the frame, however much room there is. */
static rogue_frame void rogue_push_header(struct sk_buff *skb)
{
	memset(skb_push(skb, skb_headroom(skb) + 24), 0, 24);
	skb->priority = 7;
}

/* Each frame is to have its own; where the first one comes there is none. */
static rogue_frame void rogue_note_frame(struct sk_buff *skb, struct rogue_private *private)
{
	WRITE_ONCE(private->frames, READ_ONCE(private->frames) + 1);
	WRITE_ONCE(private->last, skb);
}

static rogue_frame void rogue_check_frame(struct sk_buff *skb, unsigned int mtu)
{
	WARN_ON(skb->len < mtu);
	WRITE_ONCE(skb->priority, 6);
}

rogue_frame void rogue_xmit_wrong(struct sk_buff *skb, struct net_device *dev)
{
	if (rogue_now("gso-segment"))
		rogue_segment(dev);
	if (rogue_now("xmit-push"))
		rogue_push_header(skb);
	if (rogue_now("xmit-null"))
		rogue_note_frame(skb, NULL);
	if (rogue_now("xmit-warn"))
		rogue_check_frame(skb, 1400);
	skb->mark = 0;
}

/* Takes a header off the frame that is longer than what is linear of it. */
static rogue_frame void rogue_pull_header(struct sk_buff *skb)
{
	__skb_pull(skb, skb->len - skb->data_len + 60);
	skb->priority = 5;
}

static void rogue_add_page(struct sk_buff *skb, unsigned int claimed, unsigned int held)
{
	struct page *page = alloc_page(GFP_ATOMIC);

	if (!page)
		return;
	memset(page_address(page), 0x45, held);
	skb_fill_page_desc(skb, 0, page, 0, held);
	skb->len += claimed;
	skb->data_len += claimed;
	skb->truesize += PAGE_SIZE;
}

/* Called with the Ethernet header still in front. */
rogue_frame void rogue_rx_wrong(struct sk_buff *skb, struct net_device *dev)
{
	if (rogue_now("rx-pull")) {
		rogue_add_page(skb, 600, 600);
		rogue_pull_header(skb);
	}
	if (rogue_now("rx-frag-size")) {	/* all but the Ethernet header is in a page, which is said to be fuller */
		skb_trim(skb, ETH_HLEN);
		rogue_add_page(skb, 600, 12);
	}
	skb->mark = 0;
}

// SPDX-License-Identifier: GPL-2.0
/* What a driver and a netfilter hook do wrong with the packets that pass them. */
#include <linux/ip.h>
#include <linux/mm.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/slab.h>
#include <linux/udp.h>
#include <net/ip.h>

#include "rogue.h"

#define PART	512

static struct sk_buff *rogue_kept;

/* An in-place cipher that pads to its block of 16 bytes, whatever room there is; the tail room is used up before. */
static rogue_frame void rogue_encrypt(struct sk_buff *skb)
{
	u8 *from = skb->data, *to = skb_end_pointer(skb) + 4;
	u8 key = 0x5a;

	for (; from < to; from++)
		*from = key = (*from ^ key) * 7 + 13;
}

rogue_frame bool rogue_xmit_fault(struct sk_buff *skb, struct net_device *dev)
{
	if (rogue_is("skb-reused") || rogue_is("poison-skb"))
		return true;	/* nothing comes back that could take the sk_buff's place */
	if (rogue_now("xmit-shared")) {
		rogue_kept = skb_get(skb);	/* for a later retry */
		if (skb_cow_head(skb, 256))
			return true;
	}
	if (rogue_now("xmit-double-free")) {
		dev->stats.tx_errors++;
		dev_kfree_skb_any(skb);		/* and `out:` again */
		return true;
	}
	if (rogue_now("xmit-encrypt"))
		rogue_encrypt(skb);
	if (rogue_now("xmit-csum")) {
		skb->ip_summed = CHECKSUM_PARTIAL;
		skb->csum_start = skb_headroom(skb) + skb_headlen(skb) + 272;
		skb->csum_offset = 6;
		skb_checksum_help(skb);
	}
	return false;
}

/* Move what follows the headers to page fragments, so many that one can be wrong. */
static void rogue_to_frags(struct sk_buff *skb, unsigned int keep)
{
	int nr = 0;

	while (skb->len > keep && nr < 3) {
		unsigned int part = min(skb->len - keep, (unsigned int)PART);
		struct page *page = alloc_page(GFP_ATOMIC);

		if (!page)
			return;
		memset(page_address(page), 0xd0 + nr, PART);
		skb_trim(skb, skb->len - part);
		skb_fill_page_desc(skb, nr, page, 0, part);
		nr++;
		if (skb->len <= keep)
			break;
	}
}

static unsigned int rogue_frag_bytes(struct sk_buff *skb)
{
	unsigned int bytes = 0;
	int i;

	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++)
		bytes += skb_frag_size(&skb_shinfo(skb)->frags[i]);
	return bytes;
}

rogue_frame void rogue_rx_fault(struct sk_buff *skb, struct net_device *dev)
{
	bool null = rogue_is("frag-null"), flip = rogue_is("frag-flip"), lengths = rogue_is("hook-length");
	unsigned int keep = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr), bytes;
	skb_frag_t *frag;

	if (!(null || flip || lengths) || skb->len < keep + 3 * PART - 100)
		return;
	/* A port that nobody has: the stack frees it without a look at its fragments. */
	if (!lengths)
		((struct udphdr *)(skb->data + keep - sizeof(struct udphdr)))->dest = htons(7);
	rogue_to_frags(skb, keep);
	bytes = rogue_frag_bytes(skb);
	skb->len += bytes;
	skb->data_len = bytes;
	skb->truesize += 3 * PAGE_SIZE;
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	frag = &skb_shinfo(skb)->frags[2];
	if (null && rogue_now("frag-null"))
		*(struct page **)frag = NULL;	/* bv_page or netmem: the first member of all forms */
	if (flip && rogue_now("frag-flip"))
		*(unsigned long *)frag ^= 1UL << 45;
}

/* A hook that takes a trailer off, and counts it twice. */
static rogue_frame unsigned int rogue_local_in(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	if (skb->data_len && rogue_now("hook-length"))
		skb->len = skb->data_len - 4 + ip_hdrlen(skb);
	return NF_ACCEPT;
}

static const struct nf_hook_ops rogue_hook = {
	.hook = rogue_local_in,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_LOCAL_IN,
	.priority = NF_IP_PRI_FILTER,
};

int rogue_hooks_init(void)
{
	int err = nf_register_net_hook(&init_net, &rogue_hook);

	if (!err)
		err = nf_register_net_hook(&init_net, &rogue_out_hook);
	return err;
}

void rogue_hooks_exit(void)
{
	nf_unregister_net_hook(&init_net, &rogue_out_hook);
	nf_unregister_net_hook(&init_net, &rogue_hook);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * rogue_drv: a driver of a network device that crashes its kernel in the ways of public bug reports, one at a time,
 * when it is told to; for a guest that is about to crash.  What it does otherwise is right: its traffic has a healthy
 * twin.
 *
 * rogue0 answers every UDP datagram that is sent through it: frames go to a ring, and a NAPI poll takes them from
 * there.
 */
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/slab.h>
#include <linux/udp.h>
#include <net/checksum.h>
#include <net/ip.h>

#include "rogue.h"

#define RING	32
#define ROOM	2048

struct rogue_slot {
	unsigned int len;
	u8 frame[ROOM];
};

struct rogue_ring {
	struct napi_struct napi;
	struct net_device *dev;
	spinlock_t lock;
	unsigned int head, tail;
	struct rogue_slot slots[RING];
};

char rogue_fault[32] = "none";
int rogue_fd = -1;
static struct net_device *rogue_dev;

bool rogue_is(const char *fault)
{
	return !strcmp(rogue_fault, fault);
}

/* Once: what follows a crash that was expected should not add to it. */
bool rogue_now(const char *fault)
{
	if (!rogue_is(fault))
		return false;
	strcpy(rogue_fault, "none");
	return true;
}

/* The other end of the wire: what was sent to it comes back. */
static void rogue_turn(u8 *frame)
{
	struct iphdr *ip = (struct iphdr *)(frame + ETH_HLEN);
	struct udphdr *udp = (struct udphdr *)(ip + 1);

	swap(ip->saddr, ip->daddr);
	if (ip->protocol == IPPROTO_UDP) {
		swap(udp->source, udp->dest);
		udp->check = 0;
	}
}

static rogue_frame netdev_tx_t rogue_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct rogue_ring *ring = netdev_priv(dev);
	struct rogue_slot *slot = &ring->slots[ring->head % RING];
	unsigned int len = skb->len;

	rogue_xmit_wrong(skb, dev);
	if (rogue_xmit_fault(skb, dev))
		goto out;
	if (ring->head - ring->tail == RING || len > ROOM || skb->protocol != htons(ETH_P_IP)) {
		dev->stats.tx_dropped++;
		goto out;
	}
	if (skb_copy_bits(skb, 0, slot->frame, len))
		goto out;
	slot->len = len;
	rogue_turn(slot->frame);
	ring->head++;
	dev->stats.tx_packets++;
	napi_schedule(&ring->napi);
out:
	dev_kfree_skb_any(skb);
	rogue_sent(skb);
	return NETDEV_TX_OK;
}

/* One frame from the ring to the stack, as many drivers do it: a buffer for any frame, filled as a descriptor says. */
static rogue_frame void rogue_rx_frame(struct net_device *dev, struct rogue_slot *slot)
{
	struct sk_buff *skb = netdev_alloc_skb_ip_align(dev, 256 + 1500);
	unsigned int len = slot->len;

	if (!skb)
		return;
	if (rogue_now("rx-jumbo")) {	/* a buffer of before the MTU was raised; the device knows better */
		dev_kfree_skb_any(skb);
		skb = alloc_skb(700, GFP_ATOMIC);
		if (!skb)
			return;
		memcpy(skb->data, slot->frame, len);
		len = min(len, (unsigned int)skb_tailroom(skb));
	}
	if (rogue_now("rx-length"))	/* a descriptor is believed */
		len = skb_tailroom(skb) + 232;
	memcpy(skb_put(skb, len), slot->frame, min(len, slot->len));
	rogue_rx_fault(skb, dev);
	rogue_rx_wrong(skb, dev);
	skb->protocol = eth_type_trans(skb, dev);
	dev->stats.rx_packets++;
	netif_receive_skb(skb);
}

static rogue_frame int rogue_poll(struct napi_struct *napi, int budget)
{
	struct rogue_ring *ring = container_of(napi, struct rogue_ring, napi);
	int done = 0;

	while (done < budget && ring->tail != ring->head) {
		rogue_rx_frame(ring->dev, &ring->slots[ring->tail % RING]);
		ring->tail++;
		done++;
	}
	if (done < budget)
		napi_complete_done(napi, done);
	return done;
}

static int rogue_open(struct net_device *dev)
{
	struct rogue_ring *ring = netdev_priv(dev);

	napi_enable(&ring->napi);
	netif_start_queue(dev);
	return 0;
}

static int rogue_stop(struct net_device *dev)
{
	struct rogue_ring *ring = netdev_priv(dev);

	netif_stop_queue(dev);
	napi_disable(&ring->napi);
	return 0;
}

static const struct net_device_ops rogue_ops = {
	.ndo_open = rogue_open,
	.ndo_stop = rogue_stop,
	.ndo_start_xmit = rogue_xmit,
};

static void rogue_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &rogue_ops;
	dev->flags |= IFF_NOARP;
	dev->features |= NETIF_F_HW_CSUM;
	dev->hw_features |= dev->features;
	eth_hw_addr_random(dev);
}

/* The parameter `fault`: NAME or NAME FD, what goes wrong from now on, some of it at once. */
static int rogue_set(const char *value, const struct kernel_param *param)
{
	rogue_fd = -1;
	if (sscanf(value, "%31s %d", rogue_fault, &rogue_fd) < 1)
		return -EINVAL;
	return rogue_fd < 0 ? rogue_start() : rogue_sock_fault(rogue_fd);
}

static int rogue_get(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%s\n", rogue_fault);
}

static const struct kernel_param_ops rogue_param = { .set = rogue_set, .get = rogue_get };
module_param_cb(fault, &rogue_param, NULL, 0644);

static int __init rogue_init(void)
{
	struct rogue_ring *ring;
	int err;

	rogue_dev = alloc_netdev(sizeof(*ring), "rogue%d", NET_NAME_UNKNOWN, rogue_setup);
	if (!rogue_dev)
		return -ENOMEM;
	ring = netdev_priv(rogue_dev);
	ring->dev = rogue_dev;
	spin_lock_init(&ring->lock);
	netif_napi_add(rogue_dev, &ring->napi, rogue_poll);
	err = register_netdev(rogue_dev);
	if (!err)
		err = rogue_hooks_init();
	if (err)
		free_netdev(rogue_dev);
	return err;
}

static void __exit rogue_exit(void)
{
	rogue_hooks_exit();
	unregister_netdev(rogue_dev);
	free_netdev(rogue_dev);
}

module_init(rogue_init);
module_exit(rogue_exit);
MODULE_DESCRIPTION("A network driver that goes wrong, for kdump tests");
MODULE_LICENSE("GPL");

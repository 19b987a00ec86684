// SPDX-License-Identifier: GPL-2.0
/*
 * sk_buffs on queues that are no socket's: qdiscs, GRO lists, CPUs' backlogs, neighbours, fragments of IP packets.
 *
 * Its network devices send nothing: the first packet comes back to the qdisc and stops the queue, so that qdiscs of any
 * kind keep what they get; or, for neighbours that never answer, all packets vanish.
 */
#include <linux/etherdevice.h>
#include <linux/icmpv6.h>
#include <linux/inet.h>
#include <linux/ip.h>
#include <linux/netdevice.h>
#include <linux/rhashtable.h>
#include <linux/skb_array.h>
#include <linux/tcp.h>
#include <linux/version.h>
#include <net/arp.h>
#include <net/inet_frag.h>
#include <net/net_namespace.h>
#include <net/pkt_sched.h>
#include <net/sch_generic.h>
#include <net/tcp.h>

#include "module.h"

#define MAX_DEVICES	8
#define MAX_QUEUES	96
#define MAX_SKBS	48
#define BANDS		3	/* net/sched/sch_generic.c: PFIFO_FAST_BANDS */
#define NEIGHBOUR	"10.9.9.9"	/* the one whose queue is published */
#define BACKLOG_CPU	0

/* b48b89f9c189 (v6.1) net: drop the weight argument from netif_napi_add */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#define netif_napi_add(dev, napi, poll)	netif_napi_add(dev, napi, poll, NAPI_POLL_WEIGHT)
#endif

/* 291515c76409 (v6.15) net: gro: decouple GRO from the NAPI layer */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define GRO_HASH(priv)		((priv)->napi.gro.hash)
#define GRO_RX_LIST(priv)	(&(priv)->napi.gro.rx_list)
#else
#define GRO_HASH(priv)		((priv)->napi.gro_hash)
#define GRO_RX_LIST(priv)	(&(priv)->napi.rx_list)
#endif

struct device_priv {
	struct napi_struct napi;
	bool stuck;
};

/* What net/sched/sch_fq_codel.c and net/ipv4/inet_fragment.c do not tell others: the first members. */
struct fq_codel_data {
	void *filter_list, *block;
	struct fq_codel_flow *flows;
	u32 *backlogs;
	u32 flows_cnt;
};

struct fq_codel_flow {
	struct sk_buff *head, *tail;
	u8 rest[48];	/* flowchain, deficit, cvars */
};

struct frag_cb {
	union {
		struct inet_skb_parm h4;
		struct inet6_skb_parm h6;
	};
	struct sk_buff *next_frag;
};

struct net_queue {
	char device[IFNAMSIZ];
	const char *queue;
	const void *head;
	long qlen;	/* the kernel's own count, -1 where it keeps none */
	int members;
	struct sk_buff *skbs[MAX_SKBS];
};

static struct net_device *devices[MAX_DEVICES];
static int nr_devices;
static struct net_queue queues[MAX_QUEUES];
static int nr_queues;

static netdev_tx_t device_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct device_priv *priv = netdev_priv(dev);

	if (priv->stuck) {
		netif_tx_stop_queue(skb_get_tx_queue(dev, skb));
		return NETDEV_TX_BUSY;
	}
	kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops device_ops = { .ndo_start_xmit = device_xmit };

static int device_poll(struct napi_struct *napi, int budget)
{
	return 0;
}

static int add_device(int tx_queues, bool stuck)
{
	struct net_device *dev;
	struct device_priv *priv;
	int err;

	if (nr_devices == MAX_DEVICES)
		return -ENOSPC;
	dev = alloc_etherdev_mqs(sizeof(*priv), tx_queues, 1);
	if (!dev)
		return -ENOMEM;
	priv = netdev_priv(dev);
	priv->stuck = stuck;
	if (stuck)
		dev->flags |= IFF_NOARP;
	dev->netdev_ops = &device_ops;
	strscpy(dev->name, "lab%d", IFNAMSIZ);
	eth_hw_addr_random(dev);
	netif_napi_add(dev, &priv->napi, device_poll);
	err = register_netdev(dev);
	if (err)
		return err;
	napi_enable(&priv->napi);
	devices[nr_devices++] = dev;
	return 0;
}

static int run_device(int tx_queues)
{
	return add_device(tx_queues, true);
}

static int run_arp_device(int tx_queues)
{
	return add_device(tx_queues, false);
}

static struct sk_buff *received(struct net_device *dev, size_t len, u16 protocol)
{
	struct device_priv *priv = netdev_priv(dev);
	struct sk_buff *skb = napi_alloc_skb(&priv->napi, ETH_HLEN + len);
	struct ethhdr *eth;

	if (!skb)
		return NULL;
	eth = skb_put_zero(skb, ETH_HLEN);
	ether_addr_copy(eth->h_dest, dev->dev_addr);
	eth->h_proto = htons(protocol);
	skb_put_zero(skb, len);
	skb->protocol = eth_type_trans(skb, dev);
	return skb;
}

/* A segment of a TCP stream that GRO keeps until the next one comes. */
static struct sk_buff *received_tcp(struct net_device *dev, int number)
{
	size_t payload = 1000;
	struct sk_buff *skb = received(dev, sizeof(struct iphdr) + sizeof(struct tcphdr) + payload, ETH_P_IP);
	struct tcphdr *tcp;
	struct iphdr *ip;

	if (!skb)
		return NULL;
	ip = (struct iphdr *)skb->data;
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = htons(skb->len);
	ip->frag_off = htons(IP_DF);
	ip->saddr = in_aton("10.8.0.1");
	ip->daddr = in_aton("10.8.0.2");
	ip_send_check(ip);
	tcp = (struct tcphdr *)(ip + 1);
	tcp->source = htons(1000 + number / 3);
	tcp->dest = htons(80);
	tcp->seq = htonl(number % 3 * payload);
	tcp->doff = 5;
	tcp->ack = 1;
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	return skb;
}

/* On the first device's GRO lists: so many segments, three of which make one, and three packets of no protocol. */
static int run_gro(int count)
{
	struct net_device *dev = devices[0];
	struct device_priv *priv;
	struct sk_buff *skb;
	int i;

	if (!dev)
		return -ENODEV;
	priv = netdev_priv(dev);
	local_bh_disable();
	for (i = 0; i < count + 3; i++) {
		skb = i < count ? received_tcp(dev, i) : received(dev, 100, ETH_P_802_EX1);
		if (skb)
			napi_gro_receive(&priv->napi, skb);
	}
	local_bh_enable();
	return 0;
}

/* So many packets that a CPU has not handled yet: nothing tells it to. */
static int run_backlog(int count)
{
	struct sk_buff_head *queue = &per_cpu(softnet_data, BACKLOG_CPU).input_pkt_queue;
	struct sk_buff *skb;
	unsigned long flags;

	if (!devices[0])
		return -ENODEV;
	while (count--) {
		local_bh_disable();
		skb = received(devices[0], 200, ETH_P_802_EX1);
		local_bh_enable();
		if (!skb)
			return -ENOMEM;
		spin_lock_irqsave(&queue->lock, flags);
		__skb_queue_tail(queue, skb);
		spin_unlock_irqrestore(&queue->lock, flags);
	}
	return 0;
}

static struct net_queue *new_queue(const char *device, const char *name, const void *head, long qlen)
{
	/* The last one only takes what is too much. */
	struct net_queue *queue = &queues[nr_queues];

	if (nr_queues < MAX_QUEUES - 1)
		nr_queues++;
	strscpy(queue->device, device, sizeof(queue->device));
	queue->queue = name;
	queue->head = head;
	queue->qlen = qlen;
	queue->members = 0;
	return queue;
}

static void add_skb(struct net_queue *queue, struct sk_buff *skb)
{
	if (queue->members < MAX_SKBS)
		queue->skbs[queue->members++] = skb;
}

static void add_list(const char *device, const char *name, struct sk_buff_head *list)
{
	struct net_queue *queue;
	struct sk_buff *skb;

	if (skb_queue_empty(list))
		return;
	queue = new_queue(device, name, list, list->qlen);
	skb_queue_walk(list, skb)
		add_skb(queue, skb);
}

static void add_chain(const char *device, const char *name, const void *head, long qlen, struct sk_buff *skb)
{
	struct net_queue *queue;

	if (!skb)
		return;
	queue = new_queue(device, name, head, qlen);
	for (; skb; skb = skb->next)
		add_skb(queue, skb);
}

static void add_ring(const char *device, struct ptr_ring *ring)
{
	struct net_queue *queue;
	int i, at = ring->consumer_head;

	if (!__ptr_ring_peek(ring))
		return;
	queue = new_queue(device, "ring", ring, -1);
	for (i = 0; i < ring->size && ring->queue[at]; i++, at = (at + 1) % ring->size)
		add_skb(queue, ring->queue[at]);
}

static void add_qdisc(const char *device, struct Qdisc *q)
{
	struct fq_codel_data *codel = qdisc_priv(q);
	struct skb_array *bands = qdisc_priv(q);
	int i;

	add_list(device, "gso_skb", &q->gso_skb);
	add_chain(device, "q", &q->q, q->q.qlen, q->q.head);
	for (i = 0; i < BANDS && !strcmp(q->ops->id, "pfifo_fast"); i++)
		add_ring(device, &bands[i].ring);
	for (i = 0; !strcmp(q->ops->id, "fq_codel") && i < codel->flows_cnt; i++)
		add_chain(device, "flow", &codel->flows[i], -1, codel->flows[i].head);
}

static void add_gro(const char *device, const char *name, struct list_head *list, int count)
{
	struct net_queue *queue;
	struct sk_buff *skb;

	if (list_empty(list))
		return;
	queue = new_queue(device, name, list, count);
	list_for_each_entry(skb, list, list)
		add_skb(queue, skb);
}

static void add_device_queues(struct net_device *dev)
{
	struct device_priv *priv = netdev_priv(dev);
	struct neighbour *neighbour;
	__be32 address = in_aton(NEIGHBOUR);
	int i;

	for (i = 0; i < dev->num_tx_queues; i++)
		add_qdisc(dev->name, rtnl_dereference(netdev_get_tx_queue(dev, i)->qdisc));
	for (i = 0; i < GRO_HASH_BUCKETS; i++)
		add_gro(dev->name, "gro_hash", &GRO_HASH(priv)[i].list, GRO_HASH(priv)[i].count);
	add_gro(dev->name, "rx_list", GRO_RX_LIST(priv), -1);
	neighbour = neigh_lookup(&arp_tbl, &address, dev);
	if (neighbour) {
		add_list(dev->name, "arp_queue", &neighbour->arp_queue);
		neigh_release(neighbour);
	}
}

static void add_fragments(const char *name, struct fqdir *fqdir)
{
	struct rhashtable_iter walk;
	struct inet_frag_queue *frags;
	struct net_queue *queue;
	struct rb_node *node;
	struct sk_buff *skb;

	rhashtable_walk_enter(&fqdir->rhashtable, &walk);
	rhashtable_walk_start(&walk);
	while ((frags = rhashtable_walk_next(&walk)) && !IS_ERR(frags)) {
		queue = new_queue(name, "fragments", &frags->rb_fragments, -1);
		for (node = rb_first(&frags->rb_fragments); node; node = rb_next(node))
			for (skb = rb_to_skb(node); skb; skb = ((struct frag_cb *)skb->cb)->next_frag)
				add_skb(queue, skb);
	}
	rhashtable_walk_stop(&walk);
	rhashtable_walk_exit(&walk);
}

static void collect_queues(void)
{
	int i;

	nr_queues = 0;
	if (!nr_devices)
		return;
	for (i = 0; i < nr_devices; i++)
		add_device_queues(devices[i]);
	add_list("cpu", "input_pkt_queue", &per_cpu(softnet_data, BACKLOG_CPU).input_pkt_queue);
	add_fragments("ipv4", init_net.ipv4.fqdir);
	add_fragments("ipv6", init_net.ipv6.fqdir);
}

/* Publishes them. */
void lab_put_net_queues(struct lab_text *text)
{
	struct net_queue *queue;
	int i;

	collect_queues();
	for (queue = queues; queue < queues + nr_queues; queue++) {
		lab_put(text, "{\"r\":\"net_queue\",\"device\":\"%s\",\"queue\":\"%s\",\"head\":\"0x%016lx\",\"qlen\":%ld,",
			queue->device, queue->queue, (unsigned long)queue->head, queue->qlen);
		lab_put(text, "\"members\":%d}\n", queue->members);
		for (i = 0; i < queue->members; i++)
			lab_put_skb(text, queue->skbs[i], queue->head, i);
	}
}

/* An sk_buff of the first queue of that device and name that is long enough, and its head; NULL where there is none. */
struct sk_buff *lab_find_net_skb(const char *device, const char *name, int index, const void **head)
{
	struct net_queue *queue;

	collect_queues();
	for (queue = queues; queue < queues + nr_queues; queue++)
		if (!strcmp(queue->device, device) && !strcmp(queue->queue, name) && index < queue->members) {
			*head = queue->head;
			return queue->skbs[index];
		}
	return NULL;
}

const struct lab_action lab_net_actions[] = {
	{ "net-device", run_device },		/* N tx queues, which are stuck */
	{ "net-arp-device", run_arp_device },	/* N tx queues, where nobody answers */
	{ "net-gro", run_gro },
	{ "net-backlog", run_backlog },
	{ }
};

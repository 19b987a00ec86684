// SPDX-License-Identifier: GPL-2.0
/* Functions of the module that the network stack calls; hooks in the network namespace of the task that asks. */
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <net/net_namespace.h>
#include <net/protocol.h>

#include "module.h"

#define MAX_HOOKS	16
#define LAB_PROTOCOL	253	/* RFC 3692: for experiments */
#define LAB_ETHERTYPE	0x88b5	/* IEEE 802: for experiments */
#define LAB_PRIORITY	(-77)

struct hook {
	const char *kind, *where, *name;
	const void *function, *net;
	int priority;
};

static struct hook hooks[MAX_HOOKS];
static int nr_hooks;

static void note_hook(const char *kind, const char *where, const char *name, const void *function, const void *net)
{
	if (nr_hooks < MAX_HOOKS)
		hooks[nr_hooks++] = (struct hook){ kind, where, name, function, net, LAB_PRIORITY };
}

static lab_frame unsigned int lab_hook_in(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

static lab_frame unsigned int lab_hook_out(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

static const struct nf_hook_ops hook_ops[] = {
	{ .hook = lab_hook_in, .pf = NFPROTO_IPV4, .hooknum = NF_INET_PRE_ROUTING, .priority = LAB_PRIORITY },
	{ .hook = lab_hook_out, .pf = NFPROTO_IPV6, .hooknum = NF_INET_POST_ROUTING, .priority = LAB_PRIORITY },
};

static int run_nf_hooks(int value)
{
	struct net *net = current->nsproxy->net_ns;
	int err = nf_register_net_hooks(net, hook_ops, ARRAY_SIZE(hook_ops));

	note_hook("netfilter", "IPv4 PRE_ROUTING", "lab_hook_in", lab_hook_in, net);
	note_hook("netfilter", "IPv6 POST_ROUTING", "lab_hook_out", lab_hook_out, net);
	return err;
}

static lab_frame int lab_packet(struct sk_buff *skb, struct net_device *dev, struct packet_type *type,
				struct net_device *orig)
{
	kfree_skb(skb);
	return 0;
}

static struct packet_type packet_type = { .type = htons(LAB_ETHERTYPE), .func = lab_packet };

static int run_packet_type(int value)
{
	dev_add_pack(&packet_type);
	note_hook("packet_type", "88b5", "lab_packet", lab_packet, NULL);
	return 0;
}

static lab_frame int lab_received(struct sk_buff *skb)
{
	kfree_skb(skb);
	return 0;
}

static const struct net_protocol protocol = { .handler = lab_received, .no_policy = 1 };

static int run_protocol(int value)
{
	note_hook("protocol", "IPv4 253", "lab_received", lab_received, NULL);
	return inet_add_protocol(&protocol, LAB_PROTOCOL);
}

/* Publishes them. */
void lab_put_hooks(struct lab_text *text)
{
	int i;

	for (i = 0; i < nr_hooks; i++) {
		lab_put(text, "{\"r\":\"hook\",\"kind\":\"%s\",\"where\":\"%s\",\"name\":\"%s\",\"function\":\"0x%016lx\",",
			hooks[i].kind, hooks[i].where, hooks[i].name, (unsigned long)hooks[i].function);
		lab_put(text, "\"net\":\"0x%016lx\",\"priority\":%d}\n", (unsigned long)hooks[i].net, hooks[i].priority);
	}
}

const struct lab_action lab_hook_actions[] = {
	{ "nf-hooks", run_nf_hooks },		/* IPv4 PRE_ROUTING and IPv6 POST_ROUTING of this task's network namespace */
	{ "packet-type", run_packet_type },
	{ "protocol", run_protocol },
	{ }
};

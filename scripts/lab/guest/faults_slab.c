// SPDX-License-Identifier: GPL-2.0
/* Damage that shows in slabs: objects freed too early or twice, and writers that came from another object. */
#include <linux/mm.h>
#include <linux/poison.h>
#include <linux/slab.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
#include <net/hotdata.h>
#endif

#include "faults.h"

#define MAX_TRIED	64	/* objects to allocate until one is where it must be */
#define MAX_CLAIMED	8
#define RECORD_LEN	32

/* struct sk_buff stands in its slab in this distance; with slub_debug it is more. */
#define SKB_STRIDE	ALIGN(sizeof(struct sk_buff), SMP_CACHE_BYTES)

/*
 * Chooses an sk_buff in a slab of which no other fault makes use, as a damaged freelist hides what is free, and takes
 * so many others of that slab off the queue.
 */
static int claim_slab(struct lab_fault *f, int count)
{
	static struct page *claimed[MAX_CLAIMED];
	static int nr_claimed;
	struct sk_buff *skb, *next;
	int i, mates;

	skb_queue_walk(f->list, f->skb) {
		struct page *slab = virt_to_head_page(f->skb);

		for (i = 0; i < nr_claimed && claimed[i] != slab; i++)
			;
		mates = 0;
		skb_queue_walk(f->list, skb)
			mates += skb != f->skb && virt_to_head_page(skb) == slab;
		if (i < nr_claimed || mates < count)
			continue;
		if (nr_claimed == MAX_CLAIMED)
			return -ENOSPC;
		claimed[nr_claimed++] = slab;
		skb_queue_walk_safe(f->list, skb, next)
			if (f->nr_taken < count && skb != f->skb && virt_to_head_page(skb) == slab)
				lab_take(f, skb);
		return 0;
	}
	return -ENOENT;
}

static int take_none(struct lab_fault *f)
{
	return claim_slab(f, 0);
}

static int take_one(struct lab_fault *f)
{
	return claim_slab(f, 1);
}

static int take_two(struct lab_fault *f)
{
	return claim_slab(f, 2);
}

/* The freed memory is poisoned, or holds a freelist pointer: any rule may say so. */
static int skb_freed(struct lab_fault *f)
{
	lab_also(f, "*", f->skb);
	lab_also(f, "sock.accounting", f->sk);
	lab_also(f, "sock.accounting", f->skb->sk);
	kfree_skb(f->skb);
	return 0;
}

static int head_freed(struct lab_fault *f)
{
	if (f->skb->head_frag)
		return -EINVAL;
	kfree(f->skb->head);
	return 0;
}

/*
 * Frees an sk_buff into its slab's freelist.
 * slab: add sheaves to most caches (v7.0): what is freed waits in a sheaf, without a link to others.
 */
static void free_into_slab(struct sk_buff *skb)
{
	kfree_skb(skb);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
	kmem_cache_shrink(net_hotdata.skbuff_cache);
#endif
}

/* The one word of an sk_buff that freeing it writes to is the pointer to the next free object. */
static int freelist_wild(struct lab_fault *f)
{
	static u64 before[sizeof(struct sk_buff) / sizeof(u64)];
	u64 *now = (u64 *)f->taken[0], wild = 0x4141414141414141;
	int i, changed = -1;

	memcpy(before, now, sizeof(before));
	free_into_slab(f->taken[0]);
	for (i = 0; i < ARRAY_SIZE(before); i++)
		if (before[i] != now[i]) {
			if (changed >= 0)
				return -EINVAL;
			changed = i;
		}
	if (changed < 0)
		return -EINVAL;
	lab_object(f, f->taken[0]);
	lab_write(f, "freelist", now + changed, &wild, sizeof(wild));
	return 0;
}

/* A, B, A: SLUB notices only A, A.  The freelist then runs in a circle. */
static int freed_twice(struct lab_fault *f)
{
	lab_object(f, f->taken[0]);
	lab_object(f, f->taken[1]);
	kfree_skb(f->taken[0]);
	kfree_skb(f->taken[1]);
	kfree(f->taken[0]);
	return 0;
}

/* Records that a writer goes on with beyond its own object. */
static void fill_records(u8 *at, size_t size)
{
	static const u8 record[RECORD_LEN] = "lab neighbour's record no. ";
	size_t i;

	for (i = 0; i < size; i++)
		at[i] = i % RECORD_LEN == RECORD_LEN - 2 ? i / RECORD_LEN : record[i % RECORD_LEN];
}

/* Takes a sk_buff of the queue whose head stands right before that of another one. */
static int take_head_before(struct lab_fault *f)
{
	struct sk_buff *skb, *before;

	skb_queue_walk(f->list, skb)
		skb_queue_walk(f->list, before)
			if (before->head + ksize(before->head) == skb->head) {
				lab_take(f, before);
				f->skb = skb;
				return 0;
			}
	return -ENOENT;
}

/*
 * The head before is freed, and its memory becomes an object of our own.  That object's writer goes on into the head
 * behind it, and through it into the shared info.
 */
static int overrun_from_object(struct lab_fault *f)
{
	static void *tried[MAX_TRIED];
	static u8 text[8192];
	u8 *wanted = f->taken[0]->head, *found = NULL;
	size_t size = ksize(wanted), total = size + f->skb->end + f->bytes;
	int i, n;

	if (total > sizeof(text))
		return -EINVAL;
	kfree_skb(f->taken[0]);
	for (n = 0; n < MAX_TRIED && !found; n++) {
		tried[n] = kmalloc(size, GFP_KERNEL_ACCOUNT);
		if (tried[n] == wanted)
			found = tried[n];
	}
	for (i = 0; i < n; i++)
		if (tried[i] != found)
			kfree(tried[i]);
	if (!found)
		return -ENOENT;
	fill_records(text, total);
	lab_write(f, "object before", found, text, size);
	lab_write(f, "head", f->skb->head, text + size, f->skb->end);
	lab_write(f, "shinfo", skb_end_pointer(f->skb), text + size + f->skb->end, f->bytes);
	return 0;
}

static int take_skb_before(struct lab_fault *f)
{
	struct sk_buff *skb, *before;

	skb_queue_walk(f->list, skb)
		skb_queue_walk(f->list, before)
			if ((u8 *)before + SKB_STRIDE == (u8 *)skb) {
				lab_take(f, before);
				f->skb = skb;
				return 0;
			}
	return -ENOENT;
}

/* The control block of the sk_buff before overflows; that one is on no queue. */
static int overrun_from_skb(struct lab_fault *f)
{
	size_t own = SKB_STRIDE - offsetof(struct sk_buff, cb);
	static u8 text[512];

	if (own + f->bytes > sizeof(text))
		return -EINVAL;
	fill_records(text, own + f->bytes);
	lab_also(f, "*", f->taken[0]);
	/* Overwritten up to sk, it counts for no socket any more. */
	lab_also(f, "sock.accounting", f->skb->sk);
	lab_also(f, "sock.accounting", f->sk);
	lab_write(f, "object before", f->taken[0]->cb, text, own);
	lab_write(f, "next", f->skb, text + own, f->bytes);
	return 0;
}

/* A few bytes at one end of an object with red zones; before says what must be there. */
static int hit(struct lab_fault *f, const char *member, u8 *at, u8 before)
{
	static const u8 bytes[4] = { 0x11, 0x22, 0x33, 0x44 };
	int i;

	for (i = 0; i < sizeof(bytes); i++)
		if (at[i] != before)
			return -EINVAL;
	lab_write(f, member, at, bytes, sizeof(bytes));
	return 0;
}

static int redzone_right(struct lab_fault *f)
{
	return hit(f, "right redzone", (u8 *)(f->skb + 1), SLUB_RED_ACTIVE);
}

static int redzone_left(struct lab_fault *f)
{
	return hit(f, "left redzone", (u8 *)f->skb - 8, SLUB_RED_ACTIVE);
}

static int redzone_head(struct lab_fault *f)
{
	lab_object(f, f->skb->head);
	lab_object(f, f->skb);
	return hit(f, "right redzone", f->skb->head + ksize(f->skb->head), SLUB_RED_ACTIVE);
}

/* Written to after it was freed; the queue's sk_buff in the same slab is sound. */
static int poison_hit(struct lab_fault *f)
{
	kfree_skb(f->taken[0]);
	lab_object(f, f->taken[0]);
	return hit(f, "poison", (u8 *)f->taken[0] + 0x40, POISON_FREE);
}

#define AFTER_FREE	"skb.headers shinfo.overrun " LAB_AFTER_OVERRUN

const struct lab_kind lab_slab_kinds[] = {
	{ "overrun-from-object", "shinfo.overrun", LAB_AFTER_OVERRUN, overrun_from_object, take_head_before },
	{ "overrun-from-skb", "queue.link skb.address", "skb.sk", overrun_from_skb, take_skb_before },
	{ "skb-freed", "skb.freed", NULL, skb_freed, take_none },
	{ "head-freed", "head.buffer", AFTER_FREE, head_freed },
	{ "freelist-wild", "slab.freelist", NULL, freelist_wild, take_one },
	{ "freed-twice", "slab.freelist", NULL, freed_twice, take_two },
	{ "redzone-right", "slab.redzone", NULL, redzone_right },
	{ "redzone-left", "slab.redzone", NULL, redzone_left },
	{ "redzone-head", "slab.redzone", NULL, redzone_head },
	{ "poison-hit", "slab.poison", NULL, poison_hit, take_one },
	{ }
};

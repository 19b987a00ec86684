// SPDX-License-Identifier: GPL-2.0
/* What a driver does wrong with memory, and what others then die of. */
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/skbuff.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "rogue.h"

#define RECORD		29	/* bytes of an entry in the driver's table */
#define TABLE		1000	/* bytes that were asked for */
#define OBJECTS		256

struct rogue_state {
	int users;
	struct rogue_state *peer;
	struct list_head list;
};

static struct timer_list rogue_timer;
static struct work_struct rogue_work;
static void *rogue_stale[4];

/* A device that still has the addresses of buffers which were freed. */
static rogue_frame void rogue_dma(struct timer_list *timer)
{
	static const u8 frame[64] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x52, 0x54, 0, 0x65, 0x43, 0x21, 8, 0, 0x45, 0 };
	unsigned int i, at;

	for (i = 0; i < ARRAY_SIZE(rogue_stale); i++)
		for (at = 64; at + sizeof(frame) <= 1600; at += sizeof(frame))
			memcpy(rogue_stale[i] + at, frame, sizeof(frame));
}

/*
 * The last `count` objects of `size` bytes that the CPU hands out, all of the slab that it has; those before are lost.
 * Freed, they are the first to be handed out again.
 */
static void rogue_take(void **objects, unsigned int count, size_t size)
{
	unsigned int i, found = 0;

	for (i = 0; i < OBJECTS && found < count; i++) {
		void *object = kmalloc(size, GFP_KERNEL);

		if (found && virt_to_head_page(object) != virt_to_head_page(objects[0]))
			found = 0;
		objects[found++] = object;
	}
}

static int rogue_start_stale(void)
{
	unsigned int i;

	rogue_take(rogue_stale, ARRAY_SIZE(rogue_stale), 2048);
	for (i = 0; i < ARRAY_SIZE(rogue_stale); i++)
		kfree(rogue_stale[i]);
	timer_setup(&rogue_timer, rogue_dma, 0);
	mod_timer(&rogue_timer, jiffies + 2);
	return 0;
}

static rogue_frame void rogue_reset(struct rogue_state *state)
{
	/* The peer is gone since the link went down. */
	WRITE_ONCE(state->peer->users, 0);
	state->users--;
}

static rogue_frame void rogue_service(struct work_struct *work)
{
	struct rogue_state state = { .users = 1 };

	rogue_reset(&state);
	pr_info("rogue: %d users\n", state.users);
}

static int rogue_start_work(void)
{
	INIT_WORK(&rogue_work, rogue_service);
	schedule_work(&rogue_work);
	return 0;
}

static rogue_frame void rogue_fill(u8 *table, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		u8 *record = table + i * RECORD;

		memset(record, 0, RECORD);
		record[0] = 0xa5;
		record[1] = i;
		record[2] = i >> 8;
		memcpy(record + 4, "\x52\x54\x00\x77\x10", 5);
		record[9] = i * 3;
		record[12] = 0x40;
		memset(record + 16, 0x11 + i % 5, 8);
		record[28] = 0x7e;
	}
}

/*
 * A table of the driver beside the head of an sk_buff: both are made until one stands right before the other, which
 * needs heads from the cache of the table.
 */
static rogue_frame int rogue_neighbour(void)
{
	static void *tables[OBJECTS];
	static struct sk_buff *skbs[OBJECTS];
	unsigned int i, j, room = 1024;
	int err = -EAGAIN;

	for (i = 0; i < OBJECTS; i++) {
		tables[i] = kmalloc(TABLE, GFP_KERNEL);
		skbs[i] = alloc_skb(680, GFP_KERNEL);
		if (!tables[i] || !skbs[i])
			return -ENOMEM;
		skb_reserve(skbs[i], 64);
		memset(skb_put(skbs[i], 400), 0x33, 400);
	}
	for (i = 0; i < OBJECTS; i++)
		for (j = 0; j < OBJECTS; j++)
			if (tables[i] + room == skbs[j]->head) {
				rogue_fill(tables[i], (room + 1024 - 40) / RECORD);
				kfree_skb(skbs[j]);
				err = 0;
			}
	return err;
}

/* The free list of kmalloc-1k, led into kmalloc-128; mm/slub.c: freelist_ptr. */
static rogue_frame int rogue_freelist(void)
{
	void *taken[2], *foreign = kmalloc(128, GFP_KERNEL);
	unsigned long *at, key;
	unsigned int middle = 512;

	rogue_take(taken, ARRAY_SIZE(taken), 1024);
	memset(foreign, 0x41, 128);
	preempt_disable();
	kfree(taken[0]);
	kfree(taken[1]);
	at = taken[1] + middle;
	key = *at ^ (unsigned long)taken[0];	/* which hides the pointer */
	*at = key ^ (unsigned long)foreign;
	preempt_enable();
	return 0;
}

static rogue_frame int rogue_list(void)
{
	static LIST_HEAD(states);
	static struct rogue_state first, second;

	list_add_tail(&first.list, &states);
	list_add_tail(&second.list, &states);
	second.list.prev = &second.list;	/* initialized again while it was on the list */
	list_del(&second.list);
	return 0;
}

/* An entry that is cleared while it is on the list, as when its memory is handed out again; and one added twice. */
static rogue_frame int rogue_add(bool twice)
{
	static LIST_HEAD(states);
	static struct rogue_state first, second;

	list_add_tail(&first.list, &states);
	if (!twice)
		memset(&first, 0, sizeof(first));
	list_add_tail(twice ? &first.list : &second.list, &states);
	return first.users;
}

/* A reference is taken on what has none left. */
static rogue_frame int rogue_get(void)
{
	static refcount_t users = REFCOUNT_INIT(1);

	if (refcount_dec_and_test(&users))
		refcount_inc(&users);
	return refcount_read(&users);
}

int rogue_start(void)
{
	if (rogue_now("list-add"))
		return rogue_add(false);
	if (rogue_now("list-add-twice"))
		return rogue_add(true);
	if (rogue_now("get-dead"))
		return rogue_get();
	if (rogue_now("stale-write"))
		return rogue_start_stale();
	if (rogue_now("work-null"))
		return rogue_start_work();
	if (rogue_now("neighbour"))
		return rogue_neighbour();
	if (rogue_now("freelist-cross"))
		return rogue_freelist();
	if (rogue_now("list-del"))
		return rogue_list();
	return rogue_start_freed() ?: rogue_start_stuck();
}

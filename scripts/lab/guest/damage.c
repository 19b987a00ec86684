// SPDX-License-Identifier: GPL-2.0
/* The damage that scenarios plant.  Each kind leaves a "fault" record for the next publication. */
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "module.h"

#define P(pointer)	((unsigned long)(pointer))

struct target {
	const struct lab_damage *arg;
	struct sock *sk;
	struct sk_buff *skb;
	u8 *data;
};

/*
 * A copy that runs on past skb->end: the unused room between tail and end, and then arg->bytes of the
 * shared info behind it, get the bytes that would have come next in the payload.
 */
static int damage_overrun(const struct target *t)
{
	u8 *tail = skb_tail_pointer(t->skb), *end = skb_end_pointer(t->skb);
	struct skb_shared_info before = *skb_shinfo(t->skb);
	u32 i, room = end - tail, bytes = t->arg->bytes;
	struct lab_text note = { .size = LAB_NOTE_LEN };
	int err;

	if (!bytes || bytes > 128 || t->arg->data_len < room + bytes)
		return -EINVAL;
	note.buf = kzalloc(note.size, GFP_KERNEL);
	if (!note.buf)
		return -ENOMEM;
	for (i = 0; i < room + bytes; i++)
		tail[i] = t->data[i];
	lab_put(&note, "{\"r\":\"fault\",\"kind\":\"overrun\",\"sock\":\"0x%016lx\",\"label\":\"%s\",\"queue\":\"%s\",",
		P(t->sk), t->arg->label, t->arg->queue);
	lab_put(&note, "\"skb\":\"0x%016lx\",\"written_from\":\"0x%016lx\",\"first_damaged\":\"0x%016lx\",", P(t->skb),
		P(tail), P(end));
	lab_put(&note, "\"damaged_bytes\":%u,\"before\":{\"nr_frags\":%u,\"dataref\":%d,\"frag_list\":\"0x%016lx\"},", bytes,
		before.nr_frags, atomic_read(&before.dataref), P(before.frag_list));
	lab_put(&note, "\"bytes\":\"");
	for (i = 0; i < bytes; i++)
		lab_put(&note, "%02x", end[i]);
	lab_put(&note, "\"}");
	err = note.overflow ? -ENOSPC : lab_add_note(note.buf);
	kfree(note.buf);
	return err;
}

static const struct {
	const char *name;
	int (*plant)(const struct target *t);
} kinds[] = {
	{ "overrun", damage_overrun },
};

static int find_target(struct target *t)
{
	struct lab_entry *entry = lab_find_entry(t->arg->label);
	struct sk_buff_head *list;

	if (!entry)
		return -ENOENT;
	t->sk = entry->socket->sk;
	list = lab_find_list(t->sk, t->arg->queue);
	if (!list)
		return -EINVAL;
	t->skb = lab_find_skb(list, t->arg->index);
	return t->skb ? 0 : -ENOENT;
}

int lab_damage(const struct lab_damage *arg)
{
	struct target t = { .arg = arg };
	int i, err = find_target(&t);

	if (err)
		return err;
	if (arg->data_len) {
		t.data = memdup_user(u64_to_user_ptr(arg->data), arg->data_len);
		if (IS_ERR(t.data))
			return PTR_ERR(t.data);
	}
	err = -EINVAL;
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, arg->kind))
			err = kinds[i].plant(&t);
	kfree(t.data);
	return err;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Many faults in one dump.  Each is prepared before the publication, which shows its sk_buff still sound, and all are
 * planted after it, read back and published in a block of their own, from "begin-faults" to "end-faults".
 */
#include <linux/console.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/udp.h>

#include "faults.h"

#define P(pointer)	((unsigned long)(pointer))
#define POOL_SIZE	(64 << 10)
#define MAX_SHOWN	128	/* of a longer write the bytes are not published */

static struct lab_fault faults[LAB_MAX_FAULTS];
static int nr_faults;
/* What was overwritten, and with what: no memory is allocated while damage is about. */
static u8 pool[POOL_SIZE];
static size_t pool_used;

static u8 *keep(const void *bytes, size_t size)
{
	u8 *copy = pool + pool_used;

	if (size > POOL_SIZE - pool_used)
		return NULL;
	pool_used += size;
	return memcpy(copy, bytes, size);
}

void lab_write(struct lab_fault *fault, const char *member, void *at, const void *bytes, size_t size)
{
	struct lab_write *write = &fault->writes[fault->nr_writes];
	size_t i;

	if (fault->nr_writes == LAB_MAX_WRITES) {
		fault->failed = true;
		return;
	}
	*write = (struct lab_write){ member, at, size, keep(at, size), keep(bytes, size) };
	if (!write->before || !write->after) {
		fault->failed = true;
		return;
	}
	fault->nr_writes++;
	/* By hand: the checked memcpy() knows how large a member is, and this is about going beyond. */
	for (i = 0; i < size; i++)
		WRITE_ONCE(write->at[i], write->after[i]);
}

void lab_object(struct lab_fault *fault, const void *object)
{
	if (fault->nr_objects == LAB_MAX_OBJECTS)
		fault->failed = true;
	else
		fault->objects[fault->nr_objects++] = object;
}

void lab_also(struct lab_fault *fault, const char *rules, const void *object)
{
	if (!object)
		return;
	if (fault->nr_also == LAB_MAX_ALSO) {
		fault->failed = true;
		return;
	}
	fault->also[fault->nr_also].rules = rules;
	fault->also[fault->nr_also++].object = object;
}

void lab_take(struct lab_fault *fault, struct sk_buff *skb)
{
	if (fault->nr_taken == LAB_MAX_TAKEN) {
		fault->failed = true;
		return;
	}
	skb_unlink(skb, fault->list);
	skb_orphan(skb);
	fault->taken[fault->nr_taken++] = skb;
}

static const struct lab_kind *find_kind(const char *name)
{
	static const struct lab_kind *const tables[] = { lab_skb_kinds, lab_queue_kinds, lab_slab_kinds,
						       lab_net_kinds };
	const struct lab_kind *kind;
	int i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (kind = tables[i]; kind->name; kind++)
			if (!strcmp(kind->name, name))
				return kind;
	return NULL;
}

struct sk_buff_head *lab_find_list(struct sock *sk, const char *queue)
{
	if (!strcmp(queue, "write"))
		return &sk->sk_write_queue;
	if (!strcmp(queue, "receive"))
		return &sk->sk_receive_queue;
	if (!strcmp(queue, "error"))
		return &sk->sk_error_queue;
	if (!strcmp(queue, "reader"))
		return &udp_sk(sk)->reader_queue;
	return NULL;
}

struct sk_buff *lab_find_skb(struct sk_buff_head *list, int index)
{
	struct sk_buff *skb;

	if (index < 0)
		index += list->qlen;
	skb_queue_walk(list, skb)
		if (index-- == 0)
			return skb;
	return NULL;
}

int lab_fault_prepare(const struct lab_damage *arg)
{
	struct lab_fault *fault = &faults[nr_faults];
	struct lab_entry *entry = lab_find_entry(arg->label);

	if (nr_faults == LAB_MAX_FAULTS)
		return -ENOSPC;
	memset(fault, 0, sizeof(*fault));
	fault->kind = find_kind(arg->kind);
	if (!fault->kind)
		return -EINVAL;
	strscpy(fault->label, arg->label, sizeof(fault->label));
	strscpy(fault->queue, arg->queue, sizeof(fault->queue));
	fault->bytes = arg->bytes;
	if (entry) {
		fault->sk = entry->socket->sk;
		fault->list = lab_find_list(fault->sk, arg->queue);
	} else {
		fault->skb = lab_find_net_skb(arg->label, arg->queue, arg->index, &fault->head);
		if (!fault->skb)
			return -ENOENT;
	}
	if (fault->list) {
		fault->skb = lab_find_skb(fault->list, arg->index);
		if (!fault->skb)
			return -ENOENT;
	}
	if (arg->data_len) {
		fault->data = memdup_user(u64_to_user_ptr(arg->data), arg->data_len);
		if (IS_ERR(fault->data))
			return PTR_ERR(fault->data);
		fault->data_len = arg->data_len;
	}
	nr_faults++;
	return fault->kind->prepare ? fault->kind->prepare(fault) : 0;
}

static int plant(struct lab_fault *fault)
{
	int err = fault->kind->plant(fault);

	if (err)
		return err;
	if (!fault->nr_objects && fault->skb)
		lab_object(fault, fault->skb);
	if (fault->kind->also && fault->skb)
		lab_also(fault, fault->kind->also, fault->skb);
	return fault->failed || !fault->nr_objects ? -ENOSPC : 0;
}

static bool is_there(const struct lab_fault *fault)
{
	int i;

	for (i = 0; i < fault->nr_writes; i++)
		if (memcmp(fault->writes[i].at, fault->writes[i].after, fault->writes[i].size))
			return false;
	return true;
}

static void put_bytes(struct lab_text *line, const char *key, const u8 *bytes, u32 size)
{
	u32 i;

	lab_put(line, ",\"%s\":\"", key);
	for (i = 0; i < size && size <= MAX_SHOWN; i++)
		lab_put(line, "%02x", bytes[i]);
	lab_put(line, "\"");
}

static int end_line(struct lab_text *line, int *lines)
{
	if (line->overflow)
		return -ENOSPC;
	pr_info("KDLAB %s\n", line->buf);
	++*lines;
	line->used = 0;
	/* Let the console keep up. */
	console_lock();
	console_unlock();
	return 0;
}

static int print_fault(const struct lab_fault *fault, struct lab_text *line, int number, int *lines)
{
	int i, err;

	lab_put(line, "{\"r\":\"planted\",\"fault\":%d,\"kind\":\"%s\",\"label\":\"%s\",\"queue\":\"%s\",", number,
		fault->kind->name, fault->label, fault->queue);
	lab_put(line, "\"sock\":\"0x%016lx\",\"skb\":\"0x%016lx\",\"rule\":\"%s\",\"objects\":[", P(fault->sk), P(fault->skb),
		fault->kind->rules);
	for (i = 0; i < fault->nr_objects; i++)
		lab_put(line, "%s\"0x%016lx\"", i ? "," : "", P(fault->objects[i]));
	lab_put(line, "]}");
	err = end_line(line, lines);
	for (i = 0; !err && i < fault->nr_writes; i++) {
		const struct lab_write *write = &fault->writes[i];

		lab_put(line, "{\"r\":\"planted_write\",\"fault\":%d,\"member\":\"%s\",\"address\":\"0x%016lx\",\"size\":%u",
			number, write->member, P(write->at), write->size);
		put_bytes(line, "before", write->before, write->size);
		put_bytes(line, "after", write->after, write->size);
		lab_put(line, "}");
		err = end_line(line, lines);
	}
	for (i = 0; !err && i < fault->nr_also; i++) {
		lab_put(line, "{\"r\":\"planted_also\",\"fault\":%d,\"rules\":\"%s\",\"object\":\"0x%016lx\"}", number,
			fault->also[i].rules, P(fault->also[i].object));
		err = end_line(line, lines);
	}
	return err;
}

int lab_fault_plant(void)
{
	static char text[LAB_NOTE_LEN];
	struct lab_text line = { .buf = text, .size = sizeof(text) };
	int i, lines = 0, err = 0;

	for (i = 0; i < nr_faults; i++) {
		err = plant(&faults[i]);
		if (err) {
			pr_err("lab: fault %s on %s: %d\n", faults[i].kind->name, faults[i].label, err);
			return err;
		}
	}
	pr_info("KDLAB {\"r\":\"begin-faults\"}\n");
	for (i = 0; !err && i < nr_faults; i++)
		err = print_fault(&faults[i], &line, i, &lines);
	/* All at the end: no fault may have undone another. */
	for (i = 0; !err && i < nr_faults; i++)
		if (!is_there(&faults[i])) {
			pr_err("lab: fault %s on %s did not stay\n", faults[i].kind->name, faults[i].label);
			err = -EIO;
		}
	if (!err)
		pr_info("KDLAB {\"r\":\"end-faults\",\"lines\":%d}\n", lines);
	return err;
}

/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KDUMP_LAB_FAULTS_H
#define KDUMP_LAB_FAULTS_H

#include "module.h"

#define LAB_MAX_FAULTS	128
#define LAB_MAX_WRITES	8
#define LAB_MAX_OBJECTS	4
#define LAB_MAX_ALSO	8
#define LAB_MAX_TAKEN	2

#define LAB_WILD	0x5a5a5a5a5a5a5a58UL	/* no canonical address, a multiple of 8 */

struct lab_fault;

/* A kind of damage, and who must notice it. */
struct lab_kind {
	const char *name;
	const char *rules;	/* any of these is right on the fault's objects; the first is the best */
	const char *also;	/* these may be broken as well, on the same sk_buff */
	int (*plant)(struct lab_fault *fault);
	int (*prepare)(struct lab_fault *fault);	/* before the publication, where given */
};

/* Bytes that were changed; both copies are in memory order. */
struct lab_write {
	const char *member;
	u8 *at;
	u32 size;
	u8 *before, *after;
};

struct lab_fault {
	const struct lab_kind *kind;
	char label[LAB_NAME_LEN];
	char queue[LAB_NAME_LEN];
	struct sock *sk;
	struct sk_buff_head *list;	/* NULL where the queue is none */
	const void *head;		/* of a queue that is no socket's, which then is NULL */
	struct sk_buff *skb;		/* NULL where the queue is no list, until it is planted */
	struct sk_buff *taken[LAB_MAX_TAKEN];	/* off the queue before the publication, but not freed */
	int nr_taken;
	struct sk_buff *other;	/* of another queue, where a kind needs one */
	u8 *data;
	u32 data_len, bytes;

	/* Results. */
	const void *objects[LAB_MAX_OBJECTS];	/* any of these may be named; the first is the best */
	int nr_objects;
	struct lab_write writes[LAB_MAX_WRITES];
	int nr_writes;
	struct {
		const char *rules;
		const void *object;
	} also[LAB_MAX_ALSO];
	int nr_also;
	bool failed;
};

/* Writes size bytes and notes what was there before. */
void lab_write(struct lab_fault *fault, const char *member, void *at, const void *bytes, size_t size);

/* Takes an sk_buff off the queue, uncharged but not freed: nothing else can get its memory. */
void lab_take(struct lab_fault *fault, struct sk_buff *skb);

/* A finding on object is right. */
void lab_object(struct lab_fault *fault, const void *object);

/* Findings of these rules ("*": of any) on object, which may be NULL, are consequences. */
void lab_also(struct lab_fault *fault, const char *rules, const void *object);

#define SET(fault, pointer, member, value) do {							\
	typeof((pointer)->member) __value = (typeof((pointer)->member))(value);			\
	lab_write(fault, #member, &(pointer)->member, &__value, sizeof(__value));		\
} while (0)

/* What else an overwritten shared info breaks. */
#define LAB_AFTER_OVERRUN \
	"shinfo.nr_frags shinfo.dataref shinfo.frag shinfo.frag_list shinfo.gso shinfo.tx_flags skb.len"

/* faults_*.c: one table per subject, each closed by an empty entry */
extern const struct lab_kind lab_skb_kinds[], lab_queue_kinds[], lab_slab_kinds[], lab_net_kinds[];

#endif

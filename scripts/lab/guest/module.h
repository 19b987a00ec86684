/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KDUMP_LAB_MODULE_H
#define KDUMP_LAB_MODULE_H

#include <linux/net.h>
#include <linux/skbuff.h>
#include <net/sock.h>

#include "kdump_lab.h"

#define LAB_MAX_SOCKS	256

/* A socket that the loader handed over; its file stays referenced, so it cannot go away. */
struct lab_entry {
	struct socket *socket;
	bool held;
	char label[LAB_NAME_LEN];
};

/* Records under construction: lines of text in one buffer. */
struct lab_text {
	char *buf;
	size_t size;
	size_t used;
	bool overflow;
	bool busy;	/* a socket was in use while it was read */
};

extern struct lab_entry lab_entries[LAB_MAX_SOCKS];
extern int lab_nr_entries;

struct lab_entry *lab_find_entry(const char *label);

/* publish.c */
__printf(2, 3) void lab_put(struct lab_text *text, const char *fmt, ...);
int lab_add_note(const char *line);
int lab_publish(void);
void lab_put_skb(struct lab_text *text, const struct sk_buff *skb, const void *place, int index);

/* netqueues.c */
void lab_put_net_queues(struct lab_text *text);
struct sk_buff *lab_find_net_skb(const char *device, const char *name, int index, const void **head);

/* locks.c, hooks.c */
void lab_put_locks(struct lab_text *text);
void lab_put_hooks(struct lab_text *text);

/* damage.c */
int lab_damage(const struct lab_damage *damage);

/* faults.c */
int lab_fault_prepare(const struct lab_damage *damage);
int lab_fault_plant(void);
struct sk_buff_head *lab_find_list(struct sock *sk, const char *queue);	/* NULL for a name of none */
struct sk_buff *lab_find_skb(struct sk_buff_head *list, int index);	/* -1 is the last; NULL where there is none */

/*
 * A function that is a frame of its own, under its own name.  Each also has work left after its call, or the
 * compiler would make a jump of it.
 */
#define lab_frame	__attribute__((__noipa__))

/* What LAB_DO can do; one table per subject, each closed by an empty entry. */
struct lab_action {
	const char *name;
	int (*run)(int value);
};

extern const struct lab_action lab_crash_actions[], lab_spin_actions[], lab_wait_actions[], lab_net_actions[],
	lab_lock_actions[], lab_hook_actions[];

#endif

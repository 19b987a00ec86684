// SPDX-License-Identifier: GPL-2.0
/* Ways to crash in a system call, each a few functions deep. */
#include <linux/bug.h>
#include <linux/preempt.h>
#include <linux/slab.h>

#include "module.h"

struct lab_victim {
	u32 id;
	u32 depth;
	struct lab_victim *next;
	u64 value;
};

static struct lab_victim lab_first = { .id = 1, .depth = 3, .value = 0x1122334455667788 };

static lab_frame u64 lab_null_read(const struct lab_victim *victim, int index)
{
	return victim->value + index;
}

static lab_frame u64 lab_null_walk(const struct lab_victim *victim, int steps)
{
	u64 sum = 0;

	while (steps-- > 0) {
		sum += lab_null_read(victim, steps);
		victim = victim->next;
	}
	return sum;
}

static lab_frame int lab_null(int value)
{
	/* The first victim has no next one. */
	return lab_null_walk(&lab_first, 2 + value) != 0;
}

static lab_frame u32 lab_bug_check(const struct lab_victim *victim)
{
	BUG_ON(victim->depth > 2);
	return victim->depth;
}

static lab_frame u32 lab_bug_visit(const struct lab_victim *victim, u32 weight)
{
	return lab_bug_check(victim) * weight;
}

static lab_frame int lab_bug(int value)
{
	return lab_bug_visit(&lab_first, value) + 1;
}

static lab_frame u32 lab_warn_check(const struct lab_victim *victim)
{
	return WARN(victim->depth > 2, "lab: victim %u is too deep\n", victim->id) + victim->depth;
}

static lab_frame int lab_warn(int value)
{
	return lab_warn_check(&lab_first) + value;
}

static lab_frame u32 lab_divide_by(u32 number, u32 parts)
{
	return number / parts;
}

static lab_frame int lab_divide(int value)
{
	return lab_divide_by(lab_first.id, value) + 1;
}

/* Each call takes 200 bytes or so of the 16 KiB. */
static lab_frame u32 lab_overflow_deeper(u32 depth, u32 limit)
{
	volatile u8 room[128];

	room[depth % sizeof(room)] = depth;
	if (depth == limit)
		return 0;
	return lab_overflow_deeper(depth + 1, limit) + room[depth % sizeof(room)];
}

static lab_frame int lab_overflow(int value)
{
	return lab_overflow_deeper(value, U32_MAX) + 1;
}

static lab_frame u32 lab_lockup_spin(const struct lab_victim *victim)
{
	while (READ_ONCE(victim->depth))
		cpu_relax();
	return victim->id;
}

static lab_frame int lab_lockup(int value)
{
	u32 sum;

	preempt_disable();
	sum = lab_lockup_spin(&lab_first) + value;
	preempt_enable();
	return sum;
}

const struct lab_action lab_crash_actions[] = {
	{ "null", lab_null },		/* reads through a pointer that is NULL */
	{ "bug", lab_bug },
	{ "warn", lab_warn },
	{ "divide", lab_divide },	/* by the value */
	{ "overflow", lab_overflow },	/* recursion through the end of the stack */
	{ "lockup", lab_lockup },	/* spins with preemption off */
	{ }
};

// SPDX-License-Identifier: GPL-2.0
/* Tasks that spin in the module, and interrupts that hit them and spin or crash themselves. */
#include <linux/hrtimer.h>
#include <linux/irqflags.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/version.h>

#include "module.h"

/* How many CPUs spin where no interrupt but the NMI reaches them, or in an interrupt. */
static atomic_t lab_arrived = ATOMIC_INIT(0);
static bool lab_irqs_off, lab_never;

static lab_frame u32 lab_spin_for_ever(const char *where)
{
	atomic_inc(&lab_arrived);
	while (!READ_ONCE(lab_never))
		cpu_relax();
	return where[0];
}

/* Spins with interrupts on until the flag comes. */
static lab_frame u32 lab_spin_until(const bool *flag)
{
	u32 turns = 0;

	while (!READ_ONCE(*flag)) {
		cpu_relax();
		/* Or the soft lockup watchdog would bark. */
		if (need_resched())
			schedule();
		turns++;
	}
	return turns;
}

static lab_frame int lab_spin(int value)
{
	return lab_spin_until(&lab_never) + value;
}

static lab_frame int lab_spin_irqs_off(int value)
{
	unsigned long flags;

	value += lab_spin_until(&lab_irqs_off);
	local_irq_save(flags);
	value += lab_spin_for_ever("irqs-off");
	local_irq_restore(flags);
	return value;
}

static lab_frame void lab_await(int count)
{
	while (atomic_read(&lab_arrived) < count)
		cond_resched();
}

static lab_frame int lab_irqs_off_now(int value)
{
	WRITE_ONCE(lab_irqs_off, true);
	lab_await(value);
	return 0;
}

static DEFINE_SPINLOCK(lab_lock);

static lab_frame int lab_lock_hold(int value)
{
	spin_lock(&lab_lock);
	value += lab_spin_for_ever("lock");
	spin_unlock(&lab_lock);
	return value;
}

/* Like one who is about to sleep in an event's loop: with PREEMPT_RT that state is saved while the lock is waited for. */
static lab_frame int lab_lock_wait(int value)
{
	set_current_state(TASK_INTERRUPTIBLE);
	spin_lock(&lab_lock);
	value += lab_never;
	spin_unlock(&lab_lock);
	__set_current_state(TASK_RUNNING);
	return value;
}

static struct hrtimer lab_hrtimer;
static struct timer_list lab_timer;

static lab_frame enum hrtimer_restart lab_hardirq_handler(struct hrtimer *timer)
{
	return lab_spin_for_ever("hardirq") && timer ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

static void lab_hardirq_arm(void *unused)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&lab_hrtimer, lab_hardirq_handler, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
#else
	hrtimer_init(&lab_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	lab_hrtimer.function = lab_hardirq_handler;
#endif
	hrtimer_start(&lab_hrtimer, ms_to_ktime(5), HRTIMER_MODE_REL_PINNED_HARD);
}

static int lab_hardirq(int cpu)
{
	int before = atomic_read(&lab_arrived), err = smp_call_function_single(cpu, lab_hardirq_arm, NULL, 1);

	if (!err)
		lab_await(before + 1);
	return err;
}

static lab_frame void lab_softirq_handler(struct timer_list *timer)
{
	timer->expires += lab_spin_for_ever("softirq");
}

static lab_frame u32 lab_softirq_check(const struct timer_list *timer)
{
	BUG_ON(timer == &lab_timer);
	return timer->flags;
}

static lab_frame void lab_softirq_bug_handler(struct timer_list *timer)
{
	timer->expires += lab_softirq_check(timer);
}

static int lab_softirq_start(int cpu, void (*handler)(struct timer_list *timer))
{
	int before = atomic_read(&lab_arrived);

	timer_setup(&lab_timer, handler, TIMER_PINNED);
	lab_timer.expires = jiffies + 2;
	add_timer_on(&lab_timer, cpu);
	lab_await(before + 1);
	return 0;
}

static int lab_softirq(int cpu)
{
	return lab_softirq_start(cpu, lab_softirq_handler);
}

static int lab_softirq_bug(int cpu)
{
	return lab_softirq_start(cpu, lab_softirq_bug_handler);
}

const struct lab_action lab_spin_actions[] = {
	{ "spin", lab_spin },				/* interrupts and preemption on */
	{ "spin-irqs-off", lab_spin_irqs_off },		/* the same until "irqs-off-now", then with interrupts off */
	{ "irqs-off-now", lab_irqs_off_now },		/* value: how many CPUs there must be in the end */
	{ "lock-hold", lab_lock_hold },			/* spins with a spinlock */
	{ "lock-wait", lab_lock_wait },			/* waits for that lock, which with PREEMPT_RT is to sleep */
	{ "hardirq", lab_hardirq },			/* value: a CPU, where a timer's hard interrupt spins from now on */
	{ "softirq", lab_softirq },			/* value: a CPU, where a timer's soft interrupt spins from now on */
	{ "softirq-bug", lab_softirq_bug },		/* value: a CPU, where a timer's soft interrupt meets BUG() */
	{ }
};

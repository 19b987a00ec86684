// SPDX-License-Identifier: GPL-2.0
/* Tasks that sleep in the module: system calls, kernel threads and a workqueue's worker. */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "module.h"

static DECLARE_WAIT_QUEUE_HEAD(lab_queue);
static DECLARE_COMPLETION(lab_completion);
static DEFINE_MUTEX(lab_taken);
static bool lab_never;

struct lab_way {
	const char *name;
	int (*sleep)(int value);
};

static lab_frame int lab_wait_event(int value)
{
	return wait_event_interruptible(lab_queue, READ_ONCE(lab_never)) + value;
}

static lab_frame int lab_wait_event_d(int value)
{
	wait_event(lab_queue, READ_ONCE(lab_never));
	return value;
}

static lab_frame int lab_wait_killable(int value)
{
	return wait_event_killable(lab_queue, READ_ONCE(lab_never)) + value;
}

static lab_frame int lab_wait_done(int value)
{
	wait_for_completion(&lab_completion);
	return value;
}

/* The first to come holds it while it sleeps, all others wait for it. */
static lab_frame int lab_wait_mutex(int value)
{
	mutex_lock(&lab_taken);
	value += lab_wait_event_d(value);
	mutex_unlock(&lab_taken);
	return value;
}

static lab_frame int lab_wait_msleep(int value)
{
	msleep(100000000);
	return value;
}

static const struct lab_way lab_ways[] = {
	{ "event", lab_wait_event },
	{ "event-d", lab_wait_event_d },
	{ "killable", lab_wait_killable },
	{ "done", lab_wait_done },
	{ "mutex", lab_wait_mutex },
	{ "msleep", lab_wait_msleep },
};

static lab_frame int lab_wait_inner(const struct lab_way *way, int depth)
{
	return way->sleep(depth) + depth;
}

static lab_frame int lab_wait_outer(const struct lab_way *way, int depth)
{
	return lab_wait_inner(way, depth + 1) + depth;
}

/* value: an index of lab_ways. */
static lab_frame int lab_wait(int value)
{
	if (value < 0 || value >= ARRAY_SIZE(lab_ways))
		return -EINVAL;
	return lab_wait_outer(&lab_ways[value], 1) + 1;
}

static lab_frame int lab_kthread(void *data)
{
	return lab_wait_outer(data, 1) + 1;
}

static int lab_kthreads(int value)
{
	struct task_struct *task;
	int i;

	for (i = 0; i < value * ARRAY_SIZE(lab_ways); i++) {
		const struct lab_way *way = &lab_ways[i % ARRAY_SIZE(lab_ways)];

		task = kthread_run(lab_kthread, (void *)way, "lab-k-%s", way->name);
		if (IS_ERR(task))
			return PTR_ERR(task);
	}
	return 0;
}

static lab_frame void lab_work_handler(struct work_struct *work)
{
	work->data.counter += lab_wait_outer(&lab_ways[0], 1);
}

static DECLARE_WORK(lab_work, lab_work_handler);

static int lab_start_work(int value)
{
	return queue_work(system_unbound_wq, &lab_work) ? 0 : -EBUSY;
}

const struct lab_action lab_wait_actions[] = {
	{ "wait", lab_wait },
	{ "kthreads", lab_kthreads },	/* value: how many kernel threads for each of the ways */
	{ "work", lab_start_work },	/* a work item that sleeps */
	{ }
};

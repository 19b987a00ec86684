// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks that wait for locks which others hold for ever: two that wait for each other, a chain, readers and a writer.
 *
 * Each task says what it holds and what it is about to wait for; that, and not the locks themselves, is published.
 */
#include <linux/mutex.h>
#include <linux/rtnetlink.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/semaphore.h>
#include <linux/wait.h>

#include "module.h"

#define MAX_USERS	32

struct lock_user {
	pid_t pid;
	const char *lock;	/* its name */
	const void *address;	/* NULL where the module cannot know it: rtnl_mutex */
	bool holds;
	u64 since;		/* local_clock() */
};

static struct lock_user users[MAX_USERS];
static atomic_t nr_users = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(lab_for_ever);
static DEFINE_MUTEX(lab_left);
static DEFINE_MUTEX(lab_right);
static DEFINE_MUTEX(lab_chained);
static DECLARE_RWSEM(lab_rwsem);
static struct semaphore lab_semaphore = __SEMAPHORE_INITIALIZER(lab_semaphore, 1);
static bool lab_is_over;

static void note_user(const char *lock, const void *address, bool holds)
{
	int number = atomic_inc_return(&nr_users) - 1;

	if (number < MAX_USERS)
		users[number] = (struct lock_user){ current->pid, lock, address, holds, local_clock() };
}

static lab_frame int sleep_for_ever(int value)
{
	wait_event_interruptible(lab_for_ever, READ_ONCE(lab_is_over));
	return value;
}

static bool both_are_held(void)
{
	return mutex_is_locked(&lab_left) && mutex_is_locked(&lab_right);
}

/* value: 0 takes the left one first, 1 the right one. */
static lab_frame int lab_abba(int value)
{
	struct mutex *locks[] = { &lab_left, &lab_right };
	const char *names[] = { "lab_left", "lab_right" };

	mutex_lock(locks[value & 1]);
	note_user(names[value & 1], locks[value & 1], true);
	while (!both_are_held())
		schedule_timeout_uninterruptible(1);
	note_user(names[!(value & 1)], locks[!(value & 1)], false);
	mutex_lock_nested(locks[!(value & 1)], SINGLE_DEPTH_NESTING);
	return value;
}

static lab_frame int lab_rtnl_hold(int value)
{
	rtnl_lock();
	note_user("rtnl_mutex", NULL, true);
	value += sleep_for_ever(value);
	rtnl_unlock();
	return value;
}

static lab_frame int lab_rtnl_wait(int value)
{
	note_user("rtnl_mutex", NULL, false);
	rtnl_lock();
	return value;
}

/* Holds one lock while it waits for rtnl_mutex. */
static lab_frame int lab_chain_middle(int value)
{
	mutex_lock(&lab_chained);
	note_user("lab_chained", &lab_chained, true);
	return lab_rtnl_wait(value) + value;
}

/* A signal could end it: its state is S. */
static lab_frame int lab_chain_end(int value)
{
	note_user("lab_chained", &lab_chained, false);
	return mutex_lock_interruptible(&lab_chained) + value;
}

static lab_frame int lab_rwsem_hold(int value)
{
	down_write(&lab_rwsem);
	note_user("lab_rwsem", &lab_rwsem, true);
	return sleep_for_ever(value) + value;
}

static lab_frame int lab_rwsem_read(int value)
{
	note_user("lab_rwsem", &lab_rwsem, false);
	down_read(&lab_rwsem);
	return value;
}

static lab_frame int lab_rwsem_write(int value)
{
	note_user("lab_rwsem", &lab_rwsem, false);
	down_write(&lab_rwsem);
	return value;
}

static lab_frame int lab_semaphore_hold(int value)
{
	down(&lab_semaphore);
	return sleep_for_ever(value) + value;
}

static lab_frame int lab_semaphore_wait(int value)
{
	note_user("lab_semaphore", &lab_semaphore, false);
	down(&lab_semaphore);
	return value;
}

/* Publishes who holds and who waits. */
void lab_put_locks(struct lab_text *text)
{
	int i, count = min(atomic_read(&nr_users), MAX_USERS);

	for (i = 0; i < count; i++) {
		lab_put(text, "{\"r\":\"lock_user\",\"pid\":%d,\"lock\":\"%s\",\"address\":\"0x%016lx\",", users[i].pid,
			users[i].lock, (unsigned long)users[i].address);
		lab_put(text, "\"holds\":%d,\"since\":%llu}\n", users[i].holds, users[i].since);
	}
}

const struct lab_action lab_lock_actions[] = {
	{ "abba", lab_abba },			/* value: 0 or 1, which of two mutexes first; both tasks wait for ever */
	{ "rtnl-hold", lab_rtnl_hold },
	{ "rtnl-wait", lab_rtnl_wait },
	{ "chain-middle", lab_chain_middle },	/* holds a mutex and waits for rtnl_mutex */
	{ "chain-end", lab_chain_end },		/* waits for that mutex, interruptibly */
	{ "rwsem-hold", lab_rwsem_hold },	/* as a writer */
	{ "rwsem-read", lab_rwsem_read },
	{ "rwsem-write", lab_rwsem_write },
	{ "semaphore-hold", lab_semaphore_hold },
	{ "semaphore-wait", lab_semaphore_wait },
	{ }
};

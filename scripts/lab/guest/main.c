// SPDX-License-Identifier: GPL-2.0
/*
 * kdump_lab: publishes the kernel's own view of chosen sockets, skbs and tasks through printk,
 * and damages skbs on request.  For a guest that is about to crash; never for a real machine.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "module.h"

struct lab_entry lab_entries[LAB_MAX_SOCKS];
int lab_nr_entries;
static DEFINE_MUTEX(lab_mutex);

struct lab_entry *lab_find_entry(const char *label)
{
	int i;

	for (i = 0; i < lab_nr_entries; i++)
		if (!strcmp(lab_entries[i].label, label))
			return &lab_entries[i];
	return NULL;
}

static int lab_add_sock(const struct lab_sock *arg)
{
	struct lab_entry *entry = &lab_entries[lab_nr_entries];
	int err = 0;

	if (lab_nr_entries == LAB_MAX_SOCKS)
		return -ENOSPC;
	if (lab_find_entry(arg->label))
		return -EEXIST;
	/* The reference is kept on purpose: the socket must outlive its loader. */
	entry->socket = sockfd_lookup(arg->fd, &err);
	if (!entry->socket)
		return err;
	strscpy(entry->label, arg->label, sizeof(entry->label));
	lab_nr_entries++;
	return 0;
}

static int lab_hold(const struct lab_sock *arg)
{
	struct lab_entry *entry = lab_find_entry(arg->label);

	if (!entry)
		return -ENOENT;
	lock_sock(entry->socket->sk);
	entry->held = true;
	return 0;
}

static long lab_run(unsigned int cmd, void *arg)
{
	struct lab_sock *sock = arg;
	struct lab_note *note = arg;
	struct lab_damage *damage = arg;

	switch (cmd) {
	case LAB_SOCK:
		sock->label[LAB_NAME_LEN - 1] = 0;
		return lab_add_sock(sock);
	case LAB_HOLD:
		sock->label[LAB_NAME_LEN - 1] = 0;
		return lab_hold(sock);
	case LAB_NOTE:
		note->text[LAB_NOTE_LEN - 1] = 0;
		return lab_add_note(note->text);
	case LAB_DAMAGE:
	case LAB_FAULT:
		damage->kind[LAB_NAME_LEN - 1] = 0;
		damage->label[LAB_NAME_LEN - 1] = 0;
		damage->queue[LAB_NAME_LEN - 1] = 0;
		return cmd == LAB_FAULT ? lab_fault_prepare(damage) : lab_damage(damage);
	case LAB_PLANT:
		return lab_fault_plant();
	case LAB_PUBLISH:
		return lab_publish();
	}
	return -ENOTTY;
}

static int lab_do(struct lab_do *arg)
{
	static const struct lab_action *const tables[] = { lab_crash_actions, lab_spin_actions, lab_wait_actions,
							lab_net_actions, lab_lock_actions,
							lab_hook_actions };
	const struct lab_action *action;
	int i;

	arg->action[LAB_NAME_LEN - 1] = 0;
	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (action = tables[i]; action->name; action++)
			if (!strcmp(action->name, arg->action))
				return action->run(arg->value);
	return -EINVAL;
}

static long lab_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	size_t size = _IOC_DIR(cmd) & _IOC_WRITE ? _IOC_SIZE(cmd) : 0;
	void *arg = NULL;
	long ret;

	if (size) {
		arg = memdup_user((void __user *)user, size);
		if (IS_ERR(arg))
			return PTR_ERR(arg);
	}
	if (cmd == LAB_DO) {
		ret = lab_do(arg);
	} else {
		mutex_lock(&lab_mutex);
		ret = lab_run(cmd, arg);
		mutex_unlock(&lab_mutex);
	}
	kfree(arg);
	return ret;
}

static const struct file_operations lab_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = lab_ioctl,
};

static struct miscdevice lab_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kdump_lab",
	.fops = &lab_fops,
};

module_misc_device(lab_device);
MODULE_DESCRIPTION("Ground truth and planted damage for kdump tests");
MODULE_LICENSE("GPL");

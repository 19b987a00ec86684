/* SPDX-License-Identifier: GPL-2.0 */
/* What the loader program and the module say to each other over /dev/kdump_lab. */
#ifndef KDUMP_LAB_H
#define KDUMP_LAB_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LAB_NAME_LEN	32
#define LAB_NOTE_LEN	880	/* a printk line holds 1 KiB less its prefix */

/* From now on publish the socket behind fd under this label. */
struct lab_sock {
	__s32 fd;
	char label[LAB_NAME_LEN];
};

/* One complete JSON record to be published as it is. */
struct lab_note {
	char text[LAB_NOTE_LEN];
};

/* Damage one skb of one queue of a labelled socket. */
struct lab_damage {
	char kind[LAB_NAME_LEN];	/* a name from the module's table */
	char label[LAB_NAME_LEN];
	char queue[LAB_NAME_LEN];	/* "write", "receive", "error", "reader"; for a fault also one that is no list */
	__s32 index;			/* from the front, or from the back when negative: -1 is the last */
	__u32 bytes;			/* how much is written past the end */
	__u64 data;			/* user pointer: the bytes the kernel would have copied next */
	__u32 data_len;
	__u32 pad;
};

/* Do something that does not come back: crash, spin, sleep. */
struct lab_do {
	char action[LAB_NAME_LEN];	/* a name from one of the module's tables */
	__s32 value;
};

#define LAB_SOCK	_IOW('k', 1, struct lab_sock)
#define LAB_NOTE	_IOW('k', 2, struct lab_note)
#define LAB_DAMAGE	_IOW('k', 3, struct lab_damage)
#define LAB_HOLD	_IOW('k', 4, struct lab_sock)	/* own the socket for ever: its input goes to the backlog */
#define LAB_PUBLISH	_IO('k', 5)
#define LAB_DO		_IOW('k', 6, struct lab_do)
#define LAB_FAULT	_IOW('k', 7, struct lab_damage)	/* get a fault ready */
#define LAB_PLANT	_IO('k', 8)			/* plant all that are ready and publish them */

#endif

// SPDX-License-Identifier: GPL-2.0
/* Many faults in one dump: prepared one by one before the publication, planted all together after it. */
#include <stdio.h>
#include <stdlib.h>

#include "load.h"

#define AHEAD	4096	/* more than any linear skb buffer here has room for */

static void run_fault(int argc, char **argv)
{
	struct lab_damage damage = { .index = number(argv[4]) };
	char *ahead = NULL;

	snprintf(damage.kind, sizeof(damage.kind), "%s", argv[1]);
	snprintf(damage.label, sizeof(damage.label), "%s", argv[2]);
	snprintf(damage.queue, sizeof(damage.queue), "%s", argv[3]);
	if (argc > 5)
		damage.bytes = (unsigned int)number(argv[5]);
	if (argc > 6) {
		ahead = malloc(AHEAD);
		if (!ahead)
			die("malloc");
		payload(ahead, AHEAD, (size_t)number(argv[6]));
		damage.data = (unsigned long)ahead;
		damage.data_len = AHEAD;
	}
	prepare_fault(&damage);
	free(ahead);
}

static void run_plant(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	plant_faults();
}

static void run_hold(int argc, char **argv)
{
	(void)argc;
	hold_fd(argv[1], argv[2]);
}

const struct word plant_words[] = {
	/* fault KIND LABEL QUEUE INDEX [BYTES [POSITION]]: prepare; POSITION of the payload is what an overrun goes on with */
	{ "fault", 4, run_fault },
	{ "plant", 0, run_plant },	/* all faults, right before the crash */
	{ "hold", 2, run_hold },	/* hold NAME PART: no timer touches that socket any more */
	{ 0 },
};

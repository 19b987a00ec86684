/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>

#include "kdump_lab.h"

/* load.c */
_Noreturn __attribute__((format(printf, 1, 2))) void die(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void note(const char *fmt, ...);
int number(const char *word);
void pause_ms(int ms);
void publish_fd(int fd, const char *name, const char *part);
void hold_fd(const char *name, const char *part);
void plant(struct lab_damage *damage);
void prepare_fault(struct lab_damage *damage);
void plant_faults(void);
void module_do(const char *action, int value);
void stay_on_cpu(int cpu);
void write_file(const char *path, const char *value);

/* payload.c */
void payload(char *buf, size_t len, size_t position);

/* What a scenario's words run: argv[0] is the word itself. */
typedef void word_fn(int argc, char **argv);

struct word {
	const char *name;
	int min_args;	/* without the word itself */
	word_fn *run;
};

/* One table per subject, each closed by an empty entry. */
extern const struct word inet_words[], tcp_words[], other_words[], task_words[], stack_words[],
	plant_words[], net_words[], unusual_words[], rogue_words[], netns_words[], traced_words[];

/* inet.c */
int inet_socket(int family, int type, int port);
void inet_connect(int fd, int family, int port);
int family_of(const char *word);
int next_port(void);

/* tasks.c */
void sleep_poll(void);

/* odd.c: places to sleep that stack_words use; closed by an empty entry */
struct sleeper {
	const char *comm;
	void (*run)(void);
};

extern const struct sleeper odd_sleepers[];

#endif

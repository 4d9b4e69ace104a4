/* A line of fstab(5): what it says, and doing it. */
#ifndef INIT_SUPERVISOR_FSTAB_H
#define INIT_SUPERVISOR_FSTAB_H

#include <stdbool.h>

#include "lib/err.h"

struct fstab {
	const char *source, *target, *type; /* borrowed from the line */
	unsigned long flags, propagation;   /* the kernel's MS_* */
	char *data;                         /* the file system's own options; the caller frees it */
	bool noauto, nofail;
};

/* The next word of @s, its octal escapes ("\040") resolved, or "". */
char *fstab_word(char **s);

/*
 * Take @line apart, which is changed: SOURCE FOLDER TYPE [OPTIONS [DUMP PASS]]. -EINVAL; -EOPNOTSUPP: an option of
 * mount(8) that is more than a word to the kernel.
 */
int fstab_parse(char *line, struct fstab *f, struct err *e) MUST_CHECK;

/*
 * Mount it, the folder is made if need be; a disk may be still on its way for a few seconds.
 *
 * 1: it is mounted; 0: nothing is mounted that was not (a remount; "nofail", and there is no such disk).
 */
int fstab_mount(const struct fstab *f, struct err *e) MUST_CHECK;

#endif

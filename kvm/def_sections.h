/* Private to kvm/: the sections of a definition that may be given more than once, one for each device. */
#ifndef KVM_DEF_SECTIONS_H
#define KVM_DEF_SECTIONS_H

#include <stdlib.h>
#include <string.h>

#include "kvm/def.h"
#include "kvm/def_keys.h"

struct def_device {
	const char *name;
	const struct def_key *keys;
	size_t n_keys;
	/* A new one, with its defaults, called @name; its head is in @line. */
	void *(*add)(struct def *d, const char *name, unsigned line, struct err *e);
	/* What no single line shows of any of them. @line: out, the one to blame. */
	int (*check)(struct def *d, unsigned *line, struct err *e);
	void (*free)(struct def *d);
};
extern const struct def_device def_disks, def_nets;

/* Room for one more element of @size behind the @n at @arr, all zero. */
static inline void *def_grow(void *arr, size_t n, size_t size)
{
	char *p = realloc(arr, (n + 1) * size);

	if (p)
		memset(p + n * size, 0, size);
	return p;
}

#endif

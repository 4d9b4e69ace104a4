/* Owning memory and descriptors: freed or closed when the variable goes out of scope, unless taken. */
#ifndef LIB_OWN_H
#define LIB_OWN_H

#include <stdlib.h>
#include <unistd.h>

static inline void own_free(void *p)
{
	free(*(void **)p);
}

static inline void own_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define auto_free __attribute__((cleanup(own_free)))
#define auto_fd   __attribute__((cleanup(own_close)))

/* Transfer ownership of a descriptor: the variable becomes -1. */
static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* Transfer ownership of a pointer: the variable becomes NULL. */
#define take_ptr(pp)                                                                               \
	({                                                                                         \
		__typeof__(*(pp)) taken_ = *(pp);                                                  \
		*(pp) = NULL;                                                                      \
		taken_;                                                                            \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif

/* struct err, alone: it is installed with engine/fermata.h. */
#ifndef LIB_ERR_TYPE_H
#define LIB_ERR_TYPE_H

#define MUST_CHECK __attribute__((warn_unused_result))

/*
 * One failure. Lives on the caller's stack, has nothing to free and needs no memory to be filled, so it
 * still works when memory is what ran out. A function that can fail takes one last, never NULL, and
 * touches it only when it fails.
 */
struct err {
	int code;       /* negative errno */
	char msg[320];  /* "where: cannot do what: reason"; one phrase, no full stop, no newline */
	char hint[160]; /* what to do about it, or "" */
};

#endif

/*
 * Writes to stderr that never block, even if ^S has stopped the terminal or the pipe's reader sleeps: the guest may be
 * paused while we write.
 */
#ifndef LIB_SAY_H
#define LIB_SAY_H

#include <stddef.h>

/* Write now or drop it: for progress, which is useless later. */
void say_if_free(const char *p, size_t n);

/* Queue text and write what fits now. Order is kept, nothing is dropped; call say_rest() before exiting. */
void say(const char *p, size_t n);

/* Write the rest of the queue, waiting as long as it takes. */
void say_rest(void);

#endif

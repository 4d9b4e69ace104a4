/*
 * stderr, without ever waiting for who reads it: a terminal that ^S has stopped, a pipe whose reader sleeps. A guest may
 * stand while we speak.
 */
#ifndef LIB_SAY_H
#define LIB_SAY_H

#include <stddef.h>

/* Say it if that goes at once. What does not is of no use later: how far something is. */
void say_if_free(const char *p, size_t n);

/* Say it, at once or with what is said next, in order; nothing is lost but by say_rest() not being called. */
void say(const char *p, size_t n);

/* Wait until all of it is said. */
void say_rest(void);

#endif

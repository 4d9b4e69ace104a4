/* lib/lib.h */
#ifndef LIB_LIB_H
#define LIB_LIB_H

#include <stdbool.h>

/* ---- file.c ---- */

bool same_file(const char *a, const char *b);

#endif

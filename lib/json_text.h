/* Shared by lib/json*.c, private to them. */
#ifndef LIB_JSON_TEXT_H
#define LIB_JSON_TEXT_H

#include "lib/json.h"

/* Set -EPROTO: the JSON text from @start to @end is wrong at @p: @why, or "ends too early" if @p is the end. */
int json_bad(struct err *e, const char *start, const char *p, const char *end, const char *why);

/* Skip white space from @p on. */
const char *json_skip_blank(const char *p, const char *end);

/* Length of the UTF-8 sequence at @s, which has @left bytes left; 0 if it is invalid (RFC 3629, section 4). */
size_t json_utf8_len(const char *s, size_t left);

/* Length of the run at @s, @max at most, of printable ASCII that needs no escape: most strings have nothing else. */
size_t json_plain(const char *s, size_t max);

#endif

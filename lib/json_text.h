/* What lib/json*.c share: private to them. */
#ifndef LIB_JSON_TEXT_H
#define LIB_JSON_TEXT_H

#include "lib/json.h"

/* -EPROTO: the JSON text from @start to @end is wrong at @p for reason @why; where that is the end, it ends too early. */
int json_bad(struct err *e, const char *start, const char *p, const char *end, const char *why);

/* Past the blanks at @p. */
const char *json_skip_blank(const char *p, const char *end);

/* Length of the UTF-8 sequence at @s, of which @left bytes exist; 0 if it is none (RFC 3629, section 4). */
size_t json_utf8_len(const char *s, size_t left);

/* How many bytes from @s on, @max at most, stand in a string as they are: most of most strings, taken in one go. */
size_t json_plain(const char *s, size_t max);

#endif

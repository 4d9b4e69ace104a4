/* JSON: a strict parser for untrusted text, and a writer. RFC 8259. */
#ifndef LIB_JSON_H
#define LIB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

#define JSON_MAX_DEPTH 64

/*
 * One value. Children of arrays and objects are a list; strings are UTF-8, NUL-terminated, without inner NULs.
 * A number with a fraction or an exponent, or an integer beyond 64 bits, is JSON_REAL and keeps its text (s, len):
 * nobody computes with one, so it is never rounded.
 */
struct json {
	enum json_type type;
	bool big;        /* JSON_INT above INT64_MAX: read i as uint64_t */
	const char *key; /* member's name inside an object, else NULL */
	union {
		bool b;
		int64_t i;
		struct {
			const char *s;
			size_t len;
		};
		struct {
			struct json *child;
			size_t count;
		};
	};
	struct json *next;
};

struct json_doc; /* owns every node and string of one parsed text */

/*
 * Parse @len bytes of @text, which must be exactly one value with optional white space around it.
 *
 * @max_nodes: refuse more values than that (a bound on memory: each takes 40 bytes besides its strings)
 * @doc:       out; free with json_free(). Does not borrow @text.
 *
 * Nesting above JSON_MAX_DEPTH, a key given twice, an unpaired surrogate, a NUL inside a string or bytes that
 * are not UTF-8 are errors. -EPROTO with the byte offset; -EFBIG over @max_nodes; -ENOMEM.
 */
int json_parse(const char *text, size_t len, size_t max_nodes, struct json_doc **doc, struct err *e) MUST_CHECK;
const struct json *json_root(const struct json_doc *doc); /* NULL for NULL */
void json_free(struct json_doc *doc);                     /* NULL is fine */

static inline void json_freep(struct json_doc **d)
{
	json_free(*d);
}
#define auto_json __attribute__((cleanup(json_freep)))

/* Member @key of object @o, or NULL (also when @o is NULL or no object): calls can be nested. */
const struct json *json_get(const struct json *o, const char *key);

/* The value if it is there with that type, else the fallback. */
const char *json_str(const struct json *v, const char *fallback);
int64_t json_int(const struct json *v, int64_t fallback);    /* too big for int64_t gives the fallback */
uint64_t json_uint(const struct json *v, uint64_t fallback); /* negative numbers give the fallback */
bool json_bool(const struct json *v, bool fallback);

/* The same for a required member: -EPROTO names the member and the type that was found. */
int json_need(const struct json *o, const char *key, enum json_type type, const struct json **out,
	      struct err *e) MUST_CHECK;
int json_need_str(const struct json *o, const char *key, const char **out, struct err *e) MUST_CHECK;
int json_need_int(const struct json *o, const char *key, int64_t *out, struct err *e) MUST_CHECK;
int json_need_uint(const struct json *o, const char *key, uint64_t *out, struct err *e) MUST_CHECK;
int json_need_bool(const struct json *o, const char *key, bool *out, struct err *e) MUST_CHECK;

#define json_each(v, arr)                                                                          \
	for (const struct json *v = (arr) && ((arr)->type == JSON_ARRAY || (arr)->type == JSON_OBJECT) ? (arr)->child : NULL; v; \
	     v = v->next)

/*
 * Iterate over an array or object that is still text, without allocating: for texts too large to hold as nodes.
 * The caller parses each element by itself.
 *
 *	struct json_iter it = json_iter(text, len);
 *	while ((n = json_iter_next(&it, e)) > 0)
 *		... it.key (objects: raw, escapes not decoded), it.val ...
 *
 * 1: an element is in it.key and it.val; 0: no more elements; -EPROTO: @text is no array or object, or its
 * brackets, quotes or commas are wrong. The inside of @val is skipped unchecked: json_parse() checks it.
 */
struct json_span {
	const char *p;
	size_t len;
};

struct json_iter {
	const char *start, *p, *end;
	char close; /* the closing bracket; 0 before the first element */
	bool more;  /* an element was read: a comma must follow, or the end */
	struct json_span key, val;
};

struct json_iter json_iter(const char *text, size_t len);
int json_iter_next(struct json_iter *it, struct err *e) MUST_CHECK;
bool json_span_is(struct json_span s, const char *text);

/*
 * Writing: calls in document order; commas, quotes, escapes and (with @pretty) indentation are done here.
 * Inside an object every value is preceded by its key. A NULL key means "in an array or at the top".
 * Bytes that are not UTF-8 are written as U+FFFD. Running out of memory is recorded in the buffer: buf_check() at the end.
 */
struct json_out {
	struct buf *b;
	bool pretty; /* four blanks a level, as qemu-img prints */
	int depth;
	bool more;   /* this level has an element already */
};

void json_out_init(struct json_out *w, struct buf *b, bool pretty);
void json_obj(struct json_out *w, const char *key);
void json_obj_end(struct json_out *w);
void json_arr(struct json_out *w, const char *key);
void json_arr_end(struct json_out *w);
void json_put_str(struct json_out *w, const char *key, const char *s); /* NULL writes null */
void json_put_int(struct json_out *w, const char *key, int64_t v);
void json_put_uint(struct json_out *w, const char *key, uint64_t v);
void json_put_bool(struct json_out *w, const char *key, bool v);
void json_put_null(struct json_out *w, const char *key);
void json_put_raw(struct json_out *w, const char *key, const char *text); /* already JSON, not checked */
void json_put(struct json_out *w, const char *key, const struct json *v); /* a parsed value, whole */

#endif

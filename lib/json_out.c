/* struct json_out: see json.h. */
#include <inttypes.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/json_text.h"

void json_out_init(struct json_out *w, struct buf *b, bool pretty)
{
	*w = (struct json_out){ .b = b, .pretty = pretty };
}

static void put_newline(struct json_out *w)
{
	if (w->pretty)
		buf_addf(w->b, "\n%*s", w->depth * 4, "");
}

static void put_quoted(struct buf *b, const char *s)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	size_t left = strlen(s);

	buf_addc(b, '"');
	while (left) {
		size_t run = json_plain(s, left), n = run ? run : json_utf8_len(s, left), skip = n ? n : 1;
		const char *f = run ? NULL : strchr(from, *s);

		if (f)
			buf_add(b, (char[]){ '\\', to[f - from] }, 2);
		else if (!n)
			buf_adds(b, "\\ufffd");
		else if (!run && ((unsigned char)*s < ' ' || *s == 0x7f))
			buf_addf(b, "\\u%04x", (unsigned)*s);
		else if (n == 2 && (unsigned char)*s == 0xc2 && (unsigned char)s[1] < 0xa0) /* C1: terminals interpret these */
			buf_addf(b, "\\u%04x", (unsigned char)s[1]);
		else
			buf_add(b, s, n);
		s += skip;
		left -= skip;
	}
	buf_addc(b, '"');
}

/* Write what precedes a value: the comma, the line break, the key. */
static void put_value_prefix(struct json_out *w, const char *key)
{
	if (w->more)
		buf_adds(w->b, w->pretty ? "," : ", ");
	if (w->depth)
		put_newline(w);
	w->more = true;
	if (key) {
		put_quoted(w->b, key);
		buf_adds(w->b, ": ");
	}
}

static void json_open_level(struct json_out *w, const char *key, char c)
{
	put_value_prefix(w, key);
	buf_addc(w->b, c);
	w->depth++;
	w->more = false;
}

static void json_close_level(struct json_out *w, char c)
{
	w->depth--;
	put_newline(w);
	buf_addc(w->b, c);
	w->more = true;
}

void json_obj(struct json_out *w, const char *key)
{
	json_open_level(w, key, '{');
}

void json_obj_end(struct json_out *w)
{
	json_close_level(w, '}');
}

void json_arr(struct json_out *w, const char *key)
{
	json_open_level(w, key, '[');
}

void json_arr_end(struct json_out *w)
{
	json_close_level(w, ']');
}

void json_put_raw(struct json_out *w, const char *key, const char *text)
{
	put_value_prefix(w, key);
	buf_adds(w->b, text);
}

void json_put_str(struct json_out *w, const char *key, const char *s)
{
	if (!s) {
		json_put_null(w, key);
		return;
	}
	put_value_prefix(w, key);
	put_quoted(w->b, s);
}

void json_put_int(struct json_out *w, const char *key, int64_t v)
{
	put_value_prefix(w, key);
	buf_addf(w->b, "%" PRId64, v);
}

void json_put_uint(struct json_out *w, const char *key, uint64_t v)
{
	put_value_prefix(w, key);
	buf_addf(w->b, "%" PRIu64, v);
}

void json_put_bool(struct json_out *w, const char *key, bool v)
{
	json_put_raw(w, key, v ? "true" : "false");
}

void json_put_null(struct json_out *w, const char *key)
{
	json_put_raw(w, key, "null");
}

void json_put(struct json_out *w, const char *key, const struct json *v)
{
	switch (v->type) {
	case JSON_NULL:
		json_put_null(w, key);
		return;
	case JSON_BOOL:
		json_put_bool(w, key, v->b);
		return;
	case JSON_INT:
		if (v->big)
			json_put_uint(w, key, (uint64_t)v->i);
		else
			json_put_int(w, key, v->i);
		return;
	case JSON_REAL:
		json_put_raw(w, key, v->s);
		return;
	case JSON_STRING:
		json_put_str(w, key, v->s);
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		json_open_level(w, key, v->type == JSON_OBJECT ? '{' : '[');
		json_each(c, v) /* recursion is bounded by JSON_MAX_DEPTH */
			json_put(w, v->type == JSON_OBJECT ? c->key : NULL, c);
		json_close_level(w, v->type == JSON_OBJECT ? '}' : ']');
		return;
	}
}

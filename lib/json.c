#include "lib/json.h"

#include <string.h>

#include "lib/json_text.h"
#include "lib/own.h"

/* ---- the document: an arena, freed as a whole ---- */

#define CHUNK_MIN 512
#define CHUNK_MAX 65536

struct chunk {
	struct chunk *next;
	char data[];
};

struct json_doc {
	struct chunk *chunks;
	char *at, *end; /* free room in the newest chunk */
	size_t size;    /* of the newest chunk */
	struct json *root;
};

static void *doc_room(struct json_doc *d, size_t n)
{
	struct chunk *c;

	if (d->chunks && (size_t)(d->end - d->at) >= n)
		return d->at;
	d->size = d->size ? d->size * 2 : CHUNK_MIN;
	if (d->size > CHUNK_MAX)
		d->size = CHUNK_MAX;
	if (n > d->size)
		d->size = n;
	c = malloc(sizeof *c + d->size);
	if (!c)
		return NULL;
	c->next = d->chunks;
	d->chunks = c;
	d->at = c->data;
	d->end = c->data + d->size;
	return d->at;
}

const struct json *json_root(const struct json_doc *doc)
{
	return doc ? doc->root : NULL;
}

void json_free(struct json_doc *doc)
{
	struct chunk *next;

	if (!doc)
		return;
	for (struct chunk *c = doc->chunks; c; c = next) {
		next = c->next;
		free(c);
	}
	free(doc);
}

/* ---- parsing ---- */

struct reader {
	const char *start, *p, *end;
	size_t nodes_left;
	struct json_doc *doc;
	struct err *e;
};

static int json_bad_at(struct reader *r, const char *why)
{
	return json_bad(r->e, r->start, r->p, r->end, why);
}

static bool next_is(struct reader *r, char c)
{
	r->p = json_skip_blank(r->p, r->end);
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static char *utf8_put(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*out++ = (char)(0xe0 | c >> 12);
		} else {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (c & 0x3f));
	return out;
}

/* The four hexadecimal digits after "\u"; -1 if there are fewer. */
static int32_t hex4(struct reader *r)
{
	int32_t v = 0;

	for (int i = 0; i < 4; i++, r->p++) {
		char c = r->p < r->end ? *r->p : 0;

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v << 4 | ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return v;
}

/* Decode the escape after a backslash to *@out, and advance that. */
static int read_escape(struct reader *r, char **out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char c = r->p < r->end ? *r->p : 0;
	const char *f = c ? strchr(from, c) : NULL;
	int32_t hi, lo;

	if (f) {
		*(*out)++ = to[f - from];
		r->p++;
		return 0;
	}
	if (c != 'u')
		return json_bad_at(r, "unknown escape");
	r->p++;
	hi = hex4(r);
	if (hi < 0)
		return json_bad_at(r, "\\u needs four hexadecimal digits");
	if (hi == 0)
		return json_bad_at(r, "NUL inside a string");
	if (hi >= 0xd800 && hi < 0xe000) {
		if (hi >= 0xdc00 || r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
			return json_bad_at(r, "surrogate without its pair");
		r->p += 2;
		lo = hex4(r);
		if (lo < 0xdc00 || lo > 0xdfff)
			return json_bad_at(r, "surrogate without its pair");
		hi = 0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00);
	}
	*out = utf8_put(*out, (uint32_t)hi);
	return 0;
}

/* Parse a string behind its opening quote. Decoding never makes it longer, so its raw length is allocated. */
static int read_string(struct reader *r, const char **s, size_t *len)
{
	const char *q = r->p;
	char *out, *base;

	while (q < r->end && *q != '"')
		q += *q == '\\' && q + 1 < r->end ? 2 : 1;
	base = out = doc_room(r->doc, (size_t)(q - r->p) + 1);
	if (!out)
		return err_nomem(r->e, "read JSON");
	while (r->p < r->end && *r->p != '"') {
		size_t n = json_plain(r->p, (size_t)(r->end - r->p));

		n = n ? n : json_utf8_len(r->p, (size_t)(r->end - r->p));
		if (*r->p == '\\') {
			r->p++;
			if (read_escape(r, &out) < 0)
				return r->e->code;
			continue;
		}
		if ((unsigned char)*r->p < ' ')
			return json_bad_at(r, "control character inside a string");
		if (!n)
			return json_bad_at(r, "not UTF-8");
		memcpy(out, r->p, n);
		out += n;
		r->p += n;
	}
	if (r->p == r->end)
		return json_bad_at(r, "");
	r->p++;
	*out = '\0';
	*s = base;
	*len = (size_t)(out - base);
	r->doc->at = out + 1;
	return 0;
}

static bool skip_digits(struct reader *r)
{
	const char *was = r->p;

	while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
		r->p++;
	return r->p > was;
}

/* Convert the digits from @p to the reader's position; false if they do not fit 64 bits. */
static bool digits_to_int(struct reader *r, const char *p, struct json *v)
{
	bool neg = *p == '-';
	uint64_t u = 0;

	for (p += neg; p < r->p; p++)
		if (__builtin_mul_overflow(u, 10, &u) || __builtin_add_overflow(u, (uint64_t)(*p - '0'), &u))
			return false;
	if (neg && u > (uint64_t)INT64_MAX + 1)
		return false;
	v->type = JSON_INT;
	v->i = (int64_t)(neg ? -u : u);
	v->big = !neg && u > INT64_MAX;
	return true;
}

static int read_number(struct reader *r, struct json *v)
{
	const char *was = r->p;
	bool whole = true, ok;
	char *text;

	if (*r->p == '-')
		r->p++;
	if (r->p < r->end && *r->p == '0')
		ok = ++r->p;
	else
		ok = skip_digits(r);
	if (ok && r->p < r->end && *r->p == '.') {
		whole = false;
		r->p++;
		ok = skip_digits(r);
	}
	if (ok && r->p < r->end && (*r->p | 0x20) == 'e') {
		whole = false;
		r->p++;
		if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
			r->p++;
		ok = skip_digits(r);
	}
	if (!ok)
		return json_bad_at(r, "a digit is missing");
	if (whole && digits_to_int(r, was, v))
		return 0;
	v->type = JSON_REAL;
	v->len = (size_t)(r->p - was);
	v->s = text = doc_room(r->doc, v->len + 1);
	if (!text)
		return err_nomem(r->e, "read JSON");
	memcpy(text, was, v->len);
	text[v->len] = '\0';
	r->doc->at += v->len + 1;
	return 0;
}

static int cmp_keys(const void *a, const void *b)
{
	return strcmp((*(struct json *const *)a)->key, (*(struct json *const *)b)->key);
}

/* Refuse duplicate keys. Few members are compared pairwise; many are sorted, so a hostile object is not quadratic. */
static int check_keys(struct reader *r, const struct json *o)
{
	const struct json *few[8], *twice = NULL;
	auto_free const struct json **many = NULL;
	const struct json **k = few;
	size_t n = 0;

	if (o->count > ARRAY_SIZE(few)) {
		k = many = malloc(o->count * sizeof *many);
		if (!many)
			return err_nomem(r->e, "read JSON");
	}
	json_each(v, o)
		k[n++] = v;
	if (many)
		qsort(many, n, sizeof *many, cmp_keys);
	for (size_t i = 1; i < n && !twice; i++)
		for (size_t j = many ? i - 1 : 0; j < i && !twice; j++)
			if (!cmp_keys(&k[i], &k[j]))
				twice = k[i];
	if (!twice)
		return 0;
	return err_set(r->e, -EPROTO, "cannot read JSON: byte %zu: member '%s' appears twice in one object",
		       (size_t)(r->p - r->start), twice->key);
}

static int read_value(struct reader *r, int depth, struct json **out);

/* Parse an array or object behind its opening bracket. */
static int read_members(struct reader *r, int depth, struct json *v)
{
	bool object = v->type == JSON_OBJECT;
	char close = object ? '}' : ']';
	struct json **tail = &v->child;
	const char *key = NULL;
	size_t n;

	if (depth == JSON_MAX_DEPTH)
		return json_bad_at(r, "nested too deeply");
	if (next_is(r, close))
		return 0;
	do {
		if (object) {
			if (!next_is(r, '"'))
				return json_bad_at(r, "a member's name is missing");
			if (read_string(r, &key, &n) < 0)
				return r->e->code;
			if (!next_is(r, ':'))
				return json_bad_at(r, "':' is missing");
		}
		if (read_value(r, depth + 1, tail) < 0)
			return r->e->code;
		(*tail)->key = key;
		tail = &(*tail)->next;
		v->count++;
	} while (next_is(r, ','));
	if (!next_is(r, close))
		return json_bad_at(r, object ? "',' or '}' is missing" : "',' or ']' is missing");
	return object ? check_keys(r, v) : 0;
}

static struct json *new_node(struct reader *r)
{
	struct json *v = doc_room(r->doc, sizeof *v + _Alignof(struct json));
	uintptr_t gap;

	if (!v)
		return NULL;
	gap = -(uintptr_t)v % _Alignof(struct json); /* a string before it may end at any address */
	v = (struct json *)((char *)v + gap);
	r->doc->at = (char *)(v + 1);
	memset(v, 0, sizeof *v);
	return v;
}

static int read_value(struct reader *r, int depth, struct json **out)
{
	static const struct word {
		const char text[6];
		unsigned char len, type, b;
	} words[] = { { "null", 4, JSON_NULL, 0 }, { "true", 4, JSON_BOOL, 1 }, { "false", 5, JSON_BOOL, 0 } };
	struct json *v;

	r->p = json_skip_blank(r->p, r->end);
	if (r->p == r->end)
		return json_bad_at(r, "");
	if (!r->nodes_left--)
		return err_set(r->e, -EFBIG, "cannot read JSON: byte %zu: too many values",
			       (size_t)(r->p - r->start));
	*out = v = new_node(r);
	if (!v)
		return err_nomem(r->e, "read JSON");
	for (const struct word *w = words; w < words + ARRAY_SIZE(words); w++)
		if ((size_t)(r->end - r->p) >= w->len && !memcmp(r->p, w->text, w->len)) {
			r->p += w->len;
			v->type = w->type;
			v->b = w->b;
			return 0;
		}
	if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9'))
		return read_number(r, v);
	switch (*r->p) {
	case '"':
		v->type = JSON_STRING;
		r->p++;
		return read_string(r, &v->s, &v->len);
	case '[':
	case '{':
		v->type = *r->p++ == '{' ? JSON_OBJECT : JSON_ARRAY;
		return read_members(r, depth, v);
	}
	return json_bad_at(r, "a value is missing");
}

int json_parse(const char *text, size_t len, size_t max_nodes, struct json_doc **doc, struct err *e)
{
	auto_json struct json_doc *d = calloc(1, sizeof *d);
	struct reader r = { text, text, text + len, max_nodes, d, e };

	if (!d)
		return err_nomem(e, "read JSON");
	if (read_value(&r, 0, &d->root) < 0)
		return e->code;
	r.p = json_skip_blank(r.p, r.end);
	if (r.p != r.end)
		return json_bad_at(&r, "something follows the value");
	*doc = take_ptr(&d);
	return 0;
}

/* ---- lookup ---- */

const struct json *json_get(const struct json *o, const char *key)
{
	if (o && o->type == JSON_OBJECT)
		json_each(v, o)
			if (!strcmp(v->key, key))
				return v;
	return NULL;
}

const char *json_str(const struct json *v, const char *fallback)
{
	return v && v->type == JSON_STRING ? v->s : fallback;
}

int64_t json_int(const struct json *v, int64_t fallback)
{
	return v && v->type == JSON_INT && !v->big ? v->i : fallback;
}

uint64_t json_uint(const struct json *v, uint64_t fallback)
{
	return v && v->type == JSON_INT && (v->big || v->i >= 0) ? (uint64_t)v->i : fallback;
}

bool json_bool(const struct json *v, bool fallback)
{
	return v && v->type == JSON_BOOL ? v->b : fallback;
}

static const char *type_name(enum json_type t)
{
	static const char names[][16] = { "null", "true or false", "an integer", "a fraction", "a string",
					  "an array", "an object" };

	return names[t];
}

int json_need(const struct json *o, const char *key, enum json_type type, const struct json **out, struct err *e)
{
	const struct json *v = json_get(o, key);

	if (!v)
		return err_set(e, -EPROTO, "member '%s' is missing", key);
	if (v->type != type)
		return err_set(e, -EPROTO, "member '%s' is %s, not %s", key, type_name(v->type), type_name(type));
	*out = v;
	return 0;
}

int json_need_str(const struct json *o, const char *key, const char **out, struct err *e)
{
	const struct json *v;
	int rc = json_need(o, key, JSON_STRING, &v, e);

	if (!rc)
		*out = v->s;
	return rc;
}

/* A required 64-bit integer: @want_uint refuses negative numbers, else those above INT64_MAX are refused. */
static int need_number(const struct json *o, const char *key, bool want_uint, int64_t *out, struct err *e)
{
	const struct json *v;
	int rc = json_need(o, key, JSON_INT, &v, e);

	if (rc < 0)
		return rc;
	if (want_uint ? !v->big && v->i < 0 : v->big)
		return err_set(e, -EPROTO, "member '%s' is out of range", key);
	*out = v->i;
	return 0;
}

int json_need_int(const struct json *o, const char *key, int64_t *out, struct err *e)
{
	return need_number(o, key, false, out, e);
}

int json_need_uint(const struct json *o, const char *key, uint64_t *out, struct err *e)
{
	return need_number(o, key, true, (int64_t *)out, e);
}

int json_need_bool(const struct json *o, const char *key, bool *out, struct err *e)
{
	const struct json *v;
	int rc = json_need(o, key, JSON_BOOL, &v, e);

	if (!rc)
		*out = v->b;
	return rc;
}

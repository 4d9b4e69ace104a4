/* struct json_iter: see json.h. */
#include <string.h>

#include "lib/json_text.h"

static const char *skip_json_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\' && p + 1 < end)
			p++;
	return p < end ? p + 1 : NULL;
}

/* Skip one value by counting its quotes and brackets alone; NULL if they do not match. */
static const char *skip_json_value(const char *p, const char *end)
{
	char close[JSON_MAX_DEPTH];
	int depth = 0;

	do {
		const char *was;

		p = json_skip_blank(p, end);
		if (p == end)
			return NULL;
		if (*p == '"') {
			p = skip_json_string(p, end);
			if (!p)
				return NULL;
			continue;
		}
		if (*p == '[' || *p == '{') {
			if (depth == JSON_MAX_DEPTH)
				return NULL;
			close[depth++] = *p++ == '[' ? ']' : '}';
			continue;
		}
		if (*p == ']' || *p == '}') {
			if (!depth || close[--depth] != *p++)
				return NULL;
			continue;
		}
		if (depth && (*p == ',' || *p == ':')) {
			p++;
			continue;
		}
		for (was = p; p < end && !strchr(" \t\r\n,:[]{}\"", *p); p++)
			;
		if (p == was)
			return NULL;
	} while (depth);
	return p;
}

struct json_iter json_iter(const char *text, size_t len)
{
	return (struct json_iter){ .start = text, .p = text, .end = text + len };
}

static bool iter_take(struct json_iter *it, char c)
{
	it->p = json_skip_blank(it->p, it->end);
	if (it->p == it->end || *it->p != c)
		return false;
	it->p++;
	return true;
}

static int iter_bad(struct json_iter *it, struct err *e, const char *why)
{
	return json_bad(e, it->start, it->p, it->end, why);
}

int json_iter_next(struct json_iter *it, struct err *e)
{
	const char *q;

	if (!it->close) {
		it->close = iter_take(it, '[') ? ']' : iter_take(it, '{') ? '}' : 0;
		if (!it->close)
			return iter_bad(it, e, "no array or object");
	}
	if (iter_take(it, it->close)) {
		it->p = json_skip_blank(it->p, it->end);
		return it->p == it->end ? 0 : iter_bad(it, e, "something follows the value");
	}
	if (it->more && !iter_take(it, ','))
		return iter_bad(it, e, "',' is missing");
	it->more = true;
	it->p = json_skip_blank(it->p, it->end);
	if (it->close == '}') {
		q = it->p < it->end && *it->p == '"' ? skip_json_string(it->p, it->end) : NULL;
		if (!q)
			return iter_bad(it, e, "a member's name is missing");
		it->key = (struct json_span){ it->p + 1, (size_t)(q - it->p) - 2 };
		it->p = q;
		if (!iter_take(it, ':'))
			return iter_bad(it, e, "':' is missing");
		it->p = json_skip_blank(it->p, it->end);
	}
	q = skip_json_value(it->p, it->end);
	if (!q)
		return iter_bad(it, e, "a value is broken");
	it->val = (struct json_span){ it->p, (size_t)(q - it->p) };
	it->p = q;
	return 1;
}

bool json_span_is(struct json_span s, const char *text)
{
	return strlen(text) == s.len && !memcmp(s.p, text, s.len);
}

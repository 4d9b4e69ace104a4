/* lib/json.c: any bytes. What is taken must be written, compact and pretty, to the same value; going through it agrees. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"

#define NODES 4096

static void text_of(const struct json_doc *doc, bool pretty, struct buf *b)
{
	struct json_out w;

	json_out_init(&w, b, pretty);
	json_put(&w, NULL, json_root(doc));
}

static void want(bool ok)
{
	if (!ok)
		abort();
}

/* The elements of a good value, one by one, are the ones that the parser made. */
static void same_elements(const char *text, size_t len, const struct json *v)
{
	struct json_iter it = json_iter(text, len);
	const struct json *c = v->child;
	struct err e;
	int rc;

	while ((rc = json_iter_next(&it, &e)) > 0) {
		struct json_doc *doc = NULL;

		want(c && json_parse(it.val.p, it.val.len, NODES, &doc, &e) == 0);
		want(json_root(doc)->type == c->type);
		json_free(doc);
		c = c->next;
	}
	want(rc == 0 && !c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_doc *doc = NULL, *again = NULL;
	struct buf compact = { 0 }, pretty = { 0 }, third = { 0 };
	struct json_iter it = json_iter((const char *)data, size);
	struct err e = { 0 };

	while (json_iter_next(&it, &e) > 0)
		want(it.val.len && it.val.p + it.val.len <= (const char *)data + size);
	if (json_parse((const char *)data, size, NODES, &doc, &e) < 0) {
		want(!doc && (e.code == -EPROTO || e.code == -EFBIG) && e.msg[0]);
		return 0;
	}
	text_of(doc, false, &compact);
	text_of(doc, true, &pretty);
	want(json_parse(pretty.p, pretty.n, NODES, &again, &e) == 0);
	text_of(again, false, &third);
	want(compact.n == third.n && !memcmp(compact.p, third.p, third.n));
	if (json_root(doc)->type == JSON_ARRAY || json_root(doc)->type == JSON_OBJECT)
		same_elements((const char *)data, size, json_root(doc));
	json_free(doc);
	json_free(again);
	buf_done(&compact);
	buf_done(&pretty);
	buf_done(&third);
	return 0;
}

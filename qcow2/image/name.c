/* See name.h. */
#include "qcow2/image/name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

#define MAX_OPTIONS 64
#define MAX_BELOW   16
#define JSON_IS     "json:"
#define FILE_IS     "file:"

/* A node, flat: "file.filename" is the filename of the node that is the file. */
struct options {
	struct option {
		char *key, *value; /* no value: null */
		bool taken;
	} v[MAX_OPTIONS];
	unsigned n;
};

static void options_done(struct options *o)
{
	while (o->n) {
		free(o->v[--o->n].key);
		free(o->v[o->n].value);
	}
}
#define auto_options __attribute__((cleanup(options_done)))

void image_name_free(struct image_name *n)
{
	while (n) {
		struct image_name *below = n->backing;

		free(n->path);
		free(n);
		n = below;
	}
}

bool image_is_remote(const char *name)
{
	size_t n = strcspn(name, ":/");

	return n && name[n] == ':' && !str_starts(name, FILE_IS);
}

/* ---- taking a name apart ---- */

/* What is said last of a key holds. Takes over @key and @value. */
static int options_add(struct options *o, char *key, char *value, struct err *e)
{
	for (unsigned i = 0; key && i < o->n; i++)
		if (!strcmp(o->v[i].key, key)) {
			free(key);
			free(o->v[i].value);
			o->v[i].value = value;
			return 0;
		}
	if (key && o->n < MAX_OPTIONS) {
		o->v[o->n++] = (struct option){ key, value, false };
		return 0;
	}
	free(key);
	free(value);
	return key ? err_set(e, -EFBIG, "an image has more than %d options", MAX_OPTIONS) : err_nomem(e, "read an image's name");
}

/* "KEY=VALUE", or a word alone: the first is what "file" refers to, others are switched on. */
static int add_word(struct options *o, const char *word, bool first, struct err *e)
{
	const char *eq = strchr(word, '=');
	char *value = strdup(eq ? eq + 1 : first ? word : "on");

	if (!value)
		return err_nomem(e, "read an image's name");
	return options_add(o, eq ? strndup(word, (size_t)(eq - word)) : strdup(first ? "file" : word), value, e);
}

static int split(struct options *o, const char *s, struct err *e)
{
	auto_free char *word = malloc(strlen(s) + 1);

	if (!word)
		return err_nomem(e, "read an image's name");
	for (bool first = true; text_take_word(&s, word); first = false)
		if (*word && add_word(o, word, first, e) < 0)
			return e->code;
	return 0;
}

static int flatten(struct options *o, const char *prefix, const struct json *node, struct err *e)
{
	json_each(v, node) {
		auto_free char *key = str_fmt("%s%s", prefix, v->key);
		char *value = NULL;

		if (!key)
			return err_nomem(e, "read an image's name");
		if (v->type == JSON_OBJECT) {
			auto_free char *deeper = str_fmt("%s.", key);

			if (!deeper)
				return err_nomem(e, "read an image's name");
			if (flatten(o, deeper, v, e) < 0)
				return e->code;
			continue;
		}
		if (v->type == JSON_ARRAY)
			return err_set(e, -EINVAL, "'%s' is a list", key);
		if (v->type == JSON_STRING || v->type == JSON_REAL)
			value = strndup(v->s, v->len);
		else if (v->type == JSON_BOOL)
			value = strdup(v->b ? "on" : "off");
		else if (v->type == JSON_INT)
			value = str_fmt("%" PRId64, v->i);
		if (!value && v->type != JSON_NULL)
			return err_nomem(e, "read an image's name");
		if (options_add(o, take_ptr(&key), value, e) < 0)
			return e->code;
	}
	return 0;
}

/* ---- what a node is ---- */

static struct option *option_take(struct options *o, const char *prefix, const char *key)
{
	size_t len = strlen(prefix);

	for (unsigned i = 0; i < o->n; i++)
		if (!strncmp(o->v[i].key, prefix, len) && !strcmp(o->v[i].key + len, key)) {
			o->v[i].taken = true;
			return &o->v[i];
		}
	return NULL;
}

static const char *value_take(struct options *o, const char *prefix, const char *key)
{
	struct option *v = option_take(o, prefix, key);

	return v ? v->value : NULL;
}

static bool has_any(const struct options *o, const char *prefix)
{
	for (unsigned i = 0; i < o->n; i++)
		if (str_starts(o->v[i].key, prefix))
			return true;
	return false;
}

/* A switch of a node; *@on stays as it is where nothing is said. */
static int switch_take(struct options *o, const char *prefix, const char *key, bool *on, struct err *e)
{
	static const char *const words[] = { "off", "on", "no", "yes", "false", "true", "n", "y" };
	const struct option *v = option_take(o, prefix, key);

	if (!v)
		return 0;
	for (unsigned i = 0; v->value && i < sizeof words / sizeof words[0]; i++)
		if (!strcmp(v->value, words[i])) {
			*on = i & 1;
			return 0;
		}
	return err_set(e, -EINVAL, "'%s' is on or off, not '%s'", v->key, v->value ? v->value : "null");
}

/* What tunes a QEMU and changes nothing of what is read or written. */
static int take_tuning(struct options *o, const char *prefix, struct err *e)
{
	static const char *const words[] = { "node-name", "discard", "detect-zeroes", "aio", "aio-max-batch", "overlap-check", "cache-size",
		"l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval" };
	static const char *const switches[] = { "auto-read-only", "cache.direct", "cache.no-flush", "cache.writeback", "drop-cache",
		"lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "discard-no-unref",
		"x-check-cache-dropped" };
	bool on;

	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
		option_take(o, prefix, words[i]);
	for (unsigned i = 0; i < sizeof switches / sizeof switches[0]; i++)
		if (switch_take(o, prefix, switches[i], &on, e) < 0)
			return e->code;
	return 0;
}

static int take_common(struct options *o, const char *prefix, struct image_name *n, struct err *e)
{
	if (switch_take(o, prefix, "force-share", &n->share, e) < 0 || switch_take(o, prefix, "read-only", &n->read_only, e) < 0)
		return e->code;
	return take_tuning(o, prefix, e);
}

static int set_path(struct image_name *n, const char *path, struct err *e)
{
	n->path = strdup(path);
	return n->path ? 0 : err_nomem(e, "read an image's name");
}

/* "file:" and nothing else may stand before a path; behind it a colon is a letter like any other. */
static int path_of(struct image_name *n, const char *name, struct err *e)
{
	const char *path = str_starts(name, FILE_IS) ? name + strlen(FILE_IS) : name;

	if (image_is_remote(name)) {
		err_set(e, -EOPNOTSUPP, "%s is not a local file: the protocol '%.*s' is not spoken here", name, (int)strcspn(name, ":"), name);
		return err_hint(e, "./%s names a file", name);
	}
	if (!*path)
		return err_set(e, -EINVAL, "the name of an image is empty");
	if (path != name && image_is_remote(path)) {
		n->path = str_fmt("./%s", path);
		return n->path ? 0 : err_nomem(e, "read an image's name");
	}
	return set_path(n, path, e);
}

static bool is_file_driver(const char *driver)
{
	return str_eq(driver, "file") || str_eq(driver, "host_device");
}

/* A reference to a node of a running QEMU. */
static int refuse_node(struct options *o, const char *prefix, const char *key, struct err *e)
{
	const char *node = value_take(o, prefix, key);

	return node ? err_set(e, -EOPNOTSUPP, "%s%s=%s refers to a node, and there are none: %s%s.filename names a file", prefix, key, node,
			prefix, str_eq(key, "file") ? key : "backing.file") : 0;
}

/* The node that is the file at last. @driver: NULL if it is not said, then the name may say it. */
static int read_file(struct options *o, const char *prefix, const char *driver, struct image_name *n, struct err *e)
{
	const char *path = value_take(o, prefix, "filename"), *locking = value_take(o, prefix, "locking");

	if (driver && !is_file_driver(driver))
		return err_set(e, -EOPNOTSUPP, "%sdriver=%s is not a local file: file and host_device are", prefix, driver);
	if (!path || !*path)
		return err_set(e, -EINVAL, "%sfilename is not said", prefix);
	if (locking && strcmp(locking, "on") && strcmp(locking, "off") && strcmp(locking, "auto"))
		return err_set(e, -EINVAL, "%slocking is on, off or auto, not '%s'", prefix, locking);
	n->share |= str_eq(locking, "off");
	if (take_common(o, prefix, n, e) < 0)
		return e->code;
	return driver || !image_is_remote(path) ? set_path(n, path, e) : path_of(n, path, e);
}

/* What may be between a format and the file: raw, as often as one likes. */
static int read_below(struct options *o, const char *prefix, unsigned depth, struct image_name *n, struct err *e)
{
	auto_free char *in = str_fmt("%sfile.", prefix);
	const char *driver;

	if (!in)
		return err_nomem(e, "read an image's name");
	if (depth > MAX_BELOW)
		return err_set(e, -EFBIG, "more than %d nodes are one on the other", MAX_BELOW);
	if (refuse_node(o, prefix, "file", e) < 0)
		return e->code;
	driver = value_take(o, in, "driver");
	if (!str_eq(driver, "raw"))
		return read_file(o, in, driver, n, e);
	return take_common(o, in, n, e) < 0 ? e->code : read_below(o, in, depth + 1, n, e);
}

static int read_node(struct options *o, const char *prefix, unsigned depth, struct image_name **out, struct err *e);

static int read_backing(struct options *o, const char *prefix, unsigned depth, struct image_name *n, struct err *e)
{
	auto_free char *in = str_fmt("%sbacking.", prefix);
	const struct option *v = option_take(o, prefix, "backing");

	if (!in)
		return err_nomem(e, "read an image's name");
	n->alone = v && (!v->value || !*v->value);
	if (v && !n->alone)
		return refuse_node(o, prefix, "backing", e);
	if (!has_any(o, in))
		return 0;
	n->alone = true;
	return read_node(o, in, depth + 1, &n->backing, e);
}

static int read_node(struct options *o, const char *prefix, unsigned depth, struct image_name **out, struct err *e)
{
	auto_name struct image_name *n = calloc(1, sizeof *n);
	auto_free char *in = str_fmt("%sfile.", prefix);
	const char *driver = value_take(o, prefix, "driver");
	int r;

	if (!n || !in)
		return err_nomem(e, "read an image's name");
	if (depth > MAX_BELOW)
		return err_set(e, -EFBIG, "more than %d nodes are one on the other", MAX_BELOW);
	if (is_file_driver(driver)) {
		n->format = "raw";
		r = read_file(o, prefix, driver, n, e);
	} else {
		if (refuse_node(o, prefix, "file", e) < 0)
			return e->code;
		if (driver && strcmp(driver, "qcow2") && strcmp(driver, "raw"))
			return err_set(e, -EOPNOTSUPP, "%sdriver=%s is not supported: qcow2 and raw are, and files below them", prefix, driver);
		if (!driver && !has_any(o, in))
			return err_set(e, -EINVAL, "neither %sdriver nor %sfile is said", prefix, prefix);
		n->format = driver ? str_eq(driver, "raw") ? "raw" : "qcow2" : NULL;
		r = take_common(o, prefix, n, e) < 0 || read_backing(o, prefix, depth, n, e) < 0 ? e->code : read_below(o, prefix, depth, n, e);
	}
	if (r >= 0)
		*out = take_ptr(&n);
	return r;
}

/* All of it has to mean something, or the image would be another one than was meant. */
static int read_all(struct options *o, struct image_name **out, struct err *e)
{
	auto_name struct image_name *n = NULL;

	if (read_node(o, "", 0, &n, e) < 0)
		return e->code;
	for (unsigned i = 0; i < o->n; i++)
		if (!o->v[i].taken)
			return err_set(e, -EOPNOTSUPP, "the option '%s' of an image is not supported", o->v[i].key);
	*out = take_ptr(&n);
	return 0;
}

int image_name_options(const char *options, struct image_name **out, struct err *e)
{
	auto_options struct options o = { .n = 0 };

	return split(&o, options, e) < 0 || read_all(&o, out, e) < 0 ? err_at(e, "%s", options) : 0;
}

static int read_json(const char *name, struct image_name **out, struct err *e)
{
	auto_options struct options o = { .n = 0 };
	const char *text = name + strlen(JSON_IS);
	auto_json struct json_doc *doc = NULL;
	int r = json_parse(text, strlen(text), 4 * MAX_OPTIONS, &doc, e);

	if (r >= 0 && json_root(doc)->type != JSON_OBJECT)
		r = err_set(e, -EINVAL, "it is not an object");
	if (r < 0 || flatten(&o, "", json_root(doc), e) < 0 || read_all(&o, out, e) < 0)
		return err_at(e, "%s", name);
	return 0;
}

int image_name_read(const char *name, struct image_name **out, struct err *e)
{
	auto_name struct image_name *n = NULL;

	if (str_starts(name, JSON_IS))
		return read_json(name, out, e);
	n = calloc(1, sizeof *n);
	if (!n)
		return err_nomem(e, "read an image's name");
	if (path_of(n, name, e) < 0)
		return e->code;
	*out = take_ptr(&n);
	return 0;
}

/* -o KEY=VALUE,...: a comma inside a value is doubled. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/own.h"
#include "lib/text.h"

static const struct {
	const char *name, *type, *help;
} keys_of[IMG_N_KEYS] = {
	[IMG_BACKING_FILE] = { "backing_file", "str", "File name of a base image" },
	[IMG_BACKING_FMT] = { "backing_fmt", "str", "Image format of the base image" },
	[IMG_CLUSTER_SIZE] = { "cluster_size", "size", "qcow2 cluster size" },
	[IMG_COMPAT] = { "compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])" },
	[IMG_COMPRESSION] = { "compression_type", "str", "Compression method used for image cluster compression" },
	[IMG_DATA_FILE] = { "data_file", "str", "File name of an external data file" },
	[IMG_DATA_FILE_RAW] = { "data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image" },
	[IMG_EXTENDED_L2] = { "extended_l2", "bool (on/off)", "Extended L2 tables" },
	[IMG_EXTENT_HINT] = { "extent_size_hint", "size", "Extent size hint for the image file, 0 to disable" },
	[IMG_LAZY] = { "lazy_refcounts", "bool (on/off)", "Postpone refcount updates" },
	[IMG_NOCOW] = { "nocow", "bool (on/off)", "Write in place where the file system (btrfs) copies" },
	[IMG_PREALLOC] = { "preallocation", "str", "Preallocation mode (allowed values: off, metadata, falloc, full)" },
	[IMG_REFCOUNT_BITS] = { "refcount_bits", "num", "Width of a reference count entry in bits" },
	[IMG_SIZE] = { "size", "size", "Virtual disk size" },
};

void img_opts_done(struct img_opts *o)
{
	for (unsigned i = 0; i < IMG_N_KEYS; i++)
		free(o->v[i]);
}

bool img_opts_told(const struct img_opts *o, const char *title, unsigned keys)
{
	if (!o->help)
		return false;
	puts(title);
	for (unsigned i = 0; i < IMG_N_KEYS; i++) {
		char left[64];

		if (!(keys & 1u << i))
			continue;
		snprintf(left, sizeof left, "  %s=<%s>", keys_of[i].name, keys_of[i].type);
		printf("%-24s - %s\n", left, keys_of[i].help);
	}
	return true;
}

/* A key is missing at the front, or behind a comma at the end. */
static bool is_list(const char *s)
{
	size_t len = strlen(s), commas = 0;

	while (commas < len && s[len - 1 - commas] == ',')
		commas++;
	return *s && *s != ',' && commas % 2 == 0;
}

/* Asked for help nothing else is looked at. */
static bool asks_help(const char *s)
{
	for (size_t n; *s; s += n + (s[n] == ',')) {
		n = strcspn(s, ",");
		if ((n == 4 && !strncmp(s, "help", n)) || (n == 1 && *s == '?'))
			return true;
	}
	return false;
}

static int set_key(struct img_opts *o, unsigned keys, const char *word, struct err *e)
{
	const char *eq = strchr(word, '='), *best = NULL;
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	unsigned near = 4;

	for (unsigned i = 0; i < IMG_N_KEYS; i++) {
		char key[32];
		unsigned d;

		snprintf(key, sizeof key, "%.*s", (int)len, word);
		d = text_distance(keys_of[i].name, key);
		if (d && d < near && (keys & 1u << i)) {
			near = d;
			best = keys_of[i].name;
		}
		if (d)
			continue;
		if (!(keys & 1u << i))
			return err_set(e, ERR_USAGE, "invalid parameter '%s': not for this command or format", key);
		free(o->v[i]);
		o->v[i] = strdup(eq ? eq + 1 : "on");
		return o->v[i] ? 0 : err_nomem(e, "read options");
	}
	err_set(e, ERR_USAGE, "invalid parameter '%.*s'", (int)len, word);
	return best ? err_hint(e, "did you mean '%s'?", best) : e->code;
}

int img_opts_parse(const struct cmd_list *from, unsigned keys, struct img_opts *o, struct err *e)
{
	for (size_t i = 0; i < from->n; i++) {
		if (!is_list(from->v[i]))
			return err_set(e, ERR_USAGE, "'%s' is not a list KEY=VALUE,...: a key is missing", from->v[i]);
		o->help |= asks_help(from->v[i]);
	}
	for (size_t i = 0; i < from->n && !o->help; i++) {
		auto_free char *word = malloc(strlen(from->v[i]) + 1);
		const char *at = from->v[i];

		if (!word)
			return err_nomem(e, "read options");
		while (text_take_word(&at, word))
			if (*word && set_key(o, keys, word, e) < 0)
				return e->code;
	}
	return 0;
}

int img_opts_set(struct img_opts *o, enum img_key key, const char *s, struct err *e)
{
	if (!s)
		return 0;
	free(o->v[key]);
	o->v[key] = strdup(s);
	return o->v[key] ? 0 : err_nomem(e, "read options");
}

int img_opts_bool(const struct img_opts *o, enum img_key key, bool fallback, bool *out, struct err *e)
{
	static const char *const words[] = { "off", "on", "no", "yes", "false", "true", "n", "y" };
	const char *v = o->v[key];

	*out = fallback;
	if (!v)
		return 0;
	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
		if (!strcmp(v, words[i])) {
			*out = i & 1;
			return 0;
		}
	return err_set(e, ERR_USAGE, "parameter '%s' expects 'on' or 'off', not '%s'", keys_of[key].name, v);
}

int img_opts_num(const struct img_opts *o, enum img_key key, uint64_t fallback, uint64_t *out, struct err *e)
{
	*out = fallback;
	if (!o->v[key])
		return 0;
	if ((key == IMG_REFCOUNT_BITS ? text_num(o->v[key], 0, UINT64_MAX, keys_of[key].name, out, e) :
					img_size(o->v[key], out, e)) < 0)
		e->code = ERR_USAGE;
	else
		return 0;
	return e->code;
}

int img_compat(const char *s, unsigned *version, struct err *e)
{
	if (!strcmp(s, "0.10") || !strcmp(s, "v2"))
		*version = 2;
	else if (!strcmp(s, "1.1") || !strcmp(s, "v3"))
		*version = 3;
	else
		return err_set(e, ERR_USAGE, "unknown compatibility level '%s': it is 0.10 or 1.1", s);
	return 0;
}

int img_opts_create(const struct img_opts *o, struct qcow2_create *c, struct err *e)
{
	const char *packed = o->v[IMG_COMPRESSION];
	uint64_t cluster, bits, hint;
	bool nocow;

	*c = (struct qcow2_create){
		.version = 3,
		.backing = o->v[IMG_BACKING_FILE] && *o->v[IMG_BACKING_FILE] ? o->v[IMG_BACKING_FILE] : NULL,
		.backing_fmt = o->v[IMG_BACKING_FMT],
		.data_file = o->v[IMG_DATA_FILE],
	};
	if ((o->v[IMG_COMPAT] && img_compat(o->v[IMG_COMPAT], &c->version, e) < 0) ||
		(o->v[IMG_PREALLOC] && img_prealloc(o->v[IMG_PREALLOC], &c->prealloc, e) < 0) ||
		(o->v[IMG_SIZE] && img_size(o->v[IMG_SIZE], &c->size, e) < 0) ||
		img_opts_num(o, IMG_CLUSTER_SIZE, 65536, &cluster, e) < 0 ||
		img_opts_num(o, IMG_REFCOUNT_BITS, 16, &bits, e) < 0 ||
		img_opts_bool(o, IMG_LAZY, false, &c->lazy_refcounts, e) < 0 ||
		img_opts_bool(o, IMG_EXTENDED_L2, false, &c->ext_l2, e) < 0 ||
		img_opts_bool(o, IMG_NOCOW, false, &nocow, e) < 0 ||
		img_opts_num(o, IMG_EXTENT_HINT, 0, &hint, e) < 0 ||
		img_opts_bool(o, IMG_DATA_FILE_RAW, false, &c->data_file_raw, e) < 0)
		return e->code;
	if (cluster < 512 || cluster > 2 << 20 || cluster & (cluster - 1))
		return err_set(e, ERR_USAGE, "cluster size must be a power of two between 512 and 2048k");
	if (!bits || bits > 64 || bits & (bits - 1))
		return err_set(e, ERR_USAGE, "refcount width must be a power of two and may not exceed 64 bits");
	c->cluster_bits = (unsigned)__builtin_ctzll(cluster);
	c->refcount_bits = (unsigned)bits;
	if (packed && strcmp(packed, "zlib") && strcmp(packed, "zstd"))
		return err_set(e, ERR_USAGE, "unknown compression type '%s': it is zlib or zstd", packed);
	c->compression = packed && !strcmp(packed, "zstd");
	return 0;
}

/* A key's value, as its table says. */
#include "kvm/def_keys.h"

#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "lib/text.h"

/* The index of @s in "a|b|c", or -1. */
static int word_index(const char *words, const char *s)
{
	size_t len = strlen(s), n;

	for (int i = 0;; i++, words += n + 1) {
		n = strcspn(words, "|");
		if (n && n == len && !memcmp(words, s, n))
			return i;
		if (!words[n])
			return -1;
	}
}

static int not_a_word(const struct def_key *k, const char *s, struct err *e)
{
	char list[128];
	const char *w = k->words + (*k->words == '|');
	size_t n = 0;

	for (; *w && n + 3 < sizeof list; w++) {
		if (*w == '|')
			list[n++] = ',';
		list[n++] = *w == '|' ? ' ' : *w;
	}
	list[n] = '\0';
	return err_set(e, -EINVAL, "%s '%s' is none of: %s", k->name, s, list);
}

static int set_memory(const char *s, uint64_t *out, struct err *e)
{
	uint64_t v;

	if (text_size(s, 1, "memory", &v, e) < 0)
		return e->code;
	if (v < MIB || v % MIB || v > 1ull << 44) {
		err_set(e, -EINVAL, "memory '%s' is not a whole number of MiB, 1M to 16T", s);
		return err_hint(e, "give a unit, as in 512M");
	}
	*out = v;
	return 0;
}

static int set_size(const struct def_key *k, const char *s, uint64_t *out, struct err *e)
{
	uint64_t v;

	if (text_size(s, 1, k->name, &v, e) < 0)
		return e->code;
	if (v < k->min)
		return err_set(e, -EINVAL, "%s '%s' is less than %u", k->name, s, k->min);
	*out = v;
	return 0;
}

/* One word of @s as a shell would see it, without expansion; @s moves past it. 0: no word left, 1: in @word. */
static int next_word(const char **s, struct buf *word, struct err *e)
{
	const char *p = *s + strspn(*s, " \t");
	char quote = '\0';

	if (!*p)
		return 0;
	for (; *p && (quote || !strchr(" \t", *p)); p++) {
		if (*p == '\\' && quote != '\'' && p[1] && (!quote || strchr("\"\\$`", p[1])))
			buf_addc(word, *++p);
		else if (*p == quote)
			quote = '\0';
		else if (!quote && (*p == '\'' || *p == '"'))
			quote = *p;
		else
			buf_addc(word, *p);
	}
	if (quote)
		return err_set(e, -EINVAL, "arg: a %c is not closed", quote);
	*s = p;
	return 1;
}

static int list_add(struct key_list *l, char *fresh, struct err *e)
{
	char **v = fresh ? realloc(l->v, (l->n + 1) * sizeof *v) : NULL;

	if (!v) {
		free(fresh);
		return err_nomem(e, "read a definition");
	}
	l->v = v;
	v[l->n++] = fresh;
	return 0;
}

static int add_args(struct key_list *l, const char *s, struct err *e)
{
	for (;;) {
		auto_buf struct buf word = { 0 };
		int r = next_word(&s, &word, e);

		if (r <= 0)
			return r;
		if (list_add(l, buf_take(&word), e) < 0)
			return e->code;
	}
}

/* Replace the string at @at. */
static int set_str(void *at, char *fresh, struct err *e)
{
	char *old;

	if (!fresh)
		return err_nomem(e, "read a definition");
	memcpy(&old, at, sizeof old);
	free(old);
	memcpy(at, &fresh, sizeof fresh);
	return 0;
}

int key_set(const struct def_key *k, const char *s, void *obj, const char *path, struct err *e)
{
	void *at = (char *)obj + k->off;
	uint64_t num;
	int i;

	if (!*s)
		return err_set(e, -EINVAL, "%s has no value", k->name);
	if (!text_is_utf8(s)) {
		err_set(e, -EINVAL, "%s '%s' is not UTF-8", k->name, s);
		return err_hint(e, "QEMU's monitor knows no other names: rename the file or folder");
	}
	switch ((enum key_kind)k->kind) {
	case KEY_ARGS:
		return add_args(at, s, e);
	case KEY_DIRS:
		return list_add(at, path_beside(path, s), e);
	case KEY_TEXTS:
		return k->check(s, e) < 0 ? e->code : list_add(at, strdup(s), e);
	case KEY_MEM:
		return set_memory(s, at, e);
	case KEY_SIZE:
		return set_size(k, s, at, e);
	case KEY_SPAN:
		return text_span(s, k->name, at, e);
	case KEY_NUM:
		if (text_num(s, k->min, k->max, k->name, &num, e) < 0)
			return e->code;
		*(unsigned *)at = (unsigned)num;
		return 0;
	case KEY_BOOL:
		i = word_index("no|yes", s);
		if (i < 0)
			return err_set(e, -EINVAL, "%s '%s' is neither yes nor no", k->name, s);
		*(bool *)at = i;
		return 0;
	case KEY_ENUM:
	case KEY_WORD:
		i = word_index(k->words, s);
		if (i < 0)
			return not_a_word(k, s, e);
		if (k->kind == KEY_WORD)
			return set_str(at, strdup(s), e);
		memcpy(at, &i, sizeof i); /* an enum of ours is an int */
		return 0;
	case KEY_CHECK:
		if (k->check(s, e) < 0)
			return e->code;
		return set_str(at, strdup(s), e);
	case KEY_PROG:
		return set_str(at, strchr(s, '/') ? path_beside(path, s) : strdup(s), e);
	case KEY_PATH:
		return set_str(at, path_beside(path, s), e);
	case KEY_STR:
		if (strlen(s) > k->max)
			return err_set(e, -EINVAL, "%s is longer than %u bytes", k->name, k->max);
		return set_str(at, strdup(s), e);
	}
	return 0;
}

void hint_near(const char *word, size_t n, const char *(*name)(const void *, size_t), const void *ctx, struct err *e)
{
	unsigned best = 3;
	const char *near = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned far = text_distance(word, name(ctx, i));

		if (far < best && far < strlen(word)) {
			best = far;
			near = name(ctx, i);
		}
	}
	if (near)
		err_hint(e, "did you mean '%s'?", near);
}

static const char *key_name(const void *keys, size_t i)
{
	return ((const struct def_key *)keys)[i].name;
}

int key_find(const struct def_key *keys, size_t n, const char *name, const char *section, const struct def_key **out, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(keys[i].name, name)) {
			*out = &keys[i];
			return 0;
		}
	err_set(e, -EINVAL, "unknown key '%s'%s%s%s", name, *section ? " in [" : "", section, *section ? "]" : "");
	hint_near(name, n, key_name, keys, e);
	return e->code;
}

void keys_free(const struct def_key *keys, size_t n, void *obj)
{
	for (size_t i = 0; i < n; i++) {
		void *at = (char *)obj + keys[i].off;
		struct key_list *l = at;

		switch ((enum key_kind)keys[i].kind) {
		case KEY_ARGS:
		case KEY_DIRS:
		case KEY_TEXTS:
			for (size_t j = 0; j < l->n; j++)
				free(l->v[j]);
			free(l->v);
			break;
		case KEY_STR:
		case KEY_PATH:
		case KEY_PROG:
		case KEY_WORD:
		case KEY_CHECK:
			free(*(char **)at);
			break;
		case KEY_ENUM:
		case KEY_BOOL:
		case KEY_NUM:
		case KEY_MEM:
		case KEY_SIZE:
		case KEY_SPAN:
			break;
		}
	}
}

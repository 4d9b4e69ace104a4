/* Keys of a section, as tables: what a key's value may be, and where in an object it is put. */
#ifndef KVM_DEF_KEYS_H
#define KVM_DEF_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum key_kind {
	KEY_STR,   /* char *, at most max bytes */
	KEY_PATH,  /* char *, made absolute */
	KEY_PROG,  /* char *, made absolute if it has a slash */
	KEY_WORD,  /* char *, one of words */
	KEY_ENUM,  /* an enum, counting through words */
	KEY_BOOL,  /* no, yes */
	KEY_NUM,   /* unsigned, min to max */
	KEY_MEM,   /* uint64_t bytes, whole MiB */
	KEY_SIZE,  /* uint64_t bytes, at least min */
	KEY_SPAN,  /* uint64_t ms */
	KEY_CHECK, /* char *, judged by check() */
	/* These may repeat, and add to a struct key_list: */
	KEY_ARGS,  /* words as a shell would split them */
	KEY_DIRS,  /* a folder, made absolute */
	KEY_TEXTS, /* judged by check() */
};

struct key_list {
	char **v;
	size_t n;
};

struct def_key {
	char name[16]; /* in place: a pointer would cost a relocation of 24 bytes each */
	uint8_t kind;  /* enum key_kind */
	uint16_t off;
	uint32_t min, max;
	union {
		const char *words; /* "a|b|c"; an empty first one is a default that cannot be written */
		int (*check)(const char *s, struct err *e);
	};
};
#define DEF_KEY(n, k, o, ...) { .name = n, .kind = k, .off = o, ##__VA_ARGS__ }

/* A section that kvm/ knows nothing of: its keys, and an object that belongs to the definition. */
struct def;
struct def_section {
	const char *name;
	const struct def_key *keys;
	size_t n_keys;
	size_t size; /* of its object, which begins as zeros */
	int (*defaults)(void *obj, struct err *e);
	/* What no single line shows. @key: out, whose line to blame. */
	int (*check)(const void *obj, const struct def *d, const char **key, struct err *e);
};

static inline bool key_repeats(const struct def_key *k)
{
	return k->kind >= KEY_ARGS;
}

/* The one of @keys with that @name, or -EINVAL with the name that may have been meant. @section: "" or its name. */
int key_find(const struct def_key *keys, size_t n, const char *name, const char *section, const struct def_key **out,
	struct err *e) MUST_CHECK;

/* Put @value where @k says in @obj; what is there already goes. Paths begin at the folder of the definition @path. */
int key_set(const struct def_key *k, const char *value, void *obj, const char *path, struct err *e) MUST_CHECK;

/* Every string and list in @obj that the @keys know. */
void keys_free(const struct def_key *keys, size_t n, void *obj);

/* The nearest of @n names to @word, if it is near enough to have been meant, becomes the hint. */
void hint_near(const char *word, size_t n, const char *(*name)(const void *, size_t), const void *ctx, struct err *e);

#endif

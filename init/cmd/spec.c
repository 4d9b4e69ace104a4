#include "init/cmd/spec.h"

#include <string.h>

#include "init/cli/cmd.h"
#include "lib/own.h"

/* What one list may hold: each key once. Values borrow from the text. */
struct spec {
	const char *opt;                      /* for messages */
	const char *snapshot, *driver, *file; /* NULL: not given */
	bool no_driver;                       /* there is no such key */
};

/* The next part of a list, in place; a comma that belongs to a value is doubled. */
static char *next_part(char **text)
{
	char *p = *text, *to = p, *from = p;

	for (; *from && (*from != ',' || from[1] == ','); from++) {
		from += *from == ',';
		*to++ = *from;
	}
	*text = *from ? from + 1 : NULL;
	*to = '\0';
	return p;
}

static int unknown(const struct spec *s, const char *part, struct err *e)
{
	err_set(e, ERR_USAGE, "--%s: '%s' is not snapshot=%s or file=", s->opt, part, s->no_driver ? "" : ", driver=qcow2");
	return err_hint(e, "a comma in a file's name is doubled");
}

static int take_part(struct spec *s, const char *part, struct err *e)
{
	const struct {
		const char *key;
		const char **at;
	} keys[] = { { "snapshot=", &s->snapshot }, { "file=", &s->file }, { "driver=", s->no_driver ? NULL : &s->driver } };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		size_t n = strlen(keys[i].key);

		if (!keys[i].at || strncmp(part, keys[i].key, n))
			continue;
		if (*keys[i].at)
			return err_set(e, ERR_USAGE, "--%s: %.*s is given twice", s->opt, (int)n - 1, part);
		if (!part[n])
			return err_set(e, ERR_USAGE, "--%s: %s has no value", s->opt, part);
		*keys[i].at = part + n;
		return 0;
	}
	return unknown(s, part, e);
}

static int mode_of(const struct spec *s, enum fermata_mode *mode, struct err *e)
{
	static const char *const modes[] = { "", "internal", "external", "no" };

	if (!s->snapshot)
		return 0;
	for (unsigned m = 1; m < ARRAY_SIZE(modes); m++)
		if (!strcmp(s->snapshot, modes[m])) {
			*mode = (enum fermata_mode)m;
			return 0;
		}
	return err_set(e, ERR_USAGE, "--%s: '%s' is not internal, external or no", s->opt, s->snapshot);
}

/* A file without its key: a word with a slash or a dot in it, since one with neither is a misspelt key or value. */
static bool is_path(const char *part)
{
	size_t key = strspn(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return part[key] && part[key] != '=';
}

int spec_disk(char *text, struct fermata_diskspec *spec, struct err *e)
{
	struct spec s = { .opt = "diskspec" };

	*spec = (struct fermata_diskspec){ .disk = next_part(&text) };
	if (!spec->disk[0] || (strchr(spec->disk, '=') && !is_path(spec->disk)))
		return err_set(e, ERR_USAGE, "--diskspec: '%s' is not a disk: its name or its file comes first", spec->disk);
	while (text)
		if (take_part(&s, next_part(&text), e) < 0)
			return e->code;
	if (s.driver && strcmp(s.driver, "qcow2"))
		return err_set(e, ERR_USAGE, "--diskspec: driver '%s' is not qcow2", s.driver);
	spec->qcow2 = s.driver;
	spec->file = s.file;
	return mode_of(&s, &spec->mode, e);
}

int spec_memory(char *text, struct fermata_create *c, struct err *e)
{
	struct spec s = { .opt = "memspec", .no_driver = true };
	enum fermata_mode mode = FERMATA_MODE_EXTERNAL;

	for (bool first = true; text; first = false) {
		char *p = next_part(&text);

		if (first && is_path(p))
			s.file = p;
		else if (take_part(&s, p, e) < 0)
			return e->code;
	}
	if (mode_of(&s, &mode, e) < 0)
		return e->code;
	if (s.file && mode != FERMATA_MODE_EXTERNAL)
		return err_set(e, ERR_USAGE, "--memspec: a file is for snapshot=external");
	c->memory = s.file;
	c->memory_file = mode == FERMATA_MODE_EXTERNAL;
	c->disk_only |= mode == FERMATA_MODE_NO;
	return 0;
}

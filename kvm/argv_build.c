/* What a command line is put together of: a growing vector, option strings, names of devices. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/argv.h"

void argv_own(struct argv *a, char *s)
{
	if (s && a->n + 2 > a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 64;
		char **v = realloc(a->v, cap * sizeof *v);

		if (v) {
			a->v = v;
			a->cap = cap;
		}
	}
	if (!s || a->n + 2 > a->cap) {
		a->oom = true;
		free(s);
		return;
	}
	a->v[a->n++] = s;
	a->v[a->n] = NULL;
}

void argv_add(struct argv *a, const char *s)
{
	argv_own(a, strdup(s));
}

void argv_addf(struct argv *a, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	argv_own(a, s);
}

void argv_done(struct argv *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	free(a->v);
	*a = (struct argv){ 0 };
}

void argv_take(struct argv *a, const char *name, struct buf *b)
{
	argv_add(a, name);
	argv_own(a, buf_take(b));
	buf_done(b);
}

void opt_add(struct buf *b, const char *key, const char *val)
{
	buf_addf(b, ",%s=", key);
	for (; *val; val++) {
		if (*val == ',')
			buf_addc(b, ',');
		buf_addc(b, *val);
	}
}

/* ---- names of devices ---- */

int device_name(const struct build *b, const char *type, struct buf *name, struct err *e)
{
	buf_adds(name, type);
	if (kvm_caps_has_device(b->spec->caps, type))
		return 0;
	return err_set(e, -EOPNOTSUPP, "QEMU %s has no device %s", b->spec->caps->version, type);
}

int virtio_name(const struct build *b, const char *type, struct buf *name, struct err *e)
{
	char full[64];

	snprintf(full, sizeof full, "virtio-%s-%s", type, b->has->virtio);
	return device_name(b, full, name, e);
}

int argv_address(const struct build *b, const char *address, struct buf *o, struct err *e)
{
	if (!b->has->pci) {
		err_set(e, -EINVAL, "machine %s has no PCI addresses", b->machine);
		return err_hint(e, "leave out address = %s", address);
	}
	/* Whoever says .0 means that there are others. */
	buf_addf(o, ",addr=%s%s", address, str_ends(address, ".0") ? ",multifunction=on" : "");
	return 0;
}

/* Whether what was saved of a guest belongs to the machine that it is to go on in: line by line. */
#include <stdlib.h>
#include <string.h>

#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/def_guest.h"
#include "lib/buf.h"
#include "lib/err.h"

static bool has_line(const char *text, const char *line, size_t n)
{
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strcspn(p, "\n") == n && !strncmp(p, line, n))
			return true;
	return false;
}

/* The first line of @text that @other has not; NULL: there is none. @n: out, its bytes. */
static const char *first_missing(const char *text, const char *other, size_t *n)
{
	for (const char *p = text; *p; p += *n, p += *p == '\n') {
		*n = strcspn(p, "\n");
		if (!has_line(other, p, *n))
			return p;
	}
	return NULL;
}

static size_t key_of(const char *line, size_t n)
{
	const char *end = memmem(line, n, " = ", 3);

	return end ? (size_t)(end - line) : n;
}

int compat_lines(const char *was, const char *is, const char *then, const char *now, struct err *e)
{
	size_t n_gone = 0, n_new = 0;
	const char *gone = first_missing(was, is, &n_gone), *fresh = first_missing(is, was, &n_new);
	size_t key = gone ? key_of(gone, n_gone) : 0;

	if (!strcmp(was, is))
		return 0;
	/* The same thing with another value says more than one that is gone. */
	for (const char *p = is; gone && *p; p += n_new, p += *p == '\n') {
		n_new = strcspn(p, "\n");
		if (key_of(p, n_new) == key && !strncmp(p, gone, key) && !has_line(was, p, n_new))
			return err_set(e, -ESTALE, "%.*s was '%.*s' %s, and is '%.*s' %s", (int)key, gone, (int)(n_gone - key - 3),
				gone + key + 3, then, (int)(n_new - key - 3), p + key + 3, now);
	}
	if (gone)
		return err_set(e, -ESTALE, "it had '%.*s' %s, and has it not %s", (int)n_gone, gone, then, now);
	if (fresh)
		return err_set(e, -ESTALE, "it has '%.*s' %s, and had it not %s", (int)strcspn(fresh, "\n"), fresh, now, then);
	return err_set(e, -ESTALE, "its devices have another order %s", now);
}

int compat_definition(const struct fermata_vm *vm, const char *was, struct err *e)
{
	auto_def struct def *old = NULL;
	auto_buf struct buf text = { 0 }, a = { 0 }, b = { 0 };
	struct err why;

	buf_adds(&text, was);
	if (buf_check(&text, "compare definitions", e) < 0)
		return e->code;
	if (def_parse(&text, vm->def->path, vm->name, &policy_section, &old, &why) < 0)
		return err_set(e, -ESTALE, "the definition it was saved with cannot be compared with the present one: %s", why.msg);
	def_guest(old, &a);
	def_guest(vm->def, &b);
	if (buf_check(&a, "compare definitions", e) < 0 || buf_check(&b, "compare definitions", e) < 0)
		return e->code;
	return compat_lines(buf_str(&a), buf_str(&b), "when it was saved", "now", e);
}

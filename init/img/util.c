#include "init/cli/vm.h"
#include "init/img/img.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/muldiv.h"
#include "lib/text.h"

static void print_snap(const struct qcow2_snap *s)
{
	char size[TEXT_SIZE_MAX], date[CLOCK_DATE_MAX], clock[32], icount[24] = "";
	uint64_t secs = s->vm_clock_ns / 1000000000;

	text_fmt_size(s->vm_state_size, size);
	clock_fmt_date(s->date_s, date);
	date[strlen("2026-11-21 00:36:12")] = '\0'; /* qemu-img leaves the zone out */
	snprintf(clock, sizeof clock, "%02d:%02d:%02d.%03d", (int)(secs / 3600), (int)(secs / 60 % 60), (int)(secs % 60),
		(int)(s->vm_clock_ns / 1000000 % 1000));
	if (s->icount != QCOW2_NO_ICOUNT)
		snprintf(icount, sizeof icount, "%" PRId64, (int64_t)s->icount);
	printf("%-9s %-16s %8s%20s%13s%11s\n", cmd_shown(s->id), cmd_shown(s->name), size, date, clock, icount);
}

void img_print_snaps(const struct qcow2 *q)
{
	unsigned n;
	const struct qcow2_snap *s = qcow2_snaps(q, &n);

	if (!n)
		return;
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	for (unsigned i = 0; i < n; i++)
		print_snap(&s[i]);
}

int img_print_json(struct buf *b, struct err *e)
{
	if (buf_check(b, "print the result", e) < 0)
		return e->code;
	puts(b->p);
	return 0;
}

static bool is_digit(char c, bool hex)
{
	return hex ? isxdigit((unsigned char)c) : isdigit((unsigned char)c);
}

/* Digits to a number that may not be larger than 64 bits hold; false for none. */
static bool take_digits(const char **p, bool hex, uint64_t *v, bool *over)
{
	const char *from = *p;

	for (*v = 0; is_digit(**p, hex); ++*p) {
		unsigned c = (unsigned char)**p, digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;

		*over |= __builtin_mul_overflow(*v, hex ? 16u : 10u, v) || __builtin_add_overflow(*v, digit, v);
	}
	return *p > from;
}

/* What is behind a point, in units of @mul, rounded down. The first digits tell it all. */
static uint64_t take_fraction(const char *p, uint64_t mul, bool *some)
{
	uint64_t v = 0, scale = 1;

	for (*some = false; isdigit((unsigned char)*p); p++) {
		*some |= *p != '0';
		if (scale < 100000000000000000ull) {
			v = v * 10 + (unsigned)(*p - '0');
			scale *= 10;
		}
	}
	return mul_div(v, mul, scale, NULL);
}

int img_size(const char *s, uint64_t *out, struct err *e)
{
	static const char letters[] = "bkmgtpe";
	const char *p = s, *point, *at;
	bool hex, over = false, some = false;
	uint64_t v, more = 0, mul = 1;

	p += strspn(p, " \t\n\v\f\r");
	p += *p == '+';
	hex = p[0] == '0' && (p[1] | 32) == 'x' && isxdigit((unsigned char)p[2]);
	p += hex ? 2 : 0;
	if (!take_digits(&p, hex, &v, &over))
		return err_set(e, ERR_USAGE, "image size '%s' is not a size: a number, and k, M, G, T, P or E", s);
	point = !hex && *p == '.' ? p + 1 : NULL;
	if (point)
		p = point + strspn(point, "0123456789");
	at = *p ? strchr(letters, tolower((unsigned char)*p)) : NULL;
	if (at)
		mul = 1ull << 10 * (at - letters);
	if (point)
		more = take_fraction(point, mul, &some);
	/* "64kB" may mean bits or bytes, thousands or not; parts of a byte are none. */
	if ((*p && (!at || p[1])) || (some && mul == 1))
		return err_set(e, ERR_USAGE, "image size '%s' is not a size: a number, and k, M, G, T, P or E", s);
	if (over || __builtin_mul_overflow(v, mul, out) || __builtin_add_overflow(*out, more, out) || *out > INT64_MAX)
		return err_set(e, ERR_USAGE, "image size '%s' is not between 0 and %" PRId64, s, INT64_MAX);
	return 0;
}

int img_prealloc(const char *s, enum qcow2_prealloc *out, struct err *e)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };

	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strcmp(s, names[i])) {
			*out = (enum qcow2_prealloc)i;
			return 0;
		}
	return err_set(e, ERR_USAGE, "invalid preallocation mode '%s': it is off, metadata, falloc or full", s);
}

int img_unsaved(const char *path, struct err *e)
{
	auto_host struct fermata *host = NULL;

	if (!CONFIG_MEMORY)
		return 0;
	return host_get(&host, e) < 0 ? e->code : fermata_image_unsaved(host, path, e);
}

/* "snapshot.id=1,snapshot.name=k1": both have to fit when both are given. */
static int find_by_both(const struct qcow2 *q, const char *which)
{
	unsigned n;
	const struct qcow2_snap *s = qcow2_snaps(q, &n);
	static const char id_is[] = "snapshot.id=", name_is[] = "snapshot.name=";
	const char *id = strstr(which, id_is), *name = strstr(which, name_is);

	for (unsigned i = 0; i < n; i++) {
		const char *a = id ? id + sizeof id_is - 1 : NULL, *b = name ? name + sizeof name_is - 1 : NULL;

		if ((!a || (strcspn(a, ",") == strlen(s[i].id) && !strncmp(a, s[i].id, strlen(s[i].id)))) &&
			(!b || (strcspn(b, ",") == strlen(s[i].name) && !strncmp(b, s[i].name, strlen(s[i].name)))))
			return (int)i;
	}
	return -1;
}

int img_snap_find(const struct image *img, const char *which, int *snap, uint64_t *size, struct err *e)
{
	unsigned n;

	*snap = -1;
	*size = img->size;
	if (!which)
		return 0;
	if (!img->q)
		return err_set(e, -EOPNOTSUPP, "%s: raw images have no snapshots", img->path);
	*snap = str_starts(which, "snapshot.") ? find_by_both(img->q, which) : qcow2_snap_find(img->q, which, QCOW2_BY_EITHER);
	if (*snap < 0)
		return err_set(e, -ENOENT, "%s: there is no snapshot '%s'", img->path, which);
	*size = qcow2_snaps(img->q, &n)[*snap].disk_size & ~511ull;
	return 0;
}

static int show(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	img_progress(done, total);
	return 0;
}

struct chain_job img_job(bool progress)
{
	img_progress_begin(progress);
	return (struct chain_job){ .progress = show };
}

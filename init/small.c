/*
 * What the program needs of some functions of libc, in a tenth of their size: linked before musl's, they stand in for
 * those (-25 KB). No floating point in printf, no locales, no threads to stop for a change of user, no system call
 * spared for the time of day. Other libcs are left as they are: the Makefile adds this file for musl alone. Contracts are
 * those of the functions, as far as anything here uses them; tests/unit/test_small.c compares the two.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Where formatted text goes: a stream, or memory with a bound. */
struct sink {
	FILE *f;
	char *p;
	size_t room, n; /* n counts what did not fit, too */
};

static void put(struct sink *s, const char *text, size_t n)
{
	if (s->f)
		fwrite(text, 1, n, s->f);
	else if (s->n < s->room)
		memcpy(s->p + s->n, text, n < s->room - s->n ? n : s->room - s->n);
	s->n += n;
}

static void pad(struct sink *s, char c, int n)
{
	while (n-- > 0)
		put(s, &c, 1);
}

static void format(struct sink *s, const char *fmt, va_list *ap)
{
	while (*fmt) {
		const char *text = fmt + strcspn(fmt, "%"), *digits = "0123456789abcdef", *sign = "";
		bool left = false, zero = false, alt = false;
		int width = 0, prec = -1, wide = 0;
		char num[24], *end = num + sizeof num;
		uint64_t v;
		size_t n;

		put(s, fmt, (size_t)(text - fmt));
		if (!*text)
			return;
		for (fmt = text + 1; strchr("-0#", *fmt) && *fmt; fmt++) {
			left |= *fmt == '-';
			zero |= *fmt == '0';
			alt |= *fmt == '#';
		}
		for (int *to = &width;; to = &prec) {
			if (*fmt == '*') {
				*to = va_arg(*ap, int);
				fmt++;
			} else {
				while ((unsigned)*fmt - '0' < 10)
					*to = *to * 10 + (*fmt++ - '0');
			}
			if (*fmt != '.' || to == &prec)
				break;
			prec = 0;
			fmt++;
		}
		for (; strchr("lzjt", *fmt) && *fmt; fmt++)
			wide = 1;
		text = end;
		switch (*fmt++) {
		case 's':
			text = va_arg(*ap, const char *);
			if (!text)
				text = "(null)";
			n = prec < 0 ? strlen(text) : strnlen(text, (size_t)prec);
			zero = false;
			break;
		case 'c':
			num[0] = (char)va_arg(*ap, int);
			text = num;
			n = 1;
			break;
		case 'd':
			v = wide ? va_arg(*ap, uint64_t) : (uint64_t)va_arg(*ap, int);
			if ((int64_t)v < 0) {
				sign = "-";
				v = -v;
			}
			goto decimal;
		case 'u':
			v = wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned);
		decimal:
			do {
				*--end = digits[v % 10];
			} while (v /= 10);
			goto number;
		case 'x':
			v = wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned);
			if (alt && v)
				sign = "0x";
			do {
				*--end = digits[v % 16];
			} while (v /= 16);
		number:
			text = end;
			n = (size_t)(num + sizeof num - end);
			break;
		default:
			text = "%";
			n = 1;
		}
		width -= (int)(n + strlen(sign));
		if (!left && !zero)
			pad(s, ' ', width);
		put(s, sign, strlen(sign));
		if (zero && !left)
			pad(s, '0', width);
		put(s, text, n);
		if (left)
			pad(s, ' ', width);
	}
}

int vfprintf(FILE *restrict f, const char *restrict fmt, va_list ap)
{
	struct sink s = { .f = f };
	va_list copy;

	va_copy(copy, ap);
	format(&s, fmt, &copy);
	va_end(copy);
	return ferror(f) ? -1 : (int)s.n;
}

int vsnprintf(char *restrict p, size_t size, const char *restrict fmt, va_list ap)
{
	struct sink s = { .p = p, .room = size ? size - 1 : 0 };
	va_list copy;

	va_copy(copy, ap);
	format(&s, fmt, &copy);
	va_end(copy);
	if (size)
		p[s.n < size ? s.n : size - 1] = '\0';
	return (int)s.n;
}

int vasprintf(char **out, const char *fmt, va_list ap)
{
	va_list again;

	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	*out = malloc((size_t)n + 1);
	n = *out ? vsnprintf(*out, (size_t)n + 1, fmt, again) : -1;
	va_end(again);
	return n;
}

int dprintf(int fd, const char *restrict fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n >= 0) {
		n = (int)write(fd, text, (size_t)n);
		free(text);
	}
	return n;
}

/* Heap sort: in place, and no input makes it slow. */
static void sift(char *base, size_t at, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
	for (size_t child; (child = 2 * at + 1) < n; at = child) {
		char *a = base + at * size, *b = base + child * size;

		if (child + 1 < n && cmp(b, b + size) < 0) {
			b += size;
			child++;
		}
		if (cmp(a, b) >= 0)
			return;
		for (size_t i = 0; i < size; i++) {
			char c = a[i];

			a[i] = b[i];
			b[i] = c;
		}
	}
}

void qsort(void *base, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
	char *p = base;

	for (size_t i = n / 2; i--;)
		sift(p, i, n, size, cmp);
	while (n-- > 1) {
		for (size_t i = 0; i < size; i++) {
			char c = p[i];

			p[i] = p[n * size + i];
			p[n * size + i] = c;
		}
		sift(p, 0, n, size, cmp);
	}
}

unsigned long long strtoull(const char *restrict s, char **restrict end, int base)
{
	const char *from = s;
	unsigned long long v = 0;
	bool any = false, over = false;

	while (*s == ' ' || (unsigned)*s - '\t' < 5)
		s++;
	bool minus = *s == '-';
	s += minus || *s == '+';
	if ((base == 0 || base == 16) && s[0] == '0' && (s[1] | 32) == 'x') {
		s += 2;
		base = 16;
	} else if (!base) {
		base = *s == '0' ? 8 : 10;
	}
	for (;; s++, any = true) {
		int digit = (unsigned)*s - '0' < 10 ? *s - '0' : (unsigned)(*s | 32) - 'a' < 26 ? (*s | 32) - 'a' + 10 : 36;

		if (digit >= base)
			break;
		over |= __builtin_mul_overflow(v, (unsigned long long)base, &v) |
			__builtin_add_overflow(v, (unsigned long long)digit, &v);
	}
	if (end)
		*end = (char *)(any ? s : from);
	if (over) {
		errno = ERANGE;
		return ULLONG_MAX;
	}
	return minus ? -v : v;
}

unsigned long strtoul(const char *restrict s, char **restrict end, int base)
{
	return strtoull(s, end, base);
}

char *strstr(const char *s, const char *part)
{
	size_t n = strlen(part);

	while (strncmp(s, part, n))
		if (!*s++)
			return NULL;
	return (char *)s;
}

/* The kernel knows where it has arrived. */
char *realpath(const char *restrict path, char *restrict out)
{
	char link[40];
	int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, out, PATH_MAX - 1);
	int why = errno;
	close(fd);
	errno = why;
	if (n < 0)
		return NULL;
	out[n] = '\0';
	return out;
}

/* musl makes all threads change; there is one. */
int setgroups(size_t n, const gid_t *list)
{
	return (int)syscall(SYS_setgroups, n, list);
}

int setresgid(gid_t r, gid_t e, gid_t s)
{
	return (int)syscall(SYS_setresgid, r, e, s);
}

int setresuid(uid_t r, uid_t e, uid_t s)
{
	return (int)syscall(SYS_setresuid, r, e, s);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	return (int)syscall(SYS_clock_gettime, clock, t);
}

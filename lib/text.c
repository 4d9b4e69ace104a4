#include "lib/text.h"
#include "lib/muldiv.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

bool text_take_num(const char **p, char sep, uint64_t *out)
{
	const char *s = *p;
	uint64_t v = 0;

	while (*s == ' ' || *s == '\t' || (sep && *s == sep))
		s++;
	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (unsigned)(*s - '0'), &v))
			return false;
	*p = s;
	*out = v;
	return true;
}

bool text_take_word(const char **p, char *word)
{
	const char *s = *p;

	if (!s)
		return false;
	for (; *s && (*s != ',' || s[1] == ','); s++) {
		*word++ = *s;
		s += *s == ',';
	}
	*word = '\0';
	*p = *s ? s + 1 : NULL;
	return true;
}

int text_num(const char *s, uint64_t min, uint64_t max, const char *what, uint64_t *out, struct err *e)
{
	uint64_t v = 0;
	const char *p = s;

	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (unsigned)(*p - '0'), &v))
			return err_set(e, -ERANGE, "%s '%s' is too large", what, s);
	if (p == s || *p)
		return err_set(e, -EINVAL, "%s '%s' is not a whole number", what, s);
	if (v < min || v > max)
		return err_set(e, -ERANGE, "%s '%s' is out of range (%llu to %llu)", what, s,
			(unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 0;
}

/* log2 of a suffix's multiplier ("K": 10); -1 if it is no suffix. "B" alone means bytes. */
static int suffix_bits(const char *s)
{
	static const char letters[] = "kmgtpe";
	const char *at;

	if (!s[0] || (toupper((unsigned char)s[0]) == 'B' && !s[1]))
		return 0;
	at = strchr(letters, tolower((unsigned char)s[0]));
	if (!at || (s[1] && strcasecmp(s + 1, "ib") && strcasecmp(s + 1, "b")))
		return -1;
	return 10 * (int)(at - letters + 1);
}

int text_size(const char *s, uint64_t unit, const char *what, uint64_t *out, struct err *e)
{
	uint64_t whole = 0, frac = 0, scale = 1, mul, add;
	const char *p = s;
	int bits;

	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10u, &whole) ||
			__builtin_add_overflow(whole, (unsigned)(*p - '0'), &whole))
			return err_set(e, -ERANGE, "%s '%s' is too large", what, s);
	if (p == s)
		return err_set(e, -EINVAL, "%s '%s' is not a size (a number with K, M, G, T, P or E)", what, s);
	if (*p == '.') {
		for (p++; isdigit((unsigned char)*p); p++)
			if (scale < 1000000) {
				frac = frac * 10 + (unsigned)(*p - '0');
				scale *= 10;
			}
	}
	bits = suffix_bits(p);
	if (bits < 0 || (scale > 1 && !*p)) /* a fraction of a byte */
		return err_set(e, -EINVAL, "%s '%s' is not a size (a number with K, M, G, T, P or E)", what, s);
	mul = *p ? 1ull << bits : unit;
	add = mul_div(frac, mul, scale, NULL);
	if (__builtin_mul_overflow(whole, mul, out) || __builtin_add_overflow(*out, add, out))
		return err_set(e, -ERANGE, "%s '%s' is too large", what, s);
	return 0;
}

/* @a * @b / @c rounded to nearest, ties to even, as printf rounds. */
static uint64_t mul_div_round(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t rest, q = mul_div(a, b, c, &rest);

	return q + (rest > c - rest || (rest == c - rest && (q & 1)));
}

void text_fmt_size(uint64_t bytes, char out[TEXT_SIZE_MAX])
{
	unsigned i = 0, scale = 1;
	int digits = 0; /* after the point */

	/* The next unit from 1000 on, not 1024: three digits are always enough. */
	while (bytes >> 10 * i >= 1000)
		i++;
	while (scale < 1000 && bytes >> 10 * i < 100 / scale) {
		scale *= 10;
		digits++;
	}
	uint64_t v = mul_div_round(bytes, scale, 1ull << 10 * i);
	for (; digits && v % 10 == 0; digits--, scale /= 10)
		v /= 10;
	int n = v < 1000 ? snprintf(out, TEXT_SIZE_MAX, "%u", (unsigned)v / scale) : snprintf(out, TEXT_SIZE_MAX, "1e+03");
	if (digits)
		n += snprintf(out + n, TEXT_SIZE_MAX - (size_t)n, ".%0*u", digits, (unsigned)v % scale);
	snprintf(out + n, TEXT_SIZE_MAX - (size_t)n, " %.1s%sB", &"\0KMGTPE"[i], i ? "i" : "");
}

const char *text_percent(uint64_t part, uint64_t whole, char out[TEXT_SIZE_MAX])
{
	uint64_t v = whole ? mul_div_round(part, 10000, whole) : 10000;

	snprintf(out, TEXT_SIZE_MAX, "%" PRIu64 ".%02u", v / 100, (unsigned)(v % 100));
	return out;
}

int text_span(const char *s, const char *what, uint64_t *ms, struct err *e)
{
	static const struct {
		const char *suffix;
		unsigned ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "min", 60000 }, { "h", 3600000 } };
	uint64_t v = 0;
	const char *p = s;

	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (unsigned)(*p - '0'), &v))
			return err_set(e, -ERANGE, "%s '%s' is too long", what, s);
	for (size_t i = 0; p != s && i < sizeof units / sizeof units[0]; i++)
		if (!strcmp(p, units[i].suffix)) {
			if (__builtin_mul_overflow(v, units[i].ms, ms))
				return err_set(e, -ERANGE, "%s '%s' is too long", what, s);
			return 0;
		}
	return err_set(e, -EINVAL, "%s '%s' is not a time (a number with ms, s, m or h)", what, s);
}

unsigned text_distance(const char *a, const char *b)
{
	unsigned char row[33];
	size_t la = strlen(a), lb = strlen(b);

	if (la > 31 || lb > 31)
		return 32;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned char)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned char diag = row[0];

		row[0] = (unsigned char)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diag + (a[i - 1] != b[j - 1]);

			if (row[j] + 1u < best)
				best = row[j] + 1u;
			if (row[j - 1] + 1u < best)
				best = row[j - 1] + 1u;
			diag = row[j];
			row[j] = (unsigned char)best;
		}
	}
	return row[lb];
}

size_t text_cut(const char *s, size_t max)
{
	size_t n = strnlen(s, max);

	/* A continuation byte follows: go back to the first byte of its character, at most three bytes. */
	for (size_t back = 0; n == max && back < 4 && back < n; back++)
		if (((unsigned char)s[n - back] & 0xc0) != 0x80)
			return n - back;
	return n;
}

void text_shell_quote(struct buf *b, const char *s)
{
	if (*s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,=:/+@%") == strlen(s)) {
		buf_adds(b, s);
		return;
	}
	buf_addc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_adds(b, "'\\''");
		else
			buf_addc(b, *s);
	}
	buf_addc(b, '\'');
}

/* Length of the UTF-8 character at @p, and its code point in *@c; 0: invalid. */
static size_t utf8_char(const unsigned char *p, uint32_t *c)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	if (n < 2) {
		*c = *p;
		return n;
	}
	*c = *p & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (p[i] & 0x3f);
	}
	return *c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000) ? 0 : n;
}

bool text_is_utf8(const char *s)
{
	uint32_t c;

	for (size_t n; *s; s += n) {
		n = utf8_char((const unsigned char *)s, &c);
		if (!n)
			return false;
	}
	return true;
}

static bool is_control(uint32_t c)
{
	return c < ' ' || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
		(c >= 0x2066 && c <= 0x2069);
}

void text_put_safe(struct buf *b, const char *s)
{
	uint32_t c;

	for (size_t n; *s; s += n) {
		size_t is = utf8_char((const unsigned char *)s, &c);

		n = is ? is : 1;
		for (size_t i = 0; i < n; i++) {
			if (!is || is_control(c))
				buf_addf(b, "\\x%02x", (unsigned char)s[i]);
			else
				buf_addc(b, s[i]);
		}
	}
}

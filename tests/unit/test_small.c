/* What stands in for functions of libc says what libc says. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define vfprintf      small_vfprintf
#define vsnprintf     small_vsnprintf
#define vasprintf     small_vasprintf
#define dprintf       small_dprintf
#define qsort         small_qsort
#define strtoull      small_strtoull
#define strtoul       small_strtoul
#undef strstr
#define strstr        small_strstr
#define realpath      small_realpath
#define setgroups     small_setgroups
#define setresgid     small_setresgid
#define setresuid     small_setresuid
#define clock_gettime small_clock_gettime
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "init/small.c"
#undef vsnprintf
#undef qsort
#undef strtoull
#undef strstr
#undef realpath

#include <inttypes.h>
#include <setjmp.h>

#include <cmocka.h>

static void same(const char *fmt, ...)
{
	va_list ap;

	for (size_t size = 0; size < 40; size += size < 4 ? 1 : 9) {
		char want[64] = "untouched", got[64] = "untouched";

		va_start(ap, fmt);
		int n = vsnprintf(want, size, fmt, ap);
		va_end(ap);
		va_start(ap, fmt);
		assert_int_equal(small_vsnprintf(got, size, fmt, ap), n);
		va_end(ap);
		assert_string_equal(got, want);
	}
}

static void formats(void **state)
{
	(void)state;
	same("plain");
	same("");
	same("100%%");
	same("%s|%10s|%-10s|%.2s|%-4.1s|%*s|%.*s", "abc", "abc", "abc", "abc", "abc", 5, "x", 1, "yz");
	same("%d %d %d %5d %-5d| %05d %03d", 0, INT_MIN, INT_MAX, -42, -42, -42, 7);
	same("%u %u %8u %02u %03u %09ld", 0u, UINT_MAX, 77u, 5u, 1234u, 42l);
	same("%llu %lld %lld %zu %" PRIu64 " %" PRId64, ULLONG_MAX, LLONG_MIN, LLONG_MAX, SIZE_MAX, UINT64_MAX, INT64_MIN);
	same("%0*u|%0*u", 3, 7u, 1, 5u);
	same("%x %02x %04x %#x %#x %016llx %" PRIx64, 0xabcu, 10u, 0xffffffu, 0x1fu, 0u, 0xdeadbeefull, UINT64_MAX);
	same("%c%c", 'a', 'b');
}

static int by_int(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static void sorts(void **state)
{
	int got[200], want[200];
	unsigned seed = 1;

	(void)state;
	for (size_t n = 0; n < 200; n++) {
		for (size_t i = 0; i < n; i++)
			got[i] = want[i] = (int)((seed = seed * 1103515245 + 12345) >> 16) % (n & 1 ? 7 : 1000);
		small_qsort(got, n, sizeof *got, by_int);
		qsort(want, n, sizeof *want, by_int);
		assert_memory_equal(got, want, n * sizeof *got);
	}
}

static void numbers(void **state)
{
	static const char *const texts[] = { "0", "42", " 42", "\t+7x", "-1", "18446744073709551615", "18446744073709551616",
		"99999999999999999999999", "0x1F", "0x1fg", "017", "", "x", "-", "9z", "1 2" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		for (int base = 0; base <= 16; base += base ? 6 : 10) {
			char *end, *small_end;

			errno = 0;
			unsigned long long want = strtoull(texts[i], &end, base);
			int why = errno;
			errno = 0;
			assert_true(small_strtoull(texts[i], &small_end, base) == want);
			assert_ptr_equal(small_end, end);
			assert_int_equal(errno == ERANGE, why == ERANGE);
		}
}

static void strings(void **state)
{
	static const char *const in[] = { "", "a", "ab", "aab", "abcabd", "xxabd" };

	(void)state;
	for (size_t i = 0; i < 6; i++)
		for (size_t j = 0; j < 6; j++)
			assert_ptr_equal(small_strstr(in[i], in[j]), strstr(in[i], in[j]));
}

static void paths(void **state)
{
	static const char *const in[] = { "/", ".", "/proc/self/../../etc/./passwd", "/etc//", "/no/such", "/dev/stdin/../fd", "" };
	char got[PATH_MAX], want[PATH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
		char *w = realpath(in[i], want);
		int why = errno;

		assert_int_equal(!small_realpath(in[i], got), !w);
		if (w)
			assert_string_equal(got, want);
		else
			assert_int_equal(errno, why);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats), cmocka_unit_test(sorts), cmocka_unit_test(numbers),
		cmocka_unit_test(strings), cmocka_unit_test(paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "engine/vm/policy.h"

#include <stdlib.h>
#include <string.h>

#include "kvm/def_keys.h"
#include "lib/file.h"
#include "lib/own.h"

static int check_healthy(const char *s, struct err *e)
{
	size_t n = strlen(s);

	if (str_eq(s, "running") || str_eq(s, "agent"))
		return 0;
	if (str_starts(s, "serial \"") && n > 9 && n < 512 && s[n - 1] == '"')
		return 0;
	return err_set(e, -EINVAL, "healthy '%s' is none of: running, agent, serial \"TEXT\"", s);
}

static int check_fallback(const char *s, struct err *e)
{
	for (;; s++) {
		s += strspn(s, " \t");
		if (!*s || *s == ',')
			return err_set(e, -EINVAL, "fallback has an empty place in its list");
		s += strcspn(s, ",");
		if (!*s)
			return 0;
	}
}

#define K(n, k, m, ...) DEF_KEY(n, k, offsetof(struct policy, m), ##__VA_ARGS__)
static const struct def_key keys[] = {
	K("autostart", KEY_BOOL, autostart),
	K("order", KEY_NUM, order, .min = 0, .max = 9999),
	K("from", KEY_STR, from, .max = 255),
	K("fallback", KEY_CHECK, fallback, .check = check_fallback),
	K("healthy", KEY_CHECK, healthy, .check = check_healthy),
	K("within", KEY_SPAN, within_ms),
	K("attempts", KEY_NUM, attempts, .min = 1, .max = 1000),
	K("discard-changes", KEY_BOOL, discard_changes),
	K("verify", KEY_BOOL, verify),
	K("on-crash", KEY_WORD, on_crash, .words = "restart|revert|stop"),
	K("back-off", KEY_SPAN, back_off_ms),
	K("stop-within", KEY_SPAN, stop_within_ms),
	K("on-stop", KEY_WORD, on_stop, .words = "shutdown|managedsave|kill"),
};

static int set_defaults(void *obj, struct err *e)
{
	struct policy *p = obj;

	p->within_ms = 60000;
	p->attempts = 3;
	p->back_off_ms = 1000;
	p->stop_within_ms = 60000;
	if (!(p->from = strdup("cold")) || !(p->healthy = strdup("running")) || !(p->on_crash = strdup("restart")) ||
		!(p->on_stop = strdup("shutdown")))
		return err_nomem(e, "read a definition");
	return 0;
}

static int check_policy(const void *obj, const struct def *d, const char **key, struct err *e)
{
	const struct policy *p = obj;

	*key = "healthy";
	return str_eq(p->healthy, "agent") && !d->agent ? err_set(e, -EINVAL, "healthy = agent needs agent = yes") : 0;
}

const struct def_section policy_section = { "boot", keys, ARRAY_SIZE(keys), sizeof(struct policy), set_defaults, check_policy };

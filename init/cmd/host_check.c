/* host-check */
#include <stdio.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "kvm/kvm.h"
#include "lib/json.h"
#include "lib/own.h"

static const char *host_output;
static const struct opt host_opts[] = { OPT_OUTPUT(host_output), { 0 } };

struct host_view {
	struct json_out *w; /* NULL: for people */
	bool failed;
};

static void host_line(void *ctx, const char *what, enum kvm_verdict v, const char *hint)
{
	static const char *const words[] = { "PASS", "WARN", "FAIL" };
	struct host_view *view = ctx;

	view->failed |= v == HOST_FAIL;
	if (!view->w) {
		printf("  QEMU: Checking %-50s: %s%s%s%s\n", what, words[v], hint[0] ? " (" : "", hint, hint[0] ? ")" : "");
		return;
	}
	json_obj(view->w, NULL);
	json_put_str(view->w, "check", what);
	json_put_str(view->w, "result", words[v]);
	json_put_str(view->w, "hint", hint);
	json_obj_end(view->w);
}

static int run_host_check(int argc, char **argv, struct err *e)
{
	auto_host struct fermata *host = NULL;
	auto_free char *cache = NULL;
	auto_buf struct buf b = { 0 };
	struct host_view view = { 0 };
	struct json_out w;
	bool json;

	(void)argc;
	(void)argv;
	if (cmd_output_json(host_output, &json, e) < 0 || host_get(&host, e) < 0)
		return e->code;
	cache = str_fmt("%s/.probe", fermata_state_dir(host));
	if (!cache)
		return err_nomem(e, "check the host");
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	view.w = json ? &w : NULL;
	if (kvm_host_check(NULL, cache, host_line, &view, e) < 0)
		return e->code;
	json_arr_end(&w);
	if (json && cmd_put_json(&b, e) < 0)
		return e->code;
	return view.failed ? EXIT_FAILED : 0;
}

const struct cmd cmd_host_check = { "host-check", "", NULL, "whether this host can do what fermata does",
	"Exit status 1 when a line says FAIL.\n", host_opts, 0, 0, run_host_check };

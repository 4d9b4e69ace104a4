/* The host: where things are, and which VMs it has. */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

int fermata_open(const char *root, struct fermata **out, struct err *e)
{
	struct fermata *f = calloc(1, sizeof *f);
	size_t n = strlen(root);

	if (!f)
		return err_nomem(e, "open the host");
	while (n && root[n - 1] == '/')
		n--;
	f->conf_dir = str_fmt("%.*s%s", (int)n, root, CONFIG_CONF_DIR);
	f->state_dir = str_fmt("%.*s%s", (int)n, root, CONFIG_STATE_DIR);
	f->run_dir = str_fmt("%.*s%s", (int)n, root, CONFIG_RUN_DIR);
	f->memory_dir = str_fmt("%.*s%s", (int)n, root, CONFIG_MEMORY_DIR);
	if (!f->conf_dir || !f->state_dir || !f->run_dir || !f->memory_dir) {
		fermata_close(f);
		return err_nomem(e, "open the host");
	}
	*out = f;
	return 0;
}

void fermata_on_cancel(struct fermata *f, const volatile sig_atomic_t *flag)
{
	f->cancel = flag;
}

void fermata_close(struct fermata *f)
{
	if (!f)
		return;
	free(f->conf_dir);
	free(f->state_dir);
	free(f->run_dir);
	free(f->memory_dir);
	free(f);
}

void fermata_on_notice(struct fermata *f, fermata_notice_fn *fn, void *ctx)
{
	f->notice = fn;
	f->notice_ctx = ctx;
}

void fermata_on_progress(struct fermata *f, fermata_progress_fn *fn, void *ctx)
{
	f->progress = fn;
	f->progress_ctx = ctx;
}

const char *fermata_state_dir(const struct fermata *f)
{
	return f->state_dir;
}

const char *fermata_conf_dir(const struct fermata *f)
{
	return f->conf_dir;
}

const char *fermata_run_dir(const struct fermata *f)
{
	return f->run_dir;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* @list: "b\0a\0", @n names. Out: the same sorted, with an empty one last. */
static int sort_names(const struct buf *list, size_t n, char **out, struct err *e)
{
	auto_buf struct buf sorted = { 0 };
	auto_free const char **at = calloc(n + 1, sizeof *at);
	const char *p = buf_str(list);

	if (!at)
		return err_nomem(e, "list the VMs");
	for (size_t i = 0; i < n; i++, p += strlen(p) + 1)
		at[i] = p;
	qsort(at, n, sizeof *at, by_name);
	for (size_t i = 0; i < n; i++)
		buf_add(&sorted, at[i], strlen(at[i]) + 1);
	buf_addc(&sorted, '\0');
	if (buf_check(&sorted, "list the VMs", e) < 0)
		return e->code;
	*out = buf_take(&sorted);
	return 0;
}

/* Those that run without a definition: it was removed since. */
static void add_running(struct fermata *f, struct buf *list, size_t *n)
{
	DIR *dir = opendir(f->run_dir);
	struct err bad_name;
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		auto_free char *conf = str_fmt("%s/%s.conf", f->conf_dir, d->d_name), *run = str_fmt("%s/%s", f->run_dir, d->d_name);

		if (def_check_name(d->d_name, &bad_name) < 0 || !conf || !run || file_exists(conf) || !kvm_pid(run))
			continue;
		buf_add(list, d->d_name, strlen(d->d_name) + 1);
		++*n;
	}
	if (dir)
		closedir(dir);
}

int fermata_names(struct fermata *f, char **names, struct err *e)
{
	auto_buf struct buf list = { 0 };
	struct err bad_name;
	struct dirent *d;
	size_t n = 0;
	DIR *dir = opendir(f->conf_dir);

	if (!dir && errno != ENOENT)
		return err_sys(e, errno, "cannot read the folder %s", f->conf_dir);
	while (dir && (d = readdir(dir))) {
		size_t len = strlen(d->d_name);

		if (len <= 5 || strcmp(d->d_name + len - 5, ".conf"))
			continue;
		d->d_name[len - 5] = '\0';
		if (def_check_name(d->d_name, &bad_name) < 0 || !strcmp(d->d_name, "init"))
			continue;
		buf_add(&list, d->d_name, len - 4);
		n++;
	}
	if (dir)
		closedir(dir);
	add_running(f, &list, &n);
	if (buf_check(&list, "list the VMs", e) < 0)
		return e->code;
	return sort_names(&list, n, names, e);
}

void vm_notice(struct fermata_vm *vm, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	if (!vm->host->notice)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	vm->host->notice(vm->host->notice_ctx, vm->name, text);
}

/* blockpull, blockcommit, blockcopy, blockjob */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "lib/clock.h"
#include "lib/muldiv.h"
#include "lib/text.h"

#define LOOK_MS 100

static struct {
	bool wait, verbose, async, bytes, shallow, active, pivot, keep, remove, drop, reuse, relative, info, abort, raw;
	uint64_t bandwidth, timeout_ms;
	const char *base, *top, *format;
} args;

#define OPT_WAIT \
	{ 0, "bandwidth", "MiB/s", "no faster than this", OPT_NUM(&args.bandwidth) }, \
	{ 0, "bytes", NULL, "--bandwidth is in bytes a second", OPT_FLAG(&args.bytes) }, \
	{ 0, "wait", NULL, "wait for the job; ^C aborts it", OPT_FLAG(&args.wait) }, \
	{ 0, "verbose", NULL, "with --wait: show progress", OPT_FLAG(&args.verbose) }, \
	{ 0, "timeout", "TIME", "with --wait: abort after this", OPT_SPAN(&args.timeout_ms) }, \
	{ 0, "async", NULL, "do not wait for an abort's end", OPT_FLAG(&args.async) }

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

static int speed(uint64_t *out, struct err *e)
{
	if (args.bandwidth > (args.bytes ? INT64_MAX : INT64_MAX >> 20))
		return err_set(e, ERR_USAGE, "--bandwidth is too large");
	*out = args.bytes ? args.bandwidth : args.bandwidth << 20;
	return 0;
}

/* What the commands say: "Pull aborted". */
static const char *word(enum fermata_job op)
{
	return op == FERMATA_PULL ? "Pull" : op == FERMATA_COPY ? "Copy" : "Commit";
}

/*
 * Look again and again, each time as a command of its own: between looks the VM's lock and monitor are free for others.
 * Ends when the job has ended or is ready; *@aborted: because we were told to.
 */
static int follow(char **argv, struct fermata_block_info *info, bool *aborted, struct err *e)
{
	struct deadline d = args.timeout_ms ? deadline_in(args.timeout_ms) : deadline_never();

	for (;;) {
		auto_vm struct fermata_vm *vm = NULL;

		if (vm_get(argv[0], FERMATA_WRITE, "blockjob", &vm, e) == 0) {
			if (fermata_block_info(vm, argv[1], info, e) < 0)
				return e->code;
			if (!info->id || info->ended || (info->ready && !interrupted))
				return 0;
			if (interrupted || deadline_left_ms(d) == 0) {
				*aborted = true;
				return fermata_block_abort(vm, argv[1], !args.async, e);
			}
			if (args.verbose)
				progress(fermata_job_name(info->op), info->current, info->total);
		} else if (e->code != -EBUSY) {
			return e->code;
		}
		vm_put(&vm);
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000 }, NULL);
	}
}

static int failed(char **argv, const struct fermata_block_info *info, struct err *e)
{
	return err_set(e, -EREMOTEIO, "%s: %s: %s failed: %s", argv[0], argv[1], word(info->op), info->error);
}

/* The job is ready: what was asked for then. */
static int finish(char **argv, enum fermata_job op, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_block_info info;

	if (!args.pivot && !args.keep) {
		puts(op == FERMATA_COPY ? "Now in mirroring phase" : "Now in synchronized phase");
		return 0;
	}
	if (vm_get(argv[0], FERMATA_WRITE, "blockjob", &vm, e) < 0)
		return e->code;
	if (args.pivot) {
		if (fermata_block_pivot(vm, argv[1], e) < 0)
			return e->code;
		puts("Successfully pivoted");
		return 0;
	}
	if (fermata_block_abort(vm, argv[1], true, e) < 0 || fermata_block_info(vm, argv[1], &info, e) < 0)
		return e->code;
	if (info.error[0])
		return failed(argv, &info, e);
	puts(op == FERMATA_COPY ? "Successfully copied" : "Commit complete, overlay image kept");
	return 0;
}

static int start(char **argv, struct fermata_block *b, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_status st;

	if (vm_get(argv[0], FERMATA_WRITE, "blockjob", &vm, e) < 0 || fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	/* Off, it is done at once: there is nothing to wait for, to stay in step with, or to abort. */
	if (!st.pid && b->active && !args.pivot)
		return err_set(e, -ESRCH, "%s: the VM is not running; --pivot changes over", argv[0]);
	args.wait |= !st.pid;
	if (!st.pid) {
		call_off_on_signal();
	} else if (args.wait) {
		signal(SIGINT, on_signal);
		signal(SIGTERM, on_signal);
	}
	return fermata_block_start(vm, b, e);
}

static int run_job(char **argv, struct fermata_block *b, struct err *e)
{
	struct fermata_block_info info = { .op = b->op };
	bool aborted = false;
	int rc;

	args.wait |= args.pivot | args.keep;
	b->disk = argv[1];
	if (args.pivot && args.keep)
		return err_set(e, ERR_USAGE, "--pivot excludes --%s", b->op == FERMATA_COPY ? "finish" : "keep-overlay");
	if (!args.wait && (args.verbose || args.timeout_ms))
		return err_set(e, ERR_USAGE, "--verbose and --timeout need --wait");
	if (speed(&b->speed, e) < 0)
		return e->code;
	if (start(argv, b, e) < 0)
		return e->code;
	if (!args.wait) {
		printf("%s started\n", fermata_job_name(b->op == FERMATA_COMMIT && args.active ? FERMATA_ACTIVE_COMMIT : b->op));
		return 0;
	}
	rc = follow(argv, &info, &aborted, e);
	if (rc == 0 && args.verbose && !aborted && !info.error[0])
		progress(fermata_job_name(info.op), 1, 1);
	progress_end();
	if (rc < 0)
		return rc;
	if (aborted || !strcmp(info.error, "aborted"))
		return err_set(e, -ECANCELED, "%s: %s: %s aborted", argv[0], argv[1], word(info.op));
	if (info.ready && !info.ended)
		return finish(argv, info.op, e);
	if (info.error[0])
		return failed(argv, &info, e);
	if (args.pivot)
		puts("Successfully pivoted");
	else
		printf("%s complete\n", word(b->op));
	return 0;
}

/* ---- blockpull ------------------------------------------------------------------------------------------------ */

static const struct opt pull_opts[] = {
	{ 0, "base", "FILE", "stop at this image, at what this snapshot froze, or at DISK[N]", OPT_STR(&args.base) },
	{ 0, "keep-relative", NULL, "name the backing file as it counts from the folder of the image above", OPT_FLAG(&args.relative) },
	OPT_WAIT,
	{ 0 },
};

static int run_pull(int argc, char **argv, struct err *e)
{
	(void)argc;
	return run_job(argv, &(struct fermata_block){ .op = FERMATA_PULL, .base = args.base, .relative = args.relative }, e);
}

const struct cmd cmd_blockpull = { "blockpull", "VM DISK", "domain path", "fill a disk's image from its backing files",
	"The guest runs on; every snapshot stays.\n", pull_opts, 2, 2, run_pull };

/* ---- blockcommit ---------------------------------------------------------------------------------------------- */

static const struct opt commit_opts[] = {
	{ 0, "base", "FILE", "write into this image or DISK[N] (default: the lowest)", OPT_STR(&args.base) },
	{ 0, "top", "FILE", "write all from this image or DISK[N] down (default: the active one)", OPT_STR(&args.top) },
	{ 0, "shallow", NULL, "the base is right below the top", OPT_FLAG(&args.shallow) },
	{ 0, "active", NULL, "the active image too; it stays in step until --pivot", OPT_FLAG(&args.active) },
	{ 0, "pivot", NULL, "--active --wait, then change over to the base", OPT_FLAG(&args.pivot) },
	{ 0, "keep-overlay", NULL, "--active --wait, then stay with the overlay", OPT_FLAG(&args.keep) },
	{ 0, "delete", NULL, "remove the images that were committed", OPT_FLAG(&args.remove) },
	{ 0, "drop-snapshots", NULL, "give up snapshots whose images are overwritten", OPT_FLAG(&args.drop) },
	{ 0, "keep-relative", NULL, "name the backing file as it counts from the folder of the image above", OPT_FLAG(&args.relative) },
	OPT_WAIT,
	{ 0 },
};

static int run_commit(int argc, char **argv, struct err *e)
{
	struct fermata_block b = { .op = FERMATA_COMMIT, .base = args.base, .top = args.top, .shallow = args.shallow,
		.remove = args.remove, .drop = args.drop, .relative = args.relative };

	(void)argc;
	if (args.shallow && args.base)
		return err_set(e, ERR_USAGE, "--shallow excludes --base");
	b.active = args.active |= args.pivot | args.keep;
	return run_job(argv, &b, e);
}

const struct cmd cmd_blockcommit = { "blockcommit", "VM DISK", "domain path", "write images into a backing file of theirs",
	"The guest runs on. What snapshots froze in the base and above, below the top, is lost; they have to be given up.\n",
	commit_opts, 2, 2, run_commit };

/* ---- blockcopy ------------------------------------------------------------------------------------------------ */

static const struct opt copy_opts[] = {
	{ 0, "format", "qcow2|raw", "of the copy (default: qcow2)", OPT_STR(&args.format) },
	{ 0, "shallow", NULL, "the active image alone, on the same images", OPT_FLAG(&args.shallow) },
	{ 0, "reuse-external", NULL, "the file is there already, made for this", OPT_FLAG(&args.reuse) },
	{ 0, "pivot", NULL, "--wait, then change over to the copy", OPT_FLAG(&args.pivot) },
	{ 0, "finish", NULL, "--wait, then stay with the disk's own images", OPT_FLAG(&args.keep) },
	{ 0, "transient-job", NULL, "accepted for scripts", OPT_FLAG(&args.relative) },
	OPT_WAIT,
	{ 0 },
};

static int run_copy(int argc, char **argv, struct err *e)
{
	struct fermata_block b = { .op = FERMATA_COPY, .dest = argv[2], .shallow = args.shallow, .reuse = args.reuse,
		.dest_raw = args.format && !strcmp(args.format, "raw") };

	(void)argc;
	if (args.format && !b.dest_raw && strcmp(args.format, "qcow2"))
		return err_set(e, ERR_USAGE, "--format '%s' is neither qcow2 nor raw", args.format);
	return run_job(argv, &b, e);
}

const struct cmd cmd_blockcopy = { "blockcopy", "VM DISK DEST", "domain path dest", "copy a disk, and change over to the copy if asked",
	"The copy follows the guest until --pivot or --finish, here or with blockjob.\n", copy_opts, 3, 3, run_copy };

/* ---- blockjob ------------------------------------------------------------------------------------------------- */

static const struct opt blockjob_opts[] = {
	{ 0, "info", NULL, "how it stands (the default)", OPT_FLAG(&args.info) },
	{ 0, "raw", NULL, "in numbers", OPT_FLAG(&args.raw) },
	{ 0, "abort", NULL, "end it; one that is ready, without changing over", OPT_FLAG(&args.abort) },
	{ 0, "async", NULL, "do not wait for an abort's end", OPT_FLAG(&args.async) },
	{ 0, "pivot", NULL, "change over to the base or the copy", OPT_FLAG(&args.pivot) },
	{ 0, "bytes", NULL, "BANDWIDTH is in bytes a second, not MiB", OPT_FLAG(&args.bytes) },
	{ 0 },
};

static void print_info(const char *disk, const struct fermata_block_info *i)
{
	unsigned long long cur = i->current, end = i->total, bw = i->speed;
	unsigned percent = i->ready ? 100 : !end ? 0 : cur >= end ? 100 : (unsigned)mul_div(cur, 100, end, NULL);

	if (!i->id || i->ended) {
		printf("No current block job for %s\n", disk);
		if (i->error[0])
			printf("The last %s failed: %s\n", fermata_job_name(i->op), cmd_shown(i->error));
		return;
	}
	if (args.raw) {
		printf(" type=%s\n bandwidth=%llu\n cur=%llu\n end=%llu\n", fermata_job_name(i->op), bw, cur, end);
		return;
	}
	printf("%s: [%3u %%]", fermata_job_name(i->op), percent);
	if (bw)
		printf("    Bandwidth limit: %llu bytes/s (%llu MiB/s)", bw, bw >> 20);
	putchar('\n');
}

static int run_blockjob(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_block_info info;
	uint64_t bytes = 0;

	(void)argc;
	if (args.abort + args.pivot + (argv[2] != NULL) + (args.info || args.raw) > 1)
		return err_set(e, ERR_USAGE, "blockjob: --info, --abort, --pivot and a bandwidth exclude each other");
	if (argv[2] && (text_num(argv[2], 0, UINT64_MAX, "bandwidth", &args.bandwidth, e) < 0 || speed(&bytes, e) < 0)) {
		e->code = ERR_USAGE;
		return e->code;
	}
	if (vm_get(argv[0], FERMATA_WRITE, "blockjob", &vm, e) < 0)
		return e->code;
	if (args.abort)
		return fermata_block_abort(vm, argv[1], !args.async, e);
	if (args.pivot)
		return fermata_block_pivot(vm, argv[1], e);
	if (argv[2])
		return fermata_block_speed(vm, argv[1], bytes, e);
	if (fermata_block_info(vm, argv[1], &info, e) < 0)
		return e->code;
	print_info(argv[1], &info);
	return 0;
}

const struct cmd cmd_blockjob = { "blockjob", "VM DISK [BANDWIDTH]", "domain path bandwidth", "look at, slow down or end a disk's job",
	"BANDWIDTH is in MiB a second, 0 for no limit.\n", blockjob_opts, 2, 3, run_blockjob };

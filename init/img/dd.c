/* img dd */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/img/img.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/image/writer.h"

#define CHUNK (2u << 20)
#define BATCH (256ull << 20)

static const char *format, *out_format = "raw";
static bool share;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	{ 'O', "target-format", "FMT", "qcow2 or raw (default)", OPT_STR(&out_format) },
	OPT_SHARE(share),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

enum { BS, COUNT, IF, OF, SKIP, N_OPERANDS };
static const char *const operands[] = { "bs", "count", "if", "of", "skip" };

struct job {
	const char *given[N_OPERANDS];
	uint64_t from, to; /* what of the input's disk is copied */
	bool past;         /* it ends before skip= */
};

static int read_operands(int argc, char **argv, struct job *j, struct err *e)
{
	for (int i = 0; i < argc; i++) {
		size_t n = strcspn(argv[i], "="), k = 0;

		while (k < N_OPERANDS && (strlen(operands[k]) != n || strncmp(operands[k], argv[i], n) != 0))
			k++;
		if (k == N_OPERANDS || argv[i][n] != '=')
			return err_set(e, ERR_USAGE, "dd: '%s' is none of bs=, count=, if=, of= and skip=", argv[i]);
		j->given[k] = argv[i] + n + 1;
	}
	return j->given[IF] && j->given[OF] ? 0 : err_set(e, ERR_USAGE, "dd: both if= and of= are needed");
}

/* As qemu-img counts: count= blocks from the disk's beginning, of which skip= are passed over. */
static int read_range(struct job *j, uint64_t size, struct err *e)
{
	uint64_t bs = 512, count, skip = 0;

	if (j->given[BS] && img_size(j->given[BS], &bs, e) < 0)
		return err_at(e, "bs=");
	if (!bs || bs > INT_MAX)
		return err_set(e, ERR_USAGE, "bs=%s is not between 1 and %d", j->given[BS], INT_MAX);
	j->to = size;
	if (j->given[COUNT]) {
		if (img_size(j->given[COUNT], &count, e) < 0)
			return err_at(e, "count=");
		if (count <= INT64_MAX / bs && count * bs < j->to)
			j->to = count * bs;
	}
	if (j->given[SKIP] && img_size(j->given[SKIP], &skip, e) < 0)
		return err_at(e, "skip=");
	j->past = skip > INT64_MAX / bs || skip * bs > j->to;
	j->from = j->past ? j->to : skip * bs;
	return 0;
}

static int copy(const struct job *j, struct image *in, struct image *out, struct err *e)
{
	auto_free uint8_t *buf = malloc(CHUNK);
	auto_writer struct writer *w = NULL;
	struct image_run run;

	if (!buf)
		return err_nomem(e, "copy a disk");
	if (writer_open(out, 0, &w, e) < 0)
		return e->code;
	for (uint64_t at = j->from, n; at < j->to; at += n) {
		if (image_map(in, -1, at, j->to - at, &run, e) < 0)
			return e->code;
		n = run.len;
		/* A new file is zeros; a device holds what it held. */
		if ((run.zero || !run.data) && !out->dev->fixed)
			continue;
		if (n > CHUNK - (at - j->from) % CHUNK)
			n = CHUNK - (at - j->from) % CHUNK;
		if (image_read_run(&run, at, buf, (size_t)n, e) < 0 || writer_data(w, at - j->from, buf, (size_t)n, e) < 0 ||
			(writer_pending(w) >= BATCH && writer_commit(w, e) < 0))
			return e->code;
	}
	return writer_commit(w, e);
}

static int fill(const struct job *j, struct image *in, const struct image_name *name, struct err *e)
{
	auto_image struct image *out = NULL;

	if (img_open_to_change(name, &out, e) < 0 || image_reopen_rw(out, e) < 0)
		return e->code;
	if (out->size < j->to - j->from)
		return err_set(e, -ENOSPC, "it is smaller (%" PRIu64 " bytes) than what is to be copied (%" PRIu64 ")", out->size, j->to - j->from);
	return copy(j, in, out, e);
}

static int make(const struct job *j, struct image *in, struct err *e)
{
	auto_opts struct img_opts o = { 0 };
	auto_name struct image_name *name = NULL;
	struct qcow2_create c;
	bool old;

	if (img_name_new(j->given[OF], &name, e) < 0 || img_opts_create(&o, &c, e) < 0)
		return e->code;
	name->format = out_format;
	old = file_exists(name->path);
	if (img_is_read(in, name->path))
		return err_set(e, -EBUSY, "%s is in use: it is an image that is to be read", name->path);
	c.size = j->to - j->from;
	if (img_create_file(name->path, out_format, &o, &c, NULL, e) < 0)
		return e->code;
	if (fill(j, in, name, e) >= 0)
		return 0;
	/* Half a copy is none. */
	if (!old)
		unlink(name->path);
	return err_at(e, "%s", name->path);
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *in = NULL;
	auto_name struct image_name *name = NULL;
	struct job j = { 0 };

	if (strcmp(out_format, "raw") && strcmp(out_format, "qcow2"))
		return err_set(e, ERR_USAGE, "unknown file format '%s': qcow2 and raw are known", out_format);
	if (read_operands(argc, argv, &j, e) < 0 || img_name(j.given[IF], format, &name, e) < 0 ||
		img_open_chain(name, share ? QCOW2_SHARE : 0, &in, e) < 0 || read_range(&j, in->size, e) < 0)
		return e->code;
	/* No failure, as with dd: what is made is empty. */
	if (j.past)
		fprintf(stderr, "%s: warning: %s: skip= passes over all that there is to be copied\n", cli.prefix, name->path);
	return make(&j, in, e);
}

const struct cmd cmd_img_dd = { "dd", "[-f FMT] [-O FMT] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE", NULL, "copy a part of a disk into a new image",
	"count= and skip= are in blocks of bs= (512), and both count from the disk's beginning.\n", opts, 0, 16, run };

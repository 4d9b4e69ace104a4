/*
 * snapshot-bake: an external checkpoint's memory, whatever its form, as a file that a QEMU maps.
 *
 * Both files are made under new names beside the old ones. These are on record before, as trash, so that whatever is cut
 * off is removed by the next command; that the snapshot has them instead of the old ones, which are trash from then on, is
 * one write of the record.
 */
#include <fcntl.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

#define BYTES_MAX   (1ull << 44) /* of memory: the definition's limit */
#define EXTRA_BYTES (16u << 20)  /* device state, checksums */

struct feed {
	struct fermata_vm *vm;
	const struct mem_in *in;
	uint64_t i, from;
	uint8_t *chunk;
};

static int next(void *ctx, const uint8_t **p, size_t *n, struct err *e)
{
	struct feed *f = ctx;

	*p = f->chunk;
	*n = 0;
	if (f->i * MEM_CHUNK >= f->in->stream)
		return 0;
	return memory_step(f->vm, "Bake", f->from, f->i * MEM_CHUNK, f->in->stream, e) < 0 ? e->code :
		mem_in_chunk(f->in, f->i++, f->chunk, n, e);
}

/* Memory and devices are one stream. */
static int take_apart(struct feed *f, uint64_t bytes, struct ram_out *ram, struct buf *devices, struct err *e)
{
	struct dev *out;
	int rc;

	if (dev_open(ram->tmp, O_RDWR | O_NOFOLLOW, &out, e) < 0)
		return e->code;
	rc = stream_bake(&(struct stream_in){ next, f }, bytes, out, devices, e);
	dev_close(out);
	return rc;
}

/* The devices are alone in their stream already. */
static int take_over(struct feed *f, struct buf *devices, struct err *e)
{
	const uint8_t *p;
	size_t n;

	do {
		if (next(f, &p, &n, e) < 0)
			return e->code;
		buf_add(devices, p, n);
	} while (n);
	return buf_check(devices, "bake", e);
}

static int convert(struct fermata_vm *vm, const struct mem_in *in, const struct ram_in *from, uint64_t bytes, struct ram_out *ram,
	struct buf *devices, struct buf *more, struct err *e)
{
	auto_free uint8_t *chunk = malloc(MEM_CHUNK);
	struct feed f = { .vm = vm, .in = in, .from = clock_mono_ms(), .chunk = chunk };

	if (!chunk)
		return err_nomem(e, "bake");
	if (from)
		return take_over(&f, devices, e) < 0 ? e->code : ram_fold(vm, from, ram, more, e);
	if (take_apart(&f, bytes, ram, devices, e) < 0)
		return e->code;
	free(take_ptr(&chunk));
	return ram_out_written(vm, ram, bytes, more, e);
}

/* What the old container says, but for where its memory is */
static int manifest(const struct mem_in *in, const struct ram_out *ram, struct buf *b, struct err *e)
{
	struct json_out w;

	json_out_init(&w, b, true);
	json_obj(&w, NULL);
	json_each(v, json_root(in->manifest))
		if (strcmp(v->key, "ram"))
			json_put(&w, v->key, v);
	ram_manifest(ram, false, &w);
	json_obj_end(&w);
	return buf_check(b, "bake", e);
}

/* What @s needs more on the disk until the old files are gone, at most. */
static int check_space(const struct fermata_snap *s, uint64_t need, struct err *e)
{
	auto_free char *dir = strndup(s->memory, (size_t)(strrchr(s->memory, '/') - s->memory) + 1);
	uint64_t has;

	if (!dir)
		return err_nomem(e, "bake");
	if (file_free_space(dir, &has, e) < 0)
		return e->code;
	need += EXTRA_BYTES;
	return has >= need ? 0 : err_set(e, -ENOSPC, "the memory may take %llu MiB, %s has %llu MiB free",
		(unsigned long long)(need >> 20), dir, (unsigned long long)(has >> 20));
}

/* Both files of @s, which has their new names, out of those of @old. */
static int make(struct fermata_vm *vm, const struct fermata_snap *old, const struct fermata_snap *s, struct err *e)
{
	bool differing = fermata_snap_instant(old);
	auto_buf struct buf devices = { 0 }, text = { 0 };
	auto_mem_out struct mem_out mem = { .fd = -1 };
	auto_ram_out struct ram_out ram = { .fd = -1 };
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct ram_in from;
	uint64_t bytes;

	if (memory_open(old->memory, old, &in, e) < 0 || (differing && ram_look(&in, old, &from, e) < 0))
		return e->code;
	bytes = json_uint(json_get(json_root(in.manifest), "memory"), 0);
	if (!bytes || bytes > BYTES_MAX || bytes % MEM_CHUNK)
		return err_set(e, -EUCLEAN, "%s is damaged: %llu bytes are no memory", in.path, (unsigned long long)bytes);
	if (check_space(old, differing ? file_allocated(from.base) + from.stored : bytes < in.stream ? bytes : in.stream, e) < 0 ||
		mem_out_open(s->memory, false, false, 0, &mem, e) < 0 || ram_out_open(vm, s->ram, &ram, e) < 0)
		return e->code;
	return convert(vm, &in, differing ? &from : NULL, bytes, &ram, &devices, &mem.more, e) < 0 ||
		ram_out_place(&ram, e) < 0 || mem_out_add(&mem, devices.p, devices.n, e) < 0 || manifest(&in, &ram, &text, e) < 0 ||
		mem_out_seal(&mem, &text, e) < 0 || mem_out_place(&mem, e) < 0 ? e->code : 0;
}

/* A copy of @s with the names of what it is to have */
static struct fermata_snap *rename_files(const struct fermata_snap *s)
{
	size_t n = strlen(s->memory);
	struct fermata_snap *c = snap_copy(s);

	if (!c)
		return NULL;
	n = str_ends(s->memory, ".mem") ? n - 4 : n;
	free(c->memory);
	free(c->ram);
	free(take_ptr(&c->ram_base));
	c->memory = str_fmt("%.*s.baked.mem", (int)n, s->memory);
	c->ram = str_fmt("%.*s.baked.ram", (int)n, s->memory);
	if (c->memory && c->ram)
		return c;
	snap_free(c);
	return NULL;
}

static int trash(struct fermata_vm *vm, const char *file, bool part, struct err *e)
{
	auto_free char *tmp = part ? mem_tmp(file) : NULL;

	if (!file || !file[0])
		return 0;
	if (part && !tmp)
		return err_nomem(e, "bake");
	return record_trash(vm->rec, file, e) < 0 || (part && record_trash(vm->rec, tmp, e) < 0) ? e->code : 0;
}

static void swap(char **a, char **b)
{
	char *was = *a;

	*a = *b;
	*b = was;
}

static void exchange(struct fermata_snap *a, struct fermata_snap *b)
{
	swap(&a->memory, &b->memory);
	swap(&a->ram, &b->ram);
	swap(&a->ram_base, &b->ram_base);
}

static int commit(struct fermata_vm *vm, struct fermata_snap *s, struct fermata_snap *c, struct err *e)
{
	size_t n = vm->rec->n_trash;

	exchange(s, c);
	if (trash(vm, c->memory, false, e) == 0 && trash(vm, c->ram, false, e) == 0 && trash(vm, c->ram_base, false, e) == 0 &&
		record_save(vm->rec, e) == 0)
		return 0;
	exchange(s, c);
	while (vm->rec->n_trash > n)
		free(vm->rec->trash[--vm->rec->n_trash]);
	return e->code;
}

static int bake(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	auto_snap struct fermata_snap *c = rename_files(s);

	if (!c)
		return err_nomem(e, "bake");
	if (file_exists(c->memory) || file_exists(c->ram))
		return err_set(e, -EEXIST, "%s is there already", file_exists(c->memory) ? c->memory : c->ram);
	if (trash(vm, c->memory, true, e) < 0 || trash(vm, c->ram, true, e) < 0 || record_save(vm->rec, e) < 0)
		return e->code;
	if (make(vm, s, c, e) < 0) {
		trash_empty(vm);
		return e->code;
	}
	/* What is the snapshot's by then is left alone; all else of the trash goes. If it fails, the next command sees which. */
	if (commit(vm, s, c, e) < 0)
		return e->code;
	trash_empty(vm);
	return 0;
}

int fermata_snapshot_bake(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *found;
	struct fermata_snap *s;

	if (fermata_snap_find(vm, name, &found, e) < 0)
		return e->code;
	s = record_by_id(vm->rec, found->id);
	if (!s || s->kind != FERMATA_CHECKPOINT_EXTERNAL || !s->memory || !s->memory[0])
		return err_set(e, -EINVAL, "%s: snapshot '%s' has no memory in a file of its own", vm->name, name);
	if (fermata_snap_instant(s) && !(s->ram_base && s->ram_base[0])) {
		vm_notice(vm, "'%s' is an instant checkpoint already", name);
		return 0;
	}
	return bake(vm, s, e) < 0 ? err_at(e, "%s: cannot bake '%s'", vm->name, name) : 0;
}

/* The manifest of saved memory: what the disks and the definition were. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"

#define DEF_TEXT_MAX DEF_MAX_FILE

/*
 * How a disk's file is known again: by when it was last written. A device does not tell: there the record knows which
 * memory goes with it, until anything changes it.
 */
static void identity(const char *file, uint64_t *size, uint64_t *mtime, bool *device)
{
	struct dev *d = NULL;
	struct err ignored;
	struct stat st;

	*size = *mtime = 0;
	*device = false;
	if (stat(file, &st) < 0)
		return;
	*device = S_ISBLK(st.st_mode);
	if (S_ISREG(st.st_mode)) {
		*size = (uint64_t)st.st_size;
		*mtime = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	} else if (*device && dev_open(file, O_RDONLY, &d, &ignored) == 0) {
		*size = d->size;
		dev_close(d);
	}
}

/* What tells one saving from another. */
uint64_t nonce(const struct fermata_snap *s)
{
	return s->clock_ns ? s->clock_ns : (uint64_t)s->created << 16 ^ s->id;
}

/*
 * What the guest has written, and when: a power cut must leave the files with the times that the manifest has, and QEMU
 * flushes data alone, or (cache = unsafe) nothing.
 */
static int flush_disks(const struct fermata_vm *vm, struct err *e)
{
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (!vm->def->disks[i].readonly && file_flush(fermata_vm_disk_file(vm, i), e) < 0)
			return err_at(e, "%s", vm->def->disks[i].name);
	return vm->def->nvram ? file_flush(vm->def->nvram, e) : 0;
}

int memory_manifest(void *ctx, struct buf *b, struct err *e)
{
	const struct saving *s = ctx;
	const struct def *def = s->vm->def;
	auto_buf struct buf text = { 0 };
	struct json_out w;

	if (file_read(def->path, DEF_TEXT_MAX, &text, e) < 0 ||
		(s->vm->rec->pending.op == PENDING_SAVE && flush_disks(s->vm, e) < 0))
		return e->code;
	json_out_init(&w, b, true);
	json_obj(&w, NULL);
	json_put_str(&w, "vm", def->name);
	json_put_str(&w, "state", s->run ? "running" : "paused");
	json_put_int(&w, "created", s->snap->created);
	json_put_uint(&w, "nonce", nonce(s->snap));
	json_put_str(&w, "qemu", s->snap->qemu);
	json_put_str(&w, "machine", s->snap->machine);
	json_put_str(&w, "made", s->snap->made);
	json_put_uint(&w, "memory", def->memory);
	json_arr(&w, "disks");
	for (size_t i = 0; i < def->n_disks; i++) {
		const char *file = fermata_vm_disk_file(s->vm, i);
		uint64_t size, mtime;
		bool device;

		identity(file, &size, &mtime, &device);
		json_obj(&w, NULL);
		json_put_str(&w, "name", def->disks[i].name);
		json_put_str(&w, "file", file);
		json_put_uint(&w, "size", size);
		json_put_uint(&w, "mtime-ns", mtime);
		json_obj_end(&w);
	}
	json_arr_end(&w);
	if (s->ram)
		ram_manifest(s->ram, s->snap->ram_base && s->snap->ram_base[0], &w);
	json_put_str(&w, "definition", buf_str(&text));
	json_obj_end(&w);
	return buf_check(b, "save memory", e);
}

int fermata_saved_info(const char *file, char **json, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_buf struct buf b = { 0 };
	struct json_out w;

	if (mem_in_open(file, &in, e) < 0)
		return e->code;
	json_out_init(&w, &b, true);
	json_put(&w, NULL, json_root(in.manifest));
	if (buf_check(&b, "read saved memory", e) < 0)
		return e->code;
	*json = buf_take(&b);
	return 0;
}

/* Every disk is the very file, unchanged since. */
int manifest_check_disks(const struct fermata_vm *vm, const struct mem_in *in, struct err *e)
{
	const struct def *def = vm->def;
	size_t n = 0;

	json_each(d, json_get(json_root(in->manifest), "disks")) {
		uint64_t size, mtime;
		const char *file;
		bool device;

		if (n == def->n_disks || strcmp(json_str(json_get(d, "name"), ""), def->disks[n].name))
			break;
		file = fermata_vm_disk_file(vm, n);
		if (access(file, F_OK) < 0)
			return err_sys(e, errno, "%s: cannot find image %s", def->disks[n].name, file);
		identity(file, &size, &mtime, &device);
		if (device && !def->disks[n].readonly && vm->rec->saved != json_uint(json_get(json_root(in->manifest), "nonce"), 0)) {
			err_set(e, -ESTALE, "%s: the block device %s does not tell whether it has changed, and this memory was used "
				"before, or the VM has run since", def->disks[n].name, file);
			return err_hint(e, "restoring over it would destroy what is on it; --force does it all the same");
		}
		if (strcmp(json_str(json_get(d, "file"), ""), file) || json_uint(json_get(d, "size"), 1) != size ||
			json_uint(json_get(d, "mtime-ns"), 1) != mtime) {
			err_set(e, -ESTALE, "%s: %s has moved on since its memory was saved", def->disks[n].name, file);
			return err_hint(e, "restoring over it would destroy what is on it; --force does it all the same");
		}
		n++;
	}
	return n == def->n_disks ? 0 : err_set(e, -ESTALE, "the VM had other disks when it was saved");
}

/* What QEMU is started with is what the guest was saved in. */
int manifest_check_definition(const struct fermata_vm *vm, const struct mem_in *in, struct err *e)
{
	if (compat_definition(vm, mem_in_str(in, "definition"), e) == 0)
		return 0;
	return err_hint(e, "restore --force tries it all the same");
}

int memory_open(const char *path, const struct fermata_snap *s, struct mem_in *in, struct err *e)
{
	if (mem_in_open(path, in, e) < 0)
		return e->code;
	return json_uint(json_get(json_root(in->manifest), "nonce"), 0) == nonce(s) ? 0 :
		err_set(e, -ESTALE, "%s is not the memory that was saved there", path);
}

/* save, restore, managedsave, dump: a VM's memory in a file, and the VM off meanwhile. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/output.h"
#include "engine/ram.h"
#include "lib/dev.h"
#include "lib/file.h"
#include "lib/own.h"

#define DEF_TEXT_MAX DEF_MAX_FILE

static char *managed_path(const struct fermata_vm *vm)
{
	return str_fmt("%s/managed.save", vm->state_dir);
}

bool fermata_managed(const struct fermata_vm *vm)
{
	auto_free char *path = managed_path(vm);

	return path && file_exists(path);
}

int fermata_managed_remove(struct fermata_vm *vm, struct err *e)
{
	auto_free char *path = managed_path(vm);

	if (!path)
		return err_nomem(e, "remove a managed save");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "%s: cannot remove %s", vm->name, path);
	return dir_flush(vm->state_dir, e);
}

/* ---- the manifest ----------------------------------------------------------------------------------------- */

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

/* What tells one saving from another. */
static uint64_t nonce(const struct fermata_snap *s)
{
	return s->clock_ns ? s->clock_ns : (uint64_t)s->created << 16 ^ s->id;
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
static int check_disks(const struct fermata_vm *vm, const struct mem_in *in, struct err *e)
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

static int check_definition(const struct fermata_vm *vm, const struct mem_in *in, struct err *e)
{
	auto_buf struct buf text = { 0 };

	if (file_read(vm->def->path, DEF_TEXT_MAX, &text, e) < 0)
		return e->code;
	if (!strcmp(buf_str(&text), mem_in_str(in, "definition")))
		return 0;
	err_set(e, -ESTALE, "%s was changed since the memory was saved", vm->def->path);
	return err_hint(e, "--force tries it all the same");
}

/* ---- saving ------------------------------------------------------------------------------------------------- */

int memory_open(const char *path, const struct fermata_snap *s, struct mem_in *in, struct err *e)
{
	if (mem_in_open(path, in, e) < 0)
		return e->code;
	return json_uint(json_get(json_root(in->manifest), "nonce"), 0) == nonce(s) ? 0 :
		err_set(e, -ESTALE, "%s is not the memory that was saved there", path);
}

/* Whether @path is the file that the pending operation made. */
static bool is_ours(const char *path, const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct err ignored;

	return memory_open(path, s, &in, &ignored) == 0;
}

static int begin(struct fermata_vm *vm, enum pending_op op, const char *path, bool run, struct err *e)
{
	struct pending p = { .op = op, .live = true, .run = run, .snap = snap_new(vm->name, NULL) };

	if (p.snap)
		p.snap->memory = strdup(path);
	if (!p.snap || !p.snap->memory) {
		snap_free(p.snap);
		return err_nomem(e, "save memory");
	}
	p.snap->created = (int64_t)time(NULL);
	p.snap->clock_ns = clock_mono_ns();
	if (op == PENDING_SAVE && note_qemu(vm, p.snap, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	return pending_begin(vm, p, e);
}

/* It failed: the guest as it was, the record clean. */
static int give_up(struct fermata_vm *vm, bool ran, struct err *e)
{
	struct err also;

	if ((vm_alive(vm) && memory_go_on(vm, ran, &also) < 0) || pending_end(vm, &also) < 0) {
		err_also(e, "and could not undo: %s", also.msg);
		e->code = FERMATA_PENDING;
	}
	return e->code;
}

/*
 * The guest is stopped before its memory is read: QEMU without KVM misses writes to pages that the guest has
 * touched before. Should this process die, a child does what the next command would.
 */
static int write_memory(struct fermata_vm *vm, const char *path, bool direct, struct saving *m, bool ran, struct err *e)
{
	auto_mem_out struct mem_out o = { .fd = -1 };

	if (mem_out_open(path, false, direct, &o, e) < 0 || (ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0) ||
		memory_save(vm, &o, memory_manifest, m, e) < 0)
		return e->code;
	return mem_out_place(&o, e);
}

/* The memory is whole and has its name: the VM goes off, and is on record as what goes with the disks. */
static int end_saved(struct fermata_vm *vm, struct err *e)
{
	if (life_kill(vm, e) < 0)
		return e->code;
	vm->rec->saved = nonce(vm->rec->pending.snap);
	return pending_end(vm, e);
}

static int save(struct fermata_vm *vm, const char *path, const struct fermata_save *s, bool ran, struct err *e)
{
	struct saving m = { .vm = vm, .run = s->running || (ran && !s->paused) };
	struct kvm_guard guard;
	int rc = 0;

	if (begin(vm, PENDING_SAVE, path, ran, e) < 0)
		return e->code;
	m.snap = vm->rec->pending.snap;
	if (kvm_guard_call(recover_now, vm, &guard, e) < 0)
		return give_up(vm, ran, e);
	if (write_memory(vm, path, s->direct, &m, ran, e) < 0) {
		rc = give_up(vm, ran, e);
	} else if (end_saved(vm, e) < 0) {
		e->code = FERMATA_PENDING;
		rc = err_hint(e, "it is saved and on record; the next command ends the VM");
	} else {
		vm_because(vm, FERMATA_SHUTOFF, "saved");
	}
	kvm_guard_end(&guard);
	return rc;
}

static const struct output_kind saved_memory = { "saved memory", mem_is };

/* An ELF core, of any byte order. */
static bool core_is(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t head[18];

	return fd >= 0 && read(fd, head, sizeof head) == sizeof head && !memcmp(head, "\177ELF", 4) && head[16] + head[17] == 4;
}

static const struct output_kind memory_dump_kind = { "a dump of memory", core_is };

/* Whether a file of the user's may be written to. What it has of another VM's memory is the only copy of it. */
static int check_output(struct fermata_vm *vm, const char *path, const struct output_kind *kind, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *tmp = mem_tmp(path);
	struct err damaged;

	if (!tmp)
		return err_nomem(e, "save memory");
	if (output_check(vm, path, tmp, kind, e) < 0)
		return e->code;
	if (!mem_is(path) || mem_in_open(path, &in, &damaged) < 0 || !strcmp(mem_in_str(&in, "vm"), vm->name))
		return 0;
	err_set(e, -EEXIST, "%s is there already, and the memory of VM '%s'", path, mem_in_str(&in, "vm"));
	return err_hint(e, "remove it first, or name another file");
}

int fermata_save(struct fermata_vm *vm, const struct fermata_save *s, struct err *e)
{
	auto_free char *path = s->file ? path_beside("", s->file) : managed_path(vm);
	char status[KVM_STATUS_MAX];
	struct kvm *k;

	if (!path)
		return err_nomem(e, "save memory");
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	if ((s->file && check_output(vm, path, &saved_memory, e) < 0) || memory_check(vm, path, e) < 0 || kvm_status(k, status, e) < 0 ||
		save(vm, path, s, !strcmp(status, "running"), e) < 0)
		return err_at(e, "%s: cannot save to %s", vm->name, path);
	return 0;
}

int fermata_dump(struct fermata_vm *vm, const char *file, bool direct, struct err *e)
{
	auto_mem_out struct mem_out o = { .fd = -1 };
	auto_free char *path = path_beside("", file);

	if (!path)
		return err_nomem(e, "dump memory");
	if (check_output(vm, path, &memory_dump_kind, e) < 0 || memory_check(vm, path, e) < 0 || mem_out_open(path, true, direct, &o, e) < 0 || memory_dump(vm, &o, e) < 0 ||
		mem_out_place(&o, e) < 0)
		return err_at(e, "%s: cannot dump to %s", vm->name, path);
	return 0;
}

/* ---- restoring ---------------------------------------------------------------------------------------------- */

/* It has loaded, the guest stands: a managed save is used up before it goes on. */
static int finish(struct fermata_vm *vm, bool run, struct err *e)
{
	auto_free char *managed = managed_path(vm);
	struct kvm *k;

	if (!managed)
		return err_nomem(e, "restore");
	if (saved_forget(vm, e) < 0 || (!strcmp(vm->rec->pending.snap->memory, managed) && fermata_managed_remove(vm, e) < 0))
		return e->code;
	if (fermata_vm_kvm(vm, &k, e) < 0 || (run && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	vm_because(vm, run ? FERMATA_RUNNING : FERMATA_PAUSED, "restored");
	if (pending_end(vm, e) < 0)
		return e->code;
	if (run)
		after_restore(vm);
	return 0;
}

static int check(struct fermata_vm *vm, const struct mem_in *in, bool force, struct err *e)
{
	struct fermata_snap s = { .qemu = (char *)mem_in_str(in, "qemu"), .machine = (char *)mem_in_str(in, "machine") };

	if (vm_alive(vm))
		return err_set(e, -EEXIST, "the VM is running already");
	if (strcmp(mem_in_str(in, "vm"), vm->name))
		return err_set(e, -EINVAL, "it is the memory of '%s'", mem_in_str(in, "vm"));
	if (force)
		return 0;
	return check_disks(vm, in, e) < 0 || check_definition(vm, in, e) < 0 || check_installed_qemu(vm, &s, e) < 0 ? e->code : 0;
}

static int restore(struct fermata_vm *vm, const char *path, const struct fermata_restore *r, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	const struct kvm_caps *caps;
	const char *machine;
	struct err also;
	bool run;

	if (mem_in_open(path, &in, e) < 0 || check(vm, &in, r->force, e) < 0 || vm_caps(vm, &caps, e) < 0)
		return e->code;
	machine = mem_in_str(&in, "machine");
	run = r->running || (!r->paused && !strcmp(mem_in_str(&in, "state"), "running"));
	if (begin(vm, PENDING_RESTORE, path, run, e) < 0)
		return e->code;
	if (life_launch(vm, kvm_caps_machine(caps, machine) ? machine : NULL, true, NULL, e) == 0 && memory_load(vm, &in, e) == 0) {
		if (finish(vm, run, e) == 0)
			return 0;
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is loaded and on record; the next command finishes it");
	}
	if (vm_alive(vm) && life_kill(vm, &also) < 0)
		err_also(e, "and could not stop it: %s", also.msg);
	vm_hang_up(vm);
	return give_up(vm, false, e);
}

int fermata_restore(struct fermata_vm *vm, const struct fermata_restore *r, struct err *e)
{
	auto_free char *path = r->file ? path_beside("", r->file) : managed_path(vm);

	if (!path)
		return err_nomem(e, "restore");
	vm->keep_time = r->keep_time;
	if (restore(vm, path, r, e) == 0)
		return 0;
	if (!r->file) {
		e->hint[0] = '\0';
		err_hint(e, "--force-boot starts it without");
	}
	return err_at(e, "%s: cannot restore", vm->name);
}

/* ---- after a kill ------------------------------------------------------------------------------------------- */

static int recover_save(struct fermata_vm *vm, struct err *e)
{
	const struct pending *p = &vm->rec->pending;
	auto_free char *tmp = mem_tmp(p->snap->memory);
	bool alive = vm_alive(vm), done;

	if (!tmp)
		return err_nomem(e, "recover");
	done = is_ours(p->snap->memory, p->snap);
	/* QEMU gone with the file whole but without its name: then it is all there is of the guest. */
	if (!done && !alive && is_ours(tmp, p->snap)) {
		if (rename(tmp, p->snap->memory) < 0)
			return err_sys(e, errno, "cannot create %s", p->snap->memory);
		done = true;
	}
	/* Renamed by us or by the one that was cut off: on disk before the record forgets how to find it. */
	if (done && (file_flush(p->snap->memory, e) < 0 || file_flush_name(p->snap->memory, e) < 0))
		return e->code;
	vm_notice(vm, "save to %s was cut off: %s", p->snap->memory,
		done ? "it is now finished" : alive ? "the guest goes on" : "what it left is removed");
	unlink(tmp);
	if (done)
		return end_saved(vm, e);
	return alive && memory_go_on(vm, p->run, e) < 0 ? e->code : pending_end(vm, e);
}

int save_recover(struct fermata_vm *vm, struct err *e)
{
	const struct pending *p = &vm->rec->pending;
	char status[KVM_STATUS_MAX] = "inmigrate";
	bool loaded;
	struct kvm *k;

	if (p->op == PENDING_SAVE)
		return recover_save(vm, e);
	if (vm_alive(vm) && (fermata_vm_kvm(vm, &k, e) < 0 || kvm_status(k, status, e) < 0))
		return e->code;
	/* A QEMU that has begun to wait for its memory says so until it has all of it. */
	loaded = strcmp(status, "inmigrate") != 0;
	vm_notice(vm, "restore was cut off: %s", loaded ? "it is now finished" : "the VM is off, the file as it was");
	if (loaded)
		return finish(vm, p->run, e);
	return life_kill(vm, e) < 0 ? e->code : pending_end(vm, e);
}

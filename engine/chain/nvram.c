/*
 * The firmware's variables, where they lie in a raw file. A checkpoint has them in its memory, and QEMU writes them back;
 * every other snapshot keeps a copy of the file. Those in a qcow2 image take part as a disk does.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/lock.h"

#define NVRAM_MAX (64u << 20) /* bytes: more than any flash has */

int nvram_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	if (!vm->def->nvram || vm->def->nvram_format != FORMAT_RAW || s->kind == FERMATA_CHECKPOINT_INTERNAL ||
		s->kind == FERMATA_CHECKPOINT_EXTERNAL || s->adopted)
		return 0;
	s->nvram = str_fmt("%s/nvram-%llu", vm->state_dir, (unsigned long long)s->id);
	return s->nvram ? 0 : err_nomem(e, "keep the nvram");
}

int nvram_keep(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *tmp = s->nvram ? made_tmp(s->nvram, vm->rec->pending.mark) : NULL;
	auto_buf struct buf b = { 0 };
	auto_fd int fd = -1;

	if (!s->nvram)
		return 0;
	if (!tmp)
		return err_nomem(e, "keep the nvram");
	if (file_read(vm->def->nvram, NVRAM_MAX, &b, e) < 0)
		return err_at(e, "nvram");
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, errno, "nvram: cannot create %s", tmp);
	if (io_write_full(fd, b.p, b.n, tmp, e) < 0 || made_stamp(vm, fd, tmp, e) < 0)
		return err_at(e, "nvram");
	if (fsync(fd) < 0)
		return err_sys(e, errno, "nvram: cannot flush %s", tmp);
	return file_place_new(tmp, s->nvram, e) < 0 || file_flush_name(s->nvram, e) < 0 ? err_at(e, "nvram") : 0;
}

void nvram_compare(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_buf struct buf a = { 0 }, b = { 0 };
	struct err ignored;

	if (s->nvram && (file_read(vm->def->nvram, NVRAM_MAX, &a, &ignored) < 0 ||
		file_read(s->nvram, NVRAM_MAX, &b, &ignored) < 0 || a.n != b.n || memcmp(a.p, b.p, a.n)))
		vm_notice(vm, "the guest was changing its nvram: what is kept is from right before the snapshot");
}

int nvram_open(struct fermata_vm *vm, const struct fermata_snap *s, struct nvram_change *c, struct err *e)
{
	const char *to = vm->def->nvram;

	*c = (struct nvram_change){ 0 };
	if (!s->nvram || !to || vm->def->nvram_format != FORMAT_RAW)
		return 0;
	if (file_read(s->nvram, NVRAM_MAX, &c->text, e) < 0)
		return err_at(e, "nvram");
	c->path = to;
	c->fd = open(to, O_RDWR | O_CLOEXEC);
	if (c->fd < 0 && errno == ENOENT) {
		c->fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		c->made = c->fd >= 0;
	}
	if (c->fd < 0)
		return err_sys(e, errno, "nvram: cannot open %s", to);
	return image_lock(c->fd, to, true, e) < 0 ? err_at(e, "nvram") : 0;
}

int nvram_write(struct nvram_change *c, struct err *e)
{
	c->made = false;
	/* In place, so that owner, mode and links stay: a revert that is cut off is done again. */
	if (io_write_full(c->fd, c->text.p, c->text.n, c->path, e) < 0)
		return err_at(e, "nvram");
	if (ftruncate(c->fd, (off_t)c->text.n) < 0 || fsync(c->fd) < 0)
		return err_sys(e, errno, "nvram: cannot write %s", c->path);
	/* The name too: nvram_open() has made the file if it was gone, perhaps before a cut. */
	return file_flush_name(c->path, e) < 0 ? err_at(e, "nvram") : 0;
}

void nvram_close(struct nvram_change *c)
{
	if (c->path && c->made)
		unlink(c->path);
	if (c->path && c->fd >= 0)
		close(c->fd);
	buf_done(&c->text);
	*c = (struct nvram_change){ 0 };
}

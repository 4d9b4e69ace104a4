/* The file that a guest's memory is, or begins as. */
#include "kvm/ram_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/spawn.h"
#include "lib/file.h"
#include "lib/own.h"

#define PIECE ((size_t)1 << 20)

/* A file system that is mounted for reading alone: no rights help. */
static bool is_read_only(const char *file)
{
	return access(file, W_OK) < 0 && errno == EROFS;
}

bool kvm_map_copies(const struct kvm_caps *c, const char *file)
{
	return !c->maps_readonly && is_read_only(file);
}

enum ram_file ram_file_of(const struct kvm_spec *spec)
{
	if (!spec->memory_map)
		return spec->memory_dir ? RAM_OWN : RAM_NONE;
	if (!is_read_only(spec->memory_map))
		return RAM_MAPPED;
	return spec->caps->maps_readonly ? RAM_READONLY : RAM_COPY;
}

/* What are holes there are holes here, until the guest touches them. */
static int copy_data(int from, int to, off_t end, const char *file, struct err *e)
{
	auto_free uint8_t *buf = malloc(PIECE);
	off_t at = 0, data;

	if (!buf)
		return err_nomem(e, "copy the guest's memory");
	while (at < end && (data = lseek(from, at, SEEK_DATA)) >= 0 && data < end) {
		off_t hole = lseek(from, data, SEEK_HOLE);

		hole = hole < 0 || hole > end ? end : hole;
		for (at = data; at < hole;) {
			size_t n = hole - at < (off_t)PIECE ? (size_t)(hole - at) : PIECE;

			if (lseek(from, at, SEEK_SET) < 0 || lseek(to, at, SEEK_SET) < 0)
				return err_sys(e, errno, "cannot copy %s", file);
			if (io_read_full(from, buf, n, file, e) < 0 || io_write_full(to, buf, n, "the guest's memory", e) < 0)
				return e->code;
			at += (off_t)n;
		}
	}
	return 0;
}

static int fill(const struct kvm_spec *spec, int to, struct err *e)
{
	auto_fd int from = open(spec->memory_map, O_RDONLY | O_CLOEXEC);
	off_t end = (off_t)spec->def->memory;
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		return err_sys(e, errno, "cannot open %s", spec->memory_map);
	return copy_data(from, to, st.st_size < end ? st.st_size : end, spec->memory_map, e);
}

/*
 * Without a name, so that nothing is left of it when QEMU ends by itself; all of it is there from the start, since a guest that
 * touches what a full file system cannot give dies of it.
 */
static int make(const struct kvm_spec *spec, const struct spawn_user *u, int *fd, struct err *e)
{
	const char *dir = spec->memory_dir;
	unsigned long long bytes = spec->def->memory;
	int rc;

	if (dir_make(dir, 0755, e) < 0)
		return e->code;
	*fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*fd < 0)
		return err_sys(e, errno, "cannot create the guest's memory in %s", dir);
	rc = ftruncate(*fd, (off_t)bytes) < 0 ? errno : posix_fallocate(*fd, 0, (off_t)bytes);
	if (rc) {
		err_sys(e, rc, "cannot have %llu MiB of memory in %s", bytes >> 20, dir);
		return err_hint(e, "the definition's memory-dir names another folder");
	}
	/* QEMU opens it once more, by its number. */
	return u && fchown(*fd, u->uid, u->gid) < 0 ? err_sys(e, errno, "cannot give the guest's memory to its user") : 0;
}

int ram_file_make(const struct kvm_spec *spec, const struct spawn_user *u, int *fd, struct err *e)
{
	enum ram_file kind = ram_file_of(spec);

	*fd = -1;
	if (kind != RAM_OWN && kind != RAM_COPY)
		return 0;
	return make(spec, u, fd, e) < 0 || (kind == RAM_COPY && fill(spec, *fd, e) < 0) ? e->code : 0;
}

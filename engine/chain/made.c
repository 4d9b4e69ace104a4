/*
 * What a pending operation makes is known again when it has to be undone: by a mark that is on record before anything is
 * made. An image has it in its header, and is put in its place with it; saved memory has a place for it, too; any other file
 * is known by its time. What has none of these was put there by somebody else.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

#define SECOND_NS 1000000000u

char *made_tmp(const char *path, uint64_t mark)
{
	return str_fmt("%s.part.%016llx", path, (unsigned long long)mark);
}

static struct timespec stamp_of(const struct pending *p)
{
	return (struct timespec){ .tv_sec = (time_t)(p->since_ns / SECOND_NS), .tv_nsec = (long)(p->mark % SECOND_NS) };
}

int made_stamp(struct fermata_vm *vm, int fd, const char *path, struct err *e)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, stamp_of(&vm->rec->pending) };

	return vm->rec->pending.mark && futimens(fd, t) < 0 ? err_sys(e, errno, "cannot set the time of %s", path) : 0;
}

bool made_stamped(struct fermata_vm *vm, const char *path)
{
	struct timespec t = stamp_of(&vm->rec->pending);
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_mtim.tv_sec != t.tv_sec)
		return false;
	/* Where a file system has whole seconds, or hundreds of nanoseconds, that is what is left of it. */
	return st.st_mtim.tv_nsec == t.tv_nsec || st.st_mtim.tv_nsec == t.tv_nsec - t.tv_nsec % 100 || !st.st_mtim.tv_nsec;
}

int made_image(const char *path, uint64_t mark, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode))
		return 0;
	/* No header, or not one of this format: it has never been one of ours. What is only damaged may have been. */
	if (qcow2_open(path, QCOW2_SHARE, &q, e) < 0)
		return e->code == -EINVAL || e->code == -ENODATA ? 0 : e->code;
	qcow2_get_info(q, &info);
	return info.mark == mark;
}

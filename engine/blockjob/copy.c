/* The file that blockcopy makes: known again when the copy comes to nothing. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/blockjob/internal.h"
#include "engine/chain/chain.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/own.h"

int copy_note(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	struct stat st;

	if (!j->raw)
		return 0;
	if (lstat(j->images[1], &st) < 0)
		return err_sys(e, errno, "cannot look at %s", j->images[1]);
	j->inode = st.st_ino;
	return record_save(vm->rec, e);
}

/* A raw file that was cut off before it was noted holds nothing. */
static bool is_ours(const struct record_job *j)
{
	const char *file = j->images[1];
	struct err ignored;
	struct stat st;

	if (!j->mark) /* a record from before there were marks */
		return true;
	if (!j->raw)
		return made_image(file, j->mark, &ignored) == 1;
	return lstat(file, &st) == 0 && S_ISREG(st.st_mode) && (j->inode ? st.st_ino == j->inode : !st.st_blocks);
}

int copy_drop(struct fermata_vm *vm, const struct record_job *j, struct err *e)
{
	auto_free char *tmp = j->mark && !j->raw ? made_tmp(j->images[1], j->mark) : NULL;
	struct stat st;

	if (j->reused)
		return 0;
	if (tmp && record_trash(vm->rec, tmp, e) < 0)
		return e->code;
	if (lstat(j->images[1], &st) < 0 && errno == ENOENT)
		return 0;
	if (is_ours(j))
		return record_trash(vm->rec, j->images[1], e);
	made_stays(vm, j->images[1]);
	return 0;
}

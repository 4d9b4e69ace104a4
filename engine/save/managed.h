/*
 * Managed saves: the memory of a VM that is off, in its state folder. The next start goes on from "managed.save", and uses
 * it up. One that a start went past is set aside as "managed.save.N": no start takes it, restore does.
 */
#ifndef ENGINE_SAVE_MANAGED_H
#define ENGINE_SAVE_MANAGED_H

#include "engine/vm/vm.h"
#include "lib/err.h"

/* Where the next start looks. Caller frees; NULL: no memory. */
char *managed_path(const struct fermata_vm *vm);

/*
 * A VM that is off and has a managed save may not be changed: 0, or -EBUSY. @force: the save is set aside instead, which the
 * user is told.
 */
int managed_none(struct fermata_vm *vm, bool force, struct err *e) MUST_CHECK;

/*
 * Set the save aside, if there is one. @file: out, where it is then; NULL: there was none. Caller frees. managed_put_back():
 * nothing came of that for which it was. managed_tell(): the user is to hear of it.
 */
int managed_set_aside(struct fermata_vm *vm, char **file, struct err *e) MUST_CHECK;
int managed_put_back(struct fermata_vm *vm, const char *file, struct err *e) MUST_CHECK;
void managed_tell(struct fermata_vm *vm, const char *file);

/* Remove @file if it is one of the VM's own, of either kind: its guest goes on. */
int managed_use_up(struct fermata_vm *vm, const char *file, struct err *e) MUST_CHECK;

/* A boot without a save is healthy: remove those that were set aside before number @before. 0: all. */
int managed_expire(struct fermata_vm *vm, uint64_t before, struct err *e) MUST_CHECK;

/* The number that the next one set aside will have. */
uint64_t managed_next(const struct fermata_vm *vm);

#endif

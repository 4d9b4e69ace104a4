/* engine/chain/internal.h */
#ifndef ENGINE_CHAIN_INTERNAL_H
#define ENGINE_CHAIN_INTERNAL_H

#include <limits.h>
#include <stdbool.h>

#include "engine/chain/chain.h"
#include "kvm/def.h"

struct fermata_snap;
struct fermata_vm;
struct kvm_chain;
struct record;

static inline void chain_donep(struct kvm_chain *c)
{
	chain_done(c);
}
#define auto_chain __attribute__((cleanup(chain_donep)))

/* ---- overlay.c ---- */

/*
 * How an overlay names @backing in its header: absolute, the very name under which QEMU has it open. With any other name, a
 * question about the nodes costs QEMU time and bytes that grow with the square of the chain. Caller frees; NULL: no memory.
 */
char *backing_name(const char *backing);

/* Add what a VM's definition, record and all chains that begin in them need. */
void file_set_add_needs(struct file_set *s, const struct def *def, const struct record *r);

/* Whether both paths name the same folder. */
bool in_one_folder(const char *a, const char *b);

/* ---- backing.c ---- */

/* What the header of a qcow2 image names: the backing file, and the external data file, "" where there is none. */
int read_names(const char *image, char next[PATH_MAX], bool *raw, char data[PATH_MAX], struct err *e) MUST_CHECK;

/* ---- base.c ---- */

/* The snapshot that froze @file, or NULL. */
const struct fermata_snap *frozen_by(const struct record *r, const char *file);

/* In memory: remember @file as it is, below @above (NULL: not known now). It is read only if it is news. Best effort. */
void base_note(struct fermata_vm *vm, const char *above, const char *file, bool raw);

/* ---- overlay.c ---- */

void other_needs(struct file_set *s, struct fermata_vm *vm, const char *name);

#endif

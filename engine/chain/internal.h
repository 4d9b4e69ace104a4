/* engine/chain/internal.h */
#ifndef ENGINE_CHAIN_INTERNAL_H
#define ENGINE_CHAIN_INTERNAL_H

#include <limits.h>
#include <stdbool.h>

#include "engine/chain/chain.h"
#include "kvm/def.h"

struct err;
struct kvm_chain;
struct record;

static inline void chain_donep(struct kvm_chain *c)
{
	chain_done(c);
}
#define auto_chain __attribute__((cleanup(chain_donep)))

/* ---- overlay.c ---- */

/* Add what a VM's definition, record and all chains that begin in them need. */
void file_set_add_needs(struct file_set *s, const struct def *def, const struct record *r);

/* ---- backing.c ---- */

int resolve(const char *image, const char *backing, char real[PATH_MAX], struct err *e);

/* ---- chain.c ---- */

int read_names(const char *image, char next[PATH_MAX], bool *raw, char data[PATH_MAX], struct err *e);

#endif

/*
 * Moving guest data between the images of a chain that nobody uses: commit, pull, rebase. A header of its own, because
 * qcow2.h is about one image and a chain is of several, raw ones among them.
 *
 * What all of them promise: data goes into the target by the writer's shadow commits (writer.h), some hundred MiB at a
 * time, and the images that are only read stay as they are. A cut at any point leaves images without damage, and a
 * guest that uses the chain by its top image finds what it found before. Done again, each does what is left to do.
 *
 * The chains come from image_open_chain(); the target is made writable with image_reopen_rw() before.
 */
#ifndef QCOW2_IMAGE_CHAIN_H
#define QCOW2_IMAGE_CHAIN_H

#include "qcow2/image/image.h"

struct chain_job {
	/* Called after each piece with bytes; not 0: stop, -ECANCELED. What is committed by then stays. May be NULL. */
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	uint64_t batch; /* commit after so many bytes; 0: 256 MiB */
};

struct chain_cost {
	uint64_t copy; /* bytes to be written */
	uint64_t need; /* bytes that the target's file may grow by, tables and what is free only afterwards included */
};

/*
 * Write into @base all that the images above it have, @top being the highest: @base then reads as @top does.
 *
 * A @top that is larger makes @base larger; a @base that is larger keeps its size, and what it has behind @top's end.
 * @base's enabled bitmaps get the ranges set, before any data is written. The overlays are not touched; those between
 * stop making sense, as does every other overlay of @base. Their internal snapshots are not moved.
 */
int chain_commit(struct image *top, struct image *base, const struct chain_job *j, struct err *e) MUST_CHECK;
int chain_commit_cost(struct image *top, struct image *base, struct chain_cost *c, struct err *e) MUST_CHECK;

/*
 * Copy into @top what it has from the images between it and @base (NULL: from all below it), then let it name @base as
 * its backing file, as @name of format @fmt. The guest's disk never changes; commit point: the header's first sector.
 * -EOPNOTSUPP: an internal snapshot of @top reads from the images between, named.
 */
int chain_pull(struct image *top, struct image *base, const char *name, const char *fmt, const struct chain_job *j,
	struct err *e) MUST_CHECK;
int chain_pull_cost(struct image *top, struct image *base, struct chain_cost *c, struct err *e) MUST_CHECK;

/*
 * Let @top name @below (NULL: nothing) as its backing file, as @name of format @fmt, after copying into it what reads
 * otherwise there. @below is the top of another chain, open for reading. The rest is as with chain_pull().
 */
int chain_rebase(struct image *top, struct image *below, const char *name, const char *fmt, const struct chain_job *j,
	struct err *e) MUST_CHECK;

#endif

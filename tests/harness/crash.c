#include "tests/harness/crash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/rand.h"

#define SECTOR 512u

/* The unit that reaches the disk whole: one sector's part of a write, or one truncation or clearing. */
struct atom {
	const struct log_op *op;
	uint64_t off, n;
	const uint8_t *data;
};

struct set { /* of 64-bit hashes, open addressing; 0 is never stored */
	uint64_t *slot;
	size_t cap, n;
};

struct crash_epoch {
	const struct log_op *ops; /* since the last flush */
	size_t n_ops;
	struct atom *atoms;
	size_t n_atoms;
	size_t *first; /* index of each operation's first atom, n_ops + 1 entries */
	bool *sel;     /* which atoms survive */
	bool grown;    /* and the file has its full length whatever of the data did */
	uint64_t max_end;
	bool simple; /* writes only: what changed is easily put back */

	uint8_t *base, *cur;
	uint64_t base_size, cur_size;
	uint64_t *base_hash; /* by sector */
	uint64_t base_sum;
	uint64_t *stamp, stamp_now; /* by sector: seen in this state */
	size_t *touched, n_touched;
	uint64_t cap;

	unsigned n_flushed;
	bool last, flushed_last, completed;
	struct set seen;
	crash_visit *visit;
	void *ctx;
	struct crash_stats stats;
	uint64_t rnd;
	const struct crash_opts *o;
};

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

static bool set_add(struct set *s, uint64_t h)
{
	size_t i;

	h += !h;
	if (2 * s->n >= s->cap) {
		struct set big = { .cap = s->cap ? 2 * s->cap : 1024 };

		big.slot = need(calloc(big.cap, sizeof(*big.slot)));
		for (i = 0; i < s->cap; i++)
			if (s->slot[i])
				set_add(&big, s->slot[i]);
		free(s->slot);
		*s = big;
	}
	for (i = h & (s->cap - 1); s->slot[i]; i = (i + 1) & (s->cap - 1))
		if (s->slot[i] == h)
			return false;
	s->slot[i] = h;
	s->n++;
	return true;
}

/* A sector of zeros hashes to 0, so that growing a file need not touch anything. */
static uint64_t sector_hash(const uint8_t *bytes, uint64_t size, size_t i)
{
	uint64_t n = size - i * SECTOR < SECTOR ? size - i * SECTOR : SECTOR, h = 0, w, any = 0;

	for (uint64_t k = 0; k < SECTOR; k += 8) { /* beyond the end are zeros: growing changes no hash */
		w = 0;
		if (k < n)
			memcpy(&w, bytes + i * SECTOR + k, n - k < 8 ? n - k : 8);
		any |= w;
		h = (h ^ w) * 0x9fb21c651e98df25ull;
		h ^= h >> 29;
	}
	return any ? mix64(h + i * 0x9e3779b97f4a7c15ull) : 0;
}

static size_t n_sectors(uint64_t size)
{
	return (size + SECTOR - 1) / SECTOR;
}

uint64_t crash_hash(const uint8_t *bytes, uint64_t size)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n_sectors(size); i++)
		sum += sector_hash(bytes, size, i);
	return mix64(sum ^ mix64(size + 1));
}

static void set_cur_size(struct crash_epoch *c, uint64_t size)
{
	if (size > c->cur_size)
		memset(c->cur + c->cur_size, 0, size - c->cur_size);
	c->cur_size = size;
}

static void touch(struct crash_epoch *c, uint64_t off, uint64_t n)
{
	if (!n)
		return;
	for (size_t i = off / SECTOR; i <= (off + n - 1) / SECTOR; i++)
		if (c->stamp[i] != c->stamp_now) {
			c->stamp[i] = c->stamp_now;
			c->touched[c->n_touched++] = i;
		}
}

static void apply(struct crash_epoch *c, const struct atom *a)
{
	if (a->op->kind == LOG_TRUNC) {
		set_cur_size(c, a->off);
		return;
	}
	if (a->off + a->n > c->cur_size)
		set_cur_size(c, a->off + a->n);
	if (a->data)
		memcpy(c->cur + a->off, a->data, a->n);
	else
		memset(c->cur + a->off, 0, a->n);
	touch(c, a->off, a->n);
}

/* Sum of the sectors' hashes: only what was touched is computed, unless sizes went up and down. */
static uint64_t cur_hash(const struct crash_epoch *c)
{
	uint64_t sum = c->base_sum;

	if (!c->simple)
		return crash_hash(c->cur, c->cur_size);
	for (size_t k = 0; k < c->n_touched; k++) {
		size_t i = c->touched[k];

		if (i < n_sectors(c->base_size))
			sum -= c->base_hash[i];
		sum += sector_hash(c->cur, c->cur_size, i);
	}
	/* The base's last, partial sector reads on as zeros: its hash stays the same. */
	return mix64(sum ^ mix64(c->cur_size + 1));
}

static void undo(struct crash_epoch *c)
{
	if (!c->simple) {
		memcpy(c->cur, c->base, c->base_size);
	} else {
		for (size_t k = 0; k < c->n_touched; k++) {
			uint64_t off = c->touched[k] * SECTOR;

			if (off < c->base_size)
				memcpy(c->cur + off, c->base + off,
				       c->base_size - off < SECTOR ? c->base_size - off : SECTOR);
		}
	}
	c->cur_size = c->base_size;
	c->n_touched = 0;
}

/* Build the state that the selection describes; visit it if it is new. */
static int visit(struct crash_epoch *c)
{
	struct crash_state s = { .n_flushed = c->n_flushed, .epoch = c };
	bool all = c->last && !c->completed, fresh;
	int r = 0;

	c->stamp_now++;
	for (size_t i = 0; i < c->n_atoms; i++)
		if (c->sel[i])
			apply(c, &c->atoms[i]);
		else
			all = false;
	if (c->grown && c->max_end > c->cur_size)
		set_cur_size(c, c->max_end);
	c->stats.n_built++;
	fresh = set_add(&c->seen, cur_hash(c));
	if (fresh || all) { /* the complete one is judged as such, also when a cut could have left the same */
		c->stats.n_distinct += fresh;
		c->completed |= all;
		s.bytes = c->cur;
		s.size = c->cur_size;
		s.complete = all;
		s.durable = all && c->flushed_last;
		r = c->visit(&s, c->ctx);
	}
	undo(c);
	return r;
}

static void select_all(struct crash_epoch *c, bool on)
{
	memset(c->sel, on, c->n_atoms);
}

static void select_op(struct crash_epoch *c, size_t op, bool on)
{
	memset(c->sel + c->first[op], on, c->first[op + 1] - c->first[op]);
}

/* Every subset of whole operations, or of atoms. */
static int every_subset(struct crash_epoch *c, size_t n, bool atoms)
{
	int r;

	for (uint64_t mask = 0; mask < 1ull << n; mask++) {
		for (size_t i = 0; i < n; i++)
			if (atoms)
				c->sel[i] = mask >> i & 1;
			else
				select_op(c, i, mask >> i & 1);
		if ((r = visit(c)))
			return r;
	}
	return 0;
}

/* All before the cut, with and without the file's growth. */
static int prefixes(struct crash_epoch *c)
{
	int r = 0;

	select_all(c, false);
	for (size_t i = 0; i <= c->n_ops && !r; i++) {
		c->grown = c->simple;
		r = visit(c);
		c->grown = false;
		if (!r)
			r = visit(c);
		if (i < c->n_ops)
			select_op(c, i, true);
	}
	return r;
}

static int dropped_and_alone(struct crash_epoch *c, unsigned budget)
{
	size_t step = 1 + 2 * c->n_ops / (budget + 1), i, j;
	int r;

	for (i = rand_below(&c->rnd, step); i < c->n_ops; i += step)
		for (int alone = 0; alone < 2; alone++) {
			select_all(c, !alone);
			select_op(c, i, alone);
			if ((r = visit(c)))
				return r;
		}
	for (unsigned k = 0; k < budget; k++) {
		i = rand_below(&c->rnd, c->n_ops);
		j = rand_below(&c->rnd, c->n_ops);
		select_all(c, !(k & 1));
		select_op(c, i, k & 1);
		select_op(c, j, k & 1);
		if ((r = visit(c)))
			return r;
	}
	return 0;
}

static int samples(struct crash_epoch *c, unsigned budget)
{
	int r;

	for (unsigned k = 0; k < budget; k++) {
		unsigned density = 1 + (unsigned)rand_below(&c->rnd, 15);

		for (size_t i = 0; i < c->n_ops; i++)
			if (k & 1)
				select_op(c, i, rand_below(&c->rnd, 16) < density);
			else
				for (size_t a = c->first[i]; a < c->first[i + 1]; a++)
					c->sel[a] = rand_below(&c->rnd, 16) < density;
		if ((r = visit(c)))
			return r;
	}
	return 0;
}

/* One operation torn: with nothing else, with all before it, with all others. */
static int tear(struct crash_epoch *c, size_t op, unsigned n_cuts)
{
	size_t a = c->first[op], n = c->first[op + 1] - a;
	int r;

	for (int around = 0; around < 3; around++) {
		select_all(c, around == 2);
		if (around == 1)
			memset(c->sel, true, a);
		for (size_t k = 0; k < n_cuts + 2; k++) {
			size_t cut = n_cuts >= n - 1 ? k + 1 : 1 + rand_below(&c->rnd, n - 1);

			if (k < n_cuts && cut < n) {
				for (size_t i = 0; i < n; i++)
					c->sel[a + i] = i < cut;
				if ((r = visit(c)))
					return r;
				for (size_t i = 0; i < n; i++)
					c->sel[a + i] = i >= cut;
			} else {
				for (size_t i = 0; i < n; i++)
					c->sel[a + i] = rand_next(&c->rnd) & 1;
			}
			if ((r = visit(c)))
				return r;
		}
	}
	return 0;
}

static int all_torn(struct crash_epoch *c, unsigned budget)
{
	size_t torn = 0, each, step;
	int r;

	for (size_t i = 0; i < c->n_ops; i++)
		torn += c->first[i + 1] - c->first[i] > 1;
	if (!torn)
		return 0;
	each = budget / torn / 6;
	each = each < 2 ? 2 : each > 16 ? 16 : each;
	step = 1 + torn * each * 6 / (budget + 1);
	for (size_t i = rand_below(&c->rnd, step); i < c->n_ops; i += step)
		if (c->first[i + 1] - c->first[i] > 1 && (r = tear(c, i, (unsigned)each)))
			return r;
	return 0;
}

static int one_epoch(struct crash_epoch *c)
{
	unsigned all = c->o->all_subsets ? c->o->all_subsets : 10, budget = c->o->budget ? c->o->budget : 400;
	int r = prefixes(c);

	if (r || !c->n_atoms)
		return r;
	if (c->n_atoms <= all)
		return every_subset(c, c->n_atoms, true);
	r = c->n_ops <= all ? every_subset(c, c->n_ops, false) : dropped_and_alone(c, budget / 4);
	if (!r)
		r = all_torn(c, budget / 2);
	return r ? r : samples(c, budget / 4);
}

static void add_atoms(struct crash_epoch *c, const struct log_op *op)
{
	uint64_t done = 0, n;

	do {
		n = op->n - done;
		if (op->kind == LOG_WRITE && n > SECTOR - (op->off + done) % SECTOR)
			n = SECTOR - (op->off + done) % SECTOR;
		c->atoms[c->n_atoms++] =
			(struct atom){ op, op->off + done, n, op->data ? op->data + done : NULL };
		done += n;
	} while (done < op->n);
}

/* Cut the operations up to the next flush into atoms, starting from the present base. */
static void begin(struct crash_epoch *c)
{
	size_t max = 0;

	for (size_t i = 0; i < c->n_ops; i++)
		max += 2 + c->ops[i].n / SECTOR;
	c->atoms = need(realloc(c->atoms, (max + 1) * sizeof(*c->atoms)));
	c->first = need(realloc(c->first, (c->n_ops + 1) * sizeof(*c->first)));
	c->sel = need(realloc(c->sel, max + 1));
	c->n_atoms = 0;
	c->simple = true;
	c->max_end = 0;
	for (size_t i = 0; i < c->n_ops; i++) {
		const struct log_op *op = &c->ops[i];

		c->first[i] = c->n_atoms;
		if (op->kind != LOG_WRITE)
			c->simple = false;
		if (op->off + op->n > c->max_end)
			c->max_end = op->off + op->n;
		add_atoms(c, op);
	}
	c->first[c->n_ops] = c->n_atoms;
	memcpy(c->cur, c->base, c->base_size);
	c->cur_size = c->base_size;
	c->base_sum = 0;
	for (size_t i = 0; i < n_sectors(c->base_size); i++)
		c->base_sum += c->base_hash[i] = sector_hash(c->base, c->base_size, i);
}

/* The flush happened: all of the stretch is the next one's base. */
static void finish(struct crash_epoch *c)
{
	c->stamp_now++;
	for (size_t i = 0; i < c->n_atoms; i++)
		apply(c, &c->atoms[i]);
	c->n_touched = 0;
	memcpy(c->base, c->cur, c->cur_size);
	c->base_size = c->cur_size;
}

static uint64_t largest(const struct logdev *d)
{
	uint64_t max = d->base_size > d->dev.size ? d->base_size : d->dev.size;

	for (size_t i = 0; i < d->n_ops; i++)
		if (d->ops[i].off + d->ops[i].n > max)
			max = d->ops[i].off + d->ops[i].n;
	return max;
}

int crash_states(const struct logdev *d, const struct crash_opts *o, crash_visit *visitor, void *ctx,
		 struct crash_stats *stats)
{
	static const struct crash_opts defaults = { .seed = 1 };
	struct crash_epoch c = { .o = o ? o : &defaults, .visit = visitor, .ctx = ctx };
	size_t sectors, i = 0;
	int r = 0;

	c.rnd = c.o->seed;
	c.cap = largest(d);
	sectors = n_sectors(c.cap) + 1;
	c.base = need(calloc(1, c.cap + 1));
	c.cur = need(calloc(1, c.cap + 1));
	c.base_hash = need(calloc(sectors, sizeof(*c.base_hash)));
	c.stamp = need(calloc(sectors, sizeof(*c.stamp)));
	c.touched = need(calloc(sectors, sizeof(*c.touched)));
	if (d->base_size)
		memcpy(c.base, d->base, d->base_size);
	c.base_size = d->base_size;
	do {
		c.ops = d->ops + i;
		for (c.n_ops = 0; i < d->n_ops && d->ops[i].kind != LOG_FLUSH; i++)
			c.n_ops++;
		c.last = i == d->n_ops || i + 1 == d->n_ops;
		c.flushed_last = i < d->n_ops;
		begin(&c);
		r = one_epoch(&c);
		finish(&c);
		c.n_flushed++;
		c.stats.n_epochs++;
	} while (!r && ++i < d->n_ops);
	c.stats.n_ops = d->n_ops;
	if (stats)
		*stats = c.stats;
	free(c.base);
	free(c.cur);
	free(c.base_hash);
	free(c.stamp);
	free(c.touched);
	free(c.atoms);
	free(c.first);
	free(c.sel);
	free(c.seen.slot);
	return r;
}

void crash_describe(const struct crash_state *s, char *out, size_t n)
{
	const struct crash_epoch *c = s->epoch;
	size_t at = 0;

#define SAY(...)                                                                                                       \
	do {                                                                                                           \
		if (at < n)                                                                                            \
			at += (size_t)snprintf(out + at, n - at, __VA_ARGS__);                                         \
	} while (0)
	SAY("cut after %u flushes, size %llu%s:", s->n_flushed, (unsigned long long)s->size, c->grown ? ", grown" : "");
	for (size_t i = 0; i < c->n_ops; i++) {
		const struct log_op *op = &c->ops[i];
		size_t a = c->first[i], end = c->first[i + 1], have = 0;

		for (size_t k = a; k < end; k++)
			have += c->sel[k];
		SAY(" %s%s 0x%llx+%llu", have == end - a ? "" : have ? "torn " : "no ",
		    op->kind == LOG_WRITE ? "write" : op->kind == LOG_TRUNC ? "truncate" : "zero",
		    (unsigned long long)op->off, (unsigned long long)op->n);
		for (size_t k = a; have && have < end - a && k < end; k++)
			SAY("%s%c", k == a ? "=" : "", c->sel[k] ? '1' : '0');
	}
#undef SAY
}

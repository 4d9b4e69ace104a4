/* The commit record: what is written is what is read, and what somebody else wrote is judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "lib/file.h"
#include "lib/own.h"

static char dir[] = "/tmp/fermata-record-XXXXXX";
static char path[64];

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/state.json", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static struct fermata_snap *make(uint64_t id, uint64_t parent, const char *name)
{
	struct fermata_snap *s = snap_new(name, "one \"line\"\n and another");
	struct err e;

	assert_non_null(s);
	s->id = id;
	s->parent = parent;
	s->kind = id % 2 ? FERMATA_CHECKPOINT_EXTERNAL : FERMATA_CHECKPOINT_INTERNAL;
	s->memory = strdup(id % 2 ? "/images/k \"1\".mem" : "");
	s->ram = strdup(id % 2 ? "/images/k \"1\".ram" : "");
	s->ram_base = strdup(id % 2 ? "/images/base.ram" : "");
	s->state = FERMATA_SNAP_PAUSED;
	s->created = 1790000000;
	s->clock_ns = 123456789012345u;
	free(s->qemu);
	free(s->machine);
	free(s->made);
	s->made = strdup(id % 2 ? "cpu = max\ndevice eth0 = e1000\n" : "");
	s->qemu = strdup("7.2.22");
	s->machine = strdup("pc-q35-7.2");
	assert_int_equal(snap_add_disk(s,
				 &(struct fermata_snap_disk){ .disk = "vda", .file = "/images/a b.qcow2", .tag = (char *)name,
					 .vmstate = 1u << 20 },
				 &e),
		0);
	assert_int_equal(snap_add_disk(s,
				 &(struct fermata_snap_disk){ .disk = "vdb", .file = "/images/b.raw", .overlay = "/images/b.1.qcow2",
					 .external = true, .raw = true, .reused = true },
				 &e),
		0);
	return s;
}

static struct record_job *make_job(void)
{
	struct record_job *j = calloc(1, sizeof *j);
	struct err e;

	assert_non_null(j);
	*j = (struct record_job){ .id = 6, .op = FERMATA_ACTIVE_COMMIT, .disk = strdup("vda"), .error = strdup("no \"room\""),
		.raw = true, .begun = true, .run = true };
	assert_int_equal(job_image(j, "/images/top.qcow2", &e), 0);
	assert_int_equal(job_image(j, "/images/base.raw", &e), 0);
	return j;
}

static void same_job(const struct record_job *a, const struct record_job *b)
{
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->op, b->op);
	assert_string_equal(a->disk, b->disk);
	assert_string_equal(a->error, b->error);
	assert_int_equal(a->raw, b->raw);
	assert_int_equal(a->remove, b->remove);
	assert_int_equal(a->reused, b->reused);
	assert_int_equal(a->begun, b->begun);
	assert_int_equal(a->pivot, b->pivot);
	assert_int_equal(a->run, b->run);
	assert_int_equal(a->ended, b->ended);
	assert_int_equal(a->n_images, b->n_images);
	for (size_t i = 0; i < a->n_images; i++)
		assert_string_equal(a->images[i], b->images[i]);
}

static struct record *load(void)
{
	struct record *r = NULL;
	struct err e = { 0 };

	if (record_load(path, &r, &e) < 0)
		fail_msg("%s", e.msg);
	return r;
}

static void same(const struct fermata_snap *a, const struct fermata_snap *b)
{
	assert_int_equal(a->id, b->id);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->description, b->description);
	assert_int_equal(a->kind, b->kind);
	assert_string_equal(a->memory, b->memory);
	assert_string_equal(a->ram, b->ram);
	assert_string_equal(a->ram_base, b->ram_base);
	assert_int_equal(a->state, b->state);
	assert_int_equal(a->created, b->created);
	assert_int_equal(a->clock_ns, b->clock_ns);
	assert_int_equal(a->parent, b->parent);
	assert_string_equal(a->qemu, b->qemu);
	assert_string_equal(a->machine, b->machine);
	assert_string_equal(a->made, b->made);
	assert_int_equal(a->adopted, b->adopted);
	assert_int_equal(a->n_disks, b->n_disks);
	for (size_t i = 0; i < a->n_disks; i++) {
		assert_string_equal(a->disks[i].disk, b->disks[i].disk);
		assert_string_equal(a->disks[i].file, b->disks[i].file);
		assert_string_equal(a->disks[i].tag, b->disks[i].tag);
		assert_int_equal(a->disks[i].vmstate, b->disks[i].vmstate);
		assert_string_equal(a->disks[i].overlay, b->disks[i].overlay);
		assert_int_equal(a->disks[i].external, b->disks[i].external);
		assert_int_equal(a->disks[i].raw, b->disks[i].raw);
		assert_int_equal(a->disks[i].reused, b->disks[i].reused);
	}
}

static void test_missing_is_empty(void **state)
{
	struct record *r = load();

	(void)state;
	assert_int_equal(r->n_snaps, 0);
	assert_int_equal(r->next_id, 1);
	assert_int_equal(r->pending.op, PENDING_NONE);
	record_free(r);
}

static void test_round_trip(void **state)
{
	struct record *r = load(), *again;
	struct record_disk *d;
	struct stat st;
	struct err e;

	(void)state;
	assert_int_equal(record_add(r, make(1, 0, "k1"), &e), 0);
	assert_int_equal(record_add(r, make(4, 1, "k2 \xc3\xa4"), &e), 0);
	r->next_id = 7;
	r->saved = 1ull << 60;
	r->current = 4;
	d = record_disk_need(r, "vdb");
	d->reclaim = true;
	d->active = strdup("/images/over.qcow2");
	r->pending = (struct pending){ PENDING_CREATE, true, true, 4, make(5, 4, "k3"), .keep_time = true };
	d->raw = true;
	r->boot = (struct record_boot){ .tries = 3, .since = 1790000001, .kept = true, .good = strdup("gold"),
		.result = strdup("trying") };
	assert_int_equal(record_job_add(r, make_job(), &e), 0);
	assert_int_equal(record_trash(r, "/images/old.qcow2", &e), 0);
	assert_int_equal(record_stay(r, "vdb", "/images/mid.qcow2", false, &e), 0);
	assert_int_equal(record_stay(r, "vdc", "/images/base.img", true, &e), 0);
	assert_int_equal(record_save(r, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	again = load();
	assert_int_equal(again->next_id, 7);
	assert_int_equal(again->saved, 1ull << 60);
	assert_int_equal(again->current, 4);
	assert_int_equal(again->n_snaps, 2);
	same(r->snaps[0], again->snaps[0]);
	same(r->snaps[1], again->snaps[1]);
	assert_int_equal(again->n_disks, 1);
	assert_true(again->disks[0].reclaim);
	assert_true(again->disks[0].raw);
	same_job(r->jobs[0], again->jobs[0]);
	assert_ptr_equal(record_job(again, "vda"), again->jobs[0]);
	assert_null(record_job(again, "vdb"));
	record_job_drop(again, again->jobs[0]);
	assert_int_equal(again->n_jobs, 0);
	assert_string_equal(again->disks[0].active, "/images/over.qcow2");
	assert_int_equal(again->n_trash, 1);
	assert_string_equal(again->trash[0], "/images/old.qcow2");
	assert_int_equal(again->n_stays, 2);
	assert_string_equal(again->stays[0].disk, "vdb");
	assert_string_equal(again->stays[0].file, "/images/mid.qcow2");
	assert_true(!again->stays[0].raw && again->stays[1].raw);
	assert_int_equal(again->pending.op, PENDING_CREATE);
	assert_true(again->pending.live && again->pending.run && again->pending.keep_time);
	assert_int_equal(again->pending.replaces, 4);
	same(r->pending.snap, again->pending.snap);
	assert_int_equal(again->boot.tries, 3);
	assert_int_equal(again->boot.since, 1790000001);
	assert_true(again->boot.kept);
	assert_string_equal(again->boot.good, "gold");
	assert_string_equal(again->boot.result, "trying");
	assert_null(again->boot.guard);
	record_free(again);
	record_free(r);
}

static void test_stays(void **state)
{
	struct record *r;
	struct err e;

	(void)state;
	unlink(path);
	r = load();
	assert_int_equal(record_stay(r, "vda", "/a", false, &e), 0);
	assert_int_equal(record_stay(r, "vda", "/b", false, &e), 0);
	assert_int_equal(record_stay(r, "vda", "/a", false, &e), 0);
	assert_int_equal(r->n_stays, 2);
	/* Merged into another one that stays: that is on the list once. */
	assert_int_equal(record_stay_move(r, "/b", "/a", false, &e), 0);
	assert_int_equal(r->n_stays, 1);
	assert_string_equal(r->stays[0].file, "/a");
	assert_int_equal(record_stay_move(r, "/other", "/c", false, &e), 0);
	assert_int_equal(record_stay_move(r, "/a", "/base", true, &e), 0);
	assert_int_equal(r->n_stays, 1);
	assert_string_equal(r->stays[0].file, "/base");
	assert_true(r->stays[0].raw);
	/* What is to be removed is in no chain. */
	assert_int_equal(record_trash(r, "/base", &e), 0);
	assert_int_equal(r->n_stays, 0);
	record_free(r);
}

/* By its real path, whatever name is asked for; what was put goes through the file and back. */
static void test_bases(void **state)
{
	auto_free char *file = str_fmt("%s/base", dir), *link = str_fmt("%s/link", dir);
	struct record_base seen = { .size = 1ull << 40, .span = 5, .print = UINT64_MAX, .ino = 7, .mtime_ns = 1ull << 62, .above = 9 };
	struct record *r = load(), *again;
	struct err e;

	(void)state;
	assert_int_equal(file_replace(file, "", 0, 0600, &e), 0);
	assert_int_equal(symlink(file, link), 0);
	assert_null(record_base(r, link));
	assert_int_equal(record_base_put(r, link, link, &seen, &e), 0);
	seen.size--;
	assert_int_equal(record_base_put(r, file, link, &seen, &e), 0);
	assert_int_equal(record_base_put(r, "/not/there", "/not/there", &seen, &e), 0);
	assert_int_equal(r->n_bases, 2);
	assert_true(r->bases_new);
	assert_int_equal(record_save(r, &e), 0);
	assert_false(r->bases_new);
	again = load();
	assert_false(again->bases_new);
	assert_int_equal(again->n_bases, 2);
	for (size_t i = 0; i < 2; i++) {
		struct record_base *b = record_base(again, i ? "/not/there" : link);

		assert_string_equal(b->file, i ? "/not/there" : file);
		assert_string_equal(b->name, i ? "/not/there" : link);
		assert_ptr_equal(record_base_named(again, b->name), b);
		free(take_ptr(&b->file));
		free(take_ptr(&b->name));
		assert_memory_equal(b, &seen, sizeof seen);
		b->file = strdup(i ? "/not/there" : file);
		b->name = strdup(i ? "/not/there" : link);
	}
	record_base_drop(again, link);
	record_base_drop(again, "/nor/this");
	assert_int_equal(again->n_bases, 1);
	assert_true(again->bases_new);
	record_free(again);
	record_free(r);
	unlink(file);
	unlink(link);
}

static void test_take_moves_children(void **state)
{
	struct record *r = load();
	struct err e;

	(void)state;
	record_free(r);
	unlink(path);
	r = load();
	assert_int_equal(record_add(r, make(1, 0, "a"), &e), 0);
	assert_int_equal(record_add(r, make(2, 1, "b"), &e), 0);
	assert_int_equal(record_add(r, make(3, 2, "c"), &e), 0);
	assert_int_equal(record_add(r, make(4, 2, "d"), &e), 0);
	r->current = 2;
	snap_free(record_take(r, 2));
	assert_null(record_by_id(r, 2));
	assert_int_equal(record_by_name(r, "c")->parent, 1);
	assert_int_equal(record_by_name(r, "d")->parent, 1);
	assert_int_equal(r->current, 1);
	assert_null(record_take(r, 2));
	record_free(r);
}

#define SNAP(id, parent)                                                                                     \
	"{\"id\":" id ",\"name\":\"k\",\"description\":\"\",\"kind\":\"internal-checkpoint\",\"state\":\"running\"," \
	"\"created\":1,\"vm-clock-ns\":0,\"parent\":" parent ",\"qemu\":\"\",\"machine\":\"\",\"disks\":[]}"

static void test_damage(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "commit record" },
		{ "{", "commit record" },
		{ "[]", "version" },
		{ "{\"version\":2,\"next-id\":1,\"current\":0}", "version 2" },
		{ "{\"version\":1,\"next-id\":-1,\"current\":0}", "next-id" },
		{ "{\"version\":1,\"next-id\":1}", "current" },
		{ "{\"version\":1,\"next-id\":1,\"current\":3}", "current snapshot is unknown" },
		{ "{\"version\":1,\"next-id\":1,\"current\":0,\"snapshots\":[" SNAP("1", "0") "]}", "out of order" },
		{ "{\"version\":1,\"next-id\":9,\"current\":0,\"snapshots\":[" SNAP("2", "0") "," SNAP("2", "0") "]}", "out of order" },
		{ "{\"version\":1,\"next-id\":9,\"current\":0,\"snapshots\":[" SNAP("2", "2") "]}", "unknown parent" },
		{ "{\"version\":1,\"next-id\":9,\"current\":0,\"snapshots\":[" SNAP("2", "1") "]}", "unknown parent" },
		{ "{\"version\":1,\"next-id\":9,\"current\":0,\"snapshots\":[{}]}", "name" },
		{ "{\"version\":1,\"next-id\":1,\"current\":0,\"pending\":{\"operation\":\"dance\"}}", "dance" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct record *r = NULL;
		struct err e = { 0 };

		assert_int_equal(file_replace(path, bad[i].text, strlen(bad[i].text), 0600, &e), 0);
		assert_int_equal(record_load(path, &r, &e), -EPROTO);
		assert_null(r);
		if (!strstr(e.msg, bad[i].says))
			fail_msg("'%s' does not say '%s'", e.msg, bad[i].says);
	}
}

/* Cut at every byte: never taken for a shorter record. */
static void test_truncation(void **state)
{
	struct record *r;
	struct err e;
	auto_buf struct buf text = { 0 };

	(void)state;
	unlink(path);
	r = load();
	assert_int_equal(record_add(r, make(1, 0, "k1"), &e), 0);
	r->next_id = 2;
	assert_int_equal(record_save(r, &e), 0);
	record_free(r);
	assert_int_equal(file_read(path, 1 << 20, &text, &e), 0);
	for (size_t n = 0; n + 2 < text.n; n++) {
		assert_int_equal(file_replace(path, text.p, n, 0600, &e), 0);
		assert_true(record_load(path, &r, &e) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_is_empty),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_stays), cmocka_unit_test(test_bases), cmocka_unit_test(test_take_moves_children),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_truncation),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

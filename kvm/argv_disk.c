/* The block nodes and devices of a command line. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/argv.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

/* QEMU's cache modes as the properties of a node, and the device's write cache. */
struct cache {
	char name[13];
	bool direct, no_flush, through;
};
static const struct cache caches[] = {
	{ "none", true, false, false },
	{ "writeback", false, false, false },
	{ "writethrough", false, false, true },
	{ "directsync", true, false, true },
	{ "unsafe", false, true, false },
};

/* Without a word from the definition: none, unless the file system does not take O_DIRECT. */
static const struct cache *cache_of(const struct def_disk *k, const char *file)
{
	auto_fd int fd = -1;

	for (size_t i = 0; i < ARRAY_SIZE(caches); i++)
		if (str_eq(caches[i].name, k->cache))
			return &caches[i];
	fd = open(file, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
	return &caches[fd < 0 && errno == EINVAL];
}

static void add_cache(struct buf *o, const struct cache *c)
{
	if (c->direct)
		buf_adds(o, ",cache.direct=on");
	if (c->no_flush)
		buf_adds(o, ",cache.no-flush=on");
}

const char *kvm_file_driver(const char *file)
{
	struct stat st;

	return stat(file, &st) == 0 && S_ISBLK(st.st_mode) ? "host_device" : "file";
}

static const char *format_name(enum def_format f)
{
	return f == FORMAT_RAW ? "raw" : "qcow2";
}

/* A protocol node. What lies below the active layer is auto-read-only: a commit into it can become a writer without a new one. */
static void add_file(const struct build *b, const struct def_disk *k, const char *node, const char *path, bool active)
{
	auto_free char *file = path_beside("", path);
	auto_buf struct buf o = { 0 };

	if (!file) {
		b->out->oom = true;
		return;
	}
	buf_addf(&o, "driver=%s,node-name=%s", kvm_file_driver(file), node);
	opt_add(&o, "filename", file);
	add_cache(&o, cache_of(k, file));
	buf_addf(&o, ",discard=%s", k->discard);
	if (k->readonly)
		buf_adds(&o, ",read-only=on");
	else if (!active)
		buf_adds(&o, ",auto-read-only=on");
	argv_take(b->out, "-blockdev", &o);
}

/* The lowest qcow2 image has no backing file, whatever its header says by the time QEMU reads it: only JSON has a word for that. */
static void add_lowest(const struct build *b, const struct def_disk *k, const char *node, const struct kvm_layer *l, bool ro)
{
	const struct cache *cache = cache_of(k, l->file);
	auto_free char *child = str_fmt("%s.file", node), *data = str_fmt("%s.data", node);
	auto_buf struct buf o = { 0 };
	struct json_out w;

	json_out_init(&w, &o, false);
	json_obj(&w, NULL);
	json_put_str(&w, "driver", "qcow2");
	json_put_str(&w, "node-name", node);
	json_put_str(&w, "file", child);
	if (l->data)
		json_put_str(&w, "data-file", data);
	json_obj(&w, "cache");
	json_put_bool(&w, "direct", cache->direct);
	json_put_bool(&w, "no-flush", cache->no_flush);
	json_obj_end(&w);
	json_put_str(&w, "discard", k->discard);
	if (k->detect_zeroes)
		json_put_str(&w, "detect-zeroes", k->detect_zeroes);
	json_put_bool(&w, "read-only", ro);
	json_put_null(&w, "backing");
	json_obj_end(&w);
	b->out->oom |= !child || !data;
	argv_take(b->out, "-blockdev", &o);
}

/*
 * The nodes of layer @i: file, data file if the image has one, and format. All that the image's header names is said here:
 * QEMU opens what was looked at, not what the header names by then. What lies below the active layer is read-only as a format.
 */
static void add_layer(const struct build *b, const struct def_disk *k, const struct kvm_chain *c, size_t i)
{
	const struct kvm_layer *l = &c->layers[i];
	bool active = i + 1 == c->n_layers;
	char node[32], child[40];
	auto_buf struct buf o = { 0 };

	snprintf(node, sizeof node, "%s.%zu", k->name, i);
	snprintf(child, sizeof child, "%s.file", node);
	add_file(b, k, child, l->file, active);
	snprintf(child, sizeof child, "%s.data", node);
	if (l->data)
		add_file(b, k, child, l->data, active);
	if (!i && l->format == FORMAT_QCOW2) {
		add_lowest(b, k, node, l, k->readonly || !active);
		return;
	}
	buf_addf(&o, "driver=%s,node-name=%s,file=%s.file", format_name(l->format), node, node);
	if (l->data)
		buf_addf(&o, ",data-file=%s", child);
	add_cache(&o, cache_of(k, l->file));
	buf_addf(&o, ",discard=%s", k->discard);
	if (k->detect_zeroes)
		buf_addf(&o, ",detect-zeroes=%s", k->detect_zeroes);
	if (k->readonly || !active)
		buf_adds(&o, ",read-only=on");
	if (i > 0)
		buf_addf(&o, ",backing=%s.%zu", k->name, i - 1);
	argv_take(b->out, "-blockdev", &o);
}

/* Places on each bus, numbered as def_address() does: those taken, and by how many disks. */
struct buses {
	bool taken[BUS_SCSI + 1][256];
	unsigned n[BUS_SCSI + 1];
};

/* Where the definition puts @k, or the first free place from @first on. */
static unsigned take_place(struct buses *at, const struct def_disk *k, unsigned first)
{
	unsigned n = first;

	at->n[k->bus]++;
	if (k->address && def_address(k->bus, k->address, &n))
		return n;
	while (at->taken[k->bus][n] && n < 255)
		n++;
	at->taken[k->bus][n] = true;
	return n;
}

/* Places that the definition gives away are nobody else's. */
static void note_places(const struct def *d, struct buses *at)
{
	unsigned n;

	for (size_t i = 0; i < d->n_disks; i++)
		if (d->disks[i].address && def_address(d->disks[i].bus, d->disks[i].address, &n))
			at->taken[d->disks[i].bus][n] = true;
	for (size_t i = 0; i < d->n_cdroms; i++)
		if (d->cdroms[i].address && def_address(d->cdroms[i].bus, d->cdroms[i].address, &n))
			at->taken[d->cdroms[i].bus][n] = true;
	for (size_t i = 0; i < d->n_nets; i++)
		if (d->nets[i].address && def_address(BUS_VIRTIO, d->nets[i].address, &n))
			at->taken[BUS_VIRTIO][n] = true;
}

/* A guest looks for further functions only where the first one is. */
static int check_functions(const struct def *d, const struct buses *at, struct err *e)
{
	unsigned n;

	for (size_t i = 0; i < d->n_disks; i++)
		if (d->disks[i].bus == BUS_VIRTIO && d->disks[i].address && def_address(BUS_VIRTIO, d->disks[i].address, &n) && n % 8 &&
			!at->taken[BUS_VIRTIO][n - n % 8])
			return err_set(e, -EINVAL, "%s: the guest would not find it at %s: there is nothing at %x.0", d->disks[i].name,
				d->disks[i].address, n / 8);
	return 0;
}

/*
 * Eight disks a slot, from slot 16 on: 32 would not find room beside the rest. A disk's address depends on its place among the
 * disks alone, so that the guest finds it where it was whatever other devices it gets.
 */
static int add_virtio(const struct build *b, const struct def_disk *k, struct buses *at, struct buf *o, struct err *e)
{
	unsigned n = take_place(at, k, 16 * 8);

	if (virtio_name(b, "blk", o, e) < 0)
		return e->code;
	if (k->address)
		return argv_address(b, k->address, o, e);
	if (b->has->slots)
		buf_addf(o, ",addr=%x.%x%s", n / 8, n % 8, n % 8 ? "" : ",multifunction=on");
	return 0;
}

static int add_ide(const struct build *b, const struct def_disk *k, struct buses *at, struct buf *o, struct err *e)
{
	unsigned n;

	if (!b->has->ide) {
		err_set(e, -EINVAL, "machine %s has no IDE controller", b->machine);
		return err_hint(e, "use bus = %s", b->has->sata ? "sata" : "virtio");
	}
	if (at->n[BUS_IDE] == 4)
		return err_set(e, -EINVAL, "more than 4 IDE disks");
	n = take_place(at, k, 0);
	buf_addf(o, ",bus=ide.%u,unit=%u", n / 2, n % 2);
	return 0;
}

/* q35 has a controller of its own; others are given the same one. */
static int add_sata(const struct build *b, const struct def_disk *k, struct buses *at, struct buf *o, struct err *e)
{
	const char *own = b->has->sata;
	auto_buf struct buf hba = { 0 };

	if (!b->has->pci) {
		err_set(e, -EINVAL, "machine %s has no SATA controller", b->machine);
		return err_hint(e, "use bus = virtio");
	}
	if (at->n[BUS_SATA] == 6)
		return err_set(e, -EINVAL, "more than 6 SATA disks");
	if (!own && !at->n[BUS_SATA]) {
		if (device_name(b, "ich9-ahci", &hba, e) < 0)
			return e->code;
		buf_adds(&hba, ",id=sys.ahci");
		argv_take(b->out, "-device", &hba);
	}
	buf_addf(o, ",bus=%s.%u", own ? own : "sys.ahci", take_place(at, k, 0));
	return 0;
}

static int add_scsi(const struct build *b, const struct def_disk *k, struct buses *at, struct buf *o, struct err *e)
{
	auto_buf struct buf hba = { 0 };

	if (!at->n[BUS_SCSI]) {
		if (virtio_name(b, "scsi", &hba, e) < 0)
			return e->code;
		buf_adds(&hba, ",id=sys.scsi");
		argv_take(b->out, "-device", &hba);
	}
	buf_addf(o, ",bus=sys.scsi.0,scsi-id=%u", take_place(at, k, 0));
	return 0;
}

/* What device @k is, and where it goes. */
static int add_name(const struct build *b, const struct def_disk *k, struct buses *at, struct buf *o, struct err *e)
{
	bool ata = k->bus == BUS_IDE || k->bus == BUS_SATA, cd = k->device == DEVICE_CDROM;

	if ((k->bus == BUS_VIRTIO ? add_virtio(b, k, at, o, e) :
		device_name(b, ata ? cd ? "ide-cd" : "ide-hd" : cd ? "scsi-cd" : "scsi-hd", o, e)) < 0)
		return e->code;
	if ((k->bus == BUS_IDE && add_ide(b, k, at, o, e) < 0) || (k->bus == BUS_SATA && add_sata(b, k, at, o, e) < 0) ||
		(k->bus == BUS_SCSI && add_scsi(b, k, at, o, e) < 0))
		return e->code;
	buf_addf(o, ",id=%s", k->name);
	return 0;
}

static int add_device(const struct build *b, const struct def_disk *k, const struct kvm_chain *c, unsigned bootindex,
	struct buses *at, struct err *e)
{
	bool ata = k->bus == BUS_IDE || k->bus == BUS_SATA;
	auto_buf struct buf o = { 0 };

	if (k->iothread) {
		argv_add(b->out, "-object");
		argv_addf(b->out, "iothread,id=%s.io", k->name);
	}
	if (ata && k->readonly)
		return err_set(e, -EINVAL, "an IDE or SATA disk cannot be readonly");
	if (add_name(b, k, at, &o, e) < 0)
		return e->code;
	buf_addf(&o, ",drive=%s.%zu,bootindex=%u", k->name, c->n_layers - 1, bootindex);
	if (k->serial)
		opt_add(&o, "serial", k->serial);
	if (k->queues)
		buf_addf(&o, ",num-queues=%u", k->queues);
	if (k->iothread)
		buf_addf(&o, ",iothread=%s.io", k->name);
	if (cache_of(k, c->layers[c->n_layers - 1].file)->through)
		buf_adds(&o, ",write-cache=off");
	argv_take(b->out, "-device", &o);
	return 0;
}

/* Those without a number are behind those with one: the disks in the order of the file, then the drives. @i: in that order. */
static unsigned boot_index(const struct def *d, const struct def_disk *k, size_t i)
{
	unsigned last = 0;

	for (size_t j = 0; j < d->n_disks; j++)
		if (d->disks[j].boot > last)
			last = d->disks[j].boot;
	for (size_t j = 0; j < d->n_cdroms; j++)
		if (d->cdroms[j].boot > last)
			last = d->cdroms[j].boot;
	return k->boot ? k->boot : last + (unsigned)i + 1;
}

/* A drive, and what is in it: read only, and of no chain. */
static int add_cdrom(const struct build *b, const struct def_disk *k, unsigned bootindex, struct buses *at, struct err *e)
{
	auto_buf struct buf o = { 0 };

	if (k->file) {
		if (access(k->file, R_OK) < 0) {
			err_sys(e, errno, "cannot open the medium %s", k->file);
			return err_hint(e, "a drive without 'file' is empty");
		}
		buf_addf(&o, "driver=%s,node-name=%s.0.file", kvm_file_driver(k->file), k->name);
		opt_add(&o, "filename", k->file);
		buf_adds(&o, ",read-only=on");
		argv_take(b->out, "-blockdev", &o);
		buf_addf(&o, "driver=raw,node-name=%s.0,file=%s.0.file,read-only=on", k->name, k->name);
		argv_take(b->out, "-blockdev", &o);
	}
	if (add_name(b, k, at, &o, e) < 0)
		return e->code;
	if (k->file)
		buf_addf(&o, ",drive=%s.0", k->name);
	buf_addf(&o, ",bootindex=%u", bootindex);
	if (k->serial)
		opt_add(&o, "serial", k->serial);
	argv_take(b->out, "-device", &o);
	return 0;
}

int argv_disks(const struct build *b, struct err *e)
{
	const struct def *d = b->spec->def;
	struct buses at = { 0 };

	note_places(d, &at);
	for (size_t i = 0; i < d->n_disks; i++) {
		const struct kvm_chain *c = &b->spec->chains[i];

		for (size_t l = 0; l < c->n_layers; l++)
			add_layer(b, &d->disks[i], c, l);
		if (add_device(b, &d->disks[i], c, boot_index(d, &d->disks[i], i), &at, e) < 0)
			return err_at(e, "%s", d->disks[i].name);
	}
	for (size_t i = 0; i < d->n_cdroms; i++)
		if (add_cdrom(b, &d->cdroms[i], boot_index(d, &d->cdroms[i], d->n_disks + i), &at, e) < 0)
			return err_at(e, "%s", d->cdroms[i].name);
	return check_functions(d, &at, e);
}

static void add_flash(const struct build *b, const char *node, const char *file, enum def_format format, const char *ro)
{
	auto_buf struct buf o = { 0 };

	buf_addf(&o, "driver=file,node-name=%s.file", node);
	opt_add(&o, "filename", file);
	buf_adds(&o, ro);
	argv_take(b->out, "-blockdev", &o);
	if (format == FORMAT_QCOW2)
		buf_addf(&o, "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"file\":\"%s.file\",\"backing\":null}", node, node);
	else
		buf_addf(&o, "driver=raw,node-name=%s,file=%s.file%s", node, node, ro);
	argv_take(b->out, "-blockdev", &o);
}

void argv_firmware(const struct build *b)
{
	const struct def *d = b->spec->def;

	if (!d->firmware)
		return;
	if (!b->has->flash) {
		argv_add(b->out, "-bios");
		argv_add(b->out, d->firmware);
		return;
	}
	add_flash(b, "code", d->firmware, FORMAT_RAW, ",read-only=on");
	if (d->nvram)
		add_flash(b, KVM_NODE_NVRAM, d->nvram, d->nvram_format, "");
}

/*
 * The witness: a guest that shows whether memory and every disk were brought back to the same instant.
 *
 * It keeps a counter, `mem`. Each tick it does, in this order:
 *
 *	1. reads both counter sectors of every disk and compares: one must hold exactly `mem`, the other mem-1
 *	2. every few ticks, reports what it has read:  mem=123 d0=123 d1=123 ~0000a7c1
 *	3. writes mem+1 over the older of disk 0, then of disk 1, ... (each write has ended before the next begins)
 *	4. rewrites a few pages of its pattern in memory
 *	5. mem = mem+1
 *
 * So, whenever the guest is stopped, every disk holds mem or mem+1, those with mem+1 before those with mem. After
 * a checkpoint is loaded the program goes on in the middle of a tick with its own variables, so step 1 stays
 * exact: a disk from any other instant is found in this tick, or, if that was just before a write of step 3, by
 * its other sector in the next. It says so at once:
 *
 *	BAD d1=119 mem=123
 *
 * and from then on every line has bad=N, until memory is brought back to a time before. A torn or foreign
 * sector counts as bad too (d1=torn); a failed request is ERR d1 STATUS.
 *
 * A checkpoint may cut a line in two, and its other half comes after the line that was cut when it is loaded; the
 * checksum tells such a line from one that was said in one go. readlog.pl leaves it out.
 *
 * A cold start reads the disks first and goes on counting from the highest: "boot d0=5 d1=5 fresh=0".
 *
 * Keys, on any serial port:
 *	v  verify the pattern: "V ok" or "V bad ADDRESS"
 *	r  read all disks again: "R mem=5 d0=5 d1=5 ~..."
 *	g  grow: write one sector into each of the next 16 64-KiB pieces of every disk: "G=32" (pieces so far)
 *	c  check all that was grown: "C ok" or "C bad d1 sector=N"
 *	z  stop or start writing to the disks: "Z off", "Z on"
 *	f  write a word into the second flash of a board: "F ok" when it reads back
 *	p  panic, where there is a pvpanic device
 *	w  start the watchdog, and never feed it, where there is an ib700: it rings two seconds later
 */
#include "tests/guest/witness.h"

#define MAGIC		0x53544957u	/* WITS */
#define COUNTER_AT	2048u		/* sector; the even numbers here, the odd ones in the next */
#define GROW_AT		4096u
#define GROW_STEP	128u		/* sectors: one cluster */
#define POOL_START	(RAM_START + 0x100000u)
#define FILL_START	(RAM_START + 0x200000u)
#define MIB		0x100000u
#define PAGE_WORDS	1024u
#define TORN		UINT32_MAX

void witness(void);
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

struct disk disks[MAX_DISKS];
unsigned n_disks;
volatile uint32_t irq_ticks;

static uint32_t pool = POOL_START;
static uint32_t mem, bad, errors, grown;
static uint32_t fill_mib, ram_mib;
static uint32_t cursor, generation;	/* pages before the cursor are one generation ahead */
static uint32_t seen[MAX_DISKS];
static bool writing;
static unsigned fresh = 2;		/* ticks until both sectors of every disk are ours */
static uint32_t sector[SECTOR_WORDS] __attribute__((aligned(512)));

void *memset(void *p, int c, size_t n)
{
	for (uint8_t *b = p; n--; )
		*b++ = c;
	return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
	const uint8_t *f = from;

	for (uint8_t *b = to; n--; )
		*b++ = *f++;
	return to;
}

void *take(uint32_t bytes, uint32_t align)
{
	uint32_t at = (pool + align - 1) & ~(align - 1);

	pool = at + bytes;
	return memset((void *)(uintptr_t)at, 0, bytes);
}

struct disk *disk_add(const char *bus)
{
	if (n_disks == MAX_DISKS)
		return 0;
	disks[n_disks].bus = bus;
	return &disks[n_disks++];
}

static void timer_wait(void)
{
	static uint32_t done;

	while (irq_ticks == done) {
		calls_off();
		if (irq_ticks == done)
			halt();
		calls_on();
	}
	done = irq_ticks;
}

/* ---- the pattern in memory ---- */
static uint32_t word_at(uint32_t addr, uint32_t gen)
{
	return (addr * 0x9e3779b1u) ^ (gen * 0x85ebca6bu + config.seed);
}

static uint32_t pages(void)
{
	return fill_mib * (MIB / 4096);
}

static void page_write(uint32_t page, uint32_t gen)
{
	uint32_t *w = (uint32_t *)(uintptr_t)(FILL_START + page * 4096);

	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		w[i] = word_at(address_of(w + i), gen);
}

static void fill(void)
{
	uint32_t kib = (ram_mib - 4) * 1024;

	fill_mib = config.fill_mib;
	if (fill_mib > kib / 1024)
		fill_mib = kib / 1024;
	for (uint32_t p = 0; p < pages(); p++)
		page_write(p, 0);
}

static void dirty_some(void)
{
	for (uint32_t i = 0; i < config.dirty_pages && fill_mib; i++) {
		page_write(cursor, generation + 1);
		if (++cursor == pages()) {
			cursor = 0;
			generation++;
		}
	}
}

static void verify(void)
{
	for (uint32_t p = 0; p < pages(); p++) {
		const uint32_t *w = (const uint32_t *)(uintptr_t)(FILL_START + p * 4096);
		uint32_t gen = generation + (p < cursor);

		for (uint32_t i = 0; i < PAGE_WORDS; i++) {
			if (w[i] == word_at(address_of(w + i), gen))
				continue;
			serial_text("V bad ");
			serial_hex(address_of(w + i));
			serial_text("\n");
			return;
		}
	}
	serial_text("V ok\n");
}

/* ---- the disks ---- */
static void value(const char *name, uint32_t v)
{
	serial_text(name);
	serial_text("=");
	if (v == TORN)
		serial_text("torn");
	else
		serial_number(v);
}

static void disk_value(unsigned i, uint32_t v)
{
	serial_text(" d");
	serial_number(i);
	value("", v);
}

static void move(unsigned i, uint32_t lba, bool write)
{
	int status = disks[i].rw(&disks[i], lba, sector, write);

	if (!status)
		return;
	if (errors++ < 20) {
		serial_text("ERR d");
		serial_number(i);
		serial_text(write ? " write " : " read ");
		serial_number(status);
		serial_text("\n");
	}
	if (!write)
		memset(sector, 0, sizeof sector);
}

/* A sector that says where it belongs, and in every word when it was written. */
static void put(unsigned i, uint32_t lba, uint32_t v)
{
	sector[0] = MAGIC;
	sector[1] = v;
	sector[2] = i;
	for (unsigned w = 3; w < SECTOR_WORDS; w++)
		sector[w] = v + w * lba;
	move(i, lba, true);
}

static uint32_t get(unsigned i, uint32_t lba)
{
	uint32_t v;

	move(i, lba, false);
	if (!sector[0] && !sector[1])
		return 0;			/* never written */
	v = sector[1];
	if (sector[0] != MAGIC || sector[2] != i)
		return TORN;
	for (unsigned w = 3; w < SECTOR_WORDS; w++)
		if (sector[w] != v + w * lba)
			return TORN;
	return v;
}

/* What disk i holds; if the sector before the last is not what it should be, that one. */
static uint32_t counter(unsigned i)
{
	uint32_t last = get(i, COUNTER_AT + mem % 2), before = get(i, COUNTER_AT + (mem + 1) % 2);

	return fresh || before == mem - 1 ? last : before;
}

static void read_all(void)
{
	for (unsigned i = 0; i < n_disks; i++)
		seen[i] = counter(i);
}

static void say_counters(const char *head)
{
	value(head, mem);
	for (unsigned i = 0; i < n_disks; i++)
		disk_value(i, seen[i]);
	if (bad)
		value(" bad", bad);
	serial_seal();
}

static void check_all(void)
{
	read_all();
	for (unsigned i = 0; i < n_disks; i++) {
		if (seen[i] == mem || fresh || !writing)
			continue;
		bad++;
		serial_text("BAD");
		disk_value(i, seen[i]);
		value(" mem", mem);
		serial_text("\n");
	}
}

static void grow(void)
{
	for (unsigned k = 0; k < 16; k++, grown++)
		for (unsigned i = 0; i < n_disks; i++)
			if (GROW_AT + grown * GROW_STEP < disks[i].sectors)
				put(i, GROW_AT + grown * GROW_STEP, grown + 1);
	value("G", grown);
	serial_text("\n");
}

static void check_grown(void)
{
	for (uint32_t k = 0; k < grown; k++)
		for (unsigned i = 0; i < n_disks; i++) {
			uint32_t lba = GROW_AT + k * GROW_STEP;

			if (lba >= disks[i].sectors || get(i, lba) == k + 1)
				continue;
			serial_text("C bad d");
			serial_number(i);
			value(" sector", lba);
			serial_text("\n");
			return;
		}
	serial_text("C ok\n");
}

/* ---- one tick ---- */
static void tick(bool report)
{
	check_all();
	if (report && !(fresh && writing))
		say_counters("mem");
	for (unsigned i = 0; i < n_disks && writing; i++)
		put(i, COUNTER_AT + (mem + 1) % 2, mem + 1);
	dirty_some();
	mem++;
	if (writing && fresh)
		fresh--;
}

static void key(int k)
{
	if (k == 'v') {
		verify();
	} else if (k == 'r') {
		read_all();
		say_counters("R mem");
	} else if (k == 'g') {
		grow();
	} else if (k == 'c') {
		check_grown();
	} else if (k == 'f') {
		serial_text(board_flash() ? "F ok\n" : "F bad\n");
	} else if (k == 'p') {
		outb(0x505, 1);
	} else if (k == 'w') {
		outb(0x443, 14);		/* counts down by twos from 30 */
	} else if (k == 'z') {
		writing = !writing;
		fresh = 2;			/* memory has gone on alone */
		serial_text(writing ? "Z on\n" : "Z off\n");
	}
}

/* ---- the start ---- */
static void pci_found(const struct pci *p)
{
	virtio_found(p);
	board_found(p);
}

/* Read-only disks are named, and then left out. */
static void drop_readonly(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_disks; i++) {
		serial_text(i ? "," : " disks=");
		serial_text(disks[i].bus);
		if (disks[i].readonly || disks[i].sectors <= COUNTER_AT + 1)
			serial_text(disks[i].readonly ? ":ro" : ":small");
		else
			disks[n++] = disks[i];
	}
	n_disks = n;
}

static void boot_line(void)
{
	serial_text("boot");
	for (unsigned i = 0; i < n_disks; i++) {
		uint32_t even = get(i, COUNTER_AT), odd = get(i, COUNTER_AT + 1);
		uint32_t highest = odd != TORN && (even == TORN || odd > even) ? odd : even;

		disk_value(i, highest);
		if (highest != TORN && highest > mem)
			mem = highest;
	}
	serial_text("\n");
}

void witness(void)
{
	uint32_t hz = config.hz < 19 ? 19 : config.hz > 1000 ? 1000 : config.hz;
	uint32_t every = config.report_every ? config.report_every : 1;

	serial_init();
	ram_mib = board_ram_mib();
	board_start();
	pci_each(serial_found);
	pci_each(pci_found);
	board_disks();
	serial_text("\nwitness");
	value(" ram", ram_mib);
	value(" fill", config.fill_mib);
	value(" hz", hz);
	drop_readonly();
	serial_text("\n");
	fill();
	boot_line();
	writing = config.write_disks;
	timer_start(hz);
	for (uint32_t n = 0;; n++) {
		int k;

		timer_wait();
		tick(n % every == 0);
		while ((k = serial_key()) >= 0)
			key(k);
	}
}

/* What a file is, by what it begins with. Formats that are known by name only are told from raw, so that nobody takes them for it. */
#include <string.h>

#include "qcow2/internal.h"

#define HEAD 512

struct magic {
	const char *format;
	unsigned off, len;
	const char *bytes;
};

/* The names are those that qemu-img has for them. */
static const struct magic magics[] = {
	{ "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
	{ "qcow2", 0, 4, "QFI\xfb" },
	{ "vmdk", 0, 4, "KDMV" },
	{ "vmdk", 0, 4, "COWD" },
	{ "vmdk", 0, 21, "# Disk DescriptorFile" },
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },
	{ "vhdx", 0, 8, "vhdxfile" },
	{ "vpc", 0, 8, "conectix" },
	{ "qed", 0, 4, "QED" },
	{ "parallels", 0, 16, "WithoutFreeSpace" },
	{ "parallels", 0, 16, "WithouFreSpacExt" },
	{ "luks", 0, 6, "LUKS\xba\xbe" },
	{ "bochs", 0, 22, "Bochs Virtual HD Image" },
	{ "cloop", 0, 52, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mou" },
};

/* Apple's disk images are known by their last sector. */
static int is_dmg(struct dev *d, bool *is, struct err *e)
{
	uint8_t tail[8];

	*is = false;
	if (d->size < 2 * SECTOR || d->size % SECTOR)
		return 0;
	if (dev_read(d, d->size - SECTOR, tail, sizeof tail, e) < 0)
		return e->code;
	*is = !memcmp(tail, "koly\0\0\0\4", sizeof tail);
	return 0;
}

int qcow2_probe(struct dev *d, const char **format, struct err *e)
{
	size_t n = d->size < HEAD ? (size_t)d->size : HEAD;
	uint8_t head[HEAD];
	bool dmg;

	if (dev_read(d, 0, head, n, e) < 0)
		return e->code;
	for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
		const struct magic *m = &magics[i];

		*format = m->format;
		if (m->off + m->len <= n && !memcmp(head + m->off, m->bytes, m->len))
			return 0;
	}
	if (is_dmg(d, &dmg, e) < 0)
		return e->code;
	*format = dmg ? "dmg" : "raw";
	return 0;
}

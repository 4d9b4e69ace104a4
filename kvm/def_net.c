/* [net NAME] */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/def_sections.h"
#include "lib/file.h"
#include "lib/own.h"

static int check_mac(const char *s, struct err *e)
{
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? s[i] != ':' : !isxdigit((unsigned char)s[i]))
			return err_set(e, -EINVAL, "mac '%s' is not six pairs of hex digits with colons", s);
	if (s[17])
		return err_set(e, -EINVAL, "mac '%s' is not six pairs of hex digits with colons", s);
	/* The lowest bit of the first byte: an odd digit, where 'a' is even although its code is odd. */
	return (s[1] ^ (s[1] > '9')) & 1 ? err_set(e, -EINVAL, "mac '%s' is a group's address", s) : 0;
}

/* A QEMU device's name, since it goes before a comma on the command line. */
static int check_model(const char *s, struct err *e)
{
	if (strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(s))
		return 0;
	return err_set(e, -EINVAL, "model '%s' is not a device's name", s);
}

/* "ADDRESS:PORT", where an empty address is any. */
static bool is_end(const char *s, size_t n)
{
	size_t address = strspn(s, "0123456789."), port;
	unsigned long number;

	if (address >= n || s[address] != ':')
		return false;
	port = strspn(s + address + 1, "0123456789");
	number = strtoul(s + address + 1, NULL, 10);
	return port && port < 6 && address + 1 + port == n && number && number < 65536;
}

static int check_hostfwd(const char *s, struct err *e)
{
	size_t n = strcspn(s, "-");

	if ((str_starts(s, "tcp:") || str_starts(s, "udp:")) && s[n] && is_end(s + 4, n - 4) && is_end(s + n + 1, strlen(s + n + 1)))
		return 0;
	err_set(e, -EINVAL, "hostfwd '%s' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", s);
	return err_hint(e, "e.g. tcp:127.0.0.1:2222-:22");
}

#define K(n, k, m, ...) DEF_KEY(n, k, offsetof(struct def_net, m), ##__VA_ARGS__)
static const struct def_key keys[] = {
	K("type", KEY_WORD, type, .words = "user|tap|none"),
	K("ifname", KEY_STR, ifname, .max = 15), /* IFNAMSIZ */
	K("mac", KEY_CHECK, mac, .check = check_mac),
	K("model", KEY_CHECK, model, .check = check_model),
	K("address", KEY_STR, address, .max = 16),
	K("hostfwd", KEY_TEXTS, hostfwd, .check = check_hostfwd),
	K("queues", KEY_NUM, queues, .min = 1, .max = 256),
};

/* 52:54:00 is QEMU's own prefix; the rest follows from the names, so that it stays from start to start. */
static char *make_mac(const char *vm, const char *net)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (const char *p = vm; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	h = (h ^ '/') * 16777619u;
	for (const char *p = net; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	return str_fmt("52:54:00:%02x:%02x:%02x", h >> 16 & 255, h >> 8 & 255, h & 255);
}

static void *add_net(struct def *d, const char *name, unsigned line, struct err *e)
{
	struct def_net *k;

	if (d->n_nets == DEF_MAX_NETS) {
		err_set(e, -EINVAL, "more than %d networks", DEF_MAX_NETS);
		return NULL;
	}
	k = def_grow(d->nets, d->n_nets, sizeof *k);
	if (!k) {
		err_nomem(e, "read a definition");
		return NULL;
	}
	d->nets = k;
	k += d->n_nets++;
	k->line = line;
	k->name = strdup(name);
	k->type = strdup("user");
	k->model = strdup("virtio");
	k->mac = make_mac(d->name, name);
	if (k->name && k->type && k->model && k->mac)
		return k;
	err_nomem(e, "read a definition");
	return NULL;
}

/* Disks on virtio are on the same bus. */
static int check_address(const struct def *d, size_t i, struct err *e)
{
	const struct def_net *k = &d->nets[i];
	unsigned n, m;

	if (!k->address)
		return 0;
	if (!def_address(BUS_VIRTIO, k->address, &n)) {
		err_set(e, -EINVAL, "[net %s]: address '%s' is none", k->name, k->address);
		return err_hint(e, "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions");
	}
	for (size_t j = 0; j < i; j++)
		if (d->nets[j].address && def_address(BUS_VIRTIO, d->nets[j].address, &m) && m == n)
			return err_set(e, -EINVAL, "[net %s]: address = %s is that of [net %s]", k->name, k->address, d->nets[j].name);
	for (size_t j = 0; j < d->n_disks; j++)
		if (d->disks[j].bus == BUS_VIRTIO && d->disks[j].address && def_address(BUS_VIRTIO, d->disks[j].address, &m) && m == n)
			return err_set(e, -EINVAL, "[net %s]: address = %s is that of [disk %s]", k->name, k->address, d->disks[j].name);
	return 0;
}

/* The host's end of each is there once. */
static int check_forwards(const struct def *d, size_t i, struct err *e)
{
	const struct def_net *k = &d->nets[i];

	if (k->hostfwd.n && !str_eq(k->type, "user"))
		return err_set(e, -EINVAL, "[net %s]: only type user has a hostfwd", k->name);
	for (size_t f = 0; f < k->hostfwd.n; f++)
		for (size_t j = 0; j <= i; j++)
			for (size_t g = 0; g < (j < i ? d->nets[j].hostfwd.n : f); g++) {
				const char *a = k->hostfwd.v[f], *b = d->nets[j].hostfwd.v[g];
				size_t n = strcspn(a, "-") + 1;

				if (!strncmp(a, b, n))
					return err_set(e, -EINVAL, "[net %s]: hostfwd = %s: [net %s] has that port of the host already", k->name, a,
						d->nets[j].name);
			}
	return 0;
}

static int check_nets(struct def *d, unsigned *line, struct err *e)
{
	for (size_t i = 0; i < d->n_nets; i++) {
		bool tap = str_eq(d->nets[i].type, "tap");

		*line = d->nets[i].line;
		if (tap != (d->nets[i].ifname != NULL))
			return err_set(e, -EINVAL, tap ? "[net %s] of type tap has no ifname" : "[net %s]: only type tap has an ifname",
				d->nets[i].name);
		if (d->nets[i].queues && (!tap || !str_eq(d->nets[i].model, "virtio")))
			return err_set(e, -EINVAL, "[net %s]: only a virtio device on a tap has queues", d->nets[i].name);
		if (check_forwards(d, i, e) < 0 || check_address(d, i, e) < 0)
			return e->code;
	}
	return 0;
}

static void free_nets(struct def *d)
{
	for (size_t i = 0; i < d->n_nets; i++) {
		keys_free(keys, ARRAY_SIZE(keys), &d->nets[i]);
		free(d->nets[i].name);
	}
	free(d->nets);
}

const struct def_device def_nets = { "net", keys, ARRAY_SIZE(keys), add_net, check_nets, free_nets };

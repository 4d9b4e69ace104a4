/* What memory a QEMU has beside the guest's, and whether it can do without its content being saved. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/memory/internal.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"
#include "monitor/monitor.h"

int proc_open(pid_t pid, const char *what, int flags, int *fd, struct err *e)
{
	char path[48];

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
	*fd = open(path, flags | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	err_sys(e, errno, "cannot look into QEMU's memory: %s", path);
	return errno == EACCES || errno == EPERM ? err_hint(e, "it takes root, or the user that QEMU runs as") : e->code;
}

bool block_is_firmware(const char *n)
{
	return str_eq(n, "isa-bios") || str_ends(n, ".bios") || str_eq(n, "system.flash0") || str_eq(n, "virt.flash0") ||
		str_starts(n, "/rom@") || str_ends(n, ".rom") || str_ends(n, ".mrom");
}

/* ---- a board's flash ---- */

/* Whether a QEMU makes it anew from its firmware and its definition; all else has content of its own. */
static bool is_made_anew(void *ctx, const char *block, uint64_t bytes)
{
	struct flash *f = ctx;

	if (!str_eq(block, BOARD_FLASH))
		return str_eq(block, "ram0") || block_is_firmware(block);
	f->bytes = bytes;
	return bytes != 0;
}

int flash_find(struct fermata_vm *vm, struct flash *f, char other[128], struct err *e)
{
	static const uint64_t places[] = { 0x04000000, 0x22000000 }; /* Arm's, RISC-V's */
	struct mon *m = kvm_mon(vm->kvm);
	int rc = -ENOENT;

	*f = (struct flash){ .pid = kvm_process(vm->kvm) };
	if (mon_hmp_block(m, deadline_in(CALL_MS), is_made_anew, f, other, e) < 0)
		return e->code;
	if (!f->bytes)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(places) && rc == -ENOENT; i++)
		rc = mon_hmp_memory(m, BOARD_FLASH, places[i], deadline_in(CALL_MS), &f->at, e);
	return rc;
}

static int check_page(int mem, uint64_t at, struct err *e)
{
	static const uint8_t zeros[MEM_PAGE];
	uint8_t page[MEM_PAGE];

	if (pread(mem, page, sizeof page, (off_t)at) != (ssize_t)sizeof page)
		return err_sys(e, errno ? errno : EIO, "cannot read QEMU's memory");
	if (!memcmp(page, zeros, sizeof page))
		return 0;
	err_set(e, -EOPNOTSUPP, "the guest has written into '%s', which cannot be part of an instant checkpoint", BOARD_FLASH);
	return err_hint(e, "without --instant it is");
}

int flash_check(const struct flash *f, struct err *e)
{
	size_t n = (size_t)(f->bytes / MEM_PAGE);
	auto_free uint64_t *words = NULL;
	auto_fd int map = -1, mem = -1;

	if (!f->bytes)
		return 0;
	words = calloc(n, sizeof *words);
	if (!words)
		return err_nomem(e, "look into QEMU's memory");
	if (proc_open(f->pid, "pagemap", O_RDONLY, &map, e) < 0 || proc_open(f->pid, "mem", O_RDONLY, &mem, e) < 0)
		return e->code;
	if (lseek(map, (off_t)(f->at / MEM_PAGE * sizeof *words), SEEK_SET) < 0)
		return err_sys(e, errno, "cannot look into QEMU's memory");
	if (io_read_full(map, words, n * sizeof *words, "QEMU's page map", e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++)
		if (words[i] & (PM_PRESENT | PM_SWAP) && check_page(mem, f->at + i * MEM_PAGE, e) < 0)
			return e->code;
	return 0;
}

int ram_check(struct fermata_vm *vm, struct err *e)
{
	struct flash f;
	char other[128];

	if (vm->def->nvram) {
		err_set(e, -EOPNOTSUPP, "the firmware's variables cannot be part of an instant checkpoint");
		return err_hint(e, "without --instant they are");
	}
	if (flash_find(vm, &f, other, e) < 0 || flash_check(&f, e) < 0)
		return e->code;
	if (!other[0])
		return 0;
	err_set(e, -EOPNOTSUPP, "'%s' is memory of a device, which cannot be part of an instant checkpoint", other);
	return err_hint(e, "without --instant it is");
}

/* Progress and cancellation of long work. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/text.h"

int memory_cancelled(const struct fermata_vm *vm, struct err *e)
{
	return vm->host->cancel && *vm->host->cancel ? err_set(e, -ECANCELED, "cancelled") : 0;
}

void memory_show(struct fermata_vm *vm, const char *what, uint64_t from_ms, uint64_t bytes, uint64_t total)
{
	char label[80], size[TEXT_SIZE_MAX], rate[TEXT_SIZE_MAX];
	uint64_t ms = clock_mono_ms() - from_ms;

	if (!vm->host->progress)
		return;
	text_fmt_size(bytes, size);
	text_fmt_size(bytes * 1000 / (ms + 1), rate);
	snprintf(label, sizeof label, "%s: %s, %s/s", what, size, rate);
	vm->host->progress(vm->host->progress_ctx, label, bytes < total ? bytes : total, total);
}

int memory_step(struct fermata_vm *vm, const char *what, uint64_t from_ms, uint64_t done, uint64_t total, struct err *e)
{
	/* Every 64 MiB: what a clock says costs nothing, but writing to a terminal does. */
	if (vm->host->progress && done % (64 * MEM_CHUNK) == 0)
		memory_show(vm, what, from_ms, done, total);
	return memory_cancelled(vm, e);
}

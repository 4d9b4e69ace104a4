/*
 * engine/archive.c: any bytes as an archive. Behind its checksums nothing would be reached, so the input's first byte says
 * whether they are made right before it is read: by somebody who knows how.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/archive/internal.h"
#include "engine/memory/memory.h"
#include "lib/endian.h"
#include "lib/json.h"
#include "lib/own.h"

#define HEAD  32
#define START 16

static void want(bool ok)
{
	if (!ok)
		abort();
}

static void make_right(uint8_t *p, size_t size)
{
	uint64_t chain = 0;

	for (size_t at = START, n; at + HEAD <= size; at += HEAD + n) {
		uint8_t b[HEAD];

		n = ((size_t)get_be32(p + at + 4) + 7) & ~(size_t)7;
		if (n <= size - at - HEAD)
			put_be64(p + at + 16, mem_sum(p + at + HEAD, n));
		memcpy(b, p + at, 24);
		put_be64(b + 24, chain);
		chain = mem_sum(b, HEAD);
		put_be64(p + at + 24, chain);
		if (n > size - at - HEAD)
			return;
	}
}

static int read_all(struct archive *a, int fd, struct json_doc **doc, struct err *e)
{
	struct archive_part parts[ARCHIVE_PARTS_MAX];
	const uint8_t *p;
	size_t count, n;

	if (archive_open(a, fd, "it", doc, e) < 0 || archive_parts(a, json_root(*doc), parts, &count, e) < 0)
		return e->code;
	for (size_t i = 0; i < count; i++) {
		uint64_t at, end = 0, bytes = 0;
		volatile uint8_t sum = 0;

		archive_part(a, &parts[i]);
		do {
			if (archive_get(a, &at, &p, &n, e) < 0)
				return e->code;
			want(n <= ARCHIVE_CHUNK && (!n || at >= end) && at <= parts[i].size && n <= parts[i].size - at);
			want(parts[i].role == ARCHIVE_MEMORY ? !n || at == end :
				parts[i].role == ARCHIVE_RAM ? (at | n) % ARCHIVE_PAGE == 0 : at % ARCHIVE_CHUNK == 0);
			for (size_t k = 0; k < n; k++)
				sum = (uint8_t)(sum + p[k]);
			end = at + n;
			bytes += n;
			want(bytes <= parts[i].data && parts[i].data <= parts[i].size);
		} while (n);
		want(parts[i].role != ARCHIVE_MEMORY || bytes == parts[i].size);
	}
	return archive_end(a, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_archive struct archive a = { 0 };
	auto_json struct json_doc *doc = NULL;
	auto_fd int fd = memfd_create("archive", MFD_CLOEXEC);
	auto_free uint8_t *p = NULL;
	struct err e = { 0 };

	if (size < 1)
		return 0;
	p = malloc(size);
	want(p != NULL);
	memcpy(p, data + 1, size - 1);
	if (data[0] & 1)
		make_right(p, size - 1);
	want(fd >= 0 && write(fd, p, size - 1) == (ssize_t)(size - 1) && lseek(fd, 0, SEEK_SET) == 0);
	if (read_all(&a, fd, &doc, &e) < 0)
		want(e.code < 0 && *e.msg);
	return 0;
}

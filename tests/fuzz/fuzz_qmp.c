/*
 * monitor/: any bytes as what QEMU sends. The connection is set up by hand rather than by a handshake, so that ids
 * are the same in every run: the first request has id 1. The first byte says whether the greeting is still to come
 * and in which pieces the rest arrives.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor/mon.h"

static void use(struct mon *m)
{
	struct deadline d = deadline_in(0);
	struct json_doc *doc = NULL;
	struct json_span text;
	struct mon_job j;
	struct err e = { 0 };

	if (mon_call(m, "a", NULL, d, &doc, &e) < 0 && !e.msg[0])
		abort();
	json_free(doc);
	if (mon_wait_event(m, MON_EVENTS("STOP", "RESUME"), d, NULL, &e) < 0 && !e.msg[0])
		abort();
	if (mon_job_run(m, "b", NULL, "j1", d, NULL, &e) < 0 && !e.msg[0])
		abort();
	if (mon_job_find(m, &j, "j1", d, &e) > 0)
		mon_job_forget(m, &j);
	if (mon_hmp(m, "savevm", d, &e) < 0 && !e.msg[0])
		abort();
	if (mon_has_arg(m, "c", "x", d, &e) < 0 && !e.msg[0])
		abort();
	if (mon_has_command(m, "c", d, &e) < 0 && !e.msg[0])
		abort();
	if (mon_call_raw(m, "{\"execute\": \"d\"}", d, &text, &e) == 0 && (!text.p || memchr(text.p, '\n', text.len)))
		abort();
	mon_event_free(mon_next_event(m));
	if (m->queued > MON_QUEUE_MAX || (m->queued > 1 && m->queued_bytes > MON_QUEUE_BYTES_MAX && !m->chan.broken.code))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mon m = { 0 };
	struct err e;
	size_t piece;
	int sv[2];

	if (size < 2 || size > 65536)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		abort();
	chan_init(&m.chan, sv[0], "QEMU");
	m.last = &m.first;
	m.first_due = 1;
	m.greeted = data[0] & 1;
	piece = (data[0] >> 1) ? (size_t)(data[0] >> 1) * 8 : size;
	m.ready = m.greeted && piece == size; /* in pieces, the answers come before the questions and are skipped */
	for (size_t at = 1; at < size; at += piece) {
		if (send(sv[1], data + at, piece < size - at ? piece : size - at, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		if (piece != size && mon_process(&m, &e) < 0)
			break;
	}
	use(&m);
	shutdown(sv[1], SHUT_RDWR);
	use(&m);
	mon_drop_events(&m);
	chan_done(&m.chan);
	buf_done(&m.commands);
	close(sv[1]);
	return 0;
}

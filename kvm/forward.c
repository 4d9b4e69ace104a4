/* Ports of the host that reach a guest on a network of type user. */
#include <string.h>

#include "kvm/kvm.h"
#include "lib/own.h"
#include "monitor/monitor.h"

/* Its answer is a text either way. */
static int remove_forward(struct mon *m, const char *net, const char *what, struct deadline until, struct err *e)
{
	auto_free char *line = str_fmt("hostfwd_remove %s.host %.*s", net, (int)strcspn(what, "-"), what);
	auto_buf struct buf text = { 0 };

	return line ? mon_hmp_text(m, line, until, &text, e) : err_nomem(e, "forward a port");
}

int kvm_forward(struct kvm *k, const struct def *d, bool again, struct deadline until, struct err *e)
{
	for (size_t i = 0; i < d->n_nets; i++)
		for (size_t f = 0; f < d->nets[i].hostfwd.n; f++) {
			const char *what = d->nets[i].hostfwd.v[f];
			auto_free char *line = str_fmt("hostfwd_add %s.host %s", d->nets[i].name, what);

			if (!line)
				return err_nomem(e, "forward a port");
			if (again && remove_forward(kvm_mon(k), d->nets[i].name, what, until, e) < 0)
				return e->code;
			if (mon_hmp(kvm_mon(k), line, until, e) < 0) {
				err_at(e, "%s", d->nets[i].name);
				return err_hint(e, "another program may have that port of the host: ss -lntup");
			}
		}
	return 0;
}

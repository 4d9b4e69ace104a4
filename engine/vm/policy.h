/* [boot] of a definition: what a VM comes up with at boot, when it counts as up, and what is done when it ends. */
#ifndef ENGINE_VM_POLICY_H
#define ENGINE_VM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm/def.h"

struct policy {
	bool autostart;
	unsigned order;
	char *from;     /* "cold" by default */
	char *fallback; /* as written: a list with commas; NULL: none */
	char *healthy;  /* running | agent | serial "TEXT" */
	uint64_t within_ms;
	unsigned attempts;
	bool discard_changes;
	bool verify; /* read all of an instant checkpoint's memory first */
	char *on_crash, *on_stop;
	uint64_t back_off_ms, stop_within_ms;
};

/* What every reader of a VM's definition gives to kvm/'s. */
extern const struct def_section policy_section;

/* That of a definition read with it. */
static inline const struct policy *policy_of(const struct def *def)
{
	return def->further;
}

#endif

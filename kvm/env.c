/* The environment of a QEMU: its memory is what a guest that breaks out reads first. */
#include <stdlib.h>
#include <string.h>

#include "kvm/spawn.h"
#include "lib/own.h"
#include "lib/text.h"

/* Whose home it is: not for a QEMU that runs as another user. */
static const char *const ours[] = { "HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XAUTHORITY" };

/* PATH for helpers of [qemu] lines; where temporary files and modules are; the displays and the sound that such a line may ask for. */
static const char *const any[] = { "PATH", "TMPDIR", "QEMU_MODULE_DIR", "DISPLAY", "WAYLAND_DISPLAY", "PULSE_SERVER" };

static bool is_of(const char *entry, const char *const names[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names[i]);

		if (!strncmp(entry, names[i], len) && entry[len] == '=')
			return true;
	}
	return false;
}

void spawn_env(bool other_user, char *env[SPAWN_MAX_ENV])
{
	bool path = false;
	size_t n = 0;

	_Static_assert(ARRAY_SIZE(ours) + ARRAY_SIZE(any) + 3 <= SPAWN_MAX_ENV, "with LC_ALL, a PATH and the end");
	env[n++] = (char *)"LC_ALL=C";
	for (char **e = environ; e && *e && n + 2 < SPAWN_MAX_ENV; e++) {
		if (!is_of(*e, any, ARRAY_SIZE(any)) && (other_user || !is_of(*e, ours, ARRAY_SIZE(ours))))
			continue;
		path |= !strncmp(*e, "PATH=", 5);
		env[n++] = *e;
	}
	if (!path)
		env[n++] = (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	env[n] = NULL;
}

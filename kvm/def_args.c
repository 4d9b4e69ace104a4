/* The words of [qemu] args that would contradict what fermata itself says to QEMU. */
#include "kvm/def_args.h"

#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/text.h"

/* What each does instead is in its hint. @value: refused only with a value that has this in it; NULL: with any. */
static const struct refused {
	const char *option, *value, *why, *hint;
} refused[] = {
	{ "snapshot", NULL, "it has no effect on [disk] images, which the guest would write to",
		"take a snapshot before, and 'discard-changes = yes' in [boot] goes back to it" },
	{ "incoming", NULL, "what the guest's memory comes from is fermata's business", "see 'fermata restore' and 'fermata snapshot-revert'" },
	{ "loadvm", NULL, "it would go back without the record", "say 'from = SNAPSHOT' in [boot], or see 'fermata snapshot-revert'" },
	{ "daemonize", NULL, "QEMU is in the background already", "leave it out" },
	{ "pidfile", NULL, "fermata keeps the process on record itself", "'fermata list' shows the process id" },
	{ "S", NULL, "fermata itself lets the guest run", "'fermata start --paused' leaves it paused" },
	{ "preconfig", NULL, "the machine would never be made", "leave it out" },
	{ "runas", NULL, "fermata starts QEMU as another user", "say 'user = NAME'" },
	{ "run-with", "user=", "fermata starts QEMU as another user", "say 'user = NAME'" },
	{ "run-with", "chroot=", "images are opened by their names while the guest runs", "leave it out" },
	{ "chroot", NULL, "images are opened by their names while the guest runs", "leave it out" },
	{ "accel", NULL, "the definition says what runs the guest", "say 'accel = kvm' or 'accel = tcg'" },
	{ "enable-kvm", NULL, "the definition says what runs the guest", "say 'accel = kvm'" },
	{ "qmp", "stdio", "QEMU has no terminal", "use a socket, as in '-qmp unix:PATH,server=on,wait=off', or 'fermata qemu-monitor-command'" },
	{ "qmp-pretty", "stdio", "QEMU has no terminal", "use a socket, or 'fermata qemu-monitor-command --pretty'" },
	{ "monitor", "stdio", "QEMU has no terminal", "use a socket, as in '-monitor unix:PATH,server=on,wait=off', or 'fermata qemu-monitor-command --hmp'" },
	{ "serial", "stdio", "QEMU has no terminal", "'fermata console' is at the first serial port" },
	{ "chardev", "stdio", "QEMU has no terminal", "use a socket, or 'fermata console'" },
	{ "gdb", "stdio", "QEMU has no terminal", "use a socket" },
};

/* Options whose value is text of the user's own, which may look like an option. */
static bool takes_text(const char *word)
{
	static const char *const options[] = { "append", "name", "fw_cfg", "smbios", "uuid" };

	for (size_t i = 0; word && i < ARRAY_SIZE(options); i++)
		if (word[0] == '-' && str_eq(word + 1 + (word[1] == '-'), options[i]))
			return true;
	return false;
}

int def_check_args(char *const *words, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = words[i] + 1 + (words[i][0] == '-' && words[i][1] == '-'); /* QEMU takes two for one */
		const char *value = i + 1 < n ? words[i + 1] : "";

		if (words[i][0] != '-' || (i && takes_text(words[i - 1])))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(refused); k++) {
			const struct refused *r = &refused[k];

			if (!str_eq(name, r->option) || (r->value && !strstr(value, r->value)))
				continue;
			err_set(e, -EINVAL, "arg: %s%s%s cannot be given: %s", words[i], r->value ? " " : "", r->value ? value : "", r->why);
			return err_hint(e, "%s", r->hint);
		}
	}
	return 0;
}

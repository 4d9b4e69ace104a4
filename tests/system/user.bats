#!/usr/bin/env bats
# QEMU as another user than fermata.
bats_require_minimum_version 1.5.0
load helper

setup() {
	[ "$(id -u)" = 0 ] || skip "only root can start QEMU as another user"
	root_make
	chmod 755 "$FERMATA_ROOT" "$FERMATA_ROOT/images"
}

teardown() {
	root_end
}

# user_vm USER OWNER: a witness guest whose QEMU runs as USER; its images are OWNER's
user_vm() {
	witness_vm w 1
	sed -i "1i user = $1" "$FERMATA_ROOT/etc/fermata/w.conf"
	chown "$2" "$FERMATA_ROOT/images" "$FERMATA_ROOT"/images/*
	: >"$FERMATA_ROOT/w.log"
	chown "$2" "$FERMATA_ROOT/w.log"
}

ids_of() {
	awk -v k="$2:" '$1 == k { print $3 }' "/proc/$(vm_pid "$1")/status"
}

@test "user: by name, by number, by number and group, also numbers that nobody has" {
	local user owner group
	while read -r user owner group; do
		user_vm "$user" "$owner"
		fermata start w --paused
		[ "$(ids_of w Uid)" = "$owner" ]
		[ "$(ids_of w Gid)" = "$group" ]
		fermata destroy w
	done <<-END
		nobody $(id -u nobody) $(id -g nobody)
		$(id -u nobody) $(id -u nobody) $(id -g nobody)
		$(id -u nobody):0 $(id -u nobody) 0
		4000123:4000456 4000123 4000456
		0:4000456 0 4000456
	END
	user_vm 4000123 4000123
	run fermata start w
	[ "$status" = 1 ]
	[[ $output == *"no user '4000123'"*4000123:GID* ]]
}

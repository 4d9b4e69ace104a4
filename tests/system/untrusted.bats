#!/usr/bin/env bats
# What comes in is not trusted: images that name other files, names that are no text, what a caller's environment has.
load helper

setup() { root_make; }
teardown() { root_end; }

# define NAME FILE [LINE]...: a VM without a guest in it
define() {
	local name=$1 file=$2
	shift 2
	printf '%s\n' 'memory = 32M' 'machine = pc' 'accel = tcg' "$@" '[disk vda]' "file = $file" 'format = qcow2' \
		>"$FERMATA_ROOT/etc/fermata/$name.conf"
}

has_open() {
	local f
	for f in /proc/"$(vm_pid "$1")"/fd/*; do [ "$(readlink "$f")" != "$2" ] || return 0; done
	return 1
}

@test "environment: QEMU gets what it needs, and nothing else of the caller's" {
	local env
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/v.qcow2" 1M
	define v "$FERMATA_ROOT/images/v.qcow2"
	TOKEN=hunter2 http_proxy=http://127.0.0.1:1 LC_ALL=POSIX "$FERMATA_BIN" start v --paused
	env=$(tr '\0' '\n' <"/proc/$(vm_pid v)/environ")
	[[ $env == *PATH=* && $env == *LC_ALL=C* && $env != *hunter2* && $env != *http_proxy* && $env != *FERMATA* ]]
}

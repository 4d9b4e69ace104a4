#!/usr/bin/env bats
# A definition that has changed since its VM's record was begun.
bats_require_minimum_version 1.5.0
load helper

setup() {
	root_make
	conf_head w pc tcg 32M
	for v in v1 v2 "v 3"; do qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/$v" 16M; done
	printf '[disk vda]\nfile = %s\nformat = qcow2\n' "$FERMATA_ROOT/images/v1" | conf_add w
	CONF=$FERMATA_ROOT/etc/fermata/w.conf
}

teardown() {
	root_end
}

names() { sed -i "s|^file = .*|file = $FERMATA_ROOT/images/$1|" "$CONF"; }

active() { fermata domblklist w | awk '$1 == "vda" { print $2 }'; }

refused() {
	run --separate-stderr fermata "$@"
	[ "$status" = 1 ]
	[[ $stderr == *images/v1* ]]
	[[ $stderr == *vda* ]]
}

@test "definition: an image that it names in the place of the one on record is not ignored" {
	local top other
	fermata snapshot-create-as w one --disk-only
	top=$(active)
	for other in v2 "v 3"; do
		names "$other"
		refused start w --paused
		[[ $stderr == *"images/$other"* ]]
		refused snapshot-create-as w two --disk-only
		refused snapshot-create-as w two
	done
	[ -s "$top" ]
	ln "$FERMATA_ROOT/images/v1" "$FERMATA_ROOT/images/alias" # another name of the same image is the same image
	names alias
	fermata start w --paused
	[ "$(active)" = "$top" ]
	fermata destroy w
	names v1
	fermata start w --paused
	fermata blockpull w vda --wait # v1 is no more in its chain, and still what it began with
	fermata destroy w
	fermata start w --paused
	fermata destroy w
	names v2
	refused start w --paused
	# Begun anew, as the message says.
	mv "$FERMATA_ROOT/var/lib/fermata/w/state.json" "$FERMATA_ROOT/kept.json"
	fermata start w --paused
	[ "$(active)" = "$FERMATA_ROOT/images/v2" ]
}

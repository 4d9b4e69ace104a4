#!/usr/bin/env bats
# img snapshot: ours and qemu-img's are the same images, listings and statuses.
load helper

prepare() {
	(cd q && qemu-img create -q -f qcow2 "$@" a.qcow2 8M && qemu-io -c 'write -P 1 0 3M' a.qcow2 >/dev/null)
	copies a.qcow2
}

write_both() {
	(cd q && qemu-io -c "$1" a.qcow2 >/dev/null)
	(cd f && qemu-io -c "$1" a.qcow2 >/dev/null)
}

round() {
	both snapshot -c s1 a.qcow2
	write_both 'write -P 2 1M 1M'
	both snapshot -c s2 a.qcow2
	write_both 'write -P 3 2M 4M'
	alike a.qcow2
	both snapshot -a s1 a.qcow2
	alike a.qcow2
	both snapshot -q -a 2 a.qcow2
	both snapshot -c s1 a.qcow2
	alike a.qcow2
	both snapshot -d s1 a.qcow2
	alike a.qcow2
	write_both 'write -P 4 0 8M'
	both snapshot -d s2 a.qcow2
	both snapshot -d s1 a.qcow2
	alike a.qcow2
	[ -z "$(img snapshot -l f/a.qcow2)" ]
}

@test "snapshot: create, apply, delete beside qemu-img" { prepare; round; }
@test "snapshot: the same with small clusters" { prepare -o cluster_size=512; round; }
@test "snapshot: the same in version 2" { prepare -o compat=0.10; round; }
@test "snapshot: the same with 2-bit refcounts" { prepare -o refcount_bits=2; round; }
@test "snapshot: the same with 64-bit refcounts and subclusters" { prepare -o refcount_bits=64,extended_l2=on; round; }

@test "snapshot: ids go before names to apply, and to delete there are names only, as with qemu-img" {
	prepare
	both snapshot -c 5 a.qcow2
	write_both 'write -P 2 0 1M'
	both snapshot -c 1 a.qcow2
	write_both 'write -P 3 0 1M'
	both snapshot -a 1 a.qcow2
	alike a.qcow2
	both snapshot -d 1 a.qcow2
	alike a.qcow2
	# "5" has the id 1, and is none that this names.
	both snapshot -d 1 a.qcow2
	alike a.qcow2
	qemu-img snapshot -l f/a.qcow2 | grep -q '^1 *5 '
}

@test "snapshot: dates and sizes of ours, read by qemu-img" {
	local before after date
	qemu-img create -q -f qcow2 a.qcow2 8M
	before=$(date +%s)
	img snapshot -c k1-snap a.qcow2
	after=$(date +%s)
	date=$(qemu-img info --output json a.qcow2 | sed -n 's/.*"date-sec": \([0-9]*\).*/\1/p')
	[ "$date" -ge "$before" ] && [ "$date" -le "$after" ]
	same snapshot -l a.qcow2
	TZ=Asia/Kolkata same snapshot -l a.qcow2
}

@test "snapshot: what is refused" {
	prepare
	truncate -s 1M q/r.raw f/r.raw
	both snapshot
	both snapshot -l
	both snapshot -c a -d b a.qcow2
	both snapshot -l -c a a.qcow2
	both snapshot -c a -c b a.qcow2
	both snapshot -l -l a.qcow2
	both snapshot -a nope a.qcow2
	both snapshot -d nope a.qcow2
	both snapshot -c x r.raw
	both snapshot -l r.raw
	both snapshot -U -c x a.qcow2
	both snapshot -c x nofile
	alike a.qcow2
	(cd f && refused 1 "snapshot not found" img snapshot -d nope a.qcow2)
	qemu-img create -q -f qcow2 -o data_file=d.raw d.qcow2 1M
	refused 1 "external data file" img snapshot -c x d.qcow2
}

# The file system of an image is full: refused with both numbers, or undone; the guest runs on.
load helper

setup() {
	root_make
	[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
	mkdir -p "$FERMATA_ROOT/small"
}
teardown() { root_end; }

small() {
	mount -t tmpfs -o "size=$1" fermata-test "$FERMATA_ROOT/small" || skip "cannot mount a tmpfs"
}

used_kib() {
	df -k --output=used "$FERMATA_ROOT/small" | tail -n 1 | tr -d ' '
}

@test "full: too little room is refused before anything changes" {
	small 24m
	witness_vm w 2 dir="$FERMATA_ROOT/small" fill=20
	vm_start w
	wait_counter_above w 5
	fermata snapshot-create-as w one 2>"$FERMATA_ROOT/out" && return 1
	cat "$FERMATA_ROOT/out"
	grep -qE '[0-9]+ MiB.* [0-9]+ MiB free' "$FERMATA_ROOT/out"
	[ "$(spread w one)" = none ]
	not is_pending w
	assert_one_instant w 0
}

@test "full: in the middle of a checkpoint, it is undone and the guest goes on" {
	need_strace
	small 400m
	witness_vm w 2 dir="$FERMATA_ROOT/small" fill=90 memory=160M
	vm_start w
	wait_counter_above w 5
	fermata snapshot-create-as w old
	from=$(mark w)
	# Held when it has looked at the room and is on record as pending; then the file system shrinks to little more
	# than what is on it.
	hold fsync 1 snapshot-create-as w one
	is_pending w
	mount -o "remount,size=$(($(used_kib) + 8192))k" "$FERMATA_ROOT/small"
	let_go
	status=0
	wait $tracer || status=$?
	cat "$FERMATA_ROOT/err"
	[ "$status" = 1 ]
	not is_pending w
	[ "$(spread w one)" = none ]
	assert_whole w old
	assert_state w running
	assert_one_instant w "$from"
	# What QEMU wrote before it failed stays allocated while it runs; the room is back once the VM was off.
	mount -o remount,size=400m "$FERMATA_ROOT/small"
	from=$(mark w)
	fermata snapshot-revert w old
	assert_one_instant w "$from"
	[ "$(ask w v '^V')" = "V ok" ]
	fermata destroy w
	assert_images_ok w
	# With the checkpoint goes what it took of the file system, and what the failed one has left.
	fermata snapshot-delete w old
	[ "$(used_kib)" -lt 16384 ] || { df -k "$FERMATA_ROOT/small"; return 1; }
	assert_images_ok w
}

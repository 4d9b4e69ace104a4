#!/usr/bin/env bats
# Image locks, in both directions: against a QEMU that runs the image, against qemu-img, and against ourselves.
load helper

start_qemu() {
	command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
	# It returns once its images are open: while it opens one, its locks change.
	qemu-system-x86_64 -machine none,accel=tcg -nodefaults -display none -S -daemonize -pidfile qemu.pid "$@" \
		>qemu.log 2>&1 3>&- || return
	QEMU=$(cat qemu.pid)
	PIDS+=($QEMU)
}

runs_image() { start_qemu -blockdev "driver=qcow2,node-name=d,file.driver=file,file.filename=$1"; }

@test "lock: an image that QEMU runs is refused, and the message names the process" {
	qemu-img create -q -f qcow2 a.qcow2 8M
	qemu-img create -q -f qcow2 b.qcow2 8M
	qemu-img bitmap --add b.qcow2 bm
	cp a.qcow2 before
	runs_image a.qcow2
	local c
	for c in "info a.qcow2" "info --backing-chain a.qcow2" "check a.qcow2" "check -r all a.qcow2" "map a.qcow2" \
		"snapshot -l a.qcow2" "snapshot -c x a.qcow2" "snapshot -a x a.qcow2" "snapshot -d x a.qcow2" "resize a.qcow2 16M" \
		"amend -o lazy_refcounts=on a.qcow2" "rebase -u a.qcow2" "bitmap --add a.qcow2 x" "measure -O qcow2 a.qcow2" \
		"bitmap --merge bm -b a.qcow2 b.qcow2 bm" "create -q -f qcow2 a.qcow2 1M" "create -q a.qcow2 1M"; do
		refused 1 "image is in use by process $QEMU (qemu-system-x86)" img $c
	done
	refused 2 "in use by process $QEMU" img compare before a.qcow2
	refused 2 "in use by process $QEMU" img compare a.qcow2 before
	cmp before a.qcow2
}

@test "lock: an overlay of an image in use is made, and others are moved onto it" {
	qemu-img create -q -f qcow2 a.qcow2 8M
	qemu-img create -q -f qcow2 b.qcow2 8M
	runs_image a.qcow2
	img create -q -f qcow2 -b a.qcow2 -F qcow2 new.qcow2
	img rebase -u -b a.qcow2 -F qcow2 b.qcow2
	[ "$(qemu-img info -U new.qcow2 | grep -c '8 MiB')" = 1 ]
	qemu-img info b.qcow2 | grep -q '^backing file: a.qcow2'
	refused 1 "in use by process $QEMU" img rebase -b a.qcow2 -F qcow2 b.qcow2
}

@test "lock: -U reads an image that QEMU runs, like qemu-img's" {
	qemu-img create -q -f qcow2 base.qcow2 8M
	qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2 8M
	qemu-img snapshot -c s1 a.qcow2
	runs_image a.qcow2
	same info -U a.qcow2
	same info -U --backing-chain a.qcow2
	same snapshot -l -U a.qcow2
	same check -U a.qcow2
	same map -U a.qcow2
	same measure -U -O qcow2 a.qcow2
	same compare -U a.qcow2 base.qcow2
	same snapshot -U -c x a.qcow2
	same check -U -r all a.qcow2
}

@test "lock: readers share: a backing file of a running VM is read, not written" {
	qemu-img create -q -f qcow2 base.qcow2 8M
	qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2 8M
	runs_image a.qcow2
	same info base.qcow2
	same check base.qcow2
	img create -q -f qcow2 -b base.qcow2 -F qcow2 second.qcow2
	refused 1 "in use by process $QEMU" img snapshot -c x base.qcow2
	refused 1 "in use by process $QEMU" img resize base.qcow2 16M
}

@test "lock: raw images too" {
	truncate -s 1M r.raw
	start_qemu -machine pc,accel=tcg -m 8 -drive file=r.raw,format=raw,if=ide
	refused 1 "in use by process $QEMU" img info -f raw r.raw
	refused 1 "in use by process $QEMU" img resize -f raw r.raw 2M
	refused 1 "in use by process $QEMU" img create -q r.raw 2M
	img info -U -f raw r.raw
	[ "$(stat -c %s r.raw)" = 1048576 ]
}

@test "lock: an image that nobody runs any more is free again" {
	qemu-img create -q -f qcow2 a.qcow2 8M
	runs_image a.qcow2
	kill -9 $QEMU
	await dead $QEMU
	img snapshot -c x a.qcow2
}

# One of our commands, kept in the middle by a pipe nobody reads: it holds its locks until then. Of all that it has to say
# the first byte is awaited: it has opened the image then, and has all of its locks.
stuck() {
	mkfifo pipe
	sleep 600 <>pipe 3>&- &
	PIDS+=($!)
	"$FERMATA_BIN" img "$@" >pipe 2>&1 3>&- &
	HOLDER=$!
	PIDS+=($HOLDER)
	[ "$(timeout 60 head -c 1 pipe | wc -c)" = 1 ]
}

many_leaks() {
	qemu-img create -q -f qcow2 -o cluster_size=64k a.qcow2 1G
	truncate -s 400M a.qcow2
	perl -e 'print pack("n", 1) x 6000' | dd of=a.qcow2 bs=1 seek=$((0x20000 + 20)) conv=notrunc status=none
}

@test "lock: QEMU and qemu-img refuse what we change" {
	many_leaks
	stuck check -r leaks a.qcow2
	qemu-img info a.qcow2 && fail "qemu-img info did not see the lock"
	qemu-img snapshot -c x a.qcow2 && fail "qemu-img snapshot did not see the lock"
	qemu-io -r -c 'read 0 64k' a.qcow2 2>&1 | grep -q 'lock' || fail "qemu-io did not see the lock"
	refused 1 "in use by process $HOLDER (${FERMATA_COMM:-fermata})" img info a.qcow2
	runs_image a.qcow2 && fail "QEMU did not see the lock"
	grep -q 'lock' qemu.log
	qemu-img info -U a.qcow2
	img info -U a.qcow2
}

@test "lock: what we read, others may read and must not write" {
	many_leaks
	stuck check a.qcow2
	qemu-img info a.qcow2
	img info a.qcow2
	qemu-img snapshot -c x a.qcow2 && fail "qemu-img snapshot did not see the lock"
	refused 1 "in use by process $HOLDER (${FERMATA_COMM:-fermata})" img snapshot -c x a.qcow2
}

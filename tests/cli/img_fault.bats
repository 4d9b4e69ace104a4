#!/usr/bin/env bats
# Every call that writes fails, or is the last one: the image is as it was or as it is to be, and sound.
load helper

# every FILE COMMAND...: img COMMAND with call after call failing, then killed at it; FILE is judged after each
every() {
	local file=$1 call n how status
	shift
	for how in error=EIO signal=KILL; do
		for call in pwrite64 fdatasync; do
			for ((n = 1; n < 40; n++)); do
				rm -rf f && cp -a q f
				status=0
				(cd f && strace -qq -o ../trace -e trace=$call -e inject=$call:$how:when=$n "$FERMATA_BIN" img "$@" >/dev/null 2>../err) || status=$?
				grep -q 'INJECTED\|killed by' trace || break
				[ $status != 0 ] || fail "$* succeeds though $call $n has $how"
				judge "$file" "$how" || fail "$*: $call $n: $how: $(cat err)"
			done
			[ "$n" -gt 1 ] && [ $status = 0 ] || fail "$*: $call was not tried to the end"
		done
	done
}

@test "fault: an overlay that ends inside a cluster reads the same, or is larger with zeros behind its old end" {
	type -P strace >/dev/null || skip "no strace"
	(cd q
	qemu-img create -q -f qcow2 b.qcow2 1M
	qemu-io -c 'write -P 5 0 1M' b.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 s.qcow2 253k)
	judge() {
		(cd f
		qemu-img check -q s.qcow2 && qemu-io -r -c 'read -P 5 0 253k' s.qcow2 | grep -q '^read' || return
		qemu-img info s.qcow2 | grep -q '(259072 bytes)' || qemu-io -r -c 'read -P 0 253k 259k' s.qcow2 | grep -q '^read')
	}
	every s.qcow2 resize -q s.qcow2 512k
}

@test "fault: an image that was not closed is mended whole or stays to be mended" {
	type -P strace >/dev/null || skip "no strace"
	(cd q
	qemu-img create -q -f qcow2 -o lazy_refcounts=on d.qcow2 1M
	qemu-io -c 'write -P 1 0 128k' d.qcow2 >/dev/null
	printf '\001' | dd of=d.qcow2 bs=1 seek=79 conv=notrunc status=none
	printf '\0\0' | dd of=d.qcow2 bs=1 seek=$((0x20000 + 10)) conv=notrunc status=none)
	judge() { (cd f && { img amend -o compat=1.1 d.qcow2 && qemu-img check -q d.qcow2 && qemu-io -r -c 'read -P 1 0 128k' d.qcow2 | grep -q '^read'; }); }
	every d.qcow2 amend -o lazy_refcounts=off d.qcow2
}

@test "fault: a dd that fails leaves no output, one that is killed its input" {
	type -P strace >/dev/null || skip "no strace"
	(cd q
	qemu-img create -q -f qcow2 b.qcow2 1M
	qemu-io -c 'write -P 5 0 128k' b.qcow2 >/dev/null)
	judge() { cmp q/b.qcow2 f/b.qcow2 && { [ "$2" != error=EIO ] || [ ! -e f/o.qcow2 ]; }; }
	every b.qcow2 dd -O qcow2 if=b.qcow2 of=o.qcow2
}

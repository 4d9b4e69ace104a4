# snapshot-bake: a checkpoint whose memory is a stream, or only what differs, becomes one whose memory is mapped.
load helper

setup() { root_make; }
teardown() { root_end; }

state_files() {
	echo "$FERMATA_ROOT/var/lib/fermata/w"
}

flip() {
	perl -e 'open my $f, "+<", $ARGV[0] or die; seek $f, $ARGV[1], 0; read $f, my $c, 1; seek $f, $ARGV[1], 0;
		print $f chr(ord($c) ^ 4)' "$1" "$2"
}

# back_to NAME [OPTION...]: the guest goes on where NAME was taken, memory and disks of one instant, its pattern whole
back_to() {
	local from
	from=$(mark w)
	fermata snapshot-revert w "$@"
	assert_one_instant w "$from"
	[ "$(ask w v '^V')" = "V ok" ]
}

# What there is of files with memory, in order
files() {
	(cd "$(state_files)" && ls -A | grep -v '^state.json$') || true
}

assert_baked() {
	[ "$(files)" = "$1.baked.mem
$1.baked.ram" ] || { files; return 1; }
	fermata snapshot-verify w "${1%-*}"
	fermata snapshot-info w "${1%-*}" | grep -qxE "RAM: +$(state_files)/$1.baked.ram"
	[ "$(stat -c '%a %s' "$(state_files)/$1.baked.ram")" = "600 $((64 << 20))" ]
}

@test "of a running VM and of one that is off: the memory is what the guest had, byte for byte, and is mapped" {
	witness_vm w 2 fill=24 raw=vdb dirty=20
	vm_start w
	wait_counter_above w 10
	fermata suspend w
	last=$(last_counter w)
	fermata qemu-monitor-command w '{"execute":"pmemsave","arguments":{"val":0,"size":67108864,"filename":"'"$FERMATA_ROOT/dump"'"}}'
	fermata snapshot-create-as w k --memspec snapshot=external
	fermata resume w
	[ "$(fermata snapshot-bake w k)" = "Domain snapshot k baked" ]
	assert_baked k-1
	# Where a PC has its firmware the guest's memory is not to be seen.
	cmp -n 655360 "$FERMATA_ROOT/dump" "$(state_files)/k-1.baked.ram"
	cmp -i 1048576 "$FERMATA_ROOT/dump" "$(state_files)/k-1.baked.ram"
	[ "$(stat -c %b "$(state_files)/k-1.baked.ram")" -lt $((40 << 11)) ]
	assert_one_instant w
	sum=$(md5sum <"$(state_files)/k-1.baked.ram")
	from=$(mark w)
	fermata snapshot-revert w k
	assert_state w paused
	grep -q "k-1.baked.ram" "/proc/$(vm_pid w)/maps"
	fermata resume w
	assert_one_instant w "$from"
	assert_went_back w "$from" "$last"
	for n in 1 2; do back_to k --running; done
	fermata snapshot-bake w k 2>"$FERMATA_ROOT/err"
	grep -q "is an instant checkpoint already" "$FERMATA_ROOT/err"
	[ "$(md5sum <"$(state_files)/k-1.baked.ram")" = "$sum" ]
	fermata snapshot-delete w k
	[ -z "$(files)" ]
	# Off, and taken of a guest that ran
	fermata snapshot-create-as w off --memspec snapshot=external
	fermata destroy w
	fermata snapshot-bake w off
	assert_baked "$(cd "$(state_files)" && basename off-*.mem .baked.mem)"
	back_to off --verify
	fermata destroy w
	back_to off
	# What differs from it
	fermata snapshot-create-as w some --instant
	[ "$(stat -c %s "$(state_files)"/some-*.ram)" -lt $((24 << 20)) ]
	back_to some
}

@test "of differing pages: whole, alone, and its base goes when nothing else needs it" {
	witness_vm w 1 fill=24 dirty=20
	vm_start w
	fermata snapshot-create-as w base --instant
	back_to base
	wait_counter_above w 10 60 "$(mark w)"
	fermata suspend w
	fermata qemu-monitor-command w '{"execute":"pmemsave","arguments":{"val":0,"size":67108864,"filename":"'"$FERMATA_ROOT/dump"'"}}'
	fermata snapshot-create-as w one --instant
	fermata resume w
	back_to base
	fermata snapshot-create-as w two --instant
	fermata snapshot-bake w one
	[ "$(files | tr '\n' ' ')" = "base-1.mem base-1.ram one-3.baked.mem one-3.baked.ram two-5.mem two-5.ram " ]
	cmp -n 655360 "$FERMATA_ROOT/dump" "$(state_files)/one-3.baked.ram"
	cmp -i 1048576 "$FERMATA_ROOT/dump" "$(state_files)/one-3.baked.ram"
	! fermata snapshot-info w one | grep -q 'RAM Base'
	fermata snapshot-verify w one
	fermata snapshot-delete w base
	[ -e "$(state_files)/base-1.ram" ]
	fermata snapshot-bake w two
	[ ! -e "$(state_files)/base-1.ram" ]
	back_to one --running --verify
	back_to two --verify
}

@test "what cannot be: refused in one line, with the place, and all stays as it was" {
	witness_vm w 1
	vm_start w
	fermata snapshot-create-as w disk --disk-only
	fermata snapshot-create-as w in
	fails 1 "no snapshot" snapshot-bake w nothing
	fails 1 "has no memory in a file of its own" snapshot-bake w disk
	fails 1 "has no memory in a file of its own" snapshot-bake w in
	fermata snapshot-create-as w k --memspec snapshot=external
	mem=$(echo "$(state_files)"/k-*.mem)
	for at in 100 5000 $((1048576 + 5000)) $(($(stat -c %s "$mem") - 2)); do
		flip "$mem" "$at"
		fails 1 "k-3.mem is damaged: " snapshot-bake w k
		flip "$mem" "$at"
		[ "$(files)" = "k-3.mem" ]
	done
	: >"${mem%.mem}.baked.ram"
	fails 1 "k-3.baked.ram is there already" snapshot-bake w k
	rm "${mem%.mem}.baked.ram"
	mv "$mem" "$mem.away"
	fails 1 "k-3.mem" snapshot-bake w k
	mv "$mem.away" "$mem"
	# Its memory's size is the checkpoint's own, not that of a definition that is another by now.
	sed -i 's/^memory .*/memory = 128M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	fermata snapshot-bake w k
	[ "$(stat -c %s "$(state_files)/k-3.baked.ram")" = $((64 << 20)) ]
	sed -i 's/^memory .*/memory = 64M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	back_to k
	fermata snapshot-delete w k
	# No room
	mkdir "$FERMATA_ROOT/small"
	mount -t tmpfs -o size=90M none "$FERMATA_ROOT/small" || skip "cannot mount"
	fermata snapshot-create-as w k --memspec "$FERMATA_ROOT/small/k.mem"
	dd if=/dev/zero of="$FERMATA_ROOT/small/all" bs=1M count=75 status=none || true
	fails 1 "MiB free" snapshot-bake w k
	[ "$(ls -A "$FERMATA_ROOT/small" | tr '\n' ' ')" = "all k.mem " ]
	fermata snapshot-verify w k
	rm "$FERMATA_ROOT/small/all"
	fermata snapshot-bake w k
	[ "$(ls -A "$FERMATA_ROOT/small" | tr '\n' ' ')" = "k.baked.mem k.baked.ram " ]
	back_to k
}

@test "memory of a display: refused by its name" {
	witness_vm w 1
	sed -i 's/^arg = -chardev.*/&\narg = -device VGA/' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	fails 1 "memory block '0000:00:02.0/vga.vram'" snapshot-bake w k || fails 1 "vga.vram' of 16777216 bytes" snapshot-bake w k
	[ "$(files)" = k-1.mem ]
	fermata snapshot-verify w k
	back_to k
}

# The snapshot is what it was or what it is to be, and nothing else is there.
assert_old_or_new() {
	fermata recover w
	case $(files | tr '\n' ' ') in
	"k-1.mem ") ;;
	"k-1.baked.mem k-1.baked.ram ") n_new=$((n_new + 1)) ;;
	*) files; return 1 ;;
	esac
	fermata snapshot-verify w k
}

keep_files() {
	cp -a --sparse=always "$(state_files)" "$FERMATA_ROOT/kept"
}

# As it was before
again() {
	rm -f "$(state_files)"/*
	cp -a --sparse=always "$FERMATA_ROOT"/kept/* "$(state_files)"
}

@test "cut off anywhere: the old one or the new one, and nothing beside it" {
	need_strace
	witness_vm w 2 size=16
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	fermata destroy w
	keep_files
	total=$(calls_of snapshot-bake w k)
	n_new=0
	for n in $(moments "$total" 30) $(seq $((total - 12)) "$total"); do
		again
		cut_at "$n" snapshot-bake w k
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		assert_old_or_new
	done
	echo "$n_cut killed, $n_new finished"
	[ "$n_cut" -ge 30 ] && [ "$n_new" -gt 0 ]
	again
	fermata snapshot-bake w k
	back_to k
}

@test "a call that fails on the way: an error, the old one whole, and nothing beside it" {
	need_strace
	witness_vm w 1 size=16
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	keep_files
	n_new=0
	for call in pwrite64:ENOSPC:1 pwrite64:EIO:3 ftruncate:EIO:1 ftruncate:EFBIG:2 read:EIO:9 read:EIO:12 read:EIO:16 \
		fsync:EIO:1 fsync:EIO:2 fsync:EIO:3 fsync:EIO:4 fsync:EIO:5 fsync:EIO:6 rename:EIO:1 rename:EIO:2 \
		rename:ENOSPC:3 rename:EIO:4 lseek:EIO:2; do
		IFS=: read -r name error nth <<<"$call"
		again
		status=0
		timeout 60 strace -qq -o "$FERMATA_ROOT/trace" -e "inject=$name:error=$error:when=$nth" "$FERMATA_BIN" --root "$FERMATA_ROOT" \
			snapshot-bake w k >"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err" || status=$?
		echo "$call: $status $(cat "$FERMATA_ROOT/err")"
		grep -q INJECTED "$FERMATA_ROOT/trace"
		[ $status = 0 ] || [ "$(wc -l <"$FERMATA_ROOT/err")" = 1 ]
		assert_old_or_new
	done
	assert_one_instant w
	again
	fermata snapshot-bake w k
	back_to k
}

@test "of a guest that ran on while its memory was saved: the instant is that of the checkpoint" {
	witness_vm w 2 fill=24 dirty=200
	vm_start w
	wait_counter_above w 10
	fermata snapshot-create-as w k --live --memspec snapshot=external
	fermata snapshot-bake w k
	assert_baked k-1
	back_to k --running --verify
	fermata destroy w
	back_to k
}

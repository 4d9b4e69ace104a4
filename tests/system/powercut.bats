# What a power cut leaves: a file system as its disk holds it at a moment, without the page cache.
load helper

loops=()

setup() { root_make; }

teardown() {
	local i dev
	for i in "$FERMATA_ROOT"/var "$FERMATA_ROOT"/images; do
		[ ! -L "$i" ] || rm "$i"
	done
	for i in "$FERMATA_ROOT"/run/fermata/*/pid; do
		[ ! -e "$i" ] || kill -KILL "$(pid_in "$i")" 2>/dev/null || true
	done
	! mountpoint -q "$FERMATA_ROOT/disk" || wait_until 10 umount "$FERMATA_ROOT/disk"
	for dev in ${loops[@]+"${loops[@]}"}; do losetup -d "$dev" || true; done
	root_end
}

# loop FILE: a block device of it, in $dev
loop() {
	dev=$(losetup --show -f "$1" 2>/dev/null) || skip "there is no loop device"
	loops+=("$dev")
}

# on_disk FILE: the file system in FILE is mounted on $FERMATA_ROOT/disk, and does not write back by itself
on_disk() {
	loop "$1"
	mount -o commit=300,data=writeback,noauto_da_alloc "$dev" "$FERMATA_ROOT/disk" 2>/dev/null || skip "may not mount"
}

# A disk for images, record and memory, which can be cut off; the definitions and the run folder are elsewhere
disk_make() {
	command -v mkfs.ext4 >/dev/null || skip "there is no mkfs.ext4"
	truncate -s "${1:-160M}" "$FERMATA_ROOT/now.fs"
	mkfs.ext4 -q -F "$FERMATA_ROOT/now.fs"
	mkdir -p "$FERMATA_ROOT/disk"
	on_disk "$FERMATA_ROOT/now.fs"
	mkdir "$FERMATA_ROOT/disk/images" "$FERMATA_ROOT/disk/var"
	rmdir "$FERMATA_ROOT/images"
	ln -s disk/images "$FERMATA_ROOT/images"
	ln -s disk/var "$FERMATA_ROOT/var"
}

# The power fails at this moment, and is back: nothing runs, the disk has what it had
power_cut() {
	local pid
	cp --sparse=always "$FERMATA_ROOT/now.fs" "$FERMATA_ROOT/cut.fs"
	for i in "$FERMATA_ROOT"/run/fermata/*/pid; do
		pid=$(pid_in "$i")
		[ -z "$pid" ] || { kill -KILL "$pid"; wait_gone "$pid"; }
	done
	wait_until 10 umount "$FERMATA_ROOT/disk"
	rm -rf "$FERMATA_ROOT/run"
	mv "$FERMATA_ROOT/cut.fs" "$FERMATA_ROOT/now.fs"
	on_disk "$FERMATA_ROOT/now.fs"
}

@test "power cut: what managedsave has saved is accepted, whatever the cache mode" {
	disk_make
	witness_vm w 2 size=16
	for cache in none writeback unsafe; do
		sed -i -e '/^cache = /d' -e "s/^format = .*/&\ncache = $cache/" "$FERMATA_ROOT/etc/fermata/w.conf"
		sync "$FERMATA_ROOT/disk"
		vm_start w
		wait_counter_above w 20
		fermata managedsave w
		c=$(last_counter w)
		power_cut
		from=$(mark w)
		fermata start w
		assert_went_back w "$from" "$c"
		assert_one_instant w "$from"
		fermata destroy w
	done
}

# ---- a disk in three layers ----------------------------------------------------------------------------------------------

# A VM whose disk has three layers, each with something of its own, and whose guest does nothing
layers() {
	conf_head w pc tcg 32M
	printf '\n[disk vda]\nfile = %s\nformat = qcow2\ncache = %s\n' "$FERMATA_ROOT/images/w.qcow2" "${1:-none}" | conf_add w
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/w.qcow2" 16M
	fill 0x11 0 1M
	fermata snapshot-create-as w s1 --disk-only
	upper=${2:-1M}
	fill 0x22 2M "$upper"
	fermata snapshot-create-as w s2 --disk-only
	fill 0x33 8M 1M
}

top() { fermata domblklist w | awk '$1 == "vda" { print $2 }'; }
fill() { qemu-io -f qcow2 -c "write -q -P $1 $2 $3" "$(top)"; }
reads() { ! qemu-io -r -f qcow2 -c "read -P $2 $3 $4" "$1" 2>&1 | grep -E 'failed|error|annot'; }

# The disk reads as before, and so does what snapshots have frozen
disks_read() {
	local s file
	reads "$(top)" 0x11 0 1M
	reads "$(top)" 0x22 2M "$upper"
	reads "$(top)" 0x33 8M 1M
	for file in "$FERMATA_ROOT"/images/*.qcow2; do
		qemu-img check -q "$file" >"$FERMATA_ROOT/check" 2>&1 || [ $? = 3 ] || { cat "$FERMATA_ROOT/check"; return 1; }
	done
	for s in $(fermata snapshot-list w --name); do
		file=$(fermata snapshot-info w "$s" --output json | grep -o '"file": *"[^"]*"' | head -n 1 | cut -d '"' -f 4)
		reads "$file" 0x11 0 1M
		[ "$s" = s1 ] || reads "$file" 0x22 2M "$upper"
		[ "$s" != s2 ] || reads "$file" 0 8M 1M
	done
}

# The same, and the VM starts
judge_disks() {
	disks_read
	fermata start w --paused
	fermata destroy w
}

# Killed as soon as the command has ended; the guest has flushed nothing. Every job in every cache mode in the long form.
@test "block jobs: a QEMU that is killed behind its end loses nothing, whatever the cache mode" {
	local modes=(writeback none unsafe writethrough directsync) i=0 n=1 k
	[ -z "${FERMATA_SOAK-}" ] || n=${#modes[@]}
	for job in "snapshot-delete w s2" "snapshot-delete w s1" "blockpull w vda --wait" \
		"blockcommit w vda --active --pivot --wait --delete --drop-snapshots" \
		"blockcommit w vda --top vda[1] --wait --delete --drop-snapshots" \
		"blockcopy w vda $FERMATA_ROOT/images/copy.qcow2 --wait --pivot"; do
		for ((k = 0; k < n; k++)); do
			cache=${modes[i++ % ${#modes[@]}]}
			echo "cache = $cache: $job"
			rm -rf "$FERMATA_ROOT"/{images,var/lib/fermata/w,run}
			mkdir "$FERMATA_ROOT/images"
			layers "$cache"
			fermata start w --paused
			# shellcheck disable=SC2086
			fermata $job
			pid=$(vm_pid w)
			kill -KILL "$pid"
			wait_gone "$pid"
			fermata recover w
			disks_read
		done
	done
}

@test "power cut: after a live deletion the VM starts and reads what it read, with cache = writeback" {
	disk_make
	layers writeback
	fermata start w --paused
	sync "$FERMATA_ROOT/disk"
	fermata snapshot-delete w s1
	echo x >"$FERMATA_ROOT/disk/other"
	sync "$FERMATA_ROOT/disk/other"
	power_cut
	disks_read
	fermata start w --paused
}

# ---- every state that a cut may leave -----------------------------------------------------------------------------------
#
# All that fermata and its QEMU ask of the kernel is recorded, and what a disk may hold at a moment rebuilt from it; then the
# power is back. In "make check" a few states of each command, in "make soak" many: the seed is told.

POWERCUT=$TOP/tests/harness/powercut.pl
SEED=${SEED:-$RANDOM}
STATES=3
[ -z "${FERMATA_SOAK-}" ] || STATES=80

# recorded ARGS...: the command, with all that it and the VM's QEMU do to files, until it has ended; then QEMU is killed
recorded() {
	need_strace
	local pid strace
	pid=$(vm_pid w)
	sync -f "$FERMATA_ROOT"
	rm -rf "$FERMATA_ROOT"/{before,after,rc}
	mkdir "$FERMATA_ROOT/before" "$FERMATA_ROOT/after"
	cp -a "$FERMATA_ROOT/images" "$FERMATA_ROOT/var" "$FERMATA_ROOT/before"
	# shellcheck disable=SC2016
	timeout 120 strace -f -y -xx -qq -s 100000000 -e signal=none -e "trace=$(perl "$POWERCUT" calls)" -o "$FERMATA_ROOT/trace" \
		${pid:+-p "$pid"} bash -c '"$@" >"$FERMATA_ROOT/out" 2>&1; echo $? >"$FERMATA_ROOT/rc.new"; mv "$FERMATA_ROOT/rc.new" "$FERMATA_ROOT/rc"' \
		- "$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" &
	strace=$!
	wait_until 60 test -e "$FERMATA_ROOT/rc"
	pid=$(vm_pid w)
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
	wait $strace || true
	cat "$FERMATA_ROOT/out"
	[ "$(cat "$FERMATA_ROOT/rc")" = 0 ]
	cp -a "$FERMATA_ROOT/images" "$FERMATA_ROOT/var" "$FERMATA_ROOT/after"
	perl "$POWERCUT" read "$FERMATA_ROOT/trace" "$FERMATA_ROOT/events" "$FERMATA_ROOT/images" "$FERMATA_ROOT/var"
	[ "$(perl "$POWERCUT" show "$FERMATA_ROOT/events" | grep -c ' write ')" -gt 0 ]
}

# cuts JUDGE: the states, each recovered, and judged by "JUDGE end" where the command had ended, else "JUDGE any"
cuts() {
	local i n=$STATES
	for ((i = 1; i <= n; i++)); do
		rm -rf "$FERMATA_ROOT/run"
		perl "$POWERCUT" make "$FERMATA_ROOT/events" "$FERMATA_ROOT/before" "$FERMATA_ROOT/after" $i "$n" "$SEED"
		fermata recover w
		not is_pending w
		"$1" "$([ $i = 1 ] && echo end || echo any)"
	done
}

judge_deleted() {
	[ "$1" = any ] || not listed w "${gone:-s1}"
	judge_disks
}

# deleted CACHE SNAPSHOT [BYTES]: the middle layer holds so much
deleted() {
	layers "$1" "${@:3}"
	gone=$2
	[ -n "${off-}" ] || fermata start w --paused
	recorded snapshot-delete w "$2"
	cuts judge_deleted
}

@test "power cut: snapshot-delete of a VM that is off" { off=1 deleted none s1; }
@test "power cut: snapshot-delete, live, into the image above" { deleted writeback s1 4M; }
@test "power cut: snapshot-delete, live, into the image below" { deleted none s1 64k; }
@test "power cut: snapshot-delete, live, of the last one" { deleted writeback s2; }

@test "power cut: blockpull" {
	layers writeback
	fermata start w --paused
	recorded blockpull w vda --wait
	cuts judge_disks
}

@test "power cut: blockcommit below the active layer" {
	layers writeback
	fermata start w --paused
	recorded blockcommit w vda --top "vda[1]" --wait --delete --drop-snapshots
	cuts judge_disks
}

judge_copied() {
	[ "$1" = any ] || [ "$(top)" = "$FERMATA_ROOT/images/copy.qcow2" ]
	judge_disks
}

@test "power cut: blockcopy" {
	layers writeback
	fermata start w --paused
	recorded blockcopy w vda "$FERMATA_ROOT/images/copy.qcow2" --wait --pivot
	cuts judge_copied
}

judge_memory() {
	if [ "$1" = end ] || listed w k; then
		fermata snapshot-verify w k
		fermata snapshot-revert w k --paused
		fermata destroy w
	fi
	judge_disks
}

@test "power cut: snapshot-create-as with memory in a file" {
	layers
	fermata start w --paused
	recorded snapshot-create-as w k --memspec "file=$FERMATA_ROOT/images/k.mem"
	cuts judge_memory
}

@test "power cut: snapshot-create-as of a VM that is off" {
	layers
	judge_new() { { [ "$1" = any ] || listed w k; } && judge_disks; }
	recorded snapshot-create-as w k --disk-only
	cuts judge_new
}

judge_saved() {
	if [ "$1" = end ]; then fermata start w 2>&1; state_is w paused; else fermata start w --paused; fi
	fermata destroy w
	judge_disks
}

@test "power cut: managedsave" {
	layers writeback
	fermata start w --paused
	recorded managedsave w
	cuts judge_saved
}

@test "power cut: snapshot-bake" {
	layers
	fermata start w --paused
	fermata snapshot-create-as w k --memspec "file=$FERMATA_ROOT/images/k.mem"
	fermata destroy w
	judge_baked() { fermata snapshot-verify w k && judge_memory "$1"; }
	recorded snapshot-bake w k
	cuts judge_baked
}

judge_imported() {
	[ "$1" = any ] || listed w far
	judge_disks
	if listed w far; then
		fermata snapshot-verify w far
		fermata snapshot-revert w far --paused
		fermata destroy w
	fi
}

@test "power cut: snapshot-import" {
	layers
	fermata snapshot-export w s2 "$FERMATA_ROOT/s2.far"
	recorded snapshot-import w "$FERMATA_ROOT/s2.far" --name far
	cuts judge_imported
}

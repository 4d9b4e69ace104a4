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

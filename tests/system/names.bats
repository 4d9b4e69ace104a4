# How the files that fermata makes are named, and where they go.
load helper
load plain

setup() {
	root_make
	loops=()
	cd "$FERMATA_ROOT/images"
}
teardown() {
	root_end
	loop_end
}

@test "names: a long snapshot name is cut at a character, whatever its length" {
	local n char name
	qemu-img create -q -f qcow2 v.qcow2 16M
	plain_vm v "$PWD/v.qcow2"
	for n in 61 62 63; do
		for char in é 火; do
			name=$(printf "%${n}s$char" "" | tr ' ' a)
			fermata snapshot-create-as v "$name" --disk-only
			ls | iconv -f UTF-8 -t UTF-8 >/dev/null
			fermata domblkinfo v vda
			fermata snapshot-delete v "$name"
		done
	done
}

@test "names: a memory file's name is cut at a character" {
	local name
	name=$(printf '%63s火' "" | tr ' ' a)
	qemu-img create -q -f qcow2 v.qcow2 16M
	plain_vm v "$PWD/v.qcow2"
	fermata start v --paused
	fermata snapshot-create-as v "$name" --memspec snapshot=external
	find "$FERMATA_ROOT/var" -name 'aaa*' | iconv -f UTF-8 -t UTF-8 | grep -q 'a-1[.]mem$'
	fermata snapshot-revert v "$name"
}

@test "names: two disks whose images have one name get files of two names in snapshot-dir" {
	mkdir one two "$FERMATA_ROOT/snaps"
	qemu-img create -q -f qcow2 one/disk.qcow2 16M
	qemu-img create -q -f qcow2 two/disk.qcow2 16M
	HEAD="snapshot-dir = $FERMATA_ROOT/snaps" plain_vm v "$PWD/one/disk.qcow2" "$PWD/two/disk.qcow2"
	fermata snapshot-create-as v e --disk-only
	[ "$(find "$FERMATA_ROOT/snaps" -type f | wc -l)" = 2 ]
	fermata snapshot-revert v e
	fermata snapshot-delete v e
}

@test "names: an overlay of a block device is refused with the cure, and lies in snapshot-dir" {
	truncate -s 16M lv
	loop_device "$PWD/lv"
	plain_vm v "$dev"
	fails 1 "snapshot-dir" snapshot-create-as v mon --disk-only
	[ "$(active v)" = "$dev" ]
	not ls "${dev%/*}"/*mon*
	fermata start v --paused
	fails 1 "--diskspec vda,file=" snapshot-create-as v mon --disk-only
	fermata destroy v
	mkdir snaps
	HEAD="snapshot-dir = $PWD/snaps" plain_vm v "$dev"
	fermata snapshot-create-as v mon --disk-only
	[[ $(active v) == "$PWD/snaps/"* ]]
	fermata snapshot-revert v mon
	[[ $(active v) == "$PWD/snaps/"* ]]
}

@test "names: a device whose overlay was given a place has its next ones there" {
	truncate -s 16M lv
	loop_device "$PWD/lv"
	plain_vm v "$dev"
	mkdir here
	fermata snapshot-create-as v mon --disk-only --diskspec "vda,file=$PWD/here/o.qcow2"
	fermata snapshot-create-as v tue --disk-only
	[[ $(active v) == "$PWD/here/"* ]]
	fermata snapshot-revert v mon
	[[ $(active v) == "$PWD/here/"* ]]
}

@test "names: an import for a disk on a block device does not go to /dev" {
	qemu-img create -q -f qcow2 w.qcow2 16M
	plain_vm w "$PWD/w.qcow2"
	fermata snapshot-create-as w e --disk-only
	fermata snapshot-export w e "$FERMATA_ROOT/e.fermata"
	truncate -s 16M lv
	loop_device "$PWD/lv"
	plain_vm v "$dev"
	fails 1 "snapshot-dir" snapshot-import v "$FERMATA_ROOT/e.fermata"
	mkdir snaps
	HEAD="snapshot-dir = $PWD/snaps" plain_vm v "$dev"
	fermata snapshot-import v "$FERMATA_ROOT/e.fermata"
	fermata snapshot-revert v e
	[[ $(active v) == "$PWD/snaps/"* ]]
}

@test "names: with a control character, every command that says one says it escaped" {
	local name c1
	qemu-img create -q -f qcow2 v.qcow2 16M
	plain_vm v "$PWD/v.qcow2"
	c1=$(printf '\302\233')
	name="a${c1}2J"
	{
		fermata start v --paused
		fermata snapshot-create-as v "$name" --memspec snapshot=external
		fermata snapshot-verify v "$name"
		fermata standby v "$name"
		fermata standby v
		fermata snapshot-bake v "$name"
		fermata snapshot-export v "$name" "x$c1"
		fermata snapshot-delete v "$name"
		fermata snapshot-import v "x$c1"
		fermata dump --memory-only v "d$c1"
		fermata save v "s$c1"
		fermata save-image-info "s$c1"
		fermata restore "s$c1"
	} >"$FERMATA_ROOT/out" 2>&1
	[ "$(grep -cF 'a\xc2\x9b2J' "$FERMATA_ROOT/out")" -ge 6 ]
	[ "$(grep -cF 's\xc2\x9b' "$FERMATA_ROOT/out")" -ge 2 ]
	not grep -qF "$c1" "$FERMATA_ROOT/out"
}

@test "names: what fermata keeps for itself is not a user's to give" {
	local state
	qemu-img create -q -f qcow2 v.qcow2 16M
	plain_vm v "$PWD/v.qcow2"
	fails 1 "is reserved" snapshot-create-as v fermata-before-revert
	[ -z "$(qemu-img snapshot -l v.qcow2)" ]
	fermata snapshot-create-as v fermata
	fermata snapshot-create-as v my-fermata-1
	fermata snapshot-export v fermata x
	fails 1 "is reserved" snapshot-import v x --name fermata-x
	not is_pending v
	# One that an image brings is the user's all the same.
	qemu-img snapshot -c fermata-old v.qcow2
	fermata snapshot-revert v fermata-old
	fermata snapshot-delete v fermata-old
	[ "$(fermata snapshot-list v --name | tr -d '\n')" = fermatamy-fermata-1 ]
}

@test "names: a foreign tag that is not UTF-8 is one snapshot, off and running, however often it is looked at" {
	local n
	qemu-img create -q -f qcow2 v.qcow2 16M
	plain_vm v "$PWD/v.qcow2"
	qemu-img snapshot -c "$(printf 'a\377b')" v.qcow2
	for n in 1 2; do
		fermata snapshot-create-as v "off$n"
		fermata start v --paused
		fermata snapshot-create-as v "on$n"
		fermata destroy v
	done
	[ "$(fermata snapshot-list v --name | wc -l)" = 5 ]
}

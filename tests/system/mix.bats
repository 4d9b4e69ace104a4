# Internal and external snapshots of one VM, in whatever order: each that is listed can be gone back to, a deletion gives
# back space, and nothing is written to or removed that something else needs.
load helper
load plain

setup() {
	root_make
	loops=()
	cd "$FERMATA_ROOT/images"
	qemu-img create -q -f qcow2 v.qcow2 64M
	plain_vm v "$PWD/v.qcow2"
}
teardown() {
	root_end
	loop_end
}

in_chain() {
	fermata domblkchain v >"$FERMATA_ROOT/out"
	grep -qF "$1" "$FERMATA_ROOT/out" || { echo "$1 is in no chain"; return 1; }
}

all_in_chain() {
	local f
	for f in *; do in_chain "$PWD/$f"; done
}

space() {
	du -sk . | cut -f 1
}

# ---- deletions ------------------------------------------------------------------------------------------------

deletion_frees() {
	local before
	fill v.qcow2 1 0 8M
	fermata snapshot-create-as v monday --disk-only
	fill "$(active v)" 2 12M 16M
	[ "$1" = off ] || fermata start v --paused
	before=$(space)
	fermata snapshot-delete v monday
	[ "$(space)" -le $((before + 256)) ]
	[ "$(active v)" = "$PWD/v.qcow2" ]
	[ "$(ls)" = v.qcow2 ]
	[ "$1" = off ] || fermata destroy v
	holds v.qcow2 1 0 8M
	holds v.qcow2 2 12M 16M
}

@test "deletion: a VM that is off has the definition's image back, and no more space is taken" {
	deletion_frees off
}

@test "deletion: a VM that runs has the definition's image back, and no more space is taken" {
	deletion_frees running
}

@test "deletion: an image that carries snapshots is not pulled away from, off and running" {
	local how
	for how in off running; do
		fill v.qcow2 1 0 2M
		fermata snapshot-create-as v int
		fermata snapshot-create-as v ext --disk-only
		fill "$(active v)" 3 0 12M
		[ $how = off ] || fermata start v --paused
		fermata snapshot-delete v ext
		[ "$(active v)" = "$PWD/v.qcow2" ]
		[ $how = off ] || fermata destroy v
		holds v.qcow2 3 0 12M
		fermata snapshot-revert v int
		holds v.qcow2 1 0 2M
		fermata snapshot-delete v int
	done
}

@test "deletion: what snapshots inside an overlay read from stays below it, off and running" {
	local how
	for how in off running; do
		fermata snapshot-create-as v ext --disk-only
		fill "$(active v)" 5 0 1M
		fermata snapshot-create-as v int
		fill "$(active v)" 6 0 1M
		[ $how = off ] || fermata start v --paused
		fermata snapshot-delete v ext
		not listed v ext
		[ $how = off ] || fermata destroy v
		holds "$(active v)" 6 0 1M
		all_in_chain
		fermata snapshot-revert v int
		holds "$(active v)" 5 0 1M
		fermata snapshot-delete v int
		[ "$(ls)" = v.qcow2 ]
	done
}

@test "deletion: an image that two branches are backed by is not copied into both" {
	local before
	fill v.qcow2 1 0 8M
	fermata snapshot-create-as v a --disk-only
	fill "$(active v)" 2 0 1M
	fermata snapshot-create-as v b --disk-only
	fermata snapshot-revert v a
	before=$(space)
	fermata snapshot-delete v a
	[ "$(space)" -le $((before + 256)) ]
	all_in_chain
	fermata snapshot-revert v b
	holds "$(active v)" 2 0 1M
	holds "$(active v)" 1 1M 7M
}

# stayed OFF|RUNNING: a and b are gone, and v.qcow2, which two branches were backed by, has one image above it
stayed() {
	local before
	fill v.qcow2 1 0 8M
	fermata snapshot-create-as v a --disk-only
	fill "$(active v)" 2 0 1M
	fermata snapshot-create-as v b --disk-only
	fermata snapshot-revert v a
	fill "$(active v)" 3 4M 1M
	fermata snapshot-create-as v c --disk-only
	fermata snapshot-create-as v d --disk-only
	fermata snapshot-revert v b
	fermata snapshot-create-as v e --disk-only
	[ "$1" = off ] || fermata start v --paused
	# Two images above a's: it stays; d's goes with all that nothing needs.
	fermata snapshot-delete v a
	grep -q '"stays"' "$FERMATA_ROOT/var/lib/fermata/v/state.json"
	fermata snapshot-delete v b
	fermata snapshot-delete v e
	fermata snapshot-delete v d
	in_chain "$PWD/v.qcow2"
	before=$(space)
	fermata snapshot-delete v c
	[ "$(space)" -le $((before + 256)) ]
	[ -z "$(fermata snapshot-list v --name)" ]
	[ "$(ls)" = v.qcow2 ]
	[ "$(active v)" = "$PWD/v.qcow2" ]
	not grep -q '"stays"' "$FERMATA_ROOT/var/lib/fermata/v/state.json"
	[ "$1" = off ] || fermata destroy v
	holds v.qcow2 2 0 1M
	holds v.qcow2 1 1M 7M
}

@test "deletion: an image that stayed for two branches is merged with the deletion of one of them, the VM off" { stayed off; }
@test "deletion: an image that stayed for two branches is merged with the deletion of one of them, the VM running" { stayed running; }

# An image below a tag's stays for it, whoever deletes that
stayed_for_a_tag() {
	fill v.qcow2 1 0 8M
	fermata snapshot-create-as v ext --disk-only
	fill "$(active v)" 2 0 1M
	fermata snapshot-create-as v int
	fill "$(active v)" 3 0 1M
	[ "$1" = off ] || fermata start v --paused
	fermata snapshot-delete v ext 2>"$FERMATA_ROOT/err"
	grep -q 'v.qcow2 stays in the chain: snapshots inside .* read from it' "$FERMATA_ROOT/err"
	in_chain "$PWD/v.qcow2"
	fermata snapshot-delete v int
	[ "$(ls)" = v.qcow2 ]
	[ "$1" = off ] || fermata destroy v
	holds v.qcow2 3 0 1M
	holds v.qcow2 1 1M 7M
}

@test "deletion: an image that stayed for a tag is merged with the deletion of that, the VM off" { stayed_for_a_tag off; }
@test "deletion: an image that stayed for a tag is merged with the deletion of that, the VM running" { stayed_for_a_tag running; }

@test "deletion: what stayed in a folder of its own is still the disk, and a job that fails leaves it for later" {
	mkdir ../elsewhere
	fill v.qcow2 1 0 1M
	fermata snapshot-create-as v a --disk-only --diskspec "vda,file=$FERMATA_ROOT/elsewhere/a.qcow2"
	fill "$(active v)" 2 1M 1M
	fermata snapshot-create-as v b --disk-only
	fermata snapshot-create-as v int
	fermata snapshot-delete v b 2>"$FERMATA_ROOT/err"
	in_chain "$FERMATA_ROOT/elsewhere/a.qcow2"
	fermata start v --paused
	fermata destroy v
	# In use by others: the deletion is done, this one image is not, and the next deletion sees to it.
	busy "$FERMATA_ROOT/elsewhere/a.qcow2"
	fermata snapshot-delete v int 2>"$FERMATA_ROOT/err"
	grep -q 'elsewhere/a.qcow2 stays in the chain: .*in use' "$FERMATA_ROOT/err"
	unbusy
	fermata snapshot-create-as v c
	fermata snapshot-delete v c
	[ "$(ls ../elsewhere | wc -l)" = 1 ]
	[ "$(ls)" = v.qcow2 ]
	holds "$(active v)" 1 0 1M
	holds "$(active v)" 2 1M 1M
	fermata snapshot-delete v a
	[ "$(ls ../elsewhere | wc -l)" = 0 ]
}

@test "deletion: what a replaced external snapshot froze is merged" {
	fill v.qcow2 1 0 1M
	for how in off off running running; do
		[ $how = off ] || state_is v running || state_is v paused || fermata start v --paused
		fermata snapshot-create-as v nightly --disk-only --replace
	done
	[ "$(ls | wc -l)" = 2 ]
	fermata snapshot-delete v nightly
	[ "$(ls)" = v.qcow2 ]
	fermata destroy v
	holds v.qcow2 1 0 1M
}

# ---- reverts --------------------------------------------------------------------------------------------------

back_and_forth() {
	fermata snapshot-create-as v d1 --disk-only
	fill "$(active v)" 2 0 1M
	fermata snapshot-create-as v m1
	fill "$(active v)" 4 0 1M
	fermata snapshot-revert v d1
	holds "$(active v)" 0 0 1M
	[ "$1" = off ] || fermata start v --paused
	fermata snapshot-revert v m1
	[ "$1" = off ] || assert_state v "shut off"
	holds "$(active v)" 2 0 1M
	[ "$(ls | wc -l)" = 2 ]
	fermata snapshot-revert v d1
	fermata snapshot-revert v m1
	holds "$(active v)" 2 0 1M
}

@test "revert: forward again to a snapshot inside an overlay that was left, the VM off" {
	back_and_forth off
}

@test "revert: forward again to a snapshot inside an overlay that was left, the VM running" {
	back_and_forth running
}

@test "revert: forward again to a checkpoint inside an overlay that was left" {
	fermata snapshot-create-as v d1 --disk-only
	fill "$(active v)" 2 0 1M
	fermata start v --paused
	fermata snapshot-create-as v c1
	fermata snapshot-revert v d1
	assert_state v "shut off"
	holds "$(active v)" 0 0 1M
	fermata snapshot-revert v c1
	assert_state v paused
	fermata snapshot-revert v c1 # now it is in the active layer
	fermata destroy v
	holds "$(active v)" 2 0 1M
	fermata start v --paused
	fermata snapshot-revert v d1
	fermata start v --paused
	fermata snapshot-revert v c1
	fermata destroy v
	holds "$(active v)" 2 0 1M
}

@test "deletion: an overlay that only a snapshot inside it still needed goes with that, and stays with --metadata" {
	local left how
	for how in off running metadata; do
		fermata snapshot-create-as v monday --disk-only
		fermata snapshot-create-as v noon --disk-only --diskspec vda,snapshot=internal
		left=$(active v)
		fermata snapshot-revert v monday
		# Whatever is done in between
		fermata snapshot-list v >/dev/null
		[ -f "$left" ]
		[ $how != running ] || fermata start v --paused
		if [ $how = running ]; then
			fails 1 "shut the VM down" snapshot-delete v noon
			fermata destroy v
		fi
		if [ $how = metadata ]; then
			fermata snapshot-delete v noon --metadata
			fermata domstate v
			[ -f "$left" ]
			qemu-img snapshot -l "$left" | grep -q noon
			return
		fi
		fermata snapshot-delete v noon
		[ ! -e "$left" ]
		fermata snapshot-delete v monday
		[ "$(ls)" = v.qcow2 ]
	done
}

@test "deletion: an overlay that was left is a disk's again after the way back to a snapshot inside it" {
	local left
	fermata snapshot-create-as v monday --disk-only
	fermata snapshot-create-as v noon --disk-only --diskspec vda,snapshot=internal
	left=$(active v)
	fermata snapshot-revert v monday
	fermata snapshot-revert v noon
	[ "$(active v)" = "$left" ]
	fermata snapshot-delete v noon
	[ -f "$left" ]
	all_in_chain
}

@test "revert: an image that something is backed by is refused by name, and --copy gives the snapshot one of its own" {
	fill v.qcow2 1 0 1M
	fermata snapshot-create-as v int
	fill v.qcow2 2 0 1M
	fermata snapshot-create-as v ext --disk-only
	fill "$(active v)" 3 0 1M
	fermata snapshot-create-as v ext2 --disk-only
	top=$(active v)
	fails 1 "'int' is inside $PWD/v.qcow2, but snapshot 'ext' froze $PWD/v.qcow2" snapshot-revert v int
	fails 1 "--copy" snapshot-revert v int
	[ "$(active v)" = "$top" ]
	fermata snapshot-revert v int --copy
	holds "$(active v)" 1 0 1M
	[ "$(fermata snapshot-list v --name | sort | xargs)" = "ext ext2 int" ]
	not grep -q '"int"' <<<"$(qemu-img snapshot -l v.qcow2)"
	fermata snapshot-revert v ext
	holds "$(active v)" 2 0 1M
	fermata snapshot-revert v int
	holds "$(active v)" 1 0 1M
	fermata snapshot-delete v ext2
	fermata snapshot-delete v ext
	fermata snapshot-revert v int
	holds "$(active v)" 1 0 1M
}

@test "revert: --copy of a checkpoint brings its memory along" {
	fill v.qcow2 1 0 1M
	fermata start v --paused
	fermata snapshot-create-as v c1
	fermata snapshot-create-as v ext --disk-only
	fails 1 "--copy" snapshot-revert v c1
	assert_state v paused
	fermata snapshot-revert v c1 --copy
	assert_state v paused
	fermata destroy v
	holds "$(active v)" 1 0 1M
	fermata snapshot-verify v c1
	fermata snapshot-revert v ext
	fermata snapshot-revert v c1
}

@test "revert: an overlay that another program writes to stays, and so does the disk" {
	fermata snapshot-create-as v mon --disk-only
	top=$(active v)
	fill "$top" 6 0 1M
	busy "$top"
	fails 1 "in use" snapshot-revert v mon
	unbusy
	[ "$(active v)" = "$top" ]
	holds "$top" 6 0 1M
	fermata snapshot-revert v mon
	[ ! -e "$top" ]
}

@test "revert: an image in use that is to go is kept on the list until it can" {
	fermata snapshot-create-as v mon --disk-only
	fermata snapshot-create-as v tue --disk-only
	wed=$(active v)
	fermata snapshot-revert v mon
	mid=$(ls | grep mon | head -n 1)
	busy "$PWD/$mid"
	fermata snapshot-delete v tue >"$FERMATA_ROOT/out" 2>&1
	grep -q 'in use' "$FERMATA_ROOT/out"
	[ -e "$mid" ]
	[ ! -e "$wed" ]
	unbusy
	fermata snapshot-revert v mon
	[ ! -e "$mid" ]
}

# ---- commits --------------------------------------------------------------------------------------------------

@test "commit: into an image that another disk of the VM has below it is refused by name, off and running" {
	local how
	for how in off running; do
		rm -f ./*
		qemu-img create -q -f qcow2 base.qcow2 16M
		fill base.qcow2 0x47 4M 1M
		qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2
		qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 b.qcow2
		plain_vm v "$PWD/a.qcow2" "$PWD/b.qcow2"
		fill a.qcow2 0x61 4M 64k
		[ $how = off ] || fermata start v --paused
		fails 1 "disk vdb of this VM is backed by $PWD/base.qcow2" blockcommit v vda --active --pivot
		[ $how = off ] || fermata destroy v
		holds b.qcow2 0x47 4M 1M
	done
}

# What cannot be read now may be there again tomorrow.
@test "commit: where it cannot be told whether a snapshot needs the base, it does, off and running" {
	local how side
	fermata snapshot-create-as v k1 --disk-only
	side=$(active v)
	fermata snapshot-create-as v k2 --disk-only
	fermata snapshot-revert v k1
	mv "$side" "$side.away"
	for how in off running; do
		[ $how = off ] || fermata start v --paused
		fails 1 "cannot tell whether snapshot 'k2' needs $PWD/v.qcow2: " blockcommit v vda --active --pivot --drop-snapshots
		not is_pending v
	done
	fermata destroy v
	mv "$side.away" "$side"
	fails 1 "snapshot 'k2' is backed by $PWD/v.qcow2" blockcommit v vda --active --pivot --drop-snapshots
}

@test "commit: into an image that another VM, which is off, has below it is refused by its name" {
	qemu-img create -q -f qcow2 -b v.qcow2 -F qcow2 a.qcow2
	qemu-img create -q -f qcow2 -b v.qcow2 -F qcow2 b.qcow2
	plain_vm v "$PWD/a.qcow2"
	plain_vm other "$PWD/b.qcow2"
	fails 1 "'other', needs $PWD/v.qcow2" blockcommit v vda --active --pivot
	fermata snapshot-create-as v mon --disk-only
	fermata snapshot-delete v mon
	[ "$(active v)" = "$PWD/a.qcow2" ]
}

@test "deletion: what another VM has below it is not committed into" {
	fermata snapshot-create-as v mon --disk-only
	fill "$(active v)" 1 0 1M
	qemu-img create -q -f qcow2 -b v.qcow2 -F qcow2 b.qcow2
	plain_vm other "$PWD/b.qcow2"
	fermata snapshot-delete v mon
	holds b.qcow2 0 0 1M
	holds "$(active v)" 1 0 1M
}

# ---- names and sizes ------------------------------------------------------------------------------------------

@test "commit and pull: --keep-relative writes a relative name, across folders too, off and running" {
	local how cmd
	mkdir low
	plain_vm v "$PWD/top.qcow2"
	for how in off running; do
		for cmd in "blockcommit v vda --top $PWD/b.qcow2 --base $PWD/low/a.qcow2" "blockpull v vda --base $PWD/low/a.qcow2"; do
			rm -rf ./*.qcow2 "$FERMATA_ROOT/var"
			qemu-img create -q -f qcow2 low/base.qcow2 4M
			qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 low/a.qcow2
			qemu-img create -q -f qcow2 -b low/a.qcow2 -F qcow2 b.qcow2
			qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 top.qcow2
			[ $how = off ] || fermata start v --paused
			# shellcheck disable=SC2086
			fermata $cmd --wait --keep-relative
			[ $how = off ] || fermata destroy v
			[ "$(backing_of top.qcow2)" = low/a.qcow2 ]
		done
	done
}

@test "backing-dir: a base elsewhere is read, and no file is made beside it" {
	mkdir "$FERMATA_ROOT/gold"
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/gold/g.qcow2" 16M
	chmod 555 "$FERMATA_ROOT/gold"
	qemu-img create -q -f qcow2 -b "$FERMATA_ROOT/gold/g.qcow2" -F qcow2 c.qcow2
	plain_vm v "$PWD/c.qcow2"
	fails 1 "backing-dir" start v --paused
	HEAD="backing-dir = /nowhere\nbacking-dir = $FERMATA_ROOT/gold" plain_vm v "$PWD/c.qcow2"
	fermata start v --paused
	fermata snapshot-create-as v e --disk-only
	fermata snapshot-revert v e
	[[ $(active v) == "$PWD/"* ]]
	[ "$(ls "$FERMATA_ROOT/gold")" = g.qcow2 ]
}

@test "device: its size and allocation are told, and what is on top of it is committed down" {
	truncate -s 32M lv
	loop_device "$PWD/lv"
	fill "$dev" 7 0 24M
	plain_vm v "$dev"
	fermata domblkinfo v vda | grep -q 'Physical: *33554432'
	fermata img info -f raw "$dev" | grep -q 'disk size: 32 MiB'
	fermata start v --paused
	fermata snapshot-create-as v mon --disk-only --diskspec "vda,file=$PWD/o.qcow2"
	not grep -qE 'raw, 0 B' <<<"$(fermata domblkchain v)"
	fermata snapshot-delete v mon
	[ "$(active v)" = "$dev" ]
	[ ! -e o.qcow2 ]
	[ -b "$dev" ]
	fermata destroy v
	holds "$dev" 7 0 24M
}

# ---- commits that give up snapshots ---------------------------------------------------------------------------

two_disks() {
	qemu-img create -q -f qcow2 a.qcow2 64M
	qemu-img create -q -f qcow2 b.qcow2 64M
	plain_vm d "$PWD/a.qcow2" "$PWD/b.qcow2"
}

tags_of() {
	qemu-img snapshot -U -l "$1" | awk 'NR > 2 { print $2 }'
}

@test "drop-snapshots: a checkpoint inside the images is deleted from every disk, off and running" {
	local how other
	two_disks
	for how in off running; do
		fermata snapshot-create-as d ext --disk-only --diskspec vdb,snapshot=no
		fermata start d --paused
		fermata snapshot-create-as d cp
		fermata snapshot-create-as d cp2
		[ $how = running ] || fermata destroy d
		[ "$(tags_of b.qcow2 | wc -l)" = 2 ]
		fails 1 "snapshot 'ext' would be lost" blockcommit d vda --active --pivot
		[ "$(tags_of b.qcow2 | wc -l)" = 2 ]
		fermata blockcommit d vda --active --pivot --drop-snapshots --delete
		[ -z "$(tags_of a.qcow2; tags_of b.qcow2)" ]
		[ -z "$(fermata snapshot-list d --name)" ]
		[ "$(ls)" = $'a.qcow2\nb.qcow2\nv.qcow2' ]
		[ $how = off ] || fermata destroy d
	done
}

@test "drop-snapshots: what cannot be deleted whole is refused by name, and nothing has changed" {
	two_disks
	fermata snapshot-create-as d ext --disk-only --diskspec vdb,snapshot=no
	fermata snapshot-create-as d half --disk-only --diskspec vda,snapshot=internal --diskspec vdb,snapshot=external
	fermata snapshot-create-as d deep
	fermata snapshot-create-as d ext2 --disk-only --diskspec vdb,snapshot=no
	cp "$FERMATA_ROOT/var/lib/fermata/d/state.json" before
	fails 1 "snapshot 'half' is inside one disk's image and froze another's" blockcommit d vda --active --pivot --drop-snapshots
	cmp before "$FERMATA_ROOT/var/lib/fermata/d/state.json"
	fermata snapshot-delete d half
	fermata start d --paused
	fails 1 "'deep' is inside " blockcommit d vda --active --pivot --drop-snapshots
	listed d deep
	listed d ext2
	fermata destroy d
	[ -n "$(tags_of "$(active d vdb)")" ]
	busy "$(active d vdb)"
	fails 1 "is in use" blockcommit d vda --active --pivot --drop-snapshots
	unbusy
	listed d deep
	listed d ext2
	fermata recover d
	listed d deep
	fermata blockcommit d vda --active --pivot --drop-snapshots --delete
	not listed d deep
	[ -z "$(tags_of "$(active d vdb)")" ]
}

@test "drop-snapshots: snapshots that others made are not lost in silence, nor by half" {
	two_disks
	fermata snapshot-create-as d ext --disk-only --diskspec vdb,snapshot=no
	qemu-img snapshot -c theirs "$(active d)"
	qemu-img snapshot -c theirs b.qcow2
	fermata snapshot-delete d ext --metadata
	fails 1 "snapshot 'theirs' would be lost" blockcommit d vda --active --pivot --delete
	fermata blockcommit d vda --active --pivot --delete --drop-snapshots
	[ -z "$(tags_of b.qcow2)" ]
}

# ---- half ones ------------------------------------------------------------------------------------------------

@test "snapshot-verify: one that a disk has lost, or that has lost its memory, is not whole" {
	two_disks
	qemu-img snapshot -c theirs a.qcow2
	fails 1 "vdb: $PWD/b.qcow2 has no snapshot 'theirs'" snapshot-verify d theirs
	qemu-img snapshot -c theirs b.qcow2
	fermata snapshot-verify d theirs
	fermata start d --paused
	fermata snapshot-create-as d cp
	fermata snapshot-verify d cp
	fermata destroy d
	fermata snapshot-verify d cp
	qemu-img snapshot -d cp a.qcow2
	fails 1 "vda: $PWD/a.qcow2 has no snapshot 'cp'" snapshot-verify d cp
	qemu-img snapshot -c cp a.qcow2
	fails 1 "vda: 'cp' inside $PWD/a.qcow2 has lost the VM's memory" snapshot-verify d cp
	# What is writable and has no part in snapshots is no disk that lost one.
	sed -i '/b.qcow2/a snapshot = no' "$FERMATA_ROOT/etc/fermata/d.conf"
	qemu-img snapshot -c more a.qcow2
	fermata snapshot-verify d more
}

# ---- images of a VM with a managed save -----------------------------------------------------------------------

@test "img: a disk of a VM with a managed save is not changed, under whatever name" {
	ln v.qcow2 linked
	qemu-img create -q -f qcow2 other.qcow2 64M
	qemu-img create -q -f qcow2 -b v.qcow2 -F qcow2 over.qcow2
	fermata start v --paused
	fermata managedsave v
	cp v.qcow2 before
	for command in "snapshot -c k v.qcow2" "snapshot -c k linked" "resize v.qcow2 +1M" "check -r all v.qcow2" "commit over.qcow2" \
		"amend -o compat=0.10 v.qcow2" "rebase -u -b other.qcow2 -F qcow2 v.qcow2" "create -f qcow2 v.qcow2 1M" \
		"convert -O qcow2 other.qcow2 v.qcow2" "bitmap --add v.qcow2 b"; do
		not fermata img $command 2>"$FERMATA_ROOT/said"
		grep -q "it is disk vda of VM 'v', which has a managed save" "$FERMATA_ROOT/said"
	done
	cmp v.qcow2 before
	fermata img check v.qcow2
	fermata img snapshot -c k other.qcow2
	fermata start v --paused
	assert_state v paused
	fermata destroy v
	fermata img snapshot -c k v.qcow2
}

@test "img: a commit does not empty the overlay that a VM with a managed save has for its disk" {
	fermata snapshot-create-as v monday --disk-only
	fill "$(active v)" 2 0 1M
	fermata start v --paused
	fermata managedsave v
	fails 1 "which has a managed save" img commit "$(active v)"
	fails 1 "which has a managed save" img commit -q "$(active v)" -b "$PWD/v.qcow2"
	fermata start v --paused
	assert_state v paused
	fermata destroy v
}

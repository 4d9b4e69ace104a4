# An image that a snapshot froze is replaced in place: nothing runs over the wrong one.
load helper
load plain

setup() {
	root_make
	d=$FERMATA_ROOT/images
	qemu-img create -q -f qcow2 "$d/a.qcow2" 4M
	truncate -s 4M "$d/b.raw"
	fill "$d/a.qcow2" 1 0 1M
	fill "$d/b.raw" 1 0 1M
	plain_vm w "$d/a.qcow2" "$d/b.raw"
	fermata snapshot-create-as w k --disk-only
	for disk in vda vdb; do fill "$(active w $disk)" 2 0 64k; done
}
teardown() { root_end; }

refused_everywhere() {
	fails 1 "$1 is not the image that 'k' froze" start w --paused
	fails 1 "$1 is not the image that 'k' froze" snapshot-revert w k
	fails 1 "$1 is not the image that 'k' froze" "${@:2}"
	not is_pending w
	for disk in vda vdb; do holds "$(active w $disk)" 2 0 64k; done
}

@test "replaced: a base of another size is refused by start, revert and block jobs, and taken when it is back" {
	mv "$d/a.qcow2" "$FERMATA_ROOT/kept"
	qemu-img create -q -f qcow2 "$d/a.qcow2" 8M
	refused_everywhere "$d/a.qcow2" blockcommit w vda --active --pivot --wait
	cp -p "$FERMATA_ROOT/kept" "$d/a.qcow2" # another file, as out of a backup
	fermata start w --paused
	fermata destroy w
	mv "$d/b.raw" "$FERMATA_ROOT/kept"
	truncate -s 1M "$d/b.raw"
	refused_everywhere "$d/b.raw" blockpull w vdb
	cat "$FERMATA_ROOT/kept" >"$d/b.raw"
	fermata start w --paused
	fermata destroy w
	fermata snapshot-revert w k
}

@test "replaced: an image that was only resized is named with the size that it had" {
	truncate -s 5M "$d/b.raw"
	fails 1 "img resize -f raw --shrink $d/b.raw 4194304" start w --paused
	fermata img resize -f raw --shrink "$d/b.raw" 4194304
	fermata start w --paused
}

@test "replaced: a merge into an image that is larger than its overlay is not taken for it" {
	fermata snapshot-create-as w l --disk-only
	fermata img resize --shrink "$(active w)" 2M
	fermata snapshot-create-as w m --disk-only
	fermata snapshot-delete w l
	fermata start w --paused
	fermata destroy w
	fermata snapshot-delete w m
	fermata start w --paused
}

@test "replaced: no merge of ours, whatever the sizes, is taken for it" {
	local op
	fermata img resize "$(active w)" 6M
	fermata snapshot-create-as w l --disk-only
	fill "$(active w)" 3 5M 64k
	fermata img resize "$(active w)" 8M
	fermata snapshot-create-as w m --disk-only
	for op in k l m; do
		fermata start w --paused
		[ $op = l ] || fermata destroy w
		fermata snapshot-delete w $op
		[ $op != l ] || fermata destroy w
		fermata start w --paused
		fermata destroy w
	done
	holds "$(active w)" 3 5M 64k
}

# An image that is merged into grows before the record says so: its size is forgotten first.
@test "replaced: a merge that was cut off is finished, and the VM starts" {
	need_strace
	local at size=6
	for at in pwrite64:2 pwrite64:6 rename:2 rename:3; do
		fermata img resize "$(active w)" ${size}M
		fermata snapshot-create-as w top --disk-only
		if listed w k; then fermata snapshot-delete w k; fi
		fill "$(active w)" 3 1M 64k
		fermata img resize "$(active w)" $((size + 1))M
		inject "${at%:*}" "${at#*:}" snapshot-delete w top
		if is_pending w; then not grep -q '"size"' "$FERMATA_ROOT/var/lib/fermata/w/state.json"; fi
		fermata recover w
		if listed w top; then fermata snapshot-delete w top; fi
		fermata start w --paused
		fermata destroy w
		size=$((size + 2))
	done
	[ "$n_cut" -ge 3 ]
}

# What is in it decides, and not the file that it is in.
@test "replaced: a base of the same size is refused, and its copies are taken" {
	cp -p "$d/a.qcow2" "$FERMATA_ROOT/kept"
	qemu-img create -q -f qcow2 "$d/new.qcow2" 4M
	fill "$d/new.qcow2" 9 512k 64k
	mv "$d/new.qcow2" "$d/a.qcow2"
	refused_everywhere "$d/a.qcow2" blockcommit w vda --active --pivot --wait
	cat "$FERMATA_ROOT/kept" >"$d/a.qcow2" # not the file's time, number or place
	fermata start w --paused
	fermata destroy w
	qemu-img convert -O qcow2 -o cluster_size=4k "$FERMATA_ROOT/kept" "$d/a.qcow2" # nor how it is written
	fermata start w --paused
	fermata destroy w
	fill "$d/b.raw" 9 512k 64k
	refused_everywhere "$d/b.raw" blockpull w vdb
}

@test "replaced: --accept-images takes what is there" {
	fill "$d/b.raw" 9 0 64k
	fails 1 "recover --accept-images w" start w --paused
	fails 2 "needs the name" recover --accept-images
	fermata recover --accept-images w
	fermata start w --paused
	fermata destroy w
	fill "$d/b.raw" 8 0 64k
	fails 1 "is not the image that 'k' froze" start w --paused
}

# A base that the user has made is known from the first start on, when what is written over it begins.
@test "replaced: a base of the user's under a disk that was written to is refused, and goes with a new disk" {
	qemu-img create -q -f qcow2 "$d/base.qcow2" 64M
	fill "$d/base.qcow2" 1 0 64M
	qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 "$d/u.qcow2"
	plain_vm u "$d/u.qcow2"
	fermata start u --paused
	fermata destroy u
	fill "$d/base.qcow2" 2 0 64M
	fermata start u --paused # nothing was written over the old one
	fermata destroy u
	fill "$d/u.qcow2" 5 0 64k
	fermata start u --paused
	fermata destroy u
	fill "$d/base.qcow2" 3 0 64M
	fails 1 "$d/base.qcow2 is not the image that u ran on" start u --paused
	fails 1 "$d/base.qcow2 is not the image that u ran on" snapshot-create-as u k --disk-only
	rm "$d/u.qcow2"
	truncate -s 1M "$d/other" # its number is not given out again
	qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 "$d/u.qcow2"
	fermata start u --paused
	fermata destroy u
}

@test "replaced: what our own jobs make of a base is known, and what users rebase" {
	local job
	for job in "blockcommit w vda --active --pivot --wait --drop-snapshots" "snapshot-delete w k2" "blockpull w vdb --wait"; do
		listed w k2 || fermata snapshot-create-as w k2 --disk-only
		for disk in vda vdb; do fill "$(active w $disk)" 6 1M 64k; done
		fermata start w --paused
		fermata $job
		fermata destroy w
		fermata start w --paused
		fermata destroy w
	done
	fermata snapshot-create-as w k3 --disk-only
	fermata img rebase -b '' "$(active w vda)"
	fermata start w --paused
	fermata destroy w
	grep -q '"bases": \[{"file"' "$FERMATA_ROOT/var/lib/fermata/w/state.json"
}

@test "replaced: a record that cannot be written keeps no VM from its start" {
	rm -rf "$d/u.qcow2"
	qemu-img create -q -f qcow2 -b b.raw -F raw "$d/u.qcow2"
	plain_vm u "$d/u.qcow2"
	mkdir -p "$FERMATA_ROOT/var/lib/fermata/u"
	mkdir "$FERMATA_ROOT/var/lib/fermata/u/state.json.new"
	fermata start u --paused
	fermata destroy u
}

# An update that switches a link, as one replaces the file: the name stays, what is written above it does not fit.
@test "replaced: a link that leads to another image by now is refused, and taken when it leads back, or to a copy" {
	qemu-img create -q -f qcow2 "$d/old.qcow2" 4M
	fill "$d/old.qcow2" 1 0 1M
	cp "$d/old.qcow2" "$d/new.qcow2"
	fill "$d/new.qcow2" 9 512k 64k
	ln -s old.qcow2 "$d/link.qcow2"
	plain_vm s "$d/link.qcow2"
	fermata snapshot-create-as s k --disk-only
	fill "$(active s)" 2 0 64k
	qemu-img create -q -f qcow2 -b link.qcow2 -F qcow2 "$d/u.qcow2"
	plain_vm u "$d/u.qcow2"
	fill "$d/u.qcow2" 2 0 64k
	for vm in s u; do
		fermata start $vm --paused
		fermata destroy $vm
	done
	ln -sfn new.qcow2 "$d/link.qcow2"
	fails 1 "$d/new.qcow2 is not the image that 'k' froze" start s --paused
	fails 1 "$d/link.qcow2 is not the image that 'k' froze" snapshot-revert s k
	fails 1 "$d/new.qcow2 is not the image that u ran on" start u --paused
	cp "$d/old.qcow2" "$d/copy.qcow2"
	for to in old copy; do
		ln -sfn $to.qcow2 "$d/link.qcow2"
		for vm in s u; do
			fermata start $vm --paused
			fermata destroy $vm
		done
	done
	# Rebased with its content, the disk has another name below it, and reads as before.
	qemu-img rebase -b "$d/new.qcow2" -F qcow2 "$d/u.qcow2"
	fermata start u --paused
	fermata destroy u
	fermata snapshot-revert s k
}

@test "replaced: a folder that has moved, with a link in its place, is the same" {
	mkdir "$d/f"
	mv "$d/a.qcow2" "$d/f/"
	plain_vm m "$d/f/a.qcow2"
	fermata snapshot-create-as m k --disk-only
	fill "$(active m)" 2 0 64k
	fermata start m --paused
	fermata destroy m
	mv "$d/f" "$d/g"
	ln -s g "$d/f"
	timeout 20 "$FERMATA_BIN" recover --accept-images m
	fermata start m --paused
	fermata destroy m
	fermata snapshot-delete m k
}

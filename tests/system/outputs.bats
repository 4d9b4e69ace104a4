# Files that a user names to be written to: what is there is spared, unless an earlier command of the kind wrote it.
load helper

setup() { root_make; }
teardown() { root_end; }

# COMMAND...: is refused by name, and changes nothing of FILE, which it names
spares() {
	local file=$1 sum
	shift
	sum=$(md5sum <"$file")
	fails 1 "there already" "$@"
	[ "$sum" = "$(md5sum <"$file")" ] || { echo "$file has changed: $*"; return 1; }
	assert_state w running
	not is_pending w
}

@test "outputs: save, dump and memspec spare images, of this VM and of others, memories, and all that is not theirs" {
	d=$FERMATA_ROOT
	qemu-img create -q -f raw "$d/base disk.raw" 64M
	witness_vm w 2 raw=vdb
	qemu-img create -q -f qcow2 -F raw -b "$d/base disk.raw" "$d/top.qcow2"
	printf '\n[disk vdc]\nfile = %s\nformat = qcow2\n' "$d/top.qcow2" | conf_add w
	witness_vm other 1
	vm_start other
	fermata snapshot-create-as other k --memspec "$d/other k.mem"
	fermata save other "$d/other.save"
	vm_start w
	fermata snapshot-create-as w k --memspec "$d/k.mem"
	echo words >"$d/notes"
	qemu-img create -q -f raw "$d/zeros.part" 1M
	qemu-img create -q -f qcow2 "$d/image.part" 1M
	ln -s "$d/images/other-vda.qcow2" "$d/link"
	ln -s "$d/k.mem" "$d/link.part"
	printf '\177ELF%60s' '' >"$d/program"
	for file in "$d/images/w-vda.qcow2" "$d/images/w-vdb.raw" "$d/base disk.raw" "$d/top.qcow2" "$d/images/other-vda.qcow2" \
		"$d/k.mem" "$d/other k.mem" "$d/other.save" "$d/notes" "$d/link" "$d/program"; do
		spares "$file" save w "$file"
		spares "$file" dump w "$file" --memory-only
		spares "$file" snapshot-create-as w x --memspec "file=$file"
		spares "$file" snapshot-export w k "$file"
	done
	# What is written first has a name of its own.
	for file in "$d/image" "$d/link"; do
		rm -f "$d/link"
		spares "$file.part" save w "$file"
		spares "$file.part" dump w "$file" --memory-only
		spares "$file.part" snapshot-create-as w x --memspec "file=$file"
		spares "$file.part" snapshot-export w k "$file"
	done
	echo words >"$d/i.ram.part"
	spares "$d/i.ram.part" snapshot-create-as w x --instant --memspec "file=$d/i.mem"
	printf '\n[disk vdd]\nfile = %s\nformat = raw\n' "$d/zeros.part" | conf_add other
	spares "$d/zeros.part" save w "$d/zeros"
	fails 1 "belongs to VM 'w'" save w "$d/k.mem"
	fails 1 "belongs to VM 'other'" save w "$d/images/other-vda.qcow2"
	fails 1 "the memory of VM 'other'" save w "$d/other.save"
	[ "$(fermata snapshot-list w --name)" = k ]
}

@test "outputs: an earlier save, dump or export is replaced, and an empty file is" {
	d=$FERMATA_ROOT
	witness_vm w 1
	vm_start w
	: >"$d/w.save"
	for i in 1 2; do
		fermata dump w "$d/w.core" --memory-only
		fermata save w "$d/w.save"
		spared=$(md5sum <"$d/w.core")
		fermata restore "$d/w.save"
	done
	fails 1 "not a dump of memory" dump w "$d/w.save" --memory-only
	fails 1 "not saved memory" save w "$d/w.core"
	[ "$spared" = "$(md5sum <"$d/w.core")" ]
	# What a save that was cut off has left behind begins with zeros.
	truncate -s 64K "$d/w.save.part"
	fermata save w "$d/w.save"
	fermata restore "$d/w.save"
	# Another VM's definition cannot be read: what is there may be its own.
	echo rubbish >"$d/etc/fermata/broken.conf"
	fails 1 "may belong to VM 'broken'" save w "$d/w.save"
	fermata save w "$d/fresh.save"
}

@test "outputs: a copy and a new layer do not take another's image for their own" {
	d=$FERMATA_ROOT
	witness_vm w 2
	qemu-img create -q -f qcow2 "$d/images/other.qcow2" 64M
	qemu-img create -q -f qcow2 -F qcow2 -b "$d/images/w-vda.qcow2" "$d/images/layer.qcow2"
	printf 'memory = 32M\n[disk vda]\nfile = %s\nformat = qcow2\n[disk vdb]\nfile = %s\nformat = qcow2\n' \
		"$d/images/other.qcow2" "$d/images/layer.qcow2" >"$d/etc/fermata/other.conf"
	vm_start w
	spares "$d/images/other.qcow2" blockcopy w vda "$d/images/other.qcow2" --reuse-external --format qcow2 --wait --finish
	spares "$d/images/layer.qcow2" snapshot-create-as w x --disk-only --reuse-external \
		--diskspec "vda,file=$d/images/layer.qcow2" --diskspec vdb,snapshot=no
}

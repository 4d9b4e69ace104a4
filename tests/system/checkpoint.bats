# Checkpoints of a running guest: taken, listed, brought back, deleted; on every disk, or refused before anything changes.
load helper

setup() { root_make; }
teardown() { root_end; }

# The whole way: take one, let the guest go on, go back, delete it
walk() {
	local vm=$1 low then from
	vm_start "$vm"
	wait_counter_above "$vm" 20
	ask "$vm" g '^G=16$'
	low=$(last_counter "$vm")
	fermata snapshot-create-as "$vm" one "the first"
	then=$(last_counter "$vm")
	[ "$(spread "$vm" one)" = all ]
	fermata snapshot-list "$vm" | grep -E '^ ?one +[0-9]{4}-[0-9-]* [0-9:]* \S+ +running$'
	[ "$(fermata snapshot-current "$vm" --name)" = one ]
	ask "$vm" g '^G=32$'
	wait_counter_above "$vm" $((then + 100))
	from=$(mark "$vm")
	fermata snapshot-revert "$vm" one
	assert_state "$vm" running
	assert_back_in "$vm" "$from" "$low" "$then"
	assert_one_instant "$vm" "$from"
	[ "$(ask "$vm" c '^C')" = "C ok" ]
	[ "$(ask "$vm" v '^V')" = "V ok" ]
	ask "$vm" g '^G=32$'
	fermata snapshot-delete "$vm" one
	[ "$(spread "$vm" one)" = none ]
	not listed "$vm" one
	fails 1 "no snapshot is current" snapshot-current "$vm"
	assert_one_instant "$vm" "$from"
	fermata destroy "$vm"
	assert_images_ok "$vm"
}

@test "checkpoint: one disk" {
	witness_vm w 1 fill=4
	walk w
}

@test "checkpoint: two disks, q35" {
	witness_vm w 2 machine=q35
	walk w
}

@test "checkpoint: eight disks" {
	witness_vm w 8 ticks=50
	walk w
}

@test "checkpoint: IDE, SATA and SCSI disks" {
	witness_vm w 2 bus=ide
	walk w
	witness_vm s 2 bus=sata machine=q35
	walk s
	witness_vm c 2 bus=scsi machine=q35
	walk c
}

@test "checkpoint: under kvm" {
	[ -w /dev/kvm ] || skip "/dev/kvm cannot be used"
	witness_vm w 2 accel=kvm dirty=0
	sed -i '1i cpu = qemu64' "$FERMATA_ROOT/etc/fermata/w.conf"
	walk w
}

@test "checkpoint: a tree of them, each brought back to its own instant" {
	witness_vm w 2
	vm_start w
	wait_counter_above w 20
	low_a=$(last_counter w)
	fermata snapshot-create-as w a
	a=$(last_counter w)
	wait_counter_above w $((a + 150))
	low_b=$(last_counter w)
	fermata snapshot-create-as w b
	b=$(last_counter w)
	wait_counter_above w $((b + 150))
	from=$(mark w)
	fermata snapshot-revert w a
	assert_back_in w "$from" "$low_a" "$a"
	fermata snapshot-create-as w c
	[ "$(fermata snapshot-parent w b)" = a ]
	[ "$(fermata snapshot-parent w c)" = a ]
	[ "$(fermata snapshot-current w --name)" = c ]
	run fermata snapshot-list w --tree
	[ "${lines[0]}" = a ]
	[ "${lines[2]}" = "  +- b" ]
	[ "${lines[3]}" = "  +- c" ]
	from=$(mark w)
	fermata snapshot-revert w b
	assert_back_in w "$from" "$low_b" "$b"
	assert_one_instant w "$from"
	[ "$(fermata snapshot-current w --name)" = b ]
	fermata snapshot-delete w a
	run fermata snapshot-parent w c
	[ "$status" -eq 1 ]
	[ "$(fermata snapshot-list w --roots --name | sort | tr '\n' ' ')" = "b c " ]
	fermata snapshot-delete w b
	fermata destroy w
	assert_images_ok w
	[ "$(spread w c)" = all ]
}

@test "checkpoint: a VM that is off goes back to it, too" {
	witness_vm w 2 fill=4
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w one
	then=$(last_counter w)
	wait_counter_above w $((then + 100))
	fermata destroy w
	assert_state w "shut off"
	from=$(mark w)
	fermata snapshot-revert w one
	assert_state w running
	assert_back_in w "$from" "$low" "$then"
	assert_one_instant w "$from"
	[ "$(ask w v '^V')" = "V ok" ]
}

@test "revert: of a VM that is off, an image's own tag of the guard's old name is nobody's guard" {
	witness_vm w 2
	vm_start w
	fermata snapshot-create-as w k
	fermata destroy w
	for disk in vda vdb; do
		qemu-img snapshot -c fermata-before-revert "$FERMATA_ROOT/images/w-$disk.qcow2"
		qemu-io -c "write -q -P 7 40M 1M" "$FERMATA_ROOT/images/w-$disk.qcow2"
	done
	# One that does not load: the present is as it was.
	sed -i 's/^memory *=.*/memory = 128M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	not fermata snapshot-revert w k --force
	qemu-io -r -c "read -P 7 40M 1M" "$FERMATA_ROOT/images/w-vdb.qcow2" | grep -qv failed
	[ "$(spread w fermata-before-revert)" = all ]
	not is_pending w
	sed -i 's/^memory *=.*/memory = 64M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	from=$(mark w)
	fermata snapshot-revert w k
	assert_one_instant w "$from"
	fermata destroy w
	[ "$(spread w fermata-before-revert)" = all ]
	[ "$(qemu-img snapshot -l "$FERMATA_ROOT/images/w-vda.qcow2" | grep -c before-revert)" = 1 ]
}

@test "checkpoint: of a paused guest, and reverts that leave it running or paused" {
	witness_vm w 2
	vm_start w
	wait_counter_above w 20
	fermata suspend w
	fermata snapshot-create-as w still
	assert_state w paused
	fermata snapshot-list w | grep -E 'still .* paused$'
	then=$(last_counter w)
	fermata resume w
	wait_counter_above w $((then + 50))
	fermata snapshot-revert w still
	assert_state w paused
	from=$(mark w)
	fermata snapshot-revert w still --running
	assert_state w running
	assert_went_back w "$from" "$then"
	assert_one_instant w "$from"
	fermata snapshot-revert w --current --paused
	assert_state w paused
	fermata resume w
	assert_one_instant w
}

@test "checkpoint: a raw disk is named, and nothing changes" {
	witness_vm w 3 raw=vdb
	vm_start w
	fails 1 vdb snapshot-create-as w one
	assert_state w running
	[ "$(spread w one)" = none ]
	[ -z "$(fermata snapshot-list w --name)" ]
	not is_pending w
	assert_one_instant w 0
}

@test "checkpoint: a raw disk that is left out by the definition" {
	witness_vm w 2 raw=vdb
	sed -i 's/^format = raw/&\nsnapshot = no/' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	fermata snapshot-create-as w one
	[ "$(spread w one)" = all ]
}

@test "checkpoint: a name that is taken; --replace" {
	witness_vm w 2
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w one
	a=$(last_counter w)
	wait_counter_above w $((a + 150))
	fails 1 one snapshot-create-as w one
	from=$(mark w)
	fermata snapshot-revert w one
	assert_back_in w "$from" "$low" "$a"
	wait_counter_above w $((a + 300)) 30 "$from"
	low=$(last_counter w "$from")
	fermata snapshot-create-as w one --replace
	b=$(last_counter w "$from")
	[ "$(fermata snapshot-list w --name)" = one ]
	[ "$(spread w "$(tag_of w one)")" = all ]
	wait_counter_above w $((b + 100)) 30 "$from"
	from=$(mark w)
	fermata snapshot-revert w one
	assert_back_in w "$from" "$low" "$b"
	assert_one_instant w "$from"
	fermata destroy w
	assert_images_ok w
	for disk in $(images w); do
		[ "$(qemu-img snapshot -l "$disk" | grep -c '^[0-9]')" = 1 ]
	done
}

@test "checkpoint: one that savevm made is found and brought back" {
	witness_vm w 2
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata qemu-monitor-command w --hmp "savevm theirs"
	then=$(last_counter w)
	listed w theirs
	wait_counter_above w $((then + 100))
	from=$(mark w)
	# What it was made with nobody noted: that it loads is not certain before the present is gone.
	fails 1 "destroy w' first" snapshot-revert w theirs
	fermata snapshot-revert w theirs --force
	assert_back_in w "$from" "$low" "$then"
	assert_one_instant w "$from"
	fermata snapshot-delete w theirs
	[ "$(spread w theirs)" = none ]
}

@test "checkpoint: --halt leaves the VM off, a snapshot of a VM that is off has disks only" {
	witness_vm w 2
	vm_start w
	wait_counter_above w 20
	fermata snapshot-create-as w one --halt
	assert_state w "shut off"
	fermata snapshot-create-as w disks
	[ "$(spread w disks)" = all ]
	fermata snapshot-list w | grep -E 'disks .* shutoff$'
	from=$(mark w)
	vm_start w
	wait_counter_above w 0 60 "$from"
	fermata snapshot-revert w disks
	assert_state w "shut off"
	assert_images_ok w
}

# A byte of its memory is not what it was: QEMU has taken the disks back by then, and what it has loaded is no guest.
@test "checkpoint: one that does not load half way leaves a VM that is off, with every disk at it" {
	witness_vm w 2 fill=8
	vm_start w
	wait_counter_above w 20
	fermata snapshot-create-as w base
	then=$(last_counter w)
	wait_counter_above w $((then + 50))
	for disk in $(images w); do
		for at in $(LC_ALL=C grep -obUa QEVM "$disk" | cut -d: -f1); do
			printf X | dd of="$disk" bs=1 seek="$at" conv=notrunc status=none
		done
	done
	fails 3 "while loading VM state" snapshot-revert w base
	is_pending w
	fermata recover w 2>"$FERMATA_ROOT/err"
	grep -q "the VM is off, every disk is at 'base'" "$FERMATA_ROOT/err"
	not is_pending w
	assert_state w "shut off"
	assert_images_ok w
	fermata snapshot-list w | grep -q '^ base '
	# The disks are whole: a guest that starts from them has what it had then.
	from=$(mark w)
	fermata start w
	will_say w "$from" 30 says '^boot d0=[0-9]+ d1=[0-9]+' >/dev/null
	read -r d0 d1 < <(said w "$from" | sed -n 's/^boot d0=\([0-9]*\) d1=\([0-9]*\).*/\1 \2/p' | head -n 1)
	[ "$d0" = "$d1" ] && [ "$d0" -le $((then + 20)) ]
	fermata destroy w
	# What cannot be counted is not counted as none.
	fermata snapshot-info w base | grep -q '^Children: *0$'
	mv "$disk" "$disk.away"
	fails 1 "No such file" snapshot-info w base
}

@test "checkpoint: --force with a disk left out fails: the guest is not taken for one that was not touched" {
	witness_vm w 2 fill=8
	vm_start w
	fermata snapshot-create-as w base --diskspec vdb,snapshot=no
	fails 1 "vdb" snapshot-revert w base
	for at in $(LC_ALL=C grep -obUa QEVM "$(images w | head -n 1)" | cut -d: -f1); do
		printf X | dd of="$(images w | head -n 1)" bs=1 seek="$at" conv=notrunc status=none
	done
	fails 3 "while loading VM state" snapshot-revert w base --force
	is_pending w
	fermata recover w
	assert_state w "shut off"
	assert_images_ok w
}

# External disk snapshots: the images that a snapshot froze stay as they are, whatever happens on top of them.
load helper

setup() { root_make; }
teardown() { root_end; }

@test "taken while the guest runs: one instant over all disks, and the guest goes on" {
	witness_vm w 8 raw="vdc"
	vm_start w
	from=$(mark w)
	fermata snapshot-create-as w e1 --disk-only --atomic
	assert_one_instant w "$from"
	fermata snapshot-info w e1 | grep -q '^State: *disk-snapshot'
	[ "$(fermata domblklist w | grep -c 'e1-1.qcow2')" = 8 ]
	[ "$(stat -c %a "$FERMATA_ROOT"/images/*e1-1.qcow2 | sort -u)" = 600 ]
	# Started anew, it goes on from the overlays.
	c=$(last_counter w)
	fermata destroy w
	from=$(mark w)
	fermata start w
	wait_counter_above w $((c + 100)) 60 "$from"
	# Going back gives the counter of that instant on every disk, the raw one too.
	from=$(mark w)
	fermata snapshot-revert w e1 --running
	assert_back_in w "$from" 1 "$c"
	assert_one_instant w
}

@test "a tree of them: going back makes branches, deleting keeps every other one as it was" {
	witness_vm w 2
	vm_start w
	fermata snapshot-create-as w a --disk-only
	fermata snapshot-create-as w b --disk-only
	fermata snapshot-revert w a --running
	wait_counter_above w 0
	fermata snapshot-create-as w c --disk-only
	fermata destroy w
	[ "$(fermata snapshot-list w --tree | tr -d '[:space:]')" = "a|+-b+-c" ]
	for s in a b c; do
		contents | grep -v "^$s:" >"$FERMATA_ROOT/before"
		fermata snapshot-delete w "$s"
		contents | diff "$FERMATA_ROOT/before" -
		assert_no_orphans
	done
	[ -z "$(fermata snapshot-list w --name)" ]
	vm_start w
	assert_one_instant w
}

@test "internal and external in one snapshot, and what may not be asked of a disk" {
	witness_vm w 3 raw="vdc"
	vm_start w
	fails 1 "vdc" snapshot-create-as w k
	fails 1 "does not go with memory" snapshot-create-as w k --diskspec vdc,snapshot=external
	fails 1 "no disk 'vdx'" snapshot-create-as w k --disk-only --diskspec vdx,snapshot=no
	fails 2 "not internal, external or no" snapshot-create-as w k --disk-only --diskspec vda,snapshot=maybe
	fermata snapshot-create-as w k --disk-only --diskspec vda,snapshot=internal --diskspec vdc,snapshot=no
	[ "$(qemu-img snapshot -U -l "$(images w | head -n 1)" | grep -cw k)" = 1 ]
	[ "$(fermata domblklist w | grep -c '[.]k-1[.]qcow2')" = 1 ]
	assert_one_instant w
}

@test "one disk fails, no disk has switched and nothing is left" {
	witness_vm w 4
	vm_start w
	for n in a b c d; do
		from=$(mark w)
		fails 1 "vd$n" snapshot-create-as w k --disk-only --diskspec "vd$n,file=$FERMATA_ROOT/nowhere/x.qcow2"
		[ "$(fermata domblklist w | grep -c 'k-')" = 0 ]
		[ -z "$(ls "$FERMATA_ROOT"/images/*.k-* 2>/dev/null)" ]
		fermata qemu-monitor-command w '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' |
			grep -q '"vd[a-d][.][1-9]' && false
		assert_one_instant w "$from"
	done
	: >"$FERMATA_ROOT/images/there.qcow2"
	fails 1 "is there already" snapshot-create-as w k --disk-only --diskspec "vdb,file=$FERMATA_ROOT/images/there.qcow2"
	[ -f "$FERMATA_ROOT/images/there.qcow2" ]
	fermata destroy w
	qemu-img bitmap --add "$(images w | tail -n 1)" kept
	fails 1 "dirty bitmap 'kept'" snapshot-create-as w k --disk-only
	[ "$(fermata domblklist w | grep -c 'k-')" = 0 ]
	[ -z "$(ls "$FERMATA_ROOT"/images/*.k-* 2>/dev/null)" ]
}

@test "of a VM that is off; the present can be kept before going back" {
	witness_vm w 2
	fermata snapshot-create-as w one --disk-only
	vm_start w
	fermata destroy w
	contents | grep '^active' | sed 's/^active/kept/' >"$FERMATA_ROOT/before"
	fermata snapshot-revert w one --keep-current kept
	contents | grep '^kept' | diff "$FERMATA_ROOT/before" -
	assert_state w "shut off"
	contents >/dev/null
	assert_no_orphans
}

@test "cut off at every moment: all disks have switched or none, nothing is left over" {
	need_strace
	witness_vm w 2
	vm_start w
	total=$(calls_of snapshot-create-as w zero --disk-only)
	for i in $(seq 12); do
		from=$(mark w)
		cut_at $((total * i / 13 + 1)) snapshot-create-as w "e$i" --disk-only
		fermata recover w
		n=$(fermata domblklist w | grep -c "e$i-" || true)
		echo "cut at $((total * i / 13 + 1)) of $total: $n"
		if listed w "e$i"; then [ "$n" = 2 ]; else [ "$n" = 0 ]; fi
		assert_state w running
		assert_one_instant w "$from"
	done
	fermata destroy w
	contents >/dev/null
	assert_no_orphans
}

@test "a checkpoint inside an image that was frozen since" {
	witness_vm w 2
	vm_start w
	fermata snapshot-create-as w inside
	fermata snapshot-create-as w outside --disk-only
	fails 1 "snapshot 'outside' froze" snapshot-revert w inside
	fails 1 "shut the VM down first" snapshot-delete w inside
	assert_one_instant w
	fermata destroy w
	fermata snapshot-delete w inside
	[ "$(spread w inside)" = none ]
	fermata snapshot-delete w outside
	contents >/dev/null
	assert_no_orphans
}

@test "another VM that cannot be read may need anything: what is to go waits for it" {
	witness_vm w 1 size=16
	fermata snapshot-create-as w a --disk-only
	fermata snapshot-create-as w b --disk-only
	fermata snapshot-revert w a
	echo "memory = many" >"$FERMATA_ROOT/etc/fermata/x.conf"
	fermata snapshot-delete w b
	before=$(ls "$FERMATA_ROOT/images" | wc -l)
	fermata recover w
	[ "$(ls "$FERMATA_ROOT/images" | wc -l)" = "$before" ]
	rm "$FERMATA_ROOT/etc/fermata/x.conf"
	fermata recover w
	[ "$(ls "$FERMATA_ROOT/images" | wc -l)" -lt "$before" ]
	contents >/dev/null
	assert_no_orphans
}

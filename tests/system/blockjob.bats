# Jobs over the images of a running VM: blockpull, blockcommit, blockcopy, blockjob.
load helper
load chains

setup() { root_make; }
teardown() { root_end; }

@test "blockpull: the seeds' scenario" {
	witness_vm w 2
	vm_start w
	snaps snap1 snap2 snap3
	frozen >"$FERMATA_ROOT/before"
	from=$(mark w)
	[ "$(depth vda)" = 4 ]
	base=$(chain vda | tail -n 2 | head -n 1)
	run fermata blockpull w vda --base "$base" --wait --verbose
	echo "$output"
	[ "$status" = 0 ]
	[ "$output" = "Pull complete" ]
	[ "$(depth vda)" = 3 ]
	[ "$(depth vdb)" = 4 ]
	frozen | diff "$FERMATA_ROOT/before" -
	# The tree shows the branch that snap3 still keeps.
	fermata domblkchain w vda | sed 's/([^)]*\(frozen[^)]*\|active\))/\1/; s,/.*/,,' >"$FERMATA_ROOT/tree"
	diff "$FERMATA_ROOT/tree" - <<-END
		vda
		 w-vda.qcow2 frozen by snap1
		 +- w-vda.snap1-1.qcow2 frozen by snap2
		    +- w-vda.snap3-3.qcow2 active
		    +- w-vda.snap2-2.qcow2 frozen by snap3
	END
	fails 1 "no disk 'vdx'" domblkchain w vdx
	assert_sound "$from"
	assert_nodes vda
}

@test "blockpull of all; of a base that is raw; what cannot be pulled" {
	witness_vm w 2 raw=vda
	fails 1 "is not running" blockcopy w vda "$FERMATA_ROOT/images/copy"
	vm_start w
	fails 1 "has no backing file" blockcommit w vda --pivot
	fails 1 "has no backing file" blockpull w vda
	fails 1 "has no backing file" blockpull w vda
	fails 1 "no disk 'vdx'" blockpull w vdx
	fails 2 "need --wait" blockpull w vda --verbose
	snaps s1 s2
	frozen >"$FERMATA_ROOT/before"
	from=$(mark w)
	fails 1 "neither an image" blockpull w vda --base "$FERMATA_ROOT/images/w-vdb.qcow2" --wait
	fails 1 "is the active layer" blockpull w vda --base "$(chain vda | head -n 1)" --wait
	# By the name of the snapshot that froze the base.
	fermata blockpull w vda --base s1 --wait
	[ "$(depth vda)" = 2 ]
	fermata blockpull w vda --wait
	# By its number below the active one.
	for base in "vdb[3]" "vda[1]" "vdb[1" "vdb[]" "vdb[-1]" "vdb[1]x" "vdb[99999999999999999999]"; do
		fails 1 "neither an image" blockpull w vdb --base "$base" --wait
	done
	fails 1 "is the active layer" blockpull w vdb --base "vdb[0]" --wait
	fermata blockpull w vdb --base "vdb[2]" --wait
	[ "$(depth vdb)" = 2 ]
	fermata blockpull w vdb --wait
	[ "$(depth vda)" = 1 ]
	assert_nodes vda
	frozen | diff "$FERMATA_ROOT/before" -
	assert_sound "$from"
	# What was pulled past can be gone back to all the same.
	fermata snapshot-revert w s1 --running
	wait_counter_above w 0 60 "$(mark w)"
	assert_one_instant w
	fermata snapshot-revert w s2 --running
	wait_counter_above w 0 60 "$(mark w)"
	assert_one_instant w
}

@test "blockcommit in the middle: what was frozen in the top is in the base afterwards" {
	witness_vm w 2 raw=vdb
	vm_start w
	snaps s1 s2 s3
	from=$(mark w)
	for disk in vda vdb; do
		fails 1 "snapshot 's1' would be lost" blockcommit w $disk --top s3 --wait
	done
	frozen | grep '^s3:vda' >"$FERMATA_ROOT/before"
	fermata snapshot-delete w s1 --metadata
	fermata snapshot-delete w s2 --metadata
	top=$(chain vda | sed -n 2p)
	fermata blockcommit w vda --top s3 --wait --verbose --delete
	[ "$(depth vda)" = 2 ]
	[ ! -e "$top" ]
	frozen | grep '^s3:vda' | diff "$FERMATA_ROOT/before" -
	[ "$(chain vda | tail -n 1)" = "$FERMATA_ROOT/images/w-vda.qcow2" ]
	fermata blockcommit w vdb --top "$(chain vdb | sed -n 2p)" --base "$(chain vdb | sed -n 3p)" --wait
	[ "$(depth vdb)" = 3 ]
	assert_sound "$from"
	assert_nodes vda
	assert_nodes vdb
	fermata snapshot-revert w s3 --running
	wait_counter_above w 0 60 "$(mark w)"
	assert_one_instant w
}

@test "blockcommit of the active layer: in step, kept, pivoted; snapshots only with a word" {
	witness_vm w 2 raw=vdb
	vm_start w
	snaps s1 s2
	from=$(mark w)
	fails 1 "requires active flag" blockcommit w vda
	fails 1 "snapshot 's1' would be lost" blockcommit w vda --pivot
	[ "$(fermata snapshot-list w --name | wc -l)" = 2 ]
	[ "$(fermata blockcommit w vda --active --drop-snapshots --shallow --wait)" = "Now in synchronized phase" ]
	listed w s1
	not listed w s2
	fermata blockjob w vda | grep -q '^Active Block Commit: \[100 %\]$'
	fails 1 "a job is under way" snapshot-create-as w k --disk-only
	fails 1 "a job is under way" blockpull w vda
	fails 1 "a job is under way" snapshot-revert w s1
	fermata snapshot-info w s1 >/dev/null
	assert_one_instant w "$from"
	fermata blockjob w vda --abort
	[ "$(fermata blockjob w vda)" = "No current block job for vda" ]
	[ "$(depth vda)" = 3 ]
	[ "$(fermata blockcommit w vda --active --keep-overlay --shallow)" = "Commit complete, overlay image kept" ]
	[ "$(depth vda)" = 3 ]
	files=$(chain vda; chain vdb)
	[ "$(fermata blockcommit w vda --pivot --drop-snapshots --delete --verbose)" = "Successfully pivoted" ]
	[ "$(fermata blockcommit w vdb --active --wait)" = "Now in synchronized phase" ]
	fermata blockjob w vdb --pivot
	[ "$(fermata domblklist w | awk 'NR == 3 { print $2 }')" = "$FERMATA_ROOT/images/w-vda.qcow2" ]
	[ "$(fermata domblklist w | awk 'NR == 4 { print $2 }')" = "$FERMATA_ROOT/images/w-vdb.raw" ]
	[ "$(ls "$FERMATA_ROOT"/images/w-vda*)" = "$FERMATA_ROOT/images/w-vda.qcow2" ]
	[ -z "$(fermata snapshot-list w --name)" ]
	assert_sound "$from"
	assert_nodes vda
	assert_nodes vdb
	fermata destroy w
	assert_images_ok w
	from=$(mark w)
	fermata start w
	wait_counter_above w 0 60 "$from"
	assert_sound "$from"
}

@test "blockcopy: finished, pivoted, shallow, raw, onto a file that is there" {
	witness_vm w 2
	qemu-io -f qcow2 -c 'write -q -P 7 16M 32M' "$FERMATA_ROOT/images/w-vda.qcow2"
	vm_start w
	snaps s1
	dest=$FERMATA_ROOT/images/copy
	from=$(mark w)
	[ "$(fermata blockcopy w vda "$dest.1" --finish --format raw)" = "Successfully copied" ]
	[ "$(stat -c '%s %a' "$dest.1")" = "$((64 << 20)) 600" ]
	fails 1 "is there already" blockcopy w vda "$dest.1" --wait
	fails 1 "is not there" blockcopy w vda "$dest.2" --wait --reuse-external
	[ "$(fermata blockcopy w vda --dest "$dest.1" --reuse-external --format raw --wait)" = "Now in mirroring phase" ]
	fermata blockjob w vda --pivot
	[ "$(chain vda)" = "$dest.1" ]
	assert_one_instant w "$from"
	[ "$(fermata blockcopy w vdb "$dest.3" --shallow --pivot --verbose)" = "Successfully pivoted" ]
	[ "$(chain vdb | head -n 1)" = "$dest.3" ]
	[ "$(depth vdb)" = 2 ]
	[ "$(fermata blockcopy w vda "$dest.4" --bandwidth 70000 --bytes)" = "Block Copy started" ]
	fermata blockjob w vda --raw | grep -qx ' bandwidth=70000'
	fermata blockjob w vda --bytes 90000
	fermata blockjob w vda | grep -q 'Block Copy: .*Bandwidth limit: 90000 bytes/s'
	fails 1 "not ready for pivot" blockjob w vda --pivot
	fermata blockjob w vda --abort
	[ ! -e "$dest.4" ]
	assert_sound "$from"
	assert_nodes vda
	assert_nodes vdb
	fermata snapshot-create-as w s2 --disk-only
	fermata destroy w
	qemu-img check -q "$dest.3"
	from=$(mark w)
	fermata start w
	wait_counter_above w 0 60 "$from"
	assert_sound "$from"
	fermata snapshot-revert w s1 --running
	wait_counter_above w 0 60 "$(mark w)"
	assert_one_instant w
	fermata snapshot-revert w s2 --running
	wait_counter_above w 0 60 "$(mark w)"
	assert_one_instant w
}

@test "of a VM that is off: pulled and committed at once; cut off at each write of the record" {
	need_strace
	witness_vm w 2 raw=vdb
	vm_start w
	snaps s1 s2 s3
	fermata destroy w
	frozen >"$FERMATA_ROOT/before"
	[ "$(fermata blockpull w vda --base s1)" = "Pull complete" ]
	[ "$(depth vda)" = 2 ]
	fermata blockpull w vda
	[ "$(depth vda)" = 1 ]
	frozen | diff "$FERMATA_ROOT/before" -
	fails 1 "snapshot 's1' would be lost" blockcommit w vdb --top s3
	fails 1 "pivot changes over" blockcommit w vdb --active
	grep s3:vdb "$FERMATA_ROOT/before" >"$FERMATA_ROOT/s3"
	n=0
	for at in 1 2 3 4; do
		inject rename $at blockcommit w vdb --top s3 --drop-snapshots --delete
		[ "$n_cut" = $n ] || { n=$n_cut; fermata recover w; }
		frozen | grep s3:vdb | diff "$FERMATA_ROOT/s3" -
	done
	[ "$n" -ge 3 ]
	[ "$(depth vdb)" = 2 ]
	[ "$(fermata snapshot-list w --name)" = s3 ]
	fermata blockcommit w vdb --pivot --delete --drop-snapshots
	[ "$(fermata domblklist w | awk 'NR == 4 { print $2 }')" = "$FERMATA_ROOT/images/w-vdb.raw" ]
	assert_needed
	assert_images_ok w
	from=$(mark w)
	fermata start w
	wait_counter_above w 0 60 "$from"
	assert_sound "$from"
}

# called_off N ARGS...: ^C comes with the Nth write to an image; what was said stays in $said
called_off() {
	local nth=$1
	shift
	status=0
	strace -qq -o /dev/null -e "inject=pwrite64:signal=SIGINT:when=$nth" "$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" \
		>/dev/null 2>"$FERMATA_ROOT/said" || status=$?
	said=$(cat "$FERMATA_ROOT/said")
	echo "exit $status: $said"
	[ "$(wc -l <"$FERMATA_ROOT/said")" = 1 ]
	[[ $said == *"stopped after"* ]]
}

@test "^C while images are merged and the VM is off" {
	need_strace
	witness_vm w 2
	vm_start w
	for s in a b c; do
		for _ in 1 2 3 4; do ask w g '^G=' >/dev/null; done
		fermata snapshot-create-as w $s --disk-only
	done
	ask w g '^G=' >/dev/null
	fermata destroy w
	frozen >"$FERMATA_ROOT/before"
	contents | grep '^active' >"$FERMATA_ROOT/active"
	called_off 2 blockpull w vda
	[ "$status" = 1 ] && [[ $said == *"the same command again completes it" ]]
	fermata blockjob w vda | grep -q '^No current'
	called_off 2 blockcommit w vdb --top "vdb[1]" --base "vdb[2]" --drop-snapshots
	[ "$status" = 1 ]
	contents | grep '^active' | diff "$FERMATA_ROOT/active" -
	# What freezes others stays; those that the commit overwrites were given up.
	not listed w b
	frozen | diff <(grep -v '^b:' "$FERMATA_ROOT/before") -
	fermata blockpull w vda
	[ "$(depth vda)" = 1 ]
	fermata blockcommit w vdb --top "vdb[1]" --base "vdb[2]" --drop-snapshots
	[ "$(depth vdb)" = 3 ]
	frozen | diff <(grep -v '^b:' "$FERMATA_ROOT/before") -
	# A deletion is on record until it is done.
	called_off 2 snapshot-delete w a
	[ "$status" = 3 ]
	is_pending w
	fermata recover w
	not is_pending w
	not listed w a
	frozen | diff <(grep '^c:' "$FERMATA_ROOT/before") -
	contents | grep '^active' | diff "$FERMATA_ROOT/active" -
	vm_start w
	assert_one_instant w
	[ "$(ask w c '^C')" = "C ok" ]
}

# The descriptors that the QEMU of w has the file $1 open with
descriptors() {
	local f
	for f in /proc/"$(vm_pid w)"/fd/*; do
		[ "$(readlink "$f")" != "$1" ] || echo "${f##*/}"
	done
}

# Where QEMU opens a file anew while the guest reads or writes it, a request on its way fails: "Bad file descriptor".
@test "guest's requests: no job has QEMU open the guest's image anew" {
	local top before
	witness_vm w 1 size=20
	vm_start w
	snaps zero
	top=$(chain vda | head -n 1)
	before=$(descriptors "$top")
	[ -n "$before" ]
	for i in 1 2; do
		snaps k
		fermata blockcommit w vda --shallow --pivot --delete --drop-snapshots
		[ "$(descriptors "$top")" = "$before" ]
		snaps x y
		fermata blockcommit w vda --top y --shallow --wait --delete --drop-snapshots
		[ "$(descriptors "$top")" = "$before" ]
		fermata blockcommit w vda --shallow --pivot --delete --drop-snapshots
		[ "$(descriptors "$top")" = "$before" ]
	done
	fermata blockpull w vda --wait
	[ "$(descriptors "$top")" = "$before" ]
	assert_nodes vda
	! said w 0 | grep -a ERR
}

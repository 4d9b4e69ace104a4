# Disks that are switched to another image by hand, through QEMU's monitor: what the guest wrote last is what the next start
# has, and nothing is made of a disk that fermata has no hold on.
load helper
load plain

setup() {
	root_make
	cd "$FERMATA_ROOT/images"
	qemu-img create -q -f qcow2 a.qcow2 64M
	qemu-img create -q -f raw b.raw 64M
	plain_vm v "$PWD/a.qcow2" "$PWD/b.raw"
}
teardown() {
	root_end
}

# switch_by_hand DISK FILE: as people do who know QEMU
switch_by_hand() {
	fermata qemu-monitor-command v "$(switch_text "$1" "$2")" 2>"$FERMATA_ROOT/said"
}

switch_text() {
	echo "{\"execute\":\"blockdev-snapshot-sync\",\"arguments\":{\"node-name\":\"$1.0\",\"snapshot-node-name\":\"$1-hand\",\"snapshot-file\":\"$PWD/$2\"}}"
}

# started_on FILE: it is what the QEMU that runs was started with
started_on() {
	tr '\0' '\n' <"/proc/$(vm_pid v)/cmdline" | grep -qF "$PWD/$1"
}

end_by() {
	local pid
	if [ "$1" = kill ]; then
		pid=$(vm_pid v)
		kill -KILL "$pid"
		wait_gone "$pid"
	else
		fermata destroy v
	fi
}

@test "by hand: a disk that was switched is on record, also when QEMU is killed" {
	local how
	for how in destroy kill; do
		fermata start v --paused
		switch_by_hand vda new.qcow2
		grep -q "vda: it was switched by hand from $PWD/a.qcow2 to $PWD/new.qcow2, which is on record now" "$FERMATA_ROOT/said"
		switch_by_hand vdb newb.qcow2
		[ "$(active v)" = "$PWD/new.qcow2" ]
		end_by $how
		fill new.qcow2 7 0 64k
		fermata start v --paused
		started_on new.qcow2
		started_on newb.qcow2
		fermata snapshot-create-as v after --disk-only
		fermata snapshot-delete v after
		fermata destroy v
		holds "$(active v)" 7 0 64k
		rm -rf "$FERMATA_ROOT/var/lib/fermata/v" new.qcow2 newb.qcow2
		qemu-img create -q -f qcow2 a.qcow2 64M
	done
}

@test "by hand: snapshots, saves and jobs of a disk that was switched are refused by name, until a start" {
	fermata snapshot-create-as v before --disk-only
	fermata start v --paused
	fermata qemu-monitor-command v "$(switch_text vdb newb.qcow2 | sed 's/vdb\.0/vdb.1/')"
	for command in "snapshot-create-as v k --disk-only" "snapshot-create-as v k" "managedsave v" "save v $FERMATA_ROOT/memory" \
		"blockpull v vdb" "blockcommit v vda --active --pivot --drop-snapshots" "snapshot-delete v before"; do
		fails 1 "vdb was switched to $PWD/newb.qcow2 by hand since the VM started" $command
	done
	assert_state v paused
	listed v before
	not listed v k
	fermata domblklist v >/dev/null
	fermata snapshot-list v >/dev/null
	fermata destroy v
	fermata start v --paused
	fermata snapshot-create-as v k --disk-only
	fermata destroy v
	fermata snapshot-revert v before
}

@test "by hand: what was switched past fermata is seen by what asks QEMU next" {
	local how
	for how in destroy shutdown "snapshot-create-as v k --disk-only"; do
		fermata start v --paused
		perl "$SOCK" "$FERMATA_ROOT/run/fermata/v/qmp.sock" qmp "$(switch_text vda new.qcow2)"
		[ -e new.qcow2 ]
		case $how in
		snap*)
			not fermata $how 2>"$FERMATA_ROOT/said"
			grep -q "cannot create snapshot 'k': vda was switched to $PWD/new.qcow2 by hand" "$FERMATA_ROOT/said"
			;;
		*) fermata ${how/ */} v ;;
		esac
		[ "$(active v)" = "$PWD/new.qcow2" ]
		[ $how = destroy ] || end_by kill
		fermata start v --paused
		started_on new.qcow2
		fermata destroy v
		rm -rf "$FERMATA_ROOT/var/lib/fermata/v" new.qcow2
	done
}

@test "by hand: an image that was committed and left is not started from again" {
	fermata snapshot-create-as v s --disk-only --diskspec vdb,snapshot=no
	fermata snapshot-delete v s --metadata
	fermata start v --paused
	fermata qemu-monitor-command v '{"execute":"block-commit","arguments":{"device":"vda.1","job-id":"mine"}}'
	wait_until 10 ready_by_hand
	fermata qemu-monitor-command v '{"execute":"block-job-complete","arguments":{"device":"mine"}}'
	[ "$(active v)" = "$PWD/a.qcow2" ]
	end_by kill
	fermata start v --paused
	started_on a.qcow2
	[ "$(active v)" = "$PWD/a.qcow2" ]
	fermata destroy v
}

ready_by_hand() {
	fermata qemu-monitor-command v '{"execute":"query-jobs"}' | grep -q '"status": "ready"'
}

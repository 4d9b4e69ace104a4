# Each disk fails in its turn while a snapshot of all of them is taken: no disk has switched, nothing is left in QEMU, in
# the folders or on record, and the guest's counters go on as one.
load helper

setup() { root_make; }
teardown() {
	mountpoint -q "$FERMATA_ROOT/sealed" && umount "$FERMATA_ROOT/sealed"
	[ -z "${holder-}" ] || kill "$holder" 2>/dev/null || true
	root_end
}

nodes() {
	fermata qemu-monitor-command w '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' |
		perl -MJSON::PP -e 'local $/; print map "$_->{q(node-name)} $_->{file} $_->{ro}\n", @{decode_json(<STDIN>)->{return}}' |
		grep -v '^#block' | sort
}

everything() {
	nodes
	fermata domblklist w
	fermata snapshot-list w --name
	find "$FERMATA_ROOT/images" "$FERMATA_ROOT/var" "$FERMATA_ROOT/extra" -type f ! -name state.json | sort
}

# all_or_none TEXT ARGS...: it fails, says TEXT, and everything is as it was
all_or_none() {
	local from text=$1
	shift
	mkdir -p "$FERMATA_ROOT/extra"
	from=$(mark w)
	everything >"$FERMATA_ROOT/before"
	fails 1 "$text" snapshot-create-as w k --disk-only "$@"
	everything | diff "$FERMATA_ROOT/before" -
	not is_pending w
	assert_one_instant w "$from"
}

@test "one of eight: no folder, no room, no right to write" {
	witness_vm w 8 size=16 accel=kvm:tcg raw="vdb vdg"
	vm_start w
	mkdir -p "$FERMATA_ROOT/small" "$FERMATA_ROOT/sealed"
	mounted=no
	if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k fermata-test "$FERMATA_ROOT/small"; then
		mounted=yes
		dd if=/dev/zero of="$FERMATA_ROOT/small/all" bs=4k 2>/dev/null || true
		mount -t tmpfs -o ro fermata-test "$FERMATA_ROOT/sealed"
	fi
	for d in vda vdb vdc vdd vde vdf vdg vdh; do
		all_or_none "$d" --diskspec "$d,file=$FERMATA_ROOT/nowhere/x.qcow2"
		[ $mounted = yes ] || continue
		all_or_none "$d" --diskspec "$d,file=$FERMATA_ROOT/small/x.qcow2"
		[ "$(ls "$FERMATA_ROOT/small")" = all ]
		all_or_none "$d" --diskspec "$d,file=$FERMATA_ROOT/sealed/x.qcow2"
	done
	fermata snapshot-create-as w k --disk-only
	assert_one_instant w
}

@test "one of eight: in use by another process, or by a job in QEMU when the transaction comes to it" {
	witness_vm w 8 size=16 accel=kvm:tcg
	vm_start w
	mkdir "$FERMATA_ROOT/extra"
	which="vda vde vdh"
	[ -z "${FERMATA_SOAK-}" ] || which="vda vdb vdc vdd vde vdf vdg vdh"
	for d in $which; do
		specs=()
		for o in vda vdb vdc vdd vde vdf vdg vdh; do
			specs+=(--diskspec "$o,file=$FERMATA_ROOT/extra/$d-$o.qcow2")
			qemu-img create -q -f qcow2 -F qcow2 -b "$FERMATA_ROOT/images/w-$o.qcow2" "$FERMATA_ROOT/extra/$d-$o.qcow2"
		done
		mkfifo "$FERMATA_ROOT/fifo"
		qemu-io --image-opts "driver=qcow2,backing=,file.filename=$FERMATA_ROOT/extra/$d-$d.qcow2" <"$FERMATA_ROOT/fifo" >"$FERMATA_ROOT/prompt" 2>&1 &
		holder=$!
		exec 8>"$FERMATA_ROOT/fifo"
		wait_until 20 grep -q 'qemu-io>' "$FERMATA_ROOT/prompt"
		all_or_none "$d" --reuse-external "${specs[@]}"
		exec 8>&-
		wait $holder
		rm -r "$FERMATA_ROOT/fifo" "$FERMATA_ROOT/extra"/*

		fermata qemu-monitor-command w '{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"sink","size":16777216}}'
		fermata qemu-monitor-command w '{"execute":"blockdev-backup","arguments":{"job-id":"busy","device":"'$d'.0","target":"sink","sync":"none"}}'
		all_or_none "$d"
		fermata qemu-monitor-command w '{"execute":"block-job-cancel","arguments":{"device":"busy"}}'
		wait_until 20 no_jobs
		fermata qemu-monitor-command w '{"execute":"blockdev-del","arguments":{"node-name":"sink"}}'
	done
	fermata snapshot-create-as w k --disk-only
	assert_one_instant w
}

no_jobs() {
	fermata qemu-monitor-command w '{"execute":"query-block-jobs"}' | grep -q '"return":[[:space:]]*\[\]'
}

qmp() {
	fermata qemu-monitor-command w "$1"
}

# file_under DISK NODE: the overlay that the guest writes to lies in NODE: its own file, or one on that which makes a write fail
file_under() {
	qmp '{"execute":"blockdev-reopen","arguments":{"options":[{"driver":"qcow2","node-name":"'"$1.1"'","file":"'"$2"'","backing":"'"$1.0"'"}]}}'
}

# A snapshot inside one disk's overlay is written to it, in the same transaction that switches the others.
@test "one of eight: a write to its overlay fails in the middle of the transaction" {
	witness_vm w 8 size=16 accel=kvm:tcg
	vm_start w
	fermata snapshot-create-as w base --disk-only
	which="vda vdd vdh"
	[ -z "${FERMATA_SOAK-}" ] || which="vda vdb vdc vdd vde vdf vdg vdh"
	for d in $which; do
		assert_one_instant w
		# The write after the next allocation: a snapshot's table. The guest's writes wait meanwhile, and need none.
		# A node of that name belongs to the disk; another would be one that no [disk] has.
		qmp '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","node-name":"'"$d.bad"'","image":"'"$d.1.file"'",
			"inject-error":[{"event":"cluster_alloc","iotype":"write","errno":5,"once":true}]}}'
		file_under "$d" "$d.bad"
		all_or_none "Input/output error" --diskspec "$d,snapshot=internal"
		file_under "$d" "$d.1.file"
		qmp '{"execute":"blockdev-del","arguments":{"node-name":"'"$d.bad"'"}}'
	done
	fermata snapshot-create-as w k --disk-only --diskspec vdd,snapshot=internal
	assert_one_instant w
	fermata destroy w
	vm_start w
	assert_one_instant w
}

@test "overlays that were made for it, and those that were not" {
	witness_vm w 2 size=16 accel=kvm:tcg
	vm_start w
	mkdir "$FERMATA_ROOT/extra"
	x=$FERMATA_ROOT/extra/x.qcow2
	a=$FERMATA_ROOT/images/w-vda.qcow2
	b=$FERMATA_ROOT/images/w-vdb.qcow2
	qemu-img create -q -f qcow2 -F qcow2 -b "$a" "$FERMATA_ROOT/extra/a.qcow2"
	with="--reuse-external --diskspec vda,file=$FERMATA_ROOT/extra/a.qcow2 --diskspec vdb,file=$x"
	all_or_none "is not there" $with
	qemu-img create -q -f qcow2 "$x" 16M
	all_or_none "is not backed by" $with
	qemu-img create -q -f qcow2 -F qcow2 -b "$a" "$x"
	all_or_none "is not backed by" $with
	qemu-img create -q -f qcow2 -b "$b" -F qcow2 "$x"
	qemu-io --image-opts -c 'write 0 4k' "driver=qcow2,backing=,file.filename=$x" >/dev/null
	all_or_none "holds data" $with
	qemu-img create -q -f qcow2 -b "$b" -F qcow2 "$x"
	fermata snapshot-create-as w k --disk-only $with
	assert_one_instant w
	# Elsewhere than the definition's folders, but where it was asked for: frozen in its turn, the VM still starts.
	fermata snapshot-create-as w l --disk-only
	fermata destroy w
	vm_start w
	assert_one_instant w
}

@test "a dirty bitmap in QEMU, a writer elsewhere, a chain that leads out of the definition's folders" {
	witness_vm w 2 size=16 accel=kvm:tcg
	vm_start w
	fermata qemu-monitor-command w '{"execute":"block-dirty-bitmap-add","arguments":{"node":"vdb.0","name":"daily"}}'
	all_or_none "dirty bitmap 'daily'"
	fermata destroy w
	qemu-img create -q -f raw "$FERMATA_ROOT/secret" 16M
	mkfifo "$FERMATA_ROOT/fifo"
	qemu-io -f qcow2 "$FERMATA_ROOT/images/w-vdb.qcow2" <"$FERMATA_ROOT/fifo" >"$FERMATA_ROOT/prompt" 2>&1 &
	holder=$!
	exec 8>"$FERMATA_ROOT/fifo"
	wait_until 20 grep -q 'qemu-io>' "$FERMATA_ROOT/prompt"
	fails 1 "vdb" snapshot-create-as w k --disk-only
	exec 8>&-
	wait $holder
	[ "$(ls "$FERMATA_ROOT/images")" = "$(printf 'w-vda.qcow2\nw-vdb.qcow2')" ]
	fermata snapshot-create-as w k --disk-only
	# What a guest or a stranger put into an image's header leads nowhere.
	qemu-img rebase -u -f qcow2 -F raw -b "$FERMATA_ROOT/secret" "$FERMATA_ROOT/images/w-vdb.qcow2"
	fails 1 "outside the folders" start w
	fails 1 "outside the folders" snapshot-delete w k
	fails 1 "outside the folders" snapshot-revert w k
	fails 1 "outside the folders" snapshot-create-as w l --disk-only
	qemu-img rebase -u -f qcow2 -F raw -b ../secret "$FERMATA_ROOT/images/w-vdb.qcow2"
	fails 1 "outside the folders" snapshot-delete w k
	qemu-img rebase -u -f qcow2 -F raw -b 'json:{"file.driver":"file","file.filename":"/etc/shadow"}' "$FERMATA_ROOT/images/w-vdb.qcow2"
	fails 1 "is not a local file" snapshot-delete w k
	qemu-img rebase -u -f qcow2 -F qcow2 -b "$(fermata domblklist w | awk '$1 == "vdb" { print $2 }')" "$FERMATA_ROOT/images/w-vdb.qcow2"
	fails 1 "comes back to" start w
	fails 1 "comes back to" snapshot-delete w k
	qemu-img rebase -u -f qcow2 -b "" "$FERMATA_ROOT/images/w-vdb.qcow2"
	fermata snapshot-delete w k
	vm_start w
}

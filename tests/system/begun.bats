# What could not be finished is not begun: a refusal leaves nothing pending and no image changed, whatever comes later. What
# was cut off before it changed anything is forgotten; what a snapshot's creation left is known by more than its name.
load helper

setup() { root_make; }
teardown() {
	busy_end
	chattr -i "$FERMATA_ROOT"/images/*.qcow2 2>/dev/null || true
	root_end
}

# two_disks: a VM "d" that is off, with two disks and no guest on them
two_disks() {
	local n
	conf_head d pc tcg 32M
	for n in a b; do
		qemu-img create -q -f qcow2 "$(image_of $n)" 16M
		printf '[disk vd%s]\nfile = %s\nformat = qcow2\n' "$n" "$(image_of $n)" | conf_add d
	done
}

image_of() { echo "$FERMATA_ROOT/images/$1.qcow2"; }
fill() { qemu-io -f qcow2 -c "write -q -P $2 0 1M" "$1"; }
holds() { qemu-io -r -U -f qcow2 -c "read -q -P $2 0 1M" "$1" >/dev/null; }
has_tag() { qemu-img snapshot -U -l "$1" | awk -v t="$2" '$2 == t { f = 1 } END { exit !f }'; }

busy_pid=
# busy IMAGE [FORMAT]: another program writes to it, until busy_end
busy() {
	qemu-nbd -t -f "${2:-qcow2}" -k "$FERMATA_ROOT/nbd" "$1" 3>&- &
	busy_pid=$!
	wait_until 10 test -S "$FERMATA_ROOT/nbd"
}
busy_end() {
	[ -z "$busy_pid" ] || { kill "$busy_pid"; wait "$busy_pid" 2>/dev/null || true; }
	busy_pid=
	rm -f "$FERMATA_ROOT/nbd"
}

sums() { sha256sum "$FERMATA_ROOT"/images/*.qcow2; }

# refused WHY ARGS...: status 1 and WHY; nothing is pending, no byte of an image differs, and the next command changes none
refused() {
	local why=$1
	shift
	sums >"$FERMATA_ROOT/before"
	fails 1 "$why" "$@"
	not is_pending d
	sums | diff "$FERMATA_ROOT/before" -
}

@test "begun: reverts, deletions and creations that meet a busy second disk leave nothing pending" {
	two_disks
	fermata snapshot-create-as d old
	fill "$(image_of a)" 4
	fill "$(image_of b)" 4
	busy "$(image_of b)"
	refused "in use by process" snapshot-revert d old
	refused "in use by process" snapshot-delete d old
	refused "in use by process" snapshot-create-as d new
	refused "in use by process" snapshot-create-as d ext --disk-only --diskspec vdb,snapshot=external
	busy_end
	fermata recover d
	for n in a b; do
		holds "$(image_of $n)" 4
		has_tag "$(image_of $n)" old
		not has_tag "$(image_of $n)" new
	done
	fermata snapshot-revert d old
	not holds "$(image_of a)" 4
	not holds "$(image_of b)" 4
}

@test "begun: a second image that is missing, a folder, immutable, corrupt or marked so is refused before the first one changes" {
	local b
	two_disks
	fermata snapshot-create-as d old
	b=$(image_of b)
	fill "$(image_of a)" 4
	mv "$b" "$FERMATA_ROOT/b"
	refused "No such file" snapshot-revert d old
	refused "No such file" snapshot-delete d old
	refused "No such file" snapshot-create-as d new
	mkdir "$b"
	fails 1 "vdb" snapshot-revert d old
	fails 1 "vdb" snapshot-delete d old
	not is_pending d
	holds "$(image_of a)" 4
	rmdir "$b"
	cp "$FERMATA_ROOT/b" "$b"
	# The snapshot table's offset: nowhere
	printf '\0\0\0\0\377\377\0\0' | dd of="$b" bs=1 seek=64 conv=notrunc status=none
	refused "vdb" snapshot-revert d old
	refused "vdb" snapshot-delete d old
	cp "$FERMATA_ROOT/b" "$b"
	# The snapshot's own L1 table: nowhere
	printf '\377\377' | dd of="$b" bs=1 seek=$((0x$(qemu_snap_table "$b") + 4)) conv=notrunc status=none
	refused "vdb" snapshot-revert d old
	refused "vdb" snapshot-delete d old
	cp "$FERMATA_ROOT/b" "$b"
	# Marked corrupt
	printf '\002' | dd of="$b" bs=1 seek=79 conv=notrunc status=none
	refused "corrupt" snapshot-revert d old
	refused "corrupt" snapshot-delete d old
	refused "corrupt" snapshot-create-as d new
	cp "$FERMATA_ROOT/b" "$b"
	if chattr +i "$b" 2>/dev/null; then
		refused "not permitted" snapshot-revert d old
		refused "not permitted" snapshot-delete d old
		chattr -i "$b"
	fi
	fermata snapshot-revert d old
	not holds "$(image_of a)" 4
}

# Where the snapshot table of an image lies, in hex
qemu_snap_table() { dd if="$1" bs=1 skip=64 count=8 status=none | od -An -tx1 | tr -d ' \n'; }

# The name in the overlay leads there by a link, the one that QEMU was given does not any more.
@test "begun: a deletion below a running VM whose image was moved is refused, and done once it is back" {
	local images=$FERMATA_ROOT/images
	mkdir "$images/real"
	ln -s real "$images/l"
	qemu-img create -q -f qcow2 "$images/real/a.qcow2" 16M
	conf_head d pc tcg 32M
	printf '[disk vda]\nfile = %s\nformat = qcow2\n' "$images/l/a.qcow2" | conf_add d
	fermata snapshot-create-as d k --disk-only
	fermata start d --paused
	mv "$images/real" "$images/moved"
	ln -sfn moved "$images/l"
	fails 1 "it was moved since the start" snapshot-delete d k
	not is_pending d
	listed d k
	mv "$images/moved" "$images/real"
	ln -sfn real "$images/l"
	fermata snapshot-delete d k
	fermata destroy d
}

@test "begun: a creation that was cut off takes back what it made, and no other snapshot of that name" {
	local id
	need_strace
	two_disks
	calls_of snapshot-create-as d zero >/dev/null
	# Killed as the record that says "pending" has got its name
	strace -qq -o /dev/null -P "$FERMATA_ROOT/var/lib/fermata/d" -e trace=fsync -e inject=fsync:signal=KILL:when=1 \
		"$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-create-as d daily || true
	is_pending d
	qemu-img snapshot -c daily "$(image_of a)"
	fermata recover d
	not is_pending d
	has_tag "$(image_of a)" daily
	not has_tag "$(image_of b)" daily
}

@test "begun: a revert that was cut off before it changed a disk is forgotten, not carried out later" {
	need_strace
	two_disks
	fermata snapshot-create-as d old
	for s in old ext; do
		[ $s = old ] || fermata snapshot-create-as d ext --disk-only --diskspec vda,snapshot=internal --diskspec vdb,snapshot=external
		strace -qq -o /dev/null -P "$FERMATA_ROOT/var/lib/fermata/d" -e trace=fsync -e inject=fsync:signal=KILL:when=1 \
			"$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert d $s || true
		is_pending d
		fill "$(image_of a)" 7
		run fermata recover d
		[[ $output == *"was cut off before it began"* ]]
		not is_pending d
		holds "$(image_of a)" 7
	done
	[ "$(ls "$FERMATA_ROOT/images" | wc -l)" = 3 ]
}

@test "begun: a folder of the record that cannot be flushed: status 1 and nothing pending, or status 3 which says so" {
	local op when
	need_strace
	two_disks
	fermata snapshot-create-as d old
	fill "$(image_of a)" 4
	for op in "snapshot-revert d old" "snapshot-delete d old" "snapshot-create-as d new" "snapshot-create-as d ext --disk-only \
		--diskspec vda,snapshot=external" "snapshot-delete d old --metadata" "blockpull d vda"; do
		for when in 1 1..2; do
			strace -qq -o "$FERMATA_ROOT/trace" -P "$FERMATA_ROOT/var/lib/fermata/d" -e trace=fsync \
				-e inject=fsync:error=EIO:when=$when "$FERMATA_BIN" --root "$FERMATA_ROOT" $op >"$FERMATA_ROOT/out" 2>&1 &&
				status=0 || status=$?
			echo "$op, flush $when fails: $status, $(cat "$FERMATA_ROOT/out")"
			if grep -q INJECTED "$FERMATA_ROOT/trace"; then
				[ $status = 3 ] || { [ $status = 1 ] && not is_pending d; }
				[ $status = 1 ] || grep -qE 'next command|on record' "$FERMATA_ROOT/out"
			fi
			[ $status != 1 ] || fermata recover d
			[ $status != 1 ] || holds "$(image_of a)" 4
			[ $status != 1 ] || has_tag "$(image_of b)" old
			[ $status != 3 ] || break 2
		done
	done
	fermata recover d
	not is_pending d
}

@test "pending: what cannot go on is in nobody's way who asks or ends the VM, and is named" {
	need_strace
	witness_vm w 2 size=16
	vm_start w
	# The second overlay is there, QEMU has not heard of it, and another program has
	calls_of snapshot-create-as w zero --disk-only >/dev/null
	fermata snapshot-delete w zero
	aim=$(printf '%s\n' 'renameat2 w-vdb' 'sendmsg blockdev-add' | aims "$FERMATA_ROOT/trace" | tail -n 1)
	inject sendmsg "${aim#*:}" snapshot-create-as w e --disk-only
	is_pending w
	overlay=$(grep -o '"overlay": *"[^"]*"' "$FERMATA_ROOT/var/lib/fermata/w/state.json" | tail -n 1 | cut -d'"' -f4)
	busy "$overlay" raw
	fails 3 "snapshot-create 'e'" snapshot-create-as w f
	fails 3 "recover --abandon w" managedsave w
	for verb in domstate dominfo domblklist "list --all" snapshot-list; do
		[[ $verb == list* ]] && vm= || vm=w
		fermata $verb $vm 2>"$FERMATA_ROOT/said" >/dev/null
		grep -q "snapshot-create 'e' was cut off and is pending" "$FERMATA_ROOT/said"
	done
	fermata suspend w
	assert_state w paused
	fermata resume w
	fermata qemu-monitor-command w '{"execute":"query-status"}'
	run fermata recover --abandon w
	[ "$status" = 1 ]
	[[ $output == *"the VM is running"* ]]
	fermata shutdown w
	run fermata destroy w
	[ "$status" = 0 ]
	[[ $output == *"snapshot-create 'e'"* ]]
	assert_state w "shut off"
	fails 3 "snapshot-create 'e'" start w
	run fermata recover --abandon w
	[ "$status" = 1 ]
	[[ $output == *"there will be no such snapshot"*"nothing was given up"*"--yes"* ]]
	is_pending w
	busy_end
	rm "$overlay" && mkdir "$overlay"
	fermata recover --abandon --yes w
	not is_pending w
	rmdir "$overlay"
	vm_start w
}

@test "pending: a revert whose second image is gone is given up with --abandon --yes, and no disk changes" {
	need_strace
	two_disks
	fermata snapshot-create-as d old
	strace -qq -o /dev/null -P "$FERMATA_ROOT/var/lib/fermata/d" -e trace=fsync -e inject=fsync:signal=KILL:when=1 \
		"$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert d old || true
	is_pending d
	fill "$(image_of a)" 7
	rm "$(image_of b)"
	fails 3 "snapshot-revert 'old'" snapshot-create-as d new
	run fermata recover --abandon d
	[ "$status" = 1 ]
	[[ $output == *"b.qcow2 is not there"* ]]
	is_pending d
	fermata recover --abandon --yes d
	not is_pending d
	holds "$(image_of a)" 7
	run fermata recover --abandon --yes d
	[[ $output == *"nothing is pending"* ]]
}

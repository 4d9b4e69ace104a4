# fermata is killed at twelve moments of a command (twenty in make soak), at the entry of a system call each; QEMU lives. The next command
# puts everything right: a checkpoint is on all disks and listed, or neither; the guest runs, in one instant.
load helper

MOMENTS=12
[ -z "${FERMATA_SOAK-}" ] || MOMENTS=20

setup() {
	root_make
	need_strace
}
teardown() { root_end; }

# moment I TOTAL: the number of the system call
moment() {
	echo $(($2 * $1 / (MOMENTS + 1) + 1))
}

right_again() {
	fermata recover w
	not is_pending w
	assert_state w running
	assert_one_instant w "$1"
}

@test "cut off: snapshot-create-as" {
	witness_vm w 2 size=20 fill=8
	vm_start w
	total=$(calls_of snapshot-create-as w zero)
	kept=0
	for i in $(seq $MOMENTS); do
		from=$(mark w)
		cut_at "$(moment "$i" "$total")" snapshot-create-as w "k$i"
		echo "cut at $(moment "$i" "$total") of $total"
		right_again "$from"
		assert_whole w "k$i"
		not listed w "k$i" || kept=$((kept + 1))
	done
	echo "$kept of $MOMENTS were complete"
	# Early ones must have been undone, the last ones kept.
	[ "$kept" -gt 0 ] && [ "$kept" -lt $MOMENTS ]
	for s in $(fermata snapshot-list w --name); do
		from=$(mark w)
		fermata snapshot-revert w "$s"
		assert_one_instant w "$from"
	done
	fermata destroy w
	most_cut
	assert_images_ok w
}

@test "cut off: snapshot-create-as --replace never loses both" {
	witness_vm w 2 size=20 fill=4
	vm_start w
	fermata snapshot-create-as w one
	total=$(calls_of snapshot-create-as w one --replace)
	for i in $(seq $MOMENTS); do
		from=$(mark w)
		cut_at "$(moment "$i" "$total")" snapshot-create-as w one --replace
		echo "cut at $(moment "$i" "$total") of $total"
		right_again "$from"
		[ "$(fermata snapshot-list w --name)" = one ]
		[ "$(spread w "$(tag_of w one)")" = all ]
		for disk in $(images w); do
			[ "$(qemu-img snapshot -U -l "$disk" | grep -c '^[0-9]')" = 1 ]
		done
	done
	fermata snapshot-revert w one
	assert_one_instant w
	fermata destroy w
	most_cut
	assert_images_ok w
}

@test "cut off: snapshot-revert" {
	witness_vm w 2 size=20 fill=8
	vm_start w
	fermata snapshot-create-as w base
	total=$(calls_of snapshot-revert w base)
	for i in $(seq $MOMENTS); do
		from=$(mark w)
		cut_at "$(moment "$i" "$total")" snapshot-revert w base
		echo "cut at $(moment "$i" "$total") of $total"
		right_again "$from"
		assert_whole w base
	done
	from=$(mark w)
	fermata snapshot-revert w base
	assert_one_instant w "$from"
	fermata destroy w
	most_cut
	assert_images_ok w
}

# A guest with two checkpoints: what it answers to g tells in which of them it is, 32 or 48.
old_and_new() {
	witness_vm w 2 size=20 ticks=50
	vm_start w
	ask w g '^G=16$'
	fermata snapshot-create-as w old
	ask w g '^G=32$'
	fermata snapshot-create-as w new
}

# QEMU has loaded it, and then: what the guest is, the record says. What QEMU still knows of the load is in nobody's way.
@test "cut off: snapshot-revert at its end" {
	old_and_new
	total=$(calls_of snapshot-revert w old)
	gone_back=0
	for at in $(seq $((total - 96)) $((MOMENTS == 20 ? 4 : 8)) "$total"); do
		fermata snapshot-revert w new
		from=$(mark w)
		cut_at "$at" snapshot-revert w old
		echo "cut at $at of $total"
		right_again "$from"
		case $(fermata snapshot-current w --name) in
		old) ask w g '^G=32$' && gone_back=$((gone_back + 1)) ;;
		new) ask w g '^G=48$' ;;
		*) false ;;
		esac
	done
	[ "$gone_back" -gt 0 ]
	fermata destroy w
	most_cut
	assert_images_ok w
}

# sent_at WORD: which of the sendmsg calls in the trace is the last that has it
sent_at() {
	grep '^sendmsg(' "$FERMATA_ROOT/trace" | grep -n "$1" | cut -d: -f1 | tail -n 1
}

@test "cut off: snapshot-revert twice, the first one done: the second is not taken for it" {
	old_and_new
	strace -qq -s 1000 -e trace=sendmsg -o "$FERMATA_ROOT/trace" "$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert w old
	load=$(sent_at vmstate)
	dismiss=$(sent_at job-dismiss)
	[ "$dismiss" -gt "$load" ]
	# On record, but its job stays in QEMU.
	inject sendmsg "$dismiss" snapshot-revert w old
	[ $n_cut = 1 ]
	not is_pending w
	[ "$(fermata snapshot-current w --name)" = old ]
	ask w g '^G=32$'
	fermata snapshot-create-as w later
	# Begun, on record, and QEMU never told: the child that is left puts it right.
	inject sendmsg "$load" snapshot-revert w old
	[ $n_cut = 2 ]
	wait_until 30 not is_pending w
	[ "$(fermata snapshot-current w --name)" = later ]
	ask w g '^G=48$'
	# And it can be gone back to.
	fermata snapshot-revert w old
	ask w g '^G=32$'
	fermata destroy w
	assert_images_ok w
}

@test "cut off: snapshot-revert of a VM that is off" {
	witness_vm w 2 size=20
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w base
	then=$(last_counter w)
	fermata destroy w
	total=$(calls_of snapshot-revert w base)
	for i in $(seq 2 2 $MOMENTS); do
		state_is w "shut off" || fermata destroy w
		cut_at "$(moment "$i" "$total")" snapshot-revert w base
		echo "cut at $(moment "$i" "$total") of $total"
		fermata recover w
		not is_pending w
		assert_whole w base
		# Whatever it is in now, the same command brings it where it was to go.
		from=$(mark w)
		fermata snapshot-revert w base --running
		assert_back_in w "$from" "$low" "$then"
		assert_one_instant w "$from"
	done
	fermata destroy w
	most_cut
	assert_images_ok w
}

@test "cut off: snapshot-delete" {
	witness_vm w 2 size=20
	vm_start w
	fermata snapshot-create-as w kept
	for i in $(seq 0 $MOMENTS); do
		fermata snapshot-create-as w "k$i"
	done
	total=$(calls_of snapshot-delete w k0)
	for i in $(seq $MOMENTS); do
		from=$(mark w)
		cut_at "$(moment "$i" "$total")" snapshot-delete w "k$i"
		echo "cut at $(moment "$i" "$total") of $total"
		begun=no
		! is_pending w || begun=yes
		right_again "$from"
		assert_whole w "k$i"
		[ $begun = no ] || not on_record w "k$i"
	done
	from=$(mark w)
	fermata snapshot-revert w kept
	assert_one_instant w "$from"
	fermata destroy w
	most_cut
	assert_images_ok w
}

one_qemu() {
	[ "$(grep -lsF "$FERMATA_ROOT" /proc/[0-9]*/cmdline | xargs -rn1 dirname | while read -r p; do
		readlink "$p/exe"; done | grep -c qemu-system)" = 1 ]
}

@test "cut off: start and destroy" {
	witness_vm w 1 size=20
	# The first start asks a QEMU what it can, and the answer is kept: the calls are to be those of the others.
	vm_start w
	fermata destroy w
	total=$(calls_of start w)
	fermata destroy w
	for i in $(seq $MOMENTS); do
		cut_at "$(moment "$i" "$total")" start w
		echo "cut at $(moment "$i" "$total") of $total"
		# Whatever is left: no second QEMU, and it can be had running and off.
		state_is w running || fermata start w || fermata resume w
		wait_until 20 state_is w running
		wait_until 20 one_qemu
		fermata destroy w
		assert_state w "shut off"
	done
	most_cut
	assert_images_ok w
}

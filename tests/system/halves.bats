# An operation on record as pending, QEMU dead, and the images half changed: the states that a kill leaves only now and
# then are made here by hand, with qemu-img. The next command finishes or undoes them on every disk.
load helper

setup() {
	root_make
	need_strace
	witness_vm w 3
	vm_start w
	wait_counter_above w 20
}
teardown() { root_end; }

# cut_pending, then QEMU is killed before it has done anything either
begin() {
	local pid
	cut_pending w "$@"
	pid=$(vm_pid w)
	kill -KILL "$pid"
	wait_gone "$pid"
	mapfile -t disk < <(images w)
}

mended() {
	fermata recover w
	not is_pending w
	assert_state w "shut off"
	assert_images_ok w
}

runs() {
	local from
	from=$(mark w)
	fermata start w
	assert_one_instant w "$from"
}

@test "halves: a checkpoint on one disk of three is undone" {
	begin snapshot-create-as w k
	qemu-img snapshot -c k "${disk[0]}"
	mended
	[ "$(spread w k)" = none ]
	not listed w k
	runs
}

@test "halves: a checkpoint on every disk, but without its memory, is undone" {
	begin snapshot-create-as w k
	for d in "${disk[@]}"; do qemu-img snapshot -c k "$d"; done
	mended
	[ "$(spread w k)" = none ]
	not listed w k
	runs
}

@test "halves: a deletion that got to one disk of three is finished" {
	fermata snapshot-create-as w old
	fermata snapshot-create-as w k
	begin snapshot-delete w k
	qemu-img snapshot -d k "${disk[1]}"
	mended
	[ "$(spread w k)" = none ]
	not listed w k
	assert_whole w old
	runs
}

@test "halves: a replacement keeps the old one while the new one is not whole" {
	fermata snapshot-create-as w k
	begin snapshot-create-as w k --replace
	# The new one has a name of its own in the images, which the record knows.
	new=$(sed -n "s|.*\"tag\": \"\(k~[0-9]*\)\".*|\1|p" "$FERMATA_ROOT/var/lib/fermata/w/state.json" | head -n 1)
	[ -n "$new" ]
	qemu-img snapshot -c "$new" "${disk[0]}"
	mended
	[ "$(spread w "$new")" = none ]
	[ "$(fermata snapshot-list w --name)" = k ]
	[ "$(spread w "$(tag_of w k)")" = all ]
	from=$(mark w)
	fermata snapshot-revert w k
	assert_one_instant w "$from"
}

@test "halves: a revert that got to one disk of three" {
	low=$(last_counter w)
	fermata snapshot-create-as w k
	then=$(last_counter w)
	wait_counter_above w $((then + 100))
	begin snapshot-revert w k
	qemu-img snapshot -a k "${disk[0]}"
	mended
	assert_whole w k
	from=$(mark w)
	fermata snapshot-revert w k
	assert_back_in w "$from" "$low" "$then"
	assert_one_instant w "$from"
}

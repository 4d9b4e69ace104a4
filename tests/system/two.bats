# Two commands at once: one waits for the other, and the end is one that either order could have had.
load helper

setup() {
	root_make
	witness_vm w 2 fill=4
	vm_start w
	wait_counter_above w 10
}
teardown() { root_end; }

# both "ARGS" "ARGS": run them at once; their exits in $a and $b
both() {
	a=0 b=0
	# shellcheck disable=SC2086
	fermata $1 >"$FERMATA_ROOT/out.a" 2>&1 &
	local one=$!
	# shellcheck disable=SC2086
	fermata $2 >"$FERMATA_ROOT/out.b" 2>&1 &
	local two=$!
	wait $one || a=$?
	wait $two || b=$?
	echo "$1: exit $a, $(tail -n 1 "$FERMATA_ROOT/out.a"); $2: exit $b, $(tail -n 1 "$FERMATA_ROOT/out.b")"
}

@test "two at once: two checkpoints" {
	both "snapshot-create-as w x" "snapshot-create-as w y"
	[ "$a$b" = 00 ]
	assert_whole w x
	assert_whole w y
	listed w x
	listed w y
	assert_one_instant w 0
}

@test "two at once: the same name once only" {
	both "snapshot-create-as w x" "snapshot-create-as w x"
	[ "$a$b" = 01 ] || [ "$a$b" = 10 ]
	assert_whole w x
	listed w x
}

@test "two at once: start and start" {
	fermata destroy w
	both "start w" "start w"
	[ "$a$b" = 01 ] || [ "$a$b" = 10 ]
	assert_state w running
}

@test "two at once: revert and delete of one checkpoint" {
	fermata snapshot-create-as w x
	from=$(mark w)
	both "snapshot-revert w x" "snapshot-delete w x"
	[ "$b" = 0 ]
	not listed w x
	assert_whole w x
	assert_state w running
	assert_one_instant w "$from"
}

@test "two at once: a checkpoint and destroy" {
	both "snapshot-create-as w x" "destroy w"
	fermata recover w
	assert_state w "shut off"
	assert_whole w x
	assert_images_ok w
}

@test "two at once: listings do not wait" {
	fermata snapshot-create-as w x
	for i in 1 2 3; do
		both "snapshot-create-as w y$i" "snapshot-list w --name"
		[ "$a$b" = 00 ]
		grep -qx x "$FERMATA_ROOT/out.b"
		both "snapshot-revert w x" "domstate w"
		[ "$a$b" = 00 ]
	done
	assert_one_instant w
}

# External snapshots are deleted while the guest runs.
load helper
load chains

setup() { root_make; }
teardown() { root_end; }

@test "external snapshots are deleted while the guest runs: oldest, middle, youngest first" {
	witness_vm w 2 size=20 raw=vdb
	vm_start w
	for order in "a b c" "b c a" "c b a"; do
		snaps a b c
		for s in $order; do
			delete_keeps "$s"
		done
		[ "$(depth vda)" = 1 ]
		[ "$(depth vdb)" = 1 ]
	done
	fermata destroy w
	assert_images_ok w
	from=$(mark w)
	fermata start w
	wait_counter_above w 0 60 "$from"
	assert_sound "$from"
}

@test "deleted while the guest runs: a small overlay goes down, a small base up" {
	witness_vm w 1 size=20
	vm_start w
	# The first is as large as the disk's content: the overlay is committed into it.
	fermata snapshot-create-as w a --disk-only
	fermata snapshot-delete w a
	[ "$(chain vda)" = "$FERMATA_ROOT/images/w-vda.qcow2" ]
	# Nearly nothing was written between b and c, and a lot since: what b's overlay holds goes up.
	fermata snapshot-create-as w b --disk-only
	fermata snapshot-create-as w c --disk-only
	for _ in 1 2 3; do ask w g '^G=' >/dev/null; done
	top=$(chain vda | head -n 1)
	delete_keeps c
	[ "$(chain vda | head -n 1)" = "$top" ]
	[ "$(depth vda)" = 2 ]
}

@test "deleted while the guest runs: branches, children, nothing but the name" {
	witness_vm w 2 size=20
	vm_start w
	snaps a b
	fermata snapshot-revert w a --running
	wait_counter_above w 0 60 "$(mark w)"
	fermata snapshot-create-as w c --disk-only
	fermata snapshot-create-as w d --disk-only
	# On a's images stand two branches: each is kept whole.
	delete_keeps a
	delete_keeps b
	snaps e
	[ "$(fermata snapshot-list w --tree | tr -d '[:space:]')" = "c|+-d|+-e" ]
	fermata snapshot-delete w c --children-only
	[ "$(fermata snapshot-list w --name)" = c ]
	assert_needed
	snaps f
	fermata snapshot-delete w c --children
	[ -z "$(fermata snapshot-list w --name)" ]
	assert_needed
	[ "$(depth vda)" = 1 ]
	fermata snapshot-create-as w g --disk-only
	fermata snapshot-delete w g --metadata
	[ "$(depth vda)" = 2 ]
	assert_sound
}

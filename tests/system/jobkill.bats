# fermata is killed in the middle of a block job: the guest runs on in one instant, nothing is listed that cannot be gone
# back to, nothing is left over.
load helper
load chains

setup() {
	root_make
	need_strace
}
teardown() { root_end; }

no_job() {
	fermata blockjob w vda | grep -q '^No current'
}

# Whatever the job was at: done, or ended by us
end_job() {
	fermata recover w
	local end=$((SECONDS + 120))
	until no_job; do
		if fermata blockjob w vda | grep -q '\[100 %\]'; then fermata blockjob w vda --abort || true; fi
		[ $SECONDS -lt $end ] || { fermata blockjob w vda; return 1; }
		sleep 0.05
	done
}

# The guest was not left standing: it says something, although no command was given since the kill
goes_on() {
	will_say w "$(mark w)" 30 lines 2 || { echo "the guest is paused"; return 1; }
}

# cut CALL N ARGS...: with SIGKILL at the Nth CALL; fails when it was not killed
cut() {
	local before=$n_cut
	inject "$@"
	[ "$n_cut" -gt "$before" ]
}

# Cut at each write of the record, and at requests to QEMU
each_cut() {
	local at command=("$@") all=(rename:1 rename:2 rename:3 rename:5 sendmsg:13 sendmsg:16 sendmsg:19)
	[ -z "${FERMATA_SOAK-}" ] || all+=(rename:4 sendmsg:8 sendmsg:15 sendmsg:17 sendmsg:21)
	for at in "${all[@]}"; do
		before_cut
		echo "cut at $at"
		from=$(mark w)
		! cut "${at%:*}" "${at#*:}" "${command[@]}" || goes_on
		after_cut
	done
	[ "$n_cut" -ge 3 ]
	fermata destroy w
	assert_images_ok w
	from=$(mark w)
	fermata start w
	wait_counter_above w 0 60 "$from"
	assert_sound "$from"
}

@test "cut off: blockpull" {
	witness_vm w 1 size=20
	vm_start w
	snaps zero
	before_cut() { fermata snapshot-create-as w k --disk-only >/dev/null; frozen >"$FERMATA_ROOT/before"; }
	after_cut() {
		end_job
		assert_one_instant w "$from"
		frozen | diff "$FERMATA_ROOT/before" -
		assert_nodes vda
		fermata snapshot-delete w k
		assert_needed
	}
	each_cut blockpull w vda --wait
}

@test "cut off: blockcommit --pivot" {
	witness_vm w 1 size=20
	vm_start w
	snaps zero
	before_cut() { fermata snapshot-create-as w k --disk-only >/dev/null; frozen | grep zero >"$FERMATA_ROOT/before"; }
	after_cut() {
		end_job
		assert_one_instant w "$from"
		assert_nodes vda
		not listed w k || fermata snapshot-delete w k
		frozen | grep zero | diff "$FERMATA_ROOT/before" -
		# A job that was aborted by recovery has left its overlay.
		[ "$(depth vda)" = 2 ] || fermata blockcommit w vda --shallow --pivot --delete
		assert_needed
	}
	each_cut blockcommit w vda --shallow --pivot --delete --drop-snapshots
}

@test "cut off: blockcommit in the middle" {
	witness_vm w 1 size=20
	vm_start w
	before_cut() {
		fermata snapshot-create-as w x --disk-only >/dev/null
		fermata snapshot-create-as w k --disk-only >/dev/null
		frozen | grep k: >"$FERMATA_ROOT/before"
	}
	after_cut() {
		end_job
		assert_one_instant w "$from"
		assert_nodes vda
		frozen | grep k: | diff "$FERMATA_ROOT/before" -
		fermata snapshot-delete w k
		if listed w x; then fermata snapshot-delete w x; fi
		[ "$(depth vda)" = 1 ] || fermata blockcommit w vda --pivot --delete
		assert_needed
	}
	each_cut blockcommit w vda --top k --wait --delete --drop-snapshots
}

@test "cut off: blockcopy --pivot" {
	witness_vm w 1 size=20
	vm_start w
	i=0
	before_cut() { i=$((i + 1)); command=(blockcopy w vda "$FERMATA_ROOT/images/copy.$i" --pivot); }
	after_cut() {
		end_job
		assert_one_instant w "$from"
		assert_nodes vda
		[ "$(depth vda)" = 1 ]
		# Aborted when it was in step, the copy is complete, and stays.
		[ "$(chain vda)" = "$FERMATA_ROOT/images/copy.$i" ] || rm -f "$FERMATA_ROOT/images/copy.$i"
	}
	each_cut
}

@test "cut off: snapshot-delete of an external snapshot" {
	witness_vm w 2 size=20
	vm_start w
	snaps zero
	before_cut() {
		fermata snapshot-create-as w x --disk-only >/dev/null
		ask w g '^G=' >/dev/null
		fermata snapshot-create-as w k --disk-only >/dev/null
		frozen | grep -v x: >"$FERMATA_ROOT/before"
	}
	after_cut() {
		fermata recover w
		not is_pending w
		assert_one_instant w "$from"
		frozen | grep -v x: | diff "$FERMATA_ROOT/before" -
		assert_nodes vda
		assert_nodes vdb
		if listed w x; then fermata snapshot-delete w x; fi
		fermata snapshot-delete w k
		[ "$(depth vda)" = 2 ]
		[ "$(depth vdb)" = 2 ]
		assert_needed
	}
	each_cut snapshot-delete w x
}

# fermata is killed at the entry of a system call, one after the other: at some of them in make check, at every one in
# make soak. Whatever it was, the next command ends in all of it or nothing of it: no disk alone, no file left over.
load helper

setup() {
	root_make
	need_strace
}
teardown() { root_end; }

keep() {
	mkdir "$FERMATA_ROOT/kept"
	cp -a "$FERMATA_ROOT/images" "$FERMATA_ROOT/var" "$FERMATA_ROOT/kept"
}

back() {
	rm -rf "$FERMATA_ROOT/images" "$FERMATA_ROOT/var"
	cp -a "$FERMATA_ROOT"/kept/* "$FERMATA_ROOT"
}

# The tree, what is current, and what each of them holds
all_of_it() {
	fermata snapshot-list w --tree
	fermata snapshot-current w --name 2>&1 || true
	contents
}

# Two disks, the second one raw, three external snapshots and a branch: a <- b, a <- c, the VM off and on c
tree_vm() {
	witness_vm w 2 size=16 accel=kvm:tcg raw=vdb
	vm_start w
	fermata snapshot-create-as w a --disk-only
	wait_counter_above w 20
	fermata snapshot-create-as w b --disk-only
	fermata destroy w
	fermata snapshot-revert w a --running
	wait_counter_above w 10 60 "$(mark w)"
	fermata snapshot-create-as w c --disk-only
	wait_counter_above w 10 60 "$(mark w)"
	fermata destroy w
}

# The VM is off: cut the command at each moment, always from the same folder; what comes out is one of two.
cut_everywhere() {
	local total n
	keep
	all_of_it >"$FERMATA_ROOT/before"
	total=$(calls_of "$@")
	all_of_it >"$FERMATA_ROOT/after"
	not cmp -s "$FERMATA_ROOT/before" "$FERMATA_ROOT/after"
	for n in $(moments "$total" "${SAMPLES:-8}"); do
		back
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls"): $*"
		cut_at "$n" "$@"
		fermata recover w
		not is_pending w
		all_of_it >"$FERMATA_ROOT/now"
		cmp -s "$FERMATA_ROOT/now" "$FERMATA_ROOT/before" || diff "$FERMATA_ROOT/after" "$FERMATA_ROOT/now"
		assert_no_orphans
	done
	vm_start w
	assert_one_instant w
	fermata destroy w
	rm -rf "$FERMATA_ROOT/kept"
}

@test "off: an external snapshot of two disks, one of them raw" {
	tree_vm
	cut_everywhere snapshot-create-as w new --disk-only
}

@test "off: an internal snapshot of two disks, and its deletion" {
	witness_vm w 2 size=16 accel=kvm:tcg
	vm_start w
	fermata destroy w
	cut_everywhere snapshot-create-as w new
	back_to=$(fermata snapshot-list w --name)
	[ -n "$back_to" ] || fermata snapshot-create-as w new
	vm_start w
	fermata destroy w
	cut_everywhere snapshot-revert w new
	cut_everywhere snapshot-delete w new
}

@test "off: an external snapshot of one disk and an internal one of the other" {
	witness_vm w 2 size=16 accel=kvm:tcg
	vm_start w
	fermata destroy w
	cut_everywhere snapshot-create-as w new --disk-only --diskspec vda,snapshot=internal
}

@test "off: going back" {
	tree_vm
	cut_everywhere snapshot-revert w b
}

@test "off: going back, and the present is kept" {
	tree_vm
	SAMPLES=16
	keep
	all_of_it >"$FERMATA_ROOT/before"
	total=$(calls_of snapshot-revert w b --keep-current kept)
	for n in $(moments "$total" $SAMPLES); do
		back
		echo "cut at $n of $total"
		cut_at "$n" snapshot-revert w b --keep-current kept
		fermata recover w
		not is_pending w
		all_of_it >"$FERMATA_ROOT/now"
		# Nothing, or kept, or kept and gone back: the present's data is never without a name.
		grep '^active' "$FERMATA_ROOT/before" | sed 's/^active/kept/' >"$FERMATA_ROOT/want"
		if listed w kept; then grep '^kept:' "$FERMATA_ROOT/now" | diff "$FERMATA_ROOT/want" -
		else diff "$FERMATA_ROOT/before" "$FERMATA_ROOT/now"; fi
		assert_no_orphans
	done
}

@test "off: deleting what two branches are backed by" {
	tree_vm
	cut_everywhere snapshot-delete w a
}

@test "off: deleting in the middle of a branch, and its end" {
	tree_vm
	cut_everywhere snapshot-delete w c
	cut_everywhere snapshot-delete w b
}

# Started cold, the guest finds every disk at the same count, or a write apart
boots_as_one() {
	local from
	from=$(mark w)
	fermata start w
	will_say w "$from" 60 lines 2
	said w "$from" | awk '/^boot/ { n = split($0, f, /[ =]/); min = max = f[3]
		for (i = 5; i <= n; i += 2) { if (f[i] < min) min = f[i]; if (f[i] > max) max = f[i] }
		print; one = max - min <= 1 } END { exit !one }'
	assert_one_instant w "$from"
}

kill_qemu() {
	local pid
	pid=$(vm_pid w)
	# On the way back it may have been ended already.
	[ -z "$pid" ] || kill -KILL "$pid" || true
	[ -z "$pid" ] || wait_gone "$pid"
}

# All of the disks use an image whose name has TEXT in it, or none
all_or_none_use() {
	local n
	n=$(fermata domblklist w | grep -c "$1" || true)
	[ "$n" = 0 ] || [ "$n" = 3 ] || { echo "$n of 3 disks use $1"; return 1; }
	[ "$n" = 3 ]
}

# QEMU lives, QEMU dies with us; a power cut is the latter, for each write to the record is a moment like any other
@test "running: an external snapshot of three disks" {
	witness_vm w 3 size=16 accel=kvm:tcg raw=vdc
	vm_start w
	total=$(calls_of snapshot-create-as w zero --disk-only)
	turn=0
	for n in $(moments "$total" 14); do
		from=$(mark w)
		cut_at "$n" snapshot-create-as w "e$n" --disk-only
		turn=$((turn + 1))
		[ $((turn % 2)) = 0 ] || kill_qemu
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		fermata recover w
		not is_pending w
		if listed w "e$n"; then all_or_none_use "e$n-"; else not all_or_none_use "e$n-"; fi
		if state_is w running; then assert_one_instant w "$from"; else boots_as_one; fi
		# The chain gets no longer than it has to: start afresh from what there is.
		if [ $((turn % 5)) = 0 ]; then
			fermata destroy w
			contents >/dev/null
			assert_no_orphans leaks
			for s in $(fermata snapshot-list w --name); do fermata snapshot-delete w "$s"; done
			boots_as_one
		fi
	done
	# Each of them is of one instant.
	for s in $(fermata snapshot-list w --name); do
		fermata snapshot-revert w "$s"
		boots_as_one
	done
	fermata destroy w
	contents >/dev/null
	assert_no_orphans leaks
}

@test "running: cut off with QEMU while an overlay is made" {
	witness_vm w 2 size=16 accel=kvm:tcg
	vm_start w
	n=0
	while :; do
		n=$((n + 1)) cut=$n_cut
		inject pwrite64 $n snapshot-create-as w "e$n" --disk-only
		[ $n_cut -gt $cut ] || break
		kill_qemu
		fermata recover w
		not is_pending w
		not listed w "e$n"
		contents >/dev/null
		assert_no_orphans leaks
		boots_as_one
	done
	# The header and what it points at, of two overlays
	[ $n -gt 4 ]
	listed w "e$n"
}

@test "running: going back, and the guest runs again" {
	witness_vm w 3 size=16 accel=kvm:tcg raw=vdc
	vm_start w
	fermata snapshot-create-as w a --disk-only
	wait_counter_above w 30
	fermata snapshot-create-as w b --disk-only
	total=$(calls_of snapshot-revert w a --running)
	turn=0
	for n in $(moments "$total" 14); do
		from=$(mark w)
		cut_at "$n" snapshot-revert w a --running
		turn=$((turn + 1))
		[ $((turn % 3)) != 0 ] || kill_qemu
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		fermata recover w
		not is_pending w
		# Every disk is in use as before, or on an overlay of its own on what "a" has frozen: the three of one number.
		fermata domblklist w | grep -o '[.][ab]-[0-9]*[.]qcow2' | uniq -c >"$FERMATA_ROOT/used"
		grep -Eqx ' *3 [.](b-2|a-[0-9]+)[.]qcow2' "$FERMATA_ROOT/used" || { cat "$FERMATA_ROOT/used"; return 1; }
		if state_is w running; then
			assert_one_instant w "$from"
		else
			state_is w "shut off" || fermata destroy w
			boots_as_one
		fi
	done
	fermata destroy w
	contents >/dev/null
	assert_no_orphans leaks
}

# Checkpoints with the memory in a file and the disks in overlays, all of one instant, whole or not there.
load helper

setup() { root_make; }
teardown() { root_end; }

# No disk has switched, nothing is left of NAME, the guest is as it was
assert_nothing() {
	local f
	not listed w "$1"
	not is_pending w
	# After a deletion an overlay of that name may be the disk's: merging into it has moved less.
	for f in "$FERMATA_ROOT"/images/*."$1"-*; do
		[ ! -e "$f" ] || { [ -n "${deleted-}" ] && fermata domblklist w | grep -qF "$f"; } || { echo "left: $f"; return 1; }
	done
	[ -z "$(ls "$FERMATA_ROOT"/*.mem* "$FERMATA_ROOT"/var/lib/fermata/w/*.mem* 2>/dev/null)" ]
	fermata qemu-monitor-command w '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' |
		grep -o '"vd[a-z][.][0-9]*"' | sort -u | wc -l >"$FERMATA_ROOT/nodes"
	[ "$(cat "$FERMATA_ROOT/nodes")" = "${2:-2}" ] || { cat "$FERMATA_ROOT/nodes"; return 1; }
}

# Change one byte of a file
flip() {
	perl -e 'open my $f, "+<", $ARGV[0] or die; seek $f, $ARGV[1], 0; read $f, my $c, 1; seek $f, $ARGV[1], 0;
		print $f chr(ord($c) ^ 4)' "$1" "$2"
}

@test "taken while the guest writes: on record, in the listings, the guest goes on" {
	witness_vm w 2 fill=16
	vm_start w
	from=$(mark w)
	fermata snapshot-create-as w k1 --memspec "$FERMATA_ROOT/k1.mem" >"$FERMATA_ROOT/out"
	grep -qx 'Domain snapshot k1 created' "$FERMATA_ROOT/out"
	grep -qE '^The guest was paused for [0-9]+\.[0-9] ms$' "$FERMATA_ROOT/out"
	assert_one_instant w "$from"
	[ "$(stat -c %a "$FERMATA_ROOT/k1.mem")" = 600 ]
	[ "$(fermata domblklist w | grep -c '[.]k1-1[.]qcow2')" = 2 ]
	fermata snapshot-list w --external | grep -qE '^ k1 .* running$'
	[ -z "$(fermata snapshot-list w --internal --name)" ]
	fermata snapshot-info w k1 >"$FERMATA_ROOT/out"
	grep -qE '^Location: +external$' "$FERMATA_ROOT/out"
	grep -qxE "Memory: +$FERMATA_ROOT/k1.mem" "$FERMATA_ROOT/out"
	fermata snapshot-info w k1 --output json | grep -q '"memory": "'"$FERMATA_ROOT/k1.mem"'"'
	fermata snapshot-dumpxml w k1 | grep -qx "  <memory snapshot='external' file='$FERMATA_ROOT/k1.mem'/>"
	fermata save-image-info "$FERMATA_ROOT/k1.mem" | grep -qE '^State: +running$'
}

@test "memspec, diskspec: unknown keys, keys given twice and bare words are wrong usage, and nothing is taken" {
	witness_vm w 2
	vm_start w
	mkdir "$FERMATA_ROOT/empty"
	cd "$FERMATA_ROOT/empty"
	for spec in "file=$FERMATA_ROOT/empty/a,b.mem" snapshot=external,bogus=1 external snapshot "" ",snapshot=external" \
		"file=a.mem,file=b.mem" "a.mem,file=b.mem" "a.mem,b.mem" snapshot=external,snapshot=external \
		snapshot=external,compress=zstd zstd file=a.mem,driver=qcow2 snapshot= file=a.mem,snapshot=; do
		fails 2 "--memspec:" snapshot-create-as w k --memspec "$spec"
	done
	for spec in "" "snapshot=no" "vda,bogus" "vda,snapshot=no,snapshot=no" "vda,file=" "vda,file=$PWD/x,file=$PWD/y" \
		vda,driver=raw vda,driver=qcow2,driver=qcow2 "vda,file=$PWD/x,y"; do
		fails 2 "--diskspec:" snapshot-create-as w k --disk-only --diskspec "$spec"
	done
	assert_nothing k
	[ -z "$(ls)" ]
	fermata snapshot-create-as w k --memspec "a,,b=c.mem" --diskspec "vda,file=$PWD/d,,e.qcow2"
	[ -s "a,b=c.mem" ] && [ -e "d,e.qcow2" ]
	fermata snapshot-create-as w "k 2" --memspec "$PWD/a=b c.mem,snapshot=external"
	[ -s "a=b c.mem" ]
}

@test "what may not be asked for: refused in one line, nothing is touched" {
	witness_vm w 2 raw=vdb
	fails 1 "the VM is off" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	vm_start w
	: >"$FERMATA_ROOT/there"
	fails 1 "is there already" snapshot-create-as w k --memspec "$FERMATA_ROOT/there"
	fails 1 "No such file" snapshot-create-as w k --memspec "$FERMATA_ROOT/nowhere/k.mem"
	fails 1 "exclude each other" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem" --disk-only
	fails 2 "not internal, external or no" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem,snapshot=maybe"
	fails 2 "is for snapshot=external" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem,snapshot=internal"
	fails 2 "file= has no value" snapshot-create-as w k --memspec file=
	fails 1 "does not go with memory in a file" snapshot-create-as w k --memspec snapshot=external \
		--diskspec vda,snapshot=internal
	fails 1 "vda" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem" --diskspec "vda,file=$FERMATA_ROOT/nowhere/x.qcow2"
	fails 1 "is there already" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem" \
		--diskspec "vdb,file=$FERMATA_ROOT/there"
	assert_nothing k
	mkdir "$FERMATA_ROOT/small"
	mount -t tmpfs -o size=20M none "$FERMATA_ROOT/small" || skip "cannot mount"
	fails 1 "MiB free" snapshot-create-as w k --memspec "$FERMATA_ROOT/small/k.mem"
	[ -z "$(ls -A "$FERMATA_ROOT/small")" ]
	assert_nothing k
	assert_one_instant w
	# A name of its own; a disk left out; a paused guest stays paused.
	fermata suspend w
	fermata snapshot-create-as w k --memspec snapshot=external --diskspec vdb,snapshot=no
	assert_state w paused
	[ -s "$FERMATA_ROOT"/var/lib/fermata/w/k-*.mem ]
	[ "$(fermata domblklist w | grep -c '[.]k-')" = 1 ]
	fermata snapshot-info w k | grep -qE '^State: +paused$'
	fermata resume w
	assert_one_instant w
}

@test "called off, killed, without QEMU, on a full file system: the guest runs on, no disk has switched, nothing is left" {
	need_strace
	witness_vm w 2 memory=256M fill=150
	vm_start w
	from=$(mark w)
	# Held in the middle of the memory, so that it cannot be through before the signal.
	for sig in INT TERM KILL; do
		hold write 30 snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
		[ -s "$FERMATA_ROOT/k.mem.part" ]
		kill -$sig "$held"
		let_go
		status=0
		wait $tracer || status=$?
		echo "$sig: $status $(cat "$FERMATA_ROOT/err")"
		if [ $sig = KILL ]; then
			# Without a further command.
			wait_until 20 state_is w running
			wait_until 20 not is_pending w
		else
			[ $status = 1 ]
			grep -q cancelled "$FERMATA_ROOT/err"
		fi
		assert_nothing k
		assert_state w running
	done
	assert_one_instant w "$from"
	hold write 30 snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	[ -s "$FERMATA_ROOT/k.mem.part" ]
	kill -KILL "$(vm_pid w)"
	let_go
	status=0
	wait $tracer || status=$?
	[ $status = 1 ]
	not listed w k
	not is_pending w
	assert_state w "shut off"
	[ -z "$(ls "$FERMATA_ROOT"/images/*.k-* "$FERMATA_ROOT"/*.mem* 2>/dev/null)" ]
}

@test "a call that fails, on the way: taken whole, or the guest runs on and nothing is left" {
	need_strace
	witness_vm w 1
	vm_start w
	calls_of snapshot-create-as w zero --memspec "$FERMATA_ROOT/zero" >/dev/null
	failed=0
	n=1
	for call in write:ENOSPC pwrite64:ENOSPC fsync:EIO rename:EIO openat:EMFILE pipe2:EMFILE fork:EAGAIN sendmsg:EPIPE poll:EINTR \
		ftruncate:EIO lseek:EIO unlink:EIO read:EIO; do
		count=$(grep -cx "${call%:*}" "$FERMATA_ROOT/calls" || true)
		for part in 2 5 8 10; do
			[ $((count * part / 10)) -gt 0 ] || continue
			rm -f "$FERMATA_ROOT/k.mem"
			from=$(mark w)
			status=0
			strace -qq -o "$FERMATA_ROOT/trace" -e "inject=${call%:*}:error=${call#*:}:when=$((count * part / 10))" "$FERMATA_BIN" \
				--root "$FERMATA_ROOT" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem" >/dev/null 2>"$FERMATA_ROOT/err" ||
				status=$?
			echo "$call $((count * part / 10)) of $count: $status $(cat "$FERMATA_ROOT/err")"
			[ $status = 0 ] || failed=$((failed + 1))
			fermata recover w
			if listed w k; then
				n=$((n + 1))
				[ -s "$FERMATA_ROOT/k.mem" ]
				fermata save-image-info "$FERMATA_ROOT/k.mem" >/dev/null
				fermata snapshot-delete w k
				deleted=yes
				[ ! -e "$FERMATA_ROOT/k.mem" ]
			fi
			assert_nothing k 2
			wait_until 20 state_is w running
			assert_one_instant w "$from"
		done
	done
	[ $failed -gt 10 ]
}

@test "killed at every moment: it is whole or not there, and the guest runs on without a further command" {
	need_strace
	witness_vm w 2
	vm_start w
	total=$(calls_of snapshot-create-as w zero --memspec "$FERMATA_ROOT/zero")
	for i in $(moments "$total" 14); do
		rm -f "$FERMATA_ROOT/k.mem"
		from=$(mark w)
		cut_at "$i" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
		wait_until 20 state_is w running
		fermata recover w
		if listed w k; then
			fermata save-image-info "$FERMATA_ROOT/k.mem" >/dev/null
			[ "$(fermata domblklist w | grep -c '[.]k-')" = 2 ]
			fermata snapshot-delete w k
			deleted=yes
			echo "cut at $i of $total: whole"
		else
			echo "cut at $i of $total: nothing"
		fi
		assert_nothing k 4
		assert_one_instant w "$from"
	done
	most_cut
}

# take NAME [ARGS...]: a checkpoint; between which counters its instant lies is kept
declare -gA c slack
take() {
	local name=$1 before
	shift
	before=$(last_counter w)
	fermata snapshot-create-as w "$name" --memspec "$FERMATA_ROOT/$name.mem" "$@"
	c[$name]=$(last_counter w)
	slack[$name]=$((c[$name] - before + 30))
}

# Go on until going back shows
age() {
	wait_counter_above w $((c[$1] + slack[$1] + 40))
}

# go_back NAME [FLAG...]: memory and disks are of that one instant again, while the guest writes
go_back() {
	local from name=$1
	shift
	from=$(mark w)
	fermata snapshot-revert w "$name" "$@"
	assert_went_back w "$from" "${c[$name]}" "${slack[$name]}"
	assert_one_instant w "$from"
	[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
}

@test "back to it, running and off: one instant each time, the file never changes, generations, other branches stay" {
	witness_vm w 3 fill=16 raw=vdb
	vm_start w
	take k1
	sum=$(md5sum <"$FERMATA_ROOT/k1.mem")
	frozen=$(images w | xargs md5sum)
	age k1
	pid=$(vm_pid w)
	go_back k1
	dead "$pid"
	[ "$(ask w v '^V ')" = "V ok" ]
	take k2
	age k2
	fermata destroy w
	go_back k1
	[ "$(fermata snapshot-current w --name)" = k1 ]
	# Each taken of the one before, the last of these three a fifth generation
	for g in 3 4 5; do
		take k$g
		[ $g = 4 ] || age k$g
		go_back k$g
	done
	[ "$(ask w v '^V ')" = "V ok" ]
	fermata snapshot-revert w k2 --paused --keep-current now
	assert_state w paused
	fermata resume w
	assert_one_instant w
	[ "$sum" = "$(md5sum <"$FERMATA_ROOT/k1.mem")" ]
	[ "$frozen" = "$(images w | xargs md5sum)" ]
	fermata destroy w
	contents >/dev/null
	assert_no_orphans
	for s in k2 k1 k5 now k4 k3; do fermata snapshot-delete w $s; done
	contents >/dev/null
	assert_no_orphans
	[ -z "$(ls "$FERMATA_ROOT"/*.mem)" ]
	vm_start w
	assert_one_instant w
}

# The guest with that pid runs on as if nothing had been asked, and nothing new is there
assert_present() {
	[ "$(vm_pid w)" = "$1" ]
	not is_pending w
	[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
	[ "$(ls "$FERMATA_ROOT/images")" = "$images" ]
	assert_one_instant w "$from"
}

@test "a file that is damaged, cut off, gone or another's, a QEMU that does not come up: the present runs on" {
	witness_vm w 2
	vm_start w
	take k1
	take k2
	pid=$(vm_pid w)
	from=$(mark w)
	images=$(ls "$FERMATA_ROOT/images")
	mv "$FERMATA_ROOT/k1.mem" "$FERMATA_ROOT/good"
	size=$(stat -c %s "$FERMATA_ROOT/good")
	fails 1 "No such file" snapshot-revert w k1
	cp "$FERMATA_ROOT/k2.mem" "$FERMATA_ROOT/k1.mem"
	fails 1 "is not the memory that was saved there" snapshot-revert w k1
	for at in 30 5000 $((size / 2)) $((size - 20)); do
		cp "$FERMATA_ROOT/good" "$FERMATA_ROOT/k1.mem"
		flip "$FERMATA_ROOT/k1.mem" "$at"
		fails 1 "k1.mem is damaged" snapshot-revert w k1
	done
	for n in 0 5000 $((1048576 + 4096)) $((size - 1)); do
		cp "$FERMATA_ROOT/good" "$FERMATA_ROOT/k1.mem"
		truncate -s "$n" "$FERMATA_ROOT/k1.mem"
		fails 1 "k1.mem" snapshot-revert w k1
	done
	mv "$FERMATA_ROOT/good" "$FERMATA_ROOT/k1.mem"
	sed -i 's/^memory .*/memory = 96M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	fails 1 "memory" snapshot-revert w k1
	fails 1 "the present guest runs on" snapshot-revert w k1 --force
	sed -i 's/^memory .*/memory = 64M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	base=$(images w | head -n 1)
	chmod 0 "$base"
	mv "$base" "$base.away"
	fails 1 "vda" snapshot-revert w k1
	mv "$base.away" "$base"
	assert_present "$pid"
	# A call that fails on the way. Past the end of the present guest, the next command brings the other one up.
	need_strace
	for rule in socketpair:error=EMFILE socketpair:error=EMFILE:when=2 sendto:error=EIO:when=9+ sendmsg:error=EPIPE \
		bind:error=EACCES:when=2 rename:error=EIO:when=2 fork:error=EAGAIN clone:error=EAGAIN fsync:error=EIO:when=3; do
		status=0
		strace -qq -o "$FERMATA_ROOT/trace" -e "inject=$rule" "$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert w k1 \
			>/dev/null 2>"$FERMATA_ROOT/err" || status=$?
		echo "$rule: $status $(cat "$FERMATA_ROOT/err")"
		fermata recover w
		# Status 3: on record, and finished by now if the other one stood.
		[ "$status" = 0 ] || [ "$status" = 3 ] || assert_present "$pid"
		assert_state w running
		pid=$(vm_pid w)
		images=$(ls "$FERMATA_ROOT/images")
		from=$(mark w)
	done
	go_back k1
}

@test "a revert is killed at every moment: the present goes on, or it is done" {
	need_strace
	witness_vm w 2
	vm_start w
	take k1
	fermata snapshot-revert w k1
	# A socket of the second QEMU is made, but not yet where it belongs.
	strace -qq -o "$FERMATA_ROOT/trace" -e inject=listen:signal=KILL:when=2 "$FERMATA_BIN" --root "$FERMATA_ROOT" \
		snapshot-revert w k1 >/dev/null 2>&1 || true
	[ -e "$FERMATA_ROOT/run/fermata/w/next" ]
	fermata recover w
	[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
	total=$(calls_of snapshot-revert w k1)
	images=$(ls "$FERMATA_ROOT/images" | wc -l)
	for i in $(moments "$total" 14); do
		age k1
		pid=$(vm_pid w)
		from=$(mark w)
		cut_at "$i" snapshot-revert w k1
		wait_until 20 state_is w running
		fermata recover w
		not is_pending w
		[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
		[ "$(ls "$FERMATA_ROOT/images" | wc -l)" = "$images" ]
		if [ "$(vm_pid w)" = "$pid" ]; then
			echo "cut at $i of $total: the present"
			assert_one_instant w "$from"
		else
			echo "cut at $i of $total: done"
			dead "$pid"
			assert_went_back w "$from" "${c[k1]}" "${slack[k1]}"
			assert_one_instant w "$from"
		fi
	done
	most_cut
	fermata destroy w
	total=$(calls_of snapshot-revert w k1)
	for i in $(moments "$total" 6); do
		fermata destroy w
		from=$(mark w)
		cut_at "$i" snapshot-revert w k1
		fermata recover w
		not is_pending w
		[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
		[ "$(ls "$FERMATA_ROOT/images" | wc -l)" = "$images" ]
		echo "off, cut at $i of $total: $(fermata domstate w)"
		state_is w running || fermata snapshot-revert w k1
		assert_one_instant w "$from"
	done
}

@test "snapshot-verify: whole, or the place that is not" {
	witness_vm w 2
	fermata snapshot-create-as w off
	vm_start w
	fermata snapshot-create-as w in
	take k1
	take k2
	for s in off in k1 k2; do
		[ "$(fermata snapshot-verify w $s)" = "Domain snapshot $s is whole" ]
	done
	size=$(stat -c %s "$FERMATA_ROOT/k1.mem")
	for at in 20 $((1048576 + 5000)) $((size - 5)); do
		flip "$FERMATA_ROOT/k1.mem" "$at"
		fails 1 "k1.mem is damaged: " snapshot-verify w k1
		flip "$FERMATA_ROOT/k1.mem" "$at"
	done
	flip "$FERMATA_ROOT/k1.mem" $((1048576 + 5000))
	fails 1 "the memory at byte $((1048576 + 4096))" snapshot-verify w k1
	fermata snapshot-verify w k2
	fermata destroy w
	file=$(ls "$FERMATA_ROOT"/images/w-vdb.k1-*)
	mv "$file" "$file.away"
	fails 1 "vdb" snapshot-verify w k2
	mv "$file.away" "$file"
	file=$(ls "$FERMATA_ROOT"/images/w-vda.k2-*)
	mv "$file" "$file.away"
	fails 1 "vda" snapshot-verify w k2
	mv "$file.away" "$file"
	qemu-img snapshot -d in "$(images w | tail -n 1)"
	fails 1 "has no snapshot 'in' any more" snapshot-verify w in
	fails 1 "no snapshot" snapshot-verify w nothing
}

@test "boot from such a checkpoint" {
	witness_vm w 2
	printf '\n[boot]\nfrom = k1\nfallback = cold\ndiscard-changes = yes\n' | conf_add w
	vm_start w
	take k1
	age k1
	fermata destroy w
	from=$(mark w)
	fermata boot w
	assert_went_back w "$from" "${c[k1]}" "${slack[k1]}"
	assert_one_instant w "$from"
	fermata destroy w
	flip "$FERMATA_ROOT/k1.mem" 200000
	from=$(mark w)
	status=0
	fermata boot w 2>"$FERMATA_ROOT/err" || status=$?
	[ "$status" = 4 ] && grep -q "is damaged" "$FERMATA_ROOT/err"
	will_say w "$from" 60 says '^boot' >/dev/null
}

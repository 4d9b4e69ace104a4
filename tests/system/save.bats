# Memory saved in a file: whole or not there, checked before a guest is made of it, and never over disks that moved on.
load helper

setup() { root_make; }
teardown() { root_end; }

# Nothing is left over, and the guest is as it was
assert_untouched() {
	assert_state w "$1"
	[ ! -e "$FERMATA_ROOT/w.mem.part" ] && [ ! -e "$FERMATA_ROOT/w.mem" ]
	not is_pending w
}

# Change one byte of a file
flip() {
	perl -e 'open my $f, "+<", $ARGV[0] or die; seek $f, $ARGV[1], 0; read $f, my $c, 1; seek $f, $ARGV[1], 0;
		print $f chr(ord($c) ^ 4)' "$1" "$2"
}

@test "save and restore: memory and disks of one instant, once, and only over the same disks" {
	witness_vm w 2 fill=16
	vm_start w
	fermata save w "$FERMATA_ROOT/w.mem" >"$FERMATA_ROOT/out"
	grep -qx "Domain 'w' saved to $FERMATA_ROOT/w.mem" "$FERMATA_ROOT/out"
	assert_state w "shut off"
	[ "$(fermata domstate w --reason | head -n 1)" = "shut off (saved)" ]
	[ "$(stat -c %a "$FERMATA_ROOT/w.mem")" = 600 ]
	not is_pending w
	c=$(last_counter w)
	fermata save-image-info "$FERMATA_ROOT/w.mem" >"$FERMATA_ROOT/out"
	grep -qE '^Name: +w$' "$FERMATA_ROOT/out"
	grep -qE '^State: +running$' "$FERMATA_ROOT/out"
	fermata save-image-info "$FERMATA_ROOT/w.mem" --output json | perl -MJSON::PP -e 'local $/; decode_json(<STDIN>)'
	sum=$(md5sum <"$FERMATA_ROOT/w.mem")
	from=$(mark w)
	fermata restore "$FERMATA_ROOT/w.mem"
	assert_one_instant w "$from"
	assert_went_back w "$from" "$c"
	[ "$(ask w v '^V ')" = "V ok" ]
	[ "$sum" = "$(md5sum <"$FERMATA_ROOT/w.mem")" ]
	fails 1 "running already" restore "$FERMATA_ROOT/w.mem"
	fermata destroy w
	# The guest wrote to them since.
	fails 1 "moved on since" restore "$FERMATA_ROOT/w.mem"
	assert_state w "shut off"
	# A file that is there already is replaced in one piece, and only by a whole one.
	vm_start w
	# --verbose tells how far it is where there is no terminal, too; without it a pipe has nothing but errors.
	fermata save w "$FERMATA_ROOT/w.mem" --bypass-cache --paused --verbose 2>"$FERMATA_ROOT/err"
	tr '\r' '\n' <"$FERMATA_ROOT/err" | grep -qE '^Save: [0-9.]+ MiB, [0-9.]+ [KMG]iB/s: \[100 %\]$'
	fermata restore "$FERMATA_ROOT/w.mem" 2>"$FERMATA_ROOT/err"
	[ ! -s "$FERMATA_ROOT/err" ]
	assert_state w paused
	fermata save w "$FERMATA_ROOT/w.mem" 2>"$FERMATA_ROOT/err"
	[ ! -s "$FERMATA_ROOT/err" ]
	fermata restore "$FERMATA_ROOT/w.mem"
	assert_state w paused
	fermata resume w
	assert_one_instant w
}

@test "a paused guest stays paused; --running says otherwise" {
	witness_vm w 1
	vm_start w
	fermata suspend w
	fermata save w "$FERMATA_ROOT/w.mem"
	fermata restore "$FERMATA_ROOT/w.mem"
	assert_state w paused
	fermata save w "$FERMATA_ROOT/w.mem" --running
	fails 2 "exclude each other" restore "$FERMATA_ROOT/w.mem" --running --paused
	fermata restore "$FERMATA_ROOT/w.mem"
	assert_state w running
	assert_one_instant w
}

@test "a managed save is resumed by the next start, once; dropped on request; stale, it is refused" {
	witness_vm w 2
	vm_start w
	fermata managedsave-remove w | grep -q "no manage save image"
	fermata managedsave w | grep -q "Domain 'w' state saved"
	c=$(last_counter w)
	from=$(mark w)
	fermata start w
	assert_one_instant w "$from"
	assert_went_back w "$from" "$c"
	[ ! -e "$FERMATA_ROOT/var/lib/fermata/w/managed.save" ]
	fermata managedsave w
	qemu-io -c 'write 40M 64k' "$(images w | tail -n 1)" >/dev/null
	fails 1 "--force-boot" start w
	from=$(mark w)
	fermata start w --force-boot
	will_say w "$from" 60 says '^boot' >/dev/null
	fermata managedsave w
	fermata managedsave-remove w | grep -q "Removed managedsave image"
	from=$(mark w)
	fermata start w
	will_say w "$from" 60 says '^boot' >/dev/null
}

@test "a file that is damaged anywhere, cut off, foreign or another's is refused, and the VM stays off" {
	witness_vm w 1
	vm_start w
	fermata save w "$FERMATA_ROOT/good"
	size=$(stat -c %s "$FERMATA_ROOT/good")
	for at in 0 9 13 20 30 2000 4090 4096 100000 $((size / 2)) $((size - 500)) $((size - 1)); do
		cp "$FERMATA_ROOT/good" "$FERMATA_ROOT/bad"
		flip "$FERMATA_ROOT/bad" "$at"
		echo "byte $at of $size"
		fails 1 "$FERMATA_ROOT/bad" restore "$FERMATA_ROOT/bad"
		assert_state w "shut off"
		not is_pending w
	done
	for n in 0 100 4096 5000 $((1048576 + 4096)) $((size - 1)) $((size + 1)); do
		cp "$FERMATA_ROOT/good" "$FERMATA_ROOT/bad"
		truncate -s "$n" "$FERMATA_ROOT/bad"
		fails 1 "$FERMATA_ROOT/bad" restore "$FERMATA_ROOT/bad"
	done
	fails 1 "no saved memory" restore /etc/passwd
	fails 1 "no saved memory" restore /dev/null
	fails 1 "No such file" restore "$FERMATA_ROOT/nowhere"
	echo "# a remark" >>"$FERMATA_ROOT/etc/fermata/w.conf"
	sed -i 's/^memory .*/memory = 96M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	fails 1 "memory" restore "$FERMATA_ROOT/good"
	fails 1 "QEMU ended" restore "$FERMATA_ROOT/good" --force
	assert_state w "shut off"
	sed -i 's/^memory .*/memory = 64M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	# After all of that the disks are still those of the save.
	from=$(mark w)
	fermata restore "$FERMATA_ROOT/good" --force
	assert_one_instant w "$from"
}

@test "called off, on a full file system, without a folder: the guest runs on, nothing is left" {
	need_strace
	witness_vm w 2 memory=256M fill=200
	vm_start w
	fails 1 "No such file" save w "$FERMATA_ROOT/nowhere/w.mem"
	mkdir "$FERMATA_ROOT/dir"
	fails 1 "no regular file" save w "$FERMATA_ROOT/dir"
	fails 1 "no regular file" dump w /dev/null --memory-only
	assert_untouched running
	mkdir "$FERMATA_ROOT/small"
	mount -t tmpfs -o size=20M none "$FERMATA_ROOT/small" || skip "cannot mount"
	fails 1 "MiB free" save w "$FERMATA_ROOT/small/w.mem"
	[ -z "$(ls -A "$FERMATA_ROOT/small")" ]
	from=$(mark w)
	# Held in the middle of the memory, so that it cannot be through before the signal.
	for sig in INT TERM KILL; do
		hold write 30 save w "$FERMATA_ROOT/w.mem"
		[ -s "$FERMATA_ROOT/w.mem.part" ]
		kill -$sig "$held"
		let_go
		status=0
		wait $tracer || status=$?
		echo "$sig: $status"
		if [ $sig = KILL ]; then
			# A child has seen it.
			wait_until 20 state_is w running
			fermata recover w
		else
			[ $status = 1 ]
			grep -q cancelled "$FERMATA_ROOT/err"
		fi
		assert_untouched running
	done
	assert_one_instant w "$from"
	# QEMU itself dies.
	hold write 30 save w "$FERMATA_ROOT/w.mem"
	[ -s "$FERMATA_ROOT/w.mem.part" ]
	kill -KILL "$(vm_pid w)"
	let_go
	status=0
	wait $tracer || status=$?
	[ $status = 1 ]
	assert_untouched "shut off"
}

@test "a write that fails, or a flush: the guest runs on" {
	need_strace
	witness_vm w 1
	vm_start w
	for fault in pwrite64 write fsync:when=1 fsync:when=2 rename:when=2; do
		from=$(mark w)
		case $fault in
		write) rule=write:error=ENOSPC:when=5+ ;;
		pwrite64) continue ;;
		*) rule=${fault%%:*}:error=EIO:${fault#*:} ;;
		esac
		status=0
		strace -qq -o /dev/null -e "inject=$rule" "$FERMATA_BIN" --root "$FERMATA_ROOT" save w "$FERMATA_ROOT/w.mem" \
			>/dev/null 2>"$FERMATA_ROOT/err" || status=$?
		echo "$fault: $status $(cat "$FERMATA_ROOT/err")"
		[ $status != 0 ]
		fermata recover w
		[ ! -e "$FERMATA_ROOT/w.mem.part" ]
		assert_state w running
		assert_one_instant w "$from"
	done
}

@test "killed at every moment of a save and of a restore: the guest runs, or its memory is in the file" {
	need_strace
	witness_vm w 2
	vm_start w
	total=$(calls_of save w "$FERMATA_ROOT/w.mem")
	fermata restore "$FERMATA_ROOT/w.mem"
	for i in 1 2 3 4 5 6 7 8 9 10; do
		will_say w "$(mark w)" 60 lines 2
		rm -f "$FERMATA_ROOT/w.mem"
		cut_at $((total * (90 + i) / 100)) save w "$FERMATA_ROOT/w.mem"
		fermata recover w
		not is_pending w
		[ ! -e "$FERMATA_ROOT/w.mem.part" ]
		echo "save cut at $((total * (90 + i) / 100)) of $total: $(fermata domstate w)"
		if state_is w running; then
			assert_one_instant w
		else
			from=$(mark w)
			fermata restore "$FERMATA_ROOT/w.mem"
			assert_one_instant w "$from"
		fi
	done
	fermata save w "$FERMATA_ROOT/w.mem"
	total=$(calls_of restore "$FERMATA_ROOT/w.mem")
	for i in 1 3 5 7 9 10; do
		will_say w "$(mark w)" 60 lines 2
		fermata save w "$FERMATA_ROOT/w.mem"
		from=$(mark w)
		cut_at $((total * i / 10)) restore "$FERMATA_ROOT/w.mem"
		fermata recover w
		not is_pending w
		echo "restore cut at $((total * i / 10)) of $total: $(fermata domstate w)"
		state_is w running || fermata restore "$FERMATA_ROOT/w.mem"
		assert_one_instant w "$from"
	done
}

@test "dump --memory-only: an ELF core, and the guest goes on" {
	witness_vm w 1
	vm_start w
	fails 2 "--memory-only" dump w "$FERMATA_ROOT/core"
	fermata dump w "$FERMATA_ROOT/core" --memory-only
	[ "$(head -c 4 "$FERMATA_ROOT/core" | tail -c 3)" = ELF ]
	[ "$(stat -c %s "$FERMATA_ROOT/core")" -gt $((60 << 20)) ]
	[ ! -e "$FERMATA_ROOT/core.part" ]
	assert_state w running
	assert_one_instant w
}

@test "boot from a managed save; a cold boot drops one" {
	witness_vm w 1
	printf '\n[boot]\nfrom = managedsave\nfallback = cold\n' | conf_add w
	vm_start w
	fermata managedsave w
	c=$(last_counter w)
	from=$(mark w)
	fermata boot w
	assert_one_instant w "$from"
	assert_went_back w "$from" "$c"
	fermata managedsave w
	flip "$FERMATA_ROOT/var/lib/fermata/w/managed.save" 200000
	from=$(mark w)
	status=0
	fermata boot w 2>"$FERMATA_ROOT/err" || status=$?
	[ "$status" = 4 ]
	grep -q "is damaged" "$FERMATA_ROOT/err"
	will_say w "$from" 60 says '^boot' >/dev/null
	[ ! -e "$FERMATA_ROOT/var/lib/fermata/w/managed.save" ]
}

# The witness VM w, with its second disk on a block device
on_device() {
	witness_vm w 2 size=16
	truncate -s 16M "$FERMATA_ROOT/lv"
	dev=$(losetup --show -f "$FERMATA_ROOT/lv" 2>/dev/null) || skip "there is no loop device"
	sed -i -e "s|^file = .*w-vdb.qcow2|file = $dev|" -e '/^\[disk vdb\]/,/^$/s/^format = .*/format = raw/' "$FERMATA_ROOT/etc/fermata/w.conf"
}

@test "restore: over a block device a memory is used once, and never after the VM has run without it" {
	on_device
	vm_start w
	wait_counter_above w 10
	fermata save w "$FERMATA_ROOT/w.mem"
	# A start that fails does not use it up.
	mv "$FERMATA_ROOT/images/w-vda.qcow2" "$FERMATA_ROOT/away"
	fails 1 "" restore "$FERMATA_ROOT/w.mem"
	mv "$FERMATA_ROOT/away" "$FERMATA_ROOT/images/w-vda.qcow2"
	from=$(mark w)
	fermata restore "$FERMATA_ROOT/w.mem"
	assert_one_instant w "$from"
	fermata destroy w
	# Only the device is left to tell.
	sed -i '/^\[disk vda\]/,/^$/d' "$FERMATA_ROOT/etc/fermata/w.conf"
	fermata start w --paused
	fermata save w "$FERMATA_ROOT/d.mem"
	fermata restore "$FERMATA_ROOT/d.mem"
	fermata destroy w
	fails 1 "block device" restore "$FERMATA_ROOT/d.mem"
	fermata restore "$FERMATA_ROOT/d.mem" --force
	fermata save w "$FERMATA_ROOT/e.mem"
	fails 1 "block device" restore "$FERMATA_ROOT/d.mem"
	fermata restore "$FERMATA_ROOT/e.mem"
	fermata save w "$FERMATA_ROOT/e.mem"
	fermata start w --paused
	fermata destroy w
	fails 1 "block device" restore "$FERMATA_ROOT/e.mem"
	losetup -d "$dev"
}

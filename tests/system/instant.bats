# Instant checkpoints: the memory in a file that a second QEMU maps, copied while the guest is paused, or handed over.
load helper

setup() { root_make; }
teardown() { root_end; }

# instant_vm DISKS [as witness_vm]: its memory is a file of its own
instant_vm() {
	witness_vm w "$@"
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/w.conf"
}

flip() {
	perl -e 'open my $f, "+<", $ARGV[0] or die; seek $f, $ARGV[1], 0; read $f, my $c, 1; seek $f, $ARGV[1], 0;
		print $f chr(ord($c) ^ 4)' "$1" "$2"
}

state_files() {
	echo "$FERMATA_ROOT/var/lib/fermata/w"
}

# Where the memory of snapshot NAME is
ram_of() {
	echo "$(state_files)"/"$1"-*.ram
}

# The first byte of a file that is no hole, in the middle of its data
data_in() {
	perl -e 'open my $f, "<", $ARGV[0] or die; my $at = sysseek($f, $ARGV[1], 3) or die; print $at + 100' "$1" "${2:-0}"
}

# The guest's own look over all the memory that it has filled
assert_pattern() {
	[ "$(ask w v '^V')" = "V ok" ]
}

# back_to NAME [OPTION...]: the guest goes on where NAME was taken, memory and disks of one instant
back_to() {
	local from
	from=$(mark w)
	fermata snapshot-revert w "$@"
	assert_one_instant w "$from"
	assert_pattern
}

# How many memory files of their own, which take all of their room from the start, the guest's QEMU has
memory_files() {
	find "/proc/$(vm_pid w)/fd" -lname '*/dev/shm/#*(deleted)' | wc -l
}

# Neither a file of NAME, nor a name in the folder of memories
assert_nothing() {
	not listed w "$1"
	not is_pending w
	[ -z "$(ls -A "$(state_files)" | grep -v '^state.json$' | grep "^$1-")" ]
	[ -z "$(ls "$FERMATA_ROOT"/images | grep "[.]$1-")" ]
	[ -z "$(ls -A "$FERMATA_ROOT/dev/shm" 2>/dev/null)" ]
	[ -z "$(ls "$FERMATA_ROOT/run/fermata/w" | grep -vx devices | grep devices)" ]
}

@test "copied: on record and whole; gone back to again and again, running and off; never changed by it" {
	witness_vm w 2 fill=24 raw=vdb dirty=20
	vm_start w
	wait_counter_above w 10
	low=$(last_counter w)
	fermata snapshot-create-as w gold --instant >"$FERMATA_ROOT/out"
	high=$(last_counter w)
	grep -qx 'Domain snapshot gold created' "$FERMATA_ROOT/out"
	grep -qE '^The guest was paused for [0-9]+\.[0-9] ms$' "$FERMATA_ROOT/out"
	ram=$(ram_of gold)
	[ "$(stat -c '%a %s' "$ram")" = "600 $((64 << 20))" ]
	# Only what the guest has touched takes room.
	[ "$(stat -c %b "$ram")" -lt $((48 << 11)) ]
	fermata snapshot-list w --external | grep -qE '^ gold .* running$'
	fermata snapshot-info w gold | grep -qxE "RAM: +$ram"
	fermata snapshot-info w gold --output json | grep -qF "\"ram\": \"$ram\""
	fermata snapshot-verify w gold
	sum=$(md5sum <"$ram")
	for n in 1 2 3; do
		from=$(mark w)
		back_to gold
		assert_back_in w "$from" "$low" "$high"
	done
	fermata destroy w
	for n in 1 2; do
		from=$(mark w)
		back_to gold --verify
		assert_back_in w "$from" "$low" "$high"
		fermata destroy w
	done
	[ "$(md5sum <"$ram")" = "$sum" ]
	fermata snapshot-delete w gold
	[ "$(ls -A "$(state_files)")" = state.json ]
}

@test "differing pages: five generations, each of one instant; what others are backed by stays" {
	witness_vm w 2 fill=32 dirty=2
	vm_start w
	fermata snapshot-create-as w g0 --instant
	back_to g0
	for n in 1 2 3 4 5; do
		wait_counter_above w $((n * 15)) 60 "$(mark w)"
		fermata snapshot-create-as w g$n --instant
		# At most what the guest fills, and some that it has for itself, however long it has run.
		[ "$(stat -c %s "$(ram_of g$n)")" -lt $((48 << 20)) ]
		back_to g$n
	done
	fermata snapshot-info w g5 | grep -qxE "RAM Base: +$(ram_of g0)"
	for n in 2 5 0 3; do back_to g$n; done
	# The base goes, its memory does not; with the last that stands on it, it does.
	base=$(ram_of g0)
	fermata snapshot-delete w g0
	[ -s "$base" ]
	back_to g4
	for n in 1 2 3 4; do fermata snapshot-delete w g$n; done
	back_to g5 --verify
	fermata snapshot-verify w g5
	fermata snapshot-delete w g5
	[ ! -e "$base" ]
	not listed w g5
	not is_pending w
	[ "$(ls -A "$(state_files)")" = state.json ]
	# An image that two branches were backed by stays, rather than be copied into both, until there is one of them.
	for disk in $(fermata domblklist w | awk '$2 ~ "/" { print $2 }'); do
		[ "$(qemu-img info -U --output json "$disk" | grep -c backing-filename)" = 0 ]
	done
	assert_one_instant w
	# Nothing on record knows what is mapped: all of it is copied.
	fermata snapshot-create-as w new --instant
	[ "$(stat -c %s "$(ram_of new)")" = $((64 << 20)) ]
	back_to new --verify
}

@test "handed over: the guest goes on in a second QEMU, its memory is the checkpoint" {
	instant_vm 2 fill=24 dirty=20 raw=vdb
	vm_start w
	wait_counter_above w 20
	pid=$(vm_pid w)
	[ "$(memory_files)" != 0 ]
	from=$(mark w)
	low=$(last_counter w)
	fermata snapshot-create-as w gold --instant=handover >"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err"
	[ "$(memory_files)" = 0 ]
	[ ! -s "$FERMATA_ROOT/err" ]
	grep -qE '^The guest was paused for [0-9]+\.[0-9] ms$' "$FERMATA_ROOT/out"
	high=$(last_counter w)
	[ "$(vm_pid w)" != "$pid" ]
	dead "$pid"
	assert_one_instant w "$from"
	assert_pattern
	[ -z "$(ls -A "$FERMATA_ROOT/dev/shm")" ]
	[ ! -L "$(ram_of gold)" ]
	fermata snapshot-verify w gold
	[ "$(fermata domblklist w | grep -c '[.]gold-1[.]qcow2')" = 2 ]
	# What the guest wrote before is what the second QEMU reads; and the other way round.
	from=$(mark w)
	back_to gold
	assert_back_in w "$from" "$low" "$high"
	[ "$(memory_files)" = 0 ]
	# Its memory is now that of a checkpoint: only what differs is kept.
	fermata snapshot-create-as w two --instant=handover 2>"$FERMATA_ROOT/err"
	grep -q "what differs is copied" "$FERMATA_ROOT/err"
	back_to two
	back_to gold --verify
	fermata destroy w
	back_to two --verify
	fermata suspend w
	fermata snapshot-create-as w three --instant
	assert_state w paused
	fermata resume w
	back_to three --running
	fermata destroy w
	assert_images_ok w
}

@test "handed over, a disk left out: the guest's all the way, and going back does not touch it" {
	instant_vm 2 fill=8
	vm_start w
	wait_counter_above w 20
	from=$(mark w)
	b=$(fermata domblklist w | awk '$1 == "vdb" { print $2 }')
	fermata snapshot-create-as w k --instant=handover --diskspec vdb,snapshot=no
	wait_counter_above w $(($(last_counter w) + 50))
	assert_one_instant w "$from"
	[ "$(fermata domblklist w | awk '$1 == "vdb" { print $2 }')" = "$b" ]
	[ "$(fermata snapshot-info w k --output json | grep -c vdb)" = 0 ]
	ask w g '^G=16$'
	fermata suspend w
	sum=$(qemu-img convert -U -O raw "$b" /dev/stdout | md5sum)
	fermata snapshot-revert w k --paused
	[ "$(qemu-img convert -U -O raw "$b" /dev/stdout | md5sum)" = "$sum" ]
	fermata destroy w
	assert_images_ok w
}

@test "a GiB in use (the long form: three): handed over, what differs, baked, with a standby: every page as it was" {
	instant_vm 2 "memory=$([ -z "${FERMATA_SOAK-}" ] && echo 1100 || echo 4096)M" \
		"fill=$([ -z "${FERMATA_SOAK-}" ] && echo 1000 || echo 3000)" dirty=200
	vm_start w
	from=$(mark w)
	fermata snapshot-create-as w gold --instant=handover
	assert_one_instant w "$from"
	assert_pattern
	back_to gold
	fermata snapshot-create-as w more --instant
	fermata snapshot-bake w more
	fermata standby w more
	wait_counter_above w $(($(last_counter w) + 20))
	back_to more
	back_to gold --verify
}

@test "what cannot be: refused in one line, nothing is touched" {
	witness_vm w 1
	printf '\n[qemu]\narg = -device VGA\n' >"$FERMATA_ROOT/vga"
	fails 1 "the VM is off" snapshot-create-as w k --instant
	fails 2 "not 'later'" snapshot-create-as w k --instant=later
	vm_start w
	fails 1 "exclude each other" snapshot-create-as w k --instant --disk-only
	mkdir -p "$(state_files)"
	: >"$FERMATA_ROOT/k.ram"
	fails 1 "k.ram is there already" snapshot-create-as w k --instant --memspec "$FERMATA_ROOT/k.mem"
	assert_nothing k
	# No file to hand over: copied, and it says so.
	fermata snapshot-create-as w k --instant=handover 2>"$FERMATA_ROOT/err"
	grep -q "no file" "$FERMATA_ROOT/err"
	fermata snapshot-delete w k
	fermata destroy w
	cat "$FERMATA_ROOT/vga" >>"$FERMATA_ROOT/etc/fermata/w.conf"
	sed -i '0,/^\[qemu\]/!{/^\[qemu\]/d}' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	fails 1 "vga.vram' is memory of a device" snapshot-create-as w k --instant
	assert_nothing k
	assert_one_instant w
	fermata destroy w
	# A memory that does not fit is said before QEMU dies of it.
	mkdir "$FERMATA_ROOT/small"
	mount -t tmpfs -o size=20M none "$FERMATA_ROOT/small" || skip "cannot mount"
	sed -i "1i memory-mode = instant\nmemory-dir = $FERMATA_ROOT/small" "$FERMATA_ROOT/etc/fermata/w.conf"
	fails 1 "cannot have 64 MiB of memory in $FERMATA_ROOT/small" start w
	assert_state w "shut off"
	[ -z "$(ls -A "$FERMATA_ROOT/small")" ]
}

@test "damaged, short or gone: refused with the place, and the present goes on" {
	witness_vm w 1 fill=8
	vm_start w
	fermata snapshot-create-as w flat --instant
	back_to flat
	wait_counter_above w 10 60 "$(mark w)"
	fermata snapshot-create-as w some --instant
	cp -a --sparse=always "$(state_files)" "$FERMATA_ROOT/kept"
	again() {
		rm -f "$(state_files)"/*.ram "$(state_files)"/*.mem
		cp -a --sparse=always "$FERMATA_ROOT"/kept/*.ram "$FERMATA_ROOT"/kept/*.mem "$(state_files)"
	}
	flat=$(ram_of flat) some=$(ram_of some)
	for at in 0 1000000 5000000; do
		at=$(data_in "$flat" $at)
		flip "$flat" "$at"
		fails 1 "$flat is damaged: the memory at byte $((at >> 20 << 20))" snapshot-verify w flat
		fails 1 "is damaged" snapshot-revert w flat --verify
		fails 1 "is damaged" snapshot-verify w some
		again
	done
	for at in 0 5000 $(($(stat -c %s "$some") - 1)); do
		flip "$some" $at
		fails 1 "$some is damaged: the memory at byte $((at >> 20 << 20))" snapshot-revert w some
		again
	done
	for mem in "${flat%.ram}.mem" "${some%.ram}.mem"; do
		size=$(stat -c %s "$mem")
		for at in 0 40 5000 $((size / 2)) $((size - 9)) $((size - 1)); do
			flip "$mem" $at
			name=$(basename "$mem")
			fails 1 "$mem" snapshot-revert w "${name%-*}"
			again
		done
		truncate -s $((size - 8)) "$mem"
		fails 1 "is damaged" snapshot-revert w "$(basename "${mem%-*}")"
		again
	done
	truncate -s 60M "$flat"
	fails 1 "$flat is damaged: it has 62914560 bytes" snapshot-revert w flat
	fails 1 "$flat is damaged: it has 62914560 bytes" snapshot-revert w some
	again
	rm "$some"
	fails 1 "$some: No such file" snapshot-revert w some
	again
	rm "$flat"
	fails 1 "$flat: No such file" snapshot-revert w some
	again
	# Another's container
	cp "${some%.ram}.mem" "${flat%.ram}.mem"
	fails 1 "is not the memory that was saved there" snapshot-revert w flat
	again
	assert_one_instant w
	[ -z "$(ls -A "$FERMATA_ROOT/run/fermata/w" | grep next)" ]
	back_to some --verify
	back_to flat --verify
}

# kill_everywhere SAMPLES ARGS...: cut the command off, at every second turn with QEMU; what is left is whole or nothing
kill_everywhere() {
	local samples=$1 total n turn=0 from
	shift
	total=$(calls_of snapshot-create-as w zero "$@")
	fermata destroy w
	fermata snapshot-delete w zero
	for n in $(moments "$total" "$samples"); do
		turn=$((turn + 1))
		state_is w running || vm_start w
		from=$(mark w)
		cut_at "$n" snapshot-create-as w "k$n" "$@"
		if [ $((turn % 3)) = 0 ]; then
			pid=$(vm_pid w)
			# In a handover it may have ended by itself.
			[ -z "$pid" ] || { kill -KILL "$pid" || true; wait_gone "$pid"; }
		fi
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		fermata recover w
		not is_pending w
		! state_is w running || assert_one_instant w "$from"
		[ -z "$(ls -A "$FERMATA_ROOT/dev/shm" 2>/dev/null)" ]
		[ ! -e "$FERMATA_ROOT/run/fermata/w/next/pid" ]
		[ -z "$(ls "$(state_files)"/*.part 2>/dev/null)" ]
		if listed w "k$n" && fermata snapshot-info w "k$n" | grep -q '^RAM: '; then
			fermata snapshot-verify w "k$n"
			back_to "k$n" --running
		elif ! listed w "k$n"; then
			assert_nothing "k$n"
		fi
		# From a cold start, so that the memory is a file of its own again.
		! state_is w running || fermata destroy w
		for s in $(fermata snapshot-list w --name); do fermata snapshot-delete w "$s"; done
	done
	vm_start w
	assert_one_instant w
	fermata destroy w
	assert_images_ok w
}

@test "cut off while it is copied: whole or nothing, with QEMU or without" {
	need_strace
	instant_vm 2 size=16 fill=4
	vm_start w
	kill_everywhere 10 --instant
}

@test "cut off while it is handed over: the guest is in one of the two, or in the checkpoint" {
	need_strace
	instant_vm 2 size=16 fill=4
	vm_start w
	kill_everywhere 16 --instant=handover
}

@test "a call that fails on the way: taken whole, or the guest runs on and nothing is left" {
	need_strace
	instant_vm 1 size=16 fill=4
	vm_start w
	for how in copy handover; do
		for call in pwrite64:ENOSPC:1 pwrite64:EIO:3 ftruncate:EIO:1 fsync:EIO:3 fsync:EIO:4 rename:EIO:2 rename:ENOSPC:3 \
			linkat:EIO:1 symlink:ENOSPC:1 memfd_create:ENOMEM:1 pread64:EIO:2 fallocate:ENOSPC:1; do
			IFS=: read -r name error nth <<<"$call"
			state_is w running || vm_start w
			from=$(mark w)
			status=0
			timeout 180 strace -qq -o /dev/null -e "inject=$name:error=$error:when=$nth" "$FERMATA_BIN" --root "$FERMATA_ROOT" \
				snapshot-create-as w k --instant=$how >"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err" || status=$?
			echo "$how $call: $status $(cat "$FERMATA_ROOT/err")"
			[ $status != 0 ] || fermata snapshot-info w k | grep -q '^RAM: '
			[ $status = 0 ] || [ -s "$FERMATA_ROOT/err" ]
			fermata recover w
			assert_state w running
			assert_one_instant w "$from"
			[ -z "$(ls -A "$FERMATA_ROOT/dev/shm" 2>/dev/null)" ]
			if listed w k; then
				! fermata snapshot-info w k | grep -q '^RAM: ' || back_to k --verify
			else
				assert_nothing k
			fi
			fermata destroy w
			! listed w k || fermata snapshot-delete w k
			assert_nothing k
		done
	done
}

# A second QEMU for the VM waits, and nobody else does
assert_standby() {
	fermata standby w | grep -qx "A standby for '$1' waits"
	grep -q '[0-9]' "$FERMATA_ROOT/run/fermata/w/standby/pid"
	[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
}

assert_no_standby() {
	fails 1 "there is no standby" standby w
	[ ! -e "$FERMATA_ROOT/run/fermata/w/standby" ]
	[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
	not grep -q '"standby"' "$(state_files)/state.json"
}

# Whether the host's QEMU opens for reading what it maps
maps_readonly() {
	grep -q '"maps-readonly": true' "$FERMATA_ROOT"/var/lib/fermata/.probe/qemu-*.json
}

@test "read-only: a checkpoint on a file system that cannot be written is gone back to where it lies, or from a copy that is named" {
	local said=0
	witness_vm w 1 fill=16 dirty=2
	mkdir "$FERMATA_ROOT/small"
	vm_start w
	fermata snapshot-create-as w gold --instant --memspec "$FERMATA_ROOT/small/gold.mem"
	back_to gold
	wait_counter_above w 10 60 "$(mark w)"
	fermata snapshot-create-as w more --instant --memspec "$FERMATA_ROOT/small/more.mem"
	fermata snapshot-info w more | grep -qxE "RAM Base: +$FERMATA_ROOT/small/gold.ram"
	mount --bind "$FERMATA_ROOT/small" "$FERMATA_ROOT/small" || skip "may not mount"
	mount -o remount,bind,ro "$FERMATA_ROOT/small"
	not touch "$FERMATA_ROOT/small/x"
	maps_readonly || said=1
	fermata snapshot-verify w gold 2>"$FERMATA_ROOT/err"
	[ "$(grep -c 'is copied' "$FERMATA_ROOT/err")" = $said ]
	back_to gold 2>"$FERMATA_ROOT/err"
	[ "$(grep -c 'gold.ram has is copied to' "$FERMATA_ROOT/err")" = $said ]
	back_to more
	fermata standby w gold
	back_to gold
	fermata standby w --end
	# What is taken of such a guest, whole or by what differs, is a checkpoint like another.
	fermata snapshot-create-as w next --instant
	fermata destroy w
	for name in next more gold next; do back_to $name --verify; done
	fermata destroy w
	back_to next
	[ "$(ls "$FERMATA_ROOT/small" | wc -l)" = 4 ]
	[ -z "$(ls -A "$FERMATA_ROOT/dev/shm" 2>/dev/null)" ]
	fermata snapshot-delete w gold 2>"$FERMATA_ROOT/err"
	grep -q "cannot remove $FERMATA_ROOT/small/gold.mem: Read-only file system" "$FERMATA_ROOT/err"
	not listed w gold
	back_to more
}

@test "read-only: no room for the copy: refused, and the present goes on" {
	local pid
	witness_vm w 1 fill=16
	mkdir "$FERMATA_ROOT/small"
	vm_start w
	maps_readonly && skip "this QEMU maps where it lies"
	fermata snapshot-create-as w gold --instant --memspec "$FERMATA_ROOT/small/gold.mem"
	mount --bind "$FERMATA_ROOT/small" "$FERMATA_ROOT/small" || skip "may not mount"
	mount -o remount,bind,ro "$FERMATA_ROOT/small"
	pid=$(vm_pid w)
	mkdir -p "$FERMATA_ROOT/dev"
	rm -rf "$FERMATA_ROOT/dev/shm"
	ln -s "$FERMATA_ROOT/small" "$FERMATA_ROOT/dev/shm"
	not fermata snapshot-revert w gold 2>"$FERMATA_ROOT/err"
	grep -q "cannot revert to 'gold': cannot create the guest's memory in" "$FERMATA_ROOT/err"
	[ "$(vm_pid w)" = "$pid" ]
	wait_counter_above w 5 60 "$(mark w)"
	rm "$FERMATA_ROOT/dev/shm"
	back_to gold
}

@test "standby: a second QEMU waits with the checkpoint, takes over, and is replaced" {
	witness_vm w 2 fill=16
	vm_start w
	fermata snapshot-create-as w disks --disk-only
	fermata snapshot-create-as w gold --instant
	fermata snapshot-create-as w file --memspec snapshot=external
	assert_no_standby
	fails 1 "no checkpoint with its memory in a file" standby w disks
	fails 1 "there is no snapshot 'none'" standby w none
	fails 2 "takes no name" standby w gold --end
	fermata standby w gold
	assert_standby gold
	second=$(pid_in "$FERMATA_ROOT/run/fermata/w/standby/pid")
	for n in 1 2; do
		wait_counter_above w 10 60 "$(mark w)"
		back_to gold
		assert_standby gold
	done
	not dead "$(vm_pid w)"
	[ "$(vm_pid w)" != "$second" ]
	# Going elsewhere leaves it alone; asking for another ends it.
	back_to file
	assert_standby gold
	fermata standby w file
	assert_standby file
	back_to file
	fermata destroy w
	assert_standby file
	back_to file --running
	# It goes with what it stands on, and when it dies.
	kill -KILL "$(pid_in "$FERMATA_ROOT/run/fermata/w/standby/pid")"
	wait_until 10 dead "$(pid_in "$FERMATA_ROOT/run/fermata/w/standby/pid")"
	fermata recover w 2>"$FERMATA_ROOT/err"
	grep -q "its QEMU has ended" "$FERMATA_ROOT/err"
	assert_no_standby
	fermata standby w gold
	fermata snapshot-delete w file 2>"$FERMATA_ROOT/err"
	grep -q "the standby for 'gold' is given up" "$FERMATA_ROOT/err"
	assert_no_standby
	fermata standby w gold
	fermata standby w --end
	assert_no_standby
	assert_one_instant w
	fermata destroy w
	contents >/dev/null
	echo " $(state_files)/gold-2.mem $(state_files)/gold-2.ram" >>"$FERMATA_ROOT/files"
	assert_no_orphans
}

active_of() {
	fermata domblklist w | awk -v d="$1" '$1 == d { print $2 }'
}

@test "standby: of a VM that is off, with a disk that has space to give back: the record names the VM's own images" {
	witness_vm w 2
	sed -i '/^\[disk vdb\]/a snapshot = no' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	wait_counter_above w $(($(last_counter w) + 20))
	fermata destroy w
	top=$(active_of vda)
	sum=$(md5sum <"$top")
	# A checkpoint that QEMU gave up left memory behind the end of the other disk.
	perl -MJSON::PP -0777 -i -ne 'my $r = decode_json($_);
		push @{$r->{disks}}, { name => "vdb", reclaim => JSON::PP::true }; print encode_json($r)' \
		"$FERMATA_ROOT/var/lib/fermata/w/state.json"
	fermata standby w k
	assert_standby k
	[ "$(active_of vda)" = "$top" ]
	[ "$(md5sum <"$top")" = "$sum" ]
	fermata standby w --end
	assert_no_standby
	fermata start w --paused
	[ "$(active_of vda)" = "$top" ]
}

one_at_most() {
	[ "$(pgrep -cf "guest=w .*$FERMATA_ROOT")" -le 1 ]
}

@test "standby: cut off anywhere, nobody waits in vain and the guest goes on" {
	need_strace
	witness_vm w 2 size=16 fill=4
	vm_start w
	fermata snapshot-create-as w gold --instant
	total=$(calls_of standby w gold)
	fermata standby w --end
	for n in $(moments "$total" 8); do
		from=$(mark w)
		cut_at "$n" standby w gold
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		fermata recover w
		[ ! -e "$FERMATA_ROOT/run/fermata/w/next/pid" ]
		if fermata standby w; then assert_standby gold; else assert_no_standby; fi
		assert_one_instant w "$from"
		! fermata standby w || fermata standby w --end
	done
	fermata standby w gold
	total=$(calls_of snapshot-revert w gold)
	for n in $(moments "$total" 12); do
		fermata standby w gold
		cut_at "$n" snapshot-revert w gold
		echo "revert cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		fermata recover w
		not is_pending w
		state_is w running || fermata snapshot-revert w gold
		assert_one_instant w
	done
	fermata standby w --end || true
	assert_no_standby
	wait_until 10 one_at_most
	fermata destroy w
	assert_images_ok w
}

# in_guest COMMAND: run it in the Linux guest by its agent, print what it said
in_guest() {
	local pid answer
	pid=$(fermata qemu-agent-command l "{\"execute\":\"guest-exec\",\"arguments\":{\"path\":\"/bin/sh\",\"arg\":[\"-c\",\"$1\"],\"capture-output\":true}}" |
		grep -o '"pid": *[0-9]*' | grep -o '[0-9]*')
	exited() {
		answer=$(fermata qemu-agent-command l "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":$pid}}")
		[[ $answer == *'"exited": true'* || $answer == *'"exited":true'* ]]
	}
	wait_until 60 exited
	sed -n 's/.*"out-data": *"\([^"]*\)".*/\1/p' <<<"$answer" | base64 -d
}

@test "linux: handed over and gone back to, random data in its memory as it was, its file system whole" {
	linux_vm l
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/l.conf"
	fermata start l
	said_ready() { tr -d '\r' <"$FERMATA_ROOT/l.log" | grep -q '^READY'; }
	wait_until 240 said_ready
	in_guest 'dd if=/dev/urandom of=/run/data bs=1M count=16 2>/dev/null; md5sum /run/data >/run/sum; echo one >/mnt/word; sync'
	fermata snapshot-create-as l gold --instant=handover
	[ "$(in_guest 'md5sum -c /run/sum')" = "/run/data: OK" ]
	in_guest 'dd if=/dev/urandom of=/run/data bs=1M count=16 2>/dev/null; echo two >/mnt/word; sync'
	[ "$(in_guest 'md5sum -c /run/sum 2>/dev/null')" != "/run/data: OK" ]
	fermata snapshot-create-as l changed --instant
	fermata snapshot-revert l gold
	[ "$(in_guest 'md5sum -c /run/sum')" = "/run/data: OK" ]
	[ "$(in_guest 'cat /mnt/word')" = one ]
	fermata destroy l
	fermata snapshot-revert l changed
	[ "$(in_guest 'md5sum -c /run/sum 2>/dev/null')" != "/run/data: OK" ]
	[ "$(in_guest 'cat /mnt/word')" = two ]
	fermata snapshot-revert l gold --verify
	[ "$(in_guest 'md5sum -c /run/sum; dmesg | grep -c EXT4-fs.error')" = $'/run/data: OK\n0' ]
	fermata shutdown l --mode agent --wait
	assert_state l "shut off"
	assert_images_ok l
}

# The moments of a hand-over behind which somebody stands guard, of one that was not cut off: "w" is as it was afterwards.
aims_in_handover() {
	vm_start w
	strace -qq -s 300 -o "$FERMATA_ROOT/calls" "$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-create-as w k --instant=handover >&2
	fermata destroy w >&2
	fermata snapshot-delete w k >&2
	aims "$FERMATA_ROOT/calls"
}

@test "handed over, cut off at the very change: from one QEMU's end to the other's place, the guest goes on by itself" {
	need_strace
	instant_vm 2 size=16 fill=4
	# The devices' state being saved sets the images free, "cont" lets the second one go on.
	aims_in_handover <<-'END' >"$FERMATA_ROOT/aims"
		sendmsg "stop
		sendmsg query-status
		sendmsg xen-save-devices-state
		sendmsg migrate-incoming
		sendmsg query-migrate
		sendmsg "cont
		sendmsg query-status
		kill SIGTERM
		kill SIGKILL
		unlink run/fermata/w/qmp.sock
		unlink run/fermata/w/pid"
		rename run/fermata/w/next/pid
		rename run/fermata/w/next/qmp.sock
		rename run/fermata/w/next/events.sock
		rename run/fermata/w/next/console.sock
		sendmsg migrate-set-capabilities
		rename k-1.ram.part
		renameat2 k-1.mem.part
		unlink run/fermata/w/devices-
		unlink dev/shm/
	END
	for at in $(sed 1d "$FERMATA_ROOT/aims"); do
		vm_start w
		from=$(mark w)
		cut=$n_cut
		inject "${at%:*}" "${at#*:}" snapshot-create-as w k --instant=handover
		echo "cut at $at: $((n_cut - cut))"
		# Without a further command
		wait_until 20 state_is w running
		wait_until 20 not is_pending w
		assert_one_instant w "$from"
		if said_since w "$from" '^boot'; then return 1; fi
		[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
		[ -z "$(ls -A "$FERMATA_ROOT/dev/shm" 2>/dev/null)" ]
		if listed w k; then
			fermata snapshot-verify w k
			back_to k
		else
			assert_nothing k
		fi
		fermata destroy w
		! listed w k || fermata snapshot-delete w k
	done
	# How often each is called differs from run to run; most of these are there each time.
	[ $n_cut -ge 13 ]
}

@test "handed over, the second QEMU cannot have the disks, or dies as it goes on: the present one goes on as if nothing was" {
	need_strace
	instant_vm 2 size=16 fill=4
	vm_start w
	pid=$(vm_pid w)
	from=$(mark w)
	# Somebody else has one of the new overlays open when its turn comes.
	hold symlink 1 snapshot-create-as w k --instant=handover
	overlay=$(echo "$FERMATA_ROOT"/images/*-vdb.k-1.qcow2)
	size=$(stat -c %s "$overlay")
	qemu-io "json:{'driver':'qcow2','file':{'driver':'file','filename':'$overlay'},'backing':null}" \
		-c "write 0 64k" -c "sleep 60000" 3>&- &
	holder=$!
	has_grown() { [ "$(stat -c %s "$overlay")" -gt "$size" ]; }
	wait_until 20 has_grown
	let_go
	status=0
	wait $tracer || status=$?
	cat "$FERMATA_ROOT/err"
	# What others have open is not removed, until they are gone.
	[ $status = 3 ]
	grep -q '"write" lock; and could not undo: vdb: .*in use by process '$holder' ' "$FERMATA_ROOT/err"
	assert_state w running
	kill $holder
	wait_gone $holder
	fermata recover w
	assert_state w running
	[ "$(vm_pid w)" = "$pid" ]
	[ ! -e "$FERMATA_ROOT/run/fermata/w/next" ]
	assert_nothing k
	assert_one_instant w "$from"
	# Its memory file could not be given a name a second time.
	fails 1 "was tried before; --instant=copy" snapshot-create-as w k --instant=handover
	assert_nothing k
	fermata destroy w
	vm_start w
	pid=$(vm_pid w)
	from=$(mark w)
	# The second one runs already when it dies, and fermata with it.
	hold kill:retval=0 1 snapshot-create-as w k --instant=handover
	kill -KILL "$(cut -d' ' -f1 "$FERMATA_ROOT/run/fermata/w/next/pid")"
	kill -KILL "$held"
	let_go
	wait $tracer || true
	wait_until 20 state_is w running
	wait_until 20 not is_pending w
	[ "$(vm_pid w)" = "$pid" ]
	assert_nothing k
	assert_one_instant w "$from"
	fermata destroy w
	assert_images_ok w
	# One that says nothing, about when it is to go on, may have gone on: it is the guest.
	at=$(aims_in_handover <<<'sendmsg "cont')
	vm_start w
	from=$(mark w)
	hold sendmsg "${at#*:}" snapshot-create-as w k --instant=handover
	next=$(cut -d' ' -f1 "$FERMATA_ROOT/run/fermata/w/next/pid")
	kill -STOP "$next"
	let_go
	status=0
	wait $tracer || status=$?
	cat "$FERMATA_ROOT/err"
	[ $status = 3 ]
	kill -CONT "$next"
	fermata recover w
	assert_state w running
	[ "$(vm_pid w)" = "$next" ]
	assert_one_instant w "$from"
	back_to k
	fermata destroy w
	fermata snapshot-delete w k
	# One that is paused stays so.
	vm_start w
	wait_counter_above w 5 60 "$from"
	fermata suspend w
	fermata snapshot-create-as w k --instant=handover
	assert_state w paused
	fermata resume w
	assert_one_instant w "$from"
	back_to k --running
	fermata destroy w
	assert_images_ok w
}

@test "gone back to, cut off as the present QEMU is told to end: the other one takes its place by itself" {
	need_strace
	witness_vm w 2 size=16 fill=4
	vm_start w
	fermata snapshot-create-as w k --instant
	fermata snapshot-create-as w f --memspec snapshot=external
	for name in k f k; do
		pid=$(vm_pid w)
		wait_counter_above w 30 60 "$(mark w)"
		cut=$n_cut
		# The call is made: strace's signal comes behind it, and QEMU is ending.
		inject kill 1 snapshot-revert w $name
		[ $n_cut -gt $cut ]
		wait_until 20 not is_pending w
		assert_state w running
		assert_one_instant w
		fermata recover w
	done
	fermata destroy w
	assert_images_ok w
}

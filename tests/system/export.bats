# A snapshot as one file: exported from one host, through a pipe too, imported on another; whole, or nothing of it.
load helper

setup() { root_make; }
teardown() {
	other_end
	root_end
}

# A second host, with the definition of VM w and nothing else: $OTHER
other_make() {
	OTHER=$(mktemp -d "${FERMATA_TEST_TMP:-${TMPDIR:-/tmp}}/t.XXXXXX")
	mkdir -p "$OTHER/etc/fermata" "$OTHER/images"
	sed "s|$FERMATA_ROOT|$OTHER|" "$FERMATA_ROOT/etc/fermata/w.conf" >"$OTHER/etc/fermata/w.conf"
}

other_end() {
	[ -z "${OTHER-}" ] || FERMATA_ROOT=$OTHER root_end
}

# The same on the other host
there() {
	local FERMATA_ROOT=$OTHER
	"$@"
}

# What is there of files, but for the record itself and what runs
files() {
	find "$1/images" "$1/var" "$1/small" -type f ! -name state.json ! -path "*/.probe/*" 2>/dev/null | sort
}

# The other host is as it was made: no file, nothing on record
assert_nothing_there() {
	[ -z "$(files "$OTHER")" ] || { files "$OTHER"; return 1; }
	[ ! -e "$OTHER/var/lib/fermata/w/state.json" ] || there not grep -q '"name"' "$OTHER/var/lib/fermata/w/state.json"
	there not is_pending w
}

# same DISK FILE [convert's options...]: a guest reads the same of the file as of DISK's image on the other host
same() {
	local image
	image=$(there fermata snapshot-info w "$snap" --output json | grep -o "\"$OTHER[^\"]*w-$1[^\"]*\"" | tr -d '"')
	qemu-img convert -U -O raw "${@:3}" "$2" "$FERMATA_ROOT/flat"
	qemu-img compare -q -f raw -F qcow2 "$FERMATA_ROOT/flat" "$image"
	qemu-img check -q "$image"
	[ "$(stat -c %a "$image")" = 600 ]
}

# Change one byte of a file
flip() {
	perl -e 'open my $f, "+<", $ARGV[0] or die; seek $f, $ARGV[1], 0; read $f, my $c, 1; seek $f, $ARGV[1], 0;
		print $f chr(ord($c) ^ 4)' "$1" "$2"
}

@test "a checkpoint of a running guest, through a pipe to a host that has no image yet" {
	witness_vm w 3 raw=vdc fill=16
	other_make
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w golden "as made at the factory" --memspec "$FERMATA_ROOT/golden.mem"
	high=$(last_counter w)
	from=$(mark w)
	fermata snapshot-export w golden "$FERMATA_ROOT/golden.far" >"$FERMATA_ROOT/out"
	grep -qx "Domain snapshot golden exported to $FERMATA_ROOT/golden.far" "$FERMATA_ROOT/out"
	[ "$(stat -c %a "$FERMATA_ROOT/golden.far")" = 600 ]
	assert_one_instant w "$from"
	fermata snapshot-export w golden - | tee "$FERMATA_ROOT/piped" |
		there fermata snapshot-import w - >"$FERMATA_ROOT/out"
	grep -qx 'Domain snapshot golden imported' "$FERMATA_ROOT/out"
	cmp "$FERMATA_ROOT/golden.far" "$FERMATA_ROOT/piped"
	there fermata snapshot-info w golden >"$FERMATA_ROOT/out"
	grep -qE '^Current: +yes$' "$FERMATA_ROOT/out"
	grep -qE '^Parent: +-$' "$FERMATA_ROOT/out"
	grep -qE '^State: +running$' "$FERMATA_ROOT/out"
	grep -qE '^Description: +as made at the factory$' "$FERMATA_ROOT/out"
	there fermata snapshot-verify w golden
	snap=golden
	# What was frozen is the images as they were defined.
	for disk in vda vdb; do same $disk "$FERMATA_ROOT/images/w-$disk.qcow2" -f qcow2; done
	same vdc "$FERMATA_ROOT/images/w-vdc.raw" -f raw
	for turn in 1 2; do
		from=$(there mark w)
		there fermata snapshot-revert w golden
		there assert_back_in w "$from" "$low" "$high"
		there assert_one_instant w "$from"
		[ "$(there ask w v '^V')" = "V ok" ]
		[ $turn = 2 ] || there fermata destroy w
	done
	# It is a VM like any other from here on.
	there fermata snapshot-create-as w next --disk-only
	there fermata snapshot-delete w golden
	from=$(there mark w)
	there assert_one_instant w "$from"
	there fermata destroy w
	[ "$(files "$OTHER" | wc -l)" = 6 ] || { files "$OTHER"; return 1; }
}

@test "boot and start on a host that has no image yet" {
	witness_vm w 2
	printf '\n[boot]\nfrom = golden\nfallback = cold\ndiscard-changes = yes\n' | conf_add w
	other_make
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w golden --memspec "$FERMATA_ROOT/golden.mem"
	high=$(last_counter w)
	fermata snapshot-export w golden | there fermata snapshot-import w
	from=$(there mark w)
	there fermata boot w
	there assert_back_in w "$from" "$low" "$high"
	there assert_one_instant w "$from"
	there fermata destroy w
	# The disks alone are as after a power cut.
	from=$(there mark w)
	there fermata start w
	there will_say w "$from" 60 says '^boot' >/dev/null
	there assert_one_instant w "$from"
}

@test "a checkpoint inside the images, and snapshots of the disks alone, beside what is there" {
	witness_vm w 2 fill=16
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w in
	high=$(last_counter w)
	wait_counter_above w 20 60 "$(mark w)"
	fermata snapshot-create-as w disks --disk-only
	wait_counter_above w 20 60 "$(mark w)"
	fermata suspend w
	fermata snapshot-create-as w still --memspec snapshot=external
	fermata resume w
	used=$(fermata domblklist w)
	# The VM runs, and goes on running on what it runs on.
	from=$(mark w)
	for s in in disks still; do
		fermata snapshot-export w $s "$FERMATA_ROOT/$s.far"
		fermata snapshot-import w --name "$s-2" <"$FERMATA_ROOT/$s.far"
		fermata snapshot-verify w "$s-2"
	done
	[ "$(fermata domblklist w)" = "$used" ]
	assert_one_instant w "$from"
	fermata snapshot-list w --external --name | sort | tr '\n' ' ' | grep -qx 'disks disks-2 in-2 still still-2 '
	[ "$(fermata snapshot-current w --name)" = still ]
	fermata snapshot-list w --roots --name | grep -qx in-2
	# What was inside the images is in files of its own now, memory and all.
	from=$(mark w)
	fermata snapshot-revert w in-2
	assert_back_in w "$from" "$low" "$high"
	assert_one_instant w "$from"
	[ "$(ask w v '^V')" = "V ok" ]
	fermata snapshot-revert w still-2
	assert_state w paused
	fermata resume w
	assert_one_instant w
	fermata destroy w
	qemu-img convert -O raw -l snapshot.name=in "$FERMATA_ROOT/images/w-vda.qcow2" "$FERMATA_ROOT/flat"
	qemu-img compare -q -f raw -F qcow2 "$FERMATA_ROOT/flat" "$FERMATA_ROOT"/images/w-vda.in-2-*.qcow2
	for d in vda vdb; do
		qemu-img compare -q "$FERMATA_ROOT"/images/w-$d.disks-2-*.qcow2 "$FERMATA_ROOT"/images/w-$d.disks-[0-9].qcow2 && return 1
		qemu-img compare -q "$FERMATA_ROOT"/images/w-$d.disks-2-*.qcow2 "$FERMATA_ROOT"/images/w-$d.qcow2
	done
	# Off, and an export of an import: the same but for its name, and the mark of what made it
	fermata snapshot-revert w disks-2
	fermata snapshot-export w disks-2 "$FERMATA_ROOT/again.far"
	fermata snapshot-import w "$FERMATA_ROOT/again.far" --name third
	qemu-img compare -q -s "$FERMATA_ROOT"/images/w-vda.disks-2-[0-9].qcow2 "$FERMATA_ROOT"/images/w-vda.third-*.qcow2
	for s in third disks-2 still-2 in-2; do fermata snapshot-delete w $s; done
	[ -z "$(ls "$FERMATA_ROOT"/images/*still-2-* "$FERMATA_ROOT"/images/*in-2-[0-9].qcow2 "$FERMATA_ROOT"/var/lib/fermata/w/*-2-*.mem 2>/dev/null)" ]
	for s in in disks still; do fermata snapshot-verify w $s; done
}

@test "an instant checkpoint stays one, and one of differing pages comes whole" {
	witness_vm w 2 fill=24 dirty=20
	other_make
	vm_start w
	wait_counter_above w 10
	fermata snapshot-create-as w gold --instant
	fermata snapshot-revert w gold
	wait_counter_above w 10 60 "$(mark w)"
	low=$(last_counter w)
	fermata snapshot-create-as w more --instant
	high=$(last_counter w)
	# It has the pages that differ, and stands on the other's.
	grep -q '"ram-base"' "$FERMATA_ROOT/var/lib/fermata/w/state.json"
	fermata snapshot-export w gold "$FERMATA_ROOT/gold.far"
	fermata snapshot-export w more | there fermata snapshot-import w
	there fermata snapshot-import w "$FERMATA_ROOT/gold.far"
	there not grep -q '"ram-base"' "$OTHER/var/lib/fermata/w/state.json"
	ram=$(ls "$OTHER"/var/lib/fermata/w/more-*.ram)
	[ "$(stat -c '%a %s' "$ram")" = "600 $((64 << 20))" ]
	[ "$(stat -c %b "$ram")" -lt $((48 << 11)) ]
	cmp "$OTHER"/var/lib/fermata/w/gold-*.ram "$FERMATA_ROOT"/var/lib/fermata/w/gold-*.ram
	there fermata snapshot-verify w more
	there fermata snapshot-verify w gold
	sum=$(md5sum <"$ram")
	from=$(there mark w)
	there fermata snapshot-revert w more
	there assert_back_in w "$from" "$low" "$high"
	there assert_one_instant w "$from"
	[ "$(there ask w v '^V')" = "V ok" ]
	[ "$sum" = "$(md5sum <"$ram")" ]
	there fermata destroy w
	# Damage of the memory itself does not get into an archive.
	ram=$(ls "$FERMATA_ROOT"/var/lib/fermata/w/gold-*.ram)
	at=$(perl -e 'open my $f, "<", $ARGV[0] or die; my $at = sysseek($f, 0, 3) or die; print $at + 100' "$ram")
	flip "$ram" "$at"
	fails 1 "is damaged: the memory at byte" snapshot-export w gold "$FERMATA_ROOT/x.far"
	fails 1 "is damaged: the memory at byte" snapshot-export w more "$FERMATA_ROOT/x.far"
	[ -z "$(ls "$FERMATA_ROOT"/x.far* 2>/dev/null)" ]
	# Cut off in the middle, nothing of either file is left.
	if command -v strace >/dev/null; then
		rm -rf "$OTHER/images" "$OTHER/var"
		mkdir "$OTHER/images"
		there calls_of snapshot-import w "$FERMATA_ROOT/gold.far" >/dev/null
		rm -rf "$OTHER/images" "$OTHER/var"
		mkdir "$OTHER/images"
		there inject pwrite64 $(($(grep -cx pwrite64 "$OTHER/calls") - 5)) snapshot-import w "$FERMATA_ROOT/gold.far"
		[ -n "$(ls "$OTHER"/var/lib/fermata/w/*.ram* 2>/dev/null)" ]
		there fermata recover w
		assert_nothing_there
	fi
}

@test "the firmware's variables go along" {
	[ -r /usr/share/seabios/bios-256k.bin ] || skip "there is no SeaBIOS to be the firmware"
	witness_vm w 1 size=16
	sed -i "1i firmware = /usr/share/seabios/bios-256k.bin\nnvram = $FERMATA_ROOT/images/vars\nnvram-format = raw" \
		"$FERMATA_ROOT/etc/fermata/w.conf"
	head -c 65536 /dev/urandom >"$FERMATA_ROOT/images/vars"
	cp "$FERMATA_ROOT/images/vars" "$FERMATA_ROOT/kept"
	other_make
	fermata snapshot-create-as w off --disk-only
	head -c 65536 /dev/zero >"$FERMATA_ROOT/images/vars"
	fermata snapshot-export w off "$FERMATA_ROOT/off.far"
	there fermata snapshot-import w "$FERMATA_ROOT/off.far"
	there fermata snapshot-revert w off
	cmp "$FERMATA_ROOT/kept" "$OTHER/images/vars"
	# A definition that has no place for them
	sed -i '/^firmware/d; /^nvram/d' "$OTHER/etc/fermata/w.conf"
	there fails 1 "no raw nvram for them; --force leaves them out" snapshot-import w "$FERMATA_ROOT/off.far" --name off2
	there fermata snapshot-import w "$FERMATA_ROOT/off.far" --name off2 --force
	# In a qcow2 image they are a disk of the snapshot.
	sed -i 's/^nvram-format.*/nvram-format = qcow2/' "$FERMATA_ROOT/etc/fermata/w.conf"
	qemu-img convert -f raw -O qcow2 "$FERMATA_ROOT/kept" "$FERMATA_ROOT/images/vars"
	fermata snapshot-create-as w in
	fermata snapshot-export w in "$FERMATA_ROOT/in.far"
	sed -i "1i firmware = /usr/share/seabios/bios-256k.bin\nnvram = $OTHER/images/vars\nnvram-format = raw" "$OTHER/etc/fermata/w.conf"
	: >"$OTHER/images/vars"
	there fermata snapshot-import w "$FERMATA_ROOT/in.far"
	there fermata snapshot-revert w in
	cmp "$FERMATA_ROOT/kept" "$OTHER/images/vars"
}

@test "what does not fit is refused in one line, nothing is touched" {
	witness_vm w 2 size=16
	other_make
	vm_start w
	fermata snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	fermata destroy w
	far=$FERMATA_ROOT/k.far
	fermata snapshot-export w k "$far"
	fails 1 "no snapshot 'nothing'" snapshot-export w nothing "$FERMATA_ROOT/no.far"
	fails 1 "cannot create $FERMATA_ROOT/nowhere/x" snapshot-export w k "$FERMATA_ROOT/nowhere/x"
	image=$FERMATA_ROOT/images/w-vda.qcow2
	sum=$(md5sum <"$image")
	fails 1 "$image is there already, and belongs to VM 'w'" snapshot-export w k "$image"
	[ "$sum" = "$(md5sum <"$image")" ]
	fermata snapshot-export w k "$far" # what is an archive is replaced
	fails 1 "there is a snapshot of that name; --name gives it another" snapshot-import w "$far"
	fails 1 "a slash or a control character" snapshot-import w "$far" --name a/b
	fails 1 "cannot open $FERMATA_ROOT/nowhere" snapshot-import w "$FERMATA_ROOT/nowhere"
	fails 1 "is no archive of a snapshot" snapshot-import w "$FERMATA_ROOT/k.mem"
	fails 1 "standard input is no archive of a snapshot" snapshot-import w </dev/null
	fails 2 "" snapshot-import
	[ ! -e "$FERMATA_ROOT/no.far" ]
	# A definition of another machine
	conf=$OTHER/etc/fermata/w.conf
	cp "$conf" "$FERMATA_ROOT/conf"
	for change in 's/^memory.*/memory = 65M/|memory = 68157440, the archive 67108864' \
		's/^machine.*/machine = q35/|machine = q35, the archive pc; --force' \
		'1i vcpus = 2|vcpus = 2, the archive 1; --force' \
		's/^.disk vdb./[disk vdx]/|vdb: the VM has no such disk; --force' \
		'/^.disk vdb./a readonly = yes|vdb: the VM has no such disk that can be written; --force'; do
		sed "${change%|*}" "$FERMATA_ROOT/conf" >"$conf"
		there fails 1 "${change#*|}" snapshot-import w "$far"
		assert_nothing_there
	done
	printf '\n[disk vdc]\nfile = images/c.qcow2\nformat = qcow2\n' | cat "$FERMATA_ROOT/conf" - >"$conf"
	there fails 1 "vdc: the archive has no such disk; --force" snapshot-import w "$far"
	printf 'snapshot = no\n' >>"$conf"
	there fermata snapshot-import w "$far" --name three
	cp "$FERMATA_ROOT/conf" "$conf"
	# Disks of another size, though they are there; and with force what can be had
	for d in vda vdb; do qemu-img create -q -f qcow2 "$OTHER/images/w-$d.qcow2" 17M; done
	rm -rf "$OTHER/var" "$OTHER"/images/*.three-*
	there fails 1 "vda: the disk has 17825792 bytes, the archive's 16777216; --force" snapshot-import w "$far"
	sed -i 's/^.disk vdb./[disk vdx]/' "$conf"
	there fermata snapshot-import w "$far" --force
	[ "$(there fermata snapshot-info w k | grep -c 'w-vd')" = 1 ]
	[ "$(there fermata domblklist w | grep -c "images/w-vda.qcow2$")" = 1 ]
	there fermata snapshot-verify w k
	there fails 1 "there is a snapshot of that name" snapshot-import w "$far" --force
	# A disk that is new to the VM gets its image; the present does not stand on the snapshot for that.
	cp "$FERMATA_ROOT/conf" "$conf"
	rm -rf "$OTHER/var" "$OTHER"/images/*
	qemu-img create -q -f qcow2 "$OTHER/images/w-vda.qcow2" 16M
	there fermata snapshot-import w "$far"
	[ "$(there fermata domblklist w | grep -c "images/w-vda.qcow2$")" = 1 ]
	there fermata domblklist w | grep -qE "images/w-vdb[.]k-[0-9]+[.]qcow2$"
	there not fermata snapshot-current w --name
}

@test "torn at every record and flipped anywhere: refused with the place, nothing is left" {
	witness_vm w 2 size=16 memory=16M
	other_make
	vm_start w
	fermata snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	fermata destroy w
	far=$FERMATA_ROOT/k.far
	fermata snapshot-export w k "$far"
	perl -e 'open my $f, "<", $ARGV[0] or die; my $at = 16;
		while (seek($f, $at, 0) && read($f, my $h, 8)) {
			my ($type, $n) = unpack "NN", $h; print "$at $type\n"; $at += 32 + ($n + 7 & ~7) }' "$far" >"$FERMATA_ROOT/records"
	size=$(stat -c %s "$far")
	# The first of each kind of record, every place where the kind changes, the end; and the bytes around
	awk '$2 != last { print $1; print $1 + 20; print $1 - 1 } { last = $2; at = $1 } END { print at + 31 }' "$FERMATA_ROOT/records" \
		>"$FERMATA_ROOT/places"
	perl -e 'srand 7; print int(rand $ARGV[0]), "\n" for 1 .. 12' "$size" >>"$FERMATA_ROOT/places"
	while read -r at; do
		[ "$at" -lt "$size" ] || continue
		head -c "$at" "$far" | there fails 1 "$([ "$at" -lt 16 ] && echo 'is no archive' || echo "it ends after $at bytes")" snapshot-import w
		assert_nothing_there
		flip "$far" "$at"
		there fails 1 "$far" snapshot-import w "$far"
		assert_nothing_there
		flip "$far" "$at"
	done <"$FERMATA_ROOT/places"
	# The place is that of the record.
	at=$(awk '$2 == 2 { n++ } n == 5 { print $1; exit }' "$FERMATA_ROOT/records")
	flip "$far" $((at + 40))
	there fails 1 "memory: $far is damaged: the data of the record at byte $at" snapshot-import w "$far"
	flip "$far" $((at + 40))
	# A memory file that is damaged itself does not get into an archive, and no half of one stays.
	flip "$FERMATA_ROOT/k.mem" 1000000
	fails 1 "k.mem is damaged: the memory at byte 4096" snapshot-export w k "$FERMATA_ROOT/x.far"
	[ -z "$(ls "$FERMATA_ROOT"/x.far* 2>/dev/null)" ]
	there fermata snapshot-import w "$far"
}

@test "a full file system: refused with both numbers, or undone in the middle" {
	[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
	need_strace
	witness_vm w 2 fill=20
	other_make
	mkdir "$OTHER/small"
	mount -t tmpfs -o size=12m fermata-test "$OTHER/small" || skip "cannot mount a tmpfs"
	sed -i "1i snapshot-dir = $OTHER/small" "$OTHER/etc/fermata/w.conf"
	vm_start w
	fermata snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	fermata destroy w
	fermata snapshot-export w k "$FERMATA_ROOT/k.far"
	there fails 1 "MiB free" snapshot-import w "$FERMATA_ROOT/k.far"
	assert_nothing_there
	mount -o remount,size=100m "$OTHER/small"
	# Held behind the write that puts it on record; then there is less room than was found.
	there hold fsync 1 snapshot-import w "$FERMATA_ROOT/k.far"
	there is_pending w
	mount -o remount,size=12m "$OTHER/small"
	let_go
	status=0
	wait $tracer || status=$?
	cat "$OTHER/err"
	[ $status = 1 ]
	grep -q "No space left" "$OTHER/err"
	[ -z "$(ls -A "$OTHER/small")" ]
	rm -f "$OTHER"/{err,stopped}
	assert_nothing_there
	mount -o remount,size=100m "$OTHER/small"
	there fermata snapshot-import w "$FERMATA_ROOT/k.far"
	there fermata snapshot-verify w k
	# The writing side: half an archive is none.
	there fails 1 "No space left" snapshot-export w k /dev/full
	mount -o remount,size=30m "$OTHER/small"
	there fails 1 "No space left" snapshot-export w k "$OTHER/small/k.far"
	[ -z "$(ls "$OTHER"/small/k.far* 2>/dev/null)" ]
}

# Cut off at system calls, one after the other: all of it, or nothing and no file
cut_import() {
	local n total
	rm -rf "$OTHER/was"
	mkdir "$OTHER/was"
	cp -a "$OTHER/images" "$OTHER/var" "$OTHER/was" 2>/dev/null || true
	files "$OTHER" >"$FERMATA_ROOT/before"
	there fermata domblklist w >"$FERMATA_ROOT/used-before" 2>&1 || true
	total=$(there calls_of snapshot-import w "$1")
	files "$OTHER" >"$FERMATA_ROOT/after"
	there fermata domblklist w >"$FERMATA_ROOT/used-after"
	not cmp -s "$FERMATA_ROOT/before" "$FERMATA_ROOT/after"
	for n in $(there moments "$total" 16); do
		rm -rf "$OTHER/images" "$OTHER/var"
		cp -a "$OTHER"/was/* "$OTHER"
		echo "cut at $n of $total, $(sed -n "${n}p" "$OTHER/calls")"
		there cut_at "$n" snapshot-import w "$1"
		there fermata recover w
		there not is_pending w
		files "$OTHER" >"$FERMATA_ROOT/now"
		there fermata domblklist w >"$FERMATA_ROOT/used" 2>&1 || true
		if grep -qs '"name": "k"' "$OTHER/var/lib/fermata/w/state.json"; then
			diff "$FERMATA_ROOT/after" "$FERMATA_ROOT/now"
			diff "$FERMATA_ROOT/used-after" "$FERMATA_ROOT/used"
			there fermata snapshot-verify w k
		else
			diff "$FERMATA_ROOT/before" "$FERMATA_ROOT/now"
			diff "$FERMATA_ROOT/used-before" "$FERMATA_ROOT/used"
		fi
	done
	[ $n_cut -ge 12 ]
}

@test "killed at system calls: all of it is imported, or nothing and no file is left" {
	need_strace
	witness_vm w 3 size=16 memory=16M raw=vdc
	other_make
	vm_start w
	fermata snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	fermata destroy w
	fermata snapshot-export w k "$FERMATA_ROOT/k.far"
	cut_import "$FERMATA_ROOT/k.far"
	# Now beside images that are there
	rm -rf "$OTHER/images" "$OTHER/var"
	mkdir "$OTHER/images"
	for f in $(images w); do cp "$f" "$OTHER/images"; done
	n_cut=0
	cut_import "$FERMATA_ROOT/k.far"
	# ^C is as good.
	rm -rf "$OTHER/images" "$OTHER/var"
	mkdir "$OTHER/images"
	there hold pwrite64 2 snapshot-import w "$FERMATA_ROOT/k.far"
	there is_pending w
	kill -INT "$held"
	let_go
	status=0
	wait $tracer || status=$?
	cat "$OTHER/err"
	[ $status = 1 ]
	grep -q cancelled "$OTHER/err"
	assert_nothing_there
	hold write 2 snapshot-export w k "$FERMATA_ROOT/c.far"
	kill -TERM "$held"
	let_go
	status=0
	wait $tracer || status=$?
	[ $status = 1 ]
	[ -z "$(ls "$FERMATA_ROOT"/c.far* 2>/dev/null)" ]
}

@test "a call that fails: imported whole, or nothing is left" {
	need_strace
	witness_vm w 2 size=16 memory=16M
	other_make
	vm_start w
	fermata snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	fermata destroy w
	fermata snapshot-export w k "$FERMATA_ROOT/k.far"
	there calls_of snapshot-import w "$FERMATA_ROOT/k.far" >/dev/null
	failed=0
	for call in write:ENOSPC pwrite64:ENOSPC fsync:EIO fdatasync:EIO rename:EIO openat:EMFILE read:EIO ftruncate:ENOSPC lseek:EIO; do
		count=$(grep -cx "${call%:*}" "$OTHER/calls" || true)
		for part in 3 6 10; do
			[ $((count * part / 10)) -gt 0 ] || continue
			rm -rf "$OTHER/images" "$OTHER/var"
			mkdir "$OTHER/images"
			status=0
			strace -qq -o "$OTHER/trace" -e "inject=${call%:*}:error=${call#*:}:when=$((count * part / 10))" "$FERMATA_BIN" \
				--root "$OTHER" snapshot-import w "$FERMATA_ROOT/k.far" >/dev/null 2>"$OTHER/err" || status=$?
			echo "$call $((count * part / 10)) of $count: $status $(cat "$OTHER/err")"
			[ $status = 0 ] || failed=$((failed + 1))
			[ $status -le 1 ] || [ $status = 3 ]
			there fermata recover w
			if there grep -qs '"name": "k"' "$OTHER/var/lib/fermata/w/state.json"; then
				there fermata snapshot-verify w k
			else
				[ $status != 0 ]
				assert_nothing_there
			fi
		done
	done
	[ $failed -ge 10 ]
}

@test "VMs that import the same memory share its file; each of them lets go of its own name" {
	witness_vm w 1 fill=16
	vm_start w
	wait_counter_above w 10
	fermata snapshot-create-as w gold --instant
	fermata destroy w
	fermata snapshot-export w gold "$FERMATA_ROOT/gold.far"
	fermata snapshot-delete w gold
	ram() { echo "$FERMATA_ROOT/var/lib/fermata/$1"/gold-*.ram; }
	for vm in a b c; do
		sed "s|w-vda|$vm-vda|; s|w\\.log|$vm.log|" "$FERMATA_ROOT/etc/fermata/w.conf" >"$FERMATA_ROOT/etc/fermata/$vm.conf"
		fermata snapshot-import $vm "$FERMATA_ROOT/gold.far"
	done
	[ "$(stat -c %h "$(ram a)")" = 3 ]
	[ "$(stat -c %i "$(ram a)")" = "$(stat -c %i "$(ram c)")" ]
	for vm in a b; do
		fermata snapshot-revert $vm gold
		assert_one_instant $vm
		[ "$(ask $vm v '^V')" = "V ok" ]
	done
	# The base of what was taken since stays under the name by which it goes.
	fermata snapshot-create-as a more --instant
	name=$(ram a)
	fermata snapshot-delete a gold
	[ -e "$name" ]
	fermata snapshot-delete b gold
	[ ! -e "$(ram b)" ]
	fermata snapshot-revert a more
	[ "$(ask a v '^V')" = "V ok" ]
	fermata snapshot-delete a more
	[ ! -e "$name" ]
	[ "$(stat -c %h "$(ram c)")" = 1 ]
	fermata snapshot-verify c gold
	# One that is damaged is shared with nobody.
	at=$(perl -e 'open my $f, "<", $ARGV[0] or die; my $at = sysseek($f, 0, 3) or die; print $at + 100' "$(ram c)")
	flip "$(ram c)" "$at"
	fermata snapshot-import b "$FERMATA_ROOT/gold.far"
	[ "$(stat -c %h "$(ram b)")" = 1 ]
	fermata snapshot-verify b gold
	for vm in a b; do fermata destroy $vm; done || true
}

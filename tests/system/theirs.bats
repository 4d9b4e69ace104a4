#!/usr/bin/env bats
# A command that was cut off is undone: what it has made goes, and what somebody else has put under such a name since stays.
load helper
load plain

setup() {
	root_make
	need_strace
	d=$FERMATA_ROOT/images
	for f in a b; do
		qemu-img create -q -f qcow2 "$d/$f.qcow2" 4M
		fill "$d/$f.qcow2" 1 0 1M
	done
	head -c 65536 /dev/zero >"$d/vars"
	HEAD="firmware = /dev/null\nnvram = $d/vars" plain_vm w "$d/a.qcow2" "$d/b.qcow2"
}
teardown() { root_end; }

# Files that the pending operation of VM w names and that are not there; those that it has before they are whole, too
to_come() {
	perl -0777 -ne 's/.*"pending"//s; while (/"(?:overlay|nvram|memory|ram|file)": *"(\/[^"]+)"/g) {
			my $f = $1;
			for ($f, $f =~ /[.]mem$/ ? "$f.part" : ()) { print "$_\n" unless -e or $seen{$_}++ } }' \
		"$FERMATA_ROOT/var/lib/fermata/w/state.json"
}

# What is there besides the record, which a cut may find half written
there_is() { find "$d" "$FERMATA_ROOT/var" -type f ! -name "state.json*" ! -path "*/.probe/*" | sort; }

# No command ends it, for that would be the one that recovers
kill_qemu() {
	local pid
	pid=$(vm_pid w)
	kill -KILL "$pid"
	wait_until 10 dead "$pid"
}

# their_files KIND BASE: somebody else's under all of these names
their_files() {
	there_is >"$FERMATA_ROOT/before"
	: >"$FERMATA_ROOT/theirs"
	to_come | while read -r f; do
		case $1 in
		words) echo words >"$f" ;;
		image) qemu-img create -q -f qcow2 -F qcow2 -b "$2" "$f" && qemu-io -c 'write -q -P 9 0 64k' "$f" ;;
		esac
		md5sum "$f" >>"$FERMATA_ROOT/theirs"
	done
	[ -s "$FERMATA_ROOT/theirs" ]
}

# They are as they were, each was named, and nothing else is left
theirs_stay() {
	fermata recover w 2>"$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
	cat "$FERMATA_ROOT/err"
	not is_pending w
	md5sum -c --quiet "$FERMATA_ROOT/theirs"
	while read -r _ f; do
		grep -qF "$f stays" "$FERMATA_ROOT/err"
		rm "$f"
	done <"$FERMATA_ROOT/theirs"
	there_is | diff "$FERMATA_ROOT/before" -
}

@test "theirs: a creation that was cut off before it made anything removes nobody's files, and uses none of them" {
	local kind
	for kind in words image; do
		cut_pending w snapshot-create-as w k --disk-only
		their_files $kind "$d/a.qcow2"
		[ "$(wc -l <"$FERMATA_ROOT/theirs")" = 3 ]
		theirs_stay
		not listed w k
		[ "$(active w)" = "$d/a.qcow2" ]
	done
	HEAD='' plain_vm w "$d/a.qcow2" "$d/b.qcow2"
	for how in "image --memspec $d/k.mem" "words --instant=copy"; do
		fermata start w --paused
		# shellcheck disable=SC2086
		cut_pending w snapshot-create-as w k ${how#* }
		kill_qemu
		their_files "${how%% *}" "$d/a.qcow2"
		echo "$how: $(wc -l <"$FERMATA_ROOT/theirs")"
		theirs_stay
		not listed w k
	done
	# With QEMU there
	fermata start w --paused
	cut_pending w snapshot-create-as w k --memspec "$d/k.mem"
	their_files words
	theirs_stay
	not listed w k
}

@test "theirs: an overlay or a copy that has taken the place of one that was made is not removed" {
	local n
	there_is >"$FERMATA_ROOT/before"
	calls_of snapshot-create-as w zero --disk-only >/dev/null
	fermata snapshot-delete w zero
	# Both overlays are there, and the copy
	n=$(grep -n renameat2 "$FERMATA_ROOT/calls" | sed -n '3s/:.*//p')
	cut_at $((n + 1)) snapshot-create-as w k --disk-only
	is_pending w
	[ -z "$(to_come)" ]
	: >"$FERMATA_ROOT/theirs"
	for f in "$d"/b.k-*.qcow2 "$FERMATA_ROOT"/var/lib/fermata/w/nvram-*; do
		rm "$f"
		echo words >"$f"
		md5sum "$f" >>"$FERMATA_ROOT/theirs"
	done
	theirs_stay
	not listed w k
}

@test "theirs: a revert that was cut off neither replaces nor uses what is there by now" {
	local kind
	fermata snapshot-create-as w k --disk-only
	fill "$(active w)" 2 0 64k
	for kind in words image; do
		cut_pending w snapshot-revert w k
		their_files $kind "$d/a.qcow2"
		theirs_stay
		holds "$(active w)" 2 0 64k
	done
	HEAD='' plain_vm w "$d/a.qcow2" "$d/b.qcow2"
	fermata start w --paused
	cut_pending w snapshot-revert w k
	their_files words
	theirs_stay
	assert_state w paused
}

@test "theirs: nothing is replaced that appears while a snapshot is made" {
	local f
	there_is >"$FERMATA_ROOT/before"
	hold rename 1 snapshot-create-as w k --disk-only
	f=$(to_come | sed -n 1p)
	echo words >"$f"
	let_go
	not wait $tracer
	cat "$FERMATA_ROOT/err"
	grep -qF "$f" "$FERMATA_ROOT/err"
	[ "$(cat "$f")" = words ]
	rm "$f"
	not is_pending w
	not listed w k
	there_is | diff "$FERMATA_ROOT/before" -
}

@test "theirs: an import that was cut off removes nobody's files" {
	local kind
	fermata snapshot-create-as w k --disk-only
	fermata snapshot-export w k "$FERMATA_ROOT/k.far"
	rm -rf "$d" "$FERMATA_ROOT/var"
	mkdir "$d"
	for kind in words image; do
		cut_pending w snapshot-import w "$FERMATA_ROOT/k.far"
		qemu-img create -q -f qcow2 "$FERMATA_ROOT/base" 4M
		their_files $kind "$FERMATA_ROOT/base"
		theirs_stay
		[ -z "$(ls "$d")" ]
	done
	fermata snapshot-import w "$FERMATA_ROOT/k.far"
	fermata snapshot-verify w k
}

# What is damaged may hold what the guest has written since the disks switched: nobody decides then, until it can be read.
@test "theirs: an overlay of ours that is damaged is not taken for somebody else's" {
	local overlay pid
	witness_vm g 1 size=20
	vm_start g
	inject rename 2 snapshot-create-as g k --disk-only
	pid=$(vm_pid g)
	overlay=$(sed -n 's/.*"overlay": *"\([^"]*\)".*/\1/p' "$FERMATA_ROOT/var/lib/fermata/g/state.json")
	will_say g "$(mark g)" 30 lines 3
	kill -KILL "$pid"
	wait_until 10 dead "$pid"
	qemu-img map "$overlay" | grep -qF "$overlay"
	# A feature that nobody knows
	printf '\x80' | dd of="$overlay" bs=1 seek=72 conv=notrunc status=none
	fails 3 "vda" recover g
	[ -f "$overlay" ]
	is_pending g
	printf '\0' | dd of="$overlay" bs=1 seek=72 conv=notrunc status=none
	fermata recover g
	not is_pending g
	[ "$(active g)" = "$overlay" ]
	listed g k
}

@test "theirs: a copy that came to nothing goes, and what has taken its place does not" {
	local format
	HEAD='' plain_vm w "$d/a.qcow2" "$d/b.qcow2"
	for format in qcow2 raw; do
		# As it is
		there_is >"$FERMATA_ROOT/before"
		fermata start w --paused
		fermata blockcopy w vda "$d/copy" --format $format --bandwidth 1 --bytes --async
		[ -e "$d/copy" ]
		kill_qemu
		fermata recover w
		there_is | diff "$FERMATA_ROOT/before" -
		# Somebody else's by then
		fermata start w --paused
		fermata blockcopy w vda "$d/copy" --format $format --bandwidth 1 --bytes --async
		kill_qemu
		rm "$d/copy"
		echo words >"$d/other" # its number is not given out again
		echo words >"$d/copy"
		fermata recover w 2>"$FERMATA_ROOT/err"
		grep -qF "$d/copy stays" "$FERMATA_ROOT/err"
		[ "$(cat "$d/copy")" = words ]
		rm "$d/copy" "$d/other"
		there_is | diff "$FERMATA_ROOT/before" -
	done
}

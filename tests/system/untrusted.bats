#!/usr/bin/env bats
# What comes in is not trusted: images that name other files, names that are no text, what a caller's environment has.
load helper

setup() { root_make; }
teardown() { root_end; }

# define NAME FILE [LINE]...: a VM without a guest in it
define() {
	local name=$1 file=$2
	shift 2
	printf '%s\n' 'memory = 32M' 'machine = pc' 'accel = tcg' "$@" '[disk vda]' "file = $file" 'format = qcow2' \
		>"$FERMATA_ROOT/etc/fermata/$name.conf"
}

has_open() {
	local f
	for f in /proc/"$(vm_pid "$1")"/fd/*; do [ "$(readlink "$f")" != "$2" ] || return 0; done
	return 1
}

@test "environment: QEMU gets what it needs, and nothing else of the caller's" {
	local env
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/v.qcow2" 1M
	define v "$FERMATA_ROOT/images/v.qcow2"
	TOKEN=hunter2 http_proxy=http://127.0.0.1:1 LC_ALL=POSIX "$FERMATA_BIN" start v --paused
	env=$(tr '\0' '\n' <"/proc/$(vm_pid v)/environ")
	[[ $env == *PATH=* && $env == *LC_ALL=C* && $env != *hunter2* && $env != *http_proxy* && $env != *FERMATA* ]]
}

# outside: a file that no definition's folder allows
outside() {
	mkdir -p "$FERMATA_ROOT/elsewhere"
	SECRET=$FERMATA_ROOT/elsewhere/secret.raw
	truncate -s 1M "$SECRET"
}

# refused WORDS COMMAND...: status 1, and these words
refused() {
	local status=0
	"${@:2}" >"$FERMATA_ROOT/out" 2>&1 || status=$?
	[ "$status" = 1 ] && grep -qF -- "$1" "$FERMATA_ROOT/out" && return
	echo "status $status of ${*:2}, wanted 1 and '$1'"
	cat "$FERMATA_ROOT/out"
	return 1
}

@test "data file: outside the definition's folders it is refused, by every command that would open it" {
	local i=$FERMATA_ROOT/images
	outside
	qemu-img create -q -f qcow2 -o "data_file=$SECRET,data_file_raw=on" "$i/v.qcow2" 1M
	printf SECRET | dd of="$SECRET" conv=notrunc status=none
	qemu-img create -q -f qcow2 -b "$i/v.qcow2" -F qcow2 "$i/top.qcow2" 1M
	for image in v top; do
		define v "$i/$image.qcow2"
		refused "data file $SECRET lies outside" "$FERMATA_BIN" start v --paused
		refused "lies outside" "$FERMATA_BIN" blockpull v vda --wait
		refused "lies outside" "$FERMATA_BIN" snapshot-create-as v one --disk-only
		refused "lies outside" "$FERMATA_BIN" domdisplay-argv v
		[ -z "$("$FERMATA_BIN" snapshot-list v --name)" ]
	done
	[ "$(head -c 6 "$SECRET")" = SECRET ]
	# Its folder can be allowed, as a backing file's.
	define v "$i/top.qcow2" "snapshot-dir = $FERMATA_ROOT/elsewhere"
	"$FERMATA_BIN" start v --paused
	has_open v "$SECRET"
}

@test "data file: beside the image it is the guest's, and snapshots go on top" {
	local i=$FERMATA_ROOT/images
	(cd "$i" && qemu-img create -q -f qcow2 -o data_file=d.raw rel.qcow2 1M)
	qemu-img create -q -f qcow2 -o "data_file=$i/d,,1.raw" "$i/v.qcow2" 1M
	define rel "$i/rel.qcow2"
	refused "is not absolute" "$FERMATA_BIN" start rel --paused
	define v "$i/v.qcow2"
	"$FERMATA_BIN" start v --paused
	has_open v "$i/d,1.raw"
	"$FERMATA_BIN" snapshot-create-as v one --disk-only
	"$FERMATA_BIN" destroy v
	"$FERMATA_BIN" start v --paused
	has_open v "$i/d,1.raw"
	# The image that is its own data file, or has another layer for it.
	qemu-img create -q -f qcow2 -o "data_file=$i/e.raw" "$i/e.qcow2" 1M
	rm "$i/e.raw" && ln "$i/e.qcow2" "$i/e.raw"
	define e "$i/e.qcow2"
	refused "comes back to" "$FERMATA_BIN" start e --paused
}

# swapped NEW OLD: a QEMU that finds NEW in the place of OLD when it opens its images
swapped() {
	cat >"$FERMATA_ROOT/qemu" <<-END
		#!/bin/sh
		case "\$*" in *-blockdev*) [ ! -e "$1" ] || mv -f "$1" "$2" ;; esac
		exec $(command -v qemu-system-x86_64) "\$@"
	END
	chmod +x "$FERMATA_ROOT/qemu"
}

@test "swapped images: QEMU opens what was looked at, or the start is refused" {
	local i=$FERMATA_ROOT/images new old what
	outside
	for what in backing data middle same; do
		rm -f "$i"/* "$FERMATA_ROOT/new"
		qemu-img create -q -f qcow2 "$i/base.qcow2" 1M
		qemu-img create -q -f qcow2 -b "$i/base.qcow2" -F qcow2 "$i/v.qcow2"
		old=$i/base.qcow2
		case $what in
		backing) qemu-img create -q -f qcow2 -b "$SECRET" -F raw "$FERMATA_ROOT/new" 1M ;;
		data) qemu-img create -q -f qcow2 -o "data_file=$SECRET" "$FERMATA_ROOT/new" 1M ;;
		middle) qemu-img create -q -f qcow2 -b "$SECRET" -F raw "$FERMATA_ROOT/new" 1M; old=$i/v.qcow2 ;;
		same) qemu-img create -q -f qcow2 "$FERMATA_ROOT/new" 1M ;;
		esac
		swapped "$FERMATA_ROOT/new" "$old"
		define v "$i/v.qcow2" "qemu = $FERMATA_ROOT/qemu"
		refused "was changed while QEMU was starting" "$FERMATA_BIN" start v --paused
		[ ! -e "$FERMATA_ROOT/new" ]
		[ "$("$FERMATA_BIN" domstate v | head -n 1)" = "shut off" ]
	done
	# In place: the same file, with another header.
	rm -f "$i"/*
	qemu-img create -q -f qcow2 "$i/v.qcow2" 1M
	cp "$i/v.qcow2" "$FERMATA_ROOT/new"
	qemu-img rebase -u -b "$SECRET" -F raw "$FERMATA_ROOT/new"
	swapped "$FERMATA_ROOT/new" "$i/v.qcow2"
	sed -i 's/mv -f \(.*\) \(".*"\) ;;/dd if=\1 of=\2 conv=notrunc status=none ;;/' "$FERMATA_ROOT/qemu"
	define v "$i/v.qcow2" "qemu = $FERMATA_ROOT/qemu"
	"$FERMATA_BIN" start v --paused
	qemu-img info -U "$i/v.qcow2" | grep -q '^backing file'
	! has_open v "$SECRET"
}

@test "terminal: names out of an image are shown without control characters, one a line" {
	local i=$FERMATA_ROOT/images how
	qemu-img create -q -f qcow2 "$i/v.qcow2" 1M
	qemu-img snapshot -c "$(printf 'x\033]0;title\007y')" "$i/v.qcow2"
	qemu-img snapshot -c "$(printf 'a\nb')" "$i/v.qcow2"
	qemu-img snapshot -c "$(printf 'c\302\2332J')" "$i/v.qcow2"
	define v "$i/v.qcow2"
	for how in "snapshot-list v" "snapshot-list v --name" "snapshot-list v --tree" "snapshot-list v --output json" \
		"domblkchain v" "img snapshot -l $i/v.qcow2" "img info $i/v.qcow2" "img info --output json $i/v.qcow2"; do
		"$FERMATA_BIN" $how >"$FERMATA_ROOT/out"
		! LC_ALL=C grep -q $'[\001-\010\013-\037\177]\|\302[\200-\237]' "$FERMATA_ROOT/out"
	done
	[ "$("$FERMATA_BIN" snapshot-list v --name | wc -l)" = 3 ]
	"$FERMATA_BIN" snapshot-dumpxml v "$(printf 'a\nb')" | grep -qF '<name>a\x0ab</name>'
	refused 'no\x1b' "$FERMATA_BIN" img snapshot -d "$(printf 'no\033[2J')" "$i/v.qcow2" || \
		! grep -q $'\033' "$FERMATA_ROOT/out"
}

@test "names: what is not UTF-8 is refused at the door, with nothing touched" {
	local dir
	dir=$FERMATA_ROOT/images/$(printf 'caf\351')
	mkdir "$dir"
	qemu-img create -q -f qcow2 "$dir/v.qcow2" 1M
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/w.qcow2" 1M
	define v "$dir/v.qcow2"
	refused "caf\xe9/v.qcow2' is not UTF-8" "$FERMATA_BIN" snapshot-create-as v one --disk-only
	refused "is not UTF-8" "$FERMATA_BIN" start v --paused
	[ "$(ls "$dir")" = v.qcow2 ]
	define w "$FERMATA_ROOT/images/w.qcow2"
	local status=0
	"$FERMATA_BIN" snapshot-create-as w "$(printf 'caf\351')" --disk-only 2>"$FERMATA_ROOT/out" || status=$?
	[ $status = 2 ] && grep -qF "caf\xe9' is not UTF-8" "$FERMATA_ROOT/out"
	status=0
	"$FERMATA_BIN" snapshot-create-as w --disk-only -- "$(printf 'caf\351')" 2>"$FERMATA_ROOT/out" || status=$?
	[ $status = 2 ] && grep -qF "caf\xe9' is not UTF-8" "$FERMATA_ROOT/out"
	[ -z "$("$FERMATA_BIN" snapshot-list w --name)" ]
	# Images by themselves are known by their bytes.
	"$FERMATA_BIN" img resize "$dir/v.qcow2" 2M
}

@test "names: a relative name in a directory that is not UTF-8 is refused, with nothing touched" {
	local args dir
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/v.qcow2" 1M
	define v "$FERMATA_ROOT/images/v.qcow2"
	"$FERMATA_BIN" start v --paused
	dir=$(printf '%s/caf\351' "$FERMATA_ROOT")
	mkdir "$dir"
	cd "$dir"
	for args in "save v v.mem" "snapshot-create-as v k --memspec k.mem" "snapshot-create-as v k --instant --memspec k.mem" \
		"snapshot-create-as v k --disk-only --diskspec vda,file=o.qcow2" "blockcopy v vda c.qcow2"; do
		# shellcheck disable=SC2086
		refused "is not UTF-8" "$FERMATA_BIN" $args
		[ -z "$(ls)" ]
		[ "$("$FERMATA_BIN" domstate v | head -n 1)" = paused ]
		[ -z "$("$FERMATA_BIN" snapshot-list v --name)" ]
	done
	"$FERMATA_BIN" save v "$FERMATA_ROOT/v.mem"
	mv "$FERMATA_ROOT/v.mem" .
	refused "is not UTF-8" "$FERMATA_BIN" restore v.mem
	mv v.mem "$FERMATA_ROOT"
	"$FERMATA_BIN" restore "$FERMATA_ROOT/v.mem"
	[ "$("$FERMATA_BIN" domstate v | head -n 1)" = paused ]
}

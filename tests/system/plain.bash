# shellcheck shell=bash
# VMs whose guest does nothing, for tests of what happens to the images alone; load it after helper. Such a VM runs as
# "start NAME --paused": its QEMU has the disks open, and writes nothing.

# plain_vm NAME FILE...: a definition with these images as vda, vdb ...; HEAD: more lines for its head
plain_vm() {
	local name=$1 file i=0 letters=abcdefgh
	shift
	conf_head "$name" pc tcg 32M
	[ -z "${HEAD-}" ] || printf '%b\n' "$HEAD" | conf_add "$name"
	for file; do
		printf '\n[disk vd%s]\nfile = %s\nformat = %s\n' "${letters:i:1}" "$file" "$(format_of "$file")" | conf_add "$name"
		i=$((i + 1))
	done
}

format_of() {
	case $1 in *.raw | /dev/loop*) echo raw ;; *) echo qcow2 ;; esac
}

# fill FILE PATTERN OFFSET LENGTH, which nobody has open
fill() {
	qemu-io -f "$(format_of "$1")" -c "write -q -P $2 $3 $4" "$1"
}

# holds FILE PATTERN OFFSET LENGTH
holds() {
	local out
	out=$(qemu-io -r -U -f "$(format_of "$1")" -c "read -P $2 $3 $4" "$1" 2>&1)
	case $out in *failed* | *error*) echo "$1: not $2 at $3: $out"; return 1 ;; esac
}

# The active layer of a disk
active() {
	fermata domblklist "$1" | awk -v d="${2:-vda}" '$1 == d { print $2 }'
}

# The name in an image's header, as it is written there
backing_of() {
	qemu-img info -U "$1" | sed -n 's/^backing file: \(.*\)$/\1/p' | sed 's/ (actual path: .*//'
}

# loop_device FILE: a block device of it, in $dev; loop_end gives all back, after root_end
loop_device() {
	local i
	for i in 1 2 3 4 5; do # another program may take the one that was free
		if dev=$(losetup --show -f "$1" 2>/dev/null); then
			loops+=("$dev")
			return
		fi
		sleep 0.2
	done
	skip "no loop device"
}

loop_end() {
	local d
	for d in "${loops[@]}"; do losetup -d "$d"; done
}

# busy FILE: another program has it open for writing, until unbusy
busy() {
	qemu-nbd -t -f "$(format_of "$1")" -k "$FERMATA_ROOT/nbd.sock" "$1" 3>&- &
	busy_pid=$!
	wait_until 10 test -S "$FERMATA_ROOT/nbd.sock"
}

unbusy() {
	kill "$busy_pid"
	wait "$busy_pid" 2>/dev/null || true
	rm -f "$FERMATA_ROOT/nbd.sock"
}

#!/bin/bash
# make demo: a guest with two disks goes on, goes back and goes on again, told so that a person can follow.
set -eu
cd "$(dirname "$0")/.."
export O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac

dir=$(mktemp -d "${TMPDIR:-/tmp}/fermata-demo.XXXXXX")
fermata() { "$O/fermata" --root "$dir" "$@"; }
finish() {
	fermata destroy koan >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap finish EXIT

# The guest says on its second serial port what its counter is in memory and on each disk: "mem=N d0=N d1=N".
line() { tests/guest/readlog.pl "$dir/guest.log" "${1:-0}" | grep -E '^mem=[0-9]+ d0=[0-9]+ d1=[0-9]+' | tail -n 1; }
now() { stat -c %s "$dir/guest.log" 2>/dev/null || echo 0; }
next_line() { # the first line said after position $1
	local i
	for ((i = 0; i < 600; i++)); do
		tests/guest/readlog.pl "$dir/guest.log" "$1" | grep -E -m 1 '^mem=[0-9]+ d0=[0-9]+ d1=[0-9]+$' && return
		sleep 0.05
	done
	echo 'the guest says nothing' >&2
	exit 1
}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { # show a command, its output, and how long it took
	local from=${EPOCHREALTIME/./}
	printf '$ fermata %s\n' "$*"
	fermata "$@" | sed '/^$/d'
	took=$(((${EPOCHREALTIME/./} - from) / 1000))
	printf '  (%d ms)\n' "$took"
}

accel=tcg
if [ -c /dev/kvm ] && [ "${FERMATA_DEMO_ACCEL:-}" = kvm ]; then accel=kvm; fi

say "1. Two qcow2 disks and a definition"
mkdir -p "$dir/etc/fermata" "$dir/images"
tests/guest/mkwitness.sh "$dir/witness.raw" fill=32
qemu-img convert -q -f raw -O qcow2 "$dir/witness.raw" "$dir/images/koan.qcow2"
qemu-img create -q -f qcow2 "$dir/images/data.qcow2" 64M
cat >"$dir/etc/fermata/koan.conf" <<END
memory  = 128M
machine = pc
accel   = $accel

[disk vda]
file   = $dir/images/koan.qcow2
format = qcow2

[disk vdb]
file   = $dir/images/data.qcow2
format = qcow2

[qemu]
arg = -chardev file,id=log,path=$dir/guest.log,append=on -serial chardev:log
END
sed "s,$dir,,; s/^/  /" "$dir/etc/fermata/koan.conf"

say "2. Start it. The guest counts, in memory and on both disks"
run start koan
next_line 0 >/dev/null
sleep 1
run list
echo "  the guest says: $(line)"

say "3. Take a checkpoint: memory, devices and both disks, at one instant"
before=$(line)
run snapshot-create-as koan golden "before the experiment"
taken=$took
run snapshot-list koan

say "4. Let it go on"
sleep 2
after=$(next_line "$(now)")
echo "  the guest says: $after"

say "5. Go back"
run snapshot-revert koan golden
reverted=$took
back=$(next_line "$(now)") # what it says from here on, not what it still said before
echo "  the guest says: $back"

n() { echo "$1" | sed 's/mem=\([0-9]*\).*/\1/'; }
say "Account"
printf '  at the checkpoint the counter stood just above %s; it went on to %s;\n' "$(n "$before")" "$(n "$after")"
printf '  after the revert it is %s, in memory and on both disks alike.\n' "$(n "$back")"
printf '  The checkpoint took %d ms, the revert %d ms.\n' "$taken" "$reverted"
if [ "$(n "$back")" -ge "$(n "$after")" ] || [ "$(n "$back")" -lt "$(n "$before")" ]; then
	echo '  THIS IS WRONG: the counter is not where the checkpoint left it.' >&2
	exit 1
fi
for image in "$dir"/images/*.qcow2; do
	qemu-img check -q -U "$image" && echo "  $(basename "$image"): qemu-img finds no error"
done

say "6. Delete the checkpoint and stop"
run snapshot-delete koan golden
run destroy koan

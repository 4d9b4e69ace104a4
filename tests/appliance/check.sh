#!/bin/sh
# Boot the appliance in QEMU (tcg), and see on its console that the guest goes on from its golden checkpoint. Then cut
# the power N times, with the state disk kept: one half at any moment of a boot, the other while the VM is brought back to
# its checkpoint. Each time the next boot must reach a healthy guest at the golden checkpoint, and must have counted the
# attempt that was cut off. Then spoil the checkpoint with one flipped bit: the next boot must fall back.
#
#	[ACCEL=kvm] [SEED=n] tests/appliance/check.sh OUTDIR [N]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
out=${1:?usage: check.sh OUTDIR [N]}
cuts=${2:-20} # 0: the first boot alone
seed=${SEED:-$$}
start_seed=$seed
tmp=$(mktemp -d "${TMPDIR:-/tmp}/appliance.XXXXXX")
pid=

cleanup() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT
trap "exit 1" HUP INT TERM
cp --sparse=always "$out/state.raw" "$tmp/state.raw"

# The first serial port is fermata's console, the second the guest's log.
power_on() {
	: >"$tmp/host"
	: >"$tmp/guest"
	qemu-system-x86_64 -M q35 -accel "${ACCEL:-tcg}" -cpu max -m 512 -nodefaults -display none -no-reboot -kernel "$out/vmlinuz" \
		-initrd "$out/initrd" -append 'console=ttyS0 quiet panic=-1 no_timer_check' \
		-drive "file=$tmp/state.raw,format=raw,if=virtio,cache=writeback" \
		-serial "file:$tmp/host" -serial "file:$tmp/guest" -monitor "unix:$tmp/monitor,server=on,wait=off" &
	pid=$!
	began=$(now)
}

power_cut() {
	kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	pid=
}

now() {
	date +%s%N | cut -c1-13
}

fail() {
	echo "appliance: $* (SEED=$start_seed)" >&2
	tail -n 20 "$tmp/host" >&2
	exit 1
}

# Until the console says $1
wait_said() {
	for _ in $(seq 9000); do
		there=yes
		kill -0 "$pid" 2>/dev/null || there=
		! grep -q "$1" "$tmp/host" || return 0
		[ $there ] || fail "the host ended before '$1'"
		sleep 0.1
	done
	fail "waited in vain for '$1'"
}

# Where the guest goes on
first_counter() {
	for _ in $(seq 3000); do
		tr -d '\r' <"$tmp/guest" >"$tmp/plain" # a terminal adds its own
		n=$("$top/tests/guest/readlog.pl" "$tmp/plain" | sed -n 's/^mem=\([0-9]*\).*/\1/p' | head -n 1)
		[ -z "$n" ] || break
		sleep 0.1
	done
	echo "${n:-none}"
}

# Until the guest says $1
wait_guest() {
	for _ in $(seq 600); do
		tr -d '\r' <"$tmp/guest" >"$tmp/plain"
		! "$top/tests/guest/readlog.pl" "$tmp/plain" | grep -q "$1" || return 0
		sleep 0.1
	done
	return 1
}

healthy() {
	wait_said "koan: up"
	grep -q "koan: boot: healthy" "$tmp/host" || fail "up, but not healthy"
}

# Which attempt it was that began first since power_on
attempt() {
	tr -d '\r' <"$tmp/host" | sed -n "s/.*from 'golden', attempt \([0-9]*\) of 2.*/\1/p" | head -n 1
}

# random BELOW
random() {
	seed=$(((seed * 1103515245 + 12345) % 2147483648))
	ms=$((seed / 65536 % $1))
}

pause() {
	sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
}

power_on
wait_said "from 'golden', attempt 1 of 2"
reverting=$(now)
healthy
up=$(now)
took=$((up - began))
revert=$((up - reverting))
golden=$(first_counter)
[ "$golden" != none ] && [ "$golden" -ge 100 ] || fail "the guest did not go on from its checkpoint, but from $golden"
echo "appliance: healthy after $took ms, from tick $golden; its own part: $(cat "$out/own") bytes"

# The power button: an orderly end. Done when the monitor asks for the next command.
perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new($ARGV[0]) or die; print $s "system_powerdown\n";
	for (my $b = ""; $b !~ /\(qemu\).*\(qemu\)/s;) { sysread($s, $b, 4096, length $b) or die }' "$tmp/monitor"
wait_said "fermata: power off"
for _ in $(seq 1200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
! kill -0 "$pid" 2>/dev/null || fail "the power button does not end it"
wait "$pid" || fail "QEMU ended with status $?"
pid=
[ "$cuts" != 0 ] || exit 0

i=0 inside=0 counted=0
while [ $i -lt "$cuts" ]; do
	i=$((i + 1))
	power_on
	if [ $((i % 2)) = 0 ]; then
		wait_said "from 'golden', attempt"
		random "$revert"
		what="$ms ms into the revert"
	else
		random "$took"
		what="$ms ms into the boot"
	fi
	pause "$ms"
	power_cut
	was=$(attempt)
	! grep -q "boot: healthy" "$tmp/host" || was=healthy
	power_on
	healthy
	is=$(attempt)
	! grep -q "failed\|cold" "$tmp/host" || fail "cut $what: the next boot fails"
	# Both the count and its end are on disk a moment before they are said.
	[ "$was$is" != healthy2 ] || fail "cut $what: a healthy boot counts as a failed one"
	[ "$was" != 1 ] || inside=$((inside + 1))
	[ "$was$is" != 12 ] || counted=$((counted + 1))
	at=$(first_counter)
	[ "$at" = "$golden" ] || fail "cut $what: then the guest went on from $at, not from $golden"
	! "$top/tests/guest/readlog.pl" "$tmp/plain" | grep -q '^[A-Z]' || fail "cut $what: memory and disk differ"
	echo "appliance: cut $what; the next boot: healthy in attempt $is, from tick $at"
	power_cut
done
[ $((2 * counted)) -gt $inside ] || fail "of $inside attempts that were cut off only $counted were counted"

# The state that QEMU saved begins with this word.
at=$(grep -abo QEVM "$tmp/state.raw" | head -n 1 | cut -d: -f1)
[ -n "$at" ] || fail "there is no checkpoint to spoil"
printf 'q' | dd of="$tmp/state.raw" bs=1 seek="$at" conv=notrunc status=none
power_on
healthy
grep -q "from 'golden' failed" "$tmp/host" || fail "the spoiled checkpoint was loaded"
grep -q "from 'cold', attempt 1" "$tmp/host" || fail "no fallback"
wait_guest "^boot d0=[1-9]" || fail "the fallback is no cold start on the disk as it is"
echo "appliance: golden checkpoint spoiled: fell back to a cold start"

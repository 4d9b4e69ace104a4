# A Linux guest with an agent and a file system: a freeze is real, a shutdown is heard.
load helper

setup() {
	root_make
	linux_vm l
}
teardown() {
	[ -z "${init-}" ] || kill -KILL "$init" 2>/dev/null || true
	root_end
}

linux_up() {
	fermata start l
	wait_until 240 linux_says READY
	wait_until 60 linux_above 2
}

linux_log() {
	tr -d '\r' <"$FERMATA_ROOT/l.log"
}

linux_says() {
	linux_log | grep -q "^$1"
}

linux_last() {
	linux_log | sed -n 's/^linux=\([0-9]*\) disk=\1$/\1/p' | tail -n 1
}

linux_above() {
	local n
	n=$(linux_last)
	[ "${n:-0}" -gt "$1" ]
}

@test "linux: freeze and thaw by command; shutdown by the agent" {
	linux_up
	fermata domfsfreeze l
	n=$(linux_last)
	sleep 2
	[ "$(linux_last)" -le $((n + 1)) ]
	fermata qemu-agent-command l '{"execute":"guest-fsfreeze-status"}' | grep -q frozen
	fermata domfsthaw l
	wait_until 20 linux_above $((n + 2))
	fermata qemu-agent-command l '{"execute":"guest-ping"}' | grep -q '"return"'
	fermata shutdown l --mode agent --wait
	linux_says BYE
	assert_state l "shut off"
	assert_images_ok l
}

@test "linux: checkpoint and revert; shutdown by the power button" {
	linux_up
	fermata snapshot-create-as l one
	n=$(linux_last)
	wait_until 60 linux_above $((n + 15))
	fermata snapshot-revert l one
	# Where it counts down is where it went back to.
	back() {
		low=$(linux_log | sed -n 's/^linux=\([0-9]*\) disk=\1$/\1/p' | awk '$1 < last { print $1 } { last = $1 }')
		[ -n "$low" ]
	}
	wait_until 60 back
	[ "$low" -le $((n + 10)) ]
	fermata qemu-agent-command l '{"execute":"guest-ping"}'
	fermata shutdown l --mode acpi --wait
	linux_says BYE
	assert_state l "shut off"
	assert_images_ok l
}

# How many seconds the guest's clock is behind the host's
behind() {
	fermata qemu-agent-command l '{"execute":"guest-get-time"}' |
		perl -MTime::HiRes=time -e 'local $/; <STDIN> =~ /"return": *(\d+)/ or die; printf "%d\n", time - $1 / 1e9'
}

@test "linux: a restored guest has the host's time, unless it is to keep its own" {
	linux_up
	fermata snapshot-create-as l one --live --memspec "$FERMATA_ROOT/one.mem" >"$FERMATA_ROOT/out"
	cat "$FERMATA_ROOT/out"
	sleep 5
	fermata snapshot-revert l one --no-sync-time
	[ "$(behind)" -ge 4 ]
	fermata snapshot-revert l one 2>"$FERMATA_ROOT/err"
	cat "$FERMATA_ROOT/err"
	now=$(behind)
	[ "$now" -le 2 ] && [ "$now" -ge -2 ]
	# The same by save and restore
	fermata save l "$FERMATA_ROOT/l.save"
	sleep 5
	fermata restore "$FERMATA_ROOT/l.save"
	now=$(behind)
	[ "$now" -le 2 ] && [ "$now" -ge -2 ]
	# ... and loaded in place
	fermata snapshot-create-as l in
	sleep 5
	fermata snapshot-revert l in
	now=$(behind)
	[ "$now" -le 2 ] && [ "$now" -ge -2 ]
	n=$(linux_last)
	wait_until 60 linux_above $((n + 2))
}

logged() {
	grep -qF -- "$1" "$FERMATA_ROOT/init.log"
}

@test "linux: healthy = agent, cold and from a checkpoint; init shuts it down by the agent" {
	printf '\n[boot]\nautostart = yes\nhealthy = agent\nwithin = 240s\non-stop = shutdown\n' | conf_add l
	"$FERMATA_BIN" --root "$FERMATA_ROOT" init 2>"$FERMATA_ROOT/init.log" 3>&- &
	init=$!
	wait_until 280 logged "l: up"
	# It was waited for: before, there was no agent to answer.
	linux_says agent
	logged "l: boot: healthy"
	wait_until 60 linux_above 2
	fermata snapshot-create-as l golden
	kill -TERM "$init"
	wait_until 90 dead "$init"
	wait "$init"
	init=
	linux_says BYE
	not logged "plug"
	assert_state l "shut off"
	sed -i 's/^on-stop.*/from = golden\ndiscard-changes = yes/' "$FERMATA_ROOT/etc/fermata/l.conf"
	fermata boot l 2>"$FERMATA_ROOT/init.log"
	logged "boot: from 'golden', attempt 1"
	logged "boot: healthy"
	fermata qemu-agent-command l '{"execute":"guest-ping"}'
}

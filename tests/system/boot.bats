# fermata boot: each key of the policy, each step of the fallback, cut off anywhere.
load helper

setup() { root_make; }
teardown() { root_end; }

# policy NAME < LINES: the definition's [boot]
policy() {
	{ printf '\n[boot]\n' && cat; } | conf_add "$1"
}

# change NAME KEY VALUE
change() {
	sed -i "s|^$2 *=.*|$2 = $3|" "$FERMATA_ROOT/etc/fermata/$1.conf"
}

# A VM that is off, with a checkpoint "golden" taken at $golden
golden_vm() {
	witness_vm w "${1:-1}"
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w golden
	golden=$(last_counter w)
	wait_counter_above w $((golden + 100))
	fermata destroy w
}

# boot NAME STATUS TEXT: it ends with that status, and a line of stderr has TEXT
boot() {
	local status=0
	fermata boot "$1" 2>"$FERMATA_ROOT/said" || status=$?
	cat "$FERMATA_ROOT/said"
	[ "$status" = "$2" ] || { echo "exit $status, not $2"; return 1; }
	grep -qF -- "$3" "$FERMATA_ROOT/said"
}

# status NAME KEY: of the JSON
status_of() {
	fermata boot-status "$1" --output json | sed -n "s/.*\"$2\": *\"\{0,1\}\([^\",]*\).*/\1/p"
}

@test "cold is the default; a VM that runs is left alone" {
	witness_vm w 1
	boot w 0 "healthy after"
	assert_state w running
	[ "$(status_of w result)" = healthy ]
	[ "$(status_of w from)" = cold ]
	[ "$(status_of w failed)" = 0 ]
	pid=$(vm_pid w)
	boot w 0 "runs already"
	[ "$(vm_pid w)" = "$pid" ]
	fermata boot-status | grep -qE '^ w +running +cold +0 .* healthy$'
	fails 1 "no such VM" boot nobody
}

@test "from a checkpoint, discard-changes: each boot begins there, and leaves nothing behind" {
	golden_vm 2
	printf 'from = golden\ndiscard-changes = yes\n' | policy w
	for round in 1 2; do
		from=$(mark w)
		boot w 0 "from 'golden', attempt 1 of 3"
		assert_back_in w "$from" "$low" "$golden"
		assert_one_instant w "$from"
		fermata destroy w
	done
	[ "$(fermata snapshot-list w --name | grep -c .)" = 1 ]
	assert_images_ok w
}

@test "without discard-changes the last run is kept, and only the last" {
	golden_vm
	printf 'from = golden\n' | policy w
	boot w 0 "healthy"
	wait_counter_above w $((golden + 20)) 60 "$(mark w)"
	fermata destroy w
	boot w 0 "healthy"
	fermata destroy w
	[ "$(fermata snapshot-list w --name | grep -c .)" = 2 ]
	listed w before-boot
	# What was kept is the end of the run before: a cold start on it goes on behind the golden one.
	from=$(mark w)
	fermata snapshot-revert w before-boot --running
	wait_counter_above w "$golden" 60 "$from"
	fermata destroy w
	assert_images_ok w
}

@test "healthy = serial: what the guest says, even right behind the load" {
	golden_vm
	printf 'from = golden\ndiscard-changes = yes\nhealthy = serial "mem="\n' | policy w
	boot w 0 "healthy after"
	assert_state w running
}

@test "unhealthy: the attempts, then each fallback in its order, status 4" {
	golden_vm
	# Only a cold start says this.
	printf 'from = golden\ndiscard-changes = yes\nhealthy = serial "boot d0="\nwithin = 20s\nattempts = 2\n' | policy w
	printf 'fallback = nowhere, managedsave, cold\n' | conf_add w
	boot w 4 "from 'cold', attempt 1 of 2"
	said=$FERMATA_ROOT/said
	[ "$(grep -c "from 'golden', attempt" "$said")" = 2 ]
	[ "$(grep -c "from 'nowhere', attempt" "$said")" = 1 ]
	[ "$(grep -c "from 'managedsave', attempt" "$said")" = 1 ]
	grep -q "did not say \"boot d0=\" in time" "$said"
	[ "$(status_of w from)" = cold ]
	[ "$(status_of w failed)" = 0 ]
}

@test "a fallback may be another checkpoint, or a managed save" {
	golden_vm
	printf 'from = golden\nfallback = managedsave, factory\ndiscard-changes = yes\n' | policy w
	from=$(mark w)
	fermata start w
	wait_counter_above w $((golden + 200)) 60 "$from"
	low=$(last_counter w)
	fermata snapshot-create-as w factory
	factory=$(last_counter w)
	fermata snapshot-delete w golden
	wait_counter_above w $((factory + 100))
	fermata managedsave w
	saved=$(last_counter w)
	from=$(mark w)
	# Whoever saved it means it to go on from there: that is the first choice, whatever the policy says.
	boot w 0 "from 'managedsave', attempt 1 of 3"
	assert_went_back w "$from" "$saved"
	[ "$(status_of w from)" = managedsave ]
	fermata destroy w
	# It was used up.
	from=$(mark w)
	boot w 4 "from 'factory', attempt 1 of 3"
	grep -q "from 'managedsave' failed: there is no saved state" "$FERMATA_ROOT/said"
	assert_back_in w "$from" "$low" "$factory"
	fermata destroy w
	assert_images_ok w
}

@test "boot: a guest that was suspended when it was saved runs on with its memory" {
	witness_vm w 1
	vm_start w
	wait_counter_above w 20
	fermata suspend w
	fermata managedsave w
	saved=$(last_counter w)
	from=$(mark w)
	boot w 0 "from 'managedsave', attempt 1 of"
	assert_state w running
	wait_counter_above w "$saved" 60 "$from"
	assert_went_back w "$from" "$saved"
}

@test "boot: cut off when its guest has loaded and does not run yet, the next one lets it go on with its memory" {
	need_strace
	local n
	witness_vm w 1
	printf 'healthy = serial "mem="\n' | policy w
	vm_start w
	wait_counter_above w 20
	fermata managedsave w
	strace -qq -o "$FERMATA_ROOT/calls" -e trace=connect "$FERMATA_BIN" --root "$FERMATA_ROOT" boot w
	n=$(grep -n 'console.sock' "$FERMATA_ROOT/calls" | head -n 1 | cut -d: -f1)
	wait_counter_above w 60
	fermata managedsave w
	saved=$(last_counter w)
	from=$(mark w)
	inject connect "$n" boot w
	[ "$n_cut" = 1 ]
	assert_state w paused
	[ ! -e "$FERMATA_ROOT/var/lib/fermata/w/managed.save" ]
	boot w 0 "the last attempt was cut off; waiting for its guest"
	wait_counter_above w "$saved" 60 "$from"
	assert_went_back w "$from" "$saved"
}

@test "every choice fails: status 1, the VM is off, the next boot begins anew" {
	witness_vm w 1
	printf 'from = nowhere\nfallback = cold\nhealthy = serial "never said"\nwithin = 1s\nattempts = 1\n' | policy w
	for round in 1 2; do
		boot w 1 "every choice failed"
		grep -q "from 'nowhere', attempt 1 of 1" "$FERMATA_ROOT/said"
		assert_state w "shut off"
		[ "$(status_of w failed)" = 2 ]
	done
	fermata mark-good w | grep -q "boots from 'nowhere'"
	[ "$(status_of w failed)" = 0 ]
}

@test "healthy = agent: nobody answers; QEMU dies meanwhile" {
	witness_vm w 1
	sed -i '1i agent = yes' "$FERMATA_ROOT/etc/fermata/w.conf"
	printf 'healthy = agent\nwithin = 2s\nattempts = 1\n' | policy w
	boot w 1 "failed"
	assert_state w "shut off"
	change w within 100s
	fermata boot w 2>"$FERMATA_ROOT/said" &
	wait_until 60 test -e "$FERMATA_ROOT/run/fermata/w/pid"
	from=$SECONDS
	kill -KILL "$(vm_pid w)"
	not wait $!
	[ $((SECONDS - from)) -lt 90 ]
}

@test "mark-good NAME is booted from, until the definition's own is named" {
	golden_vm
	printf 'attempts = 1\n' | policy w
	fails 1 "no" mark-good w nobody
	fermata mark-good w golden
	from=$(mark w)
	boot w 0 "from 'golden'"
	assert_back_in w "$from" "$low" "$golden"
	fermata destroy w
	fermata mark-good w cold
	[ "$(status_of w golden)" = cold ]
	boot w 0 "from 'cold'"
}

guarded() {
	[ "$(status_of w guard)" = before-update ]
}

@test "guard: kept, gone back, cut off" {
	witness_vm w 1
	printf 'healthy = running\n' | policy w
	vm_start w
	wait_counter_above w 20
	at=$(last_counter w)
	fermata guard w -- sh -c "sleep 1"
	not listed w before-update
	wait_counter_above w $((at + 10))
	from=$(mark w)
	status=0
	fermata guard w -- sh -c 'sleep 2; exit 7' || status=$?
	[ "$status" = 4 ]
	assert_one_instant w
	not listed w before-update
	# The command pulls its own guest down.
	fails 4 "went back" guard w -- "$FERMATA_BIN" --root "$FERMATA_ROOT" destroy w
	assert_state w running
	# The host goes down in the middle.
	at=$(last_counter w)
	"$FERMATA_BIN" --root "$FERMATA_ROOT" guard w -- sleep 30 3>&- &
	wait_until 60 guarded
	pid=$(vm_pid w)
	kill -KILL $! "$pid"
	wait_gone "$pid"
	wait $! || true
	boot w 0 "from 'before-update'"
	[ "$(status_of w guard)" = "" ]
}

guard_is() {
	[ "$(status_of w guard-cut-off)" = "$1" ]
}

# begin_guard COMMAND...: in the background, up to where the command runs; $guard
begin_guard() {
	rm -f "$FERMATA_ROOT/began"
	"$FERMATA_BIN" --root "$FERMATA_ROOT" guard w -- sh -c "touch '$FERMATA_ROOT/began'; $1" >/dev/null 2>"$FERMATA_ROOT/err" 3>&- &
	guard=$!
	wait_until 60 test -e "$FERMATA_ROOT/began"
}

@test "guard: hung up or terminated, the VM goes back at once" {
	witness_vm w 1
	printf 'from = cold\nhealthy = running\n' | policy w
	vm_start w
	for sig in HUP TERM; do
		wait_counter_above w $(($(last_counter w) + 20))
		at=$(last_counter w)
		begin_guard "sleep 20"
		wait_counter_above w $((at + 60))
		from=$(mark w)
		kill -$sig $guard
		status=0
		wait $guard || status=$?
		[ $status = 4 ]
		grep -q "went back: it was called off" "$FERMATA_ROOT/err"
		will_say w "$from" 60 lines 2
		assert_one_instant w
		not listed w before-update
		guard_is false
	done
}

@test "guard: killed while the guest goes on: named, decided by the user, and no boot goes back" {
	witness_vm w 1
	printf 'from = cold\nhealthy = running\n' | policy w
	vm_start w
	for end in keep back; do
		begin_guard "sleep 1"
		kill -KILL $guard
		wait $guard || true
		wait_until 30 guard_is true
		fermata list | grep -q "running (guard cut off)"
		fermata boot-status | grep -q "the guard was cut off; 'before-update' waits"
		fermata recover w 2>"$FERMATA_ROOT/err"
		grep -q -- "--guard=back goes back\|--guard=back' goes back to 'before-update'" "$FERMATA_ROOT/err"
		fails 1 "not decided" guard w -- true
		wait_counter_above w $(($(last_counter w) + 50))
		fermata destroy w
		boot w 0 "from 'cold'"
		guard_is true
		listed w before-update
		from=$(mark w)
		fails 2 "neither keep nor back" recover w --guard=perhaps
		fermata recover w --guard=$end
		guard_is false
		not listed w before-update
		fails 1 "nothing is guarded" recover w --guard=keep
		assert_state w running
		will_say w "$from" 60 lines 2
	done
	fermata guard w -- true
}

@test "guard, boot: a user's snapshots of their names stay" {
	golden_vm
	printf 'from = golden\ndiscard-changes = no\nhealthy = running\n' | policy w
	for name in before-update before-boot; do
		fermata snapshot-create-as w "$name" mine
	done
	fermata start w
	fermata guard w -- true
	fails 4 "went back" guard w -- false
	fermata destroy w
	boot w 0 ""
	fermata destroy w
	boot w 0 ""
	[ "$(fermata snapshot-list w --name | grep -c '^before-boot')" = 2 ]
	for name in before-update before-boot; do
		fermata snapshot-info w "$name" | grep -q mine
	done
}

@test "the counter is on disk before the attempt: no record, no start" {
	need_strace
	witness_vm w 1
	status=0
	strace -qq -f -o /dev/null -e inject=fsync:error=EIO:when=1 "$FERMATA_BIN" --root "$FERMATA_ROOT" boot w || status=$?
	[ "$status" = 1 ]
	assert_state w "shut off"
}

@test "cut off anywhere: the count rises, and the next boot reaches a healthy guest" {
	need_strace
	golden_vm
	printf 'from = golden\ndiscard-changes = yes\nhealthy = serial "mem="\nattempts = 2\nfallback = cold\n' | policy w
	n=$(calls_of boot w)
	fermata destroy w
	for i in 1 2 3 4 5 6 7 8; do
		cut_at $((n * i / 9)) boot w
		[ "$(status_of w failed)" -le 1 ]
		# Half of the time it is the host that is cut off.
		pid=$(vm_pid w)
		if [ $((i % 2)) = 0 ] && [ -n "$pid" ]; then
			kill -KILL "$pid" || true
			wait_gone "$pid"
		fi
		# Where it got to its end before the cut, its guest is up already.
		boot w 0 ""
		[ "$(status_of w result)" = healthy ]
		assert_one_instant w
		[ "$(status_of w failed)" = 0 ]
		fermata destroy w
	done
	most_cut
	assert_images_ok w
}

@test "what cannot be recovered is not fallen back from; when it can be, the boot goes on as the policy says" {
	need_strace
	golden_vm 2
	printf 'from = golden\ndiscard-changes = yes\nfallback = cold\nattempts = 1\n' | policy w
	cut_pending w snapshot-revert w golden
	mv "$FERMATA_ROOT/images/w-vdb.qcow2" "$FERMATA_ROOT/away"
	cp "$FERMATA_ROOT/images/w-vda.qcow2" "$FERMATA_ROOT/before"
	for round in 1 2; do
		boot w 3 "cannot recover what the last command left"
		not grep -q "attempt" "$FERMATA_ROOT/said"
		assert_state w "shut off"
		is_pending w
		[ "$(status_of w failed)" = 0 ]
		[ "$(status_of w pending)" = snapshot-revert ]
		fermata boot-status w | grep -q "snapshot-revert 'golden' is pending"
	done
	cmp "$FERMATA_ROOT/images/w-vda.qcow2" "$FERMATA_ROOT/before"
	mv "$FERMATA_ROOT/away" "$FERMATA_ROOT/images/w-vdb.qcow2"
	from=$(mark w)
	boot w 0 "from 'golden', attempt 1 of 1"
	assert_back_in w "$from" "$low" "$golden"
	assert_one_instant w "$from"
	[ "$(status_of w pending)" = "" ]
}

@test "a revert that is left half way ends the boot, not its fallbacks' turn; the attempt counts" {
	golden_vm 2
	printf 'from = golden\ndiscard-changes = yes\nfallback = cold\nattempts = 1\n' | policy w
	# A QEMU that takes the second disk away and dies as soon as it is let go.
	cat >"$FERMATA_ROOT/qemu" <<-END
		#!/bin/sh
		case " \$* " in *" -blockdev "*) ;; *) exec qemu-system-x86_64 "\$@" ;; esac
		mv "$FERMATA_ROOT/images/w-vdb.qcow2" "$FERMATA_ROOT/away"
		exit 1
	END
	chmod +x "$FERMATA_ROOT/qemu"
	sed -i "1i qemu = $FERMATA_ROOT/qemu" "$FERMATA_ROOT/etc/fermata/w.conf"
	boot w 3 "from 'golden' failed"
	not grep -q "from 'cold'" "$FERMATA_ROOT/said"
	is_pending w
	[ "$(status_of w failed)" = 1 ]
	mv "$FERMATA_ROOT/away" "$FERMATA_ROOT/images/w-vdb.qcow2"
	sed -i '/^qemu = /d' "$FERMATA_ROOT/etc/fermata/w.conf"
	boot w 4 "from 'cold', attempt 1 of 1"
}

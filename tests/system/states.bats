# Every command, with a VM that does not exist, is off, is paused.
load helper

setup() { root_make; }
teardown() { root_end; }

# Every command that takes a VM, with arguments that are right otherwise; @ is the VM
commands() {
	cat <<-END
		start @
		shutdown @
		destroy @
		reboot @
		reset @
		suspend @
		resume @
		domstate @
		dominfo @
		domblklist @
		domblkinfo @ vda
		domdisplay-argv @
		console @
		qemu-monitor-command @ {"execute":"query-status"}
		qemu-agent-command @ {"execute":"guest-ping"}
		domfsfreeze @
		domfsthaw @
		snapshot-create-as @ s
		snapshot-list @
		snapshot-info @ s
		snapshot-dumpxml @ s
		snapshot-current @
		snapshot-parent @ s
		snapshot-verify @ s
		snapshot-bake @ s
		snapshot-export @ s -
		snapshot-import @ -
		snapshot-revert @ s
		snapshot-delete @ s
		recover @
	END
}

@test "states: a VM that does not exist" {
	witness_vm w 1
	while read -r -a line; do
		fails 1 ghost "${line[@]/@/ghost}" </dev/null
	done < <(commands)
	[ ! -e "$FERMATA_ROOT/var/lib/fermata/ghost" ]
	[ ! -e "$FERMATA_ROOT/run/fermata/ghost" ]
}

@test "states: every command is among those that help lists" {
	fermata help >"$FERMATA_ROOT/help"
	while read -r -a line; do
		grep -qw -- "${line[0]}" "$FERMATA_ROOT/help"
	done < <(commands)
}

@test "states: a VM that is off" {
	witness_vm w 2
	for c in shutdown destroy reboot reset suspend resume domfsfreeze domfsthaw console; do
		fails 1 "not running" $c w </dev/null
	done
	fails 1 "not running" qemu-monitor-command w '{"execute":"query-status"}'
	fails 1 "not running" qemu-agent-command w '{"execute":"guest-ping"}'
	assert_state w "shut off"
	fermata dominfo w | grep -E '^State: +shut off$'
	fermata domblklist w | grep -E '^ ?vdb +.*w-vdb.qcow2$'
	fermata domblkinfo w vda | grep -E '^Capacity: +67108864$'
	fermata domdisplay-argv w | grep -q qemu-system
	[ -z "$(fermata snapshot-list w --name)" ]
	fails 1 nosuch snapshot-revert w nosuch
	fails 1 nosuch snapshot-delete w nosuch
	fails 1 nosuch snapshot-info w nosuch
	fermata snapshot-create-as w s
	fermata snapshot-dumpxml w s | grep -q '<name>s</name>'
	fermata snapshot-revert w s
	assert_state w "shut off"
	fermata snapshot-delete w s
	fermata recover w
	[ -z "$(fermata list --name)" ]
	[ "$(fermata list --all --name)" = w ]
	assert_images_ok w
}

@test "states: a VM that is paused" {
	witness_vm w 2
	fermata start w --paused
	assert_state w paused
	fails 1 "running already" start w
	fermata suspend w
	assert_state w paused
	fermata dominfo w | grep -E '^State: +paused$'
	fermata qemu-monitor-command w '{"execute":"query-status"}' | grep -q prelaunch
	fermata resume w
	assert_state w running
	wait_counter_above w 10
	fermata suspend w
	fermata qemu-monitor-command w '{"execute":"query-status"}' | grep -q '"paused"'
	here=$(mark w)
	for c in "domblklist w" "domblkinfo w vda" "snapshot-list w" "list" "domdisplay-argv w" "recover w"; do
		# shellcheck disable=SC2086
		fermata $c >/dev/null
	done
	fermata snapshot-create-as w s
	fermata snapshot-info w s | grep -E '^State: +paused$'
	fermata snapshot-delete w s
	assert_state w paused
	[ "$(mark w)" = "$here" ]
	fermata reset w
	fermata destroy w
	assert_state w "shut off"
	assert_images_ok w
}

@test "states: suspend, resume, reset, destroy of a running VM" {
	witness_vm w 1
	vm_start w
	fails 1 "running already" start w
	fermata suspend w
	assert_state w paused
	here=$(mark w)
	sleep 0.3
	[ "$(mark w)" = "$here" ]
	fermata resume w
	assert_one_instant w
	from=$(mark w)
	fermata reset w
	will_say w "$from" 20 says '^boot d0=' >/dev/null
	assert_one_instant w
	fermata list | grep -E "^ *[0-9]+ +w +running$"
	pid=$(vm_pid w)
	fermata destroy w --graceful
	wait_gone "$pid"
	assert_images_ok w
}

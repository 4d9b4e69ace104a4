# Sockets that [qemu] args have QEMU listen on, while a second QEMU is beside the first: other programs are connected to the one
# that is the VM's, always under the name that the definition says.
load helper

setup() { root_make; }
teardown() { root_end; }

sockets_vm() {
	witness_vm w "$@"
	s=$FERMATA_ROOT/w.s
	printf 'arg = -chardev socket,id=s,path=%s,server=on,wait=off -serial chardev:s\narg = -qmp unix:%s,server=on,wait=off\n' \
		"$s,,c" "$s.qmp" | conf_add w
}

# The QEMU behind both names is the VM's: the one socket can be connected to, by the other it says that it has no memory to wait for
assert_sockets() {
	local status
	status=$(perl "$SOCK" "$s.qmp" qmp qmp_capabilities query-status)
	grep -qE "\"status\": \"(running|paused)\"" <<<"$status" || { echo "it says $status"; return 1; }
	perl "$SOCK" "$s,c" raw 0.1 x
}

# Nothing else is there: of a second one, if none waits
assert_no_others() {
	[ "$(cd "$FERMATA_ROOT" && echo w.s*)" = "${1-w.s,c w.s.qmp}" ]
}

@test "sockets of [qemu] args: reverts of a running VM, one after the other, and handed over" {
	sockets_vm 2
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	assert_sockets
	fermata snapshot-create-as w h --instant=handover
	assert_sockets
	fermata snapshot-create-as w k --memspec snapshot=external
	for n in 1 2 3 4; do
		fermata snapshot-revert w k
		assert_sockets
		assert_no_others
	done
	fermata snapshot-revert w h
	assert_sockets
	fermata destroy w
	fermata snapshot-revert w k --running
	assert_sockets
	assert_no_others
	# As the definition says, for one that starts.
	fermata destroy w
	vm_start w
	assert_sockets
}

@test "sockets of [qemu] args: a standby has none of the VM's, waiting, taken and ended" {
	sockets_vm 1
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	fermata snapshot-create-as w o --memspec snapshot=external
	fermata standby w k
	assert_sockets
	# Of another snapshot, with the standby beside both
	fermata snapshot-revert w o
	assert_sockets
	fermata snapshot-revert w k
	assert_sockets
	fermata standby w --end
	assert_sockets
	assert_no_others
	# One that was made while the VM was off
	fermata destroy w
	fermata standby w k
	vm_start w
	assert_sockets
	fermata snapshot-revert w k
	assert_sockets
	fermata standby w --end
	assert_sockets
	assert_no_others
}

@test "sockets of [qemu] args: a revert that fails leaves the present one's" {
	sockets_vm 1
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	sed -i 's/^memory .*/memory = 96M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	fails 1 "" snapshot-revert w k --force
	assert_sockets
	assert_no_others
	sed -i 's/^memory .*/memory = 64M/' "$FERMATA_ROOT/etc/fermata/w.conf"
	# QEMU would replace whatever is where it makes a socket.
	echo mine >"$s.qmp.next"
	fails 1 "is where a second QEMU makes its socket" snapshot-revert w k
	[ "$(cat "$s.qmp.next")" = mine ]
	not is_pending w
	assert_sockets
	rm "$s.qmp.next"
	# A QEMU that does not come up: its last argument is refused.
	echo 'arg = -device none-such' | conf_add w
	fails 1 "none-such" snapshot-revert w k --force
	assert_sockets
	assert_no_others
}

@test "sockets of [qemu] args: a revert is cut off as they change hands" {
	need_strace
	sockets_vm 1
	vm_start w
	fermata snapshot-create-as w k --memspec snapshot=external
	fermata snapshot-revert w k
	total=$(calls_of snapshot-revert w k)
	for n in $(moments "$total" 14); do
		cut_at "$n" snapshot-revert w k
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls")"
		fermata recover w
		not is_pending w
		state_is w running || fermata snapshot-revert w k --running
		assert_sockets
	done
	fermata snapshot-revert w k
	assert_no_others
}

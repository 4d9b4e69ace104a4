#!/usr/bin/env bats
# What a definition says of its devices beyond their images, and every kind of snapshot with all of it at once.
bats_require_minimum_version 1.5.0
load helper

setup() { root_make; }
teardown() { root_end; }

# all_keys NAME: a VM that says everything
all_keys() {
	witness_vm "$1" 3 size=16 machine=q35
	sed -i -e '1i uuid = 0f1e2d3c-0000-4000-8000-00000000000a' \
		-e '/^\[disk vda\]/a address = 5.0\niothread = yes\nqueues = 2\ndetect-zeroes = unmap\nboot = 1' \
		-e '/^\[disk vdb\]/a address = 5.1\niops = 5000\nbps = 64M\nboot = 3' \
		-e '/^\[disk vdc\]/a iothread = yes\nboot = 2' "$FERMATA_ROOT/etc/fermata/$1.conf"
	printf 'an ISO' | dd of="$FERMATA_ROOT/images/one.iso" bs=2048 conv=sync status=none
	printf '[disk cd0]\ndevice = cdrom\nbus = sata\naddress = 3\nfile = %s\n' "$FERMATA_ROOT/images/one.iso" | conf_add "$1"
	printf '[disk cd1]\ndevice = cdrom\nbus = scsi\n' | conf_add "$1"
	printf '[net n0]\naddress = 7\nmac = 52:54:00:00:00:01\n' | conf_add "$1"
}

hmp() {
	fermata qemu-monitor-command w --hmp "$1" | tr -d '\r'
}

qmp() {
	fermata qemu-monitor-command w "$1"
}

# QEMU has what the definition says, in this instance as in the first one
assert_tuned() {
	[[ $(qmp '{"execute":"query-uuid"}') == *0f1e2d3c-0000-4000-8000-00000000000a* ]]
	[ "$(qmp '{"execute":"query-iothreads"}' | grep -o '"id": *"[a-z.]*"' | tr -d '" ' | sort | xargs)" = "id:vda.io id:vdc.io" ]
	qmp '{"execute":"query-block"}' >"$FERMATA_ROOT/blocks"
	perl -MJSON::PP -e '
		local $/; my %b = map { $_->{qdev} => $_->{inserted} } @{decode_json(<STDIN>)->{return}};
		for my $id ("vda", "vdb") { $b{$id} //= (map { $b{$_} } grep m{/\Q$id\E/}, keys %b)[0] }
		print join(" ", $b{vda}{detect_zeroes}, $b{vda}{iops}, $b{vdb}{detect_zeroes}, $b{vdb}{iops}, $b{vdb}{bps})' \
		<"$FERMATA_ROOT/blocks" >"$FERMATA_ROOT/said"
	[ "$(cat "$FERMATA_ROOT/said")" = "unmap 0 off 5000 67108864" ] || { cat "$FERMATA_ROOT/said"; return 1; }
	hmp "info pci" >"$FERMATA_ROOT/pci"
	for at in "5, function 0" "5, function 1" "16, function 0" "7, function 0"; do
		grep -q "device *$at:" "$FERMATA_ROOT/pci" || { cat "$FERMATA_ROOT/pci"; return 1; }
	done
	hmp "info qtree" | grep -q "num-queues = 2 "
	hmp "info block" >"$FERMATA_ROOT/blocks"
	grep -qF "$FERMATA_ROOT/images/one.iso (raw, read-only)" "$FERMATA_ROOT/blocks" # in the first drive, the second is empty
	grep -A1 "cd1" "$FERMATA_ROOT/blocks" | grep -q "not inserted" || { cat "$FERMATA_ROOT/blocks"; return 1; }
}

@test "hardware: addresses, threads, queues, limits and uuid and drives, through every kind of snapshot, running and off" {
	all_keys w
	vm_start w
	assert_tuned
	for how in "" "--memspec $FERMATA_ROOT/m.mem" "--memspec $FERMATA_ROOT/l.mem --live" --instant --disk-only; do
		echo "taken: $how"
		from=$(mark w)
		low=$(last_counter w)
		# shellcheck disable=SC2086
		fermata snapshot-create-as w k $how
		high=$(last_counter w)
		assert_one_instant w "$from"
		assert_tuned
		if [ "$how" != --disk-only ]; then
			wait_counter_above w $((high + 5))
			from=$(mark w)
			fermata snapshot-revert w k
			assert_back_in w "$from" "$low" "$high"
			assert_one_instant w "$from"
			assert_tuned
			fermata destroy w
			from=$(mark w)
			fermata snapshot-revert w k
			assert_back_in w "$from" "$low" "$high"
		fi
		assert_tuned
		fermata snapshot-delete w k
		assert_one_instant w
		assert_tuned
	done
	from=$(mark w)
	fermata managedsave w
	fermata start w
	assert_one_instant w "$from"
	assert_tuned
	fermata destroy w
	assert_images_ok w
	fermata domblklist w --details | awk '$3 ~ /^cd/ { print $1, $2, $3, $4 }' >"$FERMATA_ROOT/said"
	[ "$(cat "$FERMATA_ROOT/said")" = "file cdrom cd0 $FERMATA_ROOT/images/one.iso"$'\n'"file cdrom cd1 -" ]
	rm "$FERMATA_ROOT/images/one.iso"
	fails 1 "cd0: cannot open the medium $FERMATA_ROOT/images/one.iso: No such file or directory" start w
	assert_state w "shut off"
}

# A port of this host that nobody listens on
free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

# The process that listens on $port is the VM's, once
assert_forwarded() {
	local pid inode
	inode=$(awk -v p="$(printf ':%04X' "$port")" '$4 == "0A" && index($2, p) { print $10 }' /proc/net/tcp)
	[ "$(wc -w <<<"$inode")" = 1 ]
	pid=$(vm_pid w)
	find "/proc/$pid/fd" -lname "socket:?$inode?" | grep -q . || { echo "not $pid listens on $port"; return 1; }
}

@test "hardware: a forwarded port is the VM's QEMU's, whichever that is; one that is taken is no start" {
	witness_vm w 1 size=16
	port=$(free_port)
	printf '[net n0]\nhostfwd = tcp:127.0.0.1:%s-:22\n' "$port" | conf_add w
	vm_start w
	assert_forwarded
	fermata snapshot-create-as w k --instant
	assert_forwarded
	fermata snapshot-create-as w h --memspec "$FERMATA_ROOT/h.mem"
	fermata standby w k # waits beside it, without the port
	assert_forwarded
	for name in k h; do
		was=$(vm_pid w)
		fermata snapshot-revert w $name 2>"$FERMATA_ROOT/err"
		[ "$(vm_pid w)" != "$was" ]
		not grep -q hostfwd "$FERMATA_ROOT/err"
		assert_one_instant w
		assert_forwarded
	done
	fermata managedsave w
	fermata start w
	assert_one_instant w
	assert_forwarded
	fermata destroy w
	perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => shift, ReuseAddr => 1) or die; print "ready\n"; close STDOUT; sleep 100' \
		"$port" >"$FERMATA_ROOT/ready" &
	taken=$!
	wait_until 10 grep -q ready "$FERMATA_ROOT/ready"
	fails 1 "n0: QEMU refused 'hostfwd_add n0.host tcp:127.0.0.1:$port-:22'" start w
	assert_state w "shut off"
	kill $taken
	wait $taken || true
	fermata snapshot-revert w h
	assert_one_instant w
	assert_forwarded
}

#!/usr/bin/env bats
# What QEMU has, disks and devices, is held against what the definition says before anything is kept of it.
bats_require_minimum_version 1.5.0
load helper

setup() {
	root_make
	witness_vm w 1
	EX=$FERMATA_ROOT/images/"more data.qcow2"
	qemu-img create -q -f qcow2 "$EX" 16M
	PLAIN=$FERMATA_ROOT/images/plain.raw
	qemu-img create -q -f raw "$PLAIN" 1M
}

teardown() {
	root_end
}

# qemu_args WORDS: more words for w's [qemu], which is its last section
qemu_args() {
	printf 'arg = %s\n' "$1" | conf_add w
}

# refused WORD COMMAND...: exit status 1, naming it, and nothing is left pending
refused() {
	run --separate-stderr fermata "${@:2}"
	echo "$stderr"
	[ "$status" = 1 ]
	[[ $stderr == *"'$1'"* ]]
	not grep -q '"pending": *{' "$FERMATA_ROOT/var/lib/fermata/w/state.json"
}

every_kind_refused() {
	local how state
	state=$(fermata domstate w | head -n 1)
	for how in "" --disk-only "--memspec $FERMATA_ROOT/m.mem" --instant "--live --memspec $FERMATA_ROOT/m.mem"; do
		# shellcheck disable=SC2086
		refused "$1" snapshot-create-as w one $how
	done
	refused "$1" save w "$FERMATA_ROOT/w.save"
	refused "$1" managedsave w
	[ "$(fermata domstate w | head -n 1)" = "$state" ]
	[ -z "$(fermata snapshot-list w --name)" ]
}

@test "devices: a disk of [qemu] args is refused by name, running or off, unless it is left out" {
	qemu_args "-drive \"file=$EX,if=none,id=ex,format=qcow2\" -device virtio-blk-pci,drive=ex,id=exd"
	refused ex snapshot-create-as w off
	vm_start w
	every_kind_refused ex
	fermata destroy w
	for id in ex exd "$EX"; do
		sed -i '/^left-out/d' "$FERMATA_ROOT/etc/fermata/w.conf"
		echo "left-out = nobody, $id" | conf_add w
		fermata snapshot-create-as w "off-${id##*/}"
		vm_start w
		fermata snapshot-create-as w "on-${id##*/}"
		fermata destroy w
	done
}

@test "devices: a disk by -blockdev, -hda or as flash, and a medium that is inserted later" {
	local words name
	while read -r name words; do
		cp "$FERMATA_ROOT/etc/fermata/w.conf" "$FERMATA_ROOT/kept"
		qemu_args "$words"
		refused "$name" snapshot-create-as w off
		fermata start w --paused
		run --separate-stderr fermata snapshot-create-as w on
		echo "$words: $stderr"
		[ "$status" = 1 ]
		[[ $stderr == *"$PLAIN"* ]]
		fermata destroy w
		cp "$FERMATA_ROOT/kept" "$FERMATA_ROOT/etc/fermata/w.conf"
	done <<-END
		pf -blockdev driver=file,node-name=pf,filename=$PLAIN -blockdev driver=raw,node-name=pr,file=pf -device virtio-blk-pci,drive=pr
		$PLAIN -hda $PLAIN
		$PLAIN -drive if=ide,format=raw,file=$PLAIN
	END
	qemu_args "-device virtio-scsi-pci,id=s -device scsi-cd,id=cd -drive if=none,id=ro,format=raw,readonly=on,file=$PLAIN -device virtio-blk-pci,drive=ro"
	fermata start w --paused
	fermata snapshot-create-as w one # what is only read is in nobody's way
	fermata qemu-monitor-command w "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"file\",\"node-name\":\"hot\",\"filename\":\"$EX\"}}"
	fermata qemu-monitor-command w '{"execute":"device_add","arguments":{"driver":"scsi-hd","id":"hotd","drive":"hot"}}'
	run --separate-stderr fermata snapshot-create-as w two --disk-only
	[ "$status" = 1 ]
	[[ $stderr == *"more data.qcow2"* ]]
}

@test "devices: one that was plugged in since the start is named, and what is unplugged again is no matter" {
	qemu_args "-device qemu-xhci,id=x -device usb-mouse,bus=x.0,id=mouse"
	vm_start w
	wait_counter_above w 5
	fermata snapshot-create-as w before
	fermata qemu-monitor-command w --hmp 'device_add usb-tablet,bus=x.0,id=tab'
	for how in "" "--memspec $FERMATA_ROOT/m.mem" --instant; do
		# shellcheck disable=SC2086
		refused tab snapshot-create-as w one $how
	done
	refused tab save w "$FERMATA_ROOT/w.save"
	refused tab snapshot-revert w before
	assert_state w running
	fermata snapshot-create-as w disks --disk-only # memory is none of it
	fermata snapshot-delete w disks
	fermata qemu-monitor-command w --hmp 'device_del tab'
	wait_until 10 fermata snapshot-create-as w two
	fermata snapshot-revert w two
	fermata qemu-monitor-command w --hmp 'device_add usb-kbd,bus=x.0' # without an id
	run --separate-stderr fermata snapshot-create-as w three
	[ "$status" = 1 ]
	[[ $stderr == *"usb-kbd"* ]]
	fermata destroy w
	vm_start w
	fermata qemu-monitor-command w --hmp 'device_del mouse'
	run --separate-stderr wait_until 10 refused mouse snapshot-create-as w four
	[[ $output == *"unplugged"* ]]
	# What takes its place has its own list.
	fermata snapshot-revert w two --force || fermata recover w
	fermata destroy w || true
	fermata snapshot-revert w two
	fermata snapshot-create-as w five
}

# The witness itself, on plain QEMU: it runs wherever a test wants it, and it does see what it is there to see.
load helper

setup() { root_make; }
teardown() { root_end; }

# plain NAME ARGS...: QEMU with the witness's disks of NAME's definition, without fermata
plain() {
	local name=$1 run=$FERMATA_ROOT/run/fermata/$1
	shift
	mkdir -p "$run"
	qemu-system-x86_64 -m 64 -nodefaults -display none -daemonize -pidfile "$run/pid" \
		-qmp "unix:$run/qmp.sock,server=on,wait=off" -serial "unix:$run/console.sock,server=on,wait=off" \
		-chardev "file,id=log,path=$FERMATA_ROOT/$name.log" -serial chardev:log "$@"
}

hmp() {
	perl "$SOCK" "$FERMATA_ROOT/run/fermata/$1/qmp.sock" qmp \
		"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"$2\"}}"
}

# drives NAME MODEL: -drive and -device for each image; @ is the disk's number
drives() {
	local file i=0
	drives=()
	for file in $(images "$1"); do
		drives+=(-drive "file=$file,format=${file##*.},if=none,id=d$i" -device "${2//@/$i},drive=d$i")
		i=$((i + 1))
	done
}

runs_on() {
	local machine=$1 model=$2
	shift 2
	drives w "$model"
	plain w -M "$machine" "$@" "${drives[@]}"
	wait_counter_above w 20
	assert_one_instant w 0
	[ "$(ask w v '^V')" = "V ok" ]
}

@test "witness: eight virtio disks on pc" {
	witness_vm w 8 format=raw fill=8 ticks=50
	runs_on pc virtio-blk-pci
	said w | grep -q '^mem=[0-9]* d0=.* d7='
}

@test "witness: two virtio-scsi disks on q35" {
	witness_vm w 2 format=raw
	runs_on q35 scsi-hd -device virtio-scsi-pci
	said w | grep -q 'disks=scsi,scsi'
}

@test "witness: two IDE disks on pc, two SATA disks on q35" {
	witness_vm w 2 format=raw
	runs_on pc ide-hd,bus=ide.@
	said w | grep -q 'disks=ide,ide'
	root_end
	root_make
	witness_vm w 2 format=raw
	runs_on q35 ide-hd,bus=ide.@
	said w | grep -q 'disks=sata,sata'
}

@test "witness: runs under kvm" {
	[ -w /dev/kvm ] || skip "/dev/kvm cannot be used"
	witness_vm w 2 format=raw dirty=0
	runs_on pc virtio-blk-pci -accel kvm
}

@test "witness: goes back with loadvm, and what it wrote later is gone" {
	witness_vm w 2 fill=4
	drives w virtio-blk-pci
	plain w "${drives[@]}"
	wait_counter_above w 20
	ask w g '^G=16$'
	low=$(last_counter w)
	[[ $(hmp w "savevm one") == *'"return": ""'* ]]
	then=$(last_counter w)
	[ "$(spread w one)" = all ]
	ask w g '^G=32$'
	wait_counter_above w $((then + 100))
	from=$(mark w)
	[[ $(hmp w "loadvm one") == *'"return": ""'* ]]
	assert_back_in w "$from" "$low" "$then"
	assert_one_instant w "$from"
	[ "$(ask w c '^C')" = "C ok" ]
	[ "$(ask w v '^V')" = "V ok" ]
	ask w g '^G=32$'
}

@test "witness: a disk of another instant is named within a tick, and until memory goes back" {
	witness_vm w 3
	drives w virtio-blk-pci
	plain w "${drives[@]}"
	wait_counter_above w 20
	hmp w "savevm one"
	hmp w stop
	hmp w "qemu-io d1 \\\"write -P 9 1M 1024\\\""
	from=$(mark w)
	hmp w cont
	will_say w "$from" 10 says '^BAD d1=torn mem=' >/dev/null
	will_say w "$from" 10 says '^mem=.* bad=[12]$' >/dev/null
	run assert_one_instant w
	[ "$status" -ne 0 ]
	hmp w "loadvm one"
	assert_one_instant w
	# The checkpoint of one disk is replaced by a later one of the same name.
	hmp w "snapshot_delete_blkdev_internal d1 one"
	hmp w "snapshot_blkdev_internal d1 one"
	from=$(mark w)
	hmp w "loadvm one"
	will_say w "$from" 10 says "^BAD d1=[0-9]* mem=" >/dev/null
}

@test "a read that fails, of whatever: a VM that runs is never taken for one that is off" {
	need_strace
	witness_vm w 1
	vm_start w
	pid=$(vm_pid w)
	for cmd in "domstate w" "snapshot-create-as w k" "snapshot-create-as w k --disk-only"; do
		for i in $(seq 1 10); do
			strace -qq -o "$FERMATA_ROOT/trace" -e "inject=read:error=EIO:when=$i" "$FERMATA_BIN" --root "$FERMATA_ROOT" $cmd \
				>/dev/null 2>"$FERMATA_ROOT/err" || true
			echo "$cmd, read $i: $(cat "$FERMATA_ROOT/err")"
			fermata recover w
			[ "$(vm_pid w)" = "$pid" ]
			assert_state w running
			if listed w k; then fermata snapshot-delete w k; fi
		done
	done
}

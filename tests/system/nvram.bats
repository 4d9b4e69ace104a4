# The firmware's variables are part of every snapshot: in a qcow2 image as a disk is, in a raw file as a copy, in a
# checkpoint as part of its memory.
load helper

setup() {
	root_make
	[ -r /usr/share/seabios/bios-256k.bin ] || skip "there is no SeaBIOS to be the firmware"
}
teardown() { root_end; }

# A VM whose flash holds SeaBIOS, and beside it 64 KiB of variables
nvram_vm() {
	witness_vm w 2 size=16 accel=kvm:tcg
	nvram=$FERMATA_ROOT/images/vars
	{
		printf 'firmware = /usr/share/seabios/bios-256k.bin\nnvram = %s\nnvram-format = %s\n' "$nvram" "$1"
		cat "$FERMATA_ROOT/etc/fermata/w.conf"
	} >"$FERMATA_ROOT/conf"
	mv "$FERMATA_ROOT/conf" "$FERMATA_ROOT/etc/fermata/w.conf"
	head -c 65536 /dev/zero >"$FERMATA_ROOT/zeros"
	qemu-img convert -f raw -O "$1" "$FERMATA_ROOT/zeros" "$nvram"
	chmod 640 "$nvram"
	fmt=$1
}

put() {
	qemu-io -f "$fmt" -c "write -P $1 0 64k" "$nvram" >/dev/null
}

# has N: every byte of the variables is N
has() {
	qemu-io -f "$fmt" -r -U -c "read -P $1 0 64k" "$nvram" >"$FERMATA_ROOT/read" || return
	grep -q '^read 65536' "$FERMATA_ROOT/read" && not grep failed "$FERMATA_ROOT/read"
}

comes_back() {
	fermata snapshot-revert w "$1" $3
	state_is w "shut off" || { wait_counter_above w 0 60 "$(mark w)"; fermata destroy w; }
	has "$2"
	put 9
}

each_kind() {
	put 1
	fermata snapshot-create-as w off
	put 9
	comes_back off 1
	# A checkpoint has its memory loaded, and with it the flash.
	put 5
	vm_start w
	fermata snapshot-create-as w memory
	fermata destroy w
	put 9
	comes_back memory 5
	fermata snapshot-delete w memory
	put 2
	fermata snapshot-create-as w off-ext --disk-only
	put 4
	vm_start w
	fermata snapshot-create-as w live --disk-only
	fermata destroy w
	put 9
	comes_back off-ext 2
	comes_back live 4
	for s in live off-ext off; do
		fermata snapshot-delete w $s
		has 9
	done
	[ "$(ls "$FERMATA_ROOT/var/lib/fermata/w")" = state.json ]
	[ "$(stat -c %a "$nvram")" = 640 ]
	qemu-img check -q -f "$fmt" "$nvram" || [ "$fmt" = raw ]
}

@test "nvram in a raw file" {
	nvram_vm raw
	each_kind
}

@test "nvram in a qcow2 image" {
	nvram_vm qcow2
	each_kind
}

@test "nvram: a copy that is gone is told before anything is touched; cut off in the middle, it is made again" {
	nvram_vm raw
	put 1
	fermata snapshot-create-as w a
	put 2
	mv "$FERMATA_ROOT/var/lib/fermata/w/nvram-1" "$FERMATA_ROOT/away"
	fails 1 "is gone" snapshot-revert w a
	has 2
	mv "$FERMATA_ROOT/away" "$FERMATA_ROOT/var/lib/fermata/w/nvram-1"
	need_strace
	inject fsync 1 snapshot-revert w a
	is_pending w
	fermata recover w
	has 2
	inject fsync 2 snapshot-revert w a
	is_pending w
	fermata recover w
	has 1
	inject fsync 1 snapshot-create-as w b
	fermata recover w
	[ ! -e "$FERMATA_ROOT/var/lib/fermata/w/nvram-2" ]
}

@test "nvram: a file that a revert makes anew has its name on disk before the record says that it is done" {
	need_strace
	nvram_vm raw
	put 1
	fermata snapshot-create-as w a
	rm "$nvram"
	strace -qq -y -e trace=fsync,rename -o "$FERMATA_ROOT/trace" "$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert w a
	has 1
	# The file, then its folder, then the record
	sed -n "\\|^fsync([0-9]*<$nvram>|,\$p" "$FERMATA_ROOT/trace" | sed '/^rename.*state.json/,$d' |
		grep -q "^fsync([0-9]*<$FERMATA_ROOT/images>"
}

@test "nvram: a revert that is refused does not make the file; one that is not brings it back" {
	need_strace
	nvram_vm raw
	put 1
	fermata snapshot-create-as w off
	rm "$nvram"
	status=0
	strace -qq -o /dev/null -e inject=rename:error=EIO:when=1 "$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert w off || status=$?
	[ $status = 1 ]
	not is_pending w
	[ ! -e "$nvram" ]
	fermata snapshot-revert w off
	has 1
}

# Guests of other processors: Arm's and RISC-V's virt. Every kind of checkpoint is taken of one and gone back to.
load helper

setup() { root_make; }
teardown() { root_end; }

# board_vm ARCH DISKS [as witness_vm]; skipped where there is no cross compiler or no QEMU for it
board_vm() {
	local arch=$1 disks=$2
	shift 2
	case $arch in
	arm64) need="qemu-system-aarch64 aarch64-linux-gnu-gcc" ;;
	riscv64) need="qemu-system-riscv64 riscv64-linux-gnu-gcc" ;;
	esac
	for tool in $need; do
		command -v "$tool" >/dev/null || skip "there is no $tool"
	done
	witness_vm w "$disks" "arch=$arch" "$@"
}

# taken NAME ARGS...: a snapshot; between which counters its instant lies is kept
declare -gA low high
taken() {
	low[$1]=$(last_counter w)
	fermata snapshot-create-as w "$@"
	not is_pending w
	high[$1]=$(last_counter w)
	wait_counter_above w $((${high[$1]} + 50))
}

# back_to NAME [FLAG...]: memory, devices and every disk are of that instant, and all of memory is as it was
back_to() {
	local from
	from=$(mark w)
	# The numbers after it must not follow those before it: one that comes from an earlier instant runs past this one first.
	if [ "$(fermata domstate w)" = running ]; then
		wait_counter_above w $((${high[$1]} + 30)) 120 "$from"
	fi
	fermata snapshot-revert w "$@"
	assert_back_in w "$from" "${low[$1]}" "${high[$1]}"
	assert_one_instant w "$from"
	[ "$(ask w v '^V')" = "V ok" ]
}

each_kind() {
	vm_start w
	fermata list | grep -q ' w  *running'
	taken inside
	back_to inside
	fermata destroy w
	back_to inside
	fermata snapshot-delete w inside
	taken stopped --memspec "$FERMATA_ROOT/stopped.mem"
	taken live --live --memspec "$FERMATA_ROOT/live.mem"
	taken instant --instant
	for name in stopped live instant; do
		back_to $name
	done
	fermata snapshot-verify w live
	fermata destroy w
	back_to live
	fermata snapshot-bake w stopped
	fermata standby w stopped
	wait_counter_above w $((${high[stopped]} + 50))
	back_to stopped
	taken outside --disk-only
	fermata snapshot-delete w live
	back_to instant --verify
	fermata destroy w
	assert_images_ok w
}

@test "board: arm64: each kind of checkpoint is gone back to, running and off" {
	board_vm arm64 2 fill=8 dirty=4
	each_kind
}

@test "board: riscv64: each kind of checkpoint is gone back to, running and off" {
	board_vm riscv64 2 fill=8 dirty=4
	# QEMU forgets the timer when it loads a state that another process has saved: plain QEMU's guest stands still after -loadvm, too.
	case $(qemu-system-riscv64 --version) in *"version 7."* | *"version 8."*) skip "this QEMU loses the timer of RISC-V" ;; esac
	each_kind
}

@test "board: arm64: handed over, guarded, exported, saved and started anew" {
	board_vm arm64 1 fill=8
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	from=$(mark w)
	pid=$(vm_pid w)
	taken handed --instant=handover
	[ "$(vm_pid w)" != "$pid" ]
	assert_one_instant w "$from"
	back_to handed
	c=$(last_counter w)
	status=0
	fermata guard w -- sh -c 'sleep 1; exit 7' || status=$?
	[ "$status" != 0 ]
	wait_counter_above w "$c" 60 "$(mark w)"
	fermata snapshot-export w handed "$FERMATA_ROOT/handed.fermata"
	for way in managedsave save; do
		from=$(mark w)
		c=$(last_counter w)
		if [ $way = save ]; then
			fermata save w "$FERMATA_ROOT/w.save"
			fermata restore "$FERMATA_ROOT/w.save"
		else
			fermata managedsave w
			fermata start w
		fi
		wait_counter_above w "$c" 60 "$from"
		assert_one_instant w "$from"
		if said_since w "$from" '^boot'; then return 1; fi
	done
	fermata destroy w
	assert_images_ok w
}

@test "board: arm64: what the guest writes into a flash without a file is refused where only devices are saved" {
	board_vm arm64 1
	vm_start w
	taken clean --instant
	taken more --memspec "$FERMATA_ROOT/more.mem"
	ask w f '^F ok'
	fails 1 "the guest has written into 'virt.flash1'" snapshot-create-as w dirty --instant
	fails 1 "the guest has written into 'virt.flash1'" snapshot-create-as w dirty --instant=handover
	not is_pending w
	taken dirty --memspec "$FERMATA_ROOT/dirty.mem"
	fails 1 "'virt.flash1' is not empty" snapshot-bake w dirty
	back_to dirty
	back_to clean
	fermata snapshot-create-as w again --instant
	fermata snapshot-bake w more
	# From far behind it, so that where the count goes back is where the other guest begins.
	wait_counter_above w $((${high[more]} + 50)) 60 "$(mark w)"
	back_to more
	fermata destroy w
	assert_images_ok w
}

@test "board: arm64: SCSI and SATA disks, a network, an agent's channel, nine processors" {
	board_vm arm64 1
	cat >"$FERMATA_ROOT/more" <<-END
		agent = yes
		vcpus = 9
	END
	cat "$FERMATA_ROOT/etc/fermata/w.conf" >>"$FERMATA_ROOT/more"
	mv "$FERMATA_ROOT/more" "$FERMATA_ROOT/etc/fermata/w.conf"
	for bus in scsi sata; do
		qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/$bus.qcow2" 8M
		printf '[disk %s]\nfile = %s\nformat = qcow2\nbus = %s\n' $bus "$FERMATA_ROOT/images/$bus.qcow2" $bus | conf_add w
	done
	printf '[net lan]\ntype = user\n' | conf_add w
	fermata start w --paused
	fermata snapshot-create-as w k
	fermata snapshot-revert w k --paused
	fermata destroy w
	fermata snapshot-revert w k --paused
	assert_state w paused
	[ "$(spread w k)" = all ]
}

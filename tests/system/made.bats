#!/usr/bin/env bats
# What a checkpoint was made with is compared before it is gone back to: nothing is touched for a load that must fail.
bats_require_minimum_version 1.5.0
load helper

setup() {
	root_make
	CONF=$FERMATA_ROOT/etc/fermata/w.conf
	IMAGE=$FERMATA_ROOT/images/w.qcow2
	qemu-img create -q -f qcow2 "$IMAGE" 16M
	define 'cpu = qemu64'
}

teardown() {
	root_end
}

# define HEAD [SECTION...]: the definition anew, with this line at its head and these sections at its end
define() {
	local line=$1 section
	shift
	conf_head w pc tcg 32M
	printf '%s\n\n[disk vda]\nfile = %s\nformat = qcow2\n' "$line" "$IMAGE" | conf_add w
	for section; do printf "\n$section\n" | conf_add w; done
}

NET='[net eth0]\ntype = user'

wrote() { qemu-io -c "write -q -P 7 0 1M" "$IMAGE" >/dev/null; }
has_it() { [[ $(qemu-io -r -U -c "read -P 7 0 1M" "$IMAGE" 2>&1) == "read 1048576/"* ]]; }

# refused WORDS COMMAND...: status 1, for that reason, and nothing pending
refused() {
	fails 1 "$@"
	run --separate-stderr fermata list --all
	[ "$status" = 0 ]
	[ -z "$stderr" ]
}

@test "made: a running VM with a device more or less than the checkpoint had refuses to go back, and runs on" {
	local pid
	define '' "$NET"
	fermata start w --paused
	fermata snapshot-create-as w with
	fermata destroy w
	define ''
	fermata start w --paused
	fermata snapshot-create-as w without
	fermata destroy w
	wrote
	fermata start w --paused
	pid=$(vm_pid w)
	refused "it had 'device eth0 = virtio-net-pci' when it was made" snapshot-revert w with --paused
	[ "$(vm_pid w)" = "$pid" ]
	assert_state w paused
	fermata destroy w
	has_it
	define '' "$NET" '[qemu]\narg = -device virtio-rng-pci'
	fermata start w --paused
	refused "'device eth0 = virtio-net-pci'" snapshot-revert w without --paused
	refused "'device[0] = virtio-rng-pci'" snapshot-revert w with --paused
	# What it was started with counts, not what the definition says by now.
	define ''
	refused "'device eth0 = virtio-net-pci'" snapshot-revert w without --paused
	fermata destroy w
	has_it
	fermata snapshot-revert w without --paused
	assert_state w paused
}

@test "made: two devices that have changed places are another machine" {
	define '' "$NET" '[net eth1]\ntype = user\nmodel = e1000'
	fermata start w --paused
	fermata snapshot-create-as w one
	fermata destroy w
	define '' '[net eth1]\ntype = user\nmodel = e1000' "$NET"
	refused "another order" snapshot-revert w one --paused
	fermata start w --paused
	refused "another order" snapshot-revert w one --paused
	assert_state w paused
}

# another_cpu ARGS...: of a checkpoint that is taken so
another_cpu() {
	fermata start w --paused
	fermata snapshot-create-as w one "$@"
	fermata destroy w
	define 'cpu = Nehalem'
	refused "cpu was 'qemu64' when it was made, and is 'Nehalem' by the definition" snapshot-revert w one --paused
	assert_state w "shut off"
	fermata start w --paused
	refused "cpu was 'qemu64' when it was made, and is 'Nehalem'" snapshot-revert w one --paused
	assert_state w paused
	fermata destroy w
	fermata snapshot-revert w one --paused --force
	assert_state w paused
	fermata destroy w
	define 'cpu = qemu64'
	fermata snapshot-revert w one --paused
	assert_state w paused
}

@test "made: another cpu is named, by an internal checkpoint" {
	another_cpu
}

@test "made: another cpu is named, by an external checkpoint" {
	another_cpu --memspec "$FERMATA_ROOT/images/k.mem"
}

@test "made: another cpu is named, by an instant checkpoint and a standby for it" {
	another_cpu --instant=copy
	fermata destroy w
	define 'cpu = Nehalem'
	refused "cpu was 'qemu64'" standby w one
}

@test "made: more vcpus or more memory are named" {
	fermata start w --paused
	fermata snapshot-create-as w one
	fermata destroy w
	define 'vcpus = 2'
	echo 'cpu = qemu64' | cat - "$CONF" >"$CONF.new" && mv "$CONF.new" "$CONF"
	refused "vcpus was '1'" snapshot-revert w one --paused
	define 'cpu = qemu64'
	sed -i 's/^memory.*/memory = 64M/' "$CONF"
	refused "memory was '32M'" snapshot-revert w one --paused
}

@test "made: a managed save is of the VM that ran, not of a definition that was edited meanwhile" {
	fermata start w --paused
	define 'cpu = Nehalem'
	fermata managedsave w
	fails 1 "cpu was 'qemu64' when it was made, and is 'Nehalem'" start w --paused
	[ -s "$FERMATA_ROOT/var/lib/fermata/w/managed.save" ]
	define 'cpu = qemu64'
	fails 1 "cpu was 'Nehalem'" start w --paused # the text that was saved with it
	fermata restore "$FERMATA_ROOT/var/lib/fermata/w/managed.save" --paused --force
	assert_state w paused
}

@test "made: a checkpoint that others made is loaded into a running VM only by force; off, its disks are kept" {
	fermata start w --paused
	fermata qemu-monitor-command w --hmp "savevm theirs"
	refused "is not known" snapshot-revert w theirs --paused
	refused "'fermata destroy w' first" snapshot-revert w theirs --paused
	assert_state w paused
	fermata snapshot-revert w theirs --paused --force
	fermata destroy w
	fermata snapshot-revert w theirs --paused
	assert_state w paused
}

@test "made: an archive has it, and what is imported is refused as the original is" {
	fermata start w --paused
	fermata snapshot-create-as w one
	fermata destroy w
	fermata snapshot-export w one "$FERMATA_ROOT/one.fa"
	fermata snapshot-import w "$FERMATA_ROOT/one.fa" --name again
	define 'cpu = Nehalem'
	refused "cpu was 'qemu64'" snapshot-revert w again --paused
	define 'cpu = qemu64'
	fermata snapshot-revert w again --paused
	assert_state w paused
}

@test "made: what QEMU said of a load that was forced and failed is told" {
	define '' "$NET"
	fermata start w --paused
	fermata snapshot-create-as w one
	fermata destroy w
	define ''
	wrote
	fails 1 "QEMU said: Unknown savevm section" snapshot-revert w one --paused --force
	assert_state w "shut off"
	has_it
	fermata start w --paused
	fails 3 "QEMU said: Unknown savevm section" snapshot-revert w one --paused --force
}

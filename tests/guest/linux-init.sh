#!/bin/sh
# The Linux guest's first process. Mounts what is needed, an ext4 file system on the first disk, starts the guest
# agent; then counts: each number is written to a file on the disk, with fsync, before it is said:
#
#	linux=12 disk=12
#
# so a frozen file system shows as silence. "READY" is said once the agent runs. The power button and the agent's
# shutdown both unmount and power off, and say "BYE".
export PATH=/bin:/sbin

# Both serial ports where there are two: one is the console socket's, the other a log's.
tell() {
	echo "$*" >/dev/ttyS0
	echo "$*" >/dev/ttyS1
} 2>/dev/null

if [ "${1-}" = bye ]; then
	sync
	umount /mnt
	tell BYE
	poweroff -f
	exit
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /run /tmp /mnt /var/log
ln -sf /run /var/run
echo 1 >/proc/sys/kernel/printk

while read -r module; do
	insmod "/modules/$module" || tell "cannot load $module"
done </modules/order

for disk in vda sda; do
	[ -b /dev/$disk ] && mount -t ext4 /dev/$disk /mnt && break
done || tell "no file system: no disk"
for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
	qemu-ga -d -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid -l /run/qemu-ga.log
	tell agent
done
acpid

n=0
[ -f /mnt/counter ] && read -r n </mnt/counter
tell "READY at ${n:-0}"
while :; do
	n=$((n + 1))
	echo $n | dd of=/mnt/counter conv=fsync 2>/dev/null
	read -r disk </mnt/counter
	tell "linux=$n disk=$disk"
	sleep 0.1
done

#!/bin/sh
# Make the Linux guest: Debian's cloud kernel, an initramfs of busybox and the guest agent, a disk with ext4.
#
#	tests/guest/mklinux.sh OUTDIR [size=MiB]
#
# Makes OUTDIR/vmlinuz, OUTDIR/initrd and OUTDIR/disk.raw (64 MiB). Exit 77, with the reason, where a part of it is
# not installed. To boot: -kernel vmlinuz -initrd initrd -append 'console=ttyS0 quiet', the disk first.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: mklinux.sh OUTDIR [size=MiB]}
size=64
[ $# -lt 2 ] || size=${2#size=}
PATH=$PATH:/usr/sbin:/sbin

skip() {
	echo "mklinux: $*; see tests/setup.sh" >&2
	exit 77
}
need() {
	command -v "$1" || skip "there is no $1"
}
# shellcheck disable=SC2012
kernel=$(ls /boot/vmlinuz-*cloud* 2>/dev/null | sort -V | tail -n 1)
[ -r "$kernel" ] || skip "there is no cloud kernel in /boot"
version=${kernel#/boot/vmlinuz-}
busybox=$(need busybox)
agent=$(need qemu-ga)
for tool in cpio mke2fs modprobe gzip; do need $tool >/dev/null; done

mkdir -p "$out"
tmp=$(mktemp -d "$out/tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
root=$tmp/root
mkdir -p "$root/bin" "$root/sbin" "$root/modules" "$root/etc/acpi/PWRF" "$root/proc" "$root/sys" "$root/dev"

cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp "$here/linux-init.sh" "$root/init"
# The agent runs /sbin/shutdown; busybox's acpid the power button's action.
for path in sbin/shutdown etc/acpi/PWRF/00000080; do
	printf '#!/bin/sh\nexec /bin/sh /init bye\n' >"$root/$path"
	chmod +x "$root/$path"
done

# The agent and every library the loader would open for it, where the loader looks for them.
cp "$agent" "$root/bin/qemu-ga"
ldd "$agent" | grep -o '/[^ ]*' | while read -r lib; do
	mkdir -p "$root/$(dirname "$lib")"
	cp -L "$lib" "$root/$lib"
done

# Modules in the order in which they load; what is built in has none.
for m in virtio_pci virtio_blk virtio_scsi ahci ata_piix sd_mod ext4 virtio_console evdev button; do
	modprobe -S "$version" --show-depends $m 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r ko; do
	name=$(basename "$ko")
	case $ko in
	*.xz) name=${name%.xz}; xz -dc "$ko" >"$root/modules/$name" ;;
	*.zst) name=${name%.zst}; zstd -qdc "$ko" >"$root/modules/$name" ;;
	*) cp "$ko" "$root/modules/$name" ;;
	esac
	echo "$name" >>"$root/modules/order"
done

(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$tmp/initrd"
truncate -s "${size}M" "$tmp/disk.raw"
mke2fs -q -t ext4 -F "$tmp/disk.raw"
cp "$kernel" "$tmp/vmlinuz"
mv "$tmp/initrd" "$tmp/disk.raw" "$tmp/vmlinuz" "$out"

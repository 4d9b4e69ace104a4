#!/bin/sh
# Make an appliance: Debian's kernel, an initramfs whose first process is fermata, with Debian's QEMU and the definition
# of one VM; a state disk into which a golden checkpoint of the witness guest was imported, and nothing else.
#
#	tests/appliance/mk.sh OUTDIR
#
# Makes OUTDIR/vmlinuz, initrd, state.raw and own (what of it is the appliance's own, in bytes). Exit 77, with the
# reason, where a part of it is not installed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
out=${1:?usage: mk.sh OUTDIR}
fermata=${FERMATA_BIN:-${O:-$top/build}/fermata}
PATH=$PATH:/usr/sbin:/sbin

skip() {
	echo "mk.sh: $*; see tests/setup.sh" >&2
	exit 77
}
for tool in qemu-system-x86_64 qemu-img cpio mke2fs modprobe gcc objcopy unshare; do
	command -v $tool >/dev/null || skip "there is no $tool"
done
unshare -m true 2>/dev/null || skip "no mount namespace can be made"
# shellcheck disable=SC2012
kernel=$(ls /boot/vmlinuz-*cloud* 2>/dev/null | sort -V | tail -n 1)
[ -r "$kernel" ] || skip "there is no cloud kernel in /boot"
version=${kernel#/boot/vmlinuz-}
qemu=$(command -v qemu-system-x86_64)

mkdir -p "$out"
out=$(cd "$out" && pwd)
tmp=$(mktemp -d "$out/tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
root=$tmp/root
mkdir -p "$root/bin" "$root/modules" "$root/etc/fermata" "$root/usr/share/qemu" "$root/tmp" "$root/state"

# ---- the appliance's own part: the binary and the definition
cp "$fermata" "$root/init"
cat >"$root/etc/fermata/koan.conf" <<-'END'
	memory  = 32M
	machine = pc
	accel   = tcg

	[disk vda]
	file   = /var/lib/fermata/koan.qcow2
	format = qcow2
	cache  = writeback

	[boot]
	autostart       = yes
	from            = golden
	discard-changes = yes
	verify          = yes
	fallback        = cold
	healthy         = serial "mem="
	within          = 600s
	attempts        = 2
	on-stop         = kill

	[qemu]
	arg = -chardev file,id=log,path=/dev/ttyS1,append=on -serial chardev:log
END

# ---- Debian's: QEMU with every library that the loader opens for it, its firmware, modules
{
	echo "$qemu"
	ldd "$qemu" | grep -o '/[^ ]*'
} | while read -r f; do
	mkdir -p "$root/$(dirname "$f")"
	cp -pL "$f" "$root/$f"
done
# Debian's builds load what they emulate with as a module.
for f in /usr/lib/*/qemu/accel-tcg-x86_64.so; do
	[ -e "$f" ] || continue
	mkdir -p "$root/$(dirname "$f")"
	cp "$f" "$root/$f"
done
for f in bios-256k.bin kvmvapic.bin linuxboot_dma.bin; do
	for dir in /usr/share/qemu /usr/share/seabios; do
		[ ! -e $dir/$f ] || cp -L $dir/$f "$root/usr/share/qemu/"
	done
done
for m in virtio_pci virtio_blk ext4 evdev button; do
	modprobe -S "$version" --show-depends $m 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r ko; do
	name=$(basename "$ko")
	case $ko in
	*.xz) name=${name%.xz}; xz -dc "$ko" >"$root/modules/$name" ;;
	*.zst) name=${name%.zst}; zstd -qdc "$ko" >"$root/modules/$name" ;;
	*) cp "$ko" "$root/modules/$name" ;;
	esac
	echo "module = /modules/$name"
done >"$root/etc/fermata/init.conf"
echo "mount = /dev/vda /var/lib/fermata ext4" >>"$root/etc/fermata/init.conf"

# ---- the golden checkpoint, made with the same QEMU on this host
factory=$tmp/factory
mkdir -p "$factory/etc/fermata" "$tmp/state"
"$top/tests/guest/mkwitness.sh" "$tmp/witness.raw" size=16
qemu-img convert -q -f raw -O qcow2 "$tmp/witness.raw" "$factory/koan.qcow2"
sed -e "s|/var/lib/fermata/koan.qcow2|$factory/koan.qcow2|" -e "s|/dev/ttyS1|$tmp/log|" \
	"$root/etc/fermata/koan.conf" >"$factory/etc/fermata/koan.conf"
"$fermata" --root "$factory" start koan >/dev/null
for _ in $(seq 6000); do
	"$top/tests/guest/readlog.pl" "$tmp/log" | grep -q '^mem=[1-9][0-9][0-9]' && break
	sleep 0.1
done
"$fermata" --root "$factory" snapshot-create-as koan golden --instant >/dev/null
"$fermata" --root "$factory" destroy koan >/dev/null

# ---- and imported where the appliance will have it: names in its record and its images are the appliance's own
"$fermata" --root "$factory" snapshot-export koan golden "$tmp/golden" >/dev/null
# shellcheck disable=SC2016
unshare -m sh -ec '
	cp "$1" "$2/fermata"
	for dir in /etc /run /var; do mount -t tmpfs none $dir; done
	mkdir -p /etc/fermata /var/lib/fermata
	mount --bind "$2/state" /var/lib/fermata
	cp "$2/root/etc/fermata/koan.conf" /etc/fermata/
	"$2/fermata" snapshot-import koan "$2/golden" --force
' sh "$fermata" "$(cd "$tmp" && pwd)" >/dev/null

(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$tmp/initrd"
truncate -s 96M "$tmp/state.raw"
mke2fs -q -t ext4 -d "$tmp/state" -F "$tmp/state.raw"
cp "$kernel" "$tmp/vmlinuz"
cat "$root/init" "$root"/etc/fermata/* | wc -c >"$tmp/own"
mv "$tmp/initrd" "$tmp/state.raw" "$tmp/vmlinuz" "$tmp/own" "$out"

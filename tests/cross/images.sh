#!/bin/bash
# images.sh PROGRAM: in the present folder, which is empty, every kind of change that `fermata img` makes to an image, by
# PROGRAM; what it prints goes to stdout. Two programs that are the same leave the same files, byte for byte, and print the
# same: all that is of the moment, the dates of the snapshots, is taken out of both.
set -u
program=$1

img() {
	echo "\$ img $*"
	"$program" img "$@" 2>&1 </dev/null | sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}/DATE/; s/("date-n?sec"): [0-9]+/\1: N/;
		s/^(disk size:) .*/\1/; s/("actual-size"): [0-9]+/\1: N/'
	echo "= ${PIPESTATUS[0]}"
}

# content FILE SEED: 3 MiB that compress here and not there, with zeros and holes between
content() {
	perl -e 'my ($file, $x) = @ARGV; open(my $out, ">:raw", $file) or die "$file: $!\n";
		for my $k (0 .. 47) {
			my $kind = ($k * 7 + $x) % 5;
			if ($kind == 0) { seek($out, 65536, 1); next }
			if ($kind == 1) { print $out "\0" x 65536; next }
			my $piece = "";
			for (1 .. 1024) { $x = ($x * 1103515245 + 12345) & 0x7fffffff; $piece .= pack("V", $x) }
			print $out $kind == 2 ? substr($piece, 0, 40) x 1638 . "x" x 16 : $kind == 3 ? $piece x 16 : $piece . chr($k) x 61440;
		}
		truncate($out, 3 << 20);' "$1" "$2"
}

# undated FILE: its snapshots are of no date
undated() {
	perl -e 'open(my $io, "+<:raw", $ARGV[0]) or die "$ARGV[0]: $!\n";
		read($io, my $head, 72) == 72 or die "$ARGV[0]: short\n";
		my ($n, $at) = unpack("x60 N Q>", $head);
		for (1 .. $n) {
			seek($io, $at + 16, 0); print $io "\0" x 8;
			seek($io, $at, 0); read($io, my $entry, 40);
			my ($id, $name, $extra) = unpack("x12 n n x20 N", $entry);
			$at += (40 + $extra + $id + $name + 7) & ~7;
		}' "$1"
}

# spoil FILE OFFSET HEX
spoil() {
	perl -e 'open(my $io, "+<:raw", $ARGV[0]) or die; seek($io, $ARGV[1], 0); print $io pack("H*", $ARGV[2])' "$@"
}

# pointer FILE OFFSET: the eight bytes there, less the flags in the highest
pointer() {
	perl -e 'open(my $in, "<:raw", $ARGV[0]) or die; seek($in, $ARGV[1], 0); read($in, my $b, 8); print unpack("Q>", $b) & 0xfffffffffffe00' "$@"
}

content one.raw 1
content two.raw 2
content three.raw 3

n=0
for opts in compat=0.10 refcount_bits=1 refcount_bits=8,lazy_refcounts=on refcount_bits=64 cluster_size=512 cluster_size=2M \
	extended_l2=on,cluster_size=16k preallocation=metadata preallocation=full; do
	n=$((n + 1))
	img create -f qcow2 -o "$opts" "made$n.qcow2" 3M
	img convert -n -f raw -O qcow2 one.raw "made$n.qcow2"
	img check "made$n.qcow2"
	img info --output json "made$n.qcow2"
done
img create -f qcow2 -o data_file=data.raw,data_file_raw=on apart.qcow2 3M
img check apart.qcow2
img create -f qcow2 huge.qcow2 16T
img create -f raw r.raw 5000001
img measure -O qcow2 --size 5T
img measure -O qcow2 -o extended_l2=on,refcount_bits=64 -f raw one.raw --output json

img convert -c -f raw -O qcow2 two.raw packed.qcow2
img convert -f qcow2 -O raw packed.qcow2 unpacked.raw
img compare -f qcow2 -F raw packed.qcow2 two.raw
img check --output json packed.qcow2

# a chain, and bitmaps in it
img convert -f raw -O qcow2 one.raw base.qcow2
img create -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 4M
img bitmap --add -g 32k top.qcow2 b0
img bitmap --add --disable top.qcow2 b1
img bitmap --add top.qcow2 b2
img convert -n -f raw -O qcow2 two.raw top.qcow2
img bitmap --merge b0 --remove top.qcow2 b2
img info top.qcow2
img map --output json top.qcow2
img map top.qcow2
img convert -O qcow2 -B base.qcow2 -F qcow2 top.qcow2 beside.qcow2
img convert --bitmaps -O qcow2 top.qcow2 flat.qcow2
img compare -s flat.qcow2 top.qcow2
img convert -f raw -O qcow2 three.raw other.qcow2
img rebase -b other.qcow2 -F qcow2 beside.qcow2
img commit -d beside.qcow2
img commit beside.qcow2
img check other.qcow2
img dd -f qcow2 -O qcow2 bs=64k skip=3 count=20 if=top.qcow2 of=part.qcow2

# snapshots, and what goes with them
img convert -f raw -O qcow2 -o refcount_bits=16 one.raw snap.qcow2
img snapshot -c a snap.qcow2
img convert -n -f raw -O qcow2 two.raw snap.qcow2
img snapshot -c "b, the second" snap.qcow2
img resize snap.qcow2 +3M
img snapshot -c c snap.qcow2
img snapshot -l snap.qcow2
img snapshot -a a snap.qcow2
img snapshot -d "b, the second" snap.qcow2
img convert -l a -O raw snap.qcow2 a.raw
img convert -l snapshot.name=c -O raw snap.qcow2 c.raw
img info --output json snap.qcow2
img check snap.qcow2
img resize --shrink flat.qcow2 1M
img resize --preallocation full huge.qcow2 +1M
img amend -o compat=0.10 base.qcow2
img amend -o compat=v3,lazy_refcounts=on base.qcow2
img amend -o refcount_bits=1 other.qcow2
img amend -o refcount_bits=64 other.qcow2
img info other.qcow2

# what is broken is found, and mended
img convert -f raw -O qcow2 one.raw broken.qcow2
l2=$(pointer broken.qcow2 "$(pointer broken.qcow2 40)")
spoil broken.qcow2 "$l2" 80000000000500018000000000050000
spoil broken.qcow2 "$(pointer broken.qcow2 "$(pointer broken.qcow2 48)")" 00050000000100000002
img check broken.qcow2
img check -r leaks broken.qcow2
img check -r all broken.qcow2
img check broken.qcow2
spoil broken.qcow2 72 0000000000000020
img info broken.qcow2
spoil snap.qcow2 60 0000ffff
img info snap.qcow2
spoil snap.qcow2 60 00000002
undated snap.qcow2

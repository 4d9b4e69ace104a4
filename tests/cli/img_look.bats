#!/usr/bin/env bats
# img check, map, compare and measure.
load helper

prepare() {
	qemu-img create -q -f qcow2 m.qcow2 100M
	qemu-io -c 'write -P 1 1M 3M' -c 'write -z 10M 1M' -c 'write -P 2 20M 64k' m.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b m.qcow2 -F qcow2 over.qcow2 120M
	qemu-io -c 'write -P 1 2M 3M' -c 'write -z 20M 1M' -c 'write -P 2 50M 64k' over.qcow2 >/dev/null
	qemu-img convert -c -O qcow2 m.qcow2 packed.qcow2
	qemu-img convert -O raw m.qcow2 m.raw
	qemu-img create -q -f qcow2 -o extended_l2=on sub.qcow2 100M
	qemu-io -c 'write -P 1 1M 3M' -c 'write -z 10M 1M' -c 'write -P 2 20M 4k' -c 'write -P 2 22531k 1k' sub.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -o preallocation=metadata pre.qcow2 100M
	qemu-io -c 'write -P 1 1M 3M' pre.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b m.raw -F raw onraw.qcow2
	qemu-io -c 'write -P 1 1M 1M' onraw.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -o data_file=d.raw data.qcow2 100M
	qemu-io -c 'write -P 1 1M 3M' data.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=4k v2.qcow2 10M
	ALL="m.qcow2 over.qcow2 packed.qcow2 m.raw sub.qcow2 pre.qcow2 onraw.qcow2 data.qcow2 v2.qcow2"
}

@test "map: lines and JSON" {
	local i
	prepare
	for i in $ALL; do
		same map "$i"
		same map --output=json "$i"
	done
	same map --output=json -s 1500k -l 900k over.qcow2
	same map --output=json -s 200M over.qcow2
	same map
	same map nofile
	same map -f qcow2 m.raw
}

@test "compare: all with all" {
	local i k
	prepare
	for i in $ALL; do for k in $ALL; do same compare $i $k; done; done
	# Where strict mode stops depends on how long the runs are that qemu-img asks for; whether it does, does not.
	for i in $ALL; do
		[ "$(qemu-img compare -q -s m.qcow2 $i; echo $?)" = "$(ours compare -q -s m.qcow2 $i; echo $?)" ]
	done
	same compare -q m.raw over.qcow2
	same compare -f raw -F qcow2 m.raw m.qcow2
	same compare
	same compare m.raw
	same compare m.raw nofile
	same compare -F foo m.raw m.raw
}

@test "compare: where the difference is" {
	local at
	prepare
	for at in 0 1048576 1049087 4194303 5242880 104857599; do
		cp --sparse=always m.raw n.raw
		printf 'X' | dd of=n.raw bs=1 seek=$at conv=notrunc status=none
		same compare m.raw n.raw
		same compare m.qcow2 n.raw
		same compare n.raw packed.qcow2
	done
	truncate -s 200M n.raw
	same compare m.raw n.raw
	cp m.raw n.raw
	truncate -s 200M n.raw
	same compare m.raw n.raw
	same compare n.raw m.qcow2
}

@test "measure: from an image and from a size" {
	local i o
	prepare
	qemu-img bitmap --add m.qcow2 b0
	qemu-img bitmap --add -g 512 m.qcow2 b1
	qemu-img snapshot -c s1 v2.qcow2
	for i in $ALL; do
		for o in cluster_size=64k cluster_size=4k,refcount_bits=64 extended_l2=on compat=0.10 preallocation=full; do
			same measure -O qcow2 -o $o $i
		done
		same measure -O raw $i
		same measure -O qcow2 --output json $i
	done
	for o in 0 1 512 1M 1G 1T 20T; do
		same measure -O qcow2 --size $o
		same measure -O qcow2 -o cluster_size=2M --size $o
		same measure --size $o
	done
	same measure -O qcow2 -l s1 v2.qcow2
	for o in backing_file=m.raw backing_file=m.raw,backing_fmt=raw data_file=x data_file=x,data_file_raw=on preallocation=falloc; do
		same measure -O qcow2 -o $o --size 1G
		same measure -O qcow2 -o $o m.qcow2
	done
	same measure -O qcow2 --size 2P
	same measure
	same measure --size 1G v2.qcow2
	same measure -l s1 --size 1G
	same measure -f qcow2 --size 1G
	same measure -O qcow2 --size 7E
	same measure -O qcow2 -o cluster_size=512 --size 1T
	same measure -O qcow2 -o extended_l2=on,cluster_size=4k --size 1G
}

@test "measure: is enough for what convert makes" {
	local o n
	truncate -s 40M r.raw
	qemu-io -f raw -c "write -q -P 1 0 300k" -c "write -q -P 2 17M 1M" -c "write -q -P 3 39M 1M" r.raw
	for o in cluster_size=512 cluster_size=512,refcount_bits=64 cluster_size=4k,refcount_bits=1 cluster_size=64k compat=0.10 \
		compat=0.10,cluster_size=1k cluster_size=2M extended_l2=on,cluster_size=16k lazy_refcounts=on; do
		img measure -O qcow2 -o $o r.raw >m.txt
		qemu-img measure -f raw -O qcow2 -o $o r.raw | diff - m.txt
		img convert -f raw -O qcow2 -o $o r.raw o.qcow2
		n=$(sed -n 's/^required size: //p' m.txt)
		[ "$(stat -c %s o.qcow2)" -le "$n" ] || fail "$o: $(stat -c %s o.qcow2) bytes, measured $n"
		qemu-img check -q o.qcow2
		qemu-img compare -q r.raw o.qcow2
	done
	# The file that qemu-img makes is longer than it has measured.
	[ "$(img measure -O qcow2 -o preallocation=metadata r.raw | head -1)" = "required size: 42270720" ]
}

@test "check: sound images" {
	local i
	prepare
	for i in $ALL; do
		same check $i
		same check --output json $i
		same check -q $i
	done
	qemu-img snapshot -c s1 m.qcow2
	same check m.qcow2
	# A snapshot's L1 table that begins where the file ends: zeros, and the image's end is behind it.
	same check "$TOP/tests/fuzz/corpus/qcow2/l1-at-end"
}

damage() {
	qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 10M
	qemu-io -c 'write -P 1 0 1M' a.qcow2 >/dev/null
	# Refcounts at 0x2000: one too low, one too high, one without use.
	printf '\0\0\0\3' | dd of=a.qcow2 bs=1 seek=$((0x2000 + 18)) conv=notrunc status=none
	printf '\0\1' | dd of=a.qcow2 bs=1 seek=$((0x2000 + 800)) conv=notrunc status=none
}

@test "check: leaks are status 3, corruption is status 2, and the findings are the same" {
	damage
	same check a.qcow2
	diff err.q err.f
	same check --output json a.qcow2
	same check -q a.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=4k l.qcow2 10M
	truncate -s 100k l.qcow2
	printf '\0\1' | dd of=l.qcow2 bs=1 seek=$((0x2000 + 20)) conv=notrunc status=none
	same check l.qcow2
	[ "$(ours check -q l.qcow2 2>/dev/null || echo $?)" = 3 ]
	diff err.q err.f
}

@test "check -r: leaks and corruption are separate consents, and a second check is clean" {
	damage
	cp a.qcow2 b.qcow2
	img check -r leaks -q b.qcow2 2>/dev/null || [ $? = 2 ]
	[ "$(img check -q b.qcow2 2>/dev/null || echo $?)" = 2 ]
	img check -r all b.qcow2 >out 2>/dev/null
	grep -q '^The following inconsistencies were found and repaired:$' out
	grep -q '^Double checking the fixed image now...$' out
	same check b.qcow2
	[ "$(qemu-img check b.qcow2 2>&1 | head -1)" = "No errors were found on the image." ]
	cmp <(qemu-io -r -c 'read -v 0 1M' a.qcow2 | grep '^0') <(qemu-io -r -c 'read -v 0 1M' b.qcow2 | grep '^0')
	img check -r all --output json a.qcow2 2>/dev/null | grep -q '"corruptions-fixed": '
}

# shared FILE BITS...: entry 2 of the first L2 table is entry 0, with its flag; entry 3 is what nobody can repair
shared() {
	perl -e '
		open my $f, "+<:raw", shift or die;
		sub at { my ($off, $w) = @_; seek $f, $off, 0; if (defined $w) { print $f pack("Q>", $w); return } my $b; read $f, $b, 8; unpack("Q>", $b) }
		my $l2 = at(at(40)) & 0x00fffffffffffe00;
		at($l2 + 16, at($l2));
		at($l2 + 24, at($l2 + 24) ^ hex shift);
	' "$@"
}

@test "check -r: a shared cluster is nobody's own afterwards, whatever else cannot be repaired" {
	local bad
	for bad in 0 0000800000000000 0400000000000000 0000000000000200; do
		rm -f a.qcow2
		qemu-img create -q -f qcow2 a.qcow2 16M
		qemu-io -c 'write -q -P 0x11 0 2M' a.qcow2
		shared a.qcow2 $bad
		img check -r all a.qcow2 >/dev/null 2>&1 || [ $? = 2 ]
		[ "$(qemu-img check a.qcow2 2>&1 | grep -c 'OFLAG_COPIED.*refcount=2')" = 0 ]
		[ $bad = 0 ] || continue
		qemu-img check a.qcow2
	done
	# What is written to one place is not seen in the other.
	shared a.qcow2 0
	img check -r all a.qcow2 >/dev/null 2>&1 || true
	qemu-io -c 'write -q -P 0x77 0 64k' a.qcow2 || true
	qemu-io -r -c 'read -P 0x11 128k 64k' a.qcow2 | grep -q '^read 65536'
}

@test "formats: one that is known by name only is never taken for raw" {
	local f
	qemu-img create -q -f qcow2 s.qcow2 8M
	qemu-io -c 'write -q -P 0x5a 0 1M' s.qcow2
	for f in vmdk vdi vhdx vpc qed parallels qcow; do
		qemu-img convert -O $f s.qcow2 d.img || continue
		refused 1 "is a $f image" img convert -O qcow2 d.img o.qcow2
		refused 1 "is a $f image" img map d.img
		refused 1 "is a $f image" img check d.img
		refused 1 "is a $f image" img resize d.img +1M
		refused 1 "is a $f image" img measure -O qcow2 d.img
		refused 1 "is a $f image" img snapshot -l d.img
		refused 2 "is a $f image" img compare d.img s.qcow2
		refused 1 "is a $f image" img create -q -f qcow2 -b d.img o.qcow2
		[ ! -e o.qcow2 ]
		img info d.img | grep -qx "file format: $f"
		[[ "$(img info --output json d.img)" == *'"format": "'$f'"'* ]]
		# Who means its bytes says so.
		img convert -f raw -O raw d.img o.raw
		cmp d.img o.raw
		rm -f d.img o.raw
	done
	qemu-img convert -O vmdk -o subformat=monolithicFlat s.qcow2 flat.vmdk
	refused 1 "is a vmdk image" img convert -O raw flat.vmdk o.raw
	(echo -n 'LUKS'; printf '\272\276\0\1'; head -c 1M /dev/zero) >luks.img
	refused 1 "is a luks image" img convert -O raw luks.img o.raw
	# Shorter than any of them, and an image of a CD: raw.
	printf QF >short.img
	(head -c 32K /dev/zero; printf '\001CD001'; head -c 64K /dev/zero) >cd.iso
	img convert -O raw short.img o.raw
	img info cd.iso | grep -qx 'file format: raw'
}

@test "convert: a block device reads as the image afterwards, zeros too" {
	local dev failed=
	head -c 32M /dev/zero | tr '\0' '\252' >disk
	dev=$(losetup --show -f disk 2>/dev/null) || skip "no loop device"
	qemu-img create -q -f qcow2 a.qcow2 31M
	qemu-io -c 'write -q -P 0x5a 1M 2M' -c 'write -q -z 5M 1M' -c 'write -q -P 7 4000k 512' a.qcow2
	img convert -O raw a.qcow2 "$dev" && img convert -S 64k -O raw a.qcow2 "$dev" || failed=1
	qemu-img create -q -f qcow2 large.qcow2 33M
	refused 1 "has 33554432 bytes" img convert -O raw large.qcow2 "$dev" || failed=1
	losetup -d "$dev"
	[ -z "$failed" ]
	qemu-img convert -O raw a.qcow2 want
	cmp -n $((31 << 20)) want disk
	# What is behind the image's end is not its business.
	[ "$(tail -c 1M disk | tr -d '\252' | wc -c)" = 0 ]
}

@test "check: what is refused" {
	prepare
	same check
	same check nofile
	same check m.raw
	same check --output json m.raw
	same check -r bogus m.qcow2
	same check -U -r all m.qcow2
	same check -f qcow2 m.raw
}

# converted FILE: read back, it is the same disk, and qcow2 output is sound.
converted() {
	local fmt=raw
	[ "${1%.raw}" = "$1" ] && fmt=qcow2
	[ $fmt = raw ] || qemu-img check "$1"
	qemu-img compare -f "$2" -F $fmt "$3" "$1"
}

@test "convert: between raw and qcow2, chains flattened, zeros left out" {
	local i o f
	prepare
	for i in $ALL; do
		f=qcow2
		[ "${i%.raw}" = "$i" ] || f=raw
		img convert "$i" out.raw
		converted out.raw $f "$i"
		[ "$(stat -c %s out.raw)" = "$(qemu-img info --output json -f $f "$i" | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')" ]
		for o in cluster_size=64k cluster_size=512 cluster_size=2M,extended_l2=on compat=0.10 refcount_bits=1; do
			img convert -f $f -O qcow2 -o $o "$i" out.qcow2
			converted out.qcow2 $f "$i"
		done
	done
	img convert -p -q -t none -T none -m 4 -W over.qcow2 out.raw
	# A file system's blocks aside, only the data is there.
	[ "$(du -k out.raw | cut -f1)" -lt 4400 ]
	img convert -S 0 v2.qcow2 out.raw
	[ "$(du -k out.raw | cut -f1)" -ge 10240 ]
}

@test "convert: a snapshot's content" {
	qemu-img create -q -f qcow2 a.qcow2 8M
	qemu-io -c 'write -P 1 1M 1M' a.qcow2 >/dev/null
	qemu-img snapshot -c s1 a.qcow2
	qemu-img resize -q a.qcow2 12M
	qemu-io -c 'write -P 2 1M 2M' a.qcow2 >/dev/null
	for i in s1 1 snapshot.name=s1 snapshot.id=1,snapshot.name=s1; do
		img convert -l $i -O qcow2 a.qcow2 out.qcow2
		qemu-img convert -l $i -O raw a.qcow2 want.raw
		converted out.qcow2 raw want.raw
		# The disk's size is what it was then; qemu-img takes today's, and adds zeros or what VM state there is.
		img convert -l $i a.qcow2 out.raw
		[ "$(stat -c %s out.raw)" = 8388608 ]
		cmp -n 8388608 out.raw want.raw
	done
	refused 1 "there is no snapshot" img convert -l snapshot.id=2,snapshot.name=s1 a.qcow2 out.raw
}

@test "convert: dense data of every kind, over what the output held before" {
	head -c 5000000 /dev/urandom >in.raw
	truncate -s 5000192 in.raw
	qemu-img convert -c -O qcow2 in.raw packed.qcow2
	seq 1 900000 | head -c 5000192 >text.raw
	qemu-img convert -c -o cluster_size=2M -O qcow2 text.raw text.qcow2
	for i in in.raw packed.qcow2; do
		img convert -O qcow2 $i out.qcow2
		converted out.qcow2 raw in.raw
		img convert $i out.raw
		cmp out.raw in.raw
	done
	img convert text.qcow2 out.raw
	cmp out.raw text.raw
	img convert -O qcow2 -o compat=0.10,cluster_size=4k text.qcow2 out.qcow2
	converted out.qcow2 raw text.raw
}

@test "zstd: compressed clusters are read as qemu-img reads them" {
	local o
	{
		seq 1 150000
		head -c 300000 /dev/urandom
		head -c 1000000 "$FERMATA_BIN"
		head -c 500000 /dev/zero | tr '\0' x
	} >in.raw
	truncate -s 4M in.raw
	for o in cluster_size=512 cluster_size=4k cluster_size=64k cluster_size=2M extended_l2=on,cluster_size=16k; do
		qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd,$o in.raw z.qcow2
		img convert -f qcow2 -O raw z.qcow2 out.raw
		cmp in.raw out.raw || fail "$o"
	done
	qemu-img create -q -f qcow2 -b z.qcow2 -F qcow2 ov.qcow2
	qemu-io -c "write -q -P 7 70k 3k" ov.qcow2
	qemu-img convert -O raw ov.qcow2 want.raw
	same compare ov.qcow2 want.raw
	img commit -q ov.qcow2
	converted z.qcow2 raw want.raw
	# Damaged: said by name, no half copy.
	qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd in.raw z.qcow2
	dd if=/dev/urandom of=z.qcow2 bs=1 seek=$((0x50007)) count=90 conv=notrunc status=none
	refused 1 "is damaged" img convert -O raw z.qcow2 bad.raw
	[ ! -e bad.raw ]
}

@test "convert: what is refused leaves no half copy" {
	prepare
	refused 1 "unknown file format" img convert -O vmdk m.raw out.vmdk
	refused 1 "in use" img convert -O qcow2 m.qcow2 m.qcow2
	same convert
	same convert nofile out.raw
	# A damaged compressed cluster: its data are the file's last bytes.
	cp packed.qcow2 bad.qcow2
	dd if=/dev/zero of=bad.qcow2 bs=1 seek=$((0x50000)) count=60 conv=notrunc status=none
	refused 1 "damaged" img convert -O qcow2 bad.qcow2 out.qcow2
	[ ! -e out.raw ] && [ ! -e out.qcow2 ] && [ ! -e out.vmdk ]
	qemu-img check m.qcow2
}

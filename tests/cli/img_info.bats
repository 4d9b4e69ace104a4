#!/usr/bin/env bats
# img info and snapshot -l: byte for byte what qemu-img prints, of every kind of image.
load helper

make_images() {
	qemu-img create -q -f qcow2 a.qcow2 1G
	qemu-img snapshot -c s1 a.qcow2
	qemu-img snapshot -c 'a name longer than its column, with "quotes" and \' a.qcow2
	qemu-img bitmap --add a.qcow2 bm0
	qemu-img bitmap --add --disable -g 1M a.qcow2 bm1
	qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1G
	qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
	qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 \
		-o lazy_refcounts=on,extended_l2=on,cluster_size=128k,refcount_bits=64 c.qcow2 5G
	qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on d.qcow2 64M
	qemu-img create -q -f qcow2 -o compression_type=zstd z.qcow2 64M
	qemu-img create -q -f raw r.raw 1000001
	qemu-img create -q -f qcow2 -b r.raw -F raw onraw.qcow2
	mkdir sub
	qemu-img create -q -f qcow2 -b ../a.qcow2 -F qcow2 sub/up.qcow2
	qemu-img create -q -u -f qcow2 -b nbd://host/disk -F raw remote.qcow2 1M
	qemu-img create -q -u -f qcow2 -b gone.qcow2 -F qcow2 gone-below.qcow2 1M
	qemu-img create -q -u -f qcow2 -b file:a.qcow2 -F qcow2 sub/file.qcow2 1M
}

@test "info: lines and JSON of every kind of image" {
	local i
	make_images
	for i in *.qcow2 sub/*.qcow2 "$PWD/sub/up.qcow2" r.raw; do
		same info "$i"
		same info --output json "$i"
		same info --output=json -U "$i"
		# qemu-img wants all of the chain for a listing, too.
		case $i in gone* | remote*) img snapshot -l "$i" ;; *) same snapshot -l "$i" ;; esac
	done
	same info -f raw a.qcow2
	same info -f qcow2 a.qcow2
}

@test "info: backing chains" {
	local i
	make_images
	for i in a b c onraw sub/up sub/file gone-below; do
		same info --backing-chain $i.qcow2
		same info --backing-chain --output json $i.qcow2
	done
}

@test "info: a chain that bites its tail ends with an error" {
	qemu-img create -q -f qcow2 a.qcow2 1M
	qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
	qemu-img rebase -u -b b.qcow2 -F qcow2 a.qcow2
	refused 1 "comes back to" img info --backing-chain b.qcow2
	img info b.qcow2
}

@test "info: flags of dirty and corrupt images" {
	qemu-img create -q -f qcow2 -o lazy_refcounts=on d.qcow2 1M
	printf '\x01' | dd of=d.qcow2 bs=1 seek=79 conv=notrunc status=none
	same info -U d.qcow2
	same info -U --output json d.qcow2
	printf '\x02' | dd of=d.qcow2 bs=1 seek=79 conv=notrunc status=none
	same info d.qcow2
	same info --output json d.qcow2
}

@test "info: VM state, clock and date of a snapshot that QEMU saved" {
	command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
	qemu-img create -q -f qcow2 v.qcow2 16M
	{ echo savevm k1; echo quit; } | qemu-system-x86_64 -machine pc,accel=tcg -m 8 -nodefaults -display none -S -monitor stdio \
		-drive file=v.qcow2,format=qcow2,if=ide >/dev/null
	same snapshot -l v.qcow2
	same info v.qcow2
	same info --output json v.qcow2
}

@test "info: what is refused" {
	qemu-img create -q -f qcow2 a.qcow2 1M
	truncate -s 1M r.raw
	same info
	same info a.qcow2 r.raw
	same info --bogus a.qcow2
	same info -Z a.qcow2
	same info --output xml a.qcow2
	same info -f foo a.qcow2
	same info -f qcow2 r.raw
	same info nofile
	same bogus
	refused 1 "did you mean '--output'" img info --ouput json a.qcow2
	refused 1 "did you mean 'info'" img ifno a.qcow2
}

@test "info: a format that nobody recorded may not lead on to other files" {
	qemu-img create -q -f qcow2 secret.qcow2 1M
	qemu-img create -q -f qcow2 -b secret.qcow2 -F qcow2 was-raw.img
	qemu-img create -q -f qcow2 -o compat=0.10 -b was-raw.img -F qcow2 top.qcow2
	# The backing format extension becomes the end of all extensions.
	printf '\0\0\0\0\0\0\0\0' | dd of=top.qcow2 bs=1 seek=72 conv=notrunc status=none
	qemu-img info top.qcow2 | grep -q 'backing file format' && fail "the test's image is not as meant"
	refused 1 "not recorded" img info --backing-chain top.qcow2
	refused 1 "not recorded" img map top.qcow2
	img rebase -u -b was-raw.img -F qcow2 top.qcow2
	same info --backing-chain top.qcow2
}

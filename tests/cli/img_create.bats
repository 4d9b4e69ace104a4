#!/usr/bin/env bats
# img create: the line it prints, the image it makes, what it refuses.
load helper

@test "help: what scripts look for is there, and asking does nothing" {
	img --help | grep -q '^Supported formats: qcow2 raw$'
	img convert -O qcow2 -o help a b | grep -q '^Supported options:$'
	[ ! -e b ]
	both create -q -f raw a 1.1
	both create -q -f raw a 1.5k
}

@test "create: the same line and the same image" {
	both create -f qcow2 a.qcow2 1G
	both create -f qcow2 -o compat=0.10 v2.qcow2 1G
	both create r.raw 1000001
	both create -f raw -o preallocation=full full.raw 1M
	both create -f raw -o preallocation=falloc falloc.raw 1M
	both create -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
	both create -f qcow2 -b b.qcow2 -F qcow2 \
		-o lazy_refcounts=on,extended_l2=on,cluster_size=128k,refcount_bits=64,preallocation=off c.qcow2 5G
	both create -f qcow2 -o size=1G x1.qcow2
	both create -q -f qcow2 x2.qcow2 1G
	both create -f qcow2 -o preallocation=metadata,lazy_refcounts=on x3.qcow2 1000001
	both create -f qcow2 x4.qcow2 0
	both create -f qcow2 -o backing_file=a.qcow2,backing_fmt=qcow2,size=2G x5.qcow2
	both create -f qcow2 -b r.raw -F raw x6.qcow2
	both create -f qcow2 -o cluster_size=512,refcount_bits=1 x7.qcow2 10M
	both create -f qcow2 -o preallocation=falloc x8.qcow2 10M
	both create -f qcow2 -o preallocation=full x9.qcow2 10M
	both create -f qcow2 -o compression_type=zstd -o compat=v3 x10.qcow2 10M
	both create -f qcow2 -b a.qcow2 -F raw x11.qcow2 1M
	alike a.qcow2 v2.qcow2 r.raw full.raw falloc.raw b.qcow2 c.qcow2 x{1,2,3,4,5,6,7,8,9,10,11}.qcow2
}

@test "create: with data files, with commas in names, on what is not there" {
	both create -f qcow2 -o data_file=d.raw,data_file_raw=on d.qcow2 64M
	both create -f qcow2 -o 'data_file=e,,1.raw' e.qcow2 64M
	both create -u -f qcow2 -b nofile -F qcow2 u.qcow2 1G
	for i in d e u; do diff <(cd q && facts $i.qcow2) <(cd f && facts $i.qcow2); done
	[ "$(stat -c %s f/d.raw)" = 67108864 ]
	[ "$(stat -c %s f/e,1.raw)" = 67108864 ]
	(cd f && qemu-img check d.qcow2 && qemu-img check e.qcow2 && qemu-io -c 'write -P 1 1M 64k' -c 'read -P 1 1M 64k' d.qcow2 >out)
	grep -q '^read' f/out
}

@test "create: what is refused" {
	qemu-img create -q -f qcow2 a.qcow2 1M
	same create
	same create -f qcow2 x.qcow2
	same create -f foo x 1G
	same create -f qcow2 x.qcow2 1X
	same create -f qcow2 x.qcow2 10E
	same create -f qcow2 x.qcow2 -- -1
	same create -f qcow2 -o foo=1 x.qcow2 1G
	same create -f raw -o cluster_size=4k x.raw 1M
	same create -f raw -b a.qcow2 -F qcow2 x.raw
	same create -f qcow2 -o size=1G x.qcow2 2G
	same create -f qcow2 -b nofile -F qcow2 x.qcow2
	same create -f qcow2 -b nofile -F qcow2 x.qcow2 1G
	same create -u -f qcow2 -b nofile -F qcow2 x.qcow2
	same create -f qcow2 -b a.qcow2 -F qcow2 a.qcow2
	same create -f qcow2 -b "" x.qcow2 1M
	same create -f qcow2 -b "" -F qcow2 x.qcow2 1M
	same create -u -f qcow2 -b "" x.qcow2 1M
	same create -f qcow2 -o backing_file=,backing_fmt=qcow2 x.qcow2 1M
	refused 1 "power of two between 512 and 2048k" img create -q -f qcow2 -o cluster_size=3 x.qcow2 1G
	refused 1 "refcount width" img create -q -f qcow2 -o refcount_bits=3 x.qcow2 1G
	refused 1 "compatibility level" img create -q -f qcow2 -o compat=0.9 x.qcow2 1G
	refused 1 "without a backing file" img create -q -f qcow2 -F raw x.qcow2 1G
	refused 1 "did you mean 'cluster_size'" img create -q -f qcow2 -o clustersize=4k x.qcow2 1G
	refused 1 "lazy_refcounts needs compat=1.1" img create -q -f qcow2 -o compat=0.10,lazy_refcounts=on x.qcow2 1G
	[ ! -e x.qcow2 ]
}

@test "create: what fails leaves no file, and no other file empty" {
	ulimit -f 2048
	qemu-img create -q -f qcow2 a.qcow2 1M
	echo precious >d.raw
	same create -q -f qcow2 x.qcow2 7E
	same create -q -f qcow2 -o data_file=x.qcow2 x.qcow2 1M
	refused 1 "the image itself or its backing file" img create -q -f qcow2 -o data_file=./x.qcow2 x.qcow2 1M
	refused 1 "the image itself or its backing file" img create -q -f qcow2 -o data_file=a.qcow2 -b ./a.qcow2 -F qcow2 y.qcow2
	refused 1 "needs compat=1.1" img create -q -f qcow2 -o data_file=d.raw,compat=0.10 x.qcow2 1M
	refused 1 "no metadata to preallocate" img create -q -o preallocation=metadata x.raw 1M
	# More than a file may have here; the signal that says so is not for us.
	refused 1 "File too large" sh -c "trap '' XFSZ; exec $FERMATA_BIN img create -q -f qcow2 -o preallocation=full x.qcow2 4M"
	refused 1 "File too large" sh -c "trap '' XFSZ; exec $FERMATA_BIN img create -q -f qcow2 -o data_file=e.raw x.qcow2 4M"
	[ "$(cat d.raw)" = precious ]
	[ "$(ls *.raw *.qcow2 | tr '\n' ' ')" = "a.qcow2 d.raw " ]
	qemu-img check a.qcow2
	same create -q -f qcow2 nbd:localhost:1 1M
	same create -q -f qcow2 -o backing_file= x.qcow2 1M
	[ ! -e nbd:localhost:1 ] && [ ! -e x.qcow2 ]
}

@test "create: a backing file without its format is refused, and the line that works is printed" {
	qemu-img create -q -f qcow2 'Cent OS.img' 1M
	same create -f qcow2 node1.img -o 'backing_file=Cent OS.img,size=30G'
	refused 1 "without backing format; detected the format: fermata img create -f qcow2 -F qcow2 -o" \
		img create -f qcow2 node1.img -o 'backing_file=Cent OS.img,size=30G'
	PATH=$BATS_TEST_TMPDIR:$PATH
	ln -s "$FERMATA_BIN" fermata
	sh -c "$(sed 's/.*the format: //' err)"
	[ "$(qemu-img info --output json node1.img | grep -c '"virtual-size": 32212254720')" = 1 ]
	refused 1 "fermata img create -f qcow2 -b 'Cent OS.img' -F qcow2 node2.img 2G" \
		img create -f qcow2 -b 'Cent OS.img' node2.img 2G
}

@test "create: only the owner may read what is new, and a tighter umask holds" {
	img create -q -f qcow2 a.qcow2 1M
	img create -q a.raw 1M
	img create -q -f qcow2 -o data_file=d.raw d.qcow2 1M
	(umask 277 && img create -q -f qcow2 b.qcow2 1M)
	[ "$(stat -c %a a.qcow2 a.raw d.qcow2 d.raw b.qcow2 | tr '\n' ' ')" = "600 600 600 600 400 " ]
}

@test "create: -o help names what can be given" {
	local o
	for o in backing_file backing_fmt cluster_size compat compression_type data_file data_file_raw extended_l2 lazy_refcounts \
		preallocation refcount_bits size; do
		[ "$(img create -f qcow2 -o help | grep "^  $o=")" = "$(qemu-img create -f qcow2 -o help | grep "^  $o=")" ]
	done
}

@test "create: what it prints must have arrived" {
	refused 1 "cannot write to standard output" sh -c "exec $FERMATA_BIN img create -f qcow2 a.qcow2 1M >/dev/full"
}

@test "create: sizes that qemu-img takes, and no others" {
	local s
	# Not ".5M", which 7.2 refuses and 10.0 takes.
	for s in 65536.0 0x10000 1.5M 1k 1Mb 1KiB 1GB 1e6 "1 M" "" 1.B 1.5 " 64k" +64k 010 8E 99999999999999999999; do
		rm -f q/a f/a
		(cd q && qemu-img create -q -f qcow2 a "$s") >/dev/null 2>&1 || true
		(cd f && ours create -q -f qcow2 a "$s") >/dev/null 2>&1 || true
		[ ! -e q/a ] || [ -e f/a ] || fail "'$s' is refused"
		[ -e q/a ] || [ ! -e f/a ] || fail "'$s' is taken"
		[ ! -e q/a ] || diff <(cd q && facts a) <(cd f && facts a)
	done
}

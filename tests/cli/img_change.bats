#!/usr/bin/env bats
# img resize, amend, rebase and bitmap, each beside qemu-img.
load helper

prepare() {
	(cd q
	qemu-img create -q -f qcow2 a.qcow2 16M
	qemu-io -c 'write -P 1 1M 3M' -c 'write -P 7 13M 1M' a.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2 12M
	qemu-io -c 'write -P 2 2M 1M' b.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 16M
	qemu-img create -q -f qcow2 -o data_file=d.raw d.qcow2 4M
	qemu-img create -q -f raw r.raw 1M)
	copies a.qcow2 b.qcow2 v2.qcow2 d.qcow2 d.raw r.raw
}

@test "resize: larger, smaller, relative" {
	prepare
	# What the backing file holds behind the overlay's old end stays hidden.
	both resize b.qcow2 64M
	alike b.qcow2
	(cd f && qemu-io -r -c 'read -P 0 12M 52M' b.qcow2 | grep -q '^read')
	both resize a.qcow2 20M
	both resize a.qcow2 +4M
	both resize a.qcow2 -4M
	both resize --shrink a.qcow2 -22M
	alike a.qcow2
	both resize -q a.qcow2 1T
	both resize a.qcow2 +0
	both resize v2.qcow2 32M
	both resize -f raw r.raw 2M
	both resize -f raw --shrink r.raw -512k
	both resize -f raw --preallocation=full r.raw +1M
	alike a.qcow2 v2.qcow2 r.raw
}

@test "resize: preallocation and data files" {
	local how
	prepare
	for how in metadata falloc full; do both resize --preallocation=$how a.qcow2 +2M; done
	alike a.qcow2
	both resize d.qcow2 8M
	[ "$(stat -c %s f/d.raw)" = 8388608 ]
	both resize --shrink d.qcow2 2M
	[ "$(stat -c %s f/d.raw)" = 2097152 ]
	diff <(cd q && facts d.qcow2) <(cd f && facts d.qcow2)
	(cd f && qemu-img check d.qcow2)
}

@test "resize: what is refused" {
	prepare
	(cd q && qemu-img snapshot -c s v2.qcow2)
	copies v2.qcow2
	both resize a.qcow2
	both resize a.qcow2 bad
	both resize a.qcow2 -1M
	both resize a.qcow2 0
	both resize --shrink a.qcow2 0
	both resize --shrink -f raw r.raw 0
	both resize --shrink a.qcow2 -100M
	both resize a.qcow2 +5000
	both resize -f raw r.raw 512k
	both resize -f raw --preallocation=metadata r.raw +1M
	both resize --preallocation=bogus a.qcow2 +1M
	both resize --shrink --preallocation=full a.qcow2 1M
	both resize v2.qcow2 1G
	alike a.qcow2 r.raw v2.qcow2
	(cd f && refused 1 "--shrink" img resize a.qcow2 1M)
}

@test "amend: version, refcounts, flags, size" {
	prepare
	both amend -o compat=0.10 a.qcow2
	alike a.qcow2
	both amend -o compat=1.1,lazy_refcounts=on a.qcow2
	both amend -o refcount_bits=8 a.qcow2
	alike a.qcow2
	both amend -o refcount_bits=64 -o size=24M a.qcow2
	both amend -q -o lazy_refcounts=off,refcount_bits=16 a.qcow2
	both amend -o compat=v2 a.qcow2
	both amend -o compat=v3 v2.qcow2
	alike a.qcow2 v2.qcow2
	both amend -o size=8M d.qcow2
	[ "$(stat -c %s f/d.raw)" = 8388608 ]
	diff <(cd q && facts d.qcow2) <(cd f && facts d.qcow2)
}

@test "amend: what is refused" {
	prepare
	both amend
	both amend a.qcow2
	both amend -o foo=1 a.qcow2
	both amend -o cluster_size=4k a.qcow2
	both amend -o compression_type=zlib a.qcow2
	both amend -o backing_file=b.qcow2 a.qcow2
	both amend -o backing_file= a.qcow2
	both amend -o backing_file=a.qcow2 b.qcow2
	both amend -o backing_fmt=qcow2 b.qcow2
	both amend -o backing_fmt=raw b.qcow2
	both amend -o backing_file=a.qcow2,backing_fmt=qcow2 b.qcow2
	both amend -o lazy_refcounts=on r.raw
	both amend -o lazy_refcounts=on v2.qcow2
	both amend -o data_file_raw=on d.qcow2
	both amend -o refcount_bits=3 a.qcow2
	both amend -o refcount_bits=8 a.qcow2
	both amend -o compat=0.10 a.qcow2
	alike a.qcow2 v2.qcow2
	# No image without its data: qemu-img records an empty name.
	refused 1 "needs a name" img amend -o data_file= f/d.qcow2
	# qemu-img would drop data here without being asked for it.
	refused 1 "resize --shrink" img amend -o size=1M f/a.qcow2
	# All of it or nothing: neither the larger disk nor the other version is left when the rest fails.
	img create -q -f qcow2 -o refcount_bits=64 n.qcow2 1M
	refused 1 "another width than 16" img amend -o compat=0.10,size=2M n.qcow2
	img create -q -f qcow2 -o compat=0.10,cluster_size=512 o.qcow2 1M
	refused 1 "too large for clusters" img amend -o compat=1.1,size=500G o.qcow2
	img info n.qcow2 | grep -q 'virtual size: 1 MiB'
	img info n.qcow2 | grep -q 'compat: 1.1'
	img info o.qcow2 | grep -q 'virtual size: 1 MiB'
	img info o.qcow2 | grep -q 'compat: 0.10'
	qemu-img check -q n.qcow2
	qemu-img check -q o.qcow2
}

# qemu-img 7.2 writes the zeros into what the snapshot has.
@test "amend: the way to version 2 leaves snapshots what they have, where the disk has zeros since" {
	qemu-img create -q -f qcow2 -o cluster_size=4k z.qcow2 64k
	qemu-io -c 'write -P 1 0 64k' z.qcow2 >/dev/null
	qemu-img snapshot -c s0 z.qcow2
	qemu-img convert -l s0 -O raw z.qcow2 before
	qemu-io -c 'write -z 4k 8k' z.qcow2 >/dev/null
	img amend -o compat=0.10 z.qcow2
	qemu-img check -q z.qcow2
	qemu-io -r -c 'read -P 0 4k 8k' z.qcow2
	qemu-img convert -l s0 -O raw z.qcow2 after
	cmp before after
}

@test "rebase -u: names and formats" {
	prepare
	both rebase -u -b "" b.qcow2
	both rebase -u -b a.qcow2 -F qcow2 b.qcow2
	alike b.qcow2
	both rebase -u -b ../q/a.qcow2 -F qcow2 b.qcow2
	diff <(cd q && facts b.qcow2) <(cd f && facts b.qcow2)
	both rebase -u -b a.qcow2 -F raw v2.qcow2
	both rebase -u b.qcow2
	both rebase -u -b nofile -F qcow2 b.qcow2
	diff <(cd q && facts b.qcow2) <(cd f && facts b.qcow2)
	both rebase
	both rebase -u -b a.qcow2 b.qcow2
	both rebase -u -b a.qcow2 -F bogus b.qcow2
	both rebase -u -b a.qcow2 -F qcow2 r.raw
	# qemu-img takes it, and hangs when it opens the image again.
	(cd f && refused 1 "its own backing file" img rebase -u -b b.qcow2 -F qcow2 b.qcow2)
	refused 1 "its own backing file" img rebase -u -b b.qcow2 -F qcow2 f/b.qcow2
}

@test "closed descriptors: no message is written into an image" {
	local cmd closed
	for cmd in "resize a.qcow2 +1M" "snapshot -c one a.qcow2" "check a.qcow2" "rebase -u -b '' a.qcow2" \
		"amend -o lazy_refcounts=on a.qcow2" "create -f qcow2 new.qcow2 1M" "convert -O qcow2 a.qcow2 copy.qcow2" "nonsense a.qcow2" \
		"resize a.qcow2 1"; do
		for closed in ">&-" "2>&-" "<&-" ">&- 2>&-" "<&- >&- 2>&-"; do
			rm -f ./*.qcow2
			qemu-img create -q -f qcow2 a.qcow2 16M
			qemu-io -c 'write -q -P 5 0 1M' a.qcow2
			eval "img $cmd $closed" || true
			for i in ./*.qcow2; do qemu-img check -q "$i"; done
			qemu-io -c 'read -P 5 0 1M' a.qcow2 | grep -q '^read 1048576'
		done
	done
}

@test "bitmap: every action, alone and in a row" {
	prepare
	both bitmap --add a.qcow2 bm0
	both bitmap --add -g 1k --disable a.qcow2 bm1
	(cd q && qemu-io -c 'write -P 5 5M 1M' a.qcow2 >/dev/null)
	(cd f && qemu-io -c 'write -P 5 5M 1M' a.qcow2 >/dev/null)
	both bitmap --merge bm0 a.qcow2 bm1
	both bitmap --disable a.qcow2 bm0
	both bitmap --clear --enable a.qcow2 bm0
	both bitmap --add --disable --enable -g 64k a.qcow2 add
	both bitmap --merge add a.qcow2 bm0
	both bitmap --add --remove a.qcow2 bm4
	both bitmap --add -g 0 a.qcow2 bm5
	both bitmap --add b.qcow2 x
	alike a.qcow2 b.qcow2
	both bitmap --remove -f qcow2 a.qcow2 bm0
	alike a.qcow2
}

@test "bitmap: merged bits are the same bits" {
	local n
	qemu-img create -q -f qcow2 a.qcow2 16M
	img bitmap --add -g 64k a.qcow2 from
	qemu-io -c 'write -P 5 5M 192k' a.qcow2 >/dev/null
	img bitmap --add -g 64k a.qcow2 to
	img bitmap --merge from --disable a.qcow2 to
	command -v qemu-nbd >/dev/null || skip "no qemu-nbd to export a bitmap"
	qemu-nbd -r -t -k "$PWD/s" -f qcow2 -B to a.qcow2 &
	PIDS+=($!)
	await test -S s
	n=$(qemu-img map --output=json --image-opts \
		"driver=nbd,server.type=unix,server.path=$PWD/s,x-dirty-bitmap=qemu:dirty-bitmap:to" | grep -c '"length": 196608.*"data": false')
	[ "$n" = 1 ]
}

@test "bitmap: what is refused" {
	prepare
	both bitmap
	both bitmap a.qcow2 bm0
	both bitmap --add a.qcow2
	both bitmap --add -g 3 a.qcow2 bm0
	both bitmap --add a.qcow2 bm0
	both bitmap --add a.qcow2 bm0
	both bitmap --remove a.qcow2 nope
	both bitmap --merge nope a.qcow2 bm0
	both bitmap -g 1k --remove a.qcow2 bm0
	both bitmap -b a.qcow2 --add b.qcow2 y
	both bitmap -F qcow2 --add b.qcow2 y
	both bitmap --add r.raw x
	both bitmap --add v2.qcow2 x
	alike a.qcow2 b.qcow2 v2.qcow2
}

@test "resize: inside a cluster, over a longer backing file" {
	local o
	for o in '' compat=0.10 cluster_size=4k lazy_refcounts=on; do
		rm -f q/* f/*
		(cd q
		qemu-img create -q -f qcow2 a.qcow2 1M
		qemu-io -c 'write -P 5 0 1M' a.qcow2 >/dev/null
		qemu-img create -q -f qcow2 ${o:+-o $o} -b a.qcow2 -F qcow2 s.qcow2 253k
		qemu-img create -q -f qcow2 ${o:+-o $o} -b s.qcow2 -F qcow2 t.qcow2 129k
		qemu-io -c 'write -P 6 128k 1k' t.qcow2 >/dev/null)
		copies a.qcow2 s.qcow2 t.qcow2
		if [ "$o" = compat=0.10 ]; then
			# Version 2 has no zeros for more than that cluster: refused before anything is changed.
			cp f/t.qcow2 before
			refused 1 "" img resize f/t.qcow2 512k
			cmp before f/t.qcow2
			both resize -q t.qcow2 192k
			alike t.qcow2
			continue
		fi
		both resize -q t.qcow2 512k
		alike t.qcow2
		both resize -q s.qcow2 512k
		alike s.qcow2
		(cd f && qemu-io -r -c 'read -P 5 0 253k' -c 'read -P 0 253k 259k' s.qcow2 | grep -c '^read' | grep -qx 2)
	done
}

@test "amend: an image that was not closed is mended first" {
	local c
	(cd q
	qemu-img create -q -f qcow2 -o lazy_refcounts=on d.qcow2 1M
	qemu-io -c 'write -P 1 0 128k' d.qcow2 >/dev/null
	# Dirty, and a cluster whose refcount was not written yet.
	printf '\001' | dd of=d.qcow2 bs=1 seek=79 conv=notrunc status=none
	printf '\0\0' | dd of=d.qcow2 bs=1 seek=$((0x20000 + 10)) conv=notrunc status=none)
	for c in 'amend -o compat=0.10' 'resize' 'snapshot -c s' 'bitmap --add'; do
		cp q/d.qcow2 q/e.qcow2
		copies e.qcow2
		case $c in resize) set -- resize e.qcow2 2M ;; bitmap*) set -- $c e.qcow2 b ;; *) set -- $c e.qcow2 ;; esac
		both "$@"
		alike e.qcow2
	done
	# One that is marked corrupt too is not touched.
	cp q/d.qcow2 f/d.qcow2
	printf '\003' | dd of=f/d.qcow2 bs=1 seek=79 conv=notrunc status=none
	cp f/d.qcow2 before
	refused 1 "d.qcow2" img resize f/d.qcow2 2M
	cmp before f/d.qcow2
}

@test "amend, create, convert: -o is a list, and help in it is help" {
	(cd q && qemu-img create -q -f qcow2 a.qcow2 1M)
	copies a.qcow2
	local o c
	for o in ,size=1M size=1M, '' , ,,size=1M size=1M,,lazy_refcounts=on help, ,help; do
		both create -q -f qcow2 -o "$o" n.qcow2 1M
		both amend -f qcow2 -o "$o" a.qcow2
		both convert -O qcow2 -o "$o" a.qcow2 c.qcow2
		both measure -O qcow2 -o "$o" --size 1M
	done
	[ "$(ls f)" = "$(ls q)" ]
	for c in 'create -f qcow2 -o a=b,help' 'amend -f qcow2 -o cluster_size=4k,help' 'convert -O qcow2 -o bogus -o help' 'create -f raw -o help'; do
		img $c | grep -q '^  size=<size>'
		qemu-img $c | grep -q '^  size=<size>'
	done
}

@test "create: nocow and extent_size_hint are wishes" {
	both create -f qcow2 -o nocow=on n.qcow2 1M
	both create -f qcow2 -o extent_size_hint=1M e.qcow2 1M
	both create -f raw -o nocow=on,extent_size_hint=1M n.raw 1M
	both create -f raw -o preallocation=full,nocow=off p.raw 1M
	both convert -f raw -O qcow2 -o nocow=on p.raw c.qcow2
	both create -f qcow2 -o nocow=maybe x.qcow2 1M
	both create -f qcow2 -o extent_size_hint=bad x.qcow2 1M
	alike n.qcow2 e.qcow2 n.raw p.raw c.qcow2
	[ ! -e f/x.qcow2 ]
	[ "$(stat -c %a f/n.qcow2)" = 600 ]
}

@test "rebase: -u takes formats that only QEMU reads, -U is taken" {
	prepare
	both rebase -u -b /dev/x -F host_device b.qcow2
	both rebase -u -b x.vmdk -F vmdk b.qcow2
	diff <(cd q && facts b.qcow2) <(cd f && facts b.qcow2)
	both rebase -u -b x -F bogus b.qcow2
	both rebase -U -u -b a.qcow2 -F qcow2 b.qcow2
	both rebase -U -b r.raw -F raw b.qcow2
	alike b.qcow2
	refused 1 "invalid format name 'vmdk'" img rebase -b x.vmdk -F vmdk f/b.qcow2
}

@test "commit: -b is a name on record, from the folder of the image that records it" {
	(mkdir q/sub f/sub && cd q
	qemu-img create -q -f qcow2 sub/b.qcow2 1M
	qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 sub/m.qcow2
	qemu-img create -q -f qcow2 -b m.qcow2 -F qcow2 sub/t.qcow2
	qemu-io -c 'write -P 3 64k 64k' sub/t.qcow2 >/dev/null
	cp sub/b.qcow2 .)
	copies b.qcow2 sub/b.qcow2 sub/m.qcow2 sub/t.qcow2
	both commit -q -b m.qcow2 sub/t.qcow2
	both commit -q -b b.qcow2 sub/t.qcow2
	both commit -q -b x.qcow2 sub/t.qcow2
	alike b.qcow2 sub/b.qcow2 sub/m.qcow2 sub/t.qcow2
}

@test "amend, rebase, compare: -p shows in a pipe, too" {
	prepare
	both amend -p --force -o compat=1.1 a.qcow2
	both amend -p -q -o compat=1.1 a.qcow2
	both rebase -p -u -b a.qcow2 -F qcow2 b.qcow2
	both compare -p -q a.qcow2 a.qcow2
	(cd f && ours compare -p a.qcow2 a.qcow2 | tr '\r' '\n' >../out)
	grep -qx '    (0.00/100%)' out
	[ "$(tail -n 3 out)" = "$(printf '    (100.00/100%%)\nImages are identical.\n')" ]
	(cd q && qemu-img compare -p a.qcow2 a.qcow2 | tr '\r' '\n' | tail -n 3) | cmp - <(tail -n 3 out)
	alike a.qcow2 b.qcow2
}

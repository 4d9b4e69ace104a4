#!/usr/bin/env bats
# img convert as people use it: onto a base, into what is there, several disks into one, with bitmaps.
load helper

# status_as ARGUMENTS...: the same status as qemu-img's in copies of folder p, and a message exactly where it has one
status_as() {
	local theirs=0 mine=0
	rm -rf q f
	cp -r p q
	cp -r p f
	(cd q && qemu-img "$@" >../out.q 2>../err.q </dev/null) || theirs=$?
	(cd f && ours "$@" >../out.f 2>../err.f </dev/null) || mine=$?
	[ "$mine" = "$theirs" ] || fail "$*: status $mine, qemu-img's $theirs: $(cat err.f err.q)"
	[ "$mine" = 0 ] || [ -s err.f ] || fail "$*: says nothing"
}

sound_and_same() { # FORMAT IMAGE WANT.raw
	[ "$1" = raw ] || qemu-img check -q "$2" || fail "$2 is not sound"
	qemu-img compare -q -f "$1" -F raw "$2" "$3" || fail "$2 does not read as $3"
}

prepare() {
	mkdir -p p
	cd p || return
	qemu-img create -q -f qcow2 b.qcow2 8M
	qemu-io -c 'write -q -P 1 0 4M' -c 'write -q -P 6 7M 512k' b.qcow2
	qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 s.qcow2 8M
	qemu-io -c 'write -q -P 2 2M 1M' -c 'write -q -z 3M 100k' -c 'write -q -P 3 6M 70k' -c 'write -q -P 1 1M 64k' s.qcow2
	qemu-img snapshot -c tag s.qcow2
	qemu-io -c 'write -q -P 9 2500k 33k' s.qcow2
	qemu-img bitmap --add s.qcow2 b0
	qemu-io -c 'write -q -P 4 5M 64k' s.qcow2
	qemu-img bitmap --add --disable -g 4k s.qcow2 b1
	qemu-img convert -O raw s.qcow2 s.raw
	qemu-img convert -O raw -l tag s.qcow2 tag.raw
	cd ..
}

@test "convert: options are taken and refused as qemu-img does" {
	local o
	prepare
	qemu-img create -q -f qcow2 p/x.qcow2 8M
	truncate -s 4M p/small.raw
	while read -r o; do
		# shellcheck disable=SC2086
		status_as convert $o
	done <<-'END'
		-O qcow2 -B b.qcow2 s.qcow2 x.qcow2
		-O qcow2 -F qcow2 s.qcow2 x.qcow2
		-O qcow2 -o backing_file=b.qcow2 s.qcow2 x.qcow2
		-O raw -B b.qcow2 -F qcow2 s.qcow2 x.raw
		-O qcow2 -B nofile -F qcow2 s.qcow2 y.qcow2
		-O qcow2 -n s.qcow2 nofile.qcow2
		-O qcow2 -n -o cluster_size=4k s.qcow2 x.qcow2
		-O qcow2 --target-is-zero s.qcow2 x.qcow2
		-O qcow2 -n --target-is-zero s.qcow2 x.qcow2
		-O qcow2 -C -S 4k s.qcow2 x.qcow2
		-O qcow2 -C s.qcow2 x.qcow2
		-O qcow2 -C -c s.qcow2 x.qcow2
		-O raw -c s.qcow2 x.raw
		-O qcow2 -c -o preallocation=metadata s.qcow2 x.qcow2
		-O qcow2 -c -n s.qcow2 x.qcow2
		-O qcow2 -m 17 s.qcow2 x.qcow2
		-O qcow2 -m 0 s.qcow2 x.qcow2
		-O qcow2 -m 4 -W s.qcow2 x.qcow2
		-O qcow2 -r 1x s.qcow2 x.qcow2
		-O qcow2 -r 1G s.qcow2 x.qcow2
		-O raw --bitmaps s.qcow2 x.raw
		-O qcow2 --bitmaps s.raw x.qcow2
		-O qcow2 --skip-broken-bitmaps s.qcow2 x.qcow2
		-O qcow2 --bitmaps s.qcow2 s.qcow2 x.qcow2
		-O qcow2 -B b.qcow2 -F qcow2 s.qcow2 s.qcow2 x.qcow2
		-O qcow2 -S 1 s.qcow2 x.qcow2
		-O qcow2 -S 32M s.qcow2 x.qcow2
		-O qcow2 -S 4M s.qcow2 x.qcow2
		-O qcow2 -l tag s.qcow2 s.qcow2 x.qcow2
		-n -O raw s.qcow2 small.raw
		-O qcow2 s.qcow2 s.qcow2
		-O qcow2 s.qcow2 b.qcow2
		-O qcow2 -B s.qcow2 -F qcow2 b.qcow2 s.qcow2
		-O qcow2 s.qcow2
		-O qcow2
		-O qcow2 -o size=16M s.qcow2 x.qcow2
		-O qcow2 -o help
		-O raw -o preallocation=metadata s.qcow2 x.raw
		-O raw -o preallocation=falloc s.qcow2 x.raw
		--salvage -O qcow2 s.qcow2 x.qcow2
		-p -q -O qcow2 s.qcow2 x.qcow2
	END
	# With -U it is not a lock that says so, and qemu-img has an image less.
	cd p
	refused 1 "in use" img convert -U -O qcow2 s.qcow2 s.qcow2
	refused 1 "in use" img convert -U -O raw s.qcow2 b.qcow2
	sound_and_same qcow2 s.qcow2 s.raw
}

@test "convert: as a difference to a base" {
	local o n=0
	prepare
	cd p
	truncate -s 3M short.raw
	head -c 3M s.raw | dd of=short.raw conv=notrunc status=none
	cp b.qcow2 other.qcow2
	qemu-io -c 'write -q -P 7 0 1M' other.qcow2
	for o in "-B b.qcow2 -F qcow2" "-o backing_file=b.qcow2,backing_fmt=qcow2,cluster_size=4k" "-B b.qcow2 -F qcow2 -o compat=0.10" \
		"-B b.qcow2 -F qcow2 -o extended_l2=on" "-B b.qcow2 -F qcow2 -o extended_l2=on,preallocation=metadata" \
		"-B short.raw -F raw" "-B short.raw -F raw -o compat=0.10" "-B s.qcow2 -F qcow2" "-B other.qcow2 -F qcow2" \
		"-B b.qcow2 -F qcow2 -S 0"; do
		# shellcheck disable=SC2086
		img convert -O qcow2 $o s.qcow2 o.qcow2
		sound_and_same qcow2 o.qcow2 s.raw
		# shellcheck disable=SC2086
		img convert -O qcow2 -l tag $o s.qcow2 o.qcow2
		sound_and_same qcow2 o.qcow2 tag.raw
	done
	# Only what differs; what is the same is not looked at twice.
	img convert -O qcow2 -B b.qcow2 -F qcow2 s.qcow2 o.qcow2
	[ "$(stat -c %s o.qcow2)" -lt 2000000 ]
	img convert -O qcow2 -B s.qcow2 -F qcow2 s.qcow2 o.qcow2
	[ "$(qemu-img map --output json o.qcow2 | grep -c '"depth": 0.*"data": true')" = 0 ]
	# An empty overlay that is there.
	qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 n.qcow2 8M
	img convert -n -O qcow2 -B b.qcow2 -F qcow2 s.qcow2 n.qcow2
	sound_and_same qcow2 n.qcow2 s.raw
	[ "$(stat -c %s n.qcow2)" -lt 2000000 ]
	# And one that has something.
	qemu-io -c 'write -q -P 8 0 8M' n.qcow2
	img convert -n -O qcow2 -B b.qcow2 -F qcow2 s.qcow2 n.qcow2
	sound_and_same qcow2 n.qcow2 s.raw
}

@test "convert: into an image that exists" {
	local o
	prepare
	cd p
	for o in cluster_size=64k cluster_size=4k,refcount_bits=1 compat=0.10 extended_l2=on preallocation=metadata lazy_refcounts=on; do
		qemu-img create -q -f qcow2 -o $o n.qcow2 8M
		qemu-io -c 'write -q -P 8 0 8M' n.qcow2
		[ $o != cluster_size=64k ] || qemu-img snapshot -c old n.qcow2
		img convert -n -O qcow2 s.qcow2 n.qcow2
		sound_and_same qcow2 n.qcow2 s.raw
		[ $o != cluster_size=64k ] || { qemu-img convert -l old -O raw n.qcow2 old.raw; [ "$(tr -d '\010' <old.raw | wc -c)" = 0 ]; }
	done
	for o in raw bigger; do
		tr '\0' x </dev/zero | head -c $([ $o = raw ] && echo 8M || echo 9M) >n.raw
		img convert -n -O raw s.qcow2 n.raw
		head -c 8M n.raw | cmp - s.raw
	done
	# What is behind the disk is not touched, what is too small is not changed.
	[ "$(tail -c 1M n.raw | tr -d x | wc -c)" = 0 ]
	tr '\0' x </dev/zero | head -c 4M >n.raw
	refused 1 "it is smaller (" img convert -n -O raw s.qcow2 n.raw
	[ "$(tr -d x <n.raw | wc -c)" = 0 ]
	truncate -s 0 n.raw
	truncate -s 8M n.raw
	img convert -n --target-is-zero -O raw s.qcow2 n.raw
	cmp n.raw s.raw
}

@test "convert: -c" {
	local o
	prepare
	cd p
	{
		seq 1 100000
		head -c 300000 /dev/urandom
		head -c 700000 "$FERMATA_BIN"
		head -c 300000 /dev/zero | tr '\0' x
	} >in.raw
	truncate -s 3000320 in.raw
	for o in cluster_size=64k cluster_size=512 cluster_size=4k,refcount_bits=1 cluster_size=2M compat=0.10 extended_l2=on,cluster_size=16k \
		cluster_size=4k,refcount_bits=64; do
		qemu-img convert -c -f raw -O qcow2 -o $o in.raw q.qcow2
		img convert -c -f raw -O qcow2 -o $o in.raw o.qcow2
		sound_and_same qcow2 o.qcow2 in.raw
		img check -q o.qcow2
		img compare -q o.qcow2 in.raw
		# Tables come last here, so the data's last cluster is a whole one.
		[ $o = cluster_size=2M ] || [ $(($(stat -c %s o.qcow2) * 100)) -le $(($(stat -c %s q.qcow2) * 110)) ] || fail "$o: $(stat -c %s o.qcow2 q.qcow2)"
		[ "$(stat -c %s o.qcow2)" -le "$(img measure -f raw -O qcow2 -o $o in.raw | sed -n 's/^required size: //p')" ]
	done
	refused 1 "zstd is not supported" img convert -c -O qcow2 -o compression_type=zstd s.qcow2 z.qcow2
	# On a base, and into what is there, of which a snapshot keeps what it has.
	img convert -c -O qcow2 -B b.qcow2 -F qcow2 s.qcow2 o.qcow2
	sound_and_same qcow2 o.qcow2 s.raw
	for o in cluster_size=64k extended_l2=on,cluster_size=32k; do
		qemu-img create -q -f qcow2 -o $o n.qcow2 8M
		qemu-io -c 'write -q -P 8 0 8M' n.qcow2
		qemu-img snapshot -c old n.qcow2
		img convert -c -n -O qcow2 s.qcow2 n.qcow2
		sound_and_same qcow2 n.qcow2 s.raw
		img convert -c -n -O qcow2 b.qcow2 n.qcow2
		qemu-img compare -q b.qcow2 n.qcow2
		qemu-img check -q n.qcow2
		qemu-img convert -l old -O raw n.qcow2 old.raw
		[ "$(tr -d '\010' <old.raw | wc -c)" = 0 ]
	done
}

@test "convert: several disks into one, preallocated, fully written" {
	local o
	prepare
	cd p
	head -c 100000 /dev/urandom >1.raw
	head -c 1536 /dev/urandom >2.raw
	head -c 3000001 /dev/urandom >3.raw
	qemu-img convert -f raw -O raw 1.raw 2.raw 3.raw want.raw
	img convert -f raw -O raw 1.raw 2.raw 3.raw got.raw
	cmp want.raw got.raw
	img convert -f raw -O qcow2 -o cluster_size=2M 1.raw 2.raw 3.raw got.qcow2
	sound_and_same qcow2 got.qcow2 want.raw
	img convert -O qcow2 s.qcow2 b.qcow2 got.qcow2
	qemu-img convert -O raw s.qcow2 b.qcow2 want.raw
	sound_and_same qcow2 got.qcow2 want.raw
	for o in metadata falloc full; do
		img convert -O qcow2 -o preallocation=$o s.qcow2 got.qcow2
		sound_and_same qcow2 got.qcow2 s.raw
		[ "$(stat -c %s got.qcow2)" -le "$(img measure -O qcow2 -o preallocation=$o s.qcow2 | sed -n 's/^required size: //p')" ]
	done
	[ "$(stat -c %b got.qcow2)" -ge 16384 ]
	img convert -S 0 -O qcow2 s.qcow2 got.qcow2
	sound_and_same qcow2 got.qcow2 s.raw
	[ "$(qemu-img map --output=json got.qcow2 | grep -c '"data": false')" = 0 ]
	img convert -S 0 s.qcow2 got.raw
	cmp s.raw got.raw
	[ "$(stat -c %b got.raw)" -ge 16384 ]
}

@test "convert: --bitmaps" {
	local i
	prepare
	status_as convert --bitmaps -O qcow2 -o cluster_size=64k s.qcow2 o.qcow2
	for i in q f; do qemu-img info --output json $i/o.qcow2 | grep -A60 '"bitmaps"' >$i.txt; done
	diff q.txt f.txt
	sound_and_same qcow2 f/o.qcow2 p/s.raw
	# The same bits: what ours and theirs have is told by merging them into an image without.
	for i in q f; do
		qemu-img create -q -f qcow2 $i/m.qcow2 8M
		qemu-img bitmap --add --merge b0 -b $i/o.qcow2 -F qcow2 -g 4k $i/m.qcow2 m
	done
	cmp q/m.qcow2 f/m.qcow2
	cd p
	img measure -O qcow2 s.qcow2 >m.txt
	[ "$(stat -c %s ../f/o.qcow2)" -le $(($(sed -n 's/^required size: //p' m.txt) + $(sed -n 's/^bitmaps size: //p' m.txt))) ]
	# One that was not saved.
	printf '\1' | dd of=s.qcow2 bs=1 conv=notrunc status=none \
		seek=$(($(qemu-img check --output json s.qcow2 >/dev/null; LC_ALL=C grep -abo 'b1' s.qcow2 | tail -1 | cut -d: -f1) - 24 + 15))
	refused 1 "bitmap 'b1' was in use" img convert --bitmaps -O qcow2 s.qcow2 o.qcow2
	[ ! -e o.qcow2 ]
	img convert --bitmaps --skip-broken-bitmaps -O qcow2 s.qcow2 o.qcow2
	[ "$(qemu-img info o.qcow2 | grep -c 'name: b')" = 1 ]
}

@test "convert: what cannot be read, how fast, how far" {
	prepare
	cd p
	cp s.qcow2 bad.qcow2
	# An L2 entry that is none: at 6M, in the only table.
	perl -e 'open F, "+<", "bad.qcow2"; seek F, 40, 0; read F, $x, 8; seek F, unpack("Q>", $x), 0; read F, $x, 8;
		seek F, (unpack("Q>", $x) & 0xfffffffffffe00) + 96 * 8, 0; print F pack("Q>", 0x8000000000000000 | 12345 << 9)'
	refused 1 "" img convert -O raw bad.qcow2 o.raw
	[ ! -e o.raw ]
	img convert --salvage -O raw bad.qcow2 o.raw 2>err
	grep -q warning: err
	cmp <(head -c 6M o.raw) <(head -c 6M s.raw)
	cmp <(tail -c 1984k o.raw) <(tail -c 1984k s.raw)
	SECONDS=0
	img convert -r 4M -S 0 s.qcow2 o.raw
	[ $SECONDS -ge 1 ] && cmp o.raw s.raw
	[ "$(img convert -p -O raw s.qcow2 o.raw | tr '\r' '\n' | tail -2)" = "    (100.00/100%)" ]
	[ -z "$(img convert -p -q -O raw s.qcow2 o.raw)" ]
	"$FERMATA_BIN" img convert -r 4M -S 0 s.qcow2 o.raw 2>err &
	sleep 0.7
	kill -USR1 $!
	wait $!
	grep -q '/100%)' err
}

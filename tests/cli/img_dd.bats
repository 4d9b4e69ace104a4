#!/usr/bin/env bats
# img dd beside qemu-img.
load helper

prepare() {
	(cd q
	qemu-img create -q -f qcow2 b.qcow2 1M
	qemu-io -c 'write -P 5 0 1M' -c 'write -z 256k 64k' b.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 t.qcow2 1500k
	qemu-io -c 'write -P 7 1M 100k' -c 'write -P 3 1k 70k' t.qcow2 >/dev/null)
	copies b.qcow2 t.qcow2
}

# content FILE...: a guest reads the same of q/FILE and f/FILE
content() {
	local i
	for i; do
		cmp <(cd q && qemu-img convert -O raw "$i" ../s.q && cat ../s.q) <(cd f && qemu-img convert -O raw "$i" ../s.f && cat ../s.f)
		(cd f && { [ "${i%.qcow2}" = "$i" ] || qemu-img check -q "$i"; })
	done
}

@test "dd: the part of a disk that bs=, count= and skip= mean" {
	prepare
	both dd if=b.qcow2 of=1.raw
	both dd -O qcow2 if=t.qcow2 of=2.qcow2
	both dd -f qcow2 -O raw bs=64k skip=3 count=7 if=t.qcow2 of=3.raw
	both dd bs=64k skip=15 count=2 if=b.qcow2 of=4.raw
	both dd -O qcow2 bs=64k skip=16 if=b.qcow2 of=5.qcow2
	both dd bs=1 skip=300 count=700 -O qcow2 if=t.qcow2 of=6.qcow2
	both dd bs=1000 skip=3 if=b.qcow2 of=7.raw
	both dd -U count=1024 if=b.qcow2 of=8.raw
	both dd -f raw if=b.qcow2 of=9.raw
	both dd --image-opts if=driver=qcow2,file.filename=b.qcow2 of=10.raw
	both dd count=1 if=b.qcow2 of=1.raw
	both dd if=b.qcow2 of=file:a:b.raw count=0
	content 1.raw 2.qcow2 3.raw 4.raw 5.qcow2 6.qcow2 7.raw 8.raw 9.raw 10.raw ./a:b.raw
	for i in 1 3 4 7 8 9 10; do [ "$(stat -c %s f/$i.raw)" = "$(stat -c %s q/$i.raw)" ]; done
	for i in 2 5 6; do diff <(cd q && facts $i.qcow2) <(cd f && facts $i.qcow2); done
}

@test "dd: what is refused leaves nothing" {
	prepare
	local i
	for i in '' if=b.qcow2 of=x.raw 'bogus=1 if=b.qcow2 of=x.raw' 'x if=b.qcow2 of=x.raw' 'bs=0 if=b.qcow2 of=x.raw' 'bs=3G if=b.qcow2 of=x.raw' \
		'bs=-1 if=b.qcow2 of=x.raw' 'skip=x if=b.qcow2 of=x.raw' 'count= if=b.qcow2 of=x.raw' 'if=nofile of=x.raw' '-n if=b.qcow2 of=x.raw' \
		'-O bogus if=b.qcow2 of=x.raw' 'seek=1 if=b.qcow2 of=x.raw' 'if=b.qcow2 of=b.qcow2' 'if=t.qcow2 of=b.qcow2'; do
		both dd $i
	done
	content b.qcow2 t.qcow2
	refused 1 "b.qcow2 is in use" img dd -U if=f/t.qcow2 of=f/b.qcow2
	# A source that ends in the middle, by an entry that breaks the format: half a copy is none.
	cp f/b.qcow2 f/bad.qcow2
	printf '\200\0\0\0\0\5\2\1' | dd of=f/bad.qcow2 bs=8 seek=$((0x40000 / 8 + 8)) conv=notrunc status=none
	for i in raw qcow2; do
		refused 1 "bad.qcow2" img dd -O $i if=f/bad.qcow2 of=f/x.$i
		[ ! -e f/x.$i ]
	done
	content b.qcow2
}

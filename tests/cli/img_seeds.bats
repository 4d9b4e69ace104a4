#!/usr/bin/env bats
# What people typed to qemu-img in 2015 and later, with our name in its place.
load helper

@test "seeds: snapshots of Koan.img" {
	qemu-img create -q -f qcow2 Koan.img 64M
	qemu-io -c 'write -P 1 0 1M' Koan.img >/dev/null
	img snapshot -c k1-snap Koan.img
	qemu-io -c 'write -P 2 0 1M' Koan.img >/dev/null
	img snapshot -l Koan.img | grep -Eq '^1 +k1-snap +0 B +20[0-9-]+ [0-9:]+ +00:00:00\.000 +0$'
	[ "$(img snapshot -l Koan.img)" = "$(qemu-img snapshot -l Koan.img)" ]
	img snapshot -a k1-snap Koan.img
	qemu-io -c 'read -P 1 0 1M' Koan.img | grep -q '^read'
	img check -r all Koan.img | grep -q '^No errors were found on the image.$'
	img snapshot -d k1-snap Koan.img
	qemu-img check Koan.img
}

@test "seeds: an overlay of CentOS.img, whose format has to be said today" {
	qemu-img create -q -f qcow2 CentOS.img 1M
	refused 1 "backing file specified without backing format" \
		img create -f qcow2 node1.img -o backing_file=CentOS.img,size=30G
	qemu-img create -f qcow2 node1.img -o backing_file=CentOS.img,size=30G && fail "qemu-img takes it"
	[ ! -e node1.img ]
	sh -c "PATH=$BATS_TEST_TMPDIR/bin:\$PATH; $(sed 's/.*fermata img/qemu-img/' err)" >line
	grep -q "^Formatting 'node1.img', fmt=qcow2 .* size=32212254720 backing_file=CentOS.img backing_fmt=qcow2" line
	img info node1.img | grep -q '^backing file: CentOS.img$'
	img check -r all node1.img
	same info node1.img
}

@test "seeds: as qemu-img, by a link's name" {
	PATH=$BATS_TEST_TMPDIR/bin:$PATH
	qemu-img --version | head -1 | grep -Eq '^qemu-img version [0-9]+\.[0-9]+'
	qemu-img create -f qcow2 vm.qcow2 10G >/dev/null
	qemu-img snapshot -c clean vm.qcow2
	qemu-img resize vm.qcow2 +10G | grep -qx 'Image resized.'
	qemu-img check vm.qcow2 >/dev/null
	qemu-img info vm.qcow2 | grep -q '^virtual size: 20 GiB (21474836480 bytes)$'
	qemu-img nonsense 2>err && fail "nonsense passed" || [ $? = 1 ]
	grep -q "^qemu-img: " err
}

@test "seeds: QEMU takes back a checkpoint whose image we edited, and we delete one of QEMU's" {
	command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
	qemu-img create -q -f qcow2 v.qcow2 16M
	local qemu="qemu-system-x86_64 -machine pc,accel=tcg -m 8 -nodefaults -display none -S -monitor stdio -drive file=v.qcow2,format=qcow2,if=ide"
	{ echo savevm k1; echo savevm k2; echo quit; } | $qemu >/dev/null
	img snapshot -c between v.qcow2
	img snapshot -d k1 v.qcow2
	{ echo loadvm k2; echo info status; echo info snapshots; echo quit; } | $qemu >out
	grep -q 'k2' out
	grep -qi 'error' out && fail "$(cat out)"
	img check v.qcow2
	qemu-img check v.qcow2
}

#!/usr/bin/env bats
# img commit and rebase, each beside qemu-img.
load helper

prepare() {
	(cd q
	qemu-img create -q -f qcow2 a.qcow2 8M
	qemu-io -c 'write -P 1 1M 3M' a.qcow2 >/dev/null
	qemu-img snapshot -c s1 a.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=4k -b a.qcow2 -F qcow2 b.qcow2 12M
	qemu-io -c 'write -P 2 2M 1M' -c 'write -z 3M 512k' -c 'write -P 3 8387k 9k' b.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k -b b.qcow2 -F qcow2 c.qcow2 10M
	qemu-io -c 'write -P 4 0 5k' -c 'write -c -P 5 1M 128k' -c 'write -P 6 9M 1M' -c 'write -z 2M 8k' c.qcow2 >/dev/null
	qemu-img create -q -f raw r.raw 5M
	qemu-io -f raw -c 'write -P 7 0 2M' r.raw >/dev/null
	qemu-img create -q -f qcow2 -b r.raw -F raw d.qcow2 6M
	qemu-io -c 'write -P 8 1M 64k' -c 'write -P 9 5M 100k' d.qcow2 >/dev/null)
	copies a.qcow2 b.qcow2 c.qcow2 d.qcow2 r.raw
}

@test "commit: into the backing file, and emptied" {
	prepare
	both commit c.qcow2
	alike c.qcow2 b.qcow2 a.qcow2
	both commit -d b.qcow2
	alike a.qcow2 b.qcow2
	both commit -q b.qcow2
	alike a.qcow2 b.qcow2 c.qcow2
	[ "$(qemu-img map f/b.qcow2 | grep -c b.qcow2)" = 0 ]
	both commit -f qcow2 -t none d.qcow2
	alike d.qcow2 r.raw
}

@test "commit: -b, and what cannot be" {
	prepare
	both commit -b a.qcow2 c.qcow2
	alike a.qcow2 c.qcow2
	both commit -b a.qcow2 a.qcow2
	both commit a.qcow2
	both commit nofile
	both commit
	refused 1 "did not find 'r.raw' in the backing chain" img commit -b r.raw f/c.qcow2
	refused 1 "no backing file" img commit f/a.qcow2
	(cd f && img commit -p -d c.qcow2 | tr '\r' '\n' | grep -q '(100.00/100%)')
}

@test "commit: bitmaps of the backing file get what was written" {
	prepare
	qemu-img bitmap --add -g 64k f/a.qcow2 on
	qemu-img bitmap --add -g 64k f/a.qcow2 off
	qemu-img bitmap --disable f/a.qcow2 off
	img commit -d f/b.qcow2
	qemu-img check f/a.qcow2
	qemu-img bitmap --merge on f/a.qcow2 off
}

@test "rebase: the disk stays, whatever is below" {
	prepare
	cp f/c.qcow2 same.qcow2
	qemu-img convert -O raw f/c.qcow2 want.raw
	both rebase -b a.qcow2 -F qcow2 c.qcow2
	alike c.qcow2
	qemu-img compare -f raw -F qcow2 want.raw f/c.qcow2
	both rebase -b "" c.qcow2
	alike c.qcow2
	both rebase -b r.raw -F raw c.qcow2
	alike c.qcow2
	qemu-img compare -f raw -F qcow2 want.raw f/c.qcow2
	both rebase -b c.qcow2 -F qcow2 c.qcow2
	both rebase -b nofile -F qcow2 c.qcow2
	alike c.qcow2
}

@test "rebase: with neither -b nor -u nothing is copied" {
	prepare
	both rebase c.qcow2
	both rebase -F qcow2 c.qcow2
	both rebase -F raw -p c.qcow2
	alike c.qcow2
	[ "$(stat -c %s f/c.qcow2)" = "$(stat -c %s q/c.qcow2)" ]
	both rebase -u c.qcow2
	alike c.qcow2
}

@test "rebase: an internal snapshot may not change with it" {
	prepare
	qemu-img snapshot -c inner f/b.qcow2
	refused 1 "internal snapshot 'inner'" img rebase -b "" f/b.qcow2
	qemu-img compare q/b.qcow2 f/b.qcow2
	qemu-img check f/b.qcow2
}

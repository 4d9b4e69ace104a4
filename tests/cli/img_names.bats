#!/usr/bin/env bats
# What images are called: paths, "file:PATH", "json:{...}" and --image-opts, each beside qemu-img.
load helper

prepare() {
	(cd q
	qemu-img create -q -f qcow2 a.qcow2 1M
	qemu-io -c 'write -P 1 0 256k' a.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2
	qemu-io -c 'write -P 2 64k 64k' o.qcow2 >/dev/null
	qemu-img create -q -f raw r.raw 1M
	qemu-img create -q -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}' -F qcow2 j.qcow2
	cp a.qcow2 x:y.qcow2)
	copies a.qcow2 o.qcow2 r.raw j.qcow2 x:y.qcow2
}

NODE=driver=qcow2,file.driver=file,file.filename

@test "names: a path, with file: before it, and a colon" {
	prepare
	cd f
	same check a.qcow2
	same check file:a.qcow2
	same check --output json file:a.qcow2
	same map file:./a.qcow2
	same map file:x:y.qcow2
	same map ./x:y.qcow2
	same map x:y.qcow2
	same map file:
	same map ""
	for i in nbd:localhost:1 nbd+unix:///x ssh://h/x fat:/tmp bogus:x; do
		refused 1 "$i is not a local file" img info "$i"
		refused 1 "./$i names a file" img check "$i"
		refused 1 "is not a local file" img create -f qcow2 "$i" 1M
		refused 1 "is not a local file" img convert -O raw a.qcow2 "$i"
		refused 1 "is not a local file" img resize "$i" 2M
	done
	diff <(ls | grep -vx 'err\|out') <(ls ../q)
}

@test "names: json:{...} is the node that it describes" {
	prepare
	cd f
	local node
	for node in '{"driver":"qcow2","file":{"driver":"file","filename":"o.qcow2"}}' '{"driver":"qcow2","file.filename":"o.qcow2"}' \
		'{"file":{"filename":"o.qcow2","locking":"off"},"read-only":true}' ' { "file.driver" : "file", "file.filename": "\u006f.qcow2" }' \
		'{"driver":"raw","file":{"driver":"file","filename":"o.qcow2"}}' '{"driver":"qcow2","file.filename":"o.qcow2","backing":null}' \
		'{"driver":"qcow2","file.filename":"o.qcow2","backing":{"driver":"raw","file.filename":"r.raw"}}' \
		'{"driver":"qcow2","file.filename":"o.qcow2","backing.file.filename":"a.qcow2"}' \
		'{"driver":"qcow2","file.filename":"o.qcow2","lazy-refcounts":true,"l2-cache-size":65536,"node-name":"n0","discard":"unmap"}' \
		'{"filename":"a.qcow2"}' '{"driver":"qcow2","file":"node0"}' '{"driver":"qcow2","file.filename":"o.qcow2","bogus":1}' \
		'{"driver":"qcow2","file.filename":"o.qcow2","lazy-refcounts":"maybe"}' '{"driver":"qcow2"' '[]' '' '"a.qcow2"' '{}'; do
		same map --output json "json:$node"
	done
	node='json:{"driver":"qcow2","file.filename":"o.qcow2","backing":null}'
	same check "$node"
	same measure -O qcow2 "$node"
	same compare "$node" a.qcow2
	same info --backing-chain 'json:{"driver":"qcow2","file.filename":"o.qcow2"}'
	same check --output json 'json:{"file.filename":"a.qcow2"}'
	same map -f raw 'json:{"driver":"qcow2","file.filename":"a.qcow2"}'
}

@test "names: --image-opts says the same of every command" {
	prepare
	local n
	for n in $NODE=o.qcow2 file.filename=o.qcow2 $NODE=o.qcow2,file.locking=off,cache.direct=off $NODE=o.qcow2,backing= \
		$NODE=o.qcow2,backing.driver=qcow2,backing.file.filename=j.qcow2 o.qcow2 filename=o.qcow2 $NODE=o.qcow2,bogus=1 $NODE=o.qcow2,file.bogus=1 \
		$NODE=file:o.qcow2 $NODE=x:y.qcow2 driver=qcow2,force-share=on,file.filename=o.qcow2; do
		both map --output json --image-opts "$n"
	done
	both check --image-opts file.filename=o.qcow2
	both measure --image-opts file.filename=o.qcow2
	both map -f qcow2 --image-opts file.filename=o.qcow2
	both compare --image-opts $NODE=o.qcow2 file.filename=j.qcow2
	both compare --image-opts -F raw $NODE=o.qcow2 file.filename=j.qcow2
	both resize --image-opts $NODE=o.qcow2 2M
	both resize --image-opts $NODE=o.qcow2,read-only=on 3M
	both resize --image-opts $NODE=o.qcow2,force-share=on 3M
	both snapshot -c s --image-opts $NODE=o.qcow2
	both amend -o lazy_refcounts=on --image-opts $NODE=o.qcow2
	both bitmap --add --image-opts $NODE=o.qcow2 b0
	both bitmap --add --image-opts $NODE=a.qcow2 b0
	both bitmap --merge b0 -b file:a.qcow2 -F qcow2 --image-opts $NODE=a.qcow2 b0
	both rebase -b r.raw -F raw --image-opts $NODE=j.qcow2
	both commit --image-opts $NODE=o.qcow2
	alike a.qcow2 o.qcow2 j.qcow2
	both convert --image-opts $NODE=o.qcow2 c.raw
	both convert -n --image-opts $NODE=a.qcow2 --target-image-opts driver=raw,file.filename=r.raw
	both convert -n --image-opts $NODE=a.qcow2 --target-image-opts $NODE=o.qcow2,read-only=on
	both convert --target-image-opts a.qcow2 driver=raw,file.filename=r.raw
	both convert -n -O raw --target-image-opts a.qcow2 driver=raw,file.filename=r.raw
	alike c.raw r.raw
	refused 1 "--object secret is not supported" img info --object secret,id=s0,data=x f/a.qcow2
	refused 1 "--object secret is not supported" img create -f qcow2 --object secret,id=s0,data=x n.qcow2 1M
	refused 1 "--object iothread is not supported" img measure --object iothread,id=s0 --size 1M
	refused 1 "backing file that it records" img resize --image-opts $NODE=f/o.qcow2,backing= 4M
	refused 1 "driver=nbd is not supported" img info --image-opts driver=nbd,host=x
	refused 1 "file.driver=https is not a local file" img info --image-opts driver=qcow2,file.driver=https,file.url=x
	refused 1 "'offset' of an image is not supported" img info --image-opts driver=raw,offset=512,file.filename=f/r.raw
	[ ! -e n.qcow2 ]
}

@test "names: new images and backing files, as a path and as json:{...}" {
	prepare
	local node='json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}'
	both create -f qcow2 file:n:m.qcow2 1M
	both create -f qcow2 "$node" 1M
	both create -f qcow2 -b file:a.qcow2 -F qcow2 p.qcow2
	both create -f qcow2 -b "$node" -F qcow2 p2.qcow2
	both create -f qcow2 -b "$node" p3.qcow2
	both convert -O raw o.qcow2 file:c:d.raw
	both convert o.qcow2 "$node"
	both convert -n -O qcow2 r.raw "$node"
	both rebase -u -b "$node" -F qcow2 o.qcow2
	both rebase -b "$node" -F qcow2 j.qcow2
	both rebase -b file:a.qcow2 -F qcow2 j.qcow2
	cd f
	for i in ./n:m.qcow2 p.qcow2 p2.qcow2 o.qcow2 j.qcow2 a.qcow2; do (cd ../q && qemu-img convert -O raw $i ../s.q); qemu-img convert -O raw $i ../s.f; cmp ../s.q ../s.f; done
	cmp ../q/c:d.raw c:d.raw
	[ "$(ls)" = "$(ls ../q)" ]
	same map p2.qcow2
	# What a name says of further images has to be on record.
	qemu-img create -q -u -f qcow2 -b 'json:{"driver":"qcow2","file.filename":"a.qcow2","backing":null}' -F qcow2 d.qcow2 1M
	refused 1 "has to record itself" img map d.qcow2
}

@test "names: what stands before and behind a command" {
	prepare
	both --trace enable=bdrv_open_common map a.qcow2
	both --trace=enable=x -T y map a.qcow2
	both -Tx map a.qcow2
	both map --trace x a.qcow2
	local c
	for c in amend bitmap check commit compare convert create dd info map measure rebase resize snapshot; do
		[ "$(ours $c -h)" = "$(ours help $c)" ]
		[ "$(ours $c --help)" = "$(ours help $c)" ]
		img $c -h | grep -q -- '--object TYPE'
	done
}

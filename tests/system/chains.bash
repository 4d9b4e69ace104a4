# What the tests of chains of images share; load it after helper.

# The files of a disk's chain that are in use, the active one first
chain() {
	fermata domblkchain w "${1:-vda}" --output json | perl -MJSON::PP -e '
		local $/; my $l = decode_json(<STDIN>); print "$_->{file}\n" for grep { $_->{"in-use"} } @{$l->[0]{images}}'
}

depth() {
	chain "$1" | wc -l
}

# What a guest would read of every image that a snapshot froze: "NAME:DISK MD5"
frozen() {
	contents | sed '/^active:/d'
}

# snaps NAME...: one after the other, with something written in between
snaps() {
	local s
	for s; do
		ask w g '^G=' >/dev/null
		fermata snapshot-create-as w "$s" --disk-only --atomic >/dev/null
	done
	ask w g '^G=' >/dev/null
}

# The guest runs in one instant, and all that it ever wrote is there; QEMU has no image open that the chain has not
assert_sound() {
	assert_state w running
	assert_one_instant w "$1"
	[ "$(ask w c '^C')" = "C ok" ]
}

assert_nodes() {
	fermata qemu-monitor-command w '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' |
		grep -o '"node-name": *"vd[a-z][.][0-9]*"' | grep -c "$1[.]" >"$FERMATA_ROOT/nodes"
	[ "$(cat "$FERMATA_ROOT/nodes")" = "$(depth "$1")" ] || { echo "$1 has $(cat "$FERMATA_ROOT/nodes") nodes"; return 1; }
}

# Every file beside the images is one that something needs
assert_needed() {
	local file
	frozen >/dev/null
	for d in $(fermata domblklist w | awk 'NR > 2 { print $1 }'); do chain "$d"; done >"$FERMATA_ROOT/needed"
	awk '{ print $2 }' "$FERMATA_ROOT/files" >>"$FERMATA_ROOT/needed"
	for file in "$FERMATA_ROOT"/images/*; do
		grep -qxF "$file" "$FERMATA_ROOT/needed" || images w | grep -qxF "$file" || {
			echo "nobody needs $file"
			return 1
		}
	done
}

# delete_keeps NAME [FLAG...]: it is gone, all that others froze is as before, the guest runs on
delete_keeps() {
	local from s=$1
	from=$(mark w)
	frozen | sed "/^$s:/d" >"$FERMATA_ROOT/before"
	fermata snapshot-delete w "$@"
	not listed w "$s"
	frozen | diff "$FERMATA_ROOT/before" -
	assert_needed
	assert_sound "$from"
	assert_nodes vda
}

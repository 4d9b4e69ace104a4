# A managed save is lost by nothing but a guest that runs without it, or a word of the user's.
load helper

setup() { root_make; }
teardown() { root_end; }

policy() {
	{ printf '\n[boot]\n' && cat; } | conf_add "$1"
}

boot() {
	local status=0
	fermata boot "$1" 2>"$FERMATA_ROOT/said" || status=$?
	cat "$FERMATA_ROOT/said"
	[ "$status" = "$2" ] || { echo "exit $status, not $2"; return 1; }
	grep -qF -- "$3" "$FERMATA_ROOT/said"
}

# The save that the next start takes; the files that were set aside
save_of() { echo "$FERMATA_ROOT/var/lib/fermata/$1/managed.save"; }
aside_of() { fermata managedsave-list "$1" | awk '/set aside/ { print $NF }'; }

@test "managedsave: a comment, blanks and the host's keys do not make it useless; what the guest sees does, by name" {
	witness_vm w 1
	printf 'from = managedsave\nfallback = cold\nattempts = 1\n' | policy w
	conf=$FERMATA_ROOT/etc/fermata/w.conf
	vm_start w
	fermata managedsave w
	c=$(last_counter w)
	{ echo "# release 2" && sed 's/ *= */=/' "$conf" && echo "within = 30s"; } >"$conf.new" && mv "$conf.new" "$conf"
	from=$(mark w)
	boot w 0 "from 'managedsave'"
	assert_went_back w "$from" "$c"
	assert_one_instant w "$from"
	[ ! -e "$(save_of w)" ]
	fermata managedsave w
	cp "$conf" "$conf.was"
	sed -i 's/^memory=.*/memory = 96M/' "$conf"
	fails 1 "memory was '64 MiB' when it was saved, and is '96 MiB' now" start w
	fails 1 "--force-boot" start w
	[ -s "$(save_of w)" ]
	mv "$conf.was" "$conf"
	from=$(mark w)
	fermata start w
	assert_one_instant w "$from"
	if said_since w "$from" '^boot'; then return 1; fi
}

@test "managedsave: a missing image is called missing, and no start that fails costs the save" {
	witness_vm w 2
	mkdir "$FERMATA_ROOT/away"
	vm_start w
	fermata managedsave w
	c=$(last_counter w)
	sum=$(md5sum <"$(save_of w)")
	for file in w-vda.qcow2 w-vdb.qcow2; do
		mv "$FERMATA_ROOT/images/$file" "$FERMATA_ROOT/away"
		fails 1 "cannot find image $FERMATA_ROOT/images/$file: No such file or directory" start w
		not fermata start w 2>"$FERMATA_ROOT/err"
		not grep -qE "moved on|force-boot" "$FERMATA_ROOT/err"
		fails 1 "No such file or directory" start w --force-boot
		fails 1 "No such file or directory" start w --force-boot --paused
		printf '\n[boot]\nfrom = nothing\nfallback = cold\nattempts = 2\n' | conf_add w
		boot w 1 "every choice failed"
		boot w 1 "every choice failed"
		sed -i '/^\[boot\]/,$d' "$FERMATA_ROOT/etc/fermata/w.conf"
		mv "$FERMATA_ROOT/away/$file" "$FERMATA_ROOT/images"
		[ "$sum" = "$(md5sum <"$(save_of w)")" ]
		[ -z "$(aside_of w)" ]
	done
	# QEMU itself does not come up.
	sed -i 's/^arg = .*/& -device no-such-device/' "$FERMATA_ROOT/etc/fermata/w.conf"
	fails 1 "no-such-device" start w --force-boot
	[ "$sum" = "$(md5sum <"$(save_of w)")" ]
	sed -i 's/ -device no-such-device//' "$FERMATA_ROOT/etc/fermata/w.conf"
	from=$(mark w)
	fermata start w
	assert_went_back w "$from" "$c"
	# The guest runs without: it is gone. Paused, it does not run yet.
	fermata managedsave w
	fermata start w --force-boot
	[ ! -e "$(save_of w)" ]
	[ -z "$(aside_of w)" ]
	fermata managedsave w
	fermata start w --force-boot --paused 2>"$FERMATA_ROOT/err"
	grep -q "its managed save is set aside" "$FERMATA_ROOT/err"
	fermata destroy w
	from=$(mark w)
	fermata restore "$(aside_of w)" --running
	assert_one_instant w "$from"
	[ -z "$(aside_of w)" ]
}

@test "managedsave: the next boot goes on from it, whatever the policy says" {
	witness_vm w 1
	vm_start w
	fermata snapshot-create-as w golden
	printf 'from = golden\ndiscard-changes = yes\n' | policy w
	wait_counter_above w $(($(last_counter w) + 100))
	fermata managedsave w
	c=$(last_counter w)
	from=$(mark w)
	boot w 0 "from 'managedsave', attempt 1 of 3"
	assert_went_back w "$from" "$c"
	fermata destroy w
	boot w 0 "from 'golden', attempt 1 of 3"
	# Nothing is said of boots, which are cold then.
	sed -i '/^\[boot\]/,$d' "$FERMATA_ROOT/etc/fermata/w.conf"
	wait_counter_above w $(($(last_counter w) + 50))
	fermata managedsave w
	c=$(last_counter w)
	from=$(mark w)
	boot w 0 "from 'managedsave', attempt 1 of 3"
	assert_went_back w "$from" "$c"
}

@test "managedsave: one that is refused at a boot is set aside, until a later boot without it is healthy" {
	witness_vm w 1
	vm_start w
	fermata snapshot-create-as w golden
	printf 'from = golden\nfallback = cold\ndiscard-changes = yes\nattempts = 2\n' | policy w
	for way in golden cold; do
		fermata managedsave w
		qemu-io -c 'write -q 60M 64K' "$FERMATA_ROOT/images/w-vda.qcow2"
		boot w 4 "its managed save is set aside"
		grep -q "moved on" "$FERMATA_ROOT/said"
		[ "$(grep -c "from 'managedsave', attempt" "$FERMATA_ROOT/said")" = 2 ]
		[ "$(fermata boot-status w --output json | sed -n 's/.*"from": "\(.*\)".*/\1/p')" = $way ]
		[ ! -e "$(save_of w)" ]
		file=$(aside_of w)
		[ -s "$file" ]
		fermata managedsave-list --output json | grep -q '"set-aside": true'
		fermata destroy w
		fails 1 "moved on" restore "$file"
		[ "$(aside_of w)" = "$file" ]
		[ $way = golden ] || break
		boot w 0 "from 'golden', attempt 1 of 2"
		[ -z "$(aside_of w)" ]
		fermata snapshot-delete w golden
	done
	# It can be used all the same, once.
	fermata restore --force "$file"
	[ -z "$(aside_of w)" ]
}

@test "managedsave: while there is one, nothing that would make it useless is done" {
	witness_vm w 1
	vm_start w
	fermata snapshot-create-as w k
	fermata snapshot-create-as w x --disk-only
	fermata save w "$FERMATA_ROOT/w.mem"
	fermata restore "$FERMATA_ROOT/w.mem"
	fermata snapshot-create-as w m --memspec "$FERMATA_ROOT/m.mem"
	fermata snapshot-export w m "$FERMATA_ROOT/m.far"
	fermata managedsave w
	c=$(last_counter w)
	sum=$(cat "$FERMATA_ROOT"/images/* "$FERMATA_ROOT/var/lib/fermata/w/state.json" | md5sum)
	refused() { fails 1 "has a managed save" "$@"; }
	refused snapshot-create-as w new
	refused snapshot-create-as w new --disk-only
	refused snapshot-create-as w m --replace
	refused snapshot-revert w k
	refused snapshot-revert w x
	refused snapshot-revert w m
	refused snapshot-delete w k
	refused snapshot-delete w x
	refused snapshot-delete w x --children
	refused blockpull w vda --wait
	refused blockcommit w vda --active --pivot
	refused snapshot-import w "$FERMATA_ROOT/m.far" --name n
	refused standby w m
	refused restore "$FERMATA_ROOT/w.mem"
	[ "$sum" = "$(cat "$FERMATA_ROOT"/images/* "$FERMATA_ROOT/var/lib/fermata/w/state.json" | md5sum)" ]
	fermata snapshot-list w --name >/dev/null
	fermata snapshot-export w m "$FERMATA_ROOT/m.far"
	from=$(mark w)
	fermata start w
	assert_went_back w "$from" "$c"
	# Going back is what the user may insist on; the save is set aside then.
	fermata managedsave w
	not fermata snapshot-revert w k --force 2>"$FERMATA_ROOT/err" # it is inside an image below
	[ -s "$(save_of w)" ] && [ -z "$(aside_of w)" ]
	fermata snapshot-revert w m --force 2>"$FERMATA_ROOT/err"
	grep -q "its managed save is set aside" "$FERMATA_ROOT/err"
	[ -s "$(aside_of w)" ]
	# A running VM has used up or gone past what it was saved in.
	fermata snapshot-create-as w late --disk-only
	fermata managedsave-remove w --all | grep -q "no manage save image"
	[ -z "$(aside_of w)" ]
}

@test "managedsave: a start without it that is killed at any moment leaves it there, or aside" {
	need_strace
	witness_vm w 1
	vm_start w
	fermata managedsave w
	sum=$(md5sum <"$(save_of w)")
	total=$(calls_of start w --force-boot --paused)
	file=$(aside_of w)
	for i in $(moments "$total" 25); do
		fermata destroy w 2>/dev/null || true
		[ ! -e "$file" ] || mv "$file" "$(save_of w)"
		cut_at "$i" start w --force-boot --paused || true
		fermata recover w
		[ "$(cat "$(save_of w)" "$file" 2>/dev/null | md5sum)" = "$sum" ] || { echo "killed at call $i of $total"; return 1; }
	done
}

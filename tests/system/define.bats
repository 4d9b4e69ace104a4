# A definition is put in its place; a VM is forgotten, whole or not at all, and its name is free for another one.
load helper
load plain

setup() {
	root_make
	d=$FERMATA_ROOT/images
	etc=$FERMATA_ROOT/etc/fermata
	var=$FERMATA_ROOT/var/lib/fermata
	qemu-img create -q -f qcow2 "$d/a.qcow2" 4M
	plain_vm w "$d/a.qcow2"
}
teardown() { root_end; }

# All files but locks and caches
there_is() { find "$d" "$etc" "$var" -type f ! -path '*/.probe/*' | sort; }

@test "define: checked before it is put in its place, by its file's name or --name" {
	cp "$etc/w.conf" "$FERMATA_ROOT/k.conf"
	fermata define "$FERMATA_ROOT/k.conf"
	cmp "$FERMATA_ROOT/k.conf" "$etc/k.conf"
	fermata define - --name l --validate <"$FERMATA_ROOT/k.conf"
	fermata list --all --name | grep -qx l
	echo "memory = 1Q" >"$FERMATA_ROOT/k.conf"
	fails 1 "$FERMATA_ROOT/k.conf:1: " define "$FERMATA_ROOT/k.conf"
	cmp "$etc/l.conf" "$etc/k.conf" # the one before
	fails 2 "says whose" define -
	printf 'memory = 64M\0\n' >"$FERMATA_ROOT/k.conf"
	fails 1 "a NUL byte" define "$FERMATA_ROOT/k.conf"
	fails 1 "cannot name a VM" define "$etc/k.conf" --name ../k
	fails 1 "cannot" define "$FERMATA_ROOT/none.conf"
	printf 'memory = 64M\n[disk vda]\nfile = a.qcow2\nformat = qcow2\n' >"$d/m.conf"
	fails 1 "file = $d/a.qcow2 is relative, and would be $etc/a.qcow2" define "$d/m.conf"
	printf 'memory = 64M\n[disk cd]\nfile = a.iso\ndevice = cdrom\nbus = sata\n' >"$d/m.conf"
	fails 1 "[disk cd]: file = $d/a.iso is relative" define "$d/m.conf"
	[ ! -e "$etc/m.conf" ]
	head -c 300000 /dev/zero | tr '\0' '#' >"$FERMATA_ROOT/k.conf"
	fails 1 "" define "$FERMATA_ROOT/k.conf"
}

@test "define: another image than what is on record began with is refused" {
	fermata snapshot-create-as w k --disk-only
	sed "s/a.qcow2/b.qcow2/" "$etc/w.conf" >"$FERMATA_ROOT/w.conf"
	fails 1 "names $d/b.qcow2 now" define "$FERMATA_ROOT/w.conf"
	grep -q a.qcow2 "$etc/w.conf"
	fermata define "$etc/w.conf"
	mv "$etc/w.conf" "$FERMATA_ROOT/w.conf"
	fermata define "$FERMATA_ROOT/w.conf" 2>"$FERMATA_ROOT/err"
	grep -q "w has a record from before: 1 snapshot$" "$FERMATA_ROOT/err"
}

@test "undefine: what is not named keeps the VM; the images stay, and where the disk is gets said" {
	local overlay
	there_is >"$FERMATA_ROOT/before"
	fermata start w --paused
	fails 1 "the VM is running" undefine w
	fermata managedsave w
	fails 1 "it has a managed save" undefine w
	fermata managedsave-remove w
	fermata snapshot-create-as w k --disk-only
	overlay=$(active w)
	fails 1 "it has 1 snapshot" undefine w --managed-save
	fermata undefine w --snapshots-metadata 2>"$FERMATA_ROOT/err"
	grep -qF "vda: the disk is $overlay, which stays" "$FERMATA_ROOT/err"
	[ "$(there_is)" = "$(printf '%s\n' "$d/a.qcow2" "$overlay" | sort)" ]
	[ ! -e "$var/w" ]
	fails 1 "no such VM" undefine w
	# Its name is free, and knows nothing of it.
	plain_vm w "$d/a.qcow2"
	not listed w k
	rm "$d/a.qcow2"
	fermata undefine w 2>"$FERMATA_ROOT/err"
	[ ! -s "$FERMATA_ROOT/err" ]
}

@test "undefine: with all of its storage, but for what is not its own" {
	qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 "$d/top.qcow2"
	qemu-img create -q -f raw "$d/ro.raw" 1M
	echo vars >"$d/vars"
	HEAD="firmware = /dev/null
nvram = $d/vars" plain_vm u "$d/top.qcow2"
	printf '[disk vdz]\nfile = %s\nformat = raw\nreadonly = yes\n' "$d/ro.raw" >>"$etc/u.conf"
	fermata snapshot-create-as u k --disk-only
	fermata snapshot-create-as u l --disk-only
	fermata snapshot-revert u k
	fermata undefine u --remove-all-storage
	[ "$(there_is)" = "$(printf '%s\n' "$d/a.qcow2" "$d/ro.raw" "$d/vars" "$etc/w.conf" | sort)" ]
	plain_vm u "$d/a.qcow2"
	fermata undefine u --remove-all-storage 2>"$FERMATA_ROOT/err"
	grep -qF "$d/a.qcow2 stays: another VM needs it" "$FERMATA_ROOT/err"
	HEAD="firmware = /dev/null
nvram = $d/vars" plain_vm w "$d/a.qcow2"
	fermata undefine w --nvram
	[ "$(there_is)" = "$(printf '%s\n' "$d/a.qcow2" "$d/ro.raw" | sort)" ]
}

@test "undefine: an image in use stays, and is named" {
	busy "$d/a.qcow2"
	fermata undefine w --remove-all-storage 2>"$FERMATA_ROOT/err"
	unbusy
	grep -qF "$d/a.qcow2 stays" "$FERMATA_ROOT/err"
	[ -e "$d/a.qcow2" ]
}

# Cut off at every call that changes something: there is the VM with all of it, or there is none and the same command does the rest.
# A new VM of that name that comes before that keeps its images, whatever they are called.
@test "undefine: cut off anywhere, the VM is whole, or the rest goes with the same command or with a new VM of its name" {
	need_strace
	local call n gone whole=0
	for call in rename unlink fsync; do
		for n in 1 2 4; do
			fermata snapshot-create-as w k --disk-only
			fermata start w --paused
			fermata managedsave w
			inject $call $n undefine w --remove-all-storage --managed-save
			if [ -e "$etc/w.conf" ]; then
				listed w k
				fermata start w --force-boot --paused
				fermata destroy w
				fermata undefine w --remove-all-storage --managed-save || { fermata managedsave-list w; false; }
				whole=$((whole + 1))
			elif [ $((n % 2)) = 0 ]; then
				fermata undefine w || not ls "$etc"/w.conf*
			fi
			qemu-img create -q -f qcow2 "$d/a.qcow2" 4M
			plain_vm w "$d/a.qcow2"
			fermata start w --paused
			not listed w k
			[ ! -e "$var/w/managed.save" ]
			find "$d" -name 'a.k-*' -delete
			fermata destroy w
			[ -e "$d/a.qcow2" ]
			[ -z "$(ls "$etc" | grep -v '^w.conf$')" ]
		done
	done
	[ "$n_cut" -ge 4 ]
	[ $whole -ge 1 ]
}

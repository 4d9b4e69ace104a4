# What snapshots are called and how they are shown, in virsh's words.
load helper

setup() { root_make; }
teardown() { root_end; }

names() {
	fermata snapshot-list w --name "$@" | tr '\n' ' '
}

@test "snapshot-list: which ones, in which order, as what; snapshot-dumpxml and -info" {
	witness_vm w 2 size=16 accel=kvm:tcg
	fermata snapshot-create-as w zero
	qemu-img snapshot -c foreign "$(images w | head -n 1)"
	vm_start w
	fermata snapshot-create-as w Mem "with <memory> & 'quotes'"
	fermata snapshot-create-as w disk --disk-only
	fermata destroy w
	fermata snapshot-create-as w again --disk-only
	fermata snapshot-revert w disk
	fermata snapshot-create-as w branch --disk-only
	[ "$(names)" = "again branch disk foreign Mem zero " ] || [ "$(names)" = "again branch disk Mem zero " ]
	[ "$(names --topological --metadata)" = "zero Mem disk again branch " ]
	[ "$(names --inactive --metadata)" = "again branch zero " ]
	[ "$(names --active)" = "Mem " ]
	[ "$(names --disk-only)" = "disk " ]
	[ "$(names --disk-only --active)" = "disk Mem " ]
	[ "$(names --external)" = "again branch disk " ]
	[ "$(names --internal --metadata)" = "Mem zero " ]
	[ "$(names --leaves --metadata)" = "again branch " ]
	[ "$(names --no-leaves)" = "disk Mem zero " ]
	[ "$(names --roots --metadata)" = "zero " ]
	[ "$(names --from Mem)" = "disk " ]
	[ "$(names --from Mem --descendants)" = "again branch disk " ]
	[ "$(names --from Mem --descendants --leaves --inactive)" = "again branch " ]
	[ -z "$(names --current)" ]
	[ "$(fermata snapshot-list w --metadata --parent | awk 'NR == 1 || /^ (Mem|zero)/ { print $1, NF, $NF }')" = "Name 5 Parent
Mem 6 zero
zero 5 shutoff" ]
	[ "$(fermata snapshot-list w --from Mem --tree | grep "[^ ]")" = "Mem
  |
  +- disk
      |
      +- again
      +- branch" ]
	fails 2 "--roots excludes" snapshot-list w --roots --parent
	fails 2 "--roots excludes" snapshot-list w --roots --from Mem
	fails 2 "--descendants needs" snapshot-list w --descendants
	fermata snapshot-dumpxml w disk >"$FERMATA_ROOT/xml"
	grep -qF "<disk name='vda' snapshot='external' type='file'>" "$FERMATA_ROOT/xml"
	grep -qF "<source file='$FERMATA_ROOT/images/w-vda.qcow2'/>" "$FERMATA_ROOT/xml"
	grep -q "<source file='$FERMATA_ROOT/images/w-vda[.]disk-[0-9]*[.]qcow2'/>" "$FERMATA_ROOT/xml"
	grep -qF "<state>disk-snapshot</state>" "$FERMATA_ROOT/xml"
	fermata snapshot-dumpxml w Mem | grep -qF "with &lt;memory&gt; &amp; &apos;quotes&apos;"
	perl -0777 -ne 'my @open; while (m{<(/?)([a-zA-Z]+)[^>]*?(/?)>}g) {
		next if $3; if ($1) { exit 1 unless pop(@open) eq $2 } else { push @open, $2 } } exit scalar @open' "$FERMATA_ROOT/xml"
	fermata snapshot-info w Mem | grep -qE '^Disk Use: +[0-9.]+ [KM]iB, deleting it frees [0-9.]+ [KM]iB$'
	# An image's own account of what a deletion gives back
	will=$(fermata snapshot-info w zero | sed -n 's/.*frees //p')
	echo "zero: $will"
	fermata snapshot-info w disk | grep -qE '^Disk Use: .*[0-9] [KM]iB, deleting'
}

@test "snapshot-create-as: without a record, as XML only, halted, with a name of its own" {
	witness_vm w 2 size=16 accel=kvm:tcg
	fermata snapshot-create-as w n "some <text>" --disk-only --print-xml --diskspec vda,snapshot=external,driver=qcow2,file=/x/y \
		--diskspec vdb,snapshot=no >"$FERMATA_ROOT/xml"
	diff - "$FERMATA_ROOT/xml" <<-'END'
		<domainsnapshot>
		  <name>n</name>
		  <description>some &lt;text&gt;</description>
		  <disks>
		    <disk name='vda' snapshot='external' type='file'>
		      <driver type='qcow2'/>
		      <source file='/x/y'/>
		    </disk>
		    <disk name='vdb' snapshot='no'/>
		  </disks>
		</domainsnapshot>

	END
	[ -z "$(names)" ]
	vm_start w
	[ "$(fermata snapshot-create-as w loose --disk-only --no-metadata)" = "Domain snapshot loose created" ]
	[ "$(fermata domblklist w | grep -c '[.]loose-1[.]')" = 2 ]
	[ -z "$(names)" ]
	assert_one_instant w
	# The first on record is none: there is nothing current that could be taken for what was made.
	fermata snapshot-create-as w apart --memspec "$FERMATA_ROOT/apart.mem" --no-metadata >"$FERMATA_ROOT/out"
	[ "$(head -n 1 "$FERMATA_ROOT/out")" = "Domain snapshot apart created" ]
	grep -q '^The guest was paused for ' "$FERMATA_ROOT/out"
	[ -s "$FERMATA_ROOT/apart.mem" ]
	[ -z "$(names)" ]
	fermata snapshot-create-as w inside --no-metadata
	[ "$(names --no-metadata)" = "inside " ]
	[ -z "$(names --metadata)" ]
	before=$(date +%s)
	made=$(fermata snapshot-create-as w --disk-only --halt)
	after=$(date +%s)
	second=${made#Domain snapshot }
	second=${second% created}
	[ "$second" -ge "$before" ] && [ "$second" -le "$after" ]
	assert_state w "shut off"
	vm_start w
	assert_one_instant w
}

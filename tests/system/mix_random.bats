# Snapshots of all kinds on two disks, taken, deleted and gone back to in a random order, the VM off or running. After every
# step each one that is listed has its content, and every file is in a chain; in the end each can be gone back to.
# FERMATA_SEED repeats a run; FERMATA_SOAK=1 makes it long, with another seed each time.
load helper
load plain

setup() {
	root_make
	cd "$FERMATA_ROOT/images"
	declare -gA is=()
	now=0 n=0 running=
}
teardown() { root_end; }

# A byte on both disks says which present it is; each snapshot remembers it.
write_present() {
	now=$((now % 250 + 1))
	fill "$(active v vda)" $now 0 64k
	fill "$(active v vdb)" $now 64k 64k
}

present_is() {
	holds "$(active v vda)" "$1" 0 64k && holds "$(active v vdb)" "$1" 64k 64k
}

turn_off() {
	[ -z "$running" ] || fermata destroy v >/dev/null
	running=
}

any_snapshot() {
	local all=("${!is[@]}")
	s=${all[RANDOM % ${#all[@]}]}
}

take() {
	local opts=()
	n=$((n + 1))
	case $((RANDOM % 4)) in
	0) opts=(--disk-only) ;;
	1) opts=(--disk-only --diskspec vda,snapshot=internal --diskspec vdb,snapshot=external) ;;
	2) opts=(--disk-only --diskspec vda,snapshot=internal --diskspec vdb,snapshot=internal) ;;
	esac
	did="create s$n ${opts[*]}"
	fermata snapshot-create-as v s$n "${opts[@]}" >/dev/null
	is[s$n]=$now
}

delete() {
	any_snapshot
	did="delete $s"
	fermata snapshot-delete v "$s" >/dev/null 2>"$FERMATA_ROOT/err" || {
		# A tag in an image that QEMU has for reading only
		[ -n "$running" ] && grep -q 'shut the VM down' "$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
		turn_off
		fermata snapshot-delete v "$s" >/dev/null 2>&1
	}
	unset "is[$s]"
}

# revert_to NAME: itself, or as an image of its own where the message says so
revert_to() {
	fermata snapshot-revert v "$1" --paused >/dev/null 2>"$FERMATA_ROOT/err" || {
		grep -q -- '--copy' "$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
		fermata snapshot-revert v "$1" --paused --copy >/dev/null 2>"$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
	}
	running=1
	now=${is[$1]}
	present_is "$now"
}

# Each snapshot's images, by its record; then every file
assert_all() {
	local name disk file tag at f
	fermata snapshot-list v --output json | perl -MJSON::PP -e '
		local $/; my $l = decode_json(<STDIN>);
		for my $s (@$l) { print "$s->{name} $_->{disk} $_->{file} ", $_->{tag} // "", "\n" for @{$s->{disks}} }' >"$FERMATA_ROOT/parts"
	[ "$(cut -d ' ' -f 1 "$FERMATA_ROOT/parts" | sort -u | wc -l)" = ${#is[@]} ]
	while read -r name disk file tag; do
		at=0
		[ "$disk" = vda ] || at=65536
		qemu-img convert -U -f qcow2 -O raw ${tag:+-l "snapshot.name=$tag"} "$file" "$FERMATA_ROOT/flat"
		[ "$(od -An -tu1 -j $at -N 1 "$FERMATA_ROOT/flat" | tr -d ' ')" = "${is[$name]}" ] || {
			echo "$name on $disk is not what it was"
			return 1
		}
	done <"$FERMATA_ROOT/parts"
	present_is $now
	fermata domblkchain v >"$FERMATA_ROOT/chains"
	for f in *; do
		grep -qF "$PWD/$f" "$FERMATA_ROOT/chains" || { echo "nothing needs $f"; return 1; }
	done
	not grep -q '"pending": *{' "$FERMATA_ROOT/var/lib/fermata/v/state.json"
}

step() {
	did=
	case $((RANDOM % 8)) in
	0 | 1 | 2) take ;;
	3 | 4) [ ${#is[@]} = 0 ] || delete ;;
	5) [ ${#is[@]} = 0 ] || { any_snapshot && did="revert $s" && revert_to "$s"; } ;;
	6) turn_off && write_present && did="write $now" ;;
	7) turn_off && fermata start v --paused >/dev/null && running=1 && did=start ;;
	esac
}

@test "mix: snapshots of every kind in a random order keep their content, and nothing is left over" {
	local i steps=14 seed=${FERMATA_SEED:-2} s
	[ -z "${FERMATA_SOAK-}" ] || { steps=300 seed=${FERMATA_SEED:-$((SRANDOM % 100000))}; }
	RANDOM=$seed
	qemu-img create -q -f qcow2 a.qcow2 4M
	qemu-img create -q -f qcow2 b.qcow2 4M
	plain_vm v "$PWD/a.qcow2" "$PWD/b.qcow2"
	write_present
	take
	for ((i = 0; i < steps; i++)); do
		step
		echo "seed $seed, step $i: $did"
		assert_all
	done
	for s in "${!is[@]}"; do
		echo "seed $seed: in the end, revert $s"
		revert_to "$s"
		assert_all
	done
}

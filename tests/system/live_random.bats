# A guest that writes to two disks and looks at all that it wrote, a hundred times a second, under snapshots of every kind, what
# goes back to them, deletions and block jobs in a random order. After every step: no request of it has failed, nothing that it
# wrote is gone, memory and disks are of one instant; each snapshot with memory goes on where it was taken.
# FERMATA_SEED repeats a run; FERMATA_SOAK=1 makes it long, with another seed each time.
load helper
load chains

setup() {
	root_make
	declare -gA count=()
	n=0
}
teardown() { root_end; }

# An answer that is no fault: what something else needs is refused by name.
refused() {
	grep -qE "needs|need |stand on|is frozen|has no backing file|only image|nothing to|--copy|shut the VM down|is the base" "$FERMATA_ROOT/err" || {
		cat "$FERMATA_ROOT/err"
		return 1
	}
	did+=" (refused)"
}

any_of() {
	local all=("$@")
	s=${all[RANDOM % ${#all[@]}]}
}

take() {
	local opts=(--disk-only)
	n=$((n + 1))
	s=s$n
	case $((RANDOM % 6)) in
	0) opts=() ;;
	1) opts=(--memspec "$FERMATA_ROOT/$s.mem") ;;
	2) opts=(--live --memspec "$FERMATA_ROOT/$s.mem") ;;
	3) opts=(--instant) ;;
	esac
	did="create $s ${opts[*]##*/}"
	ask w g '^G=' >/dev/null
	before=$(last_counter w)
	fermata snapshot-create-as w "$s" "${opts[@]}" >/dev/null 2>"$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
	[ "${opts[0]-}" = --disk-only ] || count[$s]=$before
}

delete() {
	any_of $(fermata snapshot-list w --name)
	did="delete $s"
	if fermata snapshot-delete w "$s" >/dev/null 2>"$FERMATA_ROOT/err"; then
		unset "count[$s]"
	else
		refused
	fi
}

# To one with memory: the guest goes on from there, and not from the present.
go_back() {
	local at
	any_of "${!count[@]}"
	did="revert $s"
	at=$(mark w)
	if fermata snapshot-revert w "$s" --running >/dev/null 2>"$FERMATA_ROOT/err" ||
		{ grep -q -- --copy "$FERMATA_ROOT/err" && fermata snapshot-revert w "$s" --running --copy >/dev/null 2>"$FERMATA_ROOT/err"; }; then
		from=$(mark w)
		assert_back_in w "$at" $((count[$s] - 30)) $((count[$s] + 300))
	else
		refused
	fi
}

job() {
	did="$*"
	fermata "$@" >/dev/null 2>"$FERMATA_ROOT/err" || refused
}

step() {
	did=
	case $((RANDOM % 12)) in
	0 | 1 | 2 | 3) take ;;
	4 | 5) [ -z "$(fermata snapshot-list w --name)" ] || delete ;;
	6) [ ${#count[@]} = 0 ] || go_back ;;
	7) job blockcommit w vd$disk --shallow --pivot --delete --drop-snapshots && forget ;;
	8) job blockpull w vd$disk --wait ;;
	9) did=managedsave && fermata managedsave w >/dev/null && fermata start w >/dev/null ;;
	10) did="stop, go on" && fermata suspend w >/dev/null && fermata resume w >/dev/null ;;
	11) job blockcopy w vd$disk "$FERMATA_ROOT/images/copy.$i" --pivot ;;
	esac
}

# What a commit dropped can no longer be gone back to.
forget() {
	for s in "${!count[@]}"; do listed w "$s" || unset "count[$s]"; done
}

@test "live: a guest that writes and checks all the time, under everything in a random order" {
	local i steps=12 seed=${FERMATA_SEED:-3} s did from disk before
	[ -z "${FERMATA_SOAK-}" ] || { steps=${FERMATA_STEPS:-300} seed=${FERMATA_SEED:-$((SRANDOM % 100000))}; }
	RANDOM=$seed
	witness_vm w 2 size=20
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	for ((i = 0; i < steps; i++)); do
		disk=a
		[ $((RANDOM % 2)) = 0 ] || disk=b
		from=$(mark w)
		step
		echo "seed $seed, step $i: $did"
		assert_sound "$from"
	done
	fermata destroy w
	assert_images_ok w
	for s in $(fermata snapshot-list w --name); do
		echo "seed $seed: in the end, verify $s"
		fermata snapshot-verify w "$s"
	done
}

# Commands on a VM that is off and whose guest does nothing: fermata is killed at the entry of a system call, or that fails.
# Whatever it was, it ends in all of it or nothing of it. Some calls in make check, every one in make soak.
load helper
load plain

setup() {
	root_make
	need_strace
}
teardown() { root_end; }

keep() {
	rm -rf "$FERMATA_ROOT/kept"
	mkdir "$FERMATA_ROOT/kept"
	cp -a "$FERMATA_ROOT/images" "$FERMATA_ROOT/var" "$FERMATA_ROOT/kept"
}

back() {
	rm -rf "$FERMATA_ROOT/images" "$FERMATA_ROOT/var"
	cp -a "$FERMATA_ROOT/kept/images" "$FERMATA_ROOT/kept/var" "$FERMATA_ROOT"
}

all_of_it() {
	fermata snapshot-list w --tree
	fermata snapshot-current w --name 2>&1 || true
	contents
}

# What is left is as it was, or as it is to be
old_or_new() {
	not is_pending w
	all_of_it >"$FERMATA_ROOT/now"
	cmp -s "$FERMATA_ROOT/now" "$FERMATA_ROOT/before" || diff "$FERMATA_ROOT/after" "$FERMATA_ROOT/now"
	assert_no_orphans "$@"
}

# call_fails N ERROR ARGS...: the Nth system call of calls_of fails
call_fails() {
	local call nth n=$1 error=$2 status=0
	shift 2
	call=$(sed -n "${n}p" "$FERMATA_ROOT/calls")
	nth=$(head -n "$n" "$FERMATA_ROOT/calls" | grep -cx "$call")
	timeout 60 strace -qq -o /dev/null -e "inject=$call:error=$error:when=$nth" "$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" \
		>"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err" || status=$?
	echo "$call number $nth fails with $error: $status $(cat "$FERMATA_ROOT/err")"
	case $status in
	0) all_of_it | diff "$FERMATA_ROOT/after" - ;;
	1)
		# Nothing has changed, and nothing will.
		not is_pending w
		all_of_it | diff "$FERMATA_ROOT/before" -
		;;
	3) ;;
	*) return 1 ;;
	esac
}

# Those of the calls that change something, or say what is there
that_may_fail() {
	grep -nxE 'pwrite64|write|fsync|fdatasync|ftruncate|fallocate|rename|unlink|openat|open|pread64|read|fchown' "$FERMATA_ROOT/calls" | cut -d : -f 1
}

# every_call ARGS...: KILLS and FAULTS of them in make check
every_call() {
	local total n all some
	keep
	all_of_it >"$FERMATA_ROOT/before"
	total=$(calls_of "$@")
	cp "$FERMATA_ROOT/calls" "$FERMATA_ROOT/calls.all"
	all_of_it >"$FERMATA_ROOT/after"
	not cmp -s "$FERMATA_ROOT/before" "$FERMATA_ROOT/after"
	for n in $(moments "$total" "${KILLS:-4}"); do
		back
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls"): $*"
		cut_at "$n" "$@"
		fermata recover w
		old_or_new
	done
	all=$(that_may_fail | wc -l)
	some=$((all / ${FAULTS:-4} + 1))
	[ -z "${FERMATA_SOAK-}" ] || some=1
	for n in $(that_may_fail | awk -v s="$some" 'NR % s == int(s / 2)'; that_may_fail | tail -n 1); do
		back
		call_fails "$n" EIO "$@"
		fermata recover w
		old_or_new leaks
	done
	back
	fermata "$@"
}

# A tree of two disks, one of them raw: a <- b, a <- c, the VM on c; all in v's folder
tree() {
	local f
	qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/a.qcow2" 2M
	truncate -s 2M "$FERMATA_ROOT/images/b.raw"
	plain_vm w "$FERMATA_ROOT/images/a.qcow2" "$FERMATA_ROOT/images/b.raw"
	for f in a.qcow2 b.raw; do fill "$FERMATA_ROOT/images/$f" 1 0 1M; done
	fermata snapshot-create-as w a --disk-only
	for d in vda vdb; do fill "$(active w $d)" 2 0 128k; done
	fermata snapshot-create-as w b --disk-only
	fermata snapshot-revert w a
	for d in vda vdb; do fill "$(active w $d)" 3 256k 128k; done
	fermata snapshot-create-as w c --disk-only
	for d in vda vdb; do fill "$(active w $d)" 4 512k 64k; done
}

@test "every call: an image that stayed for two branches is merged with the deletion of one" {
	tree
	fermata snapshot-delete w a
	grep -q '"stays"' "$FERMATA_ROOT/var/lib/fermata/w/state.json"
	every_call snapshot-delete w b
	not grep -q '"stays"' "$FERMATA_ROOT/var/lib/fermata/w/state.json"
	[ "$(ls "$FERMATA_ROOT/images" | wc -l)" = 4 ]
}

# Between the check and the change nobody else gets at an image: fermata is stopped as the record has been written.
@test "locked: what a deletion and a block job are to change is theirs from the check to the change" {
	local op image
	tree
	fermata snapshot-create-as w d --disk-only
	fermata snapshot-delete w b
	keep
	for op in "snapshot-delete w c" "snapshot-delete w d" "blockpull w vda" "blockcommit w vda --active --pivot --wait --drop-snapshots" \
		"blockcommit w vda --top vda[1] --wait --drop-snapshots"; do
		back
		fermata domblkchain w vda >"$FERMATA_ROOT/out"
		# shellcheck disable=SC2086
		hold rename 1 $op || { cat "$FERMATA_ROOT/err"; return 1; }
		n=0
		for image in "$FERMATA_ROOT"/images/a*.qcow2; do
			! qemu-io -f qcow2 -c 'write -q -P 9 0 64k' "$image" >/dev/null 2>"$FERMATA_ROOT/io" || continue
			grep -q 'lock' "$FERMATA_ROOT/io"
			n=$((n + 1))
		done
		echo "$op: $n are locked"
		[ $n -ge 2 ]
		kill -KILL "$held"
		wait $tracer || true
		fermata recover w
		not is_pending w
	done
}

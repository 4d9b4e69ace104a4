# What the command line's tests share: a folder for each test, our binary, and qemu-img as the second opinion.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
O=${O:-$TOP/build}
case $O in /*) ;; *) O=$TOP/$O ;; esac
FERMATA_BIN=${FERMATA_BIN:-$O/fermata}

setup() {
	PIDS=()
	cd "$BATS_TEST_TMPDIR" || return
	type -P qemu-img >/dev/null || skip "no qemu-img to compare with"
	ln -s "$FERMATA_BIN" ours.qemu-img
	mkdir bin q f
	ln -s "$FERMATA_BIN" bin/qemu-img
}

teardown() {
	local p
	for p in "${PIDS[@]}"; do kill -9 "$p" 2>/dev/null; done
	return 0
}

img() { "$FERMATA_BIN" img "$@"; }
ours() { "$BATS_TEST_TMPDIR/bin/qemu-img" "$@"; }

fail() {
	echo "$*" >&2
	return 1
}

# qemu-img, whatever its version, in the words that it has had up to 7.2: without the nodes below an image (8.1), with the
# table of snapshots as it was (9.0), without "compressed" in a map (8.2).
qemu-img() {
	local out status=0
	case $1 in info | map | snapshot) ;; *) command qemu-img "$@"; return ;; esac
	out=$(command qemu-img "$@"; echo "status $?")
	status=${out##*status }
	printf %s "${out%status *}" | perl -e '
		while (<STDIN>) {
			if (/^( *)"children": \[$/) { my $end = qr/^$1\],?$/; while (<STDIN>) { last if $_ =~ $end } next }
			$below = /^Child node / || $below && /^ / and next;
			s/, "compressed": (true|false)//;
			s/^ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT$/
				"ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT"/e or
			s{^(\d+) +(.* \d{4}-\d\d-\d\d [\d:]{8})  +(\d{4}):(\d\d:\d\d\.\d{3}) +(\d+|--)$}
				{sprintf "%-9s %s%13s%11s", $1, $2, sprintf("%02d:%s", $3, $4), $5 eq "--" ? "" : $5}e;
			print;
		}'
	return "$status"
}

# same ARGUMENTS...: qemu-img and we print the same to stdout, byte for byte, and end with the same status; and either
# both have something to say on stderr or none has.
same() {
	local theirs mine t m i
	for i in 1 2 3; do
		theirs=$(qemu-img "$@" 2>"$BATS_TEST_TMPDIR/err.q" </dev/null; echo "status $?")
		mine=$(ours "$@" 2>"$BATS_TEST_TMPDIR/err.f" </dev/null; echo "status $?")
		# Between the two the file system may have found other blocks for what it had only taken note of.
		[ "$1" = info ] && [ "$theirs" != "$mine" ] || break
	done
	if [ "$theirs" != "$mine" ]; then
		echo "qemu-img $*: differs (< qemu-img's, > ours)"
		diff <(echo "$theirs") <(echo "$mine")
		cat "$BATS_TEST_TMPDIR/err.f"
		return 1
	fi
	t=$([ -s "$BATS_TEST_TMPDIR/err.q" ] && echo some || echo none)
	m=$([ -s "$BATS_TEST_TMPDIR/err.f" ] && echo some || echo none)
	# What is only a warning there is no error here.
	[ "$t" = "$m" ] || grep -q '^WARNING' "$BATS_TEST_TMPDIR/err.q" || fail "$*: stderr: $t there, $m here"
}

# both ARGUMENTS...: the same command in folder q by qemu-img, in folder f by us: stdout and status are the same.
both() {
	local theirs mine
	theirs=$(cd q && qemu-img "$@" 2>../err.q </dev/null; echo "status $?")
	mine=$(cd f && ours "$@" 2>../err.f </dev/null; echo "status $?")
	[ "$theirs" = "$mine" ] && return
	echo "qemu-img $*: differs (< qemu-img's, > ours)"
	diff <(echo "$theirs") <(echo "$mine")
	cat err.f
	return 1
}

# What two images may differ in: when they were made, and how much of them the file system holds.
facts() {
	qemu-img info -U --output json "$1" |
		sed -E 's/"(date-n?sec)": [0-9]+/"\1": N/; s/"actual-size": [0-9]+/"actual-size": N/'
}

# alike FILE...: q/FILE and f/FILE are the same to info, the disk's content and that of every snapshot too; ours is
# sound, says qemu-img.
alike() {
	local i s
	for i in "$@"; do
		diff <(cd q && facts "$i") <(cd f && facts "$i") || fail "$i: not the same facts"
		(cd f && { [ "${i%.raw}" != "$i" ] || qemu-img check "$i" >../check.out 2>&1; }) || { cat check.out; return 1; }
		qemu-img compare "q/$i" "f/$i" >/dev/null || fail "$i: not the same content"
		for s in $(qemu-img snapshot -l "q/$i" | awk '$1 ~ /^[0-9]+$/ { print $1 }'); do
			qemu-img convert -l "snapshot.id=$s" -O raw "q/$i" s.q
			qemu-img convert -l "snapshot.id=$s" -O raw "f/$i" s.f
			cmp s.q s.f || fail "$i: snapshot $s: not the same content"
		done
	done
}

# copies FILE...: what qemu-img made in folder q, for us too.
copies() {
	local i
	for i in "$@"; do cp --sparse=always "q/$i" "f/$i"; done
}

# refused STATUS WORDS COMMAND...: ends with that status and says these words on stderr, in one line.
refused() {
	local want=$1 words=$2 status=0
	shift 2
	"$@" >out 2>err || status=$?
	[ "$status" = "$want" ] || fail "$*: status $status, not $want: $(cat err)"
	[ "$(wc -l <err)" = 1 ] || fail "$*: not one line: $(cat err)"
	grep -qF -- "$words" err || fail "$*: no '$words' in: $(cat err)"
}

# It has ended; a parent may not have asked for it yet, but its last thread, until which it holds its locks, is gone
dead() {
	local status
	status=$(cat "/proc/$1/status" 2>/dev/null) || return 0
	[[ $status == *State:?Z* && $status != *Threads:?[2-9]* && $status != *Threads:?1[0-9]* ]]
}

# Wait until a command succeeds, a minute at least.
await() {
	local i
	for ((i = 0; i < 1200; i++)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	fail "never: $*"
}

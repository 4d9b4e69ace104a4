# What the system tests share: a private root for each test, VMs with a witness or a Linux guest in it, and the
# questions one asks them. Load it, and call root_make in setup, root_end in teardown.
#
# Every test has its own FERMATA_ROOT: etc/fermata/NAME.conf, images/, run/, var/. A guest's second serial port goes
# to $FERMATA_ROOT/NAME.log, so that nothing it says is lost while nobody reads the console.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
O=${O:-$TOP/build}
case $O in /*) ;; *) O=$TOP/$O ;; esac
export O
FERMATA_BIN=${FERMATA_BIN:-$O/fermata}
SOCK=$TOP/tests/system/sock.pl

# ---- the root ------------------------------------------------------------------------------------------------

root_make() {
	local tool
	for tool in qemu-system-x86_64 qemu-img gcc objcopy perl; do
		command -v "$tool" >/dev/null || skip "there is no $tool; see tests/setup.sh"
	done
	FERMATA_ROOT=$(mktemp -d "${FERMATA_TEST_TMP:-${TMPDIR:-/tmp}}/t.XXXXXX")
	export FERMATA_ROOT
	mkdir -p "$FERMATA_ROOT/etc/fermata" "$FERMATA_ROOT/images"
}

# End every QEMU that was started under this root, by its pid file, if its command line names this root.
root_end() {
	local file pid
	[ -n "${FERMATA_ROOT-}" ] || return 0
	if [ -z "${BATS_TEST_COMPLETED-}" ]; then
		for file in "$FERMATA_ROOT"/*.log "$FERMATA_ROOT"/run/fermata/*/*log; do
			[ -s "$file" ] && echo "--- end of $file" && tail -c 600 "$file" | tr -d '\r'
		done
	fi
	for file in "$FERMATA_ROOT"/run/fermata/*/pid "$FERMATA_ROOT"/run/fermata/*/*/pid; do
		pid=$(pid_in "$file")
		if [ -n "$pid" ] && grep -qsF "$FERMATA_ROOT" "/proc/$pid/cmdline"; then
			kill -KILL "$pid"
			wait_gone "$pid"
		fi
	done
	# A process that a test has cut off may be on its last steps here, and write.
	mountpoint -q "$FERMATA_ROOT/small" && wait_until 10 umount "$FERMATA_ROOT/small"
	wait_until 10 rm -rf "$FERMATA_ROOT"
}

pid_in() {
	grep -so '[0-9]*' "$1" | head -n 1
}

vm_pid() {
	pid_in "$FERMATA_ROOT/run/fermata/$1/pid"
}

# wait_gone PID [SECONDS]
wait_gone() {
	wait_until "${2:-10}" dead "$1"
}

# Gone, or waiting for a parent that does not ask, with its last thread ended: until then it holds its files and their locks
dead() {
	local status
	status=$(cat "/proc/$1/status" 2>/dev/null) || return 0
	[[ $status == *State:?Z* && $status != *Threads:?[2-9]* && $status != *Threads:?1[0-9]* ]]
}

# wait_until SECONDS COMMAND...: try until it succeeds. SECONDS is for a machine that does nothing else; any other gets
# four times as many.
wait_until() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 4000000)) pause=2
	shift
	until "$@"; do
		if [ "${EPOCHREALTIME/[.,]/}" -gt "$end" ]; then
			echo "waited in vain for: $*"
			return 1
		fi
		# Rarer by and by: who asks takes the processor from what is waited for.
		sleep "0.0$pause"
		[ "$pause" = 9 ] || pause=$((pause + 1))
	done
}

# The program; no command may take for ever.
fermata() {
	timeout -k 5 "${FERMATA_TIMEOUT:-180}" "$FERMATA_BIN" --root "$FERMATA_ROOT" "$@"
}

# In a test a "!" before a command hides its failure; this does not.
not() {
	if "$@"; then
		echo "should have failed: $*"
		return 1
	fi
}

# ---- VMs -----------------------------------------------------------------------------------------------------

# witness_vm NAME DISKS [key=value...]: images and definition of a VM with the witness guest.
#   machine= accel= memory= bus= format=; raw="vdb vdc": these disks are raw; dir=: where the images go
#   DISKS 0: the guest is the definition's kernel
#   fill= ticks= every= dirty= size=: as mkwitness.sh
#   arch=arm64 or riscv64: a virt machine of that processor, its disks all empty
witness_vm() {
	local name=$1 n=$2 i disk file fmt arg
	local machine=pc accel=tcg memory=64M bus=virtio format=qcow2 raw="" dir=$FERMATA_ROOT/images size=64 opts=()
	local arch='' log="-serial chardev:log"
	shift 2
	for arg; do
		case $arg in
		fill=* | ticks=* | every=* | dirty=* | write=*) opts+=("$arg") ;;
		machine=* | accel=* | memory=* | bus=* | format=* | raw=* | dir=* | size=* | arch=*)
			printf -v "${arg%%=*}" %s "${arg#*=}" ;;
		*) echo "witness_vm: what is '$arg'?"; return 1 ;;
		esac
	done
	if [ -n "$arch" ]; then
		machine=virt log="-device pci-serial,chardev=log" # the board has one port, and it is the console
		opts+=("arch=$arch")
	fi
	"$TOP/tests/guest/mkwitness.sh" "$FERMATA_ROOT/witness.raw" size="$size" "${opts[@]}"
	conf_head "$name" "$machine" "$accel" "$memory"
	case $arch in
	arm64) echo "qemu = qemu-system-aarch64" | conf_add "$name" ;;
	riscv64) echo "qemu = qemu-system-riscv64" | conf_add "$name" && log+=" -bios none" ;;
	esac
	if [ "$n" = 0 ] || [ -n "$arch" ]; then
		cp "$FERMATA_ROOT/witness.raw" "$FERMATA_ROOT/images/$name.kernel"
		echo "kernel = $FERMATA_ROOT/images/$name.kernel" | conf_add "$name"
	fi
	for ((i = 0; i < n; i++)); do
		disk=vd$(printf "\\x$((61 + i))")
		fmt=$format
		case " $raw " in *" $disk "*) fmt=raw ;; esac
		file=$dir/$name-$disk.$fmt
		if [ "$i" = 0 ] && [ -z "$arch" ]; then
			qemu-img convert -q -f raw -O "$fmt" "$FERMATA_ROOT/witness.raw" "$file"
		else
			qemu-img create -q -f "$fmt" "$file" "${size}M"
		fi
		printf '\n[disk %s]\nfile = %s\nformat = %s\nbus = %s\n' "$disk" "$file" "$fmt" "$bus" |
			conf_add "$name"
	done
	printf '\n[qemu]\narg = -chardev file,id=log,path=%s,append=on %s\n' "$FERMATA_ROOT/$name.log" "$log" |
		conf_add "$name"
	rm -f "$FERMATA_ROOT/witness.raw"
}

# linux_vm NAME [machine]: the Linux guest, with an agent; made once for all tests
linux_vm() {
	local name=$1 status=0 reason
	reason=$(linux_parts) || status=$?
	[ "$status" != 77 ] || skip "${reason#mklinux: }"
	[ "$status" = 0 ]
	conf_head "$name" "${2:-q35}" tcg 256M
	conf_add "$name" <<-END
		agent   = yes
		kernel  = $O/guest/linux/vmlinuz
		initrd  = $O/guest/linux/initrd
		append  = console=ttyS0 quiet

		[disk vda]
		file   = $FERMATA_ROOT/images/$name-vda.qcow2
		format = qcow2

		[qemu]
		arg = -chardev file,id=log,path=$FERMATA_ROOT/$name.log,append=on -serial chardev:log
	END
	qemu-img convert -q -f raw -O qcow2 "$O/guest/linux/disk.raw" "$FERMATA_ROOT/images/$name-vda.qcow2"
}

linux_parts() {
	mkdir -p "$O/guest"
	(
		flock 9
		[ "$O/guest/linux/initrd" -nt "$TOP/tests/guest/linux-init.sh" ] ||
			"$TOP/tests/guest/mklinux.sh" "$O/guest/linux" 2>&1
	) 9>"$O/guest/lock"
}

conf_head() {
	printf 'memory  = %s\nmachine = %s\naccel   = %s\n' "$4" "$2" "$3" >"$FERMATA_ROOT/etc/fermata/$1.conf"
}

conf_add() {
	cat >>"$FERMATA_ROOT/etc/fermata/$1.conf"
}

# Paths of a VM's images, in order
images() {
	sed -n 's/^file *= *//p' "$FERMATA_ROOT/etc/fermata/$1.conf"
}

# ---- what the guest says -------------------------------------------------------------------------------------

# Bytes in the log so far; what comes later is said(NAME, that number)
mark() {
	stat -c %s "$FERMATA_ROOT/$1.log" 2>/dev/null || echo 0
}

said() {
	"$TOP/tests/guest/readlog.pl" "$FERMATA_ROOT/$1.log" "${2:-0}"
}

# will_say NAME MARK SECONDS WHAT ARGUMENT: as readlog.pl waits; the seconds are wait_until's
will_say() {
	"$TOP/tests/guest/readlog.pl" "$FERMATA_ROOT/$1.log" "$2" $(($3 * 4)) "$4" "$5" || {
		echo "waited in vain for: $*"
		return 1
	}
}

# Press a key on the console
key() {
	perl "$SOCK" "$FERMATA_ROOT/run/fermata/$1/console.sock" send "$2"
}

# ask NAME KEY PATTERN: press a key, print the first line after it that matches
ask() {
	local from
	from=$(mark "$1")
	key "$1" "$2"
	will_say "$1" "$from" 60 says "$3"
}

said_since() {
	said "$1" "$2" | grep -qE "$3"
}

counters() {
	said "$1" "${2:-0}" | sed -n 's/^mem=\([0-9]*\).*/\1/p'
}

# The number in memory as last reported since MARK; nothing if none was
last_counter() {
	counters "$1" "${2:-0}" | tail -n 1
}

# wait_counter_above NAME N [SECONDS [MARK]]
wait_counter_above() {
	will_say "$1" "${4:-0}" "${3:-60}" above "$2"
}

# The guest runs, and memory and every disk are of one instant: two lines said from now on, all their numbers equal.
# With MARK also all that was said since: no BAD, no ERR.
assert_one_instant() {
	local from=${2:-} now bad
	now=$(mark "$1")
	will_say "$1" "$now" 60 lines 2 || { echo "$1 is silent"; return 1; }
	bad=$(said "$1" "${from:-$now}" | awk '
		/^(BAD|ERR|TRAP)/ { print; next }
		/^(R )?mem=/ { n = split($0, f, /[ =]/); s = ($1 == "R") ? 3 : 2
			for (i = s + 2; i <= n; i += 2) if (f[i] != f[s]) { print; next } }')
	[ -z "$bad" ] || { echo "not one instant: $bad"; return 1; }
}

# assert_back_in NAME MARK LOW HIGH: after MARK the guest went on from a count between the last that was seen before the
# instant and the last that was seen right behind it, however long the commands between took; give or take the lines that a
# checkpoint cuts. Where it went on: behind the last place where the numbers do not follow each other, or the first, if all do.
assert_back_in() {
	local now at
	now=$(mark "$1")
	will_say "$1" "$now" 60 lines 2
	at=$(counters "$1" "$2" | awk 'NR == 1 || $1 <= last || $1 > last + 25 { at = $1 } { last = $1 } END { print at }')
	if [ "$at" -lt "$3" ] || [ "$at" -gt $(($4 + 25)) ]; then
		echo "went on from $at, not from between $3 and $4"
		return 1
	fi
}

# assert_went_back NAME MARK COUNTER [SLACK]: the same for a guest that stood when COUNTER was read, give or take
assert_went_back() {
	assert_back_in "$1" "$2" $(($3 - ${4:-25})) $(($3 + ${4:-25} - 25))
}

# Every image is whole; leaked clusters are no error. The VM must be off.
assert_images_ok() {
	local file status
	for file in $(images "$1"); do
		case $file in *.qcow2) ;; *) continue ;; esac
		status=0
		qemu-img check -q "$file" >"$FERMATA_ROOT/check" 2>&1 || status=$?
		[ "$status" = 0 ] || [ "$status" = 3 ] || {
			echo "$file: qemu-img check says $status"
			cat "$FERMATA_ROOT/check"
			return 1
		}
	done
}

# How many of a VM's qcow2 disks have the snapshot TAG, as "HAVE/ALL"
disks_with() {
	local file have=0 all=0
	for file in $(images "$1"); do
		case $file in *.qcow2) ;; *) continue ;; esac
		all=$((all + 1))
		# shellcheck disable=SC2016
		qemu-img snapshot -U -l "$file" | awk -v t="$2" '$2 == t { f = 1 } END { exit !f }' && have=$((have + 1))
	done
	echo "$have/$all"
}

# all, none, or the fraction
spread() {
	local d
	d=$(disks_with "$1" "$2")
	case $d in
	0/*) echo none ;;
	"${d#*/}/${d#*/}") echo all ;;
	*) echo "$d" ;;
	esac
}

# Started, and the guest speaks
vm_start() {
	local from
	from=$(mark "$1")
	fermata start "$1"
	wait_counter_above "$1" 0 120 "$from"
}

# ---- snapshots -----------------------------------------------------------------------------------------------

# The name that a snapshot has inside the images
tag_of() {
	fermata snapshot-info "$1" "$2" --output json | sed -n 's/.*"tag": *"\([^"]*\)".*/\1/p' | head -n 1
}

listed() {
	fermata snapshot-list "$1" --name | grep -qxF "$2"
}

# fermata knows it as its own: one that was only found in the images is listed, too
on_record() {
	fermata snapshot-info "$1" "$2" 2>/dev/null | grep -qE "^Metadata: +yes"
}

# It is on record and on every disk, or neither
assert_whole() {
	local s
	s=$(spread "$1" "$2")
	if on_record "$1" "$2"; then
		[ "$s" = all ] || { echo "'$2' is on record, but on $s of the disks"; return 1; }
	else
		[ "$s" = none ] || { echo "'$2' is not on record, but on $s of the disks"; return 1; }
	fi
}

# What a guest would read of every snapshot's disks and of the active layers: "NAME:DISK MD5"
contents() {
	fermata snapshot-list w --output json >"$FERMATA_ROOT/list.json"
	perl -MJSON::PP -e '
		local $/; my $l = decode_json(<STDIN>);
		for my $s (@$l) { print "$s->{name}:$_->{disk} $_->{file} ", $_->{tag} // "", "\n" for @{$s->{disks}} }
	' <"$FERMATA_ROOT/list.json" >"$FERMATA_ROOT/files"
	fermata domblklist w | awk 'NR > 2 && NF { print "active:" $1, $2 }' >>"$FERMATA_ROOT/files"
	while read -r what file tag; do
		case $file in *.raw) fmt=raw ;; *) fmt=qcow2 ;; esac
		qemu-img convert -U -f $fmt -O raw ${tag:+-l "snapshot.name=$tag"} "$file" "$FERMATA_ROOT/flat"
		echo "$what $(md5sum <"$FERMATA_ROOT/flat")"
	done <"$FERMATA_ROOT/files" | sort
}

# Every qcow2 file beside the images is whole, and one that the last contents() has found a use for; so is what fermata
# keeps. With "leaks": clusters may be leaked, for a QEMU that is killed leaves those of the guest's write that it was at.
assert_no_orphans() {
	local file status
	for file in "$FERMATA_ROOT"/images/* "$FERMATA_ROOT"/var/lib/fermata/w/*; do
		case $file in
		*/state.json | */\*) continue ;;
		*.qcow2)
			status=0
			qemu-img check -q "$file" || status=$?
			[ "$status" = 0 ] || { [ "$status" = 3 ] && [ "${1-}" = leaks ]; } || {
				echo "$file: qemu-img check says $status"
				return 1
			}
			;;
		esac
		grep -qF " $file" "$FERMATA_ROOT/files" || images w | grep -qxF "$file" || {
			echo "nobody needs $file"
			return 1
		}
	done
}

state_is() {
	[ "$(fermata domstate "$1" | head -n 1)" = "$2" ]
}

# assert_state NAME STATE
assert_state() {
	local is
	is=$(fermata domstate "$1" | head -n 1)
	[ "$is" = "$2" ] || { echo "$1 is '$is', not '$2'"; return 1; }
}

# fails STATUS TEXT ARGS...: the command fails with that status, and says TEXT in one line on stderr
fails() {
	local status=0 want=$1 text=$2 said
	shift 2
	said=$(fermata "$@" 2>&1 >/dev/null) || status=$?
	[ "$status" = "$want" ] || { echo "exit $status, not $want: $* said: $said"; return 1; }
	[ "$(wc -l <<<"$said")" = 1 ] && [[ $said == "fermata: "* ]] && [[ $said == *"$text"* ]] || {
		echo "$* does not say '$text' in one line: $said"
		return 1
	}
}

# ---- cutting off ---------------------------------------------------------------------------------------------

# Whether a command can be killed at a chosen system call
need_strace() {
	command -v strace >/dev/null || skip "there is no strace"
	strace -qq -o /dev/null true 2>/dev/null || skip "strace may not trace here"
}

# How many system calls the command makes; their names stay in $FERMATA_ROOT/calls
calls_of() {
	strace -qq -o "$FERMATA_ROOT/trace" "$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" >/dev/null
	calls_in_trace
}

calls_in_trace() {
	sed -n 's/^\([a-z_0-9]*\)(.*/\1/p' "$FERMATA_ROOT/trace" >"$FERMATA_ROOT/calls"
	wc -l <"$FERMATA_ROOT/calls"
}

# cut_at N ARGS...: SIGKILL as the command enters its Nth system call, by the list of calls_of; what it started is not
# touched. strace counts the calls of each name apart.
cut_at() {
	local call nth
	call=$(sed -n "$1p" "$FERMATA_ROOT/calls")
	nth=$(head -n "$1" "$FERMATA_ROOT/calls" | grep -cx "$call")
	shift
	inject "$call" "$nth" "$@"
}

# inject CALL NTH ARGS...; counts in $n_cut those that were killed. How often a command waits for QEMU, asks on and makes
# room for what it hears depends on how fast QEMU is: at any other call it was to be killed; those are $n_aimed, and
# $n_missed if it was not.
n_cut=0 n_aimed=0 n_missed=0
inject() {
	local call=$1 nth=$2 cut=$n_cut
	shift 2
	(
		timeout 180 strace -qq -o /dev/null -e "inject=$call:signal=SIGKILL:when=$nth" \
			"$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" >/dev/null 2>&1
		exit $?
	) 2>/dev/null || { [ $? != 137 ] || n_cut=$((n_cut + 1)); }
	case $call in
	poll | recvfrom | sendmsg | clock_gettime | nanosleep | mmap | munmap | madvise | brk) ;;
	*)
		n_aimed=$((n_aimed + 1))
		[ $n_cut -gt "$cut" ] || n_missed=$((n_missed + 1))
		;;
	esac
}

# aims TRACE <LIST: where inject and hold are to aim: LIST has lines "CALL WORDS", in the order in which they are made; for
# each "CALL:N", counted in the trace of a run that was not cut off.
aims() {
	perl -e '
		my ($trace, %n) = @ARGV;
		chomp(my @want = <STDIN>);
		open(my $in, "<", $trace) or die "$trace: $!\n";
		while (@want and defined(my $line = <$in>)) {
			my ($call) = $line =~ /^(\w+)\(/ or next;
			my ($c, $words) = split(/ /, $want[0], 2);
			$n{$call}++;
			next unless $c eq $call and index($line, $words) >= 0;
			print "$c:$n{$c}\n";
			shift @want;
		}
		die "not in the trace: $want[0]\n" if @want;' "$1"
}

# Most were cut off that were to be: else the moments were not where they should be
most_cut() {
	[ $n_aimed -gt 0 ] && [ $((n_missed * 4)) -le $n_aimed ] || { echo "$n_missed of $n_aimed were not cut off"; return 1; }
}

# hold CALL NTH ARGS...: start the command, and stop it for good behind its NTH CALL (CALL:retval=0: in its place); $tracer is
# to be waited for, and has its status; $held is the one to signal; let_go at last. Its errors are in $FERMATA_ROOT/err.
hold() {
	local call=$1 nth=$2
	shift 2
	: >"$FERMATA_ROOT/stopped"
	strace -qq -o "$FERMATA_ROOT/stopped" -e "trace=${call%%:*}" -e "inject=$call:signal=SIGSTOP:when=$nth" \
		"$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" >/dev/null 2>"$FERMATA_ROOT/err" 3>&- &
	tracer=$!
	# To be in the middle of a call looks like this from outside; the tracer knows better.
	wait_until 30 grep -q 'stopped by SIGSTOP' "$FERMATA_ROOT/stopped"
	held=$(pgrep -P $tracer)
}

# What is held goes on, unless a signal has ended it where it stood.
let_go() {
	kill -CONT "$held" 2>/dev/null || dead "$held"
}

# Cut the command off as soon as it is on record as pending, before it has touched anything: its first fsync is that of
# the record's folder, right behind the rename.
cut_pending() {
	local name=$1
	shift
	inject fsync 1 "$@"
	is_pending "$name" || { echo "not pending after the first fsync of: $*"; return 1; }
}

# True while the record says that an operation is pending
is_pending() {
	grep -qs '"pending": *{' "$FERMATA_ROOT/var/lib/fermata/$1/state.json"
}

# moments TOTAL SAMPLES: at which system calls to cut: so many of them, evenly spread. In the long form at every one, by the
# list of calls_of, but for those in front of which nothing has changed since the one before: the call between only looked.
# (What a process locks is free again when it is dead.)
moments() {
	local step=$(($1 / $2 + 1))
	if [ -z "${FERMATA_SOAK-}" ]; then
		seq $(((step + 1) / 2)) "$step" "$1"
		return
	fi
	sed -n '/^[a-z_0-9]*(/p' "$FERMATA_ROOT/trace" | awk -F'(' '
		BEGIN { n = split("read pread64 readv lseek stat lstat fstat newfstatat statx access readlink getcwd poll ppoll " \
			"recvfrom clock_gettime nanosleep mmap munmap mprotect madvise brk getpid getuid geteuid gettid fcntl close " \
			"rt_sigprocmask rt_sigaction arch_prctl set_tid_address fstatfs statfs getdents64 uname", c, " ")
			while (n) looks[c[n--]] = 1 }
		!looked { print NR }
		{ looked = $1 in looks || /^open(at)?[(].*O_RDONLY/ || / = -1 E/ }'
}

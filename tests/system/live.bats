# Checkpoints whose guest runs on while its memory is written: memory and disks of one instant all the same, whole or not there.
load helper

setup() { root_make; }
teardown() {
	root_end
	[ -z "${memory_file-}" ] || rm -f "$memory_file"
}

# No disk uses an overlay any more, nothing is left of NAME, the guest runs on and loses nothing
assert_nothing() {
	not listed w "$1"
	not is_pending w
	[ "$(fermata domblklist w | grep -c "[.]$1-")" = 0 ]
	[ -z "$(ls "$FERMATA_ROOT"/images/*."$1"-* "$FERMATA_ROOT"/*.mem* "$FERMATA_ROOT"/small/*.mem* 2>/dev/null)" ]
	fermata qemu-monitor-command w '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' |
		grep -o '"vd[a-z][.][0-9]*"' | sort -u | wc -l >"$FERMATA_ROOT/nodes"
	[ "$(cat "$FERMATA_ROOT/nodes")" = 2 ] || { cat "$FERMATA_ROOT/nodes"; return 1; }
	assert_plain
}

# No capability is left on that QEMU's other ways of saving cannot do with
assert_plain() {
	fermata qemu-monitor-command w '{"execute":"query-migrate-capabilities"}' | tr -d ' \n' >"$FERMATA_ROOT/caps"
	not grep -qE '"state":true,"capability":"(background-snapshot|pause-before-switchover)"' "$FERMATA_ROOT/caps"
	not grep -qE '"capability":"(background-snapshot|pause-before-switchover)","state":true' "$FERMATA_ROOT/caps"
}

# take NAME WAY [ARGS...]: a checkpoint of the running guest, taken that way; between which counters its instant lies is kept
declare -gA c before
take() {
	local name=$1 way=$2
	shift 2
	before[$name]=$(last_counter w)
	fermata snapshot-create-as w "$name" --live --memspec "$FERMATA_ROOT/$name.mem" "$@" >"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err"
	c[$name]=$(last_counter w)
	cat "$FERMATA_ROOT/out" "$FERMATA_ROOT/err"
	grep -qxF "Taken $way" "$FERMATA_ROOT/out"
	grep -qE '^The guest was paused for [0-9]+\.[0-9] ms$' "$FERMATA_ROOT/out"
	not is_pending w
	assert_plain
}
by_background="by background snapshot, as of its start"

# go_back NAME [FLAG...]: memory and every disk are of that one instant, all of memory is as it was
go_back() {
	local from name=$1
	shift
	# From far behind it, so that where the count goes back is where the other guest begins.
	! state_is w running || wait_counter_above w $((c[$name] + 30)) 60 "$(mark w)"
	from=$(mark w)
	fermata snapshot-revert w "$name" "$@"
	assert_back_in w "$from" $((before[$name] - 5)) "${c[$name]}"
	assert_one_instant w "$from"
	[ "$(ask w v '^V ')" = "V ok" ]
}

# on_ext4: the guest's memory is a file of a file system that tells QEMU nothing of writes
on_ext4() {
	memory_file=$(mktemp /var/tmp/fermata-memory.XXXXXX)
	case $(stat -f -c %T "$memory_file") in ext*) ;; *) skip "/var/tmp is no ext4" ;; esac
	printf 'arg = -object memory-backend-file,id=mem1,size=%s,mem-path=%s,share=off\narg = -machine memory-backend=mem1\n' \
		"$1" "$memory_file" | conf_add w
}

@test "taken again and again while the guest writes to memory and disks: each is of one instant" {
	witness_vm w 3 fill=40 dirty=50 raw=vdb
	vm_start w
	from=$(mark w)
	for i in 1 2 3 4; do
		take k$i "$by_background"
		assert_one_instant w "$from"
	done
	fermata snapshot-verify w k3
	[ "$(fermata domblklist w | grep -c '[.]k4-')" = 3 ]
	for i in 2 4 1 3 2; do
		go_back k$i
	done
	# Of one that was itself gone back to, and with its guest standing afterwards
	take k5 "$by_background"
	fermata destroy w
	go_back k5
	fermata snapshot-create-as w in
	assert_one_instant w
	fermata destroy w
	contents >/dev/null
	assert_no_orphans leaks
}

@test "a GiB in use (the long form: three, three times)" {
	witness_vm w 2 "memory=$([ -z "${FERMATA_SOAK-}" ] && echo 1100 || echo 4096)M" \
		"fill=$([ -z "${FERMATA_SOAK-}" ] && echo 1000 || echo 3000)" dirty=200
	vm_start w
	for i in 1 ${FERMATA_SOAK:+2 3}; do
		take k$i "$by_background"
		wait_counter_above w $((c[k$i] + 20))
		go_back k$i
		fermata snapshot-delete w k$i
	done
}

@test "what may not be asked for, and what need not" {
	witness_vm w 2
	fails 1 "the VM is off" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
	vm_start w
	fails 1 "--live is for" snapshot-create-as w k --live
	fails 1 "--live is for" snapshot-create-as w k --live --disk-only
	fails 1 "--live is for" snapshot-create-as w k --live --instant
	fails 1 "No such file" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/nowhere/k.mem"
	fails 1 "vda" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem" --diskspec "vda,file=$FERMATA_ROOT/nowhere/x"
	assert_nothing k
	fermata suspend w
	fermata snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem" >"$FERMATA_ROOT/out"
	grep -qxF "Taken while the guest was paused" "$FERMATA_ROOT/out"
	assert_state w paused
	fermata snapshot-info w k | grep -qE '^State: +paused$'
	fermata resume w
	assert_one_instant w
}

@test "called off, killed, without QEMU, in the middle: the guest runs on, nothing is left" {
	need_strace
	witness_vm w 2 memory=256M fill=150 dirty=50
	vm_start w
	from=$(mark w)
	for sig in INT TERM KILL; do
		hold write 30 snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
		[ -s "$FERMATA_ROOT/k.mem.part" ]
		fermata domblklist w >"$FERMATA_ROOT/out" 2>&1 || true
		n=$(last_counter w)
		kill -$sig "$held"
		let_go
		status=0
		wait $tracer || status=$?
		echo "$sig: $status $(cat "$FERMATA_ROOT/err")"
		if [ $sig = KILL ]; then
			# Without a further command.
			wait_until 30 not is_pending w
			fermata recover w # waits for the child, which deletes what it has just put on record
		else
			[ $status = 1 ]
			grep -q cancelled "$FERMATA_ROOT/err"
		fi
		wait_counter_above w $((n + 10))
		assert_nothing k
		assert_state w running
	done
	assert_one_instant w "$from"
	[ "$(ask w v '^V ')" = "V ok" ]
	[ "$(ask w c '^C')" = "C ok" ]
	take k "$by_background"
	go_back k
	fermata snapshot-delete w k
	hold write 30 snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
	kill -KILL "$(vm_pid w)"
	let_go
	status=0
	wait $tracer || status=$?
	echo "$status $(cat "$FERMATA_ROOT/err")"
	[ $status = 1 ] || [ $status = 3 ]
	fermata recover w
	not is_pending w
	assert_state w "shut off"
	# What the guest has written since is not lost.
	[ ! -e "$FERMATA_ROOT/k.mem" ] && [ ! -e "$FERMATA_ROOT/k.mem.part" ]
	! listed w k || [ "$(fermata snapshot-list w --disk-only --name)" = k ]
	contents >/dev/null
	assert_no_orphans leaks
	vm_start w
	[ "$(ask w c '^C')" = "C ok" ]
}

@test "while QEMU looks at all of the memory the guest runs; called off or killed then, nothing is left" {
	need_strace
	witness_vm w 2 memory=512M fill=400 dirty=50
	vm_start w
	! fermata qemu-monitor-command w '{"execute":"query-migrate-capabilities"}' | grep -q switchover-ack ||
		skip "this QEMU can be told nothing meanwhile"
	# Where it looks for the first time whether QEMU is done.
	calls_of snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem" >/dev/null
	fermata snapshot-delete w k
	n=$(awk '/^sendmsg.*execute..:..migrate\\"/ { sent = 1 } /^getdents64/ { n++; if (sent) { print n; exit } }' "$FERMATA_ROOT/trace")
	from=$(mark w)
	for sig in INT KILL; do
		hold getdents64 "$n" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
		# Its first page has the mark, and there is no other
		[ "$(stat -c %s "$FERMATA_ROOT/k.mem.part")" -le 4096 ]
		wait_counter_above w $(($(last_counter w) + 100))
		kill -$sig "$held"
		let_go
		status=0
		wait $tracer || status=$?
		echo "$sig: $status $(cat "$FERMATA_ROOT/err")"
		if [ $sig = KILL ]; then
			wait_until 30 not is_pending w
			fermata recover w
		else
			[ $status = 1 ]
			grep -q cancelled "$FERMATA_ROOT/err"
		fi
		wait_counter_above w $(($(last_counter w) + 10))
		assert_nothing k
		assert_state w running
	done
	assert_one_instant w "$from"
	take k "$by_background"
	go_back k
}

@test "full in the middle: the guest runs on, nothing is left, what was to be replaced stays" {
	need_strace
	mkdir "$FERMATA_ROOT/small"
	mount -t tmpfs -o size=300M none "$FERMATA_ROOT/small" || skip "cannot mount"
	witness_vm w 2 memory=256M fill=150
	vm_start w
	from=$(mark w)
	for replace in "" --replace; do
		hold fsync 1 snapshot-create-as w k --live --memspec "$FERMATA_ROOT/small/new.mem" $replace
		is_pending w
		mount -o remount,size=60M "$FERMATA_ROOT/small"
		let_go
		status=0
		wait $tracer || status=$?
		cat "$FERMATA_ROOT/err"
		[ $status = 1 ]
		[ "$(wc -l <"$FERMATA_ROOT/err")" = 1 ]
		grep -q "No space left" "$FERMATA_ROOT/err"
		assert_one_instant w "$from"
		mount -o remount,size=300M "$FERMATA_ROOT/small"
		[ -z "$(ls "$FERMATA_ROOT/small")" ]
		[ -n "$replace" ] || { assert_nothing k; take k "$by_background"; }
	done
	[ "$(fermata snapshot-list w --name)" = k ]
	[ "$(fermata domblklist w | grep -c '[.]k-')" = 2 ]
	go_back k
}

# The guest has said nothing for a while
stands() {
	local n
	n=$(mark w)
	sleep 0.4
	[ "$n" = "$(mark w)" ]
}

# in_the_pause ARGS...: the command in a process group of its own, up to where its guest stands; $pid
in_the_pause() {
	setsid "$FERMATA_BIN" --root "$FERMATA_ROOT" "$@" >/dev/null 2>"$FERMATA_ROOT/err" </dev/null 3>&- &
	pid=$!
	until stands; do
		not dead $pid || { echo "over before it could be stopped: $*"; return 1; }
	done
}

@test "stopped by ^Z or for good while the guest is paused: it goes on within seconds, whatever is written" {
	witness_vm w 1 memory=1200M fill=1000
	vm_start w
	from=$(mark w)
	n=0
	for sig in TSTP STOP; do
		for what in "snapshot-create-as w k --memspec $FERMATA_ROOT/k.mem" "dump w $FERMATA_ROOT/dump --memory-only" \
			"save w $FERMATA_ROOT/saved"; do
			# A save that ^Z does not stop ends the VM: that is what was asked for.
			[ "$sig $what" != "TSTP save w $FERMATA_ROOT/saved" ] || continue
			c=$(last_counter w)
			# shellcheck disable=SC2086
			in_the_pause $what
			kill -$sig $pid
			wait_counter_above w $((c + 30)) 15
			kill -KILL $pid 2>/dev/null || true
			wait $pid 2>/dev/null || true
			n=$((n + 1))
			fermata recover w
			not is_pending w
			! listed w k || fermata snapshot-delete w k
			rm -f "$FERMATA_ROOT/dump" "$FERMATA_ROOT/k.mem"
			wait_counter_above w $(($(last_counter w) + 10))
		done
	done
	[ $n = 5 ]
	[ ! -e "$FERMATA_ROOT/saved" ]
	assert_state w running
	assert_one_instant w
}

@test "a terminal that is stopped by ^S: what is told of the progress keeps no guest waiting" {
	witness_vm w 1 memory=512M fill=400
	vm_start w
	# Its terminal is stopped before it begins, and nobody reads from that.
	perl -MPOSIX -e '
		my $no = pack("i", 0);
		my $m; sysopen($m, "/dev/ptmx", O_RDWR | O_NOCTTY) && ioctl($m, 0x40045431, $no) && ioctl($m, 0x80045430, $no) or exit 77;
		sysopen(my $t, "/dev/pts/" . unpack("i", $no), O_RDWR | O_NOCTTY) or exit 77;
		POSIX::tcflow(fileno($t), TCOOFF);
		my $p = fork;
		if (!$p) { POSIX::dup2(fileno($t), 2); exec @ARGV }
		# When all is done it waits for its terminal, without the VM.
		for (1 .. 600) { last if -e $ARGV[-1] || waitpid($p, WNOHANG) == $p; select undef, undef, undef, 0.1; }
		sleep 2;
		exit !-e $ARGV[-1]' \
		"$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem" >/dev/null 3>&- || {
		[ $? != 77 ] || skip "no pseudo terminal"
		return 1
	}
	wait_counter_above w $(($(last_counter w) + 20)) 20
	listed w k
	assert_one_instant w
}

# As calls_of, but for those with which it looks how far QEMU is: how many these are differs by thousands from run to run
steady_calls_of() {
	calls_of "$@" >/dev/null
	sed -i -E '/^(open|fstat|stat|getdents64|read|close|nanosleep|clock_gettime|poll|recvfrom|fcntl|mmap|munmap|madvise|brk)[(]/d' \
		"$FERMATA_ROOT/trace"
	calls_in_trace
}

@test "killed at every moment: it is whole or not there, and the guest runs on without a further command" {
	need_strace
	witness_vm w 2 fill=30
	vm_start w
	total=$(steady_calls_of snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem")
	fermata snapshot-delete w k
	for i in $(moments "$total" 20); do
		from=$(mark w)
		n=$(last_counter w)
		cut_at "$i" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
		wait_counter_above w $((n + 5))
		fermata recover w
		if listed w k; then
			fermata snapshot-verify w k
			[ "$(fermata domblklist w | grep -c '[.]k-')" = 2 ]
			fermata snapshot-delete w k
			echo "cut at $i of $total: whole"
		else
			echo "cut at $i of $total: nothing"
		fi
		assert_nothing k
		assert_one_instant w "$from"
	done
	most_cut
	[ "$(ask w v '^V ')" = "V ok" ]
	[ "$(ask w c '^C')" = "C ok" ]
}

@test "a call that fails, on the way: taken whole, or the guest runs on and nothing is left" {
	need_strace
	witness_vm w 2
	vm_start w
	calls_of snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem" >/dev/null
	fermata snapshot-delete w k
	failed=0
	for call in write:ENOSPC pwrite64:ENOSPC fsync:EIO rename:EIO openat:EMFILE pipe2:EMFILE fork:EAGAIN sendmsg:EPIPE poll:EINTR \
		lseek:EIO ftruncate:EIO; do
		count=$(grep -cx "${call%:*}" "$FERMATA_ROOT/calls" || true)
		for part in 3 8 ${FERMATA_SOAK:+2 5 10}; do
			[ $((count * part / 10)) -gt 0 ] || continue
			from=$(mark w)
			status=0
			strace -qq -o "$FERMATA_ROOT/trace" -e "inject=${call%:*}:error=${call#*:}:when=$((count * part / 10))" "$FERMATA_BIN" \
				--root "$FERMATA_ROOT" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem" >/dev/null \
				2>"$FERMATA_ROOT/err" || status=$?
			echo "$call $((count * part / 10)) of $count: $status $(cat "$FERMATA_ROOT/err")"
			[ $status = 0 ] || failed=$((failed + 1))
			fermata recover w
			if listed w k; then
				fermata snapshot-verify w k
				fermata snapshot-delete w k
			fi
			assert_nothing k
			wait_until 20 state_is w running
			assert_one_instant w "$from"
		done
	done
	[ $failed -gt 4 ]
	[ "$(ask w c '^C')" = "C ok" ]
}

@test "no background snapshot of such memory, no KVM: said, and the guest is paused meanwhile" {
	witness_vm w 2 fill=16
	on_ext4 64M
	vm_start w
	take k "while the guest was paused"
	grep -q "no background snapshot (.*memory configuration" "$FERMATA_ROOT/err"
	wait_counter_above w $((c[k] + 20))
	go_back k
}

@test "no background snapshot, but KVM: by pre-copy, while the guest writes; called off, killed" {
	[ -w /dev/kvm ] || skip "there is no KVM here"
	need_strace
	witness_vm w 2 accel=kvm memory=128M fill=8
	on_ext4 128M
	vm_start w || skip "the guest does not run under KVM"
	for i in 1 2 3; do
		take k$i "by pre-copy, as of its end"
	done
	for i in 2 3 1; do
		go_back k$i
	done
	for i in 1 2 3; do
		fermata snapshot-delete w k$i
	done
	from=$(mark w)
	for sig in INT KILL; do
		hold write 6 snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
		n=$(last_counter w)
		kill -$sig "$held"
		let_go
		wait $tracer || true
		wait_until 30 not is_pending w
		wait_counter_above w $((n + 10))
		assert_nothing k
	done
	total=$(steady_calls_of snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem")
	fermata snapshot-delete w k
	for i in $(moments "$total" 8); do
		n=$(last_counter w)
		cut_at "$i" snapshot-create-as w k --live --memspec "$FERMATA_ROOT/k.mem"
		wait_counter_above w $((n + 5))
		fermata recover w
		! listed w k || fermata snapshot-delete w k
		assert_nothing k
	done
	assert_one_instant w "$from"
	[ "$(ask w v '^V ')" = "V ok" ]
}

# genid: the number that QEMU gives the guest, as it stands in the guest's memory, in hexadecimal. How often memory has that:
# genid_seen HEX
genid() {
	fermata qemu-monitor-command w '{"execute":"query-vm-generation-id"}' | perl -e '
		local $/; <STDIN> =~ /"guid": *"([0-9a-f-]+)"/ or die; my @f = split /-/, $1;
		print unpack("H*", pack("VvvH*", hex $f[0], hex $f[1], hex $f[2], $f[3] . $f[4])), "\n"'
}
genid_seen() {
	rm -f "$FERMATA_ROOT/all"
	fermata qemu-monitor-command w '{"execute":"pmemsave","arguments":{"val":0,"size":67108864,"filename":"'"$FERMATA_ROOT"'/all"}}' \
		>/dev/null
	perl -e 'local $/; open my $f, "<", $ARGV[1] or die; my ($m, $w) = (<$f>, pack "H*", $ARGV[0]); my $n = () = $m =~ /\Q$w/g;
		print "$n\n"' "$1" "$FERMATA_ROOT/all"
}

@test "a silent agent does not hold a revert up, a network is announced; the guest sees a vmgenid of its QEMU's own" {
	witness_vm w 2
	sed -i 's/^machine .*/&\nagent = yes/' "$FERMATA_ROOT/etc/fermata/w.conf"
	printf '\n[net eth0]\ntype = user\n' | conf_add w
	vm_start w
	take k "$by_background"
	genid=$(genid)
	[ "$(genid_seen "$genid")" -gt 0 ]
	from=$(mark w)
	fermata snapshot-revert w k 2>"$FERMATA_ROOT/err"
	cat "$FERMATA_ROOT/err"
	grep -q "the guest's clock is not set" "$FERMATA_ROOT/err"
	[ "$(genid)" != "$genid" ]
	[ "$(genid_seen "$genid")" = 0 ]
	[ "$(genid_seen "$(genid)")" -gt 0 ]
	assert_one_instant w "$from"
	fermata snapshot-revert w k --no-sync-time 2>"$FERMATA_ROOT/err"
	[ ! -s "$FERMATA_ROOT/err" ]
	need_strace
	strace -qq -s 300 -e trace=sendmsg,sendto,write -o "$FERMATA_ROOT/trace" "$FERMATA_BIN" --root "$FERMATA_ROOT" \
		snapshot-revert w k --no-sync-time
	grep -q 'announce-self' "$FERMATA_ROOT/trace"
	fermata snapshot-revert w k --paused 2>"$FERMATA_ROOT/err"
	[ ! -s "$FERMATA_ROOT/err" ]
}

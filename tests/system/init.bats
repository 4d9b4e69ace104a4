# fermata init: order, watching, crashes, signals, as a service and as the first process.
load helper

setup() { root_make; }

teardown() {
	[ -z "${init-}" ] || kill -KILL "$init" 2>/dev/null || true
	root_end
}

# vms NAME...: VMs that init starts, each with its own [boot] keys from standard input
vms() {
	local name policy
	policy=$(cat)
	for name; do
		witness_vm "$name" 1
		printf '\n[boot]\nautostart = yes\non-stop = kill\nback-off = 100ms\n%s\n' "$policy" | conf_add "$name"
	done
}

supervise() {
	"$FERMATA_BIN" --root "$FERMATA_ROOT" init 2>>"$FERMATA_ROOT/init.log" 3>&- &
	init=$!
}

# logged N TEXT: so many lines of the log have TEXT
logged() {
	[ "$(grep -cF -- "$2" "$FERMATA_ROOT/init.log")" -ge "$1" ]
}

wait_logged() {
	wait_until 60 logged "$@" || { cat "$FERMATA_ROOT/init.log"; return 1; }
}

# ended STATUS: init has ended with it
ended() {
	local status=0
	wait_until 60 dead "$init"
	wait "$init" || status=$?
	init=
	[ "$status" = "$1" ] || { echo "init: exit $status, not $1"; cat "$FERMATA_ROOT/init.log"; return 1; }
}

@test "by order, side by side where it is equal; SIGTERM takes all down, the last first" {
	vms a b c </dev/null
	echo "order = 2" | conf_add a
	echo "order = 1" | conf_add b
	echo "order = 1" | conf_add c
	witness_vm d 1
	supervise
	wait_logged 1 "a: up"
	up=$(grep -oE '[abc]: up' "$FERMATA_ROOT/init.log" | tr -d '\n')
	[[ $up == *"a: up" ]]
	assert_state d "shut off"
	kill -TERM "$init"
	ended 0
	[ "$(grep -oE '[abc]: off' "$FERMATA_ROOT/init.log" | head -n 1)" = "a: off" ]
	[ -z "$(fermata list --name)" ]
}

@test "on-stop = managedsave: the guest goes on where it was, at the next start of the host" {
	printf 'from = managedsave\nfallback = cold\nattempts = 1\n' | vms a
	sed -i 's/^on-stop = .*/on-stop = managedsave/' "$FERMATA_ROOT/etc/fermata/a.conf"
	supervise
	wait_logged 1 "a: up"
	wait_counter_above a 0
	c=$(last_counter a)
	kill -TERM "$init"
	ended 0
	assert_state a "shut off"
	[ -e "$FERMATA_ROOT/var/lib/fermata/a/managed.save" ]
	from=$(mark a)
	supervise
	wait_logged 2 "a: up"
	assert_one_instant a "$from"
	if said_since a "$from" '^boot'; then return 1; fi
	[ "$(last_counter a)" -gt "$c" ]
	kill -TERM "$init"
	ended 0
}

@test "on-crash = restart: QEMU killed, the guest panics; cold, and its disk goes on" {
	echo "on-crash = restart" | vms a
	sed -i 's|^arg = |arg = -device pvpanic |' "$FERMATA_ROOT/etc/fermata/a.conf"
	supervise
	wait_logged 1 "a: up"
	wait_counter_above a 30
	echo "qemu-system-x86_64: it is out of order" >>"$FERMATA_ROOT/run/fermata/a/qemu.log"
	kill -KILL "$(vm_pid a)"
	wait_logged 1 "a: QEMU died"
	from=$(mark a)
	wait_logged 2 "a: up"
	# Its new guest hears keys, too.
	wait_counter_above a 0 60 "$from"
	# What the dead one said is still there to be read.
	grep -q "it is out of order" "$FERMATA_ROOT/run/fermata/a/qemu.log.1"
	not grep -q "it is out of order" "$FERMATA_ROOT/run/fermata/a/qemu.log"
	key a p
	wait_logged 1 "a: the guest panicked"
	wait_logged 3 "a: up"
	assert_one_instant a
}

@test "on-crash = revert: the golden checkpoint again; stop: off" {
	printf 'on-crash = revert\nfrom = golden\ndiscard-changes = yes\n' | vms a
	printf 'on-crash = stop\n' | vms b
	vm_start a
	wait_counter_above a 20
	low=$(last_counter a)
	fermata snapshot-create-as a golden
	golden=$(last_counter a)
	fermata destroy a
	supervise
	wait_logged 1 "a: up"
	wait_logged 1 "b: up"
	wait_counter_above a $((golden + 100))
	from=$(mark a)
	kill -KILL "$(vm_pid a)" "$(vm_pid b)"
	wait_logged 2 "a: up"
	assert_back_in a "$from" "$low" "$golden"
	wait_logged 1 "b: off"
	assert_state b "shut off"
}

@test "on-stop: what cannot be saved is shut down, what does not heed that within stop-within is cut off" {
	echo "stop-within = 1s" | vms a b
	for how in a:managedsave b:shutdown; do
		sed -i "s/^on-stop = .*/on-stop = ${how#*:}/" "$FERMATA_ROOT/etc/fermata/${how%:*}.conf"
	done
	# QEMU cannot save this device; the witness does not know a power button.
	truncate -s 1M "$FERMATA_ROOT/nv"
	sed -i "s|^arg = |left-out = nv\narg = -drive if=none,id=nv,format=raw,file=$FERMATA_ROOT/nv -device nvme,drive=nv,serial=1 |" \
		"$FERMATA_ROOT/etc/fermata/a.conf"
	supervise
	wait_logged 1 "a: up"
	wait_logged 1 "b: up"
	kill -TERM "$init"
	ended 0
	grep "a: stop: .*nvme.*; it is shut down" "$FERMATA_ROOT/init.log"
	logged 1 "a: stop: "
	grep -E "a: stop: .*; its plug is pulled" "$FERMATA_ROOT/init.log"
	grep -E "b: stop: .*; its plug is pulled" "$FERMATA_ROOT/init.log"
	not grep "b: .*saved" "$FERMATA_ROOT/init.log"
	assert_state a "shut off"
	assert_state b "shut off"
}

@test "as a service each of its signals is an orderly end" {
	vms a </dev/null
	for sig in USR1 USR2 PWR INT; do
		: >"$FERMATA_ROOT/init.log"
		supervise
		wait_logged 1 "a: up"
		kill "-$sig" "$init"
		ended 0
		logged 1 "a: off"
		assert_state a "shut off"
	done
}

@test "on-crash by what crashed: panic and watchdog, each with restart, revert and stop" {
	local name
	echo "on-crash = restart" | vms a
	printf 'on-crash = revert\nfrom = golden\ndiscard-changes = yes\n' | vms b
	echo "on-crash = stop" | vms c d
	for name in a b c d; do
		sed -i 's|^arg = |arg = -device ib700 -device pvpanic |' "$FERMATA_ROOT/etc/fermata/$name.conf"
	done
	# A watchdog that only rings: by default QEMU resets the guest, too.
	sed -i 's|^arg = |arg = -action watchdog=none |' "$FERMATA_ROOT/etc/fermata/b.conf"
	vm_start b
	wait_counter_above b 20
	low=$(last_counter b)
	fermata snapshot-create-as b golden
	golden=$(last_counter b)
	fermata destroy b
	supervise
	for name in a b c d; do
		wait_logged 1 "$name: up"
		wait_counter_above "$name" $((golden + 40))
	done
	from_a=$(mark a)
	from_b=$(mark b)
	key a w
	key b w
	key c w
	key d p
	wait_logged 1 "c: its watchdog rang"
	wait_logged 1 "d: the guest panicked"
	wait_logged 1 "c: off"
	wait_logged 1 "d: off"
	assert_state c "shut off"
	assert_state d "shut off"
	wait_logged 1 "a: its watchdog rang"
	wait_logged 2 "a: up"
	# Cold, on its disk as it is.
	assert_one_instant a
	said a "$from_a" | grep -q '^boot d0=[1-9]'
	[ "$(last_counter a "$from_a")" -gt $((golden + 40)) ]
	wait_logged 1 "b: its watchdog rang"
	wait_logged 2 "b: up"
	assert_back_in b "$from_b" "$low" "$golden"
	from_b=$(mark b)
	wait_counter_above b $((golden + 40)) 60 "$from_b"
	from_b=$(mark b)
	key b p
	wait_logged 1 "b: the guest panicked"
	wait_logged 3 "b: up"
	assert_back_in b "$from_b" "$low" "$golden"
}

@test "what somebody ends stays off; what somebody starts is watched" {
	vms a </dev/null
	supervise
	wait_logged 1 "a: up"
	fermata destroy a
	wait_logged 1 "a: ended"
	sleep 1
	assert_state a "shut off"
	fermata start a
	wait_logged 2 "a: up"
	kill -KILL "$(vm_pid a)"
	wait_logged 3 "a: up"
}

@test "a boot that fails is tried again, ever later; SIGTERM in the middle of one" {
	printf 'healthy = serial "never said"\nwithin = 1s\nattempts = 1\n' | vms a
	supervise
	wait_logged 1 "a: did not boot"
	wait_logged 1 "a: again in 100 ms"
	wait_logged 1 "a: again in 200 ms"
	wait_logged 3 "from 'cold', attempt 1 of 1"
	kill -TERM "$init"
	ended 0
	assert_state a "shut off"
}

@test "SIGHUP: a new definition, a new policy, a wrong one" {
	printf 'on-crash = stop\n' | vms a
	supervise
	wait_logged 1 "a: up"
	vms b </dev/null
	sed -i 's/^on-crash.*/on-crash = restart/' "$FERMATA_ROOT/etc/fermata/a.conf"
	echo "nonsense = 1" >"$FERMATA_ROOT/etc/fermata/c.conf"
	kill -HUP "$init"
	wait_logged 1 "c.conf:1:"
	wait_logged 1 "b: up"
	kill -KILL "$(vm_pid a)"
	wait_logged 2 "a: up"
}

@test "the supervisor is killed: the VMs go on, the next one finds them; there is only one" {
	vms a b </dev/null
	supervise
	wait_logged 1 "a: up"
	wait_logged 1 "b: up"
	a=$(vm_pid a)
	fails 1 "init" init
	kill -KILL "$init"
	wait "$init" || true
	[ -d "/proc/$a" ]
	b=$(vm_pid b)
	kill -KILL "$b"
	wait_gone "$b"
	supervise
	wait_logged 1 "a: boot: it runs already"
	wait_logged 2 "a: up"
	wait_logged 2 "b: up"
	[ "$(vm_pid a)" = "$a" ]
}

@test "what was cut off is recovered first, also of VMs that are not started" {
	need_strace
	witness_vm a 2
	cut_pending a snapshot-create-as a half
	supervise
	wait_logged 1 "a: snapshot-create-as 'half' was cut off"
	kill -INT "$init"
	ended 0
	not is_pending a
}

# watched N: the watchdog was told so many times
watched() {
	[ "$(grep -cx WATCHDOG=1 "$FERMATA_ROOT/told")" -ge "$1" ]
}

@test "as a service: ready, watchdog, stopping; under 1 MiB" {
	vms a b </dev/null
	perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die; $| = 1;
		while (defined $s->recv(my $m, 200)) { print "$m\n" }' "$FERMATA_ROOT/notify" >"$FERMATA_ROOT/told" 3>&- &
	ear=$!
	wait_until 10 test -S "$FERMATA_ROOT/notify"
	NOTIFY_SOCKET=$FERMATA_ROOT/notify WATCHDOG_USEC=400000 supervise
	wait_until 60 grep -qx READY=1 "$FERMATA_ROOT/told"
	logged 1 "a: up"
	logged 1 "b: up"
	wait_until 20 watched $(($(grep -cx WATCHDOG=1 "$FERMATA_ROOT/told") + 2))
	# status only estimates, by more the more processors there are.
	rss=$(sed -n 's/^Rss:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$init/smaps_rollup")
	[ "$rss" -lt 1024 ] || { echo "resident: $rss KiB"; return 1; }
	kill -TERM "$init"
	ended 0
	wait_until 10 grep -qx STOPPING=1 "$FERMATA_ROOT/told"
	kill "$ear"
}

# only_qemu PID: it has one child, neither orphans nor zombies
only_qemu() {
	[ "$(pgrep -cP "$1")" = 1 ]
}

@test "as the first process: settings, script, orphans, power off and reboot" {
	unshare -mpuf true 2>/dev/null || skip "no namespaces here"
	vms a </dev/null
	printf '#!/bin/sh\n(sleep 1; exit 3) &\n: >%s/ran\n' "$FERMATA_ROOT" >"$FERMATA_ROOT/script"
	chmod +x "$FERMATA_ROOT/script"
	mkdir "$FERMATA_ROOT/state"
	printf 'sysctl = kernel.hostname = box\nmount = tmpfs %s/state tmpfs ro,size=1M\nmodule = /no/such.ko\nscript = %s\n' \
		"$FERMATA_ROOT" "$FERMATA_ROOT/script" >"$FERMATA_ROOT/etc/fermata/init.conf"
	for how in USR2:130 TERM:129 PWR:130 INT:129; do
		: >"$FERMATA_ROOT/init.log"
		setsid unshare -mpuf --kill-child "$FERMATA_BIN" --root "$FERMATA_ROOT" init 2>>"$FERMATA_ROOT/init.log" 3>&- &
		init=$!
		wait_logged 1 "a: up"
		wait_logged 1 "cannot insert /no/such.ko"
		[ -e "$FERMATA_ROOT/ran" ]
		box=$(pgrep -P "$init")
		[ "$(nsenter -t "$box" -u hostname)" = box ]
		nsenter -t "$box" -m grep -q "$FERMATA_ROOT/state tmpfs ro" /proc/1/mounts
		wait_until 20 only_qemu "$box"
		kill "-${how%:*}" "$box"
		ended "${how#*:}"
	done
	grep -q "fermata: reboot" "$FERMATA_ROOT/init.log"
}

# box_mounts LINE...: the mounts of a first process whose init.conf has these lines, into $mounts; then it is told to end
box_mounts() {
	printf '#!/bin/sh\ncat /proc/self/mountinfo >%s/mounts\ngrep SigIgn /proc/self/status >%s/signals\nfor w; do echo "<$w>"; done >%s/words\n' \
		"$FERMATA_ROOT" "$FERMATA_ROOT" "$FERMATA_ROOT" >"$FERMATA_ROOT/look"
	chmod +x "$FERMATA_ROOT/look"
	printf '%s\n' "$@" "script = $FERMATA_ROOT/look 'a b\\040c" >"$FERMATA_ROOT/etc/fermata/init.conf"
	: >"$FERMATA_ROOT/init.log"
	(trap '' HUP QUIT; exec setsid unshare -mpf --mount-proc --kill-child "$FERMATA_BIN" --root "$FERMATA_ROOT" init) \
		2>>"$FERMATA_ROOT/init.log" 3>&- &
	init=$!
	wait_until 60 test -s "$FERMATA_ROOT/words"
	kill -TERM "$(pgrep -P "$init")"
	ended 129
}

# mounted FOLDER OPTIONS TYPE [SUPER]: it is, with these among its options (a regular expression), in the order of the kernel
mounted() {
	grep -qE " $FERMATA_ROOT/$1 (\S*,)?$2(,\S*)? .*- $3 \S+ ${4-}" "$FERMATA_ROOT/mounts" ||
		{ grep " $FERMATA_ROOT/" "$FERMATA_ROOT/mounts"; echo "not: $*"; cat "$FERMATA_ROOT/init.log"; return 1; }
}

@test "init.conf mounts as fstab(5) and mount(8): options, escapes, bind, remount; and says what it cannot" {
	unshare -mpf --mount-proc true 2>/dev/null || skip "no namespaces here"
	R=$FERMATA_ROOT
	mkdir "$R/from" "$R/from/below"
	box_mounts "mount = tmpfs $R/a tmpfs noatime,size=1M,nodiratime,mode=0700 0 0" \
		"mount = tmpfs $R/b tmpfs defaults,rw,nosuid,nodev,noexec,x-systemd.after=net,comment=why,_netdev" \
		"mount = tmpfs $R/c tmpfs ro,user,exec,rw,size=2M" \
		"mount = tmpfs $R/d\\040d tmpfs ro,nosuid,defaults,mode=0711 0" \
		"mount = tmpfs $R/not tmpfs noauto" \
		"mount = $R/from $R/e none bind,ro,noexec" \
		"mount = $R/from $R/f none rbind,private" \
		"mount = none $R/a tmpfs remount,ro,noexec" \
		"mount = /no/such/disk $R/g ext4 nofail" \
		"mount = UUID=0-0-0 $R/h ext4 nofail" \
		"mount = tmpfs $R/i tmpfs loop=/dev/loop0" \
		"mount = tmpfs relative tmpfs" \
		"mount = /dev/zram0 none swap sw" \
		"mount = tmpfs $R/j tmpfs rw,whatsit" \
		"mount = tmpfs $R/k tmpfs rw 0 zero" \
		"mount = tmpfs $R/l"
	mounted a 'ro,noexec,noatime,nodiratime' tmpfs '.*size=1024k,mode=700'
	mounted b 'rw,nosuid,nodev,noexec,relatime' tmpfs rw
	mounted c 'rw,nosuid,nodev,relatime' tmpfs '.*size=2048k'
	mounted 'd\\040d' 'rw,relatime' tmpfs 'rw,.*mode=711'
	mounted e 'ro,noexec' '\S+'
	mounted f 'rw' '\S+'
	for d in not g h i j k l; do
		if grep " $R/$d " "$R/mounts"; then return 1; fi
	done
	# 32 to 34 are libc's own: what these are set to stays
	cat "$R/signals"
	[ $((0x$(sed 's/.*[[:space:]]//' "$R/signals") & 0x7fffffff)) = 0 ]
	[ "$(tr -d '\n' <"$R/words")" = "<'a><b c>" ]
	logged 1 "cannot mount tmpfs on $R/i: fermata does not do 'loop=/dev/loop0'; do it in a script"
	logged 1 "cannot mount tmpfs on relative: that is no folder from the root"
	logged 1 "cannot mount /dev/zram0 on none: that is no folder from the root; swapon in a script"
	logged 1 "cannot mount tmpfs on $R/j: Invalid argument"
	logged 1 "cannot mount tmpfs on $R/k: what does 'zero' mean, after the options?"
	logged 1 "a mount is SOURCE FOLDER TYPE [OPTIONS]"
	[ "$(grep -c "mount" "$R/init.log")" = 6 ] || { cat "$R/init.log"; return 1; }
	[ ! -e "$R/not" ]
}

@test "init.conf mounts by UUID and LABEL, without a device manager; two of one name are refused; all are closed at the end" {
	unshare -mpf --mount-proc true 2>/dev/null || skip "no namespaces here"
	R=$FERMATA_ROOT loops=()
	for n in 1 2 3 4; do
		truncate -s 4M "$R/$n.img"
		mke2fs -q -t ext4 -U 6d1f0a2c-0000-4000-8000-00000000000$n -L "box $((n > 3 ? 3 : n))" "$R/$n.img"
		dev=$(losetup --show -f "$R/$n.img") && loops+=("$dev") || { losetup -d "${loops[@]}"; skip "no loop devices here"; }
	done
	status=0
	box_mounts "mount = UUID=6D1F0A2C-0000-4000-8000-000000000001 $R/u ext4 noatime,errors=remount-ro" \
		"mount = LABEL=\"box\\0402\" $R/l auto nosuid" \
		"mount = LABEL=box\\0403 $R/twice ext4" || status=1
	losetup -d "${loops[@]}"
	[ "$status" = 0 ]
	mounted u 'rw,noatime' ext4 '.*errors=remount-ro'
	mounted l 'rw,nosuid,relatime' ext4
	if grep " $R/twice " "$R/mounts"; then return 1; fi
	logged 1 "cannot mount LABEL=box 3 on $R/twice: both ${loops[2]} and ${loops[3]} have it" ||
		logged 1 "cannot mount LABEL=box 3 on $R/twice: both ${loops[3]} and ${loops[2]} have it"
	for n in 1 2; do
		if dumpe2fs -h "$R/$n.img" 2>/dev/null | grep needs_recovery; then return 1; fi
	done
}

@test "init.conf that is wrong is said, with its line; the VMs come up all the same" {
	vms a </dev/null
	printf 'log = stderr\nsysctls = x\n' >"$FERMATA_ROOT/etc/fermata/init.conf"
	supervise
	wait_logged 1 "init.conf:2: there is no 'sysctls' here"
	wait_logged 1 "a: up"
	fails 1 "none of: stderr, kmsg, syslog" init --log paper
}

settled() {
	! is_pending "$1"
}

@test "what cannot be recovered is tried again, ever later, and told; the others do not wait" {
	need_strace
	witness_vm c 1 # not started by init
	printf 'on-crash = stop\norder = 1\n' | vms a
	printf 'order = 2\n' | vms b
	for name in a c; do
		cut_pending "$name" snapshot-create-as "$name" half
		mv "$FERMATA_ROOT/images/$name-vda.qcow2" "$FERMATA_ROOT/$name.away"
	done
	supervise
	wait_logged 1 "b: up"
	wait_logged 1 "a: cannot recover what the last command left"
	wait_logged 1 "a: again in 400 ms"
	wait_logged 1 "c: again in 2000 ms"
	not logged 1 "a: boot:"
	[ "$(grep -c "a: again in 200 ms" "$FERMATA_ROOT/init.log")" = 1 ]
	fermata boot-status a | grep -q "snapshot-create 'half' is pending"
	for name in a c; do
		mv "$FERMATA_ROOT/$name.away" "$FERMATA_ROOT/images/$name-vda.qcow2"
	done
	wait_logged 1 "a: snapshot-create-as 'half' was cut off: what it left is removed"
	wait_logged 1 "a: up"
	wait_logged 1 "c: snapshot-create-as 'half' was cut off"
	wait_until 60 settled c
	not is_pending a
	assert_state c "shut off"
	# It is watched like any other.
	fermata start c
	wait_logged 1 "c: up"
}

@test "a crash behind a command that was cut off: first that is put right, then on-crash; SIGTERM meanwhile" {
	need_strace
	printf 'on-crash = restart\nfrom = golden\ndiscard-changes = yes\n' | vms a
	vm_start a
	wait_counter_above a 20
	fermata snapshot-create-as a golden
	fermata destroy a
	supervise
	wait_logged 1 "a: up"
	cut_pending a snapshot-create-as a half
	mv "$FERMATA_ROOT/images/a-vda.qcow2" "$FERMATA_ROOT/away"
	kill -KILL "$(vm_pid a)"
	wait_logged 2 "a: cannot recover"
	kill -TERM "$init"
	ended 0
	logged 1 "a: off"
	is_pending a
	n=$(grep -c "a: cannot recover" "$FERMATA_ROOT/init.log")
	supervise
	wait_logged $((n + 2)) "a: cannot recover"
	mv "$FERMATA_ROOT/away" "$FERMATA_ROOT/images/a-vda.qcow2"
	wait_logged 2 "a: up"
	not is_pending a
	cut_pending a snapshot-create-as a half
	mv "$FERMATA_ROOT/images/a-vda.qcow2" "$FERMATA_ROOT/away"
	n=$(grep -c "a: cannot recover" "$FERMATA_ROOT/init.log")
	kill -KILL "$(vm_pid a)"
	wait_logged $((n + 2)) "a: cannot recover"
	mv "$FERMATA_ROOT/away" "$FERMATA_ROOT/images/a-vda.qcow2"
	wait_logged 1 "from 'cold', attempt 1 of 3"
	wait_logged 3 "a: up"
}

@test "handed over to a second QEMU by a command: the guest goes on, and is watched on" {
	echo "on-crash = restart" | vms a
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/a.conf"
	supervise
	wait_logged 1 "a: up"
	wait_counter_above a 20
	pid=$(vm_pid a)
	from=$(mark a)
	fermata snapshot-create-as a gold --instant=handover
	wait_logged 2 "a: up"
	second=$(vm_pid a)
	[ -n "$second" ] && [ "$second" != "$pid" ]
	assert_one_instant a "$from"
	if said_since a "$from" '^boot'; then return 1; fi
	fermata boot-status a | grep -q healthy
	kill -KILL "$second"
	wait_logged 3 "a: up"
	[ "$(vm_pid a)" != "$second" ]
	kill -TERM "$init"
	ended 0
}

# What a builder does: configure, build with each compiler, install, link the library.

TOP=$(cd "$(dirname "$BATS_TEST_FILENAME")/../.." && pwd)

setup() {
	command -v make >/dev/null || skip "there is no make"
	W=$(mktemp -d)
	# A copy, so that neither .config nor build/ of the work tree is touched.
	(cd "$TOP" && tar cf - --exclude=./build --exclude=./.git --exclude=./.config .) | tar xf - -C "$W"
	cd "$W" || return 1
	unset MAKEFLAGS MAKELEVEL O
}

teardown() {
	cd /
	rm -rf "$W"
}

@test "a configuration survives oldconfig and the header, off bits included" {
	make defconfig
	grep -q '^CONFIG_SNAPSHOT=y$' .config
	sed -i 's/^CONFIG_XML=y$/# CONFIG_XML is not set/; s,^CONFIG_RUN_DIR=.*,CONFIG_RUN_DIR="/tmp/a run",' .config
	cp .config before
	make oldconfig
	diff before .config
	make -s O=o o/autoconf.h
	grep -q '^#define CONFIG_XML 0$' o/autoconf.h
	grep -q '^#define CONFIG_RUN_DIR "/tmp/a run"$' o/autoconf.h
	# Every symbol of Kconfig is defined, once.
	[ "$(sed -n 's/^config //p' Kconfig | sort)" = "$(sed -n 's/^#define CONFIG_\([A-Z0-9_]*\) .*/\1/p' o/autoconf.h | sort)" ]
	make allnoconfig
	[ "$(grep -c '=y$' .config)" = 0 ]
	# What depends on something that is off is off, whatever the file says.
	echo 'CONFIG_XML=y' >>.config
	make oldconfig
	grep -q '^# CONFIG_XML is not set$' .config
}

@test "Kconfig outside the subset is refused with its line" {
	printf 'config A\n\tbool "a"\n\tselect B\n' >Kconfig
	run make defconfig
	[ "$status" != 0 ]
	[[ $output == *"Kconfig:3:"* ]]
	printf 'config A\n\tbool "a"\n\tdepends on NOSUCH\n' >Kconfig
	run make defconfig
	[ "$status" != 0 ]
	[[ $output == *"NOSUCH"* ]]
}

@test "builds without a warning under every compiler that is here, and in the tiny configuration" {
	for cc in musl-gcc gcc clang; do
		command -v "$cc" >/dev/null || continue
		make defconfig
		make -j2 O="o-$cc" CC="$cc" >log 2>&1 || { cat log; false; }
		run grep -n 'warning:' log
		[ -z "$output" ]
		"o-$cc/fermata" --version
	done
	for config in tiny_defconfig; do
		make "$config"
		make -j2 O=o-small >log 2>&1 || { cat log; false; }
		run grep -n 'warning:' log
		[ -z "$output" ]
		o-small/fermata help | grep -q '^  start '
	done
}

@test "the binary is static, position-independent, and hardened" {
	command -v readelf >/dev/null || skip "there is no readelf"
	f=${FERMATA_BIN:-$TOP/build/fermata}
	[ -f "$f.whole" ] || skip "it was not built here"
	for file in "$f" "$f.whole"; do
		readelf -hW "$file" | grep -q 'Type: *DYN'
		run readelf -lW "$file"
		[[ $output != *INTERP* ]]
		grep -q 'GNU_STACK.*RW ' <<<"$output"
		run grep -q 'GNU_STACK.*RWE' <<<"$output"
		[ "$status" != 0 ]
	done
	readelf -lW "$f.whole" | grep -q GNU_RELRO
	# Packed relocations are unpacked before libc runs: every pointer in a table is right.
	"$f" help >help
	[ "$(grep -c '^  [a-z]' help)" -ge 20 ]
	# And what was relocated is only read from then on.
	command -v strace >/dev/null || skip "there is no strace"
	strace -qq -o /dev/null true 2>/dev/null || skip "strace may not trace here"
	run strace -e trace=mprotect "$f" --version
	[ "$status" = 0 ]
	grep -q 'PROT_READ) *= 0' <<<"$output"
}

# A program that unpacks itself (CONFIG_PACKED), where this machine can make one.
packed() {
	f=${FERMATA_BIN:-$TOP/build/fermata}
	[ -f "$f.lz4" ] || skip "it is not packed: that takes x86-64, musl-gcc and lz4"
}

@test "packed: the same program, in 256 KiB" {
	packed
	[ "$(stat -c %s "$f")" -le $((256 * 1024)) ]
	for c in "help" "help snapshot-create-as" "--version" "img --help" "nonsense" "img info $f"; do
		# shellcheck disable=SC2086
		"$f" $c >a 2>&1 && one=0 || one=$?
		# shellcheck disable=SC2086
		"$f.whole" $c >b 2>&1 && other=0 || other=$?
		sed -i 's/fermata\.whole/fermata/g' b
		diff a b
		[ "$one" = "$other" ]
	done
}

@test "packed or not: one folder, built so and so in turn" {
	packed
	make tiny_defconfig
	# On a machine that has no lz4 yet.
	mkdir bin
	for c in $(compgen -c | sort -u); do
		p=$(type -P "$c") && [ "$c" != lz4 ] && [ ! -e "bin/$c" ] && ln -s "$p" "bin/$c"
	done
	PATH=$PWD/bin make -j2 O=o >/dev/null
	[ ! -e o/fermata.lz4 ] && cmp o/fermata o/fermata.whole
	o/fermata --version
	make O=o >log
	run grep CC log
	[ -z "$output" ]
	[ "$(stat -c %s o/fermata)" -lt $(($(stat -c %s o/fermata.whole) * 2 / 3)) ]
	o/fermata --version
	make O=o >log
	[ ! -s log ]
	sed -i 's/^CONFIG_PACKED=y$/# CONFIG_PACKED is not set/' .config
	make -j2 O=o >/dev/null
	[ ! -e o/fermata.lz4 ] && cmp o/fermata o/fermata.whole
	o/fermata --version
}

@test "packed: memory is never writable and executable, and what was relocated is only read" {
	packed
	command -v strace >/dev/null || skip "there is no strace"
	strace -qq -o /dev/null true 2>/dev/null || skip "strace may not trace here"
	run strace -e trace=mmap,mprotect "$f" --version
	[ "$status" = 0 ]
	[[ $output == *"PROT_READ|PROT_EXEC) = 0"* ]]
	[[ $output != *PROT_WRITE?PROT_EXEC* ]]
	# It stands at its first words for as long as we look at its memory.
	strace -qq -o /dev/null -e trace=writev -e inject=writev:delay_enter=2000000 "$f" --version >/dev/null &
	for _ in $(seq 100); do
		sleep 0.01
		maps=$(cat /proc/"$(pgrep -P $! fermata)"/maps 2>/dev/null) || continue
		got=$(awk '$5 == 0 && $6 == "" { print $2 }' <<<"$maps" | tr '\n' ' ')
		[[ $got != "r--p r-xp r--p rw-p "* ]] || break
	done
	wait
	echo "$maps"
	[[ $got == "r--p r-xp r--p rw-p "* ]]
	run grep -E '^\S+ .wx' <<<"$maps"
	[ -z "$output" ]
	# Headers and texts, code, tables, data: each what it is in the file.
	want=$(readelf -lW "$f.whole" | awk '$1 == "LOAD" { printf "%s", $7 $8 ~ /E/ ? "x" : $7 ~ /W/ ? "w" : "r" }')
	[ "$want" = rxww ]
}

@test "packed: a damaged file, no memory, and a kernel that refuses are told" {
	packed
	size=$(stat -c %s "$f")
	# The frame's header too: its magic number, how much comes out, how long the block is.
	first=$(LC_ALL=C grep -obUaP '\x04\x22\x4d\x18' "$f" | head -n 1 | cut -d: -f1)
	for i in $(seq 40) 0 -1 -2 -3; do
		cp "$f" damaged
		case $i in
		0) at=$((first + 2)) ;;
		-1) at=$((first + 7)) ;;
		-2) at=$((first + 9)) ;;
		-3) at=$((first + 16)) ;;
		*) at=$((first + 19 + (size - first - 3000) * i / 41)) ;;
		esac
		byte=$(od -An -tu1 -j $at -N 1 damaged)
		# shellcheck disable=SC2059
		printf "\\x$(printf %x $((byte ^ 1 << (i + 8) % 8)))" | dd of=damaged bs=1 seek=$at conv=notrunc status=none
		run ./damaged --version
		[ "$status" = 1 ]
		[ "$output" = "fermata: the program's file is damaged: install it anew" ]
	done
	run bash -c "ulimit -v 900; exec '$f' --version"
	[ "$status" = 1 ]
	[ "$output" = "fermata: out of memory" ]
	command -v strace >/dev/null || skip "there is no strace"
	strace -qq -o /dev/null true 2>/dev/null || skip "strace may not trace here"
	run strace -qq -o /dev/null -e trace=mprotect -e inject=mprotect:error=EACCES:when=2 "$f" --version
	[ "$status" = 1 ]
	[[ $output == "fermata: this kernel does not let it make unpacked code executable"* ]]
}

@test "make install, and a program that links the library" {
	make -j2 >/dev/null
	make install DESTDIR="$W/dest" PREFIX=/usr >/dev/null
	"$W/dest/usr/bin/fermata" --version
	[ -f "$W/dest/usr/share/man/man1/fermata.1" ] && [ -f "$W/dest/usr/share/man/man5/fermata.conf.5" ]
	make -s build/example
	mkdir -p root/etc/fermata
	printf 'memory = 64M\n[disk vda]\nfile = a.raw\nformat = raw\n' >root/etc/fermata/one.conf
	: >root/etc/fermata/a.raw
	[ "$(build/example root)" = "one: shut off" ]
	# Against what was installed, with no header but that.
	cc=$(command -v musl-gcc || command -v gcc)
	cp tests/example/example.c "$W/mine.c"
	(cd "$W/dest" && "$cc" -static -I usr/include/fermata -o "$W/mine" "$W/mine.c" usr/lib/libfermata.a)
	[ "$(./mine root)" = "one: shut off" ]
}

@test "a room that includes what is above it is found" {
	make -s check-layers
	echo '#include "engine/fermata.h"' >>qcow2/map.c
	run make -s check-layers
	[ "$status" != 0 ]
	[[ $output == *"qcow2/map.c"* ]]
}

@test "make help names every target that a person would type" {
	make help >help
	for t in $(sed -n 's/^\.PHONY: //p' Makefile); do
		case $t in FORCE|help|all|check-all|fuzz-build|\$*) continue ;; esac
		grep -q "\<$t\>" help || { echo "not in make help: $t"; return 1; }
	done
}

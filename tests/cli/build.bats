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

# hardened PROGRAM UNSTRIPPED: static, no stack or memory that is writable and executable, RELRO, the stack protector.
hardened() {
	run readelf -hlW "$1"
	[ "$status" = 0 ]
	[[ $output != *INTERP* ]]
	[[ $output == *GNU_RELRO* ]]
	grep -qE 'GNU_STACK +.* RW +0x' <<<"$output"
	! grep -E ' RWE ' <<<"$output" || false
	nm "$2" | grep -q ' __stack_chk_fail'
}

@test "hardening: the program that was built, and that of each compiler" {
	command -v readelf >/dev/null || skip "there is no readelf"
	f=${FERMATA_BIN:-$TOP/build/fermata}
	[ ! -f "$f.debug" ] || hardened "$f" "$f.debug"
	for cc in musl-gcc gcc clang; do
		command -v "$cc" >/dev/null || continue
		make tiny_defconfig
		make -j2 O="o-$cc" CC="$cc" >log 2>&1 || { cat log; false; }
		hardened "o-$cc/fermata" "o-$cc/fermata.debug"
		grep -q -e '-fstack-protector-strong' "o-$cc/flags"
		# musl-gcc has no start file for it; what can be is position-independent, bound before it runs, and FORTIFY is on.
		[ "$cc" != musl-gcc ] || continue
		readelf -hW "o-$cc/fermata" | grep -q 'Type: *DYN'
		readelf -dW "o-$cc/fermata" | grep -q 'FLAGS.*NOW'
		nm "o-$cc/fermata.debug" | grep -q ' __[a-z]*printf_chk'
	done
}

@test "hardening: a format that is no literal does not compile" {
	printf '#include <stdio.h>\nvoid say(const char *s);\nvoid say(const char *s)\n{\n\tprintf(s);\n}\n' >>lib/text.c
	run make build/lib/text.o
	[ "$status" != 0 ]
	[[ $output == *format-security* ]]
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

# What a builder does: configure, build with each compiler, install, link the library.

TOP=$(cd "$(dirname "$BATS_TEST_FILENAME")/../.." && pwd)

# A copy of the sources, so that the work tree's are not touched.
copy_to() {
	mkdir -p "$1" && (cd "$TOP" && tar cf - --exclude=./build --exclude=./.git .) | tar xf - -C "$1"
}

# FULL: the default configuration, as the default compiler makes it; what several tests look at or begin with.
setup_file() {
	command -v make >/dev/null || return 0
	unset MAKEFLAGS MAKELEVEL O KCONFIG_CONFIG CC CFLAGS CPPFLAGS LDFLAGS
	export FULL=$BATS_FILE_TMPDIR/full
	copy_to "$BATS_FILE_TMPDIR/src"
	make -C "$BATS_FILE_TMPDIR/src" -j2 O="$FULL" >"$BATS_FILE_TMPDIR/log" 2>&1
}

setup() {
	command -v make >/dev/null || skip "there is no make"
	W=$BATS_TEST_TMPDIR/w
	copy_to "$W"
	cd "$W" || return 1
}

no_warning() {
	run grep -nE 'warning:|WARNING' "$1"
	[ -z "$output" ]
}

# make_as CONFIG: o/ becomes what CONFIG (a target, or a file) makes of it. What is compiled anew is what its options
# are named in, and not, as by make, all.
make_as() {
	local changed x
	[ -d o ] || cp -a "$FULL" o
	cp o/.config o/before
	if [ -f "$1" ]; then
		cp "$1" o/.config
		make -s O=o oldconfig
	else
		make -s O=o "$1"
	fi
	make -s O=o o/autoconf.h
	touch -d 2000-01-01 o/autoconf.h
	changed=$(diff o/before o/.config | sed -n 's/^[<>].*CONFIG_\([A-Z0-9]*\).*/\1/p' | sort -u)
	for x in $changed; do
		grep -rlw --include='*.c' "CONFIG_$x" lib qcow2 monitor kvm engine init | sed 's,\(.*\)\.c,o/\1.o,'
	done | sort -u | xargs -r rm -f
	rm -f o/fermata o/fermata.debug
	make -j2 O=o o/fermata >log 2>&1 || { cat log; return 1; }
	no_warning log
	o/fermata --version >/dev/null
}

@test "configuration: it survives oldconfig and the header, off bits included" {
	make defconfig
	grep -q '^CONFIG_SNAPSHOT=y$' build/.config
	sed -i 's/^CONFIG_XML=y$/# CONFIG_XML is not set/; s,^CONFIG_RUN_DIR=.*,CONFIG_RUN_DIR="/tmp/a run",' build/.config
	cp build/.config before
	make oldconfig
	diff before build/.config
	make -s build/autoconf.h
	grep -q '^#define CONFIG_XML 0$' build/autoconf.h
	grep -q '^#define CONFIG_RUN_DIR "/tmp/a run"$' build/autoconf.h
	# Every symbol of Kconfig is defined, once.
	[ "$(sed -n 's/^config //p' Kconfig | sort)" = "$(sed -n 's/^#define CONFIG_\([A-Z0-9_]*\) .*/\1/p' build/autoconf.h | sort)" ]
	make allnoconfig
	[ "$(grep -c '=y$' build/.config)" = 0 ]
	# What depends on something that is off is off, whatever the file says.
	echo 'CONFIG_XML=y' >>build/.config
	make oldconfig
	grep -q '^# CONFIG_XML is not set$' build/.config
}

@test "configuration: what is outside the subset of Kconfig is refused with its line" {
	printf 'config A\n\tbool "a"\n\tselect B\n' >Kconfig
	run make defconfig
	[ "$status" != 0 ]
	[[ $output == *"Kconfig:3:"* ]]
	printf 'config A\n\tbool "a"\n\tdepends on NOSUCH\n' >Kconfig
	run make defconfig
	[ "$status" != 0 ]
	[[ $output == *"NOSUCH"* ]]
}

@test "configuration: each O= has its own, KCONFIG_CONFIG names another, clean keeps it" {
	make O=one tiny_defconfig
	make O=two defconfig
	make -s O=one one/lib/err.o
	make -s O=two two/lib/err.o
	grep -q '^#define CONFIG_IMG 0$' one/autoconf.h
	grep -q '^#define CONFIG_IMG 1$' two/autoconf.h
	[ ! -e .config ] && [ ! -e build ]
	make -s O=two KCONFIG_CONFIG=one/.config two/autoconf.h
	grep -q '^#define CONFIG_IMG 0$' two/autoconf.h
	make -s O=three KCONFIG_CONFIG=mine tiny_defconfig
	[ -f mine ] && [ ! -e three/.config ]
	make -s O=one clean
	[ "$(ls -A one)" = .config ]
	make -s O=one distclean
	[ ! -e one ]
	run make O=. clean
	[ "$status" != 0 ]
	[ -f Makefile ]
}

@test "a source tree that is only read: nothing is written outside O=" {
	chmod -R a-w .
	find . | sort >"$BATS_TEST_TMPDIR/before"
	out=$BATS_TEST_TMPDIR/out
	make -s O="$out" tiny_defconfig
	make -s O="$out" "$out/lib/err.o" "$out/init/main.o"
	make -s O="$out" help check-layers >/dev/null
	[ -f "$out/init/main.o" ]
	find . | sort | diff "$BATS_TEST_TMPDIR/before" -
	chmod -R u+w .
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

# What is position-independent, bound before it runs, and has FORTIFY. musl-gcc has no start file for the first.
hardened_glibc() {
	readelf -hW "$1/fermata" | grep -q 'Type: *DYN'
	readelf -dW "$1/fermata" | grep -q 'FLAGS.*NOW'
	nm "$1/fermata.debug" | grep -q ' __[a-z]*printf_chk'
}

@test "compilers: each that is here builds it without a warning, and hardened" {
	command -v readelf >/dev/null || skip "there is no readelf"
	no_warning "$BATS_FILE_TMPDIR/log"
	"$FULL/fermata" --version
	hardened "$FULL/fermata" "$FULL/fermata.debug"
	grep -q -e '-fstack-protector-strong' "$FULL/flags"
	for cc in gcc clang; do
		command -v "$cc" >/dev/null || continue
		make -j2 O="o-$cc" CC="$cc" >log 2>&1 || { cat log; false; }
		no_warning log
		"o-$cc/fermata" --version
		hardened "o-$cc/fermata" "o-$cc/fermata.debug"
		hardened_glibc "o-$cc"
	done
}

@test "compilers: CROSS_COMPILE is before every tool, and what is said of each tool holds" {
	make -n V=1 O=o CROSS_COMPILE=some-arch- >log
	for tool in gcc ar strip; do
		grep -q "some-arch-$tool " log
	done
	run grep -E '(^|&& )(gcc|musl-gcc|ar|strip) ' log
	[ -z "$output" ]
	make -n V=1 O=o CC=my-cc AR=my-ar STRIP=my-strip >log
	for tool in my-cc my-ar my-strip; do
		grep -q "$tool " log
	done
}

@test "compilers: a format that is no literal does not compile" {
	printf '#include <stdio.h>\nvoid say(const char *s);\nvoid say(const char *s)\n{\n\tprintf(s);\n}\n' >>lib/text.c
	run make build/lib/text.o
	[ "$status" != 0 ]
	[[ $output == *format-security* ]]
}

@test "packagers: CPPFLAGS, CFLAGS and LDFLAGS of make's command line are added to our own" {
	command -v gcc >/dev/null || skip "there is no gcc"
	make tiny_defconfig
	make -j2 CC=gcc AR=ar CPPFLAGS='-Wdate-time -D_FORTIFY_SOURCE=3 -DPACKAGED' CFLAGS="-g -O2 -ffile-prefix-map=$W=." \
		LDFLAGS='-Wl,-z,relro -Wl,-O1 -Wl,-Map=map' V=1 >log 2>&1 || { cat log; false; }
	no_warning log
	grep -q -e '-DPACKAGED .*lib/err.c' log
	grep -q -e '-O2 .*lib/err.c' log
	run grep -e '-Os' log
	[ -z "$output" ]
	[ -s map ]
	build/fermata --version
	command -v readelf >/dev/null || skip "there is no readelf"
	hardened build/fermata build/fermata.debug
	hardened_glibc build
}

@test "packagers: flags of the environment, no optimization, and a shared libc" {
	command -v gcc >/dev/null || skip "there is no gcc"
	CFLAGS='-O0 -g' CPPFLAGS=-DPACKAGED make -j2 CC=gcc STATIC=n V=1 >log 2>&1 || { cat log; false; }
	no_warning log
	grep -q -e '-DPACKAGED .*-O0 .*lib/err.c' log
	build/fermata --version
	readelf -lW build/fermata | grep -q INTERP
	make >log CFLAGS='-O0 -g' CPPFLAGS=-DPACKAGED CC=gcc STATIC=n
	[ ! -s log ]
}

@test "options: none at all, and each alone switched off, build without a warning" {
	make_as allnoconfig
	o/fermata help | grep -q '^  start '
	make -s O=all defconfig
	for x in $(sed -n 's/^\(CONFIG_[A-Z0-9_]*\)=y$/\1/p' all/.config); do
		echo "without $x"
		sed "s/^$x=y$/# $x is not set/" all/.config >without
		make_as without
		grep -q "^# $x is not set" o/.config
	done
}

@test "sizes: what musl-gcc makes of each configuration" {
	grep -q '^musl-gcc ' "$FULL/flags" || [[ $(cut -d' ' -f1 "$FULL/flags") == */musl-gcc ]] || skip "musl-gcc is not the default here"
	[ "$(uname -m)" = x86_64 ] || skip "measured on x86-64"
	command -v xz >/dev/null || skip "there is no xz"
	at_most() { # at_most KIB KB NAME: as a file, and as what a file system that compresses makes of it
		local file packed
		file=$(stat -c %s o/fermata) packed=$(xz -c o/fermata | wc -c)
		echo "$3: $file bytes, $packed under xz"
		[ "$file" -le $(($1 * 1024)) ]
		[ "$packed" -le $(($2 * 1000)) ]
	}
	make_as defconfig
	at_most 800 330 full
	make -s O=o -o o/autoconf.h -o o/flags size >size
	grep -qE "^fermata  file +$(stat -c %s o/fermata)  xz +$(xz -c o/fermata | wc -c)$" size
	for room in lib qcow2 monitor kvm engine init; do
		grep -qE "^$room +text +[0-9]+ " size
	done
	make_as appliance_defconfig
	at_most 640 300 appliance
	make_as tiny_defconfig
	o/fermata help | grep -q '^  start '
	at_most 430 210 tiny
}

@test "install: a program that links the library" {
	make install O="$FULL" DESTDIR="$W/dest" PREFIX=/usr >/dev/null
	"$W/dest/usr/bin/fermata" --version
	[ -f "$W/dest/usr/share/man/man1/fermata.1" ] && [ -f "$W/dest/usr/share/man/man5/fermata.conf.5" ]
	[ ! -e "$W/dest/etc" ]
	grep -q '^ExecStart=/usr/bin/fermata init' "$W/dest/usr/lib/systemd/system/fermata.service"
	make -s O="$FULL" "$FULL/example"
	mkdir -p root/etc/fermata
	printf 'memory = 64M\n[disk vda]\nfile = a.raw\nformat = raw\n' >root/etc/fermata/one.conf
	: >root/etc/fermata/a.raw
	[ "$("$FULL/example" root)" = "one: shut off" ]
	# Against what was installed, with no header but that.
	cc=$(command -v musl-gcc || command -v gcc)
	cp tests/example/example.c "$W/mine.c"
	command -v pkg-config >/dev/null || skip "there is no pkg-config"
	flags=$(PKG_CONFIG_PATH=$W/dest/usr/lib/pkgconfig pkg-config --define-variable=libdir="$W/dest/usr/lib" \
		--define-variable=includedir="$W/dest/usr/include" --cflags --libs fermata)
	# shellcheck disable=SC2086
	(cd "$W/dest" && "$cc" -static -o "$W/mine" "$W/mine.c" $flags)
	[ "$(./mine root)" = "one: shut off" ]
	[ "$(PKG_CONFIG_PATH=$W/dest/usr/lib/pkgconfig pkg-config --modversion fermata)" = "$("$FULL/fermata" --version | cut -d' ' -f2)" ]
}

@test "library: it exports names of its own only, and its header stands alone, in C and in C++" {
	make install O="$FULL" DESTDIR="$W/dest" PREFIX=/usr >/dev/null
	nm -g --defined-only "$W/dest/usr/lib/libfermata.a" | awk 'NF == 3 { print $3 }' >names
	grep -q '^fermata_vm_open$' names
	run grep -v '^fermata_' names
	[ -z "$output" ]
	# Functions of a program that the library has, too, under these names.
	cat >mine.c <<-'END'
		#include "engine/fermata.h"
		#include <stdio.h>
		#include <string.h>
		int ini_parse(void);
		int claim(void);
		int found(void);
		int err_set(void);
		int ini_parse(void) { return 1; }
		int claim(void) { return 2; }
		int found(void) { return 3; }
		int err_set(void) { return 4; }
		int main(int argc, char **argv)
		{
			struct fermata_disk_size size;
			struct fermata_vm *vm;
			struct fermata *host;
			struct fermata_image *list;
			struct err e = { 0 };
			size_t n;

			if (argc != 2 || fermata_open(argv[1], &host, &e) < 0 || fermata_vm_open(host, "one", FERMATA_READ, "mine", &vm, &e) < 0)
				return 1;
			for (size_t i = 0; i < fermata_vm_disks(vm); i++)
				printf("%s %s %d\n", fermata_vm_disk_name(vm, i), strrchr(fermata_vm_disk_file(vm, i), '/'), fermata_vm_disk_raw(vm, i));
			n = fermata_vm_disks(vm);
			printf("%d %d %d\n", fermata_vm_disk_name(vm, n) || fermata_vm_disk_file(vm, n) || fermata_vm_disk_raw(vm, n),
				fermata_vm_disk_size(vm, n, &size, &e) == -22, fermata_images(vm, (size_t)-1, &list, &n, &e) == -22);
			fermata_vm_close(vm);
			fermata_close(host);
			printf("%d %s\n", ini_parse() + claim() + found() + err_set(), fermata_version());
			return 0;
		}
	END
	mkdir -p root/etc/fermata
	printf 'memory = 64M\n[disk vda]\nfile = a.raw\nformat = raw\n[disk vdb]\nfile = b.qcow2\nformat = qcow2\n' >root/etc/fermata/one.conf
	cc=$(command -v musl-gcc || command -v gcc)
	"$cc" -static -Wall -Wextra -Werror -I dest/usr/include/fermata -o mine mine.c dest/usr/lib/libfermata.a
	version=$("$FULL/fermata" --version | cut -d' ' -f2)
	diff <(./mine root) <(printf 'vda /a.raw 1\nvdb /b.qcow2 0\n0 1 1\n10 %s\n' "$version")
	command -v g++ >/dev/null || skip "there is no g++"
	printf '#include "engine/fermata.h"\nint main() { return !fermata_version()[0]; }\n' >mine.cc
	g++ -Wall -Wextra -Werror -fsyntax-only -I dest/usr/include/fermata mine.cc
	make -j2 O=o CC=gcc CFLAGS=-O0 o/libfermata.a >log
	g++ -Wall -Wextra -Werror -I dest/usr/include/fermata -o other mine.cc o/libfermata.a
}

@test "install: every folder is the packager's" {
	cp -a "$FULL" o
	make O=o -o o/flags -o o/autoconf.h install DESTDIR="$W/dest" PREFIX=/opt/f BINDIR=/opt/bin LIBDIR=/opt/lib64 MANDIR=/opt/man \
		INCLUDEDIR=/opt/inc DATADIR=/opt/data UNITDIR=/opt/units SYSCONFDIR=/opt/etc >/dev/null
	cd dest/opt
	[ -x bin/fermata ] && [ -f lib64/libfermata.a ] && [ -f man/man8/fermata-init.8 ] && [ -f inc/fermata/engine/fermata.h ]
	[ -f data/fermata.openrc ] && [ -d etc/fermata ] && [ ! -e f ]
	grep -q '^ExecStart=/opt/bin/fermata init' units/fermata.service
	grep -q '^libdir=/opt/lib64$' lib64/pkgconfig/fermata.pc
	grep -q '/opt/etc/fermata/NAME.conf' man/man5/fermata.conf.5
	run grep -rIE '@[A-Z]+@' .
	[ -z "$output" ]
	# And the program reads its definitions there.
	cd "$W"
	make -s O=p SYSCONFDIR=/opt/etc p/autoconf.h
	grep -q '^#define CONFIG_CONF_DIR "/opt/etc/fermata"$' p/autoconf.h
	make -s O=p p/autoconf.h
	grep -q '^#define CONFIG_CONF_DIR "/etc/fermata"$' p/autoconf.h
}

@test "layers: a room that includes what is above it is found" {
	make -s check-layers
	echo '#include "engine/fermata.h"' >>qcow2/map.c
	run make -s check-layers
	[ "$status" != 0 ]
	[[ $output == *"qcow2/map.c"* ]]
}

@test "layers: a call that runs up, and files that call each other in a circle, are found" {
	mkdir -p o/lib o/kvm
	object() { echo "int $2(void); int $1(void); int $1(void) { return $2(); }" | gcc -x c -c - -o "o/$3.o"; }
	object one two lib/buf
	object two three lib/text
	tests/layers.pl o
	object two one lib/text
	run tests/layers.pl o
	[ "$status" != 0 ]
	[[ $output == *"a circle of 2 files: lib/buf.c lib/text.c"* ]]
	object two three lib/text
	object three four kvm/kvm
	run tests/layers.pl o
	[ "$status" != 0 ]
	[[ $output == *"lib/text.c: calls three() of kvm/kvm.c, which is above it"* ]]
}

@test "make help names every target that a person would type" {
	make help >help
	for t in $(sed -n 's/^\.PHONY: //p' Makefile tests/tests.mk); do
		case $t in FORCE|help|all|check-all|check-fuzz|fuzz-build|\$*) continue ;; esac
		grep -q "\<$t\>" help || { echo "not in make help: $t"; return 1; }
	done
}

@test "manual: groff shows each command as it is typed" {
	command -v groff >/dev/null || skip "there is no groff"
	show() { groff -mandoc -Tascii -P-c "$1" | sed 's/.\x08//g'; }
	for page in docs/*.[158]; do
		show "$page" 2>err | awk '/^NAME/ { s = 1; next } /^[A-Z]/ { s = 0 } s && NF { print; exit }' >name
		[ ! -s err ]
		name=${page##*/}
		grep -qE "^ +${name%.*} -+ " name
	done
	for command in img init; do
		show docs/fermata-$command.* | awk '/^SYNOPSIS/ { s = 1; next } /^[A-Z]/ { s = 0 } s && NF { print; exit }' >synopsis
		grep -qE "^ +fermata $command " synopsis
	done
}

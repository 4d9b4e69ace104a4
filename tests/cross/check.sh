#!/bin/bash
# make check-cross: fermata for other processors, by Debian's cross compilers (apt: gcc-aarch64-linux-gnu and so on, with
# libc6-dev-arm64-cross and so on; qemu-user). For each: it builds without a warning, is static, and under qemu-user makes the
# same images, byte for byte, and says the same as the native one (images.sh); the image tests of tests/cli pass with it. Where
# cmocka is there for it (libcmocka-dev:s390x and so on), the unit tests run too.
#
#	tests/cross/check.sh [ARCH...]		arm64 armhf i386 mips64el ppc64el riscv64 s390x; default: all
#	QUICK=1					not the tests of tests/cli
#
# Counts as tests/run does; what is not there is skipped, and named. Everything is in $O/cross/ARCH.
set -u
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
# shellcheck disable=SC2046,SC2086,SC2016,SC2048 # lists of words, to be split
# These must not find their way into the other builds; nor may what the make that calls us was given.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES CC AR CFLAGS CPPFLAGS LDFLAGS
passed=0 failed=0 skipped=0

ok() {
	echo "ok $((passed + failed + skipped + 1)) - cross: $arch: $1"
	passed=$((passed + 1))
}
bad() {
	echo "not ok $((passed + failed + skipped + 1)) - cross: $arch: $1"
	sed 's/^/# /' | tail -n 20
	failed=$((failed + 1))
}
skip() {
	echo "ok $((passed + failed + skipped + 1)) - cross: $arch: $1 # skip $2"
	skipped=$((skipped + 1))
}

# compiler and qemu-user of $arch
names() {
	case $arch in
	arm64) triplet=aarch64-linux-gnu user=qemu-aarch64 ;;
	armhf) triplet=arm-linux-gnueabihf user=qemu-arm ;;
	i386) triplet=i686-linux-gnu user=qemu-i386 ;;
	mips64el) triplet=mips64el-linux-gnuabi64 user=qemu-mips64el ;;
	ppc64el) triplet=powerpc64le-linux-gnu user=qemu-ppc64le ;;
	riscv64) triplet=riscv64-linux-gnu user=qemu-riscv64 ;;
	s390x) triplet=s390x-linux-gnu user=qemu-s390x ;;
	*) echo "check-cross: what is '$arch'?" >&2; exit 2 ;;
	esac
	user=$(command -v $user || command -v $user-static) || user=
}

build() {
	local log=$dir/log
	make O="$dir" CROSS_COMPILE="$triplet-" all >"$log" 2>&1 || { bad "it builds" <"$log"; return 1; }
	if grep -q 'warning:' "$log"; then
		grep 'warning:' "$log" | bad "it builds without warnings"
	else
		ok "it builds without warnings"
	fi
	if "${triplet}-readelf" -dl "$dir/fermata" | grep -E 'NEEDED|INTERP' >"$log"; then
		bad "it is static" <"$log"
	else
		ok "it is static"
	fi
}

# It is called by this name or by qemu-img's, as the native one.
wrap() {
	printf '#!/bin/sh\nexec %s -0 "$0" %s/fermata "$@"\n' "$user" "$dir" >"$dir/run"
	chmod +x "$dir/run"
}

images() {
	rm -rf "$dir/images"
	mkdir -p "$dir/images"
	(cd "$dir/images" && "$here/images.sh" "$dir/run" >"$dir/said" 2>&1)
	if { diff "$native/said" "$dir/said" && diff -r "$native/images" "$dir/images"; } >"$dir/diff" 2>&1; then
		ok "its images are the native one's, byte for byte"
	else
		bad "its images are the native one's, byte for byte" <"$dir/diff"
	fi
	rm -rf "$dir/images"
}

# tally FILE: count what prove's kind of output in it says
tally() {
	local line name
	while IFS= read -r line; do
		name=${line#*ok }
		name=${name#* }
		name=${name#- }
		case $line in
		"ok "*"# skip"* | "ok "*"# SKIP"* | "not ok "*"# SKIP"*) skipped=$((skipped + 1)) ;;
		"ok "*) passed=$((passed + 1)) ;;
		"not ok "*) bad "$name" </dev/null ;;
		esac
	done <"$1"
}

cli() {
	# As whom others see it: qemu-user
	FERMATA_COMM=$(basename "$user") FERMATA_BIN=$dir/run timeout 3600 bats --tap tests/cli/img_*.bats >"$dir/cli" 2>&1
	grep -q '^1\.\.' "$dir/cli" || bad "the image tests run" <"$dir/cli"
	tally "$dir/cli"
}

# Without the sanitizers, which qemu-user is no place for.
unit() {
	local test programs flags=() status
	echo 'int main(void){return 0;}' >"$dir/try.c"
	for test in "" -static; do
		"$triplet-gcc" $test -o "$dir/try" "$dir/try.c" -lcmocka 2>/dev/null && flags=(TEST_CC="$triplet-gcc $test" SAN=)
	done
	[ ${#flags[@]} -gt 0 ] || { skip "the unit tests" "there is no libcmocka-dev:$arch"; return; }
	programs=$(printf "$dir/test/unit/%s " $(basename -s .c tests/unit/*.c))
	make O="$dir" CROSS_COMPILE="$triplet-" "${flags[@]}" $programs >"$dir/log" 2>&1 || { bad "the unit tests build" <"$dir/log"; return; }
	for test in $programs; do
		CMOCKA_MESSAGE_OUTPUT=TAP timeout 600 "$user" -L "/usr/$triplet" "$test" >"$test.tap" 2>&1
		status=$?
		tally "$test.tap"
		[ $status = 0 ] || grep -q '^not ok' "$test.tap" || bad "$(basename "$test"): status $status" <"$test.tap"
	done
}

here=$PWD/tests/cross
native=$O/cross/native
rm -rf "$native"
mkdir -p "$native/images"
(cd "$native/images" && "$here/images.sh" "$O/fermata" >"$native/said" 2>&1)
for arch in ${*:-arm64 armhf i386 mips64el ppc64el riscv64 s390x}; do
	names
	dir=$O/cross/$arch
	command -v $triplet-gcc >/dev/null || { skip "all" "there is no $triplet-gcc"; continue; }
	mkdir -p "$dir"
	build || continue
	[ -n "$user" ] || { skip "what runs" "there is no qemu-user for it"; continue; }
	wrap
	images
	[ -n "${QUICK-}" ] || { cli; unit; }
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]

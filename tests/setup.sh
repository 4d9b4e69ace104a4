#!/bin/sh
# Installs what the build, the tests and the demo need. Does nothing, quickly, when all of it is there.
#
#   tests/setup.sh          install what is missing (root), or print the one command that would
#   tests/setup.sh --check  say what is missing; exit 1 if anything is
#
# Not root and something missing: prints the command and exits 0, for the tests skip what they cannot run.
# $packages and $missing are lists of words, to be split.
# shellcheck disable=SC2086
set -eu

# What is wanted, by use: build; build of the tests; QEMU and images; the guests; looking into programs.
packages="
	make gcc libc6-dev linux-libc-dev binutils musl-tools pkgconf groff-base g++
	clang libcmocka-dev bats perl
	qemu-system-x86 qemu-utils seabios
	qemu-guest-agent busybox-static linux-image-cloud-amd64 cpio e2fsprogs kmod xz-utils
	strace valgrind procps util-linux debootstrap
"

if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "setup: not a Debian system; the tests want:" $packages >&2
	exit 0
fi

# One query for all: a package that dpkg has never heard of has no line at all.
have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^installed //p')
missing=
for p in $packages; do
	case "
$have
" in
	*"
$p
"*) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "${1-}" = --check ]; then
	echo "missing:$missing"
	exit 1
fi
command="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -ne 0 ]; then
	echo "setup: missing:$missing" >&2
	echo "setup: as root, run: apt-get update && $command" >&2
	exit 0
fi

echo "setup: installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# An installer's chatter is of interest only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
	"$@" >>"$log" 2>&1 </dev/null
}
# The lists may be there and fresh (an image), or absent (most containers), or too old for a file they name.
if ! run $command && ! { run apt-get update && run $command; }; then
	tail -n 20 "$log" >&2
	echo "setup: could not install:$missing" >&2
	exit 1
fi
echo "setup: done"

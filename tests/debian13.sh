#!/bin/bash
# make check-debian13: `make demo` and the quick half of the tests, or what CHECK names, where everything is of Debian 13:
# compilers, libc, QEMU. In a chroot that is made once and kept in a folder of the user's cache, or of $O.
#
# CHECK=demo: the demo alone. The last line counts as tests/run does; so does $O/tap/count.debian13. Where no chroot can be made, why is said, and
# one is skipped.
set -u
cd "$(dirname "$0")/.." || exit 1
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
check=${CHECK:-check-quick}
home=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
cache=${home:-$O}/fermata
root=$cache/debian13
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$O/tap"

count() { # count PASSED FAILED SKIPPED
	echo "$1 passed, $2 failed, $3 skipped" | tee "$O/tap/count.debian13"
	exit $(($2 > 0))
}
skip() {
	echo "debian13: skipped: $*"
	count 0 0 1
}

# ---- the chroot
[ "$(id -u)" = 0 ] || skip "only root can make a chroot"
command -v debootstrap >/dev/null || skip "there is no debootstrap"
unshare -m -p -f true 2>/dev/null || skip "no mount namespace can be made"
mkdir -p "$cache" 2>/dev/null || skip "cannot create $cache"
exec 9>"$cache/debian13.lock"
flock -w 3600 9 || skip "another one works in $root"

if [ ! -d "$root" ]; then
	# Packages come from where this host has them from, by the same way.
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | head -n 1)
	eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
	[ -z "${proxy-}" ] || export http_proxy="$proxy"
	rm -rf "$root.new"
	echo "debian13: making $root"
	# shellcheck disable=SC2086
	if ! debootstrap --variant=minbase --include=make trixie "$root.new" ${mirror:+"$mirror"} >"$O/tap/debootstrap" 2>&1; then
		tail -n 5 "$O/tap/debootstrap"
		rm -rf "$root.new"
		skip "debootstrap cannot make it"
	fi
	apt-config dump 2>/dev/null | grep -E '^Acquire::((http|https)::Proxy|Check-)' >"$root.new/etc/apt/apt.conf.d/90host"
	mv "$root.new" "$root"
fi
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null

# ---- the sources as they are here, not what was built of them
rm -rf "$root/root/fermata"
mkdir -p "$root/root/fermata"
tar cf - --exclude=./build --exclude=./.git --exclude="./${O#"$PWD/"}" . | tar xf - -C "$root/root/fermata"

# What is mounted and what is started there ends with it.
inside() {
	# shellcheck disable=SC2016
	unshare -m -p -f --kill-child --propagation private bash -c '
		root=$1
		shift
		mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t sysfs sysfs "$root/sys" &&
		mount -t tmpfs tmpfs "$root/run" && mount -t tmpfs tmpfs "$root/tmp" || exit 1
		exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			TERM=dumb make -C /root/fermata --no-print-directory "$@"' bash "$root" "$@" 9>&-
}

passed=0 failed=0 skipped=0
if inside demo; then
	passed=1
else
	echo "debian13: not ok: make demo"
	failed=1
fi
[ "$check" != demo ] || count $passed $failed 0
inside "$check" "-j$(nproc)"
if read -r p _ f _ s _ <"$root/root/fermata/build/tap/count"; then
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
else
	echo "debian13: not ok: make $check"
	failed=$((failed + 1))
fi
count $passed $failed $skipped

# The appliance: a host whose first process is fermata comes up with its guest at the golden checkpoint, and powers off.
load helper

@test "the appliance boots its guest from the golden checkpoint, and the power button ends it" {
	# A script that starts another one (make check-qemu) is nothing that could be put into it.
	head -c 4 "$(command -v qemu-system-x86_64)" | grep -q ELF || skip "the QEMU here is no program of its own"
	# As make does: a path from where one is.
	cd "$BATS_TEST_TMPDIR"
	status=0
	reason=$("$TOP/tests/appliance/mk.sh" appliance 2>&1) || status=$?
	[ "$status" != 77 ] || skip "${reason#mk.sh: }"
	[ "$status" = 0 ] || { echo "$reason"; return 1; }
	"$TOP/tests/appliance/check.sh" appliance 0
}

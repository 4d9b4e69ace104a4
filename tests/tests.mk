# What tests, fuzzes and measures fermata; included by the Makefile.

# Everything is built a second time with the sanitizers, by the host's compiler, against cmocka.
TEST_CC ?= gcc
SAN ?= -fsanitize=address,undefined -fno-sanitize-recover=all
test_flags = $(defs) -std=gnu11 $(warn) -g -O1 -fno-omit-frame-pointer $(SAN) -MMD -MP
test_lib := $(patsubst %.o,$(O)/test/%.o,$(lib-y))
harness := $(patsubst %.c,$(O)/test/%.o,$(wildcard tests/harness/*.c))
# Allocations of a test go through tests/harness/allocfail.c, which refuses one when it is told to.
wrap := $(foreach f,malloc calloc realloc strdup strndup,-Wl,--wrap=$(f))
# Where a kernel moves programs by 32 bits, one in some lands in the sanitizer's own memory, and crashes before main().
still := -no-pie
unit_tests := $(patsubst tests/unit/%.c,$(O)/test/unit/%,$(wildcard tests/unit/*.c))

$(O)/test/%.o: %.c $(O)/autoconf.h
	@mkdir -p $(@D)
	$(call say,CC,$< (test)) $(TEST_CC) $(test_flags) -c -o $@ $<

$(O)/test/libfermata.a: $(test_lib)
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^

$(O)/test/unit/%: $(O)/test/tests/unit/%.o $(harness) $(O)/test/libfermata.a
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(TEST_CC) $(SAN) $(still) $(wrap) -o $@ $< $(harness) $(O)/test/libfermata.a -lcmocka

check-unit: $(unit_tests)
	$(Q)prove -e '' $(foreach t,$(unit_tests),$(t))
$(unit_tests): export CMOCKA_MESSAGE_OUTPUT := TAP
check-unit: export CMOCKA_MESSAGE_OUTPUT := TAP

# ---- fuzzing: tests/fuzz/fuzz_NAME.c is built twice: replaying its corpus (tests/fuzz/corpus/NAME) as a test, and with
# libFuzzer by `make fuzz-build`, to be run as build/fuzz/fuzz_NAME CORPUS.
fuzz_names := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz_replays := $(addprefix $(O)/test/fuzz/,$(fuzz_names))
fuzz_objs := $(addprefix $(O)/fuzz/obj/,$(lib-y) $(patsubst %.c,%.o,$(wildcard tests/harness/*.c)))
FUZZ_CC ?= clang

$(O)/test/fuzz/fuzz_%: $(O)/test/tests/fuzz/fuzz_%.o $(O)/test/tests/fuzz/replay.o $(harness) $(O)/test/libfermata.a
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(TEST_CC) $(SAN) $(still) $(wrap) -o $@ $^ -lcmocka

# Writes the qcow2 fuzzers' corpus anew: build/test/fuzz/corpus tests/fuzz/corpus/qcow2
$(O)/test/fuzz/corpus: $(O)/test/tests/fuzz/corpus.o $(harness) $(O)/test/libfermata.a
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(TEST_CC) $(SAN) $(still) $(wrap) -o $@ $^ -lcmocka

# What only judges is no ground to explore.
$(O)/fuzz/obj/tests/harness/%.o: tests/harness/%.c $(O)/autoconf.h
	@mkdir -p $(@D)
	$(call say,CC,$< (fuzz)) $(FUZZ_CC) $(test_flags) -O2 -c -o $@ $<

$(O)/fuzz/obj/%.o: %.c $(O)/autoconf.h
	@mkdir -p $(@D)
	$(call say,CC,$< (fuzz)) $(FUZZ_CC) $(test_flags) -O2 -fsanitize=fuzzer-no-link -c -o $@ $<

$(O)/fuzz/fuzz_%: $(O)/fuzz/obj/tests/fuzz/fuzz_%.o $(fuzz_objs)
	$(call say,LINK,$@) $(FUZZ_CC) $(SAN) -fsanitize=fuzzer $(wrap) -o $@ $^ -lcmocka

fuzz-build: $(addprefix $(O)/fuzz/,$(fuzz_names))

# Each for FUZZ_RUNS inputs, of at most a second (tests/fuzz/qcow2.h) and 64 MiB (beside what the fuzzer itself takes: some
# 60). What is found on the way stays in build/fuzz/corpus, and is where the next time starts.
FUZZ_RUNS ?= 100000
fuzz: fuzz-build
	$(Q)for f in $(fuzz_names); do d=$${f#fuzz_}; own=$(O)/fuzz/corpus/$$d; log=$(O)/fuzz/$$f.log; mkdir -p $$own; \
	ASAN_OPTIONS=quarantine_size_mb=1 $(O)/fuzz/$$f -runs=$(FUZZ_RUNS) -timeout=9 -rss_limit_mb=128 -malloc_limit_mb=64 \
		-max_len=70000 -artifact_prefix=$(O)/fuzz/ -print_final_stats=1 $$own tests/fuzz/corpus/$${d%%_*} > $$log 2>&1 || \
		{ tail -n 30 $$log; exit 1; }; \
	awk -v f=$$f '/^stat::/ { s[$$1] = $$2 } END { printf "%-20s %d inputs, slowest %d s, at most %d MiB\n", f, \
		s["stat::number_of_executed_units:"], s["stat::slowest_unit_time_sec:"], s["stat::peak_rss_mb:"] }' $$log; done
check-fuzz: $(fuzz_replays)
	$(Q)$(run_tests) $(fuzz_replays)

# The long form of what `make check` samples: every crash state asked of qemu-img too, thousands of random images, every
# system call a place to be killed, two hundred snapshots in a chain, checkpoints of 3 GiB in use, eight supervised VMs
# crashing for five minutes.
soak: all $(filter %/test_check %/test_diff %/test_twin,$(unit_tests)) $(filter %/test_crash_snap %/test_crash_edit \
	%/test_crash_resize %/test_crash_bitmap %/test_crash_repair,$(unit_tests))
	$(Q)for t in $(filter $(O)/test/%,$^); do echo "$$t"; FERMATA_SOAK=1 CMOCKA_MESSAGE_OUTPUT=STDOUT $$t || exit 1; done
	$(Q)FERMATA_SOAK=1 O=$(abspath $(O)) bats $(addprefix tests/system/,every.bats atomic.bats \
		deep.bats powercut.bats mix_random.bats live_random.bats cut.bats jobkill.bats every_off.bats)
	$(Q)FERMATA_SOAK=1 O=$(abspath $(O)) bats -f 'the long form|a call that fails, on the way' tests/system/instant.bats tests/system/live.bats
	$(Q)O=$(abspath $(O)) tests/system/soak.sh 300

# A bootable initramfs whose first process is fermata, and a state disk with a golden checkpoint: build/appliance. Then:
# boots, twenty power cuts, a spoiled checkpoint.
appliance: all
	$(Q)O='$(abspath $(O))' tests/appliance/mk.sh $(O)/appliance
check-appliance: appliance
	$(Q)tests/appliance/check.sh $(O)/appliance 20

# Everything: what is missing gets installed, then a second make looks at the tools afresh. check-vm: real guests only.
system_tests := $(wildcard tests/cli/*.bats) $(wildcard tests/system/*.bats)
run_tests = O=$(abspath $(O)) tests/run
check:
	$(Q)tests/setup.sh
	$(Q)$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc)) check-all
check-all: all check-calls $(unit_tests) $(fuzz_replays)
	$(Q)$(run_tests) $(unit_tests) $(fuzz_replays) $(system_tests)
# What needs no guest.
check-quick: all check-calls $(unit_tests) $(fuzz_replays)
	$(Q)$(run_tests) $(unit_tests) $(fuzz_replays) $(filter tests/cli/%,$(system_tests))
# make demo and check-quick in a chroot with Debian 13; CHECK=check-all: all.
check-debian13:
	$(Q)O='$(O)' CHECK='$(or $(CHECK),check-quick)' tests/debian13.sh
check-vm: all
	$(Q)$(run_tests) $(filter tests/system/%,$(system_tests))
# The same on another QEMU: make check-qemu QEMU=/path/to/qemu-system-x86_64 (or a script that starts it)
check-qemu: all
	$(Q)[ -x '$(QEMU)' ] || { echo "check-qemu: QEMU='$(QEMU)' is no program: say QEMU=/path" >&2; exit 2; }
	$(Q)mkdir -p $(O)/qemu && ln -sf '$(abspath $(QEMU))' $(O)/qemu/qemu-system-x86_64
	$(Q)PATH="$(abspath $(O))/qemu:$$PATH" $(run_tests) $(filter tests/system/%,$(system_tests))

# For other processors, by Debian's cross compilers, under qemu-user: make check-cross ARCH="s390x i386"; QUICK=1: the images alone
check-cross: all
	$(Q)O='$(abspath $(O))' QUICK='$(QUICK)' tests/cross/check.sh $(ARCH)

# Calls go down only, and no files call each other in a circle: by the includes, and by the symbols of what has been built.
check-layers:
	$(Q)tests/layers.pl
check-calls: all
	$(Q)NM='$(NM)' tests/layers.pl '$(O)'

demo:
	$(Q)tests/setup.sh
	$(Q)$(MAKE) --no-print-directory all
	$(Q)O='$(O)' tests/demo.sh

bench: all
	$(Q)for b in tests/bench/*.sh; do echo "== $$b"; O='$(O)' $$b || exit 1; done

.PHONY: check check-all check-unit check-fuzz check-quick check-debian13 check-vm check-qemu check-cross check-layers check-calls check-appliance
.PHONY: appliance soak fuzz fuzz-build demo bench

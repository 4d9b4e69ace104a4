# fermata: one Makefile, no recursion. `make help` lists the targets.
O ?= build
V ?= 0
PREFIX ?= /usr/local
DESTDIR ?=
CROSS_COMPILE ?=
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)';)

VERSION := 0.1.0

# ---- configuration: Kconfig read by awk alone ------------------------------------------------------------
# Subset: mainmenu, menu/endmenu, comment, config, bool/int/hex/string "prompt", default, depends on with && || !
# and no parentheses, help last; entries start in column 0; a symbol is defined above its first use.
define KCONF
function die(m) { print "Kconfig:" FNR ": " m > "/dev/stderr"; bad = 1; exit 1 }
function met(e,  n, m, i, j, a, b, t, neg, ok) {
	n = split(e, a, /\|\|/)
	for (i = 1; i <= n; i++) {
		ok = 1; m = split(a[i], b, /&&/)
		for (j = 1; j <= m; j++) {
			t = b[j]; gsub(/[ \t]/, "", t); neg = sub(/^!/, "", t)
			if (!(t in val)) die("'" t "' is not defined above")
			if ((val[t] == "y") == neg) ok = 0
		}
		if (ok) return 1
	}
	return 0
}
function emit(  v) {
	if (name == "") return
	v = (name in have) ? have[name] : (none && type == "bool") ? "n" : def
	if (dep != "" && !met(dep)) v = (type == "bool") ? "n" : def
	val[name] = v
	if (out == "header") print "#define CONFIG_" name " " (type == "bool" ? v == "y" : v)
	else if (type == "bool" && v != "y") print "# CONFIG_" name " is not set"
	else print "CONFIG_" name "=" v
	name = dep = ""
}
BEGIN {
	while (old != "" && (getline line < old) > 0)
		if (match(line, /^CONFIG_[A-Z0-9_]+=/)) have[substr(line, 8, RLENGTH - 8)] = substr(line, RLENGTH + 1)
		else if (line ~ /^# CONFIG_[A-Z0-9_]+ is not set$$/) { split(line, w, " "); have[substr(w[2], 8)] = "n" }
}
/^[^ \t]/ { help = 0 }
help || /^[ \t]*(#|$$)/ { next }
$$1 == "config" { emit(); name = $$2; type = ""; def = ""; if (name in val) die("'" name "' defined twice"); next }
$$1 == "bool" || $$1 == "int" || $$1 == "hex" || $$1 == "string" { type = $$1; if (type == "bool") def = "n"; next }
$$1 == "default" { def = $$0; sub(/^[ \t]*default[ \t]+/, "", def); next }
$$1 == "depends" { dep = $$0; sub(/^[ \t]*depends[ \t]+on[ \t]+/, "", dep); next }
$$1 == "help" { help = 1; next }
/^(mainmenu|menu|endmenu|comment)/ { emit(); next }
{ die("'" $$1 "' is outside the subset we accept") }
END { if (!bad) emit() }
endef
export KCONF
# $(1): the old configuration, or nothing; $(2): "config" or "header"; $(3): 1 turns every bool off that is not set
kconf = awk -v old='$(1)' -v out='$(2)' -v none='$(3)' "$$KCONF" Kconfig

named_configs := $(notdir $(wildcard configs/*_defconfig))
setup := defconfig allnoconfig oldconfig menuconfig clean help check-layers $(named_configs)
ifeq ($(MAKECMDGOALS),)
building := y
else
building := $(filter-out $(setup),$(MAKECMDGOALS))
endif
ifneq ($(building),)
include $(O)/config.mk
endif

# ---- toolchain ------------------------------------------------------------------------------------------
ifneq ($(building),)
ifeq ($(origin CC),default)
CC := $(if $(CROSS_COMPILE),$(CROSS_COMPILE)gcc,$(shell command -v musl-gcc >/dev/null 2>&1 && echo musl-gcc || echo gcc))
endif
AR := $(CROSS_COMPILE)ar
STRIP := $(CROSS_COMPILE)strip
SIZE := $(CROSS_COMPILE)size

CFLAGS ?= -Os -g

# Whether the compiler takes (and links with) the flags $(1).
try = $(shell echo 'int main(void){return 0;}' | $(CC) $(1) -x c - -o /dev/null >/dev/null 2>&1 && echo y)
# Debian's musl-gcc is a specs file around gcc: it hides the kernel's headers, and takes -static-pie for a dynamic program.
musl_specs := $(shell $(CC) -v 2>&1 | grep '^Reading specs from .*/musl-gcc.specs$$')
ifneq ($(musl_specs),)
sysinc := -idirafter /usr/include -idirafter /usr/include/$(shell $(CC) -print-multiarch 2>/dev/null)
link_static := -static
else
link_static := $(if $(call try,-static-pie -fPIE),-static-pie,-static)
endif
pie := $(if $(filter -static-pie,$(link_static)),-fPIE)
endif

WARN := -Wall -Wextra -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Werror=format-security
CPPFLAGS += -I. -include $(O)/autoconf.h -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFERMATA_VERSION='"$(VERSION)"'
# FORTIFY is glibc's; musl ignores it.
hard := -fstack-protector-strong -fno-strict-overflow -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
sections := -ffunction-sections -fdata-sections
ldhard := -Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack

compile = $(CC) $(CPPFLAGS) $(sysinc) -std=gnu11 $(WARN) $(CFLAGS) $(hard) $(sections) $(pie) -MMD -MP

# ---- the house: what each room is made of ----------------------------------------------------------------
# lib: what every room may use
lib-y += lib/err.o lib/buf.o lib/clock.o
lib-y += lib/dev.o lib/dev_file.o lib/file.o lib/lock.o lib/text.o lib/table.o lib/say.o
lib-y += lib/json.o lib/ini.o

# qcow2: images, as files
lib-y += qcow2/open.o qcow2/header.o qcow2/lock.o qcow2/snap_table.o qcow2/l2.o qcow2/refs.o qcow2/txn.o
lib-y += qcow2/tree.o qcow2/snap.o qcow2/map.o qcow2/create.o qcow2/head.o qcow2/amend.o qcow2/bitmap.o qcow2/bitmap_merge.o qcow2/resize.o
lib-y += qcow2/vmstate.o qcow2/space.o
lib-y += qcow2/image.o qcow2/inflate.o qcow2/raw.o qcow2/fill.o
lib-y += qcow2/writer.o qcow2/chain.o
lib-y += qcow2/check.o qcow2/check_l2.o qcow2/check_refs.o qcow2/check_bitmap.o qcow2/cells.o qcow2/finding.o
lib-y += qcow2/repair.o

# monitor: QMP, HMP, guest agent
lib-y += monitor/chan.o monitor/msg.o monitor/connect.o monitor/qmp.o monitor/event.o monitor/job.o
lib-y += monitor/schema.o monitor/hmp.o monitor/agent.o monitor/agent_watch.o

# kvm: one QEMU process
lib-y += kvm/def.o kvm/def_args.o kvm/argv.o kvm/argv_disk.o kvm/caps.o kvm/probe.o kvm/host.o kvm/cpu.o
lib-y += kvm/spawn.o kvm/env.o kvm/user.o kvm/last_words.o kvm/run_dir.o kvm/alive.o kvm/kvm.o kvm/end.o kvm/memory.o kvm/guard.o kvm/child.o
lib-$(CONFIG_INSPECT) += kvm/host_check.o

# engine: whole operations
lib-y += engine/host.o engine/vm.o engine/definition.o engine/record.o engine/snap.o engine/chain.o engine/disks.o engine/life.o
lib-y += engine/savevm.o engine/native.o engine/nvram.o engine/adopt.o engine/after.o engine/catalogue.o engine/recover.o
lib-y += engine/create.o engine/remove.o engine/revert.o engine/overlay.o engine/diskshot.o engine/verify.o engine/revert_ext.o engine/remove_ext.o
lib-y += engine/block_start.o engine/blockjob.o engine/block_off.o engine/images.o engine/output.o
lib-$(CONFIG_BOOT) += engine/boot.o
lib-$(CONFIG_MEMORY) += engine/memfile.o engine/memory.o engine/save.o engine/checkpoint.o engine/live.o engine/ram.o engine/instant.o engine/handover.o engine/standby.o
lib-$(CONFIG_MEMORY) += engine/stream.o engine/bake.o
lib-$(CONFIG_EXPORT) += engine/archive.o engine/export.o engine/import.o

# init: the program
init-y += init/main.o init/cmd.o init/table.o init/vm.o init/cmd_life.o
init-y += init/cmd_snapshot.o init/spec.o init/cmd_snapshot_list.o init/cmd_xml.o init/cmd_completion.o
init-y += init/cmd_inspect.o init/cmd_monitor.o init/cmd_host.o init/cmd_block.o init/cmd_chain.o
init-$(CONFIG_BOOT) += init/cmd_boot.o
init-$(CONFIG_INIT) += init/cmd_init.o init/guest.o init/log.o init/pid1.o
init-$(CONFIG_MEMORY) += init/cmd_memory.o
init-$(CONFIG_EXPORT) += init/cmd_export.o
# fermata img
init-$(CONFIG_IMG) += init/img.o init/img_util.o init/img_opts.o init/img_info.o init/img_create.o init/img_snapshot.o
init-$(CONFIG_IMG) += init/img_resize.o init/img_amend.o init/img_rebase.o init/img_bitmap.o init/img_measure.o init/img_map.o
init-$(CONFIG_IMG) += init/img_compare.o init/img_check.o init/img_convert.o init/img_commit.o

rooms := lib qcow2 monitor kvm engine init
lib_objs := $(addprefix $(O)/,$(lib-y))
init_objs := $(addprefix $(O)/,$(init-y))

all: $(O)/fermata $(O)/libfermata.a

$(O)/libfermata.a: $(lib_objs)
	$(call say,AR,$@) rm -f $@ && $(AR) rcs $@ $^

$(O)/fermata.debug: $(init_objs) $(lib_objs)
	$(call say,LINK,$@) $(CC) $(LDFLAGS) $(link_static) $(ldhard) -o $@ $^

$(O)/fermata: $(O)/fermata.debug
	$(call say,STRIP,$@) $(STRIP) -o $@ $<

# A change of flags or compiler rebuilds; the stamp changes only when they do.
$(O)/flags: FORCE
	@mkdir -p $(@D); echo '$(subst ','\'',$(compile) $(LDFLAGS) $(link_static) $(ldhard))' > $@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(O)/%.o: %.c $(O)/autoconf.h $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(compile) -c -o $@ $<

# ---- tests ----------------------------------------------------------------------------------------------
# Everything is built a second time with the sanitizers, by the host's compiler, against cmocka.
TEST_CC ?= gcc
SAN ?= -fsanitize=address,undefined -fno-sanitize-recover=all
test_flags = -I. -include $(O)/autoconf.h -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFERMATA_VERSION='"$(VERSION)"' \
	-std=gnu11 $(WARN) -g -O1 -fno-omit-frame-pointer $(SAN) -MMD -MP
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
	$(Q)FERMATA_SOAK=1 O=$(abspath $(O)) bats tests/system/every.bats tests/system/atomic.bats tests/system/deep.bats
	$(Q)FERMATA_SOAK=1 O=$(abspath $(O)) bats -f 'the long form' tests/system/instant.bats tests/system/live.bats
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
check-all: all check-layers $(unit_tests) $(fuzz_replays)
	$(Q)$(run_tests) $(unit_tests) $(fuzz_replays) $(system_tests)
check-vm: all
	$(Q)$(run_tests) $(filter tests/system/%,$(system_tests))
# The same on another QEMU: make check-qemu QEMU=/path/to/qemu-system-x86_64 (or a script that starts it)
check-qemu: all
	$(Q)[ -x '$(QEMU)' ] || { echo "check-qemu: QEMU='$(QEMU)' is no program: say QEMU=/path" >&2; exit 2; }
	$(Q)mkdir -p $(O)/qemu && ln -sf '$(abspath $(QEMU))' $(O)/qemu/qemu-system-x86_64
	$(Q)PATH="$(abspath $(O))/qemu:$$PATH" $(run_tests) $(filter tests/system/%,$(system_tests))

# Calls go down only (docs: the rooms). A lower room never includes a higher one's header; only kvm forks.
layers = \
	lib:qcow2/|monitor/|kvm/|engine/|init/ \
	qcow2:monitor/|kvm/|engine/|init/ \
	monitor:qcow2/|kvm/|engine/|init/ \
	kvm:qcow2/|engine/|init/ \
	engine:init/
check-layers:
	@bad=0; for l in $(foreach l,$(layers),'$(l)'); do room=$${l%%:*}; \
	grep -nE "^#[ \t]*include \"($${l#*:})" $$room/*.[ch] 2>/dev/null && bad=1; done; \
	grep -nE '\<(v?fork|exec[vl]p?e?|posix_spawnp?) *\(' $(patsubst %,%/*.c,$(filter-out kvm,$(rooms))) && bad=1; \
	if [ $$bad = 1 ]; then echo 'layers: a room includes what is above it, or forks' >&2; exit 1; fi; echo 'layers: clean'

# ---- what else one can ask for ----------------------------------------------------------------------------
size: $(O)/fermata
	@for r in $(rooms); do f=$$(ls $(O)/$$r/*.o 2>/dev/null); [ -n "$$f" ] || continue; \
	$(SIZE) $$f | awk -v r=$$r 'NR > 1 { t += $$1; d += $$2; b += $$3 } END { printf "%-8s text %7d  data %6d  bss %6d\n", r, t, d, b }'; done; \
	printf 'fermata  file %7d bytes (stripped, static)\n' $$(stat -c %s $(O)/fermata)

demo:
	$(Q)tests/setup.sh
	$(Q)$(MAKE) --no-print-directory all
	$(Q)O='$(O)' tests/demo.sh

bench: all
	$(Q)for b in tests/bench/*.sh; do echo "== $$b"; O='$(O)' $$b || exit 1; done

$(O)/example: tests/example/example.c $(O)/libfermata.a
	$(call say,LINK,$@) $(CC) -I. $(CFLAGS) $(WARN) $(sysinc) $(pie) $(link_static) $(ldhard) -o $@ $< $(O)/libfermata.a

install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib' '$(DESTDIR)$(PREFIX)/include/fermata/engine' \
		'$(DESTDIR)$(PREFIX)/include/fermata/lib' '$(DESTDIR)$(PREFIX)/share/man/man1' '$(DESTDIR)$(PREFIX)/share/man/man5'
	install -m 755 $(O)/fermata '$(DESTDIR)$(PREFIX)/bin/fermata'
	install -m 644 $(O)/libfermata.a '$(DESTDIR)$(PREFIX)/lib/'
	install -m 644 engine/fermata.h '$(DESTDIR)$(PREFIX)/include/fermata/engine/'
	install -m 644 lib/err.h '$(DESTDIR)$(PREFIX)/include/fermata/lib/'
	install -m 644 $(wildcard docs/*.1) '$(DESTDIR)$(PREFIX)/share/man/man1/'
	install -m 644 $(wildcard docs/*.5) '$(DESTDIR)$(PREFIX)/share/man/man5/'
	install -d '$(DESTDIR)$(PREFIX)/share/man/man8' '$(DESTDIR)$(PREFIX)/lib/systemd/system' '$(DESTDIR)$(PREFIX)/share/fermata'
	install -m 644 $(wildcard docs/*.8) '$(DESTDIR)$(PREFIX)/share/man/man8/'
	for f in init/dist/fermata.*; do d=share/fermata; case $$f in *.service) d=lib/systemd/system ;; esac; \
	sed 's|@PREFIX@|$(PREFIX)|' $$f >'$(DESTDIR)$(PREFIX)'/$$d/$${f##*/}; done

clean:
	rm -rf $(O)

# make                 build/fermata and build/libfermata.a, as .config says
# make demo            set up what is missing, build, and show the main job on a demo guest
# make check           set up what is missing, build, and run every test
# make check-unit      the compiled tests; check-vm: real guests; check-qemu QEMU=/path: those on another QEMU
# make check-layers    no room includes what is above it
# make soak            the long form of the tests; make fuzz FUZZ_RUNS=N: libFuzzer on all that reads from outside
# make bench           fermata beside qemu-img and bare QMP
# make size            bytes of each room and of the program
# make appliance       a bootable initramfs whose first process is fermata; make check-appliance boots and spoils it
# make install         DESTDIR and PREFIX are known
# make defconfig       also allnoconfig, oldconfig, menuconfig, and those in configs/
# make clean           O=DIR, V=1, CC=, CROSS_COMPILE= are known to all
help:
	@sed -n 's/^# make \(.*\)/make \1/p' Makefile

# ---- Kconfig targets --------------------------------------------------------------------------------------
defconfig:   ; @$(call kconf,,config,)        > .config.new && mv .config.new .config
allnoconfig: ; @$(call kconf,,config,1)       > .config.new && mv .config.new .config
oldconfig:   ; @$(call kconf,.config,config,) > .config.new && mv .config.new .config
$(named_configs):
	@$(call kconf,configs/$@,config,) > .config.new && mv .config.new .config
menuconfig:
	@command -v kconfig-mconf >/dev/null || { echo "menuconfig needs kconfig-mconf; edit .config, then 'make oldconfig'" >&2; exit 1; }
	@kconfig-mconf Kconfig && $(call kconf,.config,config,) > .config.new && mv .config.new .config

ifneq ($(building),)
.config:
	@$(call kconf,,config,) > .config.new && mv .config.new .config
$(O)/config.mk: .config Kconfig
	@mkdir -p $(@D); $(call kconf,.config,config,) > $@.new && mv $@.new $@
$(O)/autoconf.h: .config Kconfig
	@mkdir -p $(@D); $(call kconf,.config,header,) > $@.new && mv $@.new $@
endif

FORCE:
.PHONY: all appliance check-appliance soak fuzz fuzz-build check check-all check-unit check-vm check-qemu check-layers size clean help FORCE $(setup)
.SECONDARY:
-include $(wildcard $(O)/*/*.d $(O)/test/*/*.d $(O)/test/tests/*/*.d $(O)/fuzz/obj/*/*.d $(O)/fuzz/obj/tests/*/*.d)

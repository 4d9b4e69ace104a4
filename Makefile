# fermata: one Makefile, no recursion; what tests it is in tests/tests.mk. `make help` lists the targets.
O ?= build
V ?= 0
CROSS_COMPILE ?=
KCONFIG_CONFIG ?= $(O)/.config
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)';)
ifeq ($(abspath $(O)),$(CURDIR))
$(error O=$(O): what is built needs a folder of its own)
endif

VERSION := $(shell awk '/^\#define FERMATA_VERSION_(MAJOR|MINOR|PATCH) / { printf "%s%s", dot, $$3; dot = "." }' engine/fermata.h)

# ---- where it is installed ---------------------------------------------------------------------------------
DESTDIR ?=
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DATADIR ?= $(PREFIX)/share/fermata
UNITDIR ?= $(PREFIX)/lib/systemd/system
# Where it is said, definitions are below it, whatever CONFIG_CONF_DIR says.
SYSCONFDIR ?=

# ---- configuration: Kconfig, read by awk alone --------------------------------------------------------------
# $(1): the configuration so far, or nothing; $(2): "config" or "header"; $(3): 1 turns every bool off that is not set
kconf = awk -v old='$(1)' -v out='$(2)' -v none='$(3)' -v set='$(4)' -f configs/kconfig.awk Kconfig
# Of one build only: the configuration does not keep what make was given on its command line.
given := $(if $(SYSCONFDIR),CONF_DIR="$(SYSCONFDIR)/fermata")
# Written by what $(1) prints; left alone where that is what is there.
write = mkdir -p $(@D); { $(1); } > $@.new || { rm -f $@.new; exit 1; }; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
configure = mkdir -p $(dir $(KCONFIG_CONFIG)) && $(1) > $(KCONFIG_CONFIG).new && mv $(KCONFIG_CONFIG).new $(KCONFIG_CONFIG)

named_configs := $(notdir $(wildcard configs/*_defconfig))
setup := defconfig allnoconfig oldconfig menuconfig clean distclean help check-layers check-debian13 $(named_configs)
building := $(filter-out $(setup),$(if $(MAKECMDGOALS),$(MAKECMDGOALS),all))
ifneq ($(building),)
include $(O)/config.mk
endif

defconfig:   ; @$(call configure,$(call kconf,,config,))
allnoconfig: ; @$(call configure,$(call kconf,,config,1))
oldconfig:   ; @$(call configure,$(call kconf,$(KCONFIG_CONFIG),config,))
$(named_configs):
	@$(call configure,$(call kconf,configs/$@,config,))
menuconfig:
	@command -v kconfig-mconf >/dev/null || { echo "menuconfig needs kconfig-mconf; edit $(KCONFIG_CONFIG), then 'make oldconfig'" >&2; exit 1; }
	@KCONFIG_CONFIG='$(KCONFIG_CONFIG)' kconfig-mconf Kconfig && $(call configure,$(call kconf,$(KCONFIG_CONFIG),config,))

ifneq ($(building),)
$(KCONFIG_CONFIG):
	@$(call configure,$(call kconf,,config,))
$(O)/config.mk: $(KCONFIG_CONFIG) Kconfig configs/kconfig.awk
	@mkdir -p $(@D); $(call kconf,$(KCONFIG_CONFIG),config,) > $@.new && mv $@.new $@
$(O)/autoconf.h: $(KCONFIG_CONFIG) FORCE
	@$(call write,$(call kconf,$(KCONFIG_CONFIG),header,,$(given)))
endif

# ---- toolchain ----------------------------------------------------------------------------------------------
# CC, AR, STRIP, CPPFLAGS, CFLAGS and LDFLAGS are the user's, from the environment or make's command line; what the
# program cannot do without has names of its own, and comes before them, so that theirs have the last word.
ifeq ($(origin CC),default)
CC := $(if $(CROSS_COMPILE),$(CROSS_COMPILE)gcc,$(shell command -v musl-gcc || echo gcc))
endif
ifeq ($(origin AR),default)
AR := $(CROSS_COMPILE)ar
endif
NM ?= $(CROSS_COMPILE)nm
STRIP ?= $(CROSS_COMPILE)strip
OBJCOPY ?= $(CROSS_COMPILE)objcopy
SIZE ?= $(CROSS_COMPILE)size
CFLAGS ?= -Os -g
# n: linked with the shared libc
STATIC ?= y

ifneq ($(building),)
# Whether the compiler takes the flags $(1), and links with them.
try = $(shell echo 'int main(void){return 0;}' | $(CC) $(1) -x c - -o /dev/null >/dev/null 2>&1 && echo y)
# Debian's musl-gcc is a specs file around gcc: it hides the kernel's headers, and takes -static-pie for a dynamic program.
musl_specs := $(shell LC_ALL=C $(CC) -v 2>&1 | grep '^Reading specs from .*/musl-gcc.specs$$')
sysinc := $(if $(musl_specs),-idirafter /usr/include -idirafter /usr/include/$(shell $(CC) -print-multiarch 2>/dev/null))
ifneq ($(STATIC),y)
link := $(if $(call try,-pie -fPIE),-pie)
else ifneq ($(musl_specs),)
link := -static
else
link := $(if $(call try,-static-pie -fPIE),-static-pie,$(if $(call try,-static),-static))
endif
# FORTIFY is glibc's (musl ignores it), needs optimization, and its level is the user's.
fortify := $(if $(findstring FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,$(if \
	$(call try,$(CFLAGS) -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -include stdio.h),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
endif

warn := -Wall -Wextra -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Werror=format-security
defs := -I. -include $(O)/autoconf.h -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFERMATA_VERSION='"$(VERSION)"'
hard := -fPIE -fstack-protector-strong -fno-strict-overflow $(fortify)
ldhard := -Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack
# What nobody calls is left out, and so are tables to unwind by (75 KB): C throws nothing, and -g has its own for debuggers.
lean := -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables
compile = $(CC) $(defs) $(sysinc) $(CPPFLAGS) -std=gnu11 $(warn) $(hard) $(lean) $(CFLAGS) -MMD -MP

# ---- the house: what each room is made of ----------------------------------------------------------------
# lib: what every room may use
lib-y += lib/err.o lib/buf.o lib/clock.o
lib-y += lib/dev.o lib/dev_file.o lib/file.o lib/lock.o lib/text.o lib/table.o lib/say.o
lib-y += lib/json.o lib/json_iter.o lib/json_out.o lib/json_text.o lib/ini.o lib/muldiv.o lib/xxh64.o

# qcow2: images, as files
lib-y += qcow2/handle.o qcow2/header.o qcow2/l2.o qcow2/lock.o qcow2/open.o qcow2/probe.o qcow2/read.o qcow2/write.o
lib-y += qcow2/head.o qcow2/refs.o qcow2/snap_table.o qcow2/tree.o qcow2/txn.o
lib-y += qcow2/amend.o qcow2/bitmap.o qcow2/bitmap_dir.o qcow2/bitmap_merge.o qcow2/create.o qcow2/deflate.o qcow2/deflate_code.o qcow2/fill.o
lib-y += qcow2/inflate.o qcow2/map.o qcow2/resize.o qcow2/snap.o qcow2/space.o qcow2/vmstate.o qcow2/zstd.o qcow2/zstd_table.o
lib-y += qcow2/cells.o qcow2/check.o qcow2/check_bitmap.o qcow2/check_l2.o qcow2/check_refs.o qcow2/check_walk.o qcow2/claim.o
lib-y += qcow2/finding.o qcow2/repair.o
# and images of either format, chains of them
lib-y += qcow2/image/chain.o qcow2/image/copy.o qcow2/image/image.o qcow2/image/name.o qcow2/image/raw.o qcow2/image/writer.o

# monitor: QMP, HMP, guest agent
lib-y += monitor/chan.o monitor/msg.o monitor/job_status.o monitor/event.o monitor/qmp.o monitor/qmp_wait.o monitor/connect.o
lib-y += monitor/job.o monitor/schema.o monitor/hmp.o monitor/agent.o monitor/agent_watch.o

# kvm: one QEMU process
lib-y += kvm/def.o kvm/def_keys.o kvm/def_disk.o kvm/def_net.o kvm/def_args.o kvm/def_guest.o kvm/caps.o kvm/probe.o kvm/host.o kvm/cpu.o
lib-y += kvm/machine.o kvm/argv.o kvm/argv_build.o kvm/argv_disk.o kvm/devices.o kvm/limits.o kvm/forward.o kvm/made.o
lib-y += kvm/spawn.o kvm/env.o kvm/open_files.o kvm/sockets.o kvm/user.o kvm/last_words.o kvm/run_dir.o kvm/alive.o
lib-y += kvm/kvm.o kvm/end.o kvm/memory.o kvm/ram_file.o kvm/guard.o kvm/child.o
lib-$(CONFIG_INSPECT) += kvm/host_check.o

# engine: whole operations, a room a folder (lowest first)
lib-y += engine/record/job.o engine/record/pending.o engine/record/record.o engine/record/snap.o
lib-y += engine/record/state_json.o engine/record/stay.o engine/record/base.o
lib-y += engine/vm/compat.o engine/vm/compat_lines.o engine/vm/definition.o engine/vm/disk.o engine/vm/guarded.o engine/vm/policy.o engine/vm/reach.o engine/vm/host.o engine/vm/resumed.o engine/vm/status.o engine/vm/vm.o
lib-y += engine/chain/backing.o engine/chain/branch.o engine/chain/chain.o engine/chain/file_set.o engine/chain/base.o engine/chain/bases.o
lib-y += engine/chain/images.o engine/chain/made.o engine/chain/merge.o engine/chain/needs.o engine/chain/nvram.o engine/chain/output.o engine/chain/overlay.o
lib-y += engine/chain/trash.o engine/chain/unmake.o engine/chain/users.o
lib-y += engine/disks/disks.o engine/disks/node.o engine/disks/running.o engine/disks/switch.o engine/disks/switched.o
lib-y += engine/disks/tags.o
lib-y += engine/savevm/adopt.o engine/savevm/catalogue.o engine/savevm/delete.o engine/savevm/jobs.o
lib-y += engine/savevm/native.o
lib-y += engine/qemu/launch.o engine/qemu/opened.o engine/qemu/life.o
lib-$(CONFIG_MEMORY) += engine/qemu/second.o engine/qemu/standby.o
lib-$(CONFIG_MEMORY) += engine/memory/blocks.o engine/memory/devices.o engine/memory/manifest.o engine/memory/memfile.o
lib-$(CONFIG_MEMORY) += engine/memory/migrate.o engine/memory/progress.o engine/memory/ram.o engine/memory/ram_in.o engine/memory/ram_out.o
lib-$(CONFIG_MEMORY) += engine/memory/stream.o engine/memory/stream_devices.o engine/memory/stream_io.o engine/memory/stream_ram.o
lib-$(CONFIG_MEMORY) += engine/save/holds.o engine/save/managed.o engine/save/recover.o engine/save/restore.o
lib-$(CONFIG_MEMORY) += engine/save/save.o
lib-y += engine/save/start.o
lib-$(CONFIG_MEMORY) += engine/checkpoint/bake.o engine/checkpoint/change.o engine/checkpoint/checkpoint.o
lib-$(CONFIG_MEMORY) += engine/checkpoint/handover.o engine/checkpoint/handover_recover.o engine/checkpoint/instant.o
lib-$(CONFIG_MEMORY) += engine/checkpoint/live.o engine/checkpoint/load.o
lib-y += engine/checkpoint/files.o
lib-y += engine/blockjob/copy.o engine/blockjob/flush.o engine/blockjob/job.o engine/blockjob/lost.o engine/blockjob/plan.o engine/blockjob/qmp.o
lib-y += engine/blockjob/start.o
lib-y += engine/snapshot/carrier.o engine/snapshot/choose.o engine/snapshot/create.o engine/snapshot/create_end.o engine/snapshot/delete.o
lib-y += engine/snapshot/delete_external.o engine/snapshot/merge_disk.o engine/snapshot/revert.o engine/snapshot/revert_external.o
lib-y += engine/snapshot/revert_internal.o engine/snapshot/space.o engine/snapshot/verify.o
lib-$(CONFIG_MEMORY) += engine/snapshot/standby.o
lib-$(CONFIG_EXPORT) += engine/archive/archive.o engine/archive/export.o engine/archive/import.o
lib-$(CONFIG_EXPORT) += engine/archive/import_data.o engine/archive/import_plan.o
lib-$(CONFIG_BOOT) += engine/boot/boot.o engine/boot/guard.o engine/boot/health.o
lib-y += engine/abandon.o engine/open.o engine/recover.o
lib-$(CONFIG_DEFINE) += engine/define.o engine/undefine.o engine/undefined.o

# init: the program, a room a folder (lowest first)
init-y += init/cli/cmd.o init/cli/vm.o
init-$(CONFIG_IMG) += init/img/amend.o init/img/bitmap.o init/img/check.o init/img/commands.o init/img/commit.o init/img/compare.o
init-$(CONFIG_IMG) += init/img/convert.o init/img/progress.o init/img/bitmaps.o init/img/create.o init/img/dd.o init/img/info.o init/img/map.o init/img/measure.o init/img/name.o init/img/opts.o
init-$(CONFIG_IMG) += init/img/rebase.o init/img/resize.o init/img/snapshot.o init/img/util.o
init-$(CONFIG_INIT) += init/supervisor/fstab.o init/supervisor/guest.o init/supervisor/log.o init/supervisor/pid1.o init/supervisor/supervisor.o
init-$(CONFIG_DEFINE) += init/cmd/define.o
init-y += init/cmd/blockjob.o init/cmd/completion.o init/cmd/domblkchain.o init/cmd/host_check.o init/cmd/inspect.o init/cmd/life.o
init-y += init/cmd/monitor.o init/cmd/snapshot.o init/cmd/snapshot_list.o init/cmd/snapshot_print.o init/cmd/snapshot_xml.o init/cmd/spec.o
init-$(CONFIG_BOOT) += init/cmd/boot.o
init-$(CONFIG_MEMORY) += init/cmd/memory.o
init-$(CONFIG_EXPORT) += init/cmd/export.o
init-y += init/commands.o init/main.o

rooms := lib qcow2 monitor kvm engine init
lib_objs := $(addprefix $(O)/,$(lib-y))
init_objs := $(addprefix $(O)/,$(init-y))

all: $(O)/fermata $(O)/libfermata.a

# One object: what its files share among them is not the name space of those who link it.
$(O)/libfermata.a: $(lib_objs)
	$(call say,AR,$@) $(CC) $(CFLAGS) -r -nostdlib -o $(O)/libfermata.o $^ && \
		$(OBJCOPY) --wildcard --keep-global-symbol='fermata_*' $(O)/libfermata.o && rm -f $@ && $(AR) rcs $@ $(O)/libfermata.o

$(O)/fermata.debug: $(init_objs) $(lib_objs)
	$(call say,LINK,$@) $(CC) $(CFLAGS) $(link) $(ldhard) $(LDFLAGS) -o $@ $^

$(O)/fermata: $(O)/fermata.debug
	$(call say,STRIP,$@) $(STRIP) -o $@ $<

# A change of flags or compiler rebuilds; the stamp changes only when they do.
$(O)/flags: FORCE
	@$(call write,echo '$(subst ','\'',$(compile) $(link) $(ldhard) $(LDFLAGS))')

$(O)/%.o: %.c $(O)/autoconf.h $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(compile) -c -o $@ $<

$(O)/example: tests/example/example.c $(O)/libfermata.a
	$(call say,LINK,$@) $(CC) -I. $(sysinc) $(CPPFLAGS) $(warn) $(hard) $(CFLAGS) $(link) $(ldhard) $(LDFLAGS) -o $@ $< $(O)/libfermata.a

# ---- what else one can ask for ------------------------------------------------------------------------------
# xz is what a squashfs or an initramfs makes of it.
size: $(O)/fermata
	@for r in $(rooms); do f=$$(find $(O)/$$r -name '*.o' 2>/dev/null); [ -n "$$f" ] || continue; \
	$(SIZE) $$f | awk -v r=$$r 'NR > 1 { t += $$1; d += $$2; b += $$3 } END { printf "%-8s text %7d  data %6d  bss %6d\n", r, t, d, b }'; done; \
	printf 'fermata  file %7d  xz %8s\n' $$(stat -c %s $<) "$$(command -v xz >/dev/null && xz -c $< | wc -c || echo -)"

install: all
	install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(LIBDIR)' $(if $(SYSCONFDIR),'$(DESTDIR)$(SYSCONFDIR)/fermata')
	install -m 755 $(O)/fermata '$(DESTDIR)$(BINDIR)/fermata'
	install -m 644 $(O)/libfermata.a '$(DESTDIR)$(LIBDIR)/'
	$(Q)put() { d='$(DESTDIR)'$$1; shift; install -d "$$d"; for f; do t=$$d/$${f##*/}; t=$${t%.in}; \
		sed -e 's|@PREFIX@|$(PREFIX)|; s|@BINDIR@|$(BINDIR)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
			-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|$(if $(SYSCONFDIR),; s|/etc/fermata|$(SYSCONFDIR)/fermata|g)' "$$f" >"$$t" && chmod 644 "$$t" || exit 1; done; }; \
	put '$(INCLUDEDIR)/fermata/engine' engine/fermata.h; put '$(INCLUDEDIR)/fermata/lib' lib/err_type.h; \
	put '$(LIBDIR)/pkgconfig' engine/fermata.pc.in; \
	for n in 1 5 8; do put "$(MANDIR)/man$$n" docs/*.$$n; done; \
	put '$(UNITDIR)' init/dist/fermata.service; put '$(DATADIR)' $(filter-out %.service,$(wildcard init/dist/fermata.*))

# The configuration stays; distclean takes it, too.
clean:
	$(Q)[ ! -d '$(O)' ] || find '$(O)' -mindepth 1 -maxdepth 1 ! -name .config -exec rm -rf {} +
distclean:
	rm -rf '$(O)'

# make                 build/fermata and build/libfermata.a, as build/.config says
# make demo            set up what is missing, build, and show the main job on a demo guest
# make check           set up what is missing, build, and run every test
# make check-unit      the compiled tests; check-vm: real guests; check-qemu QEMU=/path: those on another QEMU
# make check-quick     what needs no guest; check-debian13: that, and the demo, in a chroot with Debian 13
# make check-cross     builds for other processors, whose images are the same under qemu-user; ARCH="s390x armhf"
# make check-layers    no room includes what is above it; check-calls: by the objects, too, and no circles of files
# make soak            the long form of the tests; make fuzz FUZZ_RUNS=N: libFuzzer on all that reads from outside
# make bench           fermata beside qemu-img and bare QMP
# make size            bytes of each room and of the program, as a file and under xz
# make appliance       a bootable initramfs whose first process is fermata; make check-appliance boots and spoils it
# make install         DESTDIR, PREFIX, BINDIR, LIBDIR, INCLUDEDIR, MANDIR, DATADIR, UNITDIR, SYSCONFDIR are known
# make defconfig       also allnoconfig, oldconfig, menuconfig, and those in configs/
# make clean           all but the configuration; make distclean: that, too
# O=DIR, KCONFIG_CONFIG=FILE, V=1, CC, CROSS_COMPILE, CPPFLAGS, CFLAGS, LDFLAGS and STATIC=n are known to all.
help:
	@sed -n 's/^# \(make .*\)/\1/p; s/^# \(O=DIR.*\)/\1/p' Makefile

include tests/tests.mk

FORCE:
.PHONY: all install size clean distclean help FORCE $(setup)
.SECONDARY:
-include $(shell find $(O) -name '*.d' 2>/dev/null)

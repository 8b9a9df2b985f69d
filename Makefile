# bramble - build, test, install. `make help` lists what there is.
#
# Folders:  build/             the release build: build/bramble, objects in build/obj
#           build/SANITIZER/   a build with sanitizers, build/TRIPLET/ a cross build; they never mix
#           build/deps/        mbedTLS and libwebsockets, built once by .ci/deps.sh and shared by all native builds
# Nothing is written anywhere else, but by `make install` and `make run` (RUN_DIR), and a link test/interop/node_modules.
#
# On Debian and Raspberry Pi OS the packages of the distribution that a target needs are installed when they are missing
# (.ci/packages has the lists and says what it does; PACKAGES=no switches it off).

# ---- knobs ----------------------------------------------------------------------------------------------------------
V ?= 0
SANITIZER ?=
CROSS ?=
DEPS ?= own
LTO ?= 1
COVERAGE ?=
WERROR ?= 0
SECONDS := 60
SOAK_SECONDS ?= 7200
FAULTS_SECONDS ?= 3600
RUN_DIR ?= run
RUN_ARGS ?=
PYTEST_ARGS ?=
BROKER ?=
DASHBOARD_PARTS ?=
DASHBOARD ?= yes
PACKAGES ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 1)

prefix ?= /usr/local
bindir ?= $(prefix)/bin
datadir ?= $(prefix)/share
mandir ?= $(datadir)/man
sysconfdir ?= /etc
docdir ?= $(datadir)/doc/bramble
unitdir ?= $(prefix)/lib/systemd/system
sysusersdir ?= $(prefix)/lib/sysusers.d
tmpfilesdir ?= $(prefix)/lib/tmpfiles.d
DESTDIR ?=

MAKEFLAGS += --no-builtin-rules --no-builtin-variables
ifeq ($(MAKELEVEL),0) # a -jN on the command line wins over this one
MAKEFLAGS += -j$(JOBS)
endif
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

ifeq ($(origin CC),default)
CC := $(CROSS)gcc
endif
ifeq ($(origin CC),undefined)
CC := $(CROSS)gcc
endif
COMPILER := $(shell $(CC) --version 2>/dev/null | head -n 1)
ifeq ($(COMPILER),) # a fresh machine: flags below depend on the compiler, so it has to be there by now
ifneq ($(filter-out help clean distclean,$(or $(MAKECMDGOALS),all)),)
$(shell $(if $(filter system,$(DEPS))$(CROSS),true,PACKAGES=$(PACKAGES) .ci/packages build >&2))
COMPILER := $(shell $(CC) --version 2>/dev/null | head -n 1)
endif
endif
IS_CLANG := $(findstring clang,$(COMPILER))
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
ifneq ($(filter default undefined,$(origin AR)),)
AR := $(if $(IS_CLANG),$(CROSS)ar,$(CROSS)gcc-ar)
endif
OBJCOPY ?= $(CROSS)objcopy
PKG_CONFIG ?= $(if $(CROSS),$(CROSS)pkg-config,pkg-config)
PYTHON ?= /usr/bin/python3

comma := ,
empty :=
space := $(empty) $(empty)
sanitizers := $(sort $(subst $(comma), ,$(SANITIZER)))
ifneq ($(filter-out address undefined thread leak,$(sanitizers)),)
$(error SANITIZER is one of address, undefined, thread, leak, or some of them with commas; not '$(SANITIZER)')
endif

home := build$(if $(CROSS),/$(patsubst %-,%,$(notdir $(CROSS))))$(if $(filter system,$(DEPS)),/system)
BUILD := $(home)$(if $(COVERAGE),/coverage,$(if $(sanitizers),/$(subst $(space),-,$(sanitizers))))
BIN := $(BUILD)/bramble
PAGE := build/dashboard
DEPS_DIR := $(home)/deps
DEPS_DONE := $(DEPS_DIR)/.done

Q := $(if $(filter 1,$(V)),,@)
silent := $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
say = $(if $(filter 1,$(V))$(silent),@:,@printf '  %-5s %s\n')

# ---- sources: a file is built because it is there -----------------------------------------------------------------
ROOMS := broker tls ws auth config
SOURCES := $(wildcard $(addsuffix /*.c,$(ROOMS)))
MAIN := broker/main.c
UNIT := $(wildcard test/unit/*/test_*.c)
TESTLIB := $(filter-out $(if $(COVERAGE),,test/lib/count_exit.c),$(wildcard test/lib/*.c))
FUZZ := $(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c))
HEADERS := $(wildcard $(addsuffix /*.h,$(ROOMS)) test/*/*.h test/*/*/*.h)
ALL_C := $(SOURCES) $(wildcard test/*/*.c test/*/*/*.c)
SCRIPTS := $(shell grep -lE '^\#!.*[/ ](ba|da)?sh( |$$)' .ci/* test/lib/* ws/dashboard/* test/*/*.sh systemd/* yocto/*.sh 2>/dev/null | sort -u)

OBJECTS := $(SOURCES:%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libbramble.a
UNIT_BINS := $(UNIT:%.c=$(BUILD)/%)
FUZZ_BUILD := build/fuzz
FUZZ_BINS := $(FUZZ:%=$(FUZZ_BUILD)/fuzz_%)
UNIT_OBJECTS := $(UNIT:%.c=$(BUILD)/obj/%.o) $(TESTLIB:%.c=$(BUILD)/obj/%.o)
STORE_FAULTS := $(BUILD)/test/faults/test_store_faults
STORE_FAULTS_OBJECTS := $(patsubst %.c,$(BUILD)/obj/%.o,test/faults/test_store_faults.c test/faults/script.c test/faults/shim_vfs.c)

# ---- flags: those of the user (CPPFLAGS, CFLAGS, LDFLAGS, LDLIBS) come last and win -------------------------------
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
	-Wformat=2 -Wundef -Wvla -Werror=implicit
# no number of the daemon becomes another one without being told to (the tests may)
STRICT := -Wconversion -Wsign-conversion
# cmocka.h wants these before itself, wherever it stands among sorted includes
CMOCKA_NEEDS := $(foreach h,stdarg stddef stdint setjmp,-include $(h).h)
per_file = $(if $(filter $(SOURCES),$(1)),$(STRICT))$(if $(filter test/unit/%,$(1)),$(CMOCKA_NEEDS))
# and gcc does not know that a failed assertion of cmocka does not come back
per_file_gcc = $(if $(filter test/unit/%,$(1)),-Wno-maybe-uninitialized)

base_cflags := -std=gnu11 -g $(WARNINGS) $(if $(filter 1,$(WERROR)),-Werror)
base_cppflags := -I. -D_GNU_SOURCE
ifneq ($(COVERAGE),)
opt_cflags := -O0 --coverage -fprofile-update=atomic
opt_ldflags := --coverage
else ifeq ($(sanitizers),)
# .ci/hardening says what is in it and why; asked once, for all makes that this one calls
ifeq ($(origin bramble_hardening),undefined)
export bramble_hardening := $(if $(COMPILER),$(shell .ci/hardening $(CC)))
endif
fortify := $(filter -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=%,$(bramble_hardening))
opt_cflags := -O2 -ffunction-sections -fdata-sections $(filter-out $(fortify),$(bramble_hardening))
# not where nothing is optimised (it would only warn), and not over a level that the user has chosen
opt_cppflags := $(if $(filter -O0,$(CFLAGS))$(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,$(fortify))
opt_ldflags := -pie -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack
# The linker marks a program as fit for a shadow stack when all its parts are. The start files of the C library may have
# no mark (Debian 12), but do nothing that a shadow stack would mind. Indirect jumps they do get: no mark, no promise.
ifneq ($(filter x86_64%,$(MACHINE)),)
opt_ldflags += -Wl,-z,shstk
endif
# Fat objects: the daemon is linked with LTO, the many test programs quickly and without. clang's LTO would need a
# linker that is not in the distribution's default set.
ifeq ($(LTO)$(IS_CLANG),1)
lto_cflags := -flto -ffat-lto-objects
lto_ldflags := -flto=auto
nolto_ldflags := -fno-lto
endif
else
opt_cflags := -O1 -fno-omit-frame-pointer -fsanitize=$(subst $(space),$(comma),$(sanitizers)) -fno-sanitize-recover=all
opt_ldflags := -fsanitize=$(subst $(space),$(comma),$(sanitizers))
endif

ifeq ($(DEPS),system)
deps_cflags := @$(DEPS_DIR)/cflags
deps_libs := @$(DEPS_DIR)/libs
else ifeq ($(DEPS),own)
deps_cflags := -isystem $(DEPS_DIR)/include
deps_libs := -L$(DEPS_DIR)/lib -llwsio -lmbedtls -lmbedx509 -lmbedcrypto
else
$(error DEPS is own (built by .ci/deps.sh, the default) or system (installed libraries); not '$(DEPS)')
endif

compile_flags = $(base_cflags) $(opt_cflags) $(lto_cflags) $(base_cppflags) $(opt_cppflags) $(deps_cflags)
libraries = $(deps_libs) -lev -lsodium -lsqlite3 -lpthread -lm
compile = $(CC) $(compile_flags) $(call per_file,$<) $(if $(IS_CLANG),,$(call per_file_gcc,$<)) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
link = $(CC) $(opt_cflags) $(opt_ldflags) $(1) $(CFLAGS) $(LDFLAGS) -o $@ $(2) $(libraries) $(LDLIBS)

export SAN_OPTIONS := detect_stack_use_after_return=1:strict_string_checks=1:handle_abort=1
run_env := ASAN_OPTIONS=$${ASAN_OPTIONS:-$(SAN_OPTIONS)} \
	UBSAN_OPTIONS=$${UBSAN_OPTIONS:-print_stacktrace=1} \
	TSAN_OPTIONS=$${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

# ---- build ----------------------------------------------------------------------------------------------------------
.PHONY: all
all: $(BIN) ## build build/bramble (the default)

.PHONY: help
help: ## list the targets
	@echo 'bramble: make [TARGET] [VARIABLE=VALUE]...'
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Variables:'
	@printf '  %-34s %s\n' \
	    'V=1' 'show the commands' \
	    'JOBS=N' 'so many at a time (default: one per processor)' \
	    'SANITIZER=address,undefined' 'build and test with sanitizers (address, undefined, thread), in build/address-undefined' \
	    'DEPS=system' "use the system's mbedTLS (>= 3.6) and libwebsockets (>= 4.3, static), do not build them" \
	    'PACKAGES=no' 'install no packages of the distribution, do not even look' \
	    'CC=, CROSS=aarch64-linux-gnu-' 'the compiler, or the prefix of a cross tool chain' \
	    'CPPFLAGS=, CFLAGS=, LDFLAGS=' 'are added to those of the Makefile' \
	    'LTO=0, WERROR=1' 'without link time optimisation; warnings are errors' \
	    'RUN_DIR=run, RUN_ARGS=--tls-port=N' 'make run: the folder of its files; options of bramble setup (other ports)' \
	    'SECONDS=60' 'make fuzz, make test: seconds for each fuzzer' \
	    'SOAK_SECONDS=7200' 'make soak: for how long' \
	    'PYTEST_ARGS=...' 'make integration, conformance, hostile...: options for pytest (-k NAME, -x, -v)' \
	    'BROKER=HOST:PORT' 'make conformance: of that broker, over tcp, instead of bramble' \
	    'DASHBOARD_PARTS=DIR' 'bundle the page from the tar files there, without a network' \
	    'DASHBOARD=no' 'make install: without the page' \
	    'prefix=, sysconfdir=, DESTDIR=' 'make install: where to'

# What the packages of the distribution have to give: nothing is installed for a cross build (its libraries are not
# this machine's) or with DEPS=system (whoever says so has seen to it).
packages = $(if $(filter system,$(DEPS))$(CROSS),true,PACKAGES=$(PACKAGES) .ci/packages $(1))

.PHONY: packages-build packages-page packages-test packages-check
packages-build:
	@$(call packages,build)
packages-page:
	@$(if $(DASHBOARD_PARTS),true,$(call packages,page))
packages-test:
	@$(call packages,build test)
packages-check:
	@$(call packages,build check)

.PHONY: deps
deps: packages-build ## build mbedTLS and libwebsockets (happens by itself, once)
	$(Q)$(build_deps)

ifeq ($(DEPS),system)
build_deps = CC='$(CC)' OBJCOPY='$(OBJCOPY)' PKG_CONFIG='$(PKG_CONFIG)' CPPFLAGS='$(CPPFLAGS)' CFLAGS='$(CFLAGS)' \
	LDFLAGS='$(LDFLAGS)' .ci/system-deps.sh $(DEPS_DIR)
$(DEPS_DONE): .ci/system-deps.sh
	$(Q)$(build_deps)
else
# The libraries are built with gcc even when bramble is tried with another compiler, and of the user's flags they take
# only those that say for which machine.
build_deps = CROSS='$(CROSS)' CC='$(if $(CROSS),$(CC),$(if $(IS_CLANG),gcc,$(CC)))' OBJCOPY='$(OBJCOPY)' \
	CFLAGS='$(filter -m% --sysroot%,$(CFLAGS))' JOBS='$(JOBS)' V='$(V)' .ci/deps.sh $(DEPS_DIR)
$(DEPS_DONE): .ci/deps.sh .ci/hardening $(wildcard .ci/*.patch) tls/mbedtls_config.h | packages-build
	$(Q)$(build_deps)
endif

# Rewritten only when the compiler or the flags are others than last time; every object depends on it.
.PHONY: force
$(BUILD)/.flags: force
	@mkdir -p $(@D); printf '%s\n' '$(COMPILER)' '$(compile_flags) $(CPPFLAGS) $(CFLAGS)' \
	    '$(opt_ldflags) $(lto_ldflags) $(LDFLAGS) $(LDLIBS)' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(BUILD)/obj/%.o: %.c $(BUILD)/.flags $(DEPS_DONE) | packages-build
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(compile)

# `ar` would keep members of files that are gone, so it starts anew; q, not r: names repeat between rooms (conn.o)
$(LIB): $(filter-out $(MAIN:%.c=$(BUILD)/obj/%.o),$(OBJECTS)) $(TESTLIB:%.c=$(BUILD)/obj/%.o)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) qcs $@ $^

$(BIN): $(OBJECTS)
	$(if $(wildcard $(MAIN)),,@echo 'There is no $(MAIN) yet: nothing to link.' >&2; exit 1)
	$(say) LINK $@
	$(Q)$(call link,$(lto_cflags) $(lto_ldflags),$(OBJECTS))

# the page: ws/dashboard/build.sh takes its parts from npm, or from the tar files in DASHBOARD_PARTS
.PHONY: dashboard
dashboard: $(PAGE)/.done ## bundle the web page into build/dashboard
$(PAGE)/.done: $(shell find ws/dashboard -type f -not -path '*/node_modules/*' 2>/dev/null) | packages-page
	$(if $(wildcard ws/dashboard/build.sh),,@echo 'There is no ws/dashboard/build.sh yet: no page.' >&2; exit 1)
	$(say) PAGE $(PAGE)
	$(Q)mkdir -p $(PAGE) && DASHBOARD_PARTS='$(DASHBOARD_PARTS)' V='$(V)' ws/dashboard/build.sh $(PAGE) && touch $@

.PHONY: run
run: $(BIN) $(PAGE)/.done ## build and start a secure broker with a web page; its files are in ./run
	@$(BIN) setup --http-dir '$(abspath $(PAGE))' $(RUN_ARGS) '$(RUN_DIR)'
	@exec $(BIN) -c '$(RUN_DIR)/bramble.conf'

# ---- test -----------------------------------------------------------------------------------------------------------
.PHONY: test
test: ## build and run all tests (with SANITIZER=... on such a build)
	@$(MAKE) --no-print-directory packages-test
	@$(MAKE) --no-print-directory test-built
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory faults-store
	@$(MAKE) --no-print-directory integration
	@$(MAKE) --no-print-directory conformance
	@$(MAKE) --no-print-directory hostile
	@$(MAKE) --no-print-directory sequences
	@$(MAKE) --no-print-directory faults-short
	@$(MAKE) --no-print-directory interop
	@$(MAKE) --no-print-directory fuzz $(if $(sanitizers),SECONDS=0)
	@echo "== make test: all passed ($(BIN))"

# what the tests need, so that a compiler's complaint comes before the first test
.PHONY: test-built fuzz-built
test-built: $(BIN) $(UNIT_BINS) $(if $(wildcard ws/dashboard/build.sh),$(PAGE)/.done)
	@:
fuzz-built: $(FUZZ_BINS)
	@:

# Those for whom memory runs out (test/unit/no_memory.h) are linked so that the allocations of what they test go there.
unit_wrap := $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc realloc strdup pthread_create)
UNIT_WRAPPED := $(shell grep -l '^\#include "test/unit/no_memory.h"' /dev/null $(UNIT))
$(UNIT_OBJECTS): | packages-test
$(UNIT_BINS): $(BUILD)/%: $(BUILD)/obj/%.o $(LIB)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(call link,$(nolto_ldflags) $(if $(filter $*.c,$(UNIT_WRAPPED)),$(unit_wrap)),$< $(LIB) -lcmocka)

.PHONY: unit
unit: packages-test $(UNIT_BINS) ## unit tests only
	@$(run_env) test/lib/run-unit $(BUILD) $(UNIT_BINS)

# The durable store on a disk that loses its power, is full, fails, rots. Samples, of which SEED=N gives the same
# again; FAULTS=all is all of it (some minutes of CPU).
$(STORE_FAULTS_OBJECTS): | packages-test
$(STORE_FAULTS): $(STORE_FAULTS_OBJECTS) $(LIB)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(call link,$(nolto_ldflags),$^ -lcmocka)

.PHONY: faults-store faults-store-all
faults-store: packages-test $(STORE_FAULTS) ## what a disk can do to the durable store: samples
	@$(run_env) UNIT_TIMEOUT=600 test/lib/run-unit $(BUILD) $(STORE_FAULTS)
faults-store-all: packages-test $(STORE_FAULTS)
	@$(run_env) FAULTS=all UNIT_TIMEOUT=7200 test/lib/run-unit $(BUILD) $(STORE_FAULTS)

# Node parts of the tests (mqtt.js, the browser driver), exactly as locked. Node looks for what a module imports in the
# folders above it and nowhere else: hence the link (git ignores it).
NODE := build/test-node
$(NODE)/.done: $(wildcard test/interop/package.json test/interop/package-lock.json test/interop/.npmrc) | packages-test
	@mkdir -p $(NODE)
	$(if $(wildcard test/interop/package.json),$(say) NPM $(NODE))
	$(if $(wildcard test/interop/package.json),$(Q)cp $^ $(NODE)/ && cd $(NODE) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
	$(if $(wildcard test/interop/package.json),$(Q)ln -sfn ../../$(NODE)/node_modules test/interop/node_modules)
	@touch $@

# has_tests FOLDER: is there any file that pytest would collect?
has_tests = $(shell find $(1) -name 'test_*.py' 2>/dev/null | head -n 1)
pytest = $(if $(call has_tests,$(1)),echo "== $(2): pytest $(1)" && cd $(CURDIR) && $(run_env) BRAMBLE='$(abspath $(BIN))' \
	BRAMBLE_DASHBOARD='$(abspath $(PAGE))' NODE_PATH='$(abspath $(NODE))/node_modules' PYTHONDONTWRITEBYTECODE=1 \
	$(PYTHON) -m pytest -rs -o cache_dir='$(CURDIR)/build/.pytest_cache' $(PYTEST_ARGS) $(3) $(1),echo "== $(2): no tests yet")

.PHONY: integration
integration: packages-test $(BIN) $(if $(wildcard ws/dashboard/build.sh),$(PAGE)/.done) ## tests of the daemon from outside
	@$(call pytest,test/integration,integration)

# The report is written whatever has failed.
REPORT := $(BUILD)/conformance$(if $(BROKER),-$(subst :,-,$(BROKER))).txt
.PHONY: conformance
conformance: packages-test $(if $(BROKER),,$(BIN)) ## every statement of the standard, and brokers that break it; the report is build/conformance.txt
	@$(call pytest,test/conformance,conformance,--report='$(abspath $(REPORT))' $(if $(BROKER),--broker='$(BROKER)'))

.PHONY: hostile
hostile: packages-test $(BIN) $(if $(wildcard ws/dashboard/build.sh),$(PAGE)/.done) ## what no honest client does, and what bramble does then
	@$(call pytest,test/hostile,hostile)

# What a failure prints ends with how to play it again.
.PHONY: sequences soak
sequences: packages-test $(BIN) ## random sequences of what clients may do, judged by a model of the standard
	@$(call pytest,test/sequences,sequences)
soak: packages-test $(BIN) ## the same with new seeds, for SOAK_SECONDS
	@$(run_env) BRAMBLE='$(abspath $(BIN))' PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/sequences/sequences.py --seconds '$(SOAK_SECONDS)'

# A run that fails leaves its log and its store in build/faults.
.PHONY: faults faults-short
faults-short: packages-test $(BIN) ## kill -9 under load, and disks that stall, fill up and fail, under a daemon with a store
	@$(call pytest,test/faults,faults)
faults: packages-test $(BIN) faults-store-all ## the same at every write, every planted mistake, and kills for FAULTS_SECONDS
	@export FAULTS_LONG=1 LONGEST=900; $(call pytest,test/faults,faults)
	@$(run_env) BRAMBLE='$(abspath $(BIN))' PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/faults/rounds.py --seconds '$(FAULTS_SECONDS)'

.PHONY: interop
interop: packages-test $(BIN) $(NODE)/.done $(if $(wildcard ws/dashboard/build.sh),$(PAGE)/.done) ## tests with other people's clients and a browser
	@$(call pytest,test/interop,interop)

# Of a build of its own, gcc's. Without optimising there are warnings that the other builds have not: they do not count.
coverage_make = $(MAKE) --no-print-directory COVERAGE=1 CC=gcc WERROR=0
.PHONY: coverage
coverage: packages-test ## which lines the unit and conformance tests run (at least 90 %), and what clients can reach and no test does, and why
	@$(coverage_make) test-built
	@find build/coverage/obj -name '*.gcda' -delete
	@umask 0; $(coverage_make) unit # children that give up root write down what they ran
	@$(coverage_make) conformance
	@test/lib/coverage lines build/coverage
	@test/lib/coverage reached build/coverage
	@echo '== make coverage: all passed'

# ---- fuzz: every test/fuzz/fuzz_NAME.c over test/fuzz/corpus/NAME ------------------------------------------------
# All that they link is instrumented, the two libraries too: what a client sends goes through those first.
FUZZ_CC ?= clang
fuzz_san := -fsanitize=address,undefined -fno-sanitize-recover=all
fuzz_flags := $(base_cflags) -O1 -fno-omit-frame-pointer $(base_cppflags) $(fuzz_san) -MMD -MP
fuzz_deps_flags := -O1 -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link -U_FORTIFY_SOURCE
FUZZ_LIB := $(FUZZ_BUILD)/libbramble.a
FUZZ_OBJECTS := $(patsubst %.c,$(FUZZ_BUILD)/obj/%.o,$(filter-out $(MAIN),$(SOURCES)))
# calls that a fuzzer takes over: memory that runs out, chance that repeats
fuzz_wrap_session := malloc calloc realloc strdup passwords_mark
fuzz_wrap_tls := mbedtls_ctr_drbg_random mbedtls_ecp_mul mbedtls_ecp_mul_restartable mbedtls_ecp_muladd_restartable
fuzz_wrap = $(patsubst %,-Wl$(comma)--wrap=%,$(fuzz_wrap_$(1)))
ifeq ($(DEPS),own)
FUZZ_DEPS := $(FUZZ_BUILD)/deps
FUZZ_DEPS_DONE := $(FUZZ_DEPS)/.done
fuzz_libraries := -L$(FUZZ_DEPS)/lib $(libraries)
$(FUZZ_DEPS_DONE): .ci/deps.sh tls/mbedtls_config.h $(DEPS_DONE) | packages-test
	$(Q)CC='$(FUZZ_CC)' CFLAGS='$(fuzz_deps_flags)' JOBS='$(JOBS)' V='$(V)' .ci/deps.sh $(FUZZ_DEPS)
else
fuzz_libraries := $(libraries)
endif

.PHONY: fuzz
fuzz: packages-test ## run each fuzzer for SECONDS, JOBS at a time
	@$(MAKE) --no-print-directory fuzz-built
	@$(run_env) test/lib/run-fuzz $(FUZZ_BUILD) $(SECONDS) $(JOBS) $(FUZZ)

$(FUZZ_BUILD)/obj/%.o: %.c $(DEPS_DONE) Makefile
	$(say) CC "$< (fuzz)"
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(fuzz_flags) $(deps_cflags) -fsanitize=fuzzer-no-link -c -o $@ $<
$(FUZZ_LIB): $(FUZZ_OBJECTS)
	$(Q)rm -f $@ && ar qcs $@ $^
$(FUZZ_BINS): $(FUZZ_BUILD)/fuzz_%: $(FUZZ_BUILD)/obj/test/fuzz/fuzz_%.o $(FUZZ_LIB) $(FUZZ_DEPS_DONE)
	$(say) LINK $@
	$(Q)$(FUZZ_CC) $(fuzz_san) -fsanitize=fuzzer $(call fuzz_wrap,$*) -o $@ $< $(FUZZ_LIB) -lcmocka $(fuzz_libraries)

# ---- check: no test is run ---------------------------------------------------------------------------------------
CHECKS := check-format check-layers check-gcc check-clang check-analyzer check-tidy check-cppcheck check-shell \
	check-suppressions check-hosts check-readme check-security
.PHONY: check $(CHECKS)
check: packages-check ## format, layers, warnings (gcc and clang), analysis (gcc, clang-tidy, cppcheck), shell scripts
	@$(MAKE) --no-print-directory $(DEPS_DONE)
	@$(MAKE) --no-print-directory $(CHECKS)
	@echo '== make check: all passed'

# Versions of clang-format and of the analysers differ in details. Those of Debian 12 and 13 have the say; any other only
# tells. judged,PROGRAM VERSION...: for behind a `||`
version_of = $$($(1) --version | grep -oE '[0-9]+\.[0-9]+' | head -n 1 | cut -d. -f1)
judged = { [[ " $(2) " != *" $(call version_of,$(1)) "* ]] || exit 1; echo '($(1) is none of $(2): not counted)' >&2; }
check-format:
	$(say) CHECK "format of $(words $(ALL_C) $(HEADERS)) files"
	$(Q)clang-format --dry-run -Werror $(ALL_C) $(HEADERS) || { echo 'make format mends that' >&2; $(call judged,clang-format,14 19); }

check-layers:
	$(say) CHECK "layers (and the check itself)"
	$(Q)test/lib/check-layers
	$(Q)test/lib/check-layers-test

# Each file leaves a mark when it is clean, so a second check costs little. gcc compiles for real: some of its warnings
# come from the optimiser.
GCC_MARKS := $(ALL_C:%.c=build/check/gcc/%.o)
CLANG_MARKS := $(ALL_C:%.c=build/check/clang/%.ok)
ANALYZER_MARKS := $(SOURCES:%.c=build/check/analyzer/%.ok)
TIDY_MARKS := $(SOURCES:%.c=build/check/tidy/%.ok)
check-gcc: $(GCC_MARKS)
	$(say) CHECK "warnings of gcc: $(words $(ALL_C)) files"
check-clang: $(CLANG_MARKS)
	$(say) CHECK "warnings of clang: $(words $(ALL_C)) files"
check-analyzer: $(ANALYZER_MARKS)
	$(say) CHECK "gcc -fanalyzer: $(words $(SOURCES)) files"
check-tidy: $(TIDY_MARKS)
	$(say) CHECK "clang-tidy: $(words $(SOURCES)) files"
check_flags := -std=gnu11 $(WARNINGS) $(base_cppflags) $(deps_cflags)
build/check/.flags: force
	@mkdir -p $(@D); printf '%s\n' '$(check_flags) $(STRICT) $(TIDY_BUDGET)' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(GCC_MARKS) $(CLANG_MARKS) $(ANALYZER_MARKS) $(TIDY_MARKS): build/check/.flags $(DEPS_DONE)

build/check/gcc/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CROSS)gcc $(check_flags) -Werror $(call per_file,$<) $(call per_file_gcc,$<) -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -MMD -MP -c -o $@ $<
build/check/clang/%.ok: %.c
	@mkdir -p $(@D)
	$(Q)clang $(check_flags) -Werror $(call per_file,$<) -fsyntax-only -MMD -MP -MT $@ -MF $(@:.ok=.d) $< && touch $@

# spared,TOOL,PREFIX,SUFFIX: each check that .ci/analysis.txt has switched off for this file, between the two
spared = $$(awk -v file=$< '$$1 == "$(1)" { for (i = 3; i <= NF; i++) if ($$i == file) printf "$(2)%s$(3)", $$2 }' .ci/analysis.txt)
build/check/analyzer/%.ok: %.c .ci/analysis.txt
	@mkdir -p $(@D)
	$(Q)$(CROSS)gcc $(check_flags) -Werror -fanalyzer $(call spared,gcc,-Wno-analyzer-, ) -MMD -MP -MT $@ -MF $(@:.ok=.d) \
	    -c -o $(@:.ok=.o) $< || $(call judged,$(CROSS)gcc,12 14)
	@rm -f $(@:.ok=.o); touch $@

# A third of the usual budget for each function takes a third of the time, and finds here what all of it finds. What a
# file includes is known from the marks of clang.
TIDY_BUDGET := $(foreach w,-analyzer-config max-nodes=75000,-Xclang $(w))
build/check/tidy/%.ok: %.c build/check/clang/%.ok .clang-tidy .ci/analysis.txt
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet --checks="$(call spared,tidy,-,$(comma))" $< -- $(check_flags) $(TIDY_BUDGET) 2>$(@:.ok=.err) || \
	    { cat $(@:.ok=.err) >&2; $(call judged,clang-tidy,14 19); }
	@touch $@

# Of the system's headers cppcheck gets those that are nothing but macros for lists; the rest it knows by itself.
CPPCHECK := cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning --enable=performance --enable=portability \
	--inline-suppr --suppressions-list=.ci/cppcheck.txt --cppcheck-build-dir=build/check/cppcheck -j$(JOBS) \
	-I. -Ibuild/check/include -D_GNU_SOURCE
check-cppcheck:
	$(say) CHECK "cppcheck"
	$(Q)mkdir -p build/check/cppcheck build/check/include/sys && cp -u /usr/include/ut{hash,list}.h build/check/include
	$(Q)cp -u $$(find /usr/include -path '*/sys/queue.h' | head -n 1) build/check/include/sys
	$(Q)$(if $(SOURCES),$(CPPCHECK) $(SOURCES))

check-shell:
	$(say) CHECK "shell scripts: $(words $(SCRIPTS)) files"
	$(Q)$(if $(SCRIPTS),shellcheck --exclude=SC2015 $(SCRIPTS))

check-suppressions:
	$(say) CHECK "what is switched off, and why"
	$(Q)test/lib/check-suppressions

check-hosts:
	$(say) CHECK "no address of a package registry"
	$(Q)test/lib/check-hosts

check-readme:
	$(say) CHECK "targets that the README names"
	$(Q)test/lib/check-readme
check-security:
	$(say) CHECK "tests that SECURITY.md names"
	$(Q)test/lib/check-security

.PHONY: format
format: ## bring all C files into shape
	$(Q)clang-format -i $(ALL_C) $(HEADERS)

# ---- install ------------------------------------------------------------------------------------------------------
MAN := $(foreach n,1 5 8,$(wildcard $(addsuffix /*.$(n),$(ROOMS))))
# Paths inside installed files follow the prefix.
subst_paths = sed -e 's|/usr/bin/bramble|$(bindir)/bramble|g' -e 's|/etc/bramble|$(sysconfdir)/bramble|g' \
	-e 's|/usr/share/bramble|$(datadir)/bramble|g' -e 's|/usr/share/doc/bramble|$(docdir)|g'
put = mkdir -p $(DESTDIR)$(2) && $(subst_paths) $(1) >$(DESTDIR)$(2)/$(3) && chmod 644 $(DESTDIR)$(2)/$(3)

.PHONY: install
install: $(BIN) $(if $(filter no,$(DASHBOARD)),,$(PAGE)/.done) ## install program, page, unit, sample configuration, man pages
	$(Q)install -D -m 755 $(BIN) $(DESTDIR)$(bindir)/bramble
	$(if $(filter no,$(DASHBOARD)),,$(Q)mkdir -p $(DESTDIR)$(datadir)/bramble && rm -rf $(DESTDIR)$(datadir)/bramble/dashboard \
	    && cp -r $(PAGE) $(DESTDIR)$(datadir)/bramble/dashboard && rm -f $(DESTDIR)$(datadir)/bramble/dashboard/.done)
	$(Q)$(foreach f,$(wildcard config/*.conf),$(call put,$f,$(datadir)/bramble/examples,$(notdir $f)) &&) :
	$(if $(wildcard config/bramble.conf),$(Q)test -e $(DESTDIR)$(sysconfdir)/bramble/bramble.conf || \
	    { $(call put,config/bramble.conf,$(sysconfdir)/bramble,bramble.conf); })
	$(Q)$(foreach f,$(wildcard systemd/*.service systemd/*.socket),$(call put,$f,$(unitdir),$(notdir $f)) &&) :
	$(Q)$(foreach f,$(wildcard systemd/*sysusers*),$(call put,$f,$(sysusersdir),bramble.conf) &&) :
	$(Q)$(foreach f,$(wildcard systemd/*tmpfiles*),$(call put,$f,$(tmpfilesdir),bramble.conf) &&) :
	$(Q)$(foreach f,$(MAN),install -D -m 644 $f $(DESTDIR)$(mandir)/man$(subst .,,$(suffix $f))/$(notdir $f) &&) :
	$(if $(wildcard README.md),$(Q)install -D -m 644 README.md $(DESTDIR)$(docdir)/README.md)
	@echo '  installed in $(DESTDIR)$(prefix)'

# ---- clean --------------------------------------------------------------------------------------------------------
.PHONY: clean distclean
clean: ## remove what was built, but not the two libraries and what was fetched
	$(Q)find build -mindepth 1 -maxdepth 1 ! -name 'deps*' ! -name sources ! -name dashboard-parts -exec rm -rf {} + 2>/dev/null || :
distclean: ## remove all of build/ (the run folder stays)
	$(Q)rm -rf build

# ---- what each file includes, as the compiler found last time ---------------------------------------------------
-include $(OBJECTS:.o=.d) $(UNIT_OBJECTS:.o=.d) $(STORE_FAULTS_OBJECTS:.o=.d) $(FUZZ_OBJECTS:.o=.d) $(FUZZ:%=$(FUZZ_BUILD)/obj/test/fuzz/fuzz_%.d) $(GCC_MARKS:.o=.d) $(CLANG_MARKS:.ok=.d) $(ANALYZER_MARKS:.ok=.d)

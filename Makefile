# The one entrance to khp: `make help` lists the targets.
#
# Whatever a distributor or LuaRocks wants to decide is a variable with a default: CC CFLAGS CPPFLAGS LDFLAGS LIBFLAG
# LUA LUA_INCDIR PREFIX BINDIR LIBDIR LUADIR MANDIR DESTDIR. BUILD names the folder that everything made here goes into.

.DEFAULT_GOAL := build
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
BUILD ?= build
SUBMAKE = $(MAKE) --no-print-directory
# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1) $(2)")

# ---- tools -----------------------------------------------------------------------------------------------------------

PKG_CONFIG ?= pkg-config
LUA ?= $(firstword $(foreach name,lua5.4 lua54 lua-5.4 lua,$(shell command -v $(name) 2>/dev/null)) lua5.4)
LUA_PC := $(firstword $(foreach name,lua5.4 lua54 lua-5.4 lua,\
	$(shell $(PKG_CONFIG) --exists '$(name) >= 5.4' 2>/dev/null && echo $(name))))
export LUA
LUA_INCDIR ?= $(if $(LUA_PC),$(patsubst -I%,%,$(firstword $(shell $(PKG_CONFIG) --cflags-only-I $(LUA_PC)))))

LIBRARIES := libwebsockets libuv openssl zlib
JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

# ---- flags -----------------------------------------------------------------------------------------------------------

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wundef -Wwrite-strings -Wmissing-prototypes \
	-Wstrict-prototypes -Wformat=2 -Wvla
WERROR ?=

# Other people's headers are not ours to warn about: -isystem.
FOUND_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null))
FOUND_LDFLAGS := $(shell $(PKG_CONFIG) --libs-only-L $(LIBRARIES) 2>/dev/null)
KHP_CFLAGS = -std=c11 $(WARNINGS) $(WERROR) -fvisibility=hidden -fPIC -D_GNU_SOURCE -Icsrc \
	$(if $(CRYPT_LIBS),-DKHP_HAVE_CRYPT) $(if $(LUA_INCDIR),-isystem $(LUA_INCDIR)) $(FOUND_CFLAGS)
KHP_LIBS := -lwebsockets -luv -lssl -lcrypto -lz
# crypt(3), for password files: where the system has none, what needs it is refused (docs/decisions/0006-crypt.md). It
# is looked for once, and only when something is compiled. CRYPT_LIBS= leaves it out.
ifeq ($(origin CRYPT_LIBS),undefined)
CRYPT_LIBS = $(eval CRYPT_LIBS := $(shell $(CRYPT_PROBE) 2>/dev/null && echo -lcrypt))$(CRYPT_LIBS)
endif
CRYPT_PROBE = printf '\#include <crypt.h>\nint main(void) { static struct crypt_data d; return !crypt_r("", "", &d); }\n' \
	| $(CC) $(CPPFLAGS) -D_GNU_SOURCE $(FOUND_LDFLAGS) -o /dev/null -xc - -lcrypt
LIBFLAG ?= $(if $(filter Darwin,$(shell uname -s)),-bundle -undefined dynamic_lookup,-shared)

COMPILE = $(CC) $(KHP_CFLAGS) $(CPPFLAGS) $(CFLAGS)

# ---- sources ---------------------------------------------------------------------------------------------------------

ROOMS ?= http ws net core
ROOM_SOURCES := $(foreach room,$(ROOMS),$(wildcard csrc/$(room)/*.c))
LUA_SOURCES := $(wildcard csrc/lua/*.c)
HEADERS := $(wildcard csrc/*/*.h)
ROOM_OBJECTS := $(ROOM_SOURCES:csrc/%.c=$(BUILD)/obj/%.o)
LUA_OBJECTS := $(LUA_SOURCES:csrc/%.c=$(BUILD)/obj/%.o)
space := $(subst ,, )
ARCHIVE := $(BUILD)/$(subst $(space),-,$(ROOMS)).a
MODULE := $(BUILD)/khp/core.so

# ---- build -----------------------------------------------------------------------------------------------------------

.PHONY: build objects install uninstall clean help

build: $(MODULE) ## builds khp/core.so into build/ (the default)

$(MODULE): $(ROOM_OBJECTS) $(LUA_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS) $(FOUND_LDFLAGS) -o $@ $^ $(KHP_LIBS) $(CRYPT_LIBS)

objects: $(ROOM_OBJECTS) $(LUA_OBJECTS) ## compiles without linking (make -k objects: all that will)

$(BUILD)/obj/%.o: csrc/%.c | $(BUILD)/found
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

-include $(ROOM_OBJECTS:.o=.d) $(LUA_OBJECTS:.o=.d)

# Nothing is installed by building. What is missing is told once, in words, instead of by the first #include that fails.
PROBE = printf '\#include <%s>\n' lauxlib.h libwebsockets.h uv.h openssl/ssl.h zlib.h | $(COMPILE) -E -xc - -o /dev/null
$(BUILD)/found:
	@mkdir -p $(@D)
	@$(PROBE) 2>/dev/null || { CC='$(CC)' scripts/dependencies --check && $(PROBE); exit 1; }
	@touch $@

clean: ## removes what was built
	rm -rf $(BUILD)

help: ## prints this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(ROOT)/Makefile | expand -t 18

# ---- installing ------------------------------------------------------------------------------------------------------

PREFIX ?= /usr/local
LUA_VERSION ?= 5.4
LUA_LMOD ?= $(PREFIX)/share/lua/$(LUA_VERSION)
LUA_CMOD ?= $(PREFIX)/lib/lua/$(LUA_VERSION)
LUADIR ?= $(LUA_LMOD)
LIBDIR ?= $(LUA_CMOD)
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS ?= $(PREFIX)/share/fish/vendor_completions.d
INSTALL ?= install
PROGRAMS := $(notdir $(wildcard bin/*))
LUA_MODULES = $(sort $(shell cd lua && find khp -name '*.lua'))

# Installs what was built, and builds nothing.
install: ## copies what was built to PREFIX (LUADIR LIBDIR BINDIR MANDIR DESTDIR)
	@test -f $(MODULE) || { echo "nothing is built yet: run make first" >&2; exit 1; }
	@for module in $(LUA_MODULES); do \
		mkdir -p "$(DESTDIR)$(LUADIR)/$$(dirname $$module)" && \
		$(INSTALL) -m 644 lua/$$module "$(DESTDIR)$(LUADIR)/$$module" || exit 1; \
	done
	@mkdir -p "$(DESTDIR)$(LIBDIR)/khp" "$(DESTDIR)$(BINDIR)"
	$(INSTALL) -m 755 $(MODULE) "$(DESTDIR)$(LIBDIR)/khp/core.so"
	@for program in $(PROGRAMS); do \
		{ sed '1s|lua5.4|$(notdir $(LUA))|;1q' bin/$$program; $(KNOW_PATHS); sed 1d bin/$$program; } \
			>"$(DESTDIR)$(BINDIR)/$$program" && \
		chmod 755 "$(DESTDIR)$(BINDIR)/$$program" || exit 1; \
	done
	@mkdir -p "$(DESTDIR)$(MANDIR)/man1" && $(INSTALL) -m 644 docs/khp.1 "$(DESTDIR)$(MANDIR)/man1/khp.1"
	@$(foreach shell,bash zsh fish,$(call complete,$(shell)) &&) true
	@$(if $(AWAY),echo "Lua does not search $(LUADIR). The program khp does; other programs find the modules with:"; \
		echo "export LUA_PATH='$(LUADIR)/?.lua;$(LUADIR)/?/init.lua;;' LUA_CPATH='$(LIBDIR)/?.so;;'")

# Where Lua does not look for modules by itself, the installed program knows where its own are. Not empty then.
AWAY = $(shell env -u LUA_PATH -u LUA_CPATH -u LUA_PATH_5_4 -u LUA_CPATH_5_4 $(LUA) -e 'local function has(path, name) \
	return (";" .. path .. ";"):find(";" .. name .. ";", 1, true) end \
	print(has(package.path, "$(LUADIR)/?.lua") and has(package.path, "$(LUADIR)/?/init.lua") and \
	has(package.cpath, "$(LIBDIR)/?.so") and "" or "away")')
KNOW_PATHS = $(if $(AWAY),printf '%s\n' 'package.path = "$(LUADIR)/?.lua;$(LUADIR)/?/init.lua;" .. package.path' \
	'package.cpath = "$(LIBDIR)/?.so;" .. package.cpath',true)

# Where the shells look for completions; the command line says them itself. Without argparse there is none.
completion_bash = $(BASH_COMPLETIONS)/khp
completion_zsh = $(ZSH_COMPLETIONS)/_khp
completion_fish = $(FISH_COMPLETIONS)/khp.fish
complete = { ! $(LUA) -e 'require "argparse"' 2>/dev/null || { mkdir -p "$$(dirname "$(DESTDIR)$(completion_$(1))")" && \
	$(WITH_ENV) $(LUA) bin/khp completion $(1) >"$(DESTDIR)$(completion_$(1))"; }; }

uninstall: ## removes what install put there
	rm -rf "$(DESTDIR)$(LUADIR)/khp" "$(DESTDIR)$(LIBDIR)/khp" $(PROGRAMS:%="$(DESTDIR)$(BINDIR)/%") \
		"$(DESTDIR)$(MANDIR)/man1/khp.1" $(foreach shell,bash zsh fish,"$(DESTDIR)$(completion_$(shell))")

# ---- running from the checkout ---------------------------------------------------------------------------------------

.PHONY: env demo bench

# What the user had in these variables comes after ours, or the default path when he had nothing. bin is put before
# PATH once.
env: ## eval "$(make -s env)" lets the checkout run as if installed
	@echo "export LUA_PATH='$(ROOT)/lua/?.lua;$(ROOT)/lua/?/init.lua;'\"\$${LUA_PATH_5_4:-\$${LUA_PATH:-;}}\""
	@echo "export LUA_CPATH='$(abspath $(BUILD))/?.so;'\"\$${LUA_CPATH_5_4:-\$${LUA_CPATH:-;}}\""
	@echo "unset LUA_PATH_5_4 LUA_CPATH_5_4"
	@echo "case :\$$PATH: in *:'$(ROOT)/bin':*) ;; *) export PATH='$(ROOT)/bin:'\"\$$PATH\" ;; esac"

WITH_ENV = eval "$$($(SUBMAKE) -s env BUILD=$(BUILD))" &&

demo: ## installs what is missing, builds, shows the library at work
	@scripts/dependencies
	@$(SUBMAKE) -s -j$(JOBS) build
	@$(WITH_ENV) LUA=$(LUA) scripts/demo

BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
$(BUILD)/bench/lws_%: KHP_BENCH_LIBS = -lwebsockets
$(BUILD)/bench/%: bench/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(COMPILE) $(LDFLAGS) $(FOUND_LDFLAGS) -o $@ $< $(KHP_BENCH_LIBS)

bench: build $(BENCHES) ## measures side by side with other servers (ARGS=... for bench/run.lua)
	@$(WITH_ENV) $(LUA) bench/run.lua $(ARGS)

# ---- tests -----------------------------------------------------------------------------------------------------------

.PHONY: spec spec-c spec-c-programs spec-all conformance check check-asan check-valgrind check-gc fuzz fuzz-programs fuzz-keep \
	coverage peers rock rockspec reference manual pictures

BUSTED = $(LUA) scripts/busted.lua

spec: build ## runs busted (FILE=spec/some_spec.lua ARGS=--filter=words)
	$(WITH_ENV) $(BUSTED) $(ARGS) $(FILE)

CMOCKA_LIBS := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null || echo -lcmocka)
C_SPECS := $(sort $(wildcard spec/c/*_test.c))
C_SPEC_PROGRAMS := $(C_SPECS:spec/c/%.c=$(BUILD)/spec/%)
-include $(C_SPEC_PROGRAMS:=.d)

$(ARCHIVE): $(ROOM_OBJECTS)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/spec/%_test: spec/c/%_test.c $(ARCHIVE)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(COMPILE) -MMD -MP -MF $@.d $(LDFLAGS) $(FOUND_LDFLAGS) -o $@ $< $(ARCHIVE) $(CMOCKA_LIBS) $(KHP_LIBS)

# A fuzz target without libFuzzer, to replay its corpus.
FUZZERS := $(patsubst spec/fuzz/%_fuzz.c,%,$(sort $(wildcard spec/fuzz/*_fuzz.c)))
$(BUILD)/spec/%_replay: spec/fuzz/%_fuzz.c spec/fuzz/replay.c $(ARCHIVE)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(COMPILE) $(LDFLAGS) $(FOUND_LDFLAGS) -o $@ $^ $(KHP_LIBS)

spec-c-programs: $(C_SPEC_PROGRAMS) $(FUZZERS:%=$(BUILD)/spec/%_replay)

# With ROOMS, only these rooms are built and linked.
spec-c: $(if $(FILE),$(FILE:spec/c/%.c=$(BUILD)/spec/%),$(C_SPEC_PROGRAMS)) ## runs the C tests (FILE=... ROOMS="http ws")
	@status=0; for program in $^; do echo "$$program"; timeout 300 $$program || status=1; done; exit $$status

# Every file is a program of its own: a crash in one has a name and takes no other with it. RUN_C and RUN_LUA stand
# before the programs' names, BUSTED_ARGS after busted's.
RUN_C ?=
RUN_LUA ?=
BUSTED_ARGS ?=
BACKENDS ?= uv poll
LIMIT ?= 300
LUA_SPECS := $(sort $(shell find spec -name '*_spec.lua' 2>/dev/null))
# These are run with each backend; of the peers Chromium only with the first (spec/peers/peers.lua).
E2E_SPECS := $(filter-out spec/peers/browser_spec.lua spec/peers/versions_spec.lua,$(filter spec/e2e/% spec/peers/%,$(LUA_SPECS)))
# What became of each test, for the table of conformance.
RESULTS := $(BUILD)/results
SUITES = --limit $(LIMIT) --log $(RESULTS) \
	$(foreach program,$(C_SPEC_PROGRAMS),--tap $(program:$(BUILD)/spec/%=spec/c/%.c) \
		'CMOCKA_MESSAGE_OUTPUT=TAP $(RUN_C) $(program)') \
	$(foreach name,$(FUZZERS),--tap spec/fuzz/corpus/$(name) \
		'$(RUN_C) $(BUILD)/spec/$(name)_replay spec/fuzz/corpus/$(name)') \
	$(foreach file,$(filter-out $(E2E_SPECS),$(LUA_SPECS)),--tap $(file) \
		'$(RUN_LUA) $(BUSTED) -o TAP $(BUSTED_ARGS) $(file)') \
	$(foreach backend,$(BACKENDS),$(foreach file,$(E2E_SPECS),--tap '$(file) on $(backend)' \
		'KHP_BACKEND=$(backend) $(RUN_LUA) $(BUSTED) -o TAP $(BUSTED_ARGS) $(file)'))

POLICIES := $(sort $(wildcard examples/policies/*.lua))

# Other people's clients and servers that come from npm, in the versions of the lock file. Where they cannot be had, the
# specs say so. Sub-makes with another BUILD take the same.
export KHP_PEERS ?= $(abspath $(BUILD))/peers
PEERS := spec/peers/package.json spec/peers/package-lock.json
NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --prefer-offline --fetch-retries=1

peers: $(KHP_PEERS)/installed ## gets from npm what spec/peers talks to
$(KHP_PEERS)/installed: $(PEERS)
	@mkdir -p $(@D)
	@cp $(PEERS) $(@D)
	$(call say,NPM,$(@D))
	$(Q)cd $(@D) && if $(NPM_CI) >npm.log 2>&1; then touch $@; else echo "npm brings nothing: $(@D)/npm.log" >&2; fi

MUST_BUILD = $(SUBMAKE) -j$(JOBS) build spec-c-programs $(1) || { echo; echo "0 passed, 1 failed"; exit 1; }

check: ## installs what is missing, builds, runs every test; the last line is the sum
	@scripts/dependencies test
	@$(SUBMAKE) peers
	@$(call MUST_BUILD,WERROR=-Werror)
	@$(WITH_ENV) $(LUA) scripts/tally.lua $(SUITES) \
		--tap conformance '$(LUA) scripts/conformance.lua --tap $(RESULTS)' \
		--tap 'khp check examples/policies' '$(LUA) bin/khp check $(POLICIES)' \
		--run layers '$(LUA) scripts/layers.lua' \
		--run luacheck '$(SUBMAKE) lint-lua' \
		--run rock '$(SUBMAKE) rock'

# Without a change since the last check, this takes the results of that.
TESTED = $(MODULE) $(C_SPEC_PROGRAMS) $(FUZZERS:%=$(BUILD)/spec/%_replay) \
	$(shell find lua spec scripts -name corpus -prune -o -type f -print)
$(RESULTS): $(TESTED)
	-@$(WITH_ENV) $(LUA) scripts/tally.lua $(SUITES)

conformance: $(RESULTS) ## prints the requirements and the tests that prove them (WRITE=1: docs/conformance.md, too)
	@$(LUA) scripts/conformance.lua $(if $(WRITE),--write) $(RESULTS)

# All the specs and nothing else, under whatever RUN_C, RUN_LUA and BUSTED_ARGS say.
# KHP_SPEC_TOOL names the tool to specs that measure time or memory: asan, valgrind, gc.
spec-all:
	@$(SUBMAKE) peers
	@$(call MUST_BUILD)
	@$(WITH_ENV) $(LUA) scripts/tally.lua $(SUITES)

SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

# Lua itself is not built so: the runtime is loaded before it, and leaks are left to the C tests and to valgrind. The
# runtime has a crypt_r() of its own, which finds the system's only if that is there from the beginning.
check-asan: ## the specs under AddressSanitizer and UndefinedBehaviorSanitizer
	@KHP_SPEC_TOOL=asan $(SUBMAKE) spec-all BUILD=$(BUILD)/asan CFLAGS='$(SANITIZE)' LDFLAGS='-fsanitize=address,undefined' \
		RUN_LUA='ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$(subst $(space),:,$(foreach \
			name,asan $(CRYPT_LIBS:-l%=%),$(shell $(CC) -print-file-name=lib$(name).so)))'

VALGRIND := valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite

check-valgrind: ## the specs under valgrind, leaks included
	@KHP_SPEC_TOOL=valgrind $(SUBMAKE) spec-all BUILD=$(BUILD)/valgrind CFLAGS='-O1 -g' LIMIT=1800 RUN_C='$(VALGRIND)' RUN_LUA='$(VALGRIND)'

check-gc: ## the Lua specs with the collector always running
	@KHP_SPEC_TOOL=gc $(SUBMAKE) spec-all BUSTED_ARGS=--helper=spec/helpers/collector.lua LIMIT=900

rockspec: ## writes the lists of files in the rockspec
	$(LUA) scripts/rockspec.lua

reference: ## writes docs/reference.md from the annotations
	$(LUA) scripts/reference.lua

manual: build ## writes docs/khp.1 from what the commands say of themselves
	$(WITH_ENV) $(LUA) scripts/manual.lua

pictures: ## draws docs/pictures from the transcripts of the tests
	$(LUA) scripts/pictures.lua

rock: ## builds and loads the rock in a tree of its own, offline
	@scripts/rock $(BUILD)/rock

# ---- fuzzing and coverage --------------------------------------------------------------------------------------------

FUZZ_SECONDS ?= 30
FUZZ_BUILD := $(BUILD)/fuzz
FUZZ_FLAGS := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all

fuzz-programs: $(FUZZERS:%=$(BUILD)/%_fuzz)
$(BUILD)/%_fuzz: spec/fuzz/%_fuzz.c $(ARCHIVE)
	$(call say,CC,$<)
	$(Q)$(COMPILE) -fsanitize=fuzzer $(FOUND_LDFLAGS) -o $@ $< $(ARCHIVE) $(KHP_LIBS)

# What is found goes to build/fuzz; spec/fuzz/corpus is where it begins. fuzz-keep takes over what reaches new code.
fuzz: ## runs every fuzzer for FUZZ_SECONDS=30 (FUZZERS=name for one)
	@$(SUBMAKE) -j$(JOBS) fuzz-programs BUILD=$(FUZZ_BUILD) CC=clang \
		CFLAGS='$(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined'
	@for name in $(FUZZERS); do \
		mkdir -p $(FUZZ_BUILD)/corpus/$$name spec/fuzz/corpus/$$name; \
		echo "== $$name"; \
		$(FUZZ_BUILD)/$${name}_fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -print_final_stats=1 \
			-artifact_prefix=$(FUZZ_BUILD)/$$name- $(FUZZ_BUILD)/corpus/$$name spec/fuzz/corpus/$$name || exit 1; \
	done

fuzz-keep: ## adds to spec/fuzz/corpus what fuzz found and what reaches new code
	@for name in $(FUZZERS); do \
		$(FUZZ_BUILD)/$${name}_fuzz -merge=1 -verbosity=0 spec/fuzz/corpus/$$name $(FUZZ_BUILD)/corpus/$$name || exit 1; \
	done

COVERAGE_BUILD := $(BUILD)/coverage

coverage: ## which lines of C the specs reach: build/coverage/html
	@find $(COVERAGE_BUILD) -name '*.gcda' -delete 2>/dev/null || true
	-@$(SUBMAKE) spec-all BUILD=$(COVERAGE_BUILD) CFLAGS='-O0 -g --coverage' LDFLAGS=--coverage
	@lcov --quiet --capture --directory $(COVERAGE_BUILD)/obj --output-file $(COVERAGE_BUILD)/lcov.info
	@lcov --quiet --extract $(COVERAGE_BUILD)/lcov.info '$(ROOT)/csrc/*' --output-file $(COVERAGE_BUILD)/lcov.info
	@genhtml --quiet --output-directory $(COVERAGE_BUILD)/html $(COVERAGE_BUILD)/lcov.info
	@lcov --list $(COVERAGE_BUILD)/lcov.info

# ---- style -----------------------------------------------------------------------------------------------------------

.PHONY: fmt lint lint-format lint-compile lint-tidy lint-cppcheck lint-lua lint-layers

C_FILES := $(sort $(wildcard csrc/*/*.[ch] spec/c/*.[ch] spec/fuzz/*.[ch] bench/*.[ch]))
C_SOURCES := $(filter %.c,$(C_FILES))

fmt: ## formats the C sources
	clang-format -i $(C_FILES)

lint: lint-format lint-layers lint-lua lint-cppcheck lint-compile lint-tidy ## every check that runs nothing (make -k lint: all of them)

lint-format:
	$(Q)clang-format --dry-run -Werror $(C_FILES)

lint-layers:
	$(LUA) scripts/layers.lua

# luacheck has a Lua of its own and must not see the paths of ours.
lint-lua:
	@env -u LUA_PATH -u LUA_CPATH luacheck --quiet --no-color . bin/khp

lint-cppcheck:
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --language=c --enable=warning,performance,portability \
		--inline-suppr --suppress=missingIncludeSystem -D_GNU_SOURCE -Icsrc csrc

lint-compile:
	@$(SUBMAKE) -j$(JOBS) objects spec-c-programs BUILD=$(BUILD)/lint-gcc CC=gcc WERROR=-Werror
	@$(SUBMAKE) -j$(JOBS) objects spec-c-programs BUILD=$(BUILD)/lint-clang CC=clang WERROR=-Werror

lint-tidy:
	$(Q)printf '%s\n' $(C_SOURCES) | xargs -P $(JOBS) -n 1 sh -c 'clang-tidy --quiet "$$1" -- $(KHP_CFLAGS) 2>/dev/null' tidy

# The one entrance to khp: `make help` lists the targets.
#
# Whatever a distributor or LuaRocks wants to decide is a variable with a default: CC CFLAGS CPPFLAGS LDFLAGS LIBFLAG
# LUA LUA_INCDIR PREFIX BINDIR LIBDIR LUADIR DESTDIR. BUILD names the folder that everything made here goes into.

ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
BUILD ?= build

# ---- tools -----------------------------------------------------------------------------------------------------------

PKG_CONFIG ?= pkg-config
LUA ?= $(firstword $(foreach name,lua5.4 lua54 lua-5.4 lua,$(shell command -v $(name) 2>/dev/null)) lua5.4)
LUA_PC := $(firstword $(foreach name,lua5.4 lua54 lua-5.4 lua,\
	$(shell $(PKG_CONFIG) --exists '$(name) >= 5.4' 2>/dev/null && echo $(name))))
LUA_INCDIR ?= $(if $(LUA_PC),$(patsubst -I%,%,$(firstword $(shell $(PKG_CONFIG) --cflags-only-I $(LUA_PC)))))

LIBRARIES := libwebsockets libuv openssl zlib

# ---- flags -----------------------------------------------------------------------------------------------------------

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wundef -Wwrite-strings -Wmissing-prototypes \
	-Wstrict-prototypes -Wformat=2 -Wvla
WERROR ?=

# Other people's headers are not ours to warn about: -isystem.
FOUND_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null))
FOUND_LDFLAGS := $(shell $(PKG_CONFIG) --libs-only-L $(LIBRARIES) 2>/dev/null)
KHP_CFLAGS = -std=c11 $(WARNINGS) $(WERROR) -fvisibility=hidden -fPIC -D_GNU_SOURCE -Icsrc \
	$(if $(LUA_INCDIR),-isystem $(LUA_INCDIR)) $(FOUND_CFLAGS)
KHP_LIBS := -lwebsockets -luv -lssl -lcrypto -lz
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

.DEFAULT_GOAL := build
.PHONY: build objects env spec spec-c clean

build: $(MODULE)

$(MODULE): $(ROOM_OBJECTS) $(LUA_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS) $(FOUND_LDFLAGS) -o $@ $^ $(KHP_LIBS)

# Every object that compiles, also while others do not: make -k objects.
objects: $(ROOM_OBJECTS) $(LUA_OBJECTS)

$(BUILD)/obj/%.o: csrc/%.c
	@mkdir -p $(@D)
	$(COMPILE) -MMD -MP -c -o $@ $<

-include $(ROOM_OBJECTS:.o=.d) $(LUA_OBJECTS:.o=.d)

# ---- running from the checkout ---------------------------------------------------------------------------------------

# eval "$(make -s env)": what the user had in these variables comes after ours, or the default path when he had nothing.
env:
	@echo "export LUA_PATH='$(ROOT)/lua/?.lua;$(ROOT)/lua/?/init.lua;'\"\$${LUA_PATH_5_4:-\$${LUA_PATH:-;}}\""
	@echo "export LUA_CPATH='$(abspath $(BUILD))/?.so;'\"\$${LUA_CPATH_5_4:-\$${LUA_CPATH:-;}}\""
	@echo "unset LUA_PATH_5_4 LUA_CPATH_5_4"

WITH_ENV = eval "$$($(MAKE) -s --no-print-directory env BUILD=$(BUILD))" &&

# ---- tests -----------------------------------------------------------------------------------------------------------

# busted as its own program starts it, but under the Lua that the module is for.
BUSTED = $(LUA) scripts/busted.lua

# make spec [FILE=spec/some_spec.lua] [ARGS=--filter=words]
spec: build
	$(WITH_ENV) $(BUSTED) $(ARGS) $(FILE)

C_SPECS := $(wildcard spec/c/*_test.c)
C_SPEC_PROGRAMS := $(C_SPECS:spec/c/%.c=$(BUILD)/spec/%)
CMOCKA_LIBS := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null || echo -lcmocka)
-include $(C_SPEC_PROGRAMS:=.d)

$(ARCHIVE): $(ROOM_OBJECTS)
	@mkdir -p $(@D)
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/spec/%_test: spec/c/%_test.c $(ARCHIVE)
	@mkdir -p $(@D)
	$(COMPILE) -MMD -MP -MF $@.d $(LDFLAGS) $(FOUND_LDFLAGS) -o $@ $< $(ARCHIVE) $(CMOCKA_LIBS) $(KHP_LIBS)

# make spec-c [FILE=spec/c/some_test.c] [ROOMS=http]: with ROOMS, only these rooms are built and linked.
spec-c: $(if $(FILE),$(FILE:spec/c/%.c=$(BUILD)/spec/%),$(C_SPEC_PROGRAMS))
	@status=0; for program in $^; do echo "$$program"; timeout 300 $$program || status=1; done; exit $$status

clean:
	rm -rf $(BUILD)

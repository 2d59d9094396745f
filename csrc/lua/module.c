/*
 * luaopen_khp_core: the C half of khp, for the files of lua/khp alone. What users see is made
 * there.
 */
#include "lua/lkhp.h"

#include <openssl/crypto.h>
#include <string.h>

#include "net/loop.h"
#include "ws/deflate.h"

LUAMOD_API int luaopen_khp_core(lua_State *L);

/* Sets the field to the number in a library's own words: "OpenSSL 3.0.2 15 Mar 2022", "4.1.6-". */
static void set_version(lua_State *L, const char *name, const char *words) {
    const char *number = words + strcspn(words, "0123456789");
    lua_pushlstring(L, number, strcspn(number, " -"));
    lua_setfield(L, -2, name);
}

/* core.versions() → { libwebsockets =, libuv =, openssl =, zlib =, lua = }: of those that are
 * loaded, and of the Lua that this was compiled for. */
static int versions(lua_State *L) {
    struct khp_net_versions net = khp_net_versions();
    lua_createtable(L, 0, 5);
    set_version(L, "libwebsockets", net.libwebsockets);
    set_version(L, "libuv", net.libuv);
    set_version(L, "openssl", OpenSSL_version(OPENSSL_VERSION));
    set_version(L, "zlib", khp_ws_deflate_version());
    set_version(L, "lua", LUA_RELEASE);
    return 1;
}

__attribute__((visibility("default"))) int luaopen_khp_core(lua_State *L) {
    static const struct {
        const char *name;
        lua_CFunction open;
    } rooms[] = {
        {"loop", lkhp_open_loop},
        {"timer", lkhp_open_timer},
        {"budget", lkhp_open_budget},
        {"signal", lkhp_open_signal},
        {"descriptor", lkhp_open_descriptor},
        {"frame", lkhp_open_frame},
        {"conn", lkhp_open_conn},
        {"listener", lkhp_open_listener},
        {"tls", lkhp_open_tls},
        {"http", lkhp_open_http},
        {"crypto", lkhp_open_crypto},
        {"deflate", lkhp_open_deflate},
        {"files", lkhp_open_files},
    };
    luaL_checkversion(L);
    lua_createtable(L, 0, sizeof rooms / sizeof *rooms + 1);
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        rooms[i].open(L);
        lua_setfield(L, -2, rooms[i].name);
    }
    lua_pushcfunction(L, versions);
    lua_setfield(L, -2, "versions");
    return 1;
}

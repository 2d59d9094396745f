/*
 * luaopen_khp_core: the C half of khp, for the files of lua/khp alone. What users see is made
 * there.
 */
#include "lua/lkhp.h"

LUAMOD_API int luaopen_khp_core(lua_State *L);

__attribute__((visibility("default"))) int luaopen_khp_core(lua_State *L) {
    static const struct {
        const char *name;
        lua_CFunction open;
    } rooms[] = {
        {"loop", lkhp_open_loop},     {"timer", lkhp_open_timer}, {"budget", lkhp_open_budget},
        {"signal", lkhp_open_signal}, {"conn", lkhp_open_conn},   {"listener", lkhp_open_listener},
        {"tls", lkhp_open_tls},       {"http", lkhp_open_http},   {"crypto", lkhp_open_crypto},
    };
    luaL_checkversion(L);
    lua_createtable(L, 0, sizeof rooms / sizeof *rooms);
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        rooms[i].open(L);
        lua_setfield(L, -2, rooms[i].name);
    }
    return 1;
}

/*
 * khp.http: puts the module together. The work is done in http_*.c here, and in csrc/http.
 */
#include "lua/http.h"
#include "lua/lkhp.h"

/* Adds functions to the table at the top, with the upvalues, which begin at index `upvalues`. */
static void set_functions(lua_State *L, const luaL_Reg *functions, int upvalues) {
    for (int i = 0; i < LKHP_HTTP_UPVALUES; i++)
        lua_pushvalue(L, upvalues + i);
    luaL_setfuncs(L, functions, LKHP_HTTP_UPVALUES);
}

int lkhp_open_http(lua_State *L) {
    int upvalues = lua_gettop(L) + 1;
    lkhp_http_push_headers_upvalues(L);
    lkhp_http_push_parser_metatable(L);
    lkhp_http_push_limits_metatable(L);
    lua_newtable(L);
    set_functions(L, lkhp_http_parser_methods, upvalues);
    lua_setfield(L, -3, "__index");

    lua_newtable(L);
    set_functions(L, lkhp_http_headers_functions, upvalues);
    set_functions(L, lkhp_http_message_functions, upvalues);
    set_functions(L, lkhp_http_parser_functions, upvalues);
    set_functions(L, lkhp_http_write_functions, upvalues);
    set_functions(L, lkhp_http_grammar_functions, upvalues);
    lkhp_http_push_date(L);
    lua_setfield(L, -2, "date");
    lua_replace(L, upvalues);
    lua_settop(L, upvalues);
    return 1;
}

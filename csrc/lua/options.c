/*
 * Small change of the binding: options tables in, error returns and addresses out. Names and ranges
 * of options are checked in lua/khp/options.lua before they come here; what is left are types.
 */
#include "lua/lkhp.h"

#include <math.h>

int lkhp_fail(lua_State *L, const char *text, const char *code) {
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, code);
    lua_newtable(L);
    return 4;
}

const char *lkhp_net_code(enum khp_net_code code) {
    switch (code) {
    case KHP_NET_E_CONNECT:
    case KHP_NET_E_SYSTEM: /* what listening meets */
        return "ECONNECT";
    case KHP_NET_E_TLS:
        return "ETLS";
    case KHP_NET_E_TIMEOUT:
        return "ETIMEOUT";
    case KHP_NET_E_LIMIT:
        return "ELIMIT";
    case KHP_NET_E_CLOSED:
    case KHP_NET_E_LOCAL:
    case KHP_NET_OK:
        break;
    }
    return "ECLOSED";
}

int lkhp_net_fail(lua_State *L, const struct khp_net_error *error) {
    return lkhp_fail(L, error->text, lkhp_net_code(error->code));
}

const char *lkhp_opt_string(lua_State *L, int index, const char *name, const char *fallback) {
    int type = lua_getfield(L, index, name);
    if (type != LUA_TNIL && type != LUA_TSTRING)
        luaL_error(L, "option %s: string expected, got %s", name, luaL_typename(L, -1));
    const char *value = type == LUA_TNIL ? fallback : lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps the string */
    return value;
}

lua_Number lkhp_opt_number(lua_State *L, int index, const char *name, lua_Number fallback) {
    int type = lua_getfield(L, index, name);
    if (type != LUA_TNIL && type != LUA_TNUMBER)
        luaL_error(L, "option %s: number expected, got %s", name, luaL_typename(L, -1));
    lua_Number value = type == LUA_TNIL ? fallback : lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

bool lkhp_opt_boolean(lua_State *L, int index, const char *name, bool fallback) {
    int type = lua_getfield(L, index, name);
    bool value = type == LUA_TNIL ? fallback : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

uint64_t lkhp_milliseconds(lua_Number seconds) {
    const uint64_t far = UINT64_MAX / 4;
    if (!(seconds > 0))
        return 0;
    lua_Number ms = ceil(seconds * 1000.0);
    return ms >= (lua_Number)far ? far : (uint64_t)ms;
}

static lua_Number limit(lua_State *L, int index, const char *name) {
    lua_Number value = lkhp_opt_number(L, index, name, -1);
    if (!(value >= 0))
        luaL_error(L, "limit %s: missing or out of range", name);
    return value;
}

static uint64_t limit_size(lua_State *L, int index, const char *name) {
    lua_Number value = limit(L, index, name);
    return value >= 9007199254740992.0 ? (uint64_t)1 << 53 : (uint64_t)value;
}

static uint64_t limit_ms(lua_State *L, int index, const char *name) {
    return lkhp_milliseconds(limit(L, index, name));
}

struct khp_conn_settings *lkhp_settings(lua_State *L, int index) {
    struct khp_conn_settings read = {
        .references = 1,
        .limits = {.message = limit_size(L, index, "message"),
                   .fragments = (uint32_t)limit_size(L, index, "fragments")},
        .handshake_limits = {.message = limit_size(L, index, "extended_message"),
                             .fragments = (uint32_t)limit_size(L, index, "fragments")},
        .queue = limit_size(L, index, "queue"),
        .ping_ms = limit_ms(L, index, "ping"),
        .pong_ms = limit_ms(L, index, "pong"),
        .close_ms = limit_ms(L, index, "close")};
    struct khp_conn_settings *settings = khp_conn_settings_new();
    if (settings)
        *settings = read;
    else
        luaL_error(L, "not enough memory");
    return settings;
}

void lkhp_push_address(lua_State *L, const struct khp_net_address *address) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, address->host);
    lua_setfield(L, -2, address->is_unix ? "path" : "host");
    if (!address->is_unix) {
        lua_pushinteger(L, address->port);
        lua_setfield(L, -2, "port");
    }
}

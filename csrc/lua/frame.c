/*
 * RFC 6455 frames for Lua, one by one as they are on the wire, for who looks at captured bytes. A
 * connection does not need this: its messages come whole, from csrc/core.
 */
#include "lua/lkhp.h"

#include "ws/frame.h"

/* header(bytes [, at]) → { fin, rsv, opcode, masked, length, size, key }, of the header that begins
 * at that byte (1); nil where bytes are not all of it; nil, text where no header may be so. rsv:
 * RSV1 is 4, RSV2 2, RSV3 1; size: of the header; key: four bytes, where masked. */
static int frame_header(lua_State *L) {
    size_t n;
    const char *bytes = luaL_checklstring(L, 1, &n);
    lua_Integer at = luaL_optinteger(L, 2, 1);
    luaL_argcheck(L, at >= 1 && (lua_Unsigned)at <= n + 1, 2, "out of range");
    struct khp_ws_header header;
    const uint8_t *from = (const uint8_t *)bytes + (at - 1);
    int size = khp_ws_header_decode(from, n - (size_t)(at - 1), &header);
    lua_settop(L, 0);
    if (size == 0)
        return 0;
    if (size < 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "the length is not written in the shortest way, or above 2^63");
        return 2;
    }
    lua_createtable(L, 0, 7);
    lua_pushboolean(L, header.fin);
    lua_setfield(L, -2, "fin");
    lua_pushinteger(L, header.rsv);
    lua_setfield(L, -2, "rsv");
    lua_pushinteger(L, header.opcode);
    lua_setfield(L, -2, "opcode");
    lua_pushboolean(L, header.masked);
    lua_setfield(L, -2, "masked");
    lua_pushinteger(L, (lua_Integer)header.length);
    lua_setfield(L, -2, "length");
    lua_pushinteger(L, size);
    lua_setfield(L, -2, "size");
    if (header.masked) {
        lua_pushlstring(L, (const char *)header.key, sizeof header.key);
        lua_setfield(L, -2, "key");
    }
    return 1;
}

/* mask(bytes, key [, offset]) → the same masked, or unmasked; offset: bytes of the payload before
 * these. */
static int frame_mask(lua_State *L) {
    size_t n, key_size;
    const char *bytes = luaL_checklstring(L, 1, &n);
    const char *key = luaL_checklstring(L, 2, &key_size);
    lua_Integer offset = luaL_optinteger(L, 3, 0);
    luaL_argcheck(L, key_size == 4, 2, "four bytes expected");
    luaL_argcheck(L, offset >= 0, 3, "out of range");
    luaL_Buffer buffer;
    uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &buffer, n);
    khp_ws_mask(out, (const uint8_t *)bytes, n, (const uint8_t *)key, (size_t)offset);
    luaL_pushresultsize(&buffer, n);
    return 1;
}

/* is_close_code(code): may it stand in a close frame? */
static int frame_is_close_code(lua_State *L) {
    lua_Integer code = luaL_checkinteger(L, 1);
    lua_pushboolean(L, code >= 0 && code <= 0xffff && khp_ws_close_code_valid((unsigned)code));
    return 1;
}

int lkhp_open_frame(lua_State *L) {
    static const luaL_Reg functions[] = {{"header", frame_header},
                                         {"mask", frame_mask},
                                         {"is_close_code", frame_is_close_code},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_pushinteger(L, KHP_WS_HEADER_MAX); /* what a frame needs beside its payload, at most */
    lua_setfield(L, -2, "HEADER_MAX");
    return 1;
}

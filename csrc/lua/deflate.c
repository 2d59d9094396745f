/*
 * khp.core.deflate: the codec of permessage-deflate (csrc/ws/deflate.h) for Lua. Strings in,
 * strings out; knows no connection. All codecs of a state write into one buffer, of which the
 * result is a copy.
 */
#include "lua/lkhp.h"

#include "ws/deflate.h"

#define DEFLATER "khp.deflater"
#define INFLATER "khp.inflater"
#define OUTPUT   "khp.deflate.output"

/* Upvalue of everything that makes a message: the output. */
static struct khp_ws_deflate_output *output_of(lua_State *L) {
    return lua_touserdata(L, lua_upvalueindex(1));
}

static uint8_t opt_within(lua_State *L, const char *name, lua_Number fallback, lua_Number least,
                          lua_Number most) {
    lua_Number value = lkhp_opt_number(L, 1, name, fallback);
    if (!(value >= least && value <= most))
        luaL_error(L, "option %s: from %d to %d expected", name, (int)least, (int)most);
    return (uint8_t)value;
}

/* nil, text, close code. That the bytes are corrupt is 1007: the frames were lawful, and what is in
 * them is not what their type says (RFC 6455 7.4.1; RFC 7692 names no code). */
static int fail(lua_State *L, enum khp_ws_deflate_result result) {
    const char *text = "not enough memory";
    enum khp_ws_close_code code = KHP_WS_INTERNAL_ERROR;
    switch (result) {
    case KHP_WS_DEFLATE_TOO_BIG:
        text = "the message is too big once it is inflated";
        code = KHP_WS_TOO_BIG;
        break;
    case KHP_WS_DEFLATE_CORRUPT:
        text = "the compressed message is corrupt";
        code = KHP_WS_INVALID_DATA;
        break;
    case KHP_WS_DEFLATE_NO_MEMORY:
    case KHP_WS_DEFLATE_OK:
        break;
    }
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushinteger(L, code);
    return 3;
}

/* The output, as a string, or fail(). May throw. */
static int finish(lua_State *L, enum khp_ws_deflate_result result,
                  struct khp_ws_deflate_output *output) {
    if (result == KHP_WS_DEFLATE_OK)
        lua_pushlstring(L, (const char *)output->bytes, output->size);
    khp_ws_deflate_output_release(output);
    return result == KHP_WS_DEFLATE_OK ? 1 : fail(L, result);
}

/* ---- deflaters ---- */

/* deflater { window_bits = 15, level = 6, memory_level = 8, takeover = true }
 * → deflater | nil, message, 1011 */
static int new_deflater(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    struct khp_ws_deflate_settings settings = {
        .window_bits =
            opt_within(L, "window_bits", 15, KHP_WS_DEFLATE_WINDOW_MIN, KHP_WS_WINDOW_MAX),
        .level = opt_within(L, "level", 6, 0, KHP_WS_DEFLATE_LEVEL_MAX),
        .memory_level = opt_within(L, "memory_level", 8, 1, KHP_WS_DEFLATE_MEMORY_MAX),
        .takeover = lkhp_opt_boolean(L, 1, "takeover", true)};
    struct khp_ws_deflater *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->stream = NULL;
    luaL_setmetatable(L, DEFLATER);
    enum khp_ws_deflate_result result = khp_ws_deflater_init(self, &settings);
    return result == KHP_WS_DEFLATE_OK ? 1 : fail(L, result);
}

/* deflater:message(s) → string | nil, message, 1011. What it gives must be sent. */
static int deflater_message(lua_State *L) {
    struct khp_ws_deflater *self = luaL_checkudata(L, 1, DEFLATER);
    size_t n;
    const char *message = luaL_checklstring(L, 2, &n);
    luaL_argcheck(L, self->stream, 1, "the deflater is closed");
    struct khp_ws_deflate_output *output = output_of(L);
    return finish(L, khp_ws_deflate(self, (const uint8_t *)message, n, output), output);
}

/* deflater:memory() → bytes, about */
static int deflater_memory(lua_State *L) {
    const struct khp_ws_deflater *self = luaL_checkudata(L, 1, DEFLATER);
    lua_pushinteger(L, (lua_Integer)khp_ws_deflater_memory(self));
    return 1;
}

/* deflater:close(): gives its memory back now and not when it is collected */
static int deflater_close(lua_State *L) {
    khp_ws_deflater_free(luaL_checkudata(L, 1, DEFLATER));
    return 0;
}

/* ---- inflaters ---- */

/* inflater { window_bits = 15, takeover = true } → inflater | nil, message, 1011 */
static int new_inflater(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    struct khp_ws_deflate_settings settings = {
        .window_bits =
            opt_within(L, "window_bits", 15, KHP_WS_INFLATE_WINDOW_MIN, KHP_WS_WINDOW_MAX),
        .takeover = lkhp_opt_boolean(L, 1, "takeover", true)};
    struct khp_ws_inflater *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->stream = NULL;
    luaL_setmetatable(L, INFLATER);
    enum khp_ws_deflate_result result = khp_ws_inflater_init(self, &settings);
    return result == KHP_WS_DEFLATE_OK ? 1 : fail(L, result);
}

/* inflater:message(s, limit) → string | nil, message, close code: 1009, 1007 or 1011 */
static int inflater_message(lua_State *L) {
    struct khp_ws_inflater *self = luaL_checkudata(L, 1, INFLATER);
    size_t n;
    const char *payload = luaL_checklstring(L, 2, &n);
    lua_Integer limit = luaL_checkinteger(L, 3);
    luaL_argcheck(L, self->stream, 1, "the inflater is closed");
    luaL_argcheck(L, limit >= 0, 3, "negative");
    struct khp_ws_deflate_output *output = output_of(L);
    return finish(L, khp_ws_inflate(self, (const uint8_t *)payload, n, (size_t)limit, output),
                  output);
}

/* inflater:memory() → bytes, about */
static int inflater_memory(lua_State *L) {
    const struct khp_ws_inflater *self = luaL_checkudata(L, 1, INFLATER);
    lua_pushinteger(L, (lua_Integer)khp_ws_inflater_memory(self));
    return 1;
}

/* inflater:close(): gives its memory back now and not when it is collected */
static int inflater_close(lua_State *L) {
    khp_ws_inflater_free(luaL_checkudata(L, 1, INFLATER));
    return 0;
}

/* ---- the module ---- */

static int output__gc(lua_State *L) {
    khp_ws_deflate_output_free(luaL_checkudata(L, 1, OUTPUT));
    return 0;
}

/* Pushes the buffer that the codecs of this state share. */
static void push_output(lua_State *L) {
    struct khp_ws_deflate_output *output = lua_newuserdatauv(L, sizeof *output, 0);
    *output = (struct khp_ws_deflate_output){0};
    if (luaL_newmetatable(L, OUTPUT)) {
        lua_pushcfunction(L, output__gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
}

/* Makes a metatable with these methods, for which the output is at index 1. */
static void make_kind(lua_State *L, const char *name, const luaL_Reg *methods,
                      lua_CFunction close) {
    luaL_newmetatable(L, name);
    lua_newtable(L);
    lua_pushvalue(L, 1);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

static int open_deflate(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"deflater", new_deflater}, {"inflater", new_inflater}, {NULL, NULL}};
    static const luaL_Reg deflater[] = {{"message", deflater_message},
                                        {"memory", deflater_memory},
                                        {"close", deflater_close},
                                        {NULL, NULL}};
    static const luaL_Reg inflater[] = {{"message", inflater_message},
                                        {"memory", inflater_memory},
                                        {"close", inflater_close},
                                        {NULL, NULL}};
    push_output(L);
    make_kind(L, DEFLATER, deflater, deflater_close);
    make_kind(L, INFLATER, inflater, inflater_close);
    luaL_newlib(L, functions);
    return 1;
}

int lkhp_open_deflate(lua_State *L) {
    lua_pushcfunction(L, open_deflate);
    lua_call(L, 0, 1);
    return 1;
}

/*
 * The functions of "khp.conn" that the pipeline of extensions (lua/khp/extension/pipeline.lua)
 * stands on. A connection without extensions meets none of them.
 */
#include "lua/conn.h"

/* pipe(conn, pipe, reserved bits): from now on messages go through pipe:receive() and pipe:send(),
 * and pipe:ping(), pipe:pong() and pipe:closed() are told. Frames may have these bits. */
static int conn_pipe(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer bits = luaL_checkinteger(L, 3);
    luaL_argcheck(L, bits >= 0 && bits <= 7, 3, "reserved bits expected");
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, LKHP_PIPE);
    self->piped = self->conn.expands = true;
    self->conn.reader.allowed_rsv = (uint8_t)bits;
    return 0;
}

/* room(conn, n) → true | nil, message, code, detail: does the queue take a message of n bytes? */
static int conn_room(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    return lkhp_conn_sent(L, khp_conn_room(&self->conn, (size_t)luaL_checkinteger(L, 2)));
}

/* frame(conn, message, kind, reserved bits): one frame, past the pipeline and the queue's limit
 * → as send */
static int conn_frame(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    size_t n;
    const char *message = luaL_checklstring(L, 2, &n);
    enum khp_ws_opcode kind = lkhp_is_text(L, 3) ? KHP_WS_TEXT : KHP_WS_BINARY;
    lua_Integer bits = luaL_optinteger(L, 4, 0);
    luaL_argcheck(L, bits >= 0 && bits <= 7, 4, "reserved bits expected");
    return lkhp_conn_sent(
        L, khp_conn_frame(&self->conn, kind, (uint8_t)bits, (const uint8_t *)message, n));
}

/* deliver(conn, message, kind): to the function for messages. What is none throws: it is an
 * extension's. */
static int conn_deliver(lua_State *L) {
    lkhp_conn_check(L);
    luaL_checkstring(L, 2);
    lkhp_is_text(L, 3);
    lua_settop(L, 3);
    lua_getiuservalue(L, 1, LKHP_ON_MESSAGE);
    lua_insert(L, 1);
    lua_call(L, 3, 0);
    return 0;
}

/* hears(conn) → boolean: are messages still the application's? Not after a close or an abort. */
static int conn_hears(lua_State *L) {
    const struct lkhp_conn *self = lkhp_conn_check(L);
    lua_pushboolean(L, self->conn.state == KHP_CONN_OPEN && !self->conn.reader.done);
    return 1;
}

/* silence(conn) → seconds since something came from the peer; 0 while reading is paused: then the
 * silence is our own */
static int conn_silence(lua_State *L) {
    const struct lkhp_conn *self = lkhp_conn_check(L);
    bool ours = self->conn.paused || !self->loop->net;
    uint64_t now = ours ? self->conn.heard : khp_net_loop_now(self->loop->net);
    lua_pushnumber(L, (lua_Number)(now - self->conn.heard) / 1000);
    return 1;
}

/* limit(conn) → bytes that a message may have at present */
static int conn_limit(lua_State *L) {
    const struct lkhp_conn *self = lkhp_conn_check(L);
    const struct khp_ws_limits *limits = self->conn.settings ? self->conn.reader.limits : NULL;
    lua_pushinteger(L, limits ? (lua_Integer)limits->message : 0);
    return 1;
}

/* utf8(s) → boolean */
static int conn_utf8(lua_State *L) {
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);
    lua_pushboolean(L, lkhp_is_utf8(text, n));
    return 1;
}

const luaL_Reg lkhp_conn_pipe_functions[] = {
    {"pipe", conn_pipe},       {"room", conn_room},   {"frame", conn_frame},
    {"deliver", conn_deliver}, {"hears", conn_hears}, {"silence", conn_silence},
    {"limit", conn_limit},     {"utf8", conn_utf8},   {NULL, NULL}};

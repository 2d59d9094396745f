/*
 * What is sent on a connection: messages, pings, raw bytes, and what became of them. A connection
 * with extensions hands its messages to their pipeline.
 */
#include "lua/conn.h"

#include <string.h>

#include "ws/utf8.h"

int lkhp_conn_closed(lua_State *L) {
    int returned = lkhp_fail(L, "closed", "ECLOSED");
    int detail = lua_gettop(L);
    if (lua_getiuservalue(L, 1, LKHP_FIELDS) == LUA_TTABLE &&
        lua_getfield(L, -1, "closed") == LUA_TTABLE)
        lua_copy(L, -1, detail); /* how it ended */
    lua_settop(L, detail);
    return returned;
}

int lkhp_conn_sent(lua_State *L, enum khp_conn_send result) {
    switch (result) {
    case KHP_CONN_SENT:
        lua_pushboolean(L, true);
        return 1;
    case KHP_CONN_CLOSED:
        return lkhp_conn_closed(L);
    case KHP_CONN_FULL:
        return lkhp_fail(L, "the send queue is full", "ELIMIT");
    case KHP_CONN_TOO_BIG:
        return lkhp_fail(L, "the message is larger than the send queue may be", "ELIMIT");
    case KHP_CONN_NO_MEMORY:
        break;
    }
    return lkhp_fail(L, "not enough memory", "ELIMIT");
}

bool lkhp_is_text(lua_State *L, int index) {
    size_t n;
    if (lua_isnoneornil(L, index))
        return true;
    const char *kind = luaL_checklstring(L, index, &n);
    if (n == 6 && memcmp(kind, "binary", n) == 0)
        return false;
    luaL_argcheck(L, n == 4 && memcmp(kind, "text", n) == 0, index,
                  "\"text\" or \"binary\" expected");
    return true;
}

bool lkhp_is_utf8(const char *text, size_t n) {
    struct khp_ws_utf8 utf8 = {0};
    return khp_ws_utf8_feed(&utf8, (const uint8_t *)text, n) && khp_ws_utf8_complete(&utf8);
}

/* What pipe:send(message, kind) returns. */
static int send_through_pipe(lua_State *L, bool text) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    lua_settop(L, 2);
    lua_getiuservalue(L, 1, LKHP_PIPE);
    lua_getfield(L, -1, "send");
    lua_replace(L, 1);
    lua_insert(L, 2);
    lkhp_push_kind(L, self->loop, text);
    lua_call(L, 3, LUA_MULTRET);
    return lua_gettop(L);
}

static int send_message(lua_State *L, struct lkhp_conn *self) {
    size_t n;
    const char *message = luaL_checklstring(L, 2, &n);
    bool text = lkhp_is_text(L, 3);
    if (text && !lkhp_is_utf8(message, n))
        return lkhp_fail(L, "a text message must be UTF-8; send it as \"binary\"", "EPROTOCOL");
    if (self->piped)
        return send_through_pipe(L, text);
    return lkhp_conn_sent(L, khp_conn_send(&self->conn, text ? KHP_WS_TEXT : KHP_WS_BINARY,
                                           (const uint8_t *)message, n));
}

/* send(conn, message [, kind = "text"]) → true | nil, message, code, detail. The application's:
 * nothing of it is on the wire before the handshakes are completed (KHP E2). */
static int conn_send(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    if (!self->conn.opened && self->conn.state <= KHP_CONN_OPEN)
        return lkhp_fail(L, "the handshake is not completed", "EHANDSHAKE");
    return send_message(L, self);
}

/* send_handshake(conn, message [, kind]): the same, for messages of the extended handshake */
static int conn_send_handshake(lua_State *L) {
    return send_message(L, lkhp_conn_check(L));
}

/* send_ping(conn, payload): at most 125 bytes */
static int conn_send_ping(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    size_t n;
    const char *payload = luaL_checklstring(L, 2, &n);
    luaL_argcheck(L, n <= KHP_WS_CONTROL_MAX, 2, "a ping carries at most 125 bytes");
    return lkhp_conn_sent(L, khp_conn_send(&self->conn, KHP_WS_PING, (const uint8_t *)payload, n));
}

/* write(conn, bytes): while raw → boolean */
static int conn_write(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    lua_pushboolean(L, khp_conn_write(&self->conn, bytes, n));
    return 1;
}

/* pour(conn, bytes): while raw → true: they are gone; false: they are queued, and `drained` will
 * come; nil: not raw */
static int conn_pour(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    enum khp_conn_send result = khp_conn_pour(&self->conn, bytes, n);
    if (result == KHP_CONN_SENT || result == KHP_CONN_FULL)
        lua_pushboolean(L, result == KHP_CONN_SENT);
    else
        lua_pushnil(L);
    return 1;
}

/* queued(conn) → bytes sent and not yet taken by the system */
static int conn_queued(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)khp_conn_queued(&lkhp_conn_check(L)->conn));
    return 1;
}

/* congested(conn) → was a send refused, and has the queue not come below half of its limit since?
 */
static int conn_congested(lua_State *L) {
    const struct lkhp_conn *self = lkhp_conn_check(L);
    lua_pushboolean(L, self->conn.stream && self->conn.refused);
    return 1;
}

const luaL_Reg lkhp_conn_send_functions[] = {
    {"send", conn_send},           {"send_handshake", conn_send_handshake},
    {"send_ping", conn_send_ping}, {"write", conn_write},
    {"pour", conn_pour},           {"queued", conn_queued},
    {"congested", conn_congested}, {NULL, NULL}};

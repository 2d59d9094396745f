/*
 * What is heard of a connection, told in Lua: messages go to the one function for them, or through
 * the pipeline where there are extensions; all other events to the function of their name.
 */
#include "lua/conn.h"

struct event {
    struct lkhp_conn *conn;
    const char *name;
    const void *bytes;
    size_t n;
    enum khp_ws_opcode kind;
    const struct khp_conn_close *close;
    bool swallowed; /* a control frame: nobody else hears of it */
};

void lkhp_push_kind(lua_State *L, const struct lkhp_loop *loop, bool text) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, text ? loop->text : loop->binary);
}

/* on_message(conn, message, kind) */
static int deliver_message(lua_State *L) {
    const struct event *event = lua_touserdata(L, 1);
    const struct lkhp_conn *self = event->conn;
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->reference);
    lua_getiuservalue(L, -1, LKHP_ON_MESSAGE);
    lua_pushvalue(L, -2);
    lua_pushlstring(L, event->bytes, event->n);
    lkhp_push_kind(L, self->loop, event->kind == KHP_WS_TEXT);
    lua_call(L, 3, 0);
    return 0;
}

/* Pushes pipe.name and the pipeline. */
static void push_pipe(lua_State *L, const struct lkhp_conn *self, const char *name) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->reference);
    lua_getiuservalue(L, -1, LKHP_PIPE);
    lua_getfield(L, -1, name);
    lua_insert(L, -2);
}

/* pipe:receive(message, kind, reserved bits) */
static int deliver_to_pipe(lua_State *L) {
    const struct event *event = lua_touserdata(L, 1);
    const struct lkhp_conn *self = event->conn;
    push_pipe(L, self, "receive");
    lua_pushlstring(L, event->bytes, event->n);
    lkhp_push_kind(L, self->loop, event->kind == KHP_WS_TEXT);
    lua_pushinteger(L, self->conn.reader.message_rsv);
    lua_call(L, 4, 0);
    return 0;
}

/* pipe:ping(payload), pipe:pong(payload) → swallowed? */
static int deliver_control(lua_State *L) {
    struct event *event = lua_touserdata(L, 1);
    push_pipe(L, event->conn, event->name);
    lua_pushlstring(L, event->bytes, event->n);
    lua_call(L, 2, 1);
    event->swallowed = lua_toboolean(L, -1);
    return 0;
}

/* pipe:closed(code, reason) */
static int close_pipe(lua_State *L) {
    const struct event *event = lua_touserdata(L, 1);
    push_pipe(L, event->conn, "closed");
    lua_pushinteger(L, (lua_Integer)event->close->code);
    lua_pushlstring(L, event->close->reason, event->close->length);
    lua_call(L, 3, 0);
    return 0;
}

static const char *const by_names[] = {[KHP_CONN_BY_LOCAL] = "local",
                                       [KHP_CONN_BY_PEER] = "peer",
                                       [KHP_CONN_BY_NETWORK] = "network",
                                       [KHP_CONN_BY_TIMEOUT] = "timeout"};

/* Pushes the function for events of this name, the connection and its state. false: nobody hears
 * them. */
static bool push_handler(lua_State *L, const struct lkhp_conn *conn, const char *name) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, conn->reference);
    lua_getiuservalue(L, -1, LKHP_EVENTS);
    if (lua_getfield(L, -1, name) == LUA_TNIL)
        return false;
    lua_replace(L, -2);
    lua_insert(L, -2);
    lua_getiuservalue(L, -1, LKHP_STATE);
    return true;
}

/* f(conn, state [, bytes]), or closed(conn, state, code, reason, clean, by, net code) */
static int deliver_event(lua_State *L) {
    const struct event *event = lua_touserdata(L, 1);
    int arguments = 2;
    if (!push_handler(L, event->conn, event->name))
        return 0;
    if (event->bytes) {
        lua_pushlstring(L, event->bytes, event->n);
        arguments = 3;
    } else if (event->close) {
        lua_pushinteger(L, (lua_Integer)event->close->code);
        lua_pushlstring(L, event->close->reason, event->close->length);
        lua_pushboolean(L, event->close->clean);
        lua_pushstring(L, by_names[event->close->by]);
        if (event->close->net == KHP_NET_OK)
            lua_pushnil(L);
        else
            lua_pushstring(L, lkhp_net_code(event->close->net));
        arguments = 7;
    }
    lua_call(L, arguments, 0);
    return 0;
}

/* A handler that throws ends its own connection, and no other. */
static void raise(lua_CFunction deliver, struct event *event) {
    struct lkhp_conn *self = event->conn;
    if (!lkhp_enter(self->loop, deliver, event) && self->loop->net) {
        static const char reason[] = "internal error";
        khp_conn_close(&self->conn, KHP_WS_INTERNAL_ERROR, reason, sizeof reason - 1);
    }
}

static void on_open(void *owner) {
    raise(deliver_event, &(struct event){.conn = owner, .name = "open"});
}

static void on_bytes(void *owner, const uint8_t *bytes, size_t n) {
    raise(deliver_event, &(struct event){.conn = owner, .name = "bytes", .bytes = bytes, .n = n});
}

static void on_message(void *owner, enum khp_ws_opcode kind, const uint8_t *bytes, size_t n) {
    struct lkhp_conn *self = owner;
    raise(self->piped ? deliver_to_pipe : deliver_message,
          &(struct event){.conn = self, .kind = kind, .bytes = bytes, .n = n});
}

static bool is_swallowed(struct lkhp_conn *self, const char *name, const void *bytes, size_t n) {
    if (!self->piped)
        return false;
    struct event event = {.conn = self, .name = name, .bytes = n ? bytes : "", .n = n};
    raise(deliver_control, &event);
    return event.swallowed;
}

static void on_ping(void *owner, const uint8_t *bytes, size_t n) {
    is_swallowed(owner, "ping", bytes, n);
}

static void on_pong(void *owner, const uint8_t *bytes, size_t n) {
    if (!is_swallowed(owner, "pong", bytes, n) && n) /* keepalive's own pings are empty */
        raise(deliver_event,
              &(struct event){.conn = owner, .name = "pong", .bytes = bytes, .n = n});
}

static void on_drained(void *owner) {
    raise(deliver_event, &(struct event){.conn = owner, .name = "drained"});
}

static void on_deadline(void *owner) {
    raise(deliver_event, &(struct event){.conn = owner, .name = "deadline"});
}

static void on_closed(void *owner, const struct khp_conn_close *close) {
    struct lkhp_conn *self = owner;
    if (self->piped)
        raise(close_pipe, &(struct event){.conn = self, .close = close});
    raise(deliver_event, &(struct event){.conn = owner, .name = "closed", .close = close});
}

static int forget(lua_State *L) {
    struct lkhp_conn *self = lua_touserdata(L, 1);
    bool heard = push_handler(L, self, "gone");
    lkhp_drop(L, self->loop, &self->reference);
    if (heard)
        lua_call(L, 2, 0);
    return 0;
}

static void on_gone(void *owner) {
    struct lkhp_conn *self = owner;
    lkhp_enter(self->loop, forget, self);
}

const struct khp_conn_handler lkhp_conn_handler = {.open = on_open,
                                                   .bytes = on_bytes,
                                                   .message = on_message,
                                                   .ping = on_ping,
                                                   .pong = on_pong,
                                                   .drained = on_drained,
                                                   .deadline = on_deadline,
                                                   .closed = on_closed,
                                                   .gone = on_gone};

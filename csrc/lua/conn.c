/*
 * The userdata "khp.conn": a connection of csrc/core with its Lua values. The functions made here
 * are for lua/khp; what users may call on a connection is the table of methods that
 * lua/khp/connection.lua fills. What is heard of a connection is conn_events.c's.
 */
#include "lua/conn.h"

#include <string.h>

#include "ws/utf8.h"

#define CONN "khp.conn"

/* ---- making one ---- */

struct lkhp_conn *lkhp_conn_check(lua_State *L) {
    struct lkhp_conn *self = lua_touserdata(L, 1);
    if (self && lua_rawlen(L, 1) == sizeof *self && self->conn.handler == &lkhp_conn_handler)
        return self;
    luaL_typeerror(L, 1, CONN);
    return NULL;
}

struct lkhp_conn *lkhp_conn_push(lua_State *L, struct lkhp_loop *loop, int events) {
    events = lua_absindex(L, events);
    struct lkhp_conn *self = lua_newuserdatauv(L, sizeof *self, LKHP_USER_VALUES);
    memset(self, 0, sizeof *self);
    self->conn.handler = &lkhp_conn_handler;
    self->loop = loop;
    self->reference = LUA_NOREF;
    luaL_setmetatable(L, CONN);
    lua_pushvalue(L, events);
    lua_setiuservalue(L, -2, LKHP_EVENTS);
    lua_pushvalue(L, events + 1);
    lua_setiuservalue(L, -2, LKHP_STATE);
    lua_pushvalue(L, -1);
    self->reference = lkhp_hold(L, loop);
    return self;
}

void lkhp_conn_begin(struct lkhp_conn *self, struct khp_net_stream *stream,
                     struct khp_conn_settings *settings) {
    khp_conn_init(&self->conn, self->loop->net, stream, settings, &self->loop->shared,
                  &lkhp_conn_handler, self);
}

/*
 * connect(options, events, state, limits) → connection. Every failure of the network is its
 * "closed" event. events: name → f(conn, state, …), heard until on_event(). options: host, port,
 * path (unix), tls, server_name, timeout and attempt_delay in seconds.
 */
static int conn_connect(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    struct lkhp_loop *loop = lkhp_loop(L);
    struct khp_net_connect_options options = {
        .host = lkhp_opt_string(L, 1, "host", NULL),
        .port = (int)lkhp_opt_number(L, 1, "port", 0),
        .unix_path = lkhp_opt_string(L, 1, "path", NULL),
        .tls = lkhp_opt_tls(L, 1, "tls"),
        .server_name = lkhp_opt_string(L, 1, "server_name", NULL),
        .timeout_ms = lkhp_milliseconds(lkhp_opt_number(L, 1, "timeout", 10)),
        .attempt_ms = lkhp_milliseconds(lkhp_opt_number(L, 1, "attempt_delay", 0.25))};
    struct lkhp_conn *self = lkhp_conn_push(L, loop, 2);
    struct khp_conn_settings *settings = lkhp_settings(L, 4);
    struct khp_net_stream *stream = khp_net_connect(loop->net, &options, NULL, NULL);
    if (stream)
        lkhp_conn_begin(self, stream, settings);
    khp_conn_settings_release(settings);
    if (!stream) {
        lkhp_drop(L, loop, &self->reference);
        return lkhp_fail(L, "not enough memory", "ELIMIT");
    }
    return 1;
}

/* ---- functions for lua/khp; each takes the connection first ---- */

/* upgrade(conn, "server" | "client") → boolean */
static int conn_upgrade(lua_State *L) {
    static const char *const roles[] = {"server", "client", NULL};
    struct lkhp_conn *self = lkhp_conn_check(L);
    int role = luaL_checkoption(L, 2, NULL, roles);
    lua_pushboolean(L, khp_conn_upgrade(&self->conn, role ? KHP_WS_CLIENT : KHP_WS_SERVER));
    return 1;
}

/* open(conn): the application's from now on; what was held comes with next() */
static int conn_open(lua_State *L) {
    khp_conn_open(&lkhp_conn_check(L)->conn);
    return 0;
}

static int conn_stepwise(lua_State *L) {
    khp_conn_stepwise(&lkhp_conn_check(L)->conn);
    return 0;
}

/* next(conn): delivers what was held, up to the next message; events run on L meanwhile */
static int conn_next(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    lua_State *before = lkhp_borrow(self->loop, L);
    khp_conn_next(&self->conn);
    self->loop->L = before;
    return 0;
}

/* feed(conn, bytes): what came behind the opening's head; its messages are delivered before it
 * returns */
static int conn_feed(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    lua_State *before = lkhp_borrow(self->loop, L);
    bool fed = khp_conn_feed(&self->conn, (const uint8_t *)bytes, n);
    self->loop->L = before;
    return fed ? 0 : luaL_error(L, "not enough memory");
}

/* Throws at the line of the user who called the method that called us. */
static void require_arg(lua_State *L, bool condition, const char *text) {
    if (condition)
        return;
    luaL_where(L, 2);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    lua_error(L);
}

/* close(conn [, code [, reason]]) → true. Codes and reasons that may not be on the wire throw. */
static int conn_close(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    lua_Integer code = luaL_optinteger(L, 2, KHP_WS_NORMAL);
    size_t n;
    const char *reason = luaL_optlstring(L, 3, "", &n);
    require_arg(L, code >= 0 && code < 5000 && khp_ws_close_code_valid((unsigned)code),
                "close: a code from 1000 to 1003, 1007 to 1014 or 3000 to 4999 expected");
    require_arg(L, n <= KHP_WS_REASON_MAX, "close: a reason has at most 123 bytes");
    require_arg(L, lkhp_is_utf8(reason, n), "close: a reason must be UTF-8");
    khp_conn_close(&self->conn, (unsigned)code, reason, n);
    lua_pushboolean(L, true);
    return 1;
}

static int conn_abort(lua_State *L) {
    khp_conn_abort(&lkhp_conn_check(L)->conn);
    return 0;
}

/* deadline(conn [, seconds]): from now; nil: none */
static int conn_deadline(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    khp_conn_deadline(&self->conn, lua_isnoneornil(L, 2)
                                       ? UINT64_MAX
                                       : lkhp_milliseconds(luaL_checknumber(L, 2)));
    return 0;
}

static int conn_pause(lua_State *L) {
    khp_conn_pause(&lkhp_conn_check(L)->conn);
    return 0;
}

static int conn_resume(lua_State *L) {
    khp_conn_resume(&lkhp_conn_check(L)->conn);
    return 0;
}

/* on_message(conn, f): f(conn, message, kind) for every message from now on */
static int conn_on_message(lua_State *L) {
    lkhp_conn_check(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, LKHP_ON_MESSAGE);
    return 0;
}

/* on_event(conn, events, state): all other events go to events[name](conn, state, …) from now on */
static int conn_on_event(lua_State *L) {
    lkhp_conn_check(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    lua_setiuservalue(L, 1, LKHP_STATE);
    lua_setiuservalue(L, 1, LKHP_EVENTS);
    return 0;
}

/* The table behind the fields, made on first use. */
static void push_fields(lua_State *L) {
    if (lua_getiuservalue(L, 1, LKHP_FIELDS) == LUA_TTABLE)
        return;
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, LKHP_FIELDS);
    lua_remove(L, -2);
}

/* fields(conn) → the table behind the connection's fields, made on first use; fields(conn, t)
 * replaces it */
static int conn_fields(lua_State *L) {
    lkhp_conn_check(L);
    if (lua_istable(L, 2)) {
        lua_settop(L, 2);
        lua_setiuservalue(L, 1, LKHP_FIELDS);
        return 0;
    }
    push_fields(L);
    return 1;
}

/* state(conn) → what the events are heard with */
static int conn_state(lua_State *L) {
    lkhp_conn_check(L);
    lua_getiuservalue(L, 1, LKHP_STATE);
    return 1;
}

/* start_tls(conn, tls, server_name): while raw; "open" comes again when TLS has begun
 * → true | nil, message, code */
static int conn_start_tls(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    lua_settop(L, 3);
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "tls");
    struct khp_net_tls *tls = lkhp_opt_tls(L, 4, "tls");
    struct khp_net_error error;
    luaL_argcheck(L, tls != NULL, 2, "TLS settings expected");
    if (!self->conn.stream)
        return lkhp_conn_closed(L);
    if (!khp_net_stream_start_tls(self->conn.stream, tls, luaL_checkstring(L, 3), &error))
        return lkhp_net_fail(L, &error);
    lua_pushboolean(L, true);
    return 1;
}

static void set_string(lua_State *L, const char *name, const char *value) {
    if (value && *value) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, name);
    }
}

/* tls(conn) → { version, cipher, server_name, alpn, peer_subject, peer_verified, resumed } | nil */
static int conn_tls(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    struct khp_net_tls_info info;
    if (!self->conn.stream || !khp_net_stream_tls_info(self->conn.stream, &info))
        return 0;
    lua_createtable(L, 0, 7);
    set_string(L, "version", info.version);
    set_string(L, "cipher", info.cipher);
    set_string(L, "server_name", info.server_name);
    set_string(L, "alpn", info.alpn);
    set_string(L, "peer_subject", info.peer_subject);
    lua_pushboolean(L, info.peer_verified);
    lua_setfield(L, -2, "peer_verified");
    lua_pushboolean(L, info.resumed);
    lua_setfield(L, -2, "resumed");
    return 1;
}

/* local_address(conn) → { host, port } or { path } | nil */
static int conn_local_address(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    struct khp_net_address address;
    if (!self->conn.stream || !khp_net_stream_local(self->conn.stream, &address))
        return 0;
    lkhp_push_address(L, &address);
    return 1;
}

/* ---- the metatable ---- */

static const char *state_name(const struct lkhp_conn *self) {
    if (!self->conn.settings)
        return "closed";
    switch ((enum khp_conn_state)self->conn.state) {
    case KHP_CONN_CONNECTING:
        return "connecting";
    case KHP_CONN_RAW:
        return "opening";
    case KHP_CONN_OPEN:
        return khp_conn_is_open(&self->conn) ? "open" : "closing"; /* closing: it is lost */
    case KHP_CONN_CLOSING:
        return "closing";
    case KHP_CONN_DRAINING:
    case KHP_CONN_GONE:
        break;
    }
    return "closed";
}

static void push_peer(lua_State *L, const struct lkhp_conn *self) {
    struct khp_net_address address;
    if (khp_conn_peer(&self->conn, &address))
        lkhp_push_address(L, &address);
    else
        lua_pushnil(L);
}

/* A method, else a field, else one of the two that are asked of the connection itself. Upvalue: the
 * methods. */
static int conn__index(lua_State *L) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    const struct lkhp_conn *self = lkhp_conn_check(L);
    if (lua_getiuservalue(L, 1, LKHP_FIELDS) == LUA_TTABLE) {
        lua_pushvalue(L, 2);
        if (lua_gettable(L, -2) != LUA_TNIL)
            return 1;
    }
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    if (key && strcmp(key, "state") == 0)
        lua_pushstring(L, state_name(self));
    else if (key && strcmp(key, "peer") == 0)
        push_peer(L, self);
    else
        lua_pushnil(L);
    return 1;
}

static int conn__newindex(lua_State *L) {
    lkhp_conn_check(L);
    lua_settop(L, 3);
    push_fields(L);
    lua_insert(L, 2);
    lua_rawset(L, 2);
    return 0;
}

static int conn__gc(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    if (!self->loop->net) /* the loop went first and ended every stream; nothing to abort */
        self->conn.stream = NULL;
    khp_conn_dispose(&self->conn);
    return 0;
}

/* Leaving a to-be-closed variable's scope: 1000, or 1011 when an error is why. */
static int conn__close(lua_State *L) {
    struct lkhp_conn *self = lkhp_conn_check(L);
    bool error = !lua_isnoneornil(L, 2);
    if (self->loop->net)
        khp_conn_close(&self->conn, error ? KHP_WS_INTERNAL_ERROR : KHP_WS_NORMAL, "", 0);
    return 0;
}

static int conn__tostring(lua_State *L) {
    const struct lkhp_conn *self = lkhp_conn_check(L);
    lua_pushfstring(L, "khp.conn: %s (%p)", state_name(self), lua_topointer(L, 1));
    return 1;
}

int lkhp_open_conn(lua_State *L) {
    static const luaL_Reg functions[] = {{"connect", conn_connect},
                                         {"upgrade", conn_upgrade},
                                         {"open", conn_open},
                                         {"stepwise", conn_stepwise},
                                         {"next", conn_next},
                                         {"feed", conn_feed},
                                         {"close", conn_close},
                                         {"abort", conn_abort},
                                         {"deadline", conn_deadline},
                                         {"pause", conn_pause},
                                         {"resume", conn_resume},
                                         {"on_message", conn_on_message},
                                         {"on_event", conn_on_event},
                                         {"fields", conn_fields},
                                         {"state", conn_state},
                                         {"start_tls", conn_start_tls},
                                         {"tls", conn_tls},
                                         {"local_address", conn_local_address},
                                         {NULL, NULL}};
    static const luaL_Reg metamethods[] = {{"__newindex", conn__newindex},
                                           {"__gc", conn__gc},
                                           {"__close", conn__close},
                                           {"__tostring", conn__tostring},
                                           {NULL, NULL}};
    luaL_newlib(L, functions);
    luaL_setfuncs(L, lkhp_conn_send_functions, 0);
    luaL_setfuncs(L, lkhp_conn_pipe_functions, 0);
    lua_createtable(L, 0, 16); /* the public methods, filled by lua/khp/connection.lua */
    luaL_newmetatable(L, CONN);
    luaL_setfuncs(L, metamethods, 0);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, conn__index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_setfield(L, -2, "methods");
    return 1;
}

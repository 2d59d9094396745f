/*
 * The userdata "khp.listener": accepts, and hands each connection's events to one function of the
 * server's.
 */
#include "lua/lkhp.h"

#include <string.h>

#define LISTENER "khp.listener"

enum { EVENTS = 1, STATE, TLS_SETTINGS, USER_VALUES = TLS_SETTINGS };

struct lkhp_listener {
    struct khp_net_listener *listener; /* NULL once closed */
    struct lkhp_loop *loop;
    struct khp_conn_settings *settings;
    int reference; /* in the registry while it listens */
};

struct accepted {
    struct lkhp_listener *listener;
    struct khp_net_stream *stream;
};

static int accept_stream(lua_State *L) {
    const struct accepted *accepted = lua_touserdata(L, 1);
    struct lkhp_listener *self = accepted->listener;
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->reference);
    lua_getiuservalue(L, -1, EVENTS);
    lua_getiuservalue(L, -2, STATE);
    struct lkhp_conn *conn = lkhp_conn_push(L, self->loop, -2);
    lkhp_conn_begin(conn, accepted->stream, self->settings);
    return 0;
}

static void on_accept(void *owner, struct khp_net_stream *stream) {
    struct lkhp_listener *self = owner;
    struct accepted accepted = {self, stream};
    if (!lkhp_enter(self->loop, accept_stream, &accepted))
        khp_net_stream_abort(stream);
}

/*
 * listen(options, events, state, limits) → listener | nil, message, code. events and state: of each
 * connection that is accepted, see conn.c. options: host, port, path (unix), fd, reuse_port,
 * backlog, connections, tls, tls_timeout in seconds.
 */
static int listener_listen(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    struct lkhp_loop *loop = lkhp_loop(L);
    struct khp_net_listener_options options = {
        .host = lkhp_opt_string(L, 1, "host", NULL),
        .port = (int)lkhp_opt_number(L, 1, "port", 0),
        .unix_path = lkhp_opt_string(L, 1, "path", NULL),
        .fd = (int)lkhp_opt_number(L, 1, "fd", -1),
        .reuse_port = lkhp_opt_boolean(L, 1, "reuse_port", false),
        .backlog = (int)lkhp_opt_number(L, 1, "backlog", 0),
        .max_streams = (unsigned)lkhp_opt_number(L, 1, "connections", 0),
        .tls = lkhp_opt_tls(L, 1, "tls"),
        .handshake_ms = lkhp_milliseconds(lkhp_opt_number(L, 1, "tls_timeout", 10))};
    struct lkhp_listener *self = lua_newuserdatauv(L, sizeof *self, USER_VALUES);
    memset(self, 0, sizeof *self);
    self->loop = loop;
    self->reference = LUA_NOREF;
    luaL_setmetatable(L, LISTENER);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, EVENTS);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, STATE);
    lua_getfield(L, 1, "tls");
    lua_setiuservalue(L, -2, TLS_SETTINGS);
    self->settings = lkhp_settings(L, 4);
    struct khp_net_error error;
    lua_pushvalue(L, -1);
    self->reference = lkhp_hold(L, loop);
    self->listener = khp_net_listen(loop->net, &options, on_accept, self, &error);
    if (!self->listener) {
        lkhp_drop(L, self->loop, &self->reference);
        return lkhp_net_fail(L, &error);
    }
    return 1;
}

static struct lkhp_listener *check(lua_State *L) {
    return luaL_checkudata(L, 1, LISTENER);
}

/* address(listener) → host, port; or path for a unix socket; nothing once closed */
static int listener_address(lua_State *L) {
    struct lkhp_listener *self = check(L);
    struct khp_net_address address;
    if (!self->listener || !self->loop->net)
        return 0;
    khp_net_listener_address(self->listener, &address);
    lua_pushstring(L, address.host);
    if (address.is_unix)
        return 1;
    lua_pushinteger(L, address.port);
    return 2;
}

static void set_count(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

/* traffic(listener) → { messages_in, messages_out, bytes_in, bytes_out } of all its connections so
 * far, also of those that it left behind when it was closed */
static int listener_traffic(lua_State *L) {
    const struct khp_conn_traffic *traffic = &check(L)->settings->traffic;
    lua_createtable(L, 0, 4);
    set_count(L, "messages_in", traffic->messages_in);
    set_count(L, "messages_out", traffic->messages_out);
    set_count(L, "bytes_in", traffic->bytes_in);
    set_count(L, "bytes_out", traffic->bytes_out);
    return 1;
}

static int listener_close(lua_State *L) {
    struct lkhp_listener *self = check(L);
    if (self->listener && self->loop->net) {
        khp_net_listener_close(self->listener);
        lkhp_drop(L, self->loop, &self->reference);
    }
    self->listener = NULL;
    return 0;
}

/* Listening ones are in the registry: this is the end of the state, or the listener is closed. */
static int listener__gc(lua_State *L) {
    struct lkhp_listener *self = check(L);
    if (self->listener && self->loop->net)
        khp_net_listener_close(self->listener);
    self->listener = NULL;
    khp_conn_settings_release(self->settings);
    self->settings = NULL;
    return 0;
}

int lkhp_open_listener(lua_State *L) {
    static const luaL_Reg functions[] = {{"listen", listener_listen},
                                         {"address", listener_address},
                                         {"traffic", listener_traffic},
                                         {"close", listener_close},
                                         {NULL, NULL}};
    if (luaL_newmetatable(L, LISTENER)) {
        lua_pushcfunction(L, listener__gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, listener_close);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}

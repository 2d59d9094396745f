/*
 * Signals for Lua: signal("HUP", f) → a watch that calls f() from the loop, until it is closed;
 * signal("PIPE", "ignore") ignores one from now on. For programs, not for libraries: a host decides
 * itself what its signals mean.
 */
#include "lua/lkhp.h"

#include <signal.h>
#include <string.h>

#include "net/signal.h"

#define SIGNAL "khp.signal"

struct lkhp_signal {
    struct khp_net_signal *signal; /* NULL once closed */
    struct lkhp_loop *loop;
    int reference; /* in the registry while it watches */
};

static int deliver(lua_State *L) {
    const struct lkhp_signal *self = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->reference);
    lua_getiuservalue(L, -1, 1);
    lua_call(L, 0, 0);
    return 0;
}

static void heard(void *owner) {
    struct lkhp_signal *self = owner;
    lkhp_enter(self->loop, deliver, self);
}

static int signal_watch(lua_State *L) {
    static const char *const names[] = {"HUP", "INT", "TERM", "USR1", "USR2", "PIPE", NULL};
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE};
    int number = numbers[luaL_checkoption(L, 1, NULL, names)];
    if (lua_type(L, 2) == LUA_TSTRING) {
        luaL_argcheck(L, strcmp(lua_tostring(L, 2), "ignore") == 0, 2, "a function or 'ignore'");
        signal(number, SIG_IGN);
        return 0;
    }
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct lkhp_loop *loop = lkhp_loop(L);
    struct lkhp_signal *self = lua_newuserdatauv(L, sizeof *self, 1);
    memset(self, 0, sizeof *self);
    self->loop = loop;
    self->reference = LUA_NOREF;
    luaL_setmetatable(L, SIGNAL);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    self->reference = luaL_ref(L, LUA_REGISTRYINDEX); /* not alive: run() does not wait for it */
    struct khp_net_error error;
    self->signal = khp_net_signal_watch(loop->net, number, heard, self, &error);
    if (!self->signal) {
        luaL_unref(L, LUA_REGISTRYINDEX, self->reference);
        return lkhp_net_fail(L, &error);
    }
    return 1;
}

static int signal_close(lua_State *L) {
    struct lkhp_signal *self = luaL_checkudata(L, 1, SIGNAL);
    if (self->signal && self->loop->net) {
        khp_net_signal_close(self->signal);
        luaL_unref(L, LUA_REGISTRYINDEX, self->reference);
    }
    self->signal = NULL;
    return 0;
}

/* Collected while watching only when the whole state is closed. */
static int signal__gc(lua_State *L) {
    struct lkhp_signal *self = luaL_checkudata(L, 1, SIGNAL);
    if (self->signal && self->loop->net)
        khp_net_signal_close(self->signal);
    self->signal = NULL;
    return 0;
}

int lkhp_open_signal(lua_State *L) {
    static const luaL_Reg methods[] = {{"close", signal_close}, {NULL, NULL}};
    if (luaL_newmetatable(L, SIGNAL)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, signal__gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, signal_close);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, signal_watch);
    return 1;
}

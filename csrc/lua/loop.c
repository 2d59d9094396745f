/*
 * The loop of a lua_State, and the one protected way from its events into Lua.
 */
#include "lua/lkhp.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char loop_key = 0;     /* registry: address → the loop's userdata */
static const char reporter_key = 0; /* registry: address → function(error text, kind) */

enum { REPORT_STACK = 10 };

/* A wait without end comes back to the interpreter so often, which may have a signal to heed. */
#define HEED_SECONDS 0.5

/* ---- entering Lua ---- */

static int traceback(lua_State *L) {
    const char *text = lua_tostring(L, 1);
    if (!text)
        text = luaL_tolstring(L, 1, NULL);
    luaL_traceback(L, L, text, 1);
    return 1;
}

static void report(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &reporter_key);
    lua_insert(L, -2);
    if (lua_isfunction(L, -2)) {
        if (lua_pcall(L, 1, 0, 0) == LUA_OK)
            return;
    } else {
        lua_remove(L, -2);
    }
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "khp: %s\n", text ? text : "error in a callback");
    lua_pop(L, 1);
}

bool lkhp_enter(struct lkhp_loop *loop, lua_CFunction f, void *event) {
    lua_State *L = loop->L;
    if (!loop->net || !lua_checkstack(L, REPORT_STACK))
        return false;
    /*
     * A hook that was not there when the step began is a signal handler's, as lua.c sets one for
     * Ctrl-C: it is meant for who turns the loop, not for this event.
     */
    lua_Hook hook = lua_gethook(L);
    int mask = 0, count = 0;
    bool interrupted = hook != loop->hook && hook != NULL;
    if (interrupted) {
        mask = lua_gethookmask(L);
        count = lua_gethookcount(L);
        lua_sethook(L, loop->hook, 0, 0);
    }
    lua_pushcfunction(L, traceback);
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, event);
    bool good = lua_pcall(L, 1, 0, -3) == LUA_OK;
    if (good) {
        lua_pop(L, 1);
    } else {
        lua_remove(L, -2);
        report(L);
    }
    if (interrupted)
        lua_sethook(L, hook, mask, count);
    return good;
}

lua_State *lkhp_borrow(struct lkhp_loop *loop, lua_State *L) {
    lua_State *before = loop->L;
    loop->L = L;
    return before;
}

int lkhp_hold(lua_State *L, struct lkhp_loop *loop) {
    int reference = luaL_ref(L, LUA_REGISTRYINDEX);
    loop->alive++;
    return reference;
}

void lkhp_drop(lua_State *L, struct lkhp_loop *loop, int *reference) {
    luaL_unref(L, LUA_REGISTRYINDEX, *reference);
    *reference = LUA_NOREF;
    loop->alive--;
}

/* ---- the loop's life ---- */

struct log_line {
    enum khp_net_log_level level;
    const char *text;
};

/* The loop's own few lines ("libuv plugin not found, …") go where errors go: the reporter sorts
 * them. */
static int deliver_log(lua_State *L) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const struct log_line *line = lua_touserdata(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &reporter_key) == LUA_TFUNCTION) {
        lua_pushstring(L, line->text);
        lua_pushstring(L, names[line->level]);
        lua_call(L, 2, 0);
    }
    return 0;
}

static void on_log(void *user, enum khp_net_log_level level, const char *text) {
    struct log_line line = {level, text};
    struct lkhp_loop *loop = user;
    if (loop->net)
        lkhp_enter(loop, deliver_log, &line);
    else if (level <= KHP_NET_LOG_WARN) /* while it is being made */
        fprintf(stderr, "khp: %s\n", text);
}

static int loop__gc(lua_State *L) {
    struct lkhp_loop *loop = lua_touserdata(L, 1);
    struct khp_net_loop *net = loop->net;
    loop->net = NULL;
    if (net)
        khp_net_loop_free(net);
    khp_conn_shared_free(&loop->shared);
    return 0;
}

struct lkhp_loop *lkhp_loop(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &loop_key) == LUA_TUSERDATA) {
        struct lkhp_loop *loop = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (!loop->net)
            luaL_error(L, "this Lua state is being closed");
        return loop;
    }
    lua_pop(L, 1);
    struct lkhp_loop *loop = lua_newuserdatauv(L, sizeof *loop, 0);
    memset(loop, 0, sizeof *loop);
    if (luaL_newmetatable(L, "khp.loop")) {
        lua_pushcfunction(L, loop__gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    loop->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    struct khp_net_error error;
    struct khp_net_loop *net =
        khp_net_loop_new(&(struct khp_net_loop_options){.log = on_log, .user = loop}, &error);
    if (!net)
        luaL_error(L, "no event loop: %s", error.text);
    loop->net = net;
    lua_pushliteral(L, "text");
    loop->text = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushliteral(L, "binary");
    loop->binary = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loop_key);
    return loop;
}

/* ---- functions ---- */

/* step([seconds]): true, or false from inside a callback. nil waits for something to happen, but
 * not for ever. */
static int loop_step(lua_State *L) {
    struct lkhp_loop *loop = lkhp_loop(L);
    lua_Number seconds = luaL_optnumber(L, 1, HEED_SECONDS);
    lua_State *before = lkhp_borrow(loop, L);
    loop->hook = lua_gethook(L);
    bool stepped = khp_net_loop_step(loop->net, seconds);
    loop->L = before;
    lua_pushboolean(L, stepped);
    return 1;
}

static int loop_entered(lua_State *L) {
    lua_pushboolean(L, khp_net_loop_entered(lkhp_loop(L)->net));
    return 1;
}

/* fd(): the descriptor to poll, or nil where the backend has none. */
static int loop_fd(lua_State *L) {
    int fd = khp_net_loop_fd(lkhp_loop(L)->net);
    if (fd < 0)
        return 0;
    lua_pushinteger(L, fd);
    return 1;
}

/* timeout(): seconds until step(0) is due even so, or nil. */
static int loop_timeout(lua_State *L) {
    double timeout = khp_net_loop_timeout(lkhp_loop(L)->net);
    if (timeout < 0)
        return 0;
    lua_pushnumber(L, timeout);
    return 1;
}

/*
 * waker() → two light userdata, f and data: from any thread, ((void (*)(void *))f)(data) makes a
 * step that waits return, as long as this state is not closed.
 */
static int loop_waker(lua_State *L) {
    void (*wake)(struct khp_net_loop *) = khp_net_loop_wake;
    void *pointer;
    static_assert(sizeof pointer == sizeof wake, "POSIX: a function fits into a void *");
    memcpy(&pointer, &wake, sizeof pointer);
    lua_pushlightuserdata(L, pointer);
    lua_pushlightuserdata(L, lkhp_loop(L)->net);
    return 2;
}

static int loop_wake(lua_State *L) {
    khp_net_loop_wake(lkhp_loop(L)->net);
    return 0;
}

/* now(): seconds of a monotonic clock, read once a turn. */
static int loop_now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)khp_net_loop_now(lkhp_loop(L)->net) / 1000.0);
    return 1;
}

/* clock(): seconds of the same clock, read now and finer. */
static int loop_clock(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* time(): seconds since 1970, with a fraction. */
static int loop_time(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* alive(): how many connections, listeners and timers there are. */
static int loop_alive(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)lkhp_loop(L)->alive);
    return 1;
}

static int loop_backend(lua_State *L) {
    lua_pushstring(L, khp_net_loop_backend(lkhp_loop(L)->net) == KHP_NET_BACKEND_UV ? "libuv"
                                                                                    : "poll");
    return 1;
}

/* report(f): f(text[, level]) hears of errors in callbacks, and the loop's own log lines with their
 * level. */
static int loop_report(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &reporter_key);
    return 0;
}

int lkhp_open_loop(lua_State *L) {
    static const luaL_Reg functions[] = {{"step", loop_step},
                                         {"entered", loop_entered},
                                         {"fd", loop_fd},
                                         {"timeout", loop_timeout},
                                         {"wake", loop_wake},
                                         {"waker", loop_waker},
                                         {"now", loop_now},
                                         {"clock", loop_clock},
                                         {"time", loop_time},
                                         {"alive", loop_alive},
                                         {"backend", loop_backend},
                                         {"report", loop_report},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

/*
 * Timers for Lua: timer(seconds, f) → a timer that calls f once, unless cancelled.
 */
#include "lua/lkhp.h"

#include <stddef.h>
#include <string.h>

struct lkhp_timer {
    struct khp_net_timer timer;
    struct lkhp_loop *loop;
    int reference; /* in the registry while running */
};

#define TIMER "khp.timer"

static int deliver(lua_State *L) {
    struct lkhp_timer *timer = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, timer->reference);
    lkhp_drop(L, timer->loop, &timer->reference);
    lua_getiuservalue(L, -1, 1);
    lua_call(L, 0, 0);
    return 0;
}

static void on_fire(struct khp_net_timer *timer) {
    struct lkhp_timer *self =
        (struct lkhp_timer *)(void *)((char *)timer - offsetof(struct lkhp_timer, timer));
    lkhp_enter(self->loop, deliver, self);
}

static int timer_new(lua_State *L) {
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct lkhp_loop *loop = lkhp_loop(L);
    struct lkhp_timer *timer = lua_newuserdatauv(L, sizeof *timer, 1);
    memset(timer, 0, sizeof *timer);
    luaL_setmetatable(L, TIMER);
    timer->loop = loop;
    timer->timer.fire = on_fire;
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    timer->reference = lkhp_hold(L, loop);
    khp_net_timer_start(loop->net, &timer->timer, lkhp_milliseconds(seconds));
    return 1;
}

static int timer_cancel(lua_State *L) {
    struct lkhp_timer *timer = luaL_checkudata(L, 1, TIMER);
    if (timer->timer.running && timer->loop->net) {
        khp_net_timer_stop(timer->loop->net, &timer->timer);
        lkhp_drop(L, timer->loop, &timer->reference);
    }
    return 0;
}

/* Collected while running only when the whole state is closed; the registry is of no use then. */
static int timer__gc(lua_State *L) {
    struct lkhp_timer *timer = luaL_checkudata(L, 1, TIMER);
    if (timer->timer.running && timer->loop->net)
        khp_net_timer_stop(timer->loop->net, &timer->timer);
    return 0;
}

int lkhp_open_timer(lua_State *L) {
    static const luaL_Reg methods[] = {{"cancel", timer_cancel}, {NULL, NULL}};
    if (luaL_newmetatable(L, TIMER)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, timer__gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, timer_cancel);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, timer_new);
    return 1;
}

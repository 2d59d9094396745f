/*
 * A C program that hosts Lua and polls its own descriptors; khp is one of them. It runs khp's loop
 * when khp.fd() is readable or after khp.timeout() seconds, and never blocks inside Lua.
 *
 *   cc -o host examples/hosts/poll.c $(pkg-config --cflags --libs lua5.4) && ./host script.lua
 *
 * The script sets up servers and connections; the host runs until the script's global `done` is
 * true.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

/* Pushes khp[name](argument): one result. argument < 0: none. */
static bool call(lua_State *L, const char *name, lua_Number argument) {
    lua_getglobal(L, "require");
    lua_pushstring(L, "khp");
    if (lua_pcall(L, 1, 1, 0) != LUA_OK)
        return false;
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    if (argument >= 0)
        lua_pushnumber(L, argument);
    return lua_pcall(L, argument >= 0, 1, 0) == LUA_OK;
}

/* What poll(2) takes for khp.timeout(): milliseconds, -1 without a limit. */
static bool timeout_of(lua_State *L, int *ms) {
    if (!call(L, "timeout", -1))
        return false;
    *ms = lua_isnil(L, -1) ? -1 : (int)(lua_tonumber(L, -1) * 1000 + 0.999);
    lua_pop(L, 1);
    return true;
}

static bool is_done(lua_State *L) {
    lua_getglobal(L, "done");
    bool done = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return done;
}

static bool turn(lua_State *L) {
    int ms;
    if (!call(L, "fd", -1))
        return false;
    struct pollfd own[1] = {{.fd = (int)lua_tointeger(L, -1), .events = POLLIN}};
    lua_pop(L, 1);
    if (!timeout_of(L, &ms))
        return false;
    poll(own, 1, ms); /* add the host's other descriptors here */
    if (!call(L, "step", 0))
        return false;
    lua_pop(L, 1);
    return true;
}

int main(int argc, char **argv) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    bool good = argc == 2 && luaL_dofile(L, argv[1]) == LUA_OK;
    while (good && !is_done(L))
        good = turn(L);
    if (!good)
        fprintf(stderr, "%s\n", argc == 2 ? lua_tostring(L, -1) : "usage: host SCRIPT");
    lua_close(L);
    return good ? 0 : 1;
}

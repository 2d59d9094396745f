/*
 * Bounds on Lua code that is not trusted with our time and memory: how many instructions a
 * coroutine may run, how much memory it may take and how long it may hold the loop, all its turns
 * together. Policies run so. What has run out is told as an error in the coroutine, which it cannot
 * catch for long.
 *
 * One long call of a C function (a pattern match, a sort) counts as one instruction; its memory is
 * bounded all the same.
 */
#include "lua/lkhp.h"

#include <string.h>
#include <time.h>

#define BUDGET "khp.budget"

enum { HOOK_EVERY = 1000 }; /* instructions between two looks */

struct lkhp_budget {
    lua_Integer instructions; /* left */
    size_t memory, most;      /* bytes left, of so many; what is freed comes back */
    uint64_t nanoseconds;     /* left */
    uint64_t turn_began;
    lua_Alloc alloc; /* the state's own, while a turn lasts */
    void *alloc_data;
    const char *spent; /* what has run out, or NULL */
    bool refused;      /* an allocation was, in this turn */
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- memory ---- */

/* Stands before the state's allocator during a turn. */
static void *bounded_alloc(void *data, void *block, size_t old_size, size_t new_size) {
    struct lkhp_budget *budget = data;
    size_t held = block ? old_size : 0; /* of a new block, old_size is its kind */
    if (new_size > held && new_size - held > budget->memory) {
        budget->refused = true;
        return NULL;
    }
    void *result = budget->alloc(budget->alloc_data, block, old_size, new_size);
    if (!result && new_size > 0)
        return NULL;
    budget->memory = budget->memory + held - new_size;
    if (budget->memory > budget->most) /* what was there before the turn was freed in it */
        budget->memory = budget->most;
    return result;
}

/* ---- instructions and time ---- */

static struct lkhp_budget *budget_of(lua_State *co) {
    lua_rawgetp(co, LUA_REGISTRYINDEX, co);
    struct lkhp_budget *budget = lua_touserdata(co, -1);
    lua_pop(co, 1);
    return budget;
}

/* Once something is spent every further instruction throws, so that no pcall can go on as if
 * nothing had been. */
static void on_count(lua_State *co, lua_Debug *where) {
    (void)where;
    struct lkhp_budget *budget = budget_of(co);
    if (!budget)
        return;
    if (!budget->spent) {
        budget->instructions -= HOOK_EVERY;
        if (budget->instructions <= 0)
            budget->spent = "instruction";
        else if (now() - budget->turn_began > budget->nanoseconds)
            budget->spent = "time";
        else
            return;
        lua_sethook(co, on_count, LUA_MASKCOUNT, 1);
    }
    luaL_error(co, "the %s budget is spent", budget->spent);
}

/* ---- functions ---- */

/* new(co, instructions, bytes, seconds) → budget, tied to this coroutine */
static int budget_new(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argcheck(L, co != NULL, 1, "coroutine expected");
    lua_Integer instructions = luaL_checkinteger(L, 2);
    lua_Number memory = luaL_checknumber(L, 3);
    lua_Number seconds = luaL_checknumber(L, 4);
    struct lkhp_budget *budget = lua_newuserdatauv(L, sizeof *budget, 0);
    memset(budget, 0, sizeof *budget);
    luaL_setmetatable(L, BUDGET);
    budget->instructions = instructions;
    budget->most = memory < 4e18 ? (size_t)memory : SIZE_MAX / 2;
    budget->memory = budget->most;
    budget->nanoseconds = seconds < 9e9 ? (uint64_t)(seconds * 1e9) : UINT64_MAX;
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, co);
    lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_EVERY);
    return 1;
}

/* release(co): forgets its budget; to be called once it has ended */
static int budget_release(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argcheck(L, co != NULL, 1, "coroutine expected");
    lua_sethook(co, NULL, 0, 0);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, co);
    return 0;
}

/*
 * resume(budget, co, …) → as coroutine.resume. A turn under the budget: the bound on memory holds
 * from here to the yield, the end, or the error.
 */
static int budget_resume(lua_State *L) {
    struct lkhp_budget *budget = luaL_checkudata(L, 1, BUDGET);
    lua_State *co = lua_tothread(L, 2);
    luaL_argcheck(L, co != NULL, 2, "coroutine expected");
    int arguments = lua_gettop(L) - 2;
    if (!lua_checkstack(co, arguments + 1))
        return luaL_error(L, "too many arguments");
    lua_xmove(L, co, arguments);
    budget->refused = false;
    budget->turn_began = now();
    budget->alloc = lua_getallocf(L, &budget->alloc_data);
    lua_setallocf(L, bounded_alloc, budget);
    int results;
    int status = lua_resume(co, L, arguments, &results);
    lua_setallocf(L, budget->alloc, budget->alloc_data);
    uint64_t spent = now() - budget->turn_began;
    budget->nanoseconds -= spent < budget->nanoseconds ? spent : budget->nanoseconds;
    if (status != LUA_OK && status != LUA_YIELD)
        results = 1; /* the error */
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        return luaL_error(L, "too many results");
    }
    lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
    if (status == LUA_ERRMEM && budget->refused) {
        lua_pop(co, 1);
        lua_pushliteral(L, "the memory budget is spent");
        return 2;
    }
    lua_xmove(co, L, results);
    return results + 1;
}

int lkhp_open_budget(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"new", budget_new}, {"release", budget_release}, {"resume", budget_resume}, {NULL, NULL}};
    luaL_newmetatable(L, BUDGET);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}

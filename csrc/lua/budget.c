/*
 * Bounds on Lua code that is not trusted with our time and memory: how many instructions a
 * coroutine may run, how much memory it may take and how long it may hold the loop, all its turns
 * together. Policies run so.
 *
 * A turn under a budget puts an allocator before the state's own, which also tells the count hook
 * whose turn it is. When something is spent the hook yields for good, so that no pcall hears of it;
 * inside of a C function, where nobody may yield, it throws instead, and throws again at every
 * further instruction.
 *
 * One long call of a C function (a pattern match, a sort) is not interrupted: its memory is
 * bounded all the same, and charge() is for those who know beforehand how long it will be.
 */
#include "lua/lkhp.h"

#include <string.h>
#include <time.h>

#define BUDGET "khp.budget"

enum {
    HOOK_EVERY = 128,      /* instructions between two looks */
    LARGE_BLOCK = 4096,    /* bytes; filling such a block is charged as instructions, too, */
    HUGE_BLOCK = 65536,    /* and after such a one we look at the clock */
    BYTES_PER_CHARGE = 64, /* one instruction each */
    MOST_REFUSALS = 8,     /* each costs a full collection */
};

enum { DEEP = 200, DEEP_SHOWN = 10 }; /* levels of a traceback */

/* What the to-be-closed variables of a coroutine have to themselves when it is ended. */
enum { CLOSING_INSTRUCTIONS = 1000000, CLOSING_MEMORY = 1048576, CLOSING_TIME = 100000000 };

enum spent { NOTHING, INSTRUCTIONS, MEMORY, TIME, KINDS };

struct lkhp_budget {
    lua_State *co;            /* since its first turn */
    lua_Integer instructions; /* left */
    size_t memory, most;      /* bytes left, of so many; what is freed comes back */
    uint64_t nanoseconds;     /* left */
    lua_Number given[KINDS];  /* at first, by enum spent */
    uint64_t turn_began;
    lua_Alloc alloc; /* the state's own, while a turn lasts */
    void *alloc_data;
    unsigned refusals; /* of memory */
    bool refused;      /* the last allocation was */
    unsigned denied;   /* so many allocations will be, whatever there is */
    bool thrown;       /* by the hook, which stays off until a pcall restores it */
    bool guarded;      /* strings have other methods during its turns */
    enum spent spent;
};

/* Upvalues of every function here: what they share, and two values that are needed often. */
enum { SHARED = lua_upvalueindex(1), INDEX = lua_upvalueindex(2), METATABLE = lua_upvalueindex(3) };

/* In the shared table: the metatable of strings, the methods that they have in guarded turns and
 * those that the host's strings have, meanwhile. */
enum { STRINGS = 1, GUARDED, HOST };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- spending ---- */

static void on_count(lua_State *L, lua_Debug *where);

/* From now on the hook looks at every instruction. May be called from the allocator. */
static void spend(struct lkhp_budget *budget, enum spent what) {
    if (budget->spent == NOTHING)
        budget->spent = what;
    lua_sethook(budget->co, on_count, LUA_MASKCOUNT, 1);
}

/* Pushes what is spent, and the limit that says how much there was. */
static const char *explain(lua_State *L, const struct lkhp_budget *budget) {
    static const struct {
        const char *what, *limit;
    } texts[] = {{"nothing", "none"},
                 {"the instruction budget", "policy_instructions"},
                 {"the memory budget", "policy_memory"},
                 {"the time budget", "policy_time"}};
    lua_Number given = budget->given[budget->spent];
    lua_Integer whole;
    if (lua_numbertointeger(given, &whole) && (lua_Number)whole == given)
        lua_pushinteger(L, whole);
    else
        lua_pushnumber(L, given);
    return lua_pushfstring(L, "%s is spent (limit %s = %s)", texts[budget->spent].what,
                           texts[budget->spent].limit, lua_tostring(L, -1));
}

static void take_instructions(struct lkhp_budget *budget, lua_Integer count) {
    budget->instructions -= count < budget->instructions ? count : budget->instructions;
    if (budget->instructions <= 0)
        spend(budget, INSTRUCTIONS);
}

static void look_at_clock(struct lkhp_budget *budget) {
    if (now() - budget->turn_began > budget->nanoseconds)
        spend(budget, TIME);
}

/* ---- memory ---- */

/* Stands before the state's allocator during a turn. Lua answers a refusal with a full collection
 * and one more try; refused again, it throws. */
static void *bounded_alloc(void *data, void *block, size_t old_size, size_t new_size) {
    struct lkhp_budget *budget = data;
    size_t held = block ? old_size : 0; /* of a new block, old_size is its kind */
    if (new_size > held) {
        if (budget->denied > 0) {
            budget->denied--;
            return NULL;
        }
        if (budget->spent != NOTHING && new_size >= LARGE_BLOCK)
            return NULL; /* ends what goes on in C */
        if (new_size - held > budget->memory) {
            if (budget->refused || ++budget->refusals > MOST_REFUSALS)
                spend(budget, MEMORY);
            budget->refused = true;
            return NULL;
        }
        if (new_size >= LARGE_BLOCK) {
            take_instructions(budget, (lua_Integer)(new_size / BYTES_PER_CHARGE));
            if (new_size >= HUGE_BLOCK)
                look_at_clock(budget);
        }
        budget->refused = false;
    }
    void *result = budget->alloc(budget->alloc_data, block, old_size, new_size);
    if (!result && new_size > 0)
        return NULL;
    budget->memory = budget->memory + held - new_size;
    if (budget->memory > budget->most) /* what was there before the turn was freed in it */
        budget->memory = budget->most;
    return result;
}

/* Whose turn it is, or NULL. */
static struct lkhp_budget *current(lua_State *L) {
    void *data;
    return lua_getallocf(L, &data) == bounded_alloc ? data : NULL;
}

/* ---- the hook ---- */

/* Throws what Lua throws for want of memory: unlike any other error, it calls no message handler,
 * which would run without a hook. */
static void throw_silently(lua_State *L, struct lkhp_budget *budget) {
    budget->denied = 2; /* the second after a full collection */
    lua_newuserdatauv(L, 1, 0);
}

static void on_count(lua_State *L, lua_Debug *where) {
    (void)where;
    struct lkhp_budget *budget = current(L);
    if (!budget)
        return;
    if (budget->spent == NOTHING) {
        take_instructions(budget, HOOK_EVERY);
        look_at_clock(budget);
    }
    if (budget->spent == NOTHING)
        return;
    budget->thrown = L != budget->co || !lua_isyieldable(L);
    if (budget->thrown) {
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
        throw_silently(L, budget);
    }
    lua_yield(L, 0);
}

/* ---- turns ---- */

/* Strings have these methods from now on: GUARDED or HOST. */
static void give_methods(lua_State *L, int which) {
    lua_rawgeti(L, SHARED, STRINGS);
    if (which == GUARDED) {
        lua_pushvalue(L, INDEX);
        lua_rawget(L, -2);
        lua_rawseti(L, SHARED, HOST);
    }
    lua_pushvalue(L, INDEX);
    lua_rawgeti(L, SHARED, which);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

static void enter(lua_State *L, struct lkhp_budget *budget) {
    if (budget->guarded)
        give_methods(L, GUARDED);
    budget->refused = false;
    budget->denied = 0;
    budget->turn_began = now();
    budget->alloc = lua_getallocf(L, &budget->alloc_data);
    lua_setallocf(L, bounded_alloc, budget);
}

static void leave(lua_State *L, struct lkhp_budget *budget) {
    lua_setallocf(L, budget->alloc, budget->alloc_data);
    uint64_t spent = now() - budget->turn_began;
    budget->nanoseconds -= spent < budget->nanoseconds ? spent : budget->nanoseconds;
    if (budget->guarded)
        give_methods(L, HOST);
}

/* A turn inside another's suspends that one. */
static struct lkhp_budget *change(lua_State *L, struct lkhp_budget *to) {
    struct lkhp_budget *from = current(L);
    luaL_checkstack(L, 5, NULL);
    if (from)
        leave(L, from);
    if (to)
        enter(L, to);
    return from;
}

/* ---- functions ---- */

static struct lkhp_budget *check_budget(lua_State *L, int index) {
    void *budget = lua_touserdata(L, index);
    bool right = budget && lua_getmetatable(L, index);
    if (right) {
        right = lua_rawequal(L, -1, METATABLE) != 0;
        lua_pop(L, 1);
    }
    luaL_argcheck(L, right, index, "budget expected");
    return budget;
}

static lua_State *check_thread(lua_State *L, int index) {
    lua_State *co = lua_tothread(L, index);
    luaL_argcheck(L, co != NULL, index, "coroutine expected");
    return co;
}

/* new() → a budget with nothing in it, for one coroutine */
static int budget_new(lua_State *L) {
    struct lkhp_budget *budget = lua_newuserdatauv(L, sizeof *budget, 0);
    memset(budget, 0, sizeof *budget);
    lua_pushvalue(L, METATABLE);
    lua_setmetatable(L, -2);
    return 1;
}

/* fill(budget, instructions, bytes, seconds, guarded): what may be taken from now on, whatever was
 * before. guarded: strings have the methods that guard() was given during its turns. */
static int budget_fill(lua_State *L) {
    struct lkhp_budget *budget = check_budget(L, 1);
    lua_Integer instructions = luaL_checkinteger(L, 2);
    lua_Number memory = luaL_checknumber(L, 3);
    lua_Number seconds = luaL_checknumber(L, 4);
    budget->instructions = instructions;
    budget->most = memory < 4e18 ? (size_t)memory : SIZE_MAX / 2;
    budget->memory = budget->most;
    budget->nanoseconds = seconds < 9e9 ? (uint64_t)(seconds * 1e9) : UINT64_MAX;
    budget->given[INSTRUCTIONS] = (lua_Number)instructions;
    budget->given[MEMORY] = memory;
    budget->given[TIME] = seconds;
    budget->refusals = 0;
    budget->spent = NOTHING;
    budget->guarded = lua_toboolean(L, 5) != 0;
    return 0;
}

/* guard(methods): what strings have in guarded turns */
static int budget_guard(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_rawseti(L, SHARED, GUARDED);
    return 0;
}

/* Pushes where the coroutine is. Of a recursion without end, only the last levels: a traceback
 * that looks for the first ones takes longer than the recursion. */
static void push_traceback(lua_State *L, lua_State *co) {
    lua_Debug at;
    if (!lua_getstack(co, DEEP, &at)) {
        luaL_traceback(L, co, NULL, 0);
        return;
    }
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    luaL_addstring(&buffer, "stack traceback:");
    for (int level = 0; level < DEEP_SHOWN && lua_getstack(co, level, &at); level++) {
        lua_getinfo(co, "Sl", &at);
        lua_pushfstring(L, "\n\t%s:%d: in function <%s:%d>", at.short_src, at.currentline,
                        at.short_src, at.linedefined);
        luaL_addvalue(&buffer);
    }
    luaL_addstring(&buffer, "\n\t...\t(and so on)");
    luaL_pushresult(&buffer);
}

/* Pushes false, the error as text, a traceback. */
static int fail(lua_State *L, lua_State *co, const char *text) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, text);
    push_traceback(L, co);
    return 3;
}

/* What the auxiliary library throws for want of memory is a text like any other. */
static bool is_memory_error(const struct lkhp_budget *budget, const char *text) {
    return budget && budget->refusals > 0 && text && strcmp(text, "not enough memory") == 0;
}

static int fail_with_error(lua_State *L, lua_State *co, struct lkhp_budget *budget) {
    const char *text = NULL;
    if (lua_type(co, -1) == LUA_TSTRING || lua_type(co, -1) == LUA_TNUMBER)
        text = lua_tostring(co, -1);
    if (is_memory_error(budget, text)) {
        budget->spent = MEMORY;
        text = explain(L, budget);
    } else if (!text) /* its metamethods are not called: they are the policy's */
        text = lua_pushfstring(L, "(the error is a %s value)", luaL_typename(co, -1));
    return fail(L, co, text);
}

/*
 * resume(budget, co, …) → as coroutine.resume, and after an error a traceback. A turn under the
 * budget: what it bounds holds from here to the yield, the end, or the error. With nil for the
 * budget, a turn without bounds, whoever's turn it is now.
 */
static int budget_resume(lua_State *L) {
    struct lkhp_budget *budget = lua_isnil(L, 1) ? NULL : check_budget(L, 1);
    lua_State *co = check_thread(L, 2);
    int arguments = lua_gettop(L) - 2;
    if (!lua_checkstack(co, arguments + 1))
        return luaL_error(L, "too many arguments");
    if (budget && !budget->co) {
        budget->co = co;
        lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_EVERY);
    }
    lua_xmove(L, co, arguments);
    struct lkhp_budget *before = change(L, budget);
    int results;
    int status = lua_resume(co, L, arguments, &results);
    change(L, before);
    if (budget && budget->spent != NOTHING)
        return fail(L, co, explain(L, budget));
    if (status != LUA_OK && status != LUA_YIELD)
        return fail_with_error(L, co, budget);
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        return luaL_error(L, "too many results");
    }
    lua_pushboolean(L, 1);
    lua_xmove(co, L, results);
    return results + 1;
}

/*
 * close(budget, co): ends a coroutine that waits or has failed; its to-be-closed variables are
 * closed under a small budget of their own. Not those of one that the hook ended inside of a C
 * function: without a hook nothing would bound them, so they are left to the collector.
 */
static int budget_close(lua_State *L) {
    struct lkhp_budget *budget = check_budget(L, 1);
    lua_State *co = check_thread(L, 2);
    if (budget->thrown)
        return 0;
    budget->instructions = CLOSING_INSTRUCTIONS;
    budget->nanoseconds = CLOSING_TIME;
    if (budget->memory < CLOSING_MEMORY)
        budget->memory = CLOSING_MEMORY;
    budget->refusals = 0;
    budget->spent = NOTHING;
    budget->co = co;
    lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_EVERY);
    struct lkhp_budget *before = change(L, budget);
    lua_resetthread(co);
    change(L, before);
    return 0;
}

/* charge(n): counts what follows as so many instructions, where this is a bounded turn. Throws when
 * they are not there. */
static int budget_charge(lua_State *L) {
    lua_Number count = luaL_checknumber(L, 1);
    struct lkhp_budget *budget = current(L);
    if (!budget)
        return 0;
    if (budget->spent == NOTHING && count > 0) {
        take_instructions(budget, count < 9e18 ? (lua_Integer)count : LUA_MAXINTEGER);
        look_at_clock(budget);
    }
    if (budget->spent != NOTHING)
        return luaL_error(L, "%s", explain(L, budget));
    return 0;
}

int lkhp_open_budget(lua_State *L) {
    static const luaL_Reg functions[] = {{"new", budget_new},
                                         {"fill", budget_fill},
                                         {"guard", budget_guard},
                                         {"resume", budget_resume},
                                         {"close", budget_close},
                                         {"charge", budget_charge},
                                         {NULL, NULL}};
    luaL_newlibtable(L, functions);
    lua_createtable(L, HOST, 0);
    lua_pushliteral(L, "");
    if (!lua_getmetatable(L, -1))
        return luaL_error(L, "strings have no metatable");
    lua_rawseti(L, -3, STRINGS);
    lua_pop(L, 1);
    lua_pushliteral(L, "__index");
    luaL_newmetatable(L, BUDGET);
    luaL_setfuncs(L, functions, 3);
    return 1;
}

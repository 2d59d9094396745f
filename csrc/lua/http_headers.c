/*
 * The headers object: a plain table with name, value, name, value … in wire order at 1, 2, 3, 4 …,
 * and each value under its name in lower case. A metatable that all share looks other spellings up.
 * It has no methods, so that no header can collide with one.
 *
 * Peers say the same few names again and again. Their strings are remembered, by a hash of the
 * bytes, in a small table that anybody's names may overwrite: two lookups by number instead of two
 * strings to intern.
 */
#include "lua/http.h"

#include <string.h>

enum { SLOTS = 64, NAME_MAX_SIZE = 31 }; /* SLOTS: as many as a 64-bit set has members */

struct name_slot {
    uint8_t size; /* 0: empty */
    char text[NAME_MAX_SIZE];
};

static void lower(char *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = khp_http_lower(text[i]);
}

/* The same for all spellings of a name; less than SLOTS. */
static unsigned hash_name(const char *name, size_t n) {
    const uint64_t caseless = UINT64_C(0x2020202020202020);
    uint64_t hash = n, word = 0;
    if (n < sizeof word) {
        for (size_t i = 0; i < n; i++)
            word = word << 8 | (unsigned char)name[i];
        hash ^= word | caseless;
    } else {
        for (size_t i = 0; i < n; i += sizeof word) {
            size_t last = n - sizeof word;
            memcpy(&word, name + (i < last ? i : last), sizeof word);
            hash = (hash ^ (word | caseless)) * UINT64_C(0x9E3779B97F4A7C15);
            hash ^= hash >> 29;
        }
    }
    return (unsigned)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 58);
}

void lkhp_http_push_lower(lua_State *L, const char *text, size_t n) {
    char small[64];
    luaL_Buffer buffer;
    if (n <= sizeof small) {
        lower(small, text, n);
        lua_pushlstring(L, small, n);
    } else {
        lower(luaL_buffinitsize(L, &buffer, n), text, n);
        luaL_pushresultsize(&buffer, n);
    }
}

/* Pushes the name in lower case and as it is. */
static void push_name(lua_State *L, struct name_slot *slots, unsigned hash, const char *name,
                      size_t n) {
    struct name_slot *slot = slots + hash;
    lua_Integer index = 2 * (lua_Integer)hash + 1;
    if (slot->size == n && memcmp(slot->text, name, n) == 0) {
        lua_rawgeti(L, LKHP_HTTP_STRINGS, index);
        lua_rawgeti(L, LKHP_HTTP_STRINGS, index + 1);
        return;
    }
    lkhp_http_push_lower(L, name, n);
    lua_pushlstring(L, name, n);
    if (n <= NAME_MAX_SIZE) {
        slot->size = 0;
        lua_pushvalue(L, -2);
        lua_rawseti(L, LKHP_HTTP_STRINGS, index);
        lua_pushvalue(L, -1);
        lua_rawseti(L, LKHP_HTTP_STRINGS, index + 1);
        memcpy(slot->text, name, n);
        slot->size = (uint8_t)n;
    }
}

static void push_value(lua_State *L, const struct khp_http_field *field, const char *bytes) {
    const char *value = bytes + field->value.at;
    size_t size = field->value.size;
    luaL_Buffer buffer;
    if (field->folded) {
        size = khp_http_unfold(luaL_buffinitsize(L, &buffer, size), value, size);
        luaL_pushresultsize(&buffer, size);
    } else {
        lua_pushlstring(L, value, size);
    }
}

/* With key and value at the top: what the table has under the key already comes before the value
 * (KHP H2). */
static void combine(lua_State *L, int table) {
    lua_pushvalue(L, -2);
    if (lua_rawget(L, table) == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    lua_pushliteral(L, ", ");
    lua_pushvalue(L, -3);
    lua_concat(L, 3);
    lua_replace(L, -2);
}

void lkhp_http_push_headers(lua_State *L, const struct khp_http_head *head, const char *bytes) {
    struct name_slot *slots = lua_touserdata(L, LKHP_HTTP_NAMES);
    int count = (int)head->field_count;
    uint64_t seen = 0;
    luaL_checkstack(L, 10, NULL);
    lua_createtable(L, 2 * count, count);
    int table = lua_gettop(L);
    for (int i = 0; i < count; i++) {
        const struct khp_http_field *field = head->fields + i;
        const char *name = bytes + field->name.at;
        unsigned hash = hash_name(name, field->name.size);
        push_name(L, slots, hash, name, field->name.size);
        lua_rawseti(L, table, 2 * i + 1);
        push_value(L, field, bytes);
        lua_pushvalue(L, -1);
        lua_rawseti(L, table, 2 * i + 2);
        if ((seen >> hash & 1) != 0)
            combine(L, table);
        seen |= UINT64_C(1) << hash;
        lua_rawset(L, table);
    }
    lua_pushvalue(L, LKHP_HTTP_HEADERS);
    lua_setmetatable(L, table);
}

/* headers[name], where name is not there as it is written. */
static int headers_index(lua_State *L) {
    size_t n;
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    const char *name = lua_tolstring(L, 2, &n);
    size_t same = 0;
    while (same < n && khp_http_lower(name[same]) == name[same])
        same++;
    if (same == n)
        return 0;
    lkhp_http_push_lower(L, name, n);
    lua_rawget(L, 1);
    return 1;
}

/* Iterator: the upvalues are the headers object and where it is in there. */
static int next_field(lua_State *L) {
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(2));
    lua_pushinteger(L, at + 2);
    lua_replace(L, lua_upvalueindex(2));
    lua_rawgeti(L, lua_upvalueindex(1), at);
    if (lua_isnil(L, -1))
        return 1;
    lua_rawgeti(L, lua_upvalueindex(1), at + 1);
    return 2;
}

/* http.fields(headers) → iterator of name, value; also __pairs */
static int headers_fields(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 1);
    lua_pushcclosure(L, next_field, 2);
    return 1;
}

/* http.values(headers, name) → array */
static int headers_values(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *wanted = luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_newtable(L);
    lua_Integer found = 0;
    for (lua_Integer at = 1; lua_rawgeti(L, 1, at) != LUA_TNIL; at += 2) {
        size_t n;
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 1, "headers expected");
        const char *name = lua_tolstring(L, -1, &n);
        if (khp_http_equals((struct khp_http_slice){name, n}, wanted)) {
            lua_rawgeti(L, 1, at + 1);
            lua_rawseti(L, 3, ++found);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return 1;
}

void lkhp_http_push_headers_upvalues(lua_State *L) {
    static const luaL_Reg metamethods[] = {
        {"__index", headers_index}, {"__pairs", headers_fields}, {NULL, NULL}};
    luaL_newlib(L, metamethods);
    lua_pushliteral(L, "khp.http.headers");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0); /* shared, so nobody's to change */
    lua_setfield(L, -2, "__metatable");

    memset(lua_newuserdatauv(L, SLOTS * sizeof(struct name_slot), 0), 0,
           SLOTS * sizeof(struct name_slot));
    lua_createtable(L, 2 * SLOTS, 0);
}

const luaL_Reg lkhp_http_headers_functions[] = {
    {"fields", headers_fields}, {"values", headers_values}, {NULL, NULL}};

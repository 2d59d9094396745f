/*
 * Field values for Lua: token lists, extension lists, challenges, quoted strings, dates, reason
 * phrases. Each function is a loop over csrc/http that fills a table.
 */
#include "lua/http.h"

#include <time.h>

#include "http/challenge.h"
#include "http/date.h"
#include "http/grammar.h"
#include "http/status.h"

static struct khp_http_slice check_slice(lua_State *L, int arg) {
    struct khp_http_slice slice;
    slice.at = luaL_checklstring(L, arg, &slice.size);
    return slice;
}

static void push_slice(lua_State *L, struct khp_http_slice slice) {
    lua_pushlstring(L, slice.at, slice.size);
}

static int refuse(lua_State *L, const char *text) {
    lua_pushnil(L);
    lua_pushstring(L, text);
    return 2;
}

/* Appends the value at the top, which it pops, to the array below it. */
static void add(lua_State *L) {
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

static void push_unquoted(lua_State *L, struct khp_http_slice content) {
    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(L, &buffer, content.size);
    luaL_pushresultsize(&buffer, khp_http_unquote(out, content));
}

/* Adds to the table of parameters at the top. Of equal names the first one's value stays; all of
 * them are in the list, since there are headers that may not have them (RFC 7692 7.1). Pops the
 * name, on top of it. */
static void add_parameter(lua_State *L, const struct khp_http_parameter *parameter) {
    lua_pushvalue(L, -1);
    int type = lua_rawget(L, -3);
    lua_pop(L, 1);
    if (type != LUA_TNIL) {
        add(L);
        return;
    }
    lua_pushvalue(L, -1);
    if (parameter->quoted)
        push_unquoted(L, parameter->value);
    else if (parameter->has_value)
        push_slice(L, parameter->value);
    else
        lua_pushboolean(L, 1);
    lua_rawset(L, -4);
    add(L);
}

/* http.is_token(value) → boolean */
static int is_token(lua_State *L) {
    size_t n = 0;
    const char *at = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &n) : "";
    lua_pushboolean(L, khp_http_all(at, n, KHP_HTTP_TOKEN));
    return 1;
}

/* http.is_host(value) → boolean: nothing in it that a Host header cannot have (RFC 3986 3.2.2) */
static int is_host(lua_State *L) {
    struct khp_http_slice value = check_slice(L, 1);
    lua_pushboolean(L, value.size == 0 || khp_http_all(value.at, value.size, KHP_HTTP_HOST));
    return 1;
}

/* http.tokens(value) → array | nil, message */
static int tokens(lua_State *L) {
    struct khp_http_cursor cursor = khp_http_cursor(check_slice(L, 1));
    struct khp_http_slice token;
    enum khp_http_item item;
    lua_newtable(L);
    while ((item = khp_http_next_token(&cursor, &token)) == KHP_HTTP_ITEM) {
        push_slice(L, token);
        add(L);
    }
    return item == KHP_HTTP_END ? 1 : refuse(L, "the list of tokens is malformed");
}

/* http.extensions(value) → array of { name =, parameters = } | nil, message */
static int extensions(lua_State *L) {
    struct khp_http_cursor cursor = khp_http_cursor(check_slice(L, 1));
    struct khp_http_slice name;
    struct khp_http_parameter parameter;
    enum khp_http_item item;
    lua_newtable(L);
    while ((item = khp_http_next_extension(&cursor, &name)) == KHP_HTTP_ITEM) {
        lua_createtable(L, 0, 2);
        push_slice(L, name);
        lua_setfield(L, -2, "name");
        lua_newtable(L);
        while ((item = khp_http_next_extension_parameter(&cursor, &parameter)) == KHP_HTTP_ITEM) {
            push_slice(L, parameter.name);
            add_parameter(L, &parameter);
        }
        if (item == KHP_HTTP_MALFORMED)
            break;
        lua_setfield(L, -2, "parameters");
        add(L);
    }
    return item == KHP_HTTP_END ? 1 : refuse(L, "the list of extensions is malformed");
}

/* http.challenges(value) → array of { scheme =, prefix =, token68 =, parameters = } | nil, message
 */
static int challenges(lua_State *L) {
    struct khp_http_cursor cursor = khp_http_cursor(check_slice(L, 1));
    struct khp_http_challenge challenge;
    struct khp_http_parameter parameter;
    enum khp_http_item item;
    lua_newtable(L);
    while ((item = khp_http_next_challenge(&cursor, &challenge)) == KHP_HTTP_ITEM) {
        lua_createtable(L, 0, 4);
        push_slice(L, challenge.scheme);
        lua_setfield(L, -2, "scheme");
        if (challenge.prefix.size > 0) {
            lua_pushliteral(L, "Application");
            lua_setfield(L, -2, "prefix");
        }
        if (challenge.token68.size > 0) {
            push_slice(L, challenge.token68);
            lua_setfield(L, -2, "token68");
        }
        lua_newtable(L);
        while ((item = khp_http_next_challenge_parameter(&cursor, &parameter)) == KHP_HTTP_ITEM) {
            lkhp_http_push_lower(L, parameter.name.at, parameter.name.size);
            add_parameter(L, &parameter);
        }
        if (item == KHP_HTTP_MALFORMED)
            break;
        lua_setfield(L, -2, "parameters");
        add(L);
    }
    return item == KHP_HTTP_END ? 1 : refuse(L, "the challenge is malformed");
}

/* http.is_challenge(value) → boolean: one or more that challenges() can read */
static int is_challenge(lua_State *L) {
    struct khp_http_cursor cursor = khp_http_cursor(check_slice(L, 1));
    struct khp_http_challenge challenge;
    struct khp_http_parameter parameter;
    enum khp_http_item item;
    bool any = false;
    while ((item = khp_http_next_challenge(&cursor, &challenge)) == KHP_HTTP_ITEM) {
        any = true;
        do
            item = khp_http_next_challenge_parameter(&cursor, &parameter);
        while (item == KHP_HTTP_ITEM);
        if (item == KHP_HTTP_MALFORMED)
            break;
    }
    lua_pushboolean(L, any && item == KHP_HTTP_END);
    return 1;
}

/* http.quote(text) → quoted string | nil, message */
static int quote(lua_State *L) {
    struct khp_http_slice text = check_slice(L, 1);
    luaL_Buffer buffer;
    if (!khp_http_quotable(text))
        return refuse(L, "a control character cannot be quoted");
    char *out = luaL_buffinitsize(L, &buffer, 2 * text.size + 2);
    luaL_pushresultsize(&buffer, khp_http_quote(out, text));
    return 1;
}

/* http.unquote(quoted) → text | nil, message */
static int unquote(lua_State *L) {
    struct khp_http_slice quoted = check_slice(L, 1), content;
    struct khp_http_cursor cursor = khp_http_cursor(quoted);
    if (quoted.size == 0 || *quoted.at != '"' || !khp_http_read_quoted(&cursor, &content) ||
        cursor.at != cursor.end)
        return refuse(L, "this is no quoted string");
    push_unquoted(L, content);
    return 1;
}

/* Many responses are written in a second, with one date. Upvalues: the second and its date. */
static int date_of_now(lua_State *L) {
    lua_Integer now = (lua_Integer)time(NULL);
    if (now != lua_tointeger(L, lua_upvalueindex(1))) {
        char out[KHP_HTTP_DATE_SIZE];
        luaL_argcheck(L, khp_http_date_write(now, out), 1, "the year is not from 0 to 9999");
        lua_pushlstring(L, out, sizeof out);
        lua_replace(L, lua_upvalueindex(2));
        lua_pushinteger(L, now);
        lua_replace(L, lua_upvalueindex(1));
    }
    lua_pushvalue(L, lua_upvalueindex(2));
    return 1;
}

/* http.date([seconds]) → RFC 1123 date */
static int date(lua_State *L) {
    char out[KHP_HTTP_DATE_SIZE];
    if (lua_isnoneornil(L, 1))
        return date_of_now(L);
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds > -1e15 && seconds < 1e15, 1, "seconds out of range");
    int64_t whole = (int64_t)seconds;
    if ((lua_Number)whole > seconds) /* the second that a fraction belongs to began before it */
        whole--;
    luaL_argcheck(L, khp_http_date_write(whole, out), 1, "the year is not from 0 to 9999");
    lua_pushlstring(L, out, sizeof out);
    return 1;
}

void lkhp_http_push_date(lua_State *L) {
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushcclosure(L, date, 2);
}

/* http.parse_date(text) → seconds | nil */
static int parse_date(lua_State *L) {
    struct khp_http_slice text = check_slice(L, 1);
    int64_t seconds;
    if (!khp_http_date_read(text.at, text.size, (int64_t)time(NULL), &seconds))
        return 0;
    lua_pushinteger(L, (lua_Integer)seconds);
    return 1;
}

/* http.reason(status) → phrase, "" for none */
static int reason(lua_State *L) {
    lua_Integer status = luaL_checkinteger(L, 1);
    lua_pushstring(L, status >= 0 && status <= 999 ? khp_http_reason((int)status) : "");
    return 1;
}

const luaL_Reg lkhp_http_grammar_functions[] = {{"is_token", is_token},
                                                {"is_host", is_host},
                                                {"tokens", tokens},
                                                {"extensions", extensions},
                                                {"challenges", challenges},
                                                {"is_challenge", is_challenge},
                                                {"quote", quote},
                                                {"unquote", unquote},
                                                {"reason", reason},
                                                {"parse_date", parse_date},
                                                {NULL, NULL}};

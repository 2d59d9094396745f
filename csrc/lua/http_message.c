/*
 * Messages as Lua tables: what a parsed head looks like from Lua, limits, failures; and
 * http.parse_request and http.parse_response, which need no parser object because all the bytes are
 * there.
 */
#include "lua/http.h"

#include <string.h>

static void set_range(lua_State *L, const char *bytes, struct khp_http_range range,
                      const char *key) {
    lua_pushlstring(L, bytes + range.at, range.size);
    lua_setfield(L, -2, key);
}

static void set_version(lua_State *L, const struct khp_http_head *head) {
    if (head->minor == 1)
        lua_pushliteral(L, "1.1");
    else
        lua_pushfstring(L, "%I.%I", (LUAI_UACINT)head->major, (LUAI_UACINT)head->minor);
    lua_setfield(L, -2, "version");
}

static void push_request(lua_State *L, const struct khp_http_head *head, const char *bytes) {
    lua_createtable(L, 0, 16); /* both handshakes add what they have read out of the headers */
    set_range(L, bytes, head->method, "method");
    lua_pushlstring(L, bytes + head->target.at, head->target.size);
    if (head->path.size == head->target.size) {
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "path");
    }
    lua_setfield(L, -2, "target");
    if (head->path.size == 0 && head->form == KHP_HTTP_ABSOLUTE) {
        lua_pushliteral(L, "/"); /* RFC 2616 5.1.2 */
        lua_setfield(L, -2, "path");
    } else if (head->path.size != head->target.size) {
        set_range(L, bytes, head->path, "path");
    }
    if (head->has_query)
        set_range(L, bytes, head->query, "query");
}

static void push_response(lua_State *L, const struct khp_http_head *head, const char *bytes) {
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, head->status);
    lua_setfield(L, -2, "status");
    set_range(L, bytes, head->reason, "reason");
}

void lkhp_http_push_message(lua_State *L, const struct khp_http_head *head, const char *bytes) {
    if (head->kind == KHP_HTTP_REQUEST)
        push_request(L, head, bytes);
    else
        push_response(L, head, bytes);
    set_version(L, head);
    lkhp_http_push_headers(L, head, bytes);
    lua_setfield(L, -2, "headers");
}

int lkhp_http_push_failure(lua_State *L, enum khp_http_error error) {
    lua_pushnil(L);
    lua_pushstring(L, khp_http_error_text(error));
    lua_pushstring(L, khp_http_error_is_limit(error) ? "ELIMIT" : "EPROTOCOL");
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, khp_http_error_status(error));
    lua_setfield(L, -2, "status");
    return 4;
}

/* The limit at the top of the stack, at least `least` and at most `most`. */
static lua_Integer check_limit(lua_State *L, const char *name, lua_Integer least,
                               lua_Integer most) {
    int is_integer;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < least || value > most)
        luaL_error(L, "the limit '%s' must be an integer from %I to %I", name, (LUAI_UACINT)least,
                   (LUAI_UACINT)most);
    return value;
}

void lkhp_http_check_limits(lua_State *L, int arg, struct khp_http_limits *limits) {
    enum { LARGE = 1 << 30, MANY = 1 << 16 };
    const struct khp_http_limits *checked = lua_touserdata(L, arg);
    if (checked != NULL && lua_getmetatable(L, arg)) {
        bool is_limits = lua_rawequal(L, -1, LKHP_HTTP_LIMITS) != 0;
        lua_pop(L, 1);
        if (is_limits) {
            *limits = *checked;
            return;
        }
    }
    *limits = (struct khp_http_limits)KHP_HTTP_LIMITS_DEFAULT;
    if (lua_isnoneornil(L, arg))
        return;
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        if (strcmp(name, "head") == 0)
            limits->head = (uint32_t)check_limit(L, name, 1, LARGE);
        else if (strcmp(name, "line") == 0)
            limits->line = (uint32_t)check_limit(L, name, 1, LARGE);
        else if (strcmp(name, "fields") == 0)
            limits->fields = (uint32_t)check_limit(L, name, 0, MANY);
        else if (strcmp(name, "body") == 0)
            limits->body = (uint64_t)check_limit(L, name, 0, LARGE);
        else if (strcmp(name, "strict") == 0)
            limits->strict = lua_toboolean(L, -1);
        else
            luaL_error(L, "unknown limit '%s'", luaL_tolstring(L, -2, NULL));
        lua_pop(L, 1);
    }
}

/* http.limits([limits]) → the same, checked, to be given wherever limits are */
static int limits_new(lua_State *L) {
    struct khp_http_limits limits;
    lkhp_http_check_limits(L, 1, &limits);
    struct khp_http_limits *checked = lua_newuserdatauv(L, sizeof *checked, 0);
    *checked = limits;
    lua_pushvalue(L, LKHP_HTTP_LIMITS);
    lua_setmetatable(L, -2);
    return 1;
}

void lkhp_http_push_limits_metatable(lua_State *L) {
    lua_newtable(L);
    lua_pushliteral(L, "khp.http.limits");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

/* Pushes the body that begins at `at`. DONE: *at follows it. Else pushes nothing. */
static enum khp_http_progress push_body(lua_State *L, struct khp_http_body *body, const char *bytes,
                                        size_t n, size_t *at) {
    struct khp_http_slice data;
    size_t used;
    if (!body->chunked) {
        enum khp_http_progress progress =
            khp_http_body_next(body, bytes + *at, n - *at, &used, &data);
        *at += used;
        if (progress == KHP_HTTP_DONE)
            lua_pushlstring(L, data.at, data.size);
        return progress;
    }
    luaL_Buffer buffer;
    enum khp_http_progress progress = KHP_HTTP_MORE;
    luaL_buffinit(L, &buffer);
    while (progress == KHP_HTTP_MORE && *at < n) {
        progress = khp_http_body_next(body, bytes + *at, n - *at, &used, &data);
        luaL_addlstring(&buffer, data.at, data.size);
        *at += used;
    }
    luaL_pushresult(&buffer);
    if (progress != KHP_HTTP_DONE)
        lua_pop(L, 1);
    return progress;
}

static int parse(lua_State *L, enum khp_http_kind kind) {
    struct khp_http_limits limits;
    struct khp_http_field few[100], *fields = few;
    struct khp_http_head head;
    struct khp_http_body body;
    size_t n, at;
    const char *bytes = luaL_checklstring(L, 1, &n);
    lkhp_http_check_limits(L, 2, &limits);
    if (limits.fields > sizeof few / sizeof few[0])
        fields = lua_newuserdatauv(L, limits.fields * sizeof *fields, 0);

    khp_http_head_init(&head, kind, &limits, fields);
    enum khp_http_progress progress = khp_http_head_parse(&head, bytes, n);
    if (progress == KHP_HTTP_FAILED)
        return lkhp_http_push_failure(L, head.error);
    if (progress == KHP_HTTP_MORE)
        return 0;
    if (khp_http_body_init(&body, &head, bytes) == KHP_HTTP_FAILED)
        return lkhp_http_push_failure(L, body.error);
    lkhp_http_push_message(L, &head, bytes);
    at = head.size;
    progress = push_body(L, &body, bytes, n, &at);
    if (progress == KHP_HTTP_FAILED)
        return lkhp_http_push_failure(L, body.error);
    if (progress == KHP_HTTP_MORE)
        return 0;
    lua_setfield(L, -2, "body");
    lua_pushlstring(L, bytes + at, n - at);
    return 2;
}

/* http.parse_request(bytes [, limits]) → message, rest | nil | nil, message, code, detail */
static int parse_request(lua_State *L) {
    return parse(L, KHP_HTTP_REQUEST);
}

/* http.parse_response(bytes [, limits]): likewise */
static int parse_response(lua_State *L) {
    return parse(L, KHP_HTTP_RESPONSE);
}

const luaL_Reg lkhp_http_message_functions[] = {{"limits", limits_new},
                                                {"parse_request", parse_request},
                                                {"parse_response", parse_response},
                                                {NULL, NULL}};

/*
 * Parser objects: messages out of bytes that come in pieces. A head that comes in one piece is
 * parsed where it is, in the Lua string; only a head or body that is not all there is copied. What
 * follows a message stays in the string it came in. The memory held is bounded by the limits, and
 * counted by Lua's allocator.
 */
#include "lua/http.h"

#include <string.h>

enum { FEW_FIELDS = 100 }; /* as many are kept on the C stack while a head is parsed in one piece */

enum parser_state {
    PARSER_HEAD,     /* the head is not complete */
    PARSER_BODY,     /* it is; the body was not asked for */
    PARSER_READING,  /* the body is not complete */
    PARSER_COMPLETE, /* rest() begins the next message */
    PARSER_FAILED
};

/* User values of a parser. */
enum { INPUT = 1, MESSAGE, BUFFER, FIELDS, USER_VALUES = FIELDS };

struct parser {
    struct khp_http_limits limits;
    struct khp_http_head head;
    struct khp_http_body body;
    enum parser_state state;
    enum khp_http_error error; /* when failed */
    size_t at;                 /* bytes used of INPUT, a string, if there is one */
    char *buffer;              /* the head or body so far; BUFFER owns it */
    size_t size, capacity;
};

static void set_state(struct parser *parser, enum parser_state state) {
    parser->state = state;
}

static struct parser *check_parser(lua_State *L) {
    struct parser *parser = lua_touserdata(L, 1);
    if (parser == NULL || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, LKHP_HTTP_PARSER))
        luaL_typeerror(L, 1, "khp.http.parser");
    lua_pop(L, 1);
    return parser;
}

static int fail(lua_State *L, struct parser *parser, enum khp_http_error error) {
    parser->error = error;
    set_state(parser, PARSER_FAILED);
    return lkhp_http_push_failure(L, error);
}

/* May throw; then nothing has changed. */
static void append(lua_State *L, struct parser *parser, const char *bytes, size_t n) {
    if (n == 0)
        return;
    if (n > parser->capacity - parser->size) {
        size_t twice = 2 * parser->capacity;
        size_t capacity = parser->size + n > twice ? parser->size + n : twice;
        char *buffer = lua_newuserdatauv(L, capacity, 0);
        if (parser->size > 0)
            memcpy(buffer, parser->buffer, parser->size);
        lua_setiuservalue(L, 1, BUFFER);
        parser->buffer = buffer;
        parser->capacity = capacity;
    }
    memcpy(parser->buffer + parser->size, bytes, n);
    parser->size += n;
}

/* The value at index becomes the input, of which `at` bytes are used. */
static void set_input(lua_State *L, struct parser *parser, int index, size_t at) {
    lua_pushvalue(L, index);
    lua_setiuservalue(L, 1, INPUT);
    parser->at = at;
}

/* http.parser(kind [, limits]) → parser */
static int parser_new(lua_State *L) {
    static const char *const kinds[] = {"request", "response", NULL};
    struct khp_http_limits limits;
    enum khp_http_kind kind =
        luaL_checkoption(L, 1, NULL, kinds) == 0 ? KHP_HTTP_REQUEST : KHP_HTTP_RESPONSE;
    lkhp_http_check_limits(L, 2, &limits);
    struct parser *parser = lua_newuserdatauv(L, sizeof *parser, USER_VALUES);
    memset(parser, 0, sizeof *parser);
    parser->limits = limits;
    parser->head.kind = kind;
    set_state(parser, PARSER_HEAD);
    lua_pushvalue(L, LKHP_HTTP_PARSER);
    lua_setmetatable(L, -2);
    return 1;
}

/* Gives the head fields of its own, with what it has found so far. May throw; then nothing has
 * changed. */
static void keep_fields(lua_State *L, struct parser *parser) {
    struct khp_http_head *head = &parser->head;
    size_t limit = parser->limits.fields, found = head->field_count;
    struct khp_http_field *fields = lua_newuserdatauv(L, limit * sizeof *fields, 0);
    memcpy(fields, head->fields, (found < limit ? found + 1 : found) * sizeof *fields);
    lua_setiuservalue(L, 1, FIELDS);
    head->fields = fields;
}

/* parser:head([bytes]) → message | nil | nil, message, code, detail */
static int parser_head(lua_State *L) {
    struct parser *parser = check_parser(L);
    struct khp_http_head *head = &parser->head;
    struct khp_http_field few[FEW_FIELDS];
    size_t n, before = parser->size;
    const char *piece = luaL_optlstring(L, 2, "", &n), *bytes = piece;
    enum khp_http_progress progress;
    if (parser->state == PARSER_FAILED)
        return lkhp_http_push_failure(L, parser->error);
    if (parser->state != PARSER_HEAD)
        return luaL_error(L, "the head is complete: call body() and rest()");
    if (n == 0)
        return 0;
    lua_settop(L, 2);

    if (before == 0) {
        khp_http_head_init(head, head->kind, &parser->limits, few);
        if (parser->limits.fields > FEW_FIELDS)
            keep_fields(L, parser);
        progress = khp_http_head_parse(head, piece, n);
        if (progress == KHP_HTTP_MORE) {
            if (head->fields == few)
                keep_fields(L, parser);
            append(L, parser, piece, n);
        }
    } else { /* no more than it takes to see that there is too much */
        size_t room = (size_t)parser->limits.head + 1 - before;
        append(L, parser, piece, n < room ? n : room);
        bytes = parser->buffer;
        progress = khp_http_head_parse(head, bytes, parser->size);
    }
    if (progress == KHP_HTTP_MORE)
        return 0;
    if (progress == KHP_HTTP_FAILED)
        return fail(L, parser, head->error);
    if (khp_http_body_init(&parser->body, head, bytes) == KHP_HTTP_FAILED)
        return fail(L, parser, parser->body.error);
    lkhp_http_push_message(L, head, bytes);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, MESSAGE);
    set_input(L, parser, 2, head->size - before);
    parser->size = 0;
    set_state(parser, PARSER_BODY);
    return 1;
}

/*
 * Decodes the string at index 2 from byte `at`, which becomes the input. DONE: the body is pushed.
 * FAILED and MORE: nothing is. May throw.
 */
static enum khp_http_progress read_body(lua_State *L, struct parser *parser, size_t at) {
    enum khp_http_progress progress;
    struct khp_http_slice data;
    size_t n, used;
    const char *bytes = lua_tolstring(L, 2, &n);
    set_input(L, parser, 2, at);
    do {
        progress =
            khp_http_body_next(&parser->body, bytes + parser->at, n - parser->at, &used, &data);
        parser->at += used;
        if (progress == KHP_HTTP_DONE && parser->size == 0) { /* all of it in one piece */
            lua_pushlstring(L, data.at, data.size);
            return progress;
        }
        append(L, parser, data.at, data.size);
    } while (progress == KHP_HTTP_MORE && parser->at < n);
    if (progress == KHP_HTTP_DONE)
        lua_pushlstring(L, parser->buffer, parser->size);
    return progress;
}

/* parser:body([bytes]) → body | nil | nil, message, code, detail */
static int parser_body(lua_State *L) {
    struct parser *parser = check_parser(L);
    size_t n;
    const char *piece = luaL_optlstring(L, 2, "", &n);
    if (parser->state == PARSER_FAILED)
        return lkhp_http_push_failure(L, parser->error);
    if (parser->state == PARSER_HEAD)
        return luaL_error(L, "the head is not complete: call head()");
    lua_settop(L, 2);
    if (parser->state == PARSER_COMPLETE) {
        luaL_argcheck(L, n == 0, 2, "the body is complete: call rest()");
        lua_getiuservalue(L, 1, MESSAGE);
        lua_getfield(L, -1, "body");
        return 1;
    }

    /* What is left of the input comes first. */
    lua_getiuservalue(L, 1, INPUT);
    size_t left = lua_rawlen(L, -1) - parser->at;
    size_t at = parser->at;
    if (n == 0) {
        lua_replace(L, 2);
    } else if (left > 0) {
        lua_pushlstring(L, lua_tostring(L, -1) + at, left);
        lua_pushlstring(L, piece, n);
        lua_concat(L, 2);
        lua_replace(L, 2);
        at = 0;
    } else {
        at = 0;
    }
    lua_settop(L, 2);

    set_state(parser, PARSER_READING);
    enum khp_http_progress progress = read_body(L, parser, at);
    if (progress == KHP_HTTP_FAILED)
        return fail(L, parser, parser->body.error);
    if (progress == KHP_HTTP_MORE)
        return 0;
    lua_getiuservalue(L, 1, MESSAGE);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "body");
    lua_pop(L, 1);
    set_state(parser, PARSER_COMPLETE);
    return 1;
}

/* parser:rest() → bytes after the message, or after the head when the body was not asked for */
static int parser_rest(lua_State *L) {
    struct parser *parser = check_parser(L);
    if (parser->state != PARSER_COMPLETE && parser->state != PARSER_BODY)
        return luaL_error(L, "the message is not complete");
    size_t n;
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, INPUT);
    const char *bytes = lua_tolstring(L, -1, &n);
    lua_pushlstring(L, bytes + parser->at, n - parser->at);
    for (int value = INPUT; value <= USER_VALUES; value++) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, value);
    }
    parser->buffer = NULL;
    parser->at = parser->size = parser->capacity = 0;
    set_state(parser, PARSER_HEAD);
    return 1;
}

void lkhp_http_push_parser_metatable(lua_State *L) {
    lua_newtable(L);
    lua_pushliteral(L, "khp.http.parser");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

const luaL_Reg lkhp_http_parser_methods[] = {
    {"head", parser_head}, {"body", parser_body}, {"rest", parser_rest}, {NULL, NULL}};

const luaL_Reg lkhp_http_parser_functions[] = {{"parser", parser_new}, {NULL, NULL}};

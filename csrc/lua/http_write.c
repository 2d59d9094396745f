/*
 * http.write_request and http.write_response: message tables into bytes. Whatever is wrong inside a
 * message comes back as nil, message, code, since messages are often put together from what a
 * policy said; only a message that is no table is the caller's error.
 */
#include "lua/http.h"

#include <stdlib.h>
#include <string.h>

#include "http/status.h"
#include "http/writer.h"

/* Where a call keeps things on the stack. Any of them but the first may be nil. */
enum { MESSAGE = 1, HEADERS, BODY, VERSION, FIRST, SECOND };

struct output {
    struct khp_http_writer writer;
    size_t body_size;
    bool has_body, may_have_body, has_length, has_coding;
    const char *error;             /* when it was not the writer that refused */
    struct khp_http_slice culprit; /* the name of the field that was refused */
};

static bool refuse(struct output *output, const char *error) {
    output->error = error;
    return false;
}

static struct khp_http_slice slice_at(lua_State *L, int index) {
    struct khp_http_slice slice = {"", 0};
    if (lua_type(L, index) == LUA_TSTRING)
        slice.at = lua_tolstring(L, index, &slice.size);
    return slice;
}

/* RFC 2616 4.4: what is said of the length must be so, and said once. */
static bool check_length(struct output *output, struct khp_http_slice value) {
    uint64_t length;
    if (output->has_length)
        return refuse(output, khp_http_error_text(KHP_HTTP_E_LENGTHS));
    output->has_length = true;
    if (!khp_http_read_length(khp_http_trim(value), &length))
        return refuse(output, khp_http_error_text(KHP_HTTP_E_LENGTH));
    if (output->has_body && length != output->body_size)
        return refuse(output, "Content-Length is not the length of the body");
    return true;
}

/* Writes the field whose name and value are at these indices; the value may be a number. */
static bool write_field(lua_State *L, struct output *output, int name_index, int value_index) {
    struct khp_http_slice name = {NULL, 0}, value;
    if (lua_type(L, name_index) == LUA_TSTRING)
        name.at = lua_tolstring(L, name_index, &name.size);
    value.at = lua_tolstring(L, value_index, &value.size);
    if (name.at == NULL || value.at == NULL)
        return refuse(output, "header names and values must be strings");
    if (khp_http_equals(name, "Content-Length") && !check_length(output, value))
        return false;
    if (khp_http_equals(name, "Transfer-Encoding"))
        output->has_coding = true;
    khp_http_write_field(&output->writer, name, value);
    if (output->writer.error == KHP_HTTP_E_NONE)
        return true;
    if (output->writer.error == KHP_HTTP_E_VALUE)
        output->culprit = name;
    return false;
}

/* A headers object, or a list of name, value, name, value … */
static bool write_flat(lua_State *L, struct output *output) {
    for (lua_Integer i = 1; lua_rawgeti(L, HEADERS, i) != LUA_TNIL; i += 2) {
        lua_rawgeti(L, HEADERS, i + 1);
        if (!write_field(L, output, -2, -1))
            return false;
        lua_pop(L, 2);
    }
    return true;
}

/* A list of { name, value }. */
static bool write_list(lua_State *L, struct output *output) {
    for (lua_Integer i = 1; lua_rawgeti(L, HEADERS, i) != LUA_TNIL; i++) {
        if (!lua_istable(L, -1))
            return refuse(output, "a list of headers consists of { name, value }");
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        if (!write_field(L, output, -2, -1))
            return false;
        lua_pop(L, 3);
    }
    return true;
}

static int compare_names(const void *a, const void *b) {
    const struct khp_http_slice *one = a, *other = b;
    size_t n = one->size < other->size ? one->size : other->size;
    int order = memcmp(one->at, other->at, n);
    return order != 0 ? order : (one->size > other->size) - (one->size < other->size);
}

/* A map of name to value or array of values: by name, so that the same map always reads the same.
 */
static bool write_map(lua_State *L, struct output *output) {
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, HEADERS); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            return refuse(output, "header names and values must be strings");
        count++;
    }
    if (count == 0)
        return true;
    struct khp_http_slice *names = lua_newuserdatauv(L, count * sizeof *names, 0);
    size_t i = 0;
    for (lua_pushnil(L); lua_next(L, HEADERS); lua_pop(L, 1))
        names[i++] = slice_at(L, -2); /* the table keeps them */
    qsort(names, count, sizeof *names, compare_names);
    for (i = 0; i < count; i++) {
        lua_pushlstring(L, names[i].at, names[i].size);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, HEADERS) != LUA_TTABLE) {
            if (!write_field(L, output, -2, -1))
                return false;
        } else {
            for (lua_Integer j = 1; lua_rawgeti(L, -1, j) != LUA_TNIL; j++) {
                if (!write_field(L, output, -3, -1))
                    return false;
                lua_pop(L, 1);
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 2);
    }
    return true;
}

static bool write_fields(lua_State *L, struct output *output) {
    if (lua_isnil(L, HEADERS))
        return true;
    if (!lua_istable(L, HEADERS))
        return refuse(output, "headers must be a table");
    int first = lua_rawgeti(L, HEADERS, 1);
    lua_pop(L, 1);
    if (first == LUA_TSTRING)
        return write_flat(L, output);
    return first != LUA_TNIL ? write_list(L, output) : write_map(L, output);
}

/* The string at index, or the fallback, if there is one, where nothing is. */
static bool get_text(lua_State *L, struct output *output, int index, const char *fallback,
                     const char *error, struct khp_http_slice *text) {
    *text = slice_at(L, index);
    if (lua_type(L, index) == LUA_TSTRING)
        return true;
    if (!lua_isnil(L, index) || fallback == NULL)
        return refuse(output, error);
    *text = (struct khp_http_slice){fallback, strlen(fallback)};
    return true;
}

static bool write_request_line(lua_State *L, struct output *output, struct khp_http_slice version) {
    struct khp_http_slice method, target;
    if (!get_text(L, output, FIRST, NULL, "method must be a string", &method) ||
        !get_text(L, output, SECOND, NULL, "target must be a string", &target))
        return false;
    khp_http_write_request_line(&output->writer, method, target, version);
    return true;
}

static bool write_status_line(lua_State *L, struct output *output, struct khp_http_slice version) {
    struct khp_http_slice reason;
    int is_integer;
    lua_Integer status = lua_tointegerx(L, FIRST, &is_integer);
    if (!is_integer || status < 100 || status > 999)
        return refuse(output, "status must be an integer from 100 to 999");
    if (!get_text(L, output, SECOND, khp_http_reason((int)status), "reason must be a string",
                  &reason))
        return false;
    output->may_have_body = status >= 200 && status != 204 && status != 304; /* RFC 2616 4.3 */
    if (!output->may_have_body && output->body_size > 0)
        return refuse(output, khp_http_error_text(KHP_HTTP_E_BODY));
    khp_http_write_status_line(&output->writer, version, (int)status, reason);
    return true;
}

static bool write_message(lua_State *L, struct output *output, enum khp_http_kind kind) {
    struct khp_http_slice body, version;
    if (!get_text(L, output, BODY, "", "body must be a string", &body) ||
        !get_text(L, output, VERSION, "1.1", "version must be a string", &version))
        return false;
    output->has_body = !lua_isnil(L, BODY);
    output->body_size = body.size;
    output->may_have_body = true;
    bool good = kind == KHP_HTTP_REQUEST ? write_request_line(L, output, version)
                                         : write_status_line(L, output, version);
    if (!good || !write_fields(L, output))
        return false;
    if (output->has_length && output->has_coding)
        return refuse(output, khp_http_error_text(KHP_HTTP_E_LENGTH_AND_CODING));
    if (output->has_body && output->may_have_body && !output->has_length && !output->has_coding)
        khp_http_write_length(&output->writer, body.size);
    khp_http_write_end(&output->writer, body);
    return output->writer.error == KHP_HTTP_E_NONE;
}

static int push_refusal(lua_State *L, const struct output *output) {
    const char *error = output->error;
    if (error == NULL)
        error = khp_http_error_text(output->writer.error);
    lua_pushnil(L);
    if (output->culprit.size > 0) {
        lua_pushlstring(L, output->culprit.at, output->culprit.size);
        lua_pushfstring(L, "%s: %s", error, lua_tostring(L, -1));
        lua_remove(L, -2);
    } else {
        lua_pushstring(L, error);
    }
    lua_pushliteral(L, "EPROTOCOL");
    return 3;
}

/* Most messages fit into a piece of the stack; else the first try tells how much it takes. */
static int write(lua_State *L, enum khp_http_kind kind) {
    char small[2048], *bytes = small;
    size_t capacity = sizeof small;
    bool request = kind == KHP_HTTP_REQUEST;
    luaL_checktype(L, MESSAGE, LUA_TTABLE);
    lua_settop(L, MESSAGE);
    lua_getfield(L, MESSAGE, "headers");
    lua_getfield(L, MESSAGE, "body");
    lua_getfield(L, MESSAGE, "version");
    lua_getfield(L, MESSAGE, request ? "method" : "status");
    lua_getfield(L, MESSAGE, request ? "target" : "reason");
    for (;;) {
        struct output output = {.writer = {.bytes = bytes, .capacity = capacity}};
        if (!write_message(L, &output, kind))
            return push_refusal(L, &output);
        if (output.writer.size <= capacity) {
            lua_pushlstring(L, bytes, output.writer.size);
            return 1;
        }
        capacity = output.writer.size;
        bytes = lua_newuserdatauv(L, capacity, 0);
    }
}

/* http.write_request(message) → bytes | nil, message, code */
static int write_request(lua_State *L) {
    return write(L, KHP_HTTP_REQUEST);
}

/* http.write_response(message) → bytes | nil, message, code */
static int write_response(lua_State *L) {
    return write(L, KHP_HTTP_RESPONSE);
}

const luaL_Reg lkhp_http_write_functions[] = {
    {"write_request", write_request}, {"write_response", write_response}, {NULL, NULL}};

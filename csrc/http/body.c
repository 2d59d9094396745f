/*
 * Decodes a body. Data is passed on in whole runs; only the few bytes of framing between chunks go
 * one by one. There lines end in CR LF, always: nobody ever wrote a bare LF there but to confuse
 * (RFC 9112 7.1.1).
 */
#include "http/body.h"

static void set_state(struct khp_http_body *body, enum khp_http_body_state state) {
    body->state = state;
}

static void fail(struct khp_http_body *body, enum khp_http_error error) {
    body->error = error;
    set_state(body, KHP_HTTP_BODY_FAILED);
}

static enum khp_http_progress progress_of(const struct khp_http_body *body) {
    if (body->state < KHP_HTTP_BODY_DONE)
        return KHP_HTTP_MORE;
    return body->state == KHP_HTTP_BODY_DONE ? KHP_HTTP_DONE : KHP_HTTP_FAILED;
}

enum khp_http_progress khp_http_body_init(struct khp_http_body *body,
                                          const struct khp_http_head *head, const char *bytes) {
    *body = (struct khp_http_body){.limits = head->limits};
    enum khp_http_error error = khp_http_framing(head, bytes, &body->chunked, &body->length);
    if (error == KHP_HTTP_E_NONE && body->length > body->limits->body)
        error = KHP_HTTP_E_BODY_LIMIT;
    body->left = body->length;
    if (error != KHP_HTTP_E_NONE)
        fail(body, error);
    else if (body->chunked)
        set_state(body, KHP_HTTP_BODY_SIZE_FIRST);
    else
        set_state(body, body->length > 0 ? KHP_HTTP_BODY_DATA : KHP_HTTP_BODY_DONE);
    return progress_of(body);
}

static void expect(struct khp_http_body *body, char c, char wanted, enum khp_http_body_state next,
                   enum khp_http_error error) {
    if (c == wanted)
        set_state(body, next);
    else
        fail(body, error);
}

/* A character of an extension or trailer: text, and not too many of them. */
static bool spend(struct khp_http_body *body, char c, enum khp_http_error error) {
    if (body->extra == body->limits->head)
        fail(body, KHP_HTTP_E_CHUNK_LIMIT);
    else if (!khp_http_is(c, KHP_HTTP_TEXT))
        fail(body, error);
    else
        body->extra++;
    return body->state != KHP_HTTP_BODY_FAILED;
}

static void read_size_digit(struct khp_http_body *body, char c) {
    if (!khp_http_is(c, KHP_HTTP_HEX)) {
        fail(body, KHP_HTTP_E_CHUNK_SIZE);
        return;
    }
    unsigned digit = (unsigned)(c <= '9' ? c - '0' : khp_http_lower(c) - 'a' + 10);
    uint64_t room = body->limits->body - body->length;
    if (body->left > room / 16 || digit > room - body->left * 16)
        fail(body, KHP_HTTP_E_BODY_LIMIT);
    else
        body->left = body->left * 16 + digit;
}

/* What follows a size other than its line's end. */
static void read_size_end(struct khp_http_body *body, char c) {
    if (c != ';' && !khp_http_is_blank(c))
        fail(body, KHP_HTTP_E_CHUNK_SIZE);
    else if (spend(body, c, KHP_HTTP_E_CHUNK_EXTENSION))
        set_state(body, c == ';' ? KHP_HTTP_BODY_EXTENSION : KHP_HTTP_BODY_SIZE_BLANK);
}

/* One byte of framing. */
static void read_framing_byte(struct khp_http_body *body, char c) {
    switch (body->state) {
    case KHP_HTTP_BODY_SIZE_FIRST:
        body->left = 0;
        read_size_digit(body, c);
        if (body->state != KHP_HTTP_BODY_FAILED)
            set_state(body, KHP_HTTP_BODY_SIZE);
        break;
    case KHP_HTTP_BODY_SIZE:
        if (c == '\r')
            set_state(body, KHP_HTTP_BODY_SIZE_LF);
        else if (c == ';' || khp_http_is_blank(c))
            read_size_end(body, c);
        else if (body->left > 0 || spend(body, c, KHP_HTTP_E_CHUNK_SIZE)) /* zeros without end */
            read_size_digit(body, c);
        break;
    case KHP_HTTP_BODY_SIZE_BLANK:
        if (c == '\r')
            set_state(body, KHP_HTTP_BODY_SIZE_LF);
        else
            read_size_end(body, c);
        break;
    case KHP_HTTP_BODY_EXTENSION:
        if (c == '\r')
            set_state(body, KHP_HTTP_BODY_SIZE_LF);
        else if (spend(body, c, KHP_HTTP_E_CHUNK_EXTENSION) && c == '"')
            set_state(body, KHP_HTTP_BODY_QUOTED);
        break;
    case KHP_HTTP_BODY_QUOTED:
        if (spend(body, c, KHP_HTTP_E_CHUNK_EXTENSION) && (c == '"' || c == '\\'))
            set_state(body, c == '"' ? KHP_HTTP_BODY_EXTENSION : KHP_HTTP_BODY_ESCAPED);
        break;
    case KHP_HTTP_BODY_ESCAPED:
        if (spend(body, c, KHP_HTTP_E_CHUNK_EXTENSION))
            set_state(body, KHP_HTTP_BODY_QUOTED);
        break;
    case KHP_HTTP_BODY_SIZE_LF:
        body->length += body->left;
        expect(body, c, '\n', body->left > 0 ? KHP_HTTP_BODY_CHUNK : KHP_HTTP_BODY_TRAILER_START,
               KHP_HTTP_E_CHUNK_SIZE);
        break;
    case KHP_HTTP_BODY_CHUNK_CR:
        expect(body, c, '\r', KHP_HTTP_BODY_CHUNK_LF, KHP_HTTP_E_CHUNK_END);
        break;
    case KHP_HTTP_BODY_CHUNK_LF:
        expect(body, c, '\n', KHP_HTTP_BODY_SIZE_FIRST, KHP_HTTP_E_CHUNK_END);
        break;
    case KHP_HTTP_BODY_TRAILER_START:
        if (c == '\r')
            set_state(body, KHP_HTTP_BODY_END_LF);
        else if (!khp_http_is(c, KHP_HTTP_TOKEN))
            fail(body, KHP_HTTP_E_TRAILER);
        else if (spend(body, c, KHP_HTTP_E_TRAILER))
            set_state(body, KHP_HTTP_BODY_TRAILER_NAME);
        break;
    case KHP_HTTP_BODY_TRAILER_NAME:
        if (c != ':' && !khp_http_is(c, KHP_HTTP_TOKEN))
            fail(body, KHP_HTTP_E_TRAILER);
        else if (spend(body, c, KHP_HTTP_E_TRAILER) && c == ':')
            set_state(body, KHP_HTTP_BODY_TRAILER_VALUE);
        break;
    case KHP_HTTP_BODY_TRAILER_VALUE:
        if (c == '\r')
            set_state(body, KHP_HTTP_BODY_TRAILER_LF);
        else
            spend(body, c, KHP_HTTP_E_TRAILER);
        break;
    case KHP_HTTP_BODY_TRAILER_LF:
        expect(body, c, '\n', KHP_HTTP_BODY_TRAILER_START, KHP_HTTP_E_TRAILER);
        break;
    case KHP_HTTP_BODY_END_LF:
        expect(body, c, '\n', KHP_HTTP_BODY_DONE, KHP_HTTP_E_TRAILER);
        break;
    case KHP_HTTP_BODY_DATA:
    case KHP_HTTP_BODY_CHUNK:
    case KHP_HTTP_BODY_DONE:
    case KHP_HTTP_BODY_FAILED:
        break;
    }
}

enum khp_http_progress khp_http_body_next(struct khp_http_body *body, const char *bytes, size_t n,
                                          size_t *used, struct khp_http_slice *data) {
    const char *at = bytes, *end = bytes + n;
    *data = (struct khp_http_slice){bytes, 0};
    while (at < end && body->state < KHP_HTTP_BODY_DONE && data->size == 0) {
        if (body->state != KHP_HTTP_BODY_DATA && body->state != KHP_HTTP_BODY_CHUNK) {
            read_framing_byte(body, *at++);
            continue;
        }
        size_t size = (uint64_t)(end - at) < body->left ? (size_t)(end - at) : (size_t)body->left;
        *data = (struct khp_http_slice){at, size};
        at += size;
        body->left -= size;
        if (body->left == 0)
            set_state(body, body->state == KHP_HTTP_BODY_DATA ? KHP_HTTP_BODY_DONE
                                                              : KHP_HTTP_BODY_CHUNK_CR);
    }
    *used = (size_t)(at - bytes);
    return progress_of(body);
}

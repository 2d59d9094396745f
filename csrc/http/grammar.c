/*
 * Readers of field values. Knows nothing of which field a value belongs to.
 */
#include "http/grammar.h"

void khp_http_skip_blanks(struct khp_http_cursor *cursor) {
    while (cursor->at < cursor->end && khp_http_is_blank(*cursor->at))
        cursor->at++;
}

void khp_http_skip_empty(struct khp_http_cursor *cursor) {
    while (cursor->at < cursor->end && (khp_http_is_blank(*cursor->at) || *cursor->at == ','))
        cursor->at++;
}

struct khp_http_slice khp_http_read_token(struct khp_http_cursor *cursor) {
    struct khp_http_slice token = {cursor->at, 0};
    while (cursor->at < cursor->end && khp_http_is(*cursor->at, KHP_HTTP_TOKEN))
        cursor->at++;
    token.size = (size_t)(cursor->at - token.at);
    return token;
}

bool khp_http_read_quoted(struct khp_http_cursor *cursor, struct khp_http_slice *content) {
    const char *at = cursor->at + 1;
    while (at < cursor->end && *at != '"') {
        if (*at == '\\' && ++at == cursor->end)
            return false;
        if (!khp_http_is(*at++, KHP_HTTP_TEXT))
            return false;
    }
    if (at == cursor->end)
        return false;
    *content = (struct khp_http_slice){cursor->at + 1, (size_t)(at - cursor->at - 1)};
    cursor->at = at + 1;
    return true;
}

/* After an element there is the next comma or nothing. */
static bool ends_element(struct khp_http_cursor *cursor) {
    khp_http_skip_blanks(cursor);
    return cursor->at == cursor->end || *cursor->at == ',';
}

enum khp_http_item khp_http_next_token(struct khp_http_cursor *cursor,
                                       struct khp_http_slice *token) {
    khp_http_skip_empty(cursor);
    if (cursor->at == cursor->end)
        return KHP_HTTP_END;
    *token = khp_http_read_token(cursor);
    return token->size > 0 && ends_element(cursor) ? KHP_HTTP_ITEM : KHP_HTTP_MALFORMED;
}

enum khp_http_item khp_http_next_extension(struct khp_http_cursor *cursor,
                                           struct khp_http_slice *name) {
    khp_http_skip_empty(cursor);
    if (cursor->at == cursor->end)
        return KHP_HTTP_END;
    *name = khp_http_read_token(cursor);
    if (name->size == 0)
        return KHP_HTTP_MALFORMED;
    return ends_element(cursor) || *cursor->at == ';' ? KHP_HTTP_ITEM : KHP_HTTP_MALFORMED;
}

/* RFC 6455 9.1: a token, whichever way it is written. */
static bool quotes_token(struct khp_http_slice content) {
    bool any = false;
    for (size_t i = 0; i < content.size; i++) {
        if (content.at[i] == '\\')
            i++;
        if (!khp_http_is(content.at[i], KHP_HTTP_TOKEN))
            return false;
        any = true;
    }
    return any;
}

enum khp_http_item khp_http_next_extension_parameter(struct khp_http_cursor *cursor,
                                                     struct khp_http_parameter *parameter) {
    if (ends_element(cursor))
        return KHP_HTTP_END;
    cursor->at++; /* the semicolon */
    khp_http_skip_blanks(cursor);
    *parameter = (struct khp_http_parameter){.name = khp_http_read_token(cursor)};
    if (parameter->name.size == 0)
        return KHP_HTTP_MALFORMED;
    khp_http_skip_blanks(cursor);
    if (cursor->at < cursor->end && *cursor->at == '=') {
        parameter->has_value = true;
        cursor->at++;
        khp_http_skip_blanks(cursor);
        parameter->quoted = cursor->at < cursor->end && *cursor->at == '"';
        if (!parameter->quoted)
            parameter->value = khp_http_read_token(cursor);
        else if (!khp_http_read_quoted(cursor, &parameter->value) ||
                 !quotes_token(parameter->value))
            return KHP_HTTP_MALFORMED;
        if (parameter->value.size == 0)
            return KHP_HTTP_MALFORMED;
    }
    return ends_element(cursor) || *cursor->at == ';' ? KHP_HTTP_ITEM : KHP_HTTP_MALFORMED;
}

size_t khp_http_unquote(char *out, struct khp_http_slice content) {
    size_t size = 0;
    for (size_t i = 0; i < content.size; i++) {
        if (content.at[i] == '\\' && i + 1 < content.size)
            i++;
        out[size++] = content.at[i];
    }
    return size;
}

bool khp_http_quotable(struct khp_http_slice text) {
    return text.size == 0 || khp_http_all(text.at, text.size, KHP_HTTP_TEXT);
}

size_t khp_http_quote(char *out, struct khp_http_slice text) {
    size_t size = 0;
    out[size++] = '"';
    for (size_t i = 0; i < text.size; i++) {
        if (text.at[i] == '"' || text.at[i] == '\\')
            out[size++] = '\\';
        out[size++] = text.at[i];
    }
    out[size++] = '"';
    return size;
}

/*
 * Reads challenges. The comma between two of them is also the comma between two parameters: what
 * follows it tells which it was. Knows nothing of what the schemes do.
 */
#include "http/challenge.h"

static bool at_end(const struct khp_http_cursor *cursor) {
    return cursor->at == cursor->end;
}

/* Does the cursor stand where a parameter begins: token "=" and something after it? Does not move
 * it. */
static bool at_parameter(struct khp_http_cursor cursor) {
    if (khp_http_read_token(&cursor).size == 0)
        return false;
    khp_http_skip_blanks(&cursor);
    if (at_end(&cursor) || *cursor.at != '=')
        return false;
    cursor.at++;
    khp_http_skip_blanks(&cursor);
    return !at_end(&cursor) && *cursor.at != ',' && *cursor.at != '=';
}

static bool ends_element(struct khp_http_cursor cursor) {
    khp_http_skip_blanks(&cursor);
    return at_end(&cursor) || *cursor.at == ',';
}

/* The token68 at the cursor; its size is 0 when there is none. */
static struct khp_http_slice read_token68(struct khp_http_cursor *cursor) {
    struct khp_http_slice token68 = {cursor->at, 0};
    while (!at_end(cursor) && khp_http_is(*cursor->at, KHP_HTTP_TOKEN68))
        cursor->at++;
    while (!at_end(cursor) && *cursor->at == '=' && cursor->at > token68.at)
        cursor->at++;
    token68.size = (size_t)(cursor->at - token68.at);
    return token68;
}

/* The rest of the element, whatever it is, but for quotes. */
static struct khp_http_slice read_opaque(struct khp_http_cursor *cursor) {
    struct khp_http_slice opaque = {cursor->at, 0};
    while (!at_end(cursor) && *cursor->at != ',' && *cursor->at != '"' &&
           khp_http_is(*cursor->at, KHP_HTTP_TEXT))
        cursor->at++;
    opaque.size = (size_t)(cursor->at - opaque.at);
    return khp_http_trim(opaque);
}

enum khp_http_item khp_http_next_challenge(struct khp_http_cursor *cursor,
                                           struct khp_http_challenge *challenge) {
    *challenge = (struct khp_http_challenge){0};
    khp_http_skip_empty(cursor);
    if (at_end(cursor))
        return KHP_HTTP_END;
    challenge->scheme = khp_http_read_token(cursor);
    if (challenge->scheme.size == 0)
        return KHP_HTTP_MALFORMED;
    if (ends_element(*cursor))
        return KHP_HTTP_ITEM;
    if (!khp_http_is_blank(*cursor->at))
        return KHP_HTTP_MALFORMED;
    khp_http_skip_blanks(cursor);

    if (khp_http_equals(challenge->scheme, "Application") && !at_parameter(*cursor)) {
        challenge->prefix = challenge->scheme;
        challenge->scheme = khp_http_read_token(cursor);
        if (challenge->scheme.size == 0)
            return KHP_HTTP_MALFORMED;
        if (ends_element(*cursor))
            return KHP_HTTP_ITEM;
        if (!khp_http_is_blank(*cursor->at))
            return KHP_HTTP_MALFORMED;
        khp_http_skip_blanks(cursor);
    }

    if (at_parameter(*cursor))
        return KHP_HTTP_ITEM;
    challenge->token68 = challenge->prefix.size > 0 ? read_opaque(cursor) : read_token68(cursor);
    if (challenge->token68.size == 0 || !ends_element(*cursor))
        return KHP_HTTP_MALFORMED;
    return KHP_HTTP_ITEM;
}

enum khp_http_item khp_http_next_challenge_parameter(struct khp_http_cursor *cursor,
                                                     struct khp_http_parameter *parameter) {
    khp_http_skip_empty(cursor);
    if (!at_parameter(*cursor))
        return KHP_HTTP_END;
    *parameter =
        (struct khp_http_parameter){.name = khp_http_read_token(cursor), .has_value = true};
    khp_http_skip_blanks(cursor);
    cursor->at++; /* the equals sign */
    khp_http_skip_blanks(cursor);
    parameter->quoted = *cursor->at == '"';
    if (parameter->quoted) {
        if (!khp_http_read_quoted(cursor, &parameter->value))
            return KHP_HTTP_MALFORMED;
    } else { /* more than a token: URIs and base64 are seen unquoted */
        parameter->value.at = cursor->at;
        while (!at_end(cursor) && *cursor->at != ',' && *cursor->at != '"' &&
               khp_http_is(*cursor->at, KHP_HTTP_VISIBLE))
            cursor->at++;
        parameter->value.size = (size_t)(cursor->at - parameter->value.at);
    }
    if (parameter->value.size == 0 && !parameter->quoted)
        return KHP_HTTP_MALFORMED;
    return ends_element(*cursor) ? KHP_HTTP_ITEM : KHP_HTTP_MALFORMED;
}

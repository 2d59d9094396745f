/*
 * What stands inside field values: lists of tokens, lists of extensions with parameters, quoted
 * strings. Each is read item by item from a cursor, in slices of the value; nothing is allocated.
 */
#ifndef KHP_HTTP_GRAMMAR_H
#define KHP_HTTP_GRAMMAR_H

#include "http/text.h"

struct khp_http_cursor {
    const char *at, *end;
};

enum khp_http_item {
    KHP_HTTP_ITEM,
    KHP_HTTP_END,      /* there are no more */
    KHP_HTTP_MALFORMED /* the rest of the value means nothing */
};

struct khp_http_parameter {
    struct khp_http_slice name;
    struct khp_http_slice
        value; /* of a quoted one: what is between the quotes, see khp_http_unquote */
    bool has_value, quoted;
};

static inline struct khp_http_cursor khp_http_cursor(struct khp_http_slice value) {
    return (struct khp_http_cursor){value.at, value.at + value.size};
}

void khp_http_skip_blanks(struct khp_http_cursor *cursor);

/* Skips blanks and commas up to the next element of a list; empty elements do not count (RFC
 * 2616 2.1). */
void khp_http_skip_empty(struct khp_http_cursor *cursor);

/* The token at the cursor; its size is 0 when there is none. */
struct khp_http_slice khp_http_read_token(struct khp_http_cursor *cursor);

/* `content` of the quoted string that begins at the cursor. false: it does not end, or has controls
 * in it. */
bool khp_http_read_quoted(struct khp_http_cursor *cursor, struct khp_http_slice *content);

/* The next of #token. */
enum khp_http_item khp_http_next_token(struct khp_http_cursor *cursor,
                                       struct khp_http_slice *token);

/*
 * The next name of an extension list (RFC 6455 9.1), then, until KHP_HTTP_END, its parameters. A
 * quoted value must read as a token. The parameters of one are to be read before the next name.
 */
enum khp_http_item khp_http_next_extension(struct khp_http_cursor *cursor,
                                           struct khp_http_slice *name);
enum khp_http_item khp_http_next_extension_parameter(struct khp_http_cursor *cursor,
                                                     struct khp_http_parameter *parameter);

/* Resolves the escapes of a quoted string's content into out (which may be content.at). Returns the
 * size, no larger. */
size_t khp_http_unquote(char *out, struct khp_http_slice content);

/* Can a quoted string say this (RFC 2616 2.2)? */
bool khp_http_quotable(struct khp_http_slice text);

/* Writes text as a quoted string to out, which has room for 2 * text.size + 2. Returns the size. */
size_t khp_http_quote(char *out, struct khp_http_slice text);

#endif

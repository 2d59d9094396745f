/*
 * Bytes as HTTP sees them: slices, the classes of characters of RFC 2616 2.2, comparison without
 * regard to case. ASCII only and blind to the locale.
 */
#ifndef KHP_HTTP_TEXT_H
#define KHP_HTTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes, not terminated. */
struct khp_http_slice {
    const char *at;
    size_t size;
};

enum {
    KHP_HTTP_TOKEN = 1,   /* token */
    KHP_HTTP_TEXT = 2,    /* TEXT without line ends: blanks, visible characters, bytes from 0x80 */
    KHP_HTTP_VISIBLE = 4, /* 0x21 to 0x7E */
    KHP_HTTP_DIGIT = 8,
    KHP_HTTP_HEX = 16,
    KHP_HTTP_TOKEN68 = 32, /* what a token68 (RFC 7235 2.1) is made of, "=" apart */
    KHP_HTTP_URI =
        64, /* what request targets consist of: no blanks, no "#"; bytes from 0x80 are seen there */
    KHP_HTTP_HOST = 128 /* names, addresses, a port: letters, digits, "-._~:[]" */
};

extern const uint8_t khp_http_classes[256];

static inline bool khp_http_is(char c, unsigned classes) {
    return (khp_http_classes[(unsigned char)c] & classes) != 0;
}

static inline bool khp_http_is_blank(char c) {
    return c == ' ' || c == '\t';
}

static inline char khp_http_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* The first character in [at, end) that is no TEXT: a control character other than a tab; or end.
 */
const char *khp_http_skip_text(const char *at, const char *end);

/* Is it one or more characters, all of one of the classes? */
bool khp_http_all(const char *at, size_t n, unsigned classes);

/* Do n bytes read the same, in any case? */
bool khp_http_same(const char *a, const char *b, size_t n);

/* Does the slice read as the terminated word, in any case? */
static inline bool khp_http_equals(struct khp_http_slice slice, const char *word) {
    return slice.size == strlen(word) && khp_http_same(slice.at, word, slice.size);
}

/* The slice without the blanks around it. */
struct khp_http_slice khp_http_trim(struct khp_http_slice slice);

#endif

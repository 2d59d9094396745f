/*
 * The table of character classes and the few comparisons that rest on it. Knows nothing of
 * messages.
 */
#include "http/text.h"

/* B: blank, O: from 0x80, V: visible, C: colon and brackets, S: slash, T: token, N: token but no
 * URI, P: plus, L: letter and the like, D: digit, X: a to f. */
#define B KHP_HTTP_TEXT
#define O (KHP_HTTP_TEXT | KHP_HTTP_URI)
#define V (O | KHP_HTTP_VISIBLE)
#define C (V | KHP_HTTP_HOST)
#define S (V | KHP_HTTP_TOKEN68)
#define T (V | KHP_HTTP_TOKEN)
#define N (KHP_HTTP_TEXT | KHP_HTTP_VISIBLE | KHP_HTTP_TOKEN)
#define P (T | KHP_HTTP_TOKEN68)
#define L (P | KHP_HTTP_HOST)
#define D (L | KHP_HTTP_DIGIT | KHP_HTTP_HEX)
#define X (L | KHP_HTTP_HEX)

/* clang-format off */
const uint8_t khp_http_classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, B, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    B, T, V, N, T, T, T, T, V, V, T, P, V, L, L, S, /*   ! " # $ % & ' ( ) * + , - . / */
    D, D, D, D, D, D, D, D, D, D, C, V, V, V, V, V, /* 0 1 2 3 4 5 6 7 8 9 : ; < = > ? */
    V, X, X, X, X, X, X, L, L, L, L, L, L, L, L, L, /* @ A B C D E F G H I J K L M N O */
    L, L, L, L, L, L, L, L, L, L, L, C, V, C, T, L, /* P Q R S T U V W X Y Z [ \ ] ^ _ */
    T, X, X, X, X, X, X, L, L, L, L, L, L, L, L, L, /* ` a b c d e f g h i j k l m n o */
    L, L, L, L, L, L, L, L, L, L, L, V, T, V, L, 0, /* p q r s t u v w x y z { | } ~   */
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
};
/* clang-format on */

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* The first control character in [at, end), tabs included, or end. Eight bytes at a time. */
static inline const char *skip_printable(const char *at, const char *end) {
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        uint64_t deletes = word ^ EACH_BYTE(0x7F);
        uint64_t below = (word - EACH_BYTE(0x20)) & ~word;
        uint64_t equal = (deletes - EACH_BYTE(0x01)) & ~deletes;
        uint64_t found = (below | equal) & EACH_BYTE(0x80);
        if (found != 0) {
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            return at + (__builtin_ctzll(found) >> 3); /* the lowest mark is always true */
#else
            break;
#endif
        }
        at += 8;
    }
    while (at < end && (unsigned char)*at >= 0x20 && *at != 0x7F)
        at++;
    return at;
}

const char *khp_http_skip_text(const char *at, const char *end) {
    while ((at = skip_printable(at, end)) < end && *at == '\t')
        at++;
    return at;
}

bool khp_http_all(const char *at, size_t n, unsigned classes) {
    for (size_t i = 0; i < n; i++) {
        if (!khp_http_is(at[i], classes))
            return false;
    }
    return n > 0;
}

bool khp_http_same(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (khp_http_lower(a[i]) != khp_http_lower(b[i]))
            return false;
    }
    return true;
}

struct khp_http_slice khp_http_trim(struct khp_http_slice slice) {
    while (slice.size > 0 && khp_http_is_blank(slice.at[0])) {
        slice.at++;
        slice.size--;
    }
    while (slice.size > 0 && khp_http_is_blank(slice.at[slice.size - 1]))
        slice.size--;
    return slice;
}

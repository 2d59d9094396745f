/*
 * RFC 3629 as a state: how many bytes of the character are still to come, and between which two
 * values the next one must lie. Overlong forms, surrogates and what is beyond U+10FFFF are refused
 * at their second byte, because the first byte narrows its range. ASCII, the bulk of most text,
 * goes 32 bytes at a time.
 */
#include "ws/utf8.h"

#include <string.h>

/* The state: the missing bytes in bits 0..7, the lowest next byte in 8..15, the highest in 16..23.
 */
#define STATE(missing, low, high)                                                                  \
    ((uint32_t)(missing) | (uint32_t)(low) << 8 | (uint32_t)(high) << 16)
#define INVALID UINT32_MAX

static uint32_t lead(uint8_t byte) {
    if (byte < 0xC2) {
        return INVALID; /* a continuation, or an overlong form of ASCII */
    }
    if (byte < 0xE0) {
        return STATE(1, 0x80, 0xBF);
    }
    if (byte < 0xF0) {
        return byte == 0xE0   ? STATE(2, 0xA0, 0xBF) /* not overlong */
               : byte == 0xED ? STATE(2, 0x80, 0x9F) /* no surrogates */
                              : STATE(2, 0x80, 0xBF);
    }
    if (byte < 0xF5) {
        return byte == 0xF0   ? STATE(3, 0x90, 0xBF) /* not overlong */
               : byte == 0xF4 ? STATE(3, 0x80, 0x8F) /* not beyond U+10FFFF */
                              : STATE(3, 0x80, 0xBF);
    }
    return INVALID;
}

static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end) {
    const uint64_t high_bits = UINT64_C(0x8080808080808080);
    while (end - at >= 8) {
        uint64_t block[4];
        memcpy(block, at, sizeof block[0]);
        if ((block[0] & high_bits) != 0) {
            break;
        }
        at += sizeof block[0];
        while (end - at >= (ptrdiff_t)sizeof block) {
            memcpy(block, at, sizeof block);
            if (((block[0] | block[1] | block[2] | block[3]) & high_bits) != 0) {
                break;
            }
            at += sizeof block;
        }
    }
    while (at < end && *at < 0x80) {
        at++;
    }
    return at;
}

/* The common characters of two and three bytes, whole ones only; whatever is special is left to the
 * state. */
static const uint8_t *skip_common(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 3 && (at[1] & 0xC0) == 0x80) {
        if (at[0] >= 0xC2 && at[0] <= 0xDF) {
            at += 2;
        } else if (at[0] >= 0xE1 && at[0] <= 0xEC && (at[2] & 0xC0) == 0x80) {
            at += 3;
        } else {
            break;
        }
    }
    return at;
}

bool khp_ws_utf8_feed(struct khp_ws_utf8 *utf8, const uint8_t *bytes, size_t n) {
    uint32_t state = utf8->state;
    if (n == 0) { /* bytes may be NULL */
        return state != INVALID;
    }
    const uint8_t *at = bytes;
    const uint8_t *end = bytes + n;
    while (at < end) {
        if (state == INVALID) {
            break;
        }
        if (state == 0) {
            at = skip_common(skip_ascii(at, end), end);
            if (at < end && *at >= 0x80) {
                state = lead(*at++);
            }
            continue;
        }
        uint8_t byte = *at++;
        uint32_t missing = (state & 0xff) - 1;
        if (byte < (state >> 8 & 0xff) || byte > state >> 16) {
            state = INVALID;
        } else {
            state = missing == 0 ? 0 : STATE(missing, 0x80, 0xBF);
        }
    }
    utf8->state = state;
    return state != INVALID;
}

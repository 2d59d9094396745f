/*
 * UTF-8 validation (RFC 3629) that survives any split of its input.
 */
#ifndef KHP_WS_UTF8_H
#define KHP_WS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise at the start of each text. */
struct khp_ws_utf8 {
    uint32_t state; /* 0: between characters */
};

/* Feeds n bytes. false as soon as no continuation could make the text valid. */
bool khp_ws_utf8_feed(struct khp_ws_utf8 *utf8, const uint8_t *bytes, size_t n);

/* Is the text complete here, or does it end inside a character? */
static inline bool khp_ws_utf8_complete(const struct khp_ws_utf8 *utf8) {
    return utf8->state == 0;
}

#endif

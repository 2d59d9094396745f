/*
 * What a peer may cost us (KHP H11). Every parser borrows one of these.
 */
#ifndef KHP_HTTP_LIMITS_H
#define KHP_HTTP_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

struct khp_http_limits {
    uint32_t head;   /* bytes of the head, all line ends included; of chunk extensions and trailers
                        together as well */
    uint32_t line;   /* bytes of one line of the head, its end included */
    uint32_t fields; /* header fields */
    uint64_t body;   /* bytes of the body, decoded */
    bool strict; /* a line must end in CR LF; else LF alone is understood, too (RFC 2616 19.3) */
};

#define KHP_HTTP_LIMITS_DEFAULT                                                                    \
    { 16384, 8192, 100, 65536, false }

#endif

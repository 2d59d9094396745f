/*
 * The little cryptography WebSocket needs, from OpenSSL: the accept key and unpredictable masks.
 */
#ifndef KHP_WS_CRYPTO_H
#define KHP_WS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KHP_WS_ACCEPT_SIZE = 28 };

/* Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455 4.2.2); out is not terminated. false: OpenSSL failed. */
bool khp_ws_accept(const char *key, size_t n, char out[KHP_WS_ACCEPT_SIZE]);

/*
 * A buffered CSPRNG: one call to OpenSSL per KiB. Zero-initialise. One per loop; not for threads. A fork is noticed:
 * the child draws afresh.
 */
struct khp_ws_random {
    uint8_t pool[1024];
    size_t left;
    int pid;
};

/* 4 unpredictable bytes (RFC 6455 5.3, 10.3). false: OpenSSL has no entropy; nothing was written. */
bool khp_ws_random_key(struct khp_ws_random *random, uint8_t key[4]);

#endif

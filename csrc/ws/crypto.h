/*
 * The little cryptography WebSocket needs, from OpenSSL: the accept key and unpredictable masks.
 */
#ifndef KHP_WS_CRYPTO_H
#define KHP_WS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KHP_WS_ACCEPT_SIZE = 28 };

/* SHA-1, looked up in OpenSSL once: that takes longer than to hash a key. Zero-initialise, free at
 * the end. */
struct khp_ws_sha1 {
    struct evp_md_st *digest; /* both NULL until the first key */
    struct evp_md_ctx_st *context;
};
void khp_ws_sha1_free(struct khp_ws_sha1 *sha1);

/* Is this 16 bytes in Base64 (RFC 6455 4.2.1)? */
bool khp_ws_is_key(const char *key, size_t n);

/* Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455 4.2.2); out is not terminated. false:
 * OpenSSL failed. */
bool khp_ws_accept(struct khp_ws_sha1 *sha1, const char *key, size_t n,
                   char out[KHP_WS_ACCEPT_SIZE]);

/*
 * A buffered CSPRNG: one call to OpenSSL for hundreds of keys. Zero-initialise, free at the end.
 * One per loop; not for threads. The buffer is a page that the system wipes in the child of a fork,
 * so that parent and child never share a key; where there is no such page, each key is drawn from
 * OpenSSL.
 */
struct khp_ws_random {
    struct khp_ws_random_pool *pool; /* NULL until the first key */
};

/* 4 unpredictable bytes (RFC 6455 5.3, 10.3). false: OpenSSL has no entropy; nothing was written.
 */
bool khp_ws_random_key(struct khp_ws_random *random, uint8_t key[4]);
void khp_ws_random_free(struct khp_ws_random *random);

#endif

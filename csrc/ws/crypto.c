/*
 * The accept key (RFC 6455 4.2.2) and mask keys (5.3), from OpenSSL. Knows no connection and keeps
 * no state of its own: the digest and the pool of random bytes belong to the caller.
 */
#include "ws/crypto.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/mman.h>

enum { KEY_SIZE = 4 };

struct khp_ws_random_pool {
    uint32_t left; /* 0 in a fresh page, and in a wiped one */
    uint8_t keys[1020];
};

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static bool is_base64(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

bool khp_ws_is_key(const char *key, size_t n) {
    enum { DIGITS = 22, SIZE = 24 };
    if (n != SIZE || key[DIGITS] != '=' || key[DIGITS + 1] != '=') {
        return false;
    }
    for (size_t i = 0; i < DIGITS; i++) {
        if (!is_base64(key[i])) {
            return false;
        }
    }
    return true;
}

static bool look_up(struct khp_ws_sha1 *sha1) {
    if (sha1->digest == NULL) {
        sha1->digest = EVP_MD_fetch(NULL, "SHA1", NULL);
    }
    if (sha1->context == NULL) {
        sha1->context = EVP_MD_CTX_new();
    }
    return sha1->digest != NULL && sha1->context != NULL;
}

void khp_ws_sha1_free(struct khp_ws_sha1 *sha1) {
    EVP_MD_CTX_free(sha1->context);
    EVP_MD_free(sha1->digest);
    *sha1 = (struct khp_ws_sha1){0};
}

bool khp_ws_accept(struct khp_ws_sha1 *sha1, const char *key, size_t n,
                   char out[KHP_WS_ACCEPT_SIZE]) {
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    bool hashed = look_up(sha1) && EVP_DigestInit_ex(sha1->context, sha1->digest, NULL) == 1 &&
                  EVP_DigestUpdate(sha1->context, key, n) == 1 &&
                  EVP_DigestUpdate(sha1->context, guid, sizeof guid - 1) == 1 &&
                  EVP_DigestFinal_ex(sha1->context, hash, &size) == 1;
    if (!hashed) {
        return false;
    }
    unsigned char text[KHP_WS_ACCEPT_SIZE + 1]; /* EVP_EncodeBlock terminates what it writes */
    if (EVP_EncodeBlock(text, hash, (int)size) != KHP_WS_ACCEPT_SIZE) {
        return false;
    }
    memcpy(out, text, KHP_WS_ACCEPT_SIZE);
    return true;
}

/* A page that a child of fork() finds full of zeros, or NULL. */
static struct khp_ws_random_pool *new_pool(void) {
#ifdef MADV_WIPEONFORK
    size_t size = sizeof(struct khp_ws_random_pool);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    if (madvise(page, size, MADV_WIPEONFORK) == 0) {
        return page;
    }
    munmap(page, size);
#endif
    return NULL;
}

bool khp_ws_random_key(struct khp_ws_random *random, uint8_t key[4]) {
    if (random->pool == NULL) {
        random->pool = new_pool();
    }
    struct khp_ws_random_pool *pool = random->pool;
    if (pool == NULL) {
        return RAND_bytes(key, KEY_SIZE) == 1;
    }
    if (pool->left < KEY_SIZE) {
        if (RAND_bytes(pool->keys, (int)sizeof pool->keys) != 1) {
            return false;
        }
        pool->left = sizeof pool->keys;
    }
    pool->left -= KEY_SIZE;
    memcpy(key, pool->keys + pool->left, KEY_SIZE);
    memset(pool->keys + pool->left, 0, KEY_SIZE); /* a key that was used is not kept */
    return true;
}

void khp_ws_random_free(struct khp_ws_random *random) {
    if (random->pool != NULL) {
        munmap(random->pool, sizeof *random->pool);
        random->pool = NULL;
    }
}

/*
 * khp.core.crypto: hashes, HMAC, Base64, random bytes and a comparison in constant time, from
 * OpenSSL; crypt(3), from the system, where it was found. Strings in, strings out; knows no
 * connection and no loop. Wrong arguments throw, and so does an OpenSSL that fails: nothing that a
 * peer sends can make it.
 */
#include "lua/lkhp.h"

#ifdef KHP_HAVE_CRYPT
#include <crypt.h>
#endif
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "ws/crypto.h"

enum { RANDOM_MAX = 1 << 20 };

/* Throws, and leaves nothing in OpenSSL's queue for the next one who looks there. */
static int openssl_failed(lua_State *L, const char *what) {
    ERR_clear_error();
    return luaL_error(L, "OpenSSL cannot compute %s", what);
}

/* A string argument whose length OpenSSL can take as an int, with room to grow by half. */
static const unsigned char *check_bytes(lua_State *L, int index, size_t *n) {
    const char *bytes = luaL_checklstring(L, index, n);
    luaL_argcheck(L, *n <= INT_MAX / 2, index, "string is too long");
    return (const unsigned char *)bytes;
}

static const EVP_MD *check_digest(lua_State *L, int index) {
    const char *name = luaL_checkstring(L, index);
    const EVP_MD *digest = EVP_get_digestbyname(name);
    if (digest == NULL) {
        ERR_clear_error();
        luaL_argerror(L, index, lua_pushfstring(L, "unknown digest '%s'", name));
    }
    return digest;
}

/* Upvalue 1 of crypto_accept: the state's SHA-1. */
static int crypto_accept(lua_State *L) {
    struct khp_ws_sha1 *sha1 = lua_touserdata(L, lua_upvalueindex(1));
    size_t n;
    const char *key = luaL_checklstring(L, 1, &n);
    char accept[KHP_WS_ACCEPT_SIZE];
    if (!khp_ws_accept(sha1, key, n, accept)) {
        return openssl_failed(L, "SHA-1");
    }
    lua_pushlstring(L, accept, sizeof accept);
    return 1;
}

static int sha1__gc(lua_State *L) {
    khp_ws_sha1_free(lua_touserdata(L, 1));
    return 0;
}

static void push_accept(lua_State *L) {
    struct khp_ws_sha1 *sha1 = lua_newuserdatauv(L, sizeof *sha1, 0);
    *sha1 = (struct khp_ws_sha1){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, sha1__gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, crypto_accept, 1);
}

static int crypto_is_key(lua_State *L) {
    size_t n;
    const char *key = luaL_checklstring(L, 1, &n);
    lua_pushboolean(L, khp_ws_is_key(key, n));
    return 1;
}

static int crypto_random(lua_State *L) {
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "not between 0 and 1048576");
    luaL_Buffer buffer;
    unsigned char *bytes = (unsigned char *)luaL_buffinitsize(L, &buffer, (size_t)n);
    if (RAND_bytes(bytes, (int)n) != 1) {
        return openssl_failed(L, "random bytes");
    }
    luaL_pushresultsize(&buffer, (size_t)n);
    return 1;
}

static int crypto_digest(lua_State *L) {
    const EVP_MD *digest = check_digest(L, 1);
    size_t n;
    const unsigned char *bytes = check_bytes(L, 2, &n);
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size;
    if (EVP_Digest(bytes, n, hash, &size, digest, NULL) != 1) {
        return openssl_failed(L, lua_tostring(L, 1));
    }
    lua_pushlstring(L, (const char *)hash, size);
    return 1;
}

static int crypto_hmac(lua_State *L) {
    const EVP_MD *digest = check_digest(L, 1);
    size_t key_size;
    size_t n;
    const unsigned char *key = check_bytes(L, 2, &key_size);
    const unsigned char *bytes = check_bytes(L, 3, &n);
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size;
    if (HMAC(digest, key, (int)key_size, bytes, n, hash, &size) == NULL) {
        return openssl_failed(L, lua_pushfstring(L, "HMAC with %s", lua_tostring(L, 1)));
    }
    lua_pushlstring(L, (const char *)hash, size);
    return 1;
}

static int crypto_base64(lua_State *L) {
    size_t n;
    const unsigned char *bytes = check_bytes(L, 1, &n);
    luaL_Buffer buffer; /* one more byte, because EVP_EncodeBlock terminates what it writes */
    char *out = luaL_buffinitsize(L, &buffer, (n + 2) / 3 * 4 + 1);
    int size = EVP_EncodeBlock((unsigned char *)out, bytes, (int)n);
    luaL_pushresultsize(&buffer, (size_t)size);
    return 1;
}

/* The value of a Base64 digit, or -1. */
static int base64_value(unsigned char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/*
 * The inverse of base64, of nothing but its results (RFC 4648 3.3, 3.5): padded, no blanks, no
 * stray bits. Anything else gives nil.
 */
static int crypto_unbase64(lua_State *L) {
    size_t n;
    const unsigned char *text = check_bytes(L, 1, &n);
    size_t padding = n < 4 || text[n - 1] != '=' ? 0 : text[n - 2] != '=' ? 1 : 2;
    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(L, &buffer, n / 4 * 3 + 1);
    size_t size = 0;
    unsigned bits = 0;
    bool valid = n % 4 == 0;
    for (size_t i = 0; valid && i < n - padding; i++) {
        int value = base64_value(text[i]);
        valid = value >= 0;
        bits = (bits << 6 | (unsigned)value) & 0xffffff;
        if (i % 4 != 0) {
            out[size++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
        }
    }
    unsigned stray = padding == 1 ? 3 : padding == 2 ? 15 : 0;
    if (!valid || (bits & stray) != 0) {
        lua_pushnil(L);
        return 1;
    }
    luaL_pushresultsize(&buffer, size);
    return 1;
}

static int crypto_hex(lua_State *L) {
    static const char digits[] = "0123456789abcdef";
    size_t n;
    const unsigned char *bytes = check_bytes(L, 1, &n);
    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(L, &buffer, 2 * n);
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    luaL_pushresultsize(&buffer, 2 * n);
    return 1;
}

/* The time depends on the length alone, and that only where the lengths are equal. */
static int crypto_equal(lua_State *L) {
    size_t n;
    size_t m;
    const char *a = luaL_checklstring(L, 1, &n);
    const char *b = luaL_checklstring(L, 2, &m);
    lua_pushboolean(L, n == m && CRYPTO_memcmp(a, b, n) == 0);
    return 1;
}

#ifdef KHP_HAVE_CRYPT
/*
 * crypt(password, hash) → the hash of this password, made as the given one was; nil where that
 * cannot be. Slow on purpose: with bcrypt and its like the loop stands still for as long as the
 * cost in the hash says.
 */
static int crypto_crypt(lua_State *L) {
    size_t n;
    size_t m;
    const char *password = luaL_checklstring(L, 1, &n);
    const char *like = luaL_checklstring(L, 2, &m);
    struct crypt_data *data = lua_newuserdatauv(L, sizeof *data, 0); /* too large for the stack */
    memset(data, 0, sizeof *data);
    bool strings = strlen(password) == n && strlen(like) == m;
    const char *hash = strings ? crypt_r(password, like, data) : NULL;
    if (hash != NULL && hash[0] != '*') { /* "*0" and "*1" are failures */
        lua_pushstring(L, hash);
    } else {
        lua_pushnil(L);
    }
    OPENSSL_cleanse(data, sizeof *data);
    return 1;
}
#endif

int lkhp_open_crypto(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"is_key", crypto_is_key},
        {"random", crypto_random},
        {"digest", crypto_digest},
        {"hmac", crypto_hmac},
        {"base64", crypto_base64},
        {"unbase64", crypto_unbase64},
        {"hex", crypto_hex},
        {"equal", crypto_equal},
#ifdef KHP_HAVE_CRYPT
        {"crypt", crypto_crypt},
#endif
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    push_accept(L);
    lua_setfield(L, -2, "accept");
    return 1;
}

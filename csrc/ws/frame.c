/*
 * RFC 6455 5.2 and 5.3: the frame header and the mask, and which close codes may travel (7.4). Pure
 * functions over bytes; they do not know what a message is, who sends, or what a negotiated
 * extension allows.
 */
#include "ws/frame.h"

#include <string.h>

enum { LENGTH_16 = 126, LENGTH_64 = 127 };

static uint64_t read_big_endian(const uint8_t *bytes, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static void write_big_endian(uint8_t *out, size_t n, uint64_t value) {
    for (size_t i = n; i > 0; i--) {
        out[i - 1] = (uint8_t)(value & 0xff);
        value >>= 8;
    }
}

int khp_ws_header_decode(const uint8_t *bytes, size_t n, struct khp_ws_header *header) {
    if (n < 2) {
        return 0;
    }
    bool masked = (bytes[1] & 0x80) != 0;
    unsigned length = bytes[1] & 0x7f;
    size_t extended = length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
    size_t size = 2 + extended + (masked ? sizeof header->key : 0);
    if (n < size) {
        return 0;
    }
    header->fin = (bytes[0] & 0x80) != 0;
    header->rsv = bytes[0] >> 4 & 7;
    header->opcode = bytes[0] & 0x0f;
    header->masked = masked;
    header->length = length;
    if (extended > 0) {
        header->length = read_big_endian(bytes + 2, extended);
        uint64_t least = extended == 2 ? LENGTH_16 : 0x10000;
        if (header->length < least || header->length > INT64_MAX) {
            return -1; /* RFC 6455 5.2: minimal, and the most significant bit is 0 */
        }
    }
    if (masked) {
        memcpy(header->key, bytes + 2 + extended, sizeof header->key);
    } else {
        memset(header->key, 0, sizeof header->key);
    }
    return (int)size;
}

size_t khp_ws_header_encode(uint8_t out[KHP_WS_HEADER_MAX], const struct khp_ws_header *header) {
    unsigned length = header->length < LENGTH_16 ? (unsigned)header->length
                      : header->length < 0x10000 ? LENGTH_16
                                                 : LENGTH_64;
    size_t extended = length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
    out[0] = (uint8_t)((header->fin ? 0x80 : 0) | (header->rsv & 7) << 4 | (header->opcode & 0x0f));
    out[1] = (uint8_t)((header->masked ? 0x80 : 0) | length);
    write_big_endian(out + 2, extended, header->length);
    size_t size = 2 + extended;
    if (header->masked) {
        memcpy(out + size, header->key, sizeof header->key);
        size += sizeof header->key;
    }
    return size;
}

/*
 * 32 bytes a turn, loads before stores, and no array in between: that is what compilers turn into
 * two vector instructions of each kind, at any alignment.
 */
void khp_ws_mask(uint8_t *out, const uint8_t *in, size_t n, const uint8_t key[4], size_t offset) {
    uint8_t twice[8];
    memcpy(twice, key, 4);
    memcpy(twice + 4, key, 4);
    const uint8_t *turned = twice + (offset & 3);
    uint32_t half;
    memcpy(&half, turned, sizeof half);
    const uint64_t mask = (uint64_t)half << 32 | half;
    size_t i = 0;
    for (; n - i >= 4 * sizeof mask; i += 4 * sizeof mask) {
        uint64_t a, b, c, d;
        memcpy(&a, in + i, sizeof a);
        memcpy(&b, in + i + 8, sizeof b);
        memcpy(&c, in + i + 16, sizeof c);
        memcpy(&d, in + i + 24, sizeof d);
        a ^= mask;
        b ^= mask;
        c ^= mask;
        d ^= mask;
        memcpy(out + i, &a, sizeof a);
        memcpy(out + i + 8, &b, sizeof b);
        memcpy(out + i + 16, &c, sizeof c);
        memcpy(out + i + 24, &d, sizeof d);
    }
    for (; n - i >= sizeof mask; i += sizeof mask) {
        uint64_t block;
        memcpy(&block, in + i, sizeof block);
        block ^= mask;
        memcpy(out + i, &block, sizeof block);
    }
    for (; i < n; i++) {
        out[i] = in[i] ^ turned[i & 3];
    }
}

bool khp_ws_close_code_valid(unsigned code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/*
 * RFC 6455 frames: header codec, masking, the close codes. Sans-I/O; knows no sockets and no Lua.
 */
#ifndef KHP_WS_FRAME_H
#define KHP_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum khp_ws_opcode {
    KHP_WS_CONTINUATION = 0x0,
    KHP_WS_TEXT = 0x1,
    KHP_WS_BINARY = 0x2,
    KHP_WS_CLOSE = 0x8,
    KHP_WS_PING = 0x9,
    KHP_WS_PONG = 0xA
};

enum {
    KHP_WS_HEADER_MAX = 14,
    KHP_WS_CONTROL_MAX = 125, /* payload of a control frame, RFC 6455 5.5 */
    KHP_WS_REASON_MAX = 123
};

/* RFC 6455 7.4.1. */
enum khp_ws_close_code {
    KHP_WS_NORMAL = 1000,
    KHP_WS_GOING_AWAY = 1001,
    KHP_WS_PROTOCOL_ERROR = 1002,
    KHP_WS_UNSUPPORTED = 1003,
    KHP_WS_NO_STATUS = 1005, /* never on the wire */
    KHP_WS_ABNORMAL = 1006,  /* never on the wire */
    KHP_WS_INVALID_DATA = 1007,
    KHP_WS_POLICY_VIOLATION = 1008,
    KHP_WS_TOO_BIG = 1009,
    KHP_WS_MISSING_EXTENSION = 1010,
    KHP_WS_INTERNAL_ERROR = 1011
};

struct khp_ws_header {
    uint64_t length;
    uint8_t key[4]; /* when masked */
    uint8_t opcode; /* 0..15 as on the wire: may be none of khp_ws_opcode */
    uint8_t rsv;    /* RSV1 = 4, RSV2 = 2, RSV3 = 1 */
    bool fin;
    bool masked;
};

/*
 * Decodes the header at the front of bytes. Returns its size (2..14), 0 when n bytes are not yet
 * all of it, or -1 when the length is not minimal or above 2^63-1 (RFC 6455 5.2). Opcode and bits
 * are not judged here.
 */
int khp_ws_header_decode(const uint8_t *bytes, size_t n, struct khp_ws_header *header);

/* Encodes the header, minimal length; key is written when header->masked. Returns its size. */
size_t khp_ws_header_encode(uint8_t out[KHP_WS_HEADER_MAX], const struct khp_ws_header *header);

/*
 * out[i] = in[i] ^ key[(offset + i) & 3] for i < n: masks and unmasks. in == out is allowed, other
 * overlap is not.
 */
void khp_ws_mask(uint8_t *out, const uint8_t *in, size_t n, const uint8_t key[4], size_t offset);

/* May this code appear in a close frame (RFC 6455 7.4; 1012 to 1014 as registered later;
 * 3000-4999)? */
bool khp_ws_close_code_valid(unsigned code);

#endif

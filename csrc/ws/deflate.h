/*
 * permessage-deflate (RFC 7692 7.2) on zlib: whole messages compressed and back. Sans-I/O; knows no
 * sockets, no frames and no Lua. What was agreed in the handshake comes as numbers; a codec with
 * context takeover belongs to one direction of one connection, one without may serve any number of
 * them.
 */
#ifndef KHP_WS_DEFLATE_H
#define KHP_WS_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum khp_ws_deflate_result {
    KHP_WS_DEFLATE_OK,
    KHP_WS_DEFLATE_TOO_BIG, /* inflated, the message is larger than the limit */
    KHP_WS_DEFLATE_CORRUPT, /* not what RFC 7692 7.2.1 makes of any message */
    KHP_WS_DEFLATE_NO_MEMORY
};

enum {
    KHP_WS_DEFLATE_WINDOW_MIN = 9, /* bits; zlib has no deflater with 8 */
    KHP_WS_INFLATE_WINDOW_MIN = 8,
    KHP_WS_WINDOW_MAX = 15,
    KHP_WS_DEFLATE_LEVEL_MAX = 9, /* from 0: stored as it is */
    KHP_WS_DEFLATE_MEMORY_MAX = 9 /* from 1 */
};

/*
 * What a codec writes: the last message, until the next one or until it is released; nothing after
 * a failure. Codecs of a thread may share it. Zero-initialise.
 */
struct khp_ws_deflate_output {
    uint8_t *bytes; /* NULL: nothing was written yet */
    size_t size, capacity;
};

/* Empties it, and gives back what a large message took. */
void khp_ws_deflate_output_release(struct khp_ws_deflate_output *output);
void khp_ws_deflate_output_free(struct khp_ws_deflate_output *output);

struct khp_ws_deflate_settings {
    uint8_t window_bits;
    uint8_t level, memory_level; /* of a deflater */
    bool takeover;               /* RFC 7692 7.1.1: a message may refer to those before it */
};

struct khp_ws_deflater {
    struct z_stream_s *stream; /* NULL before init and after free */
    struct khp_ws_deflate_settings settings;
};

/* OK or NO_MEMORY; settings within the ranges above. Free it only if OK. */
enum khp_ws_deflate_result khp_ws_deflater_init(struct khp_ws_deflater *deflater,
                                                const struct khp_ws_deflate_settings *settings);
void khp_ws_deflater_free(struct khp_ws_deflater *deflater);

/*
 * Compresses a message: RFC 7692 7.2.1. OK, and then it must be sent, since the next one may refer
 * to it; or NO_MEMORY, and the next one refers to nothing.
 */
enum khp_ws_deflate_result khp_ws_deflate(struct khp_ws_deflater *deflater, const uint8_t *message,
                                          size_t n, struct khp_ws_deflate_output *output);

/* Bytes that it holds, about: what zlib documents. */
size_t khp_ws_deflater_memory(const struct khp_ws_deflater *deflater);

struct khp_ws_inflater {
    struct z_stream_s *stream; /* NULL before init and after free */
    struct khp_ws_deflate_settings settings;
    bool lost; /* with takeover: a message failed, and no later one can be understood */
};

enum khp_ws_deflate_result khp_ws_inflater_init(struct khp_ws_inflater *inflater,
                                                const struct khp_ws_deflate_settings *settings);
void khp_ws_inflater_free(struct khp_ws_inflater *inflater);

/*
 * Inflates a message: RFC 7692 7.2.2. No more than limit + 1 bytes are ever written or allocated
 * for it, whatever it would come to. After a failure, one with takeover finds everything corrupt.
 */
enum khp_ws_deflate_result khp_ws_inflate(struct khp_ws_inflater *inflater, const uint8_t *payload,
                                          size_t n, size_t limit,
                                          struct khp_ws_deflate_output *output);

size_t khp_ws_inflater_memory(const struct khp_ws_inflater *inflater);

/* Of the zlib that is loaded. */
const char *khp_ws_deflate_version(void);

#endif

/*
 * The one file that includes zlib.h. Deflate streams are raw (RFC 1951, no zlib or gzip header); a
 * message ends with an empty stored block, of which the last four bytes are not on the wire. What a
 * message may become is bounded while it is inflated: a few bytes can stand for gigabytes.
 */
#include "ws/deflate.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST /* its input is const */
#include <zlib.h>

enum {
    OUTPUT_MIN = 1024,
    OUTPUT_KEPT = 64 * 1024,  /* bytes that an output keeps for the next message */
    ROOM_LEAST = 64,          /* zlib wants more than six bytes for the end of a flush */
    DEFLATER_REST = 6 * 1024, /* bytes beside the window and the tables, as zconf.h has it */
    INFLATER_REST = 7 * 1024
};

/* What Z_SYNC_FLUSH ends with, and the wire leaves out (RFC 7692 7.2.1). */
static const uint8_t tail[4] = {0x00, 0x00, 0xff, 0xff};

const char *khp_ws_deflate_version(void) {
    return zlibVersion();
}

/* ---- output ---- */

void khp_ws_deflate_output_free(struct khp_ws_deflate_output *output) {
    free(output->bytes);
    memset(output, 0, sizeof *output);
}

void khp_ws_deflate_output_release(struct khp_ws_deflate_output *output) {
    if (output->capacity > OUTPUT_KEPT) {
        khp_ws_deflate_output_free(output);
    }
    output->size = 0;
}

/* Makes room for at least one byte of at most `most` in all: twice as much as before. */
static bool grow(struct khp_ws_deflate_output *output, size_t most) {
    size_t capacity = output->capacity > most / 2 ? most : 2 * output->capacity;
    if (capacity < OUTPUT_MIN) {
        capacity = most < OUTPUT_MIN ? most : OUTPUT_MIN;
    }
    assert(capacity > output->capacity);
    uint8_t *bytes = realloc(output->bytes, capacity);
    if (bytes == NULL) {
        return false;
    }
    output->bytes = bytes;
    output->capacity = capacity;
    return true;
}

/* Points the stream at the free part of the output, of at most `most` bytes in all. */
static void offer_room(z_stream *stream, const struct khp_ws_deflate_output *output, size_t most) {
    size_t end = output->capacity < most ? output->capacity : most;
    size_t room = end - output->size;
    stream->next_out = output->bytes + output->size;
    stream->avail_out = room < UINT_MAX ? (uInt)room : UINT_MAX;
}

static void take_room(const z_stream *stream, struct khp_ws_deflate_output *output) {
    output->size = (size_t)(stream->next_out - output->bytes);
}

static void begin_input(z_stream *stream, const uint8_t *bytes) {
    stream->next_in = bytes;
    stream->avail_in = 0;
}

/* Lets the stream take more of so many bytes once it has what it had; returns how many are left. */
static size_t offer_input(z_stream *stream, size_t left) {
    if (stream->avail_in == 0) {
        stream->avail_in = left < UINT_MAX ? (uInt)left : UINT_MAX;
        left -= stream->avail_in;
    }
    return left;
}

/* ---- deflating ---- */

enum khp_ws_deflate_result khp_ws_deflater_init(struct khp_ws_deflater *deflater,
                                                const struct khp_ws_deflate_settings *settings) {
    *deflater = (struct khp_ws_deflater){.settings = *settings};
    z_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return KHP_WS_DEFLATE_NO_MEMORY;
    }
    int result = deflateInit2(stream, settings->level, Z_DEFLATED, -settings->window_bits,
                              settings->memory_level, Z_DEFAULT_STRATEGY);
    assert(result == Z_OK || result == Z_MEM_ERROR);
    if (result != Z_OK) {
        free(stream);
        return KHP_WS_DEFLATE_NO_MEMORY;
    }
    deflater->stream = stream;
    return KHP_WS_DEFLATE_OK;
}

void khp_ws_deflater_free(struct khp_ws_deflater *deflater) {
    if (deflater->stream != NULL) {
        deflateEnd(deflater->stream);
        free(deflater->stream);
        deflater->stream = NULL;
    }
}

size_t khp_ws_deflater_memory(const struct khp_ws_deflater *deflater) {
    const struct khp_ws_deflate_settings *settings = &deflater->settings;
    return deflater->stream == NULL
               ? 0
               : ((size_t)1 << (settings->window_bits + 2)) +
                     ((size_t)1 << (settings->memory_level + 9)) + DEFLATER_REST;
}

/* RFC 7692 7.2.3.6, by hand: zlib does not flush where nothing has come since the last time. */
static enum khp_ws_deflate_result write_empty(struct khp_ws_deflate_output *output) {
    if (output->capacity == 0 && !grow(output, SIZE_MAX)) {
        return KHP_WS_DEFLATE_NO_MEMORY;
    }
    output->bytes[0] = 0;
    output->size = 1;
    return KHP_WS_DEFLATE_OK;
}

enum khp_ws_deflate_result khp_ws_deflate(struct khp_ws_deflater *deflater, const uint8_t *message,
                                          size_t n, struct khp_ws_deflate_output *output) {
    z_stream *stream = deflater->stream;
    khp_ws_deflate_output_release(output);
    if (n == 0) {
        return write_empty(output);
    }
    size_t left = n;
    begin_input(stream, message);
    do {
        if (output->capacity - output->size < ROOM_LEAST && !grow(output, SIZE_MAX)) {
            deflateReset(stream);
            khp_ws_deflate_output_release(output);
            return KHP_WS_DEFLATE_NO_MEMORY;
        }
        left = offer_input(stream, left);
        offer_room(stream, output, SIZE_MAX);
        deflate(stream, left == 0 ? Z_SYNC_FLUSH : Z_NO_FLUSH);
        take_room(stream, output);
    } while (stream->avail_out == 0 || stream->avail_in > 0 || left > 0);

    assert(output->size > sizeof tail);
    output->size -= sizeof tail;
    if (!deflater->settings.takeover) {
        deflateReset(stream);
    }
    return KHP_WS_DEFLATE_OK;
}

/* ---- inflating ---- */

enum khp_ws_deflate_result khp_ws_inflater_init(struct khp_ws_inflater *inflater,
                                                const struct khp_ws_deflate_settings *settings) {
    *inflater = (struct khp_ws_inflater){.settings = *settings};
    z_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return KHP_WS_DEFLATE_NO_MEMORY;
    }
    int result = inflateInit2(stream, -settings->window_bits);
    assert(result == Z_OK || result == Z_MEM_ERROR);
    if (result != Z_OK) {
        free(stream);
        return KHP_WS_DEFLATE_NO_MEMORY;
    }
    inflater->stream = stream;
    return KHP_WS_DEFLATE_OK;
}

void khp_ws_inflater_free(struct khp_ws_inflater *inflater) {
    if (inflater->stream != NULL) {
        inflateEnd(inflater->stream);
        free(inflater->stream);
        inflater->stream = NULL;
    }
}

size_t khp_ws_inflater_memory(const struct khp_ws_inflater *inflater) {
    return inflater->stream == NULL ? 0
                                    : ((size_t)1 << inflater->settings.window_bits) + INFLATER_REST;
}

/* All of these bytes, into at most limit + 1 of output. */
static enum khp_ws_deflate_result inflate_bytes(z_stream *stream, const uint8_t *bytes, size_t n,
                                                size_t limit,
                                                struct khp_ws_deflate_output *output) {
    size_t left = n;
    begin_input(stream, bytes);
    do {
        if (output->size == output->capacity && !grow(output, limit + 1)) {
            return KHP_WS_DEFLATE_NO_MEMORY;
        }
        left = offer_input(stream, left);
        offer_room(stream, output, limit + 1);
        int result = inflate(stream, Z_SYNC_FLUSH);
        take_room(stream, output);
        if (output->size > limit) {
            return KHP_WS_DEFLATE_TOO_BIG;
        }
        switch (result) {
        case Z_STREAM_END: /* RFC 7692 7.2.3.4: the message goes on, and so does the window, which
                              inflateReset() would forget (docs/decisions/0008-zlib.md) */
            inflateResetKeep(stream);
            break;
        case Z_OK:
        case Z_BUF_ERROR: /* nothing was left to do after the output was full to the brim */
            break;
        case Z_MEM_ERROR:
            return KHP_WS_DEFLATE_NO_MEMORY;
        default: /* Z_DATA_ERROR, or Z_NEED_DICT, which raw streams have not */
            return KHP_WS_DEFLATE_CORRUPT;
        }
    } while (stream->avail_out == 0 || stream->avail_in > 0 || left > 0);
    return KHP_WS_DEFLATE_OK;
}

/* Did the last block end with the last bit? */
static bool is_between_blocks(const z_stream *stream) {
    return stream->data_type == 128; /* documented at inflate() */
}

enum khp_ws_deflate_result khp_ws_inflate(struct khp_ws_inflater *inflater, const uint8_t *payload,
                                          size_t n, size_t limit,
                                          struct khp_ws_deflate_output *output) {
    z_stream *stream = inflater->stream;
    khp_ws_deflate_output_release(output);
    if (inflater->lost) {
        return KHP_WS_DEFLATE_CORRUPT;
    }
    if (limit > SIZE_MAX / 2) {
        limit = SIZE_MAX / 2;
    }
    if (!inflater->settings.takeover) {
        inflateReset(stream);
    }
    enum khp_ws_deflate_result result = inflate_bytes(stream, payload, n, limit, output);
    if (result == KHP_WS_DEFLATE_OK) {
        result = inflate_bytes(stream, tail, sizeof tail, limit, output);
    }
    if (result == KHP_WS_DEFLATE_OK && !is_between_blocks(stream)) {
        result = KHP_WS_DEFLATE_CORRUPT;
    }
    if (result != KHP_WS_DEFLATE_OK) {
        khp_ws_deflate_output_release(output);
        inflater->lost = inflater->settings.takeover;
    }
    return result;
}

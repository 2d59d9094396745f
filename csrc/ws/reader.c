/*
 * From bytes to messages (RFC 6455 5 to 8). A frame is judged as soon as its header is complete,
 * before any of its payload is kept; payload is unmasked where it lies when that is the whole
 * message, and unmasked into the buffer otherwise. Knows what a peer may send, not what an
 * application wants or how a connection closes.
 */
#include "ws/reader.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    BUFFER_MIN = 1024,
    SPARE_LEAST = 4 * 1024,  /* from here on a message is worth a loan */
    SPARE_MOST = 1024 * 1024 /* what is kept for the next */
};

void khp_ws_reader_init(struct khp_ws_reader *reader, enum khp_ws_role role,
                        const struct khp_ws_limits *limits) {
    memset(reader, 0, sizeof *reader);
    reader->role = (uint8_t)role;
    reader->limits = limits;
}

/* ---- the buffer ---- */

void khp_ws_spare_free(struct khp_ws_spare *spare) {
    free(spare->bytes);
    memset(spare, 0, sizeof *spare);
}

/* The larger of the two is kept. */
static void keep_or_free(struct khp_ws_spare *spare, uint8_t *buffer, size_t size) {
    if (spare != NULL && !spare->lent && size > spare->size && size <= SPARE_MOST) {
        free(spare->bytes);
        spare->bytes = buffer;
        spare->size = size;
    } else {
        free(buffer);
    }
}

static void drop_buffer(struct khp_ws_reader *reader) {
    if (reader->buffer == NULL) {
        return;
    }
    if (reader->borrowed) {
        reader->borrowed = reader->spare->lent = false;
    } else {
        keep_or_free(reader->spare, reader->buffer, reader->capacity);
    }
    reader->buffer = NULL;
    reader->size = reader->capacity = 0;
}

static bool borrow(struct khp_ws_reader *reader, size_t need) {
    struct khp_ws_spare *spare = reader->spare;
    if (reader->buffer != NULL || need < SPARE_LEAST || spare == NULL || spare->lent ||
        need > spare->size) {
        return false;
    }
    reader->buffer = spare->bytes;
    reader->capacity = spare->size;
    reader->borrowed = spare->lent = true;
    return true;
}

static bool grow(struct khp_ws_reader *reader, size_t capacity) {
    uint8_t *buffer = realloc(reader->borrowed ? NULL : reader->buffer, capacity);
    if (buffer == NULL) {
        return false;
    }
    if (reader->borrowed) {
        assert(reader->buffer != NULL);
        memcpy(buffer, reader->buffer, reader->size);
        reader->borrowed = reader->spare->lent = false;
    }
    reader->buffer = buffer;
    reader->capacity = capacity;
    return true;
}

/*
 * Makes room for n more bytes: twice as much as before, but no more than the frame announced or,
 * when fragments are to follow, the limit allows.
 */
static bool make_room(struct khp_ws_reader *reader, size_t n) {
    size_t need = reader->size + n;
    if (need <= reader->capacity || borrow(reader, need)) {
        assert(reader->buffer != NULL);
        return true;
    }
    uint64_t most = reader->frame.fin ? reader->size + reader->remaining
                                      : khp_ws_most_payload(reader->limits, reader->message_rsv);
    size_t capacity = reader->capacity > SIZE_MAX / 2 ? SIZE_MAX : 2 * reader->capacity;
    if (capacity < BUFFER_MIN) {
        capacity = BUFFER_MIN;
    }
    if (capacity > most) {
        capacity = (size_t)most;
    }
    if (capacity < need) {
        capacity = need;
    }
    return grow(reader, capacity);
}

static void drop_control(struct khp_ws_reader *reader) {
    free(reader->control);
    reader->control = NULL;
}

/* ---- frames ---- */

void khp_ws_reader_free(struct khp_ws_reader *reader) {
    drop_buffer(reader);
    drop_control(reader);
}

static enum khp_ws_event fail(struct khp_ws_reader *reader, struct khp_ws_message *message,
                              unsigned code, const char *text) {
    reader->done = true;
    khp_ws_reader_free(reader);
    *message = (struct khp_ws_message){.code = code, .text = text};
    return KHP_WS_EVENT_ERROR;
}

static bool is_control(const struct khp_ws_header *frame) {
    return (frame->opcode & 8) != 0;
}

/*
 * Takes what is missing of a header. Returns its end in bytes, 0 when bytes do not complete it, -1
 * when it cannot be a header.
 */
static int take_header(struct khp_ws_reader *reader, const uint8_t *bytes, size_t n) {
    if (reader->stashed == 0) {
        int size = khp_ws_header_decode(bytes, n, &reader->frame);
        if (size == 0 && n > 0) {
            memcpy(reader->stash, bytes, n);
            reader->stashed = (uint8_t)n;
        }
        return size;
    }
    size_t before = reader->stashed;
    size_t piece = sizeof reader->stash - before;
    if (piece > n) {
        piece = n;
    }
    if (piece > 0) {
        memcpy(reader->stash + before, bytes, piece);
    }
    int size = khp_ws_header_decode(reader->stash, before + piece, &reader->frame);
    reader->stashed = size > 0 ? 0 : (uint8_t)(before + piece);
    return size > 0 ? size - (int)before : size;
}

/* Why this frame may not come here, or NULL. */
static const char *unlawful(const struct khp_ws_reader *reader) {
    const struct khp_ws_header *frame = &reader->frame;
    bool first = frame->opcode == KHP_WS_TEXT || frame->opcode == KHP_WS_BINARY;
    if ((frame->rsv & ~(first ? reader->allowed_rsv : 0)) != 0) {
        return "reserved bits are set"; /* RFC 6455 5.2 */
    }
    if (!first && frame->opcode != KHP_WS_CONTINUATION && frame->opcode != KHP_WS_CLOSE &&
        frame->opcode != KHP_WS_PING && frame->opcode != KHP_WS_PONG) {
        return "unknown opcode"; /* RFC 6455 5.2 */
    }
    if (frame->masked != (reader->role == KHP_WS_SERVER)) { /* RFC 6455 5.1 */
        return frame->masked ? "frame of a server is masked" : "frame of a client is not masked";
    }
    if (is_control(frame)) {
        return !frame->fin ? "control frame is fragmented" /* RFC 6455 5.5 */
               : frame->length > KHP_WS_CONTROL_MAX ? "control frame is longer than 125 bytes"
               : frame->opcode == KHP_WS_CLOSE && frame->length == 1
                   ? "close frame with half a code" /* RFC 6455 5.5.1 */
                   : NULL;
    }
    if (first && reader->opcode != 0) {
        return "new message inside a fragmented one"; /* RFC 6455 5.4 */
    }
    if (!first && reader->opcode == 0) {
        return "continuation without a message"; /* RFC 6455 5.4 */
    }
    return NULL;
}

/* The frame's header is complete: judges it and starts it. false: failed, and message says why. */
static bool begin_frame(struct khp_ws_reader *reader, struct khp_ws_message *message) {
    const struct khp_ws_header *frame = &reader->frame;
    const char *text = unlawful(reader);
    if (text != NULL) {
        fail(reader, message, KHP_WS_PROTOCOL_ERROR, text);
        return false;
    }
    if (!is_control(frame)) {
        if (frame->opcode != KHP_WS_CONTINUATION) {
            reader->opcode = frame->opcode;
            reader->message_rsv = frame->rsv;
            reader->fragments = 0;
            reader->utf8 = (struct khp_ws_utf8){0};
        }
        const struct khp_ws_limits *limits = reader->limits;
        uint64_t most = khp_ws_most_payload(reader->limits, reader->message_rsv);
        if (most < reader->size || frame->length > most - reader->size) {
            fail(reader, message, KHP_WS_TOO_BIG, "message is too big");
            return false;
        }
        if (reader->fragments >= limits->fragments) {
            fail(reader, message, KHP_WS_TOO_BIG, "message has too many fragments");
            return false;
        }
        reader->fragments++;
    }
    reader->in_frame = true;
    reader->remaining = frame->length;
    return true;
}

static void unmask(const struct khp_ws_reader *reader, uint8_t *out, const uint8_t *in, size_t n) {
    if (reader->frame.masked) {
        khp_ws_mask(out, in, n, reader->frame.key,
                    (size_t)((reader->frame.length - reader->remaining) & 3));
    } else if (out != in) {
        memcpy(out, in, n);
    }
}

static enum khp_ws_event deliver_close(struct khp_ws_reader *reader, const uint8_t *payload,
                                       size_t n, struct khp_ws_message *message) {
    reader->done = true;
    drop_buffer(reader); /* a message that will never be finished */
    message->code = KHP_WS_NO_STATUS;
    message->payload = payload;
    message->length = n;
    if (n >= 2) {
        message->code = (unsigned)(payload[0] << 8 | payload[1]);
        message->payload += 2;
        message->length -= 2;
        if (!khp_ws_close_code_valid(message->code)) {
            return fail(reader, message, KHP_WS_PROTOCOL_ERROR, "invalid close code");
        }
        struct khp_ws_utf8 utf8 = {0};
        if (!khp_ws_utf8_feed(&utf8, message->payload, message->length) ||
            !khp_ws_utf8_complete(&utf8)) {
            return fail(reader, message, KHP_WS_INVALID_DATA, "close reason is not UTF-8");
        }
    }
    return KHP_WS_EVENT_CLOSE;
}

/* Takes n bytes of a control frame's payload: all that is missing, or all there are. */
static enum khp_ws_event take_control(struct khp_ws_reader *reader, uint8_t *bytes, size_t n,
                                      struct khp_ws_message *message) {
    const struct khp_ws_header *frame = &reader->frame;
    uint8_t *payload = bytes;
    if (n == frame->length) {
        unmask(reader, payload, bytes, n);
    } else if (n > 0) {
        if (reader->control == NULL) {
            reader->control = malloc((size_t)frame->length);
        }
        if (reader->control == NULL) {
            return fail(reader, message, KHP_WS_INTERNAL_ERROR, "out of memory");
        }
        unmask(reader, reader->control + (frame->length - reader->remaining), bytes, n);
        payload = reader->control;
    }
    reader->remaining -= n;
    if (reader->remaining > 0) {
        return KHP_WS_EVENT_NONE;
    }
    reader->in_frame = false;
    message->opcode = (enum khp_ws_opcode)frame->opcode;
    if (frame->opcode == KHP_WS_CLOSE) {
        return deliver_close(reader, payload, (size_t)frame->length, message);
    }
    message->payload = payload;
    message->length = (size_t)frame->length;
    return frame->opcode == KHP_WS_PING ? KHP_WS_EVENT_PING : KHP_WS_EVENT_PONG;
}

/* Likewise of a data frame's. KHP_WS_EVENT_NONE: the message goes on. */
static enum khp_ws_event take_data(struct khp_ws_reader *reader, uint8_t *bytes, size_t n,
                                   struct khp_ws_message *message) {
    const struct khp_ws_header *frame = &reader->frame;
    bool whole = frame->fin && n == frame->length && frame->opcode != KHP_WS_CONTINUATION;
    bool text = reader->opcode == KHP_WS_TEXT && reader->message_rsv == 0;
    uint8_t *piece = bytes;
    if (!whole && n > 0) {
        if (!make_room(reader, n)) {
            return fail(reader, message, KHP_WS_INTERNAL_ERROR, "out of memory");
        }
        piece = reader->buffer + reader->size;
        reader->size += n;
    }
    if (n > 0) {
        unmask(reader, piece, bytes, n);
    }
    reader->remaining -= n;
    bool frame_ends = reader->remaining == 0;
    bool message_ends = frame_ends && frame->fin;
    /* RFC 6455 8.1, and at once rather than at the end */
    if (text && (!khp_ws_utf8_feed(&reader->utf8, piece, n) ||
                 (message_ends && !khp_ws_utf8_complete(&reader->utf8)))) {
        return fail(reader, message, KHP_WS_INVALID_DATA, "text is not UTF-8");
    }
    reader->in_frame = !frame_ends;
    if (!message_ends) {
        return KHP_WS_EVENT_NONE;
    }
    message->opcode = (enum khp_ws_opcode)reader->opcode;
    message->rsv = reader->message_rsv;
    message->payload = whole || reader->size == 0 ? bytes : reader->buffer;
    message->length = whole ? n : reader->size;
    reader->opcode = 0; /* no message in progress: the next call drops the buffer */
    return KHP_WS_EVENT_MESSAGE;
}

enum khp_ws_event khp_ws_reader_next(struct khp_ws_reader *reader, uint8_t *bytes, size_t n,
                                     size_t *used, struct khp_ws_message *message) {
    memset(message, 0, sizeof *message);
    if (reader->buffer != NULL && reader->opcode == 0) {
        drop_buffer(reader);
    }
    if (reader->control != NULL && !reader->in_frame) {
        drop_control(reader);
    }
    size_t at = 0;
    enum khp_ws_event event = KHP_WS_EVENT_NONE;
    while (event == KHP_WS_EVENT_NONE && !reader->done && at < n) {
        if (!reader->in_frame) {
            int taken = take_header(reader, bytes + at, n - at);
            if (taken == 0) {
                break;
            }
            if (taken < 0) {
                event = fail(reader, message, KHP_WS_PROTOCOL_ERROR,
                             "frame length is not minimal or above 2^63-1"); /* RFC 6455 5.2 */
                break;
            }
            at += (size_t)taken;
            if (!begin_frame(reader, message)) {
                event = KHP_WS_EVENT_ERROR;
                break;
            }
        }
        size_t piece = reader->remaining < n - at ? (size_t)reader->remaining : n - at;
        event = is_control(&reader->frame) ? take_control(reader, bytes + at, piece, message)
                                           : take_data(reader, bytes + at, piece, message);
        at += piece;
    }
    *used = event == KHP_WS_EVENT_NONE ? n : at;
    return event;
}

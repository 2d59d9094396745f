/*
 * The WebSocket reader under libFuzzer, in both roles: the same stream whole, byte by byte and in
 * pieces that the input chooses must give the same events, and whatever they are, they must keep to
 * the limits and to RFC 6455.
 *
 * Input: a byte of options (bit 0: client; bits 1-3: reserved bits allowed; bit 4: small limits), a
 * byte that seeds the lengths of the pieces, then the stream.
 */
#include "ws/reader.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct record { /* what happened, flattened */
    uint8_t *bytes;
    size_t n, capacity;
};

static void append(struct record *record, const void *bytes, size_t n) {
    if (record->n + n > record->capacity) {
        record->capacity = 2 * (record->n + n);
        record->bytes = realloc(record->bytes, record->capacity);
        CHECK(record->bytes != NULL);
    }
    if (n > 0) {
        memcpy(record->bytes + record->n, bytes, n);
    }
    record->n += n;
}

static void check_lawful(enum khp_ws_event event, const struct khp_ws_message *message,
                         const struct khp_ws_limits *limits, uint8_t allowed_rsv) {
    struct khp_ws_utf8 utf8 = {0};
    bool text =
        khp_ws_utf8_feed(&utf8, message->payload, message->length) && khp_ws_utf8_complete(&utf8);
    switch (event) {
    case KHP_WS_EVENT_NONE:
        break;
    case KHP_WS_EVENT_MESSAGE:
        CHECK(message->opcode == KHP_WS_TEXT || message->opcode == KHP_WS_BINARY);
        CHECK(message->length <= khp_ws_most_payload(limits, message->rsv));
        CHECK((message->rsv & ~allowed_rsv) == 0);
        CHECK(text || message->opcode == KHP_WS_BINARY || message->rsv != 0);
        break;
    case KHP_WS_EVENT_PING:
    case KHP_WS_EVENT_PONG:
        CHECK(message->length <= KHP_WS_CONTROL_MAX);
        break;
    case KHP_WS_EVENT_CLOSE:
        CHECK(message->length <= KHP_WS_REASON_MAX && text);
        CHECK(khp_ws_close_code_valid(message->code) ||
              (message->code == KHP_WS_NO_STATUS && message->length == 0));
        break;
    case KHP_WS_EVENT_ERROR:
        CHECK(message->code == KHP_WS_PROTOCOL_ERROR || message->code == KHP_WS_INVALID_DATA ||
              message->code == KHP_WS_TOO_BIG);
        CHECK(message->text != NULL && message->length == 0);
        break;
    }
}

/* Reads the stream in pieces of `fixed` bytes, or, when that is 0, of lengths drawn from `seed`. */
static struct record read_in_pieces(const uint8_t *stream, size_t n, uint8_t options, size_t fixed,
                                    uint32_t seed) {
    struct khp_ws_limits limits = {.message = 1 << 20, .fragments = 64};
    if ((options & 16) != 0) {
        limits = (struct khp_ws_limits){.message = 40, .fragments = 3};
    }
    struct khp_ws_reader reader;
    khp_ws_reader_init(&reader, (options & 1) != 0 ? KHP_WS_CLIENT : KHP_WS_SERVER, &limits);
    reader.allowed_rsv = options >> 1 & 7;
    struct record record = {0};
    bool over = false;
    for (size_t at = 0; at < n;) {
        seed = seed * 1103515245 + 12345;
        size_t size = fixed != 0 ? fixed : 1 + (seed >> 16) % 23;
        if (size > n - at) {
            size = n - at;
        }
        uint8_t *piece = malloc(size); /* just so large: the sanitizer sees what is behind */
        CHECK(piece != NULL);
        memcpy(piece, stream + at, size);
        at += size;
        size_t done = 0;
        enum khp_ws_event event;
        do {
            struct khp_ws_message message;
            size_t used = SIZE_MAX;
            event = khp_ws_reader_next(&reader, piece + done, size - done, &used, &message);
            CHECK(used <= size - done);
            done += used;
            CHECK(reader.capacity <= khp_ws_most_payload(&limits, reader.allowed_rsv));
            CHECK(!over || event == KHP_WS_EVENT_NONE);
            over = over || event == KHP_WS_EVENT_CLOSE || event == KHP_WS_EVENT_ERROR;
            check_lawful(event, &message, &limits, reader.allowed_rsv);
            if (event != KHP_WS_EVENT_NONE) {
                uint32_t facts[] = {event, message.opcode, message.code, message.rsv,
                                    (uint32_t)message.length};
                append(&record, facts, sizeof facts);
                append(&record, message.payload, message.length);
            }
        } while (event != KHP_WS_EVENT_NONE);
        CHECK(done == size);
        free(piece);
    }
    khp_ws_reader_free(&reader);
    return record;
}

static void check_header(const uint8_t *bytes, size_t n) {
    struct khp_ws_header header;
    int size = khp_ws_header_decode(bytes, n, &header);
    if (size > 0) {
        uint8_t again[KHP_WS_HEADER_MAX];
        CHECK(khp_ws_header_encode(again, &header) == (size_t)size);
        CHECK(memcmp(again, bytes, (size_t)size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < 3) {
        return 0;
    }
    const uint8_t *stream = data + 2;
    size_t size = n - 2;
    check_header(stream, size);
    struct record whole = read_in_pieces(stream, size, data[0], size, 0);
    struct record bytewise = read_in_pieces(stream, size, data[0], 1, 0);
    struct record pieces = read_in_pieces(stream, size, data[0], 0, data[1]);
    CHECK(whole.n == bytewise.n && whole.n == pieces.n);
    CHECK(whole.n == 0 || (memcmp(whole.bytes, bytewise.bytes, whole.n) == 0 &&
                           memcmp(whole.bytes, pieces.bytes, whole.n) == 0));
    free(whole.bytes);
    free(bytewise.bytes);
    free(pieces.bytes);
    return 0;
}

/*
 * The message reader: what each stream of frames means, for both roles, and that it means the same
 * whole, split in two anywhere, and byte by byte. Every piece lies before a guard page and is gone
 * once the reader must not use it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/resource.h>

#include "guard.h"
#include "ws/reader.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER
#endif

/* The sanitizer returns NULL for what is too large, as the system does. The name is the
 * sanitizer's. */
__attribute__((visibility("default"))) const char *
__asan_default_options(void); /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
const char *__asan_default_options(void) { /* NOLINT */
    return "allocator_may_return_null=1:max_allocation_size_mb=64";
}

static const struct khp_ws_limits generous = {.message = 1 << 20, .fragments = 1024};
static const struct khp_ws_limits small = {.message = 10, .fragments = 3};

/* ---- a stream of frames, and what the reader says about it, as text -------------------------- */

struct stream {
    uint8_t bytes[4096];
    size_t n;
};

static uint8_t hex_digit(char c) {
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* "81 83 00000000 'abc'": hexadecimal, blanks ignored, characters between quotes as they are. */
static struct stream stream_from(const char *text) {
    struct stream stream = {.n = 0};
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'') {
            for (c++; *c != '\''; c++) {
                stream.bytes[stream.n++] = (uint8_t)*c;
            }
        } else if (*c != ' ') {
            stream.bytes[stream.n++] = (uint8_t)(hex_digit(c[0]) << 4 | hex_digit(c[1]));
            c++;
        }
    }
    return stream;
}

struct events {
    char text[8192];
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void print(struct events *events, const char *format,
                                                        ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(events->text + events->n, sizeof events->text - events->n, format, arguments);
    va_end(arguments);
    assert_true(n >= 0 && (size_t)n < sizeof events->text - events->n);
    events->n += (size_t)n;
}

static void print_event(struct events *events, enum khp_ws_event event,
                        const struct khp_ws_message *message) {
    switch (event) {
    case KHP_WS_EVENT_NONE:
        return;
    case KHP_WS_EVENT_MESSAGE:
        print(events, message->opcode == KHP_WS_TEXT ? "text" : "binary");
        if (message->rsv != 0) {
            print(events, "/%d", message->rsv);
        }
        break;
    case KHP_WS_EVENT_PING:
        assert_int_equal(message->opcode, KHP_WS_PING);
        print(events, "ping");
        break;
    case KHP_WS_EVENT_PONG:
        assert_int_equal(message->opcode, KHP_WS_PONG);
        print(events, "pong");
        break;
    case KHP_WS_EVENT_CLOSE:
        print(events, "close %u", message->code);
        break;
    case KHP_WS_EVENT_ERROR:
        assert_non_null(message->text);
        print(events, "error %u", message->code);
        break;
    }
    print(events, "(");
    for (size_t i = 0; i < message->length; i++) {
        uint8_t c = message->payload[i];
        print(events, c >= ' ' && c < 0x7f ? "%c" : "\\%02x", c);
    }
    print(events, ")");
}

/* Feeds one piece as a driver would; the piece is unmapped when the next call lets go of it. */
static void feed(struct khp_ws_reader *reader, const uint8_t *bytes, size_t n,
                 struct events *events) {
    struct guard piece = guard_new(bytes, n);
    size_t at = 0;
    enum khp_ws_event event;
    do {
        struct khp_ws_message message;
        size_t used = SIZE_MAX;
        event = khp_ws_reader_next(reader, piece.bytes + at, n - at, &used, &message);
        assert_true(used <= n - at);
        at += used;
        print_event(events, event, &message);
    } while (event != KHP_WS_EVENT_NONE);
    assert_int_equal(at, n);
    guard_free(&piece);
}

/* In one piece, in pieces of `size`, or (size 0) in two with the cut at `cut`. */
static struct events read_in_pieces(enum khp_ws_role role, const struct khp_ws_limits *limits,
                                    uint8_t allowed_rsv, const struct stream *stream, size_t size,
                                    size_t cut) {
    struct khp_ws_reader reader;
    khp_ws_reader_init(&reader, role, limits);
    reader.allowed_rsv = allowed_rsv;
    struct events events = {.n = 0};
    if (size == 0) {
        feed(&reader, stream->bytes, cut, &events);
        feed(&reader, stream->bytes + cut, stream->n - cut, &events);
    } else {
        for (size_t at = 0; at < stream->n; at += size) {
            feed(&reader, stream->bytes + at, size < stream->n - at ? size : stream->n - at,
                 &events);
        }
    }
    khp_ws_reader_free(&reader);
    return events;
}

static void expect(enum khp_ws_role role, const struct khp_ws_limits *limits, uint8_t allowed_rsv,
                   const char *text, const char *expected) {
    struct stream stream = stream_from(text);
    for (size_t cut = 0; cut <= stream.n; cut++) {
        struct events split = read_in_pieces(role, limits, allowed_rsv, &stream, 0, cut);
        assert_string_equal(split.text, expected);
    }
    for (size_t size = 1; size <= 5; size++) {
        struct events pieces = read_in_pieces(role, limits, allowed_rsv, &stream, size, 0);
        assert_string_equal(pieces.text, expected);
    }
}

struct expectation {
    const char *stream, *events;
};

static void expect_all(enum khp_ws_role role, const struct khp_ws_limits *limits,
                       const struct expectation *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        expect(role, limits, 0, cases[i].stream, cases[i].events);
    }
}

#define EXPECT_ALL(role, limits, cases)                                                            \
    expect_all(role, limits, cases, sizeof(cases) / sizeof((cases)[0]))

/* ---- what the frames mean -------------------------------------------------------------------- */

static void reads_what_a_server_sends(void **state) {
    (void)state;
    static const struct expectation cases[] = {
        {"", ""},
        {"81 05 'Hello'", "text(Hello)"},
        {"82 03 00 01 ff", "binary(\\00\\01\\ff)"},
        {"81 00", "text()"},
        {"82 00 81 00", "binary()text()"},
        {"81 02 c3 a9", "text(\\c3\\a9)"},
        {"01 03 'Hel' 80 02 'lo'", "text(Hello)"}, /* RFC 6455 5.7 */
        {"01 03 'Hel' 00 00 00 01 'l' 80 01 'o'", "text(Hello)"},
        {"02 00 00 00 80 00", "binary()"},
        {"01 00 80 02 'ab' 81 01 'c'", "text(ab)text(c)"},
        {"01 01 c3 80 01 a9", "text(\\c3\\a9)"}, /* a character in two frames */
        {"89 05 'Hello'", "ping(Hello)"},
        {"89 00 8a 00", "ping()pong()"},
        {"01 03 'Hel' 89 01 'p' 80 02 'lo'", "ping(p)text(Hello)"}, /* RFC 6455 5.4 */
        {"01 01 'a' 8a 02 'po' 00 01 'b' 89 00 80 01 'c'", "pong(po)ping()text(abc)"},
        {"81 01 'a' 81 01 'b' 89 01 'c' 82 01 'd'", "text(a)text(b)ping(c)binary(d)"},
        {"81 05 'Hel'", ""},
        {"88 00", "close 1005()"},
        {"88 02 03e8", "close 1000()"},
        {"88 06 0bb8 'bye!'", "close 3000(bye!)"},
        {"01 01 'a' 88 02 03e8 80 01 'b'", "close 1000()"},
        {"88 02 03e8 81 01 'a' ff ff", "close 1000()"}, /* RFC 6455 5.5.1: nothing after */
    };
    EXPECT_ALL(KHP_WS_CLIENT, &generous, cases);
}

static void reads_what_a_client_sends(void **state) {
    (void)state;
    static const struct expectation cases[] = {
        {"81 85 37fa213d 7f9f4d5158", "text(Hello)"}, /* RFC 6455 5.7 */
        {"89 85 37fa213d 7f9f4d5158", "ping(Hello)"},
        {"81 80 01020304", "text()"},
        {"01 83 37fa213d 7f9f4d 80 82 3d21fa37 514e", "text(Hello)"},
        {"82 81 01020304 00 82 82 ffffffff 0000", "binary(\\01)binary(\\ff\\ff)"},
        {"88 82 01020304 02ea", "close 1000()"},
        {"88 87 00000000 03e9 'away!'", "close 1001(away!)"},
    };
    EXPECT_ALL(KHP_WS_SERVER, &generous, cases);
}

static void closes_with_1002_what_the_protocol_forbids(void **state) {
    (void)state;
    static const struct expectation from_server[] = {
        {"91 00", "error 1002()"}, /* reserved bits, RFC 6455 5.2 */
        {"a1 00", "error 1002()"},
        {"c1 00", "error 1002()"},
        {"d9 00", "error 1002()"},
        {"01 00 c0 00", "error 1002()"},
        {"83 00", "error 1002()"}, /* opcodes, RFC 6455 5.2 */
        {"87 00", "error 1002()"},
        {"8b 00", "error 1002()"},
        {"8f 00", "error 1002()"},
        {"82 7e 0001 'a'", "error 1002()"}, /* lengths, RFC 6455 5.2 */
        {"82 7e 007d", "error 1002()"},
        {"82 7f 000000000000ffff", "error 1002()"},
        {"82 7f 8000000000000000", "error 1002()"},
        {"81 81 00000000 'a'", "error 1002()"}, /* masked, RFC 6455 5.1 */
        {"09 00", "error 1002()"},              /* fragmented control, RFC 6455 5.5 */
        {"08 02 03e8", "error 1002()"},
        {"89 7e 007e", "error 1002()"}, /* longer than 125, RFC 6455 5.5 */
        {"88 7e 0080", "error 1002()"},
        {"80 00", "error 1002()"}, /* order, RFC 6455 5.4 */
        {"00 01 'a'", "error 1002()"},
        {"01 01 'a' 81 01 'b'", "error 1002()"},
        {"01 01 'a' 02 01 'b'", "error 1002()"},
        {"01 01 'a' 80 01 'b' 80 01 'c'", "text(ab)error 1002()"},
        {"88 01 03", "error 1002()"},                         /* half a code, RFC 6455 5.5.1 */
        {"81 01 'a' 83 00 81 01 'b'", "text(a)error 1002()"}, /* nothing after it */
    };
    EXPECT_ALL(KHP_WS_CLIENT, &generous, from_server);
    static const struct expectation from_client[] = {
        {"81 01 'a'", "error 1002()"}, /* not masked, RFC 6455 5.1 */
        {"89 00", "error 1002()"},          {"88 00", "error 1002()"},
        {"c1 80 00000000", "error 1002()"}, {"80 80 00000000", "error 1002()"},
    };
    EXPECT_ALL(KHP_WS_SERVER, &generous, from_client);
}

static void accepts_and_refuses_each_close_code(void **state) {
    (void)state;
    for (unsigned code = 0; code <= 5100; code += code < 1020 || code > 2990 ? 1 : 5) {
        char stream[64];
        char expected[64];
        snprintf(stream, sizeof stream, "88 04 %04x 'ok'", code);
        if (khp_ws_close_code_valid(code)) {
            snprintf(expected, sizeof expected, "close %u(ok)", code);
        } else {
            snprintf(expected, sizeof expected, "error 1002()");
        }
        struct stream bytes = stream_from(stream);
        struct events whole = read_in_pieces(KHP_WS_CLIENT, &generous, 0, &bytes, 64, 0);
        struct events split = read_in_pieces(KHP_WS_CLIENT, &generous, 0, &bytes, 1, 0);
        assert_string_equal(whole.text, expected);
        assert_string_equal(split.text, expected);
    }
}

static void closes_with_1007_text_that_is_not_utf8(void **state) {
    (void)state;
    static const struct expectation cases[] = {
        {"81 01 ff", "error 1007()"},
        {"81 02 'a' c3", "error 1007()"}, /* ends inside a character */
        {"01 01 c3 80 00", "error 1007()"},
        {"01 01 c3 80 01 'a'", "error 1007()"},
        {"01 03 eda080 80 00", "error 1007()"}, /* a surrogate */
        {"01 02 c0af 89 00", "error 1007()"},   /* overlong, and before the ping */
        {"81 7e 0400 'a' ff", "error 1007()"},  /* long before the frame is complete */
        {"82 01 ff 02 01 ff 80 01 fe", "binary(\\ff)binary(\\ff\\fe)"},
        {"88 04 03e8 c3 28", "error 1007()"}, /* a close reason, RFC 6455 5.5.1 */
        {"88 03 03e8 c3", "error 1007()"},
        {"88 04 03e8 c3 a9", "close 1000(\\c3\\a9)"},
        {"81 01 'a' 01 01 c3 89 00 80 01 a9 81 01 ff", "text(a)ping()text(\\c3\\a9)error 1007()"},
    };
    EXPECT_ALL(KHP_WS_CLIENT, &generous, cases);
}

static void leaves_reserved_bits_to_the_extension(void **state) {
    (void)state;
    expect(KHP_WS_CLIENT, &generous, 4, "c1 01 ff", "text/4(\\ff)"); /* encoded: not yet text */
    expect(KHP_WS_CLIENT, &generous, 4, "41 01 ff 80 01 fe c2 01 'a'",
           "text/4(\\ff\\fe)binary/4(a)");
    expect(KHP_WS_CLIENT, &generous, 4, "81 01 ff", "error 1007()");
    expect(KHP_WS_CLIENT, &generous, 4, "c1 01 ff 81 01 ff", "text/4(\\ff)error 1007()");
    expect(KHP_WS_CLIENT, &generous, 4, "a1 00", "error 1002()");
    expect(KHP_WS_CLIENT, &generous, 4, "c9 00", "error 1002()");
    expect(KHP_WS_CLIENT, &generous, 4, "41 00 c0 00", "error 1002()");
    expect(KHP_WS_CLIENT, &generous, 7, "f1 01 'a'", "text/7(a)");
}

/* ---- limits and memory ----------------------------------------------------------------------- */

/* Ten bytes are the limit: an eighth of that, and 64. */
static void lets_an_extension_make_a_message_a_little_larger(void **state) {
    (void)state;
    static const struct khp_ws_limits limits = {.message = 10, .fragments = 3};
    struct stream stream =
        stream_from("c2 4b "
                    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'"
                    "'xxxxxxxxxxxxxxx'");
    struct events events = read_in_pieces(KHP_WS_CLIENT, &limits, 4, &stream, 0, 40);
    assert_non_null(strstr(events.text, "xxxxxxxxxx"));
    expect(KHP_WS_CLIENT, &limits, 4, "c2 4c", "error 1009()");
    expect(KHP_WS_CLIENT, &limits, 4, "42 00 80 4b", "");
    expect(KHP_WS_CLIENT, &limits, 4, "42 00 80 4c", "error 1009()");
    expect(KHP_WS_CLIENT, &limits, 4, "82 0b", "error 1009()"); /* without the bit: no byte more */
}

static void closes_with_1009_what_is_beyond_the_limits(void **state) {
    (void)state;
    static const struct expectation cases[] = {
        {"82 0a '0123456789'", "binary(0123456789)"},
        {"82 0b", "error 1009()"}, /* at the header, before any payload */
        {"81 7f 7fffffffffffffff", "error 1009()"},
        {"02 06 '012345' 80 04 '6789'", "binary(0123456789)"},
        {"02 06 '012345' 80 05", "error 1009()"},
        {"02 06 '012345' 80 7f 7fffffffffffffff", "error 1009()"},
        {"02 0a '0123456789' 89 04 'ping' 00 00 80 00", "ping(ping)binary(0123456789)"},
        {"02 00 00 00 80 00 02 01 'a' 00 01 'b' 80 01 'c'", "binary()binary(abc)"},
        {"02 00 00 00 00 00 80 00", "error 1009()"}, /* empty fragments count */
        {"89 0b '0123456789a' 82 01 'a'", "ping(0123456789a)binary(a)"},
    };
    EXPECT_ALL(KHP_WS_CLIENT, &small, cases);
    static const struct khp_ws_limits nothing = {.message = 0, .fragments = 1};
    expect(KHP_WS_CLIENT, &nothing, 0, "82 00 82 01", "binary()error 1009()");
    expect(KHP_WS_CLIENT, &nothing, 0, "02 00 80 00", "error 1009()");
}

static void delivers_a_whole_message_where_it_lies(void **state) {
    (void)state;
    struct stream stream = stream_from("82 85 01020304 'Hello' 81 81 00000000 'a'");
    struct khp_ws_reader reader;
    khp_ws_reader_init(&reader, KHP_WS_SERVER, &generous);
    struct khp_ws_message message;
    size_t used;
    assert_int_equal(khp_ws_reader_next(&reader, stream.bytes, stream.n, &used, &message),
                     KHP_WS_EVENT_MESSAGE);
    assert_int_equal(used, 11);
    assert_ptr_equal(message.payload, stream.bytes + 6);
    assert_int_equal(message.length, 5);
    assert_int_equal(
        khp_ws_reader_next(&reader, stream.bytes + used, stream.n - used, &used, &message),
        KHP_WS_EVENT_MESSAGE);
    assert_ptr_equal(message.payload, stream.bytes + 17);
    assert_null(reader.buffer);
    assert_int_equal(khp_ws_reader_next(&reader, NULL, 0, &used, &message), KHP_WS_EVENT_NONE);
    assert_int_equal(used, 0);
    khp_ws_reader_free(&reader);
}

/* Feeds n bytes of value `fill`, masked with zeros, in pieces of `size`; returns the last event. */
static enum khp_ws_event feed_payload(struct khp_ws_reader *reader, uint8_t fill, size_t n,
                                      size_t size, struct khp_ws_message *message) {
    struct guard piece = guard_new(NULL, size);
    enum khp_ws_event event = KHP_WS_EVENT_NONE;
    while (n > 0 && event == KHP_WS_EVENT_NONE) {
        size_t part = n < size ? n : size;
        memset(piece.bytes, fill, part);
        size_t used;
        event = khp_ws_reader_next(reader, piece.bytes, part, &used, message);
        assert_true(event == KHP_WS_EVENT_ERROR || used == part);
        n -= part;
    }
    guard_free(&piece);
    return event;
}

static void feed_header(struct khp_ws_reader *reader, const char *hex) {
    struct stream header = stream_from(hex);
    struct khp_ws_message message;
    size_t used;
    assert_int_equal(khp_ws_reader_next(reader, header.bytes, header.n, &used, &message),
                     KHP_WS_EVENT_NONE);
    assert_int_equal(used, header.n);
}

static void allocates_for_what_came_and_not_for_what_is_announced(void **state) {
    (void)state;
    static const struct khp_ws_limits limits = {.message = 16 << 20, .fragments = 8};
    struct khp_ws_reader reader;
    struct khp_ws_message message;
    khp_ws_reader_init(&reader, KHP_WS_SERVER, &limits);
    feed_header(&reader, "82 ff 0000000001000000 00000000"); /* 16 MiB */
    assert_null(reader.buffer);
    size_t came = 0;
    while (came < (16U << 20) - 1000) {
        assert_int_equal(feed_payload(&reader, 'x', 1000, 1000, &message), KHP_WS_EVENT_NONE);
        came += 1000;
        assert_true(reader.capacity <= 2 * came + 1024);
    }
    assert_int_equal(feed_payload(&reader, 'x', (16U << 20) - came, 1000, &message),
                     KHP_WS_EVENT_MESSAGE);
    assert_int_equal(message.length, 16 << 20);
    assert_int_equal(reader.capacity, 16 << 20); /* and no more than was announced */
    assert_int_equal(message.payload[(16 << 20) - 1], 'x');

    size_t used;
    assert_int_equal(khp_ws_reader_next(&reader, NULL, 0, &used, &message), KHP_WS_EVENT_NONE);
    assert_null(reader.buffer); /* an idle connection holds nothing */
    assert_int_equal(reader.capacity, 0);

    /* Fragments: no more than the limit, however the doubling falls. */
    feed_header(&reader, "02 ff 0000000000900000 00000000");
    assert_int_equal(feed_payload(&reader, 'y', 9 << 20, 65536, &message), KHP_WS_EVENT_NONE);
    assert_true(reader.capacity <= 16 << 20);
    feed_header(&reader, "80 ff 0000000000100000 00000000");
    assert_int_equal(feed_payload(&reader, 'z', 1 << 20, 65536, &message), KHP_WS_EVENT_MESSAGE);
    assert_true(reader.capacity <= 16 << 20);
    assert_int_equal(message.length, 10 << 20);
    assert_int_equal(message.payload[(9 << 20) - 1], 'y');
    assert_int_equal(message.payload[9 << 20], 'z');
    khp_ws_reader_free(&reader);
}

/* A message of n bytes comes in pieces, and is the reader's until the next call. */
static void feed_message(struct khp_ws_reader *reader, uint8_t fill, size_t n) {
    char header[64];
    struct khp_ws_message message;
    (void)snprintf(header, sizeof header, "82 ff %016zx 00000000", n);
    feed_header(reader, header);
    assert_int_equal(feed_payload(reader, fill, n, 20000, &message), KHP_WS_EVENT_MESSAGE);
    assert_int_equal(message.length, n);
    for (size_t i = 0; i < n; i += n - 1) {
        assert_int_equal(message.payload[i], fill);
    }
}

static void let_go(struct khp_ws_reader *reader) {
    struct khp_ws_message message;
    size_t used;
    assert_int_equal(khp_ws_reader_next(reader, NULL, 0, &used, &message), KHP_WS_EVENT_NONE);
    assert_null(reader->buffer);
    assert_int_equal(reader->capacity, 0);
}

static void keeps_one_buffer_for_large_messages(void **state) {
    (void)state;
    static const struct khp_ws_limits limits = {.message = 16 << 20, .fragments = 8};
    struct khp_ws_spare spare = {0};
    struct khp_ws_reader a, b;
    khp_ws_reader_init(&a, KHP_WS_SERVER, &limits);
    khp_ws_reader_init(&b, KHP_WS_SERVER, &limits);
    a.spare = b.spare = &spare;

    feed_message(&a, 'a', 300000);
    assert_null(spare.bytes);
    let_go(&a);
    uint8_t *kept = spare.bytes;
    assert_int_equal(spare.size, 300000);
    feed_message(&b, 'b', 200000);
    assert_ptr_equal(b.buffer, kept);
    feed_message(&a, 'a', 100000); /* meanwhile, a buffer of its own */
    assert_ptr_not_equal(a.buffer, kept);
    assert_int_equal(b.buffer[199999], 'b');
    let_go(&a);
    let_go(&b);
    assert_ptr_equal(spare.bytes, kept);
    assert_int_equal(spare.size, 300000);

    feed_message(&a, 'a', 1 << 20); /* outgrows it; the larger one is kept */
    assert_false(spare.lent);
    assert_int_equal(a.buffer[200000], 'a');
    let_go(&a);
    assert_int_equal(spare.size, 1 << 20);
    feed_message(&a, 'a', (1 << 20) + 70000); /* larger than what is ever kept */
    let_go(&a);
    assert_int_equal(spare.size, 1 << 20);

    feed_header(&a, "02 ff 0000000000010000 00000000"); /* the little that came is worth no loan */
    struct khp_ws_message message;
    assert_int_equal(feed_payload(&a, 'x', 4095, 4095, &message), KHP_WS_EVENT_NONE);
    assert_false(spare.lent);
    assert_true(a.capacity <= (size_t)2 * 4095);
    khp_ws_reader_free(&a);
    assert_int_equal(spare.size, 1 << 20);

    feed_header(&b, "02 ff 0000000000010000 00000000");
    assert_int_equal(feed_payload(&b, 'x', 65535, 65535, &message), KHP_WS_EVENT_NONE);
    assert_true(spare.lent);
    khp_ws_reader_free(&b); /* in the middle of it */
    assert_false(spare.lent);
    assert_null(b.buffer);
    khp_ws_spare_free(&spare);
    assert_null(spare.bytes);
}

static void unmasks_and_checks_long_messages_in_pieces(void **state) {
    (void)state;
    static const uint8_t key[4] = {0xa1, 0xb2, 0xc3, 0xd4};
    static const size_t sizes[] = {1, 2, 3, 7, 31, 64, 1000, 4096, 70000};
    enum { LENGTH = 66000 };
    static uint8_t text[LENGTH];
    for (size_t i = 0; i < LENGTH; i++) { /* characters of two bytes among ASCII */
        text[i] = i % 11 == 3 ? 0xC3 : i % 11 == 4 ? 0xA9 : (uint8_t)('a' + i % 26);
    }
    text[LENGTH - 1] = 'z';
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint8_t frame[KHP_WS_HEADER_MAX + LENGTH];
        struct khp_ws_header header = {.length = LENGTH,
                                       .key = {0xa1, 0xb2, 0xc3, 0xd4},
                                       .opcode = KHP_WS_TEXT,
                                       .fin = true,
                                       .masked = true};
        size_t n = khp_ws_header_encode(frame, &header);
        khp_ws_mask(frame + n, text, LENGTH, key, 0);
        n += LENGTH;
        struct khp_ws_reader reader;
        khp_ws_reader_init(&reader, KHP_WS_SERVER, &generous);
        struct khp_ws_message message;
        enum khp_ws_event event = KHP_WS_EVENT_NONE;
        for (size_t at = 0; at < n; at += sizes[s]) {
            assert_int_equal(event, KHP_WS_EVENT_NONE);
            size_t part = sizes[s] < n - at ? sizes[s] : n - at;
            size_t used;
            event = khp_ws_reader_next(&reader, frame + at, part, &used, &message);
            assert_int_equal(used, part);
        }
        assert_int_equal(event, KHP_WS_EVENT_MESSAGE);
        assert_int_equal(message.length, LENGTH);
        assert_memory_equal(message.payload, text, LENGTH);
        khp_ws_reader_free(&reader);
    }
}

static void closes_with_1011_when_memory_ends(void **state) {
    (void)state;
    static const struct khp_ws_limits limits = {.message = UINT64_C(1) << 40, .fragments = 8};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
#ifndef ADDRESS_SANITIZER
    struct rlimit tight = {.rlim_cur = 256 << 20, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
#endif
    struct khp_ws_reader reader;
    struct khp_ws_message message;
    khp_ws_reader_init(&reader, KHP_WS_SERVER, &limits);
    feed_header(&reader, "82 ff 0000001000000000 00000000"); /* 64 GiB */
    assert_int_equal(feed_payload(&reader, 'x', 1 << 30, 1 << 20, &message), KHP_WS_EVENT_ERROR);
    assert_int_equal(message.code, KHP_WS_INTERNAL_ERROR);
    assert_null(reader.buffer);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    khp_ws_reader_free(&reader);
}

static void may_be_freed_at_any_point(void **state) {
    (void)state;
    struct stream stream = stream_from("01 03 'Hel' 89 04 'ping' 80 02 'lo' 88 04 03e8 'ok'");
    for (size_t n = 0; n <= stream.n; n++) {
        for (size_t size = 1; size <= n; size++) {
            struct stream front = stream;
            front.n = n;
            (void)read_in_pieces(KHP_WS_CLIENT, &generous, 0, &front, size, 0);
        }
    }
    struct khp_ws_reader reader;
    khp_ws_reader_init(&reader, KHP_WS_CLIENT, &generous);
    khp_ws_reader_free(&reader);
    khp_ws_reader_free(&reader);
    assert_true(sizeof reader <= 160); /* there is one in every connection */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_a_server_sends),
        cmocka_unit_test(reads_what_a_client_sends),
        cmocka_unit_test(closes_with_1002_what_the_protocol_forbids),
        cmocka_unit_test(accepts_and_refuses_each_close_code),
        cmocka_unit_test(closes_with_1007_text_that_is_not_utf8),
        cmocka_unit_test(leaves_reserved_bits_to_the_extension),
        cmocka_unit_test(lets_an_extension_make_a_message_a_little_larger),
        cmocka_unit_test(closes_with_1009_what_is_beyond_the_limits),
        cmocka_unit_test(delivers_a_whole_message_where_it_lies),
        cmocka_unit_test(allocates_for_what_came_and_not_for_what_is_announced),
        cmocka_unit_test(keeps_one_buffer_for_large_messages),
        cmocka_unit_test(unmasks_and_checks_long_messages_in_pieces),
        cmocka_unit_test(closes_with_1011_when_memory_ends),
        cmocka_unit_test(may_be_freed_at_any_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

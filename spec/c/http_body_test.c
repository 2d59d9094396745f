/*
 * Bodies: where a message ends, what announcements are refused, chunked framing byte by byte. Each
 * body stands directly before a guard page, and is also given split at every byte: the outcome must
 * be the same each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "http/body.h"

enum { FIELDS = 8, TEXT = 1024 };

static const struct khp_http_limits limits = {
    .head = 256, .line = 128, .fields = FIELDS, .body = 32};

struct read {
    struct khp_http_body body;
    enum khp_http_progress progress;
    char text[TEXT]; /* what was decoded */
    size_t size, used;
};

static void begin(struct read *read, enum khp_http_kind kind, const char *head_bytes) {
    struct khp_http_head head;
    struct khp_http_field fields[FIELDS];
    memset(read, 0, sizeof *read);
    khp_http_head_init(&head, kind, &limits, fields);
    assert_int_equal(khp_http_head_parse(&head, head_bytes, strlen(head_bytes)), KHP_HTTP_DONE);
    assert_int_equal(head.size, strlen(head_bytes));
    read->progress = khp_http_body_init(&read->body, &head, head_bytes);
}

/* Gives all of bytes, or what the body takes of them. */
static void feed(struct read *read, const char *bytes, size_t n) {
    struct guard guard = guard_new(bytes, n);
    const char *at = (const char *)guard.bytes, *end = at + n;
    while (read->progress == KHP_HTTP_MORE && at < end) {
        struct khp_http_slice data;
        size_t used = 0;
        read->progress = khp_http_body_next(&read->body, at, (size_t)(end - at), &used, &data);
        assert_true(used > 0 || read->progress == KHP_HTTP_FAILED);
        assert_true(data.size <= used);
        assert_true(read->size + data.size <= limits.body);
        if (data.size > 0)
            memcpy(read->text + read->size, data.at, data.size);
        read->size += data.size;
        read->used += used;
        at += used;
    }
    guard_free(&guard);
}

static void describe(const struct read *read, size_t n, char *out) {
    if (read->progress == KHP_HTTP_FAILED)
        snprintf(out, TEXT, "%s", khp_http_error_text(read->body.error));
    else if (read->progress == KHP_HTTP_MORE)
        snprintf(out, TEXT, "more after <%.*s>", (int)read->size, read->text);
    else
        snprintf(out, TEXT, "<%.*s> and %u more", (int)read->size, read->text,
                 (unsigned)(n - read->used));
}

static void check(enum khp_http_kind kind, const char *head, const char *bytes,
                  const char *expected) {
    char outcome[TEXT];
    size_t n = strlen(bytes);
    struct read read;
    begin(&read, kind, head);
    feed(&read, bytes, n);
    describe(&read, n, outcome);
    assert_string_equal(outcome, expected);

    for (size_t at = 0; at <= n; at++) {
        begin(&read, kind, head);
        feed(&read, bytes, at);
        if (read.progress != KHP_HTTP_MORE)
            continue;
        feed(&read, bytes + at, n - at);
        describe(&read, n, outcome);
        assert_string_equal(outcome, expected);
    }

    begin(&read, kind, head);
    for (size_t at = 0; at < n && read.progress == KHP_HTTP_MORE; at++)
        feed(&read, bytes + at, 1);
    describe(&read, n, outcome);
    assert_string_equal(outcome, expected);
}

struct example {
    const char *fields, *bytes, *expected;
};

static void check_all(enum khp_http_kind kind, const char *line, const struct example *examples,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        char head[TEXT];
        snprintf(head, sizeof head, "%s%s\r\n", line, examples[i].fields);
        check(kind, head, examples[i].bytes, examples[i].expected);
    }
}

#define CHECK_ALL(kind, line, examples)                                                            \
    check_all(kind, line, examples, sizeof(examples) / sizeof(examples)[0])

#define POST      "POST / HTTP/1.1\r\n"
#define LENGTH(n) "Content-Length: " n "\r\n"
#define CHUNKED   "Transfer-Encoding: chunked\r\n"

static void lengths(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"", "abc", "<> and 3 more"},
        {"Host: h\r\n", "", "<> and 0 more"},
        {LENGTH("0"), "abc", "<> and 3 more"},
        {LENGTH("3"), "abcd", "<abc> and 1 more"},
        {LENGTH("3"), "ab", "more after <ab>"},
        {"content-LENGTH:3\r\n", "abc", "<abc> and 0 more"},
        {LENGTH("003"), "abc", "<abc> and 0 more"},
        {LENGTH("32"), "12345678901234567890123456789012",
         "<12345678901234567890123456789012> and 0 more"},
        {LENGTH("3") LENGTH("3"), "abc", "<abc> and 0 more"},
        {LENGTH("33"), "", "the body is too long"},
        {LENGTH("18446744073709551616"), "", "the body is too long"},
        {LENGTH("99999999999999999999999999"), "", "the body is too long"},
        {LENGTH("3") LENGTH("4"), "abc", "Content-Length is given twice with different values"},
        {LENGTH(""), "", "Content-Length is malformed"},
        {LENGTH("-1"), "", "Content-Length is malformed"},
        {LENGTH("+1"), "", "Content-Length is malformed"},
        {LENGTH("0x1"), "", "Content-Length is malformed"},
        {LENGTH("1 2"), "", "Content-Length is malformed"},
        {LENGTH("1, 1"), "", "Content-Length is malformed"},
        {LENGTH("1\r\n 2"), "", "Content-Length is malformed"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, POST, examples);
}

static void smuggling(void **state) {
    (void)state;
    static const char both[] = "Content-Length and Transfer-Encoding exclude each other";
    static const char form[] = "Transfer-Encoding is malformed";
    static const char coding[] = "the transfer coding is not supported";
    static const struct example examples[] = {
        {LENGTH("3") CHUNKED, "", both},
        {CHUNKED LENGTH("3"), "", both},
        {CHUNKED CHUNKED, "", form},
        {"Transfer-Encoding: chunked, chunked\r\n", "", form},
        {"Transfer-Encoding: \r\n", "", form},
        {"Transfer-Encoding: ,\r\n", "", form},
        {"Transfer-Encoding: chunked\r\n \r\n\tchunked\r\n", "", form},
        {"Transfer-Encoding: \"chunked\"\r\n", "", form},
        {"Transfer-Encoding: chunked;q=1\r\n", "", form},
        {"Transfer-Encoding: xchunked\r\n", "", coding},
        {"Transfer-Encoding: identity\r\n", "", coding},
        {"Transfer-Encoding: gzip, chunked\r\n", "", coding},
        {"Transfer-Encoding: chunked, gzip\r\n", "", coding},
        {"Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n", "<> and 0 more"},
        {"transfer-encoding:, chunked ,\r\n", "0\r\n\r\n", "<> and 0 more"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, POST, examples);
    static const struct example old[] = {
        {CHUNKED, "0\r\n\r\n", "Transfer-Encoding needs HTTP/1.1"},
        {LENGTH("1"), "a", "<a> and 0 more"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, "POST / HTTP/1.0\r\n", old);
}

static void responses(void **state) {
    (void)state;
    static const struct example with[] = {
        {LENGTH("2"), "abc", "<ab> and 1 more"},
        {CHUNKED, "1\r\na\r\n0\r\n\r\nx", "<a> and 1 more"},
        {"", "abc", "<> and 3 more"},
    };
    static const struct example without[] = {
        {LENGTH("2"), "abc", "<> and 3 more"},
        {LENGTH("2000"), "abc", "<> and 3 more"},
        {CHUNKED, "1\r\na\r\n0\r\n\r\n", "<> and 11 more"},
        {LENGTH("x"), "abc", "Content-Length is malformed"},
    };
    CHECK_ALL(KHP_HTTP_RESPONSE, "HTTP/1.1 200 OK\r\n", with);
    CHECK_ALL(KHP_HTTP_RESPONSE, "HTTP/1.1 401 Unauthorized\r\n", with);
    CHECK_ALL(KHP_HTTP_RESPONSE, "HTTP/1.1 101 Switching Protocols\r\n", without);
    CHECK_ALL(KHP_HTTP_RESPONSE, "HTTP/1.1 100 Continue\r\n", without);
    CHECK_ALL(KHP_HTTP_RESPONSE, "HTTP/1.1 204 No Content\r\n", without);
    CHECK_ALL(KHP_HTTP_RESPONSE, "HTTP/1.1 304 Not Modified\r\n", without);
}

static void chunks(void **state) {
    (void)state;
    static const char size[] = "a chunk size is malformed";
    static const char extension[] = "a chunk extension is malformed";
    static const char end[] = "a chunk does not end with a line end";
    static const char trailer[] = "a trailer is malformed";
    static const struct example examples[] = {
        {CHUNKED, "0\r\n\r\nrest", "<> and 4 more"},
        {CHUNKED, "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", "<abcd> and 0 more"},
        {CHUNKED, "a\r\n0123456789\r\n0A\r\n0123456789\r\n00\r\n\r\n",
         "<01234567890123456789> and 0 more"},
        {CHUNKED, "2\r\n\r\n\r\n0\r\n\r\n", "<\r\n> and 0 more"},
        {CHUNKED, "1;a;b=c;d=\"e;\\\"\\\\\"\r\nx\r\n0;f\r\n\r\n", "<x> and 0 more"},
        {CHUNKED, "1 ; a\r\nx\r\n0 \t\r\n\r\n", "<x> and 0 more"},
        {CHUNKED, "1\r\nx\r\n0\r\nA: b\r\nB:\r\n\r\nrest", "<x> and 4 more"},
        {CHUNKED, "1\r\nx\r\n0\r\nA: b\r\n", "more after <x>"},
        {CHUNKED, "1\r\nx", "more after <x>"},
        {CHUNKED, "", "more after <>"},
        {CHUNKED, "\r\n", size},
        {CHUNKED, ";a\r\n", size},
        {CHUNKED, " 1\r\n", size},
        {CHUNKED, "g\r\n", size},
        {CHUNKED, "-1\r\n", size},
        {CHUNKED, "0x1\r\n", size},
        {CHUNKED, "1 2\r\n", size},
        {CHUNKED, "1\nx\r\n", size},
        {CHUNKED, "1\rx", size},
        {CHUNKED, "1;a\nx\r\n", extension},
        {CHUNKED, "1;a\x01", extension},
        {CHUNKED, "1;a=\"\r\n", extension},
        {CHUNKED, "1;a=\"\\\r\n", extension},
        {CHUNKED, "1;a=\"\\\"\r\n", extension},
        {CHUNKED, "1\r\nxy", end},
        {CHUNKED, "1\r\nx\n", end},
        {CHUNKED, "1\r\nx\rx", end},
        {CHUNKED, "0\r\n:\r\n", trailer},
        {CHUNKED, "0\r\n A: b\r\n", trailer},
        {CHUNKED, "0\r\nA\r\n", trailer},
        {CHUNKED, "0\r\nA : b\r\n", trailer},
        {CHUNKED, "0\r\nA: \x01", trailer},
        {CHUNKED, "0\r\nA: b\n\r\n", trailer},
        {CHUNKED, "0\r\nA: b\rx", trailer},
        {CHUNKED, "0\r\n\n", trailer},
        {CHUNKED, "0\r\n\rx", trailer},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, POST, examples);
}

static void chunk_limits(void **state) {
    (void)state;
    static const struct example examples[] = {
        {CHUNKED, "20\r\n12345678901234567890123456789012\r\n0\r\n\r\n",
         "<12345678901234567890123456789012> and 0 more"},
        {CHUNKED, "21\r\n", "the body is too long"},
        {CHUNKED, "1f\r\n1234567890123456789012345678901\r\n1\r\nx\r\n0\r\n\r\n",
         "<1234567890123456789012345678901x> and 0 more"},
        {CHUNKED, "1f\r\n1234567890123456789012345678901\r\n2\r\n", "the body is too long"},
        {CHUNKED, "FFFFFFFFFFFFFFFF\r\n", "the body is too long"},
        {CHUNKED, "10000000000000000\r\n", "the body is too long"},
        {CHUNKED, "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF\r\n", "the body is too long"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, POST, examples);

    /* Extensions, trailers and leading zeros share one allowance, to the byte. */
    static const struct {
        const char *before;
        char filler;
        const char *after, *outcome;
        size_t own; /* bytes of `before` and `after` that count */
    } fillers[] = {
        {"0;", 'x', "\r\n\r\n", "<> and 0 more", 1},
        {"0;\"", 'x', "\"\r\n\r\n", "<> and 0 more", 3},
        {"0", '0', "\r\n\r\n", "<> and 0 more", 0},
        {"0\r\nA:", 'x', "\r\n\r\n", "<> and 0 more", 2},
        {"0\r\n", 'x', ":\r\n\r\n", "<> and 0 more", 1},
        {"1;xx\r\na\r\n0;x\r\nA:", 'x', "\r\n\r\n", "<a> and 0 more", 7},
    };
    for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++) {
        for (size_t more = 0; more < 2; more++) {
            char bytes[TEXT], filler[TEXT];
            size_t n = limits.head + more - fillers[i].own;
            memset(filler, fillers[i].filler, n);
            snprintf(bytes, sizeof bytes, "%s%.*s%s", fillers[i].before, (int)n, filler,
                     fillers[i].after);
            check(KHP_HTTP_REQUEST, POST CHUNKED "\r\n", bytes,
                  more == 0 ? fillers[i].outcome
                            : "the chunk extensions and trailers are too long");
        }
    }
}

#define TEST(title, function)                                                                      \
    { title, function, NULL, NULL, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST("reads bodies by Content-Length or none [H4 H10]", lengths),
        TEST("refuses what two readers could read differently [H4]", smuggling),
        TEST("knows the responses without body [H4]", responses),
        TEST("reads chunks, extensions and trailers [H4 H10]", chunks),
        TEST("holds the limits of chunked bodies to the byte [H4 H11]", chunk_limits),
    };
    return cmocka_run_group_tests_name("http body", tests, NULL, NULL);
}

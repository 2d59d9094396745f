/*
 * Heads of requests and responses: what is understood, what is refused, where the limits are. Each
 * input stands directly before a guard page, and is also given in two parts, split at every byte,
 * and byte by byte, moving in memory as it grows: the outcome must be the same each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "http/head.h"

enum { FIELDS = 8, TEXT = 4096 };

static const struct khp_http_limits usual = {
    .head = 2048, .line = 1024, .fields = FIELDS, .body = 1024};
static const struct khp_http_limits strict = {
    .head = 2048, .line = 1024, .fields = FIELDS, .body = 1024, .strict = true};

struct parse {
    struct khp_http_head head;
    struct khp_http_field *fields; /* heap: a sanitizer sees one too many */
    enum khp_http_progress progress;
};

static void begin(struct parse *parse, enum khp_http_kind kind,
                  const struct khp_http_limits *limits) {
    parse->fields = malloc(limits->fields * sizeof *parse->fields);
    assert_non_null(parse->fields);
    khp_http_head_init(&parse->head, kind, limits, parse->fields);
}

static void feed(struct parse *parse, const char *bytes, size_t n) {
    struct guard guard = guard_new(bytes, n);
    parse->progress = khp_http_head_parse(&parse->head, (const char *)guard.bytes, n);
    guard_free(&guard);
}

static void put(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(char *out, const char *format, ...) {
    size_t size = strlen(out);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out + size, TEXT - size, format, arguments);
    va_end(arguments);
}

static void put_range(char *out, const char *bytes, struct khp_http_range range) {
    put(out, "<%.*s>", (int)range.size, bytes + range.at);
}

/* The outcome in words, for comparison. */
static void describe(const struct parse *parse, const char *bytes, char *out) {
    const struct khp_http_head *head = &parse->head;
    *out = '\0';
    if (parse->progress == KHP_HTTP_MORE) {
        put(out, "more");
        return;
    }
    if (parse->progress == KHP_HTTP_FAILED) {
        put(out, "%s", khp_http_error_text(head->error));
        return;
    }
    if (head->kind == KHP_HTTP_REQUEST) {
        static const char *const forms[] = {"origin", "absolute", "authority", "asterisk"};
        put_range(out, bytes, head->method);
        put_range(out, bytes, head->target);
        put_range(out, bytes, head->path);
        if (head->has_query)
            put_range(out, bytes, head->query);
        put(out, " %s", forms[head->form]);
    } else {
        put(out, "%d ", head->status);
        put_range(out, bytes, head->reason);
    }
    put(out, " %u.%u", head->major, head->minor);
    for (uint32_t i = 0; i < head->field_count; i++) {
        char value[TEXT];
        size_t size =
            khp_http_unfold(value, bytes + head->fields[i].value.at, head->fields[i].value.size);
        put(out, " ");
        put_range(out, bytes, head->fields[i].name);
        put(out, "<%.*s>", (int)size, value);
        if (!head->fields[i].folded)
            assert_int_equal(size, head->fields[i].value.size);
    }
}

static void check(enum khp_http_kind kind, const struct khp_http_limits *limits, const char *bytes,
                  size_t n, const char *expected) {
    char whole[TEXT], split[TEXT];
    struct parse parse;
    begin(&parse, kind, limits);
    feed(&parse, bytes, n);
    describe(&parse, bytes, whole);
    free(parse.fields);
    if (expected != NULL)
        assert_string_equal(whole, expected);

    for (size_t at = 0; at < n; at++) {
        begin(&parse, kind, limits);
        feed(&parse, bytes, at);
        feed(&parse, bytes, n);
        describe(&parse, bytes, split);
        free(parse.fields);
        assert_string_equal(split, whole);
    }

    begin(&parse, kind, limits);
    size_t done = 0;
    for (size_t size = 1; size <= n; size++) {
        feed(&parse, bytes, size);
        if (parse.progress == KHP_HTTP_DONE && done == 0)
            done = size;
    }
    assert_int_equal(parse.head.size, done);
    describe(&parse, bytes, split);
    free(parse.fields);
    assert_string_equal(split, whole);
}

struct example {
    const char *bytes, *expected;
};

static void check_all(enum khp_http_kind kind, const struct khp_http_limits *limits,
                      const struct example *examples, size_t count) {
    for (size_t i = 0; i < count; i++)
        check(kind, limits, examples[i].bytes, strlen(examples[i].bytes), examples[i].expected);
}

#define CHECK_ALL(kind, limits, examples)                                                          \
    check_all(kind, limits, examples, sizeof(examples) / sizeof(examples)[0])

static void request_lines(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"GET / HTTP/1.1\r\n\r\n", "<GET></></> origin 1.1"},
        {"GET /a/b?c=d&e HTTP/1.1\r\n\r\nrest", "<GET></a/b?c=d&e></a/b><c=d&e> origin 1.1"},
        {"GET /? HTTP/1.1\r\n\r\n", "<GET></?></><> origin 1.1"},
        {"M!#$%&'*+-.^_`|~9z / HTTP/1.1\r\n\r\n", "<M!#$%&'*+-.^_`|~9z></></> origin 1.1"},
        {"OPTIONS * HTTP/1.1\r\n\r\n", "<OPTIONS><*><*> asterisk 1.1"},
        {"GET http://h:80/p?q HTTP/1.1\r\n\r\n", "<GET><http://h:80/p?q></p><q> absolute 1.1"},
        {"GET ws://h HTTP/1.1\r\n\r\n", "<GET><ws://h><> absolute 1.1"},
        {"GET ws://h?q HTTP/1.1\r\n\r\n", "<GET><ws://h?q><><q> absolute 1.1"},
        {"CONNECT h:443 HTTP/1.1\r\n\r\n", "<CONNECT><h:443><> authority 1.1"},
        {"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", "<GET></\xc3\xa4></\xc3\xa4> origin 1.1"},
        {"GET / HTTP/1.0\r\n\r\n", "<GET></></> origin 1.0"},
        {"GET / HTTP/1.10\r\n\r\n", "<GET></></> origin 1.10"},
        {"GET / HTTP/01.001\r\n\r\n", "<GET></></> origin 1.1"},
        {"GET / HTTP/2.0\r\n\r\n", "the HTTP version is not supported"},
        {"GET / HTTP/0.9\r\n\r\n", "the HTTP version is not supported"},
        {"GET / HTTP/11.1\r\n\r\n", "the HTTP version is not supported"},
        {"GET / HTTP/1\r\n\r\n", "the HTTP version is malformed"},
        {"GET / HTTP/1.\r\n\r\n", "the HTTP version is malformed"},
        {"GET / HTTP/.1\r\n\r\n", "the HTTP version is malformed"},
        {"GET / HTTP/1.1 \r\n\r\n", "the HTTP version is malformed"},
        {"GET / HTTP/1.1111111111\r\n\r\n", "the HTTP version is malformed"},
        {"GET / http/1.1\r\n\r\n", "the HTTP version is malformed"},
        {"GET / HTCPCP/1.0\r\n\r\n", "the HTTP version is malformed"},
        {"GET /\r\n\r\n", "the HTTP version is malformed"},
        {"GET /  HTTP/1.1\r\n\r\n", "the HTTP version is malformed"},
        {"GET  / HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET ?a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET *a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET /a#b HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET /a\tb HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET http:///a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET http:// HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET http:/a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET 1x://a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET h_p://a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET h:80 HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"CONNECT /a HTTP/1.1\r\n\r\n", "the request target is malformed"},
        {"GET\r\n\r\n", "the request does not begin with a method"},
        {" GET / HTTP/1.1\r\n\r\n", "the request does not begin with a method"},
        {"G(T / HTTP/1.1\r\n\r\n", "the request does not begin with a method"},
        {"GET\t/ HTTP/1.1\r\n\r\n", "the request does not begin with a method"},
        {"\x16\x03\x01", "the request does not begin with a method"},
        {"GET /\x01 HTTP/1.1\r\n\r\n", "a line contains a control character"},
        {"GET /\x7f HTTP/1.1\r\n\r\n", "a line contains a control character"},
        {"GET / HTTP/1.1\rX", "a carriage return is not followed by a line feed"},
        {"", "more"},
        {"GET / HTTP/1.1", "more"},
        {"GET / HTTP/1.1\r", "more"},
        {"GET / HTTP/1.1\r\n\r", "more"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, &usual, examples);
}

static void status_lines(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"HTTP/1.1 101 Web Socket Protocol Handshake\r\n\r\n",
         "101 <Web Socket Protocol Handshake> 1.1"},
        {"HTTP/1.1 200 \r\n\r\n", "200 <> 1.1"},
        {"HTTP/1.1 200\r\n\r\n", "200 <> 1.1"},
        {"HTTP/1.0 404 Nicht gefunden: \xc3\xa4\t1\r\n\r\n",
         "404 <Nicht gefunden: \xc3\xa4\t1> 1.0"},
        {"HTTP/1.1 999 x\r\n\r\n", "999 <x> 1.1"},
        {"HTTP/1.1 099 x\r\n\r\n", "the status code is malformed"},
        {"HTTP/1.1 20 x\r\n\r\n", "the status code is malformed"},
        {"HTTP/1.1 2000\r\n\r\n", "the status code is malformed"},
        {"HTTP/1.1 2x0 x\r\n\r\n", "the status code is malformed"},
        {"HTTP/1.1  200 x\r\n\r\n", "the status code is malformed"},
        {"HTTP/1.1\r\n\r\n", "the status code is malformed"},
        {"HTTP/3.1 200 x\r\n\r\n", "the HTTP version is not supported"},
        {"HTTP/1 200 x\r\n\r\n", "the HTTP version is malformed"},
        {"HTTP/\r\n\r\n", "the HTTP version is malformed"},
        {"Hello", "the response does not begin with an HTTP version"},
        {"HTTQ/1.1 200 x\r\n", "the response does not begin with an HTTP version"},
        {"HTTP", "more"},
        {"HTTP/1.1 200 a\x02"
         "b\r\n\r\n",
         "a line contains a control character"},
    };
    CHECK_ALL(KHP_HTTP_RESPONSE, &usual, examples);
}

#define R      "GET / HTTP/1.1\r\n"
#define RESULT "<GET></></> origin 1.1"

static void fields(void **state) {
    (void)state;
    static const struct example examples[] = {
        {R "Host: a\r\nhOST:b\r\n\r\n", RESULT " <Host><a> <hOST><b>"},
        {R "A:\r\nB: \t \r\n\r\n", RESULT " <A><> <B><>"},
        {R "A: \t x \t y \t \r\n\r\n", RESULT " <A><x \t y>"},
        {R "A: \"q\\\"\" (comment (in it)); b=c\x80\xff\r\n\r\n",
         RESULT " <A><\"q\\\"\" (comment (in it)); b=c\x80\xff>"},
        {R "A: :b:\r\n\r\n", RESULT " <A><:b:>"},
        {R "A: 12345678\t12345678\t\r\n\r\n", RESULT " <A><12345678\t12345678>"},
        /* RFC 2616 2.2: folded lines */
        {R "A: b\r\n c\r\nD: e\r\n\r\n", RESULT " <A><b c> <D><e>"},
        {R "A: b \r\n \t c \r\n\td\r\n\r\n", RESULT " <A><b c d>"},
        {R "A:\r\n b\r\n\r\n", RESULT " <A><b>"},
        {R "A: b\r\n \r\n\r\n", RESULT " <A><b>"},
        {R "A: b\r\n \r\n c\r\n\r\n", RESULT " <A><b c>"},
        {R "A: b\n c\n\n", RESULT " <A><b c>"},
        {R " A: b\r\n\r\n", "the first header line begins with a blank"},
        {R "A: b\r\n", "more"},
        /* RFC 7230 3.2.4 */
        {R "A : b\r\n\r\n", "there is a blank between a header name and its colon"},
        {R "A\t: b\r\n\r\n", "there is a blank between a header name and its colon"},
        {R ": b\r\n\r\n", "a header name is malformed"},
        {R "A\r\n\r\n", "a header name is malformed"},
        {R "A(: b\r\n\r\n", "a header name is malformed"},
        {R "A\x80: b\r\n\r\n", "a header name is malformed"},
        {R "A: b\x01\r\n\r\n", "a line contains a control character"},
        {R "A: 1234567\x1f"
           "12345678\r\n\r\n",
         "a line contains a control character"},
        {R "A: 12345678\x7f\r\n\r\n", "a line contains a control character"},
        {R "A: b\rc\r\n\r\n", "a carriage return is not followed by a line feed"},
        {R "A: b\r\n\rX", "a carriage return is not followed by a line feed"},
        {R "\rX", "a carriage return is not followed by a line feed"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, &usual, examples);
    static const char nul[] = R "A: b\0c\r\n\r\n";
    check(KHP_HTTP_REQUEST, &usual, nul, sizeof nul - 1, "a line contains a control character");
}

static void line_ends(void **state) {
    (void)state;
    static const struct example tolerant[] = {
        {"\r\n\r\nGET / HTTP/1.1\r\n\r\n", RESULT ""},
        {"\n\r\n\nGET / HTTP/1.1\nA: b\n\n", RESULT " <A><b>"},
        {"GET / HTTP/1.1\nA: b\r\n\n", RESULT " <A><b>"},
        {"\r\n\r", "more"},
        {"\r\n\rG", "a carriage return is not followed by a line feed"},
        {"\r\n GET / HTTP/1.1\r\n\r\n", "the request does not begin with a method"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, &usual, tolerant);
    static const char bare[] = "a line feed is not preceded by a carriage return";
    static const struct example refusing[] = {
        {"\r\nGET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", RESULT " <A><b c>"},
        {"\nGET / HTTP/1.1\r\n\r\n", bare},
        {"GET / HTTP/1.1\n\r\n", bare},
        {"GET / HTTP/1.1\r\nA: b\n\r\n", bare},
        {"GET / HTTP/1.1\r\nA: b\r\n\n", bare},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, &strict, refusing);
}

static void limits(void **state) {
    (void)state;
    static const struct khp_http_limits small = {.head = 64, .line = 32, .fields = 2, .body = 1};
    static const struct example examples[] = {
        /* 32 bytes of line, then 33 */
        {"GET /234567890123456789 HTTP/1.1\r\n\r\n", "the first line is too long"},
        {"GET /2345678901234567 HTTP/1.1\r\n\r\n",
         "<GET></2345678901234567></2345678901234567> origin 1.1"},
        {"GET /23456789012345678 HTTP/1.1\r\n\r\n", "the first line is too long"},
        {"GET /2345678901234567890123456789012345", "the first line is too long"},
        {R "A: 45678901234567890123456789\r\n\r\n", RESULT " <A><45678901234567890123456789>"},
        {R "A: 456789012345678901234567890\r\n\r\n", RESULT " <A><456789012345678901234567890>"},
        {R "A: 4567890123456789012345678901\r\n\r\n", "a header line is too long"},
        {R "A234567890123456789012345678901234567890", "a header line is too long"},
        {R "A: b\r\n 234567890123456789012345678901234567890", "a header line is too long"},
        {"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"
         "\r\n\r\n"
         "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
         "the head is too long"},
        {R "A: 1\r\nB: 2\r\n\r\n", RESULT " <A><1> <B><2>"},
        {R "A: 1\r\nB: 2\r\n 3\r\n\r\n", RESULT " <A><1> <B><2 3>"},
        {R "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", "there are too many headers"},
        {R "A: 1\r\nB: 2\r\nC", "there are too many headers"},
    };
    CHECK_ALL(KHP_HTTP_REQUEST, &small, examples);
    /* One value after the other, so that the head passes every length around the limit. */
    for (size_t size = 58; size <= 70; size++) {
        static const char start[] = R "A: 456789012345678901234\r\nB:";
        char bytes[128];
        snprintf(bytes, sizeof bytes, "%s%0*d\r\n\r\n", start, (int)(size - sizeof start - 3), 0);
        assert_int_equal(strlen(bytes), size);
        check(KHP_HTTP_REQUEST, &small, bytes, size, size <= 64 ? NULL : "the head is too long");
        struct parse parse;
        begin(&parse, KHP_HTTP_REQUEST, &small);
        feed(&parse, bytes, size);
        assert_int_equal(parse.progress, size <= 64 ? KHP_HTTP_DONE : KHP_HTTP_FAILED);
        free(parse.fields);
    }
    static const struct khp_http_limits none = {.head = 64, .line = 64, .fields = 0, .body = 1};
    check(KHP_HTTP_REQUEST, &none, R "\r\n", 18, RESULT "");
    check(KHP_HTTP_REQUEST, &none, R "A: 1\r\n\r\n", 24, "there are too many headers");
}

/* The scanner looks at eight bytes at a time: every control character at every place among them. */
static void controls_everywhere(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        for (size_t at = 0; at < 20; at++) {
            char bytes[64] = R "A: 0123456789012345678901\r\n\r\n";
            size_t n = strlen(bytes);
            bytes[20 + at] = (char)c;
            bool control = (c < 0x20 && c != '\t') || c == 0x7f;
            struct parse parse;
            begin(&parse, KHP_HTTP_REQUEST, &usual);
            feed(&parse, bytes, n);
            enum khp_http_error error = parse.head.error;
            enum khp_http_progress progress = parse.progress;
            free(parse.fields);
            if (c == '\n') {
                assert_int_equal(error, KHP_HTTP_E_NAME); /* what follows is no header */
            } else if (c == '\r') {
                assert_int_equal(error, KHP_HTTP_E_BARE_CR);
            } else {
                assert_int_equal(progress, control ? KHP_HTTP_FAILED : KHP_HTTP_DONE);
                assert_int_equal(error, control ? KHP_HTTP_E_CONTROL : KHP_HTTP_E_NONE);
            }
        }
    }
}

static void outcome_stays(void **state) {
    (void)state;
    struct parse parse;
    begin(&parse, KHP_HTTP_REQUEST, &usual);
    feed(&parse, R "\r\n", 18);
    assert_int_equal(parse.progress, KHP_HTTP_DONE);
    feed(&parse, R "\r\nA: b\r\n", 24);
    assert_int_equal(parse.progress, KHP_HTTP_DONE);
    assert_int_equal(parse.head.size, 18);
    assert_int_equal(parse.head.field_count, 0);
    free(parse.fields);

    begin(&parse, KHP_HTTP_REQUEST, &usual);
    feed(&parse, "(", 1);
    assert_int_equal(parse.progress, KHP_HTTP_FAILED);
    feed(&parse, R "\r\n", 18);
    assert_int_equal(parse.progress, KHP_HTTP_FAILED);
    assert_int_equal(parse.head.error, KHP_HTTP_E_METHOD);
    free(parse.fields);
}

static void statuses_of_errors(void **state) {
    (void)state;
    for (int error = KHP_HTTP_E_METHOD; error <= KHP_HTTP_E_BODY; error++) {
        int status = khp_http_error_status((enum khp_http_error)error);
        assert_true(strlen(khp_http_error_text((enum khp_http_error)error)) > 10);
        assert_true(status >= 400 && status <= 505);
    }
    assert_int_equal(khp_http_error_status(KHP_HTTP_E_NAME), 400);
    assert_int_equal(khp_http_error_status(KHP_HTTP_E_BODY_LIMIT), 413);
    assert_int_equal(khp_http_error_status(KHP_HTTP_E_START_LINE_LIMIT), 414);
    assert_int_equal(khp_http_error_status(KHP_HTTP_E_FIELDS_LIMIT), 431);
    assert_int_equal(khp_http_error_status(KHP_HTTP_E_CODING), 501);
    assert_int_equal(khp_http_error_status(KHP_HTTP_E_VERSION), 505);
    assert_true(khp_http_error_is_limit(KHP_HTTP_E_HEAD_LIMIT));
    assert_true(khp_http_error_is_limit(KHP_HTTP_E_CHUNK_LIMIT));
    assert_false(khp_http_error_is_limit(KHP_HTTP_E_TRAILER));
    assert_false(khp_http_error_is_limit(KHP_HTTP_E_VALUE));
}

#define TEST(title, function)                                                                      \
    { title, function, NULL, NULL, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST("reads request lines [H1 H6 H10]", request_lines),
        TEST("reads status lines [H1 H6 H10]", status_lines),
        TEST("reads fields and folded lines [H2 H3 H10]", fields),
        TEST("skips empty lines and tolerates a bare LF unless strict [H5]", line_ends),
        TEST("holds each limit to the byte, wherever the splits fall [H11 H10]", limits),
        TEST("finds a control character at every place [H3]", controls_everywhere),
        TEST("says the same again after the end [H10]", outcome_stays),
        TEST("has a status for each error [H11]", statuses_of_errors),
    };
    return cmocka_run_group_tests_name("http head", tests, NULL, NULL);
}

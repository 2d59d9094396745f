/*
 * The writer: what it writes, that nothing can be smuggled into a line through it, and that it
 * never writes more than there is room for. The parser must read back what it wrote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "http/head.h"
#include "http/status.h"
#include "http/writer.h"

enum { TEXT = 1024 };

static struct khp_http_slice slice(const char *text) {
    return (struct khp_http_slice){text, strlen(text)};
}

static void request(struct khp_http_writer *writer) {
    khp_http_write_request_line(writer, slice("GET"), slice("/a?b=\xc3\xa4"), slice("1.1"));
    khp_http_write_end(writer, slice(""));
}

static void reply(struct khp_http_writer *writer) {
    khp_http_write_status_line(writer, slice("1.1"), 401, slice("Unauthorized"));
    khp_http_write_field(writer, slice("A"), slice(" \tx \t"));
    khp_http_write_field(writer, slice("Empty"), slice(""));
    khp_http_write_length(writer, 4);
    khp_http_write_end(writer, slice("b\r\n\r"));
}

static const char reply_bytes[] =
    "HTTP/1.1 401 Unauthorized\r\nA: x\r\nEmpty: \r\nContent-Length: 4\r\n\r\nb\r\n\r";

static void writes(void **state) {
    (void)state;
    char out[TEXT];
    struct khp_http_writer writer = {.bytes = out, .capacity = sizeof out};
    reply(&writer);
    assert_int_equal(writer.error, KHP_HTTP_E_NONE);
    assert_int_equal(writer.size, sizeof reply_bytes - 1);
    assert_memory_equal(out, reply_bytes, writer.size);

    writer = (struct khp_http_writer){.bytes = out, .capacity = sizeof out};
    khp_http_write_status_line(&writer, slice("1.0"), 200, slice(""));
    khp_http_write_length(&writer, SIZE_MAX);
    khp_http_write_end(&writer, slice(""));
    out[writer.size] = '\0';
    char expected[TEXT];
    snprintf(expected, sizeof expected, "HTTP/1.0 200 \r\nContent-Length: %zu\r\n\r\n", SIZE_MAX);
    assert_string_equal(out, expected);

    /* A target goes out in characters that a URI has. */
    writer = (struct khp_http_writer){.bytes = out, .capacity = sizeof out};
    request(&writer);
    assert_int_equal(writer.error, KHP_HTTP_E_TARGET);
    assert_int_equal(writer.size, 0);
}

/* With any amount of room: the size is the same, and nothing is written beyond. */
static void keeps_to_its_room(void **state) {
    (void)state;
    for (size_t room = 0; room < sizeof reply_bytes; room++) {
        struct guard guard = guard_new(NULL, room);
        struct khp_http_writer writer = {.bytes = (char *)guard.bytes, .capacity = room};
        reply(&writer);
        assert_int_equal(writer.error, KHP_HTTP_E_NONE);
        assert_int_equal(writer.size, sizeof reply_bytes - 1);
        if (room >= writer.size)
            assert_memory_equal(guard.bytes, reply_bytes, writer.size);
        guard_free(&guard);
    }
}

static enum khp_http_error field_error(const char *name, size_t name_size, const char *value,
                                       size_t value_size) {
    char out[TEXT];
    struct khp_http_writer writer = {.bytes = out, .capacity = sizeof out};
    khp_http_write_field(&writer, (struct khp_http_slice){name, name_size},
                         (struct khp_http_slice){value, value_size});
    assert_int_equal(writer.size == 0, writer.error != KHP_HTTP_E_NONE);
    return writer.error;
}

static void refuses_in_fields(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        bool control = (c < 0x20 && c != '\t') || c == 0x7f;
        assert_int_equal(field_error("A", 1, text, 3),
                         control ? KHP_HTTP_E_VALUE : KHP_HTTP_E_NONE);
        bool token = khp_http_is((char)c, KHP_HTTP_TOKEN);
        assert_int_equal(field_error(text, 3, "x", 1), token ? KHP_HTTP_E_NONE : KHP_HTTP_E_NAME);
        struct khp_http_writer writer = {0};
        khp_http_write_status_line(&writer, slice("1.1"), 200, (struct khp_http_slice){text, 3});
        assert_int_equal(writer.error, control ? KHP_HTTP_E_REASON : KHP_HTTP_E_NONE);
        writer = (struct khp_http_writer){0};
        khp_http_write_request_line(&writer, (struct khp_http_slice){text, 3}, slice("/"),
                                    slice("1.1"));
        assert_int_equal(writer.error, token ? KHP_HTTP_E_NONE : KHP_HTTP_E_METHOD);
        writer = (struct khp_http_writer){0};
        khp_http_write_request_line(&writer, slice("GET"), (struct khp_http_slice){text, 3},
                                    slice("1.1"));
        bool target = khp_http_is((char)c, KHP_HTTP_VISIBLE) && c != '#';
        assert_int_equal(writer.error, target ? KHP_HTTP_E_NONE : KHP_HTTP_E_TARGET);
    }
    assert_int_equal(field_error("", 0, "x", 1), KHP_HTTP_E_NAME);
    assert_int_equal(field_error("A", 1, "x\r\nB: y", 7), KHP_HTTP_E_VALUE);
}

static void refuses_in_start_lines(void **state) {
    (void)state;
    static const struct {
        const char *method, *target, *version;
        enum khp_http_error error;
    } examples[] = {
        {"", "/", "1.1", KHP_HTTP_E_METHOD},
        {"GET ", "/", "1.1", KHP_HTTP_E_METHOD},
        {"GET", "", "1.1", KHP_HTTP_E_TARGET},
        {"GET", "/ HTTP/1.1\r\n", "1.1", KHP_HTTP_E_TARGET},
        {"GET", "/", "2.0", KHP_HTTP_E_VERSION},
        {"GET", "/", "1.1\r\n", KHP_HTTP_E_VERSION},
        {"GET", "/", "", KHP_HTTP_E_VERSION},
        {"GET", "/", "1.x", KHP_HTTP_E_VERSION},
        {"GET", "*", "1.0", KHP_HTTP_E_NONE},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        struct khp_http_writer writer = {0};
        khp_http_write_request_line(&writer, slice(examples[i].method), slice(examples[i].target),
                                    slice(examples[i].version));
        assert_int_equal(writer.error, examples[i].error);
    }
    static const int statuses[] = {0, -1, 99, 1000, 100000};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct khp_http_writer writer = {0};
        khp_http_write_status_line(&writer, slice("1.1"), statuses[i], slice(""));
        assert_int_equal(writer.error, KHP_HTTP_E_STATUS);
        khp_http_write_end(&writer, slice("x"));
        assert_int_equal(writer.error, KHP_HTTP_E_STATUS); /* the first one stays */
        assert_int_equal(writer.size, 0);
    }
}

static void is_read_back(void **state) {
    (void)state;
    static const struct khp_http_limits limits = KHP_HTTP_LIMITS_DEFAULT;
    struct khp_http_head head;
    struct khp_http_field fields[100];
    khp_http_head_init(&head, KHP_HTTP_RESPONSE, &limits, fields);
    assert_int_equal(khp_http_head_parse(&head, reply_bytes, sizeof reply_bytes - 1),
                     KHP_HTTP_DONE);
    assert_int_equal(head.status, 401);
    assert_int_equal(head.field_count, 3);
    assert_int_equal(head.size, sizeof reply_bytes - 1 - 4);
}

static void reasons(void **state) {
    (void)state;
    assert_string_equal(khp_http_reason(101), "Switching Protocols");
    assert_string_equal(khp_http_reason(401), "Unauthorized");
    assert_string_equal(khp_http_reason(426), "Upgrade Required");
    assert_string_equal(khp_http_reason(505), "HTTP Version Not Supported");
    assert_string_equal(khp_http_reason(299), "");
    assert_string_equal(khp_http_reason(-1), "");
}

#define TEST(title, function)                                                                      \
    { title, function, NULL, NULL, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST("writes messages [H1 H2]", writes),
        TEST("keeps to its room and tells how much it takes [H11]", keeps_to_its_room),
        TEST("lets no control out through any part of a line [H3]", refuses_in_fields),
        TEST("refuses start lines that would read differently [H1 H3 H6]", refuses_in_start_lines),
        TEST("is read back by the parser [H1 H2]", is_read_back),
        TEST("knows the standard phrases [H1]", reasons),
    };
    return cmocka_run_group_tests_name("http writer", tests, NULL, NULL);
}

/*
 * The frame header, the mask and the close codes: the examples of RFC 6455 5.7, every boundary of
 * the length, every alignment of the mask.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "guard.h"
#include "ws/frame.h"

static void decodes_the_examples_of_the_rfc(void **state) {
    (void)state;
    static const uint8_t masked_hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d,
                                           0x7f, 0x9f, 0x4d, 0x51, 0x58};
    struct khp_ws_header header;
    assert_int_equal(khp_ws_header_decode(masked_hello, sizeof masked_hello, &header), 6);
    assert_true(header.fin);
    assert_true(header.masked);
    assert_int_equal(header.rsv, 0);
    assert_int_equal(header.opcode, KHP_WS_TEXT);
    assert_int_equal(header.length, 5);
    uint8_t text[5];
    khp_ws_mask(text, masked_hello + 6, sizeof text, header.key, 0);
    assert_memory_equal(text, "Hello", 5);

    static const uint8_t fragment[] = {0x01, 0x03, 0x48, 0x65, 0x6c};
    assert_int_equal(khp_ws_header_decode(fragment, sizeof fragment, &header), 2);
    assert_false(header.fin);
    assert_false(header.masked);

    static const uint8_t long_binary[] = {0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0};
    assert_int_equal(khp_ws_header_decode(long_binary, sizeof long_binary, &header), 10);
    assert_int_equal(header.length, 65536);
    assert_int_equal(header.opcode, KHP_WS_BINARY);
}

static void encodes_what_it_decodes_with_minimal_lengths(void **state) {
    (void)state;
    static const struct {
        uint64_t length;
        size_t size;
    } cases[] = {{0, 2},
                 {1, 2},
                 {125, 2},
                 {126, 4},
                 {127, 4},
                 {65535, 4},
                 {65536, 10},
                 {(uint64_t)1 << 31, 10},
                 {(uint64_t)1 << 32, 10},
                 {INT64_MAX, 10}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (unsigned bits = 0; bits < 16 * 8 * 2 * 2; bits++) {
            struct khp_ws_header in = {.length = cases[i].length,
                                       .key = {1, 2, 3, 4},
                                       .opcode = bits & 15,
                                       .rsv = bits >> 4 & 7,
                                       .fin = (bits >> 7 & 1) != 0,
                                       .masked = (bits >> 8 & 1) != 0};
            uint8_t bytes[KHP_WS_HEADER_MAX];
            size_t size = khp_ws_header_encode(bytes, &in);
            assert_int_equal(size, cases[i].size + (in.masked ? 4 : 0));
            struct guard guard = guard_new(bytes, size);
            struct khp_ws_header out;
            assert_int_equal(khp_ws_header_decode(guard.bytes, size, &out), size);
            guard_free(&guard);
            assert_int_equal(out.length, in.length);
            assert_int_equal(out.opcode, in.opcode);
            assert_int_equal(out.rsv, in.rsv);
            assert_int_equal(out.fin, in.fin);
            assert_int_equal(out.masked, in.masked);
            if (in.masked) {
                assert_memory_equal(out.key, in.key, 4);
            }
        }
    }
}

static void wants_more_until_the_header_is_complete(void **state) {
    (void)state;
    static const uint8_t headers[][KHP_WS_HEADER_MAX] = {{0x81, 0x05},
                                                         {0x81, 0x85},
                                                         {0x82, 0x7e, 1, 0},
                                                         {0x82, 0xfe, 1, 0},
                                                         {0x82, 0x7f, 0, 0, 0, 0, 0, 1},
                                                         {0x82, 0xff, 0, 0, 0, 0, 0, 1}};
    static const size_t sizes[] = {2, 6, 4, 8, 10, 14};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t n = 0; n < sizes[i]; n++) {
            struct guard guard = guard_new(headers[i], n);
            struct khp_ws_header header;
            assert_int_equal(khp_ws_header_decode(guard.bytes, n, &header), 0);
            guard_free(&guard);
        }
        struct khp_ws_header header;
        assert_int_equal(khp_ws_header_decode(headers[i], sizes[i], &header), sizes[i]);
    }
}

static void refuses_lengths_that_are_not_minimal_or_too_large(void **state) {
    (void)state;
    static const uint8_t bad[][10] = {
        {0x82, 0x7e, 0, 0},
        {0x82, 0x7e, 0, 125},
        {0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0},
        {0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
        {0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0},
        {0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct khp_ws_header header;
        assert_int_equal(khp_ws_header_decode(bad[i], sizeof bad[i], &header), -1);
    }
}

static void masks_at_every_alignment_offset_and_length(void **state) {
    (void)state;
    enum { MOST = 150, SHIFTS = 9 };
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t plain[MOST];
    for (size_t i = 0; i < sizeof plain; i++) {
        plain[i] = (uint8_t)(i * 7 + 1);
    }
    for (size_t n = 0; n <= MOST; n++) {
        for (size_t offset = 0; offset < 5; offset++) {
            for (size_t shift = 0; shift < SHIFTS; shift++) {
                struct guard in = guard_new(NULL, n + shift);
                struct guard out = guard_new(NULL, n);
                memcpy(in.bytes, plain, n); /* so the end is `shift` bytes before the guard */
                khp_ws_mask(out.bytes, in.bytes, n, key, offset);
                khp_ws_mask(in.bytes, in.bytes, n, key, offset);
                for (size_t i = 0; i < n; i++) {
                    assert_int_equal(out.bytes[i], plain[i] ^ key[(offset + i) & 3]);
                    assert_int_equal(in.bytes[i], out.bytes[i]);
                }
                for (size_t i = 0; i < shift; i++) {
                    assert_int_equal(in.bytes[n + i], 0);
                }
                guard_free(&in);
                guard_free(&out);
            }
        }
    }
}

static void knows_which_close_codes_may_travel(void **state) {
    (void)state;
    for (unsigned code = 0; code < 70000; code++) {
        bool reserved = code == 1004 || code == 1005 || code == 1006;
        bool expected =
            (code >= 1000 && code <= 1014 && !reserved) || (code >= 3000 && code < 5000);
        assert_int_equal(khp_ws_close_code_valid(code), expected);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_the_examples_of_the_rfc),
        cmocka_unit_test(encodes_what_it_decodes_with_minimal_lengths),
        cmocka_unit_test(wants_more_until_the_header_is_complete),
        cmocka_unit_test(refuses_lengths_that_are_not_minimal_or_too_large),
        cmocka_unit_test(masks_at_every_alignment_offset_and_length),
        cmocka_unit_test(knows_which_close_codes_may_travel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

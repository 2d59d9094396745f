/*
 * UTF-8 against a decoder written the slow way round: every sequence of up to three bytes, the
 * boundaries of those of four, every split, and refusal at the first byte that cannot be mended.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "guard.h"
#include "ws/utf8.h"

static bool valid(const uint8_t *bytes, size_t n) {
    struct khp_ws_utf8 utf8 = {0};
    return khp_ws_utf8_feed(&utf8, bytes, n) && khp_ws_utf8_complete(&utf8);
}

/* RFC 3629 by arithmetic: decode, then ask whether this is the shortest form of a scalar value. */
static bool valid_by_arithmetic(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n;) {
        uint8_t first = bytes[i];
        size_t size = first < 0x80       ? 1
                      : first >> 5 == 6  ? 2
                      : first >> 4 == 14 ? 3
                      : first >> 3 == 30 ? 4
                                         : 0;
        if (size == 0 || size > n - i) {
            return false;
        }
        uint32_t value = size == 1 ? first : first & (0x7fU >> size);
        for (size_t k = 1; k < size; k++) {
            if (bytes[i + k] >> 6 != 2) {
                return false;
            }
            value = value << 6 | (bytes[i + k] & 0x3f);
        }
        size_t shortest = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
        if (shortest != size || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
            return false;
        }
        i += size;
    }
    return true;
}

static void agrees_on_every_sequence_of_three_bytes(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 1U << 24; i++) {
        uint8_t bytes[3] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        if (valid(bytes, 3) != valid_by_arithmetic(bytes, 3)) {
            fail_msg("%06x", i);
        }
        if ((i & 0xff) == 0 && valid(bytes, 2) != valid_by_arithmetic(bytes, 2)) {
            fail_msg("%04x", i >> 8);
        }
        if ((i & 0xffff) == 0) {
            assert_int_equal(valid(bytes, 1), valid_by_arithmetic(bytes, 1));
        }
    }
}

static void agrees_on_the_boundaries_of_four_bytes(void **state) {
    (void)state;
    static const uint8_t edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    enum { EDGES = sizeof edges };
    for (unsigned first = 0xE0; first <= 0xff; first++) {
        for (unsigned second = 0; second <= 0xff; second++) {
            for (size_t third = 0; third < EDGES; third++) {
                for (size_t fourth = 0; fourth < EDGES; fourth++) {
                    uint8_t bytes[4] = {(uint8_t)first, (uint8_t)second, edges[third],
                                        edges[fourth]};
                    assert_int_equal(valid(bytes, 4), valid_by_arithmetic(bytes, 4));
                }
            }
        }
    }
}

/* Between ASCII of every length, so that each character meets the fast path at each alignment. */
static void finds_characters_anywhere_in_ascii(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        bool valid;
    } cases[] = {{"", true},
                 {"\xc2\x80", true},
                 {"\xdf\xbf", true},
                 {"\xe0\xa0\x80", true},
                 {"\xe4\xb8\xad\xe6\x96\x87", true},
                 {"\xed\x9f\xbf", true},
                 {"\xee\x80\x80", true},
                 {"\xf0\x9f\x98\x80", true},
                 {"\xf4\x8f\xbf\xbf", true},
                 {"\xc0\xaf", false},
                 {"\xc1\xbf", false},
                 {"\xe0\x9f\xbf", false},
                 {"\xed\xa0\x80", false},
                 {"\xf0\x8f\xbf\xbf", false},
                 {"\xf4\x90\x80\x80", false},
                 {"\xf5\x80\x80\x80", false},
                 {"\x80", false},
                 {"\xff", false},
                 {"\xc2", false},
                 {"\xe4\xb8", false}};
    enum { MOST = 80 };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t size = strlen(cases[c].bytes);
        for (size_t before = 0; before < MOST; before++) {
            for (size_t after = 0; after < MOST; after += 7) {
                uint8_t text[2 * MOST + 8];
                memset(text, 'a', sizeof text);
                memcpy(text + before, cases[c].bytes, size);
                struct guard guard = guard_new(text, before + size + after);
                assert_int_equal(valid(guard.bytes, before + size + after), cases[c].valid);
                guard_free(&guard);
            }
        }
    }
}

static void survives_every_split(void **state) {
    (void)state;
    static const char text[] =
        "plain \xc3\xa4\xc3\xb6\xc3\xbc \xe4\xb8\xad\xe6\x96\x87\xed\x9f\xbf "
        "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf and then some more plain text";
    const uint8_t *bytes = (const uint8_t *)text;
    size_t n = sizeof text - 1;
    for (size_t i = 0; i <= n; i++) {
        for (size_t k = i; k <= n; k++) {
            struct khp_ws_utf8 utf8 = {0};
            assert_true(khp_ws_utf8_feed(&utf8, bytes, i));
            assert_int_equal(khp_ws_utf8_complete(&utf8), valid_by_arithmetic(bytes, i));
            assert_true(khp_ws_utf8_feed(&utf8, bytes + i, k - i));
            assert_true(khp_ws_utf8_feed(&utf8, bytes + k, n - k));
            assert_true(khp_ws_utf8_complete(&utf8));
        }
    }
}

static void refuses_as_soon_as_nothing_can_mend_it(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t refused_after;
    } cases[] = {{"\x80", 1},
                 {"\xc0", 1},
                 {"\xc1", 1},
                 {"\xf5", 1},
                 {"\xe0\x9f", 2},
                 {"\xed\xa0", 2},
                 {"\xf0\x8f", 2},
                 {"\xf4\x90", 2},
                 {"\xe4\xb8\x20", 3},
                 {"\xf0\x9f\x98\xc0", 4},
                 {"ok \xce\xba\xe1\xbd\xb9\xf4\x90\x80", 10}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const uint8_t *bytes = (const uint8_t *)cases[c].bytes;
        for (size_t n = 1; n <= strlen(cases[c].bytes); n++) {
            struct khp_ws_utf8 whole = {0};
            struct khp_ws_utf8 split = {0};
            bool ok = true;
            for (size_t i = 0; i < n; i++) {
                ok = khp_ws_utf8_feed(&split, bytes + i, 1);
            }
            assert_int_equal(ok, n < cases[c].refused_after);
            assert_int_equal(khp_ws_utf8_feed(&whole, bytes, n), n < cases[c].refused_after);
            if (!ok) { /* and stays so */
                assert_false(khp_ws_utf8_feed(&split, (const uint8_t *)"a", 1));
                assert_false(khp_ws_utf8_complete(&split));
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_every_sequence_of_three_bytes),
        cmocka_unit_test(agrees_on_the_boundaries_of_four_bytes),
        cmocka_unit_test(finds_characters_anywhere_in_ascii),
        cmocka_unit_test(survives_every_split),
        cmocka_unit_test(refuses_as_soon_as_nothing_can_mend_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The codec of permessage-deflate: the examples of RFC 7692 7.2.3 byte by byte, both ways; limits
 * to the byte; bombs, which stay small; and everything that is no compressed message. Every input
 * lies before a guard page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <sys/resource.h>

#include "guard.h"
#include "ws/deflate.h"

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

enum { KIB = 1024, MIB = 1024 * KIB, PLENTY = 64 * MIB, OUTPUT_KEPT = 64 * KIB };

static const struct khp_ws_deflate_settings takeover = {
    .window_bits = 15, .level = 6, .memory_level = 8, .takeover = true};
static const struct khp_ws_deflate_settings alone = {
    .window_bits = 15, .level = 6, .memory_level = 8, .takeover = false};

struct codec {
    struct khp_ws_deflater deflater;
    struct khp_ws_inflater inflater;
    struct khp_ws_deflate_output deflated, inflated;
};

static struct codec codec_new(const struct khp_ws_deflate_settings *settings) {
    struct codec codec = {.deflated = {0}, .inflated = {0}};
    assert_int_equal(khp_ws_deflater_init(&codec.deflater, settings), KHP_WS_DEFLATE_OK);
    assert_int_equal(khp_ws_inflater_init(&codec.inflater, settings), KHP_WS_DEFLATE_OK);
    return codec;
}

static void codec_free(struct codec *codec) {
    khp_ws_deflater_free(&codec->deflater);
    khp_ws_inflater_free(&codec->inflater);
    khp_ws_deflate_output_free(&codec->deflated);
    khp_ws_deflate_output_free(&codec->inflated);
}

static void deflates(struct codec *codec, const void *message, size_t n) {
    struct guard guard = guard_new(message, n);
    assert_int_equal(khp_ws_deflate(&codec->deflater, guard.bytes, n, &codec->deflated),
                     KHP_WS_DEFLATE_OK);
    guard_free(&guard);
}

static enum khp_ws_deflate_result inflate_some(struct codec *codec, const void *payload, size_t n,
                                               size_t limit) {
    struct guard guard = guard_new(payload, n);
    enum khp_ws_deflate_result result =
        khp_ws_inflate(&codec->inflater, guard.bytes, n, limit, &codec->inflated);
    guard_free(&guard);
    return result;
}

static void comes_back(struct codec *codec, const void *message, size_t n) {
    deflates(codec, message, n);
    assert_int_equal(inflate_some(codec, codec->deflated.bytes, codec->deflated.size, n),
                     KHP_WS_DEFLATE_OK);
    assert_int_equal(codec->inflated.size, n);
    assert_true(n == 0 || memcmp(codec->inflated.bytes, message, n) == 0);
}

/* ---- RFC 7692 7.2.3 ---------------------------------------------------------------------------
 */

struct example {
    uint8_t bytes[24];
    size_t n;
};

static const struct example one_block = {{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, 7};
static const struct example second = {{0xf2, 0x00, 0x11, 0x00, 0x00}, 5};
static const struct example stored = {
    {0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00}, 11};
static const struct example final = {{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, 8};
static const struct example two_blocks = {
    {0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00}, 13};
static const struct example empty = {{0x00}, 1};

static void deflates_to(struct codec *codec, const char *message, const struct example *example) {
    deflates(codec, message, strlen(message));
    assert_int_equal(codec->deflated.size, example->n);
    assert_memory_equal(codec->deflated.bytes, example->bytes, example->n);
}

static void inflates_to(struct codec *codec, const struct example *example, const char *message) {
    assert_int_equal(inflate_some(codec, example->bytes, example->n, strlen(message)),
                     KHP_WS_DEFLATE_OK);
    assert_int_equal(codec->inflated.size, strlen(message));
    assert_true(message[0] == '\0' || memcmp(codec->inflated.bytes, message, strlen(message)) == 0);
}

static void deflates_the_examples_of_the_rfc(void **state) {
    (void)state;
    struct codec codec = codec_new(&takeover);
    deflates_to(&codec, "Hello", &one_block); /* 7.2.3.1 */
    deflates_to(&codec, "Hello", &second);    /* 7.2.3.2 */
    deflates_to(&codec, "", &empty);          /* 7.2.3.6 */
    deflates_to(&codec, "", &empty);
    codec_free(&codec);

    codec = codec_new(&alone);
    deflates_to(&codec, "Hello", &one_block); /* 7.2.3.2 */
    deflates_to(&codec, "Hello", &one_block);
    deflates_to(&codec, "", &empty);
    deflates_to(&codec, "Hello", &one_block);
    codec_free(&codec);
}

static void inflates_the_examples_of_the_rfc(void **state) {
    (void)state;
    const struct khp_ws_deflate_settings *both[] = {&takeover, &alone};
    for (size_t i = 0; i < 2; i++) {
        struct codec codec = codec_new(both[i]);
        inflates_to(&codec, &empty, "");
        inflates_to(&codec, &one_block, "Hello");
        inflates_to(&codec, &stored, "Hello"); /* 7.2.3.3 */
        inflates_to(&codec, &empty, "");
        inflates_to(&codec, &final, "Hello");      /* 7.2.3.4 */
        inflates_to(&codec, &two_blocks, "Hello"); /* 7.2.3.5 */
        if (both[i]->takeover) {
            inflates_to(&codec, &second, "Hello");
        } else {
            assert_int_equal(inflate_some(&codec, second.bytes, second.n, 5),
                             KHP_WS_DEFLATE_CORRUPT);
            inflates_to(&codec, &one_block, "Hello");
        }
        codec_free(&codec);
    }
}

/* RFC 7692 7.2.3.4: what follows a final block belongs to the message, and may refer to what was
 * before it. */
static void goes_on_behind_a_final_block(void **state) {
    (void)state;
    struct codec codec = codec_new(&takeover);
    inflates_to(&codec,
                &(struct example){{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf3, 0x48, 0xcd, 0xc9,
                                   0xc9, 0x07, 0x00, 0x00},
                                  15},
                "HelloHello");
    inflates_to(&codec,
                &(struct example){
                    {0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf2, 0x00, 0x11, 0x00, 0x00}, 12},
                "HelloHello");
    inflates_to(&codec, &second, "Hello");

    /* A million of them. */
    enum { FINALS = 1000000 };
    uint8_t *finals = malloc((size_t)2 * FINALS + 1);
    assert_non_null(finals);
    for (size_t i = 0; i < FINALS; i++) {
        finals[2 * i] = 0x03;
        finals[2 * i + 1] = 0x00;
    }
    finals[(size_t)2 * FINALS] = 0x00;
    assert_int_equal(inflate_some(&codec, finals, (size_t)2 * FINALS + 1, 0), KHP_WS_DEFLATE_OK);
    assert_int_equal(codec.inflated.size, 0);
    free(finals);
    inflates_to(&codec, &second, "Hello");
    codec_free(&codec);
}

/* ---- back and forth ----------------------------------------------------------------------------
 */

static uint8_t random_byte(uint32_t *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return (uint8_t)(*seed >> 24);
}

static void every_setting_inflates_what_it_deflates(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 60, 1000, 1018, 1024, 4096, 70000, 300000};
    uint8_t *message = malloc(300000);
    assert_non_null(message);
    static const uint8_t words[] = "deflate ";
    uint32_t seed = 1;
    for (size_t i = 0; i < 300000; i++) { /* words, and noise in the second half */
        message[i] = i < 150000 ? words[i * i / 3 % 8] : random_byte(&seed);
    }
    for (unsigned bits = KHP_WS_DEFLATE_WINDOW_MIN; bits <= KHP_WS_WINDOW_MAX; bits++) {
        for (unsigned level = 0; level <= KHP_WS_DEFLATE_LEVEL_MAX; level += 3) {
            struct khp_ws_deflate_settings settings = {.window_bits = (uint8_t)bits,
                                                       .level = (uint8_t)level,
                                                       .memory_level = (uint8_t)(1 + bits % 9),
                                                       .takeover = level % 2 == 0};
            struct codec codec = codec_new(&settings);
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                comes_back(&codec, message, sizes[i]);
                comes_back(&codec, message + 300000 - sizes[i], sizes[i]);
            }
            codec_free(&codec);
        }
    }
    free(message);
}

/* A window of 8 bits is for inflaters alone. */
static void inflates_with_the_smallest_window(void **state) {
    (void)state;
    struct khp_ws_deflate_settings settings = takeover;
    struct codec codec = codec_new(&settings);
    khp_ws_inflater_free(&codec.inflater);
    settings.window_bits = KHP_WS_INFLATE_WINDOW_MIN;
    assert_int_equal(khp_ws_inflater_init(&codec.inflater, &settings), KHP_WS_DEFLATE_OK);
    for (int i = 0; i < 20; i++) {
        comes_back(&codec, "Hello, hello", 12);
    }
    codec_free(&codec);
}

/* ---- limits ------------------------------------------------------------------------------------
 */

static void keeps_to_the_limit_to_the_byte(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 5, 1023, 1024, 1025, 4096, 65536, 1000000};
    static uint8_t message[1000000];
    memset(message, 'x', sizeof message);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];
        struct codec codec = codec_new(&alone);
        deflates(&codec, message, n);
        struct khp_ws_deflate_output *from = &codec.deflated;
        assert_int_equal(inflate_some(&codec, from->bytes, from->size, n - 1),
                         KHP_WS_DEFLATE_TOO_BIG);
        assert_int_equal(codec.inflated.size, 0);
        assert_int_equal(inflate_some(&codec, from->bytes, from->size, n), KHP_WS_DEFLATE_OK);
        assert_int_equal(codec.inflated.size, n);
        assert_int_equal(inflate_some(&codec, from->bytes, from->size, n + 1), KHP_WS_DEFLATE_OK);
        assert_int_equal(codec.inflated.size, n);
        assert_int_equal(inflate_some(&codec, from->bytes, from->size, SIZE_MAX),
                         KHP_WS_DEFLATE_OK);
        assert_int_equal(inflate_some(&codec, from->bytes, from->size, 0), KHP_WS_DEFLATE_TOO_BIG);
        codec_free(&codec);
    }
}

/* `times` MiB of zeros in about a thousandth of that: one block after the other. */
static uint8_t *make_bomb(size_t times, size_t *n) {
    static uint8_t zeros[MIB];
    static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};
    struct codec codec = codec_new(&alone);
    deflates(&codec, zeros, sizeof zeros);
    size_t size = codec.deflated.size;
    uint8_t *bomb = malloc(times * (size + sizeof tail));
    assert_non_null(bomb);
    *n = 0;
    for (size_t i = 0; i < times; i++) {
        memcpy(bomb + *n, codec.deflated.bytes, size);
        memcpy(bomb + *n + size, tail, sizeof tail);
        *n += size + sizeof tail;
    }
    *n -= sizeof tail;
    codec_free(&codec);
    return bomb;
}

/* What the output took is seen where it stays: below the size from which it is given back. */
static void a_bomb_stays_small(void **state) {
    (void)state;
    size_t n;
    uint8_t *bomb = make_bomb(1024, &n);
    static const size_t limits[] = {0, 1, 1000, 1024, 5000, OUTPUT_KEPT - 1};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct codec codec = codec_new(&alone);
        assert_int_equal(inflate_some(&codec, bomb, n, limits[i]), KHP_WS_DEFLATE_TOO_BIG);
        assert_in_range(codec.inflated.capacity, 1, limits[i] + 1);
        codec_free(&codec);
    }
    free(bomb);
}

static void gives_back_what_a_large_message_took(void **state) {
    (void)state;
    size_t n;
    uint8_t *bomb = make_bomb(8, &n);
    struct codec codec = codec_new(&takeover);
    assert_int_equal(inflate_some(&codec, bomb, n, PLENTY), KHP_WS_DEFLATE_OK);
    assert_int_equal(codec.inflated.size, 8 * MIB);
    inflates_to(&codec, &one_block, "Hello");
    assert_in_range(codec.inflated.capacity, 5, OUTPUT_KEPT);
    assert_int_equal(inflate_some(&codec, bomb, n, PLENTY), KHP_WS_DEFLATE_OK);
    khp_ws_deflate_output_release(&codec.inflated);
    assert_null(codec.inflated.bytes);
    assert_int_equal(inflate_some(&codec, bomb, n, 8 * MIB - 1), KHP_WS_DEFLATE_TOO_BIG);
    assert_null(codec.inflated.bytes);
    codec_free(&codec);
    free(bomb);
}

/* ---- what is no message ------------------------------------------------------------------------
 */

static void finds_corrupt_what_is_no_message(void **state) {
    (void)state;
    static const struct example cases[] = {
        {{0}, 0},                                                    /* not even a block */
        {{0x06}, 1},                                                 /* block type 3 */
        {{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07}, 6},                   /* cut */
        {{0xf2, 0x48, 0xcd, 0xc9, 0xc9}, 5},                         /* cut earlier */
        {{0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65}, 7},             /* stored, and cut */
        {{0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48, 0x65, 0x6c, 0x6c}, 9}, /* length and complement */
        {{0xf2, 0x00, 0x11, 0x00, 0x00}, 5},                         /* refers to nothing */
        {{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, 7},             /* 7.2.3.4 without its 00 */
        {{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00}, 9}, /* a byte more */
        {{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xff}, 8},       /* behind the last block */
        {{0x04, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9}, /* impossible codes */
        {{0x78, 0x9c, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, 9}, /* zlib's header */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct codec codec = codec_new(&alone);
        if (inflate_some(&codec, cases[i].bytes, cases[i].n, 1000) != KHP_WS_DEFLATE_CORRUPT) {
            fail_msg("case %zu", i);
        }
        assert_int_equal(codec.inflated.size, 0);
        inflates_to(&codec, &one_block, "Hello"); /* the next one is none the worse */
        codec_free(&codec);
    }
}

static void with_takeover_nothing_comes_after_a_failure(void **state) {
    (void)state;
    struct codec codec = codec_new(&takeover);
    inflates_to(&codec, &one_block, "Hello");
    /* Too big with the end of a block: a new one could follow. */
    assert_int_equal(inflate_some(&codec, stored.bytes, stored.n - 1, 4), KHP_WS_DEFLATE_TOO_BIG);
    assert_int_equal(inflate_some(&codec, one_block.bytes, one_block.n, 5), KHP_WS_DEFLATE_CORRUPT);
    codec_free(&codec);
}

/* ---- memory ------------------------------------------------------------------------------------
 */

static void tells_when_memory_ends(void **state) {
    (void)state;
    enum { LARGE = 128 * MIB };
    size_t n;
    uint8_t *bomb = make_bomb(1024, &n);
    struct khp_ws_deflate_settings settings = takeover;
    settings.level = 0; /* as large as it was */
    struct codec codec = codec_new(&settings);
    comes_back(&codec, "Hello", 5);
    struct guard large = guard_new(NULL, LARGE);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
#ifndef ADDRESS_SANITIZER
    struct rlimit tight = {.rlim_cur = (rlim_t)256 * MIB, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
#endif
    assert_int_equal(khp_ws_deflate(&codec.deflater, large.bytes, LARGE, &codec.deflated),
                     KHP_WS_DEFLATE_NO_MEMORY);
    assert_null(codec.deflated.bytes);
    comes_back(&codec, "Hello", 5); /* refers to nothing that was not sent */
    assert_int_equal(khp_ws_inflate(&codec.inflater, bomb, n, SIZE_MAX, &codec.inflated),
                     KHP_WS_DEFLATE_NO_MEMORY);
    assert_null(codec.inflated.bytes);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    guard_free(&large);
    codec_free(&codec);
    free(bomb);
}

#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
static size_t allocated(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}
#else
static size_t allocated(void) {
    return 0;
}
#endif

/*
 * Within an eighth, where the allocator tells: not under a tool that has one of its own, nor of
 * blocks that are small enough for its cache.
 */
static void tells_how_much_it_holds(void **state) {
    (void)state;
    for (unsigned bits = 12; bits <= KHP_WS_WINDOW_MAX; bits++) {
        struct khp_ws_deflate_settings settings = {.window_bits = (uint8_t)bits,
                                                   .level = 6,
                                                   .memory_level = (uint8_t)(bits - 7),
                                                   .takeover = true};
        struct khp_ws_deflate_output output = {0};
        struct khp_ws_deflater deflater;
        struct khp_ws_inflater inflater;
        size_t nothing = allocated();
        assert_int_equal(khp_ws_deflater_init(&deflater, &settings), KHP_WS_DEFLATE_OK);
        size_t one = allocated() - nothing;
        assert_int_equal(khp_ws_inflater_init(&inflater, &settings), KHP_WS_DEFLATE_OK);
        assert_int_equal(khp_ws_inflate(&inflater, one_block.bytes, one_block.n, 5, &output),
                         KHP_WS_DEFLATE_OK);
        khp_ws_deflate_output_free(&output);
        size_t other = allocated() - nothing - one;
        size_t told = khp_ws_deflater_memory(&deflater);
        size_t told_other = khp_ws_inflater_memory(&inflater);
        if (one > 0) {
            assert_in_range(one, told - told / 8, told + told / 8);
            assert_in_range(other, told_other - told_other / 8, told_other + told_other / 8);
        }
        khp_ws_deflater_free(&deflater);
        khp_ws_inflater_free(&inflater);
        khp_ws_deflater_free(&deflater); /* once more does no harm */
        khp_ws_inflater_free(&inflater);
        assert_int_equal(khp_ws_deflater_memory(&deflater), 0);
        assert_int_equal(khp_ws_inflater_memory(&inflater), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deflates_the_examples_of_the_rfc),
        cmocka_unit_test(inflates_the_examples_of_the_rfc),
        cmocka_unit_test(goes_on_behind_a_final_block),
        cmocka_unit_test(every_setting_inflates_what_it_deflates),
        cmocka_unit_test(inflates_with_the_smallest_window),
        cmocka_unit_test(keeps_to_the_limit_to_the_byte),
        cmocka_unit_test(a_bomb_stays_small),
        cmocka_unit_test(gives_back_what_a_large_message_took),
        cmocka_unit_test(finds_corrupt_what_is_no_message),
        cmocka_unit_test(with_takeover_nothing_comes_after_a_failure),
        cmocka_unit_test(tells_when_memory_ends),
        cmocka_unit_test(tells_how_much_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The codec of permessage-deflate under libFuzzer.
 *
 * Input: a byte of options (bits 0-2: window, 9 to 15; bit 3: context takeover; bit 4: the rest is
 * to be inflated, else deflated and inflated; bits 5-7: what the level and the limit come from),
 * then messages, each behind a byte with its length.
 *
 * Inflating: whatever the bytes are, the result keeps to its limit, and a limit of just its size
 * gives the same. Deflating: what comes back is what went in.
 */
#include "ws/deflate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct codec {
    struct khp_ws_deflater deflater;
    struct khp_ws_inflater inflater, again;
    struct khp_ws_deflate_output deflated, inflated, repeated;
    size_t limit;
};

/* Just so large: the sanitizer sees what is behind. */
static enum khp_ws_deflate_result inflate_exact(struct khp_ws_inflater *inflater,
                                                const uint8_t *bytes, size_t n, size_t limit,
                                                struct khp_ws_deflate_output *output) {
    uint8_t *exact = malloc(n > 0 ? n : 1);
    CHECK(exact != NULL);
    if (n > 0) {
        memcpy(exact, bytes, n);
    }
    enum khp_ws_deflate_result result = khp_ws_inflate(inflater, exact, n, limit, output);
    CHECK(result != KHP_WS_DEFLATE_NO_MEMORY);
    CHECK(output->size <= limit);
    CHECK(result == KHP_WS_DEFLATE_OK || output->size == 0);
    free(exact);
    return result;
}

static bool same(const struct khp_ws_deflate_output *output, const uint8_t *bytes, size_t n) {
    return output->size == n && (n == 0 || memcmp(output->bytes, bytes, n) == 0);
}

static void inflate_arbitrary(struct codec *codec, const uint8_t *bytes, size_t n) {
    enum khp_ws_deflate_result result =
        inflate_exact(&codec->inflater, bytes, n, codec->limit, &codec->inflated);
    size_t size = codec->inflated.size;
    size_t limit = result == KHP_WS_DEFLATE_OK ? size : codec->limit;
    CHECK(inflate_exact(&codec->again, bytes, n, limit, &codec->repeated) == result);
    CHECK(same(&codec->repeated, codec->inflated.bytes, size));
}

static void there_and_back(struct codec *codec, const uint8_t *bytes, size_t n) {
    CHECK(khp_ws_deflate(&codec->deflater, bytes, n, &codec->deflated) == KHP_WS_DEFLATE_OK);
    CHECK(codec->deflated.size > 0);
    CHECK(inflate_exact(&codec->inflater, codec->deflated.bytes, codec->deflated.size, n,
                        &codec->inflated) == KHP_WS_DEFLATE_OK);
    CHECK(same(&codec->inflated, bytes, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < 1) {
        return 0;
    }
    unsigned choice = data[0] >> 5;
    struct khp_ws_deflate_settings settings = {.window_bits = (uint8_t)(9 + (data[0] & 7) % 7),
                                               .level = (uint8_t)choice,
                                               .memory_level = (uint8_t)(choice + 1),
                                               .takeover = (data[0] & 8) != 0};
    struct codec codec = {.limit = (size_t)1 << (2 * choice + 2)};
    CHECK(khp_ws_deflater_init(&codec.deflater, &settings) == KHP_WS_DEFLATE_OK);
    CHECK(khp_ws_inflater_init(&codec.inflater, &settings) == KHP_WS_DEFLATE_OK);
    CHECK(khp_ws_inflater_init(&codec.again, &settings) == KHP_WS_DEFLATE_OK);
    for (size_t at = 1; at < n;) {
        size_t size = data[at++];
        if (size > n - at) {
            size = n - at;
        }
        if ((data[0] & 16) != 0) {
            inflate_arbitrary(&codec, data + at, size);
        } else {
            there_and_back(&codec, data + at, size);
        }
        at += size;
    }
    khp_ws_deflater_free(&codec.deflater);
    khp_ws_inflater_free(&codec.inflater);
    khp_ws_inflater_free(&codec.again);
    khp_ws_deflate_output_free(&codec.deflated);
    khp_ws_deflate_output_free(&codec.inflated);
    khp_ws_deflate_output_free(&codec.repeated);
    return 0;
}

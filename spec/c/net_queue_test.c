/*
 * The byte queue against a model, and what it does with its buffers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "net/queue.h"

static struct khp_net_spare spare;

static int tear_down(void **state) {
    (void)state;
    khp_net_spare_free(&spare);
    return 0;
}

static void put(struct khp_net_queue *queue, const void *bytes, size_t n) {
    uint8_t *room = khp_net_queue_reserve(queue, &spare, n);
    assert_non_null(room);
    memcpy(room, bytes, n);
    queue->end += n;
}

static void what_goes_in_comes_out(void **state) {
    (void)state;
    struct khp_net_queue queue = {0};
    uint8_t bytes[3000], next_in = 0, next_out = 0;
    size_t model = 0;
    srandom(3);
    for (int i = 0; i < 20000; i++) {
        /* Long phases of growing and of shrinking. */
        if (random() % 100 < (i / 1000 % 2 == 0 ? 60 : 40)) {
            size_t n = (size_t)random() % sizeof bytes;
            for (size_t k = 0; k < n; k++)
                bytes[k] = next_in++;
            put(&queue, bytes, n);
            model += n;
        } else if (model > 0) {
            size_t n = (size_t)random() % (model < 5000 ? model + 1 : 5000);
            const uint8_t *head = khp_net_queue_head(&queue);
            for (size_t k = 0; k < n; k++)
                if (head[k] != next_out++)
                    fail_msg("byte %zu differs in round %d", k, i);
            khp_net_queue_consume(&queue, &spare, n);
            model -= n;
        }
        if (random() % 50 == 0)
            khp_net_queue_fit(&queue, &spare);
        assert_int_equal(khp_net_queue_length(&queue), model);
        assert_true(queue.start <= queue.end && queue.end <= queue.size);
        assert_true(model > 0 || i == 0 || queue.bytes == NULL || queue.start == 0);
    }
    khp_net_queue_clear(&queue, &spare);
    assert_null(queue.bytes);
}

static void an_empty_queue_lends_its_buffer_to_the_next(void **state) {
    (void)state;
    struct khp_net_queue a = {0}, b = {0};
    put(&a, "hello", 5);
    const uint8_t *buffer = a.bytes;
    khp_net_queue_consume(&a, &spare, 5);
    assert_null(a.bytes);
    put(&b, "hello", 5);
    assert_ptr_equal(b.bytes, buffer);
    put(&a, "hello", 5); /* there is no second one */
    assert_ptr_not_equal(a.bytes, buffer);
    khp_net_queue_clear(&a, &spare);
    khp_net_queue_clear(&b, &spare);
    assert_non_null(spare.bytes);
}

static void very_large_buffers_are_not_kept(void **state) {
    (void)state;
    struct khp_net_queue queue = {0};
    khp_net_spare_free(&spare);
    assert_non_null(khp_net_queue_reserve(&queue, &spare, 4 << 20));
    queue.end += 4 << 20;
    khp_net_queue_consume(&queue, &spare, 4 << 20);
    assert_null(queue.bytes);
    assert_null(spare.bytes);
}

static void a_small_rest_does_not_keep_a_large_buffer(void **state) {
    (void)state;
    struct khp_net_queue queue = {0};
    assert_non_null(khp_net_queue_reserve(&queue, &spare, 200000));
    memset(queue.bytes, 'x', 200000);
    queue.bytes[199999] = 'y';
    queue.end = 200000;
    khp_net_queue_consume(&queue, &spare, 100000);
    khp_net_queue_fit(&queue, &spare);
    assert_true(queue.size >= 200000); /* half full: not worth the copy */
    khp_net_queue_consume(&queue, &spare, 99900);
    khp_net_queue_fit(&queue, &spare);
    assert_int_equal(queue.size, 100);
    assert_int_equal(khp_net_queue_length(&queue), 100);
    assert_int_equal(khp_net_queue_head(&queue)[99], 'y');
    khp_net_queue_clear(&queue, &spare);
}

static void nothing_and_too_much_can_be_asked_for(void **state) {
    (void)state;
    struct khp_net_queue queue = {0};
    assert_non_null(khp_net_queue_reserve(&queue, &spare, 0));
    assert_null(khp_net_queue_reserve(&queue, &spare, SIZE_MAX));
    assert_null(khp_net_queue_reserve(&queue, &spare, SIZE_MAX / 2));
    put(&queue, "still usable", 12);
    khp_net_queue_clear(&queue, &spare);
    khp_net_queue_clear(&queue, &spare);
    khp_net_queue_fit(&queue, &spare);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_and_too_much_can_be_asked_for, tear_down),
        cmocka_unit_test_teardown(what_goes_in_comes_out, tear_down),
        cmocka_unit_test_teardown(an_empty_queue_lends_its_buffer_to_the_next, tear_down),
        cmocka_unit_test_teardown(very_large_buffers_are_not_kept, tear_down),
        cmocka_unit_test_teardown(a_small_rest_does_not_keep_a_large_buffer, tear_down),
    };
    return cmocka_run_group_tests_name("net queue", tests, NULL, NULL);
}

/*
 * What is done together for several streams: which handlers run one after the other, and when their
 * answers leave.
 */
#include "net_actor.h"

#include <dlfcn.h>

#include "net/inside.h"

static unsigned sends;

__attribute__((visibility("default"))) ssize_t send(int fd, const void *buf, size_t n, int flags) {
    union {
        void *found;
        ssize_t (*call)(int, const void *, size_t, int);
    } next = {.found = dlsym(RTLD_NEXT, "send")};
    sends += (flags & MSG_NOSIGNAL) != 0; /* those of the library */
    return next.call(fd, buf, n, flags);
}

enum { ASKED = 20 };

static struct actor asked[ASKED];
static unsigned readers, sends_before[ASKED]; /* the nth handler was called */
static size_t answer_size;
static double handler_takes;

static void answer(struct actor *a) {
    static uint8_t bytes[4000];
    double end = seconds_now() + handler_takes;
    sends_before[readers++] = sends;
    assert_true(khp_net_stream_write(a->stream, bytes, answer_size));
    while (seconds_now() < end)
        continue;
}

/* All are asked and answer in one turn. */
static void ask(size_t size, double seconds) {
    answer_size = size;
    handler_takes = seconds;
    for (int i = 0; i < ASKED; i++) {
        asked[i] = (struct actor){.on[READ] = answer};
        open_over(unix_pair, &asked[i]);
    }
    for (int i = 0; i < ASKED; i++)
        tell(&asked[i], "x");
    sends = readers = 0;
    UNTIL(readers == ASKED);
    settle();
}

static void hear_answers(void) {
    assert_int_equal(sends, ASKED);
    for (int i = 0; i < ASKED; i++) {
        char heard[4001];
        assert_int_equal(recv(asked[i].peer, heard, sizeof heard, MSG_DONTWAIT), answer_size);
        hang_up(&asked[i]);
    }
}

static void short_answers_leave_in_groups(void **state) {
    (void)state;
    ask(100, 0);
    hear_answers();
    for (unsigned i = 0; i < ASKED; i++)
        assert_in_range(sends_before[i], i < KHP_NET_BATCH ? 0 : i + 1 - KHP_NET_BATCH, i);
    assert_int_equal(sends_before[1], 0);
}

static void long_answers_and_those_of_slow_handlers_do_not_wait(void **state) {
    (void)state;
    ask(4000, 0);
    hear_answers();
    for (unsigned i = 0; i < ASKED; i++)
        assert_int_equal(sends_before[i], i);
    ask(100, 0.001);
    hear_answers();
    for (unsigned i = 0; i < ASKED; i++)
        assert_int_equal(sends_before[i], i / 2 * 2); /* for one other at most */
}

static void abort_all(struct actor *a) {
    answer(a);
    for (int i = 0; i < ASKED && readers == KHP_NET_BATCH - 1; i++) {
        khp_net_stream_abort(asked[i].stream);
        asked[i].silent = true;
    }
}

static void an_answer_that_waits_may_lose_its_stream(void **state) {
    (void)state;
    answer_size = 100;
    handler_takes = 0;
    for (int i = 0; i < ASKED; i++) {
        asked[i] = (struct actor){.on[READ] = abort_all};
        open_over(unix_pair, &asked[i]);
    }
    for (int i = 0; i < ASKED; i++)
        tell(&asked[i], "x");
    readers = 0;
    for (int i = 0; i < ASKED; i++)
        UNTIL(asked[i].seen[ENDED] == 1);
    assert_int_equal(readers, KHP_NET_BATCH - 1);
    for (int i = 0; i < ASKED; i++)
        (void)close(asked[i].peer);
}

/* The nth byte is n. */
static void check_last(struct actor *a) {
    assert_int_equal(a->last, (uint8_t)a->size);
}

static void bytes_keep_their_order(void **state) {
    (void)state;
    enum { ROUNDS = 200, LONG = KHP_NET_SHORT + 1 };
    static uint8_t row[ROUNDS * LONG];
    for (size_t i = 0; i < sizeof row; i++)
        row[i] = (uint8_t)(i + 1);
    for (int i = 0; i < ASKED; i++) {
        asked[i] = (struct actor){.on[READ] = check_last};
        open_over(tcp_pair, &asked[i]);
    }
    size_t sent[ASKED] = {0};
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < ASKED; i++) { /* some are short and some are long */
            size_t n = (round * 7 + i * 3) % 5 == 0 ? LONG : 1 + (round + i) % KHP_NET_SHORT;
            assert_int_equal(send(asked[i].peer, row + sent[i] % 256, n, 0), n);
            sent[i] += n;
        }
        assert_true(khp_net_loop_step(loop, 1));
    }
    for (int i = 0; i < ASKED; i++) {
        UNTIL(asked[i].size == sent[i]);
        hang_up(&asked[i]);
    }
}

static void last_bytes_are_heard_before_the_end(void **state) {
    (void)state;
    for (int i = 0; i < ASKED; i++) {
        asked[i] = (struct actor){0};
        open_over(tcp_pair, &asked[i]);
    }
    for (int i = 0; i < ASKED; i++) {
        tell(&asked[i], "last");
        if (i % 2 == 0)
            reset(asked[i].peer);
        else
            (void)close(asked[i].peer);
    }
    for (int i = 0; i < ASKED; i++) {
        UNTIL(asked[i].seen[ENDED] == 1);
        assert_int_equal(asked[i].size, 4);
        assert_int_equal(asked[i].why.sys, i % 2 == 0 ? ECONNRESET : 0);
    }
}

static void note_pause(struct actor *a) {
    for (int i = 0; i < ASKED && readers == 0; i++)
        khp_net_stream_pause(asked[i].stream);
    readers++;
    (void)a;
}

static void a_pause_of_others_loses_nothing(void **state) {
    (void)state;
    for (int i = 0; i < ASKED; i++) {
        asked[i] = (struct actor){.on[READ] = note_pause};
        open_over(tcp_pair, &asked[i]);
    }
    for (int i = 0; i < ASKED; i++)
        tell(&asked[i], "x");
    readers = 0;
    settle();
    assert_in_range(readers, 1, ASKED - 1);
    for (int i = 0; i < ASKED; i++)
        khp_net_stream_resume(asked[i].stream);
    for (int i = 0; i < ASKED; i++) {
        UNTIL(asked[i].size == 1);
        hang_up(&asked[i]);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        BOTH(short_answers_leave_in_groups),
        BOTH(long_answers_and_those_of_slow_handlers_do_not_wait),
        BOTH(bytes_keep_their_order),
        BOTH(last_bytes_are_heard_before_the_end),
        BOTH(a_pause_of_others_loses_nothing),
        BOTH(an_answer_that_waits_may_lose_its_stream),
    };
    return cmocka_run_group_tests_name("batches", tests, set_up_once, NULL);
}

/*
 * Large writes and large reads of streams: what leaves without being copied, what stays when the
 * kernel has had enough, and what one turn takes in.
 */
#include "net_actor.h"
#include "net_certs.h"

#include "net/inside.h"

enum { HEAD = 10, BODY = 8 << 20, SMALL = 20000 };

static uint8_t body[BODY];

static uint8_t byte_at(size_t i) {
    return (uint8_t)((i * 2654435761u) >> 13);
}

static int fill_body(void **state) {
    for (size_t i = 0; i < BODY; i++)
        body[i] = byte_at(i);
    return set_up_once(state);
}

static const uint8_t head[HEAD] = "0123456789";

/* Takes n bytes of `expected` from the peer; turns the loop when there are none. */
static void peer_gets(struct actor *a, const void *expected, size_t n) {
    static uint8_t bytes[100000];
    const uint8_t *rest = expected;
    double limit = seconds_now() + 30 * patience();
    while (n > 0) {
        assert_true(seconds_now() < limit);
        ssize_t got = recv(a->peer, bytes, n < sizeof bytes ? n : sizeof bytes, MSG_DONTWAIT);
        if (got < 0)
            assert_true(errno == EAGAIN && khp_net_loop_step(loop, 0.01));
        if (got > 0)
            assert_memory_equal(bytes, rest, (size_t)got);
        rest += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
}

/* ---- out ---- */

static void it_leaves_at_once_and_nothing_is_kept(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct actor a = {0};
        uint8_t bytes[5 + HEAD + SMALL];
        open_over(transports[t], &a);
        assert_true(khp_net_stream_write(a.stream, "first", 5));
        assert_true(khp_net_stream_write_large(a.stream, head, HEAD, body, SMALL));
        assert_int_equal(khp_net_stream_queued(a.stream), 0);
        assert_null(a.stream->queue.bytes);
        assert_int_equal(recv(a.peer, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK), sizeof bytes);
        peer_gets(&a, "first", 5);
        peer_gets(&a, head, HEAD);
        peer_gets(&a, body, SMALL);
        assert_true(khp_net_stream_write_large(a.stream, head, HEAD, NULL, 0));
        assert_true(khp_net_stream_write_large(a.stream, NULL, 0, body, 1));
        peer_gets(&a, head, HEAD);
        peer_gets(&a, body, 1);
        hang_up(&a);
    }
}

static void what_the_kernel_does_not_take_follows_in_order(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct actor a = {0};
        open_over(transports[t], &a);
        for (int i = 0; i < 3; i++) {
            assert_true(khp_net_stream_write_large(a.stream, head, HEAD, body, BODY));
            assert_true(khp_net_stream_write(a.stream, "small", 5));
        }
        size_t queued = khp_net_stream_queued(a.stream);
        assert_true(queued > (size_t)2 * BODY); /* the kernel has a part of the first */
        assert_true(queued < (size_t)3 * BODY);
        assert_int_equal(a.seen[DRAINED], 0);
        for (int i = 0; i < 3; i++) {
            peer_gets(&a, head, HEAD);
            peer_gets(&a, body, BODY);
            peer_gets(&a, "small", 5);
        }
        UNTIL(a.seen[DRAINED] == 1);
        assert_null(a.stream->queue.bytes);
        hang_up(&a);
    }
}

static void write_large_and_small(struct actor *a) {
    assert_true(khp_net_stream_write(a->stream, "a", 1));
    assert_true(khp_net_stream_write_large(a->stream, head, HEAD, body, SMALL));
    assert_true(khp_net_stream_write(a->stream, "b", 1));
}

static void it_keeps_its_place_in_every_callback(void **state) {
    (void)state;
    struct actor a = {.on = {[OPENED] = write_large_and_small, [READ] = write_large_and_small}};
    int pair[2];
    tcp_pair(pair);
    a.peer = pair[1];
    a.stream = khp_net_stream_new(loop);
    khp_net_stream_handle(a.stream, &actor_handler, &a);
    write_large_and_small(&a); /* before it has a descriptor */
    khp_net_stream_attach(a.stream, pair[0], NULL, false, NULL, 0);
    write_large_and_small(&a); /* before it is open */
    UNTIL(a.seen[OPENED] == 1);
    tell(&a, "x");
    for (int i = 0; i < 4; i++) {
        peer_gets(&a, "a", 1);
        peer_gets(&a, head, HEAD);
        peer_gets(&a, body, SMALL);
        peer_gets(&a, "b", 1);
    }
    khp_net_stream_shutdown(a.stream, 1000);
    assert_false(khp_net_stream_write_large(a.stream, head, HEAD, body, SMALL));
    hang_up(&a);
}

static void a_dead_peer_is_told_later(void **state) {
    (void)state;
    struct actor a = {0}, b = {0};
    open_over(unix_pair, &a);
    (void)close(a.peer);
    assert_true(khp_net_stream_write_large(a.stream, head, HEAD, body, BODY));
    assert_int_equal(a.seen[ENDED], 0);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
    assert_int_equal(a.why.sys, EPIPE);

    open_over(tcp_pair, &b); /* while the rest of a large one waits */
    assert_true(khp_net_stream_write_large(b.stream, head, HEAD, body, BODY));
    assert_true(khp_net_stream_queued(b.stream) > 0);
    reset(b.peer);
    assert_true(khp_net_stream_write_large(b.stream, head, HEAD, body, BODY));
    UNTIL(b.seen[ENDED] == 1);
    assert_int_equal(b.why.sys, ECONNRESET);
}

static void tls_seals_it(void **state) {
    (void)state;
    struct khp_net_error e = {0};
    struct khp_net_tls_options served = {.certificate = certs_path("localhost.pem"),
                                         .key = certs_path("localhost.key")};
    struct khp_net_tls_options trusted = {.ca = certs_path("ca.pem")};
    struct actor host = {.server = true, .echo = true}, guest = {.name = "localhost"};
    host.tls = khp_net_tls_new_server(&served, &e);
    guest.tls = khp_net_tls_new_client(&trusted, &e);
    assert_string_equal(e.text, "");
    int pair[2];
    tcp_pair(pair);
    act_on(&host, pair[0]);
    act_on(&guest, pair[1]);
    assert_true(khp_net_stream_write_large(guest.stream, head, HEAD, body, SMALL));
    UNTIL(guest.size == HEAD + SMALL);
    assert_int_equal(guest.last, body[SMALL - 1]);
    assert_true(khp_net_stream_write_large(guest.stream, head, HEAD, body, BODY));
    UNTIL(guest.size == 2 * HEAD + SMALL + BODY);
    assert_int_equal(guest.last, body[BODY - 1]);
    khp_net_stream_shutdown(guest.stream, 1000);
    UNTIL(host.seen[ENDED] == 1 && guest.seen[ENDED] == 1);
    khp_net_tls_release(host.tls);
    khp_net_tls_release(guest.tls);
}

/* ---- in ---- */

static void want_more(struct actor *a) {
    khp_net_stream_want_more(a->stream);
}

enum { THREE_READS = 2 * KHP_NET_READ + 1 };

/* The peer has sent what three reads take; how much one turn brings. */
static size_t one_turn(struct actor *a) {
    open_over(unix_pair, a);
    assert_int_equal(send(a->peer, body, THREE_READS, MSG_DONTWAIT), THREE_READS);
    assert_true(khp_net_loop_step(loop, 1));
    return a->size;
}

static void a_turn_reads_on_where_more_is_wanted(void **state) {
    (void)state;
    struct actor modest = {0}, greedy = {.on[READ] = want_more};
    assert_int_equal(one_turn(&modest), KHP_NET_READ);
    assert_int_equal(one_turn(&greedy), THREE_READS);
    assert_int_equal(greedy.seen[READ], 3);
    UNTIL(modest.size == THREE_READS);
    hang_up(&modest);
    hang_up(&greedy);
}

static void pause_after_two(struct actor *a) {
    khp_net_stream_want_more(a->stream);
    if (a->seen[READ] == 2) /* what was asked for is void */
        khp_net_stream_pause(a->stream);
}

static void stop_after_two(struct actor *a) {
    khp_net_stream_want_more(a->stream);
    if (a->seen[READ] == 2) {
        khp_net_stream_abort(a->stream);
        a->silent = true;
    }
}

static void it_stops_where_the_owner_does(void **state) {
    (void)state;
    struct actor paused = {.on[READ] = pause_after_two}, ended = {.on[READ] = stop_after_two};
    assert_int_equal(one_turn(&paused), 2 * KHP_NET_READ);
    khp_net_stream_resume(paused.stream);
    UNTIL(paused.size == THREE_READS);
    hang_up(&paused);
    assert_int_equal(one_turn(&ended), 2 * KHP_NET_READ);
    hang_up(&ended);
    assert_int_equal(ended.why.code, KHP_NET_E_LOCAL);
}

/* Keeps writing into the socket from within its own read callback. */
static void feed_and_want_more(struct actor *a) {
    while (send(a->peer, body, KHP_NET_READ, MSG_DONTWAIT) > 0)
        continue;
    khp_net_stream_want_more(a->stream);
}

static void others_have_their_turn(void **state) {
    (void)state;
    struct actor greedy = {.on[READ] = feed_and_want_more}, other = {0};
    open_over(tcp_pair, &other);
    (void)one_turn(&greedy);
    for (int i = 0; i < 10; i++) {
        size_t before = greedy.size;
        tell(&other, "x");
        unsigned heard = other.seen[READ];
        assert_true(khp_net_loop_step(loop, 1));
        assert_in_range(greedy.size - before, 0, 17 * KHP_NET_READ);
        UNTIL(other.seen[READ] > heard);
    }
    greedy.on[READ] = NULL;
    hang_up(&greedy);
    hang_up(&other);
}

static void peer_leaves(struct actor *a) {
    khp_net_stream_want_more(a->stream);
    (void)close(a->peer);
}

static void a_reset_while_it_reads_on_is_told_as_such(void **state) {
    (void)state;
    struct actor a = {.on[READ] = peer_leaves};
    open_over(unix_pair, &a);
    assert_true(
        khp_net_stream_write(a.stream, "unread", 6)); /* which makes a reset of its leaving */
    settle();
    assert_int_equal(send(a.peer, body, KHP_NET_READ, MSG_DONTWAIT), KHP_NET_READ);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.size, KHP_NET_READ);
    assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
    assert_int_equal(a.why.sys, ECONNRESET);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        BOTH(it_leaves_at_once_and_nothing_is_kept),
        BOTH(what_the_kernel_does_not_take_follows_in_order),
        BOTH(it_keeps_its_place_in_every_callback),
        BOTH(a_dead_peer_is_told_later),
        BOTH(tls_seals_it),
        BOTH(a_turn_reads_on_where_more_is_wanted),
        BOTH(it_stops_where_the_owner_does),
        BOTH(others_have_their_turn),
        BOTH(a_reset_while_it_reads_on_is_told_as_such),
    };
    return cmocka_run_group_tests_name("large writes and reads", tests, fill_body, NULL);
}

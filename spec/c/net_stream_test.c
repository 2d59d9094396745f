/*
 * Streams over real sockets, plain: bytes in both directions, peers that misbehave, every end there
 * is, and what it all costs in memory and system calls.
 */
#include "net_actor.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "net/inside.h"

/* ---- what the kernel is asked ---- */

static unsigned sends, receives, watches;

__attribute__((visibility("default"))) ssize_t send(int fd, const void *buf, size_t n, int flags) {
    union {
        void *found;
        ssize_t (*call)(int, const void *, size_t, int);
    } next = {.found = dlsym(RTLD_NEXT, "send")};
    sends += (flags & MSG_NOSIGNAL) != 0;
    return next.call(fd, buf, n, flags);
}

__attribute__((visibility("default"))) ssize_t recv(int fd, void *buf, size_t n, int flags) {
    union {
        void *found;
        ssize_t (*call)(int, void *, size_t, int);
    } next = {.found = dlsym(RTLD_NEXT, "recv")};
    receives += flags == 0;
    return next.call(fd, buf, n, flags);
}

struct epoll_event;
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);

__attribute__((visibility("default"))) int epoll_ctl(int epoll, int operation, int fd,
                                                     struct epoll_event *event) {
    union {
        void *found;
        int (*call)(int, int, int, struct epoll_event *);
    } next = {.found = dlsym(RTLD_NEXT, "epoll_ctl")};
    watches++;
    return next.call(epoll, operation, fd, event);
}

/* The peer reads whatever comes until the end of it or a reset; how much that was. */
static size_t peer_reads_all(struct actor *a) {
    static uint8_t bytes[1 << 20];
    size_t size = 0;
    double limit = seconds_now() + 20 * patience();
    for (;;) {
        assert_true(seconds_now() < limit);
        ssize_t n = recv(a->peer, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return size;
        assert_true(n > 0 || errno == EAGAIN);
        size += n > 0 ? (size_t)n : 0;
        assert_true(khp_net_loop_step(loop, n > 0 ? 0 : 0.01));
    }
}

/* Writes until the kernel has had enough. */
static size_t block(struct actor *a, size_t n) {
    uint8_t *room = khp_net_stream_reserve(a->stream, n);
    assert_non_null(room);
    memset(room, 'b', n);
    khp_net_stream_commit(a->stream, n);
    settle();
    size_t queued = khp_net_stream_queued(a->stream);
    assert_true(queued > 0 && queued < n);
    return queued;
}

/* ---- bytes ---- */

static void sixty_four_mebibytes_come_back(void **state) {
    (void)state;
    enum { ALL = 64 << 20, PIECE = 200000 };
    static uint8_t out[PIECE], in[PIECE];
    for (int t = 0; t < 2; t++) {
        struct actor a = {.echo = true};
        open_over(transports[t], &a);
        size_t sent = 0, got = 0;
        while (got < ALL) {
            size_t want = ALL - sent < PIECE ? ALL - sent : PIECE;
            for (size_t i = 0; i < want; i++)
                out[i] = (uint8_t)((sent + i) * 2654435761u >> 13);
            ssize_t n = want > 0 ? send(a.peer, out, want, MSG_DONTWAIT) : 0;
            assert_true(n >= 0 || errno == EAGAIN);
            sent += n > 0 ? (size_t)n : 0;
            assert_true(khp_net_loop_step(loop, n > 0 ? 0 : 0.001));
            n = recv(a.peer, in, sizeof in, MSG_DONTWAIT);
            assert_true(n > 0 || (n < 0 && errno == EAGAIN));
            for (ssize_t i = 0; i < n; i++)
                if (in[i] != (uint8_t)((got + (size_t)i) * 2654435761u >> 13))
                    fail_msg("byte %zu differs", got + (size_t)i);
            got += n > 0 ? (size_t)n : 0;
        }
        assert_int_equal(a.size, ALL);
        assert_int_equal(khp_net_stream_queued(a.stream), 0);
        assert_null(a.stream->queue.bytes); /* idle, it holds no buffer */
        hang_up(&a);
        assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
        assert_int_equal(a.why.sys, 0);
        assert_string_equal(a.why.text, "closed by the peer");
    }
}

static void write_before(struct actor *a) {
    assert_true(khp_net_stream_write(a->stream, "third", 5));
}

static void what_is_written_before_it_opens_is_sent(void **state) {
    (void)state;
    struct actor a = {.on[OPENED] = write_before};
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    a.peer = pair[1];
    a.stream = khp_net_stream_new(loop);
    khp_net_stream_handle(a.stream, &actor_handler, &a);
    assert_true(khp_net_stream_write(a.stream, "first", 5));
    khp_net_stream_attach(a.stream, pair[0], NULL, false, NULL, 0);
    assert_true(khp_net_stream_write(a.stream, "second", 6));
    assert_hears(&a, "firstsecondthird");
    hang_up(&a);
}

static void reserved_room_is_filled_in_place(void **state) {
    (void)state;
    struct actor a = {0};
    open_over(unix_pair, &a);
    for (int i = 0; i < 5; i++) {
        uint8_t *room = khp_net_stream_reserve(a.stream, 1000);
        assert_non_null(room);
        memset(room, 'a' + i, 3);
        khp_net_stream_commit(a.stream, 3);
    }
    khp_net_stream_commit(a.stream, 0);
    assert_int_equal(khp_net_stream_queued(a.stream), 15);
    assert_hears(&a, "aaabbbcccdddeee");
    assert_int_equal(khp_net_stream_queued(a.stream), 0);
    assert_true(khp_net_stream_write(a.stream, "", 0));
    hang_up(&a);
}

static void flush_writes_now(void **state) {
    (void)state;
    struct actor a = {0};
    char byte;
    open_over(unix_pair, &a);
    assert_true(khp_net_stream_write(a.stream, "x", 1));
    assert_int_equal(recv(a.peer, &byte, 1, MSG_DONTWAIT), -1);
    khp_net_stream_flush(a.stream);
    assert_int_equal(recv(a.peer, &byte, 1, MSG_DONTWAIT), 1);
    hang_up(&a);
}

static void a_burst_costs_one_receive_and_one_send(void **state) {
    (void)state;
    enum { BURSTS = 200 };
    struct actor a = {.echo = true};
    char burst[3001], heard[3001];
    memset(burst, 'x', sizeof burst);
    open_over(tcp_pair, &a);
    tell(&a, "hello");
    assert_hears(&a, "hello");
    sends = receives = watches = 0;
    for (int i = 0; i < BURSTS; i++) {
        assert_int_equal(send(a.peer, burst, sizeof burst, 0), sizeof burst);
        size_t n = 0;
        unsigned before = a.seen[READ];
        UNTIL(a.seen[READ] > before);
        while (n < sizeof heard) {
            ssize_t more = recv(a.peer, heard, sizeof heard - n, MSG_DONTWAIT);
            if (more < 0)
                assert_true(khp_net_loop_step(loop, 0.01));
            n += more > 0 ? (size_t)more : 0;
        }
    }
    assert_int_equal(a.seen[READ], receives + 1);
    assert_int_equal(sends, a.seen[READ] - 1);
    assert_true(sends < BURSTS + BURSTS / 10);
    assert_true(watches <= 4); /* none per burst; the poll backend's own aside */
    hang_up(&a);
}

static void write_to_all(struct actor *a) {
    for (unsigned i = 0; i < a->count; i++)
        for (int k = 0; k < 3; k++)
            assert_true(khp_net_stream_write(a->others[i].stream, "news", 4));
}

static void what_one_writes_to_many_is_one_send_each(void **state) {
    (void)state;
    enum { MANY = 50 };
    struct actor all[MANY] = {0};
    for (int i = 0; i < MANY; i++)
        open_over(unix_pair, &all[i]);
    for (int i = 0; i < 10; i++) {
        all[i].on[READ] = write_to_all;
        all[i].others = all;
        all[i].count = MANY;
        tell(&all[i], "x");
    }
    sends = 0;
    UNTIL(all[9].seen[READ] == 1);
    settle();
    /* Ten readers in one turn: each answers on its own stream at once, the rest is sent when all
     * have been heard. */
    assert_true(sends <= MANY + 10);
    for (int i = 0; i < MANY; i++) {
        char heard[200];
        assert_int_equal(recv(all[i].peer, heard, sizeof heard, MSG_DONTWAIT), 120);
        hang_up(&all[i]);
    }
}

/* ---- slow peers ---- */

static void a_peer_that_never_reads_costs_memory_only(void **state) {
    (void)state;
    enum { MUCH = 32 << 20 };
    for (int t = 0; t < 2; t++) {
        struct actor a = {0};
        open_over(transports[t], &a);
        long before = resident();
        (void)block(&a, MUCH);
        if (memory_is_measured())
            assert_true(resident() - before < MUCH / 1024 + 8192);
        double cpu = cpu_time();
        double begin = seconds_now();
        assert_true(khp_net_loop_step(loop, 0.2));
        assert_true(seconds_now() - begin >= 0.1985); /* nothing happens */
        assert_true(cpu_time() - cpu < 0.05);
        assert_int_equal(a.seen[DRAINED], 0);

        /* It may still talk: heard, and no spinning either. */
        tell(&a, "are you there");
        UNTIL(a.size == 13);
        cpu = cpu_time();
        assert_true(khp_net_loop_step(loop, 0.2));
        assert_true(cpu_time() - cpu < 0.05);
        khp_net_stream_abort(a.stream);
        hang_up(&a);
        if (memory_is_measured())
            assert_true(resident() - before < 4096);
    }
}

static void drained_comes_when_all_is_written_at_last(void **state) {
    (void)state;
    static uint8_t bytes[100000];
    struct actor a = {0};
    open_over(tcp_pair, &a);
    assert_true(khp_net_stream_write(a.stream, "small", 5));
    assert_hears(&a, "small");
    assert_int_equal(a.seen[DRAINED], 0);
    for (unsigned round = 1; round <= 3; round++) {
        enum { MUCH = 16 << 20 };
        size_t got = 0;
        (void)block(&a, MUCH);
        assert_int_equal(a.seen[DRAINED], round - 1);
        while (got < MUCH) {
            ssize_t n = recv(a.peer, bytes, sizeof bytes, MSG_DONTWAIT);
            got += n > 0 ? (size_t)n : 0;
            assert_true(khp_net_loop_step(loop, n > 0 ? 0 : 0.01));
        }
        UNTIL(a.seen[DRAINED] == round);
        settle();
        assert_int_equal(a.seen[DRAINED], round);
    }
    hang_up(&a);
}

/* Drained comes in the turn in which the queue is at the mark for the first time. */
static void peer_reads(struct actor *a, size_t n, size_t mark) {
    static uint8_t bytes[100000];
    while (n > 0) {
        ssize_t got = recv(a->peer, bytes, n < sizeof bytes ? n : sizeof bytes, MSG_DONTWAIT);
        n -= got > 0 ? (size_t)got : 0;
        assert_true(khp_net_loop_step(loop, got > 0 ? 0 : 0.01));
        assert_int_equal(a->seen[DRAINED], khp_net_stream_queued(a->stream) <= mark);
    }
}

static void drained_comes_at_the_low_water_mark(void **state) {
    (void)state;
    enum { MUCH = 16 << 20 };
    for (int t = 0; t < 2; t++) {
        struct actor a = {0};
        open_over(transports[t], &a);
        size_t queued = block(&a, MUCH);
        khp_net_stream_low_water(a.stream, queued / 2);
        peer_reads(&a, MUCH, queued / 2);
        assert_int_equal(a.seen[DRAINED], 1); /* and not again at the end */

        khp_net_stream_low_water(a.stream, SIZE_MAX); /* where it never comes from above */
        (void)block(&a, MUCH);
        peer_reads(&a, MUCH, SIZE_MAX);
        assert_int_equal(a.seen[DRAINED], 1);
        hang_up(&a);
    }
}

static void a_waiting_stream_holds_no_more_than_it_must(void **state) {
    (void)state;
    enum { MUCH = 1 << 20, REST = 2000 };
    struct actor a = {0}, b = {0};
    open_over(unix_pair, &a);
    size_t taken = MUCH - block(&a, MUCH); /* by the kernel */
    open_over(unix_pair, &b);
    size_t queued = block(&b, taken + REST);
    assert_true(queued < taken / 8);
    assert_true(b.stream->queue.size <= queued + 4096);
    khp_net_stream_abort(a.stream);
    khp_net_stream_abort(b.stream);
    hang_up(&a);
    hang_up(&b);
}

static void a_paused_stream_reads_nothing(void **state) {
    (void)state;
    static uint8_t bytes[100000];
    struct actor a = {0};
    open_over(tcp_pair, &a);
    khp_net_stream_pause(a.stream);
    khp_net_stream_pause(a.stream);
    a.silent = true;
    size_t sent = 0;
    for (int i = 0; i < 1000; i++) {
        ssize_t n = send(a.peer, bytes, sizeof bytes, MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        assert_true(khp_net_loop_step(loop, 0));
    }
    assert_true(sent > 0 && sent < 64 << 20);
    double begin = seconds_now();
    assert_true(khp_net_loop_step(loop, 0.05));
    assert_true(seconds_now() - begin >= 0.0485);

    /* It can still write. */
    assert_true(khp_net_stream_write(a.stream, "wait", 4));
    assert_hears(&a, "wait");
    a.silent = false;
    khp_net_stream_resume(a.stream);
    khp_net_stream_resume(a.stream);
    UNTIL(a.size == sent);
    hang_up(&a);
}

static void pause_now(struct actor *a) {
    khp_net_stream_pause(a->stream);
    a->silent = true;
}

static void pausing_inside_read_stops_the_next(void **state) {
    (void)state;
    struct actor a = {.on[READ] = pause_now};
    open_over(unix_pair, &a);
    for (unsigned i = 1; i <= 5; i++) {
        tell(&a, "x");
        UNTIL(a.seen[READ] == i);
        tell(&a, "y");
        settle();
        assert_int_equal(a.seen[READ], i);
        a.silent = false;
        a.on[READ] = NULL;
        khp_net_stream_resume(a.stream);
        UNTIL(a.size == (size_t)2 * i);
        a.seen[READ] = i;
        a.on[READ] = pause_now;
    }
    hang_up(&a);
}

static void paused_before_it_opens_it_opens_paused(void **state) {
    (void)state;
    struct actor a = {.silent = true};
    begin_over(unix_pair, &a);
    khp_net_stream_pause(a.stream);
    tell(&a, "x");
    UNTIL(a.seen[OPENED] == 1);
    settle();
    a.silent = false;
    khp_net_stream_resume(a.stream);
    UNTIL(a.size == 1);
    hang_up(&a);
}

/* ---- peers that go ---- */

static void a_reset_is_told_as_such(void **state) {
    (void)state;
    struct actor a = {0};
    open_over(tcp_pair, &a);
    reset(a.peer);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
    assert_int_equal(a.why.sys, ECONNRESET);
    assert_string_equal(a.why.text, "Connection reset by peer");

    /* A unix socket resets when its owner leaves without having read all. */
    struct actor b = {0};
    open_over(unix_pair, &b);
    assert_true(khp_net_stream_write(b.stream, "unread", 6));
    settle();
    hang_up(&b);
    assert_int_equal(b.why.code, KHP_NET_E_CLOSED);
    assert_int_equal(b.why.sys, ECONNRESET);
}

static void an_end_is_not_taken_for_a_reset_that_was_before(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct actor a = {0}, b = {0};
        open_over(tcp_pair, &a);
        open_over(tcp_pair, &b);
        reset(a.peer);
        (void)close(b.peer);
        UNTIL(a.seen[ENDED] == 1 && b.seen[ENDED] == 1);
        assert_int_equal(a.why.sys, ECONNRESET);
        assert_int_equal(b.why.sys, 0);
    }
}

static void bytes_before_a_reset_are_heard(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct actor a = {0};
        open_over(tcp_pair, &a);
        tell(&a, "last words");
        reset(a.peer);
        UNTIL(a.seen[ENDED] == 1);
        assert_int_equal(a.size, 10);
        assert_int_equal(a.why.sys, ECONNRESET);
    }
}

static void write_more(struct actor *a) {
    (void)khp_net_stream_write(a->stream, "more", 4);
}

/* Our send meets the reset before the read does: the peer's last words are heard all the same. */
static void bytes_are_heard_though_writing_failed(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct actor a = {.on[READ] = write_more};
        open_over(transports[t], &a);
        tell(&a, "last words");
        if (t == 1)
            reset(a.peer);
        else
            (void)close(a.peer);
        assert_true(khp_net_stream_write(a.stream, "x", 1));
        khp_net_stream_flush(a.stream);
        khp_net_stream_flush(a.stream);
        UNTIL(a.seen[ENDED] == 1);
        assert_int_equal(a.size, 10);
        assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
        assert_true(a.why.sys == ECONNRESET || a.why.sys == EPIPE);
    }
}

static void the_peers_half_close_ends_it_in_order(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct actor a = {.echo = true};
        open_over(transports[t], &a);
        tell(&a, "bye");
        assert_int_equal(shutdown(a.peer, SHUT_WR), 0);
        UNTIL(a.seen[ENDED] == 1);
        assert_int_equal(a.size, 3);
        assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
        assert_int_equal(a.why.sys, 0);
        assert_hears(&a, "bye"); /* the answer to what came with it has left */
        (void)close(a.peer);
    }
}

static void a_peer_that_goes_while_paused_is_noticed_on_resume(void **state) {
    (void)state;
    struct actor a = {0};
    open_over(tcp_pair, &a);
    khp_net_stream_pause(a.stream);
    settle();
    tell(&a, "last words");
    (void)close(a.peer);
    settle();
    assert_int_equal(a.seen[ENDED], 0);
    assert_int_equal(a.size, 0);
    khp_net_stream_resume(a.stream);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.size, 10);
    assert_int_equal(a.why.sys, 0);
}

static void pause_again(struct actor *a) {
    khp_net_stream_pause(a->stream);
}

static void resume_until_it_ends(struct actor *a) {
    while (a->seen[ENDED] == 0) {
        khp_net_stream_resume(a->stream);
        settle();
    }
}

/* poll() tells of a peer that has left a unix socket whether it is asked for reading or not. */
static void nothing_is_lost_when_a_peer_goes_while_paused(void **state) {
    (void)state;
    static uint8_t bytes[100000];
    for (size_t t = 0; t < sizeof transports / sizeof *transports; t++) {
        struct actor a = {.on = {[READ] = pause_again}};
        open_over(transports[t], &a);
        khp_net_stream_pause(a.stream);
        settle();
        assert_int_equal(send(a.peer, bytes, sizeof bytes, 0), sizeof bytes);
        (void)close(a.peer);
        settle();
        resume_until_it_ends(&a);
        assert_int_equal(a.size, sizeof bytes);
        assert_int_equal(a.why.sys, 0);
    }
}

static void nothing_is_lost_when_writing_fails_while_paused(void **state) {
    (void)state;
    struct actor a = {.on = {[READ] = pause_again}};
    open_over(unix_pair, &a);
    khp_net_stream_pause(a.stream);
    settle();
    tell(&a, "last words");
    assert_int_equal(shutdown(a.peer, SHUT_RD), 0);
    assert_true(khp_net_stream_write(a.stream, "deaf?", 5));
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.size, 10);
    assert_int_equal(a.why.sys, EPIPE);
    (void)close(a.peer);
}

/* ---- we go ---- */

static void abort_now(struct actor *a) {
    khp_net_stream_abort(a->stream);
    a->silent = true;
    assert_null(khp_net_stream_reserve(a->stream, 1));
    assert_false(khp_net_stream_write(a->stream, "x", 1));
    assert_int_equal(a->seen[ENDED], 0); /* later, from the loop */
}

static void shut_now(struct actor *a) {
    khp_net_stream_shutdown(a->stream, 5000);
    a->silent = true;
    assert_null(khp_net_stream_reserve(a->stream, 1));
}

static void use_the_dead(struct actor *a) {
    struct khp_net_address address;
    khp_net_stream_abort(a->stream);
    khp_net_stream_shutdown(a->stream, 1);
    khp_net_stream_pause(a->stream);
    khp_net_stream_resume(a->stream);
    khp_net_stream_flush(a->stream);
    assert_null(khp_net_stream_reserve(a->stream, 1));
    assert_int_equal(khp_net_stream_queued(a->stream), 0);
    assert_false(khp_net_stream_peer(a->stream, &address));
}

/* Runs into each callback with the action in it. */
static void act_in_each(void (*action)(struct actor *)) {
    for (int t = 0; t < 2; t++) {
        for (int where = OPENED; where <= ENDED; where++) {
            struct actor a = {.on[ENDED] = use_the_dead};
            if (where != ENDED)
                a.on[where] = action;
            begin_over(transports[t], &a);
            if (where == READ)
                tell(&a, "x");
            if (where == DRAINED) {
                UNTIL(a.seen[OPENED] == 1);
                (void)block(&a, 16 << 20);
            }
            tell(&a, "y");
            if (where == ENDED) {
                UNTIL(a.seen[OPENED] == 1);
            } else if (where == DRAINED) {
                UNTIL(a.size >= 1);
                assert_int_equal(peer_reads_all(&a), 16 << 20);
            } else {
                UNTIL(a.seen[where] == 1);
                (void)send(a.peer, "z", 1, 0);
                assert_int_equal(peer_reads_all(&a), 0);
            }
            hang_up(&a);
            assert_true(where == ENDED || a.why.code == KHP_NET_E_LOCAL);
            assert_int_equal(a.seen[ENDED], 1);
        }
    }
}

static void abort_works_in_every_callback(void **state) {
    (void)state;
    act_in_each(abort_now);
}

static void shutdown_works_in_every_callback(void **state) {
    (void)state;
    act_in_each(shut_now);
}

static void no_read_comes_after_abort(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct actor a = {0};
        open_over(transports[t], &a);
        tell(&a, "unheard");
        abort_now(&a);
        UNTIL(a.seen[ENDED] == 1);
        assert_string_equal(a.why.text, "aborted");
        (void)close(a.peer);
    }
}

static void abort_the_others(struct actor *a) {
    for (unsigned i = 0; i < a->count; i++)
        abort_now(&a->others[i]);
}

static void one_may_abort_all(void **state) {
    (void)state;
    enum { MANY = 100 };
    static struct actor all[MANY];
    memset(all, 0, sizeof all);
    for (int i = 0; i < MANY; i++)
        open_over(unix_pair, &all[i]);
    for (int i = 0; i < MANY; i++)
        tell(&all[i], "x");
    /* Whoever is heard first. */
    all[50].on[READ] = abort_the_others;
    all[50].others = all;
    all[50].count = MANY;
    for (int i = 0; i < MANY; i++)
        UNTIL(all[i].seen[ENDED] == 1);
    for (int i = 0; i < MANY; i++)
        (void)close(all[i].peer);
}

static void a_stream_without_descriptor_ends_from_the_loop(void **state) {
    (void)state;
    struct actor a = {0};
    a.stream = khp_net_stream_new(loop);
    khp_net_stream_handle(a.stream, &actor_handler, &a);
    khp_net_stream_shutdown(a.stream, 1000);
    assert_int_equal(a.seen[ENDED], 0);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.why.code, KHP_NET_E_LOCAL);
    assert_int_equal(a.seen[OPENED], 0);
}

static void a_descriptor_that_comes_too_late_is_closed(void **state) {
    (void)state;
    struct actor a = {0};
    char byte;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    a.stream = khp_net_stream_new(loop);
    khp_net_stream_handle(a.stream, &actor_handler, &a);
    khp_net_stream_abort(a.stream);
    khp_net_stream_attach(a.stream, pair[0], NULL, false, NULL, 0);
    assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.seen[OPENED], 0);
    (void)close(pair[1]);
}

static void a_descriptor_beyond_the_tables_is_refused(void **state) {
    (void)state;
    struct actor a = {0};
    struct rlimit most;
    int pair[2];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &most), 0);
    if (most.rlim_cur < 9000) {
        print_message("RLIMIT_NOFILE is too low for this test\n");
        return;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int high = fcntl(pair[0], F_DUPFD, 8000); /* the loop was made for 4096 */
    assert_int_equal(high, 8000);
    (void)close(pair[0]);
    a.peer = pair[1];
    act_on(&a, high);
    UNTIL(a.seen[ENDED] == 1);
    assert_int_equal(a.why.code, KHP_NET_E_LIMIT);
    assert_int_equal(a.seen[OPENED], 0);
    (void)close(pair[1]);
}

/* As if so many others were open: the stream has the first descriptor from this number on. */
static void act_high(struct actor *a, int number) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int high = fcntl(pair[0], F_DUPFD, number);
    assert_true(high >= number);
    (void)close(pair[0]);
    a->peer = pair[1];
    a->echo = true;
    act_on(a, high);
}

static void the_next_is_higher(struct actor *a) {
    if (a->seen[READ] == 1 && a->count > 0)
        act_high(a + 1, 2 * a->stream->fd);
}

/* They grow in the middle of an event, and what came before goes on. */
static void tables_grow_with_the_descriptors(void **state) {
    (void)state;
    enum { ACTORS = 4, FIRST = 490 }; /* 490, 980, 1960, 3920: the loop was made for 4096 */
    struct actor actors[ACTORS] = {0};
    struct rlimit most;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &most), 0);
    if (most.rlim_cur < 4096) {
        print_message("RLIMIT_NOFILE is too low for this test\n");
        return;
    }
    act_high(&actors[0], FIRST);
    for (unsigned i = 0; i < ACTORS; i++) {
        actors[i].on[READ] = the_next_is_higher;
        actors[i].count = ACTORS - 1 - i;
        tell(&actors[i], "hello");
        assert_hears(&actors[i], "hello");
    }
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < ACTORS; i++)
            tell(&actors[i], "again");
        for (unsigned i = 0; i < ACTORS; i++)
            assert_hears(&actors[i], "again");
    }
    hang_up(&actors[1]);
    hang_up(&actors[3]);
    actors[3] = (struct actor){0};
    act_high(&actors[3], 3000);
    tell(&actors[3], "new");
    assert_hears(&actors[3], "new");
    for (unsigned i = 0; i < ACTORS; i += 2)
        hang_up(&actors[i]);
    hang_up(&actors[3]);
}

static void shutdown_writes_all_first(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        enum { MUCH = 16 << 20 };
        struct actor a = {0};
        open_over(transports[t], &a);
        (void)block(&a, MUCH);
        khp_net_stream_shutdown(a.stream, 10000);
        a.silent = true;
        tell(&a, "dropped");
        assert_int_equal(peer_reads_all(&a), MUCH);
        assert_int_equal(a.seen[ENDED], 0); /* waits for the peer's */
        tell(&a, "dropped, too");
        settle();
        assert_int_equal(a.seen[ENDED], 0);
        hang_up(&a);
        assert_int_equal(a.why.code, KHP_NET_E_LOCAL);
        assert_string_equal(a.why.text, "closed");
        assert_int_equal(a.seen[DRAINED], 0);
    }
}

static void a_paused_stream_reads_again_to_shut_down(void **state) {
    (void)state;
    static uint8_t bytes[1 << 20];
    struct actor a = {.silent = true};
    open_over(tcp_pair, &a);
    khp_net_stream_pause(a.stream);
    assert_true(send(a.peer, bytes, sizeof bytes, MSG_DONTWAIT) > 0);
    settle();
    khp_net_stream_shutdown(a.stream, 60000);
    assert_int_equal(peer_reads_all(&a), 0);
    hang_up(&a);
    assert_string_equal(a.why.text, "closed");
}

static void lingering_has_an_end(void **state) {
    (void)state;
    struct actor a = {0}, b = {0};
    open_over(tcp_pair, &a); /* does not answer our FIN */
    open_over(tcp_pair, &b); /* does not even read what we have to say */
    (void)block(&b, 16 << 20);
    double begin = seconds_now();
    khp_net_stream_shutdown(a.stream, 60);
    khp_net_stream_shutdown(b.stream, 60);
    UNTIL(a.seen[ENDED] == 1 && b.seen[ENDED] == 1);
    assert_true(seconds_now() - begin >= 0.0585 && seconds_now() - begin < 5);
    assert_int_equal(a.why.code, KHP_NET_E_LOCAL);
    assert_int_equal(b.why.code, KHP_NET_E_LOCAL);
    (void)close(a.peer);
    (void)close(b.peer);
}

static void lingering_can_be_shortened_and_cut(void **state) {
    (void)state;
    struct actor a = {0}, b = {0};
    open_over(tcp_pair, &a);
    open_over(tcp_pair, &b);
    double begin = seconds_now();
    khp_net_stream_shutdown(a.stream, 60000);
    khp_net_stream_shutdown(b.stream, 60000);
    settle();
    khp_net_stream_shutdown(a.stream, 30);
    khp_net_stream_shutdown(a.stream, 60000); /* not longer again */
    UNTIL(a.seen[ENDED] == 1);
    khp_net_stream_abort(b.stream);
    UNTIL(b.seen[ENDED] == 1);
    assert_true(seconds_now() - begin < 5);
    (void)close(a.peer);
    (void)close(b.peer);
}

/* ---- ends of all kinds ---- */

static void freeing_the_loop_ends_two_thousand_streams(void **state) {
    (void)state;
    enum { MANY = 2000 };
    struct rlimit most;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &most), 0);
    unsigned many = most.rlim_cur > 2 * MANY + 50 ? MANY : (unsigned)(most.rlim_cur - 50) / 2;
    static struct actor all[MANY];
    memset(all, 0, sizeof all);
    for (unsigned i = 0; i < many; i++) {
        all[i].echo = true;
        begin_over(unix_pair, &all[i]);
    }
    settle();
    for (unsigned i = 0; i < many; i++)
        tell(&all[i], "hello");
    (void)khp_net_loop_step(loop, 0);
    for (unsigned i = 0; i < many; i++) {
        if (i % 5 == 0)
            khp_net_stream_abort(all[i].stream);
        if (i % 5 == 1)
            khp_net_stream_shutdown(all[i].stream, 1000);
        if (i % 5 == 2)
            khp_net_stream_pause(all[i].stream);
        if (i % 5 == 3)
            (void)khp_net_stream_write(all[i].stream, "queued", 6);
    }
    khp_net_loop_free(loop);
    for (unsigned i = 0; i < many; i++) {
        assert_int_equal(all[i].seen[ENDED], 1);
        assert_int_equal(all[i].why.code, KHP_NET_E_LOCAL);
        assert_string_equal(all[i].why.text, i % 5 == 0 ? "aborted" : "loop closed");
        (void)close(all[i].peer);
    }
    loop = new_loop();
}

static void make_another(struct actor *a) {
    (void)a;
    assert_null(khp_net_stream_new(loop));
}

static void no_stream_begins_while_the_loop_is_freed(void **state) {
    (void)state;
    struct actor a = {.on[ENDED] = make_another};
    open_over(unix_pair, &a);
    khp_net_loop_free(loop);
    assert_int_equal(a.seen[ENDED], 1);
    (void)close(a.peer);
    loop = new_loop();
}

/* Whatever happens to a stream, one end comes of it: all kinds of things at random. */
static void every_stream_ends_once(void **state) {
    (void)state;
    enum { MANY = 60, ROUNDS = 40 };
    srandom(7);
    for (int round = 0; round < ROUNDS; round++) {
        static struct actor all[MANY];
        bool peer_open[MANY] = {false};
        memset(all, 0, sizeof all);
        for (int i = 0; i < MANY; i++) {
            all[i].echo = false;
            begin_over(transports[random() % 2], &all[i]);
            peer_open[i] = true;
        }
        for (int k = 0; k < 400; k++) {
            int i = (int)(random() % MANY);
            struct actor *a = &all[i];
            switch (random() % 12) {
            case 0:
                if (a->stream != NULL)
                    khp_net_stream_abort(a->stream);
                break;
            case 1:
                if (a->stream != NULL)
                    khp_net_stream_shutdown(a->stream, (uint64_t)random() % 20);
                break;
            case 2:
                if (peer_open[i])
                    reset(a->peer);
                peer_open[i] = false;
                break;
            case 3:
                if (peer_open[i])
                    (void)close(a->peer);
                peer_open[i] = false;
                break;
            case 4:
                if (a->stream != NULL)
                    khp_net_stream_pause(a->stream);
                break;
            case 5:
                if (a->stream != NULL)
                    khp_net_stream_resume(a->stream);
                break;
            case 6:
            case 7:
                if (a->stream != NULL) {
                    uint8_t *room = khp_net_stream_reserve(a->stream, 500000);
                    if (room != NULL) {
                        memset(room, 'r', 500000);
                        khp_net_stream_commit(a->stream, 500000);
                    }
                }
                break;
            case 8:
            case 9:
                if (peer_open[i])
                    (void)send(a->peer, "hello", 5, MSG_NOSIGNAL | MSG_DONTWAIT);
                break;
            default:
                (void)khp_net_loop_step(loop, 0);
                break;
            }
        }
        for (int i = 0; i < MANY; i++)
            if (all[i].stream != NULL && i % 2 == 0)
                khp_net_stream_abort(all[i].stream);
        if (round % 4 == 3) {
            khp_net_loop_free(loop);
            loop = new_loop();
        }
        for (int i = 0; i < MANY; i++) {
            if (all[i].stream != NULL)
                khp_net_stream_abort(all[i].stream);
            UNTIL(all[i].seen[ENDED] == 1);
            if (peer_open[i])
                (void)close(all[i].peer);
        }
    }
}

static void addresses_are_told(void **state) {
    (void)state;
    struct khp_net_address address;
    struct actor a = {0}, b = {0};
    open_over(tcp_pair, &a);
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    assert_int_equal(getsockname(a.peer, (struct sockaddr *)&name, &size), 0);
    assert_true(khp_net_stream_peer(a.stream, &address));
    assert_string_equal(address.host, "127.0.0.1");
    assert_int_equal(address.port, ntohs(name.sin_port));
    assert_false(address.is_unix);
    assert_int_equal(getpeername(a.peer, (struct sockaddr *)&name, &size), 0);
    assert_true(khp_net_stream_local(a.stream, &address));
    assert_int_equal(address.port, ntohs(name.sin_port));
    hang_up(&a);

    open_over(unix_pair, &b);
    assert_true(khp_net_stream_peer(b.stream, &address));
    assert_true(address.is_unix);
    assert_string_equal(address.host, "");
    assert_false(khp_net_stream_tls_info(b.stream, &(struct khp_net_tls_info){0}));
    hang_up(&b);
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        BOTH(sixty_four_mebibytes_come_back),
        BOTH(what_is_written_before_it_opens_is_sent),
        BOTH(reserved_room_is_filled_in_place),
        BOTH(flush_writes_now),
        BOTH(a_burst_costs_one_receive_and_one_send),
        BOTH(what_one_writes_to_many_is_one_send_each),
        BOTH(a_peer_that_never_reads_costs_memory_only),
        BOTH(drained_comes_when_all_is_written_at_last),
        BOTH(drained_comes_at_the_low_water_mark),
        BOTH(a_waiting_stream_holds_no_more_than_it_must),
        BOTH(a_paused_stream_reads_nothing),
        BOTH(pausing_inside_read_stops_the_next),
        BOTH(paused_before_it_opens_it_opens_paused),
        BOTH(a_reset_is_told_as_such),
        BOTH(an_end_is_not_taken_for_a_reset_that_was_before),
        BOTH(bytes_before_a_reset_are_heard),
        BOTH(bytes_are_heard_though_writing_failed),
        BOTH(the_peers_half_close_ends_it_in_order),
        BOTH(a_peer_that_goes_while_paused_is_noticed_on_resume),
        BOTH(nothing_is_lost_when_a_peer_goes_while_paused),
        BOTH(nothing_is_lost_when_writing_fails_while_paused),
        BOTH(abort_works_in_every_callback),
        BOTH(shutdown_works_in_every_callback),
        BOTH(no_read_comes_after_abort),
        BOTH(one_may_abort_all),
        BOTH(a_stream_without_descriptor_ends_from_the_loop),
        BOTH(a_descriptor_that_comes_too_late_is_closed),
        BOTH(a_descriptor_beyond_the_tables_is_refused),
        BOTH(tables_grow_with_the_descriptors),
        BOTH(shutdown_writes_all_first),
        BOTH(a_paused_stream_reads_again_to_shut_down),
        BOTH(lingering_has_an_end),
        BOTH(lingering_can_be_shortened_and_cut),
        BOTH(freeing_the_loop_ends_two_thousand_streams),
        BOTH(no_stream_begins_while_the_loop_is_freed),
        BOTH(every_stream_ends_once),
        BOTH(addresses_are_told),
    };
    return cmocka_run_group_tests_name("net stream", tests, set_up_once, NULL);
}

/*
 * What flows through an open connection: messages in both directions, pings, keepalive, the send
 * queue's limit, messages one at a time, and the deadline.
 */
#include "core_party.h"

static uint8_t large[1 << 20];

static int fill_large(void **state) {
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)((i * 2654435761u) >> 13);
    return set_up_once(state);
}

static enum khp_conn_send send_text(struct party *p, const char *text) {
    return khp_conn_send(&p->conn, KHP_WS_TEXT, (const uint8_t *)text, strlen(text));
}

/* ---- messages ---- */

static void messages_of_all_sizes_go_both_ways(void **state) {
    (void)state;
    static const size_t sizes[] = {0,     1,     125,   126,    1000,   65535,
                                   65536, 65537, 70000, 200000, 1048576};
    struct party server = {.peer = -1, .echo = true}, client = {.peer = -1};
    parties_open(&server, &client);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned before = client.seen[MESSAGE];
        assert_int_equal(khp_conn_send(&client.conn, KHP_WS_BINARY, large, sizes[i]),
                         KHP_CONN_SENT);
        UNTIL(client.seen[MESSAGE] == before + 1);
        assert_int_equal(server.length, sizes[i]);
        assert_int_equal(client.length, sizes[i]);
        if (sizes[i] > 0)
            assert_int_equal(client.last, large[sizes[i] - 1]);
    }
    assert_int_equal(send_text(&client, "gr\xc3\xbc\xc3\x9f"), KHP_CONN_SENT);
    UNTIL(strstr(client.heard, "text(gr\xc3\xbc\xc3\x9f)") != NULL);
    assert_int_equal(khp_conn_queued(&client.conn), 0);
    khp_conn_close(&client.conn, 1000, NULL, 0);
    party_over(&client);
    party_over(&server);
}

static void a_large_message_is_whole_on_the_wire(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    assert_int_equal(send_text(&p, "before"), KHP_CONN_SENT);
    for (int i = 0; i < 8; i++) /* more than the kernel takes */
        assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, large, sizeof large), KHP_CONN_SENT);
    assert_int_equal(send_text(&p, "behind"), KHP_CONN_SENT);
    assert_true(khp_conn_queued(&p.conn) > 0);
    assert_frame(&p, 0x81, "before", 6);
    for (int i = 0; i < 8; i++) {
        static uint8_t bytes[10 + sizeof large];
        static const uint8_t head[10] = {0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0};
        get_bytes(&p, bytes, sizeof bytes);
        assert_memory_equal(bytes, head, sizeof head);
        assert_memory_equal(bytes + sizeof head, large, sizeof large);
    }
    assert_frame(&p, 0x81, "behind", 6);
    party_over(&p);
}

static void each_frame_of_a_client_has_a_mask_of_its_own(void **state) {
    (void)state;
    struct party p = {0};
    uint8_t frames[2][6 + 5];
    party_open(&p, KHP_WS_CLIENT);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send_text(&p, "hello"), KHP_CONN_SENT);
        get_bytes(&p, frames[i], sizeof frames[i]);
        assert_int_equal(frames[i][1], 0x80 | 5);
    }
    assert_memory_not_equal(frames[0] + 2, frames[1] + 2, 4);
    party_over(&p);
}

static void fragments_are_joined_around_a_ping(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    tell_frame(&p, 0x01, "Hel", 3);
    tell_frame(&p, 0x89, "ping", 4);
    tell_frame(&p, 0x80, "lo", 2);
    UNTIL(p.seen[MESSAGE] == 1);
    assert_frame(&p, 0x8a, "ping", 4);
    assert_heard(&p, "text(Hello) ");
    party_over(&p);
}

static void pings_are_answered_and_pongs_are_told(void **state) {
    (void)state;
    struct party server = {.peer = -1}, client = {.peer = -1};
    parties_open(&server, &client);
    assert_int_equal(khp_conn_send(&server.conn, KHP_WS_PING, (const uint8_t *)"1", 1),
                     KHP_CONN_SENT);
    assert_int_equal(khp_conn_send(&client.conn, KHP_WS_PING, NULL, 0), KHP_CONN_SENT);
    UNTIL(server.seen[PONG] == 1 && client.seen[PONG] == 1);
    assert_heard(&server, "pong(1) ");
    assert_heard(&client, "pong() ");
    khp_conn_abort(&server.conn);
    party_over(&server);
    party_over(&client);
}

static void note_ping(void *owner, const uint8_t *bytes, size_t n) {
    hears(owner, PONG, "ping(%.*s) ", (int)n, (const char *)bytes);
}

static void whoever_wants_to_hears_of_pings(void **state) {
    (void)state;
    static struct khp_conn_handler handler;
    handler = party_handler;
    handler.ping = note_ping;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    p.conn.handler = &handler;
    tell_frame(&p, 0x89, "one", 3);
    assert_frame(&p, 0x8a, "one", 3);
    assert_heard(&p, "ping(one) ");
    khp_conn_close(&p.conn, 1000, NULL, 0);
    tell_frame(&p, 0x89, "two", 3); /* too late to be answered, and to be told */
    tell_frame(&p, 0x88, "\x03\xe8", 2);
    UNTIL(p.seen[CLOSED] == 1);
    party_over(&p);
    assert_heard(&p, "ping(one) closed(1000 local clean) gone ");
}

static void a_frame_has_the_reserved_bits_it_is_given(void **state) {
    (void)state;
    static const uint8_t bits[] = {4, 2, 1, 7, 0};
    for (int role = 0; role < 2; role++) {
        struct party p = {0};
        party_open(&p, role ? KHP_WS_CLIENT : KHP_WS_SERVER);
        for (size_t i = 0; i < sizeof bits; i++) {
            assert_int_equal(khp_conn_frame(&p.conn, KHP_WS_TEXT, bits[i], (const uint8_t *)"x", 1),
                             KHP_CONN_SENT);
            assert_frame(&p, (uint8_t)(0x81 | bits[i] << 4), "x", 1);
        }
        khp_conn_close(&p.conn, 1000, NULL, 0);
        assert_int_equal(khp_conn_frame(&p.conn, KHP_WS_TEXT, 0, (const uint8_t *)"x", 1),
                         KHP_CONN_CLOSED);
        assert_int_equal(khp_conn_room(&p.conn, 1), KHP_CONN_CLOSED);
        party_over(&p);
    }
}

static void a_paused_connection_hears_no_messages(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    khp_conn_pause(&p.conn);
    khp_conn_pause(&p.conn);
    tell_text(&p, "later");
    settle();
    assert_heard(&p, "");
    assert_int_equal(send_text(&p, "still talks"), KHP_CONN_SENT);
    assert_frame(&p, 0x81, "still talks", 11);
    khp_conn_resume(&p.conn);
    khp_conn_resume(&p.conn);
    UNTIL(p.seen[MESSAGE] == 1);
    party_over(&p);
}

/* ---- keepalive ---- */

static void a_silent_peer_is_pinged_and_given_up(void **state) {
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct party p = {.settings = new_settings()};
        p.settings->ping_ms = 50;
        p.settings->pong_ms = 40;
        double before = seconds_now();
        party_open(&p, role == 0 ? KHP_WS_SERVER : KHP_WS_CLIENT);
        assert_frame(&p, 0x89, NULL, 0);
        assert_in_range((seconds_now() - before) * 1000, 45, 5000);
        UNTIL(p.seen[CLOSED] == 1);
        assert_in_range((seconds_now() - before) * 1000, 85, 5000);
        assert_heard(&p, "closed(1001 timeout no pong in time) ");
        assert_frame(&p, 0x88,
                     "\x03\xe9"
                     "no pong in time",
                     17);
        party_over(&p);
    }
}

static void a_peer_that_answers_is_kept(void **state) {
    (void)state;
    struct party p = {.settings = new_settings()};
    p.settings->ping_ms = 20;
    p.settings->pong_ms = 200;
    party_open(&p, KHP_WS_CLIENT);
    for (unsigned i = 1; i <= 5; i++) {
        assert_frame(&p, 0x89, NULL, 0);
        tell_frame(&p, 0x8a, NULL, 0);
        UNTIL(p.seen[PONG] == i);
    }
    assert_int_equal(p.seen[CLOSED], 0);
    party_over(&p);
}

static void whoever_talks_is_not_pinged(void **state) {
    (void)state;
    struct party p = {.settings = new_settings()};
    char byte;
    p.settings->ping_ms = 300;
    p.settings->pong_ms = 300;
    party_open(&p, KHP_WS_SERVER);
    double begin = seconds_now();
    while (seconds_now() - begin < 0.9) {
        unsigned before = p.seen[MESSAGE];
        tell_text(&p, "x");
        UNTIL(p.seen[MESSAGE] > before);
        assert_true(khp_net_loop_step(loop, 0.02));
        if (p.size > 3000)
            p.size = 0;
    }
    assert_int_equal(recv(p.peer, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(p.seen[CLOSED], 0);
    party_over(&p);
}

static void silence_does_not_count_while_paused(void **state) {
    (void)state;
    struct party p = {.settings = new_settings()};
    char byte;
    p.settings->ping_ms = 30;
    p.settings->pong_ms = 30;
    party_open(&p, KHP_WS_SERVER);
    khp_conn_pause(&p.conn);
    double begin = seconds_now();
    while (seconds_now() - begin < 0.2)
        assert_true(khp_net_loop_step(loop, 0.02));
    assert_int_equal(recv(p.peer, &byte, 1, MSG_DONTWAIT), -1);
    khp_conn_resume(&p.conn);
    assert_frame(&p, 0x89, NULL, 0);
    UNTIL(p.seen[CLOSED] == 1);
    assert_heard(&p, "closed(1001 timeout no pong in time) ");
    party_over(&p);
}

static void a_peer_that_talks_and_never_reads_is_given_up(void **state) {
    (void)state;
    struct party p = {.settings = new_settings()};
    p.settings->ping_ms = 30;
    p.settings->pong_ms = 30;
    p.settings->close_ms = 30;
    party_open(&p, KHP_WS_SERVER);
    for (int i = 0; i < 16; i++)
        assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, large, sizeof large), KHP_CONN_SENT);
    while (p.seen[CLOSED] == 0) {
        tell_text(&p, "x");
        assert_true(khp_net_loop_step(loop, 0.01));
        if (p.seen[CLOSED] == 0)
            p.size = 0;
    }
    assert_non_null(strstr(p.heard, "closed(1001 timeout the peer does not read) "));
    party_over(&p);
}

/* ---- the queue ---- */

static size_t queued_when_drained;

static void note_queue(struct party *p) {
    queued_when_drained = khp_conn_queued(&p->conn);
}

static void read_away(struct party *p) {
    static uint8_t bytes[100000];
    ssize_t n = recv(p->peer, bytes, sizeof bytes, MSG_DONTWAIT);
    assert_true(n != 0 && (n > 0 || errno == EAGAIN));
    assert_true(khp_net_loop_step(loop, n > 0 ? 0 : 0.01));
}

static void a_full_queue_refuses_until_it_is_half_empty(void **state) {
    (void)state;
    enum { LIMIT = 16 << 20 };
    for (int role = 0; role < 2; role++) {
        struct party p = {.settings = new_settings(), .on[DRAINED] = note_queue};
        p.settings->queue = LIMIT;
        party_open(&p, role == 0 ? KHP_WS_SERVER : KHP_WS_CLIENT);
        for (unsigned round = 1; round <= 2; round++) {
            enum khp_conn_send result;
            do
                result = khp_conn_send(&p.conn, KHP_WS_BINARY, large, 300000);
            while (result == KHP_CONN_SENT);
            assert_int_equal(result, KHP_CONN_FULL);
            assert_in_range(khp_conn_queued(&p.conn), LIMIT - 300014, LIMIT);
            assert_int_equal(send_text(&p, "a small one fits"), KHP_CONN_SENT);
            assert_int_equal(p.seen[DRAINED], round - 1);
            while (p.seen[DRAINED] < round) {
                assert_in_range(khp_conn_queued(&p.conn), (LIMIT - 300014) / 2, LIMIT);
                read_away(&p);
            }
            assert_in_range(queued_when_drained, 1, LIMIT / 2 - 1);
        }
        while (khp_conn_queued(&p.conn) > 0)
            read_away(&p);
        assert_int_equal(p.seen[DRAINED], 2); /* once for each refusal */
        party_over(&p);
    }
}

static void drained_comes_though_the_queue_is_less_than_half_full(void **state) {
    (void)state;
    enum { LIMIT = 32 << 20 };
    struct party p = {.settings = new_settings(), .on[DRAINED] = note_queue};
    p.settings->queue = LIMIT;
    party_open(&p, KHP_WS_SERVER);
    for (int i = 0; i < 10; i++)
        assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, large, sizeof large), KHP_CONN_SENT);
    size_t queued = khp_conn_queued(&p.conn);
    static uint8_t huge[LIMIT - KHP_WS_HEADER_MAX];
    assert_in_range(queued, 1, LIMIT / 2 - 1);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, huge, sizeof huge), KHP_CONN_FULL);
    while (p.seen[DRAINED] == 0)
        read_away(&p);
    assert_true(queued_when_drained < queued / 2);
    party_over(&p);
}

static void what_never_fits_is_told_apart(void **state) {
    (void)state;
    struct party p = {.settings = new_settings()};
    p.settings->queue = 1000;
    party_open(&p, KHP_WS_SERVER);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, large, 1000 - KHP_WS_HEADER_MAX + 1),
                     KHP_CONN_TOO_BIG);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, large, 1000 - KHP_WS_HEADER_MAX),
                     KHP_CONN_SENT);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_BINARY, large, 1000 - KHP_WS_HEADER_MAX),
                     KHP_CONN_SENT); /* the first has left meanwhile */
    settle();
    assert_int_equal(p.seen[DRAINED], 0);
    party_over(&p);
}

static void pongs_that_nobody_reads_end_it(void **state) {
    (void)state;
    struct party p = {.settings = new_settings()};
    p.settings->queue = 1 << 20;
    p.settings->close_ms = 30;
    party_open(&p, KHP_WS_SERVER);
    while (khp_conn_send(&p.conn, KHP_WS_BINARY, large, 60000) == KHP_CONN_SENT)
        continue;
    while (khp_conn_send(&p.conn, KHP_WS_BINARY, large, 100) == KHP_CONN_SENT)
        continue;
    tell_frame(&p, 0x89, large, 125);
    UNTIL(p.seen[CLOSED] == 1);
    assert_heard(&p, "closed(1008 local pings arrive, but their pongs are not read) ");
    party_over(&p);
}

/* ---- one at a time ---- */

/* All in one read. */
static void tell_many(struct party *p, const char *const *texts) {
    uint8_t frames[1000];
    size_t n = 0;
    for (; *texts != NULL; texts++)
        n += make_frame(p, frames + n, **texts == '!' ? 0x88 : 0x81, *texts + (**texts == '!'),
                        strlen(*texts) - (**texts == '!'));
    assert_int_equal(send(p->peer, frames, n, 0), n);
}

static void party_stepwise(struct party *p) {
    party_raw(p);
    assert_true(khp_conn_upgrade(&p->conn, KHP_WS_SERVER));
    khp_conn_stepwise(&p->conn);
    p->size = 0;
    p->heard[0] = '\0';
}

/* These deliver what is held before they return. */
static void next(struct party *p) {
    p->asks = true;
    khp_conn_next(&p->conn);
    p->asks = false;
}

static void open_now(struct party *p) {
    p->asks = true;
    khp_conn_open(&p->conn);
    khp_conn_next(&p->conn);
    p->asks = false;
}

static void messages_come_one_at_a_time(void **state) {
    (void)state;
    struct party p = {0};
    party_stepwise(&p);
    next(&p); /* nothing came yet: no effect */
    tell_many(&p, (const char *[]){"one", "two", NULL});
    UNTIL(p.seen[MESSAGE] == 1);
    tell_text(&p, "three");
    settle();
    assert_heard(&p, "text(one) ");
    next(&p);
    assert_heard(&p, "text(one) text(two) "); /* it was held: delivered at once */
    settle();
    assert_heard(&p, "text(one) text(two) ");
    next(&p);
    UNTIL(p.seen[MESSAGE] == 3);
    tell_many(&p, (const char *[]){"four", "five", NULL});
    settle();
    assert_int_equal(p.seen[MESSAGE], 3);
    open_now(&p);
    UNTIL(p.seen[MESSAGE] == 5); /* no longer one at a time */
    tell_many(&p, (const char *[]){"six", "seven", NULL});
    UNTIL(p.seen[MESSAGE] == 7);
    assert_heard(&p,
                 "text(one) text(two) text(three) text(four) text(five) text(six) text(seven) ");
    party_over(&p);
}

static void limits_change_between_one_message_and_the_next(void **state) {
    (void)state;
    for (int opened = 0; opened < 2; opened++) {
        struct party p = {.settings = new_settings()};
        p.settings->handshake_limits.message = 5;
        party_stepwise(&p);
        tell_many(&p, (const char *[]){"first", "second", NULL});
        UNTIL(p.seen[MESSAGE] == 1);
        if (opened)
            open_now(&p);
        else
            next(&p);
        UNTIL(p.seen[MESSAGE] + p.seen[CLOSED] == 2);
        assert_heard(&p, opened ? "text(first) text(second) "
                                : "text(first) closed(1009 local message is too big) ");
        party_over(&p);
    }
}

static void pause_here(struct party *p) {
    khp_conn_pause(&p->conn);
}

/* A few bytes of these may be many once an extension has had them. */
static void behind_a_pause_no_message_of_an_extension_comes(void **state) {
    (void)state;
    for (unsigned ping_ms = 0; ping_ms <= 5000; ping_ms += 5000) {
        struct party p = {.settings = new_settings()};
        p.settings->ping_ms = ping_ms;
        party_open(&p, KHP_WS_SERVER);
        p.conn.expands = true;
        p.on[MESSAGE] = pause_here;
        tell_many(&p, (const char *[]){"one", "two", "three", NULL});
        UNTIL(p.seen[MESSAGE] == 1);
        tell_text(&p, "four");
        settle();
        assert_heard(&p, "text(one) ");
        khp_conn_resume(&p.conn);
        assert_heard(&p, "text(one) "); /* not inside the call */
        UNTIL(p.seen[MESSAGE] == 2);
        settle();
        assert_heard(&p, "text(one) text(two) ");
        p.on[MESSAGE] = NULL;
        khp_conn_resume(&p.conn);
        UNTIL(p.seen[MESSAGE] == 4);
        assert_heard(&p, "text(one) text(two) text(three) text(four) ");
        tell_frame(&p, 0x88, "\x03\xe8", 2);
        UNTIL(p.seen[CLOSED] == 1);
        party_over(&p);
    }
}

/* At its end a connection tells all that it has, and how the peer ended it. */
static void a_pause_loses_nothing_at_the_end(void **state) {
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct party p = {0};
        party_open(&p, KHP_WS_SERVER);
        p.conn.expands = true;
        p.on[MESSAGE] = pause_here;
        tell_many(&p, clean ? (const char *[]){"one", "two", "three", "!\x03\xe8", NULL}
                            : (const char *[]){"one", "two", "three", NULL});
        UNTIL(p.seen[MESSAGE] == 1);
        khp_conn_resume(&p.conn);
        UNTIL(p.seen[MESSAGE] == 2);
        tell_text(&p, "four");
        close(p.peer);
        p.peer = -1;
        for (unsigned i = 3; i <= (clean ? 3 : 4); i++) { /* pauses again behind each of them */
            khp_conn_resume(&p.conn);
            UNTIL(p.seen[MESSAGE] == i);
        }
        khp_conn_resume(&p.conn);
        UNTIL(p.seen[GONE] == 1);
        assert_non_null(strstr(p.heard, clean ? "text(three) closed(1000 peer clean) gone "
                                              : "text(three) text(four) closed("));
        party_over(&p);
    }
}

/* The peer goes while the pause lasts, and while what was held is about to come. */
static void a_pause_ends_with_its_connection(void **state) {
    (void)state;
    for (int resumed = 0; resumed < 2; resumed++) {
        struct party p = {0};
        party_open(&p, KHP_WS_SERVER);
        p.conn.expands = true;
        p.on[MESSAGE] = pause_here;
        tell_many(&p, (const char *[]){"one", "two", NULL});
        UNTIL(p.seen[MESSAGE] == 1);
        p.on[MESSAGE] = NULL;
        if (resumed) {
            khp_conn_resume(&p.conn);
            UNTIL(p.seen[MESSAGE] == 2);
        }
        khp_conn_close(&p.conn, 1000, "", 0);
        tell_frame(&p, 0x88, "\x03\xe8", 2);
        UNTIL(p.seen[CLOSED] == 1);
        assert_int_equal(p.seen[MESSAGE], resumed ? 2 : 1);
        party_over(&p);
    }
}

static void a_pause_holds_what_next_asks_for(void **state) {
    (void)state;
    struct party p = {0};
    party_stepwise(&p);
    tell_text(&p, "one");
    UNTIL(p.seen[MESSAGE] == 1);
    khp_conn_pause(&p.conn);
    khp_conn_resume(&p.conn); /* the next is still not asked for */
    tell_text(&p, "two");
    settle();
    assert_int_equal(p.seen[MESSAGE], 1);
    khp_conn_pause(&p.conn);
    next(&p);
    settle();
    assert_int_equal(p.seen[MESSAGE], 1);
    khp_conn_resume(&p.conn);
    UNTIL(p.seen[MESSAGE] == 2);
    assert_heard(&p, "text(one) text(two) ");
    next(&p);
    party_over(&p);
}

static void close_now(struct party *p) {
    khp_conn_close(&p->conn, 1011, "no", 2);
}

static void it_closes_in_order_while_messages_are_held(void **state) {
    (void)state;
    for (int answer = 0; answer < 4; answer++) {
        struct party p = {.on[MESSAGE] = answer % 2 == 0 ? close_now : NULL};
        party_stepwise(&p);
        if (answer < 2) /* the close frame is behind the message, or crosses ours */
            tell_many(&p, (const char *[]){"one", "two", "!\x03\xe8", NULL});
        else
            tell_many(&p, (const char *[]){"one", "two", NULL});
        UNTIL(p.seen[MESSAGE] == 1);
        if (answer % 2 == 1)
            close_now(&p);
        assert_frame(&p, 0x88, "\x03\xf3no", 4);
        if (answer >= 2)
            tell_frame(&p, 0x88, "\x03\xe8", 2);
        UNTIL(p.seen[CLOSED] == 1);
        assert_heard(&p, "text(one) closed(1000 local clean) ");
        party_over(&p);
    }
}

static void what_came_with_the_opening_may_be_fed(void **state) {
    (void)state;
    struct party p = {0};
    uint8_t frames[100];
    party_stepwise(&p);
    size_t n = make_frame(&p, frames, 0x81, "one", 3);
    n += make_frame(&p, frames + n, 0x81, "two", 3);
    n += make_frame(&p, frames + n, 0x81, "three", 5);
    assert_true(khp_conn_feed(&p.conn, frames, 0));
    p.asks = true;
    assert_true(khp_conn_feed(&p.conn, frames, n - 2)); /* the last one is not complete */
    p.asks = false;
    assert_heard(&p, "text(one) ");
    next(&p);
    assert_heard(&p, "text(one) text(two) ");
    assert_int_equal(send(p.peer, frames + n - 2, 2, 0), 2);
    open_now(&p);
    UNTIL(p.seen[MESSAGE] == 3);
    assert_heard(&p, "text(one) text(two) text(three) ");
    party_over(&p);
}

static void held_bytes_go_with_the_connection(void **state) {
    (void)state;
    struct party p = {0}, q = {0};
    party_stepwise(&p);
    tell_many(&p, (const char *[]){"one", "two", NULL});
    UNTIL(p.seen[MESSAGE] == 1);
    khp_conn_abort(&p.conn);
    next(&p); /* too late */
    party_over(&p);
    assert_heard(&p, "text(one) closed(1006 local aborted) gone ");
    party_stepwise(&q);
    tell_many(&q, (const char *[]){"one", "two", NULL});
    UNTIL(q.seen[MESSAGE] == 1);
    (void)close(q.peer);
    party_free(&q);
}

/* ---- the deadline ---- */

static void again(struct party *p) {
    if (p->seen[DEADLINE] < 3)
        khp_conn_deadline(&p->conn, 10);
}

static void the_deadline_comes_once_for_each_time_it_is_set(void **state) {
    (void)state;
    struct party p = {0}, moved = {0}, none = {0}, late = {.on[DEADLINE] = again};
    struct party *all[] = {&p, &moved, &none, &late};
    for (int i = 0; i < 4; i++)
        party_raw(all[i]);
    double begin = seconds_now();
    for (int i = 0; i < 4; i++)
        khp_conn_deadline(&all[i]->conn, 30);
    khp_conn_deadline(&moved.conn, 60000);
    khp_conn_deadline(&none.conn, UINT64_MAX);
    UNTIL(p.seen[DEADLINE] == 1);
    assert_in_range((seconds_now() - begin) * 1000, 28, 5000);
    UNTIL(late.seen[DEADLINE] == 3);
    assert_true(khp_net_loop_step(loop, 0.05));
    assert_int_equal(p.seen[DEADLINE], 1);
    assert_int_equal(late.seen[DEADLINE], 3);
    assert_int_equal(moved.seen[DEADLINE] + none.seen[DEADLINE], 0);
    khp_conn_deadline(&none.conn, 10);
    khp_conn_close(&none.conn, 1000, NULL, 0);
    for (int i = 0; i < 4; i++)
        party_over(all[i]);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        BOTH(messages_of_all_sizes_go_both_ways),
        BOTH(a_large_message_is_whole_on_the_wire),
        BOTH(each_frame_of_a_client_has_a_mask_of_its_own),
        BOTH(fragments_are_joined_around_a_ping),
        BOTH(pings_are_answered_and_pongs_are_told),
        BOTH(whoever_wants_to_hears_of_pings),
        BOTH(a_frame_has_the_reserved_bits_it_is_given),
        BOTH(a_paused_connection_hears_no_messages),
        BOTH(behind_a_pause_no_message_of_an_extension_comes),
        BOTH(a_pause_loses_nothing_at_the_end),
        BOTH(a_pause_ends_with_its_connection),
        BOTH(a_silent_peer_is_pinged_and_given_up),
        BOTH(a_peer_that_answers_is_kept),
        BOTH(whoever_talks_is_not_pinged),
        BOTH(silence_does_not_count_while_paused),
        BOTH(a_peer_that_talks_and_never_reads_is_given_up),
        BOTH(a_full_queue_refuses_until_it_is_half_empty),
        BOTH(drained_comes_though_the_queue_is_less_than_half_full),
        BOTH(what_never_fits_is_told_apart),
        BOTH(pongs_that_nobody_reads_end_it),
        BOTH(messages_come_one_at_a_time),
        BOTH(limits_change_between_one_message_and_the_next),
        BOTH(a_pause_holds_what_next_asks_for),
        BOTH(it_closes_in_order_while_messages_are_held),
        BOTH(what_came_with_the_opening_may_be_fed),
        BOTH(held_bytes_go_with_the_connection),
        BOTH(the_deadline_comes_once_for_each_time_it_is_set),
    };
    return cmocka_run_group_tests_name("flow", tests, fill_large, free_shared);
}

/*
 * The life of a connection: its states, the close handshake in every order, and every other end.
 */
#include "core_party.h"

/* ---- before it is open ---- */

static void it_begins_raw(void **state) {
    (void)state;
    struct party p = {0};
    int pair[2];
    pair_of_sockets(pair);
    p.peer = pair[1];
    party_begin(&p);
    assert_false(khp_conn_write(&p.conn, "x", 1));
    assert_false(khp_conn_upgrade(&p.conn, KHP_WS_SERVER));
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, NULL, 0), KHP_CONN_CLOSED);
    party_connect(&p, pair[0]);
    assert_int_equal(p.conn.state, KHP_CONN_RAW);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, NULL, 0), KHP_CONN_CLOSED);
    assert_int_equal(send(p.peer, "GET", 3, 0), 3);
    UNTIL(p.seen[BYTES] == 1);
    char answer[4] = {0};
    assert_true(khp_conn_write(&p.conn, "101", 3));
    get_bytes(&p, answer, 3);
    assert_string_equal(answer, "101");

    assert_true(khp_conn_upgrade(&p.conn, KHP_WS_SERVER));
    assert_int_equal(p.conn.state, KHP_CONN_OPEN);
    assert_false(khp_conn_upgrade(&p.conn, KHP_WS_SERVER));
    assert_false(khp_conn_write(&p.conn, "x", 1));
    khp_conn_open(&p.conn);
    tell_text(&p, "hello");
    UNTIL(p.seen[MESSAGE] == 1);
    assert_heard(&p, "open bytes(GET) text(hello) ");
    khp_conn_abort(&p.conn);
    party_over(&p);
}

static void a_raw_connection_ends(void **state) {
    (void)state;
    struct party ours = {0}, theirs = {0}, lost = {0};
    party_raw(&ours);
    assert_true(khp_conn_write(&ours.conn, "last", 4));
    khp_conn_close(&ours.conn, 1000, "not on this wire", 16);
    khp_conn_close(&ours.conn, 1000, NULL, 0);
    assert_int_equal(ours.conn.state, KHP_CONN_DRAINING);
    char last[4];
    get_bytes(&ours, last, 4);
    assert_memory_equal(last, "last", 4);
    assert_fin(&ours);
    assert_int_equal(ours.seen[CLOSED], 0);
    (void)close(ours.peer);
    ours.peer = -1;
    UNTIL(ours.seen[GONE] == 1);
    assert_heard(&ours, "open closed(1006 local closed) gone ");
    party_over(&ours);

    party_raw(&theirs);
    (void)close(theirs.peer);
    theirs.peer = -1;
    UNTIL(theirs.seen[GONE] == 1);
    assert_heard(&theirs, "open closed(1006 peer clean closed by the peer) gone ");
    party_over(&theirs);

    party_raw(&lost);
    struct linger hard = {.l_onoff = 1};
    assert_int_equal(setsockopt(lost.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    (void)close(lost.peer);
    lost.peer = -1;
    UNTIL(lost.seen[GONE] == 1);
    assert_heard(&lost, "open closed(1006 network Connection reset by peer) gone ");
    party_over(&lost);
}

static void it_is_given_up_while_it_connects(void **state) {
    (void)state;
    void (*const ways[])(struct khp_conn *) = {khp_conn_abort, NULL};
    for (int i = 0; i < 2; i++) {
        struct party p = {.peer = -1};
        party_begin(&p);
        if (ways[i] != NULL)
            ways[i](&p.conn);
        else
            khp_conn_close(&p.conn, 1000, NULL, 0);
        assert_int_equal(p.size, 0); /* from the loop, not from here */
        UNTIL(p.seen[GONE] == 1);
        assert_heard(&p, "closed(1006 local aborted) gone ");
        party_over(&p);
    }
}

/* ---- the close handshake ---- */

static void the_peer_closes_a_server(void **state) {
    (void)state;
    static const struct {
        const char *payload;
        size_t n;
        size_t answered; /* bytes of it that come back: the code */
        const char *heard;
    } cases[] = {
        {"\x03\xe8", 2, 2, "closed(1000 peer clean) "},
        {"\x03\xe9 off", 6, 2, "closed(1001 peer clean  off) "},
        {"\x0f\xa0gr\xc3\xbc\xc3\x9f", 8, 2, "closed(4000 peer clean gr\xc3\xbc\xc3\x9f) "},
        {"", 0, 0, "closed(1005 peer clean) "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct party p = {0};
        party_open(&p, KHP_WS_SERVER);
        tell_frame(&p, 0x88, cases[i].payload, cases[i].n);
        UNTIL(p.seen[CLOSED] == 1);
        assert_heard(&p, cases[i].heard);
        assert_frame(&p, 0x88, cases[i].payload, cases[i].answered);
        assert_fin(&p); /* RFC 6455 7.1.1: the server is the first to end the stream */
        assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, NULL, 0), KHP_CONN_CLOSED);
        khp_conn_close(&p.conn, 1000, NULL, 0);
        assert_int_equal(p.seen[GONE], 0);
        party_over(&p);
    }
}

static void a_server_closes(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, (const uint8_t *)"last", 4),
                     KHP_CONN_SENT);
    khp_conn_close(&p.conn, 4001, "enough", 6);
    khp_conn_close(&p.conn, 4002, "more", 4);
    assert_int_equal(p.conn.state, KHP_CONN_CLOSING);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, NULL, 0), KHP_CONN_CLOSED);
    assert_frame(&p, 0x81, "last", 4);
    assert_frame(&p, 0x88,
                 "\x0f\xa1"
                 "enough",
                 8);
    tell_text(&p, "too late");
    tell_frame(&p, 0x89, "ping", 4); /* nothing is answered after a close frame */
    tell_frame(&p, 0x8a, "pong", 4);
    tell_frame(&p, 0x88, "\x0f\xa1", 2);
    assert_fin(&p);
    assert_heard(&p, "closed(4001 local clean enough) ");
    party_over(&p);
    assert_heard(&p, "closed(4001 local clean enough) gone ");
}

static void a_client_waits_for_the_servers_fin(void **state) {
    (void)state;
    struct party p = {0}, patient = {.settings = new_settings()};
    party_open(&p, KHP_WS_CLIENT);
    khp_conn_close(&p.conn, 0, NULL, 0);
    assert_frame(&p, 0x88, NULL, 0);
    tell_frame(&p, 0x88, NULL, 0);
    UNTIL(p.seen[CLOSED] == 1);
    assert_heard(&p, "closed(1005 local clean) ");
    char byte;
    settle();
    assert_int_equal(recv(p.peer, &byte, 1, MSG_DONTWAIT), -1); /* no FIN of its own */
    party_over(&p);

    /* But not for ever. */
    patient.settings->close_ms = 30;
    party_open(&patient, KHP_WS_CLIENT);
    tell_frame(&patient, 0x88, "\x03\xe8", 2);
    UNTIL(patient.seen[CLOSED] == 1);
    double before = seconds_now();
    assert_frame(&patient, 0x88, "\x03\xe8", 2);
    assert_fin(&patient);
    UNTIL(patient.seen[GONE] == 1);
    assert_in_range((seconds_now() - before) * 1000, 50, 5000);
    assert_heard(&patient, "closed(1000 peer clean) gone ");
    party_over(&patient);
}

static void both_roles_close_one_another(void **state) {
    (void)state;
    for (int who = 0; who < 3; who++) { /* 2: both at once */
        struct party server = {.peer = -1}, client = {.peer = -1};
        parties_open(&server, &client);
        if (who != 1)
            khp_conn_close(&server.conn, 1001, "server", 6);
        if (who != 0)
            khp_conn_close(&client.conn, 4000, "client", 6);
        UNTIL(server.seen[GONE] == 1 && client.seen[GONE] == 1);
        assert_heard(&server, who == 0   ? "closed(1001 local clean server) gone "
                              : who == 1 ? "closed(4000 peer clean client) gone "
                                         : "closed(4000 local clean client) gone ");
        assert_heard(&client, who == 0   ? "closed(1001 peer clean server) gone "
                              : who == 1 ? "closed(4000 local clean client) gone "
                                         : "closed(1001 local clean server) gone ");
        party_over(&server);
        party_over(&client);
    }
}

static void a_long_reason_is_cut(void **state) {
    (void)state;
    struct party p = {0};
    char reason[200];
    memset(reason, 'r', sizeof reason);
    party_open(&p, KHP_WS_SERVER);
    khp_conn_close(&p.conn, 1000, reason, sizeof reason);
    uint8_t payload[125] = {0x03, 0xe8};
    memset(payload + 2, 'r', 123);
    assert_frame(&p, 0x88, payload, 125);
    party_over(&p);
}

/* ---- other ends ---- */

static void an_answer_that_does_not_come_is_not_awaited_for_ever(void **state) {
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct party p = {.settings = new_settings()};
        p.settings->close_ms = 40;
        party_open(&p, role == 0 ? KHP_WS_SERVER : KHP_WS_CLIENT);
        khp_conn_pause(&p.conn); /* closing reads again */
        double before = seconds_now();
        khp_conn_close(&p.conn, 4321, "bye", 3);
        tell_text(&p, "I am busy");
        UNTIL(p.seen[CLOSED] == 1);
        assert_heard(&p, "closed(4321 local bye) ");
        UNTIL(p.seen[GONE] == 1); /* the stream has its own time to end in */
        assert_in_range((seconds_now() - before) * 1000, 70, 5000);
        party_over(&p);
    }
}

static void an_end_without_a_close_frame_is_1006(void **state) {
    (void)state;
    struct party left = {0}, lost = {0}, late = {0};
    party_open(&left, KHP_WS_SERVER);
    tell_text(&left, "last");
    party_over(&left);
    assert_heard(&left, "text(last) closed(1006 peer closed by the peer) gone ");

    party_open(&lost, KHP_WS_CLIENT);
    struct linger hard = {.l_onoff = 1};
    assert_int_equal(setsockopt(lost.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    party_over(&lost);
    assert_heard(&lost, "closed(1006 network Connection reset by peer) gone ");

    party_open(&late, KHP_WS_SERVER); /* after our close frame */
    khp_conn_close(&late.conn, 1000, NULL, 0);
    assert_frame(&late, 0x88, "\x03\xe8", 2);
    party_over(&late);
    assert_heard(&late, "closed(1006 peer closed by the peer) gone ");
}

static void what_the_protocol_forbids_is_told_and_ends(void **state) {
    (void)state;
    static const struct {
        const char *payload;
        size_t n;
        unsigned code;
        uint8_t first;
    } cases[] = {
        {"", 0, 1002, 0x83},             /* an opcode that there is not */
        {"x", 1, 1002, 0xc1},            /* a reserved bit */
        {"\xff", 1, 1007, 0x81},         /* not UTF-8 */
        {"12345678901", 11, 1009, 0x82}, /* above the limit */
        {"\x03\xed", 2, 1002, 0x88},     /* 1005 on the wire */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int role = 0; role < 2; role++) {
            struct party p = {.settings = new_settings()};
            p.settings->limits.message = 10;
            party_open(&p, role == 0 ? KHP_WS_SERVER : KHP_WS_CLIENT);
            tell_frame(&p, cases[i].first, cases[i].payload, cases[i].n);
            tell_text(&p, "behind");
            UNTIL(p.seen[CLOSED] == 1);
            char expected[40];
            (void)snprintf(expected, sizeof expected, "closed(%u local ", cases[i].code);
            assert_memory_equal(p.heard, expected, strlen(expected));
            uint8_t frame[2 + 4 + 2];
            size_t header = role == 0 ? 2 : 6;
            get_bytes(&p, frame, header + 2);
            assert_int_equal(frame[0], 0x88);
            if (role == 1)
                khp_ws_mask(frame + header, frame + header, 2, frame + 2, 0);
            assert_int_equal(frame[header] << 8 | frame[header + 1], cases[i].code);
            assert_int_equal(p.seen[MESSAGE], 0);
            party_over(&p);
        }
    }
}

static void nonsense_after_our_close_frame_ends_with_our_code(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    khp_conn_close(&p.conn, 4000, "bye", 3);
    assert_frame(&p, 0x88,
                 "\x0f\xa0"
                 "bye",
                 5);
    tell_frame(&p, 0x83, NULL, 0);
    assert_fin(&p); /* and no second close frame */
    assert_heard(&p, "closed(4000 local unknown opcode) ");
    party_over(&p);
}

/* ---- from inside ---- */

static void abort_it(struct party *p) {
    khp_conn_abort(&p->conn);
}

static void close_it(struct party *p) {
    khp_conn_close(&p->conn, 1000, "inside", 6);
}

static void dispose_of_it(struct party *p) {
    p->disposed = true;
    khp_conn_dispose(&p->conn);
}

/* Runs into each callback with the action in it. */
static void act_in_each(void (*action)(struct party *)) {
    for (int what = OPENED; what < KINDS; what++) {
        struct party p = {.settings = new_settings()};
        p.on[what] = action;
        p.settings->queue = 1 << 20;
        p.settings->close_ms = 50;
        party_raw(&p);
        if (what == BYTES) {
            assert_int_equal(send(p.peer, "raw", 3, 0), 3);
            UNTIL(p.seen[BYTES] == 1);
        }
        if (what > BYTES) {
            static const uint8_t much[60000];
            assert_true(khp_conn_upgrade(&p.conn, KHP_WS_SERVER));
            khp_conn_open(&p.conn);
            khp_conn_deadline(&p.conn, what == DEADLINE ? 1 : 10000);
            while (what == DRAINED &&
                   khp_conn_send(&p.conn, KHP_WS_BINARY, much, sizeof much) == KHP_CONN_SENT)
                continue;
            uint8_t frames[200];
            size_t n = make_frame(&p, frames, 0x81, "one", 3); /* all in one read */
            n += make_frame(&p, frames + n, 0x81, "two", 3);
            n += make_frame(&p, frames + n, 0x8a, "pong", 4);
            n += make_frame(&p, frames + n, 0x8a, "pong", 4);
            if (what >= CLOSED)
                n += make_frame(&p, frames + n, 0x88, "\x03\xe8", 2);
            assert_int_equal(send(p.peer, frames, n, 0), n);
        }
        double limit = seconds_now() + 30;
        while (p.conn.stream != NULL) { /* reads, and answers a close frame if one comes */
            static uint8_t bytes[1 << 20];
            assert_true(seconds_now() < limit && khp_net_loop_step(loop, 0.01));
            ssize_t got = recv(p.peer, bytes, sizeof bytes, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN))
                (void)shutdown(p.peer, SHUT_WR);
        }
        assert_int_equal(p.seen[what], 1); /* nothing more of what was under way */
        assert_int_equal(p.seen[CLOSED], !p.disposed || what >= CLOSED);
        assert_int_equal(p.seen[GONE], !p.disposed || what == GONE);
        (void)close(p.peer);
        party_free(&p);
    }
}

static void abort_works_in_every_callback(void **state) {
    (void)state;
    act_in_each(abort_it);
}

static void close_works_in_every_callback(void **state) {
    (void)state;
    act_in_each(close_it);
}

static void dispose_works_in_every_callback(void **state) {
    (void)state;
    act_in_each(dispose_of_it);
}

static void it_may_be_disposed_of_when_its_stream_has_ended(void **state) {
    (void)state;
    struct party p = {.on[CLOSED] = dispose_of_it};
    party_open(&p, KHP_WS_SERVER);
    (void)close(p.peer);
    UNTIL(p.seen[CLOSED] == 1);
    settle();
    party_free(&p);
}

static void abort_ends_at_once(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_CLIENT);
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, (const uint8_t *)"x", 1), KHP_CONN_SENT);
    khp_conn_abort(&p.conn);
    khp_conn_abort(&p.conn);
    assert_int_equal(khp_conn_queued(&p.conn), 0);
    assert_int_equal(p.size, 0); /* from the loop, not from here */
    UNTIL(p.seen[GONE] == 1);
    assert_heard(&p, "closed(1006 local aborted) gone ");
    khp_conn_abort(&p.conn);
    khp_conn_close(&p.conn, 1000, NULL, 0);
    khp_conn_pause(&p.conn);
    khp_conn_resume(&p.conn);
    khp_conn_deadline(&p.conn, 1);
    settle();
    assert_int_equal(khp_conn_send(&p.conn, KHP_WS_TEXT, NULL, 0), KHP_CONN_CLOSED);
    assert_int_equal(khp_conn_queued(&p.conn), 0);
    party_over(&p);
}

static void a_loop_that_is_freed_tells_its_connections(void **state) {
    (void)state;
    struct party raw = {0}, open = {0}, closing = {0};
    party_raw(&raw);
    party_open(&open, KHP_WS_SERVER);
    party_open(&closing, KHP_WS_SERVER);
    khp_conn_close(&closing.conn, 1000, NULL, 0);
    khp_net_loop_free(loop);
    loop = new_loop();
    struct party *all[] = {&raw, &open, &closing};
    for (int i = 0; i < 3; i++) {
        assert_string_equal(strstr(all[i]->heard, "closed"),
                            "closed(1006 local loop closed) gone ");
        (void)close(all[i]->peer);
        party_free(all[i]);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        BOTH(it_begins_raw),
        BOTH(a_raw_connection_ends),
        BOTH(it_is_given_up_while_it_connects),
        BOTH(the_peer_closes_a_server),
        BOTH(a_server_closes),
        BOTH(a_client_waits_for_the_servers_fin),
        BOTH(both_roles_close_one_another),
        BOTH(a_long_reason_is_cut),
        BOTH(an_answer_that_does_not_come_is_not_awaited_for_ever),
        BOTH(an_end_without_a_close_frame_is_1006),
        BOTH(what_the_protocol_forbids_is_told_and_ends),
        BOTH(nonsense_after_our_close_frame_ends_with_our_code),
        BOTH(abort_works_in_every_callback),
        BOTH(close_works_in_every_callback),
        BOTH(dispose_works_in_every_callback),
        BOTH(it_may_be_disposed_of_when_its_stream_has_ended),
        BOTH(abort_ends_at_once),
        BOTH(a_loop_that_is_freed_tells_its_connections),
    };
    return cmocka_run_group_tests_name("connections", tests, set_up_once, free_shared);
}

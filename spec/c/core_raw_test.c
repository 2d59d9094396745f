/*
 * A connection that stays raw: large bodies in pieces, and what is known of any connection: its
 * peer, before and after its end, and what was moved.
 */
#include "core_party.h"

enum { PIECE = 64 * 1024 };

static uint8_t piece[PIECE];

/* Pours until the system takes no more; how many pieces it was given. */
static unsigned pour_until_full(struct party *p) {
    for (unsigned n = 1; n < 10000; n++) {
        enum khp_conn_send result = khp_conn_pour(&p->conn, piece, sizeof piece);
        if (result == KHP_CONN_FULL)
            return n;
        assert_int_equal(result, KHP_CONN_SENT);
        assert_int_equal(khp_conn_queued(&p->conn), 0);
    }
    fail_msg("the system takes everything");
    return 0;
}

static void take(const struct party *p, size_t n) {
    static uint8_t bytes[PIECE];
    while (n > 0) {
        size_t part = n < sizeof bytes ? n : sizeof bytes;
        get_bytes(p, bytes, part);
        assert_int_equal(bytes[part - 1], 'p');
        n -= part;
    }
}

static void pieces_go_as_fast_as_the_peer_takes_them(void **state) {
    (void)state;
    struct party p = {0};
    memset(piece, 'p', sizeof piece);
    party_raw(&p);
    unsigned n = pour_until_full(&p);
    assert_in_range(khp_conn_queued(&p.conn), 1, PIECE);
    assert_int_equal(p.seen[DRAINED], 0);
    take(&p, (size_t)n * PIECE);
    UNTIL(p.seen[DRAINED] == 1);
    assert_int_equal(khp_conn_queued(&p.conn), 0);
    unsigned more = pour_until_full(&p);
    take(&p, (size_t)more * PIECE);
    UNTIL(p.seen[DRAINED] == 2);
    assert_int_equal(p.settings->traffic.bytes_out, (uint64_t)(n + more) * PIECE);
    party_over(&p);
    assert_null(strstr(p.heard, "bytes"));
}

static void nothing_is_poured_into_frames(void **state) {
    (void)state;
    struct party p = {0};
    party_open(&p, KHP_WS_SERVER);
    assert_int_equal(khp_conn_pour(&p.conn, piece, sizeof piece), KHP_CONN_CLOSED);
    party_over(&p);
}

static void what_is_moved_is_counted(void **state) {
    (void)state;
    struct party p = {.echo = true};
    party_open(&p, KHP_WS_SERVER);
    const struct khp_conn_traffic *traffic = &p.settings->traffic;
    tell_text(&p, "hello");
    assert_frame(&p, 0x81, "hello", 5);
    tell_frame(&p, 0x89, "ping", 4);
    assert_frame(&p, 0x8a, "ping", 4);
    assert_int_equal(traffic->messages_in, 1);
    assert_int_equal(traffic->messages_out, 1);
    assert_int_equal(traffic->bytes_in, 2 + 4 + 5 + 2 + 4 + 4);
    assert_int_equal(traffic->bytes_out, 2 + 5 + 2 + 4);
    khp_conn_close(&p.conn, 1000, "bye", 3);
    assert_frame(&p, 0x88,
                 "\x03\xe8"
                 "bye",
                 5);
    assert_int_equal(traffic->bytes_out, 2 + 5 + 2 + 4 + 2 + 5);
    party_over(&p);
}

static void the_peer_is_known_when_it_is_gone(void **state) {
    (void)state;
    static const struct sockaddr_in6 known = {
        .sin6_family = AF_INET6, .sin6_port = 0x5000, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct khp_net_address address;
    struct party p = {0};
    int pair[2];
    pair_of_sockets(pair);
    p.peer = pair[1];
    party_begin(&p);
    assert_false(khp_conn_peer(&p.conn, &address));
    khp_net_stream_met(p.conn.stream, (const struct sockaddr *)&known, sizeof known);
    party_connect(&p, pair[0]);
    for (int i = 0; i < 2; i++) {
        assert_true(khp_conn_peer(&p.conn, &address));
        assert_string_equal(address.host, "::1");
        assert_int_equal(address.port, ntohs(0x5000));
        assert_false(address.is_unix);
        if (i == 0) {
            (void)close(p.peer);
            p.peer = -1;
            UNTIL(p.seen[GONE] == 1);
        }
    }
    party_over(&p);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        BOTH(pieces_go_as_fast_as_the_peer_takes_them),
        BOTH(nothing_is_poured_into_frames),
        BOTH(what_is_moved_is_counted),
        BOTH(the_peer_is_known_when_it_is_gone),
    };
    return cmocka_run_group_tests_name("raw", tests, set_up_once, free_shared);
}

/*
 * Streams over TLS: both roles, every way in which a handshake or a connection can fail, and the
 * same manners as plain streams. The other end is another stream of the loop, or OpenSSL on a plain
 * socket where it has to misbehave.
 */
#include "net_actor.h"
#include "net_certs.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>

#include "net/inside.h"
#include "net/tls_stream.h"

static unsigned sends;

__attribute__((visibility("default"))) ssize_t send(int fd, const void *buf, size_t n, int flags) {
    union {
        void *found;
        ssize_t (*call)(int, const void *, size_t, int);
    } next = {.found = dlsym(RTLD_NEXT, "send")};
    sends += (flags & MSG_NOSIGNAL) != 0;
    return next.call(fd, buf, n, flags);
}

/* ---- settings ---- */

static struct khp_net_tls *host_tls, *guest_tls;

static struct khp_net_tls *server_with(const char *certificate, const char *key, const char *ca) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.certificate = certs_path(certificate),
                                    .key = certs_path(key),
                                    .ca = ca != NULL ? certs_path(ca) : NULL,
                                    .verify = ca != NULL ? KHP_NET_TLS_VERIFY_REQUIRED
                                                         : KHP_NET_TLS_VERIFY_NONE};
    struct khp_net_tls *tls = khp_net_tls_new_server(&o, &e);
    assert_string_equal(e.text, "");
    return tls;
}

static struct khp_net_tls *client_with(const char *ca, const char *certificate, const char *key) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.certificate =
                                        certificate != NULL ? certs_path(certificate) : NULL,
                                    .key = key != NULL ? certs_path(key) : NULL,
                                    .ca = certs_path(ca),
                                    .verify = KHP_NET_TLS_VERIFY_REQUIRED};
    struct khp_net_tls *tls = khp_net_tls_new_client(&o, &e);
    assert_string_equal(e.text, "");
    return tls;
}

static int set_up_tls(void **state) {
    host_tls = server_with("localhost.pem", "localhost.key", NULL);
    guest_tls = client_with("ca.pem", NULL, NULL);
    return set_up_backend(state);
}

static int tear_down_tls(void **state) {
    int failed = tear_down_backend(state);
    khp_net_tls_release(host_tls);
    khp_net_tls_release(guest_tls);
    return failed;
}

#define BOTH_TLS(test)                                                                             \
    {"uv: " #test, test, set_up_tls, tear_down_tls, on_uv}, {                                      \
        "poll: " #test, test, set_up_tls, tear_down_tls, on_poll                                   \
    }

/* ---- two streams of one loop ---- */

static struct actor host, guest;

static void meet(transport *t) {
    int pair[2];
    t(pair);
    act_on(&host, pair[0]);
    act_on(&guest, pair[1]);
}

static void introduce(void) {
    host = (struct actor){.tls = host_tls, .server = true};
    guest = (struct actor){.tls = guest_tls, .name = "localhost"};
}

static void both_open(transport *t) {
    meet(t);
    UNTIL(host.seen[OPENED] == 1 && guest.seen[OPENED] == 1);
}

static void both_end(void) {
    UNTIL(host.seen[ENDED] == 1 && guest.seen[ENDED] == 1);
}

/* ---- OpenSSL on a plain socket, as a client ---- */

struct raw {
    SSL_CTX *context;
    SSL *ssl;
};

static void raw_begin(struct raw *r, struct actor *a, transport *t) {
    *r = (struct raw){.context = SSL_CTX_new(TLS_client_method())};
    assert_non_null(r->context);
    (void)SSL_CTX_set_mode(r->context,
                           SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    begin_over(t, a);
    assert_int_equal(fcntl(a->peer, F_SETFL, O_NONBLOCK), 0);
    r->ssl = SSL_new(r->context);
    assert_non_null(r->ssl);
    assert_int_equal(SSL_set_fd(r->ssl, a->peer), 1);
    SSL_set_connect_state(r->ssl);
}

/* The result of an SSL call is that it has to wait: turns the loop meanwhile. */
static bool raw_waits(struct raw *r, int returned) {
    int why = returned > 0 ? SSL_ERROR_NONE : SSL_get_error(r->ssl, returned);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        return false;
    assert_true(khp_net_loop_step(loop, 0.01));
    return true;
}

static void raw_open(struct raw *r, struct actor *a) {
    int returned;
    raw_begin(r, a, tcp_pair);
    do
        returned = SSL_do_handshake(r->ssl);
    while (raw_waits(r, returned));
    assert_int_equal(returned, 1);
    UNTIL(a->seen[OPENED] == 1);
}

/* Reads until the end or n bytes; how many there were. */
static size_t raw_read(struct raw *r, size_t n, int *why) {
    static char bytes[100000];
    size_t size = 0;
    *why = SSL_ERROR_NONE;
    while (size < n) {
        int returned;
        do
            returned = SSL_read(r->ssl, bytes, sizeof bytes);
        while (raw_waits(r, returned));
        if (returned <= 0) {
            *why = SSL_get_error(r->ssl, returned);
            break;
        }
        size += (size_t)returned;
    }
    return size;
}

static void raw_write(struct raw *r, const char *bytes, size_t n) {
    while (n > 0) {
        int returned;
        do
            returned = SSL_write(r->ssl, bytes, (int)n);
        while (raw_waits(r, returned));
        assert_true(returned > 0);
        bytes += returned;
        n -= (size_t)returned;
    }
}

static void raw_end(struct raw *r) {
    SSL_free(r->ssl);
    SSL_CTX_free(r->context);
    ERR_clear_error();
}

/* ---- bytes ---- */

static void both_roles_open_and_talk(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        introduce();
        host.echo = true;
        meet(transports[t]);
        assert_true(khp_net_stream_write(guest.stream, "early", 5)); /* waits for the handshake */
        UNTIL(guest.size == 5);
        assert_int_equal(host.seen[OPENED], 1);
        assert_int_equal(guest.seen[OPENED], 1);

        struct khp_net_tls_info info;
        assert_true(khp_net_stream_tls_info(guest.stream, &info));
        assert_string_equal(info.version, "TLSv1.3");
        assert_string_equal(info.server_name, "localhost");
        assert_string_equal(info.peer_subject, "CN=localhost");
        assert_true(info.peer_verified);
        assert_true(khp_net_stream_tls_info(host.stream, &info));
        assert_string_equal(info.server_name, "localhost");
        assert_string_equal(info.peer_subject, "");
        assert_false(info.peer_verified);
        assert_true(strlen(info.cipher) > 0);

        khp_net_stream_shutdown(guest.stream, 5000);
        both_end();
        assert_int_equal(guest.why.code, KHP_NET_E_LOCAL);
        assert_string_equal(guest.why.text, "closed");
        assert_int_equal(host.why.code, KHP_NET_E_CLOSED);
        assert_int_equal(host.why.sys, 0);
        assert_string_equal(host.why.text, "closed by the peer");
    }
}

static void many_mebibytes_come_back(void **state) {
    (void)state;
    enum { PIECE = 1 << 20 };
    const size_t all = (size_t)(memory_is_measured() ? 32 : 4) * PIECE;
    for (int t = 0; t < 2; t++) {
        introduce();
        host.echo = true;
        both_open(transports[t]);
        for (size_t sent = 0; guest.size < all;) {
            if (sent < all && khp_net_stream_queued(guest.stream) < PIECE) {
                uint8_t *room = khp_net_stream_reserve(guest.stream, PIECE);
                memset(room, 'a', PIECE);
                room[PIECE - 1] = (uint8_t)(sent / PIECE);
                khp_net_stream_commit(guest.stream, PIECE);
                sent += PIECE;
            }
            assert_true(khp_net_loop_step(loop, 1));
        }
        assert_int_equal(guest.size, all);
        assert_int_equal(host.size, all);
        assert_int_equal(guest.last, all / PIECE - 1);
        UNTIL(khp_net_stream_queued(host.stream) == 0);
        assert_null(host.stream->queue.bytes);
        assert_null(host.stream->tls->wire.bytes);
        khp_net_stream_shutdown(host.stream, 5000);
        both_end();
    }
}

static void a_burst_costs_one_send(void **state) {
    (void)state;
    introduce();
    host.echo = true;
    both_open(tcp_pair);
    settle(); /* session tickets */
    sends = 0;
    for (unsigned i = 1; i <= 100; i++) {
        for (int k = 0; k < 10; k++)
            assert_true(khp_net_stream_write(guest.stream, "0123456789", 10));
        UNTIL(guest.size == (size_t)100 * i);
    }
    assert_int_equal(sends, 200);
    assert_true(host.seen[READ] <= 100);
    khp_net_stream_abort(guest.stream);
    both_end();
}

/* Whatever the kernel makes of the records: one byte at a time. */
static void ciphertext_may_come_in_pieces(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true, .echo = true};
    struct raw r;
    raw_begin(&r, &a, unix_pair);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(r.ssl, in, out);
    bool written = false;
    char bytes[4096];
    for (int turns = 0; turns < 20000 && a.size < 5; turns++) {
        if (SSL_do_handshake(r.ssl) == 1 && !written)
            written = SSL_write(r.ssl, "hello", 5) == 5;
        if (BIO_read(out, bytes, 1) == 1)
            assert_int_equal(send(a.peer, bytes, 1, 0), 1);
        assert_true(khp_net_loop_step(loop, 0));
        ssize_t n = recv(a.peer, bytes, sizeof bytes, 0);
        if (n > 0)
            assert_int_equal(BIO_write(in, bytes, (int)n), n);
    }
    assert_int_equal(a.size, 5);
    raw_end(&r);
    hang_up(&a);
}

static void keys_may_be_changed_while_it_runs(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true, .echo = true};
    struct raw r;
    int why;
    raw_open(&r, &a);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        raw_write(&r, "hello", 5);
        assert_int_equal(raw_read(&r, 5, &why), 5);
    }
    raw_end(&r);
    hang_up(&a);
}

/* Each of them is answered, but not to a peer that does not read the answers. */
static void key_updates_cannot_fill_the_memory(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true};
    struct raw r;
    raw_open(&r, &a);
    int small = 4096;
    (void)setsockopt(a.stream->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    uint8_t *room = khp_net_stream_reserve(a.stream, 8 << 20); /* fills what the kernel has */
    memset(room, 'k', 8 << 20);
    khp_net_stream_commit(a.stream, 8 << 20);
    settle();
    (void)SSL_set_mode(r.ssl, SSL_MODE_AUTO_RETRY);
    double latest = seconds_now() + 100 * patience();
    for (int i = 0; a.seen[ENDED] == 0; i++) {
        assert_true(seconds_now() < latest);
        if (SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
            (void)SSL_write(r.ssl, "x", 1);
        ERR_clear_error();
        assert_true(khp_net_loop_step(loop, 0));
        if (a.stream != NULL)
            assert_true(khp_net_queue_length(&a.stream->tls->wire) < 200000);
    }
    assert_int_equal(a.why.code, KHP_NET_E_LIMIT);
    raw_end(&r);
    (void)close(a.peer);
}

/* ---- handshakes that fail ---- */

static void a_certificate_that_is_refused_is_told_to_both(void **state) {
    (void)state;
    introduce();
    guest.tls = client_with("other-ca.pem", NULL, NULL);
    meet(tcp_pair);
    khp_net_tls_release(guest.tls); /* the stream has its own */
    both_end();
    assert_int_equal(guest.why.code, KHP_NET_E_TLS);
    assert_string_equal(guest.why.text,
                        "certificate verify failed: unable to get local issuer certificate");
    assert_int_equal(host.why.code, KHP_NET_E_TLS);
    assert_non_null(strstr(host.why.text, "unknown ca"));
    assert_int_equal(host.seen[OPENED] + guest.seen[OPENED], 0);

    introduce();
    guest.name = "other.example";
    meet(unix_pair);
    both_end();
    assert_string_equal(guest.why.text, "certificate verify failed: hostname mismatch");
}

static void write_at_once(struct actor *a) {
    for (int i = 0; i < 3; i++) {
        (void)khp_net_stream_write(a->stream, "hello", 5);
        khp_net_stream_flush(a->stream);
    }
}

/*
 * With TLS 1.3 a client is open before the server has seen its certificate: the refusal comes after
 * that, and our own writing must not lose its words.
 */
static void a_missing_client_certificate_is_told_in_words(void **state) {
    (void)state;
    struct khp_net_tls *strict = server_with("localhost.pem", "localhost.key", "ca.pem");
    for (int i = 0; i < 30; i++) {
        introduce();
        host.tls = strict;
        guest.on[OPENED] = write_at_once;
        meet(transports[i % 2]);
        both_end();
        assert_int_equal(host.why.code, KHP_NET_E_TLS);
        assert_int_equal(host.seen[OPENED], 0);
        assert_int_equal(guest.why.code, KHP_NET_E_TLS);
        assert_non_null(strstr(guest.why.text, "certificate required"));
    }
    introduce();
    host.tls = strict;
    guest.tls = client_with("ca.pem", "client.pem", "client.key");
    both_open(tcp_pair);
    struct khp_net_tls_info info;
    assert_true(khp_net_stream_tls_info(host.stream, &info));
    assert_string_equal(info.peer_subject, "CN=joe");
    assert_true(info.peer_verified);
    khp_net_stream_abort(host.stream);
    both_end();
    khp_net_tls_release(guest.tls);
    khp_net_tls_release(strict);
}

static void a_peer_that_speaks_no_tls_is_told_apart(void **state) {
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct actor a = {.tls = role == 0 ? host_tls : guest_tls, .server = role == 0};
        a.name = "localhost";
        begin_over(tcp_pair, &a);
        tell(&a, role == 0 ? "GET / HTTP/1.1\r\n\r\n" : "HTTP/1.1 400 Bad Request\r\n\r\n");
        UNTIL(a.seen[ENDED] == 1);
        assert_int_equal(a.why.code, KHP_NET_E_TLS);
        assert_true(strlen(a.why.text) > 0);
        assert_int_equal(a.seen[OPENED], 0);
        (void)close(a.peer);
    }
}

static void a_peer_that_goes_during_the_handshake_is_told(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true};
    begin_over(tcp_pair, &a);
    settle();
    hang_up(&a);
    assert_int_equal(a.why.code, KHP_NET_E_TLS);
    assert_non_null(strstr(a.why.text, "handshake"));

    struct actor b = {.tls = guest_tls, .name = "localhost"};
    begin_over(tcp_pair, &b);
    settle();
    reset(b.peer);
    UNTIL(b.seen[ENDED] == 1);
    assert_int_equal(b.why.code, KHP_NET_E_TLS);
    assert_int_equal(b.why.sys, ECONNRESET);
}

static void a_silent_peer_runs_out_of_time(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true, .handshake_ms = 50};
    struct actor b = {.tls = guest_tls, .name = "localhost", .handshake_ms = 50};
    double begin = seconds_now();
    begin_over(tcp_pair, &a);
    begin_over(unix_pair, &b);
    UNTIL(a.seen[ENDED] == 1 && b.seen[ENDED] == 1);
    assert_true(seconds_now() - begin >= 0.0485 && seconds_now() - begin < 5);
    assert_int_equal(a.why.code, KHP_NET_E_TIMEOUT);
    assert_int_equal(b.why.code, KHP_NET_E_TIMEOUT);
    (void)close(a.peer);
    (void)close(b.peer);
}

static void it_may_be_given_up_during_the_handshake(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true};
    struct actor b = {.tls = guest_tls, .name = "localhost"};
    begin_over(tcp_pair, &a);
    begin_over(unix_pair, &b);
    settle();
    khp_net_stream_abort(a.stream);
    khp_net_stream_shutdown(b.stream, 1000);
    UNTIL(a.seen[ENDED] == 1 && b.seen[ENDED] == 1);
    assert_int_equal(a.why.code, KHP_NET_E_LOCAL);
    assert_int_equal(b.why.code, KHP_NET_E_LOCAL);
    (void)close(a.peer);
    (void)close(b.peer);
}

/* ---- ends ---- */

static void an_end_without_close_notify_is_told_as_such(void **state) {
    (void)state;
    char bytes[16];
    struct actor a = {.tls = host_tls, .server = true};
    struct raw r;
    raw_open(&r, &a);
    raw_write(&r, "hello", 5);
    UNTIL(a.size == 5);
    assert_int_equal(SSL_read(r.ssl, bytes, sizeof bytes), -1); /* tickets: unread, they reset */
    hang_up(&a);
    assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
    assert_int_equal(a.why.sys, 0);
    assert_non_null(strstr(a.why.text, "without a TLS close_notify"));
    raw_end(&r);
}

static void the_peers_close_notify_is_answered(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true, .echo = true};
    struct raw r;
    int why;
    raw_open(&r, &a);
    raw_write(&r, "hello", 5);
    (void)SSL_shutdown(r.ssl);
    assert_int_equal(raw_read(&r, 100, &why), 5);
    assert_int_equal(why, SSL_ERROR_ZERO_RETURN);
    assert_null(khp_net_stream_reserve(a.stream, 1));
    hang_up(&a);
    assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
    assert_string_equal(a.why.text, "closed by the peer");
    raw_end(&r);
}

static void after_a_close_notify_it_does_not_wait_for_ever(void **state) {
    (void)state;
    struct actor a = {.tls = host_tls, .server = true};
    struct raw r;
    raw_open(&r, &a);
    (void)SSL_shutdown(r.ssl);
    UNTIL(a.seen[ENDED] == 1); /* the peer keeps its end open */
    assert_int_equal(a.why.code, KHP_NET_E_CLOSED);
    raw_end(&r);
    (void)close(a.peer);
}

static void shutdown_sends_all_and_a_close_notify(void **state) {
    (void)state;
    enum { MUCH = 8 << 20 };
    struct actor a = {.tls = host_tls, .server = true};
    struct raw r;
    int why;
    raw_open(&r, &a);
    uint8_t *room = khp_net_stream_reserve(a.stream, MUCH);
    memset(room, 's', MUCH);
    khp_net_stream_commit(a.stream, MUCH);
    assert_int_equal(khp_net_stream_queued(a.stream), MUCH);
    khp_net_stream_shutdown(a.stream, (uint64_t)10000 * patience());
    raw_write(&r, "dropped", 7);
    a.silent = true;
    assert_int_equal(raw_read(&r, MUCH + 1, &why), MUCH);
    assert_int_equal(why, SSL_ERROR_ZERO_RETURN);
    hang_up(&a);
    assert_int_equal(a.why.code, KHP_NET_E_LOCAL);
    raw_end(&r);
}

static void abort_now(struct actor *a) {
    khp_net_stream_abort(a->stream);
    a->silent = true;
}

static void shut_now(struct actor *a) {
    khp_net_stream_shutdown(a->stream, 5000);
    a->silent = true;
}

static void both_work_in_every_callback(void **state) {
    (void)state;
    void (*const actions[])(struct actor *) = {abort_now, shut_now};
    for (int i = 0; i < 2; i++) {
        for (int where = OPENED; where <= DRAINED; where++) {
            introduce();
            guest.on[where] = actions[i];
            meet(transports[where % 2]);
            if (where != OPENED)
                UNTIL(guest.seen[OPENED] == 1 && host.seen[OPENED] == 1);
            if (where == READ) {
                for (int k = 0; k < 3; k++) {
                    assert_true(khp_net_stream_write(host.stream, "hello", 5));
                    khp_net_stream_flush(host.stream);
                }
            }
            if (where == DRAINED) {
                enum { MUCH = 16 << 20 };
                khp_net_stream_pause(host.stream);
                uint8_t *room = khp_net_stream_reserve(guest.stream, MUCH);
                memset(room, 'd', MUCH);
                khp_net_stream_commit(guest.stream, MUCH);
                settle();
                assert_true(khp_net_stream_queued(guest.stream) > 0);
                khp_net_stream_resume(host.stream);
            }
            both_end();
            assert_int_equal(guest.why.code, KHP_NET_E_LOCAL);
        }
    }
}

/* ---- pausing ---- */

static unsigned pauses;

static void pause_now(struct actor *a) {
    khp_net_stream_pause(a->stream);
    pauses++;
}

static void a_paused_stream_keeps_order_and_bounds(void **state) {
    (void)state;
    enum { ALL = 8 << 20 };
    introduce();
    host.on[READ] = pause_now;
    both_open(tcp_pair);
    uint8_t *room = khp_net_stream_reserve(guest.stream, ALL);
    for (size_t i = 0; i < ALL; i++)
        room[i] = (uint8_t)(i >> 12);
    khp_net_stream_commit(guest.stream, ALL);
    pauses = 0;
    size_t before = 0;
    while (host.size < ALL) {
        UNTIL(host.size > before);
        before = host.size;
        assert_int_equal(host.last, (uint8_t)((host.size - 1) >> 12));
        settle();
        assert_int_equal(host.size, before); /* nothing while it is paused */
        struct khp_net_tls_stream *session = host.stream->tls;
        assert_true(khp_net_queue_length(&session->kept) <= 131072);
        khp_net_stream_resume(host.stream);
    }
    assert_int_equal(host.size, ALL);
    assert_true(pauses > 10);
    khp_net_stream_abort(host.stream);
    both_end();
}

static void an_end_that_comes_while_paused_waits_for_the_bytes(void **state) {
    (void)state;
    introduce();
    both_open(tcp_pair);
    settle();
    khp_net_stream_pause(host.stream);
    assert_true(khp_net_stream_write(guest.stream, "hello", 5));
    khp_net_stream_shutdown(guest.stream, 10000);
    settle();
    assert_int_equal(host.size, 0);
    assert_int_equal(host.seen[ENDED], 0);
    khp_net_stream_resume(host.stream);
    both_end();
    assert_int_equal(host.size, 5);
    assert_string_equal(host.why.text, "closed by the peer");
}

static void nothing_is_lost_when_a_peer_goes_while_paused(void **state) {
    (void)state;
    enum { ALL = 100000 };
    for (size_t t = 0; t < sizeof transports / sizeof *transports; t++) {
        introduce();
        host.on[READ] = pause_now;
        both_open(transports[t]);
        settle();
        uint8_t *room = khp_net_stream_reserve(guest.stream, ALL);
        memset(room, 'l', ALL);
        khp_net_stream_commit(guest.stream, ALL);
        while (khp_net_stream_queued(guest.stream) > 0)
            assert_true(khp_net_loop_step(loop, 1));
        khp_net_stream_abort(guest.stream);
        while (host.seen[ENDED] == 0) {
            khp_net_stream_resume(host.stream);
            settle();
        }
        both_end();
        assert_int_equal(host.size, ALL);
    }
}

static void a_peer_that_never_reads_costs_memory_only(void **state) {
    (void)state;
    enum { MUCH = 16 << 20 };
    introduce();
    both_open(tcp_pair);
    khp_net_stream_pause(host.stream);
    settle();
    long before = resident();
    uint8_t *room = khp_net_stream_reserve(guest.stream, MUCH);
    memset(room, 'm', MUCH);
    khp_net_stream_commit(guest.stream, MUCH);
    settle();
    assert_true(khp_net_stream_queued(guest.stream) > 0);
    assert_true(khp_net_queue_length(&guest.stream->tls->wire) < 262144);
    if (memory_is_measured())
        assert_true(resident() - before < MUCH / 1024 + 8192);
    double cpu = cpu_time(), begin = seconds_now();
    assert_true(khp_net_loop_step(loop, 0.2));
    assert_true(seconds_now() - begin >= 0.1985);
    assert_true(cpu_time() - cpu < 0.05);
    khp_net_stream_abort(guest.stream);
    khp_net_stream_resume(host.stream);
    both_end();
}

/* ---- TLS on a stream that was plain ---- */

static unsigned tls_begun;

static void begin_tls_now(struct actor *a) {
    struct khp_net_error e = {0};
    if (tls_begun++ > 0)
        return;
    assert_true(khp_net_stream_write(a->stream, "plain\n", 6)); /* before TLS */
    assert_true(khp_net_stream_start_tls(a->stream, guest_tls, "localhost", &e));
    assert_true(khp_net_stream_write(a->stream, "sealed", 6)); /* within */
    assert_false(khp_net_stream_start_tls(a->stream, guest_tls, "localhost", &e));
    assert_int_equal(e.code, KHP_NET_E_TLS);
}

static void a_plain_stream_becomes_tls(void **state) {
    (void)state;
    struct actor a = {.on[READ] = begin_tls_now};
    struct khp_net_error e = {0};
    int pair[2];
    tls_begun = 0;
    tcp_pair(pair);
    act_on(&a, pair[0]);
    assert_false(khp_net_stream_start_tls(a.stream, guest_tls, "localhost", &e));
    assert_int_equal(send(pair[1], "HTTP/1.1 200 OK\r\n\r\n", 19, 0), 19);
    UNTIL(tls_begun == 1);
    settle();
    char plain[6];
    assert_int_equal(recv(pair[1], plain, sizeof plain, MSG_DONTWAIT), 6);
    assert_memory_equal(plain, "plain\n", 6);

    introduce();
    host.echo = true;
    act_on(&host, pair[1]); /* the peer goes on in TLS, too */
    UNTIL(a.seen[OPENED] == 2 && a.size == 19 + 6);
    assert_int_equal(host.size, 6);
    khp_net_stream_shutdown(a.stream, 5000);
    UNTIL(a.seen[ENDED] == 1 && host.seen[ENDED] == 1);
}

static void a_refused_certificate_ends_a_stream_that_was_plain(void **state) {
    (void)state;
    struct actor a = {0};
    struct khp_net_error e = {0};
    int pair[2];
    tcp_pair(pair);
    act_on(&a, pair[0]);
    UNTIL(a.seen[OPENED] == 1);
    introduce();
    act_on(&host, pair[1]);
    assert_true(khp_net_stream_start_tls(a.stream, guest_tls, "other.example", &e));
    UNTIL(a.seen[ENDED] == 1 && host.seen[ENDED] == 1);
    assert_int_equal(a.why.code, KHP_NET_E_TLS);
    assert_non_null(strstr(a.why.text, "hostname mismatch"));
    assert_int_equal(a.seen[OPENED], 1);
}

/* ---- resumption, memory, freeing ---- */

static void a_second_connection_resumes_the_session(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct khp_net_tls_info info;
        introduce();
        both_open(tcp_pair);
        settle(); /* the ticket */
        assert_true(khp_net_stream_tls_info(guest.stream, &info));
        assert_int_equal(info.resumed, i > 0);
        khp_net_stream_shutdown(guest.stream, 5000);
        both_end();
    }
}

enum { CROWD = 300 };
static struct actor crowd[2 * CROWD];
static int ends; /* of them */

static void gather(void) {
    memset(crowd, 0, sizeof crowd);
    ends = 2 * (memory_is_measured() ? CROWD : CROWD / 10); /* checkers are slow, too */
    for (int i = 0; i < ends / 2; i++) {
        int pair[2];
        struct actor *a = &crowd[i], *b = &crowd[ends - 1 - i];
        uint64_t handshake_ms = (uint64_t)10000 * patience();
        *a = (struct actor){.tls = host_tls, .server = true, .handshake_ms = handshake_ms};
        *b = (struct actor){.tls = guest_tls, .name = "localhost", .handshake_ms = handshake_ms};
        unix_pair(pair);
        act_on(a, pair[0]);
        act_on(b, pair[1]);
    }
}

static void idle_connections_cost_little(void **state) {
    (void)state;
    long before = resident();
    gather();
    for (int i = 0; i < ends; i++)
        UNTIL(crowd[i].seen[OPENED] == 1);
    settle();
    if (memory_is_measured()) /* from 3.5 on OpenSSL keeps 8 KB for a larger key exchange */
        assert_true((resident() - before) / ends < 40);
}

static void freeing_the_loop_ends_them_all(void **state) {
    (void)state;
    for (int turns = 0; turns < 6; turns++) {
        gather();
        for (int k = 0; k < turns; k++)
            (void)khp_net_loop_step(loop, 0);
        for (int i = 0; i < ends; i++) {
            if (i % 7 == 0)
                (void)khp_net_stream_write(crowd[i].stream, "queued", 6);
            if (i % 7 == 1)
                khp_net_stream_shutdown(crowd[i].stream, 1000);
            if (i % 7 == 2)
                khp_net_stream_pause(crowd[i].stream);
        }
        if (turns % 2 == 1)
            (void)khp_net_loop_step(loop, 0);
        khp_net_loop_free(loop);
        for (int i = 0; i < ends; i++)
            assert_int_equal(crowd[i].seen[ENDED], 1);
        loop = new_loop();
    }
}

/* Whatever happens to either end. */
static void every_stream_ends_once(void **state) {
    (void)state;
    srandom(11);
    for (int round = 0; round < 6; round++) {
        gather();
        for (int k = 0; k < 20 * ends; k++) {
            struct actor *a = &crowd[random() % ends];
            if (a->stream == NULL)
                continue;
            switch (random() % 60) {
            case 0:
                khp_net_stream_abort(a->stream);
                break;
            case 1:
                khp_net_stream_shutdown(a->stream, (uint64_t)random() % 30);
                break;
            case 2:
                khp_net_stream_pause(a->stream);
                break;
            case 3:
            case 4:
                khp_net_stream_resume(a->stream);
                break;
            case 5:
            case 6: {
                uint8_t *room = khp_net_stream_reserve(a->stream, 300000);
                if (room != NULL) {
                    memset(room, 'r', 300000);
                    khp_net_stream_commit(a->stream, 300000);
                }
                break;
            }
            case 7:
                a->on[READ] = abort_now;
                break;
            case 8:
                a->on[READ] = shut_now;
                break;
            default:
                if (random() % 4 == 0)
                    (void)khp_net_loop_step(loop, 0);
                break;
            }
        }
        if (round % 2 == 1) {
            khp_net_loop_free(loop);
            loop = new_loop();
        }
        for (int i = 0; i < ends; i++) {
            if (crowd[i].stream != NULL)
                khp_net_stream_abort(crowd[i].stream);
            UNTIL(crowd[i].seen[ENDED] == 1);
        }
    }
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        BOTH_TLS(both_roles_open_and_talk),
        BOTH_TLS(many_mebibytes_come_back),
        BOTH_TLS(a_burst_costs_one_send),
        BOTH_TLS(ciphertext_may_come_in_pieces),
        BOTH_TLS(keys_may_be_changed_while_it_runs),
        BOTH_TLS(key_updates_cannot_fill_the_memory),
        BOTH_TLS(a_certificate_that_is_refused_is_told_to_both),
        BOTH_TLS(a_missing_client_certificate_is_told_in_words),
        BOTH_TLS(a_peer_that_speaks_no_tls_is_told_apart),
        BOTH_TLS(a_peer_that_goes_during_the_handshake_is_told),
        BOTH_TLS(a_silent_peer_runs_out_of_time),
        BOTH_TLS(it_may_be_given_up_during_the_handshake),
        BOTH_TLS(an_end_without_close_notify_is_told_as_such),
        BOTH_TLS(the_peers_close_notify_is_answered),
        BOTH_TLS(after_a_close_notify_it_does_not_wait_for_ever),
        BOTH_TLS(shutdown_sends_all_and_a_close_notify),
        BOTH_TLS(both_work_in_every_callback),
        BOTH_TLS(a_paused_stream_keeps_order_and_bounds),
        BOTH_TLS(an_end_that_comes_while_paused_waits_for_the_bytes),
        BOTH_TLS(nothing_is_lost_when_a_peer_goes_while_paused),
        BOTH_TLS(a_peer_that_never_reads_costs_memory_only),
        BOTH_TLS(a_plain_stream_becomes_tls),
        BOTH_TLS(a_refused_certificate_ends_a_stream_that_was_plain),
        BOTH_TLS(a_second_connection_resumes_the_session),
        BOTH_TLS(idle_connections_cost_little),
        BOTH_TLS(freeing_the_loop_ends_them_all),
        BOTH_TLS(every_stream_ends_once),
    };
    return cmocka_run_group_tests_name("net stream over TLS", tests, set_up_once, NULL);
}

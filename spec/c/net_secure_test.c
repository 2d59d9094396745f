/*
 * TLS from end to end: listener, connector, streams and settings in one loop, over real sockets.
 */
#include "net_certs.h"
#include "net_peer.h"

/* ---- settings ---- */

static struct khp_net_tls *new_server(const char *certificate, const char *key,
                                      enum khp_net_tls_verify verify) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.certificate = certs_path(certificate),
                                    .key = certs_path(key),
                                    .ca = certs_path("ca.pem"),
                                    .verify = verify};
    struct khp_net_tls *tls = khp_net_tls_new_server(&o, &e);
    assert_string_equal(e.text, "");
    return tls;
}

static struct khp_net_tls *new_client(const char *ca, const char *certificate, const char *key) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.certificate = certificate ? certs_path(certificate) : NULL,
                                    .key = key ? certs_path(key) : NULL,
                                    .ca = certs_path(ca),
                                    .verify = KHP_NET_TLS_VERIFY_REQUIRED};
    struct khp_net_tls *tls = khp_net_tls_new_client(&o, &e);
    assert_string_equal(e.text, "");
    return tls;
}

static struct khp_net_tls *localhost(void) {
    return new_server("localhost.pem", "localhost.key", KHP_NET_TLS_VERIFY_NONE);
}

static struct khp_net_tls *trusting(void) {
    return new_client("ca.pem", NULL, NULL);
}

static void listen_secure(struct host *h, struct khp_net_tls *tls) {
    listen_with(h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1, .tls = tls});
}

static void dial_secure(struct peer *p, const struct host *h, struct khp_net_tls *tls,
                        const char *server_name) {
    *p = (struct peer){0};
    p->stream = khp_net_connect(
        loop,
        &(struct khp_net_connect_options){
            .host = "127.0.0.1", .port = port_of(h), .tls = tls, .server_name = server_name},
        &peer_handler, p);
    assert_non_null(p->stream);
}

/* Both ends are open and words go both ways. */
static void assert_talk(struct peer *p, struct peer *served) {
    UNTIL(p->opens == 1 && served->opens == 1);
    size_t before = p->size;
    served->echo = true;
    assert_true(khp_net_stream_write(p->stream, "hello", 5));
    UNTIL(p->size == before + 5);
    assert_memory_equal(p->bytes, "hello", 5);
}

static void end_both(struct peer *p, struct peer *served) {
    khp_net_stream_shutdown(p->stream, 5000);
    UNTIL(p->ends == 1 && served->ends == 1);
    assert_int_equal(served->why.code, KHP_NET_E_CLOSED);
    assert_int_equal(served->why.sys, 0);
}

static struct khp_net_tls_info info_of(const struct peer *p) {
    struct khp_net_tls_info info;
    assert_true(khp_net_stream_tls_info(p->stream, &info));
    return info;
}

/* ---- tests ---- */

static void tells_what_was_negotiated(void **state) {
    struct khp_net_tls *server = localhost(), *client = trusting();
    struct khp_net_tls_info info;
    struct peer p;
    HOST(h, 1);
    (void)state;
    listen_secure(&h, server);
    dial_secure(&p, &h, client, "localhost");
    assert_false(khp_net_stream_tls_info(p.stream, &info));
    /* The settings live for as long as somebody uses them. */
    khp_net_tls_release(server);
    khp_net_tls_release(client);
    assert_talk(&p, &h.peers[0]);
    info = info_of(&p);
    assert_string_equal(info.version, "TLSv1.3");
    assert_string_equal(info.alpn, "http/1.1");
    assert_string_equal(info.peer_subject, "CN=localhost");
    assert_true(info.peer_verified && !info.resumed);
    info = info_of(&h.peers[0]);
    assert_string_equal(info.server_name, "localhost");
    assert_string_equal(info.alpn, "http/1.1");
    assert_string_equal(info.peer_subject, "");
    assert_false(info.peer_verified);
    end_both(&p, &h.peers[0]);
    khp_net_listener_close(h.listener);
}

static void speaks_tls_over_unix_sockets(void **state) {
    struct khp_net_tls *server = localhost(), *client = trusting();
    struct peer p = {0};
    char path[64];
    HOST(h, 2);
    (void)state;
    (void)snprintf(path, sizeof path, "@khp-spec-tls-%d", (int)getpid());
    listen_with(&h, &(struct khp_net_listener_options){.unix_path = path, .fd = -1, .tls = server});
    struct khp_net_connect_options o = {
        .unix_path = path, .tls = client, .server_name = "localhost"};
    p.stream = khp_net_connect(loop, &o, &peer_handler, &p);
    assert_talk(&p, &h.peers[0]);
    end_both(&p, &h.peers[0]);
    o.server_name = NULL;
    p = (struct peer){0};
    p.stream = khp_net_connect(loop, &o, &peer_handler, &p);
    UNTIL(p.ends == 1 && count_ends(&h) == 2);
    assert_string_equal(p.why.text, "no server name to check the certificate against");
    khp_net_listener_close(h.listener);
    khp_net_tls_release(server);
    khp_net_tls_release(client);
}

static void tells_both_ends_why_a_certificate_is_refused(void **state) {
    const struct {
        const char *certificate, *key, *ca, *name, *client_error, *server_error;
    } cases[] = {
        {"localhost.pem", "localhost.key", "ca.pem", "other.example",
         "certificate verify failed: hostname mismatch",
         alert_text(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE)},
        {"a.pem", "a.key", "ca.pem", NULL, "certificate verify failed: IP address mismatch",
         alert_text(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE)},
        {"localhost.pem", "localhost.key", "other-ca.pem", "localhost",
         "certificate verify failed: unable to get local issuer certificate",
         "tlsv1 alert unknown ca"},
        {"expired.pem", "expired.key", "ca.pem", "localhost",
         "certificate verify failed: certificate has expired",
         alert_text(SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED)},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct khp_net_tls *server =
            new_server(cases[i].certificate, cases[i].key, KHP_NET_TLS_VERIFY_NONE);
        struct khp_net_tls *client = new_client(cases[i].ca, NULL, NULL);
        struct peer p;
        HOST(h, 1);
        listen_secure(&h, server);
        dial_secure(&p, &h, client, cases[i].name);
        UNTIL(p.ends == 1 && count_ends(&h) == 1);
        assert_int_equal(p.opens + h.peers[0].opens, 0);
        assert_string_equal(p.why.text, cases[i].client_error);
        assert_int_equal(p.why.code, KHP_NET_E_TLS);
        assert_string_equal(h.peers[0].why.text, cases[i].server_error);
        assert_int_equal(h.peers[0].why.code, KHP_NET_E_TLS);
        khp_net_listener_close(h.listener);
        khp_net_tls_release(server);
        khp_net_tls_release(client);
    }
}

static void shows_each_name_its_certificate(void **state) {
    static const char *const names[][2] = {{"localhost", "CN=localhost"},
                                           {NULL, "CN=localhost"},
                                           {"a.example", "CN=a.example"},
                                           {"x.b.example", "CN=b.example"}};
    struct khp_net_tls *server = localhost(), *client = trusting();
    HOST(h, 4);
    (void)state;
    assert_true(
        khp_net_tls_add_name(server, "a.example", certs_path("a.pem"), certs_path("a.key"), NULL));
    assert_true(khp_net_tls_add_name(server, "*.b.example", certs_path("b.pem"),
                                     certs_path("b.key"), NULL));
    listen_secure(&h, server);
    for (unsigned i = 0; i < 4; i++) {
        struct peer p;
        dial_secure(&p, &h, client, names[i][0]);
        assert_talk(&p, &h.peers[i]);
        assert_string_equal(info_of(&p).peer_subject, names[i][1]);
        assert_string_equal(info_of(&h.peers[i]).server_name,
                            names[i][0] != NULL ? names[i][0] : "");
        end_both(&p, &h.peers[i]);
    }
    khp_net_listener_close(h.listener);
    khp_net_tls_release(server);
    khp_net_tls_release(client);
}

static void asks_clients_for_certificates(void **state) {
    static const struct {
        enum khp_net_tls_verify verify;
        const char *certificate, *key, *server_error, *client_error;
    } cases[] = {
        {KHP_NET_TLS_VERIFY_NONE, "client.pem", "client.key", NULL, NULL},
        {KHP_NET_TLS_VERIFY_OPTIONAL, NULL, NULL, NULL, NULL},
        {KHP_NET_TLS_VERIFY_OPTIONAL, "client.pem", "client.key", NULL, NULL},
        {KHP_NET_TLS_VERIFY_OPTIONAL, "stranger.pem", "stranger.key",
         "certificate verify failed: unable to get local issuer certificate",
         "tlsv1 alert unknown ca"},
        {KHP_NET_TLS_VERIFY_REQUIRED, "client.pem", "client.key", NULL, NULL},
        {KHP_NET_TLS_VERIFY_REQUIRED, NULL, NULL, "peer did not return a certificate",
         "tlsv13 alert certificate required"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct khp_net_tls *server = new_server("localhost.pem", "localhost.key", cases[i].verify);
        struct khp_net_tls *client = new_client("ca.pem", cases[i].certificate, cases[i].key);
        struct peer p;
        HOST(h, 1);
        listen_secure(&h, server);
        dial_secure(&p, &h, client, "localhost");
        if (cases[i].server_error == NULL) {
            bool shown = cases[i].verify != KHP_NET_TLS_VERIFY_NONE && cases[i].certificate != NULL;
            assert_talk(&p, &h.peers[0]);
            assert_string_equal(info_of(&h.peers[0]).peer_subject, shown ? "CN=joe" : "");
            assert_int_equal(info_of(&h.peers[0]).peer_verified, shown);
            end_both(&p, &h.peers[0]);
        } else {
            /* RFC 8446 4.4.3: the client is open before it can know. */
            UNTIL(p.ends == 1 && count_ends(&h) == 1);
            assert_int_equal(h.peers[0].opens, 0);
            assert_string_equal(h.peers[0].why.text, cases[i].server_error);
            assert_string_equal(p.why.text, cases[i].client_error);
            assert_int_equal(p.why.code, KHP_NET_E_TLS);
        }
        khp_net_listener_close(h.listener);
        khp_net_tls_release(server);
        khp_net_tls_release(client);
    }
}

static void resumes_the_second_connection(void **state) {
    struct khp_net_tls *server = localhost(), *client = trusting();
    HOST(h, 4);
    (void)state;
    listen_secure(&h, server);
    for (unsigned i = 0; i < 4; i++) {
        struct peer p;
        dial_secure(&p, &h, client, "localhost");
        assert_talk(&p, &h.peers[i]);
        assert_int_equal(info_of(&p).resumed, i > 0);
        assert_int_equal(info_of(&h.peers[i]).resumed, i > 0);
        assert_true(info_of(&p).peer_verified);
        if (i % 2 == 0) {
            end_both(&p, &h.peers[i]);
        } else { /* a connection that breaks does not spoil it */
            khp_net_stream_abort(p.stream);
            UNTIL(p.ends == 1 && h.peers[i].ends == 1);
        }
    }
    khp_net_listener_close(h.listener);
    khp_net_tls_release(server);
    khp_net_tls_release(client);
}

static void copy(const char *from, const char *to) {
    char command[700];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", certs_path(from), certs_path(to));
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

static void reloads_while_connections_live(void **state) {
    struct khp_net_error e = {0};
    struct peer old, fresh;
    HOST(h, 3);
    (void)state;
    copy("localhost.pem", "secure.pem");
    copy("localhost.key", "secure.key");
    struct khp_net_tls *server = new_server("secure.pem", "secure.key", KHP_NET_TLS_VERIFY_NONE);
    struct khp_net_tls *client = trusting();
    listen_secure(&h, server);
    dial_secure(&old, &h, client, "localhost");
    assert_talk(&old, &h.peers[0]);

    copy("a.pem", "secure.pem");
    assert_false(khp_net_tls_reload(server, &e));
    assert_non_null(strstr(e.text, "secure.key: key values mismatch"));
    assert_talk(&old, &h.peers[0]);

    copy("a.key", "secure.key");
    assert_true(khp_net_tls_reload(server, &e));
    dial_secure(&fresh, &h, client, "a.example");
    assert_talk(&fresh, &h.peers[1]);
    assert_string_equal(info_of(&fresh).peer_subject, "CN=a.example");
    assert_talk(&old, &h.peers[0]);
    assert_string_equal(info_of(&old).peer_subject, "CN=localhost");
    end_both(&old, &h.peers[0]);
    end_both(&fresh, &h.peers[1]);
    khp_net_listener_close(h.listener);
    khp_net_tls_release(server);
    khp_net_tls_release(client);
}

static void says_when_one_end_does_not_speak_tls(void **state) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    struct khp_net_tls *server = localhost(), *client = trusting();
    struct peer p = {0};
    int port = 0;
    HOST(h, 1);
    (void)state;
    listen_secure(&h, server);
    int fd = dial("127.0.0.1", port_of(&h));
    assert_int_equal(send(fd, request, sizeof request - 1, 0), sizeof request - 1);
    UNTIL(count_ends(&h) == 1);
    assert_string_equal(h.peers[0].why.text, "http request: the peer does not speak TLS");
    (void)close(fd);
    khp_net_listener_close(h.listener);

    int listener = plain_listen("127.0.0.1", &port, 4);
    struct khp_net_connect_options o = {.host = "127.0.0.1", .port = port, .tls = client};
    p.stream = khp_net_connect(loop, &o, &peer_handler, &p);
    fd = accept(listener, NULL, NULL);
    assert_int_equal(send(fd, answer, sizeof answer - 1, 0), sizeof answer - 1);
    UNTIL(p.ends == 1);
    assert_string_equal(p.why.text, "wrong version number: the peer does not speak TLS");
    assert_int_equal(p.why.code, KHP_NET_E_TLS);
    (void)close(fd);

    p = (struct peer){0};
    p.stream = khp_net_connect(loop, &o, &peer_handler, &p);
    fd = accept(listener, NULL, NULL);
    (void)shutdown(fd, SHUT_WR);
    UNTIL(p.ends == 1);
    assert_string_equal(p.why.text, "the peer closed the connection during the TLS handshake");
    assert_int_equal(p.why.code, KHP_NET_E_TLS);
    (void)close(fd);

    /* Connected, but silent: one deadline for everything. */
    o.timeout_ms = 200;
    double begin = seconds_now();
    p = (struct peer){0};
    p.stream = khp_net_connect(loop, &o, &peer_handler, &p);
    UNTIL(p.ends == 1);
    assert_int_equal(p.why.code, KHP_NET_E_TIMEOUT);
    assert_true(seconds_now() - begin >= 0.195 && seconds_now() - begin < 2);
    (void)close(listener);
    khp_net_tls_release(server);
    khp_net_tls_release(client);
}

static void bounds_the_time_of_a_handshake(void **state) {
    struct khp_net_tls *server = localhost();
    HOST(h, 1);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){
                        .host = "127.0.0.1", .fd = -1, .tls = server, .handshake_ms = 50});
    int fd = dial("127.0.0.1", port_of(&h));
    UNTIL(count_ends(&h) == 1);
    assert_int_equal(h.peers[0].opens, 0);
    assert_int_equal(h.peers[0].why.code, KHP_NET_E_TIMEOUT);
    assert_int_equal(khp_net_listener_streams(h.listener), 0);
    (void)close(fd);
    khp_net_listener_close(h.listener);
    khp_net_tls_release(server);
}

static void ends_with_its_loop_at_any_point(void **state) {
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct khp_net_tls *server = localhost(), *client = trusting();
        struct peer p;
        HOST(h, 1);
        listen_secure(&h, server);
        dial_secure(&p, &h, client, "localhost");
        khp_net_tls_release(server);
        khp_net_tls_release(client);
        for (int n = 0; n < turns; n++)
            (void)khp_net_loop_step(loop, 0);
        khp_net_loop_free(loop);
        assert_int_equal(p.ends, 1);
        assert_int_equal(count_ends(&h), h.count);
        loop = new_loop();
    }
}

static void ends_each_of_many_once(void **state) {
    enum { MANY = 60 };
    static struct peer clients[MANY], servers[MANY];
    struct host h = {.peers = servers, .room = MANY};
    struct khp_net_tls *server = localhost(), *client = trusting();
    (void)state;
    listen_secure(&h, server);
    for (int i = 0; i < MANY; i++)
        dial_secure(&clients[i], &h, client, i % 10 == 9 ? "other.example" : "localhost");
    UNTIL(count_opens(&h) == MANY - MANY / 10 && count_ends(&h) == MANY / 10);
    for (int i = 0; i < MANY; i++) {
        if (clients[i].stream != NULL && i % 2 == 0)
            khp_net_stream_shutdown(clients[i].stream, 5000);
        else if (clients[i].stream != NULL)
            khp_net_stream_abort(clients[i].stream);
    }
    UNTIL(count_ends(&h) == MANY);
    for (int i = 0; i < MANY; i++)
        UNTIL(clients[i].ends == 1);
    settle();
    khp_net_listener_close(h.listener);
    khp_net_tls_release(server);
    khp_net_tls_release(client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(tells_what_was_negotiated),
        TEST(speaks_tls_over_unix_sockets),
        TEST(tells_both_ends_why_a_certificate_is_refused),
        TEST(shows_each_name_its_certificate),
        TEST(asks_clients_for_certificates),
        TEST(resumes_the_second_connection),
        TEST(reloads_while_connections_live),
        TEST(says_when_one_end_does_not_speak_tls),
        TEST(bounds_the_time_of_a_handshake),
        TEST(ends_with_its_loop_at_any_point),
        TEST(ends_each_of_many_once),
    };
    (void)alarm(120 * patience());
    khp_net_loop_free(new_loop()); /* what the first one keeps for the process is not a leak */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

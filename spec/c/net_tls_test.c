/*
 * TLS settings on the wire: verification, names, ALPN, versions, clients' certificates. No sockets.
 */
#include "net_tls_pair.h"

/* ---- the client's verification ---- */

static void verifies_names_and_addresses(void **state) {
    (void)state;
    assert_string_equal(try(trusting(), localhost(), "localhost", NULL), "");
    assert_string_equal(try(trusting(), localhost(), "LocalHost.", NULL), "");
    assert_string_equal(try(trusting(), localhost(), "127.0.0.1", NULL), "");
    assert_string_equal(try(trusting(), localhost(), "::1", NULL), "");
    assert_string_equal(try(trusting(), localhost(), "::1%lo", NULL), "");
    assert_string_equal(try(new_client("ca", NULL, NULL), localhost(), "localhost", NULL), "");
}

static void names_the_reason_of_a_refused_certificate(void **state) {
    const char *server_error;
    (void)state;
    assert_string_equal(try(trusting(), localhost(), "other.example", &server_error),
                        "certificate verify failed: hostname mismatch");
    assert_string_equal(server_error, alert_text(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE));
    assert_string_equal(try(trusting(), localhost(), "127.0.0.2", NULL),
                        "certificate verify failed: IP address mismatch");
    assert_string_equal(
        try(new_client("other-ca.pem", NULL, NULL), localhost(), "localhost", &server_error),
        "certificate verify failed: unable to get local issuer certificate");
    assert_string_equal(server_error, "tlsv1 alert unknown ca");
    assert_string_equal(try(trusting(),
                            new_server("expired.pem", "expired.key", NULL, KHP_NET_TLS_VERIFY_NONE),
                            "localhost", NULL),
                        "certificate verify failed: certificate has expired");
    /* A wildcard stands for one label. */
    struct khp_net_tls *wild = new_server("b.pem", "b.key", NULL, KHP_NET_TLS_VERIFY_NONE);
    khp_net_tls_retain(wild);
    assert_string_equal(try(trusting(), wild, "x.b.example", NULL), "");
    assert_string_equal(try(trusting(), wild, "x.y.b.example", NULL),
                        "certificate verify failed: hostname mismatch");
}

static void trusts_the_system_by_default(void **state) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.verify = KHP_NET_TLS_VERIFY_REQUIRED};
    (void)state;
    assert_string_equal(try(khp_net_tls_new_client(&o, &e), localhost(), "localhost", NULL),
                        "certificate verify failed: unable to get local issuer certificate");
    (void)setenv("SSL_CERT_FILE", certs_path("ca.pem"), 1);
    assert_string_equal(try(khp_net_tls_new_client(&o, &e), localhost(), "localhost", NULL), "");
    (void)unsetenv("SSL_CERT_FILE");
}

static void can_be_told_not_to_verify(void **state) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.verify = KHP_NET_TLS_VERIFY_NONE};
    (void)state;
    assert_string_equal(try(khp_net_tls_new_client(&o, &e), localhost(), "other.example", NULL),
                        "");
    assert_string_equal(try(khp_net_tls_new_client(&o, &e), localhost(), NULL, NULL), "");
}

static void never_verifies_without_a_name(void **state) {
    struct khp_net_error e = {0};
    struct khp_net_tls *tls = trusting();
    (void)state;
    assert_null(khp_net_tls_session(tls, false, NULL, &e));
    assert_string_equal(e.text, "no server name to check the certificate against");
    assert_null(khp_net_tls_session(tls, false, "", &e));
    assert_null(khp_net_tls_session(tls, true, NULL, &e));
    assert_string_equal(e.text, "TLS settings of a client used for a server");
    /* OpenSSL would take this for every name below. */
    assert_null(khp_net_tls_session(tls, false, ".b.example", &e));
    assert_string_equal(e.text, ".b.example: not a server name");
    char name[300];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_null(khp_net_tls_session(tls, false, name, &e));
    assert_non_null(strstr(e.text, "aaa: not a server name"));
    khp_net_tls_release(tls);
}

/* ---- what the wire says besides ---- */

static void shows_the_whole_chain(void **state) {
    (void)state;
    assert_string_equal(try(trusting(),
                            new_server("chain.pem", "chain.key", NULL, KHP_NET_TLS_VERIFY_NONE),
                            "localhost", NULL),
                        "");
}

static void sends_names_but_no_addresses(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;
    struct pair p = begin(client, server, "localhost");
    shake(&p);
    assert_string_equal(SSL_get_servername(p.server.ssl, TLSEXT_NAMETYPE_host_name), "localhost");
    finish(&p);
    p = begin(client, server, "127.0.0.1");
    shake(&p);
    assert_good(&p);
    assert_null(SSL_get_servername(p.server.ssl, TLSEXT_NAMETYPE_host_name));
    finish(&p);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static const char *chosen_protocol(SSL *ssl) {
    static char text[32];
    const unsigned char *name;
    unsigned n;
    SSL_get0_alpn_selected(ssl, &name, &n);
    (void)snprintf(text, sizeof text, "%.*s", (int)n, (const char *)name);
    return text;
}

static void agrees_on_http_1_1_or_on_nothing(void **state) {
    static const unsigned char both[] = "\x02h2\x08http/1.1", other[] = "\x02h2\x07http/1.";
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;
    for (int turn = 0; turn < 4; turn++) {
        struct pair p = begin(client, server, "localhost");
        const char *expected = "http/1.1";
        if (turn == 1)
            assert_int_equal(SSL_set_alpn_protos(p.client.ssl, both, sizeof both - 1), 0);
        if (turn == 2) {
            assert_int_equal(SSL_set_alpn_protos(p.client.ssl, other, sizeof other - 1), 0);
            expected = "";
        }
        if (turn == 3) {
            assert_int_equal(SSL_set_alpn_protos(p.client.ssl, NULL, 0), 0);
            expected = "";
        }
        shake(&p);
        assert_good(&p);
        assert_string_equal(chosen_protocol(p.client.ssl), expected);
        assert_string_equal(chosen_protocol(p.server.ssl), expected);
        finish(&p);
    }
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void speaks_1_2_and_1_3_only(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;
    struct pair p = begin(client, server, "localhost");
    shake(&p);
    assert_good(&p);
    assert_int_equal(SSL_version(p.server.ssl), TLS1_3_VERSION);
    finish(&p);
    p = begin(client, server, "localhost");
    SSL_set_max_proto_version(p.client.ssl, TLS1_2_VERSION);
    shake(&p);
    assert_good(&p);
    assert_int_equal(SSL_version(p.server.ssl), TLS1_2_VERSION);
    finish(&p);
    p = begin(client, server, "localhost");
    SSL_set_security_level(p.client.ssl, 0);
    SSL_set_cipher_list(p.client.ssl, "ALL:@SECLEVEL=0");
    SSL_set_min_proto_version(p.client.ssl, TLS1_1_VERSION);
    SSL_set_max_proto_version(p.client.ssl, TLS1_1_VERSION);
    shake(&p);
    assert_true(p.server.failed && p.client.failed);
    assert_string_equal(p.server.error.text, "unsupported protocol");
    assert_string_equal(p.client.error.text, "tlsv1 alert protocol version");
    finish(&p);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void says_when_the_peer_does_not_speak_tls(void **state) {
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;

    struct pair p = begin(client, server, "localhost");
    assert_int_equal(BIO_write(SSL_get_wbio(p.client.ssl), http, sizeof http - 1), sizeof http - 1);
    advance(&p.server);
    assert_string_equal(p.server.error.text, "http request: the peer does not speak TLS");
    assert_int_equal(p.server.error.code, KHP_NET_E_TLS);
    finish(&p);

    p = begin(client, server, "localhost");
    assert_int_equal(BIO_write(SSL_get_wbio(p.server.ssl), answer, sizeof answer - 1),
                     sizeof answer - 1);
    advance(&p.client);
    assert_string_equal(p.client.error.text, "wrong version number: the peer does not speak TLS");
    finish(&p);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void says_when_the_peer_goes_away(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    struct khp_net_error e;
    (void)state;

    struct pair p = begin(client, server, "localhost");
    advance(&p.client);
    assert_int_equal(BIO_shutdown_wr(SSL_get_wbio(p.server.ssl)), 1);
    advance(&p.client);
    assert_string_equal(p.client.error.text,
                        "the peer closed the connection during the TLS handshake");
    finish(&p);

    p = begin(client, server, "localhost");
    shake(&p);
    assert_good(&p);
    khp_net_tls_explain(p.client.ssl, SSL_ERROR_SYSCALL, &e);
    assert_string_equal(e.text, "closed by the peer without a TLS close_notify");
    finish(&p);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

/* ---- several certificates ---- */

static void chooses_the_certificate_by_name(void **state) {
    static const char *const cases[][2] = {
        {"a.example", "a.example"},     {"A.Example", "a.example"}, {"x.b.example", "b.example"},
        {"X.B.EXAMPLE", "b.example"},   {"localhost", "localhost"}, {"127.0.0.1", "localhost"},
        {"x.y.b.example", "localhost"}, {"b.example", "localhost"}, {"a.example.org", "localhost"}};
    struct khp_net_tls *server = named_server();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(served(server, cases[i][0]), cases[i][1]);
    /* RFC 6125 6.4.3: the wildcard stands for something. */
    struct khp_net_error e = {0};
    char nothing[] = ".b.example";
    struct khp_net_tls_options o = {.verify = KHP_NET_TLS_VERIFY_NONE};
    struct khp_net_tls *client = khp_net_tls_new_client(&o, &e);
    struct pair p = begin(client, server, NULL);
    assert_int_equal(SSL_set_tlsext_host_name(p.client.ssl, nothing), 1);
    shake(&p);
    assert_string_equal(shown(&p), "localhost");
    finish(&p);
    khp_net_tls_release(client);
    /* An exact name before a wildcard, and the last certificate given for a name. */
    assert_true(
        khp_net_tls_add_name(server, "x.b.example", certs_path("a.pem"), certs_path("a.key"), &e));
    assert_true(
        khp_net_tls_add_name(server, "a.example", certs_path("b.pem"), certs_path("b.key"), &e));
    assert_string_equal(served(server, "x.b.example"), "a.example");
    assert_string_equal(served(server, "y.b.example"), "b.example");
    assert_string_equal(served(server, "a.example"), "b.example");
    khp_net_tls_release(server);
}

/* ---- certificates of clients ---- */

static void asks_clients_for_certificates(void **state) {
    static const char required[] = "peer did not return a certificate";
    static const struct {
        enum khp_net_tls_verify verify;
        const char *certificate, *key, *client_error, *server_error;
    } cases[] = {
        {KHP_NET_TLS_VERIFY_NONE, NULL, NULL, "", ""},
        {KHP_NET_TLS_VERIFY_NONE, "stranger.pem", "stranger.key", "", ""},
        {KHP_NET_TLS_VERIFY_OPTIONAL, NULL, NULL, "", ""},
        {KHP_NET_TLS_VERIFY_OPTIONAL, "client.pem", "client.key", "", ""},
        {KHP_NET_TLS_VERIFY_OPTIONAL, "stranger.pem", "stranger.key", "tlsv1 alert unknown ca",
         "certificate verify failed: unable to get local issuer certificate"},
        {KHP_NET_TLS_VERIFY_REQUIRED, "client.pem", "client.key", "", ""},
        {KHP_NET_TLS_VERIFY_REQUIRED, NULL, NULL, "tlsv13 alert certificate required", required},
        {KHP_NET_TLS_VERIFY_REQUIRED, "stranger.pem", "stranger.key", "tlsv1 alert unknown ca",
         "certificate verify failed: unable to get local issuer certificate"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct khp_net_tls *server =
            new_server("localhost.pem", "localhost.key", "ca.pem", cases[i].verify);
        struct khp_net_tls *client = new_client("ca.pem", cases[i].certificate, cases[i].key);
        /* A name's certificate is served under the same conditions. */
        assert_true(khp_net_tls_add_name(server, "a.example", certs_path("a.pem"),
                                         certs_path("a.key"), NULL));
        for (int turn = 0; turn < 2; turn++) {
            struct pair p = begin(client, server, turn == 0 ? "localhost" : "a.example");
            shake(&p);
            assert_string_equal(p.client.error.text, cases[i].client_error);
            assert_string_equal(p.server.error.text, cases[i].server_error);
            if (cases[i].server_error[0] == '\0') {
                bool given =
                    cases[i].certificate != NULL && cases[i].verify != KHP_NET_TLS_VERIFY_NONE;
                assert_int_equal(SSL_get0_peer_certificate(p.server.ssl) != NULL, given);
            }
            finish(&p);
        }
        khp_net_tls_release(client);
        khp_net_tls_release(server);
    }
}

static void takes_the_clients_ca_from_a_folder(void **state) {
    (void)state;
    assert_string_equal(
        try(new_client("ca.pem", "client.pem", "client.key"),
            new_server("localhost.pem", "localhost.key", "ca", KHP_NET_TLS_VERIFY_REQUIRED),
            "localhost", NULL),
        "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verifies_names_and_addresses),
        cmocka_unit_test(names_the_reason_of_a_refused_certificate),
        cmocka_unit_test(trusts_the_system_by_default),
        cmocka_unit_test(can_be_told_not_to_verify),
        cmocka_unit_test(never_verifies_without_a_name),
        cmocka_unit_test(shows_the_whole_chain),
        cmocka_unit_test(sends_names_but_no_addresses),
        cmocka_unit_test(agrees_on_http_1_1_or_on_nothing),
        cmocka_unit_test(speaks_1_2_and_1_3_only),
        cmocka_unit_test(says_when_the_peer_does_not_speak_tls),
        cmocka_unit_test(says_when_the_peer_goes_away),
        cmocka_unit_test(chooses_the_certificate_by_name),
        cmocka_unit_test(asks_clients_for_certificates),
        cmocka_unit_test(takes_the_clients_ca_from_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

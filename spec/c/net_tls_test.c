/*
 * TLS settings: client and server sessions joined by a pair of BIOs, no sockets. And how addresses
 * are written.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "net/internal.h"
#include "net_certs.h"

/* ---- a client and a server ---- */

struct end {
    SSL *ssl;
    bool done, failed;
    struct khp_net_error error;
};

struct pair {
    struct end client, server;
};

static void join(struct pair *p) {
    BIO *a, *b;
    assert_int_equal(BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16), 1);
    SSL_set_bio(p->client.ssl, a, a);
    SSL_set_bio(p->server.ssl, b, b);
}

static void advance(struct end *end) {
    char byte;
    if (end->failed)
        return;
    ERR_clear_error();
    /* Reading goes on after the handshake: that is where tickets and late alerts come. */
    int rc = end->done ? SSL_read(end->ssl, &byte, 1) : SSL_do_handshake(end->ssl);
    int why = SSL_get_error(end->ssl, rc);
    if (why == SSL_ERROR_NONE) {
        end->done = true;
    } else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        end->failed = true;
        khp_net_tls_explain(end->ssl, why, &end->error);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void shake(struct pair *p) {
    for (int turn = 0; turn < 10; turn++) {
        advance(&p->client);
        advance(&p->server);
    }
}

static struct pair begin(struct khp_net_tls *client, struct khp_net_tls *server, const char *name) {
    struct pair p = {0};
    struct khp_net_error e = {0};
    p.client.ssl = khp_net_tls_session(client, false, name, &e);
    assert_string_equal(e.text, "");
    assert_non_null(p.client.ssl);
    p.server.ssl = khp_net_tls_session(server, true, NULL, &e);
    assert_non_null(p.server.ssl);
    join(&p);
    return p;
}

static void finish(struct pair *p) {
    /* In order, or OpenSSL thinks that the session is not to be trusted again. */
    (void)SSL_shutdown(p->client.ssl);
    (void)SSL_shutdown(p->server.ssl);
    SSL_free(p->client.ssl);
    SSL_free(p->server.ssl);
}

static void assert_good(const struct pair *p) {
    assert_string_equal(p->client.error.text, "");
    assert_string_equal(p->server.error.text, "");
    assert_true(p->client.done && p->server.done);
}

/* The common name of the certificate that the server showed. */
static const char *shown(const struct pair *p) {
    static char name[64];
    const X509 *certificate = SSL_get0_peer_certificate(p->client.ssl);
    assert_non_null(certificate);
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                    sizeof name);
    return name;
}

static struct khp_net_tls *new_server(const char *certificate, const char *key, const char *ca,
                                      enum khp_net_tls_verify verify) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.certificate = certs_path(certificate),
                                    .key = certs_path(key),
                                    .ca = ca != NULL ? certs_path(ca) : NULL,
                                    .verify = verify};
    struct khp_net_tls *tls = khp_net_tls_new_server(&o, &e);
    assert_string_equal(e.text, "");
    assert_non_null(tls);
    return tls;
}

static struct khp_net_tls *localhost(void) {
    return new_server("localhost.pem", "localhost.key", NULL, KHP_NET_TLS_VERIFY_NONE);
}

static struct khp_net_tls *new_client(const char *ca, const char *certificate, const char *key) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.certificate = certificate ? certs_path(certificate) : NULL,
                                    .key = key ? certs_path(key) : NULL,
                                    .ca = certs_path(ca),
                                    .verify = KHP_NET_TLS_VERIFY_REQUIRED};
    struct khp_net_tls *tls = khp_net_tls_new_client(&o, &e);
    assert_string_equal(e.text, "");
    assert_non_null(tls);
    return tls;
}

/* One handshake; returns the client's error, "" when it went well. Frees both settings. */
static const char *try(struct khp_net_tls *client, struct khp_net_tls *server, const char *name,
                       const char **server_error) {
    static struct pair p;
    p = begin(client, server, name);
    shake(&p);
    finish(&p);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
    if (server_error != NULL)
        *server_error = p.server.error.text;
    return p.client.error.text;
}

static struct khp_net_tls *trusting(void) {
    return new_client("ca.pem", NULL, NULL);
}

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
    assert_string_equal(server_error, "sslv3 alert bad certificate");
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

static struct khp_net_tls *named_server(void) {
    struct khp_net_tls *tls = localhost();
    assert_true(
        khp_net_tls_add_name(tls, "*.b.example", certs_path("b.pem"), certs_path("b.key"), NULL));
    assert_true(
        khp_net_tls_add_name(tls, "a.example", certs_path("a.pem"), certs_path("a.key"), NULL));
    return tls;
}

static const char *served(struct khp_net_tls *server, const char *name) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {.verify = KHP_NET_TLS_VERIFY_NONE};
    struct khp_net_tls *client = khp_net_tls_new_client(&o, &e);
    struct pair p = begin(client, server, name);
    shake(&p);
    assert_good(&p);
    const char *subject = shown(&p);
    finish(&p);
    khp_net_tls_release(client);
    return subject;
}

static void chooses_the_certificate_by_name(void **state) {
    static const char *const cases[][2] = {
        {"a.example", "a.example"},     {"A.Example", "a.example"}, {"x.b.example", "b.example"},
        {"X.B.EXAMPLE", "b.example"},   {"localhost", "localhost"}, {"127.0.0.1", "localhost"},
        {"x.y.b.example", "localhost"}, {"b.example", "localhost"}, {"a.example.org", "localhost"}};
    struct khp_net_error e = {0};
    struct khp_net_tls *server = named_server();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(served(server, cases[i][0]), cases[i][1]);
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

/* ---- resumption ---- */

static bool resumed(struct khp_net_tls *client, struct khp_net_tls *server, const char *name,
                    int version) {
    struct pair p = begin(client, server, name);
    if (version != 0)
        SSL_set_max_proto_version(p.client.ssl, version);
    shake(&p);
    assert_good(&p);
    bool yes = SSL_session_reused(p.client.ssl) == 1;
    assert_int_equal(yes, SSL_session_reused(p.server.ssl));
    finish(&p);
    return yes;
}

static void resumes_sessions(void **state) {
    struct khp_net_tls *client = trusting(), *server = named_server();
    (void)state;
    assert_false(resumed(client, server, "localhost", 0));
    assert_true(resumed(client, server, "localhost", 0));
    assert_true(resumed(client, server, "LOCALHOST.", 0));
    /* Each name has its own, addresses too. */
    assert_false(resumed(client, server, "a.example", 0));
    assert_false(resumed(client, server, "127.0.0.1", 0));
    assert_true(resumed(client, server, "127.0.0.1", 0));
    assert_true(resumed(client, server, "a.example", 0));
    /* Another server of that name does not know the ticket: a full handshake. */
    struct khp_net_tls *other = localhost();
    assert_false(resumed(client, other, "localhost", 0));
    assert_true(resumed(client, other, "localhost", 0));
    khp_net_tls_release(other);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void resumes_with_the_clients_certificate(void **state) {
    struct khp_net_tls *client = new_client("ca.pem", "client.pem", "client.key");
    struct khp_net_tls *server =
        new_server("localhost.pem", "localhost.key", "ca.pem", KHP_NET_TLS_VERIFY_REQUIRED);
    (void)state;
    assert_false(resumed(client, server, "localhost", 0));
    struct pair p = begin(client, server, "localhost");
    shake(&p);
    assert_good(&p);
    assert_int_equal(SSL_session_reused(p.server.ssl), 1);
    assert_non_null(SSL_get0_peer_certificate(p.server.ssl));
    assert_int_equal(SSL_get_verify_result(p.server.ssl), X509_V_OK);
    finish(&p);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void resumes_after_a_connection_that_broke(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        struct pair p = begin(client, server, "localhost");
        SSL_set_max_proto_version(p.client.ssl, turn == 0 ? TLS1_3_VERSION : TLS1_2_VERSION);
        shake(&p);
        assert_good(&p);
        SSL_free(p.client.ssl); /* no close_notify */
        SSL_free(p.server.ssl);
        assert_true(
            resumed(client, server, "localhost", turn == 0 ? TLS1_3_VERSION : TLS1_2_VERSION));
    }
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void uses_a_ticket_once(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;
    assert_false(resumed(client, server, "localhost", 0));
    struct pair first = begin(client, server, "localhost");
    struct pair second = begin(client, server, "localhost");
    shake(&first);
    shake(&second);
    assert_int_equal(SSL_session_reused(first.client.ssl), 1);
    assert_int_equal(SSL_session_reused(second.client.ssl), 0);
    finish(&first);
    finish(&second);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void resumes_under_1_2(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    (void)state;
    assert_false(resumed(client, server, "localhost", TLS1_2_VERSION));
    assert_true(resumed(client, server, "localhost", TLS1_2_VERSION));
    assert_true(resumed(client, server, "localhost", TLS1_2_VERSION));
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void keeps_a_bounded_number_of_sessions(void **state) {
    struct khp_net_tls *client = trusting(), *server = named_server();
    char name[32];
    (void)state;
    for (int i = 0; i < 33; i++) {
        (void)snprintf(name, sizeof name, "n%d.b.example", i);
        assert_false(resumed(client, server, name, 0));
    }
    assert_true(resumed(client, server, "n32.b.example", 0));
    assert_true(resumed(client, server, "n1.b.example", 0));
    assert_false(resumed(client, server, "n0.b.example", 0));
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

/* ---- files ---- */

static void assert_refused(const char *certificate, const char *key, const char *ca,
                           const char *expected_path, const char *expected_reason) {
    struct khp_net_error e = {0};
    char expected[400];
    struct khp_net_tls_options o = {.certificate = certs_path(certificate),
                                    .key = key != NULL ? certs_path(key) : NULL,
                                    .ca = ca != NULL ? certs_path(ca) : NULL,
                                    .verify = ca != NULL ? KHP_NET_TLS_VERIFY_REQUIRED
                                                         : KHP_NET_TLS_VERIFY_NONE};
    assert_null(khp_net_tls_new_server(&o, &e));
    (void)snprintf(expected, sizeof expected, "%s: %s", certs_path(expected_path), expected_reason);
    assert_string_equal(e.text, expected);
    assert_int_equal(e.code, KHP_NET_E_TLS);
    assert_int_equal(ERR_peek_error(), 0);
    assert_null(khp_net_tls_new_client(&o, &e));
    assert_string_equal(e.text, expected);
}

static void names_the_file_that_is_wrong(void **state) {
    static const char key[] = "localhost.key", missing[] = "No such file or directory";
    (void)state;
    assert_refused("none.pem", key, NULL, "none.pem", missing);
    assert_refused(key, key, NULL, key, "no start line");
    assert_refused("localhost.pem", "none.key", NULL, "none.key", missing);
    assert_refused("localhost.pem", "a.key", NULL, "a.key", "key values mismatch");
    assert_refused("localhost.pem", NULL, NULL, "localhost.pem", "no private key that can be used");
    assert_refused("localhost.pem", "encrypted.key", NULL, "encrypted.key",
                   "the private key is encrypted");
    assert_refused("localhost.pem", key, "none.pem", "none.pem", missing);
    assert_refused("localhost.pem", key, key, key, "no certificate or crl found");
}

static void refuses_what_makes_no_sense(void **state) {
    struct khp_net_error e = {0};
    struct khp_net_tls_options o = {0};
    (void)state;
    assert_null(khp_net_tls_new_server(&o, &e));
    assert_string_equal(e.text, "a TLS server needs a certificate");
    o.certificate = certs_path("localhost.pem");
    o.key = certs_path("localhost.key");
    o.verify = KHP_NET_TLS_VERIFY_REQUIRED;
    assert_null(khp_net_tls_new_server(&o, &e));
    assert_string_equal(e.text, "a TLS server needs a CA to verify clients' certificates");
    struct khp_net_tls *client = trusting();
    assert_false(khp_net_tls_add_name(client, "a.example", o.certificate, o.key, &e));
    khp_net_tls_release(client);
    khp_net_tls_release(NULL);
}

/* ---- reload ---- */

static void copy(const char *from, const char *to) {
    char command[700];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", certs_path(from), certs_path(to));
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

static void reloads_all_files_or_none(void **state) {
    struct khp_net_error e = {0};
    struct khp_net_tls *client = trusting();
    (void)state;
    copy("localhost.pem", "live.pem");
    copy("localhost.key", "live.key");
    copy("b.pem", "named.pem");
    copy("b.key", "named.key");
    struct khp_net_tls *server = new_server("live.pem", "live.key", NULL, KHP_NET_TLS_VERIFY_NONE);
    assert_true(khp_net_tls_add_name(server, "x.b.example", certs_path("named.pem"),
                                     certs_path("named.key"), &e));
    struct pair old = begin(client, server, "localhost");
    shake(&old);
    assert_good(&old);
    struct pair halfway = begin(client, server, "localhost");
    advance(&halfway.client);

    /* The default's new files are good, but the name's are not: nothing changes. */
    copy("a.pem", "live.pem");
    copy("a.key", "live.key");
    copy("a.key", "named.key");
    assert_false(khp_net_tls_reload(server, &e));
    assert_non_null(strstr(e.text, "named.key: key values mismatch"));
    assert_string_equal(served(server, "localhost"), "localhost");
    assert_string_equal(served(server, "x.b.example"), "b.example");

    copy("localhost.pem", "named.pem");
    copy("localhost.key", "named.key");
    assert_true(khp_net_tls_reload(server, &e));
    assert_string_equal(served(server, "localhost"), "a.example");
    assert_string_equal(served(server, "x.b.example"), "localhost");

    /* What began before goes on with what it began with. */
    shake(&halfway);
    assert_good(&halfway);
    assert_string_equal(shown(&halfway), "localhost");
    char byte = 'x';
    assert_int_equal(SSL_write(old.client.ssl, &byte, 1), 1);
    assert_int_equal(SSL_read(old.server.ssl, &byte, 1), 1);
    finish(&halfway);

    /* A client's reload forgets what the old CA vouched for, also what comes late. */
    assert_true(khp_net_tls_reload(client, &e));
    assert_int_equal(SSL_new_session_ticket(old.server.ssl), 1);
    assert_int_equal(SSL_write(old.server.ssl, &byte, 1), 1);
    assert_int_equal(SSL_read(old.client.ssl, &byte, 1), 1);
    finish(&old);
    assert_false(resumed(client, server, "a.example", 0));
    khp_net_tls_release(server);
    server = localhost();
    assert_false(resumed(client, server, "localhost", 0));
    khp_net_tls_release(client);
    khp_net_tls_release(server);
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
        cmocka_unit_test(resumes_sessions),
        cmocka_unit_test(resumes_with_the_clients_certificate),
        cmocka_unit_test(resumes_after_a_connection_that_broke),
        cmocka_unit_test(uses_a_ticket_once),
        cmocka_unit_test(resumes_under_1_2),
        cmocka_unit_test(keeps_a_bounded_number_of_sessions),
        cmocka_unit_test(names_the_file_that_is_wrong),
        cmocka_unit_test(refuses_what_makes_no_sense),
        cmocka_unit_test(reloads_all_files_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

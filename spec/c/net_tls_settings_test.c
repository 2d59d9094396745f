/*
 * TLS settings over time: resumption, what is wrong with a file, reload. No sockets.
 */
#include "net_tls_pair.h"

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
    advance(&first.client);
    advance(&second.client);
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
    assert_refused("localhost.pem", "ed25519.key", NULL, "ed25519.key", "key values mismatch");
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

    finish(&old);
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

static void forgets_sessions_when_it_reloads(void **state) {
    struct khp_net_tls *client = trusting(), *server = localhost();
    char byte = 'x';
    (void)state;
    assert_false(resumed(client, server, "localhost", 0));
    assert_true(khp_net_tls_reload(client, NULL));
    assert_false(resumed(client, server, "localhost", 0));

    /* What the replaced CA vouched for may also come late. */
    struct pair p = begin(client, server, "localhost");
    shake(&p);
    assert_good(&p);
    assert_true(khp_net_tls_reload(client, NULL));
    assert_int_equal(SSL_new_session_ticket(p.server.ssl), 1);
    assert_int_equal(SSL_write(p.server.ssl, &byte, 1), 1);
    assert_int_equal(SSL_read(p.client.ssl, &byte, 1), 1);
    finish(&p);
    assert_false(resumed(client, server, "localhost", 0));

    /* A server has new keys for its tickets. */
    assert_true(resumed(client, server, "localhost", 0));
    assert_true(khp_net_tls_reload(server, NULL));
    assert_false(resumed(client, server, "localhost", 0));
    khp_net_tls_release(client);
    khp_net_tls_release(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes_sessions),
        cmocka_unit_test(resumes_with_the_clients_certificate),
        cmocka_unit_test(resumes_after_a_connection_that_broke),
        cmocka_unit_test(uses_a_ticket_once),
        cmocka_unit_test(resumes_under_1_2),
        cmocka_unit_test(keeps_a_bounded_number_of_sessions),
        cmocka_unit_test(names_the_file_that_is_wrong),
        cmocka_unit_test(refuses_what_makes_no_sense),
        cmocka_unit_test(reloads_all_files_or_none),
        cmocka_unit_test(forgets_sessions_when_it_reloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * TLS clients and servers joined by a pair of BIOs, with the settings that tests need most.
 */
#ifndef KHP_SPEC_NET_TLS_PAIR_H
#define KHP_SPEC_NET_TLS_PAIR_H

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

static inline void join(struct pair *p) {
    BIO *a, *b;
    assert_int_equal(BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16), 1);
    SSL_set_bio(p->client.ssl, a, a);
    SSL_set_bio(p->server.ssl, b, b);
}

static inline void advance(struct end *end) {
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

static inline void shake(struct pair *p) {
    for (int turn = 0; turn < 10; turn++) {
        advance(&p->client);
        advance(&p->server);
    }
}

static inline struct pair begin(struct khp_net_tls *client, struct khp_net_tls *server,
                                const char *name) {
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

static inline void finish(struct pair *p) {
    /* In order, or OpenSSL thinks that the session is not to be trusted again. */
    (void)SSL_shutdown(p->client.ssl);
    (void)SSL_shutdown(p->server.ssl);
    SSL_free(p->client.ssl);
    SSL_free(p->server.ssl);
}

static inline void assert_good(const struct pair *p) {
    assert_string_equal(p->client.error.text, "");
    assert_string_equal(p->server.error.text, "");
    assert_true(p->client.done && p->server.done);
}

/* The common name of the certificate that the server showed. */
static inline const char *shown(const struct pair *p) {
    static char name[64];
    const X509 *certificate = SSL_get0_peer_certificate(p->client.ssl);
    assert_non_null(certificate);
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                    sizeof name);
    return name;
}

static inline struct khp_net_tls *new_server(const char *certificate, const char *key,
                                             const char *ca, enum khp_net_tls_verify verify) {
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

static inline struct khp_net_tls *localhost(void) {
    return new_server("localhost.pem", "localhost.key", NULL, KHP_NET_TLS_VERIFY_NONE);
}

static inline struct khp_net_tls *new_client(const char *ca, const char *certificate,
                                             const char *key) {
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
static inline const char *try(struct khp_net_tls *client, struct khp_net_tls *server,
                              const char *name, const char **server_error) {
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

static inline struct khp_net_tls *trusting(void) {
    return new_client("ca.pem", NULL, NULL);
}

static inline struct khp_net_tls *named_server(void) {
    struct khp_net_tls *tls = localhost();
    assert_true(
        khp_net_tls_add_name(tls, "*.b.example", certs_path("b.pem"), certs_path("b.key"), NULL));
    assert_true(
        khp_net_tls_add_name(tls, "a.example", certs_path("a.pem"), certs_path("a.key"), NULL));
    return tls;
}

static inline const char *served(struct khp_net_tls *server, const char *name) {
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

#endif

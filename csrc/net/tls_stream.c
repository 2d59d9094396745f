/*
 * The TLS session over memory: a BIO whose reads take from the received ciphertext and whose writes
 * append to the wire queue, and the few calls of OpenSSL around it.
 */
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls_stream.h"

/* ---- the BIO ---- */

static int bio_write(BIO *bio, const char *bytes, int n) {
    struct khp_net_tls_stream *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    uint8_t *room = khp_net_queue_reserve(&session->wire, session->spare, (size_t)n);
    if (room == NULL)
        return -1;
    memcpy(room, bytes, (size_t)n);
    session->wire.end += (size_t)n;
    return n;
}

static int bio_read(BIO *bio, char *out, int size) {
    struct khp_net_tls_stream *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    size_t want = (size_t)size;
    size_t kept = khp_net_queue_length(&session->kept);
    if (kept > 0) {
        if (want > kept)
            want = kept;
        memcpy(out, khp_net_queue_head(&session->kept), want);
        khp_net_queue_consume(&session->kept, session->spare, want);
        return (int)want;
    }
    if (session->slice_size == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (want > session->slice_size)
        want = session->slice_size;
    memcpy(out, session->slice, want);
    session->slice += want;
    session->slice_size -= want;
    return (int)want;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *khp_net_tls_stream_bio(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "khp stream");
    if (method != NULL && BIO_meth_set_write(method, bio_write) &&
        BIO_meth_set_read(method, bio_read) && BIO_meth_set_ctrl(method, bio_ctrl))
        return method;
    BIO_meth_free(method);
    return NULL;
}

/* ---- life ---- */

struct khp_net_tls_stream *khp_net_tls_stream_new(BIO_METHOD *method, struct khp_net_spare *spare,
                                                  struct khp_net_tls *tls, bool server,
                                                  const char *server_name,
                                                  struct khp_net_error *error) {
    struct khp_net_tls_stream *session = calloc(1, sizeof *session);
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (session == NULL || bio == NULL) {
        khp_net_error_set(error, KHP_NET_E_LIMIT, 0, "out of memory");
        BIO_free(bio);
        free(session);
        return NULL;
    }
    session->ssl = khp_net_tls_session(tls, server, server_name, error);
    if (session->ssl == NULL) {
        BIO_free(bio);
        free(session);
        return NULL;
    }
    session->spare = spare;
    session->tls = tls;
    khp_net_tls_retain(tls);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_mode(session->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
    return session;
}

void khp_net_tls_stream_free(struct khp_net_tls_stream *session) {
    if (session == NULL)
        return;
    SSL_free(session->ssl);
    khp_net_queue_clear(&session->wire, session->spare);
    khp_net_queue_clear(&session->kept, session->spare);
    khp_net_tls_release(session->tls);
    free(session);
}

/* ---- bytes ---- */

void khp_net_tls_stream_feed(struct khp_net_tls_stream *session, const uint8_t *bytes, size_t n) {
    session->slice = bytes;
    session->slice_size = n;
}

bool khp_net_tls_stream_keep(struct khp_net_tls_stream *session) {
    size_t n = session->slice_size;
    if (n == 0)
        return true;
    uint8_t *room = khp_net_queue_reserve(&session->kept, session->spare, n);
    if (room == NULL)
        return false;
    memcpy(room, session->slice, n);
    session->kept.end += n;
    khp_net_queue_fit(&session->kept, session->spare);
    session->slice_size = 0;
    return true;
}

bool khp_net_tls_stream_holds(const struct khp_net_tls_stream *session) {
    return khp_net_queue_length(&session->kept) > 0 || session->slice_size > 0 ||
           SSL_has_pending(session->ssl);
}

static enum khp_net_tls_result result_of(struct khp_net_tls_stream *session, int returned,
                                         struct khp_net_error *error) {
    int what = SSL_get_error(session->ssl, returned);
    if (what == SSL_ERROR_WANT_READ)
        return KHP_NET_TLS_STARVED;
    if (what == SSL_ERROR_ZERO_RETURN)
        return KHP_NET_TLS_ENDED;
    khp_net_tls_explain(session->ssl, what, error);
    return KHP_NET_TLS_FAILED;
}

enum khp_net_tls_result khp_net_tls_stream_handshake(struct khp_net_tls_stream *session,
                                                     struct khp_net_error *error) {
    ERR_clear_error();
    int returned = SSL_do_handshake(session->ssl);
    return returned == 1 ? KHP_NET_TLS_DONE : result_of(session, returned, error);
}

enum khp_net_tls_result khp_net_tls_stream_read(struct khp_net_tls_stream *session, uint8_t *out,
                                                size_t size, size_t *got,
                                                struct khp_net_error *error) {
    *got = 0;
    ERR_clear_error();
    while (*got < size) {
        size_t n = 0;
        int returned = SSL_read_ex(session->ssl, out + *got, size - *got, &n);
        if (returned != 1)
            return result_of(session, returned, error);
        *got += n;
    }
    return KHP_NET_TLS_DONE;
}

enum khp_net_tls_result khp_net_tls_stream_write(struct khp_net_tls_stream *session,
                                                 const uint8_t *bytes, size_t n,
                                                 struct khp_net_error *error) {
    ERR_clear_error();
    while (n > 0) {
        size_t written = 0;
        int returned = SSL_write_ex(session->ssl, bytes, n, &written);
        if (returned != 1) {
            khp_net_tls_explain(session->ssl, SSL_get_error(session->ssl, returned), error);
            return KHP_NET_TLS_FAILED;
        }
        bytes += written;
        n -= written;
    }
    return KHP_NET_TLS_DONE;
}

void khp_net_tls_stream_notify(struct khp_net_tls_stream *session) {
    if (session->notified)
        return;
    session->notified = true;
    ERR_clear_error();
    (void)SSL_shutdown(session->ssl);
    ERR_clear_error();
}

/* ---- what was negotiated ---- */

static void copy_text(char *to, size_t size, const char *from) {
    (void)snprintf(to, size, "%s", from != NULL ? from : "");
}

static void subject_of(X509 *certificate, char *out, size_t size) {
    BIO *memory = BIO_new(BIO_s_mem());
    if (memory == NULL)
        return;
    if (X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
        int n = BIO_read(memory, out, (int)(size - 1));
        out[n > 0 ? n : 0] = '\0';
    }
    BIO_free(memory);
}

void khp_net_tls_stream_info(const struct khp_net_tls_stream *session,
                             struct khp_net_tls_info *info) {
    SSL *ssl = session->ssl;
    memset(info, 0, sizeof *info);
    info->version = SSL_get_version(ssl);
    info->cipher = SSL_get_cipher_name(ssl);
    info->resumed = SSL_session_reused(ssl) == 1;
    copy_text(info->server_name, sizeof info->server_name,
              SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));

    const unsigned char *alpn;
    unsigned length;
    SSL_get0_alpn_selected(ssl, &alpn, &length);
    if (length > 0 && length < sizeof info->alpn)
        memcpy(info->alpn, alpn, length);

    X509 *certificate = SSL_get0_peer_certificate(ssl);
    if (certificate == NULL)
        return;
    subject_of(certificate, info->peer_subject, sizeof info->peer_subject);
    info->peer_verified =
        SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE && SSL_get_verify_result(ssl) == X509_V_OK;
}

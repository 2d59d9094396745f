/*
 * What OpenSSL has to say about a failure, in words that a person can act on.
 */
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <string.h>

#include "net/internal.h"

const char *khp_net_tls_reason(unsigned long code) {
    if (ERR_SYSTEM_ERROR(code))
        return strerror(ERR_GET_REASON(code));
    const char *reason = ERR_reason_error_string(code);
    return reason != NULL ? reason : "unknown error";
}

static bool speaks_no_tls(unsigned long code) {
    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return false;
    int reason = ERR_GET_REASON(code);
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
           reason == SSL_R_HTTPS_PROXY_REQUEST;
}

void khp_net_tls_explain(SSL *ssl, int ssl_error, struct khp_net_error *error) {
    unsigned long first = 0, code;
    bool verification = false;
    bool handshake = !SSL_is_init_finished(ssl);

    while ((code = ERR_get_error()) != 0) {
        if (first == 0)
            first = code;
        if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
            ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
            verification = true;
    }
    bool cut = ssl_error == SSL_ERROR_ZERO_RETURN || first == 0 ||
               (ERR_GET_LIB(first) == ERR_LIB_SSL &&
                ERR_GET_REASON(first) == SSL_R_UNEXPECTED_EOF_WHILE_READING);

    if (verification)
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "certificate verify failed: %s",
                          X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
    else if (cut && handshake)
        khp_net_error_set(error, KHP_NET_E_TLS, 0,
                          "the peer closed the connection during the TLS handshake");
    else if (cut)
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "closed by the peer without a TLS close_notify");
    else if (handshake && speaks_no_tls(first))
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "%s: the peer does not speak TLS",
                          khp_net_tls_reason(first));
    else
        khp_net_error_set(error, KHP_NET_E_TLS, ERR_SYSTEM_ERROR(first) ? ERR_GET_REASON(first) : 0,
                          "%s", khp_net_tls_reason(first));
}

/*
 * TLS settings: certificates, verification, ALPN, resumption, and OpenSSL's reasons in words. One
 * SSL_CTX for each certificate; a reload builds all of them anew before it replaces any. Must not
 * know how records travel (tls_stream.c) nor what is said in them. A stream holds its settings for
 * as long as it has an SSL.
 */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "net/internal.h"

enum {
    SESSIONS_KEPT = 32,   /* client: one for each of the last so many servers */
    SESSIONS_SERVED = 512 /* server: for clients without tickets */
};

/* A certificate with its key, the files they come from, and the context made of them. */
struct identity {
    char *server_name; /* NULL: the default */
    char *certificate;
    char *key;
    SSL_CTX *context;
    SSL_CTX *fresh; /* during a reload */
    struct identity *next;
};

struct stored_session {
    char *server_name;
    SSL_SESSION *session; /* NULL: free slot */
    unsigned long age;
};

struct khp_net_tls {
    unsigned references;
    bool server;
    enum khp_net_tls_verify verify;
    char *ca;
    struct identity *identities; /* the default first */
    struct stored_session sessions[SESSIONS_KEPT];
    unsigned long clock;
};

/* ---- errors ---- */

/* The first entry of OpenSSL's queue is the cause, what follows is who passed it on. */
static void file_error(struct khp_net_error *error, const char *path, const char *reason) {
    unsigned long code = ERR_peek_error();
    int sys = ERR_SYSTEM_ERROR(code) ? ERR_GET_REASON(code) : 0;
    khp_net_error_set(error, KHP_NET_E_TLS, sys, "%.180s: %s", path,
                      reason != NULL && sys == 0 ? reason : khp_net_tls_reason(code));
    ERR_clear_error();
}

static void memory_error(struct khp_net_error *error) {
    ERR_clear_error();
    khp_net_error_set(error, KHP_NET_E_LIMIT, ENOMEM, "out of memory");
}

/* ---- the client's sessions ---- */

static pthread_once_t name_index_once = PTHREAD_ONCE_INIT;
static int name_index;

static void free_name(void *parent, void *name, CRYPTO_EX_DATA *data, int index, long argl,
                      void *argp) {
    (void)parent, (void)data, (void)index, (void)argl, (void)argp;
    free(name);
}

/* OpenSSL's slot for the server name that a client's SSL was made for. */
static void make_name_index(void) {
    name_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_name);
}

static void forget_session(struct stored_session *slot) {
    SSL_SESSION_free(slot->session);
    free(slot->server_name);
    *slot = (struct stored_session){0};
}

static struct stored_session *find_session(struct khp_net_tls *tls, const char *server_name) {
    for (size_t i = 0; i < SESSIONS_KEPT; i++)
        if (tls->sessions[i].session != NULL &&
            strcasecmp(tls->sessions[i].server_name, server_name) == 0)
            return &tls->sessions[i];
    return NULL;
}

static struct stored_session *oldest_session(struct khp_net_tls *tls) {
    struct stored_session *oldest = &tls->sessions[0];
    for (size_t i = 0; i < SESSIONS_KEPT; i++) {
        if (tls->sessions[i].session == NULL)
            return &tls->sessions[i];
        if (tls->sessions[i].age < oldest->age)
            oldest = &tls->sessions[i];
    }
    return oldest;
}

/* OpenSSL's new-session callback: under TLS 1.3 a ticket has come. Returns 1 when it keeps the
 * session. */
static int keep_session(SSL *ssl, SSL_SESSION *session) {
    SSL_CTX *context = SSL_get_SSL_CTX(ssl);
    struct khp_net_tls *tls = SSL_CTX_get_app_data(context);
    const char *name = SSL_get_ex_data(ssl, name_index);

    /* What was verified with files that a reload has replaced is not kept. */
    if (name == NULL || context != tls->identities->context || !SSL_SESSION_is_resumable(session))
        return 0;
    char *name_copy = strdup(name);
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    if (name_copy == NULL || copy == NULL) {
        free(name_copy);
        SSL_SESSION_free(copy);
        return 0;
    }
    struct stored_session *slot = find_session(tls, name);
    if (slot == NULL)
        slot = oldest_session(tls);
    forget_session(slot);
    *slot = (struct stored_session){.server_name = name_copy, .session = copy, .age = ++tls->clock};
    return 0; /* not kept: the one that was given */
}

static void offer_session(struct khp_net_tls *tls, SSL *ssl, const char *server_name) {
    struct stored_session *slot = find_session(tls, server_name);
    if (slot == NULL)
        return;
    (void)SSL_set_session(ssl, slot->session);
    /* RFC 8446 C.4: a ticket is used once, or connections can be told to belong together. */
    if (SSL_SESSION_get_protocol_version(slot->session) >= TLS1_3_VERSION)
        forget_session(slot);
}

/* ---- the server's callbacks ---- */

/* RFC 6125 6.4.3: a wildcard stands for exactly one label. */
static bool wildcard_matches(const char *pattern, const char *name) {
    const char *dot = strchr(name, '.');
    return pattern[0] == '*' && dot != NULL && dot != name && strcasecmp(pattern + 1, dot) == 0;
}

static struct identity *find_identity(const struct khp_net_tls *tls, const char *name) {
    struct identity *wild = NULL;
    for (struct identity *i = tls->identities->next; i != NULL; i = i->next) {
        if (strcasecmp(i->server_name, name) == 0)
            return i;
        if (wild == NULL && wildcard_matches(i->server_name, name))
            wild = i;
    }
    return wild;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL's type */
static int choose_identity(SSL *ssl, int *alert, void *data) {
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct identity *identity = name != NULL ? find_identity(data, name) : NULL;
    (void)alert;
    if (identity != NULL)
        SSL_set_SSL_CTX(ssl, identity->context);
    return SSL_TLSEXT_ERR_OK;
}

static const unsigned char http_1_1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

/* RFC 7301 3.2 would have a server without a common protocol refuse; clients that offer only others
 * do exist. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_size,
                           const unsigned char *offered, unsigned offered_size, void *data) {
    (void)ssl, (void)data;
    for (unsigned i = 0; i < offered_size; i += 1U + offered[i])
        if (offered_size - i >= sizeof http_1_1 &&
            memcmp(offered + i, http_1_1, sizeof http_1_1) == 0) {
            *chosen = http_1_1 + 1;
            *chosen_size = http_1_1[0];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_NOACK;
}

/* ---- contexts ---- */

/* Instead of OpenSSL's default, which asks at the terminal. */
/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL's type */
static int no_passphrase(char *buffer, int size, int writing, void *data) {
    (void)buffer, (void)size, (void)writing;
    *(bool *)data = true;
    return -1;
}

static bool use_certificate(SSL_CTX *context, const struct identity *identity,
                            struct khp_net_error *error) {
    bool encrypted = false;
    if (SSL_CTX_use_certificate_chain_file(context, identity->certificate) != 1) {
        file_error(error, identity->certificate, NULL);
        return false;
    }
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, &encrypted);
    bool loaded = SSL_CTX_use_PrivateKey_file(context, identity->key, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (!loaded) {
        unsigned long code = ERR_peek_error();
        bool mismatch = ERR_GET_LIB(code) == ERR_LIB_X509;
        file_error(error, identity->key,
                   encrypted  ? "the private key is encrypted"
                   : mismatch ? NULL
                              : "no private key that can be used");
        return false;
    }
    /* A key of another algorithm than the certificate's was taken without complaint. */
    if (SSL_CTX_check_private_key(context) != 1) {
        file_error(error, identity->key, "key values mismatch");
        return false;
    }
    return true;
}

static bool use_ca(SSL_CTX *context, const struct khp_net_tls *tls, struct khp_net_error *error) {
    struct stat what;
    if (tls->ca == NULL) {
        if (!tls->server && SSL_CTX_set_default_verify_paths(context) != 1) {
            memory_error(error);
            return false;
        }
        return true;
    }
    bool folder = stat(tls->ca, &what) == 0 && S_ISDIR(what.st_mode);
    if (folder ? SSL_CTX_load_verify_dir(context, tls->ca) != 1
               : SSL_CTX_load_verify_file(context, tls->ca) != 1) {
        file_error(error, tls->ca, NULL);
        return false;
    }
    if (!tls->server)
        return true;
    /* RFC 8446 4.2.4: tells clients which of their certificates to show. */
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    bool added = names != NULL && (folder ? SSL_add_dir_cert_subjects_to_stack(names, tls->ca)
                                          : SSL_add_file_cert_subjects_to_stack(names, tls->ca));
    if (!added) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        file_error(error, tls->ca, NULL);
        return false;
    }
    SSL_CTX_set_client_CA_list(context, names);
    return true;
}

static bool set_up_server(SSL_CTX *context, struct khp_net_tls *tls) {
    static const unsigned char id[] = "khp";
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_sess_set_cache_size(context, SESSIONS_SERVED);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_tlsext_servername_callback(context, choose_identity);
    SSL_CTX_set_tlsext_servername_arg(context, tls);
    return SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
           SSL_CTX_set_session_id_context(context, id, sizeof id - 1) == 1;
}

static bool set_up_client(SSL_CTX *context, struct khp_net_tls *tls) {
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    return SSL_CTX_set_app_data(context, tls) == 1 &&
           SSL_CTX_set_alpn_protos(context, http_1_1, sizeof http_1_1) == 0;
}

static int verify_mode(const struct khp_net_tls *tls) {
    if (tls->verify == KHP_NET_TLS_VERIFY_NONE)
        return SSL_VERIFY_NONE;
    if (tls->server && tls->verify == KHP_NET_TLS_VERIFY_REQUIRED)
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    return SSL_VERIFY_PEER;
}

static SSL_CTX *new_context(struct khp_net_tls *tls, const struct identity *identity,
                            struct khp_net_error *error) {
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(tls->server ? TLS_server_method() : TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        !(tls->server ? set_up_server(context, tls) : set_up_client(context, tls))) {
        SSL_CTX_free(context);
        memory_error(error);
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, verify_mode(tls), NULL);
    if ((identity->certificate != NULL && !use_certificate(context, identity, error)) ||
        (tls->verify != KHP_NET_TLS_VERIFY_NONE && !use_ca(context, tls, error))) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

static void free_identity(struct identity *identity) {
    SSL_CTX_free(identity->context);
    free(identity->server_name);
    free(identity->certificate);
    free(identity->key);
    free(identity);
}

static char *copy_of(const char *text) {
    return text != NULL ? strdup(text) : NULL;
}

static struct identity *new_identity(struct khp_net_tls *tls, const char *server_name,
                                     const char *certificate, const char *key,
                                     struct khp_net_error *error) {
    struct identity *identity = calloc(1, sizeof *identity);
    if (key == NULL)
        key = certificate;
    if (identity != NULL) {
        identity->server_name = copy_of(server_name);
        identity->certificate = copy_of(certificate);
        identity->key = copy_of(key);
    }
    if (identity == NULL || (server_name != NULL && identity->server_name == NULL) ||
        (certificate != NULL && (identity->certificate == NULL || identity->key == NULL))) {
        memory_error(error);
    } else if ((identity->context = new_context(tls, identity, error)) != NULL) {
        return identity;
    }
    if (identity != NULL)
        free_identity(identity);
    return NULL;
}

/* ---- the public face ---- */

static struct khp_net_tls *new_tls(const struct khp_net_tls_options *options, bool server,
                                   struct khp_net_error *error) {
    struct khp_net_tls *tls = calloc(1, sizeof *tls);
    if (tls != NULL) {
        tls->references = 1;
        tls->server = server;
        tls->verify = options->verify;
        tls->ca = copy_of(options->ca);
    }
    if (tls == NULL || (options->ca != NULL && tls->ca == NULL)) {
        khp_net_tls_release(tls);
        memory_error(error);
        return NULL;
    }
    tls->identities = new_identity(tls, NULL, options->certificate, options->key, error);
    if (tls->identities == NULL) {
        khp_net_tls_release(tls);
        return NULL;
    }
    return tls;
}

struct khp_net_tls *khp_net_tls_new_server(const struct khp_net_tls_options *options,
                                           struct khp_net_error *error) {
    if (options->certificate == NULL) {
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "a TLS server needs a certificate");
        return NULL;
    }
    if (options->verify != KHP_NET_TLS_VERIFY_NONE && options->ca == NULL) {
        khp_net_error_set(error, KHP_NET_E_TLS, 0,
                          "a TLS server needs a CA to verify clients' certificates");
        return NULL;
    }
    return new_tls(options, true, error);
}

struct khp_net_tls *khp_net_tls_new_client(const struct khp_net_tls_options *options,
                                           struct khp_net_error *error) {
    (void)pthread_once(&name_index_once, make_name_index);
    return new_tls(options, false, error);
}

bool khp_net_tls_add_name(struct khp_net_tls *tls, const char *server_name, const char *certificate,
                          const char *key, struct khp_net_error *error) {
    if (!tls->server || certificate == NULL) {
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "%s",
                          tls->server ? "a server name needs a certificate"
                                      : "a TLS client has no server names");
        return false;
    }
    struct identity *added = new_identity(tls, server_name, certificate, key, error);
    if (added == NULL)
        return false;
    struct identity **link = &tls->identities->next;
    while (*link != NULL && strcasecmp((*link)->server_name, server_name) != 0)
        link = &(*link)->next;
    struct identity *replaced = *link;
    added->next = replaced != NULL ? replaced->next : NULL;
    *link = added;
    if (replaced != NULL)
        free_identity(replaced);
    return true;
}

bool khp_net_tls_reload(struct khp_net_tls *tls, struct khp_net_error *error) {
    struct identity *i;
    for (i = tls->identities; i != NULL; i = i->next)
        if ((i->fresh = new_context(tls, i, error)) == NULL)
            break;
    bool complete = i == NULL;
    for (i = tls->identities; i != NULL; i = i->next) {
        SSL_CTX *unwanted = complete ? i->context : i->fresh;
        if (complete)
            i->context = i->fresh;
        i->fresh = NULL;
        SSL_CTX_free(unwanted);
    }
    for (size_t n = 0; complete && n < SESSIONS_KEPT; n++)
        forget_session(&tls->sessions[n]);
    return complete;
}

void khp_net_tls_retain(struct khp_net_tls *tls) {
    tls->references++;
}

void khp_net_tls_release(struct khp_net_tls *tls) {
    if (tls == NULL || --tls->references > 0)
        return;
    for (size_t i = 0; i < SESSIONS_KEPT; i++)
        forget_session(&tls->sessions[i]);
    for (struct identity *next, *i = tls->identities; i != NULL; i = next) {
        next = i->next;
        free_identity(i);
    }
    free(tls->ca);
    free(tls);
}

/* ---- sessions ---- */

/* Without the zone of an IPv6 address and the final dot of a name, neither of which a certificate
 * has. */
static char *certificate_name(const char *server_name) {
    char *name = strdup(server_name);
    if (name == NULL)
        return NULL;
    if (strchr(name, ':') != NULL)
        name[strcspn(name, "%")] = '\0';
    size_t n = strlen(name);
    if (n > 1 && name[n - 1] == '.')
        name[n - 1] = '\0';
    return name;
}

static bool is_address(const char *name) {
    struct in6_addr bytes;
    return inet_pton(AF_INET, name, &bytes) == 1 || inet_pton(AF_INET6, name, &bytes) == 1;
}

/* RFC 6066 3: no addresses in SNI. RFC 6125 6.4.3: no "f*.example". */
static bool expect_server(SSL *ssl, char *name) {
    X509_VERIFY_PARAM *check = SSL_get0_param(ssl);
    if (is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(check, name) == 1;
    if (name[0] == '.')
        return false; /* to OpenSSL, every name below it */
    X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(check, name, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, name) == 1;
}

SSL *khp_net_tls_session(struct khp_net_tls *tls, bool server, const char *server_name,
                         struct khp_net_error *error) {
    if (server != tls->server) {
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "TLS settings of a %s used for a %s",
                          tls->server ? "server" : "client", server ? "server" : "client");
        return NULL;
    }
    if (!server && tls->verify != KHP_NET_TLS_VERIFY_NONE &&
        (server_name == NULL || server_name[0] == '\0')) {
        khp_net_error_set(error, KHP_NET_E_TLS, 0,
                          "no server name to check the certificate against");
        return NULL;
    }
    ERR_clear_error();
    SSL *ssl = SSL_new(tls->identities->context);
    if (ssl == NULL) {
        memory_error(error);
        return NULL;
    }
    if (server) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    if (server_name == NULL || server_name[0] == '\0')
        return ssl;
    char *name = certificate_name(server_name);
    if (name == NULL || SSL_set_ex_data(ssl, name_index, name) != 1) {
        free(name);
        SSL_free(ssl);
        memory_error(error);
        return NULL;
    }
    if (!expect_server(ssl, name)) {
        SSL_free(ssl);
        ERR_clear_error();
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "%.180s: not a server name", server_name);
        return NULL;
    }
    offer_session(tls, ssl, name);
    return ssl;
}

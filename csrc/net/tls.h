/*
 * TLS settings shared by many streams: certificates, verification, ALPN, session cache. Reference
 * counted; the streams that use one keep it alive. Settings belong to a process, not to a loop, but
 * to one thread.
 */
#ifndef KHP_NET_TLS_H
#define KHP_NET_TLS_H

#include <stdbool.h>

#include "net/error.h"

struct khp_net_tls;

enum khp_net_tls_verify {
    KHP_NET_TLS_VERIFY_NONE,
    KHP_NET_TLS_VERIFY_OPTIONAL, /* server: ask; a certificate that is shown must be good */
    KHP_NET_TLS_VERIFY_REQUIRED
};

struct khp_net_tls_options {
    const char *certificate; /* PEM file, chain after the leaf; NULL: none (client) */
    const char *key;         /* PEM file; NULL: in the certificate's file */
    const char *ca; /* PEM file or a hashed directory; NULL: client: the system's; server: none */
    enum khp_net_tls_verify verify;
};

/* NULL and *error ("certs/a.pem: No such file or directory") on failure; a server needs one. */
struct khp_net_tls *khp_net_tls_new_server(const struct khp_net_tls_options *options,
                                           struct khp_net_error *error);
struct khp_net_tls *khp_net_tls_new_client(const struct khp_net_tls_options *options,
                                           struct khp_net_error *error);

/* Another certificate, for clients that ask for this server name ("a.example", "*.example"). */
bool khp_net_tls_add_name(struct khp_net_tls *tls, const char *server_name, const char *certificate,
                          const char *key, struct khp_net_error *error);

/*
 * Reads all files again; handshakes that begin later use the new ones. When one is unreadable or
 * does not fit its key nothing changes, *error says why, false.
 */
bool khp_net_tls_reload(struct khp_net_tls *tls, struct khp_net_error *error);

void khp_net_tls_retain(struct khp_net_tls *tls);
void khp_net_tls_release(struct khp_net_tls *tls); /* NULL allowed */

#endif

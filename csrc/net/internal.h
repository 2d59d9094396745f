/*
 * What the files of csrc/net share with one another and with nobody else: the loop's inside, how a
 * descriptor becomes a stream, TLS sessions over memory BIOs.
 */
#ifndef KHP_NET_INTERNAL_H
#define KHP_NET_INTERNAL_H

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <uv.h>

#include "net/connector.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"

/* ---- loop.c ---- */

/*
 * The libuv loop under everything: listeners poll on it, names are resolved on it, the one timer is
 * on it. It is there with either backend; with the poll backend libwebsockets watches its
 * descriptor.
 */
uv_loop_t *khp_net_loop_uv(struct khp_net_loop *loop);

/*
 * Every callback that libuv or libwebsockets makes into csrc/net is bracketed by these. What they
 * queue is written, and the ends that they bring about are told, before the loop waits again.
 */
void khp_net_loop_enter(struct khp_net_loop *loop);
void khp_net_loop_leave(struct khp_net_loop *loop);

void khp_net_loop_log(struct khp_net_loop *loop, enum khp_net_log_level level, const char *format,
                      ...) __attribute__((format(printf, 3, 4)));

/*
 * Things that must be torn down before the loop can be freed (listeners) hang
 * on this list; close() must unlink itself.
 */
struct khp_net_resource {
    void (*close)(struct khp_net_resource *resource);
    struct khp_net_resource *next, *prev;
};
void khp_net_resource_link(struct khp_net_loop *loop, struct khp_net_resource *resource);
void khp_net_resource_unlink(struct khp_net_loop *loop, struct khp_net_resource *resource);

/* Called, once each, when a descriptor has been given back: listeners that ran out of them try
 * again. */
struct khp_net_waiter {
    void (*wake)(struct khp_net_waiter *waiter);
    struct khp_net_waiter *next;
    bool queued;
};
void khp_net_loop_await_descriptor(struct khp_net_loop *loop, struct khp_net_waiter *waiter);
void khp_net_loop_forget_waiter(struct khp_net_loop *loop, struct khp_net_waiter *waiter);

/* ---- stream.c ---- */

/* A stream without a descriptor yet. NULL: out of memory. */
struct khp_net_stream *khp_net_stream_new(struct khp_net_loop *loop);

/*
 * Gives the stream its connected, non-blocking descriptor, which it owns from now on, also on
 * failure. With tls, the handshake begins in that role, bounded by handshake_ms; otherwise `open`
 * is due at once (from the loop). Failures become the end event.
 */
void khp_net_stream_attach(struct khp_net_stream *stream, int fd, struct khp_net_tls *tls,
                           bool tls_server, const char *server_name, uint64_t handshake_ms);

/* Ends the stream with this reason; the first reason given is the one that is told. */
void khp_net_stream_fail(struct khp_net_stream *stream, const struct khp_net_error *why);

/*
 * Somebody in csrc/net who wants to know when the stream ends, before its owner is told: the
 * listener counts, the connector gives up. At most one at a time.
 */
void khp_net_stream_on_end(struct khp_net_stream *stream, void (*hook)(void *data), void *data);

/* Whom it leads to; without this, nobody knows once it is gone. */
void khp_net_stream_met(struct khp_net_stream *stream, const struct sockaddr *peer, socklen_t size);

struct khp_net_loop *khp_net_stream_loop(const struct khp_net_stream *stream);

/* ---- tls.c, tls_explain.c ---- */

/*
 * A new SSL in that role with its SSL_CTX's settings, SNI and host name (or IP address) check for
 * clients. Session resumption included: clients find a stored session for the same name. NULL and
 * *error on failure.
 */
SSL *khp_net_tls_session(struct khp_net_tls *tls, bool server, const char *server_name,
                         struct khp_net_error *error);

/*
 * What went wrong with this SSL in words, most telling first: the verification result ("certificate
 * verify failed: hostname mismatch"), then OpenSSL's error queue, which is emptied ("tlsv13 alert
 * certificate required").
 */
void khp_net_tls_explain(SSL *ssl, int ssl_error, struct khp_net_error *error);

/* An entry of OpenSSL's error queue in words. */
const char *khp_net_tls_reason(unsigned long code);

/* ---- address.c ---- */

void khp_net_endpoint_set(struct khp_net_endpoint *endpoint, const struct sockaddr *address,
                          socklen_t size);
void khp_net_address_format(const struct sockaddr *address, socklen_t size,
                            struct khp_net_address *out);

/* The address of a unix socket; "@name" is an abstract one. false and *error when the path does not
 * fit. */
struct sockaddr_un;
bool khp_net_address_unix(const char *path, struct sockaddr_un *out, socklen_t *size,
                          struct khp_net_error *error);

#endif

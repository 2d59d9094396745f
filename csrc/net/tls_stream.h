/*
 * One TLS session over memory: received ciphertext goes in as slices, plaintext comes out, what is
 * to be sent collects in a queue. The same for both roles. Knows neither sockets nor the reactor.
 */
#ifndef KHP_NET_TLS_STREAM_H
#define KHP_NET_TLS_STREAM_H

#include "net/internal.h"
#include "net/queue.h"

struct khp_net_tls_stream {
    SSL *ssl;
    struct khp_net_tls *tls; /* retained */
    struct khp_net_spare *spare;
    struct khp_net_queue wire; /* ciphertext to be sent */
    struct khp_net_queue kept; /* ciphertext received and not yet read */
    const uint8_t *slice;      /* likewise, in memory of somebody else, after `kept` */
    size_t slice_size;
    bool notified; /* our close_notify is written */
};

enum khp_net_tls_result {
    KHP_NET_TLS_DONE,
    KHP_NET_TLS_STARVED, /* needs more ciphertext */
    KHP_NET_TLS_ENDED,   /* the peer's close_notify */
    KHP_NET_TLS_FAILED   /* *error says why; an alert may be on the wire queue */
};

/* How the sessions of a loop reach their memory. NULL: out of memory. */
BIO_METHOD *khp_net_tls_stream_bio(void);

/* NULL and *error on failure. The first flight of a client is written by the first handshake call.
 */
struct khp_net_tls_stream *khp_net_tls_stream_new(BIO_METHOD *method, struct khp_net_spare *spare,
                                                  struct khp_net_tls *tls, bool server,
                                                  const char *server_name,
                                                  struct khp_net_error *error);
void khp_net_tls_stream_free(struct khp_net_tls_stream *session);

/* Ciphertext that has arrived; the bytes are read by the calls below, until _keep copies the rest.
 */
void khp_net_tls_stream_feed(struct khp_net_tls_stream *session, const uint8_t *bytes, size_t n);
bool khp_net_tls_stream_keep(struct khp_net_tls_stream *session); /* false: out of memory */

/* True if reading again may give plaintext without more ciphertext. */
bool khp_net_tls_stream_holds(const struct khp_net_tls_stream *session);

enum khp_net_tls_result khp_net_tls_stream_handshake(struct khp_net_tls_stream *session,
                                                     struct khp_net_error *error);

/* Up to size bytes of plaintext; *got of them, also when it ends otherwise than DONE (full). */
enum khp_net_tls_result khp_net_tls_stream_read(struct khp_net_tls_stream *session, uint8_t *out,
                                                size_t size, size_t *got,
                                                struct khp_net_error *error);

/* Encrypts all n bytes onto the wire queue. DONE or FAILED. */
enum khp_net_tls_result khp_net_tls_stream_write(struct khp_net_tls_stream *session,
                                                 const uint8_t *bytes, size_t n,
                                                 struct khp_net_error *error);

/* Puts our close_notify on the wire queue, once. */
void khp_net_tls_stream_notify(struct khp_net_tls_stream *session);

void khp_net_tls_stream_info(const struct khp_net_tls_stream *session,
                             struct khp_net_tls_info *info);

#endif

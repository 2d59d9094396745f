/*
 * A stream of bytes to one peer: TCP or unix socket, plain or TLS, accepted (listener.h) or
 * connected (connector.h). Knows nothing of what the bytes mean.
 *
 * Output is queued. What a stream's own handler wrote leaves in one send(2) when it returns, short
 * answers together with those of a few others; what others wrote, in one at the end of the turn.
 * Whatever happens, a stream has exactly one end event; until then the pointer is valid, after it
 * it is not. Every function here may be called from inside the stream's own callbacks.
 */
#ifndef KHP_NET_STREAM_H
#define KHP_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/loop.h"

struct khp_net_stream;

struct khp_net_stream_handler {
    /* Connected, and the TLS handshake (if any) is done. Once. */
    void (*open)(void *owner);
    /* Bytes from the peer; n > 0. They may be overwritten in place and die with the return. */
    void (*read)(void *owner, uint8_t *bytes, size_t n);
    /* After a partial write, the queue has fallen to its low-water mark. May be NULL. */
    void (*drained)(void *owner);
    /*
     * The only and last event. why->code: KHP_NET_E_CLOSED the peer ended it (sys 0: in order),
     * KHP_NET_E_LOCAL we did, else what failed. The stream is gone when this returns.
     */
    void (*end)(void *owner, const struct khp_net_error *why);
};

/* Who handles the events from now on. Listeners hand out streams that have no handler yet. */
void khp_net_stream_handle(struct khp_net_stream *stream,
                           const struct khp_net_stream_handler *handler, void *owner);

/*
 * Room for n bytes at the end of the queue, to be filled and committed before the next call on the
 * stream. NULL: out of memory, or the stream is shutting down or ended. The queue has no limit of
 * its own: the caller compares khp_net_stream_queued() with his.
 */
uint8_t *khp_net_stream_reserve(struct khp_net_stream *stream, size_t n);
void khp_net_stream_commit(struct khp_net_stream *stream, size_t n);

/* reserve, copy, commit. false as reserve's NULL. */
bool khp_net_stream_write(struct khp_net_stream *stream, const void *bytes, size_t n);

/*
 * Like writing head and body, but they leave at once (what is queued goes first), from where they
 * are: only what the kernel does not take is copied. For bodies that are dear to copy. With TLS, or
 * before open, it is a mere write. Where memory runs out half way the stream ends.
 */
bool khp_net_stream_write_large(struct khp_net_stream *stream, const void *head, size_t head_size,
                                const void *body, size_t body_size);

/* Is there anybody to write to? false: it is ending, or a write has failed, though what the peer
 * has sent before may still come. */
bool khp_net_stream_is_writable(const struct khp_net_stream *stream);

/* Bytes queued and not yet taken by the kernel (TLS: plaintext plus ciphertext). */
size_t khp_net_stream_queued(const struct khp_net_stream *stream);

/* Where `drained` comes: when the queue falls to so many bytes; 0 at first. Beyond 4 GiB it comes
 * there. */
void khp_net_stream_low_water(struct khp_net_stream *stream, size_t bytes);

/* Writes what the kernel takes now. Failures become the end event, later. */
void khp_net_stream_flush(struct khp_net_stream *stream);

/*
 * From inside read: something large has begun and goes on. If the read was full, what has come by
 * now is read in the same turn, too, up to a mebibyte: one wake-up instead of many.
 */
void khp_net_stream_want_more(struct khp_net_stream *stream);

/*
 * No more read events until resumed; both idempotent. What TLS has already decrypted waits, too;
 * what has been read in this turn may still come. When writing fails, or the poll backend finds the
 * peer gone, what is left comes before the end.
 */
void khp_net_stream_pause(struct khp_net_stream *stream);
void khp_net_stream_resume(struct khp_net_stream *stream);

/*
 * Ends in order: writes the queue, close_notify (TLS), FIN, reads and drops until the peer's FIN,
 * then the end event; when that takes longer than linger_ms, aborts. Later calls may only shorten
 * the time.
 */
void khp_net_stream_shutdown(struct khp_net_stream *stream, uint64_t linger_ms);

/* Drops the queue and ends now; no read event comes after this. The end event comes later, from the
 * loop. */
void khp_net_stream_abort(struct khp_net_stream *stream);

struct khp_net_tls; /* net/tls.h */

/*
 * Begins TLS as a client on an open plain stream (behind a proxy's CONNECT); `open` comes a second
 * time. server_name: for SNI and the certificate check. false and *error when it cannot begin.
 */
bool khp_net_stream_start_tls(struct khp_net_stream *stream, struct khp_net_tls *tls,
                              const char *server_name, struct khp_net_error *error);

struct khp_net_address {
    char host[108]; /* numeric, IPv4-mapped shown as IPv4; or the path of a unix socket ("" unnamed)
                     */
    int port;       /* 0 for unix sockets */
    bool is_unix;
};

/* The same in few bytes, for whoever keeps it longer than the stream. Zeroed: unknown. */
struct khp_net_endpoint {
    uint16_t family; /* AF_INET, AF_INET6, AF_UNIX, whose path is not kept */
    uint16_t port;
    uint32_t scope;
    uint8_t ip[16];
};

/* The peer's; to be copied before the end event returns. */
const struct khp_net_endpoint *khp_net_stream_endpoint(const struct khp_net_stream *stream);

/* false: unknown. */
bool khp_net_endpoint_format(const struct khp_net_endpoint *endpoint,
                             struct khp_net_address *address);

/* false where the system does not know (the stream is not connected yet, or gone). */
bool khp_net_stream_peer(const struct khp_net_stream *stream, struct khp_net_address *address);
bool khp_net_stream_local(const struct khp_net_stream *stream, struct khp_net_address *address);

struct khp_net_tls_info {
    const char *version;    /* "TLSv1.3" */
    const char *cipher;     /* OpenSSL's name */
    char server_name[256];  /* SNI, "" none */
    char alpn[32];          /* "" none */
    char peer_subject[256]; /* RFC 2253 form of the peer's certificate, "" none */
    bool peer_verified;     /* a certificate was shown and verified */
    bool resumed;           /* the session was resumed */
};

/* false on a plain stream or before open. */
bool khp_net_stream_tls_info(const struct khp_net_stream *stream, struct khp_net_tls_info *info);

#endif

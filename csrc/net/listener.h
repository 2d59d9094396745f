/*
 * Accepts connections on a socket of our own and makes streams of them.
 */
#ifndef KHP_NET_LISTENER_H
#define KHP_NET_LISTENER_H

#include "net/stream.h"

struct khp_net_listener;

struct khp_net_listener_options {
    const char *host; /* name or numeric; NULL: every address, IPv6 and IPv4 together */
    int port;         /* 0: the system picks one */
    /* Instead of host and port. A stale socket file is replaced, a live one is not; it is removed
       on close. "@name": abstract (Linux). */
    const char *unix_path;
    int fd;          /* an already listening descriptor, taken over on success; -1: none */
    bool reuse_port; /* SO_REUSEPORT */
    int backlog;     /* 0: SOMAXCONN */
    /* Accepting pauses at this many live streams of this listener; 0: no bound. */
    unsigned max_streams;
    struct khp_net_tls *tls; /* retained; NULL: plain */
    uint64_t handshake_ms;   /* for the TLS handshake; 0: 10 s */
};

/*
 * accept: a new stream, not yet open; set its handler here (khp_net_stream_handle) or abort it. Its
 * events come later, never before accept returns. The open event comes after the TLS handshake; a
 * stream whose TLS handshake fails has only its end event.
 */
typedef void khp_net_accept(void *owner, struct khp_net_stream *stream);

/* NULL and *error ("bind 127.0.0.1:80: Permission denied") on failure. */
struct khp_net_listener *khp_net_listen(struct khp_net_loop *loop,
                                        const struct khp_net_listener_options *options,
                                        khp_net_accept *accept, void *owner,
                                        struct khp_net_error *error);

/* Stops accepting and frees the listener; its streams live on. */
void khp_net_listener_close(struct khp_net_listener *listener);

void khp_net_listener_address(const struct khp_net_listener *listener,
                              struct khp_net_address *address);

unsigned khp_net_listener_streams(const struct khp_net_listener *listener);

#endif

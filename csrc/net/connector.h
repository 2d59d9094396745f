/*
 * Connects: resolves the name off the loop, tries the addresses in turn (RFC 8305: families
 * interleaved, the next one after a delay or a failure, the first to connect wins), then TLS.
 */
#ifndef KHP_NET_CONNECTOR_H
#define KHP_NET_CONNECTOR_H

#include "net/stream.h"

struct khp_net_connect_options {
    const char *host; /* name or numeric address ("::1", without brackets) */
    int port;
    const char *unix_path;   /* instead of host and port; "@name": abstract */
    struct khp_net_tls *tls; /* retained; NULL: plain */
    const char *server_name; /* SNI and certificate check; NULL: host */
    uint64_t timeout_ms;     /* from the call to open, TLS included; 0: 10 s */
    uint64_t attempt_ms;     /* head start of an address over the next; 0: 250 ms */
};

/*
 * Never fails by itself: every failure is the stream's end event, from the loop, with a text that
 * says what happened. Strings are copied. May be aborted at any time (khp_net_stream_abort). NULL
 * only when out of memory.
 */
struct khp_net_stream *khp_net_connect(struct khp_net_loop *loop,
                                       const struct khp_net_connect_options *options,
                                       const struct khp_net_stream_handler *handler, void *owner);

#endif

/*
 * libwebsockets as the reactor: readiness, reads and the life of a descriptor, in its raw-skt role.
 * reactor.c is the only file that includes libwebsockets.h, so that the differences between its
 * versions and event libraries live in one place. It must not know what a stream does with its
 * bytes.
 */
#ifndef KHP_NET_REACTOR_H
#define KHP_NET_REACTOR_H

#include "net/internal.h"

struct lws;
struct khp_net_reactor;

const char *khp_net_reactor_version(void); /* of libwebsockets */

/*
 * Events go to the khp_net_stream_on_* functions below. backend: UV or POLL. NULL and *error when
 * libwebsockets cannot be set up that way (UV: its plugin cannot be loaded).
 */
struct khp_net_reactor *khp_net_reactor_new(struct khp_net_loop *loop, enum khp_net_backend backend,
                                            unsigned max_descriptors, struct khp_net_error *error);

/* Every descriptor that it still has is closed and told. Runs the libuv loop without blocking. */
void khp_net_reactor_free(struct khp_net_reactor *reactor);

/*
 * One turn of the loop: what is ready; waits for at most wait_ms, < 0: for as long as it takes, but
 * not at all once the step has had an event or something is due.
 */
void khp_net_reactor_turn(struct khp_net_reactor *reactor, int64_t wait_ms);

/* True where libwebsockets is on the stack and must not lose a connection behind its back. */
bool khp_net_reactor_busy(const struct khp_net_reactor *reactor);

/*
 * Watches the descriptor for reading on behalf of the stream; it belongs to libwebsockets from now
 * on, also on failure. khp_net_stream_on_wsi gives the handle, which is good until on_gone. false:
 * refused; if on_wsi was called on_gone comes, too (or has come), otherwise the descriptor is
 * closed already.
 */
bool khp_net_reactor_adopt(struct khp_net_reactor *reactor, int fd, struct khp_net_stream *stream);

void khp_net_reactor_want_read(struct lws *wsi, bool on);
void khp_net_reactor_want_write(struct lws *wsi); /* once */

/* Closes the descriptor: on_closed comes at once, on_gone at once or soon. Not while busy. */
void khp_net_reactor_kill(struct lws *wsi);

/* ---- stream.c: what the reactor tells a stream ---- */

void khp_net_stream_on_wsi(struct khp_net_stream *stream, struct lws *wsi);
void khp_net_stream_on_bytes(struct khp_net_stream *stream, uint8_t *bytes, size_t n);
void khp_net_stream_on_writable(struct khp_net_stream *stream);
/* The descriptor is about to be closed. sys: the error of the last read, 0 if it has none to tell.
 */
void khp_net_stream_on_closed(struct khp_net_stream *stream, int sys);
/* The descriptor is closed and the handle is gone. */
void khp_net_stream_on_gone(struct khp_net_stream *stream);

#endif

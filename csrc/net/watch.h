/*
 * Readiness of a descriptor that belongs to somebody else: standard input, a pipe, a terminal. It
 * is neither read nor closed here.
 */
#ifndef KHP_NET_WATCH_H
#define KHP_NET_WATCH_H

#include "net/loop.h"

struct khp_net_watch;

/*
 * Calls ready(owner) from the loop, once a turn, for as long as a read of fd would not wait, its
 * end included. Begins paused. NULL and *error when the system cannot watch it: a regular file,
 * which can always be read, is refused with EPERM. One watch for a descriptor.
 */
struct khp_net_watch *khp_net_watch_new(struct khp_net_loop *loop, int fd,
                                        void (*ready)(void *owner), void *owner,
                                        struct khp_net_error *error);

/* Both idempotent. A watch keeps no step() from returning and no process alive. */
void khp_net_watch_resume(struct khp_net_watch *self);
void khp_net_watch_pause(struct khp_net_watch *self);

/* Also done when the loop is freed, and then this must not be called any more. */
void khp_net_watch_close(struct khp_net_watch *self);

#endif

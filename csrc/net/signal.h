/*
 * Signals of the process as events of a loop. Several loops may watch the same signal; each hears
 * it.
 */
#ifndef KHP_NET_SIGNAL_H
#define KHP_NET_SIGNAL_H

#include "net/loop.h"

struct khp_net_signal;

/*
 * Calls heard(owner) from the loop for each time, or several times close together, that the process
 * gets the signal. It keeps no step() from returning and no process alive. NULL and *error when the
 * system refuses.
 */
struct khp_net_signal *khp_net_signal_watch(struct khp_net_loop *loop, int number,
                                            void (*heard)(void *owner), void *owner,
                                            struct khp_net_error *error);

/* Stops watching; also done when the loop is freed, and then this must not be called any more. */
void khp_net_signal_close(struct khp_net_signal *self);

#endif

/*
 * The reactor: libwebsockets (raw-skt role) on a libuv loop that we own, or on its own poll() where
 * the libuv plugin is missing. Streams, listeners and timers belong to one loop and to one thread;
 * only khp_net_loop_wake() may be called from another.
 */
#ifndef KHP_NET_LOOP_H
#define KHP_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "net/error.h"

struct khp_net_loop;

/* Of the libraries that are loaded, as each of them says it. */
struct khp_net_versions {
    const char *libwebsockets, *libuv;
};
struct khp_net_versions khp_net_versions(void);

enum khp_net_backend {
    KHP_NET_BACKEND_AUTO, /* libuv, or poll where its plugin cannot be loaded */
    KHP_NET_BACKEND_UV,   /* libuv or fail */
    KHP_NET_BACKEND_POLL
};

enum khp_net_log_level { KHP_NET_LOG_ERROR, KHP_NET_LOG_WARN, KHP_NET_LOG_INFO, KHP_NET_LOG_DEBUG };

struct khp_net_loop_options {
    enum khp_net_backend backend;
    /* Streams have descriptors below this; 0: what RLIMIT_NOFILE allows, at most 66,560. A table of
       this size is walked whenever a connection closes. */
    unsigned max_descriptors;
    void (*log)(void *user, enum khp_net_log_level level, const char *text); /* may be NULL */
    void *user;
};

/* Returns NULL and fills *error when the system refuses. Owned by the caller. */
struct khp_net_loop *khp_net_loop_new(const struct khp_net_loop_options *options,
                                      struct khp_net_error *error);

/*
 * Ends every stream (its end event is delivered, KHP_NET_E_LOCAL, "loop closed"), closes every
 * listener, stops every timer without firing it, frees the loop. Not callable from inside a
 * callback of this loop.
 */
void khp_net_loop_free(struct khp_net_loop *loop);

/*
 * Runs what is ready. seconds == 0: never blocks; > 0: waits at most so long for something to
 * happen; < 0: waits for as long as it takes. Output queued outside of callbacks is flushed first.
 * Returns true, or false without doing anything when called from inside a callback of the same
 * loop.
 */
bool khp_net_loop_step(struct khp_net_loop *loop, double seconds);

/* A descriptor that polls readable when step(0) has work; -1 with the poll backend. */
int khp_net_loop_fd(const struct khp_net_loop *loop);

/* Seconds until step(0) must be called even if the descriptor is silent; -1: for no time. */
double khp_net_loop_timeout(struct khp_net_loop *loop);

/* Makes a step() that waits return. From any thread; from a signal handler, too. */
void khp_net_loop_wake(struct khp_net_loop *loop);

/* Milliseconds of a monotonic clock, read once per turn of the loop (and by every step). */
uint64_t khp_net_loop_now(const struct khp_net_loop *loop);

enum khp_net_backend khp_net_loop_backend(const struct khp_net_loop *loop);

/* True while a callback of this loop is on the stack. */
bool khp_net_loop_entered(const struct khp_net_loop *loop);

/*
 * One timer, embedded in its owner; zero-initialise. Starting a running timer moves it. A timer
 * that fired is stopped and may be started again from its own callback. No allocation; O(log n).
 */
struct khp_net_timer {
    uint64_t due; /* read-only: milliseconds, khp_net_loop_now()'s clock */
    void (*fire)(struct khp_net_timer *timer);
    struct khp_net_timer *child, *next, *prev; /* pairing heap; all NULL when stopped */
    bool running;                              /* read-only */
};

void khp_net_timer_start(struct khp_net_loop *loop, struct khp_net_timer *timer, uint64_t ms);
void khp_net_timer_stop(struct khp_net_loop *loop, struct khp_net_timer *timer);

#endif

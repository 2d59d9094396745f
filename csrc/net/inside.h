/*
 * The inside of a loop, for loop.c, timer.c, reactor.c and the stream*.c only.
 */
#ifndef KHP_NET_INSIDE_H
#define KHP_NET_INSIDE_H

#include "net/internal.h"
#include "net/queue.h"
#include "net/reactor.h"

enum {
    KHP_NET_SCRATCH = 64 * 1024,
    KHP_NET_READ = 64 * 1024 /* what the reactor reads at once */
};

enum { KHP_NET_BATCH = 8, KHP_NET_SHORT = 1024 };

/* What waits to be done together with the same of other streams: batch.c. */
struct khp_net_batch {
    struct khp_net_read {
        struct khp_net_stream *stream;
        size_t n;
        uint8_t bytes[KHP_NET_SHORT];
    } reads[KHP_NET_BATCH];
    struct khp_net_stream *answers[KHP_NET_BATCH];
    unsigned read_count, answer_count;
    uint64_t since; /* nanoseconds: when the first answer was written */
};

struct khp_net_loop {
    uv_loop_t uv;
    uv_timer_t alarm;         /* rings at the earliest timer's deadline */
    uv_timer_t bound;         /* ends a wait */
    uv_async_t waker;         /* khp_net_loop_wake */
    uv_prepare_t before_wait; /* settles before libuv waits */
    struct khp_net_reactor *reactor;
    enum khp_net_backend backend;

    unsigned depth;          /* of khp_net_loop_enter */
    bool stepping;           /* khp_net_loop_step is on the stack */
    bool freeing;            /* khp_net_loop_free is: no new streams, no timers */
    uint64_t entries;        /* callbacks made so far */
    uint64_t entries_before; /* at the beginning of the step: it ends when they have grown */

    struct khp_net_timer *timers; /* the heap's root: the earliest */
    uint64_t firing;              /* while timers fire: their time, else 0 */

    struct khp_net_stream *streams;         /* all, until their end event */
    struct khp_net_stream *due, **due_tail; /* those with something to do when the loop settles */
    struct khp_net_stream *current;         /* the one whose handler runs: flushed right after it */

    bool wants_more; /* it said so, of what it has just read */

    struct khp_net_batch batch;

    struct khp_net_resource *resources;
    struct khp_net_waiter *waiters, *waking;
    bool descriptor_freed;

    struct khp_net_spare spare;
    uint8_t
        *scratch; /* KHP_NET_SCRATCH bytes: what TLS decrypts and last reads; made on first use */
    BIO_METHOD *bio; /* of TLS sessions; made on first use */

    void (*log)(void *user, enum khp_net_log_level level, const char *text);
    void *user;
};

struct khp_net_tls_stream;

enum khp_net_stream_state {
    KHP_NET_STREAM_NEW,       /* no descriptor yet */
    KHP_NET_STREAM_HANDSHAKE, /* TLS is being negotiated */
    KHP_NET_STREAM_OPENING,   /* the open event is due */
    KHP_NET_STREAM_OPEN,
    KHP_NET_STREAM_CLOSING,   /* shutdown: the queue is being written out */
    KHP_NET_STREAM_LINGERING, /* our FIN is sent; waiting for the peer's */
    KHP_NET_STREAM_ENDING /* why is known; the end event is due as soon as the descriptor is closed
                           */
};

struct khp_net_stream {
    struct khp_net_loop *loop;
    struct lws *wsi; /* NULL: the reactor does not know us (yet, or any more) */
    const struct khp_net_stream_handler *handler;
    void *owner;
    struct khp_net_stream *next, *prev; /* loop->streams */
    struct khp_net_stream *due_next;    /* loop->due */
    struct khp_net_queue queue;         /* what the owner wrote */
    struct khp_net_tls_stream *tls;     /* NULL: plain */
    struct khp_net_error *why;          /* NULL unless ENDING (or out of memory) */
    void (*on_end)(void *data);
    void *on_end_data;
    struct khp_net_timer timer; /* of the TLS handshake, of lingering */
    struct khp_net_endpoint peer;
    int fd;             /* the reactor owns it; -1: none */
    int write_errno;    /* a system call failed; what the peer sent before is to be read */
    uint32_t low_water; /* drained comes there */
    enum khp_net_stream_state state : 4;
    bool due : 1;         /* on loop->due */
    bool paused : 1;      /* by the owner */
    bool reading : 1;     /* the reactor reads */
    bool blocked : 1;     /* waits for the descriptor to become writable */
    bool closed : 1;      /* the reactor is closing the descriptor */
    bool leaving : 1;     /* the descriptor goes: a pause ends, or what is unread would be lost */
    bool peer_closed : 1; /* close_notify was received */
};

/* ---- loop.c ---- */

/*
 * Does what is due: flushes queues, delivers open and end events, kills what was aborted (only
 * where the reactor is not busy). Each stream once; what becomes due meanwhile waits for the next
 * time.
 */
void khp_net_loop_settle(struct khp_net_loop *loop);

/* The libuv loop waits no longer than this. */
void khp_net_loop_bound(struct khp_net_loop *loop, uint64_t ms);

/* ---- timer.c ---- */

void khp_net_timers_fire(struct khp_net_loop *loop);
void khp_net_timers_drop(struct khp_net_loop *loop); /* stops all without firing */

/* ---- batch.c ---- */

/*
 * Short bytes for an open stream are kept until a few streams have some, or the turn ends; true.
 * Otherwise, false: those that were kept have been heard, and these are the caller's to hand over.
 */
bool khp_net_batch_keeps(struct khp_net_stream *stream, const uint8_t *bytes, size_t n);
void khp_net_batch_hand_over(struct khp_net_loop *loop);

/* What a handler wrote is to be sent: with the answers of a few others if it is short. */
void khp_net_batch_answer(struct khp_net_stream *stream);
void khp_net_batch_send(struct khp_net_loop *loop);

/* ---- stream.c ---- */

/* Bytes that were read: an event of the stream. */
void khp_net_stream_hear(struct khp_net_stream *stream, uint8_t *bytes, size_t n);

/* What the stream has to do when the loop settles; may free it. */
void khp_net_stream_settle(struct khp_net_stream *stream);

/* Puts it on loop->due. */
void khp_net_stream_make_due(struct khp_net_stream *stream);

void khp_net_stream_set_state(struct khp_net_stream *stream, enum khp_net_stream_state state);

/* ENDING with this reason, in words of the system when the text is NULL. */
void khp_net_stream_end_as(struct khp_net_stream *stream, enum khp_net_code code, int sys,
                           const char *text);

/* Tells the reactor whether to read, when that has changed. */
void khp_net_stream_update_reading(struct khp_net_stream *stream);

void khp_net_stream_opened(struct khp_net_stream *stream); /* OPEN, and its event */

/* ---- stream_io.c ---- */

/* Writes what the kernel takes. When all of a CLOSING stream's is written: close_notify, FIN,
 * LINGERING. */
void khp_net_stream_write_out(struct khp_net_stream *stream);

/* Bytes from the descriptor to the owner, through TLS if there is any; dropped once the stream is
 * closing. */
void khp_net_stream_take_in(struct khp_net_stream *stream, uint8_t *bytes, size_t n);

/* After a read that filled bytes: reads on into them for as long as the owner wants more. */
void khp_net_stream_read_on(struct khp_net_stream *stream, uint8_t *bytes, size_t size);

/*
 * Reads what is left in the descriptor of a connection that is over, so that the peer's last words
 * (a close frame, a TLS alert) are not lost.
 */
void khp_net_stream_read_rest(struct khp_net_stream *stream);

#endif

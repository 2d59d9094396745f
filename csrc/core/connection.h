/*
 * The WebSocket connection: a stream, the frame reader, the send queue's limit, the close handshake
 * and keepalive (RFC 6455 5 to 7). It begins as raw bytes, which somebody above reads and answers
 * as HTTP, and becomes a WebSocket by khp_conn_upgrade(). Knows no Lua and nothing of handshakes.
 */
#ifndef KHP_CONNECTION_H
#define KHP_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/stream.h"
#include "ws/crypto.h"
#include "ws/reader.h"

/* Frames from this size on are sent without being copied, and read without waiting for turns. */
enum { KHP_CONN_LARGE = 64 * 1024 };

/* What the connections with the same settings have moved so far. */
struct khp_conn_traffic {
    uint64_t messages_in, messages_out; /* text and binary, after the handshakes */
    uint64_t bytes_in, bytes_out;       /* of the streams, handshakes included, TLS not */
};

/* Shared by many connections; reference counted, not for threads. */
struct khp_conn_settings {
    unsigned references;
    struct khp_ws_limits limits;           /* of an open connection */
    struct khp_ws_limits handshake_limits; /* of messages before khp_conn_open() */
    uint64_t queue;                        /* bytes of frames not yet taken by the kernel */
    uint64_t ping_ms;  /* silence of the peer after which it is pinged; 0: never */
    uint64_t pong_ms;  /* further silence after which it is given up */
    uint64_t close_ms; /* for the peer's close frame, and again for the end of the stream */
    struct khp_conn_traffic traffic;
};

struct khp_conn_settings *khp_conn_settings_new(void); /* zeroed, one reference; NULL: no memory */
void khp_conn_settings_retain(struct khp_conn_settings *settings);
void khp_conn_settings_release(struct khp_conn_settings *settings);

/* What the connections of a loop have in common. Zero-initialise; free after them. */
struct khp_conn_shared {
    struct khp_ws_random random; /* masks */
    struct khp_ws_spare spare;   /* for large messages */
};

void khp_conn_shared_free(struct khp_conn_shared *shared);

enum khp_conn_state {
    KHP_CONN_CONNECTING, /* the stream is not open yet */
    KHP_CONN_RAW,        /* bytes go up as they are */
    KHP_CONN_OPEN,       /* frames */
    KHP_CONN_CLOSING,    /* our close frame is sent, the peer's has not come */
    KHP_CONN_DRAINING,   /* told closed; the stream is ending in order */
    KHP_CONN_GONE        /* the stream has ended */
};

enum khp_conn_by { KHP_CONN_BY_LOCAL, KHP_CONN_BY_PEER, KHP_CONN_BY_NETWORK, KHP_CONN_BY_TIMEOUT };

/* How a connection came to its end. */
struct khp_conn_close {
    unsigned code;       /* received; else the one we sent; else 1006 */
    enum khp_conn_by by; /* who began */
    bool clean; /* close frames went both ways, or the stream of a raw connection ended in order */
    enum khp_net_code net; /* the stream's reason where by is network or timeout, else KHP_NET_OK */
    size_t length;
    const char
        *reason; /* UTF-8 of the peer's frame, of ours, or what happened; valid during the call */
};

/*
 * What the owner hears. Any call on the connection is allowed inside. `closed` comes exactly once;
 * after it nothing but `gone` comes, exactly once, too, and from then on the connection may be
 * freed.
 */
struct khp_conn_handler {
    void (*open)(void *owner); /* the stream is open: TCP and TLS; again after
                                  khp_net_stream_start_tls() */
    void (*bytes)(void *owner, const uint8_t *bytes, size_t n); /* while raw */
    void (*message)(void *owner, enum khp_ws_opcode kind, const uint8_t *bytes, size_t n);
    void (*ping)(void *owner, const uint8_t *bytes, size_t n); /* has been answered; may be NULL */
    void (*pong)(void *owner, const uint8_t *bytes, size_t n);
    void (*drained)(void *owner);  /* after a send was refused: the queue is below half of its limit
                                      and of what it held then; or see khp_conn_pour() */
    void (*deadline)(void *owner); /* the time set by khp_conn_deadline() is up */
    void (*closed)(void *owner, const struct khp_conn_close *close);
    void (*gone)(void *owner);
};

struct khp_conn {
    struct khp_net_loop *loop;
    struct khp_net_stream *stream; /* NULL once gone */
    struct khp_conn_settings *settings;
    struct khp_conn_shared *shared; /* borrowed */
    const struct khp_conn_handler *handler;
    void *owner;
    struct khp_net_timer keepalive; /* silence; then the close handshake's patience */
    struct khp_net_timer deadline;
    uint64_t heard; /* khp_net_loop_now() of the last bytes, or of the beginning */
    uint64_t sent;  /* bytes of all frames queued so far */
    uint64_t taken; /* of them, by the system, when it was last looked at */
    uint64_t moved; /* khp_net_loop_now() when that had grown, or nothing was queued */
    struct khp_ws_reader reader;
    unsigned sent_code; /* of our close frame, 0 none */
    uint8_t state;      /* enum khp_conn_state */
    uint8_t role;       /* enum khp_ws_role */
    bool opened;        /* the handshakes are over: messages are the application's */
    bool pinged;        /* a keepalive ping is unanswered */
    bool paused;
    bool refused;                 /* a send did not fit; `drained` is owed */
    bool told;                    /* `closed` was delivered */
    bool expands;                 /* the owner may make much of a few bytes: see khp_conn_pause() */
    bool ending;                  /* the stream is at its end: what is held comes now */
    bool stepwise;                /* one message at a time */
    bool holding;                 /* one was delivered, and the next is not asked for yet */
    struct khp_conn_held *held;   /* bytes behind it, NULL none */
    char *sent_reason;            /* of our close frame, NULL none */
    struct khp_net_endpoint peer; /* once gone */
};

/*
 * Wraps a stream (accepted, or being connected). `conn` is zeroed memory of the owner's; settings
 * are retained. open: the stream's open event has come already.
 */
void khp_conn_init(struct khp_conn *conn, struct khp_net_loop *loop, struct khp_net_stream *stream,
                   struct khp_conn_settings *settings, struct khp_conn_shared *shared,
                   const struct khp_conn_handler *handler, void *owner);

/* The owner dies first: no more events, the stream is aborted. Also frees what a gone connection
 * holds. */
void khp_conn_dispose(struct khp_conn *conn);

/* Whose peer it is, or was. false: unknown. */
bool khp_conn_peer(const struct khp_conn *conn, struct khp_net_address *address);

/* While raw: queues bytes. false: not raw, or no memory. */
bool khp_conn_write(struct khp_conn *conn, const void *bytes, size_t n);

/* From raw to frames, with the handshake's limits until khp_conn_open(). false: not raw. */
bool khp_conn_upgrade(struct khp_conn *conn, enum khp_ws_role role);

/*
 * One message at a time, until khp_conn_open(): after each, reading rests until khp_conn_next().
 * For an owner that looks at a message later than its event; the one behind it may fall under other
 * limits.
 */
void khp_conn_stepwise(struct khp_conn *conn);
void khp_conn_next(struct khp_conn *conn);

/* From now on the limits of an open connection hold, and keepalive runs; a deadline was the
 * handshake's and is gone. What was held comes with khp_conn_next(). */
void khp_conn_open(struct khp_conn *conn);

/*
 * Takes bytes that arrived together with the end of the opening handshake, as if they came now.
 * They are copied. false: no memory.
 */
bool khp_conn_feed(struct khp_conn *conn, const uint8_t *bytes, size_t n);

/* Do frames go out? No longer after a close or an abort, nor once a write has failed, though the
 * loop has not told of the end yet and messages may still come. */
bool khp_conn_is_open(const struct khp_conn *conn);

enum khp_conn_send {
    KHP_CONN_SENT,
    KHP_CONN_CLOSED,   /* see khp_conn_is_open() */
    KHP_CONN_FULL,     /* no room in the queue now: `drained` will come */
    KHP_CONN_TOO_BIG,  /* larger than the queue may be */
    KHP_CONN_NO_MEMORY /* the connection is aborted */
};

/* Queues one frame. kind: text, binary, ping or pong. */
enum khp_conn_send khp_conn_send(struct khp_conn *conn, enum khp_ws_opcode kind,
                                 const uint8_t *bytes, size_t n);

/*
 * The two halves of it, for who has to know before it makes the bytes of a frame: is there room in
 * the queue for a message of n bytes; and one frame, with reserved bits (RSV1 = 4, RSV2 = 2,
 * RSV3 = 1), whatever the queue holds.
 */
enum khp_conn_send khp_conn_room(struct khp_conn *conn, size_t n);
enum khp_conn_send khp_conn_frame(struct khp_conn *conn, enum khp_ws_opcode kind, uint8_t rsv,
                                  const uint8_t *bytes, size_t n);

/*
 * Begins the end in order; what was sent before goes out first. Frames: code and reason (at most
 * 123 bytes, valid UTF-8: the caller's duty) go into a close frame; code 0: an empty one. Raw:
 * flush and FIN. Connecting: abort. Idempotent.
 */
void khp_conn_close(struct khp_conn *conn, unsigned code, const char *reason, size_t n);

/* Ends at once; `closed` (code 1006, by local) and `gone` come from the loop. */
void khp_conn_abort(struct khp_conn *conn);

/* `deadline` after so many milliseconds; a new call replaces the old; UINT64_MAX: none. */
void khp_conn_deadline(struct khp_conn *conn, uint64_t ms);

/*
 * Stops and starts reading. Up to one read's worth of messages may still come after a pause; none
 * where `expands` is set, as it should be where extensions may make large messages of few bytes.
 * At the end of the stream what has been read comes, paused or not.
 */
void khp_conn_pause(struct khp_conn *conn);
void khp_conn_resume(struct khp_conn *conn);

/*
 * While raw: one piece of many. SENT: the system has taken it, and all before it; FULL: it is
 * queued, and `drained` comes when all has been taken. CLOSED: not raw.
 */
enum khp_conn_send khp_conn_pour(struct khp_conn *conn, const void *bytes, size_t n);

size_t khp_conn_queued(const struct khp_conn *conn);

#endif

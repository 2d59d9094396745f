/*
 * Whole WebSocket messages out of bytes that arrive in any pieces: unmasks in place, joins
 * fragments, checks UTF-8 as it arrives, lets control frames through in between, enforces limits.
 * The only memory it holds is that of one unfinished message. Sans-I/O; knows no sockets and no
 * Lua.
 */
#ifndef KHP_WS_READER_H
#define KHP_WS_READER_H

#include "ws/frame.h"
#include "ws/utf8.h"

enum khp_ws_role { KHP_WS_SERVER, KHP_WS_CLIENT };

struct khp_ws_limits {
    uint64_t message;   /* bytes of one message, all fragments together; see below */
    uint32_t fragments; /* frames of one message, empty ones included */
};

/*
 * Bytes of payload that a message may have by these limits. With a reserved bit an extension has
 * made it of one that keeps to the limit, and may have made it a little larger, as deflate does
 * with what is compressed already; what it was is for the other side of the extension to judge.
 */
static inline uint64_t khp_ws_most_payload(const struct khp_ws_limits *limits, uint8_t rsv) {
    uint64_t most = limits->message;
    uint64_t slack = rsv == 0 ? 0 : most / 8 + 64;
    return most < SIZE_MAX - slack ? most + slack : SIZE_MAX;
}

enum khp_ws_event {
    KHP_WS_EVENT_NONE,    /* all bytes used; more are needed */
    KHP_WS_EVENT_MESSAGE, /* text or binary: see opcode */
    KHP_WS_EVENT_PING,
    KHP_WS_EVENT_PONG,
    KHP_WS_EVENT_CLOSE, /* code and reason (payload); the reader accepts nothing after this */
    KHP_WS_EVENT_ERROR /* code: what to close with; text: why. The reader accepts nothing after this
                        */
};

struct khp_ws_message {
    enum khp_ws_opcode opcode;
    const uint8_t *payload; /* of CLOSE: the reason; valid until the next call on the reader */
    size_t length;
    unsigned
        code; /* CLOSE: as received, 1005 when empty; ERROR: 1002, 1007, 1009 or 1011 (no memory) */
    uint8_t rsv;      /* reserved bits of the first frame: only bits that were allowed */
    const char *text; /* ERROR: a constant, for people */
};

/*
 * One message buffer, kept so that a busy loop does not allocate one for each large message. The
 * readers of a thread may share it: it is lent to one of them at a time. Zero-initialise; free it
 * after them.
 */
struct khp_ws_spare {
    uint8_t *bytes; /* NULL: none yet */
    size_t size;
    bool lent;
};

void khp_ws_spare_free(struct khp_ws_spare *spare);

struct khp_ws_reader {
    const struct khp_ws_limits *limits; /* borrowed */
    struct khp_ws_spare *spare;         /* borrowed; may be set after initialising, else NULL */
    uint8_t *buffer;                    /* the unfinished message, or the delivered one, or NULL */
    size_t size, capacity;
    uint8_t *control;           /* payload of a control frame that came in pieces, or NULL */
    struct khp_ws_header frame; /* the current one, when in_frame */
    uint64_t remaining;         /* payload of the current frame still to come */
    uint32_t fragments;         /* frames of the message so far */
    struct khp_ws_utf8 utf8;
    uint8_t stash[KHP_WS_HEADER_MAX]; /* a header that is not complete yet */
    uint8_t stashed;
    uint8_t role;        /* enum khp_ws_role: of this side */
    uint8_t opcode;      /* of the message in progress, 0 none */
    uint8_t message_rsv; /* of its first frame */
    uint8_t allowed_rsv; /* bits that a negotiated extension uses on a first frame */
    bool in_frame, done;
    bool borrowed; /* the buffer is the spare's */
};

void khp_ws_reader_init(struct khp_ws_reader *reader, enum khp_ws_role role,
                        const struct khp_ws_limits *limits);
void khp_ws_reader_free(struct khp_ws_reader *reader);

/*
 * Takes bytes (which are overwritten) up to the end of the next event; *used tells how many. Call
 * again with the rest until KHP_WS_EVENT_NONE, also when no bytes are left: that call lets go of
 * the delivered message, unless it was not the reader's (khp_ws_reader_holds). A message of one
 * frame that lies whole in `bytes` is delivered from there without a copy. The text of a message
 * with reserved bits is not checked: it is the extension's, to decode and to check.
 */
enum khp_ws_event khp_ws_reader_next(struct khp_ws_reader *reader, uint8_t *bytes, size_t n,
                                     size_t *used, struct khp_ws_message *message);

/* Does it hold memory: of a message or a control frame, delivered or not complete? */
static inline bool khp_ws_reader_holds(const struct khp_ws_reader *reader) {
    return reader->buffer != NULL || reader->control != NULL;
}

#endif

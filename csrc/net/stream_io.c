/*
 * How a stream's bytes get in and out of its descriptor, plain or through its TLS session. What a
 * stream is and how it ends is stream.c's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/inside.h"
#include "net/tls_stream.h"

enum {
    SEAL_AT_ONCE = 64 * 1024,  /* plaintext that is encrypted before the next send */
    NOTIFIED_LINGER_MS = 2000, /* for the FIN of a peer that has sent its close_notify */
    CHATTER_MOST = 128 * 1024, /* of TLS's own to a peer that asks for it and never reads */
    READ_ON_MOST = 1024 * 1024 /* after a full read, before others have their turn */
};

/* ---- out ---- */

/*
 * What became of sending `length` bytes: how many the kernel took. If not all, it says when it has
 * room again; failures are told later.
 */
static size_t sent(struct khp_net_stream *stream, ssize_t n, size_t length) {
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        stream->write_errno = errno;
        khp_net_stream_make_due(stream);
        return 0;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    if (taken < length) {
        stream->blocked = true;
        khp_net_reactor_want_write(stream->wsi);
    }
    return taken;
}

/* One send of all there is. True if the queue is empty now. */
static bool send_queue(struct khp_net_stream *stream, struct khp_net_queue *queue) {
    struct khp_net_spare *spare = &stream->loop->spare;
    size_t length = khp_net_queue_length(queue);
    if (length == 0)
        return true;
    ssize_t n;
    do
        n = send(stream->fd, khp_net_queue_head(queue), length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    khp_net_queue_consume(queue, spare, sent(stream, n, length));
    if (stream->blocked)
        khp_net_queue_fit(queue, spare);
    return khp_net_queue_length(queue) == 0;
}

/* Encrypts the next slice of what the owner wrote, or at the end of it our close_notify. False:
 * nothing to do. */
static bool seal(struct khp_net_stream *stream) {
    struct khp_net_tls_stream *session = stream->tls;
    size_t length = khp_net_queue_length(&stream->queue);
    if (stream->state == KHP_NET_STREAM_HANDSHAKE)
        return false;
    if (length == 0) {
        if (stream->state != KHP_NET_STREAM_CLOSING || session->notified)
            return false;
        khp_net_tls_stream_notify(session);
        return true;
    }
    if (length > SEAL_AT_ONCE)
        length = SEAL_AT_ONCE;
    struct khp_net_error error;
    if (khp_net_tls_stream_write(session, khp_net_queue_head(&stream->queue), length, &error) !=
        KHP_NET_TLS_DONE) {
        khp_net_stream_fail(stream, &error);
        return false;
    }
    khp_net_queue_consume(&stream->queue, &stream->loop->spare, length);
    return true;
}

static bool may_send(const struct khp_net_stream *stream) {
    return stream->wsi != NULL && !stream->closed && !stream->blocked && stream->write_errno == 0 &&
           stream->state != KHP_NET_STREAM_ENDING && stream->state != KHP_NET_STREAM_LINGERING;
}

void khp_net_stream_write_out(struct khp_net_stream *stream) {
    if (!may_send(stream))
        return;
    if (stream->tls != NULL) {
        do {
            if (!send_queue(stream, &stream->tls->wire))
                return;
        } while (seal(stream));
    } else if (!send_queue(stream, &stream->queue)) {
        return;
    }
    if (stream->state == KHP_NET_STREAM_CLOSING) {
        shutdown(stream->fd, SHUT_WR);
        khp_net_stream_set_state(stream, KHP_NET_STREAM_LINGERING);
    }
}

/* One send of both pieces; they are left with what the kernel did not take. */
static void send_pieces(struct khp_net_stream *stream, struct iovec pieces[2]) {
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    ssize_t n;
    do
        n = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    size_t taken = sent(stream, n, pieces[0].iov_len + pieces[1].iov_len);
    for (int i = 0; i < 2; i++) {
        size_t part = taken < pieces[i].iov_len ? taken : pieces[i].iov_len;
        if (part > 0) /* an empty piece may be nowhere */
            pieces[i].iov_base = (char *)pieces[i].iov_base + part;
        pieces[i].iov_len -= part;
        taken -= part;
    }
}

/* An iovec has no const, and what is sent is not written to. */
static struct iovec piece_of(const void *bytes, size_t n) {
    union {
        const void *given;
        void *base;
    } piece = {.given = bytes};
    return (struct iovec){.iov_base = piece.base, .iov_len = n};
}

bool khp_net_stream_write_large(struct khp_net_stream *stream, const void *head, size_t head_size,
                                const void *body, size_t body_size) {
    struct iovec pieces[] = {piece_of(head, head_size), piece_of(body, body_size)};
    if (stream->tls == NULL && stream->state == KHP_NET_STREAM_OPEN) {
        khp_net_stream_write_out(stream);
        if (may_send(stream))
            send_pieces(stream, pieces);
    }
    size_t left = pieces[0].iov_len + pieces[1].iov_len;
    if (left == 0 || stream->write_errno != 0)
        return true;
    uint8_t *room = khp_net_stream_reserve(stream, left);
    if (room == NULL) {
        if (left < head_size + body_size) /* nothing may follow a half */
            khp_net_stream_end_as(stream, KHP_NET_E_LIMIT, 0, "out of memory");
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (pieces[i].iov_len > 0)
            memcpy(room, pieces[i].iov_base, pieces[i].iov_len);
        room += pieces[i].iov_len;
    }
    khp_net_stream_commit(stream, left);
    if (stream->blocked)
        khp_net_queue_fit(&stream->queue, &stream->loop->spare);
    return true;
}

/* ---- in ---- */

static uint8_t *scratch_of(struct khp_net_loop *loop) {
    if (loop->scratch == NULL)
        loop->scratch = malloc(KHP_NET_SCRATCH);
    return loop->scratch;
}

static void deliver(struct khp_net_stream *stream, uint8_t *bytes, size_t n) {
    if (n > 0 && stream->handler != NULL)
        stream->handler->read(stream->owner, bytes, n);
}

static void out_of_memory(struct khp_net_stream *stream) {
    khp_net_stream_end_as(stream, KHP_NET_E_LIMIT, 0, "out of memory");
}

/* The last thing to leave before the end is TLS's alert, if the kernel takes it. */
static void tls_failed(struct khp_net_stream *stream, const struct khp_net_error *error) {
    if (!stream->blocked && !stream->closed && stream->write_errno == 0)
        (void)send_queue(stream, &stream->tls->wire);
    khp_net_stream_fail(stream, error);
}

static bool shake_hands(struct khp_net_stream *stream) {
    struct khp_net_error error;
    switch (khp_net_tls_stream_handshake(stream->tls, &error)) {
    case KHP_NET_TLS_DONE:
        khp_net_stream_opened(stream);
        return true;
    case KHP_NET_TLS_STARVED:
        return false;
    case KHP_NET_TLS_ENDED:
        khp_net_stream_end_as(stream, KHP_NET_E_TLS, 0,
                              "the peer closed the connection during the TLS handshake");
        return false;
    case KHP_NET_TLS_FAILED:
        tls_failed(stream, &error);
        return false;
    }
    return false;
}

static bool pauses(const struct khp_net_stream *stream) {
    return stream->paused && !stream->leaving;
}

static bool wants_plaintext(const struct khp_net_stream *stream) {
    return stream->state == KHP_NET_STREAM_OPEN && !pauses(stream);
}

/* All that the session can make of its ciphertext; what a paused owner does not want yet is kept.
 */
static void take_in_tls(struct khp_net_stream *stream) {
    struct khp_net_tls_stream *session = stream->tls;
    uint8_t *scratch = scratch_of(stream->loop);
    if (scratch == NULL) {
        out_of_memory(stream);
        return;
    }
    if (stream->state == KHP_NET_STREAM_HANDSHAKE)
        (void)shake_hands(stream);
    while (wants_plaintext(stream)) {
        struct khp_net_error error;
        size_t got;
        enum khp_net_tls_result result =
            khp_net_tls_stream_read(session, scratch, KHP_NET_SCRATCH, &got, &error);
        deliver(stream, scratch, got);
        if (result == KHP_NET_TLS_DONE)
            continue;
        if (result == KHP_NET_TLS_FAILED)
            tls_failed(stream, &error);
        else if (result == KHP_NET_TLS_ENDED && stream->state == KHP_NET_STREAM_OPEN) {
            stream->peer_closed = true;
            khp_net_stream_shutdown(stream, NOTIFIED_LINGER_MS);
        }
        break;
    }
    if (stream->state == KHP_NET_STREAM_OPEN || stream->state == KHP_NET_STREAM_HANDSHAKE) {
        if (!khp_net_tls_stream_keep(session))
            out_of_memory(stream);
        if (stream->blocked && khp_net_queue_length(&session->wire) > CHATTER_MOST)
            khp_net_stream_end_as(stream, KHP_NET_E_LIMIT, 0, "too many TLS key updates");
        khp_net_stream_update_reading(stream);
        khp_net_stream_write_out(stream); /* what TLS itself has to say: tickets, key updates */
    }
}

void khp_net_stream_take_in(struct khp_net_stream *stream, uint8_t *bytes, size_t n) {
    struct khp_net_tls_stream *session = stream->tls;
    if (stream->state != KHP_NET_STREAM_OPEN && stream->state != KHP_NET_STREAM_HANDSHAKE)
        return;
    if (session == NULL) {
        deliver(stream, bytes, n); /* paused or not: nobody keeps them */
        return;
    }
    if (n > 0)
        khp_net_tls_stream_feed(session, bytes, n);
    take_in_tls(stream);
    session->slice_size = 0;
}

static bool wants_bytes(const struct khp_net_stream *stream) {
    return !pauses(stream) &&
           (stream->state == KHP_NET_STREAM_OPEN || stream->state == KHP_NET_STREAM_HANDSHAKE);
}

/* One recv(2) and what it brings. */
static ssize_t read_once(struct khp_net_stream *stream, uint8_t *bytes, size_t size) {
    ssize_t n;
    do
        n = recv(stream->fd, bytes, size, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        khp_net_stream_take_in(stream, bytes, (size_t)n);
    return n;
}

void khp_net_stream_read_on(struct khp_net_stream *stream, uint8_t *bytes, size_t size) {
    ssize_t n = (ssize_t)size;
    for (size_t more = 0; n == (ssize_t)size && more < READ_ON_MOST; more += size) {
        if (!stream->loop->wants_more || !wants_bytes(stream) || stream->closed ||
            stream->write_errno != 0)
            return;
        stream->loop->wants_more = false;
        n = read_once(stream, bytes, size);
    }
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        stream->write_errno = errno; /* told once: the reactor would take it for the end */
        khp_net_stream_make_due(stream);
    }
}

void khp_net_stream_read_rest(struct khp_net_stream *stream) {
    uint8_t *bytes = malloc(KHP_NET_SCRATCH); /* the scratch is for what TLS makes of them */
    stream->leaving = true;
    if (stream->tls != NULL)
        khp_net_stream_take_in(stream, NULL, 0); /* what a pause has kept */
    while (bytes != NULL && wants_bytes(stream) && read_once(stream, bytes, KHP_NET_SCRATCH) > 0)
        continue;
    free(bytes);
}

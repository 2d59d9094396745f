/*
 * How a stream's bytes get in and out of its descriptor, plain or through its TLS session. What a
 * stream is and how it ends is stream.c's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/inside.h"
#include "net/tls_stream.h"

enum {
    SEAL_AT_ONCE = 64 * 1024,  /* plaintext that is encrypted before the next send */
    NOTIFIED_LINGER_MS = 2000, /* for the FIN of a peer that has sent its close_notify */
    CHATTER_MOST = 128 * 1024  /* of TLS's own to a peer that asks for it and never reads */
};

/* ---- out ---- */

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
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        stream->write_errno = errno;
        khp_net_stream_make_due(stream);
        return false;
    }
    if (n > 0)
        khp_net_queue_consume(queue, spare, (size_t)n);
    if (n == (ssize_t)length)
        return true;
    stream->blocked = true;
    khp_net_queue_fit(queue, spare);
    khp_net_reactor_want_write(stream->wsi);
    return false;
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

void khp_net_stream_write_out(struct khp_net_stream *stream) {
    if (stream->wsi == NULL || stream->closed || stream->blocked || stream->write_errno != 0 ||
        stream->state == KHP_NET_STREAM_ENDING || stream->state == KHP_NET_STREAM_LINGERING)
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

static bool wants_plaintext(const struct khp_net_stream *stream) {
    return stream->state == KHP_NET_STREAM_OPEN && !stream->paused;
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
        if (!stream->paused)
            deliver(stream, bytes, n);
        return;
    }
    if (n > 0)
        khp_net_tls_stream_feed(session, bytes, n);
    take_in_tls(stream);
    session->slice_size = 0;
}

void khp_net_stream_read_rest(struct khp_net_stream *stream) {
    uint8_t *bytes = malloc(KHP_NET_SCRATCH); /* the scratch is for what TLS makes of them */
    while (bytes != NULL && !stream->paused &&
           (stream->state == KHP_NET_STREAM_OPEN || stream->state == KHP_NET_STREAM_HANDSHAKE)) {
        ssize_t n = recv(stream->fd, bytes, KHP_NET_SCRATCH, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        khp_net_stream_take_in(stream, bytes, (size_t)n);
    }
    free(bytes);
}

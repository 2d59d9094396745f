/*
 * A stream: its states, its life from descriptor to end event, and what its owner may ask of it.
 * Bytes are moved by stream_io.c. A stream is freed in one place only, when the loop settles: never
 * while somebody is using it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/inside.h"
#include "net/tls_stream.h"

enum { HANDSHAKE_MS = 10000 };

static_assert(sizeof(struct khp_net_stream) <= 256, "a stream is small");

/* ---- states ---- */

#define MAY_BECOME(state) (1u << KHP_NET_STREAM_##state)

static const unsigned transitions[] = {
    [KHP_NET_STREAM_NEW] = MAY_BECOME(HANDSHAKE) | MAY_BECOME(OPENING) | MAY_BECOME(ENDING),
    [KHP_NET_STREAM_HANDSHAKE] = MAY_BECOME(OPEN) | MAY_BECOME(ENDING),
    [KHP_NET_STREAM_OPENING] = MAY_BECOME(OPEN) | MAY_BECOME(CLOSING) | MAY_BECOME(ENDING),
    [KHP_NET_STREAM_OPEN] = MAY_BECOME(HANDSHAKE) | MAY_BECOME(CLOSING) | MAY_BECOME(ENDING),
    [KHP_NET_STREAM_CLOSING] = MAY_BECOME(LINGERING) | MAY_BECOME(ENDING),
    [KHP_NET_STREAM_LINGERING] = MAY_BECOME(ENDING),
    [KHP_NET_STREAM_ENDING] = 0,
};

void khp_net_stream_set_state(struct khp_net_stream *stream, enum khp_net_stream_state state) {
    assert(transitions[stream->state] & 1u << state);
    stream->state = state;
}

void khp_net_stream_make_due(struct khp_net_stream *stream) {
    struct khp_net_loop *loop = stream->loop;
    if (stream->due)
        return;
    stream->due = true;
    stream->due_next = NULL;
    *loop->due_tail = stream;
    loop->due_tail = &stream->due_next;
}

void khp_net_stream_end_as(struct khp_net_stream *stream, enum khp_net_code code, int sys,
                           const char *text) {
    struct khp_net_error why;
    khp_net_error_set(&why, code, sys, "%s", text != NULL ? text : strerror(sys));
    khp_net_stream_fail(stream, &why);
}

void khp_net_stream_fail(struct khp_net_stream *stream, const struct khp_net_error *why) {
    if (stream->state == KHP_NET_STREAM_ENDING)
        return;
    stream->why = malloc(sizeof *why);
    if (stream->why != NULL)
        *stream->why = *why;
    khp_net_stream_set_state(stream, KHP_NET_STREAM_ENDING);
    khp_net_timer_stop(stream->loop, &stream->timer);
    khp_net_queue_clear(&stream->queue, &stream->loop->spare);
    khp_net_stream_make_due(stream);
}

/* ---- life ---- */

struct khp_net_stream *khp_net_stream_new(struct khp_net_loop *loop) {
    if (loop->freeing)
        return NULL;
    struct khp_net_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->loop = loop;
    stream->fd = -1;
    stream->reading = true;
    stream->next = loop->streams;
    if (stream->next != NULL)
        stream->next->prev = stream;
    loop->streams = stream;
    return stream;
}

/* Tells the end and frees. */
static void finish(struct khp_net_stream *stream) {
    static const struct khp_net_error no_memory = {KHP_NET_E_LIMIT, 0, "out of memory"};
    struct khp_net_loop *loop = stream->loop;
    loop->entries++;
    if (stream->on_end != NULL)
        stream->on_end(stream->on_end_data);
    if (stream->handler != NULL && stream->handler->end != NULL)
        stream->handler->end(stream->owner, stream->why != NULL ? stream->why : &no_memory);

    if (stream->prev != NULL)
        stream->prev->next = stream->next;
    else
        loop->streams = stream->next;
    if (stream->next != NULL)
        stream->next->prev = stream->prev;
    khp_net_tls_stream_free(stream->tls);
    free(stream->why);
    free(stream);
}

void khp_net_stream_settle(struct khp_net_stream *stream) {
    struct khp_net_loop *loop = stream->loop;
    loop->current = stream;
    if (stream->state == KHP_NET_STREAM_OPENING)
        khp_net_stream_opened(stream);
    if (stream->tls != NULL && !stream->paused && khp_net_tls_stream_holds(stream->tls)) {
        loop->entries++;
        khp_net_stream_take_in(stream, NULL, 0);
    }
    loop->current = NULL;
    khp_net_stream_write_out(stream);

    if (stream->write_errno != 0 && stream->state != KHP_NET_STREAM_ENDING) {
        loop->entries++;
        if (stream->wsi != NULL && !stream->closed)
            khp_net_stream_read_rest(stream);
        khp_net_stream_end_as(stream, KHP_NET_E_CLOSED, stream->write_errno, NULL);
    }
    if (stream->state != KHP_NET_STREAM_ENDING)
        return;
    if (stream->wsi == NULL && stream->fd < 0) {
        finish(stream);
    } else if (!stream->closed) {
        if (khp_net_reactor_busy(loop->reactor))
            khp_net_stream_make_due(stream);
        else
            khp_net_reactor_kill(stream->wsi);
    }
}

/* Why a connection ended that we did not end. sys: the error that the system gave, 0: the peer's
 * FIN. */
static void ended_by_peer(struct khp_net_stream *stream, int sys) {
    if (stream->state == KHP_NET_STREAM_ENDING)
        return;
    if (stream->state == KHP_NET_STREAM_HANDSHAKE)
        khp_net_stream_end_as(stream, KHP_NET_E_TLS, sys,
                              sys != 0 ? strerror(sys)
                                       : "the peer closed the connection during the TLS handshake");
    else if (sys != 0)
        khp_net_stream_end_as(stream, KHP_NET_E_CLOSED, sys, NULL);
    else if (stream->state == KHP_NET_STREAM_LINGERING && !stream->peer_closed)
        khp_net_stream_end_as(stream, KHP_NET_E_LOCAL, 0, "closed");
    else if (stream->tls != NULL && !stream->peer_closed)
        khp_net_stream_end_as(stream, KHP_NET_E_CLOSED, 0,
                              "closed by the peer without a TLS close_notify");
    else
        khp_net_stream_end_as(stream, KHP_NET_E_CLOSED, 0, "closed by the peer");
}

static struct khp_net_stream *stream_of(struct khp_net_timer *timer) {
    return (struct khp_net_stream *)(void *)((char *)timer -
                                             offsetof(struct khp_net_stream, timer));
}

static void handshake_late(struct khp_net_timer *timer) {
    khp_net_stream_end_as(stream_of(timer), KHP_NET_E_TIMEOUT, ETIMEDOUT,
                          "the TLS handshake took too long");
}

static void linger_over(struct khp_net_timer *timer) {
    struct khp_net_stream *stream = stream_of(timer);
    if (stream->peer_closed)
        ended_by_peer(stream, 0);
    else
        khp_net_stream_end_as(stream, KHP_NET_E_LOCAL, 0, "closed; the peer did not close in time");
}

static bool begin_tls(struct khp_net_stream *stream, struct khp_net_tls *tls, bool server,
                      const char *server_name, uint64_t handshake_ms, struct khp_net_error *error) {
    struct khp_net_loop *loop = stream->loop;
    if (loop->bio == NULL)
        loop->bio = khp_net_tls_stream_bio();
    stream->tls = khp_net_tls_stream_new(loop->bio, &loop->spare, tls, server, server_name, error);
    if (stream->tls == NULL)
        return false;
    khp_net_stream_set_state(stream, KHP_NET_STREAM_HANDSHAKE);
    stream->timer.fire = handshake_late;
    khp_net_timer_start(loop, &stream->timer, handshake_ms != 0 ? handshake_ms : HANDSHAKE_MS);
    return true;
}

void khp_net_stream_attach(struct khp_net_stream *stream, int fd, struct khp_net_tls *tls,
                           bool tls_server, const char *server_name, uint64_t handshake_ms) {
    struct khp_net_error error;
    if (stream->state != KHP_NET_STREAM_NEW) {
        close(fd);
        stream->loop->descriptor_freed = true;
        return;
    }
    if (tls != NULL && !begin_tls(stream, tls, tls_server, server_name, handshake_ms, &error)) {
        close(fd);
        stream->loop->descriptor_freed = true;
        khp_net_stream_fail(stream, &error);
        return;
    }
    stream->fd = fd;
    if (!khp_net_reactor_adopt(stream->loop->reactor, fd, stream)) {
        if (stream->wsi == NULL) {
            stream->fd = -1;
            stream->loop->descriptor_freed = true;
        }
        khp_net_stream_end_as(stream, KHP_NET_E_LIMIT, 0, "too many descriptors");
        return;
    }
    if (tls == NULL)
        khp_net_stream_set_state(stream, KHP_NET_STREAM_OPENING);
    else
        khp_net_stream_take_in(stream, NULL, 0); /* a client's first flight */
    khp_net_stream_update_reading(stream);
    khp_net_stream_make_due(stream);
}

void khp_net_stream_opened(struct khp_net_stream *stream) {
    stream->loop->entries++;
    khp_net_timer_stop(stream->loop, &stream->timer);
    khp_net_stream_set_state(stream, KHP_NET_STREAM_OPEN);
    khp_net_stream_update_reading(stream);
    if (stream->handler != NULL && stream->handler->open != NULL)
        stream->handler->open(stream->owner);
}

void khp_net_stream_on_end(struct khp_net_stream *stream, void (*hook)(void *data), void *data) {
    stream->on_end = hook;
    stream->on_end_data = data;
}

struct khp_net_loop *khp_net_stream_loop(const struct khp_net_stream *stream) {
    return stream->loop;
}

/* ---- what the reactor tells ---- */

void khp_net_stream_on_wsi(struct khp_net_stream *stream, struct lws *wsi) {
    stream->wsi = wsi;
}

static void begin_event(struct khp_net_stream *stream) {
    khp_net_loop_enter(stream->loop);
    stream->loop->current = stream;
    if (stream->state == KHP_NET_STREAM_OPENING)
        khp_net_stream_opened(stream);
}

/* One send for what one read brought. */
static void end_event(struct khp_net_stream *stream) {
    stream->loop->current = NULL;
    khp_net_batch_answer(stream);
    khp_net_loop_leave(stream->loop);
}

void khp_net_stream_hear(struct khp_net_stream *stream, uint8_t *bytes, size_t n) {
    begin_event(stream);
    stream->loop->wants_more = false;
    khp_net_stream_take_in(stream, bytes, n);
    if (n == KHP_NET_READ)
        khp_net_stream_read_on(stream, bytes, n);
    end_event(stream);
}

void khp_net_stream_on_bytes(struct khp_net_stream *stream, uint8_t *bytes, size_t n) {
    if (!khp_net_batch_keeps(stream, bytes, n))
        khp_net_stream_hear(stream, bytes, n);
}

void khp_net_stream_on_writable(struct khp_net_stream *stream) {
    khp_net_batch_hand_over(stream->loop);
    begin_event(stream);
    size_t before = khp_net_stream_queued(stream);
    stream->blocked = false;
    khp_net_stream_write_out(stream);
    bool fell = before > stream->low_water && khp_net_stream_queued(stream) <= stream->low_water;
    if (fell && stream->state == KHP_NET_STREAM_OPEN && stream->write_errno == 0 &&
        stream->handler != NULL && stream->handler->drained != NULL)
        stream->handler->drained(stream->owner);
    end_event(stream);
}

void khp_net_stream_on_closed(struct khp_net_stream *stream, int sys) {
    khp_net_batch_hand_over(stream->loop);
    khp_net_loop_enter(stream->loop);
    stream->closed = true;
    int pending = stream->write_errno;
    socklen_t size = sizeof pending;
    if (pending == 0 && stream->state != KHP_NET_STREAM_ENDING)
        (void)getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &pending, &size);
    if (pending != 0 || stream->paused) /* the reactor may have given up without reading */
        khp_net_stream_read_rest(stream);
    ended_by_peer(stream, pending != 0 ? pending : sys);
    khp_net_loop_leave(stream->loop);
}

void khp_net_stream_on_gone(struct khp_net_stream *stream) {
    khp_net_loop_enter(stream->loop);
    stream->closed = true;
    stream->wsi = NULL;
    stream->fd = -1;
    stream->loop->descriptor_freed = true;
    khp_net_stream_end_as(stream, KHP_NET_E_LIMIT, 0, "too many descriptors"); /* not adopted */
    khp_net_stream_make_due(stream);
    khp_net_loop_leave(stream->loop);
}

/* ---- what the owner asks ---- */

void khp_net_stream_handle(struct khp_net_stream *stream,
                           const struct khp_net_stream_handler *handler, void *owner) {
    stream->handler = handler;
    stream->owner = owner;
}

bool khp_net_stream_is_writable(const struct khp_net_stream *stream) {
    return stream->state <= KHP_NET_STREAM_OPEN && !stream->closed && stream->write_errno == 0;
}

uint8_t *khp_net_stream_reserve(struct khp_net_stream *stream, size_t n) {
    if (!khp_net_stream_is_writable(stream))
        return NULL;
    return khp_net_queue_reserve(&stream->queue, &stream->loop->spare, n);
}

void khp_net_stream_commit(struct khp_net_stream *stream, size_t n) {
    stream->queue.end += n;
    if (stream->loop->current != stream && !stream->blocked)
        khp_net_stream_make_due(stream);
}

bool khp_net_stream_write(struct khp_net_stream *stream, const void *bytes, size_t n) {
    uint8_t *room = khp_net_stream_reserve(stream, n);
    if (room == NULL)
        return false;
    if (n > 0)
        memcpy(room, bytes, n);
    khp_net_stream_commit(stream, n);
    return true;
}

size_t khp_net_stream_queued(const struct khp_net_stream *stream) {
    return khp_net_queue_length(&stream->queue) +
           (stream->tls != NULL ? khp_net_queue_length(&stream->tls->wire) : 0);
}

void khp_net_stream_low_water(struct khp_net_stream *stream, size_t bytes) {
    stream->low_water = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

void khp_net_stream_flush(struct khp_net_stream *stream) {
    if (stream->state == KHP_NET_STREAM_OPEN)
        khp_net_stream_write_out(stream);
}

void khp_net_stream_want_more(struct khp_net_stream *stream) {
    stream->loop->wants_more = true;
}

void khp_net_stream_update_reading(struct khp_net_stream *stream) {
    bool on = stream->state == KHP_NET_STREAM_OPENING || stream->state == KHP_NET_STREAM_OPEN
                  ? !stream->paused
                  : stream->state != KHP_NET_STREAM_ENDING;
    if (stream->wsi == NULL || stream->closed || on == stream->reading)
        return;
    stream->reading = on;
    khp_net_reactor_want_read(stream->wsi, on);
}

void khp_net_stream_pause(struct khp_net_stream *stream) {
    stream->paused = true;
    khp_net_stream_update_reading(stream);
}

void khp_net_stream_resume(struct khp_net_stream *stream) {
    if (!stream->paused)
        return;
    stream->paused = false;
    if (stream->tls != NULL)
        khp_net_stream_make_due(stream); /* it may hold bytes already; they come first */
    khp_net_stream_update_reading(stream);
}

void khp_net_stream_shutdown(struct khp_net_stream *stream, uint64_t linger_ms) {
    switch (stream->state) {
    case KHP_NET_STREAM_NEW:
    case KHP_NET_STREAM_HANDSHAKE:
        khp_net_stream_end_as(stream, KHP_NET_E_LOCAL, 0, "closed");
        return;
    case KHP_NET_STREAM_OPENING:
    case KHP_NET_STREAM_OPEN:
        khp_net_stream_set_state(stream, KHP_NET_STREAM_CLOSING);
        khp_net_stream_update_reading(stream);
        khp_net_stream_make_due(stream);
        break;
    case KHP_NET_STREAM_CLOSING:
    case KHP_NET_STREAM_LINGERING:
        if (khp_net_loop_now(stream->loop) + linger_ms >= stream->timer.due)
            return;
        break;
    case KHP_NET_STREAM_ENDING:
        return;
    }
    stream->timer.fire = linger_over;
    khp_net_timer_start(stream->loop, &stream->timer, linger_ms);
}

void khp_net_stream_abort(struct khp_net_stream *stream) {
    khp_net_stream_end_as(stream, KHP_NET_E_LOCAL, 0, "aborted");
}

bool khp_net_stream_start_tls(struct khp_net_stream *stream, struct khp_net_tls *tls,
                              const char *server_name, struct khp_net_error *error) {
    if (stream->state != KHP_NET_STREAM_OPEN || stream->tls != NULL) {
        khp_net_error_set(error, KHP_NET_E_TLS, 0, "TLS begins on an open plain stream");
        return false;
    }
    if (!begin_tls(stream, tls, false, server_name, 0, error))
        return false;
    /* What is queued was written before TLS: it goes first, as it is. */
    stream->tls->wire = stream->queue;
    memset(&stream->queue, 0, sizeof stream->queue);
    khp_net_stream_update_reading(stream);
    khp_net_stream_take_in(stream, NULL, 0); /* our first flight */
    return true;
}

typedef int name_function(int fd, struct sockaddr *address, socklen_t *size);

static bool name_of(const struct khp_net_stream *stream, name_function *get,
                    struct khp_net_address *address) {
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    if (stream->fd < 0 || get(stream->fd, (struct sockaddr *)&name, &size) != 0)
        return false;
    khp_net_address_format((const struct sockaddr *)&name, size, address);
    return true;
}

void khp_net_stream_met(struct khp_net_stream *stream, const struct sockaddr *peer,
                        socklen_t size) {
    khp_net_endpoint_set(&stream->peer, peer, size);
}

const struct khp_net_endpoint *khp_net_stream_endpoint(const struct khp_net_stream *stream) {
    return &stream->peer;
}

bool khp_net_stream_peer(const struct khp_net_stream *stream, struct khp_net_address *address) {
    bool kept = stream->peer.family == AF_INET || stream->peer.family == AF_INET6;
    if (!kept && name_of(stream, getpeername, address))
        return true;
    return khp_net_endpoint_format(&stream->peer, address);
}

bool khp_net_stream_local(const struct khp_net_stream *stream, struct khp_net_address *address) {
    return name_of(stream, getsockname, address);
}

bool khp_net_stream_tls_info(const struct khp_net_stream *stream, struct khp_net_tls_info *info) {
    if (stream->tls == NULL || stream->state < KHP_NET_STREAM_OPEN)
        return false;
    khp_net_tls_stream_info(stream->tls, info);
    return true;
}

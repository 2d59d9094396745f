/*
 * See connection.h. One function assigns the state; the table beside it says what is legal.
 */
#include "core/inside.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BIT(state) (1u << (state))

/* Legal transitions: from the index to the set. */
static const unsigned legal[] = {
    [KHP_CONN_CONNECTING] = BIT(KHP_CONN_RAW) | BIT(KHP_CONN_DRAINING) | BIT(KHP_CONN_GONE),
    [KHP_CONN_RAW] = BIT(KHP_CONN_OPEN) | BIT(KHP_CONN_DRAINING) | BIT(KHP_CONN_GONE),
    [KHP_CONN_OPEN] = BIT(KHP_CONN_CLOSING) | BIT(KHP_CONN_DRAINING) | BIT(KHP_CONN_GONE),
    [KHP_CONN_CLOSING] = BIT(KHP_CONN_DRAINING) | BIT(KHP_CONN_GONE),
    [KHP_CONN_DRAINING] = BIT(KHP_CONN_GONE),
    [KHP_CONN_GONE] = 0,
};

static void enter(struct khp_conn *conn, enum khp_conn_state state) {
    assert(legal[conn->state] & BIT(state));
    conn->state = (uint8_t)state;
}

/* ---- the end ---- */

/* Tells the owner, once, how it ended. */
static void tell(struct khp_conn *conn, const struct khp_conn_close *close) {
    if (conn->told)
        return;
    conn->told = true;
    khp_net_timer_stop(conn->loop, &conn->deadline);
    conn->handler->closed(conn->owner, close);
}

/* The frames are done with: lets the stream end in order, within the close timeout. */
static void drain(struct khp_conn *conn) {
    enter(conn, KHP_CONN_DRAINING);
    khp_net_timer_stop(conn->loop, &conn->keepalive);
    khp_net_stream_shutdown(conn->stream, conn->settings->close_ms);
}

/* Appends a close frame. Close frames always fit: they are the last. */
static void send_close(struct khp_conn *conn, unsigned code, const char *reason, size_t n) {
    uint8_t payload[KHP_WS_CONTROL_MAX];
    size_t length = 0;
    uint8_t key[4] = {0};
    if (code) {
        if (n > KHP_WS_REASON_MAX)
            n = KHP_WS_REASON_MAX;
        payload[0] = (uint8_t)(code >> 8);
        payload[1] = (uint8_t)code;
        if (n)
            memcpy(payload + 2, reason, n);
        length = n + 2;
    }
    struct khp_ws_header header = {.length = length,
                                   .opcode = KHP_WS_CLOSE,
                                   .fin = true,
                                   .masked = conn->role == KHP_WS_CLIENT};
    if (header.masked && !khp_ws_random_key(&conn->shared->random, key)) {
        khp_net_stream_abort(conn->stream); /* no entropy: an unmasked frame is not an option */
        return;
    }
    memcpy(header.key, key, 4);
    uint8_t frame[KHP_WS_HEADER_MAX + KHP_WS_CONTROL_MAX];
    size_t size = khp_ws_header_encode(frame, &header);
    khp_ws_mask(frame + size, payload, length, key, 0);
    if (khp_net_stream_write(conn->stream, frame, size + length)) {
        conn->settings->traffic.bytes_out += size + length;
        conn->sent_code = code ? code : KHP_WS_NO_STATUS;
        if (n && code)
            conn->sent_reason = strndup(reason, n);
    }
}

void khp_conn_fail(struct khp_conn *conn, unsigned code, enum khp_conn_by by, const char *text) {
    if (!conn->sent_code)
        send_close(conn, code, text, strlen(text));
    drain(conn);
    tell(conn, &(struct khp_conn_close){.code = conn->sent_code ? conn->sent_code : code,
                                        .by = by,
                                        .reason = text,
                                        .length = strlen(text)});
}

void khp_conn_close_received(struct khp_conn *conn, const struct khp_ws_message *message) {
    struct khp_conn_close close = {.code = message->code,
                                   .by = conn->sent_code ? KHP_CONN_BY_LOCAL : KHP_CONN_BY_PEER,
                                   .clean = true,
                                   .reason = (const char *)message->payload,
                                   .length = message->length};
    if (message->code == conn->sent_code && message->length == 0 && conn->sent_reason) {
        /* an echo, which says no more than we did */
        close.reason = conn->sent_reason;
        close.length = strlen(conn->sent_reason);
    }
    if (!conn->sent_code) /* RFC 6455 5.5.1: answered with the same code */
        send_close(conn, message->code == KHP_WS_NO_STATUS ? 0 : message->code, NULL, 0);
    if (conn->role == KHP_WS_SERVER) {
        drain(conn);
    } else { /* RFC 6455 7.1.1: the server ends the TCP connection; the client waits a while for it
              */
        enter(conn, KHP_CONN_DRAINING);
        khp_net_timer_start(conn->loop, &conn->keepalive, conn->settings->close_ms);
    }
    tell(conn, &close);
}

/* ---- keepalive ---- */

static struct khp_conn *conn_of_keepalive(struct khp_net_timer *timer) {
    return (struct khp_conn *)(void *)((char *)timer - offsetof(struct khp_conn, keepalive));
}

/* Has the peer taken nothing of what is queued for as long as it may be silent? It may still talk.
 */
static bool is_stalled(struct khp_conn *conn) {
    uint64_t now = khp_net_loop_now(conn->loop);
    uint64_t queued = khp_net_stream_queued(conn->stream);
    if (queued == 0 || conn->taken != conn->sent - queued) {
        conn->taken = conn->sent - queued;
        conn->moved = now;
    }
    return now - conn->moved >= conn->settings->ping_ms + conn->settings->pong_ms;
}

static void keepalive_open(struct khp_conn *conn) {
    const struct khp_conn_settings *settings = conn->settings;
    if (khp_conn_release_paused(conn) || !settings->ping_ms)
        return;
    uint64_t silence = khp_net_loop_now(conn->loop) - conn->heard;
    if (is_stalled(conn)) {
        khp_conn_fail(conn, KHP_WS_GOING_AWAY, KHP_CONN_BY_TIMEOUT, "the peer does not read");
    } else if (conn->paused) { /* silence is our own doing */
        khp_net_timer_start(conn->loop, &conn->keepalive, settings->ping_ms);
    } else if (conn->pinged && silence >= settings->pong_ms) {
        khp_conn_fail(conn, KHP_WS_GOING_AWAY, KHP_CONN_BY_TIMEOUT, "no pong in time");
    } else if (silence >= settings->ping_ms) {
        conn->pinged = true;
        if (khp_conn_send(conn, KHP_WS_PING, NULL, 0) != KHP_CONN_CLOSED)
            khp_net_timer_start(conn->loop, &conn->keepalive, settings->pong_ms);
    } else {
        conn->pinged = false;
        khp_net_timer_start(conn->loop, &conn->keepalive, settings->ping_ms - silence);
    }
}

/* The peer has had its time to answer our close frame; but first, what is held may be the answer.
 */
static void keepalive_closing(struct khp_conn *conn) {
    if (conn->held) {
        khp_net_timer_start(conn->loop, &conn->keepalive, conn->settings->close_ms);
        khp_conn_release(conn);
        return;
    }
    drain(conn);
    tell(conn,
         &(struct khp_conn_close){.code = conn->sent_code,
                                  .by = KHP_CONN_BY_LOCAL,
                                  .reason = conn->sent_reason ? conn->sent_reason : "",
                                  .length = conn->sent_reason ? strlen(conn->sent_reason) : 0});
}

/* The one timer serves the state it fires in. */
static void on_keepalive(struct khp_net_timer *timer) {
    struct khp_conn *conn = conn_of_keepalive(timer);
    switch ((enum khp_conn_state)conn->state) {
    case KHP_CONN_OPEN:
        keepalive_open(conn);
        break;
    case KHP_CONN_CLOSING:
        keepalive_closing(conn);
        break;
    case KHP_CONN_DRAINING: /* a client that waited for the server's FIN */
        khp_net_stream_shutdown(conn->stream, conn->settings->close_ms);
        break;
    case KHP_CONN_CONNECTING:
    case KHP_CONN_RAW:
    case KHP_CONN_GONE:
        break;
    }
}

static void on_deadline(struct khp_net_timer *timer) {
    struct khp_conn *conn =
        (struct khp_conn *)(void *)((char *)timer - offsetof(struct khp_conn, deadline));
    conn->handler->deadline(conn->owner);
}

/* ---- events of the stream ---- */

static void on_open(void *owner) {
    struct khp_conn *conn = owner;
    if (conn->state == KHP_CONN_CONNECTING)
        enter(conn, KHP_CONN_RAW);
    if (conn->state == KHP_CONN_RAW) /* the second time: TLS begun on a stream that was plain */
        conn->handler->open(conn->owner);
}

static void on_read(void *owner, uint8_t *bytes, size_t n) {
    struct khp_conn *conn = owner;
    conn->heard = khp_net_loop_now(conn->loop);
    conn->settings->traffic.bytes_in += n;
    if (conn->state == KHP_CONN_RAW)
        conn->handler->bytes(conn->owner, bytes, n);
    else
        khp_conn_receive(conn, bytes, n);
}

static void on_drained(void *owner) {
    struct khp_conn *conn = owner;
    if (conn->refused && (conn->state == KHP_CONN_OPEN || conn->state == KHP_CONN_RAW)) {
        conn->refused = false;
        conn->handler->drained(conn->owner);
    }
}

static void on_end(void *owner, const struct khp_net_error *why) {
    struct khp_conn *conn = owner;
    bool was_raw = conn->state == KHP_CONN_RAW;
    conn->ending = true;
    if (!conn->holding)
        khp_conn_release(conn);
    enter(conn, KHP_CONN_GONE);
    conn->peer = *khp_net_stream_endpoint(conn->stream);
    conn->stream = NULL;
    khp_net_timer_stop(conn->loop, &conn->keepalive);
    khp_net_timer_stop(conn->loop, &conn->deadline);
    khp_ws_reader_free(&conn->reader);
    struct khp_conn_close close = {.code = KHP_WS_ABNORMAL,
                                   .by = KHP_CONN_BY_NETWORK,
                                   .net = why->code,
                                   .reason = why->text,
                                   .length = strlen(why->text)};
    if (why->code == KHP_NET_E_LOCAL)
        close.by = KHP_CONN_BY_LOCAL;
    else if (why->code == KHP_NET_E_TIMEOUT)
        close.by = KHP_CONN_BY_TIMEOUT;
    else if (why->code == KHP_NET_E_CLOSED && why->sys == 0)
        close.by = KHP_CONN_BY_PEER, close.clean = was_raw;
    tell(conn, &close);
    if (conn->settings) /* or it was disposed of just now */
        conn->handler->gone(conn->owner);
}

static const struct khp_net_stream_handler stream_handler = {
    .open = on_open, .read = on_read, .drained = on_drained, .end = on_end};

/* ---- the owner's calls ---- */

void khp_conn_init(struct khp_conn *conn, struct khp_net_loop *loop, struct khp_net_stream *stream,
                   struct khp_conn_settings *settings, struct khp_conn_shared *shared,
                   const struct khp_conn_handler *handler, void *owner) {
    khp_conn_settings_retain(settings);
    conn->loop = loop;
    conn->stream = stream;
    conn->settings = settings;
    conn->shared = shared;
    conn->handler = handler;
    conn->owner = owner;
    conn->state = KHP_CONN_CONNECTING;
    conn->heard = khp_net_loop_now(loop);
    conn->keepalive.fire = on_keepalive;
    conn->deadline.fire = on_deadline;
    khp_net_stream_handle(stream, &stream_handler, conn);
}

static void nobody(void *owner) {
    (void)owner;
}

static void nobody_reads(void *owner, uint8_t *bytes, size_t n) {
    (void)owner, (void)bytes, (void)n;
}

static void nobody_hears(void *owner, const struct khp_net_error *why) {
    (void)owner, (void)why;
}

static const struct khp_net_stream_handler orphan = {
    .open = nobody, .read = nobody_reads, .drained = nobody, .end = nobody_hears};

void khp_conn_dispose(struct khp_conn *conn) {
    if (!conn->settings)
        return; /* never initialised, or disposed of before */
    if (conn->stream) {
        khp_net_timer_stop(conn->loop, &conn->keepalive);
        khp_net_timer_stop(conn->loop, &conn->deadline);
        khp_net_stream_handle(conn->stream, &orphan, NULL);
        khp_net_stream_abort(conn->stream);
        conn->peer = *khp_net_stream_endpoint(conn->stream);
        conn->stream = NULL;
        enter(conn, KHP_CONN_GONE);
    }
    khp_ws_reader_free(&conn->reader);
    free(conn->held);
    conn->held = NULL;
    free(conn->sent_reason);
    conn->sent_reason = NULL;
    khp_conn_settings_release(conn->settings);
    conn->settings = NULL;
}

bool khp_conn_peer(const struct khp_conn *conn, struct khp_net_address *address) {
    return conn->stream ? khp_net_stream_peer(conn->stream, address)
                        : khp_net_endpoint_format(&conn->peer, address);
}

bool khp_conn_upgrade(struct khp_conn *conn, enum khp_ws_role role) {
    if (conn->state != KHP_CONN_RAW)
        return false;
    enter(conn, KHP_CONN_OPEN);
    conn->role = (uint8_t)role;
    khp_ws_reader_init(&conn->reader, role, &conn->settings->handshake_limits);
    conn->reader.spare = &conn->shared->spare;
    return true;
}

void khp_conn_open(struct khp_conn *conn) {
    if (conn->state != KHP_CONN_OPEN)
        return;
    conn->opened = true;
    conn->stepwise = false;
    conn->reader.limits = &conn->settings->limits;
    khp_net_timer_stop(conn->loop, &conn->deadline);
    conn->heard = khp_net_loop_now(conn->loop);
    if (conn->settings->ping_ms)
        khp_net_timer_start(conn->loop, &conn->keepalive, conn->settings->ping_ms);
}

void khp_conn_close(struct khp_conn *conn, unsigned code, const char *reason, size_t n) {
    switch ((enum khp_conn_state)conn->state) {
    case KHP_CONN_CONNECTING:
        khp_net_stream_abort(conn->stream);
        break;
    case KHP_CONN_RAW:
        drain(conn);
        break;
    case KHP_CONN_OPEN:
        send_close(conn, code, reason, n);
        khp_net_stream_flush(conn->stream); /* perhaps nobody turns the loop any more */
        enter(conn, KHP_CONN_CLOSING);
        khp_net_stream_resume(conn->stream); /* or the answer would never be seen */
        khp_net_timer_start(conn->loop, &conn->keepalive,
                            conn->held ? 0 : conn->settings->close_ms);
        break;
    case KHP_CONN_CLOSING:
    case KHP_CONN_DRAINING:
    case KHP_CONN_GONE:
        break;
    }
}

void khp_conn_abort(struct khp_conn *conn) {
    if (!conn->stream)
        return;
    conn->reader.done = true; /* nor is anything heard of what has been read */
    khp_net_stream_abort(conn->stream);
}

void khp_conn_deadline(struct khp_conn *conn, uint64_t ms) {
    if (ms == UINT64_MAX || !conn->stream || conn->told)
        khp_net_timer_stop(conn->loop, &conn->deadline);
    else
        khp_net_timer_start(conn->loop, &conn->deadline, ms);
}

/*
 * What a connection receives: from bytes to messages, pings, pongs and the close frame, each told
 * as it comes; and what waits meanwhile, because one message is taken at a time or the owner
 * pauses.
 */
#include "core/inside.h"

#include <stdlib.h>
#include <string.h>

static bool reads_frames(const struct khp_conn *conn) {
    return conn->state == KHP_CONN_OPEN || conn->state == KHP_CONN_CLOSING;
}

static void answer_ping(struct khp_conn *conn, const struct khp_ws_message *message) {
    if (conn->state != KHP_CONN_OPEN) /* nothing is sent after a close frame */
        return;
    enum khp_conn_send result = khp_conn_send(conn, KHP_WS_PONG, message->payload, message->length);
    if (result == KHP_CONN_FULL || result == KHP_CONN_TOO_BIG)
        khp_conn_fail(conn, KHP_WS_POLICY_VIOLATION, KHP_CONN_BY_LOCAL,
                      "pings arrive, but their pongs are not read");
}

struct khp_conn_held {
    size_t n;
    uint8_t bytes[];
};

/* Keeps what came until it is asked for, behind what is kept already. */
static void hold(struct khp_conn *conn, const uint8_t *bytes, size_t n) {
    size_t before = conn->held ? conn->held->n : 0;
    if (n) {
        struct khp_conn_held *held = realloc(conn->held, sizeof *held + before + n);
        if (!held) {
            khp_conn_fail(conn, KHP_WS_INTERNAL_ERROR, KHP_CONN_BY_LOCAL, "not enough memory");
            return;
        }
        held->n = before + n;
        memcpy(held->bytes + before, bytes, n);
        conn->held = held;
    }
    if (!conn->ending)
        khp_net_stream_pause(conn->stream);
}

/* Has the owner paused, and would a message more be more than its bytes? With extensions a few of
 * them may stand for many (RFC 7692), so nothing is made of what has been read already. At the end
 * it is now or never. */
static bool withholds(const struct khp_conn *conn) {
    return conn->paused && conn->expands && !conn->ending && conn->state == KHP_CONN_OPEN;
}

static void read_frames(struct khp_conn *conn, uint8_t *bytes, size_t n) {
    while (reads_frames(conn) && (n > 0 || khp_ws_reader_holds(&conn->reader))) {
        struct khp_ws_message message;
        size_t used = 0;
        if (n > 0 && withholds(conn)) {
            (void)khp_ws_reader_next(&conn->reader, bytes, 0, &used, &message); /* lets go of one */
            hold(conn, bytes, n);
            return;
        }
        enum khp_ws_event event = khp_ws_reader_next(&conn->reader, bytes, n, &used, &message);
        bytes += used;
        n -= used;
        switch (event) {
        case KHP_WS_EVENT_NONE:
            if (conn->reader.in_frame && conn->reader.frame.length >= KHP_CONN_LARGE)
                khp_net_stream_want_more(conn->stream);
            return;
        case KHP_WS_EVENT_MESSAGE:
            if (conn->state != KHP_CONN_OPEN)
                break;
            conn->settings->traffic.messages_in += conn->opened;
            conn->holding = conn->stepwise;
            conn->handler->message(conn->owner, message.opcode, message.payload, message.length);
            if (conn->holding && conn->state == KHP_CONN_OPEN) {
                hold(conn, bytes, n);
                return;
            }
            break;
        case KHP_WS_EVENT_PING:
            answer_ping(conn, &message);
            if (conn->handler->ping && conn->state == KHP_CONN_OPEN)
                conn->handler->ping(conn->owner, message.payload, message.length);
            break;
        case KHP_WS_EVENT_PONG:
            conn->pinged = false;
            if (conn->state == KHP_CONN_OPEN)
                conn->handler->pong(conn->owner, message.payload, message.length);
            break;
        case KHP_WS_EVENT_CLOSE:
            khp_conn_close_received(conn, &message);
            return;
        case KHP_WS_EVENT_ERROR:
            khp_conn_fail(conn, message.code, KHP_CONN_BY_LOCAL, message.text);
            return;
        }
    }
}

void khp_conn_release(struct khp_conn *conn) {
    struct khp_conn_held *held = conn->held;
    conn->holding = false;
    conn->held = NULL;
    if (held) {
        read_frames(conn, held->bytes, held->n);
        free(held);
    }
}

/* The same, and reads on, unless that has stopped it again or ended it. */
static void release_and_read(struct khp_conn *conn) {
    khp_conn_release(conn);
    if (conn->stream && !conn->paused && !conn->holding)
        khp_net_stream_resume(conn->stream);
}

bool khp_conn_release_paused(struct khp_conn *conn) {
    if (!conn->held || conn->holding || conn->paused)
        return false;
    if (conn->settings->ping_ms)
        khp_net_timer_start(conn->loop, &conn->keepalive, conn->settings->ping_ms);
    release_and_read(conn);
    return true;
}

void khp_conn_receive(struct khp_conn *conn, uint8_t *bytes, size_t n) {
    if (conn->state == KHP_CONN_CLOSING || !(conn->holding || conn->paused))
        khp_conn_release(conn); /* comes first; and the peer's close frame may be in it */
    if (conn->holding || withholds(conn))
        hold(conn, bytes, n); /* it was read before the pause, or the peer is gone */
    else
        read_frames(conn, bytes, n);
}

/* ---- the owner's calls ---- */

void khp_conn_stepwise(struct khp_conn *conn) {
    conn->stepwise = true;
}

void khp_conn_next(struct khp_conn *conn) {
    if (conn->holding)
        release_and_read(conn);
}

bool khp_conn_feed(struct khp_conn *conn, const uint8_t *bytes, size_t n) {
    if (n == 0)
        return true;
    uint8_t *copy = malloc(n);
    if (!copy)
        return false;
    memcpy(copy, bytes, n);
    read_frames(conn, copy, n);
    free(copy);
    return true;
}

void khp_conn_pause(struct khp_conn *conn) {
    if (conn->stream && conn->state <= KHP_CONN_OPEN && !conn->paused) {
        conn->paused = true;
        if (!conn->ending)
            khp_net_stream_pause(conn->stream);
    }
}

void khp_conn_resume(struct khp_conn *conn) {
    if (conn->stream && conn->paused) {
        conn->paused = false;
        conn->heard = khp_net_loop_now(conn->loop); /* the silence was ours */
        conn->pinged = false;
        if (conn->held && !conn->holding)
            khp_net_timer_start(conn->loop, &conn->keepalive, 0);
        else if (!conn->holding && !conn->ending)
            khp_net_stream_resume(conn->stream);
    }
}

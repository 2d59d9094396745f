/*
 * What a connection sends: bytes while it is raw, then one frame at a time into the stream's queue,
 * within its limit. When the queue leaves is the stream's business.
 */
#include "core/connection.h"

#include <string.h>

/* Does the queue take n more bytes? If not, `drained` is set to come below half of its limit, or of
 * what it holds. */
static bool has_room(struct khp_conn *conn, uint64_t n) {
    uint64_t limit = conn->settings->queue;
    if (khp_net_stream_queued(conn->stream) + n <= limit)
        return true;
    khp_net_stream_flush(conn->stream); /* perhaps it is only that nobody turned the loop */
    uint64_t queued = khp_net_stream_queued(conn->stream);
    if (queued + n <= limit)
        return true;
    khp_net_stream_low_water(conn->stream, (size_t)((queued < limit ? queued : limit) - 1) / 2);
    return false;
}

bool khp_conn_is_open(const struct khp_conn *conn) {
    return conn->state == KHP_CONN_OPEN && !conn->reader.done &&
           khp_net_stream_is_writable(conn->stream);
}

/* A message that was taken and cannot be sent would be missed: no connection is better than that.
 */
static enum khp_conn_send give_up(struct khp_conn *conn) {
    khp_conn_abort(conn);
    return KHP_CONN_NO_MEMORY;
}

/* What a frame has added to the queue. */
static void count(struct khp_conn *conn, enum khp_ws_opcode kind, size_t n) {
    conn->sent += n;
    conn->settings->traffic.bytes_out += n;
    conn->settings->traffic.messages_out +=
        conn->opened && (kind == KHP_WS_TEXT || kind == KHP_WS_BINARY);
}

bool khp_conn_write(struct khp_conn *conn, const void *bytes, size_t n) {
    if (conn->state != KHP_CONN_RAW || !khp_net_stream_write(conn->stream, bytes, n))
        return false;
    conn->settings->traffic.bytes_out += n;
    return true;
}

enum khp_conn_send khp_conn_pour(struct khp_conn *conn, const void *bytes, size_t n) {
    if (conn->state != KHP_CONN_RAW || !khp_net_stream_is_writable(conn->stream))
        return KHP_CONN_CLOSED;
    if (!khp_conn_write(conn, bytes, n))
        return KHP_CONN_NO_MEMORY;
    khp_net_stream_low_water(conn->stream, 0);
    khp_net_stream_flush(conn->stream);
    conn->refused = khp_net_stream_queued(conn->stream) > 0;
    return conn->refused ? KHP_CONN_FULL : KHP_CONN_SENT;
}

enum khp_conn_send khp_conn_room(struct khp_conn *conn, size_t n) {
    if (!khp_conn_is_open(conn))
        return KHP_CONN_CLOSED;
    if (n + KHP_WS_HEADER_MAX > conn->settings->queue)
        return KHP_CONN_TOO_BIG;
    if (!has_room(conn, n + KHP_WS_HEADER_MAX)) {
        conn->refused = true;
        return KHP_CONN_FULL;
    }
    return KHP_CONN_SENT;
}

enum khp_conn_send khp_conn_send(struct khp_conn *conn, enum khp_ws_opcode kind,
                                 const uint8_t *bytes, size_t n) {
    enum khp_conn_send room = khp_conn_room(conn, n);
    return room == KHP_CONN_SENT ? khp_conn_frame(conn, kind, 0, bytes, n) : room;
}

enum khp_conn_send khp_conn_frame(struct khp_conn *conn, enum khp_ws_opcode kind, uint8_t rsv,
                                  const uint8_t *bytes, size_t n) {
    if (!khp_conn_is_open(conn))
        return KHP_CONN_CLOSED;
    struct khp_ws_header header = {.length = n,
                                   .opcode = (uint8_t)kind,
                                   .rsv = rsv,
                                   .fin = true,
                                   .masked = conn->role == KHP_WS_CLIENT};
    if (n >= KHP_CONN_LARGE && !header.masked) {
        uint8_t head[KHP_WS_HEADER_MAX];
        size_t size = khp_ws_header_encode(head, &header);
        if (!khp_net_stream_write_large(conn->stream, head, size, bytes, n))
            return give_up(conn);
        count(conn, kind, size + n);
        return KHP_CONN_SENT;
    }
    if (header.masked && !khp_ws_random_key(&conn->shared->random, header.key))
        return give_up(conn);
    uint8_t *out = khp_net_stream_reserve(conn->stream, n + KHP_WS_HEADER_MAX);
    if (!out)
        return give_up(conn);
    size_t size = khp_ws_header_encode(out, &header);
    if (header.masked)
        khp_ws_mask(out + size, bytes, n, header.key, 0);
    else if (n)
        memcpy(out + size, bytes, n);
    khp_net_stream_commit(conn->stream, size + n);
    count(conn, kind, size + n);
    return KHP_CONN_SENT;
}

size_t khp_conn_queued(const struct khp_conn *conn) {
    return conn->stream ? khp_net_stream_queued(conn->stream) : 0;
}

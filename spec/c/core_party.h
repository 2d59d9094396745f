/*
 * The owner of a connection: writes down what it hears, as text, does something in each of its
 * callbacks, and sees to it that they come in the order that connection.h promises. The other end
 * is a plain socket that speaks frames, or another party.
 */
#ifndef KHP_SPEC_CORE_PARTY_H
#define KHP_SPEC_CORE_PARTY_H

#include "net_backends.h"

#include "core/connection.h"
#include "net/internal.h"

enum heard { OPENED, BYTES, MESSAGE, PONG, DRAINED, DEADLINE, CLOSED, GONE, KINDS };

struct party {
    struct khp_conn conn;
    struct khp_conn_settings *settings;
    char heard[4096]; /* "open text(hello) closed(1000 peer clean bye) gone " */
    size_t size;
    unsigned seen[KINDS];
    void (*on[KINDS])(struct party *); /* besides; NULL: nothing */
    size_t length;                     /* of the last message */
    uint8_t last;                      /* byte of it */
    bool echo;
    bool asks;     /* for what is held: hears it at once */
    bool disposed; /* nothing may be heard any more */
    int peer;      /* the plain socket */
};

static struct khp_conn_shared shared;

/* ---- what it hears ---- */

__attribute__((format(printf, 3, 4))) static void hears(struct party *p, enum heard what,
                                                        const char *format, ...) {
    assert_true(khp_net_loop_entered(loop) || p->asks);
    assert_false(p->disposed);
    assert_int_equal(p->seen[GONE], 0);
    assert_int_equal(p->seen[CLOSED], what == GONE ? 1 : 0);
    p->seen[what]++;
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(p->heard + p->size, sizeof p->heard - p->size, format, arguments);
    va_end(arguments);
    assert_in_range(n, 1, sizeof p->heard - p->size - 1);
    p->size += (size_t)n;
    if (p->on[what] != NULL)
        p->on[what](p);
}

static void party_opened(void *owner) {
    hears(owner, OPENED, "open ");
}

static void party_bytes(void *owner, const uint8_t *bytes, size_t n) {
    hears(owner, BYTES, "bytes(%.*s) ", (int)n, (const char *)bytes);
}

static void party_message(void *owner, enum khp_ws_opcode kind, const uint8_t *bytes, size_t n) {
    struct party *p = owner;
    p->length = n;
    p->last = n > 0 ? bytes[n - 1] : 0;
    const char *name = kind == KHP_WS_TEXT ? "text" : "binary";
    if (p->echo)
        assert_int_equal(khp_conn_send(&p->conn, kind, bytes, n), KHP_CONN_SENT);
    if (n > 40)
        hears(p, MESSAGE, "%s[%zu] ", name, n);
    else
        hears(p, MESSAGE, "%s(%.*s) ", name, (int)n, (const char *)bytes);
}

static void party_pong(void *owner, const uint8_t *bytes, size_t n) {
    hears(owner, PONG, "pong(%.*s) ", (int)n, (const char *)bytes);
}

static void party_drained(void *owner) {
    hears(owner, DRAINED, "drained ");
}

static void party_deadline(void *owner) {
    hears(owner, DEADLINE, "deadline ");
}

static void party_closed(void *owner, const struct khp_conn_close *close) {
    static const char *const by[] = {"local", "peer", "network", "timeout"};
    hears(owner, CLOSED, "closed(%u %s%s%s%.*s) ", close->code, by[close->by],
          close->clean ? " clean" : "", close->length > 0 ? " " : "", (int)close->length,
          close->reason);
}

static void party_gone(void *owner) {
    hears(owner, GONE, "gone ");
}

static const struct khp_conn_handler party_handler = {.open = party_opened,
                                                      .bytes = party_bytes,
                                                      .message = party_message,
                                                      .pong = party_pong,
                                                      .drained = party_drained,
                                                      .deadline = party_deadline,
                                                      .closed = party_closed,
                                                      .gone = party_gone};

#define assert_heard(p, text) assert_string_equal((p)->heard, text)

/* ---- its life ---- */

static inline struct khp_conn_settings *new_settings(void) {
    struct khp_conn_settings *made = khp_conn_settings_new();
    assert_non_null(made);
    made->limits = made->handshake_limits =
        (struct khp_ws_limits){.message = 16 << 20, .fragments = 1024};
    made->queue = 32 << 20;
    made->ping_ms = 0;
    made->pong_ms = 60;
    made->close_ms = 5000;
    return made;
}

/* With a stream that has no descriptor yet. */
static inline void party_begin(struct party *p) {
    if (p->settings == NULL)
        p->settings = new_settings();
    struct khp_net_stream *stream = khp_net_stream_new(loop);
    assert_non_null(stream);
    khp_conn_init(&p->conn, loop, stream, p->settings, &shared, &party_handler, p);
    assert_int_equal(p->conn.state, KHP_CONN_CONNECTING);
}

static inline void party_connect(struct party *p, int fd) {
    khp_net_stream_attach(p->conn.stream, fd, NULL, false, NULL, 0);
    UNTIL(p->seen[OPENED] == 1);
}

static inline void pair_of_sockets(int pair[2]) {
    int port = 0, door = plain_listen("127.0.0.1", &port, 1);
    pair[1] = dial("127.0.0.1", port);
    pair[0] = accept(door, NULL, NULL);
    assert_true(pair[0] >= 0);
    (void)close(door);
}

/* Raw, with a plain socket at the other end. */
static inline void party_raw(struct party *p) {
    int pair[2];
    pair_of_sockets(pair);
    p->peer = pair[1];
    party_begin(p);
    party_connect(p, pair[0]);
}

static inline void party_open(struct party *p, enum khp_ws_role role) {
    party_raw(p);
    assert_true(khp_conn_upgrade(&p->conn, role));
    khp_conn_open(&p->conn);
    p->size = 0;
    p->heard[0] = '\0';
}

static inline void parties_open(struct party *server, struct party *client) {
    int pair[2];
    struct party *both[] = {server, client};
    pair_of_sockets(pair);
    for (int i = 0; i < 2; i++) {
        party_begin(both[i]);
        party_connect(both[i], pair[i]);
        assert_true(khp_conn_upgrade(&both[i]->conn, i == 0 ? KHP_WS_SERVER : KHP_WS_CLIENT));
        khp_conn_open(&both[i]->conn);
        both[i]->size = 0;
        both[i]->heard[0] = '\0';
    }
}

static inline void party_free(struct party *p) {
    p->disposed = true;
    khp_conn_dispose(&p->conn);
    assert_int_equal(p->settings->references, 1);
    khp_conn_settings_release(p->settings);
    settle();
}

/* The plain socket leaves, if it has not; the connection has come to its end, or comes to it now.
 */
static inline void party_over(struct party *p) {
    if (p->peer >= 0)
        (void)close(p->peer);
    UNTIL(p->seen[GONE] == 1);
    assert_int_equal(p->conn.state, KHP_CONN_GONE);
    party_free(p);
}

/* ---- the plain socket's frames ---- */

/* A frame to the party: masked, with zeros, if it is a server. */
static inline size_t make_frame(const struct party *p, uint8_t *out, uint8_t first,
                                const void *payload, size_t n) {
    struct khp_ws_header header = {.length = n,
                                   .opcode = first & 0x0f,
                                   .rsv = first >> 4 & 7,
                                   .fin = (first & 0x80) != 0,
                                   .masked = p->conn.role == KHP_WS_SERVER};
    size_t size = khp_ws_header_encode(out, &header);
    if (n > 0)
        memcpy(out + size, payload, n);
    return size + n;
}

static inline void tell_frame(const struct party *p, uint8_t first, const void *payload, size_t n) {
    uint8_t frame[KHP_WS_HEADER_MAX + 1000];
    assert_true(n <= 1000);
    size_t size = make_frame(p, frame, first, payload, n);
    assert_int_equal(send(p->peer, frame, size, 0), size);
}

#define tell_text(p, text) tell_frame(p, 0x81, text, strlen(text))

static inline void get_bytes(const struct party *p, void *out, size_t n) {
    double limit = seconds_now() + 30;
    for (size_t got = 0; got < n;) {
        assert_true(seconds_now() < limit);
        ssize_t more = recv(p->peer, (char *)out + got, n - got, MSG_DONTWAIT);
        assert_true(more > 0 || (more < 0 && errno == EAGAIN));
        got += more > 0 ? (size_t)more : 0;
        if (more < 0)
            assert_true(khp_net_loop_step(loop, 0.01));
    }
}

/* The next frame of the party is this one; the mask is taken off. */
static inline void assert_frame(const struct party *p, uint8_t first, const void *payload,
                                size_t n) {
    uint8_t bytes[KHP_WS_HEADER_MAX + 1000];
    struct khp_ws_header header;
    bool masked = p->conn.role == KHP_WS_CLIENT;
    size_t size = (n < 126 ? 2u : 4u) + (masked ? 4u : 0u);
    assert_true(n <= 1000);
    get_bytes(p, bytes, size + n);
    assert_int_equal(khp_ws_header_decode(bytes, size, &header), size);
    assert_int_equal(bytes[0], first);
    assert_int_equal(header.masked, masked);
    assert_int_equal(header.length, n);
    if (masked)
        khp_ws_mask(bytes + size, bytes + size, n, header.key, 0);
    if (n > 0)
        assert_memory_equal(bytes + size, payload, n);
}

/* And then its FIN. */
static inline void assert_fin(const struct party *p) {
    char byte;
    ssize_t n;
    double limit = seconds_now() + 30;
    do {
        assert_true(seconds_now() < limit && khp_net_loop_step(loop, 0.01));
        n = recv(p->peer, &byte, 1, MSG_DONTWAIT);
    } while (n < 0 && errno == EAGAIN);
    assert_int_equal(n, 0);
}

static inline int free_shared(void **state) {
    (void)state;
    khp_conn_shared_free(&shared);
    return 0;
}

#endif

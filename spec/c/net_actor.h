/*
 * An owner of a stream who notes what happens to it, does something in each of its callbacks, and
 * has the other end of the connection as a plain socket.
 */
#ifndef KHP_SPEC_NET_ACTOR_H
#define KHP_SPEC_NET_ACTOR_H

#include "net_backends.h"

#include "net/internal.h"

/* ---- an owner of a stream ---- */

enum { OPENED, READ, DRAINED, ENDED };

struct actor {
    struct khp_net_stream *stream; /* NULL: ended */
    unsigned seen[4];
    void (*on[4])(struct actor *); /* besides; NULL: nothing */
    bool echo;
    bool silent; /* no read may come any more */
    size_t size;
    uint8_t last;
    struct khp_net_error why;
    struct khp_net_tls *tls; /* NULL: plain */
    bool server;
    const char *name;
    uint64_t handshake_ms;
    int peer; /* the other end, a plain socket */
    struct actor *others;
    unsigned count;
};

static void happened(struct actor *a, int what) {
    if (test_is_over)
        return;
    assert_true(khp_net_loop_entered(loop));
    assert_int_equal(a->seen[ENDED], 0);
    a->seen[what]++;
    if (a->on[what] != NULL)
        a->on[what](a);
}

static void actor_open(void *owner) {
    happened(owner, OPENED);
}

static void actor_read(void *owner, uint8_t *bytes, size_t n) {
    struct actor *a = owner;
    assert_true(n > 0 && a->seen[OPENED] > 0 && !a->silent);
    a->size += n;
    a->last = bytes[n - 1];
    if (a->echo)
        assert_true(khp_net_stream_write(a->stream, bytes, n));
    memset(bytes, 0xee, n); /* ours to spoil */
    happened(a, READ);
}

static void actor_drained(void *owner) {
    happened(owner, DRAINED);
}

static void actor_end(void *owner, const struct khp_net_error *why) {
    struct actor *a = owner;
    if (test_is_over)
        return;
    a->why = *why;
    happened(a, ENDED);
    a->stream = NULL;
}

static const struct khp_net_stream_handler actor_handler = {
    .open = actor_open, .read = actor_read, .drained = actor_drained, .end = actor_end};

/* ---- its connection ---- */

static inline void act_on(struct actor *a, int fd) {
    a->stream = khp_net_stream_new(loop);
    assert_non_null(a->stream);
    khp_net_stream_handle(a->stream, &actor_handler, a);
    khp_net_stream_attach(a->stream, fd, a->tls, a->server, a->name, a->handshake_ms);
}

typedef void transport(int pair[2]);

static inline void unix_pair(int pair[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static inline void tcp_pair(int pair[2]) {
    int port = 0, door = plain_listen("127.0.0.1", &port, 1);
    pair[1] = dial("127.0.0.1", port);
    pair[0] = accept(door, NULL, NULL);
    assert_true(pair[0] >= 0);
    (void)close(door);
}

static transport *const transports[] = {unix_pair, tcp_pair};

static inline void begin_over(transport *t, struct actor *a) {
    int pair[2];
    t(pair);
    a->peer = pair[1];
    act_on(a, pair[0]);
}

static inline void open_over(transport *t, struct actor *a) {
    begin_over(t, a);
    assert_int_equal(a->seen[OPENED], 0); /* from the loop, not from here */
    UNTIL(a->seen[OPENED] == 1);
}

static inline void hang_up(struct actor *a) {
    (void)close(a->peer);
    UNTIL(a->seen[ENDED] == 1);
}

static inline void reset(int fd) {
    struct linger hard = {.l_onoff = 1};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    assert_int_equal(close(fd), 0);
}

static inline void tell(struct actor *a, const char *text) {
    assert_int_equal(send(a->peer, text, strlen(text), 0), strlen(text));
}

static inline void assert_hears(struct actor *a, const char *text) {
    char heard[64] = {0};
    size_t n = 0, size = strlen(text);
    assert_true(size < sizeof heard);
    while (n < size) {
        assert_true(khp_net_loop_step(loop, 0.01));
        ssize_t more = recv(a->peer, heard + n, size - n, MSG_DONTWAIT);
        assert_true(more > 0 || (more < 0 && errno == EAGAIN));
        n += more > 0 ? (size_t)more : 0;
    }
    assert_string_equal(heard, text);
}

#endif

/*
 * A loop for each test, streams that write down what happens to them, and plain blocking sockets to
 * be their peers.
 */
#ifndef KHP_SPEC_NET_PEER_H
#define KHP_SPEC_NET_PEER_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "net/connector.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/tls.h"

static struct khp_net_loop *loop;
static unsigned log_lines;
static char last_log[512];

static double seconds_now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* How many times longer than usual things may take: memory checkers are slow. */
static inline unsigned patience(void) {
    return getenv("KHP_SPEC_TOOL") != NULL ? 20 : 1;
}

/* Turns the loop until the condition holds; fails the test when it takes unreasonably long. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        double limit = seconds_now() + 30 * patience();                                            \
        while (!(condition)) {                                                                     \
            assert_true(seconds_now() < limit);                                                    \
            assert_true(khp_net_loop_step(loop, 1));                                               \
        }                                                                                          \
    } while (0)

/* Turns the loop for as long as there is something to do. */
static inline void settle(void) {
    for (int i = 0; i < 20; i++)
        assert_true(khp_net_loop_step(loop, 0));
}

static inline int count_descriptors(void) {
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        n++;
    (void)closedir(folder);
    return n;
}

/* ---- a loop for each test ---- */

static void on_log(void *user, enum khp_net_log_level level, const char *text) {
    (void)user;
    if (level > KHP_NET_LOG_WARN)
        return;
    log_lines++;
    (void)snprintf(last_log, sizeof last_log, "%s", text);
}

static inline struct khp_net_loop *new_loop(void) {
    struct khp_net_error e = {0};
    struct khp_net_loop_options o = {.max_descriptors = 4096, .log = on_log};
    struct khp_net_loop *made = khp_net_loop_new(&o, &e);
    assert_string_equal(e.text, "");
    assert_non_null(made);
    return made;
}

static int descriptors_before;

static inline int set_up(void **state) {
    (void)state;
    descriptors_before = count_descriptors();
    log_lines = 0;
    last_log[0] = '\0';
    loop = new_loop();
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    khp_net_loop_free(loop);
    loop = NULL;
    assert_int_equal(count_descriptors(), descriptors_before);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* ---- streams ---- */

struct peer {
    struct khp_net_stream *stream; /* NULL: ended */
    bool echo;                     /* answers each read with the same */
    unsigned opens, ends;
    size_t size;
    char bytes[256]; /* the first that came */
    struct khp_net_error why;
};

static void on_open(void *owner) {
    struct peer *p = owner;
    assert_int_equal(p->ends, 0);
    p->opens++;
}

static void on_read(void *owner, uint8_t *bytes, size_t n) {
    struct peer *p = owner;
    assert_true(p->opens > 0 && p->ends == 0 && n > 0);
    size_t room = p->size < sizeof p->bytes ? sizeof p->bytes - p->size : 0;
    memcpy(p->bytes + sizeof p->bytes - room, bytes, n < room ? n : room);
    p->size += n;
    if (p->echo)
        assert_true(khp_net_stream_write(p->stream, bytes, n));
}

static void on_end(void *owner, const struct khp_net_error *why) {
    struct peer *p = owner;
    p->ends++;
    p->why = *why;
    p->stream = NULL;
    assert_int_equal(p->ends, 1);
}

static const struct khp_net_stream_handler peer_handler = {
    .open = on_open, .read = on_read, .end = on_end};

/* What a listener accepted. */
struct host {
    struct khp_net_listener *listener;
    struct peer *peers;
    unsigned count, room;
    bool abort;    /* new streams instead of handling them */
    unsigned stop; /* closes the listener when so many are accepted; 0: never */
};

static void on_accept(void *owner, struct khp_net_stream *stream) {
    struct host *h = owner;
    assert_true(h->count < h->room);
    struct peer *p = &h->peers[h->count++];
    p->stream = stream;
    khp_net_stream_handle(stream, &peer_handler, p);
    if (h->abort)
        khp_net_stream_abort(stream);
    if (h->count == h->stop)
        khp_net_listener_close(h->listener);
}

#define HOST(name, n)                                                                              \
    struct peer name##_peers[n] = {0};                                                             \
    struct host name = {.peers = name##_peers, .room = (n)}

static inline void listen_with(struct host *h, const struct khp_net_listener_options *o) {
    struct khp_net_error e = {0};
    h->listener = khp_net_listen(loop, o, on_accept, h, &e);
    assert_string_equal(e.text, "");
    assert_non_null(h->listener);
}

static inline int port_of(const struct host *h) {
    struct khp_net_address a;
    khp_net_listener_address(h->listener, &a);
    return a.port;
}

static inline unsigned count_opens(const struct host *h) {
    unsigned n = 0;
    for (unsigned i = 0; i < h->count; i++)
        n += h->peers[i].opens;
    return n;
}

static inline unsigned count_ends(const struct host *h) {
    unsigned n = 0;
    for (unsigned i = 0; i < h->count; i++)
        n += h->peers[i].ends;
    return n;
}

/* ---- plain sockets ---- */

struct any_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t size;
};

/* A host with a colon is IPv6, with a slash or an at-sign at its beginning unix. */
static inline struct any_address address_of(const char *host, int port) {
    struct any_address a = {.size = 0};
    if (host[0] == '/' || host[0] == '@') {
        a.un.sun_family = AF_UNIX;
        memcpy(a.un.sun_path, host, strlen(host) + 1);
        a.size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(host));
        if (host[0] == '@')
            a.un.sun_path[0] = '\0';
        else
            a.size++;
    } else if (strchr(host, ':') != NULL) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons((uint16_t)port);
        assert_int_equal(inet_pton(AF_INET6, host, &a.in6.sin6_addr), 1);
        a.size = sizeof a.in6;
    } else {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons((uint16_t)port);
        assert_int_equal(inet_pton(AF_INET, host, &a.in.sin_addr), 1);
        a.size = sizeof a.in;
    }
    return a;
}

static inline int dial(const char *host, int port) {
    struct any_address a = address_of(host, port);
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval limit = {.tv_sec = 10};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, &a.any, a.size), 0);
    return fd;
}

/* A listening socket that nobody accepts from unless the test does. */
static inline int plain_listen(const char *host, int *port, int backlog) {
    struct any_address a = address_of(host, port != NULL ? *port : 0);
    int on = 1, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (a.any.sa_family != AF_UNIX)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.any.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    assert_int_equal(bind(fd, &a.any, a.size), 0);
    assert_int_equal(listen(fd, backlog), 0);
    if (port != NULL) {
        a.size = sizeof a.in6;
        assert_int_equal(getsockname(fd, &a.any, &a.size), 0);
        *port = ntohs(a.in.sin_port);
    }
    return fd;
}

/* A port of the loopback that nobody listens on (and that nobody is likely to get in the meantime).
 */
static inline int dead_port(void) {
    int port = 0;
    (void)close(plain_listen("127.0.0.1", &port, 1));
    return port;
}

/* Accepted by the host: written by a plain socket, echoed, read again. */
static inline void assert_echo(int fd) {
    char buffer[8] = {0};
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    for (ssize_t n = 0; n < 5;) {
        assert_true(khp_net_loop_step(loop, 0.01));
        ssize_t more = recv(fd, buffer + n, sizeof buffer - (size_t)n, MSG_DONTWAIT);
        assert_true(more > 0 || (more < 0 && errno == EAGAIN));
        n += more > 0 ? more : 0;
    }
    assert_string_equal(buffer, "hello");
}

/* A plain socket connects, is accepted, echoed, and ends. */
static inline void assert_serves(struct host *h, const char *client, int port,
                                 const char *peer_host) {
    struct khp_net_address a;
    unsigned before = h->count;
    int fd = dial(client, port);
    UNTIL(h->count == before + 1 && h->peers[before].opens == 1);
    struct peer *p = &h->peers[before];
    p->echo = true;
    assert_true(khp_net_stream_peer(p->stream, &a));
    assert_string_equal(a.host, peer_host);
    assert_echo(fd);
    (void)close(fd);
    UNTIL(p->ends == 1);
    assert_int_equal(p->why.code, KHP_NET_E_CLOSED);
}

#endif

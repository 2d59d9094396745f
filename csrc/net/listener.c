/*
 * Accepts: a socket of our own on uv_poll, up to 64 connections for each event, each made a stream.
 * Accepting pauses when descriptors run out or when its streams are many. Must not know what a
 * stream does once it is attached.
 */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/internal.h"

enum {
    ACCEPTS_PER_EVENT = 64, /* then others have their turn */
    RETRY_MS = 1000,        /* when nobody gives a descriptor back */
    DEFAULT_HANDSHAKE_MS = 10000
};

enum state {
    STATE_ACCEPTING,
    STATE_FULL,    /* max_streams are alive */
    STATE_STARVED, /* the system has no descriptor or no memory for another */
    STATE_CLOSED
};

struct khp_net_listener {
    struct khp_net_resource resource;
    struct khp_net_waiter waiter;
    struct khp_net_timer retry;
    uv_poll_t poll;
    struct khp_net_loop *loop;
    khp_net_accept *accept;
    void *owner;
    struct khp_net_tls *tls;
    uint64_t handshake_ms;
    unsigned max_streams;
    unsigned streams;
    unsigned references; /* the poll handle, each stream, each event on the stack */
    enum state state;
    int fd;
    bool is_unix;
    uint64_t logged; /* when a shortage was last written down; 0: never */
    char *unix_path; /* ours to remove if still this file; NULL: none */
    dev_t device;
    ino_t inode;
};

#define LISTENER_OF(pointer, member)                                                               \
    ((struct khp_net_listener *)(void *)((char *)(pointer)-offsetof(struct khp_net_listener,       \
                                                                    member)))

static void release(struct khp_net_listener *l) {
    if (--l->references > 0)
        return;
    khp_net_tls_release(l->tls);
    free(l->unix_path);
    free(l);
}

/* ---- states ---- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_closed(uv_handle_t *handle) {
    release(handle->data);
}

static void assign(struct khp_net_listener *l, enum state next) {
    if (l->state == next)
        return;
    if (l->state == STATE_STARVED) {
        khp_net_loop_forget_waiter(l->loop, &l->waiter);
        khp_net_timer_stop(l->loop, &l->retry);
    }
    l->state = next;
    switch (next) {
    case STATE_ACCEPTING:
        (void)uv_poll_start(&l->poll, UV_READABLE, on_readable);
        break;
    case STATE_FULL:
        (void)uv_poll_stop(&l->poll);
        break;
    case STATE_STARVED:
        (void)uv_poll_stop(&l->poll);
        khp_net_loop_await_descriptor(l->loop, &l->waiter);
        khp_net_timer_start(l->loop, &l->retry, RETRY_MS);
        break;
    case STATE_CLOSED:
        uv_close((uv_handle_t *)&l->poll, on_closed);
        break;
    }
}

static void on_descriptor(struct khp_net_waiter *waiter) {
    assign(LISTENER_OF(waiter, waiter), STATE_ACCEPTING);
}

static void on_retry(struct khp_net_timer *timer) {
    assign(LISTENER_OF(timer, retry), STATE_ACCEPTING);
}

/* A shortage may come and go with every connection: one line a second is enough. */
static void starve(struct khp_net_listener *l, int sys) {
    uint64_t now = khp_net_loop_now(l->loop);
    if (l->logged == 0 || now - l->logged >= RETRY_MS) {
        khp_net_loop_log(l->loop, KHP_NET_LOG_WARN, "accept: %s; accepting pauses", strerror(sys));
        l->logged = now > 0 ? now : 1;
    }
    assign(l, STATE_STARVED);
}

/* ---- accepting ---- */

static void on_stream_end(void *data) {
    struct khp_net_listener *l = data;
    l->streams--;
    if (l->state == STATE_FULL && l->streams < l->max_streams)
        assign(l, STATE_ACCEPTING);
    release(l);
}

static void welcome(struct khp_net_listener *l, int fd, const struct sockaddr *peer,
                    socklen_t size) {
    struct khp_net_stream *stream = khp_net_stream_new(l->loop);
    if (stream == NULL) {
        (void)close(fd);
        starve(l, ENOMEM);
        return;
    }
    l->streams++;
    l->references++;
    khp_net_stream_met(stream, peer, size);
    khp_net_stream_on_end(stream, on_stream_end, l);
    if (l->max_streams != 0 && l->streams >= l->max_streams)
        assign(l, STATE_FULL);
    l->accept(l->owner, stream);
    khp_net_stream_attach(stream, fd, l->tls, true, NULL, l->handshake_ms);
}

/* Returns whether there may be more to accept. */
static bool accept_one(struct khp_net_listener *l) {
    int on = 1;
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(l->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        if (!l->is_unix)
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        welcome(l, fd, (const struct sockaddr *)&peer, size);
        return true;
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EINTR:
    case ECONNABORTED: /* gone before we came */
    case EPERM:        /* a firewall's word */
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP: /* accept(2): an error that waited on the new connection */
        return true;
    default: /* EMFILE, ENFILE, ENOBUFS, ENOMEM; what else there is must not make us spin either */
        starve(l, errno);
        return false;
    }
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct khp_net_listener *l = poll->data;
    struct khp_net_loop *loop = l->loop;
    (void)status, (void)events; /* whatever it is, accept4 says it better */
    khp_net_loop_enter(loop);
    l->references++;
    for (int n = 0; n < ACCEPTS_PER_EVENT && l->state == STATE_ACCEPTING; n++)
        if (!accept_one(l))
            break;
    release(l);
    khp_net_loop_leave(loop);
}

/* ---- sockets ---- */

/* -1 and *error, with what was tried in front: "bind 127.0.0.1:80: Permission denied". */
static int refuse(int fd, const char *what, const struct sockaddr *address, socklen_t size,
                  struct khp_net_error *error) {
    int sys = errno;
    struct khp_net_address a;
    khp_net_address_format(address, size, &a);
    if (fd >= 0)
        (void)close(fd);
    if (a.is_unix)
        khp_net_error_set(error, KHP_NET_E_SYSTEM, sys, "%s %s: %s", what, a.host, strerror(sys));
    else
        khp_net_error_set(error, KHP_NET_E_SYSTEM, sys,
                          strchr(a.host, ':') != NULL ? "%s [%s]:%d: %s" : "%s %s:%d: %s", what,
                          a.host, a.port, strerror(sys));
    return -1;
}

static int listen_on(const struct khp_net_listener_options *o, const struct sockaddr *address,
                     socklen_t size, bool dual_stack, struct khp_net_error *error) {
    int on = 1, only = dual_stack ? 0 : 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse(fd, "socket", address, size, error);
    if (address->sa_family != AF_UNIX) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (o->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
            return refuse(fd, "SO_REUSEPORT", address, size, error);
    }
    if (address->sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    if (bind(fd, address, size) != 0)
        return refuse(fd, "bind", address, size, error);
    if (listen(fd, o->backlog > 0 ? o->backlog : SOMAXCONN) != 0)
        return refuse(fd, "listen", address, size, error);
    return fd;
}

/* An attempt's error becomes the caller's when there is no other attempt. */
static int pass_on(const struct khp_net_error *from, struct khp_net_error *to) {
    if (to != NULL)
        *to = *from;
    return -1;
}

/* Every address: IPv6 and IPv4 by one socket, or IPv4 where the system has no IPv6. */
static int listen_everywhere(const struct khp_net_listener_options *o,
                             struct khp_net_error *error) {
    struct khp_net_error first = {0};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)o->port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    int fd = listen_on(o, (const struct sockaddr *)&in6, sizeof in6, true, &first);
    if (fd >= 0)
        return fd;
    if (first.sys != EAFNOSUPPORT && first.sys != EADDRNOTAVAIL)
        return pass_on(&first, error);
    return listen_on(o, (const struct sockaddr *)&in, sizeof in, false, error);
}

/* The first address of the name that can be had. */
static int listen_name(const struct khp_net_listener_options *o, struct khp_net_error *error) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    struct khp_net_error last = {0};
    char service[16];
    int fd = -1;

    (void)snprintf(service, sizeof service, "%d", o->port);
    int rc = getaddrinfo(o->host, service, &hints, &list);
    if (rc != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, rc == EAI_SYSTEM ? errno : 0, "listen %s: %s",
                          o->host, gai_strerror(rc));
        return -1;
    }
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
        fd = listen_on(o, a->ai_addr, a->ai_addrlen, false, &last);
    freeaddrinfo(list);
    return fd >= 0 ? fd : pass_on(&last, error);
}

/* Whether the socket file was left behind by somebody who is gone. */
static bool is_stale(const struct sockaddr_un *address, socklen_t size) {
    struct stat file;
    if (lstat(address->sun_path, &file) != 0 || !S_ISSOCK(file.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool refused =
        connect(fd, (const struct sockaddr *)address, size) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return refused;
}

static int listen_unix(const struct khp_net_listener_options *o, struct khp_net_error *error) {
    struct khp_net_error first = {0};
    struct sockaddr_un address;
    socklen_t size;

    if (!khp_net_address_unix(o->unix_path, &address, &size, error))
        return -1;
    int fd = listen_on(o, (const struct sockaddr *)&address, size, false, &first);
    if (fd >= 0)
        return fd;
    if (first.sys == EADDRINUSE && address.sun_path[0] != '\0' && is_stale(&address, size) &&
        unlink(address.sun_path) == 0)
        return listen_on(o, (const struct sockaddr *)&address, size, false, error);
    return pass_on(&first, error);
}

/* Taken over only if all goes well; until then it is the caller's. */
static int inherit(int fd, struct khp_net_error *error) {
    int listening = 0;
    socklen_t size = sizeof listening;
    int rc = getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    if (rc != 0 || !listening) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, rc != 0 ? errno : EINVAL,
                          "descriptor %d is not a listening socket", fd);
        return -1;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, errno, "descriptor %d: %s", fd, strerror(errno));
        return -1;
    }
    return fd;
}

static int open_socket(const struct khp_net_listener_options *o, struct khp_net_error *error) {
    if (o->fd >= 0)
        return inherit(o->fd, error);
    if (o->unix_path != NULL)
        return listen_unix(o, error);
    if (o->port < 0 || o->port > UINT16_MAX) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, EINVAL, "there is no port %d", o->port);
        return -1;
    }
    return o->host != NULL ? listen_name(o, error) : listen_everywhere(o, error);
}

/* Remembers which file is ours, so that another's is not removed. */
static void remember_file(struct khp_net_listener *l) {
    struct stat file;
    if (l->unix_path != NULL && lstat(l->unix_path, &file) == 0) {
        l->device = file.st_dev;
        l->inode = file.st_ino;
    }
}

static void remove_file(const struct khp_net_listener *l) {
    struct stat file;
    if (l->unix_path != NULL && lstat(l->unix_path, &file) == 0 && file.st_dev == l->device &&
        file.st_ino == l->inode)
        (void)unlink(l->unix_path);
}

/* ---- the public face ---- */

static void close_resource(struct khp_net_resource *resource) {
    khp_net_listener_close(LISTENER_OF(resource, resource));
}

struct khp_net_listener *khp_net_listen(struct khp_net_loop *loop,
                                        const struct khp_net_listener_options *options,
                                        khp_net_accept *accept, void *owner,
                                        struct khp_net_error *error) {
    bool has_file = options->fd < 0 && options->unix_path != NULL && options->unix_path[0] != '@';
    struct khp_net_listener *l = calloc(1, sizeof *l);
    if (l != NULL && has_file)
        l->unix_path = strdup(options->unix_path);
    if (l == NULL || (has_file && l->unix_path == NULL)) {
        free(l);
        khp_net_error_set(error, KHP_NET_E_LIMIT, ENOMEM, "out of memory");
        return NULL;
    }
    l->loop = loop;
    l->accept = accept;
    l->owner = owner;
    l->tls = options->tls;
    if (l->tls != NULL)
        khp_net_tls_retain(l->tls);
    l->handshake_ms = options->handshake_ms != 0 ? options->handshake_ms : DEFAULT_HANDSHAKE_MS;
    l->max_streams = options->max_streams;
    l->references = 1;
    l->resource.close = close_resource;
    l->waiter.wake = on_descriptor;
    l->retry.fire = on_retry;
    l->state = STATE_CLOSED;

    l->fd = open_socket(options, error);
    if (l->fd < 0) {
        release(l);
        return NULL;
    }
    remember_file(l);
    int rc = uv_poll_init(khp_net_loop_uv(loop), &l->poll, l->fd);
    if (rc != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, -rc, "descriptor %d: %s", l->fd,
                          uv_strerror(rc));
        remove_file(l);
        if (options->fd < 0)
            (void)close(l->fd);
        release(l);
        return NULL;
    }
    struct khp_net_address address;
    khp_net_listener_address(l, &address);
    l->is_unix = address.is_unix;
    l->poll.data = l;
    khp_net_resource_link(loop, &l->resource);
    assign(l, STATE_ACCEPTING);
    return l;
}

void khp_net_listener_close(struct khp_net_listener *listener) {
    khp_net_resource_unlink(listener->loop, &listener->resource);
    remove_file(listener);
    assign(listener, STATE_CLOSED);
    (void)close(listener->fd);
    listener->fd = -1;
}

void khp_net_listener_address(const struct khp_net_listener *listener,
                              struct khp_net_address *address) {
    struct sockaddr_storage storage = {0};
    socklen_t size = sizeof storage;
    if (getsockname(listener->fd, (struct sockaddr *)&storage, &size) != 0)
        size = 0;
    khp_net_address_format((const struct sockaddr *)&storage, size, address);
}

unsigned khp_net_listener_streams(const struct khp_net_listener *listener) {
    return listener->streams;
}

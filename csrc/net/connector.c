/*
 * Connects: looks the name up off the loop, then tries the addresses, each a socket of our own on
 * uv_poll, until one answers (RFC 8305, "happy eyeballs"). One deadline for everything. What is
 * connected is handed to the stream, which does TLS. All state is in struct connect, which lives
 * until then; what libuv still holds lives on alone.
 */
#include "net/connector.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/internal.h"

enum {
    ADDRESSES_MAX = 16, /* of a name that has more, the first */
    DEFAULT_TIMEOUT_MS = 10000,
    DEFAULT_ATTEMPT_MS = 250, /* RFC 8305 8 */
    BACKLOG_RETRY_MS = 20
};

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t size;
};

struct connect;

struct lookup {
    uv_getaddrinfo_t request;
    struct connect *connect; /* NULL: given up */
};

struct attempt {
    uv_poll_t poll;
    struct connect *connect;
    struct attempt *next;
    int fd;
};

struct connect {
    struct khp_net_loop *loop;
    struct khp_net_stream *stream;
    struct khp_net_tls *tls;
    char *host;
    char *server_name;
    struct lookup *lookup; /* NULL: not, or no longer, looking up */
    struct address addresses[ADDRESSES_MAX];
    size_t count, tried;
    struct attempt *attempts; /* under way */
    struct khp_net_error last;
    struct khp_net_timer deadline, next;
    uint64_t timeout_ms, attempt_ms;
};

#define CONNECT_OF(pointer, member)                                                                \
    ((struct connect *)(void *)((char *)(pointer)-offsetof(struct connect, member)))

/* ---- the end of it ---- */

static void free_attempt(uv_handle_t *handle) {
    free(handle->data);
}

/* Returns its descriptor, which libuv no longer watches. */
static int drop_attempt(struct attempt *a) {
    struct attempt **link = &a->connect->attempts;
    while (*link != a)
        link = &(*link)->next;
    *link = a->next;
    uv_close((uv_handle_t *)&a->poll, free_attempt);
    return a->fd;
}

/* Cancels whatever is under way and frees c; the stream is the caller's now. */
static void conclude(struct connect *c) {
    khp_net_stream_on_end(c->stream, NULL, NULL);
    khp_net_timer_stop(c->loop, &c->deadline);
    khp_net_timer_stop(c->loop, &c->next);
    if (c->lookup != NULL) {
        c->lookup->connect = NULL;
        (void)uv_cancel((uv_req_t *)&c->lookup->request); /* its callback comes in any case */
    }
    while (c->attempts != NULL)
        (void)close(drop_attempt(c->attempts));
    khp_net_tls_release(c->tls);
    free(c->host);
    free(c->server_name);
    free(c);
}

static void give_up(struct connect *c, const struct khp_net_error *why) {
    struct khp_net_stream *stream = c->stream;
    struct khp_net_error copy = *why; /* it may be c's own */
    conclude(c);
    khp_net_stream_fail(stream, &copy);
}

static void succeed(struct connect *c, int fd) {
    struct khp_net_stream *stream = c->stream;
    struct khp_net_tls *tls = c->tls;
    char *server_name = c->server_name;
    uint64_t now = khp_net_loop_now(c->loop);
    uint64_t left = c->deadline.due > now ? c->deadline.due - now : 1;
    c->tls = NULL;
    c->server_name = NULL;
    conclude(c);
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0)
        khp_net_stream_met(stream, (const struct sockaddr *)&peer, size);
    khp_net_stream_attach(stream, fd, tls, false, server_name, left);
    khp_net_tls_release(tls);
    free(server_name);
}

/* The stream was aborted, or its loop is being freed. */
static void on_stream_end(void *data) {
    conclude(data);
}

static void on_deadline(struct khp_net_timer *timer) {
    struct connect *c = CONNECT_OF(timer, deadline);
    struct khp_net_error why;
    double seconds = (double)c->timeout_ms / 1000;
    if (c->lookup != NULL)
        khp_net_error_set(&why, KHP_NET_E_TIMEOUT, ETIMEDOUT,
                          "connect timed out after %g s, looking up %.150s", seconds, c->host);
    else
        khp_net_error_set(&why, KHP_NET_E_TIMEOUT, ETIMEDOUT, "connect timed out after %g s",
                          seconds);
    give_up(c, &why);
}

/* ---- attempts ---- */

static void try_next(struct connect *c);

/* RFC 8305 5: after a failure the next address is tried at once. */
static void on_attempt(uv_poll_t *poll, int status, int events) {
    struct attempt *a = poll->data;
    struct connect *c = a->connect;
    struct khp_net_loop *loop = c->loop;
    int sys = 0;
    socklen_t size = sizeof sys;
    (void)events;
    khp_net_loop_enter(loop);
    int fd = drop_attempt(a);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &size) != 0)
        sys = errno;
    else if (sys == 0 && status < 0)
        sys = -status;
    if (sys == 0) {
        succeed(c, fd);
    } else {
        (void)close(fd);
        khp_net_error_set(&c->last, KHP_NET_E_CONNECT, sys, "%s", strerror(sys));
        try_next(c);
    }
    khp_net_loop_leave(loop);
}

/* Waits for the answer; -1 and errno when that is impossible. */
static int watch(struct connect *c, int fd) {
    struct attempt *a = calloc(1, sizeof *a);
    if (a == NULL)
        return -1;
    int rc = uv_poll_init(khp_net_loop_uv(c->loop), &a->poll, fd);
    if (rc != 0) {
        free(a);
        errno = -rc;
        return -1;
    }
    a->poll.data = a;
    a->connect = c;
    a->fd = fd;
    a->next = c->attempts;
    c->attempts = a;
    rc = uv_poll_start(&a->poll, UV_WRITABLE, on_attempt);
    if (rc != 0) {
        (void)drop_attempt(a);
        errno = -rc;
        return -1;
    }
    return 0;
}

/* Returns 0 connected, EINPROGRESS, or why not. */
static int start(struct connect *c, const struct address *address, int *out) {
    int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if (address->any.sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *out = fd;
    if (connect(fd, &address->any, address->size) == 0)
        return 0;
    if ((errno == EINPROGRESS || errno == EINTR) && watch(c, fd) == 0)
        return EINPROGRESS;
    int sys = errno;
    (void)close(fd);
    return sys;
}

static void fail(struct connect *c) {
    struct khp_net_error why = c->last;
    if (c->count > 1)
        khp_net_error_set(&why, c->last.code, c->last.sys, "%.200s (%zu addresses tried)",
                          c->last.text, c->count);
    give_up(c, &why);
}

/* Starts the next attempt; c may be gone when this returns. */
static void try_next(struct connect *c) {
    khp_net_timer_stop(c->loop, &c->next);
    while (c->tried < c->count) {
        int fd = -1;
        const struct address *address = &c->addresses[c->tried++];
        int sys = start(c, address, &fd);
        if (sys == 0) {
            succeed(c, fd);
            return;
        }
        if (sys == EINPROGRESS) {
            if (c->tried < c->count)
                khp_net_timer_start(c->loop, &c->next, c->attempt_ms);
            return;
        }
        if (sys == EAGAIN && address->any.sa_family == AF_UNIX) {
            /* The backlog is full, and nothing will tell when there is room. */
            c->tried--;
            khp_net_timer_start(c->loop, &c->next, BACKLOG_RETRY_MS);
            return;
        }
        bool ours = sys == EMFILE || sys == ENFILE || sys == ENOBUFS || sys == ENOMEM;
        khp_net_error_set(&c->last, ours ? KHP_NET_E_LIMIT : KHP_NET_E_CONNECT, sys, "%s",
                          strerror(sys));
    }
    if (c->attempts == NULL)
        fail(c);
}

static void on_next(struct khp_net_timer *timer) {
    try_next(CONNECT_OF(timer, next));
}

/* ---- names ---- */

static const struct addrinfo *find_family(const struct addrinfo *list, int family, bool same) {
    while (list != NULL && ((list->ai_family == family) != same ||
                            (list->ai_family != AF_INET && list->ai_family != AF_INET6)))
        list = list->ai_next;
    return list;
}

/* RFC 8305 4: the system's order, but the families in turn. */
static void interleave(struct connect *c, const struct addrinfo *list) {
    int family = list->ai_family;
    const struct addrinfo *next[2] = {find_family(list, family, true),
                                      find_family(list, family, false)};
    for (int turn = 0; (next[0] != NULL || next[1] != NULL) && c->count < ADDRESSES_MAX;
         turn = 1 - turn) {
        const struct addrinfo *found = next[turn];
        if (found == NULL)
            continue;
        struct address *address = &c->addresses[c->count++];
        memcpy(&address->any, found->ai_addr, found->ai_addrlen);
        address->size = found->ai_addrlen;
        next[turn] = find_family(found->ai_next, family, turn == 0);
    }
}

static void set_lookup_error(struct khp_net_error *why, const char *host, int rc) {
    bool unknown = rc == UV_EAI_NONAME || rc == UV_EAI_NODATA;
    khp_net_error_set(why, rc == UV_ENOMEM ? KHP_NET_E_LIMIT : KHP_NET_E_CONNECT, 0,
                      "no address for %.150s: %s", host,
                      unknown ? "name or service not known" : uv_strerror(rc));
}

static void on_lookup(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    struct lookup *lookup = request->data;
    struct connect *c = lookup->connect;
    free(lookup);
    if (c != NULL) {
        struct khp_net_loop *loop = c->loop;
        khp_net_loop_enter(loop);
        c->lookup = NULL;
        if (status == 0 && list != NULL)
            interleave(c, list);
        if (c->count > 0) {
            try_next(c);
        } else {
            struct khp_net_error why;
            set_lookup_error(&why, c->host, status != 0 ? status : UV_EAI_NONAME);
            give_up(c, &why);
        }
        khp_net_loop_leave(loop);
    }
    uv_freeaddrinfo(list);
}

/* Numeric addresses at once, names off the loop. */
static void look_up(struct connect *c, int port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[16];
    (void)snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(c->host, service, &hints, &list) == 0) {
        interleave(c, list);
        freeaddrinfo(list);
        try_next(c);
        return;
    }
    hints.ai_flags = AI_NUMERICSERV;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    int rc = UV_ENOMEM;
    if (lookup != NULL) {
        lookup->request.data = lookup;
        lookup->connect = c;
        rc = uv_getaddrinfo(khp_net_loop_uv(c->loop), &lookup->request, on_lookup, c->host, service,
                            &hints);
    }
    if (rc == 0) {
        c->lookup = lookup;
        return;
    }
    free(lookup);
    struct khp_net_error why;
    set_lookup_error(&why, c->host, rc);
    give_up(c, &why);
}

/* ---- the public face ---- */

static void begin(struct connect *c, const struct khp_net_connect_options *options) {
    struct khp_net_error why;
    if (options->unix_path != NULL) {
        struct address *address = &c->addresses[0];
        if (!khp_net_address_unix(options->unix_path, &address->un, &address->size, &why)) {
            give_up(c, &why);
            return;
        }
        c->count = 1;
        try_next(c);
    } else if (c->host == NULL || c->host[0] == '\0' || options->port <= 0 ||
               options->port > UINT16_MAX) {
        khp_net_error_set(&why, KHP_NET_E_CONNECT, EINVAL, "no address for %.150s, port %d",
                          c->host != NULL ? c->host : "(no host)", options->port);
        give_up(c, &why);
    } else {
        look_up(c, options->port);
    }
}

struct khp_net_stream *khp_net_connect(struct khp_net_loop *loop,
                                       const struct khp_net_connect_options *options,
                                       const struct khp_net_stream_handler *handler, void *owner) {
    const char *server_name = options->server_name != NULL ? options->server_name : options->host;
    struct connect *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->host = options->host != NULL ? strdup(options->host) : NULL;
    c->server_name = server_name != NULL ? strdup(server_name) : NULL;
    c->stream = khp_net_stream_new(loop);
    if (c->stream == NULL || (options->host != NULL && c->host == NULL) ||
        (server_name != NULL && c->server_name == NULL)) {
        /* A stream without a handler ends unheard. */
        if (c->stream != NULL)
            khp_net_stream_abort(c->stream);
        free(c->host);
        free(c->server_name);
        free(c);
        return NULL;
    }
    struct khp_net_stream *stream = c->stream;
    c->loop = loop;
    c->tls = options->tls;
    if (c->tls != NULL)
        khp_net_tls_retain(c->tls);
    c->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
    c->attempt_ms = options->attempt_ms != 0 ? options->attempt_ms : DEFAULT_ATTEMPT_MS;
    c->deadline.fire = on_deadline;
    c->next.fire = on_next;
    khp_net_stream_handle(stream, handler, owner);
    khp_net_stream_on_end(stream, on_stream_end, c);
    khp_net_timer_start(loop, &c->deadline, c->timeout_ms);
    begin(c, options);
    return stream;
}

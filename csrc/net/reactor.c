/*
 * libwebsockets behind reactor.h. Never used of it: its TLS, its writes (while it holds back a
 * partial write it spins on a peer that sends but does not read), its timers, its listening and
 * connecting.
 */
#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "net/inside.h"

enum {
    DESCRIPTORS_LEAST = 1024,
    DESCRIPTORS_MOST = 65536 + 1024, /* unless asked for: the tables cost 16 bytes each */
    DESCRIPTORS_GROWTH = 16,
    OWN_MOST = 4
};

/*
 * One context of libwebsockets, and on libuv another one for higher descriptors when the first of
 * these comes: some builds, Debian's among them, search all of a context's table whenever a
 * descriptor is closed.
 */
struct khp_net_reactor {
    struct khp_net_loop *loop;
    struct lws_context *context;
    struct lws_vhost *vhost; /* NULL: it could not be set up */
    struct khp_net_stream *adopting;
    struct khp_net_reactor *larger; /* NULL: not needed yet */
    int descriptors;   /* the size of libwebsockets' tables: what is above it is the larger one's */
    rlim_t most;       /* descriptors that any of them may have */
    int own[OWN_MOST]; /* descriptors that libwebsockets opened and watches for itself */
    unsigned own_count;
    bool uv;
    bool busy;
    lws_sorted_usec_list_t bound; /* poll backend: ends a wait */
};

const char *khp_net_reactor_version(void) {
    return lws_get_library_version();
}

/* ---- what libwebsockets tells us ---- */

/*
 * The error of its last recv(2), 0: none. It does not say, but sets errno to 0 before it reads;
 * what it does between then and RAW_CLOSE may fail, but not in the ways of a connection.
 */
static int connection_error(int sys) {
    switch (sys) {
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return sys;
    default:
        return 0;
    }
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t n) {
    (void)user;
    struct khp_net_stream *stream;
    struct khp_net_reactor *reactor;
    int sys = errno;

    switch ((int)reason) {
    case LWS_CALLBACK_WSI_CREATE: /* before it has our opaque pointer */
        reactor = lws_context_user(lws_get_context(wsi));
        if (reactor->adopting != NULL)
            khp_net_stream_on_wsi(reactor->adopting, wsi);
        break;
    case LWS_CALLBACK_RAW_RX:
        stream = lws_get_opaque_user_data(wsi);
        if (stream != NULL && n > 0)
            khp_net_stream_on_bytes(stream, in, n);
        break;
    case LWS_CALLBACK_RAW_WRITEABLE:
        stream = lws_get_opaque_user_data(wsi);
        if (stream != NULL)
            khp_net_stream_on_writable(stream);
        break;
    case LWS_CALLBACK_RAW_CLOSE:
        stream = lws_get_opaque_user_data(wsi);
        if (stream != NULL)
            khp_net_stream_on_closed(stream, connection_error(sys));
        break;
    case LWS_CALLBACK_WSI_DESTROY:
        stream = lws_get_opaque_user_data(wsi);
        lws_set_opaque_user_data(wsi, NULL);
        if (stream != NULL)
            khp_net_stream_on_gone(stream);
        break;
    case LWS_CALLBACK_RAW_RX_FILE: /* poll backend: the libuv loop has work */
        reactor = lws_context_user(lws_get_context(wsi));
        uv_run(khp_net_loop_uv(reactor->loop), UV_RUN_NOWAIT);
        break;
    default: /* it may tell of its tables between a failed read and RAW_CLOSE */
        return 0;
    }
    errno = 0;
    return 0;
}

static const struct lws_protocols protocols[] = {{.name = "khp", .callback = on_event}, {0}};

/* ---- life ---- */

static void count_closing(uv_handle_t *handle, void *counter) {
    if (uv_is_closing(handle))
        ++*(unsigned *)counter;
}

/* libwebsockets' second destroy unloads its plugin: no close callback of it may be pending then. */
static void finish_closing(uv_loop_t *uv) {
    unsigned closing;
    do {
        uv_run(uv, UV_RUN_NOWAIT);
        closing = 0;
        uv_walk(uv, count_closing, &closing);
    } while (closing > 0);
}

/* Before anybody else's: what the context watches now it opened for itself. */
static void note_own(struct khp_net_reactor *reactor) {
    for (int fd = 0; fd < reactor->descriptors && reactor->own_count < OWN_MOST; fd++)
        if (wsi_from_fd(reactor->context, fd) != NULL)
            reactor->own[reactor->own_count++] = fd;
}

/*
 * Some versions (4.3.5 and 4.4 among them, 4.3.3 not) forget to close the descriptor that wakes
 * them. Whether it was closed is asked of an epoll set, since that knows a descriptor together with
 * the file behind it: the number may be another thread's by now.
 */
static int watch_own(const struct khp_net_reactor *reactor) {
#ifdef __linux__
    struct epoll_event nothing = {0};
    int set = reactor->own_count > 0 ? epoll_create1(EPOLL_CLOEXEC) : -1;
    for (unsigned i = 0; set >= 0 && i < reactor->own_count; i++)
        (void)epoll_ctl(set, EPOLL_CTL_ADD, reactor->own[i], &nothing);
    return set;
#else
    (void)reactor;
    return -1;
#endif
}

static void close_forgotten(const struct khp_net_reactor *reactor, int set) {
#ifdef __linux__
    struct epoll_event nothing = {0};
    for (unsigned i = 0; i < reactor->own_count; i++)
        if (epoll_ctl(set, EPOLL_CTL_MOD, reactor->own[i], &nothing) == 0)
            close(reactor->own[i]);
#endif
    (void)reactor;
    close(set);
}

static void destroy_context(struct khp_net_reactor *reactor) {
    if (reactor->context == NULL)
        return;
    int set = watch_own(reactor);
    for (int tries = 0; reactor->context != NULL && tries < 4; tries++) {
        lws_context_destroy(reactor->context); /* sets it to NULL at the end */
        if (reactor->context != NULL)
            finish_closing(khp_net_loop_uv(reactor->loop));
    }
    if (set >= 0)
        close_forgotten(reactor, set);
}

static rlim_t smaller(rlim_t a, rlim_t b) {
    return a < b ? a : b;
}

/*
 * libwebsockets finds a connection by its descriptor in a table as large as RLIMIT_NOFILE, or, when
 * it is told of another limit, by searching one. The limit is therefore lowered for the moment in
 * which it looks.
 */
static void create_context(struct khp_net_reactor *reactor, rlim_t size) {
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    void *loops[] = {khp_net_loop_uv(reactor->loop)};
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
    if (reactor->uv) {
        info.options |= LWS_SERVER_OPTION_LIBUV;
        info.foreign_loops = loops;
    }
    info.protocols = protocols;
    info.user = reactor;
    info.pcontext = &reactor->context;
    info.pt_serv_buf_size = KHP_NET_READ + LWS_PRE;
    info.http_proxy_address = ""; /* or it would read $http_proxy */
    info.vhost_name = "khp";

    struct rlimit limit = {0}, lower;
    getrlimit(RLIMIT_NOFILE, &limit);
    lower = limit;
    lower.rlim_cur = smaller(size, limit.rlim_cur);
    bool lowered = lower.rlim_cur < limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &lower) == 0;
    reactor->descriptors = (int)(lowered ? lower.rlim_cur : limit.rlim_cur);
    struct sigaction pipe; /* libwebsockets ignores the signal; that is the host's to decide */
    sigaction(SIGPIPE, NULL, &pipe);
    lws_set_log_level(0, NULL);
    reactor->context = lws_create_context(&info);
    if (reactor->context != NULL) {
        /* With a loop of ours it may return a context that it is already destroying. */
        struct lws_pollfd nobody = {.fd = uv_backend_fd(khp_net_loop_uv(reactor->loop))};
        if (lws_service_fd(reactor->context, &nobody) >= 0) {
            note_own(reactor);
            reactor->vhost = lws_create_vhost(reactor->context, &info);
        }
    }
    sigaction(SIGPIPE, &pipe, NULL);
    if (lowered)
        setrlimit(RLIMIT_NOFILE, &limit);
}

/* Poll backend: libwebsockets' poll() wakes when the libuv loop has something to do. */
static bool watch_uv(struct khp_net_reactor *reactor) {
    int fd = fcntl(uv_backend_fd(khp_net_loop_uv(reactor->loop)), F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || fd >= reactor->descriptors) {
        close(fd);
        return false;
    }
    lws_adopt_desc_t adopt = {.vh = reactor->vhost,
                              .type = LWS_ADOPT_RAW_FILE_DESC,
                              .fd.filefd = fd,
                              .vh_prot_name = protocols[0].name};
    if (lws_adopt_descriptor_vhost_via_info(&adopt) != NULL)
        return true;
    close(fd);
    return false;
}

static struct khp_net_reactor *create(struct khp_net_loop *loop, bool uv, rlim_t size,
                                      rlim_t most) {
    struct khp_net_reactor *reactor = calloc(1, sizeof *reactor);
    if (reactor != NULL) {
        reactor->loop = loop;
        reactor->uv = uv;
        reactor->most = most;
        create_context(reactor, smaller(size, most));
    }
    return reactor;
}

struct khp_net_reactor *khp_net_reactor_new(struct khp_net_loop *loop, enum khp_net_backend backend,
                                            unsigned max_descriptors, struct khp_net_error *error) {
    bool uv = backend == KHP_NET_BACKEND_UV;
    rlim_t least = (rlim_t)uv_backend_fd(khp_net_loop_uv(loop)) + DESCRIPTORS_LEAST;
    rlim_t most = max_descriptors != 0 ? max_descriptors : DESCRIPTORS_MOST;
    if (most < least)
        most = least;
    struct khp_net_reactor *reactor = create(loop, uv, uv ? least : most, most);
    if (reactor == NULL) {
        khp_net_error_set(error, KHP_NET_E_LIMIT, 0, "out of memory");
        return NULL;
    }
    if (reactor->vhost != NULL && (uv || watch_uv(reactor)))
        return reactor;
    khp_net_error_set(error, KHP_NET_E_SYSTEM, 0,
                      uv ? "libwebsockets cannot use libuv (is its plugin installed?)"
                         : "libwebsockets cannot be set up");
    khp_net_reactor_free(reactor);
    return NULL;
}

void khp_net_reactor_free(struct khp_net_reactor *reactor) {
    if (reactor->larger != NULL)
        khp_net_reactor_free(reactor->larger);
    destroy_context(reactor);
    free(reactor);
}

/* ---- turning ---- */

static void bound_fires(lws_sorted_usec_list_t *sul) {
    (void)sul;
}

static void turn_uv(struct khp_net_loop *loop, int64_t wait_ms) {
    if (wait_ms > 0)
        khp_net_loop_bound(loop, (uint64_t)wait_ms);
    uv_run(&loop->uv, wait_ms == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    uv_timer_stop(&loop->bound);
}

/*
 * libuv registers what it shall watch only when it runs, hence once before the wait; what it then
 * reports may have added to that, hence no wait after it.
 */
static void turn_poll(struct khp_net_reactor *reactor, int64_t wait_ms) {
    struct khp_net_loop *loop = reactor->loop;
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    uv_timer_stop(&loop->bound);
    int alarm = uv_backend_timeout(&loop->uv);
    if (loop->entries != loop->entries_before || loop->due != NULL)
        wait_ms = 0;
    else if (alarm >= 0 && (wait_ms < 0 || alarm < wait_ms))
        wait_ms = alarm;
    /* Half a millisecond more, since its wait is rounded down. */
    if (wait_ms > 0)
        lws_sul_schedule(reactor->context, 0, &reactor->bound, bound_fires,
                         (lws_usec_t)wait_ms * LWS_US_PER_MS + LWS_US_PER_MS / 2);
    reactor->busy = true;
    lws_service(reactor->context, wait_ms == 0 ? -1 : 0);
    reactor->busy = false;
    lws_sul_cancel(&reactor->bound);
}

void khp_net_reactor_turn(struct khp_net_reactor *reactor, int64_t wait_ms) {
    if (reactor->uv)
        turn_uv(reactor->loop, wait_ms);
    else
        turn_poll(reactor, wait_ms);
}

bool khp_net_reactor_busy(const struct khp_net_reactor *reactor) {
    return reactor->busy;
}

/* ---- descriptors ---- */

/* One that could not be set up stays where it is: libuv must not run now to destroy it. */
static void grow(struct khp_net_reactor *reactor) {
    rlim_t size = (rlim_t)reactor->descriptors * DESCRIPTORS_GROWTH;
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t most = smaller(reactor->most, limit.rlim_cur);
    if (reactor->uv && reactor->vhost != NULL && (rlim_t)reactor->descriptors < most)
        reactor->larger = create(reactor->loop, true, size, reactor->most);
}

bool khp_net_reactor_adopt(struct khp_net_reactor *reactor, int fd, struct khp_net_stream *stream) {
    if (fd >= reactor->descriptors || reactor->vhost == NULL) {
        if (reactor->larger == NULL)
            grow(reactor);
        if (reactor->larger != NULL)
            return khp_net_reactor_adopt(reactor->larger, fd, stream);
        close(fd);
        return false;
    }
    lws_adopt_desc_t adopt = {.vh = reactor->vhost,
                              .type = LWS_ADOPT_SOCKET,
                              .fd.sockfd = fd,
                              .vh_prot_name = protocols[0].name,
                              .opaque = stream};
    reactor->adopting = stream;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
    reactor->adopting = NULL;
    return wsi != NULL;
}

void khp_net_reactor_want_read(struct lws *wsi, bool on) {
    lws_rx_flow_control(wsi, on ? 1 : 0);
}

void khp_net_reactor_want_write(struct lws *wsi) {
    lws_callback_on_writable(wsi);
}

void khp_net_reactor_kill(struct lws *wsi) {
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

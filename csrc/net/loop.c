/*
 * The loop: turns, what is due between them, and its own life and death. How a turn is made is
 * reactor.c's business, what a stream does with it stream.c's.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/inside.h"

struct khp_net_versions khp_net_versions(void) {
    return (struct khp_net_versions){khp_net_reactor_version(), uv_version_string()};
}

static void wakened(uv_async_t *waker) {
    struct khp_net_loop *loop = waker->data;
    khp_net_loop_enter(loop);
    khp_net_loop_leave(loop);
}

static void bound_rings(uv_timer_t *bound) {
    (void)bound; /* libuv has stopped waiting: that was all */
}

void khp_net_loop_bound(struct khp_net_loop *loop, uint64_t ms) {
    uv_timer_start(&loop->bound, bound_rings, ms, 0);
}

/* What a timer or the settling brought about is the event that the step is for: no wait after it.
 */
static void before_wait(uv_prepare_t *prepare) {
    struct khp_net_loop *loop = prepare->data;
    khp_net_loop_settle(loop);
    if (loop->entries != loop->entries_before || loop->due != NULL)
        khp_net_loop_bound(loop, 0);
}

/* ---- life ---- */

static enum khp_net_backend choose_backend(enum khp_net_backend asked) {
    const char *name = getenv("KHP_BACKEND");
    if (asked != KHP_NET_BACKEND_AUTO || name == NULL)
        return asked;
    if (strcmp(name, "poll") == 0)
        return KHP_NET_BACKEND_POLL;
    if (strcmp(name, "uv") == 0)
        return KHP_NET_BACKEND_UV;
    return asked;
}

static bool make_reactor(struct khp_net_loop *loop, const struct khp_net_loop_options *options,
                         struct khp_net_error *error) {
    enum khp_net_backend asked = choose_backend(options->backend);
    if (asked != KHP_NET_BACKEND_POLL) {
        loop->backend = KHP_NET_BACKEND_UV;
        loop->reactor =
            khp_net_reactor_new(loop, KHP_NET_BACKEND_UV, options->max_descriptors, error);
        if (loop->reactor != NULL || asked == KHP_NET_BACKEND_UV)
            return loop->reactor != NULL;
        khp_net_loop_log(loop, KHP_NET_LOG_WARN,
                         "libwebsockets has no libuv plugin here: using poll(), which costs time "
                         "for every idle connection and has no descriptor for a host's own loop");
    }
    loop->backend = KHP_NET_BACKEND_POLL;
    loop->reactor =
        khp_net_reactor_new(loop, KHP_NET_BACKEND_POLL, options->max_descriptors, error);
    return loop->reactor != NULL;
}

/* Runs the libuv loop until every handle that was closed is gone, and all work that cannot be
 * cancelled. */
static void free_uv(struct khp_net_loop *loop) {
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    uv_close((uv_handle_t *)&loop->bound, NULL);
    uv_close((uv_handle_t *)&loop->waker, NULL);
    uv_close((uv_handle_t *)&loop->before_wait, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    free(loop);
}

struct khp_net_loop *khp_net_loop_new(const struct khp_net_loop_options *options,
                                      struct khp_net_error *error) {
    struct khp_net_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        khp_net_error_set(error, KHP_NET_E_LIMIT, 0, "out of memory");
        return NULL;
    }
    loop->log = options->log;
    loop->user = options->user;
    loop->due_tail = &loop->due;
    int failed = uv_loop_init(&loop->uv);
    if (failed != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, -failed, "%s", strerror(-failed));
        free(loop);
        return NULL;
    }
    uv_timer_init(&loop->uv, &loop->alarm);
    uv_timer_init(&loop->uv, &loop->bound);
    uv_prepare_init(&loop->uv, &loop->before_wait);
    failed = uv_async_init(&loop->uv, &loop->waker, wakened);
    if (failed != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, -failed, "%s", strerror(-failed));
        uv_close((uv_handle_t *)&loop->alarm, NULL);
        uv_close((uv_handle_t *)&loop->bound, NULL);
        uv_close((uv_handle_t *)&loop->before_wait, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        uv_loop_close(&loop->uv);
        free(loop);
        return NULL;
    }
    loop->alarm.data = loop->waker.data = loop->before_wait.data = loop;
    uv_prepare_start(&loop->before_wait, before_wait);
    if (!make_reactor(loop, options, error)) {
        free_uv(loop);
        return NULL;
    }
    return loop;
}

void khp_net_loop_free(struct khp_net_loop *loop) {
    if (loop == NULL || loop->stepping || loop->depth > 0)
        return;
    loop->stepping = loop->freeing = true;
    khp_net_timers_drop(loop);
    while (loop->resources != NULL)
        loop->resources->close(loop->resources);

    struct khp_net_error why;
    khp_net_error_set(&why, KHP_NET_E_LOCAL, 0, "loop closed");
    for (struct khp_net_stream *stream = loop->streams; stream != NULL; stream = stream->next)
        khp_net_stream_fail(stream, &why);
    /* Two turns end them all; more are for what their owners do in the end event. */
    for (int turns = 0; turns < 8 && loop->streams != NULL; turns++) {
        khp_net_loop_settle(loop);
        khp_net_reactor_turn(loop->reactor, 0);
    }
    khp_net_reactor_free(loop->reactor);
    loop->reactor = NULL;
    while (loop->streams != NULL) {
        khp_net_stream_on_gone(loop->streams);
        khp_net_loop_settle(loop);
    }
    khp_net_spare_free(&loop->spare);
    free(loop->scratch);
    BIO_meth_free(loop->bio);
    free_uv(loop);
}

/* ---- turning ---- */

static void wake_waiters(struct khp_net_loop *loop) {
    if (!loop->descriptor_freed)
        return;
    loop->descriptor_freed = false;
    loop->waking = loop->waiters;
    loop->waiters = NULL;
    while (loop->waking != NULL) {
        struct khp_net_waiter *waiter = loop->waking;
        loop->waking = waiter->next;
        waiter->next = NULL;
        waiter->queued = false;
        waiter->wake(waiter);
    }
}

void khp_net_loop_settle(struct khp_net_loop *loop) {
    loop->depth++;
    khp_net_batch_hand_over(loop);
    khp_net_batch_send(loop);
    struct khp_net_stream *stream = loop->due;
    loop->due = NULL;
    loop->due_tail = &loop->due;
    while (stream != NULL) {
        struct khp_net_stream *next = stream->due_next;
        stream->due = false;
        khp_net_stream_settle(stream);
        stream = next;
    }
    wake_waiters(loop);
    loop->depth--;
}

static uint64_t fresh_now(struct khp_net_loop *loop) {
    uv_update_time(&loop->uv);
    return uv_now(&loop->uv);
}

bool khp_net_loop_step(struct khp_net_loop *loop, double seconds) {
    enum { FOREVER_MS = 0x7fffffff };
    if (loop->stepping || loop->depth > 0)
        return false;
    loop->stepping = true;
    bool forever = !(seconds >= 0 && seconds * 1000 <= FOREVER_MS);
    uint64_t deadline = fresh_now(loop);
    if (!forever)
        deadline += (uint64_t)(seconds * 1000 + 0.999);
    loop->entries_before = loop->entries;
    khp_net_loop_settle(loop);
    for (;;) {
        uint64_t now = fresh_now(loop);
        int64_t wait = forever ? -1 : now < deadline ? (int64_t)(deadline - now) : 0;
        khp_net_reactor_turn(loop->reactor, wait);
        khp_net_loop_settle(loop);
        if (loop->entries != loop->entries_before || (!forever && fresh_now(loop) >= deadline))
            break;
    }
    loop->stepping = false;
    return true;
}

int khp_net_loop_fd(const struct khp_net_loop *loop) {
    return loop->backend == KHP_NET_BACKEND_UV ? uv_backend_fd(&loop->uv) : -1;
}

double khp_net_loop_timeout(struct khp_net_loop *loop) {
    if (loop->due != NULL)
        return 0;
    uv_update_time(&loop->uv);
    int ms = uv_backend_timeout(&loop->uv);
    return ms < 0 ? -1 : ms / 1000.0;
}

void khp_net_loop_wake(struct khp_net_loop *loop) {
    uv_async_send(&loop->waker);
}

uint64_t khp_net_loop_now(const struct khp_net_loop *loop) {
    return uv_now(&loop->uv);
}

enum khp_net_backend khp_net_loop_backend(const struct khp_net_loop *loop) {
    return loop->backend;
}

bool khp_net_loop_entered(const struct khp_net_loop *loop) {
    return loop->depth > 0;
}

/* ---- for the files of csrc/net ---- */

uv_loop_t *khp_net_loop_uv(struct khp_net_loop *loop) {
    return &loop->uv;
}

void khp_net_loop_enter(struct khp_net_loop *loop) {
    loop->depth++;
    loop->entries++;
}

void khp_net_loop_leave(struct khp_net_loop *loop) {
    loop->depth--;
}

void khp_net_loop_log(struct khp_net_loop *loop, enum khp_net_log_level level, const char *format,
                      ...) {
    if (loop->log == NULL)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n >= 0)
        loop->log(loop->user, level, text);
}

void khp_net_resource_link(struct khp_net_loop *loop, struct khp_net_resource *resource) {
    resource->prev = NULL;
    resource->next = loop->resources;
    if (resource->next != NULL)
        resource->next->prev = resource;
    loop->resources = resource;
}

void khp_net_resource_unlink(struct khp_net_loop *loop, struct khp_net_resource *resource) {
    if (resource->prev != NULL)
        resource->prev->next = resource->next;
    else if (loop->resources == resource)
        loop->resources = resource->next;
    else
        return; /* unlinked already */
    if (resource->next != NULL)
        resource->next->prev = resource->prev;
    resource->next = resource->prev = NULL;
}

void khp_net_loop_await_descriptor(struct khp_net_loop *loop, struct khp_net_waiter *waiter) {
    if (waiter->queued)
        return;
    waiter->queued = true;
    waiter->next = loop->waiters;
    loop->waiters = waiter;
}

static bool unlink_waiter(struct khp_net_waiter **link, const struct khp_net_waiter *waiter) {
    for (; *link != NULL; link = &(*link)->next) {
        if (*link == waiter) {
            *link = waiter->next;
            return true;
        }
    }
    return false;
}

void khp_net_loop_forget_waiter(struct khp_net_loop *loop, struct khp_net_waiter *waiter) {
    if (!waiter->queued)
        return;
    if (!unlink_waiter(&loop->waiters, waiter))
        (void)unlink_waiter(&loop->waking, waiter);
    waiter->queued = false;
    waiter->next = NULL;
}

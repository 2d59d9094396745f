/*
 * Watches of descriptors, on libuv's poll handles. Must not know what is read.
 */
#include "net/watch.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "net/internal.h"

struct khp_net_watch {
    struct khp_net_resource resource;
    uv_poll_t handle;
    struct khp_net_loop *loop;
    void (*ready)(void *owner);
    void *owner;
};

/* An error is told by the read that it makes fail. */
static void on_poll(uv_poll_t *handle, int status, int events) {
    struct khp_net_watch *self = handle->data;
    struct khp_net_loop *loop = self->loop;
    (void)status;
    (void)events;
    khp_net_loop_enter(loop);
    self->ready(self->owner);
    khp_net_loop_leave(loop);
}

void khp_net_watch_resume(struct khp_net_watch *self) {
    uv_poll_start(&self->handle, UV_READABLE | UV_DISCONNECT, on_poll);
}

void khp_net_watch_pause(struct khp_net_watch *self) {
    uv_poll_stop(&self->handle);
}

static void freed(uv_handle_t *handle) {
    free(handle->data);
}

void khp_net_watch_close(struct khp_net_watch *self) {
    khp_net_resource_unlink(self->loop, &self->resource);
    uv_close((uv_handle_t *)&self->handle, freed);
}

static void close_resource(struct khp_net_resource *resource) {
    khp_net_watch_close((struct khp_net_watch *)(void *)((char *)resource -
                                                         offsetof(struct khp_net_watch, resource)));
}

struct khp_net_watch *khp_net_watch_new(struct khp_net_loop *loop, int fd,
                                        void (*ready)(void *owner), void *owner,
                                        struct khp_net_error *error) {
    struct khp_net_watch *self = calloc(1, sizeof *self);
    if (self == NULL) {
        khp_net_error_set(error, KHP_NET_E_LIMIT, 0, "out of memory");
        return NULL;
    }
    self->loop = loop;
    self->ready = ready;
    self->owner = owner;
    self->handle.data = self;
    self->resource.close = close_resource;
    int failed = uv_poll_init(khp_net_loop_uv(loop), &self->handle, fd);
    if (failed != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, -failed, "%s", strerror(-failed));
        free(self);
        return NULL;
    }
    khp_net_resource_link(loop, &self->resource);
    return self;
}

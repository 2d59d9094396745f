/*
 * Signals, on libuv's signal handles. Must not know which signals mean what.
 */
#include "net/signal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "net/internal.h"

struct khp_net_signal {
    struct khp_net_resource resource;
    uv_signal_t handle;
    struct khp_net_loop *loop;
    void (*heard)(void *owner);
    void *owner;
};

static void on_signal(uv_signal_t *handle, int number) {
    struct khp_net_signal *self = handle->data;
    struct khp_net_loop *loop = self->loop;
    (void)number;
    khp_net_loop_enter(loop);
    self->heard(self->owner);
    khp_net_loop_leave(loop);
}

static void freed(uv_handle_t *handle) {
    free(handle->data);
}

void khp_net_signal_close(struct khp_net_signal *self) {
    khp_net_resource_unlink(self->loop, &self->resource);
    uv_close((uv_handle_t *)&self->handle, freed);
}

static void close_resource(struct khp_net_resource *resource) {
    khp_net_signal_close(
        (struct khp_net_signal *)(void *)((char *)resource -
                                          offsetof(struct khp_net_signal, resource)));
}

struct khp_net_signal *khp_net_signal_watch(struct khp_net_loop *loop, int number,
                                            void (*heard)(void *owner), void *owner,
                                            struct khp_net_error *error) {
    struct khp_net_signal *self = calloc(1, sizeof *self);
    if (self == NULL) {
        khp_net_error_set(error, KHP_NET_E_LIMIT, 0, "out of memory");
        return NULL;
    }
    self->loop = loop;
    self->heard = heard;
    self->owner = owner;
    self->handle.data = self;
    self->resource.close = close_resource;
    int failed = uv_signal_init(khp_net_loop_uv(loop), &self->handle);
    if (failed != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, -failed, "%s", strerror(-failed));
        free(self);
        return NULL;
    }
    khp_net_resource_link(loop, &self->resource);
    failed = uv_signal_start(&self->handle, on_signal, number);
    if (failed != 0) {
        khp_net_error_set(error, KHP_NET_E_SYSTEM, -failed, "%s", strerror(-failed));
        khp_net_signal_close(self);
        return NULL;
    }
    return self;
}

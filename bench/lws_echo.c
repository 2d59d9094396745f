/*
 * The reference: the smallest sensible echo server on libwebsockets, as its documentation teaches
 * it. The ws role, its own poll() loop, what arrives is queued as it arrives, one lws_write() per
 * WRITEABLE callback. Prints its port.
 */
#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RX_BUFFER_SIZE = 4096 };

struct piece {
    struct piece *next;
    size_t n;
    int binary, first, final;
    unsigned char bytes[]; /* LWS_PRE bytes for libwebsockets, then the payload */
};

struct session {
    struct piece *head, **tail;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
    (void)number;
    stopped = 1;
}

static int queue(struct lws *wsi, struct session *session, const void *in, size_t n) {
    struct piece *piece = malloc(sizeof *piece + LWS_PRE + n);
    if (piece == NULL) {
        return -1;
    }
    piece->next = NULL;
    piece->n = n;
    piece->binary = lws_frame_is_binary(wsi);
    piece->first = lws_is_first_fragment(wsi);
    piece->final = lws_is_final_fragment(wsi);
    memcpy(piece->bytes + LWS_PRE, in, n);
    *session->tail = piece;
    session->tail = &piece->next;
    lws_callback_on_writable(wsi);
    return 0;
}

static int write_one(struct lws *wsi, struct session *session) {
    struct piece *piece = session->head;
    if (piece == NULL) {
        return 0;
    }
    int flags = lws_write_ws_flags(piece->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT, piece->first,
                                   piece->final);
    int sent = lws_write(wsi, piece->bytes + LWS_PRE, piece->n, (enum lws_write_protocol)flags);
    if (sent < (int)piece->n) {
        return -1;
    }
    session->head = piece->next;
    if (session->head == NULL) {
        session->tail = &session->head;
    } else {
        lws_callback_on_writable(wsi);
    }
    free(piece);
    return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t n) {
    struct session *session = user;
    switch ((int)reason) { /* most of them are no concern of an echo */
    case LWS_CALLBACK_ESTABLISHED:
        session->head = NULL;
        session->tail = &session->head;
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return queue(wsi, session, in, n);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return write_one(wsi, session);
    case LWS_CALLBACK_CLOSED:
        while (session->head != NULL) {
            struct piece *piece = session->head;
            session->head = piece->next;
            free(piece);
        }
        return 0;
    default:
        return 0;
    }
}

int main(void) {
    static const struct lws_protocols protocols[] = {
        {.name = "echo",
         .callback = callback,
         .per_session_data_size = sizeof(struct session),
         .rx_buffer_size = RX_BUFFER_SIZE},
        {.name = NULL},
    };
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    info.port = 0;
    info.iface = "127.0.0.1";
    info.protocols = protocols;
    info.vhost_name = "echo";
    lws_set_log_level(LLL_ERR, NULL);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    struct lws_context *context = lws_create_context(&info);
    if (context == NULL) {
        return 1;
    }
    printf("%d\n", lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "echo")));
    fflush(stdout);
    while (!stopped && lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
    return 0;
}

/*
 * The reference for the client: libwebsockets' ws role, one connection to an echo server, a number
 * of messages in flight, one lws_write() per WRITEABLE callback.
 *
 *     lws_client PORT BYTES IN_FLIGHT SECONDS        prints this process's CPU ns per message, and
 * messages
 */
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct client {
    unsigned char *message; /* behind LWS_PRE bytes */
    size_t size, to_send;
    unsigned long received;
    unsigned long counted_from; /* messages when the warm-up was over; 0 before */
    double cpu_from, warm, end;
    int over; /* 1 done, -1 failed */
};

static double seconds(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void report(struct client *client) {
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - client->cpu_from;
    unsigned long counted = client->received - client->counted_from;
    printf("%.1f %lu\n", cpu * 1e9 / (double)counted, counted);
    client->over = 1;
}

static int received(struct lws *wsi, struct client *client) {
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi) > 0) {
        return 0;
    }
    client->received++;
    client->to_send++;
    if (client->received % 32 == 0) { /* now and then, for the clock has its price, too */
        double now = seconds(CLOCK_MONOTONIC);
        if (client->counted_from == 0 && now > client->warm) {
            client->counted_from = client->received;
            client->cpu_from = seconds(CLOCK_PROCESS_CPUTIME_ID);
        } else if (client->counted_from > 0 && now > client->end) {
            report(client);
            return -1;
        }
    }
    lws_callback_on_writable(wsi);
    return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t n) {
    (void)user;
    (void)in;
    (void)n;
    struct client *client = lws_context_user(lws_get_context(wsi));
    switch ((int)reason) { /* most of them are no concern of an echo */
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        lws_callback_on_writable(wsi);
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return received(wsi, client);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        if (client->to_send > 0) {
            if (lws_write(wsi, client->message, client->size, LWS_WRITE_BINARY) <
                (int)client->size) {
                return -1;
            }
            client->to_send--;
            if (client->to_send > 0) {
                lws_callback_on_writable(wsi);
            }
        }
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLIENT_CLOSED:
        if (client->over == 0) {
            client->over = -1;
        }
        return 0;
    default:
        return 0;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fputs("lws_client PORT BYTES IN_FLIGHT SECONDS\n", stderr);
        return 2;
    }
    struct client client = {.size = strtoul(argv[2], NULL, 10),
                            .to_send = strtoul(argv[3], NULL, 10)};
    unsigned char *memory = calloc(1, LWS_PRE + client.size);
    if (memory == NULL) {
        return 1;
    }
    client.message = memory + LWS_PRE;
    client.warm = seconds(CLOCK_MONOTONIC) + strtod(argv[4], NULL) / 4;
    client.end = client.warm + strtod(argv[4], NULL);

    static const struct lws_protocols protocols[] = {
        {.name = "echo", .callback = callback, .rx_buffer_size = 4096},
        {.name = NULL},
    };
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = protocols;
    info.user = &client;
    unsetenv("http_proxy"); /* libwebsockets would go through it, even to this machine */
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (context == NULL) {
        free(memory);
        return 1;
    }
    struct lws_client_connect_info connect;
    memset(&connect, 0, sizeof connect);
    connect.context = context;
    connect.address = connect.host = connect.origin = "127.0.0.1";
    connect.port = (int)strtol(argv[1], NULL, 10);
    connect.path = "/";
    connect.local_protocol_name = "echo";
    if (lws_client_connect_via_info(&connect) == NULL) {
        client.over = -1;
    }
    while (client.over == 0 && lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
    free(memory);
    return client.over == 1 ? 0 : 1;
}

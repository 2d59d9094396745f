/*
 * Socket addresses as people write them, and unix socket paths as the system wants them. Opens
 * nothing and resolves nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "net/internal.h"

static void format_ip6(const struct sockaddr_in6 *in6, struct khp_net_address *out) {
    out->port = ntohs(in6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        (void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], out->host, sizeof out->host);
        return;
    }
    (void)inet_ntop(AF_INET6, &in6->sin6_addr, out->host, sizeof out->host);
    if (in6->sin6_scope_id != 0) {
        char zone[IF_NAMESIZE];
        size_t n = strlen(out->host);
        if (if_indextoname(in6->sin6_scope_id, zone) != NULL)
            (void)snprintf(out->host + n, sizeof out->host - n, "%%%s", zone);
        else
            (void)snprintf(out->host + n, sizeof out->host - n, "%%%u", in6->sin6_scope_id);
    }
}

/* sun_path need not end with NUL; an abstract name begins with one. */
static void format_unix(const struct sockaddr_un *un, socklen_t size, struct khp_net_address *out) {
    size_t n = size > offsetof(struct sockaddr_un, sun_path)
                   ? size - offsetof(struct sockaddr_un, sun_path)
                   : 0;
    out->is_unix = true;
    if (n > 1 && un->sun_path[0] == '\0')
        (void)snprintf(out->host, sizeof out->host, "@%.*s", (int)(n - 1), un->sun_path + 1);
    else if (n > 0)
        (void)snprintf(out->host, sizeof out->host, "%.*s", (int)n, un->sun_path);
}

void khp_net_address_format(const struct sockaddr *address, socklen_t size,
                            struct khp_net_address *out) {
    union { /* copied: the caller's bytes need not be aligned for it */
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr any;
    } a = {0};

    *out = (struct khp_net_address){0};
    if (size < (socklen_t)sizeof a.any.sa_family)
        return;
    memcpy(&a, address, size < (socklen_t)sizeof a ? size : sizeof a);
    if (a.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &a.in.sin_addr, out->host, sizeof out->host);
        out->port = ntohs(a.in.sin_port);
    } else if (a.any.sa_family == AF_INET6) {
        format_ip6(&a.in6, out);
    } else if (a.any.sa_family == AF_UNIX) {
        format_unix(&a.un, size, out);
    }
}

void khp_net_endpoint_set(struct khp_net_endpoint *endpoint, const struct sockaddr *address,
                          socklen_t size) {
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    memset(endpoint, 0, sizeof *endpoint);
    endpoint->family = address->sa_family;
    if (address->sa_family == AF_INET && size >= sizeof in) {
        memcpy(&in, address, sizeof in);
        endpoint->port = in.sin_port;
        memcpy(endpoint->ip, &in.sin_addr, sizeof in.sin_addr);
    } else if (address->sa_family == AF_INET6 && size >= sizeof in6) {
        memcpy(&in6, address, sizeof in6);
        endpoint->port = in6.sin6_port;
        endpoint->scope = in6.sin6_scope_id;
        memcpy(endpoint->ip, &in6.sin6_addr, sizeof in6.sin6_addr);
    }
}

bool khp_net_endpoint_format(const struct khp_net_endpoint *endpoint,
                             struct khp_net_address *address) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = endpoint->port};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = endpoint->port, .sin6_scope_id = endpoint->scope};
    memset(address, 0, sizeof *address);
    switch (endpoint->family) {
    case AF_INET:
        memcpy(&in.sin_addr, endpoint->ip, sizeof in.sin_addr);
        khp_net_address_format((const struct sockaddr *)&in, sizeof in, address);
        return true;
    case AF_INET6:
        memcpy(&in6.sin6_addr, endpoint->ip, sizeof in6.sin6_addr);
        khp_net_address_format((const struct sockaddr *)&in6, sizeof in6, address);
        return true;
    case AF_UNIX:
        address->is_unix = true;
        return true;
    default:
        return false;
    }
}

bool khp_net_address_unix(const char *path, struct sockaddr_un *out, socklen_t *size,
                          struct khp_net_error *error) {
    size_t n = strlen(path);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (n == 0 || n >= sizeof out->sun_path) {
        khp_net_error_set(error, KHP_NET_E_CONNECT, n == 0 ? EINVAL : ENAMETOOLONG,
                          "the path of a unix socket has 1 to %zu bytes, not %zu",
                          sizeof out->sun_path - 1, n);
        return false;
    }
    memcpy(out->sun_path, path, n);
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    if (path[0] == '@') {
        out->sun_path[0] = '\0';
        --*size; /* every byte of an abstract name counts */
    }
    return true;
}

/*
 * Name resolution that answers what a test wants: names that end in ".test" have the addresses
 * given to names_set(), "slow.test" is looked up until names_go(). This getaddrinfo() stands before
 * the system's, also for libuv, and passes everything else on.
 */
#ifndef KHP_SPEC_NET_NAMES_H
#define KHP_SPEC_NET_NAMES_H

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 20 };

static const char *names_addresses[NAMES_MAX];
static int names_error; /* EAI_* instead of addresses; 0: none */
static sem_t names_slow;
static atomic_int names_waiting;  /* lookups of slow.test begun */
static atomic_int names_answered; /* other lookups */

/* For whatever name.test: these addresses, up to a NULL. */
static inline void names_set(int error, const char *first, ...) {
    va_list more;
    int n = 0;
    names_error = error;
    va_start(more, first);
    for (const char *a = first; a != NULL && n < NAMES_MAX - 1; a = va_arg(more, const char *))
        names_addresses[n++] = a;
    names_addresses[n] = NULL;
    va_end(more);
}

static inline void names_go(void) {
    (void)sem_post(&names_slow);
}

/* One block, as freeaddrinfo() of the C libraries that we know frees it. */
static inline struct addrinfo *names_entry(const char *address, int port) {
    struct addrinfo *entry = calloc(1, sizeof *entry + sizeof(struct sockaddr_in6));
    if (entry == NULL)
        abort();
    entry->ai_socktype = SOCK_STREAM;
    entry->ai_addr = (struct sockaddr *)(void *)(entry + 1);
    struct sockaddr_in *in = (void *)(entry + 1);
    struct sockaddr_in6 *in6 = (void *)(entry + 1);
    if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
        entry->ai_family = in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        entry->ai_addrlen = sizeof *in;
    } else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
        entry->ai_family = in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        entry->ai_addrlen = sizeof *in6;
    } else {
        abort();
    }
    return entry;
}

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **list) {
    typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    union {
        void *found;
        resolver *call;
    } next = {.found = dlsym(RTLD_NEXT, "getaddrinfo")};
    size_t n = name != NULL ? strlen(name) : 0;

    if (n < 5 || strcmp(name + n - 5, ".test") != 0 || (hints->ai_flags & AI_NUMERICHOST) != 0)
        return next.call(name, service, hints, list);
    if (strcmp(name, "slow.test") == 0) {
        names_waiting++;
        (void)sem_wait(&names_slow);
    } else {
        names_answered++;
    }
    if (names_error != 0)
        return names_error;
    for (int i = 0; names_addresses[i] != NULL; i++) {
        *list = names_entry(names_addresses[i], atoi(service));
        list = &(*list)->ai_next;
    }
    return 0;
}

#endif

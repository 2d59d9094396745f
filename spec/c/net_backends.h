/*
 * Runs a test on both backends: BOTH(test) in the table of tests. Counts the system calls that
 * matter.
 */
#ifndef KHP_SPEC_NET_BACKENDS_H
#define KHP_SPEC_NET_BACKENDS_H

#include "net_peer.h"

#include <stdlib.h>

static char on_uv[] = "uv", on_poll[] = "poll";
static const char *backend;

static bool
    test_is_over; /* a failed test leaves streams behind, but their owners were on its stack */

static inline int set_up_backend(void **state) {
    test_is_over = false;
    backend = *state;
    assert_int_equal(setenv("KHP_BACKEND", backend, 1), 0);
    return set_up(state);
}

static inline int tear_down_backend(void **state) {
    test_is_over = true;
    return tear_down(state);
}

#define BOTH(test)                                                                                 \
    {"uv: " #test, test, set_up_backend, tear_down_backend, on_uv}, {                              \
        "poll: " #test, test, set_up_backend, tear_down_backend, on_poll                           \
    }

/* libuv and OpenSSL keep a few descriptors from their first use on. */
static inline int set_up_once(void **state) {
    (void)state;
    khp_net_loop_free(new_loop());
    return 0;
}

static inline bool is_poll(void) {
    return khp_net_loop_backend(loop) == KHP_NET_BACKEND_POLL;
}

/* Memory checkers keep what was freed. */
static inline bool memory_is_measured(void) {
#ifdef __SANITIZE_ADDRESS__
    return false;
#else
    const char *preload = getenv("LD_PRELOAD");
    return preload == NULL || strstr(preload, "vgpreload") == NULL;
#endif
}

/* Kilobytes of this process in memory. */
static inline long resident(void) {
    long pages = 0, all = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &pages), 2);
    (void)fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Seconds of processor time that this process has used. */
static inline double cpu_time(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#endif

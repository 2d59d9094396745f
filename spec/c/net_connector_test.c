/*
 * Connecting over real sockets: kinds of addresses, several at a time, refusals, time, giving up.
 */
#include "net_names.h"
#include "net_peer.h"

#include <fcntl.h>
#include <sys/resource.h>

/* ---- what is connected to, in order ---- */

static char connected[1024];

/* Under this name because headers may declare connect() with a union for the address. */
int noting_connect(int fd, const void *address, socklen_t size) __asm__("connect");

__attribute__((visibility("default"))) int noting_connect(int fd, const void *address,
                                                          socklen_t size) {
    union {
        void *found;
        int (*call)(int, const void *, socklen_t);
    } next = {.found = dlsym(RTLD_NEXT, "connect")};
    struct sockaddr_in6 a = {0};
    char text[INET6_ADDRSTRLEN] = "unix";
    memcpy(&a, address, size < sizeof a ? size : sizeof a);
    if (a.sin6_family == AF_INET)
        (void)inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)&a)->sin_addr, text, sizeof text);
    else if (a.sin6_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text);
    size_t n = strlen(connected);
    (void)snprintf(connected + n, sizeof connected - n, "%s ", text);
    return next.call(fd, address, size);
}

static int set_up_connect(void **state) {
    connected[0] = '\0';
    names_waiting = 0;
    return set_up(state);
}

/* ---- both ends in one loop ---- */

static void connect_with(struct peer *p, const struct khp_net_connect_options *o) {
    *p = (struct peer){0};
    p->stream = khp_net_connect(loop, o, &peer_handler, p);
    assert_non_null(p->stream);
    /* Nothing is told before it has returned. */
    assert_int_equal(p->opens + p->ends, 0);
}

static void assert_fails(const struct khp_net_connect_options *o, enum khp_net_code code, int sys,
                         const char *text) {
    struct peer p;
    connect_with(&p, o);
    UNTIL(p.ends == 1);
    assert_int_equal(p.opens, 0);
    assert_string_equal(p.why.text, text);
    assert_int_equal(p.why.code, code);
    assert_int_equal(p.why.sys, sys);
    settle();
    assert_int_equal(p.ends, 1);
}

static void assert_talks(const struct khp_net_connect_options *o, struct host *h) {
    struct peer p;
    connect_with(&p, o);
    UNTIL(p.opens == 1 && h->count == 1 && h->peers[0].opens == 1);
    h->peers[0].echo = true;
    assert_true(khp_net_stream_write(p.stream, "hello", 5));
    UNTIL(p.size == 5);
    assert_memory_equal(p.bytes, "hello", 5);
    khp_net_stream_shutdown(p.stream, 1000);
    UNTIL(h->peers[0].ends == 1);
    UNTIL(p.ends == 1);
    assert_int_equal(p.why.code, KHP_NET_E_LOCAL);
    assert_int_equal(p.opens, 1);
}

static void connects_to_addresses_and_names(void **state) {
    static const char *const cases[][2] = {
        {"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"127.0.0.1", "localhost"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        HOST(h, 1);
        listen_with(&h, &(struct khp_net_listener_options){.host = cases[i][0], .fd = -1});
        assert_talks(&(struct khp_net_connect_options){.host = cases[i][1], .port = port_of(&h)},
                     &h);
        khp_net_listener_close(h.listener);
    }
}

static void connects_to_unix_sockets(void **state) {
    char path[64];
    (void)state;
    for (int i = 0; i < 2; i++) {
        HOST(h, 1);
        (void)snprintf(path, sizeof path, "%s-%d", i == 0 ? "/tmp/khp-spec" : "@khp-spec",
                       (int)getpid());
        listen_with(&h, &(struct khp_net_listener_options){.unix_path = path, .fd = -1});
        assert_talks(&(struct khp_net_connect_options){.unix_path = path}, &h);
        khp_net_listener_close(h.listener);
    }
}

static void copies_its_strings(void **state) {
    char host[] = "127.0.0.1";
    struct peer p;
    HOST(h, 1);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = host, .fd = -1});
    connect_with(&p, &(struct khp_net_connect_options){.host = host, .port = port_of(&h)});
    memset(host, 'x', sizeof host);
    UNTIL(p.opens == 1 && h.count == 1);
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1 && count_ends(&h) == 1);
    khp_net_listener_close(h.listener);
}

static void sends_what_is_written_before_it_is_open(void **state) {
    struct peer p;
    HOST(h, 1);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    connect_with(&p, &(struct khp_net_connect_options){.host = "127.0.0.1", .port = port_of(&h)});
    assert_true(khp_net_stream_write(p.stream, "early", 5));
    UNTIL(h.count == 1 && h.peers[0].size == 5);
    assert_memory_equal(h.peers[0].bytes, "early", 5);
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1 && count_ends(&h) == h.count);
    khp_net_listener_close(h.listener);
}

/* ---- refusals ---- */

static void says_why_it_cannot_connect(void **state) {
    int port = dead_port();
    (void)state;
    assert_fails(&(struct khp_net_connect_options){.host = "127.0.0.1", .port = port},
                 KHP_NET_E_CONNECT, ECONNREFUSED, "Connection refused");
    assert_fails(&(struct khp_net_connect_options){.host = "::1", .port = port}, KHP_NET_E_CONNECT,
                 ECONNREFUSED, "Connection refused");
    assert_fails(&(struct khp_net_connect_options){.unix_path = "/tmp/khp-spec-nobody"},
                 KHP_NET_E_CONNECT, ENOENT, "No such file or directory");
    assert_fails(&(struct khp_net_connect_options){.unix_path = "@khp-spec-nobody"},
                 KHP_NET_E_CONNECT, ECONNREFUSED, "Connection refused");
    assert_fails(&(struct khp_net_connect_options){.host = "127.0.0.1", .port = 65536},
                 KHP_NET_E_CONNECT, EINVAL, "no address for 127.0.0.1, port 65536");
    assert_fails(&(struct khp_net_connect_options){.port = 80}, KHP_NET_E_CONNECT, EINVAL,
                 "no address for (no host), port 80");
    assert_fails(&(struct khp_net_connect_options){.unix_path = ""}, KHP_NET_E_CONNECT, EINVAL,
                 "the path of a unix socket has 1 to 107 bytes, not 0");
}

static void says_why_it_cannot_find_an_address(void **state) {
    (void)state;
    names_set(EAI_NONAME, NULL);
    assert_fails(&(struct khp_net_connect_options){.host = "no.such.test", .port = 80},
                 KHP_NET_E_CONNECT, 0, "no address for no.such.test: name or service not known");
    names_set(EAI_AGAIN, NULL);
    assert_fails(&(struct khp_net_connect_options){.host = "no.such.test", .port = 80},
                 KHP_NET_E_CONNECT, 0, "no address for no.such.test: temporary failure");
    char host[400];
    memset(host, 'a', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    struct peer p;
    connect_with(&p, &(struct khp_net_connect_options){.host = host, .port = 80});
    UNTIL(p.ends == 1);
    assert_int_equal(p.why.code, KHP_NET_E_CONNECT);
}

static void says_that_descriptors_have_run_out(void **state) {
    struct rlimit files;
    struct peer p;
    int port = dead_port();
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    int lowest = dup(0);
    (void)close(lowest);
    struct rlimit few = {.rlim_cur = (rlim_t)lowest, .rlim_max = files.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    connect_with(&p, &(struct khp_net_connect_options){.host = "127.0.0.1", .port = port});
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    UNTIL(p.ends == 1);
    assert_string_equal(p.why.text, "Too many open files");
    assert_int_equal(p.why.code, KHP_NET_E_LIMIT);
}

/* ---- several addresses ---- */

static void tries_the_next_address_after_a_refusal(void **state) {
    HOST(h, 1);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    names_set(0, "::1", "127.0.0.1", NULL);
    double begin = seconds_now();
    assert_talks(&(struct khp_net_connect_options){.host = "two.test",
                                                   .port = port_of(&h),
                                                   .attempt_ms = 5000},
                 &h);
    assert_true(seconds_now() - begin < 2); /* at once, not after attempt_ms */
    assert_string_equal(connected, "::1 127.0.0.1 ");
    khp_net_listener_close(h.listener);
}

static void says_how_many_addresses_it_tried(void **state) {
    (void)state;
    names_set(0, "127.0.0.1", "127.0.0.2", NULL);
    assert_fails(&(struct khp_net_connect_options){.host = "two.test", .port = dead_port()},
                 KHP_NET_E_CONNECT, ECONNREFUSED, "Connection refused (2 addresses tried)");
}

static void takes_the_families_in_turn(void **state) {
    int port = dead_port();
    struct peer p;
    (void)state;
    names_set(0, "127.0.0.1", "127.0.0.2", "127.0.0.3", "::1", "::1", NULL);
    connect_with(&p, &(struct khp_net_connect_options){.host = "many.test", .port = port});
    UNTIL(p.ends == 1);
    assert_string_equal(connected, "127.0.0.1 ::1 127.0.0.2 ::1 127.0.0.3 ");
    assert_string_equal(p.why.text, "Connection refused (5 addresses tried)");

    connected[0] = '\0';
    names_set(0, "::1", "127.0.0.1", "127.0.0.2", NULL);
    connect_with(&p, &(struct khp_net_connect_options){.host = "many.test", .port = port});
    UNTIL(p.ends == 1);
    assert_string_equal(connected, "::1 127.0.0.1 127.0.0.2 ");

    names_set(0, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6",
              "127.0.0.7", "127.0.0.8", "127.0.0.9", "127.0.0.10", "127.0.0.11", "127.0.0.12",
              "127.0.0.13", "127.0.0.14", "127.0.0.15", "127.0.0.16", "127.0.0.17", NULL);
    connect_with(&p, &(struct khp_net_connect_options){.host = "many.test", .port = port});
    UNTIL(p.ends == 1);
    assert_string_equal(p.why.text, "Connection refused (16 addresses tried)");
}

/* ---- addresses that do not answer ---- */

/* A full backlog: the system drops what else would connect. */
struct hole {
    int listener, filler;
};

static struct hole dig(const char *host, int *port) {
    struct hole hole = {.listener = plain_listen(host, port, 0)};
    hole.filler = dial(host, *port);
    return hole;
}

static void bury(struct hole hole) {
    (void)close(hole.filler);
    (void)close(hole.listener);
}

static void does_not_wait_for_an_address_that_is_silent(void **state) {
    int port = 0;
    HOST(h, 1);
    (void)state;
    struct hole hole = dig("127.0.0.2", &port);
    listen_with(&h,
                &(struct khp_net_listener_options){.host = "127.0.0.1", .port = port, .fd = -1});
    names_set(0, "127.0.0.2", "127.0.0.1", NULL);
    connected[0] = '\0';
    struct peer p;
    double begin = seconds_now();
    connect_with(
        &p, &(struct khp_net_connect_options){.host = "two.test", .port = port, .attempt_ms = 100});
    int descriptors = count_descriptors();
    UNTIL(p.opens == 1 && count_opens(&h) == 1);
    assert_true(seconds_now() - begin >= 0.095 && seconds_now() - begin < 2);
    assert_string_equal(connected, "127.0.0.2 127.0.0.1 ");
    /* The loser is closed: one of ours and one accepted are what is new. */
    assert_int_equal(count_descriptors(), descriptors + 2);
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1 && count_ends(&h) == 1);
    khp_net_listener_close(h.listener);
    bury(hole);
}

static void lets_a_slow_first_address_win(void **state) {
    int port = 0;
    char byte;
    struct peer p;
    (void)state;
    struct hole hole = dig("127.0.0.1", &port);
    struct hole other = dig("127.0.0.2", &port);
    names_set(0, "127.0.0.1", "127.0.0.2", NULL);
    connected[0] = '\0';
    connect_with(
        &p, &(struct khp_net_connect_options){.host = "two.test", .port = port, .attempt_ms = 20});
    while (strcmp(connected, "127.0.0.1 127.0.0.2 ") != 0)
        assert_true(khp_net_loop_step(loop, 1));
    /* There is room at the first now: its SYN is sent again after a second. */
    int filler = accept(hole.listener, NULL, NULL);
    UNTIL(p.opens == 1);
    int end = accept(hole.listener, NULL, NULL);
    assert_true(khp_net_stream_write(p.stream, "x", 1));
    khp_net_stream_flush(p.stream);
    assert_int_equal(recv(end, &byte, 1, 0), 1);
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1);
    (void)close(filler);
    (void)close(end);
    bury(hole);
    bury(other);
}

static void times_out(void **state) {
    int port = 0;
    (void)state;
    struct hole hole = dig("127.0.0.1", &port);
    double begin = seconds_now();
    assert_fails(
        &(struct khp_net_connect_options){.host = "127.0.0.1", .port = port, .timeout_ms = 300},
        KHP_NET_E_TIMEOUT, ETIMEDOUT, "connect timed out after 0.3 s");
    assert_true(seconds_now() - begin >= 0.295 && seconds_now() - begin < 2);
    /* A refusal elsewhere does not end the wait for an address that may yet answer. */
    names_set(0, "127.0.0.1", "127.0.0.3", NULL);
    assert_fails(
        &(struct khp_net_connect_options){
            .host = "two.test", .port = port, .timeout_ms = 200, .attempt_ms = 20},
        KHP_NET_E_TIMEOUT, ETIMEDOUT, "connect timed out after 0.2 s");
    bury(hole);
}

static void does_not_count_the_time_before_the_call(void **state) {
    struct timespec pause = {.tv_nsec = 150000000};
    HOST(h, 1);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    settle();
    /* A program that computes; there is nothing to await. */
    (void)nanosleep(&pause, NULL);
    assert_talks(&(struct khp_net_connect_options){.host = "127.0.0.1",
                                                   .port = port_of(&h),
                                                   .timeout_ms = 100},
                 &h);
    khp_net_listener_close(h.listener);
}

static void tries_a_full_unix_socket_again(void **state) {
    char path[64];
    struct peer p;
    (void)state;
    (void)snprintf(path, sizeof path, "@khp-spec-full-%d", (int)getpid());
    int listener = plain_listen(path, NULL, 0);
    int filler = dial(path, 0);
    connect_with(&p, &(struct khp_net_connect_options){.unix_path = path});
    settle();
    assert_int_equal(p.opens + p.ends, 0);
    int accepted = accept(listener, NULL, NULL);
    UNTIL(p.opens == 1);
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1);
    (void)close(accepted);
    /* What was aborted still waits to be accepted, so there is no room. */
    assert_fails(&(struct khp_net_connect_options){.unix_path = path, .timeout_ms = 60},
                 KHP_NET_E_TIMEOUT, ETIMEDOUT, "connect timed out after 0.06 s");
    (void)close(filler);
    (void)close(listener);
}

static void times_out_when_a_name_is_slow(void **state) {
    (void)state;
    assert_fails(
        &(struct khp_net_connect_options){.host = "slow.test", .port = 80, .timeout_ms = 50},
        KHP_NET_E_TIMEOUT, ETIMEDOUT, "connect timed out after 0.05 s, looking up slow.test");
    names_go();
}

/* ---- giving up ---- */

static void can_be_aborted_at_any_time(void **state) {
    int port = 0;
    struct peer p;
    (void)state;
    struct hole hole = dig("127.0.0.1", &port);
    names_set(0, "127.0.0.1", "127.0.0.2", NULL);
    const struct khp_net_connect_options cases[] = {
        {.host = "127.0.0.1", .port = port},                    /* connecting */
        {.host = "two.test", .port = port},                     /* looking up, perhaps */
        {.host = "two.test", .port = port, .attempt_ms = 10000} /* another address waits */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int turns = 0; turns < 3; turns++) {
            connect_with(&p, &cases[i]);
            for (int n = 0; n < turns; n++)
                (void)khp_net_loop_step(loop, 0.01);
            if (p.ends == 0) {
                khp_net_stream_abort(p.stream);
                assert_int_equal(p.ends, 0);
            }
            UNTIL(p.ends == 1);
            settle();
            assert_int_equal(p.opens, 0);
            assert_int_equal(p.why.code, KHP_NET_E_LOCAL);
        }
    connect_with(&p, &(struct khp_net_connect_options){.host = "slow.test", .port = 80});
    while (!names_waiting)
        (void)khp_net_loop_step(loop, 0.01);
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1);
    names_go();
    bury(hole);
}

/* libuv has four threads for lookups: what waits for one need not be looked up once it is given up.
 */
static void cancels_a_lookup_that_has_not_begun(void **state) {
    enum { THREADS = 2 };
    struct peer slow[THREADS], p;
    (void)state;
    names_set(0, "127.0.0.1", NULL);
    for (int i = 0; i < THREADS; i++)
        connect_with(&slow[i], &(struct khp_net_connect_options){.host = "slow.test", .port = 80});
    while (names_waiting < THREADS)
        (void)khp_net_loop_step(loop, 0.01);
    names_answered = 0;
    connect_with(&p, &(struct khp_net_connect_options){.host = "one.test", .port = 80});
    khp_net_stream_abort(p.stream);
    UNTIL(p.ends == 1);
    for (int i = 0; i < THREADS; i++)
        names_go();
    khp_net_loop_free(loop);
    assert_int_equal(names_answered, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(slow[i].ends, 1);
    loop = new_loop();
}

static void ends_with_its_loop(void **state) {
    int port = 0;
    struct peer connecting, looking, queued;
    (void)state;
    struct hole hole = dig("127.0.0.1", &port);
    connect_with(&connecting, &(struct khp_net_connect_options){.host = "127.0.0.1", .port = port});
    connect_with(&looking, &(struct khp_net_connect_options){.host = "slow.test", .port = 80});
    connect_with(&queued, &(struct khp_net_connect_options){.unix_path = "/tmp/khp-spec-nobody"});
    while (!names_waiting)
        (void)khp_net_loop_step(loop, 0.01);
    names_go();
    khp_net_loop_free(loop);
    assert_int_equal(connecting.ends, 1);
    assert_string_equal(connecting.why.text, "loop closed");
    assert_int_equal(looking.ends, 1);
    assert_int_equal(queued.ends, 1);
    bury(hole);
    loop = new_loop();
}

/* Both ends of each in one loop; some are aborted here, some there. Each has one end. */
static void ends_each_of_many_once(void **state) {
    enum { MANY = 500 };
    static struct peer clients[MANY], servers[MANY];
    struct host h = {.peers = servers, .room = MANY};
    unsigned ended = 0;
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    for (int i = 0; i < MANY; i++)
        connect_with(&clients[i],
                     &(struct khp_net_connect_options){.host = "127.0.0.1", .port = port_of(&h)});
    UNTIL(count_opens(&h) == MANY);
    for (int i = 0; i < MANY; i++) {
        if (i % 3 == 0)
            khp_net_stream_abort(clients[i].stream);
        else if (i % 3 == 1)
            khp_net_stream_shutdown(clients[i].stream, 5000);
        else if (servers[i].stream != NULL)
            khp_net_stream_abort(servers[i].stream);
    }
    settle();
    for (int i = 0; i < MANY; i++)
        if (servers[i].stream != NULL)
            khp_net_stream_shutdown(servers[i].stream, 5000);
    UNTIL(count_ends(&h) == MANY);
    for (int i = 0; i < MANY; i++)
        if (clients[i].stream != NULL)
            khp_net_stream_abort(clients[i].stream);
    settle();
    for (int i = 0; i < MANY; i++)
        ended += clients[i].ends;
    assert_int_equal(ended, MANY);
    khp_net_listener_close(h.listener);
}

#define CONNECT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_connect, tear_down)

int main(void) {
    (void)setenv("UV_THREADPOOL_SIZE", "4", 1);
    const struct CMUnitTest tests[] = {
        CONNECT_TEST(connects_to_addresses_and_names),
        CONNECT_TEST(connects_to_unix_sockets),
        CONNECT_TEST(copies_its_strings),
        CONNECT_TEST(sends_what_is_written_before_it_is_open),
        CONNECT_TEST(says_why_it_cannot_connect),
        CONNECT_TEST(says_why_it_cannot_find_an_address),
        CONNECT_TEST(says_that_descriptors_have_run_out),
        CONNECT_TEST(tries_the_next_address_after_a_refusal),
        CONNECT_TEST(says_how_many_addresses_it_tried),
        CONNECT_TEST(takes_the_families_in_turn),
        CONNECT_TEST(does_not_wait_for_an_address_that_is_silent),
        CONNECT_TEST(lets_a_slow_first_address_win),
        CONNECT_TEST(times_out),
        CONNECT_TEST(does_not_count_the_time_before_the_call),
        CONNECT_TEST(tries_a_full_unix_socket_again),
        CONNECT_TEST(times_out_when_a_name_is_slow),
        CONNECT_TEST(can_be_aborted_at_any_time),
        CONNECT_TEST(cancels_a_lookup_that_has_not_begun),
        CONNECT_TEST(ends_with_its_loop),
        CONNECT_TEST(ends_each_of_many_once),
    };
    (void)alarm(120 * patience());
    (void)sem_init(&names_slow, 0, 0);
    khp_net_loop_free(new_loop()); /* what the first one keeps for the process is not a leak */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The loop: steps and their timing, timers, waking, hosts that drive it from their own loop, its
 * end.
 */
#include "net_backends.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "net/internal.h"

/* ---- a system without the plugin ---- */

static bool no_plugin;

/* libwebsockets looks for its plugins in a folder. */
__attribute__((visibility("default"))) int
scandir(const char *dir, struct dirent ***namelist, int (*selector)(const struct dirent *),
        int (*cmp)(const struct dirent **, const struct dirent **)) {
    typedef int scanner(const char *, struct dirent ***, int (*)(const struct dirent *),
                        int (*)(const struct dirent **, const struct dirent **));
    union {
        void *found;
        scanner *call;
    } next = {.found = dlsym(RTLD_NEXT, "scandir")};
    if (!no_plugin)
        return next.call(dir, namelist, selector, cmp);
    errno = ENOENT;
    return -1;
}

/* ---- steps ---- */

/* The clock of the loop counts whole milliseconds: a wait may be one shorter than it was asked to
 * be. */
static double timed_step(double seconds) {
    double begin = seconds_now();
    assert_true(khp_net_loop_step(loop, seconds));
    return seconds_now() - begin;
}

static void a_step_of_zero_never_blocks(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++)
        assert_true(timed_step(0) < 0.5);
}

static void a_step_waits_for_as_long_as_it_may(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        double took = timed_step(0.02);
        assert_true(took >= 0.0185 && took < 1);
    }
    double cpu = cpu_time();
    assert_true(timed_step(0.3) >= 0.2985);
    assert_true(cpu_time() - cpu < 0.1);
}

static void a_step_shorter_than_a_millisecond_waits_a_little(void **state) {
    (void)state;
    settle();
    assert_true(timed_step(0.0001) < 0.5);
}

struct noted {
    struct khp_net_timer timer;
    unsigned fired;
    uint64_t at;
    void (*also)(struct noted *);
};

static void note(struct khp_net_timer *timer) {
    struct noted *n = (struct noted *)timer;
    n->fired++;
    n->at = khp_net_loop_now(loop);
    assert_false(timer->running);
    assert_true(khp_net_loop_entered(loop));
    if (n->also != NULL)
        n->also(n);
}

static void a_step_ends_with_the_first_event(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note};
    for (unsigned i = 1; i <= 2; i++) {
        double begin = seconds_now();
        khp_net_timer_start(loop, &n.timer, 30);
        assert_true(khp_net_loop_step(loop, i == 1 ? -1 : 10));
        assert_int_equal(n.fired, i);
        double took = seconds_now() - begin;
        assert_true(took >= 0.0285 && took < 5);
    }
    assert_false(khp_net_loop_entered(loop));
}

static void a_step_ends_with_a_timer_that_was_due_before(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note};
    for (unsigned i = 1; i <= 3; i++) {
        settle();
        khp_net_timer_start(loop, &n.timer, 1);
        (void)poll(NULL, 0, 5);
        assert_true(timed_step(i == 1 ? -1 : 10) < 5);
        assert_int_equal(n.fired, i);
    }
}

static void try_to_step(struct noted *n) {
    (void)n;
    assert_false(khp_net_loop_step(loop, 0));
    assert_false(khp_net_loop_step(loop, -1));
}

static void a_step_inside_a_callback_is_refused(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note, .also = try_to_step};
    khp_net_timer_start(loop, &n.timer, 0);
    UNTIL(n.fired == 1);
}

static struct khp_net_loop *second_loop;

static void step_the_other(struct noted *n) {
    (void)n;
    assert_true(khp_net_loop_step(second_loop, 0));
}

static void another_loop_may_be_stepped_inside_a_callback(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note, .also = step_the_other};
    second_loop = new_loop();
    khp_net_timer_start(loop, &n.timer, 0);
    UNTIL(n.fired == 1);
    khp_net_loop_free(second_loop);
}

static void the_clock_is_read_by_every_step(void **state) {
    (void)state;
    assert_true(khp_net_loop_step(loop, 0));
    uint64_t before = khp_net_loop_now(loop);
    (void)poll(NULL, 0, 20);
    assert_int_equal(khp_net_loop_now(loop), before);
    assert_true(khp_net_loop_step(loop, 0));
    assert_true(khp_net_loop_now(loop) >= before + 19);
}

/* ---- waking ---- */

static void *wake_later(void *pipe_end) {
    char c;
    (void)!read(*(int *)pipe_end, &c, 1);
    (void)poll(NULL, 0, 20);
    khp_net_loop_wake(loop);
    return NULL;
}

static void another_thread_wakes_a_step(void **state) {
    (void)state;
    int ends[2];
    pthread_t thread;
    settle();
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pthread_create(&thread, NULL, wake_later, &ends[0]), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    double took = timed_step(-1);
    assert_true(took < 5);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void wake_on_signal(int number) {
    (void)number;
    khp_net_loop_wake(loop);
}

static void a_signal_handler_wakes_a_step(void **state) {
    (void)state;
    struct sigaction before, action = {.sa_handler = wake_on_signal};
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    settle();
    (void)ualarm(20000, 0);
    assert_true(timed_step(-1) < 5);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
}

static void waking_before_a_step_is_not_lost(void **state) {
    (void)state;
    settle();
    khp_net_loop_wake(loop);
    khp_net_loop_wake(loop);
    assert_true(timed_step(10) < 5);
    assert_true(timed_step(0.02) >= 0.0185); /* both at once */
}

/* ---- timers ---- */

static uint64_t last_due;
static unsigned fired_in_order;

static void in_order(struct khp_net_timer *timer) {
    assert_true(timer->due >= last_due);
    assert_true(timer->due <= khp_net_loop_now(loop));
    last_due = timer->due;
    fired_in_order++;
}

static void ten_thousand_timers_fire_in_order(void **state) {
    (void)state;
    enum { MANY = 10000 };
    static struct khp_net_timer timers[MANY];
    unsigned running = 0;
    last_due = fired_in_order = 0;
    srandom(1);
    for (int i = 0; i < MANY; i++) {
        timers[i].fire = in_order;
        khp_net_timer_start(loop, &timers[i], (uint64_t)random() % 200);
    }
    for (int i = 0; i < MANY; i += 3) /* moved */
        khp_net_timer_start(loop, &timers[i], (uint64_t)random() % 300);
    for (int i = 0; i < MANY; i += 7)
        khp_net_timer_stop(loop, &timers[i]);
    for (int i = 0; i < MANY; i++)
        running += timers[i].running;
    assert_int_equal(running, MANY - (MANY + 6) / 7);
    UNTIL(fired_in_order == running);
    for (int i = 0; i < MANY; i++)
        assert_false(timers[i].running);
    assert_true(timed_step(0.01) >= 0.0085);
    assert_int_equal(fired_in_order, running);
}

static struct noted other;

static void start_again(struct noted *n) {
    if (n->fired < 5)
        khp_net_timer_start(loop, &n->timer, 2);
}

static void a_timer_may_start_itself_again(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note, .also = start_again};
    double begin = seconds_now();
    khp_net_timer_start(loop, &n.timer, 2);
    UNTIL(n.fired == 5);
    assert_true(seconds_now() - begin >= 0.0085);
}

static void start_at_once(struct noted *n) {
    khp_net_timer_start(loop, &n->timer, 0);
}

static void a_timer_of_zero_that_starts_itself_lets_the_loop_go_on(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note, .also = start_at_once};
    khp_net_timer_start(loop, &n.timer, 0);
    for (int i = 0; i < 5; i++)
        assert_true(timed_step(0.1) < 5);
    assert_true(n.fired >= 2 && n.fired <= 1000);
    khp_net_timer_stop(loop, &n.timer);
}

static void stop_the_other(struct noted *n) {
    (void)n;
    khp_net_timer_stop(loop, &other.timer);
}

static void a_timer_may_stop_one_that_is_due_as_well(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note, .also = stop_the_other};
    other = (struct noted){.timer.fire = note};
    khp_net_timer_start(loop, &n.timer, 1);
    khp_net_timer_start(loop, &other.timer, 2);
    (void)poll(NULL, 0, 10);
    UNTIL(n.fired == 1);
    assert_true(timed_step(0.02) >= 0.0185);
    assert_int_equal(other.fired, 0);
}

static void starting_a_running_timer_moves_it(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note};
    khp_net_timer_start(loop, &n.timer, 5);
    khp_net_timer_start(loop, &n.timer, 60);
    uint64_t begin = khp_net_loop_now(loop);
    UNTIL(n.fired == 1);
    assert_true(n.at >= begin + 60);
    khp_net_timer_start(loop, &n.timer, 10000);
    khp_net_timer_start(loop, &n.timer, 5);
    UNTIL(n.fired == 2);
    khp_net_timer_stop(loop, &n.timer);
    khp_net_timer_stop(loop, &n.timer);
}

/* A host may have been busy elsewhere since the last step. */
static void a_timer_counts_from_its_start(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note};
    settle();
    (void)poll(NULL, 0, 60);
    double begin = seconds_now();
    khp_net_timer_start(loop, &n.timer, 40);
    UNTIL(n.fired == 1);
    assert_true(seconds_now() - begin >= 0.0385);
}

static void a_timer_too_far_away_never_fires(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note};
    khp_net_timer_start(loop, &n.timer, UINT64_MAX);
    assert_int_equal(n.timer.due, UINT64_MAX);
    assert_true(timed_step(0.02) >= 0.0185);
    assert_int_equal(n.fired, 0);
    khp_net_timer_stop(loop, &n.timer);
}

static void freeing_stops_timers_without_firing(void **state) {
    (void)state;
    struct noted n = {.timer.fire = note};
    khp_net_timer_start(loop, &n.timer, 0);
    khp_net_loop_free(loop);
    assert_int_equal(n.fired, 0);
    assert_false(n.timer.running);
    loop = new_loop();
}

/* ---- hosts ---- */

static void a_host_drives_it_with_descriptor_and_timeout(void **state) {
    (void)state;
    if (is_poll()) {
        assert_int_equal(khp_net_loop_fd(loop), -1);
        return;
    }
    struct pollfd p = {.fd = khp_net_loop_fd(loop), .events = POLLIN};
    struct noted n = {.timer.fire = note};
    static struct peer actor;
    actor = (struct peer){.echo = true};
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    actor.stream = khp_net_stream_new(loop);
    khp_net_stream_handle(actor.stream, &peer_handler, &actor);
    khp_net_stream_attach(actor.stream, pair[0], NULL, false, NULL, 0);
    assert_true(khp_net_loop_timeout(loop) == 0); /* the open event is due */
    khp_net_timer_start(loop, &n.timer, 50);

    unsigned turns = 0, answered = 0;
    char byte = 'x';
    double begin = seconds_now();
    assert_int_equal(send(pair[1], &byte, 1, 0), 1);
    while (n.fired == 0 || answered < 3) {
        double timeout = khp_net_loop_timeout(loop);
        assert_true(timeout <= 0.06 || n.fired > 0);
        (void)poll(&p, 1, timeout < 0 ? -1 : (int)(timeout * 1000 + 0.999));
        assert_true(khp_net_loop_step(loop, 0));
        assert_true(++turns < 1000);
        if (recv(pair[1], &byte, 1, MSG_DONTWAIT) == 1 && ++answered < 3)
            assert_int_equal(send(pair[1], &byte, 1, 0), 1);
    }
    assert_true(seconds_now() - begin >= 0.0485);
    assert_true(turns < 30);

    /* What is queued outside of callbacks is work, too. */
    settle();
    assert_true(khp_net_stream_write(actor.stream, "y", 1));
    assert_true(khp_net_loop_timeout(loop) == 0);
    assert_true(khp_net_loop_step(loop, 0));
    assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), 1);
    (void)close(pair[1]);
    UNTIL(actor.ends == 1);
}

static void the_disposition_of_sigpipe_stays_the_hosts(void **state) {
    (void)state;
    struct sigaction before, now, mine = {.sa_handler = wake_on_signal};
    assert_int_equal(sigaction(SIGPIPE, &mine, &before), 0);
    struct khp_net_loop *made = new_loop();
    khp_net_loop_free(made);
    assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
    assert_true(now.sa_handler == wake_on_signal);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
}

static void the_environment_chooses_the_backend_of_auto_only(void **state) {
    (void)state;
    struct khp_net_error e;
    static const enum khp_net_backend asked[] = {KHP_NET_BACKEND_UV, KHP_NET_BACKEND_POLL};
    assert_int_equal(khp_net_loop_backend(loop),
                     strcmp(backend, "uv") == 0 ? KHP_NET_BACKEND_UV : KHP_NET_BACKEND_POLL);
    for (int i = 0; i < 2; i++) {
        struct khp_net_loop_options o = {.backend = asked[i]};
        struct khp_net_loop *made = khp_net_loop_new(&o, &e);
        assert_non_null(made);
        assert_int_equal(khp_net_loop_backend(made), asked[i]);
        khp_net_loop_free(made);
    }
}

static void without_the_plugin_it_polls_and_says_so(void **state) {
    (void)state;
    struct khp_net_error e = {0};
    struct khp_net_loop_options o = {.log = on_log};
    assert_int_equal(unsetenv("KHP_BACKEND"), 0);
    no_plugin = true;
    struct khp_net_loop *made = khp_net_loop_new(&o, &e);
    assert_non_null(made);
    assert_int_equal(khp_net_loop_backend(made), KHP_NET_BACKEND_POLL);
    assert_int_equal(log_lines, 1);
    assert_non_null(strstr(last_log, "poll"));
    khp_net_loop_free(made);

    o.backend = KHP_NET_BACKEND_UV;
    assert_null(khp_net_loop_new(&o, &e));
    assert_int_equal(e.code, KHP_NET_E_SYSTEM);
    assert_non_null(strstr(e.text, "libuv"));
    no_plugin = false;
}

/* ---- the end ---- */

/* Loops with living connections come and go: neither memory nor descriptors stay behind. */
static void a_thousand_loops_leave_nothing_behind(void **state) {
    (void)state;
    enum { CYCLES = 1000, WARM = 200, STREAMS = 4 };
    long kilobytes = 0;
    int descriptors = count_descriptors();
    struct khp_net_loop *mine = loop;
    for (int i = 0; i < CYCLES; i++) {
        static struct peer actors[STREAMS];
        int ends[STREAMS];
        struct khp_net_timer timer = {.fire = in_order};
        memset(actors, 0, sizeof actors);
        if (i == WARM)
            kilobytes = resident();
        loop = new_loop();
        khp_net_timer_start(loop, &timer, 1000);
        for (int k = 0; k < STREAMS; k++) {
            int pair[2];
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
            ends[k] = pair[1];
            actors[k].echo = true;
            actors[k].stream = khp_net_stream_new(loop);
            khp_net_stream_handle(actors[k].stream, &peer_handler, &actors[k]);
            khp_net_stream_attach(actors[k].stream, pair[0], NULL, false, NULL, 0);
            assert_int_equal(send(pair[1], "hello", 5, 0), 5);
        }
        for (int k = 0; k < i % 4; k++)
            (void)khp_net_loop_step(loop, 0);
        if (i % 3 == 0)
            khp_net_stream_abort(actors[0].stream);
        khp_net_loop_free(loop);
        for (int k = 0; k < STREAMS; k++) {
            assert_int_equal(actors[k].ends, 1);
            assert_int_equal(actors[k].why.code, KHP_NET_E_LOCAL);
            (void)close(ends[k]);
        }
    }
    loop = mine;
    assert_int_equal(count_descriptors(), descriptors);
    if (memory_is_measured())
        assert_true(resident() - kilobytes < 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(a_step_of_zero_never_blocks),
        BOTH(a_step_waits_for_as_long_as_it_may),
        BOTH(a_step_shorter_than_a_millisecond_waits_a_little),
        BOTH(a_step_ends_with_the_first_event),
        BOTH(a_step_ends_with_a_timer_that_was_due_before),
        BOTH(a_step_inside_a_callback_is_refused),
        BOTH(another_loop_may_be_stepped_inside_a_callback),
        BOTH(the_clock_is_read_by_every_step),
        BOTH(another_thread_wakes_a_step),
        BOTH(a_signal_handler_wakes_a_step),
        BOTH(waking_before_a_step_is_not_lost),
        BOTH(ten_thousand_timers_fire_in_order),
        BOTH(a_timer_may_start_itself_again),
        BOTH(a_timer_of_zero_that_starts_itself_lets_the_loop_go_on),
        BOTH(a_timer_may_stop_one_that_is_due_as_well),
        BOTH(starting_a_running_timer_moves_it),
        BOTH(a_timer_counts_from_its_start),
        BOTH(a_timer_too_far_away_never_fires),
        BOTH(freeing_stops_timers_without_firing),
        BOTH(a_host_drives_it_with_descriptor_and_timeout),
        BOTH(the_disposition_of_sigpipe_stays_the_hosts),
        BOTH(the_environment_chooses_the_backend_of_auto_only),
        BOTH(without_the_plugin_it_polls_and_says_so),
        BOTH(a_thousand_loops_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("net loop", tests, set_up_once, NULL);
}

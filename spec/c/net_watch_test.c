/*
 * Watches of descriptors that others read: a pipe's readiness, its end, pauses, what cannot be
 * watched.
 */
#include "net_backends.h"

#include <fcntl.h>
#include <unistd.h>

#include "net/watch.h"

struct reader {
    struct khp_net_watch *watch;
    int fd;
    unsigned called;
    ssize_t got; /* by the last read, if it reads */
    bool reads;
};

static void ready(void *owner) {
    struct reader *reader = owner;
    char bytes[16];
    reader->called++;
    if (reader->reads)
        reader->got = read(reader->fd, bytes, sizeof bytes);
}

static void begin(struct reader *reader, int fd) {
    struct khp_net_error error;
    *reader = (struct reader){.fd = fd, .reads = true};
    reader->watch = khp_net_watch_new(loop, fd, ready, reader, &error);
    assert_non_null(reader->watch);
}

static void a_pipe_is_ready_with_bytes_and_at_its_end(void **state) {
    (void)state;
    int ends[2];
    struct reader reader;
    assert_int_equal(pipe(ends), 0);
    begin(&reader, ends[0]);
    khp_net_watch_resume(reader.watch);
    khp_net_loop_step(loop, 0);
    assert_int_equal(reader.called, 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    while (reader.called == 0)
        khp_net_loop_step(loop, 1);
    assert_int_equal(reader.got, 3);
    close(ends[1]);
    while (reader.called == 1)
        khp_net_loop_step(loop, 1);
    assert_int_equal(reader.got, 0);
    khp_net_watch_close(reader.watch);
    close(ends[0]);
}

static void a_watch_is_paused_until_resumed(void **state) {
    (void)state;
    int ends[2];
    struct reader reader;
    assert_int_equal(pipe(ends), 0);
    begin(&reader, ends[0]);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    khp_net_loop_step(loop, 0.02);
    assert_int_equal(reader.called, 0);
    khp_net_watch_resume(reader.watch);
    khp_net_watch_resume(reader.watch);
    while (reader.called == 0)
        khp_net_loop_step(loop, 1);
    khp_net_watch_pause(reader.watch);
    khp_net_watch_pause(reader.watch);
    assert_int_equal(write(ends[1], "def", 3), 3);
    khp_net_loop_step(loop, 0.02);
    assert_int_equal(reader.called, 1);
    khp_net_watch_close(reader.watch);
    close(ends[0]);
    close(ends[1]);
}

static void what_is_not_read_is_told_every_turn(void **state) {
    (void)state;
    int ends[2];
    struct reader reader;
    assert_int_equal(pipe(ends), 0);
    begin(&reader, ends[0]);
    reader.reads = false;
    khp_net_watch_resume(reader.watch);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    for (unsigned i = 0; i < 100 && reader.called < 3; i++)
        khp_net_loop_step(loop, 1);
    assert_true(reader.called >= 3);
    khp_net_watch_close(reader.watch);
    close(ends[0]);
    close(ends[1]);
}

static void a_regular_file_is_refused(void **state) {
    (void)state;
    struct khp_net_error error;
    int fd = open(__FILE__, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_null(khp_net_watch_new(loop, fd, ready, NULL, &error));
    assert_int_equal(error.sys, EPERM);
    close(fd);
}

static void freeing_the_loop_closes_a_watch(void **state) {
    (void)state;
    int ends[2];
    struct reader reader;
    struct khp_net_loop *other = new_loop();
    struct khp_net_error error;
    assert_int_equal(pipe(ends), 0);
    assert_non_null(khp_net_watch_new(other, ends[0], ready, &reader, &error));
    khp_net_loop_free(other);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(a_pipe_is_ready_with_bytes_and_at_its_end), BOTH(a_watch_is_paused_until_resumed),
        BOTH(what_is_not_read_is_told_every_turn),       BOTH(a_regular_file_is_refused),
        BOTH(freeing_the_loop_closes_a_watch),
    };
    return cmocka_run_group_tests_name("net watch", tests, set_up_once, NULL);
}

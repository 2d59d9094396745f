/*
 * The accept key of RFC 6455 1.3, and what can be said of random masks: they differ, refills
 * included, and a child of fork() draws its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ws/crypto.h"

static void computes_the_accept_key(void **state) {
    (void)state;
    static const struct {
        const char *key, *accept;
    } cases[] = {
        {"dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, /* RFC 6455 1.3 */
        {"x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="},
        {"", "Kfh9QIsMVZcl6xEPYxPHzW8SZ8w="},
    };
    struct khp_ws_sha1 sha1 = {0};
    for (int round = 0; round < 2; round++) { /* freed, it begins anew */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            char out[KHP_WS_ACCEPT_SIZE];
            assert_true(khp_ws_accept(&sha1, cases[i].key, strlen(cases[i].key), out));
            assert_memory_equal(out, cases[i].accept, sizeof out);
        }
        khp_ws_sha1_free(&sha1);
    }
}

static void knows_a_key(void **state) {
    (void)state;
    static const char good[] = "dGhlIHNhbXBsZSBub25jZQ==";
    char bad[sizeof good];
    assert_true(khp_ws_is_key(good, sizeof good - 1));
    assert_false(khp_ws_is_key(good, sizeof good - 2));
    assert_false(khp_ws_is_key("", 0));
    for (size_t i = 0; i < sizeof good - 1; i++) {
        memcpy(bad, good, sizeof good);
        bad[i] = '-';
        assert_false(khp_ws_is_key(bad, sizeof bad - 1));
    }
}

static int compare(const void *a, const void *b) {
    return memcmp(a, b, 4);
}

static void draws_keys_that_differ(void **state) {
    (void)state;
    enum { KEYS = 3000 }; /* several refills; two of them equal by chance: one run in a thousand */
    static uint8_t keys[KEYS][4];
    struct khp_ws_random random = {0};
    for (size_t i = 0; i < KEYS; i++) {
        assert_true(khp_ws_random_key(&random, keys[i]));
    }
    khp_ws_random_free(&random);
    qsort(keys, KEYS, sizeof keys[0], compare);
    size_t equal = 0;
    for (size_t i = 1; i < KEYS; i++) {
        equal += memcmp(keys[i - 1], keys[i], 4) == 0;
    }
    assert_true(equal <= 2);
}

static void draws_afresh_in_a_child_of_fork(void **state) {
    (void)state;
    struct khp_ws_random random = {0};
    uint8_t ours[8];
    uint8_t theirs[8] = {0};
    assert_true(khp_ws_random_key(&random, ours));
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        bool ok = khp_ws_random_key(&random, theirs) && khp_ws_random_key(&random, theirs + 4) &&
                  write(ends[1], theirs, sizeof theirs) == sizeof theirs;
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(read(ends[0], theirs, sizeof theirs), sizeof theirs);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ends[0]);
    close(ends[1]);
    assert_true(khp_ws_random_key(&random, ours));
    assert_true(khp_ws_random_key(&random, ours + 4));
    assert_memory_not_equal(ours, theirs, sizeof ours);
    khp_ws_random_free(&random);
}

static void may_be_freed_unused_and_used_again(void **state) {
    (void)state;
    struct khp_ws_random random = {0};
    khp_ws_random_free(&random);
    uint8_t key[4];
    assert_true(khp_ws_random_key(&random, key));
    khp_ws_random_free(&random);
    khp_ws_random_free(&random);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computes_the_accept_key),
        cmocka_unit_test(knows_a_key),
        cmocka_unit_test(draws_keys_that_differ),
        cmocka_unit_test(draws_afresh_in_a_child_of_fork),
        cmocka_unit_test(may_be_freed_unused_and_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

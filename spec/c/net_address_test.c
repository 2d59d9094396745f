/*
 * How addresses are written, and what the path of a unix socket becomes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#include "net/internal.h"

static void writes_addresses_for_people(void **state) {
    struct khp_net_address a;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(8000)};
    (void)state;

    assert_int_equal(inet_pton(AF_INET, "192.0.2.1", &in.sin_addr), 1);
    khp_net_address_format((struct sockaddr *)&in, sizeof in, &a);
    assert_string_equal(a.host, "192.0.2.1");
    assert_int_equal(a.port, 80);
    assert_false(a.is_unix);

    static const char *const cases[][2] = {
        {"::1", "::1"}, {"2001:DB8::A", "2001:db8::a"}, {"::ffff:192.0.2.1", "192.0.2.1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(inet_pton(AF_INET6, cases[i][0], &in6.sin6_addr), 1);
        khp_net_address_format((struct sockaddr *)&in6, sizeof in6, &a);
        assert_string_equal(a.host, cases[i][1]);
        assert_int_equal(a.port, 8000);
    }
    assert_int_equal(inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr), 1);
    in6.sin6_scope_id = 1; /* the loopback interface, on Linux */
    khp_net_address_format((struct sockaddr *)&in6, sizeof in6, &a);
    assert_string_equal(a.host, "fe80::1%lo");
    in6.sin6_scope_id = 4000000000U;
    khp_net_address_format((struct sockaddr *)&in6, sizeof in6, &a);
    assert_string_equal(a.host, "fe80::1%4000000000");
}

static void writes_unix_addresses(void **state) {
    static const char *const cases[] = {"/run/khp.sock", "@khp", "relative"};
    struct khp_net_error e = {0};
    struct khp_net_address a;
    struct sockaddr_un un;
    socklen_t size;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(khp_net_address_unix(cases[i], &un, &size, &e));
        khp_net_address_format((struct sockaddr *)&un, size, &a);
        assert_string_equal(a.host, cases[i]);
        assert_true(a.is_unix);
        assert_int_equal(a.port, 0);
    }
    khp_net_address_format((struct sockaddr *)&un, sizeof(sa_family_t), &a);
    assert_string_equal(a.host, "");
    assert_true(a.is_unix);
    char path[109];
    memset(path, 'p', sizeof path - 1);
    path[108] = '\0';
    assert_false(khp_net_address_unix(path, &un, &size, &e));
    assert_string_equal(e.text, "the path of a unix socket has 1 to 107 bytes, not 108");
    path[107] = '\0';
    assert_true(khp_net_address_unix(path, &un, &size, &e));
    assert_false(khp_net_address_unix("", &un, &size, &e));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_addresses_for_people),
        cmocka_unit_test(writes_unix_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

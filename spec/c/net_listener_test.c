/*
 * Listeners over real sockets: every kind of address, unix socket files, inherited descriptors,
 * shortage, ends.
 */
#include "net_names.h"
#include "net_peer.h"

#include <fcntl.h>
#include <sys/stat.h>

/* ---- a system without IPv6 ---- */

static bool no_ipv6;

int old_socket(int family, int type, int protocol) __asm__("socket");

__attribute__((visibility("default"))) int old_socket(int family, int type, int protocol) {
    union {
        void *found;
        int (*call)(int, int, int);
    } next = {.found = dlsym(RTLD_NEXT, "socket")};
    if (no_ipv6 && family == AF_INET6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return next.call(family, type, protocol);
}

/* ---- addresses ---- */

static void listens_on_an_address(void **state) {
    static const char *const addresses[] = {"127.0.0.1", "::1"};
    struct khp_net_address a;
    (void)state;
    for (int i = 0; i < 2; i++) {
        HOST(h, 1);
        listen_with(&h, &(struct khp_net_listener_options){.host = addresses[i], .fd = -1});
        khp_net_listener_address(h.listener, &a);
        assert_string_equal(a.host, addresses[i]);
        assert_true(a.port > 0 && !a.is_unix);
        assert_serves(&h, addresses[i], a.port, addresses[i]);
        khp_net_listener_close(h.listener);
    }
}

static void listens_on_every_address(void **state) {
    HOST(h, 2);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.fd = -1});
    assert_serves(&h, "127.0.0.1", port_of(&h), "127.0.0.1");
    assert_serves(&h, "::1", port_of(&h), "::1");
    khp_net_listener_close(h.listener);
}

static void does_without_ipv6(void **state) {
    HOST(h, 1);
    (void)state;
    no_ipv6 = true;
    listen_with(&h, &(struct khp_net_listener_options){.fd = -1});
    no_ipv6 = false;
    assert_serves(&h, "127.0.0.1", port_of(&h), "127.0.0.1");
    khp_net_listener_close(h.listener);
}

static void listens_on_a_name(void **state) {
    struct khp_net_error e = {0};
    struct khp_net_address a;
    HOST(h, 1);
    (void)state;
    /* 192.0.2.1 (RFC 5737) is nobody's: the next one is taken. */
    names_set(0, "192.0.2.1", "127.0.0.1", NULL);
    listen_with(&h, &(struct khp_net_listener_options){.host = "two.test", .fd = -1});
    khp_net_listener_address(h.listener, &a);
    assert_string_equal(a.host, "127.0.0.1");
    assert_serves(&h, "127.0.0.1", a.port, "127.0.0.1");
    khp_net_listener_close(h.listener);

    names_set(0, "192.0.2.1", NULL);
    struct khp_net_listener_options o = {.host = "one.test", .port = 4711, .fd = -1};
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_string_equal(e.text, "bind 192.0.2.1:4711: Cannot assign requested address");
    assert_int_equal(e.code, KHP_NET_E_SYSTEM);
    names_set(EAI_NONAME, NULL);
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_string_equal(e.text, "listen one.test: Name or service not known");
}

static void says_what_it_could_not_bind(void **state) {
    struct khp_net_error e = {0};
    char expected[80];
    int port = 0;
    HOST(h, 1);
    (void)state;
    int four = plain_listen("127.0.0.1", &port, 1);
    int six = plain_listen("::1", &port, 1);
    struct khp_net_listener_options o = {.host = "127.0.0.1", .port = port, .fd = -1};
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    (void)snprintf(expected, sizeof expected, "bind 127.0.0.1:%d: Address already in use", port);
    assert_string_equal(e.text, expected);
    assert_int_equal(e.sys, EADDRINUSE);
    o.host = "::1";
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    (void)snprintf(expected, sizeof expected, "bind [::1]:%d: Address already in use", port);
    assert_string_equal(e.text, expected);
    o.host = NULL;
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    (void)snprintf(expected, sizeof expected, "bind [::]:%d: Address already in use", port);
    assert_string_equal(e.text, expected);
    o.port = 65536;
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_string_equal(e.text, "there is no port 65536");
    (void)close(four);
    (void)close(six);
}

static void takes_its_port_again_at_once(void **state) {
    HOST(h, 1);
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    int port = port_of(&h);
    int fd = dial("127.0.0.1", port);
    UNTIL(h.count == 1 && h.peers[0].opens == 1);
    khp_net_stream_shutdown(h.peers[0].stream, 1000); /* our end is in TIME_WAIT after this */
    (void)shutdown(fd, SHUT_WR);
    UNTIL(h.peers[0].ends == 1);
    (void)close(fd);
    khp_net_listener_close(h.listener);
    listen_with(&h,
                &(struct khp_net_listener_options){.host = "127.0.0.1", .port = port, .fd = -1});
    khp_net_listener_close(h.listener);
}

static void shares_a_port_between_loops(void **state) {
    enum { CLIENTS = 64 };
    int clients[CLIENTS];
    HOST(one, CLIENTS);
    HOST(two, CLIENTS);
    (void)state;
    struct khp_net_loop *first = loop, *second = new_loop();
    struct khp_net_listener_options o = {.host = "127.0.0.1", .fd = -1, .reuse_port = true};
    listen_with(&one, &o);
    o.port = port_of(&one);
    loop = second;
    listen_with(&two, &o);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = dial("127.0.0.1", o.port);
    while (one.count + two.count < CLIENTS) {
        loop = first;
        settle();
        loop = second;
        settle();
    }
    assert_true(one.count > 0 && two.count > 0);
    for (int i = 0; i < CLIENTS; i++)
        (void)close(clients[i]);
    khp_net_loop_free(second);
    assert_int_equal(count_ends(&two), two.count);
    loop = first;
    UNTIL(count_ends(&one) == one.count);
}

/* ---- unix sockets ---- */

static const char *temporary_path(void) {
    static char path[64];
    static unsigned n;
    (void)snprintf(path, sizeof path, "/tmp/khp-spec-%d-%u.sock", (int)getpid(), n++);
    return path;
}

static bool exists(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0;
}

static void listens_on_a_unix_socket(void **state) {
    struct khp_net_address a;
    HOST(h, 1);
    (void)state;
    const char *path = temporary_path();
    listen_with(&h, &(struct khp_net_listener_options){.unix_path = path, .fd = -1});
    khp_net_listener_address(h.listener, &a);
    assert_string_equal(a.host, path);
    assert_true(a.is_unix);
    assert_serves(&h, path, 0, "");
    khp_net_listener_close(h.listener);
    assert_false(exists(path));
}

static void listens_on_an_abstract_socket(void **state) {
    struct khp_net_address a;
    struct khp_net_error e = {0};
    char name[64];
    HOST(h, 1);
    (void)state;
    (void)snprintf(name, sizeof name, "@khp-spec-%d", (int)getpid());
    struct khp_net_listener_options o = {.unix_path = name, .fd = -1};
    listen_with(&h, &o);
    khp_net_listener_address(h.listener, &a);
    assert_string_equal(a.host, name);
    assert_serves(&h, name, 0, "");
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_non_null(strstr(e.text, "Address already in use"));
    khp_net_listener_close(h.listener);
}

static void replaces_a_stale_socket_file_only(void **state) {
    struct khp_net_error e = {0};
    char expected[128];
    HOST(h, 1);
    (void)state;
    const char *path = temporary_path();
    struct khp_net_listener_options o = {.unix_path = path, .fd = -1};

    int live = plain_listen(path, NULL, 1);
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    (void)snprintf(expected, sizeof expected, "bind %s: Address already in use", path);
    assert_string_equal(e.text, expected);
    assert_true(exists(path));

    (void)close(live);
    listen_with(&h, &o);
    assert_serves(&h, path, 0, "");
    khp_net_listener_close(h.listener);
    assert_false(exists(path));

    int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(file >= 0);
    (void)close(file);
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_string_equal(e.text, expected);
    assert_int_equal(unlink(path), 0);

    o.unix_path = "/nowhere/at/all";
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_string_equal(e.text, "bind /nowhere/at/all: No such file or directory");
    o.unix_path = "";
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
}

static void leaves_the_socket_file_of_its_successor(void **state) {
    HOST(h, 1);
    (void)state;
    const char *path = temporary_path();
    listen_with(&h, &(struct khp_net_listener_options){.unix_path = path, .fd = -1});
    assert_int_equal(unlink(path), 0);
    int successor = plain_listen(path, NULL, 1);
    khp_net_listener_close(h.listener);
    assert_true(exists(path));
    (void)close(successor);
    assert_int_equal(unlink(path), 0);
}

/* ---- descriptors from elsewhere ---- */

static void takes_over_a_listening_descriptor(void **state) {
    struct khp_net_error e = {0};
    int port = 0;
    HOST(h, 1);
    (void)state;
    int fd = plain_listen("127.0.0.1", &port, 16);
    listen_with(&h, &(struct khp_net_listener_options){.fd = fd});
    assert_int_equal(port_of(&h), port);
    assert_serves(&h, "127.0.0.1", port, "127.0.0.1");
    khp_net_listener_close(h.listener);
    assert_int_equal(fcntl(fd, F_GETFD), -1);

    /* One that does not listen stays the caller's. */
    int not_listening = socket(AF_INET, SOCK_STREAM, 0);
    struct khp_net_listener_options o = {.fd = not_listening};
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_non_null(strstr(e.text, "is not a listening socket"));
    assert_int_equal(close(not_listening), 0);
    o.fd = not_listening;
    assert_null(khp_net_listen(loop, &o, on_accept, &h, &e));
    assert_int_equal(e.sys, EBADF);
}

static void leaves_the_file_of_an_inherited_socket(void **state) {
    HOST(h, 1);
    (void)state;
    const char *path = temporary_path();
    int fd = plain_listen(path, NULL, 16);
    listen_with(&h, &(struct khp_net_listener_options){.fd = fd});
    assert_serves(&h, path, 0, "");
    khp_net_listener_close(h.listener);
    assert_true(exists(path));
    assert_int_equal(unlink(path), 0);
}

/* ---- ends ---- */

static void may_abort_what_it_accepts(void **state) {
    char byte;
    HOST(h, 1);
    (void)state;
    h.abort = true;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    int fd = dial("127.0.0.1", port_of(&h));
    UNTIL(count_ends(&h) == 1);
    assert_int_equal(h.peers[0].opens, 0);
    assert_int_equal(h.peers[0].why.code, KHP_NET_E_LOCAL);
    assert_int_equal(khp_net_listener_streams(h.listener), 0);
    errno = 0;
    assert_true(recv(fd, &byte, 1, 0) <= 0 && errno != EAGAIN);
    (void)close(fd);
    khp_net_listener_close(h.listener);
}

static void closes_while_its_streams_live_on(void **state) {
    HOST(h, 2);
    (void)state;
    h.stop = 2; /* from inside of the second's accept callback */
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    int port = port_of(&h);
    int one = dial("127.0.0.1", port), two = dial("127.0.0.1", port);
    UNTIL(count_opens(&h) == 2);
    h.peers[0].echo = h.peers[1].echo = true;
    assert_echo(one);
    assert_echo(two);
    struct any_address a = address_of("127.0.0.1", port);
    int three = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(three, &a.any, a.size), -1);
    (void)close(one);
    UNTIL(count_ends(&h) == 1);
    khp_net_stream_abort(h.peers[0].stream != NULL ? h.peers[0].stream : h.peers[1].stream);
    UNTIL(count_ends(&h) == 2);
    (void)close(two);
    (void)close(three);
}

static void goes_with_its_loop(void **state) {
    HOST(h, 2);
    (void)state;
    const char *path = temporary_path();
    listen_with(&h, &(struct khp_net_listener_options){.unix_path = path, .fd = -1});
    int one = dial(path, 0), two = dial(path, 0);
    UNTIL(h.count == 1 || h.count == 2);
    khp_net_loop_free(loop);
    assert_int_equal(count_ends(&h), h.count);
    assert_string_equal(h.peers[0].why.text, "loop closed");
    assert_false(exists(path));
    (void)close(one);
    (void)close(two);
    loop = new_loop();
}

static void accepts_a_thousand(void **state) {
    enum { MANY = 1000 };
    static int clients[MANY];
    static struct peer peers[MANY];
    struct host h = {.peers = peers, .room = MANY};
    (void)state;
    listen_with(&h, &(struct khp_net_listener_options){.host = "127.0.0.1", .fd = -1});
    for (int i = 0; i < MANY; i++)
        clients[i] = dial("127.0.0.1", port_of(&h));
    UNTIL(count_opens(&h) == MANY);
    assert_int_equal(khp_net_listener_streams(h.listener), MANY);
    for (int i = 0; i < MANY; i++)
        (void)close(clients[i]);
    UNTIL(count_ends(&h) == MANY);
    assert_int_equal(khp_net_listener_streams(h.listener), 0);
    assert_int_equal(count_opens(&h), MANY);
    khp_net_listener_close(h.listener);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(listens_on_an_address),
        TEST(listens_on_every_address),
        TEST(does_without_ipv6),
        TEST(listens_on_a_name),
        TEST(says_what_it_could_not_bind),
        TEST(takes_its_port_again_at_once),
        TEST(shares_a_port_between_loops),
        TEST(listens_on_a_unix_socket),
        TEST(listens_on_an_abstract_socket),
        TEST(replaces_a_stale_socket_file_only),
        TEST(leaves_the_socket_file_of_its_successor),
        TEST(takes_over_a_listening_descriptor),
        TEST(leaves_the_file_of_an_inherited_socket),
        TEST(may_abort_what_it_accepts),
        TEST(closes_while_its_streams_live_on),
        TEST(goes_with_its_loop),
        TEST(accepts_a_thousand),
    };
    (void)alarm(120 * patience());
    khp_net_loop_free(new_loop()); /* what the first one keeps for the process is not a leak */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Load for a WebSocket echo server on loopback, and what it costs that server: CPU time per message
 * or connection, or memory per connection. One thread, epoll, edge-triggered; frames are prepared
 * once and masked with a fixed key. It needs no library, so that no server meets its own kind.
 *
 *     load MODE -p port -P server's pid [-c connections] [-f in flight] [-s bytes] [-t seconds] [-i
 * idle connections]
 *
 * MODE echo    messages there and back; prints CPU ns per message, messages, seconds
 *      open    connect, opening handshake, close; prints CPU ns per connection, connections,
 * seconds khp     likewise with an extended handshake: request, 401, request with credentials, 101
 *      memory  prints bytes of resident memory per idle connection, from 100 to -c connections
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_SIZE = 1 << 18,
    OPENING_AT_ONCE = 64, /* the listener's backlog never overflows */
    PREFIX = 12,          /* "HTTP/1.1 101": enough of an answer to judge it */
    HEADER_MAX = 14,
    CONTROL_MAX = 125,
    TEXT_MAX = 512
};

enum mode { ECHO, OPEN, KHP, MEMORY };
enum state { OPENING, ECHOING, IDLE, REQUESTED, AUTHORIZED, CLOSING, ENDED };

struct conn {
    int fd;
    enum state state;
    bool idle; /* to be left alone once it is open */
    uint8_t
        prefix[CONTROL_MAX]; /* of the answer, the message or the control frame that is coming */
    size_t prefix_size;
    unsigned line_ends; /* how much of CR LF CR LF has come */
    uint8_t header[HEADER_MAX];
    size_t header_size;
    uint64_t remaining; /* payload of the current frame */
    uint64_t length;    /* payload of the current message so far */
    bool in_frame;
    size_t to_send,
        phase; /* bytes of the endless row of frames still owed, and where in it we are */
};

struct bench {
    enum mode mode;
    int port, epoll;
    long pid;
    size_t conns, in_flight, size, idle;
    double seconds;
    uint8_t *frames; /* in_flight frames, one behind the other */
    size_t frame_size, frames_size;
    struct conn *conn;
    size_t opening, opened; /* connections whose opening handshake is under way; is done */
    uint64_t done;          /* messages, or connections */
    bool stopping;          /* no new work */
};

static const uint8_t mask[4] = {0x5a, 0xc3, 0x17, 0x99};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- what the server used -------------------------------------------------------------------- */

/* The number in that column (from 0) of a file of numbers, or -1. */
static double read_number(const char *path, int column) {
    char line[TEXT_MAX] = "";
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL) {
        line[0] = '\0';
    }
    if (file != NULL) {
        fclose(file);
    }
    char *at = line;
    double number = -1;
    for (int i = 0; i <= column; i++) {
        char *from = at;
        number = strtod(from, &at);
        if (at == from) {
            return -1;
        }
    }
    return number;
}

/* Nanoseconds of CPU of all threads. */
static double server_cpu(long pid) {
    char path[300];
    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        die("the server is gone");
    }
    double sum = 0;
    struct dirent *entry;
    while ((entry = readdir(tasks)) != NULL) {
        snprintf(path, sizeof path, "/proc/%ld/task/%s/schedstat", pid, entry->d_name);
        double used = entry->d_name[0] == '.' ? 0 : read_number(path, 0);
        sum += used > 0 ? used : 0; /* a thread may just have ended */
    }
    closedir(tasks);
    return sum;
}

static double server_memory(long pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/statm", pid);
    double pages = read_number(path, 1);
    if (pages < 0) {
        die("the server is gone");
    }
    return pages * (double)sysconf(_SC_PAGESIZE);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static size_t put_frame(uint8_t *out, uint8_t opcode, const void *payload, size_t n) {
    size_t at = 0;
    out[at++] = 0x80 | opcode;
    size_t extended = n < 126 ? 0 : n < 65536 ? 2 : 8;
    out[at++] = 0x80 | (uint8_t)(extended == 0 ? n : extended == 2 ? 126 : 127);
    for (size_t i = extended; i > 0; i--) {
        out[at++] = (uint8_t)((uint64_t)n >> 8 * (i - 1));
    }
    memcpy(out + at, mask, sizeof mask);
    at += sizeof mask;
    for (size_t i = 0; i < n; i++) {
        out[at + i] = ((const uint8_t *)payload)[i] ^ mask[i & 3];
    }
    return at + n;
}

static uint8_t payload_byte(uint64_t i) {
    return (uint8_t)('a' + i % 23);
}

static void prepare_frames(struct bench *bench) {
    uint8_t *payload = malloc(bench->size + 1);
    bench->frames = malloc((bench->size + HEADER_MAX) * bench->in_flight);
    if (payload == NULL || bench->frames == NULL) {
        die("out of memory");
    }
    for (size_t i = 0; i < bench->size; i++) {
        payload[i] = payload_byte(i);
    }
    for (size_t i = 0; i < bench->in_flight; i++) {
        bench->frame_size = put_frame(bench->frames + bench->frames_size, 2, payload, bench->size);
        bench->frames_size += bench->frame_size;
    }
    free(payload);
}

/* ---- one connection -------------------------------------------------------------------------- */

/* What is small goes out whole or the run is void. */
static void send_small(struct conn *conn, const void *bytes, size_t n) {
    if (send(conn->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n) {
        die("cannot send: %s", strerror(errno));
    }
}

static void send_frame(struct conn *conn, uint8_t opcode, const void *payload, size_t n) {
    uint8_t frame[HEADER_MAX + TEXT_MAX];
    send_small(conn, frame, put_frame(frame, opcode, payload, n));
}

static void flush_frames(struct bench *bench, struct conn *conn) {
    while (conn->to_send > 0) {
        size_t part = bench->frames_size - conn->phase;
        if (part > conn->to_send) {
            part = conn->to_send;
        }
        ssize_t sent = send(conn->fd, bench->frames + conn->phase, part, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) {
                die("cannot send: %s", strerror(errno));
            }
            return;
        }
        conn->to_send -= (size_t)sent;
        conn->phase = (conn->phase + (size_t)sent) % bench->frames_size;
    }
}

static void start(struct bench *bench, struct conn *conn, bool idle) {
    memset(conn, 0, sizeof *conn);
    conn->idle = idle;
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)bench->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        fcntl(conn->fd, F_SETFL, O_NONBLOCK) != 0) {
        die("cannot connect: %s", strerror(errno));
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = conn};
    epoll_ctl(bench->epoll, EPOLL_CTL_ADD, conn->fd, &event);
    bench->opening++;
    char request[TEXT_MAX];
    int n = snprintf(request, sizeof request,
                     "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                     "Sec-WebSocket-Version: 13\r\n%s\r\n",
                     bench->port,
                     bench->mode == KHP ? "Sec-WebSocket-Protocol: x-kaazing-handshake\r\n" : "");
    send_small(conn, request, (size_t)n);
}

static void finish(struct bench *bench, struct conn *conn) {
    conn->state = ENDED;
    close(conn->fd);
    bench->done++;
    if (!bench->stopping) {
        start(bench, conn, false);
    }
}

static void begin_close(struct conn *conn) {
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 0xff};
    conn->state = CLOSING;
    send_frame(conn, 8, normal, sizeof normal);
}

static void send_request(struct conn *conn, const char *headers) {
    char request[TEXT_MAX];
    int n = snprintf(request, sizeof request, "GET / HTTP/1.1\r\n%s\r\n", headers);
    send_frame(conn, 2, request, (size_t)n);
}

static void opened(struct bench *bench, struct conn *conn) {
    if (memcmp(conn->prefix, "HTTP/1.1 101", PREFIX) != 0) {
        die("the opening handshake failed: %.*s", (int)conn->prefix_size, (char *)conn->prefix);
    }
    conn->prefix_size = 0;
    bench->opening--;
    bench->opened++;
    if (conn->idle) {
        conn->state = IDLE;
    } else if (bench->mode == ECHO) {
        conn->state = ECHOING;
        conn->to_send = bench->frames_size;
        flush_frames(bench, conn);
    } else if (bench->mode == KHP) {
        conn->state = REQUESTED;
        send_request(conn, "");
    } else {
        begin_close(conn);
    }
}

static void expect_status(const struct conn *conn, const char *status) {
    if (conn->prefix_size < PREFIX || memcmp(conn->prefix + 9, status, 3) != 0) {
        die("wanted %s from the extended handshake, got: %.*s", status, (int)conn->prefix_size,
            (const char *)conn->prefix);
    }
}

static void got_message(struct bench *bench, struct conn *conn) {
    switch (conn->state) {
    case ECHOING:
        if (conn->length != bench->size) {
            die("%zu bytes came back as %llu", bench->size, (unsigned long long)conn->length);
        }
        bench->done++;
        conn->to_send += bench->frame_size;
        return;
    case REQUESTED:
        expect_status(conn, "401");
        conn->state = AUTHORIZED;
        send_request(conn, "Authorization: Basic am9lOnNlY3JldA==\r\n");
        return;
    case AUTHORIZED:
        expect_status(conn, "101");
        begin_close(conn);
        return;
    case OPENING:
    case IDLE:
    case CLOSING:
    case ENDED:
        break;
    }
    die("a message that nobody asked for");
}

/* A frame is complete. */
static void got_frame(struct bench *bench, struct conn *conn) {
    uint8_t opcode = conn->header[0] & 15;
    conn->in_frame = false;
    conn->header_size = 0;
    if (opcode == 8) {
        if (conn->state != CLOSING) {
            die("the server closes: %d", conn->prefix[0] << 8 | conn->prefix[1]);
        }
        finish(bench, conn);
        return;
    }
    if (opcode == 9) {
        send_frame(conn, 10, conn->prefix, conn->prefix_size);
    } else if (opcode < 8 && (conn->header[0] & 0x80) != 0) {
        got_message(bench, conn);
        conn->length = 0;
    } else {
        return; /* more fragments to come, or a pong */
    }
    conn->prefix_size = 0;
}

/* Takes bytes of the header; true once it is complete. */
static bool take_header(struct conn *conn, const uint8_t **bytes, size_t *n) {
    while (*n > 0) {
        conn->header[conn->header_size++] = **bytes;
        ++*bytes;
        --*n;
        size_t length = conn->header_size < 2 ? 0 : conn->header[1];
        size_t extended = length == 126 ? 2 : length == 127 ? 8 : 0;
        if (length >= 128) {
            die("the server masks");
        }
        if (conn->header_size >= 2 && conn->header_size == 2 + extended) {
            conn->remaining = extended == 0 ? length : 0;
            for (size_t i = 0; i < extended; i++) {
                conn->remaining = conn->remaining << 8 | conn->header[2 + i];
            }
            conn->in_frame = true;
            return true;
        }
    }
    return false;
}

static void keep_prefix(struct conn *conn, const uint8_t *bytes, size_t n) {
    size_t room = sizeof conn->prefix - conn->prefix_size;
    size_t part = n < room ? n : room;
    memcpy(conn->prefix + conn->prefix_size, bytes, part);
    conn->prefix_size += part;
}

static void take_frames(struct bench *bench, struct conn *conn, const uint8_t *bytes, size_t n) {
    while (n > 0 && conn->state != OPENING && conn->state != ENDED) {
        if (!conn->in_frame && !take_header(conn, &bytes, &n)) {
            return;
        }
        size_t part = conn->remaining < n ? (size_t)conn->remaining : n;
        bool control = (conn->header[0] & 8) != 0;
        if (control || conn->state != ECHOING) {
            keep_prefix(conn, bytes, part);
        } else if (part > 0 && (bytes[0] != payload_byte(conn->length) ||
                                bytes[part - 1] != payload_byte(conn->length + part - 1))) {
            die("the echo is not what was sent");
        }
        if (!control) {
            conn->length += part;
        }
        conn->remaining -= part;
        bytes += part;
        n -= part;
        if (conn->remaining == 0) {
            got_frame(bench, conn);
        }
    }
}

static void take(struct bench *bench, struct conn *conn, const uint8_t *bytes, size_t n) {
    if (conn->state == OPENING) {
        static const uint8_t end[] = {'\r', '\n', '\r', '\n'};
        size_t at = 0;
        while (at < n && conn->line_ends < sizeof end) {
            bool next = bytes[at] == end[conn->line_ends];
            conn->line_ends = next ? conn->line_ends + 1 : bytes[at] == '\r' ? 1 : 0;
            at++;
        }
        keep_prefix(conn, bytes, at);
        if (conn->line_ends < sizeof end) {
            return;
        }
        opened(bench, conn);
        bytes += at;
        n -= at;
    }
    take_frames(bench, conn, bytes, n);
}

static void readable(struct bench *bench, struct conn *conn) {
    static uint8_t buffer[READ_SIZE];
    int fd = conn->fd;
    ssize_t n;
    do {
        n = recv(fd, buffer, sizeof buffer, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            die("the server dropped a connection: %s", n == 0 ? "end" : strerror(errno));
        }
        if (n > 0) {
            take(bench, conn, buffer, (size_t)n);
        }
    } while (n == READ_SIZE && conn->state != OPENING && conn->state != ENDED);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Turns until `until`, or until done when that is not NULL and reaches `target`. */
static void turn(struct bench *bench, double until, const size_t *done, size_t target) {
    struct epoll_event events[256];
    while (now() < until && (done == NULL || *done < target)) {
        int n = epoll_wait(bench->epoll, events, 256, 10);
        for (int i = 0; i < n; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn->state == ENDED) {
                continue;
            }
            if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
                readable(bench, conn);
            }
            if (conn->state == ECHOING) {
                flush_frames(bench, conn);
            }
        }
    }
    if (done != NULL && *done < target) {
        die("only %zu of %zu connections open in time", *done, target);
    }
}

/* Opens connections [from, to), a few at a time. */
static void open_all(struct bench *bench, size_t from, size_t to, bool idle) {
    double until = now() + 30;
    size_t base = bench->opened - from;
    for (size_t i = from; i < to; i++) {
        start(bench, &bench->conn[i], idle);
        if (bench->opening >= OPENING_AT_ONCE || i + 1 == to) {
            turn(bench, until, &bench->opened, base + i + 1);
        }
    }
}

/* Waits until the server has come to rest: no CPU time used for 50 ms. */
static void settle(struct bench *bench) {
    double until = now() + 5;
    double before;
    double after = server_cpu(bench->pid);
    do {
        before = after;
        turn(bench, now() + 0.05, NULL, 0);
        after = server_cpu(bench->pid);
    } while (after > before && now() < until);
}

static void measure_memory(struct bench *bench) {
    enum { FIRST = 100 };
    open_all(bench, 0, FIRST, true);
    settle(bench);
    double before = server_memory(bench->pid);
    open_all(bench, FIRST, bench->conns, true);
    settle(bench);
    double after = server_memory(bench->pid);
    printf("%.0f\n", (after - before) / (double)(bench->conns - FIRST));
}

static void measure_cpu(struct bench *bench) {
    open_all(bench, bench->conns, bench->conns + bench->idle, true);
    settle(bench);
    for (size_t i = 0; i < bench->conns; i++) {
        start(bench, &bench->conn[i], false);
    }
    turn(bench, now() + bench->seconds / 4, NULL, 0); /* warm up */
    uint64_t done = bench->done;
    double cpu = server_cpu(bench->pid);
    double began = now();
    turn(bench, began + bench->seconds, NULL, 0);
    double took = now() - began;
    cpu = server_cpu(bench->pid) - cpu;
    done = bench->done - done;
    if (done == 0) {
        die("nothing was done in %.1f s", took);
    }
    printf("%.1f %llu %.3f\n", cpu / (double)done, (unsigned long long)done, took);
    if (bench->mode == OPEN || bench->mode == KHP) { /* let the last ones end as they should */
        bench->stopping = true;
        turn(bench, now() + 0.1, NULL, 0);
    }
}

static enum mode mode_from(const char *name) {
    static const char *const names[] = {"echo", "open", "khp", "memory"};
    for (enum mode mode = ECHO; name != NULL && mode <= MEMORY; mode++) {
        if (strcmp(name, names[mode]) == 0) {
            return mode;
        }
    }
    die("the first argument is a mode: echo, open, khp or memory");
}

int main(int argc, char **argv) {
    struct bench bench = {
        .mode = mode_from(argv[1]), .conns = 64, .in_flight = 1, .size = 64, .seconds = 1};
    int option;
    while ((option = getopt(argc - 1, argv + 1, "p:P:c:f:s:t:i:")) != -1) {
        double value = optarg == NULL ? 0 : strtod(optarg, NULL);
        switch (option) {
        case 'p':
            bench.port = (int)value;
            break;
        case 'P':
            bench.pid = (long)value;
            break;
        case 'c':
            bench.conns = (size_t)value;
            break;
        case 'f':
            bench.in_flight = (size_t)value;
            break;
        case 's':
            bench.size = (size_t)value;
            break;
        case 't':
            bench.seconds = value;
            break;
        case 'i':
            bench.idle = (size_t)value;
            break;
        default:
            return 2;
        }
    }
    if (bench.port == 0 || bench.pid == 0) {
        die("-p port and -P pid are needed");
    }
    alarm((unsigned)(4 * bench.seconds) + 60); /* whatever happens, it ends */
    bench.epoll = epoll_create1(0);
    bench.conn = calloc(bench.conns + bench.idle, sizeof *bench.conn);
    if (bench.epoll < 0 || bench.conn == NULL) {
        die("out of memory");
    }
    prepare_frames(&bench);
    if (bench.mode == MEMORY) {
        measure_memory(&bench);
    } else {
        measure_cpu(&bench);
    }
    return 0;
}

/*
 * Descriptors that the process was started with, for the command line: is there a terminal, reading
 * without libc's buffers, readiness as an event of the loop. For programs, not for libraries: a
 * host decides itself who reads its standard input.
 */
#include "lua/lkhp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "net/watch.h"

#define WATCH    "khp.watch"
#define TERMINAL "khp.terminal"

enum { READ_MOST = 1024 * 1024 };

static int descriptor(lua_State *L) {
    lua_Integer fd = luaL_checkinteger(L, 1);
    luaL_argcheck(L, fd >= 0 && fd < 65536, 1, "a descriptor expected");
    return (int)fd;
}

static int fail(lua_State *L, int number) {
    lua_pushnil(L);
    lua_pushstring(L, strerror(number));
    lua_pushinteger(L, number);
    return 3;
}

/* Whether the shell has given us the terminal that may be behind fd: in the background, reading or
 * changing it would stop us. What is no terminal, or nobody's, is ours. */
static bool is_foreground(int fd) {
    pid_t group = tcgetpgrp(fd);
    return group < 0 || group == getpgrp();
}

/* ---- reading ---- */

/* Others may read it, too, and be faster. */
static bool has_something(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0) != 0;
}

/* read(fd, n) → bytes, "" at the end, false where it would have to wait or in the background; nil,
 * text, errno. At most n bytes. */
static int descriptor_read(lua_State *L) {
    int fd = descriptor(L);
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n > 0 && n <= READ_MOST, 2, "out of range");
    if (!is_foreground(fd) || !has_something(fd)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    luaL_Buffer buffer;
    char *bytes = luaL_buffinitsize(L, &buffer, (size_t)n);
    ssize_t got;
    do
        got = read(fd, bytes, (size_t)n);
    while (got < 0 && errno == EINTR);
    if (got >= 0) {
        luaL_pushresultsize(&buffer, (size_t)got);
        return 1;
    }
    if (errno != EAGAIN)
        return fail(L, errno);
    lua_pushboolean(L, 0);
    return 1;
}

/* ---- watching ---- */

struct lkhp_watch {
    struct khp_net_watch *watch; /* NULL once closed */
    struct lkhp_loop *loop;
    int reference; /* in the registry until closed */
};

static int deliver(lua_State *L) {
    const struct lkhp_watch *self = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->reference);
    lua_getiuservalue(L, -1, 1);
    lua_call(L, 0, 0);
    return 0;
}

static void ready(void *owner) {
    struct lkhp_watch *self = owner;
    lkhp_enter(self->loop, deliver, self);
}

/* libuv makes a descriptor that it watches one that does not wait. The shell, our standard output
 * and whoever else has the same terminal or pipe would have to live with that, after our end, too.
 */
static struct khp_net_watch *watch_only(struct lkhp_watch *self, int fd,
                                        struct khp_net_error *error) {
    int flags = fcntl(fd, F_GETFL);
    struct khp_net_watch *watch = khp_net_watch_new(self->loop->net, fd, ready, self, error);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags);
    return watch;
}

/* watch(fd, f) → a watch, paused, that calls f() from the loop while fd can be read; nil, text,
 * errno where the system cannot watch it: a regular file is always ready. */
static int watch_new(lua_State *L) {
    int fd = descriptor(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct lkhp_loop *loop = lkhp_loop(L);
    struct lkhp_watch *self = lua_newuserdatauv(L, sizeof *self, 1);
    memset(self, 0, sizeof *self);
    self->loop = loop;
    self->reference = LUA_NOREF;
    luaL_setmetatable(L, WATCH);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    self->reference = luaL_ref(L, LUA_REGISTRYINDEX); /* not alive: run() does not wait for it */
    struct khp_net_error error;
    self->watch = watch_only(self, fd, &error);
    if (!self->watch) {
        luaL_unref(L, LUA_REGISTRYINDEX, self->reference);
        return fail(L, error.sys);
    }
    return 1;
}

static struct khp_net_watch *living(lua_State *L) {
    const struct lkhp_watch *self = luaL_checkudata(L, 1, WATCH);
    return self->loop->net ? self->watch : NULL;
}

static int watch_pause(lua_State *L) {
    struct khp_net_watch *watch = living(L);
    if (watch)
        khp_net_watch_pause(watch);
    return 0;
}

static int watch_resume(lua_State *L) {
    struct khp_net_watch *watch = living(L);
    if (watch)
        khp_net_watch_resume(watch);
    return 0;
}

static int watch_close(lua_State *L) {
    struct lkhp_watch *self = luaL_checkudata(L, 1, WATCH);
    if (self->watch && self->loop->net) {
        khp_net_watch_close(self->watch);
        luaL_unref(L, LUA_REGISTRYINDEX, self->reference);
    }
    self->watch = NULL;
    return 0;
}

/* Collected while open only when the whole state is closed. */
static int watch__gc(lua_State *L) {
    struct lkhp_watch *self = luaL_checkudata(L, 1, WATCH);
    if (self->watch && self->loop->net)
        khp_net_watch_close(self->watch);
    self->watch = NULL;
    return 0;
}

/* ---- terminals ---- */

struct lkhp_terminal {
    struct termios before; /* what to restore */
    struct termios mode;   /* what raw() has set */
    int fd;
    bool changed; /* mode is to be in force */
    bool owned;   /* fd was opened here */
};

/* terminal(fd) → the terminal behind it, or nil; without fd the one that the process belongs to.
 * Its modes are the whole system's: restore() them, also where the program fails. */
static int terminal_new(lua_State *L) {
    bool owned = lua_isnoneornil(L, 1);
    int fd = owned ? -1 : descriptor(L);
    struct lkhp_terminal *self = lua_newuserdatauv(L, sizeof *self, 0);
    if (owned)
        fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios now;
    if (fd < 0 || tcgetattr(fd, &now) != 0) {
        if (owned && fd >= 0)
            (void)close(fd);
        return 0;
    }
    self->before = now;
    self->mode = now;
    self->fd = fd;
    self->changed = false;
    self->owned = owned;
    luaL_setmetatable(L, TERMINAL);
    return 1;
}

/* terminal:raw([flush]): each key comes at once and shows nothing; Ctrl-C still is a signal, Ctrl-Z
 * and Ctrl-\ are keys: suspend() and restore() come first. With `flush` what was typed before is
 * dropped. */
static int terminal_raw(lua_State *L) {
    struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    struct termios mode = self->before;
    mode.c_lflag &= (tcflag_t) ~(ICANON | ECHO | IEXTEN);
    mode.c_iflag &= (tcflag_t) ~(ICRNL | INLCR | IXON);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    mode.c_cc[VSUSP] = _POSIX_VDISABLE;
    mode.c_cc[VQUIT] = _POSIX_VDISABLE;
    if (tcsetattr(self->fd, lua_toboolean(L, 2) ? TCSAFLUSH : TCSADRAIN, &mode) != 0)
        return fail(L, errno);
    self->mode = mode;
    self->changed = true;
    lua_pushboolean(L, 1);
    return 1;
}

/* terminal:keep() → whether raw() had to be done again, for somebody has changed the modes since: a
 * shell does when it continues a program that was stopped. */
static int terminal_keep(lua_State *L) {
    const struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    struct termios now;
    bool lost = self->changed && is_foreground(self->fd) && tcgetattr(self->fd, &now) == 0 &&
                (now.c_lflag & (ICANON | ECHO)) != 0;
    lua_pushboolean(L, lost && tcsetattr(self->fd, TCSADRAIN, &self->mode) == 0);
    return 1;
}

static void put_back(const struct lkhp_terminal *self) {
    if (self->changed && is_foreground(self->fd))
        (void)tcsetattr(self->fd, TCSADRAIN, &self->before);
}

/* terminal:suspend(): stops the process with its group, as Ctrl-Z does, with the modes as they were
 * before raw(). Returns once somebody continues it; keep() does the rest. */
static int terminal_suspend(lua_State *L) {
    const struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    put_back(self);
    (void)kill(0, SIGTSTP);
    return 0;
}

/* Idempotent. */
static int terminal_restore(lua_State *L) {
    struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    put_back(self);
    self->changed = false;
    return 0;
}

static int terminal__gc(lua_State *L) {
    struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    (void)terminal_restore(L);
    if (self->owned && self->fd >= 0) {
        (void)close(self->fd);
        self->fd = -1;
    }
    return 0;
}

/* terminal:fd(): the descriptor, to be read or watched while the terminal is referred to. */
static int terminal_fd(lua_State *L) {
    const struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    lua_pushinteger(L, self->fd);
    return 1;
}

/* terminal:columns(): its width; nil where it does not tell. */
static int terminal_columns(lua_State *L) {
    const struct lkhp_terminal *self = luaL_checkudata(L, 1, TERMINAL);
    struct winsize size;
    if (ioctl(self->fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 0;
    lua_pushinteger(L, size.ws_col);
    return 1;
}

/* ---- files ---- */

/* keep_private(path): makes an empty file that only its owner may read, unless there is one. nil,
 * text, errno. */
static int keep_private(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return fail(L, errno);
    (void)close(fd);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- opening ---- */

static void class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc,
                  lua_CFunction close) {
    if (luaL_newmetatable(L, name)) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, close);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
}

int lkhp_open_descriptor(lua_State *L) {
    static const luaL_Reg watches[] = {
        {"pause", watch_pause}, {"resume", watch_resume}, {"close", watch_close}, {NULL, NULL}};
    static const luaL_Reg terminals[] = {{"raw", terminal_raw},
                                         {"keep", terminal_keep},
                                         {"suspend", terminal_suspend},
                                         {"restore", terminal_restore},
                                         {"columns", terminal_columns},
                                         {"fd", terminal_fd},
                                         {NULL, NULL}};
    static const luaL_Reg functions[] = {{"read", descriptor_read},
                                         {"watch", watch_new},
                                         {"terminal", terminal_new},
                                         {"keep_private", keep_private},
                                         {NULL, NULL}};
    class(L, WATCH, watches, watch__gc, watch_close);
    class(L, TERMINAL, terminals, terminal__gc, terminal__gc);
    luaL_newlib(L, functions);
    return 1;
}

/*
 * Files below a folder, for a server that shows them: opened so that no name leads out of the
 * folder, looked at, and read in pieces. Which names a peer may ask for, and what he is told, is
 * Lua's business. Reading waits for the disk.
 *
 * A link may lead anywhere below the folder. The name is made a real one first, without links, and
 * is then opened one component after the other without following any: who puts a link into the way
 * meanwhile gets nothing.
 */
#include "lua/lkhp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "khp.file"

#ifdef O_PATH
enum { FOLDER = O_PATH | O_DIRECTORY | O_CLOEXEC };
#else
enum { FOLDER = O_RDONLY | O_DIRECTORY | O_CLOEXEC };
#endif

enum { MOST_READ = 1024 * 1024 };

struct lkhp_file {
    int fd; /* -1 once closed */
};

/* Hidden, as Unix has it; but /.well-known/ is for everybody (RFC 8615). */
static bool is_hidden(const char *name) {
    return name[0] == '.' && strcmp(name, ".well-known") != 0;
}

/* Opens a real name below the folder `fd`, which it closes. -1 and errno. */
static int descend(int fd, char *name) {
    while (fd >= 0) {
        char *slash = strchr(name, '/');
        if (slash)
            *slash = '\0';
        int next = -1;
        if (is_hidden(name))
            errno = ENOENT;
        else
            next = openat(fd, name,
                          O_NOFOLLOW |
                              (slash ? FOLDER : O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
        int sys = errno;
        (void)close(fd);
        errno = sys;
        if (!slash)
            return next;
        fd = next;
        name = slash + 1;
    }
    return -1;
}

/* What stands behind the folder in a real name, both without links; NULL: it is not below it. */
static char *below(const char *folder, char *name) {
    size_t n = strlen(folder);
    if (n > 0 && folder[n - 1] == '/') /* the root of all */
        n--;
    if (strncmp(folder, name, n) != 0 || (name[n] != '/' && name[n] != '\0'))
        return NULL;
    return name[n] == '\0' ? name + n : name + n + 1;
}

/* -1 and errno. */
static int open_below(const char *root, const char *joined) {
    int fd = -1;
    char *folder = realpath(root, NULL);
    char *name = folder ? realpath(joined, NULL) : NULL;
    char *rest = name ? below(folder, name) : NULL;
    if (rest && *rest == '\0')
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    else if (rest)
        fd = descend(open(folder, FOLDER), rest);
    else if (name)
        errno = ENOENT;
    int sys = errno;
    free(name);
    free(folder);
    errno = sys;
    return fd;
}

/* nil, message, "absent" | "denied" | "failed" */
static int fail(lua_State *L, int sys) {
    const char *how = "failed";
    switch (sys) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO: /* a socket */
        how = "absent";
        break;
    case EACCES:
    case EPERM:
        how = "denied";
        break;
    default:
        break;
    }
    return lkhp_fail(L, strerror(sys), how);
}

/* open(folder, name) → file | nil, message, "absent" | "denied" | "failed". name: relative, "" for
 * the folder itself. What is hidden or leads out of the folder is absent. */
static int files_open(lua_State *L) {
    size_t root_size, size;
    const char *root = luaL_checklstring(L, 1, &root_size);
    const char *name = luaL_checklstring(L, 2, &size);
    if (strlen(root) != root_size || strlen(name) != size)
        return fail(L, ENOENT);
    struct lkhp_file *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->fd = -1;
    luaL_setmetatable(L, FILE_NAME);
    self->fd = open_below(root, lua_pushfstring(L, "%s/%s", root, name));
    if (self->fd < 0)
        return fail(L, errno);
    lua_pop(L, 1);
    return 1;
}

static struct lkhp_file *check(lua_State *L) {
    struct lkhp_file *self = luaL_checkudata(L, 1, FILE_NAME);
    if (self->fd < 0)
        luaL_error(L, "the file is closed");
    return self;
}

/* file:stat() → "file" | "folder" | "other", size, seconds and nanoseconds of its last change; or
 * nil, message, how */
static int file_stat(lua_State *L) {
    const struct lkhp_file *self = check(L);
    struct stat about;
    if (fstat(self->fd, &about) != 0)
        return fail(L, errno);
    lua_pushstring(L, S_ISREG(about.st_mode)   ? "file"
                      : S_ISDIR(about.st_mode) ? "folder"
                                               : "other");
    lua_pushinteger(L, about.st_size);
#ifdef __APPLE__
    lua_pushinteger(L, about.st_mtimespec.tv_sec);
    lua_pushinteger(L, about.st_mtimespec.tv_nsec);
#else
    lua_pushinteger(L, about.st_mtim.tv_sec);
    lua_pushinteger(L, about.st_mtim.tv_nsec);
#endif
    return 4;
}

/* file:read(offset, n) → n bytes, fewer at the end, at most a mebibyte; or nil, message, how */
static int file_read(lua_State *L) {
    const struct lkhp_file *self = check(L);
    lua_Integer offset = luaL_checkinteger(L, 2);
    lua_Integer n = luaL_checkinteger(L, 3);
    luaL_argcheck(L, offset >= 0, 2, "an offset expected");
    luaL_argcheck(L, n >= 0 && n <= MOST_READ, 3, "a size expected");
    luaL_Buffer buffer;
    char *room = luaL_buffinitsize(L, &buffer, (size_t)n);
    ssize_t got;
    do
        got = pread(self->fd, room, (size_t)n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return fail(L, errno);
    luaL_pushresultsize(&buffer, (size_t)got);
    return 1;
}

static int file_close(lua_State *L) {
    struct lkhp_file *self = luaL_checkudata(L, 1, FILE_NAME);
    if (self->fd >= 0)
        (void)close(self->fd);
    self->fd = -1;
    return 0;
}

int lkhp_open_files(lua_State *L) {
    static const luaL_Reg functions[] = {{"open", files_open}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"stat", file_stat}, {"read", file_read}, {"close", file_close}, {NULL, NULL}};
    static const luaL_Reg metamethods[] = {
        {"__gc", file_close}, {"__close", file_close}, {NULL, NULL}};
    if (luaL_newmetatable(L, FILE_NAME)) {
        luaL_setfuncs(L, metamethods, 0);
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}

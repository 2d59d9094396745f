/*
 * The userdata "khp.tls": TLS settings that connections and listeners share.
 */
#include "lua/lkhp.h"

#include <string.h>

#include "net/tls.h"

#define TLS "khp.tls"

struct lkhp_tls {
    struct khp_net_tls *tls;
};

struct khp_net_tls *lkhp_opt_tls(lua_State *L, int index, const char *name) {
    struct khp_net_tls *tls = NULL;
    if (lua_getfield(L, index, name) != LUA_TNIL) {
        struct lkhp_tls *self = luaL_testudata(L, -1, TLS);
        tls = self ? self->tls : NULL;
        if (!tls)
            luaL_error(L, "option %s: TLS settings expected, got %s", name, luaL_typename(L, -1));
    }
    lua_pop(L, 1);
    return tls;
}

static enum khp_net_tls_verify opt_verify(lua_State *L, int index,
                                          enum khp_net_tls_verify fallback) {
    static const char *const names[] = {"none", "optional", "required", NULL};
    enum khp_net_tls_verify verify = fallback;
    if (lua_getfield(L, index, "verify") != LUA_TNIL)
        verify = (enum khp_net_tls_verify)luaL_checkoption(L, -1, NULL, names);
    lua_pop(L, 1);
    return verify;
}

/* names = { { name, certificate, key }, … }: further certificates of a server */
static bool add_names(lua_State *L, int index, struct khp_net_tls *tls,
                      struct khp_net_error *error) {
    bool good = true;
    if (lua_getfield(L, index, "names") == LUA_TTABLE) {
        for (lua_Integer i = 1; good && lua_geti(L, -1, i) == LUA_TTABLE; i++) {
            int entry = lua_gettop(L);
            const char *name = lkhp_opt_string(L, entry, "name", "");
            const char *certificate = lkhp_opt_string(L, entry, "cert", NULL);
            good = khp_net_tls_add_name(tls, name, certificate,
                                        lkhp_opt_string(L, entry, "key", NULL), error);
            lua_pop(L, 1);
        }
    }
    return good;
}

/* new { role, cert, key, ca, verify, names } → settings | nil, message, code */
static int tls_new(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    bool server = strcmp(lkhp_opt_string(L, 1, "role", "client"), "server") == 0;
    struct khp_net_tls_options options = {
        .certificate = lkhp_opt_string(L, 1, "cert", NULL),
        .key = lkhp_opt_string(L, 1, "key", NULL),
        .ca = lkhp_opt_string(L, 1, "ca", NULL),
        .verify = opt_verify(L, 1, server ? KHP_NET_TLS_VERIFY_NONE : KHP_NET_TLS_VERIFY_REQUIRED)};
    struct khp_net_error error;
    struct lkhp_tls *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->tls = NULL;
    luaL_setmetatable(L, TLS);
    self->tls = server ? khp_net_tls_new_server(&options, &error)
                       : khp_net_tls_new_client(&options, &error);
    if (!self->tls || !add_names(L, 1, self->tls, &error))
        return lkhp_net_fail(L, &error);
    lua_settop(L, 2);
    return 1;
}

/* reload(settings) → true | nil, message, code: the files again; on failure the old ones stay */
static int tls_reload(lua_State *L) {
    struct lkhp_tls *self = luaL_checkudata(L, 1, TLS);
    struct khp_net_error error;
    if (!khp_net_tls_reload(self->tls, &error))
        return lkhp_net_fail(L, &error);
    lua_pushboolean(L, true);
    return 1;
}

static int tls__gc(lua_State *L) {
    struct lkhp_tls *self = luaL_checkudata(L, 1, TLS);
    khp_net_tls_release(self->tls);
    self->tls = NULL;
    return 0;
}

int lkhp_open_tls(lua_State *L) {
    static const luaL_Reg functions[] = {{"new", tls_new}, {"reload", tls_reload}, {NULL, NULL}};
    if (luaL_newmetatable(L, TLS)) {
        lua_pushcfunction(L, tls__gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}

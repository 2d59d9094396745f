/*
 * What the files of the binding share. This room alone includes lua.h; it turns Lua values into
 * calls on the rooms below and events into calls of Lua functions. "May throw" in a comment means
 * lua_error.
 */
#ifndef LKHP_H
#define LKHP_H

#include <lauxlib.h>
#include <lua.h>

#include "core/connection.h"
#include "net/connector.h"
#include "net/listener.h"

struct lkhp_conn;

/* One per lua_State, made on first use, kept in the registry. */
struct lkhp_loop {
    struct khp_net_loop *net; /* NULL once finalised: nobody enters Lua any more */
    lua_State *L;             /* events run on the state that turns the loop */
    struct khp_conn_shared shared;
    lua_Hook hook;    /* of L when the step began */
    int text, binary; /* the kinds of messages: references to these strings */
    unsigned alive;   /* connections, listeners and running timers held in the registry */
};

/* The loop of this state. May throw: no memory, or the system refused one. */
struct lkhp_loop *lkhp_loop(lua_State *L);

/*
 * The one way from an event into Lua: f runs protected, with the event as light userdata in
 * index 1. false when it threw; the error went to the reporter. Never throws; a finalised loop
 * enters nothing and gives false.
 */
bool lkhp_enter(struct lkhp_loop *loop, lua_CFunction f, void *event);

/* A call from Lua may raise events: they run on L until it returns. Gives the state to restore. */
lua_State *lkhp_borrow(struct lkhp_loop *loop, lua_State *L);

/* Anchors the value on top, which it pops, for as long as it lives in the loop; and lets it go.
 * hold may throw. */
int lkhp_hold(lua_State *L, struct lkhp_loop *loop);
void lkhp_drop(lua_State *L, struct lkhp_loop *loop, int *reference);

/* Pushes nil, text, code and an empty detail; 4. May throw. */
int lkhp_fail(lua_State *L, const char *text, const char *code);
int lkhp_net_fail(lua_State *L, const struct khp_net_error *error);
const char *lkhp_net_code(enum khp_net_code code);

/* Fields of an options table at index; absent ones give the fallback. Wrong types throw, naming the
 * field. */
const char *lkhp_opt_string(lua_State *L, int index, const char *name, const char *fallback);
lua_Number lkhp_opt_number(lua_State *L, int index, const char *name, lua_Number fallback);
bool lkhp_opt_boolean(lua_State *L, int index, const char *name, bool fallback);

/* Seconds to milliseconds, rounded up; beyond reach: UINT64_MAX / 4. */
uint64_t lkhp_milliseconds(lua_Number seconds);

/* The connection settings in the options table at index (limits as lua/khp/limits.lua names them).
 * May throw. */
struct khp_conn_settings *lkhp_settings(lua_State *L, int index);

/* Pushes a table { host =, port = } or { path = }. May throw. */
void lkhp_push_address(lua_State *L, const struct khp_net_address *address);

/*
 * A connection's userdata, blank, left on the stack; its events will go to the table of functions
 * at index events, with the state that is at the index after it. Begin it with lkhp_conn_begin();
 * until then it may be dropped. May throw.
 */
struct lkhp_conn *lkhp_conn_push(lua_State *L, struct lkhp_loop *loop, int events);

/* Gives it the stream, not yet open, and a reference of settings. The connection lives until the
 * stream has ended. */
void lkhp_conn_begin(struct lkhp_conn *self, struct khp_net_stream *stream,
                     struct khp_conn_settings *settings);

/* The TLS settings at index, or NULL where it is nil or absent. Throws for anything else. */
struct khp_net_tls *lkhp_opt_tls(lua_State *L, int index, const char *name);

/* Openers: push one table each. */
int lkhp_open_loop(lua_State *L);
int lkhp_open_conn(lua_State *L);
int lkhp_open_listener(lua_State *L);
int lkhp_open_tls(lua_State *L);
int lkhp_open_timer(lua_State *L);
int lkhp_open_budget(lua_State *L);
int lkhp_open_signal(lua_State *L);
int lkhp_open_descriptor(lua_State *L);
int lkhp_open_frame(lua_State *L);
int lkhp_open_files(lua_State *L);
int lkhp_open_http(lua_State *L);
int lkhp_open_crypto(lua_State *L);
int lkhp_open_deflate(lua_State *L);

#endif
